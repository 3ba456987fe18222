"""Cubic splines on fixed nodes: all that depends on the nodes alone is a matrix, made once by NumPy.

What is left to JAX is a product of matrices and, at positions that depend on parameters, a gather.
"""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float


def second_derivatives(x: np.ndarray) -> np.ndarray:
    """The matrix from values at the nodes to the second derivatives there of their not-a-knot cubic spline."""
    n, h = len(x), np.diff(x)
    system, right = np.zeros((n, n)), np.zeros((n, n))
    for i in range(1, n - 1):
        system[i, i - 1 : i + 2] = h[i - 1], 2 * (h[i - 1] + h[i]), h[i]
        right[i, i - 1 : i + 2] = 6 / h[i - 1], -6 / h[i - 1] - 6 / h[i], 6 / h[i]
    # Not a knot: the third derivative is the same on both sides of the second node, and of the last but one.
    system[0, :3] = h[1], -(h[0] + h[1]), h[0]
    system[-1, -3:] = h[-1], -(h[-2] + h[-1]), h[-2]
    return np.linalg.solve(system, right)


def interpolation(x: np.ndarray, at: np.ndarray) -> np.ndarray:
    """The matrix from values at the nodes ``x`` to those of their cubic spline at the fixed points ``at``."""
    i = np.clip(np.searchsorted(x, at, side="right") - 1, 0, len(x) - 2)
    h = x[i + 1] - x[i]
    right = (at - x[i]) / h
    left = 1 - right
    eye, curve = np.eye(len(x)), second_derivatives(x)
    values = left[:, None] * eye[i] + right[:, None] * eye[i + 1]
    bends = (left**3 - left)[:, None] * curve[i] + (right**3 - right)[:, None] * curve[i + 1]
    return values + bends * (h**2 / 6)[:, None]


def integration(x: np.ndarray, start: np.ndarray) -> np.ndarray:
    """The matrix from values at the nodes ``x`` to the integrals of their cubic spline from ``start`` to the last."""
    h, eye, curve = np.diff(x), np.eye(len(x)), second_derivatives(x)
    cells = h[:, None] * (eye[:-1] + eye[1:]) / 2 - h[:, None] ** 3 / 24 * (curve[:-1] + curve[1:])
    after = np.concatenate([np.cumsum(cells[::-1], axis=0)[::-1], np.zeros((1, len(x)))])
    i = np.clip(np.searchsorted(x, start, side="right") - 1, 0, len(x) - 2)
    right = ((start - x[i]) / h[i])[:, None]
    left, width = 1 - right, h[i][:, None]
    values = left**2 / 2 * eye[i] + (1 - right**2) / 2 * eye[i + 1]
    bends = (left**4 / 4 - left**2 / 2) * curve[i] + (right**2 / 2 - right**4 / 4 - 0.25) * curve[i + 1]
    return width * values + width**3 / 6 * bends + after[i + 1]


def evaluate(
    x: Float[np.ndarray, " n"], y: Float[Array, "*rows n"], bend: Float[Array, "*rows n"], at: Float[Array, "*rows m"]
) -> Float[Array, "*rows m"]:
    """Cubic splines at points of their own, a row each; beyond the nodes the lines of the slopes at the ends.

    Args:
        x: nodes, increasing.
        y: values at the nodes.
        bend: second derivatives at the nodes, ``y @ second_derivatives(x).T``.
        at: where.
    """
    nodes = jnp.asarray(x, dtype=y.dtype)
    inside = jnp.clip(at, nodes[0], nodes[-1])
    i = jnp.clip(jnp.searchsorted(nodes, inside, side="right") - 1, 0, len(x) - 2)
    h = nodes[i + 1] - nodes[i]
    right = (inside - nodes[i]) / h
    left = 1 - right
    y0, y1 = jnp.take_along_axis(y, i, axis=-1), jnp.take_along_axis(y, i + 1, axis=-1)
    b0, b1 = jnp.take_along_axis(bend, i, axis=-1), jnp.take_along_axis(bend, i + 1, axis=-1)
    value = left * y0 + right * y1 + ((left**3 - left) * b0 + (right**3 - right) * b1) * h**2 / 6
    slope = (y1 - y0) / h + ((1 - 3 * left**2) * b0 + (3 * right**2 - 1) * b1) * h / 6
    # One slope for both ends: the points within have at == inside, and take no part of it.
    return value + slope * (at - inside)
