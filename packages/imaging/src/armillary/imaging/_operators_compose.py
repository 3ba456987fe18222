"""Operators made of others, or of a function."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, PyTree

from armillary.core import protocols

from ._operators_base import Hashed, power_norm, random_like


class Composition(Hashed):
    r"""Operators one after the other: ``Composition(A, B)(x) == A(B(x))``.

    >>> import jax.numpy as jnp
    >>> from armillary.imaging import Blur, Composition, Mask
    >>> mask = jnp.arange(64).reshape(8, 8) % 3 > 0
    >>> operator = Composition(Mask(mask), Blur(jnp.ones((3, 3)) / 9, (8, 8)))
    >>> operator(jnp.ones((8, 8))).shape, operator.adjoint(jnp.ones(42)).shape
    ((42,), (8, 8))

    Args:
        *operators: any forward operators, the last of which acts first.

    Raises:
        ValueError: there is none, or what comes out of one does not go into the next.
    """

    operators: tuple[Any, ...]

    def __init__(self, *operators: Any) -> None:
        _check_operators(operators)
        for outer, within in itertools.pairwise(operators):
            what = f"what comes out of {_name(within)}"
            _check_same(within.out_structure(), outer.in_structure(), what, _name(outer))
        self.operators = operators

    def __call__(self, x: PyTree) -> PyTree:
        """``A B x``."""
        for operator in reversed(self.operators):
            x = operator(x)
        return x

    def adjoint(self, y: PyTree) -> PyTree:
        """``B* A* y``."""
        for operator in self.operators:
            y = operator.adjoint(y)
        return y

    def in_structure(self) -> PyTree:
        """That of the last."""
        return self.operators[-1].in_structure()

    def out_structure(self) -> PyTree:
        """That of the first."""
        return self.operators[0].out_structure()

    def opnorm(self) -> Array:
        """By power iteration, and no more than the product of the norms."""
        product = jnp.asarray(1.0)
        for operator in self.operators:
            product = product * operator.opnorm()
        return jnp.minimum(power_norm(self), product)


class Sum(Hashed):
    r"""The sum of operators: ``Sum(A, B)(x) == A(x) + B(x)``.

    >>> import jax.numpy as jnp
    >>> from armillary.imaging import Identity, Sum
    >>> operator = Sum(Identity((4, 4)), Identity((4, 4)))
    >>> float(operator(jnp.ones((4, 4))).max()), f"{operator.opnorm():.2f}"
    (2.0, '2.00')

    Args:
        *operators: forward operators between the same structures.

    Raises:
        ValueError: there is none, or their structures differ.
    """

    operators: tuple[Any, ...]

    def __init__(self, *operators: Any) -> None:
        _check_operators(operators)
        first = operators[0]
        for other in operators[1:]:
            _check_same(other.in_structure(), first.in_structure(), f"what goes into {_name(other)}", _name(first))
            _check_same(other.out_structure(), first.out_structure(), f"what comes out of {_name(other)}", _name(first))
        self.operators = operators

    def __call__(self, x: PyTree) -> PyTree:
        """``A x + B x``."""
        return jax.tree.map(_added, *(operator(x) for operator in self.operators))

    def adjoint(self, y: PyTree) -> PyTree:
        """``A* y + B* y``."""
        return jax.tree.map(_added, *(operator.adjoint(y) for operator in self.operators))

    def in_structure(self) -> PyTree:
        """That of each."""
        return self.operators[0].in_structure()

    def out_structure(self) -> PyTree:
        """That of each."""
        return self.operators[0].out_structure()

    def opnorm(self) -> Array:
        """By power iteration, and no more than the sum of the norms."""
        return jnp.minimum(power_norm(self), _added(*(jnp.asarray(operator.opnorm()) for operator in self.operators)))


class Stack(Hashed):
    r"""Several operators on one image, as when several instruments see it: ``Stack(A, B)(x) == (A(x), B(x))``.

    >>> import jax.numpy as jnp
    >>> from armillary.imaging import Gradient, Identity, Stack
    >>> operator = Stack(Identity((4, 4)), Gradient((4, 4)))
    >>> [y.shape for y in operator(jnp.ones((4, 4)))]
    [(4, 4), (4, 4, 2)]

    Args:
        *operators: forward operators from the same structure.

    Raises:
        ValueError: there is none, or they take different things.
    """

    operators: tuple[Any, ...]

    def __init__(self, *operators: Any) -> None:
        _check_operators(operators)
        first = operators[0]
        for other in operators[1:]:
            _check_same(other.in_structure(), first.in_structure(), f"what goes into {_name(other)}", _name(first))
        self.operators = operators

    def __call__(self, x: PyTree) -> tuple[PyTree, ...]:
        """``(A x, B x)``."""
        return tuple(operator(x) for operator in self.operators)

    def adjoint(self, y: tuple[PyTree, ...]) -> PyTree:
        """``A* y_1 + B* y_2``."""
        parts = zip(self.operators, y, strict=True)
        return jax.tree.map(_added, *(operator.adjoint(part) for operator, part in parts))

    def in_structure(self) -> PyTree:
        """That of each."""
        return self.operators[0].in_structure()

    def out_structure(self) -> tuple[PyTree, ...]:
        """Those of all."""
        return tuple(operator.out_structure() for operator in self.operators)

    def opnorm(self) -> Array:
        """By power iteration, and no more than the root of the sum of squares of the norms."""
        squares = _added(*(jnp.asarray(operator.opnorm()) ** 2 for operator in self.operators))
        return jnp.minimum(power_norm(self), jnp.sqrt(squares))


class LinearMap(eqx.Module):
    r"""A linear function as a forward operator, with its adjoint by transposition, or as given.

    >>> import jax, jax.numpy as jnp
    >>> from armillary.imaging import LinearMap
    >>> operator = LinearMap(lambda x: jnp.cumsum(x, axis=0), jax.ShapeDtypeStruct((3,), "float32"))
    >>> print(operator.adjoint(jnp.ones(3)))
    [3. 2. 1.]

    Args:
        function: linear, of an array or a pytree.
        in_structure: the `jax.ShapeDtypeStruct` of what goes in, or a pytree of them.
        adjoint: the adjoint of the function; by default `jax.linear_transpose`.
        dot_test: check by `check_adjoint` that the two are adjoint.

    Raises:
        ValueError: ``dot_test`` is set and they are not.
    """

    function: Callable[[PyTree], PyTree] = eqx.field(static=True)
    given_adjoint: Callable[[PyTree], PyTree] | None = eqx.field(static=True)
    structure: PyTree = eqx.field(static=True)

    def __init__(
        self,
        function: Callable[[PyTree], PyTree],
        in_structure: PyTree,
        adjoint: Callable[[PyTree], PyTree] | None = None,
        *,
        dot_test: bool = False,
    ) -> None:
        self.function, self.given_adjoint, self.structure = function, adjoint, in_structure
        if dot_test:
            check_adjoint(self)

    def __call__(self, x: PyTree) -> PyTree:
        """``A x``."""
        return self.function(x)

    def adjoint(self, y: PyTree) -> PyTree:
        """``A* y``."""
        if self.given_adjoint is not None:
            return self.given_adjoint(y)
        (x,) = jax.linear_transpose(self.function, self.structure)(jax.tree.map(jnp.conj, y))
        return jax.tree.map(jnp.conj, x)

    def in_structure(self) -> PyTree:
        """As given."""
        return self.structure

    def out_structure(self) -> PyTree:
        """What the function makes of it."""
        return jax.eval_shape(self.function, self.structure)

    def opnorm(self) -> Array:
        """By power iteration."""
        return power_norm(self)


def check_adjoint(operator: Any, *, tolerance: float | None = None, seed: int = 0) -> None:
    r"""Check on random vectors that :math:`\langle A x, y \rangle = \langle x, A^* y \rangle`: the dot test.

    >>> from armillary.imaging import Gradient, check_adjoint
    >>> check_adjoint(Gradient((8, 8)))

    Args:
        operator: any forward operator.
        tolerance: relative to the norms; 1e-6 for structures in single precision and 1e-12 in double by default.
        seed: of the vectors.

    Raises:
        ValueError: the two differ by more, or the shapes are not those of the structures.
    """
    keys = jax.random.split(jax.random.key(seed))
    x, y = random_like(operator.in_structure(), keys[0]), random_like(operator.out_structure(), keys[1])
    image, back = operator(x), operator.adjoint(y)
    for found, expected, what in ((image, y, "A x"), (back, x, "A* y")):
        shapes = [jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), tree) for tree in (found, expected)]
        if shapes[0] != shapes[1]:
            raise ValueError(f"{what} of {_name(operator)} is {shapes[0]}, and its structure says {shapes[1]}")
    # Summed in double precision outside JAX.
    left, right = _double_inner(image, y), _double_inner(x, back)
    scale = max(_double_inner(a, a) * _double_inner(b, b) for a, b in ((image, y), (x, back))) ** 0.5
    single = any(jnp.finfo(leaf.dtype).bits == 32 for leaf in jax.tree.leaves((x, y)))
    allowed = tolerance if tolerance is not None else (1e-6 if single else 1e-12)
    if not abs(left - right) <= allowed * scale:
        raise ValueError(
            f"{_name(operator)} is not adjoint to its adjoint: <A x, y> = {left:.8g} and <x, A* y> = {right:.8g} "
            f"differ by {abs(left - right) / scale:.1e} of the norms, allowed {allowed:.0e}; look at conjugates and "
            "at the normalisation of Fourier transforms"
        )


def _double_inner(a: PyTree, b: PyTree) -> float:
    pairs = zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True)
    return float(sum(np.vdot(np.asarray(x, complex), np.asarray(y, complex)).real for x, y in pairs))


def _added(*arrays: Array) -> Array:
    total = arrays[0]
    for array in arrays[1:]:
        total = total + array
    return total


def _name(operator: Any) -> str:
    return type(operator).__name__


def _check_operators(operators: tuple[Any, ...]) -> None:
    if not operators:
        raise ValueError("operators is empty: give at least one")
    for operator in operators:
        if not isinstance(operator, protocols.ForwardOperator):
            raise ValueError(
                f"operators has {operator!r}: expected forward operators, with adjoint, in_structure, out_structure "
                "and opnorm; LinearMap makes one of a function"
            )


def _check_same(found: PyTree, expected: PyTree, what: str, other: str) -> None:
    shapes = [jax.tree.map(lambda leaf: (leaf.shape, np.dtype(leaf.dtype).name), tree) for tree in (found, expected)]
    if shapes[0] != shapes[1]:
        raise ValueError(f"{what} is {shapes[0]} and {other} has {shapes[1]}: shapes and dtypes must be the same")
