"""What armillary-cosmology offers Armillary.

This module is imported by every ``armillary list``. It therefore stands beside the package, whose ``__init__``
imports JAX, and imports nothing but the hooks.
"""

from armillary.core.hookspecs import ComponentSpec, hookimpl


@hookimpl
def armillary_report_sections(result):
    """Contours of the cosmological parameters, where a result has them."""
    from armillary_cosmology._contours import contour_sections

    return contour_sections(result)


@hookimpl
def armillary_demos():
    """Demonstrations of armillary_cosmology."""
    yield ComponentSpec(
        "shear",
        "armillary_cosmology._study:demo",
        "The cosmic shear of a Stage-IV survey: LCDM, or dark energy that evolves?",
        "Piras D., Polanska A., Spurio Mancini A., Price M. A., McEwen J. D. 2024 (arXiv:2405.12965)",
    )
