"""Measures of textures against closed forms and counts."""

import functools

import jax
import numpy as np
import pytest

from armillary.scatter import AxisymmetricWavelets, TextureMeasures, validate_texture
from armillary.sphere import GaussLegendre, alm_from_real, power_spectrum

pytestmark = pytest.mark.usefixtures("x64")


def averaged(function, thresholds):
    """The mean of a function over the bin of each threshold."""
    step = thresholds[1] - thresholds[0]
    nodes, weights = np.polynomial.legendre.leggauss(5)
    return (weights / 2 * function(thresholds[:, None] + step / 2 * nodes)).sum(axis=1)


def gaussian_alm(L, num, seed=0):
    degree = np.repeat(np.arange(L), 2 * np.arange(L) + 1)
    return np.asarray(alm_from_real(np.random.default_rng(seed).normal(size=(num, L * L)) * np.exp(-degree / 8)))


def gaussian_images(shape, num, seed=0):
    waves = np.hypot(*np.meshgrid(*(np.fft.fftfreq(n) for n in shape), indexing="ij"))
    noise = np.random.default_rng(seed).normal(size=(num, *shape))
    return np.fft.ifft2(np.fft.fft2(noise) * np.exp(-((waves / 0.05) ** 2))).real


def test_a_cap():
    # The height above a plane through the centre: the part above is a cap.
    L = 64
    alm = np.zeros((L * L,))
    alm[1:4] = 0.3, -0.5, 0.7
    alm = alm_from_real(alm)
    thresholds = np.linspace(-1.5, 1.5, 13)
    found = validate_texture(alm, alm[None], thresholds=thresholds).target
    cosine = thresholds / np.sqrt(3)
    np.testing.assert_allclose(found.area, (1 - cosine) / 2, atol=2e-3)
    np.testing.assert_allclose(found.length, averaged(lambda t: np.sqrt(1 - t**2 / 3) / 2, thresholds), rtol=0.03)
    np.testing.assert_allclose(found.euler, 1, atol=0.03)
    np.testing.assert_array_equal(found.peaks, 1)
    np.testing.assert_allclose(found.pdf, 1 / np.sqrt(12), rtol=0.03)


@functools.cache
def of_gaussian_fields(domain):
    fields = gaussian_alm(40, 17) if domain == "sphere" else gaussian_images((96, 80), 17)
    return fields, validate_texture(fields[0], fields[1:], domain=domain)


@pytest.mark.parametrize("domain", ["sphere", "plane"])
def test_gaussian_fields(domain):
    fields, validation = of_gaussian_fields(domain)
    # Each field against the closed forms of its own spectrum and heights, so that little is left to chance.
    thresholds = validation.thresholds
    apart = {name: [] for name in ("pdf", "area", "length", "euler")}
    for field in fields[:8]:
        own = validate_texture(field, field[None], domain=domain)
        for name, values in apart.items():
            values.append(getattr(own.target, name) - getattr(own.gaussian, name))
    for name, values in apart.items():
        scale = abs(getattr(validation.gaussian, name)).max()
        error = np.std(values, axis=0, ddof=1) / np.sqrt(len(values))
        assert (abs(np.mean(values, axis=0)) < 5 * error + 0.02 * scale).all(), name
        assert error.max() < 0.1 * scale
    # Maxima: how many are expected on the sphere (Cheng and Schwartzman 2018), and on the plane (Longuet-Higgins 1957).
    if domain == "sphere":
        degree = np.arange(40)
        power, eigen = (2 * degree + 1) * np.exp(-degree / 4), degree * (degree + 1.0)
        ratio = 4 * (eigen * power).sum() / (eigen * (eigen - 2) * power).sum()
        expected = 1 + 2 / (ratio * np.sqrt(3 + ratio))
    else:
        waves = 2 * np.pi * np.hypot(*np.meshgrid(*(np.fft.fftfreq(n) for n in (96, 80)), indexing="ij"))
        power, eigen = np.exp(-2 * (waves / 2 / np.pi / 0.05) ** 2), waves**2
        expected = 96 * 80 * (eigen**2 * power).sum() / (eigen * power).sum() / (8 * np.pi * np.sqrt(3))
    np.testing.assert_allclose(validation.textures.peaks[:, 0].mean(), expected, rtol=0.03)
    assert (np.diff(validation.textures.peaks, axis=1) <= 0).all()
    assert thresholds[0] == -3.5


