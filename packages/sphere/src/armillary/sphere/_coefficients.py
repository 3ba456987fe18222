"""Harmonic coefficients: the real layout, E and B, and power spectra."""

from __future__ import annotations

import functools
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Complex, Float

from ._checks import check_array, check_integer


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
    return _to_real(_check_dense(alm))


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
    return _from_real(x)


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
    return _power(_check_dense(alm))


def cross_spectrum(alm: Complex[Array, "... L 2*L-1"], blm: Complex[Array, "... L 2*L-1"]) -> Float[Array, "... L"]:
    r"""The angular cross spectrum :math:`\hat C_l = \mathrm{Re} \sum_{m=-l}^{l} a_{lm} b_{lm}^* / (2 l + 1)`.

    Args:
        alm: coefficients of any spin, ``(..., L, 2 L - 1)``.
        blm: others of the same bandlimit; leading axes broadcast against those of `alm`.

    Returns:
        The cross power in each degree, from 0 to ``L - 1``.

    Raises:
        ValueError: the last axes of either are not ``(L, 2 L - 1)``, the bandlimits differ, leading axes do not
            broadcast, or a type is not complex or real floating.

    >>> import jax.numpy as jnp
    >>> from armillary.sphere import alm_from_real, cross_spectrum
    >>> x = jnp.ones(9)
    >>> print(cross_spectrum(alm_from_real(x), alm_from_real(-2 * x)).round(4))
    [-2. -2. -2.]
    """
    alm = _check_dense(alm)
    blm = _check_dense(blm, "blm", alm.shape[-2])
    _check_batches("alm", alm, "blm", blm)
    return _cross(alm, blm)


def eb_to_spin(
    e: Complex[Array, "... L 2*L-1"], b: Complex[Array, "... L 2*L-1"], spin: int = 2
) -> Complex[Array, "... L 2*L-1"]:
    r"""The coefficients of a spin field from its E and B parts, such as Q + i U of polarisation or a shear.

    .. math:: {}_{|s|}a_{lm} = -(E_{lm} + i B_{lm}), \qquad {}_{-|s|}a_{lm} = -(-1)^s (E_{lm} - i B_{lm}),

    with `E` and `B` coefficients of real fields, :math:`E_{l,-m} = (-1)^m E_{lm}^*`: then the fields of spin `s` and
    `-s` are conjugate to each other. The sign is that of HEALPix (for spin 2, the cosmic microwave background's) at
    even and odd spins alike. Degrees below :math:`|s|`, which a field of spin has not, are passed on as they are.

    Args:
        e: the E part, in all orders.
        b: the B part; leading axes broadcast against those of `e`.
        spin: the spin of the field, not 0.

    Returns:
        Coefficients for ``SHT(grid, spin=spin)``.

    Raises:
        ValueError: `spin` is not an integer other than 0, or the coefficients are not of one bandlimit.

    Reference: Zaldarriaga M., Seljak U. 1997, Phys. Rev. D 55, 1830, doi:10.1103/PhysRevD.55.1830.

    >>> import jax, jax.numpy as jnp
    >>> from armillary.sphere import alm_from_real, eb_to_spin, spin_to_eb
    >>> e, b = alm_from_real(jax.random.normal(jax.random.key(0), (2, 64)))
    >>> again = spin_to_eb(eb_to_spin(e, b))
    >>> bool(jnp.allclose(again[0], e)) and bool(jnp.allclose(again[1], b))
    True
    """
    e = _check_dense(e, "e")
    b = _check_dense(b, "b", e.shape[-2])
    _check_batches("e", e, "b", b)
    return _to_spin(e, b, *_spin_signs(spin, e.shape[-2]))


def spin_to_eb(
    alm: Complex[Array, "... L 2*L-1"], spin: int = 2
) -> tuple[Complex[Array, "... L 2*L-1"], Complex[Array, "... L 2*L-1"]]:
    r"""The E and B parts of a field of spin: the inverse of `eb_to_spin`, which has the convention.

    Args:
        alm: coefficients of spin `spin`.
        spin: the spin of the field, not 0.

    Returns:
        ``(e, b)``, each with the symmetry of the coefficients of a real field.

    Raises:
        ValueError: as `eb_to_spin`.
    """
    alm = _check_dense(alm)
    return _from_spin(alm, *_spin_signs(spin, alm.shape[-2]))


