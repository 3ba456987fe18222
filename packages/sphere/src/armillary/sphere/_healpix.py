r"""From orders to pixels on the rings of HEALPix, and the transpose.

On a ring of n points with the first at :math:`\phi_0` the field is
:math:`\sum_m F_m e^{i m (\phi_0 + 2 \pi p / n)}`. The belt's rings all have ``4 nside`` points and go through one FFT.
The caps' rings have 4, 8, ..., ``4 (nside - 1)``, and FFTs of as many lengths would take minutes to compile: orders are
folded on :math:`0 \le k < n`, and the rings with n within a factor of two share one length, on which the transform is a
convolution with a chirp (Bluestein L. I. 1970, IEEE Trans. Audio Electroacoust. 18, 451, doi:10.1109/TAU.1970.1162132).
The smallest rings are matrix products.
"""

from __future__ import annotations

import functools
import itertools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from ._linear import linear_pair

#: Ring i of a cap has 4 i points; those below this are matrix products.
_DENSE = 16


def to_pixels(orders: Array, nside: int, real: bool) -> Array:
    """The map from the orders of every ring.

    Args:
        orders: complex, of shape ``(batch, 4 nside - 1, M)``: the orders from 0 on if `real`, else from ``1 - L`` to
            ``L - 1``.
        nside: the resolution.
        real: take twice the real part of all orders but the first.

    Returns:
        The map, of shape ``(batch, 12 nside**2)``.
    """
    return _to_pixels_p.bind(orders, nside=nside, real=real, M=orders.shape[2])


def to_orders(f: Array, nside: int, real: bool, M: int) -> Array:
    """The transpose of `to_pixels`."""
    return _to_orders_p.bind(f, nside=nside, real=real, M=M)


def _to_pixels(orders: Array, *, nside: int, real: bool, M: int) -> Array:
    if real:
        orders = orders * _twice(M, orders.real.dtype)
    belt = _belt(orders[:, nside - 1 : 3 * nside], nside, real, M)
    if nside == 1:
        return belt
    caps = jnp.stack([orders[:, : nside - 1], orders[:, : 3 * nside - 1 : -1]], axis=1)
    rows = []
    for first, last in _classes(nside):
        shape = _Class(first, last, _origin(M, real), M)
        x = shape.transform(shape.fold(caps[:, :, first - 1 : last - 1]))
        rows.append((x.real if real else x).reshape(*x.shape[:2], -1))
    values = jnp.concatenate(rows, axis=2)
    north, south = (values[:, cap, index] for cap, index in enumerate(_places(nside)))
    return jnp.concatenate([north, belt, south], axis=1)


def _to_orders(f: Array, *, nside: int, real: bool, M: int) -> Array:
    cap = 2 * nside * (nside - 1)
    belt = _belt_transposed(f[:, cap : f.shape[1] - cap], nside, real, M)
    rings = []
    for first, last in _classes(nside):
        shape = _Class(first, last, _origin(M, real), M)
        x = jnp.stack([f[:, index] for index in shape.pixels(f.shape[1])], axis=1)
        rings.append(shape.unfold(shape.transform(x, transpose=True)))
    if rings:
        caps = jnp.concatenate(rings, axis=2)
        belt = jnp.concatenate([caps[:, 0], belt, caps[:, 1, ::-1]], axis=1)
    return belt * _twice(M, belt.real.dtype) if real else belt


def _shape_of_pixels(x: Any, *, nside: int, real: bool, M: int) -> Any:
    dtype = np.finfo(x.dtype).dtype if real else x.dtype
    return x.update(shape=(x.shape[0], 12 * nside**2), dtype=dtype, weak_type=False)


def _shape_of_orders(x: Any, *, nside: int, real: bool, M: int) -> Any:
    dtype = np.result_type(x.dtype, np.complex64)
    return x.update(shape=(x.shape[0], 4 * nside - 1, M), dtype=dtype, weak_type=False)


