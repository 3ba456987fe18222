"""What example-suite offers Armillary.

This module is imported by every ``armillary list``. It therefore stands beside the package, whose ``__init__``
imports JAX, and imports nothing but the hooks.
"""

from armillary.core.hookspecs import ComponentSpec, hookimpl


@hookimpl
def armillary_samplers():
    """The samplers of example_suite."""
    yield ComponentSpec(
        "random-walk",
        "example_suite:RandomWalk",
        "Random-walk Metropolis",
        "Metropolis N. et al. 1953, J. Chem. Phys. 21, 1087, doi:10.1063/1.1699114",
    )


@hookimpl
def armillary_priors():
    """The priors of example_suite."""
    yield ComponentSpec(
        "generalised-normal",
        "example_suite:GeneralisedNormal",
        "Density exp(-|x / scale|^power), from Laplace through Gaussian to nearly uniform",
        "Nadarajah S. 2005, J. Appl. Stat. 32, 685, doi:10.1080/02664760500079464",
    )
