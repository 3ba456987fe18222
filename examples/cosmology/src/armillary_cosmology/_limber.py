"""The Limber integral: kernels of tracers at fixed redshifts, and the spectra of their pairs.

Every step but one is a product of dense arrays, so that the same code serves one cosmology on a CPU and many on a GPU.
"""

from __future__ import annotations

import functools
import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from . import _background, _spline
from ._cosmology import Cosmology

#: C_1 rho_crit of the alignments, with C_1 = 5e-14 Mpc^3 / (M_sun h^2) (Brown et al. 2002; Bridle & King 2007).
ALIGNMENT = 5e-14 * 2.77536627e11
# The redshifts of the quadrature are equal steps to this power, in the survey's range, and so many at least.
_POWER, _LEAST_NODES = 1.5, 80
# In ln (l + 1/2), between the multipoles that splines go through: of galaxies in narrow bins the oscillations stay.
_SPACING = 0.05
# Into which wavenumbers of unequal steps are brought.
_MOST_WAVENUMBERS = 1024


class Quadrature(NamedTuple):
    """Where and how the integrals over redshift are taken; all of it is known before tracing.

    Args:
        z: redshifts, denser towards zero, where the spectra of scales in the sky vary as powers of z.
        weights: of the sum over these that is an integral dz.
        values: the matrix from a distribution on the survey's redshifts to its values at ``z``.
        above: the matrix from it to its integrals from ``z`` on.
    """

    z: np.ndarray
    weights: np.ndarray
    values: np.ndarray
    above: np.ndarray


class Geometry(NamedTuple):
    """What the kernels need of a cosmology: distances in Mpc/h, E(z), Omega_m and the growth, at the quadrature's z."""

    quadrature: Quadrature
    distance: Float[Array, " n"]
    rate: Float[Array, " n"]
    omega_m: Float[Array, ""]
    growth: Float[Array, " n"]
    source_distance: Float[Array, " nz"]


def quadrature(survey: Any) -> Quadrature:
    """As few redshifts as integrate the squares of the survey's distributions to a thousandth."""
    bins = survey.sources if survey.lenses is None else np.concatenate([survey.sources, survey.lenses])
    nodes, rows = np.concatenate([[0.0], survey.z]), np.pad(bins, ((0, 0), (1, 0)))
    fine = np.linspace(0, survey.z[-1], 8 * len(survey.z) + 1)
    exact = np.trapezoid((rows @ _spline.interpolation(nodes, fine).T) ** 2, fine, axis=1)
    num = _LEAST_NODES
    while True:
        found = _quadrature(tuple(survey.z), num)
        squares = (bins @ found.values.T) ** 2 @ found.weights
        if np.all(np.abs(squares / exact - 1) < 1e-3) or num >= 4 * len(survey.z):
            return found
        num = round(1.25 * num)


@functools.lru_cache(maxsize=16)
def _quadrature(z: tuple[float, ...], num: int) -> Quadrature:
    unit = np.arange(1, num + 1) / num
    at = z[-1] * unit**_POWER
    weights = z[-1] * _POWER * unit ** (_POWER - 1) / num
    weights[-1] /= 2
    nodes = np.concatenate([[0.0], z])
    # The distributions are zero at z = 0, whose column is left out.
    return Quadrature(at, weights, _spline.interpolation(nodes, at)[:, 1:], _spline.integration(nodes, at)[:, 1:])


