"""Layers of networks on the sphere: against integrals, harmonic coefficients, and rotations."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose

from armillary.sphere import (
    SHT,
    ClenshawCurtis,
    DriscollHealy,
    GaussLegendre,
    Healpix,
    SpectralConv,
    SphericalBatchNorm,
    SphericalLayerNorm,
    SphericalPool,
    SphericalResample,
    SphericalUNet,
    alm_from_real,
    rotate_alm,
)

pytestmark = pytest.mark.usefixtures("quick_compilation")

GRID = ClenshawCurtis(16)
ANGLES = (0.4, 1.2, -0.7)


def fields(*batch, grid=GRID, seed=0):
    return np.random.default_rng(seed).normal(size=(*batch, *grid.shape))


def alms(L, channels=1, seed=0):
    return alm_from_real(np.random.default_rng(seed).normal(size=(channels, L * L)))


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize(("fine", "coarse"), [(GRID, ClenshawCurtis(8)), (Healpix(4), Healpix(2))])
def test_pooling_is_the_mean_by_area(fine, coarse):
    x = fields(2, grid=fine)
    y = np.asarray(SphericalPool(fine, coarse, cutoff=0.5)(x)).reshape(2, -1)
    (theta, phi), (other, lam) = ([x.ravel() for x in grid.points] for grid in (coarse, fine))
    cosine = np.cos(theta)[:, None] * np.cos(other) + np.sin(theta)[:, None] * np.sin(other) * np.cos(
        phi[:, None] - lam
    )
    weights = np.where(np.arccos(np.clip(cosine, -1, 1)) <= 0.5, np.repeat(fine.weights, fine.nphi), 0)
    expected = np.einsum("ij,cj->ci", weights, x.reshape(2, -1)) / weights.sum(axis=1)
    assert_allclose(y, expected, rtol=1e-11)


@pytest.mark.usefixtures("x64")
def test_the_mean_over_the_sphere_is_the_monopole():
    alm = alms(16, channels=3)
    f = SHT(GRID, real=True).synthesis(alm)
    assert_allclose(SphericalPool(GRID)(f), alm[:, 0, 15].real / np.sqrt(4 * np.pi), atol=1e-13)


@pytest.mark.usefixtures("x64")
def test_resampling_keeps_the_coefficients():
    alm = alms(16)
    f = SHT(GRID, real=True).synthesis(alm)
    coarse = SphericalResample(GRID, GaussLegendre(8))(f)
    kept = alm[:, :8, 8:23]
    assert_allclose(coarse, SHT(GaussLegendre(8), real=True).synthesis(kept), atol=1e-12)
    assert_allclose(
        SphericalResample(GRID, GaussLegendre(20))(f), SHT(GaussLegendre(20), 16, real=True).synthesis(alm), atol=1e-12
    )


@pytest.mark.usefixtures("x64")
def test_layer_norm_by_integrals():
    norm = SphericalLayerNorm(3, GRID)
    norm = eqx.tree_at(lambda n: (n.weight, n.bias), norm, (jnp.array([1.0, 2.0, 3.0]), jnp.array([0.0, 1.0, -1.0])))
    x = fields(3) + np.arange(1, 4)[:, None, None]
    weights = GRID.weights[:, None] / (4 * np.pi)
    average = (weights * x).sum((1, 2)).mean()
    variance = (weights * (x - average) ** 2).sum((1, 2)).mean()
    scaled = (x - average) / np.sqrt(variance + 1e-5)
    assert_allclose(norm(x), scaled * [[[1.0]], [[2.0]], [[3.0]]] + [[[0.0]], [[1.0]], [[-1.0]]], atol=1e-12)


@pytest.mark.usefixtures("x64")
def test_batch_norm_by_integrals():
    norm, state = eqx.nn.make_with_state(SphericalBatchNorm)(2, GRID, "batch", momentum=0.9)
    apply = jax.vmap(norm, axis_name="batch", in_axes=(0, None), out_axes=(0, None))
    batches = [fields(4, 2, seed=seed) * (1 + seed) + seed for seed in range(3)]
    weights = GRID.weights[:, None] / (16 * np.pi)
    statistics = []
    for x in batches:
        y, state = apply(x, state)
        average = (weights * x).sum((0, 2, 3))
        variance = (weights * (x - average[:, None, None]) ** 2).sum((0, 2, 3))
        statistics.append((average, variance))
        expected = (x - average[:, None, None]) / np.sqrt(variance[:, None, None] + 1e-5)
        assert_allclose(y, expected, atol=1e-12)
    # The running statistics: weighted means of those of the batches.
    factors = 0.9 ** np.arange(3)[::-1]
    average, variance = (factors / factors.sum() @ np.array(s) for s in zip(*statistics, strict=True))
    still = eqx.nn.inference_mode(norm)
    y, same = still(batches[0][0], state)
    assert_allclose(y, (batches[0][0] - average[:, None, None]) / np.sqrt(variance[:, None, None] + 1e-5), atol=1e-6)
    assert eqx.tree_equal(same, state)


@pytest.mark.usefixtures("x64")
def test_a_spectral_convolution_multiplies_coefficients():
    layer = SpectralConv(2, 3, GRID, key=jax.random.key(0))
    alm = alms(16, channels=2)
    f = layer(SHT(GRID, real=True).synthesis(alm))
    expected = np.einsum("ocl,clm->olm", layer.weight, alm)
    assert_allclose(SHT(GRID, real=True).analysis(f), expected, atol=1e-12)
    turned = layer(SHT(GRID, real=True).synthesis(rotate_alm(alm, *ANGLES)))
    assert_allclose(SHT(GRID, real=True).analysis(turned), rotate_alm(expected, *ANGLES), atol=1e-11)


@pytest.mark.slow
@pytest.mark.usefixtures("x64")
def test_a_network_commutes_with_rotations_as_its_grid_is_refined():
    """Of a smooth field; the rectifiers' high degrees are what remains."""
    alm = alms(6, channels=2)
    errors = []
    for L in (16, 32):
        grid = ClenshawCurtis(L)
        network = SphericalUNet(2, 1, grid, widths=(4, 6), key=jax.random.key(0))
        sht = SHT(grid, 6, real=True)
        full = SHT(grid, real=True)
        first = network(sht.synthesis(rotate_alm(alm, *ANGLES)))
        second = full.synthesis(rotate_alm(full.analysis(network(sht.synthesis(alm))), *ANGLES))
        errors.append(np.linalg.norm(first - second) / np.linalg.norm(first - first.mean()))
    assert errors[0] < 0.2
    assert errors[1] < errors[0] / 3


