"""The transforms against explicit sums in many digits, another library, and their own laws."""

import ducc0
import jax
import jax.numpy as jnp
import mpmath
import numpy as np
import pytest
from jax.test_util import check_grads

from armillary.core.protocols import Transform
from armillary.sphere import SHT, GaussLegendre, alm_from_real
from armillary.sphere._legendre import synthesise_lanes
from armillary.sphere._rings import Rings

pytestmark = pytest.mark.usefixtures("x64", "quick_compilation")


def pure(grid, **kwargs):
    """The transform in JAX alone; test_backends.py has the others."""
    return SHT(grid, backend="jax", **kwargs)


def inside(L, spin=0):
    """Which dense entries are coefficients."""
    degree, order = np.arange(L)[:, None], np.arange(1 - L, L)
    return (abs(order) <= degree) & (degree >= abs(spin))


def random_alm(L, spin=0, batch=(), seed=0, real=False):
    rng = np.random.default_rng(seed)
    shape = (*batch, L, 2 * L - 1)
    alm = (rng.normal(size=shape) + 1j * rng.normal(size=shape)) * inside(L, spin)
    return hermitian(alm) if real else alm


def hermitian(alm):
    L = alm.shape[-2]
    return (alm + (-1.0) ** np.arange(1 - L, L) * alm[..., ::-1].conj()) / 2


def random_map(sht, batch=(), seed=1):
    rng = np.random.default_rng(seed)
    f = rng.normal(size=(*batch, *sht.grid.shape))
    return f if sht.real else f + 1j * rng.normal(size=f.shape)


def wigner_d(degree, m, n, theta):
    """Wigner's d by his explicit sum, with 50 digits."""
    with mpmath.workdps(50):
        cos, sin = mpmath.cos(theta / 2), mpmath.sin(theta / 2)
        factorial = mpmath.factorial
        total = mpmath.mpf(0)
        for k in range(max(0, n - m), min(degree + n, degree - m) + 1):
            below = factorial(degree + n - k) * factorial(k) * factorial(m - n + k) * factorial(degree - m - k)
            total += (-1) ** (m - n + k) * cos ** (2 * degree + n - m - 2 * k) * sin ** (m - n + 2 * k) / below
        squared = factorial(degree + m) * factorial(degree - m) * factorial(degree + n) * factorial(degree - n)
        return total * mpmath.sqrt(squared)


def spherical_harmonics(L, spin, theta):
    """sYlm at longitude 0, of shape (rings, L, 2 L - 1)."""
    out = np.zeros((len(theta), L, 2 * L - 1))
    for degree in range(abs(spin), L):
        norm = (-1) ** spin * mpmath.sqrt((2 * degree + 1) / (4 * mpmath.pi))
        for m in range(-degree, degree + 1):
            for t, angle in enumerate(theta):
                out[t, degree, L - 1 + m] = norm * wigner_d(degree, m, -spin, mpmath.mpf(angle))
    return out


CASES = [(1, 0), (2, 1), (8, 0), (7, 3), (12, -10), (12, 11)]


@pytest.mark.parametrize(("L", "spin"), CASES)
def test_synthesis_is_the_explicit_sum(L, spin):
    sht = pure(GaussLegendre(L), spin=spin)
    alm = random_alm(L, spin)
    phases = np.exp(1j * np.outer(np.arange(1 - L, L), sht.grid.phi))
    expected = np.einsum("tlm,lm,mp->tp", spherical_harmonics(L, spin, sht.grid.theta), alm, phases)
    np.testing.assert_allclose(sht.synthesis(alm), expected, atol=2e-14 * L)


