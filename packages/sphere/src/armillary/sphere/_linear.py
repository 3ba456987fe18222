"""Linear operations as pairs of JAX primitives, each of which is the other's transpose."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir
from jaxtyping import Array

Operation = Callable[..., Array]


def linear_pair(
    names: tuple[str, str], operations: tuple[Operation, Operation], shapes: tuple[Operation, Operation], axis: int
) -> tuple[Primitive, Primitive]:
    """Primitives for an operation of one array and its transpose (not its adjoint: nothing is conjugated).

    Args:
        names: what the two are called.
        operations: what they do, in JAX, of an array and keyword parameters.
        shapes: the abstract value of each result from that of the argument, with the same parameters.
        axis: the axis, of arguments and results alike, on which items are independent of each other: it takes the
            batch.
    """
    pair = [_primitive(*each, axis) for each in zip(names, operations, shapes, strict=True)]
    for primitive, transpose in (pair, pair[::-1]):
        ad.deflinear2(primitive, lambda ct, _, transpose=transpose, **params: [_apply(transpose, ct, params)])
    return pair[0], pair[1]


def _primitive(name: str, operation: Operation, shape: Operation, axis: int) -> Primitive:
    primitive = Primitive(name)
    compiled: dict[Any, Operation] = {}

    def implementation(x: Array, **params: Any) -> Array:
        key = tuple(params.items())
        if key not in compiled:
            compiled[key] = jax.jit(lambda x: operation(x, **params))
        return compiled[key](x)

    primitive.def_impl(implementation)
    primitive.def_abstract_eval(shape)
    mlir.register_lowering(primitive, mlir.lower_fun(operation, multiple_results=False))

    def batch(args: Any, axes: Any, **params: Any) -> tuple[Array, int]:
        x = jnp.moveaxis(args[0], axes[0], axis)
        size, items = x.shape[axis : axis + 2]
        y = primitive.bind(x.reshape(*x.shape[:axis], size * items, *x.shape[axis + 2 :]), **params)
        return y.reshape(*y.shape[:axis], size, items, *y.shape[axis + 1 :]), axis

    batching.primitive_batchers[primitive] = batch
    return primitive


def _apply(primitive: Primitive, cotangent: Any, params: dict[str, Any]) -> Any:
    return cotangent if type(cotangent) is ad.Zero else primitive.bind(cotangent, **params)
