import inspect

import healpy as hp
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from armillary.sphere import alm_from_real
from armillary.sphere._compat import alm2map, forward, inverse, map2alm
from armillary.sphere._healpy import alm_to_healpy

# The recursion of s2fft takes logarithms of 0 at the poles.
of_s2fft = pytest.mark.filterwarnings("ignore:divide by zero:RuntimeWarning", "ignore:invalid value:RuntimeWarning")

pytestmark = pytest.mark.usefixtures("quick_compilation")

SAMPLINGS = ["mw", "mwss", "dh", "gl"]


@pytest.fixture
def s2fft():
    return pytest.importorskip("s2fft")


def coefficients(L, spin=0, seed=0):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(L, 2 * L - 1)) + 1j * rng.normal(size=(L, 2 * L - 1))
    degree = np.arange(L)[:, None]
    return x * ((abs(np.arange(1 - L, L)) <= degree) & (degree >= abs(spin)))


def real_coefficients(L, seed=0):
    return np.asarray(alm_from_real(np.random.default_rng(seed).normal(size=L * L)))


@of_s2fft
@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("spin", [0, -2])
@pytest.mark.parametrize("sampling", SAMPLINGS)
def test_s2fft(s2fft, sampling, spin):
    L = 8
    flm = coefficients(L, spin)
    f = s2fft.inverse(flm, L, spin=spin, sampling=sampling, method="numpy")
    np.testing.assert_allclose(inverse(flm, L, spin, sampling=sampling), f, atol=2e-13)
    noise = np.random.default_rng(1).normal(size=(*f.shape, 2)) @ [1, 1j]
    for kwargs in ({}, {"L_lower": 3}):
        expected = s2fft.forward(noise, L, spin=spin, sampling=sampling, method="numpy", **kwargs)
        found = forward(noise, L, spin, sampling=sampling, **kwargs)
        # A map that is not of the bandlimit is integrated by another rule on the other samplings.
        if sampling == "gl":
            np.testing.assert_allclose(found, expected, atol=2e-13)
        expected = s2fft.forward(f, L, spin=spin, sampling=sampling, method="numpy", **kwargs)
        np.testing.assert_allclose(forward(f, L, spin, sampling=sampling, **kwargs), expected, atol=2e-13)


@of_s2fft
@pytest.mark.usefixtures("x64")
def test_s2fft_of_real_fields(s2fft):
    L = 8
    flm = real_coefficients(L)
    f = inverse(flm, L, reality=True)
    np.testing.assert_allclose(f, s2fft.inverse(flm, L, reality=True), atol=1e-13)
    assert f.dtype == np.float64
    np.testing.assert_allclose(forward(f.astype(complex), L, reality=True), flm, atol=1e-13)
    np.testing.assert_array_equal(inverse(flm, L, reality=True, L_lower=8), np.zeros((8, 15)))


@of_s2fft
@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("iterations", [None, 2])
def test_s2fft_on_healpix(s2fft, iterations):
    L, nside = 8, 4
    flm = real_coefficients(L)
    where = {"nside": nside, "sampling": "healpix", "reality": True}
    lower = {} if iterations is None else {"L_lower": 2}
    f = np.asarray(s2fft.inverse(flm, L, method="numpy", **where)).real
    np.testing.assert_allclose(inverse(flm, L, **where), f, atol=1e-13)
    f = f + np.random.default_rng(1).normal(size=f.shape)
    expected = s2fft.forward(f, L, method="numpy", iter=iterations, **where, **lower)
    np.testing.assert_allclose(forward(f, L, iter=iterations, **where, **lower), expected, atol=1e-13)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize(("lmax", "mmax", "iterations"), [(None, None, 3), (9, 4, 1)])