def test_harmonics_are_those_of_mpmath():
    L = 6
    sht = pure(GaussLegendre(L))
    for degree, m in [(0, 0), (1, -1), (3, 2), (5, -5), (5, 4)]:
        alm = np.zeros((L, 2 * L - 1), complex)
        alm[degree, L - 1 + m] = 1
        f = sht.synthesis(alm)
        for t, p in [(0, 0), (2, 3), (5, 7)]:
            expected = mpmath.spherharm(degree, m, sht.grid.theta[t], sht.grid.phi[p])
            assert complex(f[t, p]) == pytest.approx(complex(expected), abs=1e-14)


def ducc_layout(alm, signs):
    """Dense (L, 2 L - 1) -> ducc0's triangle of m >= 0; `signs` turns them first."""
    L = alm.shape[-2]
    m = np.concatenate([np.full(L - k, k) for k in range(L)])
    degree = np.concatenate([np.arange(k, L) for k in range(L)])
    return signs * alm[..., degree, L - 1 + m]


def ducc_rings(grid):
    rings, longitudes = grid.shape
    return {
        "theta": grid.theta,
        "lmax": rings - 1,
        "nphi": np.full(rings, longitudes, np.uint64),
        "phi0": np.zeros(rings),
        "ringstart": np.arange(rings, dtype=np.uint64) * longitudes,
    }


@pytest.mark.parametrize("L", [64, 128])
def test_real_synthesis_is_that_of_ducc(L):
    sht = pure(GaussLegendre(L), real=True)
    alm = random_alm(L, real=True)
    expected = ducc0.sht.synthesis(alm=ducc_layout(alm, 1)[None], spin=0, **ducc_rings(sht.grid))
    f = sht.synthesis(alm)
    np.testing.assert_allclose(f.ravel(), expected[0], atol=1e-12 * float(abs(f).max()))


@pytest.mark.parametrize(("L", "spin"), [(64, 2), (64, 20), (128, 1)])
def test_spin_synthesis_is_that_of_ducc(L, spin):
    # A field of spin s from the coefficients E and B of two real fields: sa = -(E + i B), and of spin -s
    # -sa = -(-1)**s (E - i B); ducc0's two maps are the real and imaginary parts of the field of spin s.
    sht = pure(GaussLegendre(L), spin=spin)
    electric, magnetic = (random_alm(L, spin, seed=seed, real=True) for seed in (2, 3))
    pair = np.stack([ducc_layout(electric, 1), ducc_layout(magnetic, 1)])
    expected = ducc0.sht.synthesis(alm=pair, spin=spin, **ducc_rings(sht.grid))
    f = sht.synthesis(-(electric + 1j * magnetic)).ravel()
    np.testing.assert_allclose(f, expected[0] + 1j * expected[1], atol=1e-12 * float(abs(f).max()))


@pytest.mark.parametrize(
    ("L", "spin", "real"),
    [
        (2, 0, False),
        (64, -9, False),
        (129, 0, True),
        pytest.param(256, 2, False, marks=pytest.mark.slow),
        pytest.param(512, 0, True, marks=pytest.mark.slow),
        pytest.param(512, 30, False, marks=pytest.mark.slow),
    ],
)
def test_round_trip(L, spin, real):
    sht = pure(GaussLegendre(L), spin=spin, real=real)
    alm = random_alm(L, spin, real=real)
    back = sht.inverse(sht(alm))
    assert float(abs(back - alm).max() / abs(alm).max()) < 1e-13


def test_bandlimit_below_the_grids():
    L, spin, grid = 9, 3, GaussLegendre(14)
    alm = random_alm(L, spin)
    padded = np.zeros((14, 27), complex)
    padded[:L, 14 - L : 13 + L] = alm
    small = pure(grid, L=L, spin=spin)
    f = small.synthesis(alm)
    np.testing.assert_allclose(f, pure(grid, spin=spin).synthesis(padded), atol=1e-13)
    np.testing.assert_allclose(small.analysis(f), alm, atol=1e-13)