# What is left once arguments are checked, compiled: one operation after another would each be compiled for itself.


@jax.jit
def _to_real(alm: Array) -> Array:
    L = alm.shape[-2]
    tables = _tables(L)
    sign = tables.sign.astype(alm.real.dtype)
    flat = alm.reshape(*alm.shape[:-2], L * (2 * L - 1))
    hermitian = (flat[..., tables.positive] + sign * flat[..., tables.negative].conj()) / 2
    scale = tables.scale.astype(alm.real.dtype)
    return jnp.where(tables.imaginary, hermitian.imag, hermitian.real) * scale


@jax.jit
def _from_real(x: Array) -> Array:
    tables = _tables(math.isqrt(x.shape[-1]))
    scaled = x / tables.scale.astype(x.dtype)
    real = scaled[..., tables.of_real] * tables.weight_real.astype(x.dtype)
    imaginary = scaled[..., tables.of_imaginary] * tables.weight_imaginary.astype(x.dtype)
    return real + 1j * imaginary


@jax.jit
def _power(alm: Array) -> Array:
    # Not abs(alm)**2, which has no derivative at 0.
    return ((alm.real**2 + alm.imag**2) * _mode_weights(alm.shape[-2]).astype(alm.real.dtype)).sum(axis=-1)


@jax.jit
def _cross(alm: Array, blm: Array) -> Array:
    product = alm.real * blm.real + alm.imag * blm.imag
    return (product * _mode_weights(alm.shape[-2]).astype(product.dtype)).sum(axis=-1)


@functools.partial(jax.jit, static_argnums=(2, 3))
def _to_spin(e: Array, b: Array, sign: int, turn: int) -> Array:
    return sign * (e + turn * 1j * b)


@functools.partial(jax.jit, static_argnums=(1, 2))
def _from_spin(alm: Array, sign: int, turn: int) -> tuple[Array, Array]:
    mirrored = alm[..., ::-1].conj() * _order_signs(alm.shape[-2]).astype(alm.real.dtype)
    return sign * (alm + mirrored) / 2, -1j * sign * turn * (alm - mirrored) / 2


def _spin_signs(spin: int, L: int) -> tuple[int, int]:
    """The signs of the whole, and of i B."""
    spin = check_integer("spin", spin, 1 - max(L, 2), max(L, 2) - 1, "the spin of a field with E and B parts")
    if spin == 0:
        raise ValueError("spin=0: a field of spin 0 has no E and B parts; it is an integer other than 0")
    return (-1, 1) if spin > 0 else (-((-1) ** spin), -1)


def _order_signs(L: int) -> np.ndarray:
    """(-1)**m for m from 1 - L to L - 1."""
    return 1 - 2 * (np.arange(1 - L, L) % 2)


def _mode_weights(L: int) -> np.ndarray:
    """1 / (2 l + 1) where the dense layout has a mode, and 0 elsewhere."""
    degree, order = np.arange(L)[:, None], np.arange(1 - L, L)
    return (abs(order) <= degree) / (2 * degree + 1)


def _check_dense(alm: Any, name: str = "alm", L: int | None = None) -> Array:
    if L is None:
        shape = np.shape(alm)
        L = shape[-2] if len(shape) > 1 and shape[-2] > 0 else 1
    return check_array(name, alm, (L, 2 * L - 1), "complex", "degrees by orders, (l, m) at [l, L-1+m]")


def _check_batches(first_name: str, first: Array, second_name: str, second: Array) -> None:
    try:
        np.broadcast_shapes(first.shape[:-2], second.shape[:-2])
    except ValueError:
        raise ValueError(
            f"{first_name} has shape {first.shape} and {second_name} {second.shape}: the axes before the last two "
            "must broadcast"
        ) from None


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
