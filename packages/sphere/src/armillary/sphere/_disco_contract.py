r"""The convolution's two bilinear operations, as JAX primitives that are closed under differentiation.

With the contraction :math:`\Psi_k` of a stencil, or its transpose,

.. math:: y_o = \sum_{c k} W_{o c k} \Psi_k x_c, \qquad G_{o c k} = \langle y_o, \Psi_k x_c \rangle,

the derivatives of either are the other and itself with the transposed stencil. Nothing of the size of the contracted
field is kept: both go by blocks of rings, or of points, that fit into the cache, and the backward pass needs no more
than the input. Fields have the axes channel, batch, grid.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir
from jaxtyping import Array, Float

from ._disco_stencil import Stencil

#: Numbers in the contracted block: on a CPU it should stay in cache, elsewhere be few blocks.
_BLOCK = {"cpu": 1 << 19, "other": 1 << 26}


class Operator(NamedTuple):
    """A stencil, or its transpose, from the centres to the points."""

    stencil: Stencil
    transposed: bool

    @property
    def transpose(self) -> Operator:
        """The other direction."""
        return Operator(self.stencil, not self.transposed)

    @property
    def shapes(self) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """The shapes of a map that goes in and of one that comes out."""
        shapes = self.stencil.points.shape, self.stencil.centres.shape
        return shapes[::-1] if self.transposed else shapes


def convolve(
    operator: Operator, weight: Float[Array, "out per_group k"], x: Float[Array, "channels batch *shape"], groups: int
) -> Float[Array, "out batch *shape"]:
    r"""``y[o] = sum weight[o, c, k] Psi_k x[c]``, over the channels c of the group of o."""
    tables = operator.stencil.tables(x.dtype)
    return _convolve_p.bind(weight, x, *tables, operator=operator, groups=groups)


def _block(columns: int) -> int:
    """Rings or points of a block, of which each has so many numbers."""
    return max(1, _BLOCK["cpu" if jax.default_backend() == "cpu" else "other"] // columns)


# Rings: Fourier transforms along them. A block of contracted coefficients has the axes channel, k, part (real and
# imaginary), batch, ring, order.


def _transformed(x: Array, n: int) -> Array:
    """The Fourier coefficients of rings of points, where there are fewer with zeros between them: (c, part, ...)."""
    if x.shape[-1] != n:
        x = lax.pad(
            x, jnp.zeros((), x.dtype), [(0, 0, 0)] * (x.ndim - 1) + [(0, n // x.shape[-1] - 1, n // x.shape[-1] - 1)]
        )
    x = jnp.fft.rfft(x)
    return jnp.stack([x.real, x.imag], axis=1)


def _multiplied(table: Array, x: Array, sign: int) -> tuple[Array, Array]:
    """The product with (k, ring, order) coefficients, whose imaginary part is multiplied by `sign`."""
    x = x[:, None]
    real, imaginary = table[0][:, None] * x[:, :, 0], table[0][:, None] * x[:, :, 1]
    if len(table) == 2:
        other = sign * table[1][:, None]
        real, imaginary = real - other * x[:, :, 1], imaginary + other * x[:, :, 0]
    return real, imaginary


class _Rings(NamedTuple):
    """The blocks of the contraction by rings, for one direction."""

    operator: Operator
    table: Array
    x: Array  # with the rings that blocks at the ends need
    block: int  # rings of the centres in a block
    blocks: int

    @classmethod
    def make(cls, operator: Operator, table: Array, x: Array) -> _Rings:
        stencil, band = operator.stencil, operator.stencil.band
        rings, centres = stencil.points.shape[0], stencil.centres.shape[0]
        history = (band.width - 1) // band.stride
        # In units of a ring of the centres; where points come out there may be more blocks, for rings beyond the last.
        total = centres if not operator.transposed else -(-(rings + band.before) // band.stride)
        per_ring = 2 * x.shape[0] * x.shape[1] * stencil.basis.size * table.shape[-1]
        block = min(total, _block(per_ring * (band.stride if operator.transposed else 1)))
        blocks = -(-total // block)
        rows = [(0, 0)] * 3
        if operator.transposed:
            x_pad = history, blocks * block - centres
            rows.append(x_pad)
        else:
            last = band.stride * (blocks * block - 1) + band.width
            x_pad = band.before, max(0, last - band.before - rings)
            rows.append((0, blocks * block - centres))
        # A negative number cuts off rings that no block reads.
        table = lax.pad(table, jnp.zeros((), table.dtype), [(*r, 0) for r in rows] + [(0, 0, 0)])
        x = lax.pad(x, jnp.zeros((), x.dtype), [(0, 0, 0)] * 2 + [(*x_pad, 0), (0, 0, 0)])
        return cls(operator, table, x, block, blocks)

    @property
    def n(self) -> int:
        return self.operator.stencil.points.shape[1]

    def contracted(self, i: Array) -> Array:
        """Block i."""
        stride, _, width = self.operator.stencil.band
        start = i * self.block
        if not self.operator.transposed:
            x = lax.dynamic_slice_in_dim(self.x, stride * start, stride * (self.block - 1) + width, 2)
            table = lax.dynamic_slice_in_dim(self.table, start, self.block, 3)
            x = _transformed(x, self.n)
            length = stride * (self.block - 1) + 1
            products = [_multiplied(table[:, :, b], x[..., b : b + length : stride, :], -1) for b in range(width)]
            return jnp.stack([sum(p[part] for p in products) for part in (0, 1)], axis=2)
        history = (width - 1) // stride
        x = lax.dynamic_slice_in_dim(self.x, start, self.block + history, 2)
        table = lax.dynamic_slice_in_dim(self.table, start, self.block + history, 3)
        x = _transformed(x, self.n)
        phases = []
        for phase in range(stride):
            # Ring `stride * t + b` of the points gets what ring t of the centres gives at place b of its band.
            products = [
                _multiplied(table[:, :, b, at : at + self.block], x[..., at : at + self.block, :], 1)
                for b in range(phase, width, stride)
                for at in [history - b // stride]
            ]
            phases.append(jnp.stack([sum(p[part] for p in products) for part in (0, 1)], axis=2))
        out = jnp.stack(phases, axis=5)  # after the ring
        return out.reshape(*out.shape[:4], self.block * stride, out.shape[-1])

    @property
    def rings_out(self) -> int:
        return self.block * (self.operator.stencil.band.stride if self.operator.transposed else 1)


def _matrix(weight: Array, groups: int) -> Array:
    """(group, output, channel and k)."""
    return weight.reshape(groups, weight.shape[0] // groups, -1)


def _ungrouped(total: Any, y: Array, x: Array, groups: int) -> Array:
    """Back to the axes of weights."""
    return jnp.reshape(total, (y.shape[0], x.shape[0] // groups, -1))


def _by_rings(
    x: Array, tables: tuple[Array, ...], operator: Operator, groups: int, weight: Array | None, y: Array | None
) -> tuple[Array | None, Array | None]:
    """The convolution of x with weights, and the correlation of y with x, each where it is asked for."""
    rings = _Rings.make(operator, tables[0], x)
    n, batch, shape = rings.n, x.shape[1], operator.shapes[1]
    step, per_group = n // shape[1], x.shape[0] // groups * operator.stencil.basis.size
    first = operator.stencil.band.before if operator.transposed else 0
    length = rings.blocks * rings.rings_out
    out: Any = None
    total: Any = None
    if weight is not None:
        out = jnp.zeros((weight.shape[0], batch, length, shape[1]), x.dtype)
    if y is not None:
        y = lax.pad(y, jnp.zeros((), y.dtype), [(0, 0, 0)] * 2 + [(first, length - first - y.shape[2], 0), (0, 0, 0)])
        total = jnp.zeros((groups, y.shape[0] // groups, per_group), x.dtype)
        # Parseval's theorem: there is no transform back.
        orders = np.arange(n // 2 + 1)
        twice = jnp.asarray(np.where((orders == 0) | (2 * orders == n), 1, 2) / n, x.dtype)

    def one(carry: tuple[Any, Any], i: Array) -> tuple[tuple[Any, Any], None]:
        out, total = carry
        z = rings.contracted(i)
        columns = z.reshape(groups, per_group, -1)
        if weight is not None:
            part = (_matrix(weight, groups) @ columns).reshape(weight.shape[0], *z.shape[2:])
            part = jnp.fft.irfft(lax.complex(part[:, 0], part[:, 1]), n=n)[..., ::step]
            out = lax.dynamic_update_slice_in_dim(out, part, i * rings.rings_out, 2)
        if y is not None:
            other = _transformed(lax.dynamic_slice_in_dim(y, i * rings.rings_out, rings.rings_out, 2), n) * twice
            total = total + jnp.einsum("gon,gkn->gok", other.reshape(groups, y.shape[0] // groups, -1), columns)
        return (out, total), None

    out, total = lax.scan(one, (out, total), jnp.arange(rings.blocks))[0]
    return (
        None if out is None else out[:, :, first : first + shape[0]],
        None if y is None else _ungrouped(total, y, x, groups),
    )


# Lists of points.


def _lists_of(tables: tuple[Array, ...], operator: Operator) -> tuple[Array, list[tuple[Array, Array]]]:
    """Where each result is, and the groups of lists, for a direction."""
    # The second direction's begin with the second table of one axis.
    second = next(i for i in range(1, len(tables)) if tables[i].ndim == 1)
    where, *rest = tables[second:] if operator.transposed else tables[:second]
    return where, list(zip(rest[::2], rest[1::2], strict=True))


def _over_points(x: Array, tables: tuple[Array, ...], operator: Operator) -> Any:
    """An iterator over groups of lists: the function that contracts some of them, and what it takes in blocks."""
    k = operator.stencil.basis.size
    rows = jnp.moveaxis(x.reshape(*x.shape[:2], -1), 2, 0)  # (point, channel, batch)

    def contracted(columns: Array, values: Array) -> Array:
        return jnp.einsum("pjk,pjcb->pckb", values, rows[columns])

    for columns, values in _lists_of(tables, operator)[1]:
        count, length = columns.shape
        block = min(count, _block(x.shape[0] * x.shape[1] * max(k, length)))
        blocks = -(-count // block)
        spare = blocks * block - count
        parts = (
            jnp.pad(columns, [(0, spare), (0, 0)]).reshape(blocks, block, length),
            jnp.pad(values, [(0, spare), (0, 0), (0, 0)]).reshape(blocks, block, length, k),
        )
        yield contracted, parts, count


def _by_lists(
    x: Array, tables: tuple[Array, ...], operator: Operator, groups: int, weight: Array | None, y: Array | None
) -> tuple[Array | None, Array | None]:
    """As `_by_rings`."""
    per_group = x.shape[0] // groups * operator.stencil.basis.size
    where = _lists_of(tables, operator)[0]
    out: list[Array] = []
    total: Any = None
    if y is not None:
        # In the order of the lists: the inverse of `where`.
        rows = jnp.moveaxis(y.reshape(*y.shape[:2], -1), 2, 0)
        rows = jnp.zeros_like(rows).at[where].set(rows, unique_indices=True)
        total = jnp.zeros((groups, y.shape[0] // groups, per_group), x.dtype)
    done = 0
    for contracted, parts, count in _over_points(x, tables, operator):
        blocks, block = parts[0].shape[:2]
        if y is not None:
            mine = jnp.pad(rows[done : done + count], [(0, blocks * block - count), (0, 0), (0, 0)])
            parts = (*parts, mine.reshape(blocks, block, groups, y.shape[0] // groups, -1))
        done += count

        def one(total: Any, part: Any, contracted: Any = contracted) -> tuple[Any, Any]:
            z = contracted(*part[:2])
            z = z.reshape(len(z), groups, per_group, -1)
            if y is not None:
                total = total + jnp.einsum("pgob,pgkb->gok", part[2], z)
            return total, None if weight is None else jnp.einsum("gok,pgkb->pgob", _matrix(weight, groups), z)

        total, points = lax.scan(one, total, parts)
        if weight is not None:
            out.append(points.reshape(-1, weight.shape[0], x.shape[1])[:count])
    result = None
    if weight is not None:
        result = jnp.moveaxis(jnp.concatenate(out)[where], 0, 2)
        result = result.reshape(weight.shape[0], x.shape[1], *operator.shapes[1])
    return result, None if y is None else _ungrouped(total, y, x, groups)


def _run(operator: Operator, *args: Any) -> tuple[Any, Any]:
    by = _by_rings if operator.stencil.method == "fourier" else _by_lists
    x, tables, groups, weight, y = args
    # In a function compiled around this they are constants, which XLA would pad, and keep twice, while it compiles.
    tables = lax.optimization_barrier(tables)
    return by(x, tables, operator, groups, weight, y)


# The primitives.


def _convolve(weight: Array, x: Array, *tables: Array, operator: Operator, groups: int) -> Array:
    return _run(operator, x, tables, groups, weight, None)[0]


def _correlate(y: Array, x: Array, *tables: Array, operator: Operator, groups: int) -> Array:
    return _run(operator, x, tables, groups, None, y)[1]


def _tangent(
    weight_dot: Array, x_dot: Array, weight: Array, x: Array, *tables: Array, operator: Operator, groups: int
) -> Array:
    params = {"operator": operator, "groups": groups}
    return _convolve_p.bind(weight_dot, x, *tables, **params) + _convolve_p.bind(weight, x_dot, *tables, **params)


def _cotangents(ct: Array, weight: Array, x: Array, *tables: Array, operator: Operator, groups: int) -> list[Array]:
    """The transpose of `_tangent`: both need the same contraction."""
    back, correlated = _run(operator.transpose, ct, tables, groups, _swapped(weight, groups), x)
    return [_swapped(correlated, groups), back]


def _swapped(weight: Array, groups: int) -> Array:
    """Weights with inputs and outputs exchanged, within each group."""
    out, per_group, k = weight.shape
    grouped = weight.reshape(groups, out // groups, per_group, k)
    return grouped.swapaxes(1, 2).reshape(groups * per_group, out // groups, k)


def _convolve_transposed(ct: Any, weight: Any, x: Any, *tables: Any, operator: Operator, groups: int) -> list[Any]:
    nothing = [None] * len(tables)
    if type(ct) is ad.Zero:
        return [None, None, *nothing]
    if ad.is_undefined_primal(weight):
        return [_correlate_p.bind(ct, x, *tables, operator=operator, groups=groups), None, *nothing]
    back = _convolve_p.bind(_swapped(weight, groups), ct, *tables, operator=operator.transpose, groups=groups)
    return [None, back, *nothing]


def _correlate_transposed(ct: Any, y: Any, x: Any, *tables: Any, operator: Operator, groups: int) -> list[Any]:
    nothing = [None] * len(tables)
    if type(ct) is ad.Zero:
        return [None, None, *nothing]
    if ad.is_undefined_primal(y):
        return [_convolve_p.bind(ct, x, *tables, operator=operator, groups=groups), None, *nothing]
    back = _convolve_p.bind(_swapped(ct, groups), y, *tables, operator=operator.transpose, groups=groups)
    return [None, back, *nothing]


def _tangent_transposed(ct: Any, weight_dot: Any, x_dot: Any, weight: Any, x: Any, *tables: Any, **params: Any) -> Any:
    nothing = [None] * (2 + len(tables))
    if type(ct) is ad.Zero:
        return [None, None, *nothing]
    return [*_cotangents_p.bind(ct, weight, x, *tables, **params), *nothing]


def _bilinear_jvp(primitive: Primitive, both: Any) -> Any:
    def jvp(primals: Any, tangents: Any, **params: Any) -> tuple[Any, Any]:
        out = primitive.bind(*primals, **params)
        first, second, *tables = primals
        there = [type(x) is not ad.Zero for x in tangents[:2]]
        if all(there):
            return out, both(*tangents[:2], first, second, *tables, **params)
        if there[0]:
            return out, primitive.bind(tangents[0], second, *tables, **params)
        return out, primitive.bind(first, tangents[1], *tables, **params)

    return jvp


def _jvp_by_parts(function: Any, bind: Any, numbers: int) -> Any:
    """Of a primitive that is a function of others, which have derivatives; of so many arguments before the tables."""

    def jvp(primals: Any, tangents: Any, **params: Any) -> tuple[Any, Any]:
        tables = primals[numbers:]
        tangents = [ad.instantiate_zeros(x) for x in tangents[:numbers]]
        dots = jax.jvp(lambda *args: function(*args, *tables, **params), tuple(primals[:numbers]), tuple(tangents))[1]
        return bind(*primals, **params), dots

    return jvp


def _apart(ct: Array, weight: Array, x: Array, *tables: Array, operator: Operator, groups: int) -> list[Array]:
    """As `_cotangents`, each for itself."""
    back = _convolve_p.bind(_swapped(weight, groups), ct, *tables, operator=operator.transpose, groups=groups)
    return [_correlate_p.bind(ct, x, *tables, operator=operator, groups=groups), back]


def _one_by_one(bind: Any, args: Any, axes: Any, params: Any) -> Any:
    moved = [x if axis is None else jnp.moveaxis(x, axis, 0) for x, axis in zip(args, axes, strict=True)]
    mapped = tuple(x for x, axis in zip(moved, axes, strict=True) if axis is not None)

    def one(items: Any) -> Any:
        left = list(items)
        return bind(*(x if axis is None else left.pop(0) for x, axis in zip(moved, axes, strict=True)), **params)

    return lax.map(one, mapped)


def _batch_convolve(args: Any, axes: Any, **params: Any) -> tuple[Array, int]:
    if axes[0] is not None:
        return _one_by_one(_convolve_p.bind, args, axes, params), 0
    # A batch of fields shares the weights: one more factor of the batch axis.
    x = jnp.moveaxis(args[1], axes[1], 1)
    size, items = x.shape[1:3]
    y = _convolve_p.bind(args[0], x.reshape(x.shape[0], size * items, *x.shape[3:]), *args[2:], **params)
    return y.reshape(y.shape[0], size, items, *y.shape[2:]), 1


def _primitive(name: str, operation: Any, several: bool = False) -> Primitive:
    primitive = Primitive(name)
    primitive.multiple_results = several
    primitive.def_impl(jax.jit(operation, static_argnames=("operator", "groups")))
    mlir.register_lowering(primitive, mlir.lower_fun(operation, multiple_results=several))
    return primitive


def _field_shape(weight: Any, x: Any, *tables: Any, operator: Operator, groups: int) -> Any:
    return x.update(shape=(weight.shape[0], x.shape[1], *operator.shapes[1]), weak_type=False)


_convolve_p = _primitive("armillary_disco_convolve", _convolve)
_correlate_p = _primitive("armillary_disco_correlate", _correlate)
_tangent_p = _primitive("armillary_disco_tangent", _tangent)
_cotangents_p = _primitive("armillary_disco_cotangents", _cotangents, several=True)

_convolve_p.def_abstract_eval(_field_shape)
ad.primitive_jvps[_convolve_p] = _bilinear_jvp(_convolve_p, _tangent_p.bind)
ad.primitive_transposes[_convolve_p] = _convolve_transposed
batching.primitive_batchers[_convolve_p] = _batch_convolve

_correlate_p.def_abstract_eval(
    lambda y, x, *tables, operator, groups: x.update(
        shape=(y.shape[0], x.shape[0] // groups, operator.stencil.basis.size), weak_type=False
    )
)
ad.primitive_jvps[_correlate_p] = _bilinear_jvp(
    _correlate_p,
    lambda y_dot, x_dot, y, x, *tables, **params: (
        _correlate_p.bind(y_dot, x, *tables, **params) + _correlate_p.bind(y, x_dot, *tables, **params)
    ),
)
ad.primitive_transposes[_correlate_p] = _correlate_transposed
batching.primitive_batchers[_correlate_p] = lambda args, axes, **params: (
    _one_by_one(_correlate_p.bind, args, axes, params),
    0,
)

_tangent_p.def_abstract_eval(
    lambda weight_dot, x_dot, weight, x, *tables, **params: _field_shape(weight, x, *tables, **params)
)
ad.primitive_jvps[_tangent_p] = _jvp_by_parts(_tangent, _tangent_p.bind, 4)
ad.primitive_transposes[_tangent_p] = _tangent_transposed
batching.primitive_batchers[_tangent_p] = lambda args, axes, **params: (
    jax.vmap(lambda *args: _tangent(*args, **params), in_axes=axes)(*args),
    0,
)

_cotangents_p.def_abstract_eval(
    lambda ct, weight, x, *tables, **params: [weight.update(weak_type=False), x.update(weak_type=False)]
)
ad.primitive_jvps[_cotangents_p] = _jvp_by_parts(_apart, _cotangents_p.bind, 3)
batching.primitive_batchers[_cotangents_p] = lambda args, axes, **params: (
    _one_by_one(_cotangents_p.bind, args, axes, params),
    [0, 0],
)