def test_orders_whose_functions_underflow():
    # sin(theta)**1299 is below 1e-308 on a third of the rings, and on others has to come back from there. All norms
    # are 1 by orthonormality; what is lost would be missed in them, and orders with no coefficient must give nothing.
    L = 1300
    grid = GaussLegendre(L)
    pairs = [(1299, 1299), (1290, 1200), (1299, 900), (751, 750), (1299, 0)]
    lanes = np.zeros((len(pairs) + 1, L, 1))
    for lane, (degree, m) in zip(lanes, pairs, strict=False):
        lane[degree - m] = 1.0
    orders = jnp.array([*(m for _, m in pairs), 7])
    rings = np.asarray(synthesise_lanes(jnp.asarray(lanes), Rings("gauss-legendre", L), L, 0, orders))[:, :, 0]
    norms = 2 * (rings**2 * grid.weights[: L // 2]).sum(axis=(1, 2)) * (2 * L - 1)
    np.testing.assert_allclose(norms, [1, 1, 1, 1, 1, 0], atol=1e-12)


def test_parseval():
    sht = pure(GaussLegendre(12), spin=2)
    alm = random_alm(12, 2)
    energy = (abs(sht.synthesis(alm)) ** 2 * sht.grid.weights[:, None]).sum()
    assert float(energy) == pytest.approx((abs(alm) ** 2).sum(), rel=1e-13)


SHTS = [
    pure(GaussLegendre(8)),
    pure(GaussLegendre(8), real=True),
    pure(GaussLegendre(9), L=7, spin=-5),
    pure(GaussLegendre(1), real=True),
]


def product(a, b):
    return float(jnp.vdot(a, b).real)


@pytest.mark.parametrize("sht", SHTS[1:], ids=str)
def test_adjoints(sht):
    # Any dense array: what is no coefficient must be ignored on both sides.
    rng = np.random.default_rng(5)
    shape = sht.in_structure().shape
    alm = rng.normal(size=shape) + 1j * rng.normal(size=shape)
    f = random_map(sht)
    size = np.linalg.norm(alm) * np.linalg.norm(f)
    assert abs(product(sht(alm), f) - product(alm, sht.adjoint(f))) < 1e-13 * size
    assert abs(product(sht.analysis(f), alm) - product(f, sht.adjoint_analysis(alm))) < 1e-13 * size
    _, pullback = jax.vjp(sht.synthesis, jnp.asarray(alm))
    # JAX's cotangents are conjugated.
    np.testing.assert_allclose(pullback(jnp.conj(f))[0].conj(), sht.adjoint_synthesis(f), atol=1e-12)
    transposed = jax.linear_transpose(sht.analysis, jnp.asarray(f))
    np.testing.assert_allclose(transposed(jnp.conj(alm))[0].conj(), sht.adjoint_analysis(alm), atol=1e-12)


@pytest.mark.parametrize(("sht", "order"), [(SHTS[2], 1), pytest.param(SHTS[1], 2, marks=pytest.mark.slow)], ids=str)
def test_derivatives(sht, order):
    alm = jnp.asarray(random_alm(sht.L, sht.spin, real=sht.real))
    tangent = jnp.asarray(random_alm(sht.L, sht.spin, seed=9, real=sht.real))
    _, derivative = jax.jvp(sht.synthesis, (alm,), (tangent,))
    np.testing.assert_allclose(derivative, sht.synthesis(tangent), atol=1e-12)

    def cubic(f):
        return (abs(sht.synthesis(sht.analysis(f) ** 2)) ** 2).sum()

    check_grads(jax.jit(cubic), (jnp.asarray(random_map(sht)) / 10,), order=order, modes=["fwd", "rev"], rtol=1e-5)


@pytest.mark.parametrize("sht", SHTS[1:3], ids=str)
def test_batches(sht):
    alm = jnp.asarray(random_alm(sht.L, sht.spin, batch=(2, 6), real=sht.real))
    f = sht.synthesis(alm)
    assert f.shape == (2, 6, *sht.grid.shape)
    # Twelve maps of two columns or more are above, and one map is below, where sums turn into matrix products.
    one_by_one = jnp.stack([jnp.stack([sht.synthesis(x) for x in row]) for row in alm])
    np.testing.assert_allclose(f, one_by_one, atol=1e-12)
    back = sht.analysis(f)
    np.testing.assert_allclose(back, alm, atol=1e-12)


def test_transformations_of_batches():
    sht = SHTS[2]
    alm = jnp.asarray(random_alm(sht.L, sht.spin, batch=(2, 3)))
    f = sht.synthesis(alm)
    back = sht.analysis(f)
    np.testing.assert_allclose(jax.vmap(sht.synthesis, 1, 1)(alm), f, atol=1e-12)
    np.testing.assert_allclose(jax.vmap(sht.analysis)(f), back, atol=1e-12)
    gradient = jax.grad(lambda f: (abs(sht.analysis(f)) ** 2).sum())
    np.testing.assert_allclose(jax.vmap(gradient)(f[0])[3], gradient(f[0, 3]), atol=1e-12)


@pytest.mark.parametrize("backend", ["jax", "table"])
def test_batches_of_nothing(backend):
    for sht in (SHT(GaussLegendre(5), real=True, backend=backend), SHT(GaussLegendre(5), spin=2, backend=backend)):
        alm, f = np.zeros((3, 0, 5, 9), complex), np.zeros((0, 5, 9), sht.out_structure().dtype)
        for operation in (sht.synthesis, sht.adjoint_analysis):
            out = operation(alm)
            assert (out.shape, out.dtype) == ((3, 0, 5, 9), f.dtype)
        for operation in (sht.analysis, sht.adjoint_synthesis):
            out = operation(f)
            assert (out.shape, out.dtype) == ((0, 5, 9), alm.dtype)


def test_arrays_in_the_other_order_of_bytes():
    sht = pure(GaussLegendre(5), real=True)
    f = random_map(sht)
    np.testing.assert_array_equal(sht.analysis(f.astype(f.dtype.newbyteorder())), sht.analysis(f))


def test_traced_once_for_equal_transforms():
    traces = []

    @jax.jit
    def twice(sht, alm):
        traces.append(sht)
        return sht.synthesis(alm) * 2

    alm = random_alm(8)
    first = twice(pure(GaussLegendre(8)), alm)
    np.testing.assert_array_equal(twice(pure(GaussLegendre(8)), alm), first)
    assert len(traces) == 1
    twice(pure(GaussLegendre(8), real=True), alm)
    assert len(traces) == 2


def test_real_transform_takes_the_real_part():
    sht = pure(GaussLegendre(8), real=True)
    alm = random_alm(8)
    np.testing.assert_allclose(sht.synthesis(alm), pure(sht.grid).synthesis(alm).real, atol=1e-13)
    out = np.asarray(sht.analysis(random_map(sht)))
    np.testing.assert_array_equal(hermitian(out), out)
    assert not out[~inside(8)].any()


@pytest.mark.parametrize("sht", SHTS[1:3], ids=str)
def test_opnorm(sht):
    assert isinstance(sht, Transform)
    shape = sht.in_structure().shape
    columns = jnp.eye(np.prod(shape)).reshape(-1, *shape)
    matrix = np.concatenate([sht(columns), sht(1j * columns)]).reshape(2 * np.prod(shape), -1)
    matrix = np.concatenate([matrix.real, matrix.imag], axis=1)
    exact = np.linalg.norm(matrix, 2)
    assert exact * (1 - 1e-9) <= sht.opnorm() <= exact * 1.001
    assert sht.in_structure().dtype == np.complex128
    assert sht.out_structure().shape == sht.grid.shape


@pytest.mark.parametrize("mode", ["x64 on", "x64 off"])
@pytest.mark.parametrize("spin", [0, pytest.param(2, marks=pytest.mark.exhaustive)])
@pytest.mark.parametrize("L", [65, pytest.param(512, marks=pytest.mark.exhaustive)])
def test_float32(L, spin, mode):
    sht = pure(GaussLegendre(L), spin=spin)
    alm = random_alm(L, spin)
    exact = np.asarray(sht.synthesis(alm))
    with jax.enable_x64(mode == "x64 on"):
        f = sht.synthesis(alm.astype(np.complex64))
        back = sht.analysis(f)
        assert f.dtype == np.complex64
        assert back.dtype == np.complex64
        assert float(abs(np.asarray(f) - exact).max()) < 1e-6 * abs(exact).max()
        assert float(abs(np.asarray(back) - alm).max()) < 1e-6 * abs(alm).max()


def test_float32_of_a_real_map_where_there_is_no_float64():
    sht = pure(GaussLegendre(128), real=True)
    x = np.random.default_rng(0).normal(size=128**2)
    exact = np.asarray(sht.synthesis(alm_from_real(x)))
    with jax.enable_x64(False):
        f = sht.synthesis(alm_from_real(x.astype(np.float32)))
        assert f.dtype == np.float32
        assert float(abs(np.asarray(f) - exact).max()) < 1e-6 * abs(exact).max()


def test_bad_arguments():
    grid = GaussLegendre(8)
    for kwargs, message in [
        ({"spin": 8}, "spin=8: a spin at the bandlimit L=8 is an integer from -7 to 7"),
        ({"spin": 1.0}, "spin=1.0"),
        ({"L": 9}, "L=9: the bandlimit on GaussLegendre"),
        ({"L": 0}, "L=0"),
        ({"L": 3, "spin": -3}, "spin=-3"),
        ({"spin": 2, "real": True}, "real=True with spin=2"),
        ({"real": None}, "real=None"),
    ]:
        with pytest.raises(ValueError, match=message):
            SHT(grid, **kwargs)
    with pytest.raises(ValueError, match="grid=8"):
        SHT(8)
    for L in (0, -1, 2.0, True, "8"):
        with pytest.raises(ValueError, match="bandlimit of a grid"):
            GaussLegendre(L)


def test_bad_arrays():
    sht, real = pure(GaussLegendre(8)), pure(GaussLegendre(8), real=True)
    with pytest.raises(ValueError, match=r"alm has shape \(8, 8\): \(..., 8, 15\) is needed"):
        sht.synthesis(np.zeros((8, 8), complex))
    with pytest.raises(ValueError, match=r"f has shape \(15,\): \(..., 8, 15\)"):
        sht.analysis(np.zeros(15))
    with pytest.raises(ValueError, match=r"f is complex128, and this is real: pass f\.real"):
        real.analysis(np.zeros((8, 15), complex))
    with pytest.raises(ValueError, match="f is float16"):
        real.analysis(jnp.zeros((8, 15), jnp.float16))
    with pytest.raises(ValueError, match="f is bfloat16"):
        real.adjoint_synthesis(jnp.zeros((8, 15), jnp.bfloat16))
    with pytest.raises(ValueError, match="f is int64"):
        real.analysis(np.zeros((8, 15), np.int64))
    with jax.enable_x64(False), pytest.raises(ValueError, match=r"numpyro\.enable_x64\(\)"):
        real.analysis(np.zeros((8, 15)))


@pytest.mark.parametrize("L", [1, 2, 5, 32, 129])
def test_grid_is_that_of_ducc(L):
    grid = GaussLegendre(L)
    np.testing.assert_allclose(grid.theta, ducc0.misc.GL_thetas(L), rtol=0, atol=1e-15)
    np.testing.assert_allclose(grid.weights, ducc0.misc.GL_weights(L, 2 * L - 1), rtol=1e-14)
    assert grid.weights.sum() * (2 * L - 1) == pytest.approx(4 * np.pi, rel=1e-14)
    assert hash(grid) == hash(GaussLegendre(L))
    assert grid.phi.shape == grid.shape[1:]
