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


def cases():
    """All combinations; every grid with every backend is run by default, with one of the fields in turn.

    Of the others a seeded dozen is marked slow, and the rest exhaustive.
    """
    slow = set(np.random.default_rng(2026).permutation(len(GRIDS) * len(FIELDS) * len(BACKENDS))[:12].tolist())
    number = itertools.count()
    for (g, grid), (f, field), (b, backend) in itertools.product(*map(enumerate, (GRIDS, FIELDS, BACKENDS))):
        other = pytest.mark.slow if next(number) in slow else pytest.mark.exhaustive
        marks = () if (g + b) % len(FIELDS) == f else other
        yield pytest.param(grid, field, backend, marks=marks, id=f"{type(grid).__name__}-{field}-{backend}")


@pytest.mark.parametrize(("grid", "field", "backend"), list(cases()))
def test_laws(grid, field, backend):
    spin, real = field
    if backend == "ducc":
        pytest.importorskip("jaxbind")
    sht = SHT(grid, L=L, spin=spin, real=real, backend=backend)
    alm, other = (jnp.asarray(random_alm(L, spin, real, (2,), seed)) for seed in (0, 1))
    f = jnp.asarray(random_map(sht, (2,)))

    @jax.jit
    def everything(alm, other, f):
        synthesised, tangent = jax.jvp(sht.synthesis, (alm,), (other,))
        analysed, pull = jax.vjp(sht.analysis, f)
        (transposed,) = jax.linear_transpose(sht.synthesis, alm)(f.conj())
        return {
            "synthesis": synthesised,
            "tangent": (tangent, sht.synthesis(other)),
            "analysis": analysed,
            "round": sht.analysis(synthesised),
            "adjoint_synthesis": (transposed.conj(), sht.adjoint_synthesis(f)),
            "adjoint_analysis": (pull(alm.conj())[0].conj(), sht.adjoint_analysis(alm)),
            "vmap": (jax.vmap(sht.synthesis)(alm), jax.vmap(sht.analysis)(f)),
        }

    got = everything(alm, other, f)
    expected = np.einsum("blm,lm...->b...", alm, harmonics(grid, L, spin))
    np.testing.assert_allclose(got["synthesis"], expected.real if real else expected, atol=1e-12)
    for name in ("tangent", "adjoint_synthesis", "adjoint_analysis"):
        np.testing.assert_allclose(*got[name], atol=1e-12, err_msg=name)
    np.testing.assert_allclose(got["vmap"][0], got["synthesis"], atol=1e-12)
    np.testing.assert_allclose(got["vmap"][1], got["analysis"], atol=1e-12)
    size = float(jnp.linalg.norm(alm) * jnp.linalg.norm(f))
    assert abs(product(got["synthesis"], f) - product(alm, got["adjoint_synthesis"][1])) < 1e-12 * size
    assert abs(product(got["analysis"], alm) - product(f, got["adjoint_analysis"][1])) < 1e-12 * size
    if not isinstance(grid, Healpix):
        np.testing.assert_allclose(got["round"], alm, atol=1e-12)


@pytest.mark.parametrize(
    ("grid", "backend"),
    [
        pytest.param(
            grid, backend, marks=() if quick else pytest.mark.exhaustive, id=f"{type(grid).__name__}-{backend}"
        )
        for (g, grid), (b, backend) in itertools.product(enumerate(GRIDS), enumerate(["jax", "table", "ducc"]))
        for quick in [g % 3 == 0 and b == 2 - g // 3 * 2]
    ],
)
def test_second_derivatives(grid, backend):
    if backend == "ducc":
        pytest.importorskip("jaxbind")
    sht = SHT(grid, L=4, spin=1, backend=backend)

    def quartic(f):
        return (abs(sht.synthesis(sht.analysis(f) ** 2)) ** 2).sum()

    check_grads(jax.jit(quartic), (jnp.asarray(random_map(sht)) / 10,), order=2, modes=["fwd", "rev"], rtol=1e-5)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("grid", GRIDS, ids=lambda grid: type(grid).__name__)
def test_float32_stays_float32(grid, backend):
    if backend == "ducc":
        pytest.importorskip("jaxbind")
    sht = SHT(grid, L=L, spin=2, backend=backend)
    alm = random_alm(L, 2, False).astype(np.complex64)
    f = sht.synthesis(alm)
    back = sht.analysis(f)
    assert (f.dtype, back.dtype) == (np.complex64, np.complex64)
    exact = np.einsum("lm,lm...->...", alm, harmonics(grid, L, 2))
    np.testing.assert_allclose(f, exact, atol=3e-6)
    if not isinstance(grid, Healpix):
        np.testing.assert_allclose(back, alm, atol=3e-6)
