"""Images: the network against kymatio, the covariances against their definition."""

import functools
import itertools
import math
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from armillary.scatter import ScatteringCovariance, ScatteringNetwork
from armillary.scatter._plane import scaling, smallest_scale, wavelets

pytestmark = pytest.mark.usefixtures("x64")


@functools.cache
def image(shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape)


def gabor(shape, width, angle, frequency, slant):
    """A Gaussian times a wave, pixel by pixel, from all copies of the image that it reaches."""
    total = np.zeros(shape, complex)
    reach = 12 * width * max(1, 1 / slant)
    for row, column in itertools.product(*(range(-math.ceil(reach / n) - 1, math.ceil(reach / n) + 2) for n in shape)):
        y, x = np.mgrid[: shape[0], : shape[1]]
        y, x = y + row * shape[0], x + column * shape[1]
        along, across = y * np.cos(angle) + x * np.sin(angle), -y * np.sin(angle) + x * np.cos(angle)
        envelope = np.exp(-(along**2 + (slant * across) ** 2) / (2 * width**2)) * slant / (2 * np.pi * width**2)
        total += envelope * np.exp(1j * frequency * along)
    return total


@pytest.mark.parametrize(("N", "step"), [(8, 1), (3, 2), (2, 4)])
def test_wavelets_are_gaussians_in_space(N, step):
    shape = (24, 16)
    found = wavelets(shape, N, (step,))[0]
    for g in range(N):
        angle = (int(N - N / 2 - 1) - g) * np.pi / N
        wave = gabor(shape, 0.8 * step, angle, 3 / 4 * np.pi / step, 4 / N)
        envelope = gabor(shape, 0.8 * step, angle, 0, 4 / N)
        wanted = np.fft.fft2(wave - wave.sum() / envelope.sum() * envelope)
        np.testing.assert_allclose(found[g], wanted, atol=1e-13)
    np.testing.assert_allclose(scaling(shape, step), np.fft.fft2(gabor(shape, 0.8 * step, 0, 0, 1)), atol=1e-13)


@pytest.mark.parametrize(("rows", "columns", "scales", "N"), [(32, 32, 3, 8), (24, 37, 2, 3)])
def test_network_has_the_numbers_of_kymatio(rows, columns, scales, N):
    # kymatio 0.3.0, kymatio.numpy.Scattering2D(scales, (rows, columns), L=N), of the image of the seed `rows`. It has
    # 3.1415 for pi in the norm of each filter, and single precision in them.
    data = np.load(Path(__file__).parent / "data" / "kymatio_2d.npz")[f"{rows}x{columns}_J{scales}_L{N}"]
    J = smallest_scale((rows, columns))
    net = ScatteringNetwork((rows, columns), 2, N, J - scales + 1, domain="plane")
    waves = [(J - k, g) for k in range(scales) for g in range(N)]
    order = [(), *((a,) for a in waves), *((a, b) for a in waves for b in waves if b[0] < a[0])]
    assert set(order) == set(net.paths)
    maps = net(image((rows, columns), rows))
    assert net.scaling_grid == maps.shape[1:] == data.shape[1:]
    filters = np.array([len(path) + 1 for path in order])[:, None, None]
    ours = np.asarray(maps)[[net.paths.index(path) for path in order]]
    np.testing.assert_allclose(ours, data * (3.1415 / np.pi) ** filters, rtol=1e-5, atol=3e-7 * abs(data).max())


def test_network_energy():
    net = ScatteringNetwork(32, depth=3, N=4, J_min=2, domain="plane")
    f = image((32, 32))
    maps, energy = net(f), net.energy(f)
    assert energy.propagated.shape == energy.scattered.shape == (4,)
    of_length = np.array([len(path) for path in net.paths])
    by_hand = [float((maps[of_length == d] ** 2).sum() * 1024 / math.prod(net.scaling_grid)) for d in range(4)]
    np.testing.assert_allclose(energy.scattered, by_hand, rtol=1e-12)
    assert (energy.propagated[1:] < 0.8 * energy.propagated[:-1]).all()
    assert energy.scattered.sum() < energy.propagated[0]


