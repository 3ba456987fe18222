"""The Legendre stage from stored functions: for many maps at a moderate bandlimit.

The functions are those of `_legendre`, `g` included, split by the parity of the step for spin 0. Lanes, which get
shorter with the order, are cut into bands, each as long as its longest lane, so that little of the table is zeros.
"""

from __future__ import annotations

import functools
import itertools
import os

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from ._arithmetic import Double
from ._rings import Rings
from ._tables import recursion, start

_BANDS = 8
#: As in `_legendre`, for float64.
_STEP_BITS, _LOW_BITS = 800, 700


def check_table(rings: Rings, L: int, spin: int) -> None:
    """`ValueError` if the table in float64 would take more than half of the device's memory, or of the machine's."""
    size = table_bytes(rings, L, spin)
    available = _memory()
    if size > available / 2:
        raise ValueError(
            f"backend='table': at L={L} and spin={spin} on {rings.number} rings the table takes {size / 2**30:.1f} "
            f"GiB, more than half of the {available / 2**30:.1f} GiB there are: use backend='jax', which stores none"
        )


def _memory() -> int:
    statistics = jax.devices()[0].memory_stats() or {}
    return int(statistics.get("bytes_limit", 0)) or os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def _bounds(L: int) -> list[tuple[int, int]]:
    """The orders, first and last + 1, of every band."""
    bounds = np.unique(np.linspace(0, L, _BANDS + 1).round().astype(int)).tolist()
    return list(itertools.pairwise(bounds))


def _steps(first: int, L: int, spin: int) -> int:
    """The steps stored of a band: those of its longest lane, made even where parities are split."""
    steps = L - max(first, abs(spin))
    return steps if spin else steps + steps % 2


def table_bytes(rings: Rings, L: int, spin: int) -> int:
    """The size of the table in float64."""
    signs = 2 if spin else 1
    entries = sum(signs * (last - first) * _steps(first, L, spin) for first, last in _bounds(L))
    return 8 * entries * ((rings.number + 1) // 2)


@functools.lru_cache(maxsize=4)
def table(rings: Rings, L: int, spin: int, dtype: np.dtype) -> tuple[Array, ...]:
    """The functions of every band, of shape ``(signs, lanes, parities, steps, northern rings)``."""
    with jax.ensure_compile_time_eval():
        return tuple(jnp.asarray(band, dtype) for band in _functions(rings, L, spin))


def _functions(rings: Rings, L: int, spin: int) -> list[np.ndarray]:
    signs, parities = (2, 1) if spin else (1, 2)
    coefficients = recursion(L, spin)
    a, b = Double.coefficients(coefficients.a, coefficients.c)
    a, b, g = (v.reshape(signs, L, -1).astype(np.float64) for v in (a, b, coefficients.g))
    p, exponent = start(rings, L, spin, _STEP_BITS, _LOW_BITS)
    p = p.reshape(signs, L, -1).astype(np.float64)
    exponent = exponent.reshape(p.shape)
    d = p.copy()
    y = Double.abscissa(rings.north)[0]

    bands = [np.zeros((signs, last - first, _steps(first, L, spin), len(y))) for first, last in _bounds(L)]
    for t in range(L - abs(spin)):
        lanes = min(L, L - t)  # lanes of higher orders have ended
        p, d, exponent = p[:, :lanes], d[:, :lanes], exponent[:, :lanes]
        for (first, last), band in zip(_bounds(L), bands, strict=True):
            part = slice(first, min(last, lanes))
            if first < lanes:
                values = np.where(exponent[:, part] == 0, p[:, part], 0) * g[:, part, t, None]
                band[:, : values.shape[1], t] = values
        d = (b[:, :lanes, t, None] - a[:, :lanes, t, None] * y) * p + d
        p = p + d
        up = (exponent < 0) & (abs(p) > 2.0 ** (_STEP_BITS - _LOW_BITS))
        if up.any():
            factor = np.where(up, 2.0**-_STEP_BITS, 1.0)
            p, d, exponent = p * factor, d * factor, exponent + up
    return [band.reshape(*band.shape[:2], -1, parities, len(y)).swapaxes(2, 3) for band in bands]


def synthesise(coefficients: Float[Array, "lanes steps columns"], table: tuple[Array, ...], spin: int) -> Array:
    """As `_legendre.synthesise`, with a `table`."""
    signs, L, columns = table[0].shape[0], coefficients.shape[0] // table[0].shape[0], coefficients.shape[2]
    coefficients = coefficients.reshape(signs, L, -1, columns)
    out = []
    for (first, last), band in zip(_bounds(L), table, strict=True):
        x = _split(coefficients[:, first:last], band, spin)
        out.append(jnp.einsum("slqkh,slqkc->slqch", band, x, precision="highest"))
    return jnp.concatenate(out, axis=1).reshape(signs * L, -1, columns, table[0].shape[-1])


def analyse(sums: Float[Array, "lanes parities columns rings"], table: tuple[Array, ...], spin: int) -> Array:
    """As `_legendre.analyse`, with a `table`."""
    signs, L = table[0].shape[0], sums.shape[0] // table[0].shape[0]
    steps = L - abs(spin)
    sums = sums.reshape(signs, L, *sums.shape[1:])
    out = []
    for (first, last), band in zip(_bounds(L), table, strict=True):
        x = jnp.einsum("slqkh,slqch->slkqc", band, sums[:, first:last], precision="highest")
        x = x.reshape(*x.shape[:2], -1, x.shape[-1])
        out.append(jnp.pad(x, [(0, 0), (0, 0), (0, max(0, steps - x.shape[2])), (0, 0)])[:, :, :steps])
    return jnp.concatenate(out, axis=1).reshape(signs * L, steps, -1)


def _split(x: Array, band: Array, spin: int) -> Array:
    """Coefficients (signs, lanes, steps, columns) of a band by parity: (signs, lanes, parities, steps, columns)."""
    parities, steps = band.shape[2:4]
    x = jnp.pad(x, [(0, 0), (0, 0), (0, max(0, parities * steps - x.shape[2])), (0, 0)])[:, :, : parities * steps]
    return x.reshape(*x.shape[:2], steps, parities, -1).swapaxes(2, 3)
