"""The grids: where their points are, what their weights integrate, and what goes wrong."""

import ducc0
import healpy
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special

from armillary.sphere import (
    SHT,
    ClenshawCurtis,
    DriscollHealy,
    GaussLegendre,
    Healpix,
    McEwenWiaux,
    McEwenWiauxSS,
    alm_from_healpy,
    alm_from_real,
    power_spectrum,
)
from armillary.sphere._grids import EquiangularGrid
from armillary.sphere._resample import from_gauss, to_gauss
from armillary.sphere._rings import Rings

pytestmark = pytest.mark.usefixtures("x64", "quick_compilation")

EQUIANGULAR = [
    *(kind(L) for kind in (McEwenWiaux, McEwenWiauxSS, DriscollHealy, ClenshawCurtis) for L in (1, 2, 5, 16, 33)),
    ClenshawCurtis(5, 6, 9),
    ClenshawCurtis(16, 40, 32),
]


@pytest.mark.parametrize("nside", [1, 2, 4, 64])
def test_healpix_is_that_of_healpy(nside):
    grid = Healpix(nside)
    theta, phi = healpy.pix2ang(nside, np.arange(grid.shape[0]))
    np.testing.assert_allclose(grid.points[0], theta, atol=1e-15 * 4)
    np.testing.assert_allclose(grid.points[1], phi, atol=1e-15 * 4)
    np.testing.assert_array_equal(grid.nphi.sum(), healpy.nside2npix(nside))


