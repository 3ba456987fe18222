r"""Grids on the sphere: rings of constant colatitude with equally spaced points.

Grids compare and hash by value, and are static under `jax.jit`. Colatitudes are in radians from the north pole and
rings go from north to south; all but HEALPix's have the same longitudes :math:`\phi_p = 2 \pi p / n_\phi` on every
ring.
"""

from __future__ import annotations

import abc
import functools
from dataclasses import dataclass

import jax
import numpy as np

from ._checks import check_integer
from ._gauss_legendre import nodes
from ._rings import HALF_PI, Rings


class Grid(abc.ABC):
    """A grid. `L` is the largest bandlimit that it resolves, or, on HEALPix, the customary one."""

    L: int

    @property
    @abc.abstractmethod
    def shape(self) -> tuple[int, ...]:
        """The shape of a map."""

    @property
    @abc.abstractmethod
    def theta(self) -> np.ndarray:
        """The colatitudes of the rings in radians, ascending."""

    @property
    @abc.abstractmethod
    def nphi(self) -> np.ndarray:
        """The number of points of each ring."""

    @property
    @abc.abstractmethod
    def phi0(self) -> np.ndarray:
        """The longitude of the first point of each ring, in radians."""

    @property
    @abc.abstractmethod
    def weights(self) -> np.ndarray:
        r"""The weight of each point of a ring in a quadrature; over the whole grid they sum to :math:`4 \pi`."""

    @property
    def points(self) -> tuple[np.ndarray, np.ndarray]:
        """The colatitude and the longitude of every point, both of shape `shape`."""
        theta = np.repeat(self.theta, self.nphi)
        within = np.concatenate([np.arange(n) for n in self.nphi])
        phi = np.repeat(self.phi0, self.nphi) + within * np.repeat(2 * np.pi / self.nphi, self.nphi)
        return theta.reshape(self.shape), phi.reshape(self.shape)


class RectangularGrid(Grid):
    """A grid with the same longitudes on every ring: maps have the axes colatitude and longitude."""

    @property
    @abc.abstractmethod
    def shape(self) -> tuple[int, int]:
        """The shape of a map: rings, longitudes."""

    @property
    def phi(self) -> np.ndarray:
        """The longitudes in radians."""
        return 2 * np.pi * np.arange(self.shape[1]) / self.shape[1]

    @property
    def nphi(self) -> np.ndarray:
        """The number of points of each ring."""
        return np.full(*self.shape)

    @property
    def phi0(self) -> np.ndarray:
        """The longitude of the first point of each ring, in radians: 0."""
        return np.zeros(self.shape[0])


