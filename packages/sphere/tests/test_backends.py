"""Every grid with every backend: the laws of the transform, its derivatives, and other libraries' numbers."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from armillary.sphere import (
    SHT,
    ClenshawCurtis,
    DriscollHealy,
    GaussLegendre,
    Healpix,
    McEwenWiaux,
    McEwenWiauxSS,
)

pytestmark = pytest.mark.usefixtures("x64", "quick_compilation")

L = 6
GRIDS = [
    GaussLegendre(L),
    McEwenWiaux(L),
    McEwenWiauxSS(L),
    DriscollHealy(L),
    ClenshawCurtis(L, 2 * L + 3, 2 * L + 2),
    Healpix(4),
]
BACKENDS = ["jax", "table", "pallas", "ducc"]
FIELDS = [(0, True), (0, False), (1, False), (2, False), (-3, False)]


def random_alm(L, spin, real, batch=(), seed=0):
    rng = np.random.default_rng(seed)
    shape = (*batch, L, 2 * L - 1)
    degree, order = np.arange(L)[:, None], np.arange(1 - L, L)
    alm = (rng.normal(size=shape) + 1j * rng.normal(size=shape)) * ((abs(order) <= degree) & (degree >= abs(spin)))
    return (alm + (-1.0) ** order * alm[..., ::-1].conj()) / 2 if real else alm


def random_map(sht, batch=(), seed=1):
    rng = np.random.default_rng(seed)
    shape = (*batch, *sht.grid.shape)
    return rng.normal(size=shape) + (0 if sht.real else 1j * rng.normal(size=shape))


@functools.cache
def harmonics(grid, L, spin):
    """sYlm at every point, of shape (L, 2 L - 1, *grid.shape), by the recurrence of Wigner's d in explicit sums."""
    theta, phi = grid.points
    out = np.zeros((L, 2 * L - 1, *grid.shape), complex)
    for degree in range(abs(spin), L):
        for m in range(-degree, degree + 1):
            d = wigner_d(degree, m, -spin, theta)
            out[degree, L - 1 + m] = (-1) ** spin * np.sqrt((2 * degree + 1) / (4 * np.pi)) * d * np.exp(1j * m * phi)
    return out


def wigner_d(degree, m, n, theta):
    """Wigner's explicit sum, which float64 bears at these degrees."""
    factorial = np.vectorize(lambda k: float(np.prod(np.arange(1, k + 1))))
    total = np.zeros_like(theta)
    for k in range(max(0, n - m), min(degree + n, degree - m) + 1):
        below = factorial(degree + n - k) * factorial(k) * factorial(m - n + k) * factorial(degree - m - k)
        powers = np.cos(theta / 2) ** (2 * degree + n - m - 2 * k) * np.sin(theta / 2) ** (m - n + 2 * k)
        total += (-1) ** (m - n + k) * powers / below
    return total * np.sqrt(np.prod([factorial(degree + sign * j) for j in (m, n) for sign in (1, -1)], axis=0))


def product(a, b):
    return float(jnp.vdot(a, b).real)


def transform(grid, field, backend):
    if backend == "ducc":
        pytest.importorskip("jaxbind")
    spin, real = field
    return SHT(grid, L=L, spin=spin, real=real, backend=backend)


def quick(grid, backend):
    """Backends that replace the Legendre stage alone are run by default on one grid of each kind of the other stages.

    Pallas' interpreter takes seconds to compile.
    """
    few = {"table": (GaussLegendre, McEwenWiaux, Healpix), "pallas": (GaussLegendre,)}
    return isinstance(grid, few.get(backend, type(grid)))


def cases():
    """All combinations; of those of a grid and a backend that are quick, one of the fields in turn is run by default.

    Of the others a seeded few are marked slow, and the rest exhaustive.
    """
    slow = set(np.random.default_rng(2026).permutation(len(GRIDS) * len(FIELDS) * len(BACKENDS))[:6].tolist())
    number = itertools.count()
    for (g, grid), (f, field), (b, backend) in itertools.product(*map(enumerate, (GRIDS, FIELDS, BACKENDS))):
        other = pytest.mark.slow if next(number) in slow else pytest.mark.exhaustive
        marks = () if (g + b) % len(FIELDS) == f and quick(grid, backend) else other
        yield pytest.param(grid, field, backend, marks=marks, id=f"{type(grid).__name__}-{field}-{backend}")


@pytest.mark.parametrize(("grid", "field", "backend"), list(cases()))
def test_numbers_and_adjoints(grid, field, backend):
    sht = transform(grid, field, backend)
    spin, real = field
    alm, f = random_alm(L, spin, real, (2,)), random_map(sht, (2,))
    synthesised, analysed = sht.synthesis(alm), sht.analysis(f)
    expected = np.einsum("blm,lm...->b...", alm, harmonics(grid, L, spin))
    np.testing.assert_allclose(synthesised, expected.real if real else expected, atol=1e-12)
    size = float(np.linalg.norm(alm) * np.linalg.norm(f))
    assert abs(product(synthesised, f) - product(alm, sht.adjoint_synthesis(f))) < 1e-12 * size
    assert abs(product(analysed, alm) - product(f, sht.adjoint_analysis(alm))) < 1e-12 * size
    if not isinstance(grid, Healpix):
        np.testing.assert_allclose(sht.analysis(synthesised), alm, atol=1e-12)


