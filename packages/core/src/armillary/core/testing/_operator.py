"""The laws of a forward operator, and of a transform, which has an inverse too."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, PyTree

from armillary.core import protocols

from ._checks import CHECKS, Broken, Case, check, run
from ._numbers import agree, finite, inner, like, norm, same_structure, tolerance

# Of the power iteration: enough for a gap of a hundredth between the largest singular values to be crossed.
POWER_STEPS = 100


@check("operator", "it has `__call__`, `adjoint`, `in_structure`, `out_structure` and `opnorm`", "the protocol")
def check_operator_interface(case: Case) -> None:
    """It is an `armillary.core.protocols.ForwardOperator`."""
    if not isinstance(case.component, protocols.ForwardOperator):
        raise Broken(f"{type(case.component).__name__} lacks one of them")


@check(
    "operator",
    "in_structure and out_structure are what goes in and comes out, of the operator and of its adjoint",
    "the shapes and dtypes of these structures; the dtype follows the input",
)
def check_operator_structures(case: Case) -> None:
    """Shapes and dtypes, also where x64 is on."""
    operator = case.component
    for enabled in {jax.config.jax_enable_x64, True}:
        with jax.enable_x64(enabled):
            same_structure(jax.eval_shape(operator, operator.in_structure()), operator.out_structure(), "A x")
            same_structure(jax.eval_shape(operator.adjoint, operator.out_structure()), operator.in_structure(), "A* y")
    same_structure(_x(case, 0), operator.in_structure(), "the example")


@check("operator", "it is linear, and so is its adjoint", "offsets, absolute values, and normalisations by the input")
def check_operator_linear(case: Case) -> None:
    """``A (a u + b v) == a A u + b A v``, with complex numbers a and b where both sides are complex."""
    operator = case.component
    a, b = (0.7 - 0.4j, -1.3 + 0.2j) if _complex(operator) else (0.7, -1.3)
    for name, f, u, v in (
        ("A", operator, _x(case, 1), _x(case, 2)),
        ("A*", operator.adjoint, _y(case, 1), _y(case, 2)),
    ):
        together = f(_combine(a, u, b, v))
        agree(together, _combine(a, f(u), b, f(v)), f"{name} (a u + b v)", _rtol(case) * 4)


@check(
    "operator",
    "<A x, y> == <x, A* y>",
    "`adjoint`: conjugates, the order and the normalisation of FFTs, and weights",
)
def check_operator_adjoint(case: Case) -> None:
    """The dot test, three times; of the real part where a side is real."""
    operator = case.component
    for seed in (3, 4, 5):
        x, y = _x(case, seed), _y(case, seed)
        image, back = operator(x), operator.adjoint(y)
        left, right = inner(image, y), inner(x, back)
        if not _complex(operator):
            left, right = complex(left.real), complex(right.real)
        # Of the norms and not of the product itself, which can be small by chance.
        scale = max(norm(image) * norm(y), norm(x) * norm(back))
        if not abs(left - right) <= _rtol(case) * scale:
            raise Broken(
                f"<A x, y> = {left:.8g} and <x, A* y> = {right:.8g} differ by {abs(left - right) / scale:.2e} of the "
                f"norms, allowed {_rtol(case):.1e}"
            )


@check(
    "operator",
    "opnorm is not below the largest singular value, by more than one part in a thousand",
    "`opnorm`: too few power iterations, or a bound of something else",
)
def check_operator_opnorm(case: Case) -> None:
    """Against a power iteration, whose value is never above the largest singular value."""
    operator = case.component
    bound = float(operator.opnorm())
    if not (np.isfinite(bound) and bound > 0):
        raise Broken(f"opnorm is {bound}")
    normal = jax.jit(lambda x: operator.adjoint(operator(x)))
    largest = 0.0
    for seed in (6, 7):
        x = _x(case, seed)
        for _ in range(POWER_STEPS):
            x = normal(_scaled(x, 1 / norm(x)))
        if norm(x) > 0:
            largest = max(largest, norm(operator(x)) / norm(x))
    if not bound >= (1 - 1e-3) * largest:
        raise Broken(f"opnorm is {bound:.6g}, and a vector is stretched by {largest:.6g}")


@check("operator", "jit equals eager, and vmap equals a loop", "Python branches on values, reductions over all axes")
def check_operator_transforms(case: Case) -> None:
    """The operator and its adjoint under jax.jit and jax.vmap."""
    operator = case.component
    for name, f, u, v in (
        ("A x", operator, _x(case, 8), _x(case, 9)),
        ("A* y", operator.adjoint, _y(case, 8), _y(case, 9)),
    ):
        expected = f(u), f(v)
        agree(jax.jit(f)(u), expected[0], f"{name} under jit", _rtol(case))
        agree(jax.vmap(f)(_stack(u, v)), _stack(*expected), f"{name} under vmap", _rtol(case))


@check(
    "operator",
    "its derivative is itself: jvp is A v, and the gradient of Re <y, A x> is A* y",
    "custom derivatives, jax.lax.stop_gradient, and pure_callback without a rule",
)
def check_operator_gradient(case: Case) -> None:
    """Forward and reverse mode."""
    operator = case.component
    x, v, y = _x(case, 10), _x(case, 11), _y(case, 10)
    agree(jax.jvp(operator, (x,), (v,))[1], operator(v), "jvp", _rtol(case))

    def real_part(x: PyTree) -> Array:
        pairs = zip(jax.tree.leaves(y), jax.tree.leaves(operator(x)), strict=True)
        return sum((jnp.vdot(a, b).real for a, b in pairs), start=jnp.zeros(()))

    # For a complex x, jax.grad is the conjugate of the steepest ascent. Compared along v, which is in the domain.
    gradient = jax.tree.map(jnp.conj, jax.grad(real_part)(x))
    found, expected = inner(gradient, v).real, inner(operator.adjoint(y), v).real
    scale = norm(operator.adjoint(y)) * norm(v)
    if not abs(found - expected) <= _rtol(case) * 4 * scale:
        raise Broken(f"along a direction the gradient is {found:.8g} and A* y is {expected:.8g}")


# A transform is an operator: every check of one is a check of the other.
CHECKS["transform"][:0] = CHECKS["operator"]


@check("transform", "it has `inverse`, which gives what goes in", "the protocol, and the shape and dtype of `inverse`")
def check_transform_interface(case: Case) -> None:
    """It is an `armillary.core.protocols.Transform`."""
    if not isinstance(case.component, protocols.Transform):
        raise Broken(f"{type(case.component).__name__} lacks `inverse`")
    inverse = jax.eval_shape(case.component.inverse, case.component.out_structure())
    same_structure(inverse, case.component.in_structure(), "inverse(y)")


@check(
    "transform",
    "inverse(A x) == x to rounding, for every x in its domain",
    "`inverse`; and, where not every array is in the domain, the example of the Case",
)
def check_transform_round_trip(case: Case) -> None:
    """There and back, also under jit."""
    transform = case.component
    for seed in (12, 13):
        x = _x(case, seed)
        y = transform(x)
        finite(y, "A x")
        agree(transform.inverse(y), x, "inverse(A x)", _rtol(case) * 4)
        agree(jax.jit(transform.inverse)(y), x, "inverse(A x) under jit", _rtol(case) * 4)


def check_operator(operator: Any) -> None:
    """Run every check of an operator: see `armillary.core.protocols.ForwardOperator` for the laws.

    Args:
        operator: a constructed operator, or a `Case` with an example where not every array is in its domain.

    Raises:
        ConformanceError: at the first violation, with the law, the numbers, and what to look at.
    """
    run("operator", operator)


def check_transform(transform: Any) -> None:
    """Run every check of a transform: see `armillary.core.protocols.Transform` for the laws.

    Args:
        transform: as for `check_operator`.

    Raises:
        ConformanceError: at the first violation, with the law, the numbers, and what to look at.
    """
    run("transform", transform)


def _x(case: Case, seed: int) -> PyTree:
    return case.draw(jax.random.key(seed), lambda key: like(case.component.in_structure(), key))


def _y(case: Case, seed: int) -> PyTree:
    return like(case.component.out_structure(), jax.random.key(100 + seed))


def _rtol(case: Case) -> float:
    return tolerance((case.component.in_structure(), case.component.out_structure()), case.tolerance)


def _complex(operator: Any) -> bool:
    leaves = jax.tree.leaves((operator.in_structure(), operator.out_structure()))
    return all(jnp.issubdtype(leaf.dtype, jnp.complexfloating) for leaf in leaves)


def _combine(a: complex, u: PyTree, b: complex, v: PyTree) -> PyTree:
    return jax.tree.map(lambda u, v: (a * u + b * v).astype(u.dtype), u, v)


def _scaled(tree: PyTree, by: float) -> PyTree:
    return jax.tree.map(lambda leaf: leaf * jnp.asarray(by, leaf.real.dtype), tree)


def _stack(*trees: PyTree) -> PyTree:
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *trees)
