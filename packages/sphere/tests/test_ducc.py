"""The transforms of ducc0 against explicit sums, against the JAX ones, and their own laws."""

from concurrent.futures import ThreadPoolExecutor

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import gammaln

from armillary.sphere import (
    SHT,
    ClenshawCurtis,
    DriscollHealy,
    GaussLegendre,
    Healpix,
    McEwenWiaux,
    McEwenWiauxSS,
    _ducc,
)

pytest.importorskip("jaxbind", reason="the ducc backend needs jaxbind")
pytest.importorskip("ducc0", reason="the ducc backend needs ducc0")
pytestmark = pytest.mark.usefixtures("x64", "quick_compilation")

TO_MAP = ("synthesis", "adjoint_analysis")
FROM_MAP = ("adjoint_synthesis", "analysis")


def dense(L, batch=(), seed=0):
    """Any numbers in all entries, those among them that are no coefficients."""
    rng = np.random.default_rng(seed)
    shape = (*batch, L, 2 * L - 1)
    return jnp.asarray(rng.normal(size=shape) + 1j * rng.normal(size=shape))


def random_map(sht, batch=(), seed=1):
    rng = np.random.default_rng(seed)
    f = rng.normal(size=(*batch, *sht.grid.shape))
    return jnp.asarray(f if sht.real else f + 1j * rng.normal(size=f.shape))


def argument(sht, operation, batch=(), seed=2):
    return dense(sht.L, batch, seed) if operation in TO_MAP else random_map(sht, batch, seed)


def inside(L, spin):
    degree, order = np.arange(L)[:, None], np.arange(1 - L, L)
    return (abs(order) <= degree) & (degree >= abs(spin))


def harmonics(sht):
    """The matrix (points, L, 2 L - 1) of sYlm, by Wigner's sum: exact enough at a low bandlimit."""
    L, spin = sht.L, sht.spin
    theta, phi = (x.ravel() for x in sht.grid.points)
    angles, inverse = np.unique(theta, return_inverse=True)
    cos, sin = np.cos(angles / 2), np.sin(angles / 2)
    out = np.zeros((len(angles), L, 2 * L - 1))
    n = -spin
    for degree in range(abs(spin), L):
        for m in range(-degree, degree + 1):
            root = gammaln([degree + m + 1, degree - m + 1, degree + n + 1, degree - n + 1]).sum() / 2
            for k in range(max(0, n - m), min(degree + n, degree - m) + 1):
                below = gammaln([degree + n - k + 1, k + 1, m - n + k + 1, degree - m - k + 1]).sum()
                size = (-1) ** (m - n + k) * np.exp(root - below)
                out[:, degree, L - 1 + m] += size * cos ** (2 * degree + n - m - 2 * k) * sin ** (m - n + 2 * k)
        out[:, degree] *= (-1) ** spin * np.sqrt((2 * degree + 1) / (4 * np.pi))
    return out[inverse] * np.exp(1j * np.outer(phi, np.arange(1 - L, L)))[:, None]


def assert_same(found, expected):
    """Equal to rounding: the order in which ducc0 sums depends on where arrays are in memory."""
    scale = float(abs(expected).max())
    np.testing.assert_allclose(found, expected, rtol=0, atol=30 * np.finfo(expected.dtype).eps * scale)


def test_found_without_importing():
    assert _ducc.available()


GRIDS = [
    GaussLegendre(6),
    McEwenWiaux(6),
    McEwenWiauxSS(6),
    DriscollHealy(6),
    ClenshawCurtis(6),
    ClenshawCurtis(6, 9, 15),
    Healpix(2),
]


@pytest.mark.parametrize(("spin", "real"), [(0, True), (0, False), (1, False), (2, False), (-2, False), (-3, False)])
@pytest.mark.parametrize("L", [6, 5])
@pytest.mark.parametrize("grid", GRIDS, ids=str)
def test_explicit_sums(grid, L, spin, real):
    sht = SHT(grid, L=L, spin=spin, real=real)
    matrix = harmonics(sht)
    alm, f = dense(L), random_map(sht)
    expected = np.einsum("plm,lm->p", matrix, alm).reshape(grid.shape)
    expected = expected.real if real else expected
    np.testing.assert_allclose(_ducc.synthesis(sht, alm[None])[0], expected, atol=1e-12)
    expected_alm = np.einsum("plm,p->lm", matrix.conj(), f.ravel())
    found = np.asarray(_ducc.adjoint_synthesis(sht, f[None])[0])
    np.testing.assert_allclose(found, expected_alm, atol=1e-12)
    assert not found[~inside(L, spin)].any()
    if not isinstance(grid, Healpix):
        back = np.asarray(_ducc.analysis(sht, jnp.asarray(expected)[None])[0])
        wanted = np.where(inside(L, spin), alm, 0)
        if real:
            wanted = (wanted + (-1.0) ** np.arange(1 - L, L) * wanted[:, ::-1].conj()) / 2
        np.testing.assert_allclose(back, wanted, atol=1e-13)
        assert not back[~inside(L, spin)].any()


