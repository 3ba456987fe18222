"""What the operators share: their structures, the checks of their arguments, and their norms."""

from __future__ import annotations

import abc
import functools
import math
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, PyTree


class Hashed(eqx.Module):
    """A module that can be hashed though it holds arrays, as a callable must for ``jax.jit(operator)``.

    By what is static, and by which arrays it holds, not by their values.
    """

    def __hash__(self) -> int:
        leaves, structure = jax.tree.flatten(self)
        return hash((structure, *map(id, leaves)))


class ArrayOperator(Hashed):
    """A forward operator from arrays to arrays: it checks what comes, and a subclass does the work.

    Leading axes are a batch. What an operator holds are its leaves as a pytree, so that it can be an argument of a
    function under `jax.jit`. The dtype of a result follows the input, whatever that of `in_structure`.
    """

    def __call__(self, x: Array) -> Array:
        """``A x``."""
        return _forward(self, check_array("x", x, self.in_structure()))

    def adjoint(self, y: Array) -> Array:
        """``A* y``."""
        return _backward(self, check_array("y", y, self.out_structure()))

    @abc.abstractmethod
    def in_structure(self) -> jax.ShapeDtypeStruct:
        """What goes in."""

    @abc.abstractmethod
    def out_structure(self) -> jax.ShapeDtypeStruct:
        """What comes out."""

    @abc.abstractmethod
    def opnorm(self) -> float | Array:
        """The largest singular value, or a bound close above it."""

    @abc.abstractmethod
    def _apply(self, x: Array) -> Array:
        """``A x`` of an array of the right shape and kind."""

    @abc.abstractmethod
    def _adjoint(self, y: Array) -> Array:
        """``A* y`` of an array of the right shape and kind."""


@jax.jit
def _forward(operator: ArrayOperator, x: Array) -> Array:
    return operator._apply(x)


@jax.jit
def _backward(operator: ArrayOperator, y: Array) -> Array:
    return operator._adjoint(y)


class OrthonormalOperator(ArrayOperator):
    """An operator with ``A* A = 1``: its adjoint is its inverse on its range."""

    def inverse(self, y: Array) -> Array:
        """The ``x`` with ``A x == y``: the adjoint, since ``A* A = 1``."""
        return self.adjoint(y)

    def opnorm(self) -> float:
        """1."""
        return 1.0


def check_array(name: str, x: Any, structure: jax.ShapeDtypeStruct) -> Array:
    """An array of the trailing shape of a structure, floating, and complex where that is.

    Raises:
        ValueError: another shape, or complex numbers for a real operator.
    """
    x = jnp.asarray(x)
    trailing = structure.shape
    if x.ndim < len(trailing) or x.shape[x.ndim - len(trailing) :] != trailing:
        wanted = ", ".join(["...", *map(str, trailing)])
        raise ValueError(f"{name} has shape {x.shape}: ({wanted}) is needed; leading axes are a batch")
    is_complex = jnp.issubdtype(structure.dtype, jnp.complexfloating)
    if jnp.issubdtype(x.dtype, jnp.complexfloating):
        if not is_complex:
            raise ValueError(
                f"{name} is {x.dtype} and the operator takes real numbers: pass {name}.real, or make the operator with "
                "a complex dtype"
            )
        return x
    if not jnp.issubdtype(x.dtype, jnp.floating):
        x = x.astype(jnp.finfo(structure.dtype).dtype)
    return x.astype(complex_of(x.dtype)) if is_complex else x


def check_shape(name: str, shape: Any) -> tuple[int, int]:
    """The shape of an image, two positive whole numbers.

    Raises:
        ValueError: it is something else.
    """
    sizes = tuple(shape) if isinstance(shape, (tuple, list)) else ()
    if len(sizes) != 2 or not all(isinstance(n, (int, np.integer)) and n > 0 for n in sizes):
        raise ValueError(f"{name}={shape!r}: expected the shape of an image, (rows, columns), two positive numbers")
    return int(sizes[0]), int(sizes[1])


