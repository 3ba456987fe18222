"""What armillary-core offers: NumPyro's and BlackJAX's samplers."""

from armillary.core.hookspecs import ComponentSpec, hookimpl

_HOFFMAN = "Hoffman M. D., Gelman A. 2014, J. Mach. Learn. Res. 15, 1593 (arXiv:1111.4246)"
_DUANE = "Duane S., Kennedy A. D., Pendleton B. J., Roweth D. 1987, Phys. Lett. B 195, 216"


@hookimpl
def armillary_samplers():
    """Samplers of armillary.core.samplers."""
    where = "armillary.core.samplers:"
    yield ComponentSpec("nuts", where + "NUTS", "No-U-Turn sampler (NumPyro)", _HOFFMAN)
    yield ComponentSpec("hmc", where + "HMC", "Hamiltonian Monte Carlo (NumPyro)", _DUANE)
    yield ComponentSpec("blackjax-nuts", where + "BlackJAXNUTS", "No-U-Turn sampler (BlackJAX)", _HOFFMAN)
    yield ComponentSpec("blackjax-hmc", where + "BlackJAXHMC", "Hamiltonian Monte Carlo (BlackJAX)", _DUANE)
    yield ComponentSpec(
        "mala",
        where + "MALA",
        "Metropolis-adjusted Langevin algorithm (BlackJAX)",
        "Roberts G. O., Tweedie R. L. 1996, Bernoulli 2, 341",
    )
    yield ComponentSpec(
        "mclmc",
        where + "MCLMC",
        "Microcanonical Langevin Monte Carlo, unadjusted (BlackJAX)",
        "Robnik J., De Luca G. B., Silverstein E., Seljak U. 2023, J. Mach. Learn. Res. 24, 311 (arXiv:2212.08549)",
    )
    yield ComponentSpec(
        "chees",
        where + "ChEES",
        "ChEES Hamiltonian Monte Carlo, tuned by an ensemble (BlackJAX)",
        "Hoffman M. D., Radul A., Sountsov P. 2021, AISTATS, PMLR 130, 3907",
    )
    yield ComponentSpec(
        "nested-slice-sampling",
        where + "NestedSliceSampling",
        "Nested slice sampling, with the evidence (BlackJAX)",
        "Yallup D., Kroupa N., Handley W. 2026 (arXiv:2601.23252); Skilling J. 2006, Bayesian Anal. 1, 833",
    )
    yield ComponentSpec(
        "tempered-smc",
        where + "TemperedSMC",
        "Adaptively tempered sequential Monte Carlo, with the evidence (BlackJAX)",
        "Del Moral P., Doucet A., Jasra A. 2006, J. R. Stat. Soc. B 68, 411",
    )
