"""From dense harmonic coefficients and rings to the lanes of the Legendre stage, and back.

All of it is linear, and each pair of functions is a pair of transposes.
"""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

# The axes here: b batch (flattened), l degree, m order >= 0, t step of a lane (l - l_0), c column, h northern ring,
# r ring, p part: the orders from 0 up and those from 0 down.


def split_orders(alm: Array) -> tuple[Array, Array]:
    """(b, l, 2 L - 1) -> orders m >= 0 and -m <= 0, both (b, l, m)."""
    L = alm.shape[1]
    return alm[:, :, L - 1 :], alm[:, :, L - 1 :: -1] if L > 1 else alm


def join_orders(positive: Array, negative: Array) -> Array:
    """The dense layout from both signs; the second's order 0 is left out."""
    return jnp.concatenate([negative[:, :, :0:-1], positive], axis=2)


def to_lanes(parts: list[Array], spin: int) -> Array:
    """Complex (b, l, m) arrays -> (m, t, c), with real columns in the order part, b, real or imaginary."""
    x = jnp.stack(parts)
    x = jnp.stack([x.real, x.imag], axis=2)  # (part, b, 2, l, m)
    L = x.shape[-1]
    x = x.transpose(4, 3, 0, 1, 2).reshape(L, L, -1)  # (m, l, c)
    n, columns = abs(spin), x.shape[-1]
    x = x[:, n:]
    size = L - n  # of the orders m >= n, which start at t = 0 with l = m: row m - n moves left by m - n
    sheared = jnp.pad(x[n:], [(0, 0), (0, size), (0, 0)]).reshape(size * 2 * size, columns)
    sheared = jnp.pad(sheared, [(0, size), (0, 0)]).reshape(size, 2 * size + 1, columns)[:, :size]
    return jnp.concatenate([x[:n], sheared])


def from_lanes(x: Array, spin: int, parts: int) -> list[Array]:
    """The transpose of `to_lanes`."""
    L, _, columns = x.shape
    n = abs(spin)
    size = L - n
    straight = jnp.pad(x[n:], [(0, 0), (0, size + 1), (0, 0)]).reshape(-1, columns)[: size * 2 * size]
    straight = straight.reshape(size, 2 * size, columns)[:, :size]
    x = jnp.pad(jnp.concatenate([x[:n], straight]), [(0, 0), (n, 0), (0, 0)])
    x = x.reshape(L, L, parts, -1, 2).transpose(2, 3, 4, 1, 0)
    return list(x[:, :, 0] + 1j * x[:, :, 1])


def to_real(x: Array) -> Array:
    """Complex (p, b, r, m) -> real (m, p, b, 2, r)."""
    return jnp.stack([x.real, x.imag], axis=2).transpose(4, 0, 1, 2, 3)


def from_real(x: Array) -> Array:
    """The transpose of `to_real`."""
    x = x.transpose(1, 2, 3, 4, 0)
    return x[:, :, 0] + 1j * x[:, :, 1]


def split_hemispheres(x: Array) -> tuple[Array, Array]:
    """(..., r) -> north and south, both (..., h) from the pole on; an equator is in the north, with 0 south."""
    rings = x.shape[-1]
    south = jnp.flip(x[..., (rings + 1) // 2 :], axis=-1)
    return x[..., : (rings + 1) // 2], jnp.pad(south, [(0, 0)] * (x.ndim - 1) + [(0, rings % 2)])


def join_hemispheres(north: Array, south: Array, rings: int) -> Array:
    """The transpose of `split_hemispheres`."""
    return jnp.concatenate([north, jnp.flip(south[..., : rings // 2], axis=-1)], axis=-1)


def order_signs(L: int, dtype: np.dtype) -> Array:
    """(-1)**m for m from 0 to L - 1."""
    return jnp.asarray(1 - 2 * (np.arange(L) % 2), dtype)
