"""The Gauss-Legendre grid: the fewest rings on which a bandlimited field is integrated exactly."""

from __future__ import annotations

import functools
from dataclasses import dataclass

import jax
import numpy as np


@jax.tree_util.register_static
@dataclass(frozen=True)
class GaussLegendre:
    r"""A Gauss-Legendre grid on the sphere, of `L` rings with ``2 L - 1`` equally spaced points each.

    The rings are at the roots of the Legendre polynomial of degree `L`, from north to south, and none is at a pole;
    the longitudes are :math:`\phi_p = 2 \pi p / (2 L - 1)`. The quadrature

    .. math:: \int f \,\mathrm d\Omega = \sum_t w_t \sum_p f(\theta_t, \phi_p)

    is exact for harmonic degrees below ``2 L - 1`` in longitude and ``2 L`` in colatitude, so that products of two
    fields of bandlimit `L` are integrated exactly. Grids compare and hash by value, and are static under `jax.jit`.

    Args:
        L: the bandlimit: degrees 0 to ``L - 1``.

    Raises:
        ValueError: `L` is not a positive integer.

    Reference: Doroshkevich A. G. et al. 2005, Int. J. Mod. Phys. D 14, 275 (arXiv:astro-ph/0305537).

    >>> from armillary.sphere import GaussLegendre
    >>> grid = GaussLegendre(3)
    >>> grid.shape
    (3, 5)
    >>> print(grid.theta)
    [0.6847192  1.57079633 2.45687345]
    """

    L: int

    def __post_init__(self) -> None:
        if isinstance(self.L, bool) or not isinstance(self.L, (int, np.integer)) or self.L < 1:
            raise ValueError(f"L={self.L!r}: the bandlimit of a grid is an integer of 1 or more")
        object.__setattr__(self, "L", int(self.L))

    @property
    def shape(self) -> tuple[int, int]:
        """The shape of a map: rings, longitudes."""
        return self.L, 2 * self.L - 1

    @property
    def theta(self) -> np.ndarray:
        """The colatitudes of the rings in radians, ascending, of shape ``(L,)``."""
        theta = nodes(self.L)[0].astype(np.float64)
        return np.concatenate([theta, (np.pi - theta[: self.L // 2])[::-1]])

    @property
    def phi(self) -> np.ndarray:
        """The longitudes in radians, of shape ``(2 L - 1,)``."""
        return 2 * np.pi * np.arange(2 * self.L - 1) / (2 * self.L - 1)

    @property
    def weights(self) -> np.ndarray:
        r"""The weight of each point of a ring, of shape ``(L,)``; over the whole grid they sum to :math:`4\pi`."""
        north = nodes(self.L)[1]
        weights = np.concatenate([north, north[: self.L // 2][::-1]]) * (2 * np.pi / (2 * self.L - 1))
        return weights.astype(np.float64)


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