def test_network_derivatives_batches_and_types():
    net = ScatteringNetwork((8, 10), depth=2, N=2, J_min=1, domain="plane")
    f = image((2, 8, 10))
    function = jax.jit(net)
    np.testing.assert_allclose(jax.vmap(function)(f), net(f), atol=1e-14)
    np.testing.assert_allclose([function(x) for x in f], net(f), atol=1e-14)
    check_grads(function, (f[0],), order=1, modes=["rev"], eps=1e-6, atol=1e-5, rtol=1e-5)
    assert np.isfinite(jax.grad(lambda x: function(x).sum())(jnp.zeros((8, 10)))).all()
    with jax.enable_x64(False):
        single = net(f.astype(np.float32))
        assert single.dtype == np.float32
    np.testing.assert_allclose(single, net(f), atol=1e-6)


def test_network_errors():
    for kwargs, message in [
        ({"L": 32, "domain": "torus"}, "domain='torus': 'sphere' or 'plane'"),
        ({"L": 1}, "L=1: with domain='plane', the side"),
        ({"L": (32, 32, 3)}, r"L=\(32, 32, 3\): with domain='plane'"),
        ({"L": 32, "N": 1}, "N=1: with domain='plane', the number of directions"),
        ({"L": 32, "J_min": 5}, "J_min=5: .* from 0 to 4"),
        ({"L": 32, "depth": 6}, "depth=6: .* from 0 to 5"),
        ({"L": 32, "grid": "mw"}, "grid or multiresolution with domain='plane'"),
    ]:
        with pytest.raises(ValueError, match=message):
            ScatteringNetwork(**{"domain": "plane", **kwargs})
    net = ScatteringNetwork(16, domain="plane")
    for f, message in [
        (np.zeros((16, 15)), r"alm has shape \(16, 15\)"),
        (np.zeros((16, 16), complex), "alm is complex128: a real image"),
        (np.full((16, 16), np.nan), "NaN"),
    ]:
        with pytest.raises(ValueError, match=message):
            net(f)
    with jax.enable_x64(False), pytest.raises(ValueError, match="alm is float64"):
        net(np.zeros((16, 16)))


def by_definition(cov, f):
    """Every coefficient of the directional statistics by its label, from wavelet coefficients of both layers."""
    scales = range(cov.J_min, cov.J + 1)
    psi = dict(zip(scales, wavelets(f.shape, cov.N, tuple(2 ** (cov.J - j) for j in scales)), strict=True))

    def wavelet(x, j, g):
        return np.fft.ifft2(np.fft.fft2(x) * psi[j][g])

    modulus = {(j, g): abs(wavelet(f, j, g)) for j in scales for g in range(cov.N)}

    def value(label):
        group, waves = label.group, list(zip(label.scales, label.directions, strict=True))
        if group in ("mean", "variance"):
            return f.mean() if group == "mean" else f.var()
        if group in ("s1", "s2"):
            return (modulus[waves[0]] ** int(group[1])).mean()
        fields = [f, modulus[waves[1]]] if group.startswith("s3") else [modulus[waves[1]], modulus[waves[2]]]
        product = (wavelet(fields[0], *waves[0]) * wavelet(fields[1], *waves[0]).conj()).mean()
        return product.imag if group.endswith("imaginary") else product.real

    return value


