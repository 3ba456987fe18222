"""Discrete-continuous convolutions against the sum that defines them, by rotating the points of each grid."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads
from numpy.testing import assert_allclose

from armillary.sphere import (
    SHT,
    ClenshawCurtis,
    DiscoConv,
    DiscoConvTranspose,
    GaussLegendre,
    Healpix,
    alm_from_real,
    rotate_alm,
)
from armillary.sphere import _disco_contract as contract
from armillary.sphere._disco_basis import make_basis

BASES = ["piecewise_linear", "morlet", "zernike", "axisymmetric"]


def rotation(theta, phi):
    """The matrix that turns the north pole to (theta, phi), first about y and then about z."""
    about_z = [[np.cos(phi), -np.sin(phi), 0], [np.sin(phi), np.cos(phi), 0], [0, 0, 1]]
    about_y = [[np.cos(theta), 0, np.sin(theta)], [0, 1, 0], [-np.sin(theta), 0, np.cos(theta)]]
    return np.array(about_z) @ about_y


def vectors(grid):
    theta, phi = (x.ravel() for x in grid.points)
    return np.stack([np.sin(theta) * np.cos(phi), np.sin(theta) * np.sin(phi), np.cos(theta)], axis=-1)


def basis_functions(kind, u, a):
    """The functions of the default shapes, one by one, with norms in closed form where there is one."""
    if kind == "piecewise_linear":

        def hat(x):
            return np.maximum(1 - abs(x), 0)

        around = [
            hat(np.angle(np.exp(1j * (a - angle))) * 3 / (2 * np.pi)) for angle in (0, 2 * np.pi / 3, 4 * np.pi / 3)
        ]
        # The means of the squares over the disc: d**2 / 6 and 4 / 3 * d * d * 2 / 9 with d = 1 / 2.
        return [hat(2 * u) * 24**0.5, *(hat(2 * u - 1) * x * 13.5**0.5 for x in around)]
    if kind == "zernike":
        return [
            1 + 0 * u,
            2 * u * np.sin(a),
            2 * u * np.cos(a),
            6**0.5 * u**2 * np.sin(2 * a),
            3**0.5 * (2 * u**2 - 1),
            6**0.5 * u**2 * np.cos(2 * a),
        ]
    return [f(u, a) / np.sqrt(square) for f, square in zip(*with_squares(kind), strict=True)]


@functools.cache
def with_squares(kind):
    if kind == "morlet":
        functions = [
            lambda u, a, i=i, j=j: (1 + np.cos(np.pi * u)) / 2 * i(np.pi * u * np.cos(a)) * j(np.pi * u * np.sin(a))
            for i in (np.ones_like, np.sin, np.cos)
            for j in (np.ones_like, np.sin, np.cos)
        ]
    else:
        # The cubic B-spline, as the fourth difference of a cube.
        def spline(x):
            signs = (1, -4, 6, -4, 1)
            return sum(s * np.maximum(x + 2 - i, 0) ** 3 for i, s in enumerate(signs)) / 6

        functions = [lambda u, a, j=j: sum(spline(4 * u - c) for c in {j, -j}) for j in range(3)]
    return functions, [mean_square(f) for f in functions]


def mean_square(function):
    """Over the disc: Gauss's quadrature between the knots of the splines, and the trapezoidal rule around."""
    x, w = np.polynomial.legendre.leggauss(50)
    u = ((np.arange(4)[:, None] + (x + 1) / 2) / 4).ravel()[:, None]
    values = function(u, 2 * np.pi * np.arange(100) / 100) ** 2 * 2 * u
    return (values.mean(axis=1) * np.tile(w / 8, 4)).sum()


