r"""The transforms of ducc0, on the CPU, as JAX primitives with derivatives, transposes and batching.

A field of spin :math:`s \ge 0`, :math:`f = Q + i U`, goes to ducc0 as the pair of real maps Q and U and comes back as
a pair E and B of coefficients of orders :math:`m \ge 0`, both with the symmetry of a real field; for two fields of
spin 0, E and B are simply the coefficients of Q and U. With :math:`c = 1` for spin 0 and -1 otherwise,

.. math:: a_{lm} = c\, (E_{lm} + i B_{lm}), \qquad a_{l,-m} = c\, (-1)^m (E_{lm}^* + i B_{lm}^*).

Negative spins are reached by conjugation, :math:`{}_sY_{lm}^* = (-1)^{s+m} {}_{-s}Y_{l,-m}`, which takes U to -U, B to
-B and c to :math:`(-1)^s c`. The transposes that JAX takes do not conjugate, unlike adjoints; by the same relation they
are the adjoints at the opposite spin, with E and B conjugated, times :math:`(-1)^s`.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from ._grids import GaussLegendre

if TYPE_CHECKING:
    from ._sht import SHT

# Coefficients are transposed by square blocks of this size, which stay in the cache meanwhile.
BLOCK = 64

# ducc0's names of the layouts of rings.
GEOMETRIES = {
    "GaussLegendre": "GL",
    "McEwenWiaux": "MW",
    "McEwenWiauxSS": "CC",
    "DriscollHealy": "F1",
    "ClenshawCurtis": "CC",
}


@functools.cache
def available() -> bool:
    """Whether jaxbind and ducc0 are installed."""
    return find_spec("jaxbind") is not None and find_spec("ducc0") is not None


def synthesis(sht: SHT, alm: Array) -> Array:
    """(b, L, 2 L - 1) -> (b, *grid.shape)."""
    return _to_map(sht, alm, weighted=False)


def adjoint_synthesis(sht: SHT, f: Array) -> Array:
    """(b, *grid.shape) -> (b, L, 2 L - 1)."""
    return _from_map(sht, f, weighted=False)


def analysis(sht: SHT, f: Array) -> Array:
    """(b, *grid.shape) -> (b, L, 2 L - 1), on all grids but HEALPix."""
    wide = _whole(sht)
    return _from_map(wide, f, weighted=True)[:, : sht.L, wide.L - sht.L : wide.L + sht.L - 1]


def adjoint_analysis(sht: SHT, alm: Array) -> Array:
    """(b, L, 2 L - 1) -> (b, *grid.shape), on all grids but HEALPix."""
    wide = _whole(sht)
    extra = wide.L - sht.L
    return _to_map(wide, jnp.pad(alm, [(0, 0), (0, extra), (extra, extra)]), weighted=True)


def _whole(sht: SHT) -> SHT:
    """The transform at the grid's own bandlimit, where the analysis below it would take what is above for its own.

    That of ducc0 takes maps to be of the bandlimit that is asked for, but on Gauss-Legendre grids.
    """
    if isinstance(sht.grid, GaussLegendre) or sht.L == sht.grid.L:
        return sht
    return dataclasses.replace(sht, L=sht.grid.L)


def _to_map(sht: SHT, alm: Array, weighted: bool) -> Array:
    (f,) = _primitives()[0](alm, sht=sht, weighted=weighted)
    return f.reshape(f.shape[0], *sht.grid.shape)


def _from_map(sht: SHT, f: Array, weighted: bool) -> Array:
    (alm,) = _primitives()[1](f.reshape(f.shape[0], *_map_shape(sht)), sht=sht, weighted=weighted)
    return alm


# Between the primitives and here maps have two axes, like coefficients, so that a batch axis that `vmap` puts anywhere
# among those of the input can have the same place in the output; jaxbind's transposes rely on that.


def _map_shape(sht: SHT) -> tuple[int, int]:
    return sht.grid.shape[0], math.prod(sht.grid.shape[1:])


def _abstract_maps(alm: Any, *, sht: SHT, weighted: bool, batch_axes: Any) -> Any:
    dtype = np.empty(0, alm.dtype).real.dtype if sht.real else alm.dtype
    return _abstract(alm, _map_shape(sht), dtype, batch_axes)


def _abstract_coefficients(f: Any, *, sht: SHT, weighted: bool, batch_axes: Any) -> Any:
    return _abstract(f, (sht.L, 2 * sht.L - 1), np.result_type(f.dtype, np.complex64), batch_axes)


def _abstract(x: Any, trailing: tuple[int, int], dtype: np.dtype, batch_axes: Any) -> Any:
    shape = list(x.shape)
    for axis, size in zip(_batch_first(x.ndim, batch_axes)[-2:], trailing, strict=True):
        shape[axis] = size
    return ((tuple(shape), np.dtype(dtype), batch_axes[0][-1] if batch_axes else None),)


def _batch_first(ndim: int, batch_axes: Any) -> list[int]:
    """The order of axes in which those added by `vmap` come first."""
    batch = list(batch_axes[0]) if batch_axes else []
    return batch + [axis for axis in range(ndim) if axis not in batch]


def _run(
    transform: Callable[..., None], flip: bool, out: tuple[np.ndarray], args: tuple[np.ndarray], dump: np.ndarray
) -> None:
    """What XLA calls: `transform` for each member of the batch."""
    from jaxbind import load_kwargs

    kwargs = load_kwargs(dump)
    order = _batch_first(args[0].ndim, kwargs["batch_axes"])
    x, target = args[0].transpose(order), out[0].transpose(order)
    x, y = np.ascontiguousarray(x), np.ascontiguousarray(target)
    transform(kwargs["sht"], kwargs["weighted"], flip, x.reshape(-1, *x.shape[-2:]), y.reshape(-1, *y.shape[-2:]))
    if y is not target:
        target[...] = y


def _maps_of(sht: SHT, weighted: bool, flip: bool, alm: np.ndarray, f: np.ndarray) -> None:
    spin = -sht.spin if flip else sht.spin
    call, kwargs = _call("adjoint_analysis" if weighted else "synthesis", sht, spin, flip, 0.5)
    parts = _parts(sht, alm.dtype)
    for one, target in zip(alm, f, strict=True):
        _split(one, parts, flip, spin < 0)
        maps = _real_maps(sht, target)
        for part in _together(sht):
            call(alm=parts[part].reshape(-1, parts[0].size), map=maps[part], **kwargs)
        if spin < 0:
            np.negative(maps[1], out=maps[1])
    _SPARE[:] = [parts]


def _coefficients_of(sht: SHT, weighted: bool, flip: bool, f: np.ndarray, alm: np.ndarray) -> None:
    spin = -sht.spin if flip else sht.spin
    call, kwargs = _call("analysis" if weighted else "adjoint_synthesis", sht, spin, flip, 1.0)
    parts = _parts(sht, alm.dtype)
    for one, target in zip(f, alm, strict=True):
        maps = _real_maps(sht, one.conj() if spin < 0 else one)
        for part in _together(sht):
            call(alm=parts[part].reshape(-1, parts[0].size), map=maps[part], **kwargs)
        _join(parts, target, flip, spin < 0)
    _SPARE[:] = [parts]


def _call(name: str, sht: SHT, spin: int, flip: bool, factor: float) -> tuple[Callable[..., Any], dict[str, Any]]:
    """The function of ducc0 and its arguments, but for the arrays."""
    from ducc0 import sht as ducc

    sign = (-1 if spin else 1) * (-1) ** (spin if (spin < 0) != flip else 0)
    kwargs = {
        "spin": abs(spin),
        "lmax": sht.L - 1,
        "mstart": np.arange(sht.L, dtype=np.uint64) * _stride(sht.L),
        "ringfactor": np.full(len(sht.grid.theta), sign * factor),
        "nthreads": 0,
    }
    geometry = GEOMETRIES.get(type(sht.grid).__name__)
    if geometry:
        return getattr(ducc, name + "_2d"), kwargs | {"geometry": geometry}
    nphi = np.asarray(sht.grid.nphi, np.uint64)
    rings = {
        "theta": sht.grid.theta,
        "nphi": nphi,
        "phi0": sht.grid.phi0,
        "ringstart": np.cumsum(nphi, dtype=np.uint64) - nphi,
    }
    return getattr(ducc, name), kwargs | rings


def _stride(L: int) -> int:
    """How far apart orders are: not a power of two, for then the same degrees share a few places of the cache."""
    return L + 4


# The space of the last call: new memory of this size costs as much as a tenth of a transform.
_SPARE: list[np.ndarray] = []


def _parts(sht: SHT, dtype: np.dtype) -> np.ndarray:
    """Space for E and B, or E, by order m >= 0 and degree; nothing is kept where l < m, but for zeros near l = m."""
    shape = (1 if sht.real else 2, sht.L, _stride(sht.L))
    try:
        parts = _SPARE.pop()
    except IndexError:
        parts = np.empty(shape, dtype)
    if parts.shape != shape or parts.dtype != dtype:
        parts = np.empty(shape, dtype)
    for start in range(0, sht.L, BLOCK):
        parts[:, start : start + BLOCK, start : start + BLOCK] = 0
    return parts


def _together(sht: SHT) -> list[slice]:
    """Which of E and B, and of Q and U, ducc0 transforms in one call."""
    if sht.spin:
        return [slice(0, 2)]
    return [slice(0, 1)] if sht.real else [slice(0, 1), slice(1, 2)]


def _real_maps(sht: SHT, f: np.ndarray) -> np.ndarray:
    """Views of a map's real and imaginary parts, on a leading axis."""
    if sht.real:
        return f.reshape(1, *sht.grid.shape)
    return np.moveaxis(f.view(f.real.dtype).reshape(*sht.grid.shape, 2), -1, 0)


