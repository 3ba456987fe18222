"""Scattering statistics as a value, and what each coefficient is of."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Literal, NamedTuple

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

Reduction = Literal["none", "full", "relative"]


class Label(NamedTuple):
    """What a coefficient is of.

    Attributes:
        group: ``"mean"``, ``"variance"``, ``"s1"``, ``"s2"``, ``"s3"``, ``"s4"`` or ``"cl"``.
        scales: the scales j, that of the second wavelet first; of ``"cl"`` the degree.
        directions: the indices of the directions, in the same order; none where directions are averaged. Those of
            relative directions are the steps from the first scale's, which then has none.
    """

    group: str
    scales: tuple[int, ...] = ()
    directions: tuple[int, ...] = ()


@dataclass(frozen=True)
class Layout:
    """Which coefficients there are, and their order.

    Args:
        J_min: the largest scale.
        J: the smallest.
        directions: the number of directions.
        reduction: what is done to directions: nothing, the mean over all, or over those common to all wavelets.
        every: both orders of a pair in S4, and the order of s2scat.
        bandlimit: that of the power spectrum which follows; 0 where none does.
    """

    J_min: int
    J: int
    directions: int
    reduction: Reduction
    every: bool = False
    bandlimit: int = 0

    @property
    def scales(self) -> range:
        return range(self.J_min, self.J + 1)

    @functools.cached_property
    def first(self) -> np.ndarray:
        """(scale, direction) of each coefficient of S1 and S2; direction -1 is the mean over directions."""
        # s2scat keeps these directions whatever it does to the others.
        directions = range(self.directions) if self.reduction == "none" or self.every else (-1,)
        return np.array([(j, g) for j in self.scales for g in directions])

    @functools.cached_property
    def third(self) -> np.ndarray:
        """(scale, direction) of the second wavelet, then of the first, of each coefficient of S3."""
        rows = [
            ((j1, g1), (j2, g2)) for j1 in self.scales for j2, g2 in self.fields(j1) for g1 in self.second_directions
        ]
        return np.array(rows).reshape(-1, 2, 2)

    @functools.cached_property
    def fourth(self) -> np.ndarray:
        """The same of each coefficient of S4, which has two first wavelets."""
        rows = []
        for j1 in self.scales:
            for (j2, g2), (j3, g3) in self.pairs(j1):
                rows += [((j1, g1), (j2, g2), (j3, g3)) for g1 in self.second_directions]
        return np.array(rows).reshape(-1, 3, 2)

    def where(self, scale: np.ndarray, direction: np.ndarray) -> np.ndarray:
        """The places in `first` of wavelets; directions below 0 are none."""
        each = self.directions if self.reduction == "none" or self.every else 1
        return (scale - self.J_min) * each + (np.maximum(direction, 0) if each > 1 else 0)

    def pairs(self, j1: int) -> list[tuple[tuple[int, int], tuple[int, int]]]:
        """The pairs of moduli of scales beyond `j1`: each once, or in both orders."""
        fields = self.fields(j1)
        if not self.every:
            return [(a, b) for k, a in enumerate(fields) for b in fields[k:]]
        scales, directions = range(j1 + 1, self.J + 1), sorted({g for _, g in fields})
        return [((j2, g2), (j3, g3)) for j2 in scales for j3 in scales for g2 in directions for g3 in directions]

    def fields(self, j1: int) -> list[tuple[int, int]]:
        """The moduli of scales beyond `j1`."""
        directions = (-1,) if self.reduction == "full" else range(self.directions)
        return [(j, g) for j in range(j1 + 1, self.J + 1) for g in directions]

    @property
    def second_directions(self) -> range | tuple[int]:
        """The directions of the second wavelet."""
        return range(self.directions) if self.reduction == "none" else (-1,)

    @functools.cached_property
    def labels(self) -> tuple[Label, ...]:
        found = [Label("mean"), Label("variance")]
        groups = {"s1": self.first[:, None], "s2": self.first[:, None], "s3": self.third, "s4": self.fourth}
        for group, rows in groups.items():
            for row in rows.tolist():
                scales = tuple(j for j, _ in row)
                found.append(Label(group, scales, tuple(g for _, g in row if g >= 0)))
        return (*found, *(Label("cl", (degree,)) for degree in range(1, self.bandlimit)))


class ScatteringStatistics(eqx.Module):
    """The scattering statistics of a field, as `ScatteringCovariance` returns them: a pytree of six or seven arrays.

    Attributes:
        mean: the mean of the field.
        variance: its variance.
        s1: mean moduli of wavelet coefficients.
        s2: their mean squares.
        s3: covariances of wavelet coefficients with those of moduli.
        s4: covariances of wavelet coefficients of moduli.
        cl: the power spectrum from degree 1 on, where it was asked for.

    >>> import jax
    >>> from armillary.scatter import ScatteringCovariance
    >>> from armillary.sphere import alm_from_real
    >>> cov = ScatteringCovariance(8, N=1, J_min=1)
    >>> s = cov(alm_from_real(jax.random.normal(jax.random.key(0), (64,))))
    >>> s.ravel().shape
    (15,)
    >>> s.labels()[8]
    Label(group='s3', scales=(1, 2), directions=())
    """

    mean: Float[Array, ...]
    variance: Float[Array, ...]
    s1: Float[Array, "... scales"]
    s2: Float[Array, "... scales"]
    s3: Float[Array, "... pairs"]
    s4: Float[Array, "... triples"]
    layout: Layout = eqx.field(static=True, repr=False)
    cl: Float[Array, "... degrees"] | None = None

    def ravel(self) -> Float[Array, "... coefficients"]:
        """All coefficients on the last axis, in the order of `labels`; leading axes are those of the fields."""
        return jnp.concatenate(list(self.groups().values()), axis=-1)

    def labels(self) -> tuple[Label, ...]:
        """What each entry of `ravel` is of."""
        return self.layout.labels

    def groups(self) -> dict[str, Float[Array, "... coefficients"]]:
        """The arrays by name, each with an axis of coefficients."""
        found = {
            "mean": self.mean[..., None],
            "variance": self.variance[..., None],
            "s1": self.s1,
            "s2": self.s2,
            "s3": self.s3,
            "s4": self.s4,
        }
        return found if self.cl is None else found | {"cl": self.cl}
