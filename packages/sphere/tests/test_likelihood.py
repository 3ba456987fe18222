import copy
import pickle

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import pytest
import scipy.stats
from jax.test_util import check_grads
from numpyro import distributions as dist
from numpyro.infer.util import log_density

from armillary.sphere import SHT, GaussLegendre, alm_from_real
from armillary.sphere._likelihood import MaskedGaussian

pytestmark = pytest.mark.usefixtures("quick_compilation")

PIXELS = 12
MASK = np.arange(PIXELS) % 3 != 1


def data(seed=0, shape=(PIXELS,), *, spin=False):
    rng = np.random.default_rng(seed)
    return rng.normal(size=shape) + (1j * rng.normal(size=shape) if spin else 0)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("spin", [False, True])
def test_density_is_that_of_normals_over_the_observed_pixels(spin):
    d, loc = data(spin=spin), data(1, spin=spin)
    scale = 0.5 + np.arange(PIXELS) / PIXELS
    parts = [(d.real, loc.real)] + ([(d.imag, loc.imag)] if spin else [])
    expected = sum(scipy.stats.norm(m, scale).logpdf(x)[MASK].sum() for x, m in parts)
    likelihood = MaskedGaussian(loc, scale, MASK, validate_args=True)
    assert float(likelihood.log_prob(d)) == pytest.approx(expected, rel=1e-13)
    everything = sum(scipy.stats.norm(m, 0.7).logpdf(x).sum() for x, m in parts)
    assert float(MaskedGaussian(loc, 0.7).log_prob(d)) == pytest.approx(everything, rel=1e-13)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("spin", [False, True])
def test_what_is_masked_does_not_matter(spin):
    d, loc = data(spin=spin), data(1, spin=spin)
    scale = np.full(PIXELS, 0.8)

    def value_and_gradients(d, loc, scale):
        def log_prob(d, loc_real, scale):
            return MaskedGaussian(loc_real + loc, scale, MASK).log_prob(d)

        # Traced, since NumPyro looks for a NaN in what is not.
        return jax.jit(jax.value_and_grad(log_prob, (0, 1, 2)))(d, jnp.zeros(PIXELS), scale)

    expected = value_and_gradients(d, loc, scale)
    for broken in (np.nan, np.inf, -1e300):
        found = value_and_gradients(
            np.where(MASK, d, broken), np.where(MASK, loc, broken), np.where(MASK, scale, broken)
        )
        jax.tree.map(np.testing.assert_array_equal, found, expected)
        assert all(np.isfinite(x).all() for x in jax.tree.leaves(found))
    assert all((np.asarray(x)[~MASK] == 0).all() for x in expected[1])
    assert np.isnan(value_and_gradients(np.where(MASK, np.nan, d), loc, scale)[0])


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("spin", [False, True])
def test_samples(spin):
    loc, scale = data(1, spin=spin), 0.5 + np.arange(PIXELS) / PIXELS
    likelihood = MaskedGaussian(loc, scale, MASK)
    draws = likelihood.sample(jax.random.key(0), (4000,))
    assert draws.dtype == loc.dtype
    np.testing.assert_array_equal(draws[:, ~MASK], np.broadcast_to(loc[~MASK], (4000, 4)))
    noise = np.asarray(draws - loc)[:, MASK] / scale[MASK]
    for part in (noise.real, noise.imag) if spin else (noise,):
        assert scipy.stats.kstest(part.ravel(), "norm").pvalue > 1e-3
    if spin:
        assert abs((noise.real * noise.imag).mean()) < 4.5 / np.sqrt(noise.size)
    np.testing.assert_array_equal(likelihood.mean, loc)
    np.testing.assert_allclose(likelihood.variance, MASK * scale**2 * (2 if spin else 1))


