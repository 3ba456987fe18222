"""What armillary-cosmology offers Armillary.

This module is imported by every ``armillary list``. It therefore stands beside the package, whose ``__init__``
imports JAX, and imports nothing but the hooks.
"""
