from itertools import pairwise

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest
import scipy.stats
from scipy.integrate import quad

from armillary.core import Target, protocols, registry
from armillary.core.testing import Case, parametrize_with_checks
from armillary.imaging import DWT, Box, GroupL1, L1Wavelet, Positivity

SHAPE = (4, 8)


@pytest.fixture
def x64():
    with jax.enable_x64(True):
        yield


def image(seed=0, batch=(), shape=SHAPE):
    return np.random.default_rng(seed).normal(size=(*batch, *shape))


@parametrize_with_checks(
    [
        Case(L1Wavelet("haar", 1, 0.7, shape=(2, 4)), id="l1-wavelet"),
        Case(GroupL1(3, jnp.array([0.5, 1.0])), id="group-l1"),
    ]
)
def test_conformance(component, check):
    check(component)


def test_the_density_is_that_of_laplace_coefficients(x64):
    x = image(batch=(2,))
    prior = L1Wavelet("sym4", 2, 0.7, shape=SHAPE)
    c = np.asarray(DWT(SHAPE, "sym4", 2)(x))
    expected = scipy.stats.laplace.logpdf(c, scale=0.7).sum(axis=(1, 2))
    np.testing.assert_allclose(prior.log_prob(x), expected, rtol=1e-13)
    np.testing.assert_allclose(prior.prox(x, 0.3), _inverse(soft(c, 0.3 / 0.7)), atol=1e-13)
    np.testing.assert_allclose(prior.score(x), _inverse(-np.sign(c) / 0.7), atol=1e-13)


def _inverse(c):
    return DWT(SHAPE, "sym4", 2).inverse(c)


def soft(c, threshold):
    return np.sign(c) * np.maximum(abs(c) - threshold, 0)


def test_a_scale_and_a_step_for_each_of_a_batch(x64):
    x = image(batch=(2,))
    together = L1Wavelet("db2", 1, jnp.array([0.5, 2.0]), shape=SHAPE)
    assert together.batch_shape == (2,)
    for k, (scale, step) in enumerate([(0.5, 0.1), (2.0, 0.2)]):
        one = L1Wavelet("db2", 1, scale, shape=SHAPE)
        np.testing.assert_allclose(together.log_prob(x)[k], one.log_prob(x[k]), rtol=1e-13)
        np.testing.assert_allclose(together.prox(x, jnp.array([0.1, 0.2]))[k], one.prox(x[k], step), atol=1e-14)
        np.testing.assert_allclose(together.score(x)[k], one.score(x[k]), atol=1e-14)
        np.testing.assert_allclose(together.log_evidence(x, 0.3)[k], one.log_evidence(x[k], 0.3), rtol=1e-13)


def test_draws_have_laplace_coefficients(x64):
    draws = L1Wavelet("db2", 2, 0.7, shape=SHAPE).sample(jax.random.key(0), (1000,))
    c = np.asarray(DWT(SHAPE, "db2", 2)(draws)).ravel()
    assert scipy.stats.kstest(c, scipy.stats.laplace(scale=0.7).cdf).pvalue > 1e-4


@pytest.mark.parametrize(("scale", "noise"), [(0.7, 0.3), (0.05, 0.6), (3.0, 0.01)])
def test_evidence_and_posterior_mean_are_those_by_quadrature(x64, scale, noise):
    """Of each coefficient by itself, which an orthonormal basis allows."""
    prior = L1Wavelet("haar", 1, scale, shape=(2, 4))
    y = image(3, shape=(2, 4))
    log_z, mean = 0.0, []
    for d in np.asarray(DWT((2, 4), "haar", 1)(y)).ravel():

        def joint(c, d=d):
            return scipy.stats.laplace.pdf(c, scale=scale) * scipy.stats.norm.pdf(d, c, noise)

        # The integrand is where the likelihood is, with a kink at 0.
        edges = sorted({0.0, *np.linspace(min(d, 0) - 9 * noise, max(d, 0) + 9 * noise, 9)})
        z, first = (
            sum(quad(lambda c, p=p: joint(c) * c**p, *ends, epsabs=0, epsrel=1e-11)[0] for ends in pairwise(edges))
            for p in (0, 1)
        )
        log_z += np.log(z)
        mean.append(first / z)
    np.testing.assert_allclose(prior.log_evidence(y, noise), log_z, rtol=1e-9)
    expected = DWT((2, 4), "haar", 1).inverse(np.reshape(mean, (2, 4)))
    np.testing.assert_allclose(prior.posterior_mean(y, noise), expected, atol=1e-8)


def test_evidence_is_the_average_likelihood_of_draws(x64):
    prior, noise = L1Wavelet("db2", 1, 0.5, shape=(2, 2)), 0.6
    y = image(1, shape=(2, 2))
    x = prior.sample(jax.random.key(0), (200_000,))
    likelihood = jnp.exp(dist.Normal(x, noise).to_event(2).log_prob(y))
    error = float(likelihood.std() / likelihood.mean()) / np.sqrt(x.shape[0])
    assert error < 0.01
    assert abs(float(jnp.log(likelihood.mean()) - prior.log_evidence(y, noise))) < 4 * error


