"""The start of Hamiltonian chains from a normal approximation."""

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest

from armillary.core import Target, infer, samplers
from armillary.core.samplers._laplace import laplace

pytestmark = pytest.mark.usefixtures("quick_compilation")


@pytest.fixture
def x64():
    with jax.enable_x64(True):
        yield


def covariance(dim=12, seed=0):
    """Of scales from 1e-3 to 10, and correlated."""
    rng = np.random.default_rng(seed)
    mix = np.linalg.qr(rng.normal(size=(dim, dim)))[0]
    return mix @ np.diag(np.geomspace(1e-6, 100, dim)) @ mix.T


def test_of_a_normal_it_is_that_normal(x64):
    true = covariance()
    mean, precision = np.arange(12.0), np.linalg.inv(true)

    def log_density(x):
        y = jnp.concatenate([x["a"], x["b"]]) - mean
        return -0.5 * y @ precision @ y

    def found(key):
        start = {"a": jax.random.uniform(key, (5,), minval=-2, maxval=2), "b": jnp.zeros(7)}
        return laplace(log_density, start, key)

    normal = jax.jit(jax.vmap(found))(jax.random.split(jax.random.key(0), 4))
    factor = np.linalg.cholesky(true)
    for chain in range(4):
        mode = np.concatenate([normal.mode["a"][chain], normal.mode["b"][chain]])
        assert np.max(np.abs(np.linalg.solve(factor, mode - mean))) < 0.05
        # By its own scale the covariance that was found is near the identity.
        whitened = np.linalg.solve(factor, np.linalg.solve(factor, normal.covariance[chain]).T)
        assert np.all((np.linalg.eigvalsh(whitened) > 0.2) & (np.linalg.eigvalsh(whitened) < 5))


def test_a_density_that_is_infinite_beyond_a_wall_is_no_trap(x64):
    def log_density(x):
        # The mode (0.9, -1); beyond 1 it is NaN.
        return 10 * jnp.log(1 - x[0]) + 100 * x[0] - 50 * (x[1] + 1) ** 4 - (x[1] + 1) ** 2

    normal = jax.jit(lambda key: laplace(log_density, jnp.array([-20.0, 3.0]), key))(jax.random.key(0))
    np.testing.assert_allclose(normal.mode, [0.9, -1.0], atol=0.01)
    # Of the first the inverse of 10 / (1 - x)^2; of the second, whose Hessian says little, about the variance.
    y = np.linspace(-2, 2, 10_001)
    weight = np.exp(-50 * y**4 - y**2)
    variance = np.sum(weight * y**2) / np.sum(weight)
    np.testing.assert_allclose(np.diag(normal.covariance), [1e-3, variance], rtol=0.6)


def test_float32_stays_so():
    normal = jax.jit(lambda key: laplace(lambda x: -0.5 * jnp.sum((x - 3) ** 2), jnp.zeros(3), key))(jax.random.key(0))
    assert normal.mode.dtype == normal.draw.dtype == normal.covariance.dtype == jnp.float32
    np.testing.assert_allclose(normal.mode, 3.0, atol=0.02)


def test_the_warm_up_begins_there(x64):
    true = covariance()
    precision = np.linalg.inv(true)
    target = Target(lambda x: -0.5 * x @ precision @ x, lambda x: 0.0, position=jnp.ones(12))
    adaptation = samplers.BlackJAXNUTS(dense=True, start="laplace").adaptation(target, 200)
    state = jax.jit(adaptation.init)(jax.random.key(0), jnp.ones(12))
    algorithm, parameters = adaptation.result(state)
    chi2 = algorithm.position @ precision @ algorithm.position
    assert 1 < chi2 < 40
    whitened = np.linalg.solve(np.linalg.cholesky(true), np.linalg.cholesky(parameters["inverse_mass_matrix"]))
    assert np.linalg.cond(whitened) < 5


@pytest.mark.slow
def test_a_model_is_sampled_from_there(x64):
    scale = np.linalg.cholesky(covariance(6))

    def model(y):
        x = numpyro.sample("x", dist.MultivariateNormal(jnp.zeros(6), scale_tril=scale))
        numpyro.sample("y", dist.Normal(x, 1.0).to_event(1), obs=y)

    y = np.ones(6)
    tree = infer(
        model,
        y,
        sampler="blackjax-nuts",
        sampler_options={"dense": True, "start": "laplace"},
        num_warmup=200,
        num_samples=1000,
        progress_bar=False,
    )
    true = scale @ scale.T
    posterior = true @ np.linalg.inv(true + np.eye(6))
    draws = tree.posterior["x"].values.reshape(-1, 6)
    error = np.sqrt(np.diag(true - posterior @ true))
    assert np.max(np.abs(draws.mean(0) - posterior @ y) / error) < 0.15


def test_another_start_is_refused():
    with pytest.raises(ValueError, match="start='mode': expected 'given', 'laplace' or 'transport'"):
        samplers.BlackJAXNUTS(start="mode")


def test_of_two_modes_it_takes_the_higher_though_it_starts_at_the_lower(x64):
    far = jnp.array([12.0, -9.0, 10.0])

    def log_density(x):
        return jnp.logaddexp(-0.5 * jnp.sum((x - 0.5) ** 2) / 0.04, -50 - 0.5 * jnp.sum((x - far) ** 2))

    normal = jax.jit(lambda key: laplace(log_density, far, key))(jax.random.key(0))
    np.testing.assert_allclose(normal.mode, 0.5, atol=0.01)
    np.testing.assert_allclose(np.diag(normal.covariance), 0.04, rtol=0.1)
