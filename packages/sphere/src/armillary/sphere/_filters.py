r"""The filters of scale-discretised wavelets: over degrees, and over directions.

A generating function :math:`k(t)` that falls from 1 at :math:`t \le 1 / \lambda` to 0 at :math:`t \ge 1` makes the
filters over degrees,

.. math:: \kappa_j(l)^2 = k(l / \lambda^{j+1}) - k(l / \lambda^j), \qquad
          \text{scaling}(l)^2 = k(l / \lambda^{J_{min}}),

whose squares sum to 1. Those over directions are normalised in every degree but 0, :math:`\sum_n |\zeta_{ln}|^2 = 1`.
"""

from __future__ import annotations

import functools
from typing import Literal, NamedTuple, get_args

import numpy as np

Kind = Literal["axisymmetric", "directional", "curvelet", "ridgelet", "needlet"]
KINDS: tuple[Kind, ...] = get_args(Kind)


class Filters(NamedTuple):
    """The filters of wavelets.

    Attributes:
        kappa: of every wavelet, the largest scale first, and every degree: ``(scales, L)``.
        directionality: by degree, and order n from ``1 - N`` to ``N - 1`` for the largest N of any scale.
        scaling: of the scaling function, by degree: ``(L,)``.
    """

    kappa: np.ndarray
    directionality: np.ndarray
    scaling: np.ndarray


@functools.lru_cache(maxsize=64)
def filters(L: int, N: int, J_min: int, J: int, lam: float, spin: int, kind: Kind) -> Filters:
    """The filters; arrays of the host, which must not be written to."""
    degree = np.arange(L)
    k = np.stack([generator(degree / lam**j, lam, kind == "needlet") for j in range(J_min, J + 2)])
    kappa = np.sqrt(np.maximum(np.diff(k, axis=0), 0))
    found = Filters(kappa, directionality(L, N, spin, kind), np.sqrt(k[0]))
    for each in found:
        each.setflags(write=False)
    return found


def generator(t: np.ndarray, lam: float, needlet: bool) -> np.ndarray:
    r"""k(t): the integral of a bump from t to 1, over that from 1 / lam to 1.

    With v from -1 to 1 as t goes from 1 / lam to 1, the bump is :math:`e^{-2 / (1 - v^2)} / t` for scale-discretised
    wavelets and :math:`e^{-1 / (1 - v^2)}` for needlets. By Gauss-Legendre on panels: on all of them for the upper half
    of the integral and one less the rest for the lower, so that k and 1 - k are both accurate where they are small.
    """
    nodes, weights = np.polynomial.legendre.leggauss(32)
    panels = 16

    def integral(low: np.ndarray, high: np.ndarray) -> np.ndarray:
        edges = low[:, None] + (high - low)[:, None] * np.linspace(0, 1, panels + 1)
        half = np.diff(edges)[:, :, None] / 2
        u = edges[:, :-1, None] + half * (1 + nodes)
        below = 1 - (2 * lam / (lam - 1) * (u - 1 / lam) - 1) ** 2
        exponent = (-1 if needlet else -2) / np.where(below > 0, below, 1)
        bump = np.where(below > 0, np.exp(exponent), 0) / (1 if needlet else u)
        return (bump * half * weights).sum(axis=(1, 2))

    middle = np.array([(1 / lam + 1) / 2])
    lower, upper = integral(np.array([1 / lam]), middle), integral(middle, np.array([1.0]))
    whole = lower + upper
    k = np.where(t < 1, 1.0, 0.0)
    falling = (t > 1 / lam) & (t < 1)
    inside = t[falling]
    above = integral(np.maximum(inside, middle), np.ones_like(inside))
    below = integral(np.full_like(inside, 1 / lam), np.minimum(inside, middle))
    k[falling] = np.where(inside >= middle, above / whole, 1 - below / whole)
    return k


def directionality(L: int, N: int, spin: int, kind: Kind) -> np.ndarray:
    """The filters over directions, of shape ``(L, 2 N - 1)``."""
    degree, order = np.arange(L)[:, None], np.arange(1 - N, N)[None]
    if kind not in ("directional", "curvelet"):
        return (degree > 0).astype(np.float64)
    if kind == "curvelet":
        # Of orders l and -l alone about the axis -x, turned to the pole: sqrt(2) d^l_{nl}(pi / 2), its sign aside.
        size, half, factor = 2 * degree, degree - order, 2.0
        there = (abs(order) <= degree) & ((order + spin) % 2 == 0)
    else:
        # Steerable: cos(phi)**(N - 1), nearly.
        size = np.minimum(N - 1, degree - (N + degree + 1) % 2)
        half, factor = (size - order) // 2, 1.0
        there = (abs(order) <= size) & ((N + order) % 2 == 1)
    there = there & (degree > 0)
    size, half = np.where(there, size, 0), np.where(there, half, 0)
    log = _log_factorials(2 * L)
    power = factor * np.exp(log[size] - log[half] - log[size - half] - size * np.log(np.longdouble(2)))
    zeta = np.sqrt(np.where(there, power, 0)).astype(np.float64)
    return zeta if kind == "curvelet" or N % 2 else 1j * zeta


def radon(L: int, spin: int) -> np.ndarray:
    r"""The Radon transform of a harmonic, its integral over a great circle as a function of the circle's pole.

    In units of :math:`Y_{lm}`, by degree, it is :math:`2 \pi (-1)^s d^l_{0,-s}(\pi / 2)`: 0 where l + s is odd, and
    else, up to a sign,

    .. math:: \frac{2 \pi \sqrt{(l+s)!\,(l-s)!}}{2^l\, ((l+s)/2)!\, ((l-s)/2)!}.
    """
    s = abs(spin)
    degree = np.arange(L)
    there = (degree >= s) & ((degree + s) % 2 == 0)
    plus, minus = np.where(there, degree + s, 2 * s), np.where(there, degree - s, 0)
    log = _log_factorials(2 * L)
    exponent = (log[plus] + log[minus]) / 2 - (plus + minus) // 2 * np.log(np.longdouble(2))
    size = 2 * np.pi * np.exp(exponent - log[plus // 2] - log[minus // 2]).astype(np.float64)
    sign = 1 - 2 * ((plus // 2 + max(spin, 0)) % 2)
    return np.where(there, sign * size, 0.0)


def _log_factorials(count: int) -> np.ndarray:
    return np.concatenate([[0], np.cumsum(np.log(np.arange(1, count, dtype=np.longdouble)))])
