"""Which rings of a grid the devices of a sharded transform take, and the Fourier transforms on them."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array

from . import _transform as transform
from ._grids import Healpix

if TYPE_CHECKING:
    from ._sharded import Devices
    from ._sht import SHT


class _Rectangular:
    """Equal shares of the rings, from north to south."""

    def __init__(self, sht: SHT, devices: Devices) -> None:
        self.sht, self.devices = sht, devices
        self.rings = sht.grid.shape[0]
        #: The length of a device's share along the first axis of a map.
        self.share = math.ceil(self.rings / devices.count)
        #: Whether the shares make up the map, and no more.
        self.even = self.rings % devices.count == 0

    def deal(self, x: Array) -> Array:
        """(..., ring) -> (..., device, its ring)."""
        x = jnp.pad(x, [(0, 0)] * (x.ndim - 1) + [(0, self.devices.count * self.share - self.rings)])
        return x.reshape(*x.shape[:-1], self.devices.count, self.share)

    def undeal(self, x: Array) -> Array:
        """The transpose of `deal`."""
        return x.reshape(*x.shape[:-2], -1)[..., : self.rings]

    def to_map(self, x: Array) -> Array:
        """Complex (part, batch, own ring, order) -> the share of the maps."""
        return transform._to_map(self.sht, x)

    def from_map(self, f: Array) -> Array:
        """The adjoint of `to_map`."""
        return transform._from_map(self.sht, f)


class _Healpix:
    """Equal ranges of pixels, and all rings that have a pixel there: one on the edge of two ranges is in both.

    One program is to serve rings of all lengths, so that these are data in it: sums over orders on a ring of n points
    are convolutions with a chirp (as in `_healpix`) of one length, whatever n.
    """

    def __init__(self, sht: SHT, devices: Devices) -> None:
        grid = sht.grid
        assert isinstance(grid, Healpix)
        self.sht, self.devices = sht, devices
        self.pixels, self.rings, self.width = grid.shape[0], len(grid.nphi), 4 * grid.nside
        #: The number of pixels in a range.
        self.share = math.ceil(self.pixels / devices.count)
        self.even = self.pixels % devices.count == 0
        end = np.cumsum(grid.nphi)
        edge = np.minimum(self.share * np.arange(devices.count + 1), self.pixels)
        first = np.searchsorted(end, edge[:-1], side="right")
        last = np.searchsorted(end, edge[1:] - 1, side="right")
        ring = first[:, None] + np.arange((last - first).max() + 1)
        there = ring < self.rings
        #: By device and ring: its number; the first pixel; the number of points; half a step of longitude or none.
        #: What stands for no ring has its pixels beyond the map.
        self.ring = np.minimum(ring, self.rings - 1).astype(np.int32)
        self.start = np.where(there, (end - grid.nphi)[self.ring], 2 * self.share * devices.count).astype(np.int32)
        self.n = grid.nphi[self.ring].astype(np.int32)
        self.half = (grid.phi0 > 0)[self.ring].astype(np.int32)
        self.origin = 0 if sht.real else 1 - sht.L
        self.orders = sht.L - self.origin

    def deal(self, x: Array) -> Array:
        """(..., ring) -> (..., device, its ring)."""
        return x[..., self.ring]

    def undeal(self, x: Array) -> Array:
        """The transpose of `deal`."""
        return jnp.zeros((*x.shape[:-2], self.rings), x.dtype).at[..., self.ring].add(x)

    def to_map(self, x: Array) -> Array:
        """Complex (part, batch, own ring, order) -> the share of the maps."""
        if self.sht.real:
            orders = x[0] * np.where(np.arange(self.orders) == 0, 1, 2).astype(x.dtype)
        else:
            orders = jnp.concatenate([x[1, :, :, :0:-1], x[0]], axis=2)
        at_orders, at_points = self._chirps(x.dtype)
        points = self._convolve(orders * at_orders, self.width, -self.origin) * at_points
        points = (points.real if self.sht.real else points).reshape(x.shape[1], -1)
        start, pixel = self._own(self.start), self._first() + np.arange(self.share, dtype=np.int32)
        ring = jnp.searchsorted(start, pixel, side="right").astype(np.int32) - 1
        return points[:, ring * self.width + jnp.minimum(pixel - start[ring], self.width - 1)]

    def from_map(self, f: Array) -> Array:
        """The adjoint of `to_map`, over all orders."""
        place = np.arange(self.width, dtype=np.int32)
        pixel = self._own(self.start)[:, None] - self._first() + place
        there = (place < self._own(self.n)[:, None]) & (pixel >= 0) & (pixel < self.share)
        points = jnp.where(there, f[:, jnp.clip(pixel, 0, self.share - 1)].conj(), 0)
        at_orders, at_points = self._chirps(np.result_type(f.dtype, np.complex64))
        orders = (self._convolve(points * at_points, self.orders, self.origin) * at_orders).conj()
        if self.sht.real:
            return orders[None]
        return jnp.stack([orders[:, :, -self.origin :], orders[:, :, -self.origin :: -1]])

    def _own(self, x: np.ndarray) -> Array:
        return jnp.asarray(x)[self.devices.index()]

    def _first(self) -> Array:
        """The first pixel of this device's range."""
        return self.devices.index() * self.share

    def _chirps(self, dtype: Any) -> tuple[Array, Array]:
        """The factors at orders m and points p: with 2 m p = m**2 + p**2 - (p - m)**2 the rest is a convolution."""
        n, half = self._own(self.n)[:, None], self._own(self.half)[:, None]
        m = self.origin + np.arange(self.orders, dtype=np.int32)
        p = np.arange(self.width, dtype=np.int32)
        return _phase(m * (m + half), n, dtype), _phase(p * p, n, dtype)

    def _convolve(self, x: Array, size: int, shift: int) -> Array:
        """The sum over i of x_i exp(-i pi (k - i + shift)**2 / n) for k below `size`."""
        n = self._own(self.n)[:, None]
        length = 1 << (x.shape[-1] + size - 2).bit_length()
        k = np.arange(length, dtype=np.int32)
        # The chirp repeats itself after n, and small squares do not overflow.
        offset = jnp.remainder(np.where(k < size, k, k - length) + shift, n)
        offset = jnp.minimum(offset, n - offset)
        spectrum = jnp.fft.fft(_phase(-(offset**2), n, x.dtype), axis=-1)
        return jnp.fft.ifft(jnp.fft.fft(x, n=length, axis=-1) * spectrum, axis=-1)[..., :size]


def _phase(numerator: Array | np.ndarray, n: Array, dtype: Any) -> Array:
    """exp(i pi numerator / n)."""
    angle = (numerator % (2 * n)) * (np.pi / n)
    return lax.complex(jnp.cos(angle), jnp.sin(angle)).astype(dtype)


def rings_of(sht: SHT, devices: Devices) -> _Rectangular | _Healpix:
    return (_Healpix if isinstance(sht.grid, Healpix) else _Rectangular)(sht, devices)