def test_the_grids_of_a_network():
    key = jax.random.key(0)
    for grid, coarsest in [
        (ClenshawCurtis(12, 33, 48), ClenshawCurtis(3, 9, 12)),
        (ClenshawCurtis(7, 9, 16), ClenshawCurtis(2, 3, 4)),
        (GaussLegendre(8), GaussLegendre(2)),
        (DriscollHealy(8), DriscollHealy(2)),
        (Healpix(4), Healpix(1)),
    ]:
        network = eqx.filter_eval_shape(SphericalUNet, 2, 3, grid, widths=(2, 3, 4), key=key)
        assert network.deeper[-1].convolution.grid_out == coarsest
        assert network.higher[-1].convolution.grid_in == coarsest


@pytest.mark.parametrize("grid", [ClenshawCurtis(8), pytest.param(Healpix(2), marks=pytest.mark.slow)])
def test_networks_in_single_precision(grid):
    network = SphericalUNet(2, 3, grid, widths=(2, 3), basis="zernike", kernel_shape=2, key=jax.random.key(0))
    x = fields(2, 2, grid=grid).astype(np.float32)
    y = jax.jit(lambda x: jax.vmap(network)(x))(x)
    assert y.shape == (2, 3, *grid.shape)
    assert y.dtype == np.float32
    with jax.enable_x64(True):
        assert_allclose(y[1], jax.jit(lambda x: network(x))(x[1].astype(np.float64)), atol=1e-4)


def test_arguments():
    key = jax.random.key(0)
    cases = [
        (lambda: SphericalPool(16), "grid_in=16"),
        (lambda: SphericalPool(GRID, cutoff=0.1), "cutoff=0.1 without grid_out"),
        (lambda: SphericalResample(GRID, "fine"), "grid_out='fine'"),
        (lambda: SphericalLayerNorm(0, GRID), "channels=0"),
        (lambda: SphericalLayerNorm(2, GRID, eps=0.0), "eps=0.0"),
        (lambda: SphericalBatchNorm(2, GRID, "batch", momentum=1.0), "momentum=1.0"),
        (lambda: SpectralConv(2, 3, GRID, L=40, key=key), "L=40"),
        (lambda: SphericalUNet(2, 3, ClenshawCurtis(6), widths=(2, 3, 4), key=key), "3 levels"),
        (lambda: SphericalUNet(2, 3, GRID, widths=(), key=key), r"widths=\(\)"),
        (lambda: SphericalUNet(2, 3, GRID, widths=(2,), key=key)(np.ones((1, 17, 32), np.float32)), "x has shape"),
    ]
    for case, message in cases:
        with pytest.raises(ValueError, match=message):
            case()