def geometry(cosmology: Cosmology, survey: Any) -> Geometry:
    """The geometry of one cosmology."""
    nodes = quadrature(survey)
    distances = _background._comoving_distance(cosmology, np.concatenate([nodes.z, survey.z]))
    return Geometry(
        nodes,
        distances[: len(nodes.z)],
        _background._expansion_rate(cosmology, nodes.z),
        _background.omega_matter(cosmology),
        _background._growth_factor(cosmology, nodes.z),
        distances[len(nodes.z) :],
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
    return moved / (jnp.sum(moved, axis=-1, keepdims=True) * float(z[1] - z[0]))


def lensing_kernel(geometry: Geometry, n_z: Float[Array, "bins nz"]) -> Float[Array, "bins n"]:
    r"""The kernel of convergence, :math:`\frac{3}{2} \Omega_m (H_0/c)^2 (1+z) \chi \int_z dz' n(z') (1-\chi/\chi')`."""
    above = jnp.asarray(geometry.quadrature.above, n_z.dtype).T
    efficiency = n_z @ above - geometry.distance * ((n_z / geometry.source_distance) @ above)
    z = jnp.asarray(geometry.quadrature.z, n_z.dtype)
    front = 1.5 * geometry.omega_m / _background.HUBBLE_DISTANCE**2 * (1 + z) * geometry.distance
    return front * efficiency


def galaxy_kernel(geometry: Geometry, n_z: Float[Array, "bins nz"]) -> Float[Array, "bins n"]:
    """The kernel of a density of galaxies, n(z) dz / d chi in h/Mpc."""
    values = n_z @ jnp.asarray(geometry.quadrature.values, n_z.dtype).T
    return values * geometry.rate / _background.HUBBLE_DISTANCE


def alignment_kernel(
    geometry: Geometry, n_z: Float[Array, "bins nz"], amplitude: Float[Array, " bins"]
) -> Float[Array, "bins n"]:
    r"""The kernel of intrinsic alignments, :math:`-A_i C_1 \rho_{crit} \Omega_m / D(z)` times that of galaxies."""
    response = -ALIGNMENT * geometry.omega_m / geometry.growth
    return amplitude[:, None] * response * galaxy_kernel(geometry, n_z)


def spin_factor(ell: np.ndarray) -> np.ndarray:
    r"""What the shear's spin makes of the flat sky, :math:`\sqrt{(\ell+2)!/(\ell-2)!} / (\ell+1/2)^2`."""
    return np.sqrt((ell + 2) * (ell + 1) * ell * (ell - 1)) / (ell + 0.5) ** 2


def power_on_grid(power: Any, cosmology: Cosmology, geometry: Geometry, ell: np.ndarray) -> Float[Array, "ell n"]:
    """The non-linear power at k = (l + 1/2) / chi(z), in (Mpc/h)^3.

    Ln P is tabulated in equal steps of ln k, and wanted in equal steps of ln (l + 1/2): at a redshift all of these lie
    at the same place between two wavenumbers, and share their weights of Lagrange's interpolation on six points. From
    there to ``ell`` goes a cubic spline; it acts on what is integrated, in which acoustic oscillations are smooth.
    Beyond the wavenumbers of the emulator ln P goes on as a straight line.
    """
    z = geometry.quadrature.z
    table = _table(tuple(np.log(power.k)), (float(z[0]), float(z[-1])), tuple(ell))
    spectrum = power.nonlinear(cosmology)
    dtype = jnp.result_type(spectrum, geometry.distance)
    to_nodes = _interpolation(tuple(np.log1p(power.z)), tuple(np.log1p(z)))
    rows = jnp.asarray(to_nodes, dtype=dtype) @ table.extended(jnp.log(spectrum).astype(dtype))
    position = (math.log(table.multipoles[0] + 0.5) - table.first - jnp.log(geometry.distance)) / table.step
    whole = jnp.floor(position)
    start = whole.astype(int) - 2
    width = (len(table.multipoles) - 1) * table.stride + 6
    inside = (start >= 0) & (start + width <= rows.shape[-1])
    window = jax.vmap(lambda row, at: jax.lax.dynamic_slice_in_dim(row, at, width))(rows, start)
    log_power = jnp.zeros((), dtype)
    for i, weight in enumerate(lagrange(position - whole)):
        log_power = log_power + weight[:, None] * window[:, i : i + width - 5 : table.stride]
    wanted = jnp.exp(jnp.where(inside[:, None], log_power, jnp.nan))
    return jnp.asarray(table.to_ell, dtype) @ wanted.T


def lagrange(t: Array) -> list[Array]:
    """The weights of Lagrange's interpolation at ``t`` from values at -2, -1, 0, 1, 2, 3."""
    taps = np.arange(-2, 4)
    return [
        functools.reduce(lambda a, b: a * b, ((t - other) / (tap - other) for other in taps if other != tap))
        for tap in taps.tolist()
    ]


class Table(NamedTuple):
    """What ln P is tabulated on, and where it is wanted; all of it is known before tracing.

    Args:
        first: the first ln k of the extended table, k in h/Mpc.
        step: of ln k.
        to_uniform: the matrix from the given wavenumbers to equal steps, where they are not so.
        begin: how many of the steps are left out at low k, where no scale of the survey is; negative for more.
        end: how many there are more at high k; negative for fewer.
        multipoles: in equal steps of ln (l + 1/2).
        stride: such a step in those of ln k.
        to_ell: the matrix from spectra at ``multipoles`` to those wanted.
    """

    first: float
    step: float
    to_uniform: np.ndarray | None
    begin: int
    end: int
    multipoles: np.ndarray
    stride: int
    to_ell: np.ndarray

    def extended(self, values: Float[Array, "nz nk"]) -> Float[Array, "nz n"]:
        """Ln P on the table: cut off, or continued as straight lines in ln k."""
        if self.to_uniform is not None:
            values = values @ jnp.asarray(self.to_uniform.T, values.dtype)
        parts = [values[:, max(self.begin, 0) : values.shape[1] + min(self.end, 0)]]
        if self.begin < 0:
            slope = -1.5 * values[:, :1] + 2 * values[:, 1:2] - 0.5 * values[:, 2:3]
            parts.insert(0, values[:, :1] + slope * np.arange(self.begin, 0))
        if self.end > 0:
            slope = 1.5 * values[:, -1:] - 2 * values[:, -2:-1] + 0.5 * values[:, -3:-2]
            parts.append(values[:, -1:] + slope * np.arange(1, self.end + 1))
        return jnp.concatenate(parts, axis=1)


@functools.lru_cache(maxsize=16)
def _table(log_k: tuple[float, ...], z: tuple[float, float], ell: tuple[float, ...]) -> Table:
    given = np.array(log_k)
    steps = np.diff(given)
    step, to_uniform, count = float(np.mean(steps)), None, len(given)
    if not np.allclose(steps, step, rtol=1e-3):
        count = min(math.ceil((given[-1] - given[0]) / np.min(steps)) + 1, _MOST_WAVENUMBERS)
        uniform = np.linspace(given[0], given[-1], count)
        step, to_uniform = float(uniform[1] - uniform[0]), _spline.interpolation(given, uniform)
    wanted = np.log(np.array(ell) + 0.5)
    stride = max(1, math.floor(_SPACING / step))
    num = max(math.ceil((wanted.max() - wanted.min()) / (stride * step)) + 1, 4)
    log_multipoles = wanted.min() + stride * step * np.arange(num)
    # The distance of a redshift is between those without matter that slows, and with radiation alone.
    near = math.log(_background.HUBBLE_DISTANCE * z[0] / (1 + z[0]) ** 2 / 1.2)
    far = math.log(_background.HUBBLE_DISTANCE * z[1] * 1.2)
    begin = math.floor((log_multipoles[0] - far - given[0]) / step) - 3
    end = math.ceil((log_multipoles[-1] - near - given[-1]) / step) + 4
    return Table(
        float(given[0]) + begin * step,
        step,
        to_uniform,
        begin,
        end,
        np.exp(log_multipoles) - 0.5,
        stride,
        _spline.interpolation(log_multipoles, wanted),
    )


def spectra(
    geometry: Geometry, power: Float[Array, "ell n"], first: Float[Array, "pairs n"], second: Float[Array, "pairs n"]
) -> Float[Array, "pairs ell"]:
    r"""Of pairs of kernels, :math:`C_\ell = \int d\chi\, W_1 W_2 P((\ell+1/2)/\chi, z) / \chi^2`."""
    weights = jnp.asarray(geometry.quadrature.weights, power.dtype)
    measure = weights * _background.HUBBLE_DISTANCE / (geometry.rate * geometry.distance**2)
    return (first * second * measure) @ power.T


@functools.lru_cache(maxsize=16)
def _interpolation(x: tuple[float, ...], at: tuple[float, ...]) -> np.ndarray:
    return _spline.interpolation(np.array(x), np.array(at))


@functools.lru_cache(maxsize=16)
def _second_derivatives(x: tuple[float, ...]) -> np.ndarray:
    return _spline.second_derivatives(np.array(x))
