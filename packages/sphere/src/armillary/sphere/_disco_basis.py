r"""Bases of filters on a spherical cap, functions of polar coordinates about its centre.

The radius u is the angle from the centre over that of the edge, from 0 to 1, and the azimuth a is counted from the
meridian southwards, towards the east. Functions have unit mean square on the flat disc of radius 1:

.. math:: \frac1\pi \int_0^{2\pi} \int_0^1 \psi_k(u, a)^2\, u\, \mathrm du\, \mathrm da = 1.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np

from ._checks import check_integer

Kind = Literal["piecewise_linear", "morlet", "zernike", "axisymmetric"]


@dataclass(frozen=True)
class Basis:
    """A basis, by its name and one or two numbers; made by `make_basis`."""

    kind: Kind
    shape: tuple[int, ...]

    @property
    def size(self) -> int:
        """The number of functions."""
        first = self.shape[0]
        if self.kind == "piecewise_linear":
            return 1 + first // 2 * self.shape[1]
        if self.kind == "morlet":
            return first * self.shape[1]
        return first * (first + 1) // 2 if self.kind == "zernike" else first

    def __call__(self, u: np.ndarray, a: np.ndarray) -> np.ndarray:
        """The functions at points of the disc, along a new first axis."""
        return _FUNCTIONS[self.kind](self.shape, u, a) * _norms(self).reshape(-1, *[1] * np.ndim(u))


def make_basis(kind: Any, shape: Any) -> Basis:
    """The basis of a name and shape, `None` for the default; or `ValueError`."""
    if kind not in get_args(Kind):
        raise ValueError(f"basis={kind!r}: one of {', '.join(map(repr, get_args(Kind)))}")
    numbers = 2 if kind in ("piecewise_linear", "morlet") else 1
    if shape is None:
        shape = (3,) * numbers
    entries = tuple(shape) if isinstance(shape, (tuple, list)) else (shape,)
    if len(entries) != numbers:
        wanted = "two integers, such as (3, 3)" if numbers == 2 else "one integer, such as 3"
        raise ValueError(f"kernel_shape={shape!r}: the basis {kind!r} needs {wanted}")
    meaning = {
        "piecewise_linear": "the number of nodes across the cap and around it",
        "morlet": "the number of waves along either axis",
        "zernike": "the number of degrees",
        "axisymmetric": "the number of rings",
    }[kind]
    entries = tuple(check_integer("kernel_shape", entry, 1, 32, f"{meaning}, in {shape!r},") for entry in entries)
    if kind == "piecewise_linear" and entries[0] % 2 == 0:
        raise ValueError(f"kernel_shape={shape!r}: the number of nodes across the cap is odd, such as 3")
    return Basis(kind, entries)


def _piecewise_linear(shape: tuple[int, ...], u: np.ndarray, a: np.ndarray) -> np.ndarray:
    """Hats in the radius, the first about the centre; the others are products with hats in the azimuth."""
    across, around = shape
    step = 2 / (across + 1)
    radial = [np.maximum(1 - abs(u - j * step) / step, 0) for j in range(across // 2 + 1)]
    angles = 2 * np.pi / around * np.arange(around)
    if around == 1:
        azimuthal = [np.ones_like(a)]
    else:
        away = [abs((a - angle + np.pi) % (2 * np.pi) - np.pi) for angle in angles]
        azimuthal = [np.maximum(1 - x * around / (2 * np.pi), 0) for x in away]
    return np.stack([radial[0], *(r * z for r in radial[1:] for z in azimuthal)])


def _morlet(shape: tuple[int, ...], u: np.ndarray, a: np.ndarray) -> np.ndarray:
    """Products of waves along the two axes of the disc under Hann's window."""
    window = np.cos(np.pi / 2 * u) ** 2

    def wave(n: int, x: np.ndarray) -> np.ndarray:
        return np.sin((n + 1) // 2 * np.pi * x) if n % 2 else np.cos(n // 2 * np.pi * x)

    x, y = u * np.cos(a), u * np.sin(a)
    return np.stack([window * wave(i, x) * wave(j, y) for i in range(shape[0]) for j in range(shape[1])])


def _zernike(shape: tuple[int, ...], u: np.ndarray, a: np.ndarray) -> np.ndarray:
    """Zernike's polynomials by degree, and in each by the order from -n to n; sines for the negative ones."""
    out = []
    for n in range(shape[0]):
        for order in range(-n, n + 1, 2):
            m = abs(order)
            radial: Any = 0
            for k in range((n - m) // 2 + 1):
                factor = (-1) ** k * math.comb(n - k, k) * math.comb(n - 2 * k, (n - m) // 2 - k)
                radial = radial + factor * u ** (n - 2 * k)
            out.append(radial * (np.sin(m * a) if order < 0 else np.cos(m * a)))
    return np.stack(out)


def _axisymmetric(shape: tuple[int, ...], u: np.ndarray, a: np.ndarray) -> np.ndarray:
    """Cubic B-splines in the radius, reflected at the centre: twice continuously differentiable on the sphere."""
    rings = shape[0]

    def spline(x: np.ndarray) -> np.ndarray:
        x = abs(x)
        return np.where(x < 1, 2 / 3 - x**2 * (1 - x / 2), np.maximum(2 - x, 0) ** 3 / 6)

    x = u * (rings + 1)
    return np.stack([spline(x - j) + (spline(x + j) if j else 0) for j in range(rings)])


_FUNCTIONS: dict[str, Callable[[tuple[int, ...], np.ndarray, np.ndarray], np.ndarray]] = {
    "piecewise_linear": _piecewise_linear,
    "morlet": _morlet,
    "zernike": _zernike,
    "axisymmetric": _axisymmetric,
}


@functools.lru_cache(maxsize=64)
def _norms(basis: Basis) -> np.ndarray:
    """What gives the functions unit mean square, by Gauss's quadrature between their kinks."""
    first = basis.shape[0]
    across = {"piecewise_linear": first // 2 + 1, "axisymmetric": first + 1}.get(basis.kind, 1)
    around = basis.shape[1] if basis.kind == "piecewise_linear" else 1
    # Of 96 nodes in all at least: exact for polynomials, and to rounding for 16 waves across the disc.
    (u, by_u), (a, by_a) = _panels(across, max(96 // across, 8)), _panels(around, max(96 // around, 8))
    values = _FUNCTIONS[basis.kind](basis.shape, *np.broadcast_arrays(u[:, None], 2 * np.pi * a))
    norms = np.einsum("kua,u,a->k", values**2, 2 * u * by_u, by_a) ** -0.5
    norms.setflags(write=False)
    return norms


def _panels(count: int, nodes: int) -> tuple[np.ndarray, np.ndarray]:
    """Gauss's quadrature on each of the equal parts of the interval from 0 to 1."""
    x, weights = np.polynomial.legendre.leggauss(nodes)
    points = (np.arange(count)[:, None] + (x + 1) / 2) / count
    return points.ravel(), np.tile(weights / (2 * count), count)