def test_evidence_far_from_the_centre_neither_overflows_nor_cancels(x64):
    # At 1000 noises from 0 the sum is of one term: a Laplace density shifted by s^2 / b and its normaliser.
    prior, noise = L1Wavelet("haar", 0, 0.5, shape=(1, 1)), 0.01
    expected = -np.log(2 * 0.5) - 10 / 0.5 + noise**2 / (2 * 0.5**2)
    np.testing.assert_allclose(prior.log_evidence(np.full((1, 1), 10.0), noise), expected, rtol=1e-13)
    # And with a scale far below the noise it is the likelihood at 0.
    prior = L1Wavelet("haar", 0, 1e-6, shape=(1, 1))
    found = prior.log_evidence(np.full((1, 1), 0.3), 0.1)
    np.testing.assert_allclose(found, scipy.stats.norm.logpdf(0.3, 0, 0.1), atol=1e-8)


def test_float32_of_everything(x64):
    y = image().astype(np.float32)
    for prior in (L1Wavelet("db4", 2, 0.5, shape=SHAPE), L1Wavelet("db4", 2, np.float64(0.5), shape=SHAPE)):
        found = (
            prior.log_prob(y),
            prior.prox(y, 0.1),
            prior.score(y),
            prior.log_evidence(y, 0.1),
            prior.posterior_mean(y, 0.1),
        )
        wide = (
            prior.log_prob(y.astype(float)),
            prior.prox(y.astype(float), 0.1),
            prior.score(y.astype(float)),
            prior.log_evidence(y.astype(float), 0.1),
            prior.posterior_mean(y.astype(float), 0.1),
        )
        for one, expected in zip(found, wide, strict=True):
            assert one.dtype == np.float32
            np.testing.assert_allclose(one, expected, rtol=2e-6, atol=2e-6)


def test_the_gradient_in_the_scale_is_right(x64):
    x = image()
    gradient = jax.grad(lambda b: L1Wavelet("db2", 1, b, shape=SHAPE).log_prob(x))(0.7)
    norm = np.abs(DWT(SHAPE, "db2", 1)(x)).sum()
    np.testing.assert_allclose(gradient, norm / 0.49 - x.size / 0.7, rtol=1e-12)


def test_group_l1_of_one_number_is_laplace(x64):
    x = np.linspace(-3, 3, 12)[:, None]
    prior = GroupL1(1, 0.7)
    np.testing.assert_allclose(prior.log_prob(x), scipy.stats.laplace.logpdf(x[:, 0], scale=0.7), rtol=1e-13)
    np.testing.assert_allclose(prior.prox(x, 0.3), soft(x, 0.3 / 0.7), atol=1e-15)
    assert float(jnp.abs(prior.score(jnp.zeros((2, 1)))).max()) == 0


def test_the_norms_of_draws_of_group_l1_are_gamma(x64):
    draws = GroupL1(4, 0.5).sample(jax.random.key(0), (3000,))
    norms = np.linalg.norm(draws, axis=-1)
    assert scipy.stats.kstest(norms, scipy.stats.gamma(4, scale=0.5).cdf).pvalue > 1e-4
    assert GroupL1(4, 0.5).prox(jnp.ones((2, 4), jnp.float32), 0.1).dtype == np.float32


def test_box_and_positivity():
    box = Box(jnp.array([0.0, -1.0]), 1.0)
    x = jnp.array([[-0.5, -2.0], [0.5, 3.0]])
    np.testing.assert_array_equal(box.prox(x, 7.0), [[0.0, -1.0], [0.5, 1.0]])
    assert box.log_prob(x) == -np.inf
    assert box.log_prob(jnp.array([0.5, -0.5])) == 0
    np.testing.assert_array_equal(box.score(x), jnp.zeros((2, 2)))
    np.testing.assert_array_equal(Positivity().prox(x), [[0, 0], [0.5, 3]])
    assert Positivity().log_prob(jnp.array([0.0, 1e9])) == 0
    assert isinstance(box, protocols.Proximable)
    with jax.enable_x64(True):
        assert box.prox(np.ones(2, np.float32)).dtype == np.float32


def test_in_a_model_and_registered():
    prior = L1Wavelet("haar", 1, 0.5, shape=(2, 4))

    def model(y):
        x = numpyro.sample("x", prior)
        numpyro.sample("y", dist.Normal(x, 0.1).to_event(2), obs=y)

    target = Target.from_numpyro(model, jnp.ones((2, 4)))
    assert target.traits >= {"prox", "smooth_log_density", "sample_prior"}
    x = {"x": jnp.asarray(image(shape=(2, 4)), jnp.float32)}
    np.testing.assert_allclose(target.prox(x, 0.2)["x"], prior.prox(x["x"], 0.2), rtol=1e-6)
    assert registry.get("prior", "l1-wavelet") is L1Wavelet
    assert registry.get("prior", "group-l1") is GroupL1


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: L1Wavelet("db4", 1, 0.0, shape=SHAPE), "scale=0.0: expected a positive finite number"),
        (lambda: L1Wavelet("db4", 3, shape=SHAPE), "levels=3: rows and columns must be multiples of 8"),
        (lambda: L1Wavelet("db4", 1, shape=SHAPE).log_evidence(image(), -1.0), "noise=-1.0: expected a positive"),
        (lambda: L1Wavelet("db4", 1, shape=SHAPE).prox(np.zeros((8, 4)), 1.0), r"x has shape \(8, 4\)"),
        (lambda: GroupL1(0), "size=0: expected a positive whole number"),
        (lambda: GroupL1(2, -1.0), "scale=-1.0: expected a positive finite number"),
        (lambda: Box(1.0, 1.0), "low=1.0 and high=1.0: every lower bound"),
    ],
)
def test_bad_arguments(make, message):
    with pytest.raises(ValueError, match=message):
        make()