SMALLEST = [GaussLegendre(1), McEwenWiaux(1), McEwenWiauxSS(1), DriscollHealy(1), ClenshawCurtis(1), Healpix(1)]


@pytest.mark.parametrize("real", [True, False])
@pytest.mark.parametrize("grid", SMALLEST, ids=str)
def test_a_constant(grid, real):
    sht = SHT(grid, L=1, real=real)
    f = _ducc.synthesis(sht, jnp.full((1, 1, 1), np.sqrt(4 * np.pi) + 0j))
    np.testing.assert_allclose(f, np.ones((1, *grid.shape)), rtol=1e-14)
    if not isinstance(grid, Healpix):
        np.testing.assert_allclose(_ducc.analysis(sht, f), np.full((1, 1, 1), np.sqrt(4 * np.pi)), rtol=1e-14)


SHTS = [
    SHT(GaussLegendre(8), real=True),
    SHT(GaussLegendre(9), L=7, spin=-5),
    SHT(GaussLegendre(70), L=69),
    SHT(GaussLegendre(130), real=True),
    SHT(GaussLegendre(70), spin=1),
    SHT(GaussLegendre(65), spin=2),
    SHT(GaussLegendre(65), spin=-2),
    SHT(GaussLegendre(40), L=33, spin=20),
    SHT(DriscollHealy(9), spin=-1),
    SHT(McEwenWiaux(8), spin=2),
    SHT(McEwenWiauxSS(7), real=True),
    SHT(ClenshawCurtis(8, 12, 21), L=6, spin=-2),
    SHT(Healpix(4), L=12, real=True),
    SHT(Healpix(2), L=7, spin=2),
]


def operations(sht):
    return ("synthesis", "adjoint_synthesis") if isinstance(sht.grid, Healpix) else (*TO_MAP, *FROM_MAP)


CASES = [(sht, operation) for sht in SHTS for operation in operations(sht)]


# The transforms that this is compared with take a second each to compile.
QUICK = [(SHTS[0], "analysis"), (SHTS[1], "synthesis")]
COMPARED = [
    pytest.param(sht, operation, marks=[] if (sht, operation) in QUICK else pytest.mark.exhaustive)
    for sht, operation in CASES
    if isinstance(sht.grid, GaussLegendre)
]


@pytest.mark.parametrize(("sht", "operation"), COMPARED)
def test_the_jax_transforms_agree(sht, operation):
    def jax_transform(x):
        return getattr(SHT(sht.grid, sht.L, sht.spin, sht.real, backend="jax"), operation)(x)

    def ducc_transform(x):
        return getattr(_ducc, operation)(sht, x)

    x = argument(sht, operation, batch=(2,))
    expected, found = jax_transform(x), ducc_transform(x)
    assert found.dtype == expected.dtype
    np.testing.assert_allclose(found, expected, atol=3e-13 * float(abs(expected).max()))
    cotangent = random_map(sht, (2,)) if operation in TO_MAP else dense(sht.L, (2,))
    (expected,) = jax.linear_transpose(jax_transform, x)(cotangent)
    (found,) = jax.linear_transpose(ducc_transform, x)(cotangent)
    assert found.dtype == expected.dtype
    np.testing.assert_allclose(found, expected, atol=3e-13 * float(abs(expected).max()))


def product(a, b):
    return float(jnp.vdot(a, b).real)


@pytest.mark.parametrize("sht", SHTS, ids=str)
def test_adjoints(sht):
    alm, f = dense(sht.L, (1,)), random_map(sht, (1,))
    size = np.linalg.norm(alm) * np.linalg.norm(f)
    forward = product(_ducc.synthesis(sht, alm), f)
    assert abs(forward - product(alm, _ducc.adjoint_synthesis(sht, f))) < 1e-13 * size
    assert abs(forward) > 1e-6 * size
    if not isinstance(sht.grid, Healpix):
        forward = product(_ducc.analysis(sht, f), alm)
        assert abs(forward - product(f, _ducc.adjoint_analysis(sht, alm))) < 1e-13 * size


# They turn on the sign of the spin, on whether maps are real, and on the layout of the rings.
DIFFERENTIATED = [SHTS[0], SHTS[1], SHTS[2], SHTS[8], SHTS[-2], SHTS[-1]]


