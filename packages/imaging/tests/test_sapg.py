"""The regularisation strength by empirical Bayes, against the maximum of marginal likelihoods in closed form."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.optimize import brentq, minimize_scalar

from armillary.imaging import DWT, L1Wavelet, sapg

SHAPE, NOISE, NUM = (32, 32), 1.0, 2000


def run(algorithm, start, num=NUM, seed=0):
    def body(state, key):
        state, info = algorithm.step(key, state)
        return state, (state.theta, info.is_divergent)

    return jax.jit(lambda key: jax.lax.scan(body, algorithm.init(start), jax.random.split(key, num)))(
        jax.random.key(seed)
    )


def test_the_strength_of_wavelet_sparsity_is_that_of_the_largest_evidence():
    prior = L1Wavelet("haar", 3, 2.0, shape=SHAPE)
    y = prior.sample(jax.random.key(0)) + NOISE * jax.random.normal(jax.random.key(1), SHAPE)

    @jax.jit
    def log_evidence(log_scale):
        return L1Wavelet("haar", 3, jnp.exp(log_scale), shape=SHAPE).log_evidence(y, NOISE)

    # The oracle: one-dimensional optimisation of the evidence in closed form.
    best = np.exp(-minimize_scalar(lambda u: -float(log_evidence(u)), bounds=(-2, 3), method="bounded").x)
    dwt, unit = DWT(SHAPE, "haar", 3), L1Wavelet("haar", 3, 1.0, shape=SHAPE)
    arguments = (
        lambda x: -0.5 * jnp.sum((y - x) ** 2) / NOISE**2,
        unit.prox,
        lambda x: jnp.sum(jnp.abs(dwt(x))),
    )
    # From ten times too strong; smoothing * theta**2 = 0.012.
    algorithm = sapg(*arguments, lipschitz=1 / NOISE**2, smoothing=0.05, theta=10 * best)
    state, (thetas, divergent) = run(algorithm, y)
    assert not divergent.any()
    assert state.theta.dtype == jnp.float32
    assert float(thetas[0]) < 10 * best
    assert float(state.theta_mean) == pytest.approx(best, rel=0.015)
    # A smoothing twenty times as large weakens it by some per cent, as is documented.
    rough, _ = run(sapg(*arguments, lipschitz=1 / NOISE**2, smoothing=1.0, theta=best), y)
    assert 0.02 < 1 - float(rough.theta_mean) / best < 0.12


def test_the_strength_of_a_gaussian_prior_is_its_closed_form():
    theta_true, noise = 4.0, 0.3
    y = jax.random.normal(jax.random.key(3), SHAPE) / theta_true**0.5
    y = y + noise * jax.random.normal(jax.random.key(4), SHAPE)
    smoothing, step = 0.003, 0.005
    algorithm = sapg(
        lambda x: -0.5 * jnp.sum((y - x) ** 2) / noise**2,
        lambda x, step: x / (1 + step),
        lambda x: 0.5 * jnp.sum(x**2),
        step,
        smoothing,
        degree=2,
    )
    state, _ = run(algorithm, y, 6000)
    square = float(jnp.mean(y**2))
    best = 1 / (square - noise**2)  # the variance of the data is 1 / theta + noise**2

    def slope(theta):
        """The expectation of the update, over the chain's own stationary law: that of MYULA on a Gaussian."""
        precision = theta / (1 + smoothing * theta) + 1 / noise**2
        variance = 1 / (precision * (1 - step * precision / 2))
        return 1 - theta * (variance + square / (precision * noise**2) ** 2)

    biased = brentq(slope, 1e-3, 1e3)
    assert float(state.theta_mean) == pytest.approx(biased, rel=0.01)
    assert biased == pytest.approx(best, rel=0.05)


def test_a_step_that_is_not_finite_is_flagged_and_changes_nothing():
    algorithm = sapg(
        lambda x: -0.5 * jnp.sum(jnp.where(x > 1e3, jnp.nan, x) ** 2),
        lambda x, step: x + 1e4,
        lambda x: jnp.sum(jnp.abs(x)),
        0.1,
        0.1,
    )
    state = algorithm.init(jnp.ones(3))
    new, info = algorithm.step(jax.random.key(0), state)
    assert info.is_divergent
    jax.tree.map(np.testing.assert_array_equal, new, state)


def test_settings_are_checked():
    for settings, message in (
        ({"degree": 0}, "degree=0"),
        ({"gain": -1.0}, "gain=-1.0"),
        ({"theta": 0.0}, "theta=0.0"),
        ({"theta": 2.0, "bounds": (0.1, 1.0)}, r"bounds=\(0.1, 1.0\).*theta=2.0"),
        ({"bounds": 1.0}, "bounds=1.0"),
        ({"step_size": None}, "step_size=None and lipschitz=None"),
    ):
        with pytest.raises(ValueError, match=message):
            sapg(jnp.sum, lambda x, step: x, jnp.sum, **{"step_size": 0.1, "smoothing": 0.1, **settings})
