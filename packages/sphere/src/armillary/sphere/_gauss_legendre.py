"""Gauss-Legendre quadrature beyond float64."""

from __future__ import annotations

import functools

import numpy as np


@functools.lru_cache(maxsize=16)
def nodes(L: int) -> tuple[np.ndarray, np.ndarray]:
    """Colatitudes and weights of the northern rings (the equator's among them), in extended precision.

    Newton's method in the colatitude, where roots near the poles are well separated, from Tricomi's approximation.
    Where the platform has no `numpy.longdouble` beyond float64 the last digit or two are lost.
    """
    half = (L + 1) // 2
    pi = np.longdouble("3.14159265358979323846264338327950288")
    theta = pi * (4 * np.arange(1, half + 1, dtype=np.longdouble) - 1) / (4 * L + 2)
    theta = theta + 1 / (8 * np.longdouble(L) ** 2 * np.tan(theta))
    for _ in range(4):
        p, derivative = _legendre(L, theta)
        theta = theta - p / derivative
    _, derivative = _legendre(L, theta)
    if L % 2:
        theta[-1] = pi / 2
    weights = 2 / derivative**2
    for array in (theta, weights):
        array.setflags(write=False)
    return theta, weights


def _legendre(L: int, theta: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """P_L(cos theta) and its derivative with respect to theta."""
    x, sin = np.cos(theta), np.sin(theta)
    previous, current = np.ones_like(x), x
    for degree in range(2, L + 1):
        previous, current = current, ((2 * degree - 1) * x * current - (degree - 1) * previous) / degree
    return current, L * (x * current - previous) / sin
