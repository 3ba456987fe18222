"""What armillary-imaging offers: proximal samplers and the priors that they need."""

from armillary.core.hookspecs import ComponentSpec, hookimpl


@hookimpl
def armillary_priors():
    """Priors of armillary.imaging."""
    yield ComponentSpec(
        "l1",
        "armillary.imaging:L1",
        "Sparsity: independent Laplace densities, with their proximal operator (soft threshold)",
        "Tibshirani R. 1996, J. R. Stat. Soc. B 58, 267 (doi:10.1111/j.2517-6161.1996.tb02080.x)",
    )


@hookimpl
def armillary_samplers():
    """Samplers of armillary.imaging."""
    yield ComponentSpec(
        "myula",
        "armillary.imaging:MYULASampler",
        "Moreau-Yosida unadjusted Langevin algorithm, for priors with a proximal operator",
        "Durmus A., Moulines E., Pereyra M. 2018, SIAM J. Imaging Sci. 11, 473 (arXiv:1612.07471)",
    )