@pytest.mark.parametrize(
    ("sht", "operation"),
    [
        pytest.param(sht, operation, marks=() if sht in DIFFERENTIATED else pytest.mark.exhaustive)
        for sht, operation in CASES
    ],
)
def test_derivatives(sht, operation):
    # The operations are linear, and their transposes are the adjoints without conjugation.
    adjoint = {"synthesis": "adjoint_synthesis", "analysis": "adjoint_analysis"}
    adjoint |= {value: key for key, value in adjoint.items()}

    def transform(x):
        return getattr(_ducc, operation)(sht, x)

    x, tangent = argument(sht, operation, (1,)), argument(sht, operation, (1,), seed=5)
    y, derivative = jax.jvp(transform, (x,), (tangent,))
    assert_same(y, transform(x))
    assert_same(derivative, transform(tangent))
    cotangent = argument(sht, adjoint[operation], (1,), seed=6)
    expected = getattr(_ducc, adjoint[operation])(sht, cotangent)
    _, pullback = jax.vjp(transform, x)
    (found,) = pullback(jnp.conj(cotangent))
    scale = float(abs(expected).max())
    np.testing.assert_allclose(found.conj(), expected, atol=1e-13 * scale)
    (transposed,) = jax.linear_transpose(transform, x)(jnp.conj(cotangent))
    assert_same(transposed, found)
    # A transpose of the transpose is the operation.
    (again,) = jax.linear_transpose(lambda c: jax.linear_transpose(transform, x)(c)[0], cotangent)(x)
    np.testing.assert_allclose(again, y, atol=1e-13 * float(abs(y).max()))


BATCHED = [SHTS[0], SHTS[1], SHTS[-1]]


@pytest.mark.parametrize(("sht", "operation"), [(sht, operation) for sht in BATCHED for operation in operations(sht)])
def test_batches(sht, operation):
    def transform(x):
        return getattr(_ducc, operation)(sht, x)

    x = argument(sht, operation, batch=(5, 3, 2))
    one_by_one = jnp.stack([jnp.stack([transform(one) for one in row]) for row in x])
    flat = transform(x.reshape(-1, *x.shape[3:]))
    assert_same(flat.reshape(one_by_one.shape), one_by_one)
    assert_same(jax.jit(jax.vmap(jax.vmap(transform)))(x), one_by_one)
    _, scanned = jax.lax.scan(lambda carry, row: (carry, jax.vmap(transform)(row)), 0, x)
    assert_same(scanned, one_by_one)
    # Transposes have to see batch axes where `vmap` put them: the outer one last, the inner one anywhere.
    inner = {"synthesis": 0, "adjoint_synthesis": 1, "analysis": 2, "adjoint_analysis": 1}[operation]
    moved = jnp.moveaxis(jnp.moveaxis(x, 0, -1), 0, inner)
    mapped = jax.vmap(jax.vmap(transform, inner), moved.ndim - 1)
    assert_same(mapped(moved), one_by_one)
    (expected,) = jax.linear_transpose(jax.vmap(jax.vmap(transform)), x)(one_by_one)
    (found,) = jax.linear_transpose(mapped, moved)(one_by_one)
    assert_same(jnp.moveaxis(jnp.moveaxis(found, inner, 0), -1, 0), expected)


@pytest.mark.parametrize("sht", [SHT(GaussLegendre(200), real=True), SHT(McEwenWiaux(100), spin=-2)], ids=str)
def test_float32(sht):
    alm = dense(sht.L, (1,))
    f = _ducc.synthesis(sht, alm)
    back = _ducc.analysis(sht, f)
    single = _ducc.synthesis(sht, alm.astype(np.complex64))
    assert single.dtype == (np.float32 if sht.real else np.complex64)
    np.testing.assert_allclose(single, f, atol=2e-6 * float(abs(f).max()))
    single_back = _ducc.analysis(sht, single)
    assert single_back.dtype == np.complex64
    np.testing.assert_allclose(single_back, back, atol=2e-6 * float(abs(back).max()))
    with jax.enable_x64(False):
        narrow = _ducc.synthesis(sht, jnp.asarray(alm, np.complex64))
        assert_same(narrow, single)


def test_calls_at_once():
    # Space is kept from call to call, and calls may overlap on XLA's threads.
    shts = [SHT(GaussLegendre(65), spin=2), SHT(GaussLegendre(64), spin=2), SHT(GaussLegendre(66), real=True)]
    pairs = [(sht, argument(sht, "adjoint_synthesis", (2,), seed)) for seed in range(4) for sht in shts]
    expected = [_ducc.analysis(sht, f) for sht, f in pairs]
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda pair: _ducc.analysis(*pair), pairs))
    for one, other in zip(found, expected, strict=True):
        assert_same(one, other)
