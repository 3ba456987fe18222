"""Scattering statistics of warped fields: they move as the warp does, where spectra and coefficients run ahead."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from armillary.scatter import ScatteringCovariance, ScatteringNetwork
from armillary.sphere import SHT, GaussLegendre, alm_from_real, evaluate, power_spectrum

pytestmark = pytest.mark.usefixtures("x64")

L, SIZES = 48, np.array([0.005, 0.01, 0.02, 0.04, 0.08])


def warped(alm, size):
    """The field at points moved by a smooth map of the sphere, by up to about `size` radians."""
    grid = GaussLegendre(2 * alm.shape[0])
    theta, phi = np.meshgrid(grid.theta, 2 * np.pi * np.arange(grid.shape[1]) / grid.shape[1], indexing="ij")
    theta, phi = theta + size * np.sin(theta) * np.sin(theta) * np.cos(phi), phi + size * np.cos(theta) * np.sin(phi)
    return SHT(grid, alm.shape[0], real=True).analysis(evaluate(alm, theta, phi).real)


@functools.cache
def fields():
    """A field of small scales, which a warp moves by many wavelengths of phase, and after warps."""
    degree = np.repeat(np.arange(L), 2 * np.arange(L) + 1)
    x = np.random.default_rng(5).normal(size=L * L) * np.exp(-((degree - 30) ** 2) / 2 / 2**2)
    alm = alm_from_real(x)
    return jnp.stack([alm, *(warped(alm, size) for size in SIZES)])


def distances(features):
    """From the features of the field, in parts of their norm."""
    features = np.asarray(features).reshape(len(SIZES) + 1, -1)
    return np.linalg.norm(features[1:] - features[0], axis=1) / np.linalg.norm(features[0])


def exponents(values):
    return np.diff(np.log(values)) / np.diff(np.log(SIZES))


def test_warp():
    alm = fields()[0]
    np.testing.assert_allclose(warped(alm, 0.0), alm, atol=1e-12)


def test_network_is_linear_in_the_size_of_a_warp():
    found = distances(ScatteringNetwork(L, depth=2, J_min=1)(fields()))
    slope = (found @ SIZES) / (SIZES @ SIZES)
    assert 1.0 < slope < 1.15  # per radian
    assert np.sum((found - slope * SIZES) ** 2) < 0.002 * np.sum(found**2)
    assert 0.95 < np.polyfit(np.log(SIZES), np.log(found), 1)[0] < 1.15
    # Coefficients run ahead by the degree, until nothing is left in common; so does the spectrum, ever faster.
    harmonic, spectrum = distances(fields()), distances(power_spectrum(fields()))
    assert (harmonic > 10 * found).all()
    assert exponents(harmonic)[-1] < 0.95
    assert (spectrum > 1.8 * found).all()
    assert np.polyfit(np.log(SIZES), np.log(spectrum), 1)[0] > 1.3
    assert (np.diff(spectrum / SIZES) > 0).all()


def test_covariances_are_linear_in_small_warps():
    cov = ScatteringCovariance(L, N=1, J_min=1)
    s = jax.jit(lambda x: cov(x).ravel())(fields())
    found = distances(s)
    assert (abs(exponents(found)[:2] - 1) < 0.1).all()
    assert (found < 0.05 * distances(power_spectrum(fields()))).all()
