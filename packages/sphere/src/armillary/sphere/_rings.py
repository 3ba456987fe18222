"""Sets of rings that are symmetric about the equator, for which functions of colatitude are computed."""

from __future__ import annotations

import functools
from typing import Literal, NamedTuple

import numpy as np

from ._gauss_legendre import nodes


class Rings(NamedTuple):
    """A set of rings of constant colatitude, by its name: it stands in the parameters of a JAX primitive.

    `size` is the number of rings of ``"gauss-legendre"`` and the nside of ``"healpix"``.
    """

    kind: Literal["gauss-legendre", "healpix"]
    size: int

    @property
    def number(self) -> int:
        """The number of rings, southern ones included."""
        return self.size if self.kind == "gauss-legendre" else 4 * self.size - 1

    @property
    def north(self) -> np.ndarray:
        """The colatitudes of the northern rings (the equator's among them), ascending, in extended precision."""
        return nodes(self.size)[0] if self.kind == "gauss-legendre" else _healpix(self.size)

    @property
    def theta(self) -> np.ndarray:
        """The colatitudes of all rings, ascending, in extended precision."""
        north = self.north
        return np.concatenate([north, (2 * HALF_PI - north[: self.number // 2])[::-1]])


HALF_PI = np.longdouble("1.57079632679489661923132169163975144")


@functools.lru_cache(maxsize=16)
def _healpix(nside: int) -> np.ndarray:
    """Górski K. M. et al. 2005, ApJ 622, 759, equations 4 and 8; the cap's in a form that is exact near the pole."""
    ring = np.arange(1, 2 * nside + 1, dtype=np.longdouble)
    cap = 2 * np.arcsin(ring[: nside - 1] / (np.sqrt(np.longdouble(6)) * nside))
    belt = HALF_PI - np.arcsin((4 - 2 * ring[nside - 1 :] / nside) / 3)
    theta = np.concatenate([cap, belt])
    theta.setflags(write=False)
    return theta