def by_definition(layer, x):
    """The sum over all points for every centre."""
    stencil, transposed = layer.operator.stencil, layer.operator.transposed
    cutoff, points = stencil.cutoff, vectors(stencil.points)
    weights = np.repeat(stencil.points.weights, stencil.points.nphi)
    centre_weights = np.repeat(stencil.centres.weights, stencil.centres.nphi)
    psi = []
    for theta, phi in zip(*(c.ravel() for c in stencil.centres.points), strict=True):
        turned = points @ rotation(theta, phi)  # by the inverse
        away = np.arctan2(np.hypot(turned[:, 0], turned[:, 1]), turned[:, 2])
        values = basis_functions(stencil.basis.kind, away / cutoff, np.arctan2(turned[:, 1], turned[:, 0]))
        psi.append(np.where(away <= cutoff, values, 0) / (2 * np.pi * (1 - np.cos(cutoff))))
    psi = np.stack(psi, axis=1)  # (k, centre, point)
    psi = (psi * centre_weights[:, None]).swapaxes(1, 2) if transposed else psi * weights
    groups = layer.groups
    z = np.einsum("kij,cj->cki", psi, np.asarray(x).reshape(len(x), -1))
    weight = np.asarray(layer.weight, float).reshape(groups, -1, *layer.weight.shape[1:])
    y = np.einsum("gock,gcki->goi", weight, z.reshape(groups, -1, *z.shape[1:])).reshape(len(layer.weight), -1)
    return (y + np.asarray(layer.bias, float)[:, None]).reshape(-1, *layer.grid_out.shape)


def make(kind, *args, bias=0.5, **settings):
    layer = kind(*args, key=jax.random.key(0), **settings)
    return jax.tree.map(lambda x: x + bias if x.ndim == 1 else x, layer)


def field(layer, seed=0, dtype=np.float64):
    return np.random.default_rng(seed).normal(size=(layer.in_channels, *layer.grid_in.shape)).astype(dtype)


GL, CC = GaussLegendre(16), ClenshawCurtis(16)
GRIDS = [
    (DiscoConv, CC, ClenshawCurtis(8), "zernike", "fourier"),
    (DiscoConv, ClenshawCurtis(16, 20, 32), ClenshawCurtis(8, 10, 16), "morlet", "fourier"),
    (DiscoConv, GL, GaussLegendre(8), "piecewise_linear", "lists"),
    (DiscoConv, ClenshawCurtis(8), CC, "axisymmetric", "lists"),
    (DiscoConv, Healpix(8), Healpix(4), "piecewise_linear", "lists"),
    (DiscoConv, Healpix(4), GL, "zernike", "lists"),
    (DiscoConvTranspose, GL, GL, "piecewise_linear", "fourier"),
    (DiscoConvTranspose, ClenshawCurtis(8), CC, "morlet", "fourier"),
    (DiscoConvTranspose, GaussLegendre(8), GL, "zernike", "lists"),
    (DiscoConvTranspose, Healpix(4), Healpix(8), "axisymmetric", "lists"),
]


@pytest.mark.usefixtures("x64", "quick_compilation")
@pytest.mark.parametrize(
    ("kind", "grid_in", "grid_out", "basis", "method"),
    [*((DiscoConv, grid, grid, basis, "fourier") for grid in (GL, CC) for basis in BASES), *GRIDS],
)
def test_the_definition(kind, grid_in, grid_out, basis, method, monkeypatch):
    # Several blocks, the last not full.
    monkeypatch.setitem(contract._BLOCK, "cpu", 4000)
    layer = make(kind, 4, 6, grid_in, grid_out, basis=basis, cutoff=0.7, groups=2)
    assert layer.operator.stencil.method == method
    x = field(layer)
    expected = by_definition(layer, x)
    assert_allclose(layer(x), expected, rtol=0, atol=1e-13 * abs(expected).max())


@pytest.mark.parametrize("basis", BASES)
def test_functions_have_unit_mean_square(basis):
    u, a = (np.arange(1000) + 0.5) / 1000, 2 * np.pi * (np.arange(60) + 0.5) / 60
    values = make_basis(basis, None)(*np.broadcast_arrays(u[:, None], a))
    assert_allclose((values**2 * 2 * u[:, None]).mean(axis=(1, 2)), 1, atol=5e-3)


@functools.cache
def bandlimited(L, number=3):
    alm = alm_from_real(np.random.default_rng(1).normal(size=L * L))
    angles = np.random.default_rng(2).uniform(0, 1, (3, number)) * [[2 * np.pi], [np.pi], [2 * np.pi]]
    return alm, rotate_alm(alm[None], *angles), angles


