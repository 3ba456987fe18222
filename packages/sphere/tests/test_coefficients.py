import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st
from jax.test_util import check_grads
from numpyro import distributions as dist
from numpyro.infer.util import log_density

from armillary.sphere import SHT, GaussLegendre, IsotropicGaussian, alm_from_real, alm_to_real, power_spectrum

pytestmark = pytest.mark.usefixtures("quick_compilation")


@settings(max_examples=4, deadline=None)
@given(L=st.integers(1, 9), batch=st.lists(st.integers(1, 3), max_size=2), seed=st.integers(0, 1000))
def test_real_layout_is_isometric(L, batch, seed):
    with jax.enable_x64(True):
        x = np.random.default_rng(seed).normal(size=(*batch, L * L))
        alm = np.asarray(alm_from_real(x))
        assert alm.shape == (*batch, L, 2 * L - 1)
        np.testing.assert_allclose(alm_to_real(alm), x, atol=1e-15)
        np.testing.assert_allclose((abs(alm) ** 2).sum((-2, -1)), (x**2).sum(-1), rtol=1e-14)
        order = np.arange(1 - L, L)
        np.testing.assert_allclose(alm[..., ::-1].conj() * (-1.0) ** order, alm, atol=1e-16)
        np.testing.assert_allclose(np.asarray(power_spectrum(alm)) @ (2 * np.arange(L) + 1), (x**2).sum(-1), rtol=1e-14)


@pytest.mark.usefixtures("x64")
def test_real_layout_by_hand():
    alm = np.zeros((3, 5), complex)
    alm[0, 2], alm[2, 3], alm[2, 4] = 7, 1 + 2j, 3 - 4j
    alm[2, 1], alm[2, 0] = -(1 - 2j), 3 + 4j
    root = np.sqrt(2)
    np.testing.assert_allclose(alm_to_real(alm), [7, 0, 0, 0, -4 * root, 2 * root, 0, root, 3 * root])
    np.testing.assert_allclose(power_spectrum(alm), [49, 0, (2 * 5 + 2 * 25) / 5])


@pytest.mark.usefixtures("x64")
def test_real_layout_adjoint():
    rng = np.random.default_rng(0)
    x, alm = rng.normal(size=25), rng.normal(size=(5, 9)) + 1j * rng.normal(size=(5, 9))
    assert float(jnp.vdot(alm_from_real(x), alm).real) == pytest.approx(float(x @ alm_to_real(alm)), rel=1e-13)
    check_grads(jax.jit(lambda x: (power_spectrum(alm_from_real(x)) ** 2).sum()), (x,), order=2, modes=["rev"])
    assert np.isfinite(jax.grad(lambda x: power_spectrum(alm_from_real(x)).sum())(jnp.zeros(25))).all()


def test_types_and_errors():
    assert alm_from_real(jnp.zeros(4)).dtype == jnp.complex64
    assert alm_to_real(jnp.zeros((2, 3), jnp.complex64)).dtype == jnp.float32
    assert power_spectrum(jnp.zeros((2, 3), jnp.complex64)).dtype == jnp.float32
    with pytest.raises(ValueError, match=r"x has shape \(5,\): its last axis is of length L\*\*2"):
        alm_from_real(jnp.zeros(5))
    with pytest.raises(ValueError, match=r"alm has shape \(2, 4\): \(..., 2, 3\)"):
        power_spectrum(jnp.zeros((2, 4), jnp.complex64))
    with pytest.raises(ValueError, match="alm has shape"):
        alm_to_real(jnp.zeros(4))
    with pytest.raises(ValueError, match="enable_x64"):
        alm_from_real(np.zeros(4))


def spectrum(L):
    return 1.0 / (1.0 + np.arange(L)) ** 1.5