#: Derivatives are of the stages, and of the primitives of a backend: not of each pair of a grid and a backend.
DIFFERENTIATED = [
    (Healpix(4), (0, True), "jax"),
    (McEwenWiaux(L), (1, False), "table"),
    *((grid, FIELDS[(g + 3) % 5], "ducc") for g, grid in enumerate(GRIDS)),
    pytest.param(GaussLegendre(L), (1, False), "pallas", marks=pytest.mark.slow),
    *(pytest.param(grid, FIELDS[g % 5], "jax", marks=pytest.mark.exhaustive) for g, grid in enumerate(GRIDS)),
]


@pytest.mark.parametrize(("grid", "field", "backend"), DIFFERENTIATED, ids=str)
def test_derivatives_and_batches(grid, field, backend):
    sht = transform(grid, field, backend)
    spin, real = field
    alm, other = (jnp.asarray(random_alm(L, spin, real, (2,), seed)) for seed in (0, 1))
    f = jnp.asarray(random_map(sht, (2,)))

    @jax.jit
    def derived(alm, other, f):
        synthesised, tangent = jax.jvp(sht.synthesis, (alm,), (other,))
        _, pull = jax.vjp(sht.analysis, f)
        (transposed,) = jax.linear_transpose(sht.synthesis, alm)(f.conj())
        by_vmap = jax.vmap(sht.synthesis)(alm), jax.vmap(sht.analysis)(f)
        return tangent, transposed.conj(), pull(alm.conj())[0].conj(), synthesised, *by_vmap

    synthesised, analysed = sht.synthesis(alm), sht.analysis(f)
    expected = (
        sht.synthesis(other),
        sht.adjoint_synthesis(f),
        sht.adjoint_analysis(alm),
        synthesised,
        synthesised,
        analysed,
    )
    for one, two in zip(derived(alm, other, f), expected, strict=True):
        np.testing.assert_allclose(one, two, atol=1e-12)


@pytest.mark.parametrize(
    ("grid", "backend"),
    [
        (GaussLegendre(L), "ducc"),
        *(
            pytest.param(grid, backend, marks=pytest.mark.exhaustive)
            for grid, backend in itertools.product(GRIDS, ["jax", "table", "ducc"])
            if (type(grid), backend) != (GaussLegendre, "ducc")
        ),
    ],
    ids=str,
)
def test_second_derivatives(grid, backend):
    if backend == "ducc":
        pytest.importorskip("jaxbind")
    sht = SHT(grid, L=4, spin=1, backend=backend)

    def quartic(f):
        return (abs(sht.synthesis(sht.analysis(f) ** 2)) ** 2).sum()

    check_grads(jax.jit(quartic), (jnp.asarray(random_map(sht)) / 10,), order=2, modes=["fwd", "rev"], rtol=1e-5)


@pytest.mark.parametrize(
    ("grid", "backend"),
    [
        pytest.param(grid, backend, marks=() if quick(grid, backend) else pytest.mark.exhaustive)
        for grid, backend in itertools.product(GRIDS, BACKENDS)
    ],
    ids=str,
)
def test_float32_stays_float32(grid, backend):
    sht = transform(grid, (2, False), backend)
    alm = random_alm(L, 2, False).astype(np.complex64)
    f = sht.synthesis(alm)
    back = sht.analysis(f)
    assert (f.dtype, back.dtype) == (np.complex64, np.complex64)
    exact = np.einsum("lm,lm...->...", alm, harmonics(grid, L, 2))
    np.testing.assert_allclose(f, exact, atol=3e-6)
    if not isinstance(grid, Healpix):
        np.testing.assert_allclose(back, alm, atol=3e-6)


@pytest.mark.parametrize("backend", ["jax", "ducc"])
@pytest.mark.parametrize("grid", GRIDS[:-1], ids=repr)
def test_analysis_below_the_bandlimit_of_the_grid_does_not_alias(grid, backend):
    """A map with power up to the grid's bandlimit, analysed to a lower one: the first of its coefficients."""
    if backend == "ducc":
        pytest.importorskip("jaxbind")
    low = 3
    alm = jnp.asarray(random_alm(L, 2, False))
    f = SHT(grid, spin=2, backend="jax").synthesis(alm)
    sht = SHT(grid, low, spin=2, backend=backend)
    first = alm[:low, L - low : L + low - 1]
    np.testing.assert_allclose(sht.analysis(f), first, atol=1e-13)
    y = jnp.asarray(random_alm(low, 2, False, seed=2))
    np.testing.assert_allclose(product(sht.adjoint_analysis(y), f), product(y, first), rtol=1e-12)