def equivariance_error(grid, L, **settings):
    """The rms of conv(rotate(f)) - rotate(conv(f)) over that of conv(f), the worst of three rotations."""
    layer = make(DiscoConv, 1, 1, grid, bias=0.0, **settings)
    sht = SHT(grid, L, real=True)
    alm, turned, angles = bandlimited(L)
    first = jax.vmap(layer)(sht.synthesis(turned)[:, None])[:, 0]
    convolved = layer(sht.synthesis(alm)[None])[0]
    second = sht.synthesis(rotate_alm(sht.analysis(convolved)[None], *angles))
    ring_weights = grid.weights[:, None]
    return float(
        jnp.sqrt((ring_weights * (first - second) ** 2).sum((1, 2)) / (ring_weights * first**2).sum((1, 2))).max()
    )


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("grid", [GaussLegendre, ClenshawCurtis])
def test_rotations_commute_with_axisymmetric_filters(grid):
    """Of fields with as much power in every coefficient up to the grid's bandlimit, the hardest case."""
    cutoff = make(DiscoConv, 1, 1, grid(64), basis="axisymmetric").cutoff
    errors = [equivariance_error(grid(L), 64, basis="axisymmetric", cutoff=cutoff) for L in (64, 80, 112)]
    assert errors[0] < 1e-2
    assert errors[1] < errors[0] / 2
    assert errors[2] < errors[1] / 2


@pytest.mark.usefixtures("x64", "quick_compilation")
def test_directional_filters_do_not_commute_with_rotations():
    """What the test above could not otherwise see: that it can fail."""
    assert equivariance_error(GaussLegendre(16), 16, basis="zernike") > 0.3


@pytest.mark.usefixtures("x64", "quick_compilation")
@pytest.mark.parametrize("basis", BASES)
def test_rotations_in_longitude_are_exact(basis):
    layer = make(DiscoConv, 2, 2, CC, ClenshawCurtis(8), basis=basis)
    x = field(layer)
    y = layer(x)
    assert_allclose(layer(np.roll(x, 10, axis=2)), np.roll(y, 5, axis=2), atol=1e-12 * abs(y).max())
    # By any angle: a shift of the phases, of fields below the Nyquist frequency of the longitudes.
    layer = make(DiscoConv, 2, 2, GL, basis=basis)
    x = field(layer)

    def turn(f):
        return np.fft.irfft(np.fft.rfft(f) * np.exp(-0.3j * np.arange(16)), n=31)

    y = np.asarray(layer(x))
    assert_allclose(layer(turn(x)), turn(y), atol=1e-12 * abs(y).max())


@pytest.mark.usefixtures("x64", "quick_compilation")
def test_a_constant_is_the_filters_mean():
    """The quadrature against the integral: of the functions of the radius over a wide cap, on a fine grid."""
    cutoff = 1.1
    layer = make(DiscoConv, 1, 3, GaussLegendre(40), bias=0.0, basis="axisymmetric", cutoff=cutoff)
    y = np.asarray(layer(np.ones((1, 40, 79))))
    r = (np.arange(20000) + 0.5) / 20000 * cutoff
    values = make_basis("axisymmetric", 3)(r / cutoff, 0 * r)
    means = (values * np.sin(r)).mean(axis=1) * cutoff / (1 - np.cos(cutoff))
    assert_allclose(y[:, 7, 3], np.asarray(layer.weight[:, 0], float) @ means, rtol=1e-3)
    # The same everywhere: that is the accuracy of the quadrature.
    assert np.ptp(y, axis=(1, 2)).max() < 2e-3 * abs(y).max()


@pytest.mark.usefixtures("x64", "quick_compilation")
@pytest.mark.parametrize(
    ("fine", "coarse"), [(CC, ClenshawCurtis(8)), (GL, GaussLegendre(8)), (Healpix(4), Healpix(2))]
)
def test_the_transpose_is_the_adjoint(fine, coarse):
    down = make(DiscoConv, 2, 3, fine, coarse, bias=0.0)
    up = make(DiscoConvTranspose, 3, 2, coarse, fine, bias=0.0)
    up = jax.tree.map(lambda x: down.weight.swapaxes(0, 1) if x.ndim == 3 else x, up)
    x, y = field(down), field(up, 1)

    def inner(a, b, grid):
        return (np.repeat(grid.weights, grid.nphi) * (np.asarray(a) * b).reshape(len(b), -1)).sum()

    assert_allclose(inner(down(x), y, coarse), inner(up(y), x, fine), rtol=1e-12)


