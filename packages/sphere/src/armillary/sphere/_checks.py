"""Checks of arguments, made before anything is traced."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array


def check_array(name: str, x: Any, trailing: tuple[int, ...], kind: str, layout: str, finite: bool = False) -> Array:
    """An array of the trailing shape and of float32 or float64 precision, or `ValueError`.

    Args:
        name: what the caller named it.
        x: the array, or what becomes one.
        trailing: its last axes.
        kind: ``"real"``, or ``"complex"`` (to which real arrays are promoted).
        layout: how the trailing shape is to be read, for the message.
        finite: look for NaN and infinities, unless the array is traced.
    """
    if not isinstance(x, (jax.Array, np.ndarray, np.generic)):
        x = np.asarray(x)
    if isinstance(x, (np.ndarray, np.generic)):
        x = x.astype(x.dtype.newbyteorder("="), copy=False)  # what is read from FITS is big-endian
    dtype = x.dtype
    if dtype in (np.float64, np.complex128) and not jax.config.jax_enable_x64:
        raise ValueError(
            f"{name} is {dtype}, and JAX would cut it to single precision: call numpyro.enable_x64() at the start "
            f"of the program, or pass {name}.astype({'np.complex64' if dtype.kind == 'c' else 'np.float32'})"
        )
    if dtype not in (np.float32, np.float64, np.complex64, np.complex128):
        raise ValueError(f"{name} is {dtype}: float32, float64, complex64 and complex128 are transformed")
    if kind == "real" and dtype in (np.complex64, np.complex128):
        raise ValueError(
            f"{name} is {dtype}, and this is real: pass {name}.real, or make the transform with real=False"
        )
    if x.ndim < len(trailing) or x.shape[x.ndim - len(trailing) :] != trailing:
        wanted = ", ".join(["...", *map(str, trailing)])
        raise ValueError(f"{name} has shape {x.shape}: ({wanted}) is needed, {layout}")
    if finite and not isinstance(x, jax.core.Tracer) and not np.isfinite(x).all():
        bad = np.argwhere(~np.isfinite(np.asarray(x)))
        raise ValueError(
            f"{name} has {len(bad)} values that are NaN or infinite, the first at {tuple(bad[0].tolist())}"
        )
    x = jnp.asarray(x)
    if kind == "complex" and dtype in (np.float32, np.float64):
        x = x.astype(jnp.complex64 if dtype == np.float32 else jnp.complex128)
    return x


def check_integer(name: str, value: Any, low: int, high: int | None, meaning: str) -> int:
    """An integer from `low` to `high`, or `ValueError`."""
    whole = isinstance(value, (int, np.integer)) and not isinstance(value, bool)
    if not whole or value < low or (high is not None and value > high):
        allowed = f"an integer of {low} or more" if high is None else f"an integer from {low} to {high}"
        raise ValueError(f"{name}={value!r}: {meaning} is {allowed}")
    return int(value)
