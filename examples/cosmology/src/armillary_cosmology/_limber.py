"""The Limber integral: kernels of tracers on a fixed grid of redshifts, and the spectra of their pairs.

Every step is a product of dense arrays, so that the same code serves one cosmology on a CPU and many on a GPU.
"""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from . import _background, _spline
from ._cosmology import Cosmology

#: C_1 rho_crit of the alignments, with C_1 = 5e-14 Mpc^3 / (M_sun h^2) (Brown et al. 2002; Bridle & King 2007).
ALIGNMENT = 5e-14 * 2.77536627e11


class Geometry(NamedTuple):
    """What the kernels need of a cosmology on the grid: distances in Mpc/h, E(z), Omega_m and the growth."""

    z: np.ndarray
    step: float
    distance: Float[Array, " nz"]
    rate: Float[Array, " nz"]
    omega_m: Float[Array, ""]
    growth: Float[Array, " nz"]


def geometry(cosmology: Cosmology, z: np.ndarray) -> Geometry:
    """The geometry of one cosmology."""
    return Geometry(
        z,
        float(z[1] - z[0]),
        _background._comoving_distance(cosmology, z),
        _background._expansion_rate(cosmology, z),
        _background.omega_matter(cosmology),
        _background._growth_factor(cosmology, z),
    )


def shifted(z: np.ndarray, bins: np.ndarray, shift: Float[Array, " bins"]) -> Float[Array, "bins nz"]:
    """The distributions n_i(z - shift_i), of unit integral on the grid."""
    dtype = jnp.result_type(float, shift)
    # With no galaxies at z = 0 as one more node.
    nodes, rows = np.concatenate([[0.0], z]), np.pad(bins, ((0, 0), (1, 0)))
    bend = jnp.asarray(rows @ _second_derivatives(tuple(nodes)).T, dtype=dtype)
    at = jnp.asarray(z, dtype=dtype) - shift[:, None]
    # A spline of a density dips below zero where that is next to nothing.
    moved = jnp.maximum(_spline.evaluate(nodes, jnp.asarray(rows, dtype=dtype), bend, at), 0)
    return moved / (jnp.sum(moved, axis=-1, keepdims=True) * (z[1] - z[0]))


def lensing_kernel(geometry: Geometry, n_z: Float[Array, "bins nz"]) -> Float[Array, "bins nz"]:
    r"""The kernel of convergence, :math:`\frac{3}{2} \Omega_m (H_0/c)^2 (1+z) \chi \int_z dz' n(z') (1-\chi/\chi')`."""
    distance = geometry.distance
    ratio = jnp.maximum(1 - distance[:, None] / distance[None, :], 0)
    efficiency = geometry.step * n_z @ ratio.T
    # The trapezium's first error term: at its lower end the integrand sets out from zero with a slope.
    slope = _background.HUBBLE_DISTANCE / (geometry.rate * distance)
    efficiency = efficiency + geometry.step**2 / 12 * n_z * slope
    front = 1.5 * geometry.omega_m / _background.HUBBLE_DISTANCE**2 * (1 + geometry.z) * distance
    return front * efficiency


def galaxy_kernel(geometry: Geometry, n_z: Float[Array, "bins nz"]) -> Float[Array, "bins nz"]:
    """The kernel of a density of galaxies, n(z) dz / d chi in h/Mpc."""
    return n_z * geometry.rate / _background.HUBBLE_DISTANCE


def alignment_kernel(
    geometry: Geometry, n_z: Float[Array, "bins nz"], amplitude: Float[Array, " bins"]
) -> Float[Array, "bins nz"]:
    r"""The kernel of intrinsic alignments, :math:`-A_i C_1 \rho_{crit} \Omega_m / D(z)` times that of galaxies."""
    response = -ALIGNMENT * geometry.omega_m / geometry.growth
    return amplitude[:, None] * response * galaxy_kernel(geometry, n_z)


def spin_factor(ell: np.ndarray) -> np.ndarray:
    r"""What the shear's spin makes of the flat sky, :math:`\sqrt{(\ell+2)!/(\ell-2)!} / (\ell+1/2)^2`."""
    return np.sqrt((ell + 2) * (ell + 1) * ell * (ell - 1)) / (ell + 0.5) ** 2


def power_on_grid(power: Any, cosmology: Cosmology, geometry: Geometry, ell: np.ndarray) -> Float[Array, "ell nz"]:
    """The non-linear power at k = (l + 1/2) / chi(z), in (Mpc/h)^3.

    A cubic spline of ln P in ln k and z; beyond the k of the emulator ln P goes on as a straight line.
    """
    log_k = np.log(np.asarray(power.k, dtype=float))
    spectrum = power.nonlinear(cosmology)
    dtype = jnp.result_type(spectrum, geometry.distance)
    to_grid = jnp.asarray(_interpolation(tuple(np.asarray(power.z, dtype=float)), tuple(geometry.z)), dtype=dtype)
    to_bend = jnp.asarray(_second_derivatives(tuple(log_k)).T, dtype=dtype)
    log_power = jnp.log(spectrum).astype(dtype)
    bend = log_power @ to_bend
    at = jnp.asarray(np.log(ell + 0.5), dtype=dtype) - jnp.log(geometry.distance)[:, None]
    return jnp.exp(_spline.evaluate(log_k, to_grid @ log_power, to_grid @ bend, at)).T


def spectra(
    geometry: Geometry, power: Float[Array, "ell nz"], first: Float[Array, "n nz"], second: Float[Array, "n nz"]
) -> Float[Array, "n ell"]:
    r"""Of pairs of kernels, :math:`C_\ell = \int d\chi\, W_1 W_2 P((\ell+1/2)/\chi, z) / \chi^2`."""
    measure = geometry.step * _background.HUBBLE_DISTANCE / (geometry.rate * geometry.distance**2)
    return (first * second * measure) @ power.T


@functools.lru_cache(maxsize=16)
def _interpolation(x: tuple[float, ...], at: tuple[float, ...]) -> np.ndarray:
    return _spline.interpolation(np.array(x), np.array(at))


@functools.lru_cache(maxsize=16)
def _second_derivatives(x: tuple[float, ...]) -> np.ndarray:
    return _spline.second_derivatives(np.array(x))
