r"""The Legendre stage: sums over degrees, as a pair of JAX primitives each of which is the other's transpose.

For every lane (see `_tables`), column and northern ring,

.. math:: \text{rings}[q] = \sum_{t \equiv q} \lambda_{l_0 + t}(\theta)\, \text{coefficients}[t],

with `t` split by parity for spin 0 (whose southern rings are then the even sum less the odd one) and not split
otherwise. The functions are never stored: chunks of lanes run through blocks of degrees, the sums of a block are taken
for all columns together, and columns are the fields of a batch, so that these share the recursion.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float

from ._arithmetic import Double, Pairs
from ._linear import linear_pair
from ._rings import Rings
from ._tables import recursion, start

#: Elements (lanes by rings) of a chunk: on a CPU enough to keep the cost of starting an operation small, few enough for
#: cache; elsewhere all there are.
_CHUNK = 4096
#: Above this many columns the sums are matrix products.
_FEW = 8
#: By the precision of the sums: the degrees in a block, between which values on the way up from below the range of
#: numbers are rescaled; the step of a lane's scale in bits; and how far below 1 an unscaled value may be. A value that
#: is scaled down contributes nothing, so what it may grow to in a block, at most sqrt(2 L) for each degree, must stay
#: below the rounding error; and within the range of the sums' type.
_SCALE = {np.dtype(np.float64): (16, 800, 700), np.dtype(np.float32): (8, 80, 72)}


def synthesise(
    coefficients: Float[Array, "lanes steps columns"], rings: Rings, L: int, spin: int, backend: str
) -> Array:
    """Sum over degrees.

    Args:
        coefficients: the harmonic coefficients of each lane from its first degree on.
        rings: where.
        L: the bandlimit.
        spin: the spin.
        backend: ``"jax"``, or ``"pallas"``.

    Returns:
        The sums by parity on the northern rings, of shape ``(lanes, 2 if spin == 0 else 1, columns, rings)``.
    """
    return _synthesise_p.bind(coefficients, rings=rings, L=L, spin=spin, wide=_wide(coefficients), backend=backend)


def analyse(sums: Float[Array, "lanes parities columns rings"], rings: Rings, L: int, spin: int, backend: str) -> Array:
    """Sum over rings: the transpose of `synthesise`, with its arguments."""
    return _analyse_p.bind(sums, rings=rings, L=L, spin=spin, wide=_wide(sums), backend=backend)


def _wide(x: Array) -> bool:
    return x.dtype == np.float64 or bool(jax.config.jax_enable_x64)


class _Plan:
    """The host's part of both sums: how lanes are cut into chunks, and the tables in that order.

    `lanes`, which may be traced, are the numbers of the lanes that there are; by default all of them.
    """

    def __init__(self, rings: Rings, L: int, spin: int, wide: bool, dtype: Any, lanes: Array | None = None) -> None:
        tables = recursion(L, spin)

        def own(x: np.ndarray) -> Any:
            return x if lanes is None else jnp.asarray(x)[lanes]

        self.lanes, self.steps = tables.a.shape if lanes is None else (lanes.size, tables.a.shape[1])
        self.rings = (rings.number + 1) // 2
        self.parities = 2 if spin == 0 else 1
        self.spin = spin
        block, self.step_bits, self.low_bits = _SCALE[np.dtype(dtype)]
        # No longer than all degrees are, in pairs: what is written out is compiled.
        self.block = min(block, self.steps + self.steps % 2)
        chunk = math.ceil(_CHUNK / self.rings) if jax.default_backend() == "cpu" else self.lanes
        self.width = min(self.lanes, chunk)
        self.chunks = math.ceil(self.lanes / self.width)
        self.blocks = math.ceil(self.steps / self.block)
        self.dtype = dtype
        self.arithmetic = Double if wide else Pairs

        theta = rings.north
        self.abscissa = self.arithmetic.abscissa(theta)
        self.coefficients = tuple(self._blocked(own(v)) for v in self.arithmetic.coefficients(tables.a, tables.c))
        self.g = self._blocked(own(tables.g.astype(dtype)))
        mantissa, exponent = start(rings, L, spin, self.step_bits, self.low_bits)
        self.first = tuple(self._chunked(own(v)) for v in self.arithmetic.first(mantissa))
        self.exponent = self._chunked(own(exponent))
        lengths = self._chunked(own(L - tables.first))
        self.length = (-(-lengths.max(axis=1) // self.block)).astype(np.int32)

    def _chunked(self, x: Any) -> Any:
        """(lanes, ...) -> (chunks, width, ...)."""
        xp = np if isinstance(x, np.ndarray) else jnp
        x = xp.pad(x, [(0, self.chunks * self.width - self.lanes)] + [(0, 0)] * (x.ndim - 1))
        return x.reshape(self.chunks, self.width, *x.shape[1:])

    def _blocked(self, x: Any) -> Any:
        """(lanes, steps, ...) -> (chunks, blocks, block, ..., width)."""
        xp = np if isinstance(x, np.ndarray) else jnp
        x = self._chunked(x)
        x = xp.pad(x, [(0, 0), (0, 0), (0, self.blocks * self.block - self.steps)] + [(0, 0)] * (x.ndim - 3))
        return xp.moveaxis(x.reshape(self.chunks, self.width, self.blocks, self.block, *x.shape[3:]), 1, -1)

    def _steps(self, coefficients: Any, abscissa: Any, state: Any) -> tuple[Any, list[Array]]:
        """The steps of a block: the state after it, and the functions at each."""

        def step(state: Any, at_step: Any) -> tuple[Any, Array]:
            at_step = tuple(v[:, None] for v in at_step)
            return self.arithmetic.advance(at_step, abscissa, state), state[0].astype(self.dtype)

        if self.arithmetic is Pairs:
            # In a loop: written out, JAX 0.11 had not compiled the steps in pairs after a quarter of an hour.
            state, stacked = lax.scan(step, state, coefficients)
            return state, list(stacked)
        functions = []
        for k in range(self.block):
            state, function = step(state, tuple(v[k] for v in coefficients))
            functions.append(function)
        return state, functions

    def scan(self, body: Callable[..., Any], initial: Callable[[Any], Any], xs: Any) -> Any:
        """For every chunk, run ``body(b, functions, xs, carry) -> carry`` over its blocks; stack the last carries.

        `functions` are the `block` arrays of shape ``(width, rings)`` of the recursion's values in the block, and a
        mask of the same shape that is 0 where they are scaled down.
        """
        abscissa = tuple(jnp.asarray(v)[None, :] for v in self.abscissa)

        def chunk(_: None, args: Any) -> tuple[None, Any]:
            coefficients, first, exponent, length, chunk_xs = args

            def block(b: Array, carry: Any) -> Any:
                state, exponent, sums = carry
                state, functions = self._steps(tuple(v[b] for v in coefficients), abscissa, state)
                sums = body(b, functions, (exponent == 0).astype(self.dtype), chunk_xs, sums)
                # p and, in pairs, what stands for the value before it.
                size = jnp.maximum(abs(state[0]), abs(state[len(state) // 2]))
                up = (exponent < 0) & (size > 2.0 ** (self.step_bits - self.low_bits))
                factor = jnp.where(up, 2.0**-self.step_bits, 1.0).astype(state[0].dtype)
                return tuple(v * factor for v in state), exponent + up, sums

            return None, lax.fori_loop(0, length, block, (first, exponent, initial(chunk_xs)))[2]

        tables = jax.tree.map(jnp.asarray, (self.coefficients, self.first, self.exponent, self.length))
        return lax.scan(chunk, None, (*tables, xs))[1]


def synthesise_lanes(
    coefficients: Float[Array, "lanes steps columns"], rings: Rings, L: int, spin: int, lanes: Array
) -> Array:
    """As `synthesise` of some lanes alone, given by their numbers, which may be traced; not differentiable."""
    return _synthesise_by_chunks(coefficients, _Plan(rings, L, spin, _wide(coefficients), coefficients.dtype, lanes))


def analyse_lanes(
    sums: Float[Array, "lanes parities columns rings"], rings: Rings, L: int, spin: int, lanes: Array
) -> Array:
    """The transpose of `synthesise_lanes`."""
    return _analyse_by_chunks(sums, _Plan(rings, L, spin, _wide(sums), sums.dtype, lanes))


def _synthesise(coefficients: Array, *, rings: Rings, L: int, spin: int, wide: bool, backend: str) -> Array:
    if backend == "pallas":
        from . import _pallas

        return _pallas.synthesise(coefficients, rings=rings, L=L, spin=spin)
    return _synthesise_by_chunks(coefficients, _Plan(rings, L, spin, wide, coefficients.dtype))


def _synthesise_by_chunks(coefficients: Array, plan: _Plan) -> Array:
    columns = coefficients.shape[2]
    by_block = plan._blocked(coefficients) * plan.g[:, :, :, None, :]

    def initial(chunk: Array) -> Array:
        # As `chunk`, it differs between devices in a `shard_map`.
        return jnp.zeros_like(chunk, shape=(plan.parities, columns, plan.width, plan.rings))

    def body(b: Array, functions: list[Array], visible: Array, chunk: Array, sums: Array) -> Array:
        values = chunk[b]  # (block, columns, width)
        parts = []
        for q in range(plan.parities):
            if columns <= _FEW:
                terms = [values[k][:, :, None] * functions[k] for k in range(q, plan.block, plan.parities)]
                parts.append(sum(terms[1:], terms[0]) * visible)
            else:
                table = jnp.stack(functions[q :: plan.parities])
                parts.append(jnp.einsum("kwh,kcw->cwh", table, values[q :: plan.parities]) * visible)
        return sums + jnp.stack(parts)

    out = plan.scan(body, initial, by_block)  # (chunks, parities, columns, width, rings)
    out = jnp.moveaxis(out, 3, 1)
    return out.reshape(-1, *out.shape[2:])[: plan.lanes]


def _analyse(sums: Array, *, rings: Rings, L: int, spin: int, wide: bool, backend: str) -> Array:
    if backend == "pallas":
        from . import _pallas

        return _pallas.analyse(sums, rings=rings, L=L, spin=spin)
    return _analyse_by_chunks(sums, _Plan(rings, L, spin, wide, sums.dtype))


def _analyse_by_chunks(sums: Array, plan: _Plan) -> Array:
    columns = sums.shape[2]
    by_chunk = jnp.moveaxis(plan._chunked(sums), 1, 3)  # (chunks, parities, columns, width, rings)

    def initial(chunk: Array) -> Array:
        return jnp.zeros_like(chunk, shape=(plan.blocks, plan.block, columns, plan.width))

    def body(b: Array, functions: list[Array], visible: Array, chunk: Array, out: Array) -> Array:
        seen = chunk * visible
        parts: list[Any] = [None] * plan.block
        for q in range(plan.parities):
            if columns <= _FEW:
                for k in range(q, plan.block, plan.parities):
                    parts[k] = (seen[q] * functions[k]).sum(axis=-1)
            else:
                table = jnp.stack(functions[q :: plan.parities])
                parts[q :: plan.parities] = list(jnp.einsum("kwh,cwh->kcw", table, seen[q]))
        return lax.dynamic_update_index_in_dim(out, jnp.stack(parts), b, 0)

    out = plan.scan(body, initial, by_chunk) * plan.g[:, :, :, None, :]  # (chunks, blocks, block, columns, width)
    out = jnp.moveaxis(out, 4, 1).reshape(plan.chunks * plan.width, plan.blocks * plan.block, columns)
    return out[: plan.lanes, : plan.steps]


def _shape_of_rings(x: Any, *, rings: Rings, L: int, spin: int, wide: bool, backend: str) -> Any:
    parities = 2 if spin == 0 else 1
    return x.update(shape=(x.shape[0], parities, x.shape[2], (rings.number + 1) // 2), weak_type=False)


def _shape_of_coefficients(x: Any, *, rings: Rings, L: int, spin: int, wide: bool, backend: str) -> Any:
    return x.update(shape=(x.shape[0], L - abs(spin), x.shape[2]), weak_type=False)


_synthesise_p, _analyse_p = linear_pair(
    ("armillary_legendre_synthesis", "armillary_legendre_analysis"),
    (_synthesise, _analyse),
    (_shape_of_rings, _shape_of_coefficients),
    axis=2,
)
