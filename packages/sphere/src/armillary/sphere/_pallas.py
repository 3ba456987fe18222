r"""The Legendre stage as fused kernels for NVIDIA GPUs: Pallas, lowered through Triton.

The sums are those of `_legendre`, in its layout. A program runs the recursion of one lane for a block of northern
rings with its state in registers, and takes the sums of a few columns while the values are there; it is as long as its
lane, and the longest lanes come first in the grid.

- Synthesis adds to sums over degrees that stay in registers until the lane ends.
- Analysis reduces over the rings of the block at every degree. Blocks of rings write sums of their own, which are added
  at the end: nothing is atomic, and every run gives the same bits.

While a ring's value is below the range of numbers (see `_tables.start`) it carries an exponent, counts as 0, and is
rescaled between blocks of degrees. As soon as every ring of a program has come into range, a second loop without
exponents takes over; it is the only one that runs where nothing underflows.

The recursion and the sums are in float64 whatever the data, since a float32 recursion loses digits; so x64 must be on.
The largest arrays are of the size of the coefficients, times at most the greater of 16 and the number of columns.

These kernels need an NVIDIA GPU. On other devices the same functions run in Pallas' interpreter, which is far too slow
for anything but tests.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.experimental import pallas as pl
from jax.experimental.pallas import triton
from jaxtyping import Array, Float

from ._arithmetic import Double
from ._rings import Rings
from ._tables import recursion, start

#: Degrees between two looks at the exponents, written out in the kernels; even, so that a parity has its own steps.
_BLOCK = 8
#: The step of a value's scale in bits, and how far below 1 an unscaled value may be; as in `_legendre` for float64.
_SCALE = (800, 700)
#: Fields, as real columns, that share a program's recursion.
_COLUMNS = 4
#: Threads of a warp.
_WARP = 32
#: Blocks of rings times columns of an analysis, each with an array of partial sums.
_PARTIAL_SUMS = 16
#: Triton's offsets from Pallas are 32-bit integers, and wrap.
_ADDRESSES = 2**31


class Blocks(NamedTuple):
    """What one program does: the columns it sums, the rings it covers (a power of two), and the warps it has."""

    columns: int
    rings: int
    warps: int


def check_x64() -> None:
    """Raise where x64 is off.

    Raises:
        ValueError: x64 is off; gives the line that enables it.
    """
    if not jax.config.jax_enable_x64:
        raise ValueError(
            'backend="pallas" recurs in float64, and x64 is off: call numpyro.enable_x64() before the first JAX '
            'computation, or use backend="jax"'
        )


def synthesise(
    coefficients: Float[Array, "lanes steps columns"], *, rings: Rings, L: int, spin: int
) -> Float[Array, "lanes parities columns rings"]:
    """Sum over degrees, as `_legendre.synthesise`.

    Args:
        coefficients: the harmonic coefficients of each lane from its first degree on.
        rings: the rings.
        L: the bandlimit.
        spin: the spin.

    Returns:
        The sums by parity on the northern rings, in the precision of `coefficients`.

    Raises:
        ValueError: x64 is off, or an array has 2**31 numbers or more.
    """
    check_x64()
    columns = coefficients.shape[2]
    return _synthesise(coefficients, rings, L, spin, synthesis_blocks(rings.north.size, columns, spin))


def analyse(
    x: Float[Array, "lanes parities columns rings"], *, rings: Rings, L: int, spin: int
) -> Float[Array, "lanes steps columns"]:
    """Sum over rings: the transpose of `synthesise`, with its arguments."""
    check_x64()
    return _analyse(x, rings, L, spin, analysis_blocks(rings.north.size, x.shape[2], spin))


def synthesis_blocks(rings: int, columns: int, spin: int) -> Blocks:
    """The blocks of `synthesise` for a number of northern rings and of columns."""
    return Blocks(min(columns, _COLUMNS), min(4 * _WARP, _power_of_two(rings)), 1)


def analysis_blocks(rings: int, columns: int, spin: int) -> Blocks:
    """The blocks of `analyse`, as `synthesis_blocks`.

    One warp reduces with no barrier. It takes as many rings as its registers hold, unless that would make more partial
    sums than there may be: then more warps share a program.
    """
    few = min(columns, _COLUMNS)
    by_warp = _WARP * (4 if few * _parities(spin) > 4 else 8)
    parts = max(1, _PARTIAL_SUMS // columns)
    size = max(min(by_warp, _power_of_two(rings)), _power_of_two(math.ceil(rings / parts)))
    return Blocks(few, size, max(1, size // by_warp))


def _power_of_two(n: int) -> int:
    return 1 << (n - 1).bit_length()


def _parities(spin: int) -> int:
    return 2 if spin == 0 else 1


class _Tables(NamedTuple):
    """What the kernels read, rings and steps padded to whole blocks. A ring that pads starts, and stays, at 0."""

    a: np.ndarray  # (lanes, steps)
    b: np.ndarray  # (lanes, steps)
    abscissa: np.ndarray  # (rings,)
    first: np.ndarray  # (lanes, rings)
    exponent: np.ndarray  # (lanes, rings)


def _tables(rings: Rings, L: int, spin: int, block: int) -> tuple[_Tables, np.ndarray]:
    """The tables, and the factors g of the harmonic coefficients, (lanes, steps)."""
    coefficients = recursion(L, spin)
    a, b = (_pad(v, 1, _BLOCK) for v in Double.coefficients(coefficients.a, coefficients.c))
    mantissa, exponent = start(rings, L, spin, *_SCALE)
    (abscissa,) = Double.abscissa(rings.north)
    first = _pad(Double.first(mantissa)[0], 1, block)
    return _Tables(a, b, _pad(abscissa, 0, block), first, _pad(exponent, 1, block)), coefficients.g.astype(np.float64)


def _pad(x: Any, axis: int, multiple: int) -> Any:
    """Zeros at the end of an axis, up to a multiple; on the host for an array of the host."""
    widths = [(0, 0)] * x.ndim
    widths[axis] = (0, -x.shape[axis] % multiple)
    return (np if isinstance(x, np.ndarray) else jnp).pad(x, widths)


@functools.partial(jax.jit, static_argnums=(1, 2, 3, 4))
def _synthesise(coefficients: Array, rings: Rings, L: int, spin: int, blocks: Blocks) -> Array:
    tables, g = _tables(rings, L, spin, blocks.rings)
    values = coefficients.astype(np.float64) * g[:, :, None]
    values = _pad(_pad(values, 1, _BLOCK), 2, blocks.columns)
    lanes, steps, columns = values.shape
    grid = (tables.abscissa.size // blocks.rings, columns // blocks.columns, lanes)
    lane = _lane(L, spin)
    parities = _parities(spin)
    out = _call(
        functools.partial(_synthesis_kernel, L=L, spin=spin),
        grid,
        [
            *_specs(steps, blocks, lane),
            pl.BlockSpec((None, steps, blocks.columns), lambda h, c, i: (lane(i), 0, c)),
        ],
        pl.BlockSpec((None, parities, blocks.columns, blocks.rings), lambda h, c, i: (lane(i), 0, c, h)),
        (lanes, parities, columns, tables.abscissa.size),
        blocks.warps,
    )(*tables, values)
    return out[:, :, : coefficients.shape[2], : rings.north.size].astype(coefficients.dtype)


@functools.partial(jax.jit, static_argnums=(1, 2, 3, 4))
def _analyse(x: Array, rings: Rings, L: int, spin: int, blocks: Blocks) -> Array:
    tables, g = _tables(rings, L, spin, blocks.rings)
    values = _pad(_pad(x.astype(np.float64), 2, blocks.columns), 3, blocks.rings)
    lanes, parities, columns, _ = values.shape
    steps = tables.a.shape[1]
    grid = (tables.abscissa.size // blocks.rings, columns // blocks.columns, lanes)
    lane = _lane(L, spin)
    out = _call(
        functools.partial(_analysis_kernel, L=L, spin=spin),
        grid,
        [
            *_specs(steps, blocks, lane),
            pl.BlockSpec((None, parities, blocks.columns, blocks.rings), lambda h, c, i: (lane(i), 0, c, h)),
        ],
        pl.BlockSpec((None, None, steps, blocks.columns), lambda h, c, i: (h, lane(i), 0, c)),
        (grid[0], lanes, steps, columns),
        blocks.warps,
    )(*tables, values)
    out = out.sum(axis=0)[:, : g.shape[1], : x.shape[2]]
    # A program writes no further than its lane: the rest of the array is not initialised.
    g = g[:, :, None]
    return jnp.where(g == 0, 0, out * g).astype(x.dtype)


def _lane(L: int, spin: int) -> Callable[[Any], Any]:
    """From the place in the grid to the lane: lanes of both signs alternate, as orders of a lane get shorter."""
    return (lambda i: i) if spin == 0 else (lambda i: (i & 1) * L + (i >> 1))


def _specs(steps: int, blocks: Blocks, lane: Callable[[Any], Any]) -> list[pl.BlockSpec]:
    """The blocks of `_Tables` that a program reads."""
    coefficients = pl.BlockSpec((None, steps), lambda h, c, i: (lane(i), 0))
    by_ring = pl.BlockSpec((None, blocks.rings), lambda h, c, i: (lane(i), h))
    return [coefficients, coefficients, pl.BlockSpec((blocks.rings,), lambda h, c, i: (h,)), by_ring, by_ring]


def _call(
    kernel: Callable[..., None],
    grid: tuple[int, int, int],
    in_specs: Sequence[pl.BlockSpec],
    out_specs: pl.BlockSpec,
    shape: tuple[int, ...],
    warps: int,
) -> Callable[..., Array]:
    """The kernel: compiled for CUDA; elsewhere interpreted."""
    call = functools.partial(
        pl.pallas_call,
        kernel,
        grid=grid,
        in_specs=in_specs,
        out_specs=out_specs,
        out_shape=jax.ShapeDtypeStruct(shape, np.float64),
        compiler_params=triton.CompilerParams(num_warps=warps, num_stages=1),
    )

    def run(*args: Array) -> Array:
        largest = max(math.prod(shape), *(x.size for x in args))
        if largest >= _ADDRESSES:
            raise ValueError(
                f"an array of {largest} numbers: the kernels address fewer than 2**31; use smaller batches, as with "
                "jax.lax.map and its batch_size"
            )
        return lax.platform_dependent(*args, cuda=call(), default=call(interpret=True))

    return run


def _synthesis_kernel(*refs: Any, L: int, spin: int) -> None:
    *tables, values, out = refs
    parities, columns, rings = out.shape

    def body(step: Array, functions: list[Array], sums: Any) -> Any:
        sums = [list(of_parity) for of_parity in sums]
        for k, function in enumerate(functions):
            of_parity = sums[k % parities]
            for c in range(columns):
                of_parity[c] += values[step + k, c] * function
        return sums

    zero = jnp.zeros((rings,), np.float64)
    sums = _recur(tables, L, spin, body, [[zero] * columns for _ in range(parities)])
    for q in range(parities):
        for c in range(columns):
            out[q, c, :] = sums[q][c]


def _analysis_kernel(*refs: Any, L: int, spin: int) -> None:
    *tables, values, out = refs
    parities, columns, _ = values.shape
    data = [[values[q, c, :] for c in range(columns)] for q in range(parities)]

    def body(step: Array, functions: list[Array], nothing: Any) -> Any:
        for k, function in enumerate(functions):
            for c in range(columns):
                out[step + k, c] = (data[k % parities][c] * function).sum()
        return nothing

    _recur(tables, L, spin, body, ())


def _recur(tables: Sequence[Any], L: int, spin: int, body: Callable[..., Any], carry: Any) -> Any:
    """Run ``body(step, functions, carry) -> carry`` over the blocks of degrees of a program's lane and rings.

    `functions` are the values at `step` and the `_BLOCK - 1` following ones.
    """
    a, b, abscissa, first, exponent = tables
    y = abscissa[:]
    place = pl.program_id(2)
    order = place if spin == 0 else place >> 1
    length = L - jnp.maximum(order, abs(spin))
    blocks = (length + _BLOCK - 1) // _BLOCK

    def steps(i: Array, p: Array, d: Array) -> tuple[list[Array], Array, Array]:
        functions = []
        for t in range(_BLOCK):
            functions.append(p)
            # `Double.advance`, whose barriers a kernel neither needs nor has.
            d = (b[i * _BLOCK + t] - a[i * _BLOCK + t] * y) * p + d
            p = p + d
        return functions, p, d

    step_bits, low_bits = _SCALE

    def scaled(state: Any) -> Any:
        i, p, d, exponent, carry = state
        functions, p, d = steps(i, p, d)
        carry = body(i * _BLOCK, [jnp.where(exponent == 0, function, 0.0) for function in functions], carry)
        up = (exponent < 0) & (jnp.maximum(jnp.abs(p), jnp.abs(d)) > 2.0 ** (step_bits - low_bits))
        factor = jnp.where(up, 2.0**-step_bits, 1.0)
        return i + 1, p * factor, d * factor, exponent + up.astype(np.int32), carry

    def some_scaled(state: Any) -> Array:
        return (state[0] < blocks) & (jnp.min(state[3]) < 0)

    def unscaled(i: Array, state: Any) -> Any:
        p, d, carry = state
        functions, p, d = steps(i, p, d)
        return p, d, body(i * _BLOCK, functions, carry)

    p = first[:]
    state = lax.while_loop(some_scaled, scaled, (jnp.int32(0), p, p, exponent[:], carry))
    return lax.fori_loop(state[0], blocks, unscaled, (state[1], state[2], state[4]))[2]