def test_shapes_and_colatitudes():
    L = 8
    t = np.arange(2 * L)
    for grid, shape, theta in [
        (GaussLegendre(L), (8, 15), ducc0.misc.GL_thetas(L)),
        (McEwenWiaux(L), (8, 15), np.pi * (2 * t[:8] + 1) / 15),
        (McEwenWiauxSS(L), (9, 16), np.pi * t[:9] / 8),
        (DriscollHealy(L), (16, 15), np.pi * (2 * t + 1) / 32),
        (ClenshawCurtis(L), (9, 16), np.pi * t[:9] / 8),
        (ClenshawCurtis(L, 12, 20), (12, 20), np.pi * t[:12] / 11),
    ]:
        assert grid.shape == shape
        np.testing.assert_allclose(grid.theta, theta, atol=1e-15)
        np.testing.assert_allclose(grid.phi, 2 * np.pi * np.arange(shape[1]) / shape[1])
        assert grid.points[0].shape == grid.points[1].shape == shape
        np.testing.assert_allclose(grid.points[1][shape[0] // 2], grid.phi, rtol=1e-15)


@pytest.mark.parametrize("grid", EQUIANGULAR, ids=str)
def test_weights_integrate_a_field_of_the_bandlimit(grid):
    x = np.cos(grid.theta)
    exact = 2 * grid.L if grid.shape[0] >= 2 * grid.L - 1 else grid.L
    for degree in range(exact - 1 if isinstance(grid, DriscollHealy) else grid.L):
        integral = (scipy.special.eval_legendre(degree, x) * grid.weights).sum() * grid.shape[1]
        assert integral == pytest.approx(4 * np.pi if degree == 0 else 0, abs=1e-13)


@pytest.mark.parametrize("nside", [1, 2, 16, 64])
def test_ring_weights(nside):
    grid = Healpix(nside)
    points = grid.nphi * grid.weights
    for degree in range(0, 7 * nside // 2 + 1):
        integral = (scipy.special.eval_legendre(degree, np.cos(grid.theta)) * points).sum()
        assert integral == pytest.approx(4 * np.pi if degree == 0 else 0, abs=1e-12)
    uniform = 4 * np.pi / grid.shape[0]
    assert 0.7 * uniform < grid.weights.min() < grid.weights.max() < 1.3 * uniform
    np.testing.assert_allclose(Healpix(nside, ring_weights=False).weights, uniform)


@pytest.mark.parametrize("L", [1, 2, 7, 64])
@pytest.mark.parametrize("kind", [McEwenWiaux, McEwenWiauxSS, DriscollHealy, lambda L: ClenshawCurtis(L, L + 3)])
def test_resampling_is_exact(kind, L):
    grid: EquiangularGrid = kind(L)
    nodes = Rings("gauss-legendre", L).theta.astype(float)
    weights = ducc0.misc.GL_weights(L, 1) / (2 * np.pi)
    for parity in (0, 1):
        for k in range(L):
            # The cosines, and sines, of the multiples of the colatitude.
            function = np.cos if parity == 0 else np.sin
            at_nodes, at_rings = function(k * nodes), function(k * grid.theta)
            np.testing.assert_allclose(from_gauss(grid, L)[parity] @ at_nodes, at_rings, atol=2e-14 * L)
            np.testing.assert_allclose(to_gauss(grid, L)[parity] @ at_rings, weights * at_nodes, atol=1e-14)


def test_many_rings_average_noise():
    # On as many rings as a bandlimit needs the coefficients of white noise have more power than on four times as many.
    noise = [
        power_spectrum(SHT(grid, L=16, backend="jax").analysis(rng.normal(size=(200, *grid.shape)) + 0j)).mean(axis=0)
        for rng in [np.random.default_rng(0)]
        for grid in (ClenshawCurtis(16, 17, 31), ClenshawCurtis(16, 65, 31))
    ]
    ratio = np.asarray(noise[0] / noise[1])[1:]
    assert 3 < ratio.mean() < 6


@pytest.mark.parametrize("real", [True, False])
def test_healpix_analysis_converges(real):
    nside, L = 8, 12
    rng = np.random.default_rng(1)
    alm = np.asarray(alm_from_real(rng.normal(size=L * L)))
    if not real:
        alm = alm + 1j * np.asarray(alm_from_real(rng.normal(size=L * L)))
    sht = SHT(Healpix(nside), L=L, real=real, backend="jax")
    f = sht.synthesis(alm)
    errors = [float(abs(sht.analysis(f, iterations=k) - alm).max()) for k in (0, 2, 6)]
    assert errors[0] < 0.05
    assert errors[1] < errors[0] / 400
    assert errors[2] < 1e-11
    plain = SHT(Healpix(nside, ring_weights=False), L=L, real=real, backend="jax")
    assert float(abs(plain.analysis(f) - alm).max()) > errors[0]
    # The iterations have an adjoint too.
    g = rng.normal(size=f.shape) + (0 if real else 1j * rng.normal(size=f.shape))
    there = jnp.vdot(sht.analysis(g, iterations=2), alm).real
    back = jnp.vdot(g, sht.adjoint_analysis(alm, iterations=2)).real
    assert float(there) == pytest.approx(float(back), rel=1e-12)


@pytest.mark.parametrize(
    ("nside", "L"),
    [
        (8, 32),
        pytest.param(8, 16, marks=pytest.mark.exhaustive),
        pytest.param(32, 64, marks=pytest.mark.slow),
    ],
)
def test_healpix_is_that_of_healpy_both_ways(nside, L):
    grid = Healpix(nside, ring_weights=False)
    sht = SHT(grid, L=L, real=True, backend="jax")
    rng = np.random.default_rng(2)
    packed = rng.normal(size=(L * (L + 1) // 2,)) + 0j
    packed[L:] += 1j * rng.normal(size=packed.size - L)
    f = sht.synthesis(alm_from_healpy(packed))
    np.testing.assert_allclose(f, healpy.alm2map(packed, nside, lmax=L - 1), atol=1e-11)
    for iterations in (0, 3):
        theirs = alm_from_healpy(healpy.map2alm(np.asarray(f), lmax=L - 1, iter=iterations))
        np.testing.assert_allclose(sht.analysis(f, iterations=iterations), theirs, atol=1e-11)


def test_nothing_is_of_the_order_of_the_cube_of_the_bandlimit():
    L = 128
    for spin, real in ((0, True), (2, False)):
        sht = SHT(GaussLegendre(L), spin=spin, real=real, backend="jax")
        for call, x in ((sht.synthesis, sht.in_structure()), (sht.analysis, sht.out_structure())):
            text = jax.jit(call).lower(x).compile().as_text()
            assert largest_array(text) <= 64 * L**2 * 8


def largest_array(text):
    import re

    sizes = {"f64": 8, "f32": 4, "c64": 8, "c128": 16, "s32": 4, "u32": 4, "s64": 8, "pred": 1}
    found = re.findall(r"\b(f64|f32|c64|c128|s32|u32|s64|pred)\[([0-9,]+)\]", text)
    return max(sizes[kind] * int(np.prod([int(n) for n in shape.split(",")])) for kind, shape in found)


# International Geomagnetic Reference Field, 14th generation, 2025.0, doi:10.5281/zenodo.14012302: by degree from 1 on,
# g_l0, g_l1, h_l1, g_l2, h_l2, ... in nT.
IGRF = [
    [-29350.0, -1410.3, 4545.5],
    [-2556.2, 2950.9, -3133.6, 1648.7, -814.2],
    [1360.9, -2404.2, -56.9, 1243.8, 237.6, 453.4, -549.6],
    [894.7, 799.6, 278.6, 55.8, -134.0, -281.1, 212.0, 12.0, -375.4],
    [-232.9, 369.0, 45.3, 187.2, 220.0, -138.7, -122.9, -141.9, 42.9, 20.9, 106.2],
    [64.3, 63.8, -18.4, 76.7, 16.8, -115.7, 48.9, -40.9, -59.8, 14.9, 10.9, -60.8, 72.8],
    [79.6, -76.9, -48.9, -8.8, -14.4, 59.3, -1.0, 15.8, 23.5, 2.5, -7.4, -11.2, -25.1, 14.3, -2.2],
    [23.1, 10.9, 7.2, -17.5, -12.6, 2.0, 11.5, -21.8, -9.7, 16.9, 12.7, 14.9, 0.7, -16.8, -5.2, 1.0, 3.9],
    [4.7, 8.0, -24.8, 3.0, 12.1, -0.2, 8.3, -2.5, -3.4, -13.1, -5.3, 2.4, 7.2, 8.6, -0.6, -8.7, 0.8, -12.8, 9.8],
    [
        -1.3,
        -6.4,
        3.3,
        0.2,
        0.1,
        2.0,
        2.5,
        -1.0,
        5.4,
        -0.5,
        -9.0,
        -0.9,
        0.4,
        1.5,
        -4.2,
        0.9,
        -3.8,
        -2.6,
        0.9,
        -3.9,
        -9.0,
    ],
    [
        3.0,
        -1.4,
        0.0,
        -2.5,
        2.8,
        2.4,
        -0.6,
        -0.6,
        0.1,
        0.0,
        0.5,
        -0.6,
        -0.3,
        -0.1,
        -1.2,
        1.1,
        -1.7,
        -1.0,
        -2.9,
        -0.1,
        -1.8,
        2.6,
        -2.3,
    ],
    [
        -2.0,
        -0.1,
        -1.2,
        0.4,
        0.6,
        1.2,
        1.0,
        -1.2,
        -1.5,
        0.6,
        0.0,
        0.5,
        0.6,
        0.5,
        -0.2,
        -0.1,
        0.8,
        -0.5,
        0.1,
        -0.2,
        -0.9,
        -1.2,
        0.1,
        -0.7,
        0.2,
    ],
    [
        0.2,
        -0.9,
        -0.9,
        0.6,
        0.7,
        0.7,
        1.2,
        -0.2,
        -0.3,
        0.5,
        -1.3,
        0.1,
        -0.1,
        0.7,
        0.2,
        0.0,
        -0.2,
        0.3,
        0.5,
        0.2,
        0.6,
        0.4,
        -0.6,
        -0.5,
        -0.3,
        -0.4,
        -0.5,
    ],
]


@pytest.mark.parametrize("grid", [GaussLegendre(14), McEwenWiaux(14), ClenshawCurtis(14, 37, 72), Healpix(8)], ids=str)
def test_the_geomagnetic_field(grid):
    """The potential at the Earth's surface over its radius, from Schmidt's semi-normalised functions."""
    theta, phi = grid.points
    L = 14
    potential = np.zeros(grid.shape)
    alm = np.zeros((L, 2 * L - 1), complex)
    lowes = np.zeros(L)
    for degree, row in enumerate(IGRF, start=1):
        g, h = row[0:1] + row[1::2], [0.0, *row[2::2]]
        lowes[degree] = (degree + 1) * (np.square(g).sum() + np.square(h).sum())
        for m in range(degree + 1):
            ratio = scipy.special.factorial(degree - m, exact=True) / scipy.special.factorial(degree + m, exact=True)
            # scipy's functions have the Condon-Shortley phase, geomagnetism's do not.
            schmidt = (-1) ** m * np.sqrt((2 - (m == 0)) * ratio) * scipy.special.lpmv(m, degree, np.cos(theta))
            potential += schmidt * (g[m] * np.cos(m * phi) + h[m] * np.sin(m * phi))
            factor = (-1) ** m * np.sqrt(4 * np.pi / (2 * degree + 1)) / (1 if m == 0 else np.sqrt(2))
            alm[degree, L - 1 + m] = factor * (g[m] - 1j * h[m])
            alm[degree, L - 1 - m] = (-1) ** m * np.conj(alm[degree, L - 1 + m])
    sht = SHT(grid, L=L, real=True, backend="jax")
    np.testing.assert_allclose(sht.synthesis(alm), potential, atol=2e-14 * abs(potential).max())
    back = sht.analysis(potential, iterations=8 if isinstance(grid, Healpix) else 0)
    np.testing.assert_allclose(back, alm, atol=1e-13 * abs(alm).max())
    degree = np.arange(L)
    spectrum = (degree + 1) * (2 * degree + 1) ** 2 / (4 * np.pi) * np.asarray(power_spectrum(back))
    np.testing.assert_allclose(spectrum, lowes, rtol=1e-11, atol=1e-5)


def test_bad_grids():
    for kind in (McEwenWiaux, McEwenWiauxSS, DriscollHealy, ClenshawCurtis):
        for L in (0, -3, 2.5, "8", True):
            with pytest.raises(ValueError, match=r"L=.*: the bandlimit of a grid is an integer of 1 or more"):
                kind(L)
    with pytest.raises(ValueError, match="ntheta=8: the rings at the bandlimit L=8 is an integer of 9 or more"):
        ClenshawCurtis(8, 8)
    with pytest.raises(ValueError, match="longitudes=14: the longitudes at the bandlimit L=8"):
        ClenshawCurtis(8, 9, 14)
    for nside in (0, 3, 12, 2.0, -4):
        with pytest.raises(ValueError, match=r"nside=.*: the resolution of HEALPix is"):
            Healpix(nside)
    with pytest.raises(ValueError, match="ring_weights=None"):
        Healpix(8, ring_weights=None)


def test_bad_transforms():
    grid = Healpix(4)
    with pytest.raises(ValueError, match=r"L=17: the bandlimit on Healpix.* from 1 to 16"):
        SHT(grid, L=17)
    with pytest.raises(ValueError, match="backend='fast': one of 'auto', 'jax', 'table', 'pallas', 'ducc'"):
        SHT(grid, backend="fast")
    with pytest.raises(ValueError, match=r"validate=1\.5"):
        SHT(grid, validate=1.5)
    with pytest.raises(ValueError, match=r"backend='table': at L=32768 .* the table takes .* GiB"):
        SHT(GaussLegendre(32768), backend="table")
    sht = SHT(grid, real=True, backend="jax")
    with pytest.raises(ValueError, match=r"f has shape \(191,\): \(..., 192\) is needed, a map on Healpix"):
        sht.analysis(np.zeros(191))
    for iterations in (-1, 1.5, True):
        with pytest.raises(
            ValueError, match=r"iterations=.*: the number of Jacobi iterations is an integer of 0 or more"
        ):
            sht.analysis(np.zeros(192), iterations=iterations)
        with pytest.raises(ValueError, match="iterations="):
            sht.adjoint_analysis(np.zeros(sht.in_structure().shape), iterations=iterations)


def test_not_finite():
    sht = SHT(Healpix(2), real=True, backend="jax", validate=True)
    f = np.zeros((2, 48))
    sht.analysis(f)
    f[1, 7] = np.nan
    with pytest.raises(ValueError, match=r"f has 1 values that are NaN or infinite, the first at \(1, 7\)"):
        sht.analysis(f)
    alm = np.zeros((4, 7), complex)
    alm[2, 3] = np.inf
    with pytest.raises(ValueError, match=r"alm has 1 values that are NaN or infinite, the first at \(2, 3\)"):
        sht.synthesis(alm)
    # Traced arrays have no values to look at.
    assert np.isnan(jax.jit(sht.analysis)(f)).any()
    assert np.isnan(SHT(Healpix(2), real=True, backend="jax").analysis(f)).any()


def test_without_ducc(monkeypatch):
    from armillary.sphere import _ducc

    monkeypatch.setattr(_ducc, "available", lambda: False)
    assert SHT(GaussLegendre(4)).engine == "jax"
    with pytest.raises(ImportError, match=r"pip install 'armillary-sphere\[ducc\]'"):
        SHT(GaussLegendre(4), backend="ducc")


def test_pallas_without_x64():
    sht = SHT(GaussLegendre(4), backend="pallas")
    with jax.enable_x64(False), pytest.raises(ValueError, match=r"numpyro\.enable_x64\(\)"):
        sht.synthesis(np.zeros((4, 7), np.complex64))
