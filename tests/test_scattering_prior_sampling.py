"""A prior of the scatter package in a NumPyro model, sampled by NumPyro and by the imaging package."""

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest
from numpyro.infer import MCMC, NUTS

from armillary.imaging import ULA
from armillary.scatter import ScatteringCovariance, ScatteringPrior
from armillary.sphere import alm_from_real

L, NOISE = 4, 0.5
CL = 1 / (1 + np.arange(L)) ** 1.5
POWER = np.repeat(CL, 2 * np.arange(L) + 1)


@pytest.fixture(autouse=True)
def quick_compilation():
    jax.config.update("jax_disable_most_optimizations", True)
    with jax.enable_x64(True):
        yield
    jax.config.update("jax_disable_most_optimizations", False)


def model(prior, data, seen):
    x = numpyro.sample("x", prior)
    numpyro.sample("data", dist.Normal(x, NOISE).mask(seen).to_event(1), obs=data)


@pytest.mark.slow
def test_posterior_of_both_samplers_is_that_of_importance_sampling():
    rng = np.random.default_rng(0)
    cov = ScatteringCovariance(L, N=1, J_min=1, backend="table")
    gaussian = rng.normal(size=(4000, L * L)) * np.sqrt(POWER)
    s = np.asarray(cov(alm_from_real(gaussian)).ravel())[:, 2:]
    shift = np.linalg.cholesky(np.cov(s.T)) @ np.ones(s.shape[1])
    prior = ScatteringPrior(cov, s.mean(axis=0) + shift, np.cov(s.T), CL)
    seen = rng.random(L * L) < 0.6
    data = gaussian[0] + NOISE * rng.normal(size=L * L)

    # Without the tilt the posterior is a Gaussian, which the tilt gives weights to.
    precision = 1 / POWER + seen / NOISE**2
    start = seen * data / NOISE**2 / precision
    draws = start + rng.normal(size=(100_000, L * L)) / np.sqrt(precision)
    weights = np.exp(-np.concatenate([np.asarray(prior.potential(part)) for part in np.split(draws, 10)]))
    weights /= weights.sum()
    mean = weights @ draws
    spread = np.sqrt(weights @ (draws - mean) ** 2)
    power = weights @ draws**2
    scale = np.sqrt(weights @ (draws**2 - power) ** 2)
    assert 1 / (weights**2).sum() > 1000
    # The tilt matters: squares are others without it.
    assert abs((power - (start**2 + 1 / precision)) / scale).max() > 0.15

    for kernel, warmup, num, tolerance in [
        (NUTS(model), 300, 2000, 0.1),
        # The potential grows as the fourth power of the field: unadjusted steps have to be short, or the chain escapes.
        (ULA(model, step_size=0.003), 2000, 400_000, 0.15),
    ]:
        mcmc = MCMC(kernel, num_warmup=warmup, num_samples=num, progress_bar=False)
        mcmc.run(jax.random.key(1), prior, jnp.asarray(data), jnp.asarray(seen))
        x = np.asarray(mcmc.get_samples()["x"])
        # In standard deviations of the posterior: Monte-Carlo errors, and for ULA its bias.
        assert abs((x.mean(axis=0) - mean) / spread).max() < tolerance
        assert abs(((x**2).mean(axis=0) - power) / scale).max() < tolerance