@pytest.mark.parametrize("shape", [(16, 16), (24, 17)])
def test_covariances_by_definition(shape):
    f = 1 + image(shape) ** 3
    cov = ScatteringCovariance(shape, N=3, J_min=1, isotropic=False, domain="plane")
    s = cov(f)
    value = by_definition(cov, f)
    wanted = [value(label) for label in s.labels()]
    assert len(set(s.labels())) == len(wanted)
    np.testing.assert_allclose(s.ravel(), wanted, rtol=1e-12, atol=1e-14)
    assert s.labels()[-1].group == "s4 imaginary"
    assert float(abs(s.s4[len(s.s4) // 2 + 20 :]).max()) > 1e-4  # imaginary parts there are

    # Divided by the power of a reference.
    goal = image(shape, 1)
    power = {label[1:]: by_definition(cov, goal)(label) for label in s.labels() if label.group == "s2"}
    divided = ScatteringCovariance(shape, N=3, J_min=1, isotropic=False, reference=goal, domain="plane")(f)
    whole = dict(zip(s.labels(), wanted, strict=True))
    for label, x in zip(divided.labels(), divided.ravel().tolist(), strict=True):
        waves = [((j,), (g,)) for j, g in zip(label.scales, label.directions, strict=True)]
        kind = label.group[:2]
        by = {"s1": waves[:1], "s2": 2 * waves[:1], "s3": waves, "s4": waves[1:]}.get(kind, [])
        assert x == pytest.approx(whole[label] / math.sqrt(math.prod(power[w] for w in by)), rel=1e-10, abs=1e-12)


@pytest.mark.parametrize("isotropic", [True, "relative"])
def test_means_over_directions(isotropic):
    shape, N = (16, 16), 3
    f = image(shape) ** 3
    each = ScatteringCovariance(shape, N, 1, isotropic=False, domain="plane")(f)
    whole = dict(zip(each.labels(), np.asarray(each.ravel()).tolist(), strict=True))
    s = ScatteringCovariance(shape, N, 1, isotropic=isotropic, domain="plane")(f)
    for label, x in zip(s.labels(), s.ravel().tolist(), strict=True):
        count = len(label.scales)
        if isotropic is True or count < 2:
            directions = itertools.product(range(N), repeat=count)
        else:
            directions = [(r, *((r + g) % N for g in label.directions)) for r in range(N)]
        values = []
        for at in directions:
            scales, at = label.scales, tuple(at)
            if count == 3 and (scales[1], at[1]) > (scales[2], at[2]):  # each pair once
                scales, at = (scales[0], scales[2], scales[1]), (at[0], at[2], at[1])
            values.append(whole[label._replace(scales=scales, directions=at)])
        assert x == pytest.approx(np.mean(values), rel=1e-11, abs=1e-13), label
    # Turning the image by a right angle turns directions, two of four of them into each other.
    cov = ScatteringCovariance(shape, 4, 1, isotropic, reference=f, domain="plane")
    np.testing.assert_allclose(cov(np.rot90(f)).ravel(), cov(f).ravel(), rtol=1e-10, atol=1e-11)
    np.testing.assert_allclose(cov(np.roll(f, (3, 5), (0, 1))).ravel(), cov(f).ravel(), rtol=1e-10, atol=1e-11)


def test_covariances_derivatives_batches_and_types():
    cov = ScatteringCovariance(8, 2, 0, isotropic=False, domain="plane")
    f = image((2, 8, 8)) ** 3
    function = jax.jit(lambda x: cov(x).ravel())
    np.testing.assert_allclose(jax.vmap(function)(f), cov(f).ravel(), rtol=1e-12, atol=1e-14)
    np.testing.assert_allclose([function(x) for x in f], cov(f).ravel(), rtol=1e-12, atol=1e-14)
    check_grads(function, (f[0],), order=1, modes=["rev"], eps=1e-6, atol=1e-5, rtol=1e-5)
    assert np.isfinite(jax.grad(lambda x: function(x).sum())(jnp.zeros((8, 8)))).all()
    goal = image((32, 32)) ** 3
    double = ScatteringCovariance(32, 2, 2, domain="plane", reference=goal)(goal)
    with jax.enable_x64(False):
        goal = goal.astype(np.float32)
        single = ScatteringCovariance(32, 2, 2, domain="plane", reference=goal)(goal)
        assert single.s4.dtype == np.float32
    for group, x in single.groups().items():
        np.testing.assert_allclose(x, double.groups()[group], atol=1e-5 * abs(double.groups()[group]).max())


def test_covariance_errors():
    f = image((16, 16))
    waves = np.sin(2 * np.pi * np.arange(16) / 16)[:, None] * np.ones(16)
    for kwargs, message in [
        ({"domain": "disc"}, "domain='disc': 'sphere' or 'plane'"),
        ({"L": 3}, "L=3: with domain='plane'"),
        ({"J_min": 3}, "J_min=3: .* from 0 to 2"),
        ({"compat": "s2scat"}, "compat, mask or backend with domain='plane'"),
        ({"oversample": 2}, "oversample, compat"),
        ({"isotropic": "no"}, "isotropic='no'"),
        ({"reference": f[:8]}, r"reference has shape \(8, 16\)"),
        ({"reference": f[None]}, r"reference has shape \(1, 16, 16\): one field"),
        ({"reference": 0 * f + 1}, "reference has no power at scale 0, some 0.75 waves across"),
        ({"reference": waves, "isotropic": False}, "reference has no power at scale 0"),
    ]:
        with pytest.raises(ValueError, match=message):
            ScatteringCovariance(**{"L": 16, "domain": "plane", **kwargs})