@functools.lru_cache(maxsize=16)
def _signs(L: int, dtype: np.dtype) -> np.ndarray:
    """(-1)**m and conjugation, as factors of the real and imaginary parts of orders 1 - L to L - 1."""
    return np.outer(1 - 2 * (np.arange(1 - L, L) % 2), [1, -1]).ravel().astype(dtype)


def _blocks(L: int) -> Iterator[tuple[slice, slice, slice, slice]]:
    """Blocks of degrees and of orders m, with the columns of m and of -m in dense coefficients."""
    for l0 in range(0, L, BLOCK):
        for m0 in range(0, l0 + 1, BLOCK):
            m1 = min(m0 + BLOCK, L)
            yield slice(l0, l0 + BLOCK), slice(m0, m1), slice(L - 1 + m0, L - 1 + m1), slice(L - m1, L - m0)


def _split(alm: np.ndarray, parts: np.ndarray, flip: bool, negate: bool) -> None:
    """Dense coefficients -> 2 E, or 2 E and 2 B, but for the sign c; `flip` conjugates, `negate` takes B to -B."""
    L = alm.shape[0]
    signs = _signs(L, alm.real.dtype)
    for degrees, orders, positive, negative in _blocks(L):
        same = alm[degrees, positive]
        mirrored = alm[degrees, negative][:, ::-1].copy()
        # In real arithmetic, which is faster than conjugation.
        mirrored.view(signs.dtype)[...] *= signs[2 * positive.start : 2 * positive.stop]
        pair = [mirrored]
        if len(parts) == 2:
            pair.append((same - mirrored) * (1j if negate else -1j))
        mirrored += same
        for part, block in zip(parts, pair, strict=True):
            part[orders, degrees.start : degrees.start + len(block)] = (block.conj() if flip else block).T


