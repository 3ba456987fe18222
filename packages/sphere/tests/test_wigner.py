"""The Wigner transform against explicit sums, and the laws of the transforms."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from armillary.core.testing import Case, check_transform
from armillary.sphere import DriscollHealy, GaussLegendre, Healpix, McEwenWiaux, McEwenWiauxSS, WignerTransform

pytestmark = pytest.mark.usefixtures("quick_compilation")

#: Grids, and whether functions are real: of all pairs those that are not slow.
GRIDS = [
    (GaussLegendre(16), False),
    (GaussLegendre(16), True),
    (McEwenWiaux(16), False),
    (McEwenWiauxSS(16), True),
    (DriscollHealy(16), False),
    *(
        pytest.param(grid, real, marks=pytest.mark.exhaustive)
        for grid, real in ((McEwenWiaux(16), True), (McEwenWiauxSS(16), False), (DriscollHealy(16), True))
    ),
]


def coefficients(L, N, seed=0, real=False, batch=()):
    """Of all entries that there are; with `real`, of a real function."""
    rng = np.random.default_rng(seed)
    shape = (*batch, 2 * N - 1, L, 2 * L - 1)
    flmn = rng.normal(size=shape) + 1j * rng.normal(size=shape)
    n, degree, m = np.ogrid[1 - N : N, :L, 1 - L : L]
    flmn = flmn * ((abs(m) <= degree) & (abs(n) <= degree))
    if real:
        flmn = (flmn + (-1.0) ** (n + m) * flmn[..., ::-1, :, ::-1].conj()) / 2
    return flmn


def function(so3, seed=0):
    rng = np.random.default_rng(seed)
    shape = so3.out_structure().shape
    f = rng.normal(size=shape)
    return f if so3.real else f + 1j * rng.normal(size=shape)


def wigner_d(L, theta):
    """d^l_mn(theta) at [l][m + l, n + l], as exponentials of the generator of rotations about y."""
    out = []
    for degree in range(L):
        m = np.arange(-degree, degree)
        step = np.sqrt(degree * (degree + 1) - m * (m + 1)) / 2
        generator = np.diag(-1j * step, -1) + np.diag(1j * step, 1)
        values, vectors = np.linalg.eigh(generator)
        out.append(((vectors * np.exp(-1j * theta * values)) @ vectors.conj().T).real)
    return out


@pytest.mark.parametrize(("N", "backend"), [(2, "jax"), (1, "ducc"), (16, "ducc")])
def test_synthesis_is_the_explicit_sum(x64, N, backend):
    L = 16
    so3 = WignerTransform(L, N, backend=backend)
    flmn = coefficients(L, N)
    f = np.asarray(so3.synthesis(flmn))
    n, m = np.arange(1 - N, N), np.arange(1 - L, L)
    gamma = 2 * np.pi * np.arange(2 * N - 1) / (2 * N - 1)
    for ring in (0, 5, 11):
        total = np.zeros((2 * N - 1, 2 * L - 1), complex)
        for degree, d in enumerate(wigner_d(L, so3.grid.theta[ring])):
            inside = abs(m) <= degree
            for k in np.flatnonzero(abs(n) <= degree):
                d_star = d[m[inside] + degree, n[k] + degree] * np.exp(1j * np.outer(so3.grid.phi, m[inside]))
                at_alpha = d_star @ flmn[k, degree, inside]
                total += (2 * degree + 1) / (8 * np.pi**2) * np.exp(1j * n[k] * gamma)[:, None] * at_alpha
        np.testing.assert_allclose(f[:, ring], total, atol=1e-13 * abs(total).max())


@pytest.mark.parametrize(("grid", "real"), GRIDS, ids=str)
def test_round_trip_on_every_grid(x64, grid, real):
    so3 = WignerTransform(16, 5, grid, real)
    flmn = coefficients(16, 5, real=real)
    f = so3.synthesis(flmn)
    assert f.shape == (9, *grid.shape)
    assert f.dtype == (np.float64 if real else np.complex128)
    np.testing.assert_allclose(so3.analysis(f), flmn, atol=1e-13)


@pytest.mark.parametrize("N", [8, pytest.param(32, marks=pytest.mark.slow)])
def test_round_trip_with_many_directions(x64, N):
    so3 = WignerTransform(128, N, backend="ducc")
    flmn = coefficients(128, N)
    error = np.linalg.norm(so3.analysis(so3.synthesis(flmn)) - flmn) / np.linalg.norm(flmn)
    assert error < 1e-12


def test_round_trip_at_the_bandlimit_in_jax(x64):
    so3 = WignerTransform(2, 2, real=True, backend="jax")
    flmn = coefficients(2, 2, real=True)
    np.testing.assert_allclose(so3.analysis(so3.synthesis(flmn)), flmn, atol=1e-13)


def test_real_is_the_real_part(x64):
    flmn = coefficients(12, 4)
    f = WignerTransform(12, 4).synthesis(flmn)
    g = WignerTransform(12, 4, real=True).synthesis(flmn)
    np.testing.assert_allclose(g, f.real, atol=1e-13)
    np.testing.assert_allclose(
        WignerTransform(12, 4, real=True).analysis(g), WignerTransform(12, 4).analysis(g), atol=1e-13
    )


def test_iterations_converge_on_healpix(x64):
    so3 = WignerTransform(8, 3, Healpix(4), real=True)
    flmn = coefficients(8, 3, real=True)
    f = so3.synthesis(flmn)
    errors = [float(abs(so3.analysis(f, iterations=k) - flmn).max()) for k in (0, 3, 6)]
    assert errors[1] < 0.05 * errors[0]
    assert errors[2] < 0.05 * errors[1]


@pytest.mark.parametrize("iterations", [0, 2])
def test_adjoints_on_healpix(x64, iterations):
    so3 = WignerTransform(8, 3, Healpix(4))
    f, flmn = function(so3), coefficients(8, 3, seed=1)
    left = np.vdot(so3.analysis(f, iterations), flmn)
    assert abs(left - np.vdot(f, so3.adjoint_analysis(flmn, iterations))) < 1e-12 * abs(left)


@pytest.mark.parametrize(("grid", "real"), GRIDS, ids=str)
def test_adjoints(x64, grid, real):
    so3 = WignerTransform(16, 4, grid, real)
    f, flmn = function(so3), coefficients(16, 4, seed=1)
    for a, adjoint, x, y in (
        (so3.synthesis, so3.adjoint_synthesis, flmn, f),
        (so3.analysis, so3.adjoint_analysis, f, flmn),
    ):
        left, right = np.vdot(a(x), y), np.vdot(x, adjoint(y))
        assert abs((left - right).real if real else left - right) < 1e-12 * abs(left)


@pytest.mark.parametrize("real", [True, pytest.param(False, marks=pytest.mark.exhaustive)])
def test_derivatives(x64, real):
    so3 = WignerTransform(8, 3, real=real, backend="ducc")
    flmn, f = jnp.asarray(coefficients(8, 3)), jnp.asarray(function(so3))
    jvp = jax.jvp(so3.synthesis, (flmn,), (2 * flmn,))[1]
    np.testing.assert_allclose(jvp, 2 * so3.synthesis(flmn), atol=1e-13)
    pulled = jax.vjp(so3.synthesis, flmn)[1](f.conj())[0].conj()
    np.testing.assert_allclose(pulled, so3.adjoint_synthesis(f), atol=1e-12)
    pulled = jax.vjp(so3.analysis, f)[1](flmn.conj())[0].conj()
    np.testing.assert_allclose(pulled, so3.adjoint_analysis(flmn), atol=1e-12)


def test_batches(x64):
    so3 = WignerTransform(6, 2, real=True, backend="ducc")
    flmn = coefficients(6, 2, batch=(2, 3))
    f = so3.synthesis(flmn)
    assert f.shape == (2, 3, 3, 6, 11)
    np.testing.assert_allclose(f[1, 2], so3.synthesis(flmn[1, 2]), atol=1e-13)
    np.testing.assert_allclose(jax.vmap(jax.vmap(so3.synthesis))(flmn), f, atol=1e-13)
    np.testing.assert_allclose(jax.vmap(so3.analysis, 1, 1)(f), so3.analysis(f), atol=1e-13)


def test_static_and_traced_once(x64):
    traced = []

    @jax.jit
    def f(so3, flmn):
        traced.append(so3)
        return so3.analysis(so3.synthesis(flmn))

    flmn = coefficients(6, 2)
    for _ in range(2):
        np.testing.assert_allclose(f(WignerTransform(6, 2), flmn), flmn, atol=1e-13)
    assert len(traced) == 1
    assert hash(WignerTransform(6, 2)) == hash(WignerTransform(6, 2, GaussLegendre(6)))


@pytest.mark.parametrize("backend", ["jax", "ducc"])
def test_single_precision(backend):
    so3 = WignerTransform(16, 2, real=True, backend=backend)
    flmn = coefficients(16, 2, real=True).astype(np.complex64)
    f = so3.synthesis(flmn)
    assert f.dtype == np.float32
    back = so3.analysis(f)
    assert back.dtype == np.complex64
    assert float(abs(back - flmn).max()) < 1e-5
    with jax.enable_x64(True):
        exact = np.asarray(so3.synthesis(flmn.astype(np.complex128)))
    assert abs(np.asarray(f) - exact).max() / abs(exact).max() < 1e-6


@pytest.mark.parametrize("real", [True, pytest.param(False, marks=pytest.mark.exhaustive)])
def test_conformance(real):
    so3 = WignerTransform(4, 2, real=real)
    check_transform(Case(so3, example=jnp.asarray(coefficients(4, 2, real=real).astype(np.complex64))))


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"L": 0, "N": 1}, r"L=0: .* an integer of 1 or more"),
        ({"L": 8, "N": 9}, r"N=9: .* an integer from 1 to 8"),
        ({"L": 8, "N": 2.0}, r"N=2.0: "),
        ({"L": 8, "N": 2, "grid": GaussLegendre(4)}, r"L=8: .* from 1 to 4"),
        ({"L": 8, "N": 2, "grid": "gl"}, r"grid='gl'"),
        ({"L": 8, "N": 2, "real": 2}, r"real=2: True or False"),
        ({"L": 8, "N": 2, "backend": "cuda"}, r"backend='cuda': one of 'auto'"),
    ],
)
def test_bad_arguments(kwargs, message):
    with pytest.raises(ValueError, match=message):
        WignerTransform(**kwargs)


def test_bad_arrays():
    so3 = WignerTransform(4, 2, real=True)
    with pytest.raises(ValueError, match=r"flmn has shape \(4, 7\): \(\.\.\., 3, 4, 7\) is needed"):
        so3.synthesis(np.zeros((4, 7), np.complex64))
    with pytest.raises(ValueError, match=r"f has shape \(4, 7\): \(\.\.\., 3, 4, 7\) is needed"):
        so3.analysis(np.zeros((4, 7), np.float32))
    with pytest.raises(ValueError, match="f is complex64, and this is real"):
        so3.analysis(np.zeros((3, 4, 7), np.complex64))
    with pytest.raises(ValueError, match="iterations=-1"):
        so3.analysis(np.zeros((3, 4, 7), np.float32), iterations=-1)