@pytest.mark.usefixtures("x64")
def test_density_is_that_of_a_dense_normal():
    L, cl = 5, spectrum(5)
    x = np.random.default_rng(0).normal(size=(3, L * L))
    covariance = np.diag(np.repeat(cl, 2 * np.arange(L) + 1))
    expected = scipy.stats.multivariate_normal(cov=covariance).logpdf(x)
    prior = IsotropicGaussian(cl, validate_args=True)
    np.testing.assert_allclose(prior.log_prob(x), expected, rtol=1e-13)
    np.testing.assert_allclose(prior.variance, np.diag(covariance))
    log_prob = jax.jit(lambda cl, x: IsotropicGaussian(cl).log_prob(x).sum() / 100)
    check_grads(log_prob, (1 + jnp.asarray(cl), jnp.asarray(x)), order=2, modes=["rev"])


@pytest.mark.usefixtures("x64")
def test_power_of_a_field_and_of_its_map():
    L, cl = 16, spectrum(16)
    x = IsotropicGaussian(cl).sample(jax.random.key(0), (2000,))
    sht = SHT(GaussLegendre(L), real=True)
    measured = power_spectrum(sht.analysis(sht.synthesis(alm_from_real(x)))).mean(axis=0)
    error = cl * np.sqrt(2 / (2 * np.arange(L) + 1) / 2000)
    assert (abs(measured - cl) < 4.5 * error).all()


def test_distribution_in_models_and_transformations():
    cl = jnp.asarray(spectrum(4), jnp.float32)
    prior = IsotropicGaussian(cl)
    x = prior.sample(jax.random.key(1), (3,))
    assert x.shape == (3, 16)
    assert x.dtype == jnp.float32

    leaves, structure = jax.tree.flatten(prior)
    again = jax.tree.unflatten(structure, leaves)
    assert again.event_shape == (16,)
    density = jax.jit(lambda prior, x: prior.log_prob(x))
    for _ in range(2):
        np.testing.assert_allclose(density(again, x), prior.log_prob(x), rtol=1e-6)
    assert density._cache_size() == 1

    batch = jnp.stack([cl, 2 * cl, 3 * cl])
    by_vmap = jax.vmap(lambda cl, x: IsotropicGaussian(cl).log_prob(x))(batch, x)
    np.testing.assert_allclose(by_vmap, IsotropicGaussian(batch).log_prob(x), rtol=1e-6)
    stacked = jax.vmap(IsotropicGaussian)(batch)
    np.testing.assert_allclose(jax.vmap(lambda p, x: p.log_prob(x))(stacked, x), by_vmap, rtol=1e-6)
    assert IsotropicGaussian(batch).sample(jax.random.PRNGKey(0), (7,)).shape == (7, 3, 16)

    def model(observed=None):
        amplitude = numpyro.sample("amplitude", dist.HalfNormal(1.0))
        numpyro.sample("x", IsotropicGaussian(amplitude * cl), obs=observed)

    total, _ = log_density(model, (x[0],), {}, {"amplitude": jnp.asarray(0.7)})
    expected = dist.HalfNormal(1.0).log_prob(0.7) + IsotropicGaussian(0.7 * cl).log_prob(x[0])
    assert float(total) == pytest.approx(float(expected), rel=1e-6)


def test_distribution_of_fewer_degrees():
    cl, x = jnp.asarray(spectrum(6), jnp.float32), jax.random.normal(jax.random.key(0), (9,))
    prior = IsotropicGaussian(cl, 3)
    assert prior.event_shape == (9,)
    assert float(prior.log_prob(x)) == pytest.approx(float(IsotropicGaussian(cl[:3]).log_prob(x)), rel=1e-6)
    np.testing.assert_array_equal(prior.variance, np.repeat(cl[:3], [1, 3, 5]))


def test_distribution_errors():
    with pytest.raises(ValueError, match=r"L=5: the bandlimit of a cl of shape \(4,\) is an integer from 1 to 4"):
        IsotropicGaussian(jnp.ones(4), 5)
    for length in (3, 5, 9):
        with pytest.raises(
            ValueError, match=rf"value has shape \(2, {length}\): its last axis is of length L\*\*2 = 4"
        ):
            IsotropicGaussian(jnp.ones(2)).log_prob(jnp.zeros((2, length)))
    with pytest.raises(ValueError, match="cl has shape"):
        IsotropicGaussian(1.0)
    with pytest.raises(ValueError, match="cl"):
        IsotropicGaussian(jnp.array([0.0, 1.0]), validate_args=True)