def check_dtype(dtype: Any, *, real: bool = False) -> np.dtype:
    """A floating or complex dtype; by default the floating one of JAX's setting.

    Raises:
        ValueError: it is another, or complex where only real numbers are allowed.
    """
    found = np.dtype(jnp.result_type(float) if dtype is None else dtype)
    allowed = [np.float32, np.float64] if real else [np.float32, np.float64, np.complex64, np.complex128]
    if found not in allowed:
        raise ValueError(f"dtype={dtype!r}: expected {', '.join(np.dtype(one).name for one in allowed)}")
    return found


def complex_of(dtype: Any) -> np.dtype:
    """The complex dtype of the precision of another."""
    return np.dtype(np.complex64 if jnp.finfo(dtype).bits == 32 else np.complex128)


def real_of(dtype: Any) -> np.dtype:
    """The real dtype of the precision of another."""
    return np.dtype(np.float32 if jnp.finfo(dtype).bits == 32 else np.float64)


def spectrum(x: Array) -> Array:
    """The Fourier transform of images; of real ones at the frequencies that are not redundant."""
    return jnp.fft.fft2(x) if jnp.iscomplexobj(x) else jnp.fft.rfft2(x)


def inverse_spectrum(y: Array, shape: tuple[int, int], dtype: Any) -> Array:
    """The images of a shape and dtype of which `spectrum` is given."""
    return jnp.fft.ifft2(y) if jnp.issubdtype(dtype, jnp.complexfloating) else jnp.fft.irfft2(y, s=shape)


def filtered(x: Array, response: Array) -> Array:
    """Images times a response at the frequencies of `spectrum`."""
    y = spectrum(x)
    return inverse_spectrum(y * response.astype(y.dtype), (x.shape[-2], x.shape[-1]), x.dtype)


def inner(a: PyTree, b: PyTree) -> Array:
    """The real part of ``sum(conj(a) * b)`` over two trees."""
    pairs = zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True)
    # Not from a zero of JAX's, which would be of its default precision.
    return functools.reduce(jnp.add, [jnp.vdot(x, y).real for x, y in pairs])


def random_like(structure: PyTree, key: Array) -> PyTree:
    """Standard normal numbers of a structure."""
    leaves, treedef = jax.tree.flatten(structure)
    keys = jax.random.split(key, len(leaves))
    draws = [jax.random.normal(k, leaf.shape, leaf.dtype) for k, leaf in zip(keys, leaves, strict=True)]
    return jax.tree.unflatten(treedef, draws)


def power_norm(operator: Any, *, tolerance: float = 1e-5, max_steps: int = 1000) -> Array:
    """The largest singular value of an operator, by power iteration until it grows by less than a tolerance a step.

    From below; a hundred times the tolerance is added.
    """

    def normalised(x: PyTree) -> tuple[PyTree, Array]:
        norm = jnp.sqrt(inner(x, x))
        return jax.tree.map(lambda leaf: leaf / jnp.where(norm > 0, norm, 1).astype(real_of(leaf.dtype)), x), norm

    def step(state: tuple) -> tuple:
        x, _, norm, k = state
        x, squared = normalised(operator.adjoint(operator(x)))
        return x, norm, jnp.sqrt(squared).astype(norm.dtype), k + 1

    def growing(state: tuple) -> Array:
        _, before, norm, k = state
        return (k < 3) | ((norm > (1 + tolerance) * before) & (k < max_steps))

    x, norm = normalised(random_like(operator.in_structure(), jax.random.key(0)))
    state = jax.lax.while_loop(growing, step, (x, jnp.zeros_like(norm), jnp.zeros_like(norm), 0))
    return state[2] * (1 + 100 * tolerance)


def size(structure: PyTree) -> int:
    """The number of elements of a structure."""
    return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(structure))
