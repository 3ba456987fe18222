"""Layers of convolutional networks on stacks of images with channels last, quick inside the loops of samplers.

On a CPU, XLA runs the derivatives of a convolution inside a loop some thirty times slower than outside (JAX issue
12868). Here the convolution is XLA's, channels last, which it runs well, and its derivatives are products of matrices,
as are the layers that change the scale.
"""

from __future__ import annotations

import math
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float


@jax.custom_jvp
def convolve(weight: Float[Array, "3 3 in out"], x: Float[Array, "n rows columns in"]) -> Array:
    """Correlation with a kernel of 3 by 3 pixels, zeros beyond the edges."""
    return jax.lax.conv_general_dilated(x, weight, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))


@convolve.defjvp
def _convolve_jvp(primals: Any, tangents: Any) -> tuple[Array, Array]:
    weight, x = primals
    weight_dot, x_dot = tangents
    change = _neighbours(x_dot) @ weight.reshape(-1, weight.shape[-1])
    return convolve(weight, x), change + _neighbours(x) @ weight_dot.reshape(-1, weight.shape[-1])


def _neighbours(x: Float[Array, "n rows columns in"]) -> Float[Array, "n rows columns 9*in"]:
    """The 3 by 3 pixels about each."""
    rows, columns = x.shape[1:3]
    padded = jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
    return jnp.concatenate([padded[:, i : i + rows, j : j + columns] for i in range(3) for j in range(3)], axis=-1)


class Convolution(eqx.Module):
    """A convolution of 3 by 3 pixels, in single precision."""

    weight: Float[Array, "3 3 in out"]
    bias: Float[Array, " out"] | None

    def __init__(self, key: jax.Array, inputs: int, outputs: int, *, bias: bool = True, gain: float = 1.0) -> None:
        self.weight = _weights(key, (3, 3, inputs, outputs), 9 * inputs, gain)
        self.bias = jnp.zeros(outputs, jnp.float32) if bias else None

    def __call__(self, x: Array) -> Array:
        y = convolve(self.weight, x)
        return y if self.bias is None else y + self.bias


class Halve(eqx.Module):
    """A convolution of 2 by 2 pixels with stride 2."""

    weight: Float[Array, "4*in out"]

    def __init__(self, key: jax.Array, inputs: int, outputs: int) -> None:
        self.weight = _weights(key, (4 * inputs, outputs), 4 * inputs, 1.0)

    def __call__(self, x: Array) -> Array:
        n, rows, columns, channels = x.shape
        blocks = x.reshape(n, rows // 2, 2, columns // 2, 2, channels).transpose(0, 1, 3, 2, 4, 5)
        return blocks.reshape(n, rows // 2, columns // 2, 4 * channels) @ self.weight


class Double(eqx.Module):
    """The transposed convolution of 2 by 2 pixels with stride 2."""

    weight: Float[Array, "in 4*out"]

    def __init__(self, key: jax.Array, inputs: int, outputs: int) -> None:
        self.weight = _weights(key, (inputs, 4 * outputs), inputs, 1.0)

    def __call__(self, x: Array) -> Array:
        n, rows, columns, _ = x.shape
        blocks = (x @ self.weight).reshape(n, rows, columns, 2, 2, -1).transpose(0, 1, 3, 2, 4, 5)
        return blocks.reshape(n, 2 * rows, 2 * columns, -1)


def group_norm(x: Float[Array, "n rows columns channels"]) -> Array:
    """Groups of about four channels of an image, shifted and scaled to zero mean and unit variance."""
    n, rows, columns, channels = x.shape
    groups = x.reshape(n, rows, columns, -1, math.gcd(channels, 4))
    centred = groups - groups.mean((1, 2, 4), keepdims=True)
    return (centred * jax.lax.rsqrt(jnp.mean(centred**2, (1, 2, 4), keepdims=True) + 1e-5)).reshape(x.shape)


def pad_to_multiple(x: Float[Array, "n rows columns"], multiple: int) -> Array:
    """The images extended by their last row and column to a multiple of a number on each axis."""
    return jnp.pad(x, [(0, 0), *((0, -length % multiple) for length in x.shape[1:])], mode="edge")


def _weights(key: jax.Array, shape: tuple[int, ...], inputs: int, gain: float) -> Array:
    """He's, for rectified units."""
    return gain * math.sqrt(2 / inputs) * jax.random.normal(key, shape, jnp.float32)
