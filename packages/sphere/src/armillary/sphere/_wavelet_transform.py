"""The wavelet transform on checked arrays."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from ._directions import Directions, Operation, flip
from ._sht import SHT

if TYPE_CHECKING:
    from ._wavelets import Wavelets


class WaveletCoefficients[Leaf](NamedTuple):
    """The wavelet transform of a field.

    Attributes:
        scaling: the map of the scaling function.
        wavelets: for every scale, the largest first, the maps of the wavelet in each direction.
    """

    scaling: Leaf
    wavelets: tuple[Leaf, ...]


class Scale(NamedTuple):
    """One wavelet: how its coefficients are sampled, and its filter over sqrt(2 pi), by degree and active order."""

    directions: Directions
    factors: np.ndarray


@functools.partial(jax.jit, static_argnums=(0, 1), static_argnames="iterations")
def to_wavelets(w: Wavelets, operation: Operation, alm: Array, iterations: int = 0) -> WaveletCoefficients[Array]:
    dtype = alm.real.dtype
    kwargs = {"iterations": iterations} if "analysis" in operation else {}
    before, after = w.degrees()
    alm = alm * (before if operation == "synthesis" else after).astype(dtype)[:, None]
    if w.real:
        alm = (alm + flip(alm)) / 2
    wavelets: list[Array] = []
    # From the smallest scale down, so that each cuts what is left, and derivatives are summed where they are.
    for j in range(w.J, w.J_min - 1, -1):
        directions, factors = w.scale(j)
        alm = own = _cut(alm, directions.L)
        if operation != "synthesis":
            factors = factors * (2 * np.pi / directions.samples)
        each = [own * _cast(factors[:, k].conj(), dtype)[:, None] for k in range(factors.shape[1])]
        wavelets.insert(0, directions.to_function(operation, each, **kwargs))
    sht, factors = _scaling(w)
    scaling = getattr(sht, operation)(_cut(alm, sht.L) * factors.astype(dtype)[:, None], **kwargs)
    return WaveletCoefficients(scaling, tuple(wavelets))


@functools.partial(jax.jit, static_argnums=(0, 1), static_argnames="iterations")
def from_wavelets(w: Wavelets, operation: Operation, c: WaveletCoefficients[Array], iterations: int = 0) -> Array:
    kwargs = {"iterations": iterations} if "analysis" in operation else {}
    sht, factors = _scaling(w)
    scaling = getattr(sht, operation)(c.scaling, **kwargs)
    dtype = scaling.real.dtype
    alm = scaling * factors.astype(dtype)[:, None]
    for j, wavelet in enumerate(c.wavelets, w.J_min):
        directions, factors = w.scale(j)
        if operation == "analysis":
            factors = factors * (2 * np.pi / directions.samples)
        total = jnp.zeros((), alm.dtype)
        for k, own in enumerate(directions.from_function(operation, wavelet, **kwargs)):
            term = own * _cast(factors[:, k], dtype)[:, None]
            # The orders below 0 of a real function.
            total = total + (term + flip(term) if w.real and directions.orders[k] else term)
        alm = _widen(alm, directions.L) + total
    before, after = w.degrees()
    return _widen(alm, w.L) * (after if operation == "analysis" else before).astype(dtype)[:, None]


@functools.partial(jax.jit, static_argnums=0)
def steer(w: Wavelets, c: WaveletCoefficients[Array], angle: Array) -> WaveletCoefficients[Array]:
    turned = []
    for wavelet, grid in zip(c.wavelets, w.grids, strict=True):
        axis = wavelet.ndim - 1 - len(grid.shape)
        samples = wavelet.shape[axis]
        gamma = (2 * np.pi / samples * np.arange(samples)).astype(angle.dtype)
        order = np.arange(1, samples // 2 + 1)
        waves = jnp.cos(order * (gamma[:, None, None] - gamma[:, None] + angle))
        matrix = (1 + 2 * waves.sum(axis=-1)) / samples
        mixed = jnp.tensordot(matrix.astype(wavelet.dtype), wavelet, (1, axis), precision="highest")
        turned.append(jnp.moveaxis(mixed, 0, axis))
    return WaveletCoefficients(c.scaling, tuple(turned))


def _scaling(w: Wavelets) -> tuple[SHT, np.ndarray]:
    L = w.scaling_bandlimit
    return SHT(w.scaling_grid, L, real=w.real, backend=w.backend), w.filters.scaling[:L]


def _cut(alm: Array, L: int) -> Array:
    """The degrees below L."""
    whole = alm.shape[-2]
    return alm[..., :L, whole - L : whole + L - 1]


def _widen(alm: Array, L: int) -> Array:
    """The same coefficients, at the bandlimit L."""
    more = L - alm.shape[-2]
    return jnp.pad(alm, [(0, 0)] * (alm.ndim - 2) + [(0, more), (more, more)])


def _cast(x: np.ndarray, dtype: np.dtype) -> np.ndarray:
    return x.astype(np.result_type(dtype, np.complex64) if np.iscomplexobj(x) else dtype)
