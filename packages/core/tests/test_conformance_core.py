"""Core's samplers under the conformance kit."""

import pytest

from armillary.core import registry, samplers
from armillary.core.testing import Case, parametrize_with_checks

QUICK = [Case(samplers.MALA(step_size=0.5), id="mala"), Case(samplers.HMC(), id="hmc")]
LONG = [
    Case(samplers.NUTS(), id="nuts"),
    Case(samplers.BlackJAXNUTS(step_size=0.5), id="blackjax-nuts"),
    Case(samplers.BlackJAXHMC(step_size=0.3, num_integration_steps=5), id="blackjax-hmc"),
    Case(samplers.MCLMC(), id="mclmc"),
    Case(samplers.ChEES(), id="chees"),
    Case(samplers.NestedSliceSampling(num_live=100), id="nested-slice-sampling"),
    Case(samplers.TemperedSMC(num_particles=200), id="tempered-smc"),
]

_FLOAT32 = "check_sampler_float32_where_x64_is_on"
_NUMPYRO = {_FLOAT32: "NumPyro 0.22 draws momenta of the default dtype, float64 where x64 is on"}
_BLACKJAX = {_FLOAT32: "BlackJAX 1.7 draws random numbers of the default dtype, float64 where x64 is on"}
EXPECTED = {
    "mala": _BLACKJAX,
    "hmc": _NUMPYRO,
    "nuts": _NUMPYRO,
    "blackjax-nuts": _BLACKJAX,
    "nested-slice-sampling": _BLACKJAX,
    "tempered-smc": _BLACKJAX,
    "mclmc": {"check_sampler_scalar_position": "the microcanonical dynamics need two dimensions; it says so"},
}


def of(cases):
    return {case.id: EXPECTED[case.id] for case in cases if case.id in EXPECTED}


def test_every_registered_sampler_of_core_is_here():
    registered = {c.name for c in registry.components("sampler") if c.distribution == "armillary-core"}
    assert registered == {case.id for case in QUICK + LONG}


@parametrize_with_checks(QUICK, of(QUICK))
def test_sampler(component, check):
    check(component)


@pytest.mark.slow
@parametrize_with_checks(LONG, of(LONG))
def test_sampler_that_compiles_long(component, check):
    check(component)


@parametrize_with_checks(["armillary-core"])
def test_plugin(component, check):
    check(component)
