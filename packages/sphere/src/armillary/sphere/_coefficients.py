"""Harmonic coefficients: the real layout, and power spectra."""

from __future__ import annotations

import functools
import math
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Complex, Float

from ._checks import check_array


def alm_to_real(alm: Complex[Array, "... L 2*L-1"]) -> Float[Array, "... L**2"]:
    r"""The coefficients of a real field as a real vector of the same norm.

    Entry ``l**2 + l + m`` is :math:`a_{l0}` for :math:`m = 0`, :math:`\sqrt 2\,\mathrm{Re}\,a_{lm}` for :math:`m > 0`
    and :math:`\sqrt 2\,\mathrm{Im}\,a_{l|m|}` for :math:`m < 0`: the coefficients on the orthonormal real harmonics
    :math:`Y_{l0}`, :math:`\sqrt 2\,\mathrm{Re}\,Y_{lm}` and :math:`-\sqrt 2\,\mathrm{Im}\,Y_{l|m|}`. A Gaussian field
    of power spectrum :math:`C_l` has independent entries of variance :math:`C_l`. What is not the coefficients of a
    real field, :math:`a_{l,-m} = (-1)^m a_{lm}^*`, is projected on those first.

    Args:
        alm: coefficients of spin 0.

    Returns:
        The vector, of length ``L**2``, in the precision of `alm`; `alm_from_real` is its inverse and its adjoint.

    Raises:
        ValueError: the last axes of `alm` are not ``(L, 2 L - 1)``, or its type is not complex or real floating.

    >>> import jax.numpy as jnp
    >>> from armillary.sphere import alm_from_real, alm_to_real
    >>> x = jnp.arange(9.0)
    >>> print(alm_to_real(alm_from_real(x)).round(4))
    [0. 1. 2. 3. 4. 5. 6. 7. 8.]
    """
    alm = _check_dense(alm)
    L = alm.shape[-2]
    tables = _tables(L)
    sign = tables.sign.astype(alm.real.dtype)
    flat = alm.reshape(*alm.shape[:-2], L * (2 * L - 1))
    hermitian = (flat[..., tables.positive] + sign * flat[..., tables.negative].conj()) / 2
    scale = tables.scale.astype(alm.real.dtype)
    return jnp.where(tables.imaginary, hermitian.imag, hermitian.real) * scale


def alm_from_real(x: Float[Array, "... L**2"]) -> Complex[Array, "... L 2*L-1"]:
    """The coefficients of a real field from their real layout: the inverse of `alm_to_real`.

    Args:
        x: the vector, of a length that is a square.

    Returns:
        Coefficients of spin 0, in all orders, of shape ``(..., L, 2 L - 1)``.

    Raises:
        ValueError: the length of `x` is not a square, or it is not real floating.
    """
    length = np.shape(x)[-1] if np.ndim(x) else 0
    L = math.isqrt(length)
    if L == 0 or length != L * L:
        raise ValueError(f"x has shape {np.shape(x)}: its last axis is of length L**2 for a bandlimit L of 1 or more")
    x = check_array("x", x, (length,), "real", "the real layout of coefficients")
    tables = _tables(L)
    scaled = x / tables.scale.astype(x.dtype)
    real = scaled[..., tables.of_real] * tables.weight_real.astype(x.dtype)
    imaginary = scaled[..., tables.of_imaginary] * tables.weight_imaginary.astype(x.dtype)
    return real + 1j * imaginary


def power_spectrum(alm: Complex[Array, "... L 2*L-1"]) -> Float[Array, "... L"]:
    r"""The angular power spectrum :math:`\hat C_l = \sum_{m=-l}^{l} |a_{lm}|^2 / (2 l + 1)`.

    Args:
        alm: coefficients of any spin, ``(..., L, 2 L - 1)``.

    Returns:
        The power in each degree, from 0 to ``L - 1``.

    Raises:
        ValueError: the last axes of `alm` are not ``(L, 2 L - 1)``, or its type is not complex or real floating.

    >>> import jax.numpy as jnp
    >>> from armillary.sphere import alm_from_real, power_spectrum
    >>> print(power_spectrum(alm_from_real(jnp.ones(9))).round(4))
    [1. 1. 1.]
    """
    alm = _check_dense(alm)
    L = alm.shape[-2]
    degree, order = np.arange(L)[:, None], np.arange(1 - L, L)
    weight = (abs(order) <= degree) / (2 * degree + 1)
    # Not abs(alm)**2, which has no derivative at 0.
    return ((alm.real**2 + alm.imag**2) * weight.astype(alm.real.dtype)).sum(axis=-1)


def _check_dense(alm: Any) -> Array:
    shape = np.shape(alm)
    L = shape[-2] if len(shape) > 1 else 1
    return check_array("alm", alm, (L, 2 * L - 1), "complex", "degrees by orders, (l, m) at [l, L-1+m]")


class _Tables:
    """Where the entries of the two layouts are; all arrays are of the host."""

    def __init__(self, L: int) -> None:
        degree = np.repeat(np.arange(L), 2 * np.arange(L) + 1)
        order = np.arange(L * L) - degree * (degree + 1)
        row = degree * (2 * L - 1) + L - 1
        self.positive, self.negative = _index(row + abs(order)), _index(row - abs(order))
        self.sign = 1 - 2 * (order % 2)
        self.imaginary = order < 0
        self.scale = np.where(order == 0, 1.0, math.sqrt(2))

        degree, m = np.arange(L)[:, None], np.arange(1 - L, L)
        inside = abs(m) <= degree
        centre = degree * (degree + 1)
        self.of_real = _index(np.where(inside, centre + abs(m), 0))
        self.of_imaginary = _index(np.where(inside, centre - abs(m), 0))
        sign = np.where(m < 0, 1 - 2 * (m % 2), 1)
        self.weight_real = inside * sign
        self.weight_imaginary = inside * sign * np.sign(m)


def _index(x: np.ndarray) -> np.ndarray:
    # In the one integer type that JAX has with and without x64: its indexing caches by the array.
    return x.astype(np.int32)


@functools.lru_cache(maxsize=16)
def _tables(L: int) -> _Tables:
    return _Tables(L)
