r"""The filters of a discrete-continuous convolution, rotated to every centre and sampled at the points of a grid.

With the rotation :math:`R_\omega = R_z(\phi) R_y(\theta)` that takes the north pole to the centre
:math:`\omega = (\theta, \phi)`, the contraction of a field f is

.. math:: z_k(\omega) = \frac{1}{2 \pi (1 - \cos c)} \sum_i q_i\, \psi_k(R_\omega^{-1} \omega_i)\, f(\omega_i)

over the points within the cutoff c, with the weights q of their quadrature. Filters are functions on the sphere, never
interpolated. Where both grids have rings of points at the same longitudes, it is a circular correlation along the ring
for each pair of rings that the cap reaches, done by Fourier transforms; else each centre has a list of points.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from ._disco_basis import Basis
from ._grids import Grid, RectangularGrid

#: Points this little beyond the edge count as on it: rounding decides on no point where a ring touches the cap.
_EDGE = 1e-9


@dataclass(frozen=True)
class Stencil:
    """Filters about the points of one grid, `centres`, sampled at those of another, `points`.

    Args:
        centres: where filters are centred.
        points: where they are sampled.
        basis: the filters.
        cutoff: the radius of their support in radians.
        weighted: which of the two grids has its quadrature weights in the sum.
    """

    centres: Grid
    points: Grid
    basis: Basis
    cutoff: float
    weighted: Literal["points", "centres"]

    @property
    def method(self) -> Literal["fourier", "lists"]:
        """What computes: chosen by the grids and the counted work."""
        centres, points = self.centres, self.points
        if not isinstance(centres, RectangularGrid) or not isinstance(points, RectangularGrid):
            return "lists"
        if points.shape[1] % centres.shape[1] or points.shape[0] < centres.shape[0]:
            return "lists"
        # Multiplications and additions for a channel; on a CPU one takes as long in either method, to a factor of 1.5.
        n = points.shape[1]
        transforms = 2.5 * math.log2(n) * (points.shape[0] + centres.shape[0])
        fourier = n * (2 * self.basis.size * self.band.width * centres.shape[0] + transforms)
        return "fourier" if fourier <= self.basis.size * self.pairs else "lists"

    @property
    def band(self) -> Band:
        """The rings that filters reach."""
        return _band(self)

    @property
    def pairs(self) -> int:
        """The number of pairs of a centre and a point within its cap."""
        return _pairs(self)

    def tables(self, dtype: np.dtype) -> tuple[Array, ...]:
        """What the contraction and its transpose need, of a real dtype; kept for the next time."""
        return _tables(self, np.dtype(dtype))


class Band(NamedTuple):
    """Ring t of the centres reaches rings ``stride * t - before`` to ``stride * t - before + width - 1`` of points."""

    stride: int
    before: int
    width: int


@functools.lru_cache(maxsize=256)
def _band(stencil: Stencil) -> Band:
    centres, points = stencil.centres.theta, stencil.points.theta
    reach = stencil.cutoff * (1 + _EDGE)
    # A cap too small for any ring still has its nearest one.
    low = np.minimum(np.searchsorted(points, centres - reach), len(points) - 1)
    high = np.maximum(np.searchsorted(points, centres + reach, side="right") - 1, low)
    stride = max(1, round(len(points) / len(centres)))
    first = stride * np.arange(len(centres))
    before = max(0, -int((low - first).min()))
    return Band(stride, before, int((high - first).max()) + before + 1)


@functools.lru_cache(maxsize=256)
def _pairs(stencil: Stencil) -> int:
    centres, points = stencil.centres, stencil.points
    total = 0
    for t, rings in _reached(stencil):
        n, counts = int(centres.nphi[t]), points.nphi[rings][:, None]
        # Where all centres of a ring are alike, one is enough.
        alike = isinstance(points, RectangularGrid) and points.shape[1] % n == 0
        phi = centres.phi0[t] + 2 * np.pi / n * np.arange(1 if alike else n)
        half, first = _half_width(stencil, t, rings)[:, None], points.phi0[rings][:, None]
        ends = [np.floor((s * half + phi - first) * counts / (2 * np.pi) * s + 1e-9) * s for s in (1, -1)]
        total += int(np.minimum(ends[0] - ends[1] + 1, counts).sum()) * (n if alike else 1)
    return total


@functools.lru_cache(maxsize=16)
def _rings(grid: Grid) -> tuple[np.ndarray, np.ndarray]:
    """The colatitudes and weights of a grid, which computes them at each look."""
    return grid.theta, grid.weights


def _reached(stencil: Stencil) -> Iterator[tuple[int, np.ndarray]]:
    """Each ring of the centres and the rings of the points that it reaches."""
    theta = _rings(stencil.points)[0]
    for t, centre in enumerate(_rings(stencil.centres)[0]):
        yield t, np.flatnonzero(abs(theta - centre) <= stencil.cutoff * (1 + _EDGE))


def _half_width(stencil: Stencil, t: int, rings: np.ndarray) -> np.ndarray:
    """The largest difference of longitudes, for a ring of the centres and rings of the points, within the cap."""
    theta, other = _rings(stencil.centres)[0][t], _rings(stencil.points)[0][rings]
    reach = np.sin(min(stencil.cutoff * (1 + _EDGE), np.pi) / 2) ** 2
    inside = reach - np.sin((other - theta) / 2) ** 2
    product = np.sin(theta) * np.sin(other)
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = np.where(product > 1e-30, inside / product, 1)
    return np.where(inside < 0, 0, 2 * np.arcsin(np.sqrt(np.clip(ratio, 0, 1))))


def filters(stencil: Stencil, theta: np.ndarray, other: np.ndarray, delta: np.ndarray) -> np.ndarray:
    """The filters about centres at colatitude `theta`, at points of colatitude `other` and `delta` further east.

    Zero beyond the cutoff; a first axis for the basis. Divided by the solid angle of the cap.
    """
    half = np.sin(delta / 2) ** 2
    x = np.sin(other - theta) - 2 * np.cos(theta) * np.sin(other) * half
    y = np.sin(other) * np.sin(delta)
    away = 2 * np.arcsin(
        np.sqrt(np.clip(np.sin((other - theta) / 2) ** 2 + np.sin(theta) * np.sin(other) * half, 0, 1))
    )
    inside = away <= stencil.cutoff * (1 + _EDGE)
    u = np.minimum(away / stencil.cutoff, 1)
    area = 2 * np.pi * 2 * np.sin(stencil.cutoff / 2) ** 2
    return np.where(inside, stencil.basis(u, np.arctan2(y, x)), 0) / area


@functools.lru_cache(maxsize=64)
def _tables(stencil: Stencil, dtype: np.dtype) -> tuple[Array, ...]:
    # float64 is cut to what JAX has: the tables are the same.
    with jax.ensure_compile_time_eval():
        make = _spectra if stencil.method == "fourier" else _lists
        return tuple(jnp.asarray(table) for table in make(stencil, dtype))


def _weight(stencil: Stencil, t: int, rings: np.ndarray) -> np.ndarray:
    """The quadrature weight of every ring of `rings` for the ring t of the centres."""
    if stencil.weighted == "points":
        return _rings(stencil.points)[1][rings]
    return np.full(len(rings), _rings(stencil.centres)[1][t])


def _spectra(stencil: Stencil, dtype: np.dtype) -> list[np.ndarray]:
    """The Fourier coefficients along the ring, of shape (real and imaginary part, k, band, centres' rings, orders).

    The imaginary part is left out where it is zero.
    """
    n = stencil.points.shape[1]
    stride, before, width = stencil.band
    even = stencil.basis.kind == "axisymmetric"
    shape = (1 if even else 2, stencil.basis.size, width, stencil.centres.shape[0], n // 2 + 1)
    table = np.zeros(shape, dtype)
    phi = 2 * np.pi * np.arange(n) / n
    half = np.sin(phi / 2) ** 2
    theta = _rings(stencil.points)[0]
    reach = np.sin(min(stencil.cutoff * (1 + _EDGE), np.pi) / 2) ** 2 * (1 + _EDGE)
    for t, rings in _reached(stencil):
        if not len(rings):
            continue
        centre, other = _rings(stencil.centres)[0][t], theta[rings]
        near = np.sin((other - centre) / 2)[:, None] ** 2 + np.sin(centre) * np.sin(other)[:, None] * half <= reach
        row, column = np.nonzero(near)
        values = np.zeros((stencil.basis.size, len(rings), n))
        values[:, row, column] = filters(stencil, centre, other[row], phi[column])
        spectrum = np.fft.rfft(values * _weight(stencil, t, rings)[:, None])
        slots = rings - (stride * t - before)
        table[0, :, slots, t] = spectrum.real.swapaxes(0, 1)
        if not even:
            table[1, :, slots, t] = spectrum.imag.swapaxes(0, 1)
    return [table]


def _lists(stencil: Stencil, dtype: np.dtype) -> list[np.ndarray]:
    """The points of every centre, then the centres of every point: see `_grouped`."""
    centre, point, values = (np.concatenate(x, axis=-1) for x in zip(*_entries(stencil), strict=True))
    numbers = [int(np.prod(grid.shape)) for grid in (stencil.centres, stencil.points)]
    values = values.astype(dtype)
    return [*_grouped(centre, point, values, numbers[0]), *_grouped(point, centre, values, numbers[1])]


def _entries(stencil: Stencil) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Numbers of centres and points, and the filters, ring by ring."""
    centres, points = stencil.centres, stencil.points
    starts = np.concatenate([[0], np.cumsum(centres.nphi)]), np.concatenate([[0], np.cumsum(points.nphi)])
    for t, rings in _reached(stencil):
        phi = centres.phi0[t] + 2 * np.pi / centres.nphi[t] * np.arange(centres.nphi[t])
        widths = _half_width(stencil, t, rings)
        for ring, half, weight in zip(rings, widths, _weight(stencil, t, rings), strict=True):
            count, step = int(points.nphi[ring]), 2 * np.pi / points.nphi[ring]
            window = min(count, 2 * math.ceil(half / step) + 2)
            first = np.floor((phi - half - points.phi0[ring]) / step).astype(int)
            column = (first[:, None] + np.arange(window)) % count
            delta = points.phi0[ring] + step * column - phi[:, None]
            values = filters(stencil, _rings(centres)[0][t], _rings(points)[0][ring], delta) * weight
            row, place = np.nonzero(values.any(axis=0))
            yield starts[0][t] + row, starts[1][ring] + column[row, place], values[:, row, place]


def _grouped(row: np.ndarray, column: np.ndarray, values: np.ndarray, rows: int) -> list[np.ndarray]:
    """Lists of about equal length in one table each: where each row is in them all, then columns and values of each.

    The lengths are powers of two; lists are filled up with the value 0. Values have the axes row, place, k.
    """
    order = np.argsort(row, kind="stable")
    row, column, values = row[order], column[order], values[:, order]
    counts = np.bincount(row, minlength=rows)
    place = np.arange(len(row)) - np.repeat(np.cumsum(counts) - counts, counts)
    group = np.ceil(np.log2(np.maximum(counts, 1))).astype(int)
    where = np.empty(rows, np.int32)
    tables: list[np.ndarray] = []
    done = 0
    for g in np.unique(group):
        members = np.flatnonzero(group == g)
        where[members] = done + np.arange(len(members))
        length = max(1, int(counts[members].max()))
        mine = group[row] == g
        at = where[row[mine]] - done, place[mine]
        columns = np.zeros((len(members), length), np.int32)
        columns[at] = column[mine]
        table = np.zeros((len(members), length, len(values)), values.dtype)
        table[at] = values[:, mine].T
        tables += [columns, table]
        done += len(members)
    return [where, *tables]
