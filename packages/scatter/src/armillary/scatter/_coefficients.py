"""Fields as vectors of real coefficients, each of a degree: harmonic ones on the sphere, Hartley's on the plane."""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Complex, Float

from armillary.sphere import alm_from_real, alm_to_real

from ._check import check_alm
from ._plane import check_image


@dataclass(frozen=True)
class Sphere:
    """Real fields of a bandlimit, by their harmonic coefficients."""

    L: int

    @functools.cached_property
    def degrees(self) -> np.ndarray:
        """The degree l of each coefficient."""
        return np.repeat(np.arange(self.L, dtype=np.int32), 2 * np.arange(self.L) + 1)

    @property
    def shape(self) -> tuple[int, int]:
        """The shape of a field."""
        return self.L, 2 * self.L - 1

    def check(self, name: str, field: Any) -> Array:
        """A field, or `ValueError`."""
        return check_alm(name, field, self.L)

    def field(self, x: Float[Array, "... L**2"]) -> Complex[Array, "... L 2*L-1"]:
        """The field of coefficients."""
        return alm_from_real(x)

    def coefficients(self, field: Complex[Array, "... L 2*L-1"]) -> Float[Array, "... L**2"]:
        """The coefficients of a field."""
        return alm_to_real(field)

    @property
    def coarser(self) -> Sphere:
        """That of half the degrees."""
        return Sphere((self.L + 1) // 2)

    def shared(self, coarse: Any) -> tuple[np.ndarray, np.ndarray, float]:
        """Where coefficients common to a coarser space are here, and there, and their ratio."""
        both = np.arange(coarse.L**2)
        return both, both, 1.0


@dataclass(frozen=True)
class Torus:
    """Real periodic images."""

    shape: tuple[int, int]

    @functools.cached_property
    def degrees(self) -> np.ndarray:
        """The waves across the shorter side, rounded; 0 is the mean alone."""
        waves = np.hypot(*np.meshgrid(*(np.fft.fftfreq(n) for n in self.shape), indexing="ij")).ravel() * min(
            self.shape
        )
        degrees = np.maximum(np.rint(waves), 1).astype(np.int32)
        degrees[0] = 0
        return degrees

    def check(self, name: str, field: Any) -> Array:
        """A field, or `ValueError`."""
        return check_image(name, field, self.shape)

    def field(self, x: Float[Array, "... pixels"]) -> Float[Array, "... rows columns"]:
        """The field of coefficients."""
        return self._hartley(x.reshape(*x.shape[:-1], *self.shape))

    def coefficients(self, field: Float[Array, "... rows columns"]) -> Float[Array, "... pixels"]:
        """The coefficients of a field."""
        return self._hartley(field).reshape(*field.shape[:-2], -1)

    @property
    def coarser(self) -> Torus:
        """That of half the sides."""
        return Torus(((self.shape[0] + 1) // 2, (self.shape[1] + 1) // 2))

    def shared(self, coarse: Any) -> tuple[np.ndarray, np.ndarray, float]:
        """Where coefficients common to a coarser space are here, and there, and their ratio."""
        waves = [np.arange(-((n - 1) // 2), (n + 1) // 2) for n in coarse.shape]
        here, there = (
            np.ravel_multi_index(np.ix_(*(w % n for w, n in zip(waves, shape, strict=True))), shape).ravel()
            for shape in (self.shape, coarse.shape)
        )
        return here, there, math.sqrt(math.prod(self.shape) / math.prod(coarse.shape))

    def _hartley(self, x: Array) -> Array:
        # Real, orthonormal, and its own inverse; opposite frequencies have the same degree.
        transform = jnp.fft.fft2(x, norm="ortho")
        return transform.real - transform.imag


Space = Sphere | Torus


def power(space: Space, x: Float[Array, "... coefficients"]) -> Float[Array, "... degrees"]:
    """The mean square of the coefficients of each degree."""
    count = np.bincount(space.degrees)
    sums = jax.ops.segment_sum(jnp.moveaxis(x**2, -1, 0), space.degrees, len(count))
    return jnp.moveaxis(sums, 0, -1) / count.astype(x.dtype)
