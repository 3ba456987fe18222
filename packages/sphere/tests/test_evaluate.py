import ducc0
import healpy as hp
import jax
import jax.numpy as jnp
import mpmath
import numpy as np
import pytest
from jax.test_util import check_grads

from armillary.sphere import SHT, GaussLegendre, Healpix, alm_from_real
from armillary.sphere import _evaluate as module
from armillary.sphere._coefficients import eb_to_spin
from armillary.sphere._evaluate import evaluate
from armillary.sphere._healpy import alm_to_healpy
from armillary.sphere._rotation import rotate_alm

pytestmark = pytest.mark.usefixtures("quick_compilation")


def coefficients(*shape, spin=0, seed=0):
    *batch, L = shape
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(*batch, L, 2 * L - 1)) + 1j * rng.normal(size=(*batch, L, 2 * L - 1))
    degree = np.arange(L)[:, None]
    return x * ((abs(np.arange(1 - L, L)) <= degree) & (degree >= abs(spin)))


def points(n, seed=1):
    rng = np.random.default_rng(seed)
    return np.arccos(rng.uniform(-1, 1, n)), rng.uniform(-7, 7, n)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("L", [1, 2, 6])
def test_field_is_the_sum_of_harmonics(L):
    """Of complex fields and at the poles too; the harmonics are mpmath's."""
    alm = coefficients(L)
    theta, phi = (np.concatenate([x, y]) for x, y in zip(points(3), ([0.0, np.pi], [0.3, -1.0]), strict=True))
    expected = [
        complex(
            sum(
                complex(alm[degree, L - 1 + m]) * mpmath.spherharm(degree, m, t, p)
                for degree in range(L)
                for m in range(-degree, degree + 1)
            )
        )
        for t, p in zip(theta, phi, strict=True)
    ]
    np.testing.assert_allclose(evaluate(alm, theta, phi), expected, atol=1e-14 * L)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize(("L", "spin"), [(16, 0), (17, -5)])
def test_field_is_that_of_the_transform(L, spin):
    alm = coefficients(2, L, spin=spin)
    grid = GaussLegendre(L)
    expected = SHT(grid, spin=spin).synthesis(alm)
    found = evaluate(alm, grid.theta[:, None], grid.phi, spin)
    np.testing.assert_allclose(found, expected, atol=1e-13)


@pytest.mark.usefixtures("x64")
def test_field_on_healpix():
    grid, alm = Healpix(8), coefficients(16)
    np.testing.assert_allclose(evaluate(alm, *grid.points), SHT(grid).synthesis(alm), atol=1e-13)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("spin", [0, 2])
def test_field_is_that_of_ducc(spin):
    L = 64
    e, b = alm_from_real(np.random.default_rng(0).normal(size=(2, L * L)))
    theta, phi = points(500)
    triangles = np.stack([np.asarray(alm_to_healpy(x)) for x in (e, b)])[: 2 if spin else 1]
    parts = ducc0.sht.synthesis_general(
        alm=triangles, spin=spin, lmax=L - 1, loc=np.stack([theta, phi % (2 * np.pi)], axis=1), epsilon=3e-13
    )
    found = evaluate(eb_to_spin(e, b) if spin else e, theta, phi, spin)
    expected = parts[0] + 1j * parts[1] if spin else parts[0]
    # What was asked of ducc's interpolation is 3e-13.
    assert np.linalg.norm(found - expected) < 6e-13 * np.linalg.norm(expected)


@pytest.mark.usefixtures("x64")
def test_a_rotated_field_at_rotated_points():
    alm = coefficients(20)
    alpha, beta, gamma = 0.4, 1.2, -0.9

    def z(x):
        return np.array([[np.cos(x), -np.sin(x), 0], [np.sin(x), np.cos(x), 0], [0, 0, 1]])

    y = np.array([[np.cos(beta), 0, np.sin(beta)], [0, 1, 0], [-np.sin(beta), 0, np.cos(beta)]])
    theta, phi = points(50)
    vectors = z(alpha) @ y @ z(gamma) @ hp.ang2vec(theta, phi % (2 * np.pi)).T
    turned = hp.vec2ang(vectors.T)
    found = evaluate(rotate_alm(alm, alpha, beta, gamma), *turned)
    np.testing.assert_allclose(found, evaluate(alm, theta, phi), atol=2e-13)


@pytest.mark.usefixtures("x64")
def test_shapes_chunks_and_transformations(monkeypatch):
    alm = coefficients(2, 3, 5)
    theta, phi = points(8)
    whole = np.asarray(evaluate(alm, theta, phi))
    assert whole.shape == (2, 3, 8)
    assert evaluate(alm, theta[:, None], phi[None]).shape == (2, 3, 8, 8)
    assert evaluate(alm, 0.3, 0.4).shape == (2, 3)
    assert evaluate(alm, theta[:0], 0.4).shape == (2, 3, 0)
    by_map = jax.jit(jax.vmap(evaluate, in_axes=(None, 0, 0), out_axes=-1))(alm, theta, phi)
    np.testing.assert_allclose(by_map, whole, atol=1e-14)
    monkeypatch.setattr(module, "_CHUNK", 3 * 2 * 6 * 9)
    module._evaluate.clear_cache()
    np.testing.assert_allclose(evaluate(alm, theta, phi), whole, atol=1e-14)
    module._evaluate.clear_cache()


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize(
    ("order", "modes"), [(1, ["rev"]), pytest.param(2, ["fwd", "rev"], marks=pytest.mark.exhaustive)], ids=["1", "2"]
)
def test_derivatives(order, modes):
    alm = jnp.asarray(coefficients(5, spin=1))
    theta, phi = (jnp.asarray(x[:2]) for x in points(2))

    @jax.jit
    def energy(alm, theta, phi):
        f = evaluate(alm, theta, phi, 1)
        return (abs(f) ** 2).sum() + f.imag.sum()

    check_grads(energy, (alm, theta, phi), order=order, modes=modes, atol=1e-5, rtol=1e-5)


def test_single_precision():
    L = 64
    alm = coefficients(L).astype(np.complex64)
    theta, phi = (x.astype(np.float32) for x in points(200))
    found = evaluate(alm, theta, phi)
    assert found.dtype == jnp.complex64
    with jax.enable_x64(True):
        expected = np.asarray(evaluate(alm.astype(complex), theta.astype(float), phi.astype(float)))
        assert evaluate(alm, theta, phi).dtype == jnp.complex64
    assert np.linalg.norm(found - expected) < 1e-6 * np.linalg.norm(expected)


def test_no_field_and_no_point():
    assert evaluate(jnp.zeros((0, 3, 5)), jnp.zeros(4), 0.0).shape == (0, 4)
    assert evaluate(jnp.zeros((2, 3, 5)), jnp.zeros((0, 4)), 0.0).shape == (2, 0, 4)


def test_errors():
    alm = jnp.ones((3, 5))
    with pytest.raises(ValueError, match=r"alm has shape \(3, 4\)"):
        evaluate(jnp.ones((3, 4)), 0.0, 0.0)
    with pytest.raises(ValueError, match="theta is complex"):
        evaluate(alm, 1j, 0.0)
    with pytest.raises(ValueError, match=r"theta has shape \(2,\) and phi \(3,\)"):
        evaluate(alm, jnp.zeros(2), jnp.zeros(3))
    with pytest.raises(ValueError, match="spin=3"):
        evaluate(alm, 0.0, 0.0, 3)
