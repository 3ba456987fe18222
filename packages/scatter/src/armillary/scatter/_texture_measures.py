r"""What a field looks like, in numbers that scattering statistics are not made of.

With the normalised field u and the covariant derivatives :math:`g = u_{;1} + i u_{;2}`,
:math:`h = u_{;11} - u_{;22} + 2 i u_{;12}`, its contours have the curvature
:math:`\left(\mathrm{Re}(g^2 h^*) - |g|^2 \nabla^2 u\right) / 2 |g|^3`.
"""

from __future__ import annotations

import functools
import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from armillary.sphere import SHT, GaussLegendre, Wavelets

from ._coefficients import Space, Sphere, Torus, power


class TextureMeasures(NamedTuple):
    """What a field, or each of several, looks like.

    Heights are in standard deviations of the target above its mean.

    Attributes:
        spectrum: the mean square of the coefficients of each degree.
        pdf: the density of heights.
        area: the fraction of the area that is above each threshold.
        length: of the contour at each threshold, per area: in 1 / radian, or 1 / pixel.
        euler: the Euler characteristic of the part above each threshold, pieces less holes.
        peaks: the number of maxima above each threshold.
        skewness: of each band of an octave of degrees.
        kurtosis: of each band: 3 for a Gaussian field.
    """

    spectrum: Float[np.ndarray, "*fields degrees"]
    pdf: Float[np.ndarray, "*fields thresholds"]
    area: Float[np.ndarray, "*fields thresholds"]
    length: Float[np.ndarray, "*fields thresholds"]
    euler: Float[np.ndarray, "*fields thresholds"]
    peaks: Float[np.ndarray, "*fields thresholds"]
    skewness: Float[np.ndarray, "*fields bands"]
    kurtosis: Float[np.ndarray, "*fields bands"]


class Maps(NamedTuple):
    """The field and its derivatives at all points, and its bands."""

    f: Any
    gradient: Any  # g
    shear: Any  # h
    laplacian: Any
    bands: Any
    fine: Any  # the field where maxima are looked for


def bands(space: Space) -> range:
    """The scales j of the bands, about 2**j waves."""
    return range(1, Wavelets(int(space.degrees.max()) + 1).J + 1)


def measure(
    space: Space, x: Float[Array, " coefficients"], thresholds: np.ndarray, mean: float, deviation: float
) -> TextureMeasures:
    """Measures of the field of coefficients x, with heights relative to a mean and a standard deviation."""
    maps = Maps(*(np.asarray(m, np.complex128 if np.iscomplexobj(m) else np.float64) for m in _maps(space, x)))
    weights, whole = point_weights(space), area(space)
    u, g = (maps.f - mean) / deviation, maps.gradient / deviation
    step = thresholds[1] - thresholds[0]
    edges = np.append(thresholds - step / 2, thresholds[-1] + step / 2)

    def density(values: np.ndarray) -> np.ndarray:
        """The mean over the field of values at each threshold."""
        return np.histogram(u, edges, weights=weights * values)[0] / step

    size = abs(g) ** 2
    turning = np.real(g**2 * maps.shear.conj() / deviation) - size * maps.laplacian / deviation
    curvature = density(np.where(size > 0, turning / (2 * np.where(size > 0, size, 1)), 0))
    above = (weights * (u >= thresholds[:, None, None])).sum(axis=(1, 2))
    # On the sphere by Gauss and Bonnet, for its own curvature is 1.
    euler = curvature * whole / (2 * math.pi) + (2 * above if isinstance(space, Sphere) else 0)
    fine = (maps.fine - mean) / deviation
    heights = fine[_is_peak(space, fine)]
    spread = (weights * maps.bands**2).sum(axis=(1, 2))
    there = spread > 0
    safe = np.where(there, spread, 1)
    return TextureMeasures(
        np.asarray(power(space, x), np.float64),
        density(np.ones_like(u)),
        above,
        density(np.sqrt(size)),
        euler,
        (heights >= thresholds[:, None]).sum(axis=1).astype(np.float64),
        np.where(there, (weights * maps.bands**3).sum(axis=(1, 2)) / safe**1.5, 0),
        np.where(there, (weights * maps.bands**4).sum(axis=(1, 2)) / safe**2, 3),
    )


def gaussian(space: Space, spectrum: np.ndarray, thresholds: np.ndarray) -> TextureMeasures:
    r"""What is expected of a Gaussian field of a spectrum, other than its peaks.

    With :math:`\tau = \langle |\nabla u|^2 \rangle / 2`: a length of :math:`\tfrac12 \sqrt\tau e^{-\nu^2/2}` and an
    Euler characteristic of :math:`\tau (2\pi)^{-3/2} \nu e^{-\nu^2/2}`, per area; on the sphere twice the fraction
    above is added.
    """
    bell = np.exp(-(thresholds**2) / 2)
    above = np.array([math.erfc(t / math.sqrt(2)) / 2 for t in thresholds])
    tau, curved = gradient_power(space, spectrum) / 2, 2 * above if isinstance(space, Sphere) else 0
    count = len(bands(space))
    return TextureMeasures(
        spectrum,
        bell / math.sqrt(2 * math.pi),
        above,
        math.sqrt(tau) / 2 * bell,
        area(space) * tau / (2 * math.pi) ** 1.5 * thresholds * bell + curved,
        np.full_like(bell, np.nan),
        np.zeros(count),
        np.full(count, 3.0),
    )


