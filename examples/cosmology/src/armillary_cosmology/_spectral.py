"""Functions on an interval by their values at Gauss-Legendre nodes: their integrals anywhere are matrices.

A smooth function is its Legendre series to rounding with some ten or twenty nodes, and so is its integral.
"""

from __future__ import annotations

import functools
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float
from numpy.polynomial import legendre


@functools.lru_cache(maxsize=16)
def nodes(num: int, low: float, high: float) -> Float[np.ndarray, " num"]:
    """The Gauss-Legendre nodes of an interval."""
    return low + (high - low) * (1 + legendre.leggauss(num)[0]) / 2


@functools.lru_cache(maxsize=16)
def integral(num: int, low: float, high: float, times: int = 1) -> Float[np.ndarray, "num+times num"]:
    """The matrix from values at the nodes to the Legendre series of the integral from ``low``, taken so many times."""
    at, weights = legendre.leggauss(num)
    series = legendre.legvander(at, num - 1).T * weights * (np.arange(num)[:, None] + 0.5)
    for _ in range(times):
        series = legendre.legint(series, lbnd=-1, scl=(high - low) / 2)
    return series


def basis(z: Any, num: int, low: float, high: float) -> Any:
    """The Legendre polynomials at points, on a last axis of ``num``; in NumPy if the points are."""
    t = (2 * z - (low + high)) / (high - low)
    if isinstance(t, np.ndarray):
        return legendre.legvander(t, num - 1)
    terms = [jnp.ones_like(t), t]
    for n in range(1, num - 1):
        terms.append(((2 * n + 1) * t * terms[n] - n * terms[n - 1]) / (n + 1))
    return jnp.stack(terms, axis=-1)


def integrated(values: Float[Array, " num"], at: Any, low: float, high: float) -> Array:
    """The integral from ``low`` to the points ``at`` of a function with these values at the nodes."""
    num = values.shape[-1]
    to_points = basis(at, num + 1, low, high) @ integral(num, low, high).astype(values.dtype)
    return jnp.asarray(to_points, values.dtype) @ values
