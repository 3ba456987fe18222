import pickle

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import pytest
import scipy.stats

from armillary.core import Target, protocols, registry
from armillary.imaging import L1


def test_density_is_that_of_scipy():
    x = np.linspace(-3, 3, 13)
    with jax.enable_x64(True):
        np.testing.assert_allclose(L1(0.7).log_prob(x), scipy.stats.laplace.logpdf(x, scale=0.7), rtol=1e-14)
        image = L1(0.7).expand((13,)).to_event(1)
        np.testing.assert_allclose(image.log_prob(x), scipy.stats.laplace.logpdf(x, scale=0.7).sum(), rtol=1e-14)


def test_samples_are_laplace():
    draws = np.asarray(L1(0.7).sample(jax.random.key(0), (20_000,)), np.float64)
    assert scipy.stats.kstest(draws, scipy.stats.laplace(scale=0.7).cdf).pvalue > 1e-4


@pytest.mark.parametrize("step", [1e-3, 0.3, 2.0])
def test_prox_minimises_its_objective_over_a_fine_grid(step):
    scale = 0.7
    with jax.enable_x64(True):
        x = np.linspace(-3, 3, 41)
        found = np.asarray(L1(scale).prox(x, step))
    grid = np.linspace(-3.5, 3.5, 140_001)  # spacing 5e-5, zero among its points
    objective = np.abs(grid)[:, None] / scale + (grid[:, None] - x) ** 2 / (2 * step)
    np.testing.assert_allclose(found, grid[objective.argmin(axis=0)], atol=3e-5)


def test_score_is_the_gradient_of_the_log_density():
    x = jnp.array([-2.0, -0.1, 0.4])
    np.testing.assert_array_equal(L1(0.7).score(x), jax.vmap(jax.grad(L1(0.7).log_prob))(x))
    assert L1(0.7).score(jnp.zeros(())) == 0


def test_a_scale_a_pixel():
    scale = jnp.array([0.5, 1.0, 2.0])
    prior = L1(scale)
    np.testing.assert_allclose(prior.prox(jnp.full((2, 3), 3.0), 1.0), [[1.0, 2.0, 2.5]] * 2)
    np.testing.assert_allclose(prior.score(jnp.ones(3)), -1 / scale)
    np.testing.assert_allclose(prior.log_prob(jnp.zeros(3)), -jnp.log(2 * scale), rtol=1e-6)


def test_float32_is_kept_where_x64_is_on():
    with jax.enable_x64(True):
        x = jnp.ones(3, jnp.float32)
        for prior in (L1(0.5), L1(jnp.array(0.5, jnp.float64))):
            assert prior.prox(x, 0.1).dtype == jnp.float32
            assert prior.prox(x, jnp.array(0.1)).dtype == jnp.float32
            assert prior.score(x).dtype == jnp.float32


@pytest.mark.parametrize("scale", [0, -1.0, float("nan"), float("inf")])
def test_a_bad_scale_is_refused(scale):
    with pytest.raises(ValueError, match=r"scale=.*expected a positive finite number"):
        L1(scale)


def test_bad_elements_of_an_array_scale_are_refused():
    with pytest.raises(ValueError, match=r"scale.*every element positive and finite.*-1"):
        L1(jnp.array([0.5, -1.0]))


def test_it_pickles_and_is_registered():
    prior = pickle.loads(pickle.dumps(L1(0.5)))
    assert float(prior.log_prob(0.0)) == float(L1(0.5).log_prob(0.0))
    assert isinstance(prior, protocols.Prior)
    assert isinstance(prior, protocols.Proximable)
    assert isinstance(prior, protocols.Scored)
    assert registry.get("prior", "l1") is L1


def test_a_model_with_it_lowers_to_a_target_with_prox():
    def model(y):
        x = numpyro.sample("x", L1(0.5).expand(y.shape).to_event(1))
        width = numpyro.sample("width", numpyro.distributions.HalfNormal(1.0))
        numpyro.sample("y", numpyro.distributions.Normal(x, width).to_event(1), obs=y)

    y = jnp.array([0.1, 2.0, -0.3])
    target = Target.from_numpyro(model, y)
    assert {"prox", "smooth_log_density"} <= target.traits
    position = {"x": jnp.array([1.0, -2.0, 0.1]), "width": jnp.array(0.3)}
    proximal = target.prox(position, 0.25)
    np.testing.assert_allclose(proximal["x"], [0.5, -1.5, 0.0])
    assert proximal["width"] == position["width"]
    np.testing.assert_allclose(
        target.log_density(position) - target.smooth_log_density(position),
        L1(0.5).log_prob(position["x"]).sum(),
        rtol=1e-5,
    )