@pytest.mark.usefixtures("x64")
def test_batches_and_maps_with_two_axes():
    d = data(shape=(3, 4, 7))
    mask = data(5, (4, 7)) > 0
    scale = jnp.array([0.5, 1.0, 2.0])[:, None, None]
    likelihood = MaskedGaussian(jnp.zeros((4, 7)), scale, mask, event_dim=2)
    assert likelihood.batch_shape == (3,)
    assert likelihood.event_shape == (4, 7)
    assert likelihood.sample(jax.random.PRNGKey(0), (5,)).shape == (5, 3, 4, 7)
    found = likelihood.log_prob(d)
    for i in range(3):
        one = MaskedGaussian(jnp.zeros((4, 7)), scale[i], mask, event_dim=2).log_prob(d[i])
        assert float(found[i]) == pytest.approx(float(one), rel=1e-13)
        expected = scipy.stats.norm(0, scale[i, 0, 0]).logpdf(d[i])[mask].sum()
        assert float(one) == pytest.approx(expected, rel=1e-13)
    mapped = jax.vmap(lambda s, x: MaskedGaussian(jnp.zeros((4, 7)), s, mask, event_dim=2).log_prob(x))(scale, d)
    np.testing.assert_allclose(mapped, found, rtol=1e-13)


@pytest.mark.usefixtures("x64")
def test_derivatives():
    d = data()

    @jax.jit
    def log_prob(loc, scale):
        return MaskedGaussian(loc, scale, MASK).log_prob(d)

    check_grads(log_prob, (jnp.asarray(data(1)), jnp.full(PIXELS, 0.8)), order=1)


def test_pytree_jit_and_pickle():
    likelihood = MaskedGaussian(jnp.zeros(PIXELS), 0.5, MASK)
    d = jnp.asarray(data(), jnp.float32)
    density = jax.jit(lambda likelihood, d: likelihood.log_prob(d))
    for _ in range(2):
        np.testing.assert_allclose(density(copy.deepcopy(likelihood), d), likelihood.log_prob(d), rtol=1e-6)
    assert density._cache_size() == 1
    again = pickle.loads(pickle.dumps(likelihood))
    np.testing.assert_array_equal(again.log_prob(d), likelihood.log_prob(d))
    assert likelihood.log_prob(d).dtype == jnp.float32
    assert likelihood.sample(jax.random.key(0)).dtype == jnp.float32


SHT_4 = SHT(GaussLegendre(4), real=True)
RINGS = np.arange(7) < 5


def field(x):
    return MaskedGaussian(SHT_4.synthesis(alm_from_real(x)), 0.5, RINGS, event_dim=2)


def test_in_a_model():
    x = jnp.linspace(-1, 1, 16)
    observed = jnp.where(RINGS, 0.3, jnp.nan) * jnp.ones((4, 1))

    def model():
        y = numpyro.sample("x", dist.Normal(0, 1).expand([16]).to_event(1))
        numpyro.sample("d", field(y), obs=observed)

    total, _ = log_density(model, (), {}, {"x": x})
    expected = dist.Normal(0, 1).log_prob(x).sum() + field(x).log_prob(observed)
    assert float(total) == pytest.approx(float(expected), rel=1e-6)
    gradient = jax.grad(lambda x: log_density(model, (), {}, {"x": x})[0])(x)
    assert np.isfinite(gradient).all()
    # NumPyro's own handlers work on it: `mask` is a method of every distribution.
    with numpyro.handlers.mask(mask=False):
        assert float(log_density(model, (), {}, {"x": x})[0]) == 0


def test_errors():
    loc = jnp.zeros(PIXELS)
    with pytest.raises(ValueError, match="mask is float32"):
        MaskedGaussian(loc, 1.0, jnp.ones(PIXELS))
    with pytest.raises(ValueError, match=r"shapes loc \(12,\), scale \(5,\), mask \(\)"):
        MaskedGaussian(loc, jnp.ones(5))
    with pytest.raises(ValueError, match=r"shapes loc \(1,\), scale \(\), mask \(12,\)"):
        MaskedGaussian(jnp.zeros(1), 1.0, MASK)
    with pytest.raises(ValueError, match=r"loc has shape \(12,\): a map of event_dim=2"):
        MaskedGaussian(loc, 1.0, event_dim=2)
    with pytest.raises(ValueError, match="event_dim=0"):
        MaskedGaussian(loc, 1.0, event_dim=0)
    with pytest.raises(ValueError, match="scale"):
        MaskedGaussian(loc, -1.0, validate_args=True)
    with pytest.raises(ValueError, match=r"value has shape \(5,\)"):
        MaskedGaussian(loc, 1.0).log_prob(jnp.zeros(5))
    with pytest.raises(ValueError, match="value is complex64 and loc float32"):
        MaskedGaussian(loc, 1.0).log_prob(loc + 1j)
    with pytest.raises(ValueError, match="value is float32 and loc complex64"):
        MaskedGaussian(loc + 1j, 1.0).log_prob(loc)
