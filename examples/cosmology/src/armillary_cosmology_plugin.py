"""What armillary-cosmology offers Armillary.

This module is imported by every ``armillary list``. It therefore stands beside the package, whose ``__init__``
imports JAX, and imports nothing but the hooks.
"""

from armillary.core.hookspecs import hookimpl


@hookimpl
def armillary_report_sections(result):
    """Contours of the cosmological parameters, where a result has them."""
    from armillary_cosmology._contours import contour_sections

    return contour_sections(result)