@jax.tree_util.register_static
@dataclass(frozen=True)
class GaussLegendre(RectangularGrid):
    r"""A Gauss-Legendre grid on the sphere, of `L` rings with ``2 L - 1`` equally spaced points each.

    The rings are at the roots of the Legendre polynomial of degree `L`, from north to south, and none is at a pole;
    the longitudes are :math:`\phi_p = 2 \pi p / (2 L - 1)`. The quadrature

    .. math:: \int f \,\mathrm d\Omega = \sum_t w_t \sum_p f(\theta_t, \phi_p)

    is exact for harmonic degrees below ``2 L - 1`` in longitude and ``2 L`` in colatitude, so that products of two
    fields of bandlimit `L` are integrated exactly. Of all grids it is the one that takes the least work.

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
        _check_bandlimit(self)

    @property
    def shape(self) -> tuple[int, int]:
        """The shape of a map: rings, longitudes."""
        return self.L, 2 * self.L - 1

    @property
    def theta(self) -> np.ndarray:
        """The colatitudes of the rings in radians, ascending, of shape ``(L,)``."""
        return Rings("gauss-legendre", self.L).theta.astype(np.float64)

    @property
    def weights(self) -> np.ndarray:
        r"""The weight of each point of a ring, of shape ``(L,)``; over the whole grid they sum to :math:`4\pi`."""
        north = nodes(self.L)[1]
        weights = np.concatenate([north, north[: self.L // 2][::-1]]) * (2 * np.pi / (2 * self.L - 1))
        return weights.astype(np.float64)


class EquiangularGrid(RectangularGrid):
    """Rings at equal steps of colatitude, on a half of a circle through both poles that they divide evenly.

    The circle has `circle` points; the first ring is a half or a whole number of steps from the north pole.
    """

    @property
    @abc.abstractmethod
    def circle(self) -> int:
        """The number of points on the whole circle: a ring that is on no pole counts twice."""

    @property
    @abc.abstractmethod
    def from_pole(self) -> bool:
        """Whether the first ring is the north pole; else it is half a step away."""

    @property
    def half_steps(self) -> np.ndarray:
        """The colatitudes in units of half a step: integers from 0 to `circle`."""
        return 2 * np.arange(self.shape[0]) + (0 if self.from_pole else 1)

    @property
    def theta_exact(self) -> np.ndarray:
        """The colatitudes in extended precision."""
        return (2 * HALF_PI / self.circle) * self.half_steps

    @property
    def theta(self) -> np.ndarray:
        """The colatitudes of the rings in radians, ascending."""
        return self.theta_exact.astype(np.float64)

    @property
    def weights(self) -> np.ndarray:
        r"""The weight of each point of a ring; over the whole grid they sum to :math:`4 \pi`.

        They integrate a field of the grid's bandlimit exactly, and, where the rings are ``2 L - 1`` or more, a product
        of two.
        """
        # A function of colatitude is interpolated by cosines up to what the circle resolves; the integral over the
        # sphere of cos(k theta) is 2 / (1 - k**2) for even k, times the integral over longitude.
        k = np.arange(0, self.circle // 2 + 1, 2)
        # The highest cosine that a circle of an even number of points resolves counts once.
        terms = np.where((k == 0) | (2 * k == self.circle), 1, 2) * 2.0 / (1 - k**2)
        on_pole = self.half_steps % self.circle == 0
        cosines = np.cos(np.outer(self.theta_exact, k).astype(np.float64))
        return np.where(on_pole, 1, 2) * (cosines @ terms) / self.circle * 2 * np.pi / self.shape[1]


@jax.tree_util.register_static
@dataclass(frozen=True)
class McEwenWiaux(EquiangularGrid):
    r"""The sampling of McEwen and Wiaux: `L` rings of ``2 L - 1`` points, with the south pole for the last ring.

    Rings are at :math:`\theta_t = \pi (2 t + 1) / (2 L - 1)`. It is the grid with fewest samples among the equiangular
    ones, and the default of s2fft and ssht.

    Args:
        L: the bandlimit: degrees 0 to ``L - 1``.

    Raises:
        ValueError: `L` is not a positive integer.

    Reference: McEwen J. D., Wiaux Y. 2011, IEEE Trans. Sig. Proc. 59, 5876, doi:10.1109/TSP.2011.2166394.

    >>> from armillary.sphere import McEwenWiaux
    >>> print(McEwenWiaux(2).theta)
    [1.04719755 3.14159265]
    """

    L: int

    def __post_init__(self) -> None:
        _check_bandlimit(self)

    @property
    def shape(self) -> tuple[int, int]:
        """The shape of a map: rings, longitudes."""
        return self.L, 2 * self.L - 1

    @property
    def circle(self) -> int:
        """The number of points on the whole circle."""
        return 2 * self.L - 1

    @property
    def from_pole(self) -> bool:
        """The first ring is half a step from the pole."""
        return False


@jax.tree_util.register_static
@dataclass(frozen=True)
class McEwenWiauxSS(EquiangularGrid):
    r"""The symmetric sampling of McEwen and Wiaux: ``L + 1`` rings of ``2 L`` points, from pole to pole.

    Rings are at :math:`\theta_t = \pi t / L`: it is `ClenshawCurtis` of that shape.

    Args:
        L: the bandlimit: degrees 0 to ``L - 1``.

    Raises:
        ValueError: `L` is not a positive integer.

    Reference: Ocampo J., Price M. A., McEwen J. D. 2023, ICLR (arXiv:2209.13603), appendix.

    >>> from armillary.sphere import McEwenWiauxSS
    >>> print(McEwenWiauxSS(2).theta)
    [0.         1.57079633 3.14159265]
    """

    L: int

    def __post_init__(self) -> None:
        _check_bandlimit(self)

    @property
    def shape(self) -> tuple[int, int]:
        """The shape of a map: rings, longitudes."""
        return self.L + 1, 2 * self.L

    @property
    def circle(self) -> int:
        """The number of points on the whole circle."""
        return 2 * self.L

    @property
    def from_pole(self) -> bool:
        """The first ring is the pole."""
        return True


@jax.tree_util.register_static
@dataclass(frozen=True)
class DriscollHealy(EquiangularGrid):
    r"""The sampling of Driscoll and Healy: ``2 L`` rings of ``2 L - 1`` points.

    Rings are at :math:`\theta_t = \pi (2 t + 1) / (4 L)`, none at a pole, as in s2fft and ssht (Driscoll and Healy's
    own are half a step further north). Its quadrature is exact for the product of two fields of bandlimit `L`.

    Args:
        L: the bandlimit: degrees 0 to ``L - 1``.

    Raises:
        ValueError: `L` is not a positive integer.

    Reference: Driscoll J. R., Healy D. M. 1994, Adv. Appl. Math. 15, 202, doi:10.1006/aama.1994.1008.

    >>> from armillary.sphere import DriscollHealy
    >>> DriscollHealy(4).shape
    (8, 7)
    """

    L: int

    def __post_init__(self) -> None:
        _check_bandlimit(self)

    @property
    def shape(self) -> tuple[int, int]:
        """The shape of a map: rings, longitudes."""
        return 2 * self.L, 2 * self.L - 1

    @property
    def circle(self) -> int:
        """The number of points on the whole circle."""
        return 4 * self.L

    @property
    def from_pole(self) -> bool:
        """The first ring is half a step from the pole."""
        return False


@jax.tree_util.register_static
@dataclass(frozen=True)
class ClenshawCurtis(EquiangularGrid):
    r"""Equal steps of colatitude from pole to pole: the usual map in latitude and longitude.

    Rings are at :math:`\theta_t = \pi t / (n_\theta - 1)`.

    Args:
        L: the bandlimit: degrees 0 to ``L - 1``.
        ntheta: the number of rings, both poles included; at least, and by default, ``L + 1``.
        longitudes: the number of longitudes, at least ``2 L - 1``; ``2 L`` by default.

    Raises:
        ValueError: an argument is not an integer, or is too small for the bandlimit.

    Reference: Clenshaw C. W., Curtis A. R. 1960, Numer. Math. 2, 197, doi:10.1007/BF01386223.

    >>> from armillary.sphere import ClenshawCurtis
    >>> ClenshawCurtis(64).shape
    (65, 128)
    >>> ClenshawCurtis(64, 181, 360).shape
    (181, 360)
    """

    L: int
    ntheta: int = None  # type: ignore[assignment]
    longitudes: int = None  # type: ignore[assignment]

    def __post_init__(self) -> None:
        _check_bandlimit(self)
        ntheta = self.L + 1 if self.ntheta is None else self.ntheta
        longitudes = 2 * self.L if self.longitudes is None else self.longitudes
        at = f"at the bandlimit L={self.L}"
        object.__setattr__(self, "ntheta", check_integer("ntheta", ntheta, self.L + 1, None, f"the rings {at}"))
        low = 2 * self.L - 1
        object.__setattr__(
            self, "longitudes", check_integer("longitudes", longitudes, low, None, f"the longitudes {at}")
        )

    @property
    def shape(self) -> tuple[int, int]:
        """The shape of a map: rings, longitudes."""
        return self.ntheta, self.longitudes

    @property
    def circle(self) -> int:
        """The number of points on the whole circle."""
        return 2 * (self.ntheta - 1)

    @property
    def from_pole(self) -> bool:
        """The first ring is the pole."""
        return True


@jax.tree_util.register_static
@dataclass(frozen=True)
class Healpix(Grid):
    r"""HEALPix in RING order: :math:`12\,n_\text{side}^2` points of equal area on :math:`4 n_\text{side} - 1` rings.

    Maps are flat, and bandlimits up to ``4 nside`` are allowed; the grid's own, ``2 nside``, is the highest at which
    analysis with iterations converges fast. No quadrature on HEALPix is exact.

    Args:
        nside: the resolution, a power of two.
        ring_weights: whether `weights` are weights by ring that integrate all zonal harmonics of degree ``3.5 nside``
            or less exactly; otherwise all are :math:`4 \pi / (12\,n_\text{side}^2)`.

    Raises:
        ValueError: `nside` is not a power of two.

    Reference: Górski K. M. et al. 2005, ApJ 622, 759, doi:10.1086/427976 (arXiv:astro-ph/0409513).

    >>> from armillary.sphere import Healpix
    >>> grid = Healpix(16)
    >>> grid.shape, grid.L
    ((3072,), 32)
    """

    nside: int
    ring_weights: bool = True

    def __post_init__(self) -> None:
        nside = check_integer("nside", self.nside, 1, None, "the resolution of HEALPix")
        if nside & (nside - 1):
            raise ValueError(f"nside={nside}: the resolution of HEALPix is a power of two: 1, 2, 4, 8, ...")
        object.__setattr__(self, "nside", nside)
        if self.ring_weights not in (True, False):
            raise ValueError(f"ring_weights={self.ring_weights!r}: True or False")

    @property
    def L(self) -> int:  # type: ignore[override]
        """The customary bandlimit, ``2 nside``."""
        return 2 * self.nside

    @property
    def shape(self) -> tuple[int]:
        """The shape of a map: its pixels in RING order."""
        return (12 * self.nside**2,)

    @property
    def theta(self) -> np.ndarray:
        """The colatitudes of the rings in radians, ascending, of shape ``(4 nside - 1,)``."""
        return Rings("healpix", self.nside).theta.astype(np.float64)

    @property
    def nphi(self) -> np.ndarray:
        """The number of points of each ring, of shape ``(4 nside - 1,)``."""
        ring = np.arange(1, 4 * self.nside)
        return 4 * np.minimum(np.minimum(ring, 4 * self.nside - ring), self.nside)

    @property
    def phi0(self) -> np.ndarray:
        """The longitude of the first point of each ring in radians, of shape ``(4 nside - 1,)``."""
        ring = np.arange(1, 4 * self.nside)
        belt = (ring >= self.nside) & (ring <= 3 * self.nside)
        shifted = ~belt | ((ring - self.nside) % 2 == 0)
        return np.where(shifted, np.pi / self.nphi, 0.0)

    @property
    def weights(self) -> np.ndarray:
        r"""The weight of each point of a ring, of shape ``(4 nside - 1,)``; over the grid they sum to :math:`4 \pi`."""
        if not self.ring_weights:
            return np.full(4 * self.nside - 1, 4 * np.pi / self.shape[0])
        return _ring_weights(self.nside)


@functools.lru_cache(maxsize=16)
def _ring_weights(nside: int) -> np.ndarray:
    """The weights nearest to uniform, in the mean square over the sphere, that integrate zonal harmonics exactly.

    Degrees up to ``3.5 nside`` are asked for: up to ``4 nside`` there would be as many even degrees as pairs of rings,
    and the weights would be huge and of both signs.
    """
    north = Rings("healpix", nside).north
    z = np.cos(north)
    points = 4 * np.minimum(np.arange(1, 2 * nside + 1), nside)
    pairs = np.where(np.arange(1, 2 * nside + 1) < 2 * nside, 2, 1) * points
    rows = []
    previous, current = np.ones_like(z), z
    for degree in range(7 * nside // 2 + 1):
        if degree % 2 == 0:
            rows.append(np.sqrt(np.longdouble(2 * degree + 1)) * previous)
        previous, current = current, ((2 * degree + 3) * z * current - (degree + 1) * previous) / (degree + 2)
    uniform = 4 * np.pi / (12 * nside**2)
    # Unknowns are relative deviations times the square root of a pair's number of points.
    matrix = (np.stack(rows) * np.sqrt(pairs)).astype(np.float64) * uniform
    right = -matrix @ np.sqrt(pairs)
    right[0] += 4 * np.pi
    # The condition number of the matrix is below 2.
    deviation = matrix.T @ np.linalg.solve(matrix @ matrix.T, right) / np.sqrt(pairs)
    found = uniform * (1 + deviation)
    weights = np.concatenate([found, found[:-1][::-1]])
    weights.setflags(write=False)
    return weights


def _check_bandlimit(grid: Grid) -> None:
    L = check_integer("L", grid.L, 1, None, "the bandlimit of a grid")
    object.__setattr__(grid, "L", L)
