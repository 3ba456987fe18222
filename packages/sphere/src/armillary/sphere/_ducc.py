"""The transforms of ducc0, on the CPU, as JAX primitives with derivatives, transposes and batching.

A field of spin :math:`s \\ge 0`, :math:`f = Q + i U`, goes to ducc0 as the pair of real maps Q and U and comes back as a
pair E and B of coefficients of orders :math:`m \\ge 0`, both with the symmetry of a real field; for two fields of spin 0
E and B are simply the coefficients of Q and U. With :math:`c = 1` for spin 0 and -1 otherwise,

.. math:: a_{lm} = c\\, (E_{lm} + i B_{lm}), \\qquad a_{l,-m} = c\\, (-1)^m (E_{lm}^* + i B_{lm}^*).

Negative spins are reached by conjugation, :math:`{}_sY_{lm}^* = (-1)^{s+m} {}_{-s}Y_{l,-m}`, which takes U to -U, B to
-B and c to :math:`(-1)^s c`. The transposes that JAX takes do not conjugate, unlike adjoints; by the same relation they
are the adjoints at the opposite spin, with E and B conjugated, times :math:`(-1)^s`.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Array

if TYPE_CHECKING:
    from ._sht import SHT

# Coefficients are repacked by blocks of this many degrees, which stay in the cache from pass to pass.
BLOCK = 32

# ducc0's names of the layouts of rings.
GEOMETRIES = {
    "GaussLegendre": "GL",
    "McEwenWiaux": "MW",
    "McEwenWiauxSS": "CC",
    "DriscollHealy": "F1",
    "ClenshawCurtis": "CC",
}


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
    return _from_map(sht, f, weighted=True)


def adjoint_analysis(sht: SHT, alm: Array) -> Array:
    """(b, L, 2 L - 1) -> (b, *grid.shape), on all grids but HEALPix."""
    return _to_map(sht, alm, weighted=True)


def _to_map(sht: SHT, alm: Array, weighted: bool) -> Array:
    (f,) = _primitives()[0](alm, sht=sht, weighted=weighted)
    return f.reshape(f.shape[0], *sht.grid.shape)


def _from_map(sht: SHT, f: Array, weighted: bool) -> Array:
    (alm,) = _primitives()[1](f.reshape(f.shape[0], *_map_shape(sht)), sht=sht, weighted=weighted)
    return alm


# Between the primitives and here maps have two axes, like coefficients, so that a batch axis that `vmap` puts anywhere
# among those of the input can have the same place in the output; jaxbind's transposes rely on that.


def _map_shape(sht: SHT) -> tuple[int, int]:
    return sht.grid.shape if len(sht.grid.shape) == 2 else (*sht.grid.shape, 1)


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
    L, spin = sht.L, -sht.spin if flip else sht.spin
    call, kwargs = _call("adjoint_analysis" if weighted else "synthesis", sht, spin, flip, 0.5)
    parts = np.empty((1 if sht.real else 2, L, _stride(L)), alm.dtype)
    kwargs |= _places(0, parts.shape[2], L)
    for one, target in zip(alm, f, strict=True):
        _split(one, parts, flip, spin < 0)
        maps = _real_maps(sht, target)
        for part in _together(sht):
            call(alm=parts[part].reshape(-1, parts[0].size), map=maps[part], **kwargs)
        if spin < 0:
            np.negative(maps[1], out=maps[1])


def _coefficients_of(sht: SHT, weighted: bool, flip: bool, f: np.ndarray, alm: np.ndarray) -> None:
    L, spin = sht.L, -sht.spin if flip else sht.spin
    call, kwargs = _call("analysis" if weighted else "adjoint_synthesis", sht, spin, flip, 1.0)
    if sht.real:
        # Straight to the orders m >= 0 of the result: writing with a stride costs less than another copy.
        kwargs |= _places(L - 1, 2 * L - 1, L)
        for one, target in zip(f, alm, strict=True):
            _clear(target)
            call(alm=target.reshape(1, -1), map=one.reshape(1, *sht.grid.shape), **kwargs)
            _join(target[None, :, L - 1 :], target, flip, False)
        return
    parts = np.zeros((2, L, _stride(L)), alm.dtype)
    kwargs |= _places(0, parts.shape[2], L)
    for one, target in zip(f, alm, strict=True):
        maps = _real_maps(sht, one.conj() if spin < 0 else one)
        for part in _together(sht):
            call(alm=parts[part].reshape(-1, parts[0].size), map=maps[part], **kwargs)
        _clear(target)
        _join(parts, target, flip, spin < 0)


def _call(name: str, sht: SHT, spin: int, flip: bool, factor: float) -> tuple[Callable[..., Any], dict[str, Any]]:
    """The function of ducc0 and its arguments, but for the arrays and where coefficients are in them."""
    from ducc0 import sht as ducc

    sign = (-1 if spin else 1) * (-1) ** (spin if (spin < 0) != flip else 0)
    kwargs = {
        "spin": abs(spin),
        "lmax": sht.L - 1,
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


def _places(first: int, stride: int, L: int) -> dict[str, Any]:
    """Coefficients by degree, then order: where order 0 of degree 0 is, and how far apart degrees are."""
    return {"mstart": first + np.arange(L, dtype=np.uint64), "lstride": stride}


def _stride(L: int) -> int:
    """The length of rows: not a power of two, for columns of those share a few places of the cache."""
    return L + 4


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


def _rows(L: int) -> Iterator[tuple[slice, int]]:
    """Blocks of degrees, with the number of orders m >= 0 that they have."""
    for start in range(0, L, BLOCK):
        yield slice(start, min(start + BLOCK, L)), min(start + BLOCK, L)


@functools.lru_cache(maxsize=16)
def _signs(L: int, dtype: np.dtype) -> np.ndarray:
    """(-1)**m and conjugation, as factors of the real and imaginary parts of orders 0 to L - 1."""
    return np.outer((-1) ** np.arange(L), [1, -1]).ravel().astype(dtype)


def _split(alm: np.ndarray, parts: np.ndarray, flip: bool, negate: bool) -> None:
    """Dense coefficients -> 2 E, or 2 E and 2 B, but for the sign c; `flip` conjugates, `negate` takes B to -B."""
    L = alm.shape[0]
    signs = _signs(L, alm.real.dtype)
    for rows, orders in _rows(L):
        positive = alm[rows, L - 1 : L - 1 + orders]
        mirrored = alm[rows, L - orders : L][:, ::-1].copy()
        mirrored.view(signs.dtype)[...] *= signs[: 2 * orders]
        pair = parts[:, rows, :orders]
        np.add(positive, mirrored, out=pair[0])
        if len(pair) == 2:
            np.multiply(positive - mirrored, 1j if negate else -1j, out=pair[1])
        if flip:
            np.conj(pair, out=pair)


def _clear(alm: np.ndarray) -> None:
    """Zero where |m| > l, at the least."""
    L = alm.shape[0]
    for rows, orders in _rows(L):
        alm[rows, : L - orders] = 0
        alm[rows, L + rows.start :] = 0


def _join(parts: np.ndarray, alm: np.ndarray, flip: bool, negate: bool) -> None:
    """E, or E and B -> dense coefficients where |m| <= l, but for the sign c; `flip` and `negate` as in `_split`."""
    L = alm.shape[0]
    signs = _signs(L, alm.real.dtype)
    for rows, orders in _rows(L):
        pair = parts[:, rows, :orders]
        positive, mirrored = alm[rows, L - 1 : L - 1 + orders], pair[0]
        if len(pair) == 2:
            turned = pair[1] * (-1j if negate != flip else 1j)
            np.add(pair[0], turned, out=positive)
            mirrored = pair[0] - turned
        alm[rows, L - orders : L - 1] = mirrored[:, :0:-1]
        alm.view(signs.dtype)[rows, 2 * (L - orders) : 2 * (L - 1)] *= (
            signs[2 : 2 * orders].reshape(-1, 2)[::-1].ravel()
        )
        if flip:
            np.conj(alm[rows], out=alm[rows])


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
