"""Angles, and their Fourier modes."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Complex, Float


def check_angle(name: str, x: Any, dtype: Any) -> Array:
    """An array of angles in the given precision, or `ValueError`."""
    found = x.dtype if isinstance(x, jax.Array) else np.asarray(x).dtype
    if found.kind not in "fiu":
        raise ValueError(f"{name} is {found}: a real angle in radians is needed")
    return jnp.asarray(x, dtype)


def phases(angle: Float[Array, ...], orders: np.ndarray) -> Complex[Array, "... orders"]:
    """``exp(i * orders * angle)``, to the rounding of the angle and not to that of its product with the orders.

    The product of an order, of up to 12 bits, with the leading bits of an angle of a few turns is exact; what is left
    of the angle is small.
    """
    bits = 2.0 ** (8 if angle.dtype == np.float32 else 38)
    leading = lax.stop_gradient(jnp.round(angle * bits) / bits)
    rest = angle - leading
    orders = orders.astype(angle.dtype)
    return jnp.exp(1j * (leading[..., None] * orders)) * jnp.exp(1j * (rest[..., None] * orders))
