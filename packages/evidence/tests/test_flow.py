"""The densities: normalised, the Gaussian as they start, tempered by covariance, trained without recompiling."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from armillary.evidence import _flow
from armillary.evidence._flow import Flow, Whitener


def banana(seed, n):
    rng = np.random.default_rng(seed)
    x = rng.normal(1, 1, n)
    return np.stack([x, 0.5 * x**2 + rng.normal(0, 0.3, n)], -1)


@pytest.fixture(scope="module")
def fitted():
    x = banana(0, 2000)
    (fit,) = _flow.fit_splines(jax.random.key(0), [x[:1600]], [x[1600:]], max_epochs=60)
    return fit


def test_gaussian_is_scipys():
    x = banana(1, 500)
    flow = Flow(Whitener.fit(x))
    for temperature in (1.0, 0.6):
        expected = stats.multivariate_normal(x.mean(0), temperature * np.cov(x.T)).logpdf(x)
        np.testing.assert_allclose(flow.log_prob(x, temperature), expected, rtol=1e-12, atol=1e-12)


def test_whitener_in_units_far_apart():
    x = np.random.default_rng(0).normal(size=(1000, 3)) * np.array([1e-9, 1.0, 1e9])
    white = Whitener.fit(x)(x)
    np.testing.assert_allclose(np.cov(white.T), np.eye(3), atol=1e-10)
    np.testing.assert_allclose(white.mean(0), 0, atol=1e-10)


@pytest.mark.parametrize(("dim", "x64"), [(3, False), (1, True)])
def test_starts_as_the_gaussian(dim, x64):
    with jax.enable_x64(x64):
        dtype = jnp.zeros(()).dtype
        params, static = _flow._initialise(jax.random.key(1), dim, dtype)
        bijection = _flow.paramax.unwrap(_flow.eqx.combine(params, static))
        u = jax.random.normal(jax.random.key(2), (20, dim))
        z, log_det = jax.vmap(bijection.transform_and_log_det)(u)
        assert z.dtype == log_det.dtype == dtype
        tolerance = 1e-12 if x64 else 1e-5
        np.testing.assert_allclose(jnp.sort(z, -1), jnp.sort(u, -1), atol=tolerance)
        np.testing.assert_allclose(log_det, 0, atol=tolerance)


def test_learns_more_than_a_gaussian(fitted):
    assert fitted.name == "spline"
    # The entropy of the banana, ln(2 pi e) + ln(0.3): no density has a smaller expected loss.
    entropy = np.log(2 * np.pi * np.e) + np.log(0.3)
    fresh = banana(5, 4000)
    loss = -fitted.flow.log_prob(fresh)
    assert entropy - 3 * loss.std() / np.sqrt(4000) < loss.mean() < entropy + 0.1
    assert fitted.spline_loss < fitted.gaussian_loss - 0.2


@pytest.mark.parametrize("temperature", [1.0, 0.6])
def test_is_normalised(fitted, temperature):
    # Over the whitened plane, where the density is of unit scale; the splines are float32 here.
    side = np.linspace(-9, 9, 361)
    grid = np.stack(np.meshgrid(side, side, indexing="ij"), -1).reshape(-1, 2)
    x = grid @ fitted.flow.whitener.chol.T + fitted.flow.whitener.loc
    log_phi = fitted.flow.log_prob(x, temperature) + fitted.flow.whitener.log_det
    assert np.exp(log_phi).sum() * (side[1] - side[0]) ** 2 == pytest.approx(1, abs=2e-3)


def test_temperature_scales_the_covariance_of_the_base(fitted):
    x = banana(6, 200)
    single = fitted.flow.log_prob(x, 0.4)
    with jax.enable_x64(True):
        z, log_det = jax.vmap(fitted.flow.bijection.transform_and_log_det)(jnp.asarray(fitted.flow.whitener(x)))
        assert z.dtype == jnp.float64
        double = fitted.flow.log_prob(x, 0.4)
    base = stats.multivariate_normal(np.zeros(2), 0.4 * np.eye(2))
    expected = base.logpdf(np.asarray(z)) + np.asarray(log_det) - fitted.flow.whitener.log_det
    np.testing.assert_allclose(double, expected, rtol=1e-10, atol=1e-10)
    # Single precision on its own: some hundred roundings of numbers near ten.
    np.testing.assert_allclose(single, double, rtol=0, atol=1e-3)


def test_a_second_fit_compiles_nothing(fitted):
    x = banana(7, 2000)
    with jax.no_tracing():
        _flow.fit_splines(jax.random.key(9), [x[:1600]], [x[1600:]], max_epochs=2)
    with jax.no_tracing(), pytest.raises(RuntimeError, match="trac"):  # and the check can fail: another shape
        _flow.fit_splines(jax.random.key(9), [x[:1500]], [x[1600:]], max_epochs=2)


def test_another_key_another_flow(fitted):
    x = banana(0, 2000)
    (other,) = _flow.fit_splines(jax.random.key(1), [x[:1600]], [x[1600:]], max_epochs=3)
    assert not np.allclose(other.flow.log_prob(x), fitted.flow.log_prob(x))


def test_too_few_or_degenerate_draws():
    with pytest.raises(ValueError, match="3 training draws do not determine a covariance in 3 dimensions"):
        Whitener.fit(np.eye(3))
    with pytest.raises(ValueError, match="singular"):
        Whitener.fit(np.ones((10, 1)))
    x = np.random.default_rng(0).normal(size=(50, 1))
    with pytest.raises(ValueError, match="function of the others"):
        Whitener.fit(np.concatenate([x, 2 * x], -1))
