r"""Morlet wavelets of images, as kymatio has them, and which of them there are.

The wavelet of scale j and direction g is, in frequencies :math:`\omega` in radians per pixel,

.. math:: \hat\psi(\omega) = \sum_m \hat g(\omega + 2 \pi m - \xi) - \beta\, \hat g(\omega + 2 \pi m), \qquad
          \hat g(\omega) = e^{-(s\, \omega_\parallel)^2 / 2 - (s\, \omega_\perp N / 4)^2 / 2},

with :math:`s = 0.8 \cdot 2^{J-j}`, :math:`|\xi| = \tfrac34 \pi / 2^{J-j}` along the wavelet's direction, and
:math:`\beta` such that the mean is 0. The scaling function is :math:`\hat g` at the largest scale, with no direction.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from ._check import check_integer
from ._statistics import Reduction


@dataclass(frozen=True)
class Plane:
    """Which wavelets there are on images of a shape, and what is done to their directions."""

    shape: tuple[int, int]
    N: int
    J_min: int
    reduction: Reduction = "none"

    @property
    def J(self) -> int:
        return smallest_scale(self.shape)

    @property
    def scales(self) -> range:
        return range(self.J_min, self.J + 1)

    def step(self, j: int) -> int:
        """Pixels between two samples of scale j: the scale of kymatio, as a power of 2; `J + 1` is the image itself."""
        return 2 ** (self.J - j) if j <= self.J else 1

    @property
    def widest(self) -> int:
        """Pixels between two samples of the maps of a network."""
        return 2 ** len(self.scales)

    @property
    def padding(self) -> tuple[tuple[int, int], tuple[int, int]]:
        """Pixels that a network adds before and after rows, and columns: as many as kymatio, a sample or more."""
        k = self.widest
        return tuple(  # type: ignore[return-value]
            (extra // 2, (extra + 1) // 2) for extra in (((n + k) // k + 1) * k - n for n in self.shape)
        )

    @property
    def padded(self) -> tuple[int, int]:
        return tuple(n + before + after for n, (before, after) in zip(self.shape, self.padding, strict=True))  # type: ignore[return-value]


def smallest_scale(shape: tuple[int, int]) -> int:
    """The scale whose wavelets have 3/4 2**J waves across the shorter side, or up to twice as many."""
    return min(shape).bit_length() - 2


def plane_of(L: Any, N: Any, J_min: Any, reduction: Reduction, *, fewest: int) -> Plane:
    """Checked: the wavelets of images of side `L`, of `fewest` scales or more."""
    sides = tuple(L) if isinstance(L, (tuple, list)) else (L, L)
    if len(sides) != 2:
        raise ValueError(f"L={L!r}: with domain='plane' the side of an image in pixels, or (rows, columns)")
    meaning = "with domain='plane', the side of an image in pixels"
    rows, columns = (check_integer("L", n, 2**fewest, None, meaning) for n in sides)
    N = check_integer("N", N, 2, None, "with domain='plane', the number of directions over half a circle,")
    last = smallest_scale((rows, columns)) + 1 - fewest
    meaning = f"the largest scale, of {fewest} or more, of images of shape {(rows, columns)},"
    J_min = check_integer("J_min", J_min, 0, last, meaning)
    return Plane((rows, columns), N, J_min, reduction)


def check_image(name: str, f: Any, shape: tuple[int, int]) -> Array:
    """Real images ``(..., rows, columns)``, or `ValueError`."""
    if not isinstance(f, jax.Array):
        f = np.asarray(f)
    if f.dtype == np.float64 and not jax.config.jax_enable_x64:
        raise ValueError(
            f"{name} is float64, and JAX would cut it to single precision: call numpyro.enable_x64() at the start "
            f"of the program, or pass {name}.astype(np.float32)"
        )
    if f.dtype not in (np.float32, np.float64):
        raise ValueError(f"{name} is {f.dtype}: a real image is needed, float32 or float64")
    if f.shape[-2:] != shape:
        raise ValueError(f"{name} has shape {f.shape}: (..., {shape[0]}, {shape[1]}) is needed, rows and columns")
    if not isinstance(f, jax.core.Tracer) and not np.isfinite(np.asarray(f)).all():
        raise ValueError(f"{name} has values that are NaN or infinite")
    return jnp.asarray(f)


@functools.lru_cache(maxsize=32)
def wavelets(shape: tuple[int, int], N: int, steps: tuple[int, ...]) -> Float[np.ndarray, "scales N rows columns"]:
    """The Fourier transforms of wavelets, which are real; `steps` are the scales, as kymatio's powers of 2."""
    # The order of directions is kymatio's.
    angles = [(N // 2 - 1 - g) * math.pi / N for g in range(N)]
    return np.array([[_morlet(shape, 0.8 * k, a, 0.75 * math.pi / k, 4 / N) for a in angles] for k in steps])


@functools.lru_cache(maxsize=32)
def scaling(shape: tuple[int, int], step: int) -> Float[np.ndarray, "rows columns"]:
    """The Fourier transform of the scaling function beyond the scale `step`."""
    return _gabor(shape, 0.8 * step, 0.0, 0.0, 1.0)


def _morlet(shape: tuple[int, int], width: float, angle: float, frequency: float, slant: float) -> np.ndarray:
    wave = _gabor(shape, width, angle, frequency, slant)
    envelope = _gabor(shape, width, angle, 0.0, slant)
    return wave - wave[0, 0] / envelope[0, 0] * envelope


def _gabor(shape: tuple[int, int], width: float, angle: float, frequency: float, slant: float) -> np.ndarray:
    """A Gaussian about a frequency, periodic in frequency as pixels make it."""
    # Beyond nine standard deviations there is nothing in double precision.
    copies = math.ceil((9 * max(1.0, slant) / width + 1.75 * math.pi) / (2 * math.pi))
    period = 2 * math.pi * np.arange(-copies, copies + 1)[:, None]
    rows, columns = ((2 * math.pi * np.fft.fftfreq(n) + period).ravel() for n in shape)
    along = np.add.outer(rows * math.cos(angle), columns * math.sin(angle)) - frequency
    across = np.add.outer(-rows * math.sin(angle), columns * math.cos(angle))
    values = np.exp(-((width * along) ** 2 + (width * across / slant) ** 2) / 2)
    return values.reshape(len(period), shape[0], len(period), shape[1]).sum(axis=(0, 2))