def test_healpy_scalars(lmax, mmax, iterations):
    nside = 4
    maps = np.random.default_rng(0).normal(size=(2, 12 * nside**2))
    expected = hp.map2alm(maps, lmax, mmax, iter=iterations, pol=False)
    found = map2alm(maps, lmax, mmax, iter=iterations, pol=False)
    np.testing.assert_allclose(found, expected, atol=1e-13)
    np.testing.assert_allclose(map2alm(maps[0], lmax, mmax, iter=iterations), expected[0], atol=1e-13)
    expected_maps = hp.alm2map(expected, nside, lmax, mmax, pol=False)
    np.testing.assert_allclose(alm2map(found, nside, lmax, mmax, pol=False), expected_maps, atol=1e-12)
    if mmax is None:  # healpy has no beam for cut triangles
        smooth = hp.alm2map(expected[1], nside, lmax, fwhm=0.4)
        np.testing.assert_allclose(alm2map(found[1], nside, lmax, fwhm=0.4), smooth, atol=1e-12)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize(("lmax", "mmax"), [(7, None), (6, 3)])
def test_healpy_polarisation(lmax, mmax):
    nside = 4
    maps = np.random.default_rng(0).normal(size=(3, 12 * nside**2))
    expected = hp.map2alm(maps, lmax, mmax, iter=2)
    found = map2alm(list(maps), lmax, mmax, iter=2)
    np.testing.assert_allclose(found, expected, atol=1e-13)
    for beam in ({}, {"sigma": 0.2})[: 2 if mmax is None else 1]:
        expected_maps = hp.alm2map(expected, nside, lmax, mmax, **beam)
        np.testing.assert_allclose(alm2map(tuple(found), nside, lmax, mmax, **beam), expected_maps, atol=1e-12)


@pytest.mark.usefixtures("x64")
def test_polarisation_of_no_degree_that_has_it():
    """Below degree 2 there is neither E nor B; healpy itself ends the process."""
    maps = np.random.default_rng(0).normal(size=(3, 192))
    alm = map2alm(maps, 1)
    np.testing.assert_allclose(alm[0], hp.map2alm(maps[0], 1), atol=1e-13)
    np.testing.assert_array_equal(alm[1:], np.zeros((2, 3)))
    np.testing.assert_array_equal(alm2map(alm, 4)[1:], np.zeros((2, 192)))


@pytest.mark.filterwarnings("ignore:Setting the dtype:DeprecationWarning")  # in healpy
@pytest.mark.usefixtures("x64")
def test_healpy_unseen_pixels_and_weights():
    nside = 8
    f = np.random.default_rng(0).normal(size=12 * nside**2)
    f[100:300] = hp.UNSEEN
    np.testing.assert_allclose(map2alm(f), hp.map2alm(f), atol=1e-13)


@pytest.mark.usefixtures("x64")
def test_weights_by_ring_are_as_good_as_those_of_healpy():
    nside = 8
    alm = np.asarray(alm_to_healpy(real_coefficients(nside)))
    f = np.asarray(alm2map(alm, nside))

    def error(found):
        return np.linalg.norm(found - alm) / np.linalg.norm(alm)

    ours = error(map2alm(f, nside - 1, iter=0, use_weights=True))
    assert ours == pytest.approx(error(hp.map2alm(f, nside - 1, iter=0, use_weights=True)), rel=0.1)
    assert ours < 0.1 * error(map2alm(f, nside - 1, iter=0))


def test_transformations_and_single_precision():
    maps = jax.random.normal(jax.random.key(0), (3, 192))
    found = jax.jit(lambda x: alm2map(map2alm(x, 7, iter=0), 4))(maps)
    assert found.dtype == jnp.float32
    np.testing.assert_allclose(found, alm2map(map2alm(maps, 7, iter=0), 4), atol=1e-5)
    turned = jax.grad(lambda x: (abs(map2alm(x, 7, iter=0)[0]) ** 2).sum())(maps)
    assert (turned[0] != 0).all()
    assert (turned[1:] == 0).all()
    f = jax.random.normal(jax.random.key(0), (2, 4, 7))
    np.testing.assert_allclose(jax.vmap(lambda x: forward(x, 4))(f), forward(f, 4), atol=1e-6)


