"""Checks of arguments, made before anything is traced."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array


def check_integer(name: str, value: Any, low: int, high: int | None, meaning: str) -> int:
    """An integer from `low` to `high`, or `ValueError`."""
    whole = isinstance(value, (int, np.integer)) and not isinstance(value, bool)
    if not whole or value < low or (high is not None and value > high):
        allowed = f"an integer of {low} or more" if high is None else f"an integer from {low} to {high}"
        raise ValueError(f"{name}={value!r}: {meaning} is {allowed}")
    return int(value)


def check_alm(name: str, alm: Any, L: int) -> Array:
    """Coefficients ``(..., L, 2 L - 1)`` of a real field, or `ValueError`."""
    if not isinstance(alm, jax.Array):
        alm = np.asarray(alm)
    if alm.dtype == np.complex128 and not jax.config.jax_enable_x64:
        raise ValueError(
            f"{name} is complex128, and JAX would cut it to single precision: call numpyro.enable_x64() at the start "
            f"of the program, or pass {name}.astype(np.complex64)"
        )
    if alm.dtype not in (np.complex64, np.complex128):
        raise ValueError(
            f"{name} is {alm.dtype}: harmonic coefficients are needed, complex64 or complex128; of a map, those of "
            "SHT(grid, real=True).analysis(f)"
        )
    if alm.shape[-2:] != (L, 2 * L - 1):
        raise ValueError(f"{name} has shape {alm.shape}: (..., {L}, {2 * L - 1}) is needed, (l, m) at [l, L-1+m]")
    if not isinstance(alm, jax.core.Tracer):
        check_real(name, np.asarray(alm))
    return jnp.asarray(alm)


def check_real(name: str, alm: np.ndarray) -> None:
    """`ValueError` if the coefficients are not of a real field."""
    if not np.isfinite(alm).all():
        raise ValueError(f"{name} has values that are NaN or infinite")
    degree, order = np.arange(alm.shape[-2])[:, None], np.arange(alm.shape[-1]) - alm.shape[-1] // 2
    alm = np.where(abs(order) <= degree, alm, 0)
    apart = abs(alm - (-1.0) ** order * alm[..., ::-1].conj()).max(initial=0)
    if apart > 1e3 * np.finfo(alm.dtype).eps * abs(alm).max(initial=0):
        raise ValueError(
            f"{name} is of a complex field: that of a real one has a[l, -m] = (-1)**m conj(a[l, m]), which is wrong "
            f"by up to {apart:.2g} here; scattering statistics are of real fields, so pass the real and the "
            "imaginary part one at a time"
        )