def _join(parts: np.ndarray, alm: np.ndarray, flip: bool, negate: bool) -> None:
    """E, or E and B -> dense coefficients, but for the sign c; `flip` and `negate` as in `_split`."""
    L = alm.shape[0]
    signs = _signs(L, alm.real.dtype)
    numbers = alm.view(signs.dtype)
    for l0 in range(0, L, BLOCK // 2):
        # Whole rows of the result, in the order of memory.
        l1 = min(l0 + BLOCK // 2, L)
        pair = parts[:, :l1, l0:l1]
        same = mirrored = pair[0]
        if len(pair) == 2:
            turned = pair[1] * (-1j if negate else 1j)
            same, mirrored = pair[0] + turned, pair[0] - turned
        if flip:
            same, mirrored = mirrored.conj(), same.conj()
        alm[l0:l1, : L - l1] = 0
        alm[l0:l1, L - l1 : L] = mirrored[::-1].T
        numbers[l0:l1, 2 * (L - l1) : 2 * L] *= signs[2 * (L - l1) : 2 * L]
        alm[l0:l1, L - 1 : L - 1 + l1] = same.T
        alm[l0:l1, L - 1 + l1 :] = 0


# XLA knows these by their addresses: they have to live as long as the program.
_FORWARD_MAPS = functools.partial(_run, _maps_of, False)
_FORWARD_COEFFICIENTS = functools.partial(_run, _coefficients_of, False)
_TRANSPOSED_MAPS = functools.partial(_run, _maps_of, True)
_TRANSPOSED_COEFFICIENTS = functools.partial(_run, _coefficients_of, True)


@functools.cache
def _primitives() -> tuple[Callable[..., Any], Callable[..., Any]]:
    """Coefficients to map, and map to coefficients."""
    from jaxbind import get_linear_call

    abstract = _abstract_maps, _abstract_coefficients
    to_map = get_linear_call(_FORWARD_MAPS, _TRANSPOSED_COEFFICIENTS, *abstract, func_can_batch=True)
    from_map = get_linear_call(_FORWARD_COEFFICIENTS, _TRANSPOSED_MAPS, *abstract[::-1], func_can_batch=True)
    return to_map, from_map
