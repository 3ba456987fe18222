r"""Between the Gauss-Legendre rings and other rings, exactly.

For one order m a field of spin s is, along a meridian, a trigonometric polynomial of degree below L that continues over
the poles with the sign :math:`(-1)^{m + s}`, its *parity*. One Legendre stage, on the Gauss-Legendre rings, therefore
serves all grids with enough rings: two matrices, one a parity, take it to theirs.
"""

from __future__ import annotations

import functools

import numpy as np

from ._gauss_legendre import nodes
from ._grids import EquiangularGrid
from ._rings import Rings


@functools.lru_cache(maxsize=8)
def from_gauss(grid: EquiangularGrid, L: int) -> np.ndarray:
    r"""The values on a grid's rings from those on the `L` Gauss-Legendre rings, of shape ``(2, rings, L)`` by parity.

    The kernel is :math:`2 \pi \sum_l \lambda_{lp}(\theta) \lambda_{lp}(\theta_j) w_j`, with the functions of order 0 or
    1: they span all of that parity.
    """
    return _freeze(np.stack([_kernel(grid.theta_exact, L, parity) for parity in (0, 1)]))


@functools.lru_cache(maxsize=8)
def to_gauss(grid: EquiangularGrid, L: int) -> np.ndarray:
    r"""The weighted values on Gauss-Legendre rings from those on a grid's, of shape ``(2, L, rings)`` by parity.

    They are such that :math:`\sum_j \lambda_{lm}(\theta_j) v_j` is the integral, over colatitude, of
    :math:`\lambda_{lm} \sin\theta` and the trigonometric polynomial, of the degree that the rings resolve, through the
    values: on :math:`2 L` rings or more this is a quadrature that uses them all, on :math:`L` rings an interpolation.
    """
    degree = (grid.circle - 1) // 2
    fine = (degree + L + 1) // 2 + 1
    theta = Rings("gauss-legendre", fine).theta
    north = nodes(fine)[1]
    weights = np.concatenate([north, north[: fine // 2][::-1]]).astype(np.float64)[:, None]
    out = []
    for parity in (0, 1):
        interpolated = _interpolation(grid, theta, parity)
        # The kernel without the weight of the ring that it starts from is its own transpose.
        out.append(_kernel(theta, L, parity, weighted=False).T @ (weights * interpolated))
    return _freeze(np.stack(out) * _weight_of(L)[:, None])


def _weight_of(L: int) -> np.ndarray:
    north = nodes(L)[1]
    return np.concatenate([north, north[: L // 2][::-1]]).astype(np.float64)


def _kernel(theta: np.ndarray, L: int, parity: int, weighted: bool = True) -> np.ndarray:
    at_theta = _functions(theta, L, parity)
    at_nodes = _functions(Rings("gauss-legendre", L).theta, L, parity)
    return at_theta @ (at_nodes * _weight_of(L)[:, None] if weighted else at_nodes).T


def _functions(theta: np.ndarray, L: int, m: int) -> np.ndarray:
    """Legendre functions of order 0 or 1, orthonormal in the cosine, of shape (theta, L - m)."""
    x = np.cos(theta)
    start = np.sqrt(np.longdouble(1) / 2) if m == 0 else np.sqrt(np.longdouble(3) / 4) * np.sin(theta)
    previous, current = np.zeros_like(x), start + np.zeros_like(x)
    out = np.empty((len(theta), L - m))
    epsilon = np.longdouble(0)
    for degree in range(m, L):
        out[:, degree - m] = current
        above = np.longdouble(degree + 1)
        following = np.sqrt((above**2 - m) / (4 * above**2 - 1))
        previous, current = current, (x * current - epsilon * previous) / following
        epsilon = following
    return out


def _interpolation(grid: EquiangularGrid, theta: np.ndarray, parity: int) -> np.ndarray:
    """The trigonometric interpolation of a function of a parity from a grid's rings, of shape (theta, rings)."""
    at = grid.theta_exact
    on_pole = grid.half_steps % grid.circle == 0
    sign = 1 - 2 * parity
    matrix = _dirichlet(theta[:, None] - at, grid.circle) + sign * _dirichlet(theta[:, None] + at, grid.circle)
    # A ring that is its own mirror image is there once; an odd function vanishes there.
    return np.where(on_pole, (1 - parity) / 2, 1.0) * matrix


def _dirichlet(x: np.ndarray, n: int) -> np.ndarray:
    """The trigonometric polynomial of n equal samples of a circle, of which the one at 0 is 1 and all others are 0."""
    with np.errstate(divide="ignore", invalid="ignore"):
        below = np.sin(x / 2) if n % 2 else np.tan(x / 2)
        value = np.sin(n * x / 2) / (n * below)
    return np.where(np.sin(x / 2) == 0, 1.0, value).astype(np.float64)


def _freeze(x: np.ndarray) -> np.ndarray:
    x.setflags(write=False)
    return x