_to_pixels_p, _to_orders_p = linear_pair(
    ("armillary_healpix_pixels", "armillary_healpix_orders"),
    (_to_pixels, _to_orders),
    (_shape_of_pixels, _shape_of_orders),
    axis=0,
)


def _twice(M: int, dtype: Any) -> np.ndarray:
    return np.where(np.arange(M) == 0, 1, 2).astype(dtype)


def _origin(M: int, real: bool) -> int:
    """The first order."""
    return 0 if real else -(M // 2)


def _phase(numerator: Any, n: Any) -> Array:
    """exp(i pi numerator / n), for integers of any size."""
    n = np.asarray(n, np.int32)
    angle = (numerator % (2 * n)) * (np.pi / n)
    return jax.lax.complex(jnp.cos(angle), jnp.sin(angle))


# The belt: 2 nside + 1 rings of n = 4 nside points, of which the first and every second starts half a step from 0.


def _belt(orders: Array, nside: int, real: bool, M: int) -> Array:
    n = 4 * nside
    shift = -_origin(M, real) % n
    folds = -(-(M + n - 1) // n) if shift else -(-M // n)
    x = orders * _half_steps(nside, M, real, orders.dtype)
    x = jnp.pad(x, [(0, 0), (0, 0), (0, folds * n - M)]).reshape(*x.shape[:2], folds, n).sum(axis=2)
    # Place k holds the order k - shift, up to a multiple of n.
    x = jnp.roll(x, -shift, axis=2)
    if real:
        half = jnp.concatenate([x[..., :1].real, (x[..., 1 : n // 2] + x[..., : n // 2 : -1].conj()) / 2], axis=2)
        half = jnp.concatenate([half, x[..., n // 2 : n // 2 + 1].real], axis=2)
        values = jnp.fft.irfft(half, n=n, axis=2, norm="forward")
    else:
        values = jnp.fft.ifft(x, axis=2, norm="forward")
    return values.reshape(values.shape[0], -1)


def _belt_transposed(f: Array, nside: int, real: bool, M: int) -> Array:
    n = 4 * nside
    f = f.reshape(f.shape[0], -1, n)
    if real:
        half = jnp.fft.rfft(f, axis=2)
        spectrum = jnp.concatenate([half.conj(), half[..., n // 2 - 1 : 0 : -1]], axis=2)
    else:
        spectrum = jnp.fft.ifft(f, axis=2, norm="forward")
    index = (_origin(M, real) + np.arange(M)) % n
    return spectrum[..., index.astype(np.int32)] * _half_steps(nside, M, real, spectrum.dtype)


def _half_steps(nside: int, M: int, real: bool, dtype: Any) -> Array:
    """exp(i m phi_0) of the belt's rings, of shape (rings, M)."""
    shifted = (np.arange(2 * nside + 1) % 2 == 0)[:, None]
    m = _origin(M, real) + np.arange(M)
    return jnp.where(shifted, _phase(m, 4 * nside), 1.0).astype(dtype)


# The caps: rings i from 1 to nside - 1, of n = 4 i points, that start half a step from longitude 0.


def _classes(nside: int) -> list[tuple[int, int]]:
    """The rings, first and last + 1, that share a length."""
    bounds = [1]
    while bounds[-1] < nside:
        bounds.append(min(max(_DENSE, 2 * bounds[-1]), nside))
    return list(itertools.pairwise(bounds))


class _Class:
    """The rings of both caps from `first` to before `last`, as arrays of shape (batch, cap, ring, place)."""

    def __init__(self, first: int, last: int, origin: int, M: int) -> None:
        self.first, self.M, self.origin = first, M, origin
        self.ring = np.arange(first, last)
        self.n = 4 * self.ring[:, None]
        self.width = 4 * (last - 1)

    def fold(self, orders: Array) -> Array:
        """Orders on places: k takes the orders m = k + j n, with the sign (-1)**j of half a step."""
        n = self.n[:, :, None].astype(np.int32)
        folds = -(-self.M // (4 * self.first))
        place = jnp.arange(self.width, dtype=np.int32)[:, None]
        index = (place - self.origin) % n + np.arange(folds, dtype=np.int32) * n  # (ring, place, fold)
        turns = (self.origin + index - place) // n
        sign = jnp.where((index < self.M) & (place < n), 1 - 2 * (turns % 2), 0)
        index = jnp.minimum(index, self.M - 1).reshape(len(self.ring), -1)
        taken = jnp.take_along_axis(orders, index[None, None], axis=3)
        taken = taken.reshape(*orders.shape[:3], self.width, folds)
        return (taken * sign.astype(orders.real.dtype)).sum(axis=4)

    def unfold(self, x: Array) -> Array:
        """The transpose of `fold`."""
        order = self.origin + jnp.arange(self.M, dtype=np.int32)
        n = self.n.astype(np.int32)
        index = order % n
        sign = 1 - 2 * ((order // n) % 2)
        return jnp.take_along_axis(x, index[None, None], axis=3) * sign.astype(x.real.dtype)

    def transform(self, x: Array, transpose: bool = False) -> Array:
        """The sum over places k of x_k exp(2 pi i (k + h) p / n) at all points p, with h = 1/2 for half a step of k.

        Transposed, it is the sum over points.
        """
        dtype = np.result_type(x.dtype, np.complex64)
        if self.first < _DENSE:
            places, n = np.arange(self.width), self.n[:, :, None]
            table = np.exp(1j * np.pi * ((places[:, None] * (2 * places + 1)) % (2 * n)) / n)  # (ring, k, p)
            table = np.where((places[:, None] < n) & (places < n), table, 0)
            subscripts = "bcrp,rkp->bcrk" if transpose else "bcrk,rkp->bcrp"
            return jnp.einsum(subscripts, x, table.astype(dtype), precision="highest")
        # Traced, so that the tables, as large as maps, are no constants of the program.
        k = jnp.arange(self.width, dtype=np.int32)
        at_orders = jnp.where(k < self.n, _phase(k * (k + 1), self.n), 0.0).astype(dtype)
        at_points = jnp.where(k < self.n, _phase(k * k, self.n), 0.0).astype(dtype)
        before, after = (at_points, at_orders) if transpose else (at_orders, at_points)
        # 2 k p = k**2 + p**2 - (p - k)**2
        length = 1 << (2 * self.width - 1).bit_length()
        offset = jnp.arange(length, dtype=np.int32)
        offset = jnp.minimum(offset, length - offset)
        chirp = jnp.where(offset < self.width, _phase(-(offset**2), self.n), 0.0).astype(dtype)
        spectrum = jnp.fft.fft(x * before, n=length, axis=3) * jnp.fft.fft(chirp, axis=1)
        return jnp.fft.ifft(spectrum, axis=3)[..., : self.width] * after

    def pixels(self, npix: int) -> tuple[np.ndarray, np.ndarray]:
        """The pixel at every place of the north and of the south cap; where there is none, some pixel."""
        place = np.minimum(np.arange(self.width), self.n - 1)
        ring = self.ring[:, None]
        north = 2 * ring * (ring - 1) + place
        south = npix - 2 * ring * (ring + 1) + place
        return north.astype(np.int32), south.astype(np.int32)


@functools.lru_cache(maxsize=8)
def _places(nside: int) -> tuple[np.ndarray, np.ndarray]:
    """For the pixels of the north and of the south cap, the place among those of all classes one after the other."""
    starts = []
    offset = 0
    for first, last in _classes(nside):
        width = 4 * (last - 1)
        starts.append(offset + width * np.arange(last - first))
        offset += width * (last - first)
    start = np.concatenate(starts)
    n = 4 * np.arange(1, nside)
    caps = []
    for rings in (slice(None), slice(None, None, -1)):
        within = np.concatenate([np.arange(size) for size in n[rings]])
        caps.append((np.repeat(start[rings], n[rings]) + within).astype(np.int32))
    return caps[0], caps[1]
