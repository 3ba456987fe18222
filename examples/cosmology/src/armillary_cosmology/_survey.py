"""What a survey observes: its galaxies in bins of redshift, its area, and the bins of multipoles."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float

from ._redshifts import equal_number_edges, normalised, redshift_bins, smail, uniform

_ARCMIN = math.pi / 180 / 60


@dataclass(frozen=True, eq=False)
class Survey:
    """A photometric survey of galaxy shapes and, with lenses, of galaxy positions.

    Args:
        z: true redshifts, in equal steps that start one step above zero.
        sources: a row for each bin of the galaxies with shapes, their density over ``z``; normalised here.
        n_eff: the galaxies of each source bin, effective, in 1 / arcmin^2.
        sigma_e: the scatter of ellipticities, of one component.
        f_sky: the observed fraction of the sky.
        ell_edges: multipoles, whole numbers; bin b is of those from edge b up to but not edge b + 1.
        lenses: the same as ``sources`` of the galaxies whose positions are used; none by default.
        n_lens: their number in 1 / arcmin^2, of each bin.

    Raises:
        ValueError: an argument that cannot be; the message names it.
    """

    z: Float[np.ndarray, " nz"]
    sources: Float[np.ndarray, "sources nz"]
    n_eff: Float[np.ndarray, " sources"]
    sigma_e: float
    f_sky: float
    ell_edges: Float[np.ndarray, " edges"]
    lenses: Float[np.ndarray, "lenses nz"] | None = None
    n_lens: Float[np.ndarray, " lenses"] | None = None

    def __post_init__(self) -> None:
        z = uniform(self.z)
        checked: dict[str, Any] = {"z": z, "sources": normalised(z, self.sources, "sources")}
        checked["n_eff"] = _numbers("n_eff", self.n_eff, len(checked["sources"]))
        _within("sigma_e", self.sigma_e, 10.0)
        _within("f_sky", self.f_sky, 1.0)
        edges = np.asarray(self.ell_edges)
        if edges.ndim != 1 or len(edges) < 2 or np.any(edges != np.round(edges)):
            raise ValueError(f"ell_edges={self.ell_edges!r}: expected two whole numbers at least")
        if edges[0] < 2 or np.any(np.diff(edges) <= 0):
            raise ValueError(
                f"ell_edges={edges}: expected numbers that increase, from 2 on: no bin empty or in another"
            )
        checked["ell_edges"] = edges.astype(int)
        if (self.lenses is None) != (self.n_lens is None):
            raise ValueError("lenses and n_lens go together: give both, or neither")
        if self.lenses is not None:
            checked["lenses"] = normalised(z, self.lenses, "lenses")
            checked["n_lens"] = _numbers("n_lens", self.n_lens, len(checked["lenses"]))
        for name, value in checked.items():
            object.__setattr__(self, name, value)

    @property
    def num_modes(self) -> Float[np.ndarray, " ell"]:
        """How many modes a bin of multipoles holds: f_sky times the sum of 2 l + 1."""
        return self.f_sky * np.diff(self.ell_edges.astype(float) ** 2)

    @property
    def ell(self) -> Float[np.ndarray, " ell"]:
        """The mean multipole of each bin, its modes counted."""
        ell = np.arange(self.ell_edges[-1])
        modes = 2 * ell + 1
        return np.add.reduceat(ell * modes, self.ell_edges[:-1]) / np.add.reduceat(modes, self.ell_edges[:-1])

    @property
    def shape_noise(self) -> Float[np.ndarray, " sources"]:
        """The spectrum of the noise of each source bin, sigma_e^2 over the galaxies in a steradian."""
        return self.sigma_e**2 * _ARCMIN**2 / self.n_eff

    @property
    def shot_noise(self) -> Float[np.ndarray, " lenses"]:
        """The spectrum of the noise of each lens bin, one over the galaxies in a steradian."""
        if self.n_lens is None:
            raise ValueError("the survey has no lenses: give Survey(..., lenses=, n_lens=)")
        return _ARCMIN**2 / self.n_lens


def stage_iv(
    num_bins: int = 10,
    *,
    lenses: bool = False,
    f_sky: float = 0.36,
    n_eff: float = 30.0,
    sigma_e: float = 0.26,
    ell_min: int = 30,
    ell_max: int = 3000,
    num_ell: int = 30,
    z_max: float = 3.0,
    num_z: int = 200,
) -> Survey:
    """A survey such as those of Euclid and of the Rubin Observatory.

    The galaxies follow `smail` with a median redshift of 0.9, in bins of equal numbers, with photometric redshifts that
    scatter by 0.05 (1 + z) (Euclid Collaboration 2020, A&A 642, A191, arXiv:1910.09273).

    >>> from armillary_cosmology import stage_iv
    >>> survey = stage_iv(5)
    >>> survey.sources.shape, survey.ell.shape
    ((5, 200), (30,))

    Args:
        num_bins: bins of redshift.
        lenses: the same galaxies are lenses too.
        f_sky: the observed fraction of the sky, by default 15000 square degrees.
        n_eff: galaxies of all bins together, in 1 / arcmin^2.
        sigma_e: the scatter of ellipticities, of one component.
        ell_min: the first multipole.
        ell_max: the last edge of the bins of multipoles.
        num_ell: bins of multipoles, about equal in ln l.
        z_max: where the distributions are cut off.
        num_z: steps of redshift, over which the theory sums.

    Raises:
        ValueError: an argument that cannot be; the message names it.
    """
    z = np.arange(1, num_z + 1) * (z_max / num_z)
    n_z = smail(z)
    bins = redshift_bins(z, n_z, equal_number_edges(z, n_z, num_bins))
    each = np.full(num_bins, n_eff / num_bins)
    edges = np.round(np.geomspace(ell_min, ell_max, num_ell + 1)).astype(int)
    more = {"lenses": bins, "n_lens": each} if lenses else {}
    return Survey(z, bins, each, sigma_e, f_sky, edges, **more)


def _numbers(name: str, given: Any, count: int) -> np.ndarray:
    values = np.asarray(given, dtype=float)
    if values.shape != (count,) or not np.all(np.isfinite(values)) or np.any(values <= 0):
        raise ValueError(f"{name}={given!r}: expected {count} positive finite numbers, one for each bin")
    return values


def _within(name: str, given: Any, most: float) -> None:
    if isinstance(given, bool) or not isinstance(given, (int, float, np.number)) or not 0 < given <= most:
        raise ValueError(f"{name}={given!r}: expected a number above 0, and at most {most:g}")
