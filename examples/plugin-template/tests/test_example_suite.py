"""The conformance suites of Armillary over what this distribution adds, and what only its authors can know."""

import jax
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest
import scipy.stats
from example_suite import GeneralisedNormal, RandomWalk

from armillary.core import infer
from armillary.core.testing import check_plugin, parametrize_with_checks


@parametrize_with_checks([RandomWalk(scale=1.5), GeneralisedNormal(scale=2.0, power=1.5)])
def test_the_laws_of_the_protocols(component, check):
    check(component)


def test_the_plugin():
    check_plugin("example-suite")


@pytest.mark.parametrize("power", [1.0, 1.5, 2.0, 4.0])
def test_the_density_is_the_one_that_scipy_has(power):
    x = np.linspace(-3, 3, 13, dtype=np.float32)
    expected = scipy.stats.gennorm(power, scale=0.7).logpdf(x)
    np.testing.assert_allclose(GeneralisedNormal(0.7, power).log_prob(x), expected, rtol=2e-6, atol=2e-6)


@pytest.mark.parametrize("power", [1.0, 1.5, 4.0])
def test_samples_are_of_that_density(power):
    draws = np.asarray(GeneralisedNormal(0.7, power).sample(jax.random.key(0), (2000,)))
    assert scipy.stats.kstest(draws, scipy.stats.gennorm(power, scale=0.7).cdf).pvalue > 1e-3


def test_both_in_a_model_by_name():
    def model(y):
        x = numpyro.sample("x", GeneralisedNormal(np.sqrt(2.0), 2.0))  # a standard normal
        numpyro.sample("y", dist.Normal(x, 1.0), obs=y)

    result = infer(
        model, 1.0, sampler="random-walk", key=jax.random.key(0), num_warmup=200, num_samples=4000, progress_bar=False
    )
    draws = result.posterior["x"].values
    assert abs(draws.mean() - 0.5) < 0.1
    assert abs(draws.var() - 0.5) < 0.1
