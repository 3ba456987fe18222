import ducc0
import healpy as hp
import jax
import jax.numpy as jnp
import mpmath
import numpy as np
import pytest
from jax.test_util import check_grads

from armillary.sphere import alm_from_real
from armillary.sphere._healpy import alm_to_healpy
from armillary.sphere._phases import phases
from armillary.sphere._rotation import rotate_alm

pytestmark = pytest.mark.usefixtures("quick_compilation")

ANGLES = (0.3, 1.1, -2.2)


def coefficients(*shape, seed=0):
    """Of complex fields; `shape` ends in L."""
    *batch, L = shape
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(*batch, L, 2 * L - 1)) + 1j * rng.normal(size=(*batch, L, 2 * L - 1))
    return x * (abs(np.arange(1 - L, L)) <= np.arange(L)[:, None])


def wigner_d(degree, m, n, beta):
    """The definition: Wigner's sum, as in Edmonds 1957, equation 4.1.15."""
    f = mpmath.factorial
    norm = mpmath.sqrt(f(degree + m) * f(degree - m) * f(degree + n) * f(degree - n))
    cos, sin = mpmath.cos(mpmath.mpf(beta) / 2), mpmath.sin(mpmath.mpf(beta) / 2)
    return norm * sum(
        (-1) ** (m - n + k)
        * cos ** (2 * degree + n - m - 2 * k)
        * sin ** (m - n + 2 * k)
        / (f(degree + n - k) * f(k) * f(m - n + k) * f(degree - m - k))
        for k in range(max(0, n - m), min(degree + n, degree - m) + 1)
    )


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("L", [1, 2, 7])
def test_rotation_is_the_sum_of_wigner_functions(L):
    alm = coefficients(L)
    alpha, beta, gamma = ANGLES
    expected = np.zeros_like(alm)
    for degree in range(L):
        orders = range(-degree, degree + 1)
        for m in orders:
            expected[degree, L - 1 + m] = sum(
                complex(wigner_d(degree, m, n, beta)) * np.exp(-1j * (m * alpha + n * gamma)) * alm[degree, L - 1 + n]
                for n in orders
            )
    np.testing.assert_allclose(rotate_alm(alm, *ANGLES), expected, atol=2e-15 * L)


@pytest.mark.usefixtures("x64")
def test_a_high_degree_by_its_definition():
    """Single elements of D at the degree 150, where the sum needs many digits."""
    L = 151
    alm = np.zeros((3, L, 2 * L - 1), complex)
    starts = (0, 77, -140)
    for i, n in enumerate(starts):
        alm[i, -1, L - 1 + n] = 1
    found = rotate_alm(alm, *ANGLES)
    with mpmath.workdps(150):
        for i, n in enumerate(starts):
            for m in (0, 30, -101, 150):
                expected = complex(wigner_d(L - 1, m, n, ANGLES[1]) * mpmath.expj(-m * ANGLES[0] - n * ANGLES[2]))
                assert abs(found[i, -1, L - 1 + m] - expected) < 2e-14


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("L", [3, 65])
def test_rotation_is_that_of_healpy_and_ducc(L):
    alm = alm_from_real(np.random.default_rng(0).normal(size=L * L))
    triangle = np.asarray(alm_to_healpy(alm))
    alpha, beta, gamma = ANGLES
    found = alm_to_healpy(rotate_alm(alm, *ANGLES))
    np.testing.assert_allclose(found, ducc0.sht.rotate_alm(triangle, L - 1, gamma, beta, alpha), atol=1e-13)
    by_healpy = triangle.copy()
    hp.rotate_alm(by_healpy, gamma, beta, alpha)
    np.testing.assert_allclose(found, by_healpy, atol=1e-12)


@pytest.mark.usefixtures("x64")
def test_group_law():
    alm = coefficients(40)

    def matrix(alpha, beta, gamma):
        def z(x):
            return np.array([[np.cos(x), -np.sin(x), 0], [np.sin(x), np.cos(x), 0], [0, 0, 1]])

        y = np.array([[np.cos(beta), 0, np.sin(beta)], [0, 1, 0], [-np.sin(beta), 0, np.cos(beta)]])
        return z(alpha) @ y @ z(gamma)

    first, second = (0.4, 0.9, 2.0), (-1.3, 2.1, 0.7)
    product = matrix(*second) @ matrix(*first)
    angles = (
        np.arctan2(product[1, 2], product[0, 2]),
        np.arccos(product[2, 2]),
        np.arctan2(product[2, 1], -product[2, 0]),
    )
    np.testing.assert_allclose(rotate_alm(rotate_alm(alm, *first), *second), rotate_alm(alm, *angles), atol=2e-13)
    alpha, beta, gamma = first
    np.testing.assert_allclose(rotate_alm(rotate_alm(alm, *first), -gamma, -beta, -alpha), alm, atol=4e-14)
    np.testing.assert_allclose(rotate_alm(alm, 0.0, 0.0, 0.0), alm, atol=2e-14)
    order = np.arange(-39, 40)
    np.testing.assert_allclose(rotate_alm(alm, 0.5, 0.0, 0.2), alm * np.exp(-0.7j * order), atol=4e-14)