@pytest.mark.filterwarnings("ignore:Setting the dtype:DeprecationWarning")  # in healpy
@pytest.mark.usefixtures("x64")
def test_maps_with_a_mask():
    nside = 4
    masked = np.ma.array(np.random.default_rng(0).normal(size=(3, 12 * nside**2)), mask=np.zeros((3, 192), bool))
    masked[:, 20:40] = np.ma.masked
    masked.set_fill_value(hp.UNSEEN)
    expected = hp.map2alm(masked.filled())
    np.testing.assert_allclose(map2alm(masked), expected, atol=1e-13)
    np.testing.assert_allclose(map2alm(list(masked)), expected, atol=1e-13)
    np.testing.assert_allclose(map2alm(masked[0]), expected[0], atol=1e-13)


def test_arguments_have_the_names_and_places_of_the_originals(s2fft):
    for ours, theirs in (
        (forward, s2fft.forward),
        (inverse, s2fft.inverse),
        (map2alm, hp.map2alm),
        (alm2map, hp.alm2map),
    ):
        names = [name for name in inspect.signature(theirs).parameters if not name.startswith("_")]
        assert list(inspect.signature(ours).parameters) == names


def test_s2fft_errors():
    f = jnp.zeros((4, 7))
    for name, value in (("precomps", []), ("spmd", True), ("method", "torch"), ("sampling", "hp"), ("nside", 2)):
        with pytest.raises(ValueError, match=name):
            forward(f, 4, **{name: value})
        with pytest.raises(ValueError, match=name):
            inverse(f, 4, **{name: value})
    for kwargs, match in (
        ({"sampling": "healpix"}, "nside=None"),
        ({"reality": True, "spin": 1}, "reality=True with spin=1"),
        ({"reality": 2}, "reality=2"),
        ({"L_lower": 5}, "L_lower=5"),
        ({"L_lower": -1}, "L_lower=-1"),
        ({"iter": -1}, "iter=-1"),
    ):
        with pytest.raises(ValueError, match=match):
            forward(f, 4, **kwargs)
    with pytest.raises(ValueError, match=r"f has shape \(4, 7\)"):
        forward(f, 5)
    with pytest.raises(ValueError, match=r"flm has shape \(4, 7\)"):
        inverse(f, 5)


def test_healpy_errors():
    f = jnp.zeros((2, 48))
    alm = jnp.zeros(15, jnp.complex64)
    for name, value in (("datapath", "x"), ("gal_cut", 5), ("use_pixel_weights", True), ("lmax", 8), ("mmax", 6)):
        with pytest.raises(ValueError, match=f"{name}="):
            map2alm(f[0], **{name: value})
    for name, value in (("pixwin", True), ("inplace", True), ("lmax", 9), ("mmax", 4)):
        with pytest.raises(ValueError, match=f"{name}="):
            alm2map(alm, 2, **{name: value})
    for call, match in (
        (lambda: map2alm(f), r"maps has shape \(2, 48\): with pol=True one or three"),
        (lambda: map2alm(jnp.zeros(47)), r"maps has shape \(1, 47\): maps of HEALPix have"),
        (lambda: map2alm(jnp.zeros((1, 1, 48))), r"maps has shape \(1, 1, 48\): one array"),
        (lambda: map2alm([f[0], f[0, :12]]), "maps has parts of the shapes"),
        (lambda: map2alm(jnp.zeros(12 * 9)), "nside=3"),
        (lambda: alm2map(alm, 3), "nside=3"),
        (lambda: alm2map(jnp.zeros(14), 2), r"alms has shape \(1, 14\): the length is"),
        (lambda: alm2map(alm, 2, lmax=5), "the length is 21 for lmax=5"),
        (lambda: alm2map([alm, alm], 2), "with pol=True one or three"),
    ):
        with pytest.raises(ValueError, match=match):
            call()
