"""Harmonic coefficients in the layout of HEALPix and healpy."""

from __future__ import annotations

import functools
import math
from typing import Any

import jax
import numpy as np
from jaxtyping import Array, Complex

from ._checks import check_array, check_integer
from ._coefficients import _check_dense, _index


def alm_to_healpy(alm: Complex[Array, "... L 2*L-1"]) -> Complex[Array, "... L*(L+1)//2"]:
    r"""The orders :math:`m \ge 0` in healpy's layout: order by order, :math:`a_{lm}` at ``m (2 L - 1 - m) / 2 + l``.

    Orders below 0 are left out: of a real field they are :math:`a_{l,-m} = (-1)^m a_{lm}^*`. The parts `e` and `b` of
    a field of spin (see `spin_to_eb`) are those of real fields.

    Args:
        alm: dense coefficients.

    Returns:
        The triangle, of length ``L (L + 1) / 2``, with healpy's ``lmax = mmax = L - 1``.

    Raises:
        ValueError: the last axes of `alm` are not ``(L, 2 L - 1)``, or its type is not complex or real floating.

    >>> import jax.numpy as jnp
    >>> from armillary.sphere import alm_from_real, alm_to_healpy
    >>> print(alm_to_healpy(alm_from_real(jnp.arange(4.0))).round(3))
    [0.   +0.j    2.   +0.j    2.121+0.707j]
    """
    alm = _check_dense(alm)
    return dense_triangle(alm, alm.shape[-2] - 1, alm.shape[-2] - 1)


def alm_from_healpy(alm: Complex[Array, "... triangle"], L: int | None = None) -> Complex[Array, "... L 2*L-1"]:
    r"""Dense coefficients of a real field from healpy's layout: the inverse of `alm_to_healpy`.

    Args:
        alm: coefficients of the orders :math:`m \ge 0` with healpy's ``lmax = mmax``, which the length gives. Imaginary
            parts for :math:`m = 0`, which a real field has not, are dropped.
        L: the bandlimit of the result, by default that of `alm`: degrees beyond those of `alm` are 0, and degrees of
            `alm` from `L` on are dropped.

    Returns:
        Coefficients in all orders, :math:`a_{l,-m} = (-1)^m a_{lm}^*`, of shape ``(..., L, 2 L - 1)``.

    Raises:
        ValueError: the length of `alm` is not ``k (k + 1) / 2``, its type is not complex or real floating, or `L` is
            not a positive integer.

    >>> import jax.numpy as jnp
    >>> from armillary.sphere import alm_from_healpy, alm_to_real
    >>> print(alm_to_real(alm_from_healpy(jnp.array([0, 2, 2 + 1j]))).round(3))
    [0.    1.414 2.    2.828]
    """
    length = np.shape(alm)[-1] if np.ndim(alm) else 0
    stored = (math.isqrt(8 * length + 1) - 1) // 2
    if length == 0 or stored * (stored + 1) // 2 != length:
        raise ValueError(
            f"alm has shape {np.shape(alm)}: its last axis is of length k (k + 1) / 2, for degrees 0 to k - 1 and all "
            "their orders m >= 0"
        )
    L = stored if L is None else check_integer("L", L, 1, None, "the bandlimit of dense coefficients")
    return from_triangle(check_array("alm", alm, (length,), "complex", "healpy's layout"), L, stored, stored - 1)


@functools.partial(jax.jit, static_argnums=(1, 2))
def dense_triangle(alm: Array, lmax: int, mmax: int) -> Array:
    """As `alm_to_healpy`, of the degrees to `lmax` and the orders to `mmax` alone."""
    L = alm.shape[-2]
    return alm.reshape(*alm.shape[:-2], L * (2 * L - 1))[..., _places(L, lmax + 1, mmax).dense]


@functools.partial(jax.jit, static_argnums=(1, 2, 3))
def from_triangle(alm: Array, L: int, stored: int, mmax: int) -> Array:
    """As `alm_from_healpy`, of a triangle of degrees below `stored` that is cut at the order `mmax`."""
    places = _places(L, stored, mmax)
    dtype = alm.real.dtype
    values = alm[..., places.triangle]
    return values.real * places.weight.astype(dtype) + 1j * (values.imag * places.weight_imaginary.astype(dtype))


def triangle_length(stored: int, mmax: int) -> int:
    """The length of a triangle of degrees below `stored`, cut at the order `mmax`."""
    return (mmax + 1) * (2 * stored - mmax) // 2


class _Places:
    """Where the entries of the two layouts are; all arrays are of the host."""

    def __init__(self, L: int, stored: int, mmax: int) -> None:
        order = np.repeat(np.arange(mmax + 1), stored - np.arange(mmax + 1))
        degree = np.concatenate([np.arange(m, stored) for m in range(mmax + 1)])
        self.dense: Any = _index(degree * (2 * L - 1) + L - 1 + order)

        degree, m = np.arange(L)[:, None], np.arange(1 - L, L)
        inside = (abs(m) <= degree) & (degree < stored) & (abs(m) <= mmax)
        place = abs(m) * (2 * stored - 1 - abs(m)) // 2 + degree
        self.triangle: Any = _index(np.where(inside, place, 0))
        self.weight = inside * np.where(m < 0, 1 - 2 * (m % 2), 1)
        self.weight_imaginary = self.weight * np.sign(m)


@functools.lru_cache(maxsize=16)
def _places(L: int, stored: int, mmax: int) -> _Places:
    return _Places(L, stored, mmax)