@pytest.mark.usefixtures("x64")
def test_batches_and_transformations():
    alm = coefficients(3, 1, 6)
    alpha, gamma = np.array([0.1, 0.2]), np.array([[1.0], [2.0], [3.0]])
    found = rotate_alm(alm, alpha, 0.5, gamma)
    assert found.shape == (3, 2, 6, 11)
    for i in range(3):
        for j in range(2):
            one = rotate_alm(alm[i, 0], alpha[j], 0.5, gamma[i, 0])
            np.testing.assert_allclose(found[i, j], one, atol=1e-14)
    mapped = jax.jit(jax.vmap(rotate_alm, in_axes=(0, None, None, 0)))(alm[:, 0], 0.1, 0.5, gamma[:, 0])
    np.testing.assert_allclose(mapped, found[:, 0], atol=1e-14)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize(
    ("order", "modes"), [(1, ["rev"]), pytest.param(2, ["fwd", "rev"], marks=pytest.mark.exhaustive)], ids=["1", "2"]
)
def test_derivatives(order, modes):
    alm = jnp.asarray(coefficients(5))
    weights = coefficients(5, seed=1)

    @jax.jit
    def energy(alm, alpha, beta, gamma):
        turned = rotate_alm(alm, alpha, beta, gamma)
        return (weights * turned).real.sum() + (abs(turned - weights) ** 4).sum() / 100

    check_grads(energy, (alm, *map(jnp.asarray, ANGLES)), order=order, modes=modes, atol=1e-5, rtol=1e-5)


@pytest.mark.usefixtures("x64")
def test_the_adjoint_is_the_inverse_rotation():
    alm, other = jnp.asarray(coefficients(2, 6))
    alpha, beta, gamma = ANGLES
    pulled = jax.jit(lambda y: jax.vjp(lambda a: rotate_alm(a, *ANGLES), alm)[1](y)[0])(other.conj())
    np.testing.assert_allclose(pulled.conj(), rotate_alm(other, -gamma, -beta, -alpha), atol=1e-14)


def test_reverse_mode_keeps_no_matrices():
    """What a gradient keeps is of the size of the coefficients, not of the matrices."""
    L = 32
    alm = jnp.asarray(coefficients(L).astype(np.complex64))
    kept = jax.eval_shape(lambda b: jax.vjp(lambda b: rotate_alm(alm, 0.1, b, 0.2), b)[1], jnp.float32(0.3))
    assert sum(leaf.size for leaf in jax.tree.leaves(kept)) < 16 * L * L


def test_single_precision():
    L = 64
    alm = coefficients(L).astype(np.complex64)
    angles = [np.float32(x) for x in ANGLES]
    found = rotate_alm(alm, *angles)
    assert found.dtype == jnp.complex64
    with jax.enable_x64(True):
        expected = np.asarray(rotate_alm(alm.astype(complex), *(float(x) for x in angles)))
        wide = rotate_alm(alm, *angles)
        assert wide.dtype == jnp.complex64
    for x in (found, wide):
        assert np.linalg.norm(x - expected) < 1e-6 * np.linalg.norm(expected)
        assert abs(x - expected).max() < 5e-6


@pytest.mark.parametrize("angle", [0.0, 3.1, -6.2, 11.0])
def test_phases_of_high_orders(angle):
    orders = np.array([-2047, -1, 0, 3, 1000, 2047])
    with jax.enable_x64(True):
        found = phases(jnp.asarray(angle), orders)
        slope = jax.jvp(lambda x: phases(x, orders), (jnp.asarray(angle),), (jnp.asarray(1.0),))[1]
    single = np.asarray(phases(jnp.float32(angle), orders))
    with mpmath.workdps(40):
        exact = np.array([complex(mpmath.expj(int(m) * mpmath.mpf(angle))) for m in orders])
        rounded = np.array([complex(mpmath.expj(int(m) * mpmath.mpf(float(np.float32(angle))))) for m in orders])
    np.testing.assert_allclose(found, exact, atol=5e-16)
    np.testing.assert_allclose(slope, 1j * orders * exact, atol=2e-12)
    np.testing.assert_allclose(single, rounded, atol=3e-7)


def test_errors():
    alm = jnp.ones((3, 5))
    with pytest.raises(ValueError, match=r"alm has shape \(3, 4\)"):
        rotate_alm(jnp.ones((3, 4)), 0.0, 0.0, 0.0)
    with pytest.raises(ValueError, match="beta is complex"):
        rotate_alm(alm, 0.0, 1j, 0.0)
    with pytest.raises(ValueError, match=r"alm \(2,\), alpha \(3,\), beta \(\) and gamma \(\) must broadcast"):
        rotate_alm(jnp.ones((2, 3, 5)), jnp.zeros(3), 0.0, 0.0)