def gradient_power(space: Space, spectrum: np.ndarray) -> float:
    """The mean square of the gradient of a field of this spectrum, of unit variance."""
    each = spectrum[space.degrees]
    each[0] = 0
    return float((_laplace(space) * each).sum() / each.sum())


def area(space: Space) -> float:
    """In steradians, or pixels."""
    return 4 * math.pi if isinstance(space, Sphere) else float(math.prod(space.shape))


def point_norm(space: Space) -> float:
    """The height of a constant field whose first coefficient is 1, which is also the root of the variance of others."""
    return 1 / math.sqrt(area(space))


def point_weights(space: Space) -> np.ndarray:
    """The weights of the mean over all points of the maps."""
    if isinstance(space, Torus):
        return np.full(space.shape, 1 / math.prod(space.shape))
    grid = _grid(space)
    return np.broadcast_to(np.asarray(grid.weights)[:, None] / (4 * math.pi), grid.shape)


def _grid(space: Sphere) -> GaussLegendre:
    # Fourth powers of the bands are summed exactly.
    return GaussLegendre(2 * space.L)


def _laplace(space: Space) -> np.ndarray:
    """Less the eigenvalues of the Laplacian, by coefficient."""
    if isinstance(space, Sphere):
        return space.degrees.astype(float) * (space.degrees + 1)
    rows, columns = (2 * np.pi * np.fft.fftfreq(n) for n in space.shape)
    return (rows[:, None] ** 2 + columns**2).ravel()


@functools.partial(jax.jit, static_argnums=0)
def _maps(space: Space, x: Array) -> Maps:
    kappa = Wavelets(int(space.degrees.max()) + 1, J_min=1, kind="axisymmetric").filters.kappa[:, space.degrees]
    pieces = jnp.concatenate([x[None], x[None] * -_laplace(space).astype(x.dtype), x * kappa.astype(x.dtype)])
    if isinstance(space, Torus):
        rows, columns = (2 * np.pi * np.fft.fftfreq(n) for n in space.shape)
        # Of the highest frequency of an even number of pixels the derivative is not known.
        rows, columns = (np.where(abs(w) > np.pi - 1e-9, 0, w) for w in (rows, columns))
        wave = (rows[:, None] + 1j * columns).astype(jnp.result_type(x.dtype, np.complex64))
        whole = space.field(pieces)
        transform = jnp.fft.fft2(whole[0])
        gradient, shear = jnp.fft.ifft2(1j * wave * transform), jnp.fft.ifft2(-(wave**2) * transform)
        return Maps(whole[0], gradient, shear, whole[1], whole[2:], whole[0])
    grid, degree = _grid(space), np.arange(space.L)
    whole = SHT(grid, space.L, real=True).synthesis(space.field(pieces))
    alm = space.field(x)
    first = np.sqrt(degree * (degree + 1.0)).astype(x.dtype)[:, None]
    second = np.sqrt(np.maximum((degree - 1.0) * (degree + 2), 0)).astype(x.dtype)[:, None]
    return Maps(
        whole[0],
        SHT(grid, space.L, spin=1).synthesis(alm * first),
        SHT(grid, space.L, spin=2).synthesis(alm * first * second),
        whole[1],
        whole[2:],
        # On a grid of half as many rings one in twenty is missed.
        SHT(GaussLegendre(4 * space.L), space.L, real=True).synthesis(alm),
    )


def _is_peak(space: Space, u: np.ndarray) -> np.ndarray:
    """Which points are higher than all eight around them."""
    if isinstance(space, Torus):
        rows = [np.roll(u, k, axis=0) for k in (-1, 1)]
        return np.all([u > np.roll(r, k, axis=1) for r in rows for k in (-1, 0, 1)], axis=0) & _above_beside(u)
    half = u.shape[1] // 2
    # Beyond a pole the first ring is seen again, on the other side.
    padded = np.concatenate([np.roll(u[:1], half, axis=1), u, np.roll(u[-1:], half, axis=1)])
    rows = [padded[:-2], padded[2:]]
    return np.all([u > np.roll(r, k, axis=1) for r in rows for k in (-1, 0, 1)], axis=0) & _above_beside(u)


def _above_beside(u: np.ndarray) -> np.ndarray:
    return (u > np.roll(u, 1, axis=1)) & (u > np.roll(u, -1, axis=1))