@pytest.mark.usefixtures("x64", "quick_compilation")
@pytest.mark.parametrize(
    ("kind", "grid_in", "grid_out", "order"),
    [
        (DiscoConv, ClenshawCurtis(4), ClenshawCurtis(2), 1),
        (DiscoConvTranspose, Healpix(1), Healpix(2), 1),
        pytest.param(DiscoConv, ClenshawCurtis(4), ClenshawCurtis(2), 2, marks=pytest.mark.slow),
    ],
)
def test_derivatives(kind, grid_in, grid_out, order, monkeypatch):
    monkeypatch.setitem(contract._BLOCK, "cpu", 100)
    layer = make(kind, 2, 4, grid_in, grid_out, groups=2)
    x, w = field(layer)[:, None], np.asarray(layer.weight, float)
    function = jax.jit(lambda w, x: contract.convolve(layer.operator, w, x, 2))
    check_grads(function, (w, x), order, modes=["fwd", "rev"])
    if order > 1:
        return
    check_grads(lambda w: function(w, x), (w,), 1, modes=["rev"])
    check_grads(lambda x: function(w, x), (x,), 1, modes=["rev"])
    # Every way of batching is that of a loop.
    gradient = jax.grad(lambda w, x: jnp.sin(function(w, x)).sum(), (0, 1))

    def everything(w, x):
        return function(w, x), gradient(w, x), jax.jvp(function, (w, x), (w, x))[1]

    for axes in ((None, 0), (0, 0)):
        args = [a if axis is None else np.stack([a, 2 * a]) for a, axis in zip((w, x), axes, strict=True)]
        found = jax.vmap(everything, axes)(*args)
        for i in range(2):
            one = everything(*(a if axis is None else a[i] for a, axis in zip(args, axes, strict=True)))
            jax.tree.map(lambda a, b, i=i: assert_allclose(a[i], b, atol=1e-12), found, one)


@pytest.mark.usefixtures("quick_compilation")
def test_single_precision():
    layer = make(DiscoConv, 3, 2, CC, ClenshawCurtis(8))
    x = field(layer, dtype=np.float32)
    y = layer(x)
    assert y.dtype == np.float32
    assert_allclose(jax.jit(lambda layer, x: layer(x))(layer, x), y, atol=1e-6)
    with jax.enable_x64(True):
        assert_allclose(y, layer(x.astype(np.float64)), atol=2e-6)


def test_arguments():
    key = jax.random.key(0)
    for settings, message in [
        ({"basis": "haar"}, "basis='haar': one of"),
        ({"kernel_shape": (2, 3)}, "odd"),
        ({"kernel_shape": 3}, "two integers"),
        ({"basis": "zernike", "kernel_shape": 0}, "kernel_shape=0"),
        ({"cutoff": -1.0}, "cutoff=-1.0: .* at most pi"),
        ({"cutoff": 0.01, "grid_out": GL}, "take more than"),
        ({"groups": 2}, "in_channels=3 with groups=2"),
        ({"in_channels": 0}, "in_channels=0"),
        ({"grid_in": 16}, "grid_out=16"),
        ({"grid_out": 16}, "grid_out=16"),
        ({"use_bias": None}, "use_bias=None"),
    ]:
        args = {"in_channels": 3, "out_channels": 2, "grid_in": CC, **settings}
        with pytest.raises(ValueError, match=message):
            DiscoConv(**args, key=key)
    layer = DiscoConv(3, 2, CC, key=key)
    with pytest.raises(ValueError, match="x has shape"):
        layer(np.ones((2, 17, 32), np.float32))
    with pytest.raises(ValueError, match=r"use jax\.vmap"):
        layer(np.ones((5, 3, 17, 32), np.float32))
