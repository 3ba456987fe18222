"""The transform in JAX: coefficients to lanes, the Legendre stage, the grid's own rings, and longitudes.

Between the stages are real arrays ``(orders, parts, batch, 2, rings)``: parts are the orders from 0 up and, for complex
maps, those from 0 down, and the axis of two holds real and imaginary parts. Every function has its adjoint below it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from . import _layout as layout
from . import _legendre, _table
from ._grids import EquiangularGrid, Healpix
from ._healpix import to_orders, to_pixels
from ._resample import from_gauss, to_gauss
from ._rings import Rings

if TYPE_CHECKING:
    from ._sht import SHT

Table = tuple[Array, ...]


def synthesis(sht: SHT, alm: Array, table: Table = ()) -> Array:
    """Maps ``(batch, *grid.shape)`` from coefficients ``(batch, L, 2 L - 1)``."""
    return _forward(sht, alm, table, False)


def adjoint_analysis(sht: SHT, alm: Array, table: Table = ()) -> Array:
    """The adjoint of `analysis`."""
    return _forward(sht, alm, table, True)


def adjoint_synthesis(sht: SHT, f: Array, table: Table = ()) -> Array:
    """The adjoint of `synthesis`."""
    return _adjoint(sht, f, table, False)


def analysis(sht: SHT, f: Array, table: Table = ()) -> Array:
    """Coefficients from maps on grids on which it is exact."""
    return _adjoint(sht, f, table, True)


def rings_of(sht: SHT) -> Rings:
    """The rings of the Legendre stage."""
    if isinstance(sht.grid, Healpix):
        return Rings("healpix", sht.grid.nside)
    return Rings("gauss-legendre", sht.L if isinstance(sht.grid, EquiangularGrid) else sht.grid.L)


def table_of(sht: SHT, x: Array) -> Table:
    """What the backend ``"table"`` has stored; nothing for others."""
    return _table.table(rings_of(sht), sht.L, sht.spin, np.finfo(x.dtype).dtype) if sht.engine == "table" else ()


def _forward(sht: SHT, alm: Array, table: Table, weighted: bool) -> Array:
    x = _to_rings(sht, alm, table)
    x = _to_grid(sht, x, weighted)
    return _to_map(sht, layout.from_real(x))


def _adjoint(sht: SHT, f: Array, table: Table, weighted: bool) -> Array:
    x = layout.to_real(_from_map(sht, f))
    x = _from_grid(sht, x, weighted)
    return _from_rings(sht, x, table)


# Coefficients and rings.


def _to_rings(sht: SHT, alm: Array, table: Table) -> Array:
    def to_lanes(parts: list[Array]) -> Array:
        return layout.to_lanes(parts, sht.spin)

    return sum_degrees(sht, *layout.split_orders(alm), to_lanes, lambda lanes: _synthesise(sht, lanes, table))


def _from_rings(sht: SHT, x: Array, table: Table) -> Array:
    def from_lanes(lanes: Array, parts: int) -> list[Array]:
        return layout.from_lanes(lanes, sht.spin, parts)

    return join_parts(sht, sum_rings(sht, x, lambda sums: _analyse(sht, sums, table), from_lanes))


def sum_degrees(
    sht: SHT,
    positive: Array,
    negative: Array,
    to_lanes: Callable[[list[Array]], Array],
    synthesise: Callable[[Array], Array],
) -> Array:
    """Coefficients ``(batch, degree, order)`` of orders m and -m -> ``(order, part, batch, 2, ring)``.

    The orders are even and odd in turn; `to_lanes` takes parts to the lanes that `synthesise` sums.
    """
    count, orders = rings_of(sht).number, positive.shape[2]
    if sht.spin:
        # On the southern rings a lane of order m and sign + is that of sign - on the northern ones, up to a sign.
        parity = (layout.order_signs(sht.L, positive.real.dtype) * (-1) ** sht.spin)[:, None]
        lanes = [to_lanes([positive, parity * negative]), to_lanes([negative, parity * positive])]
        sums = synthesise(jnp.concatenate(lanes))[:, 0]
        sums = sums.reshape(2, orders, 2, -1, sums.shape[-1])  # lanes of sign + and -, orders, parts
        x = layout.join_hemispheres(sums[:, :, 0], sums[::-1, :, 1], count)
        x = jnp.moveaxis(x, 0, 1)
    else:
        signs = layout.order_signs(orders, positive.real.dtype)
        parts = [(positive + signs * negative.conj()) / 2] if sht.real else [positive, signs * negative]
        sums = synthesise(to_lanes(parts))
        x = layout.join_hemispheres(sums[:, 0] + sums[:, 1], sums[:, 0] - sums[:, 1], count)
    return x.reshape(orders, 1 if sht.real else 2, -1, 2, count)


def sum_rings(
    sht: SHT, x: Array, analyse: Callable[[Array], Array], from_lanes: Callable[[Array, int], list[Array]]
) -> list[Array]:
    """The transpose of `sum_degrees`, but for what `join_parts` does to the parts."""
    orders, parts = x.shape[:2]
    north, south = layout.split_hemispheres(x)
    if sht.spin:
        sums = jnp.stack([north, south[:, ::-1]], axis=2)  # orders, lanes of sign + and -, parts
        lanes = analyse(jnp.moveaxis(sums, 1, 0).reshape(2 * orders, 1, -1, north.shape[-1]))
        positive, minus_turned = from_lanes(lanes[:orders], 2)
        negative, turned = from_lanes(lanes[orders:], 2)
        parity = (layout.order_signs(sht.L, x.dtype) * (-1) ** sht.spin)[:, None]
        return [positive + parity * turned, negative + parity * minus_turned]
    sums = jnp.stack([north + south, north - south], axis=1).reshape(orders, 2, -1, north.shape[-1])
    return from_lanes(analyse(sums), parts)


def join_parts(sht: SHT, found: list[Array]) -> Array:
    """Dense coefficients from what `sum_rings` gives, of all orders."""
    positive, negative = found[0], found[-1]
    if not sht.spin:
        negative = layout.order_signs(sht.L, negative.real.dtype) * (negative.conj() if sht.real else negative)
    if sht.real:
        positive = positive.at[:, :, 0].set(positive[:, :, 0].real)
    return layout.join_orders(positive, negative)


def _synthesise(sht: SHT, coefficients: Array, table: Table) -> Array:
    if sht.engine == "table":
        return _table.synthesise(coefficients, table, sht.spin)
    return _legendre.synthesise(coefficients, rings_of(sht), sht.L, sht.spin, sht.engine)


def _analyse(sht: SHT, sums: Array, table: Table) -> Array:
    if sht.engine == "table":
        return _table.analyse(sums, table, sht.spin)
    return _legendre.analyse(sums, rings_of(sht), sht.L, sht.spin, sht.engine)


# The rings of the Legendre stage and those of the grid.


def _to_grid(sht: SHT, x: Array, weighted: bool) -> Array:
    if isinstance(sht.grid, EquiangularGrid):
        return _by_parity("hpcj,ptj->hpct", sht, x, weighted)
    return x * sht.grid.weights.astype(x.dtype) if weighted else x


def _from_grid(sht: SHT, x: Array, weighted: bool) -> Array:
    if isinstance(sht.grid, EquiangularGrid):
        return _by_parity("hpct,ptj->hpcj", sht, x, weighted)
    return x * sht.grid.weights.astype(x.dtype) if weighted else x


def _by_parity(subscripts: str, sht: SHT, x: Array, weighted: bool) -> Array:
    assert isinstance(sht.grid, EquiangularGrid)
    if weighted:
        matrices = to_gauss(sht.grid, sht.L).transpose(0, 2, 1) * (2 * np.pi / sht.grid.shape[1])
    else:
        matrices = from_gauss(sht.grid, sht.L)
    if sht.spin % 2:
        matrices = matrices[::-1]
    orders, *middle, rings = x.shape
    x = jnp.pad(x, [(0, orders % 2)] + [(0, 0)] * (x.ndim - 1)).reshape((orders + 1) // 2, 2, -1, rings)
    x = jnp.einsum(subscripts, x, jnp.asarray(matrices, x.dtype), precision="highest")
    return x.reshape(-1, *middle, x.shape[-1])[:orders]


# Rings and maps; complex arrays of shape (parts, batch, rings, orders).


def _to_map(sht: SHT, x: Array) -> Array:
    if isinstance(sht.grid, Healpix):
        orders = x[0] if sht.real else jnp.concatenate([x[1, :, :, :0:-1], x[0]], axis=2)
        return to_pixels(orders, sht.grid.nside, sht.real)
    longitudes = sht.grid.shape[1]
    if sht.real:
        return jnp.fft.irfft(x[0], n=longitudes, axis=2, norm="forward")
    gap = jnp.zeros((*x.shape[1:3], longitudes - 2 * sht.L + 1), x.dtype)
    return jnp.fft.ifft(jnp.concatenate([x[0], gap, x[1, :, :, :0:-1]], axis=2), axis=2, norm="forward")


def _from_map(sht: SHT, f: Array) -> Array:
    L = sht.L
    if isinstance(sht.grid, Healpix):
        # The transpose of a map's real part counts the orders above 0 twice; the adjoint, over all orders, does not.
        M = L if sht.real else 2 * L - 1
        orders = to_orders(f.conj(), sht.grid.nside, sht.real, M).conj()
        if sht.real:
            return (orders * np.where(np.arange(L) == 0, 1, 0.5).astype(f.dtype))[None]
        return jnp.stack([orders[:, :, L - 1 :], orders[:, :, :L][:, :, ::-1]])
    if sht.real:
        return jnp.fft.rfft(f, axis=2)[None, :, :, :L]
    spectrum = jnp.fft.fft(f, axis=2)
    below = jnp.flip(spectrum[:, :, f.shape[2] - L + 1 :], axis=2)
    return jnp.stack([spectrum[:, :, :L], jnp.pad(below, [(0, 0), (0, 0), (1, 0)])])