def test_euler_characteristic_of_pixels():
    f = np.exp(1.2 * gaussian_images((128, 128), 1, seed=3)[0] / gaussian_images((128, 128), 1, seed=3)[0].std())
    thresholds = np.linspace(-0.5, 2.5, 13)
    found = validate_texture(f, f[None], domain="plane", thresholds=thresholds).target
    u = (f - f.mean()) / f.std()

    def count(threshold):
        there = u >= threshold
        right, down = there & np.roll(there, 1, 1), there & np.roll(there, 1, 0)
        return there.sum() - right.sum() - down.sum() + (right & np.roll(right, 1, 0)).sum()

    wanted = averaged(np.vectorize(count), thresholds)
    np.testing.assert_allclose(found.euler, wanted, atol=0.06 * abs(wanted).max())
    assert abs(wanted).max() > 10


def test_bands():
    L = 16
    alm = gaussian_alm(L, 2, seed=1)
    found = validate_texture(alm[0], alm[1:])
    wavelets = AxisymmetricWavelets(L, J_min=1, grid=GaussLegendre(2 * L))
    maps = np.asarray(wavelets.analysis(alm))[:, 1:]
    weights = wavelets.grid.weights[:, None] / (4 * np.pi)
    moments = [(weights * maps**k).sum(axis=(2, 3)) for k in range(5)]
    assert list(found.scales) == [1, 2, 3, 4]
    for k, name in ((3, "skewness"), (4, "kurtosis")):
        wanted = moments[k] / moments[2] ** (k / 2)
        np.testing.assert_allclose(getattr(found.target, name), wanted[0], rtol=1e-10)
        np.testing.assert_allclose(getattr(found.textures, name), wanted[1:], rtol=1e-10)
    np.testing.assert_allclose(found.target.spectrum, power_spectrum(alm[0]), rtol=1e-12)


def test_distances_tell_fields_apart():
    fields, validation = of_gaussian_fields("plane")
    same = validate_texture(fields[0], fields[:1], domain="plane")
    assert set(same.distances()) == set(TextureMeasures._fields)
    assert max(same.distances().values()) == 0
    lognormal = np.exp(fields[0] / fields[0].std())
    other = validate_texture(lognormal, fields[1:] / fields[0].std(), domain="plane").distances()
    for name in ("pdf", "length", "euler", "skewness"):
        assert other[name] > 2 * validation.distances()[name] or other[name] > 0.5, name
    with jax.enable_x64(False):
        single = validate_texture(fields[0].astype(np.float32), fields[1:].astype(np.float32), domain="plane")
    np.testing.assert_allclose(single.textures.length, validation.textures.length, atol=1e-3)


def test_plot():
    pytest.importorskip("matplotlib")
    _, validation = of_gaussian_fields("sphere")
    figure = validation.plot()
    assert len(figure.axes) == 8
    for axes, name in zip(figure.axes, TextureMeasures._fields, strict=True):
        lines = [line.get_ydata() for line in axes.lines]
        shown = slice(1, None) if name == "spectrum" else slice(None)
        assert len(lines) == 17 + (name not in ("spectrum", "peaks"))
        np.testing.assert_array_equal(lines[3], getattr(validation.textures, name)[3][shown])
        np.testing.assert_array_equal(lines[16], getattr(validation.target, name)[shown])


def test_errors():
    f, alm = gaussian_images((16, 16), 2), gaussian_alm(8, 2)
    for args, kwargs, message in [
        ((f[0], f), {"domain": "disc"}, "domain='disc'"),
        ((f, f), {"domain": "plane"}, r"target has shape \(2, 16, 16\): one field, an image"),
        ((alm[0, :, :-1], alm), {}, r"target has shape \(8, 14\)"),
        ((alm[0], alm[0]), {}, r"textures has shape \(8, 15\): \(num, 8, 15\)"),
        ((alm[0], alm[:0]), {}, r"textures has shape \(0, 8, 15\)"),
        ((alm[0], 1j * alm), {}, "textures is of a complex field"),
        ((0 * f[0] + 1, f), {"domain": "plane"}, "target is constant"),
        ((alm[0], alm), {"thresholds": [0.0, 1.0, 3.0]}, "thresholds="),
        ((alm[0], alm), {"thresholds": [1.0, 0.0]}, "thresholds="),
    ]:
        with pytest.raises(ValueError, match=message):
            validate_texture(*args, **kwargs)
