"""The scaling filters of compactly supported orthonormal wavelets, computed from their definition."""

from __future__ import annotations

import functools
import itertools
import math
import re
from collections.abc import Iterable

import numpy as np
from numpy.polynomial import legendre, polynomial

#: The most vanishing moments that are offered; to here the taps are good to the last digits of float64.
_MOST = 8
NAMES = ("haar", *(f"db{n}" for n in range(1, _MOST + 1)), *(f"sym{n}" for n in range(2, _MOST + 1)))
#: A filter and its mirror image are equally symmetric. Of the two, these have their centre of mass in the later half,
#: and the other symlets in the earlier, which is how Matlab and PyWavelets tabulate them.
_LATE_SYMLETS = (4, 5, 6, 8)


@functools.lru_cache(maxsize=64)
def scaling_filter(wavelet: str) -> np.ndarray:
    r"""The 2 n taps h of the scaling function of a wavelet with n vanishing moments, in float64.

    Daubechies' construction: :math:`\sum_k h_k z^{-k} = \sqrt2 \left(\frac{1 + z^{-1}}{2}\right)^n Q(z)`, where
    :math:`|Q|^2 = \sum_{k<n} \binom{n-1+k}{k} y^k` with :math:`y = (2 - z - z^{-1}) / 4`. Each root y gives a pair
    z, 1/z of which Q takes one: those inside the unit circle for the Daubechies wavelets ("db"), and for the symlets
    ("sym") those with which the phase is closest to linear.

    Daubechies I. 1992, Ten Lectures on Wavelets, ch. 6 and 8.1, doi:10.1137/1.9781611970104.

    Raises:
        ValueError: the name is none of those that there are.
    """
    if wavelet not in NAMES:
        raise ValueError(f"wavelet={wavelet!r}: expected haar, db1 to db{_MOST}, or sym2 to sym{_MOST}")
    family, digits = re.match(r"([a-z]+)(\d*)", wavelet).groups()  # type: ignore[union-attr]
    n = int(digits or 1)
    factors = _factors(n)
    filters = [_polished(_product(n, factors))]
    if family == "sym":
        choices = itertools.product(*((factor, factor[::-1]) for factor in factors))
        # With real zeros only, as for n = 2 and 3, all choices are mirror images of each other in effect.
        candidates = [_polished(_product(n, choice)) for choice in choices]
        late = n in _LATE_SYMLETS
        filters = sorted((h for h in candidates if (_delay(h) > n - 0.5) == late), key=_phase_error)
    taps = filters[0]
    taps.setflags(write=False)
    return taps


def _factors(n: int) -> list[np.ndarray]:
    """The real factors of Q, of one or of two conjugate roots within the unit circle, as polynomials in 1/z.

    A factor reversed has the roots reflected in the circle, and the same modulus on it.
    """
    found = []
    for y in polynomial.polyroots([math.comb(n - 1 + k, k) for k in range(n)]):
        if y.imag < -1e-9:
            continue
        centre = 1 - 2 * complex(y)
        z = min((centre + sign * np.sqrt(centre**2 - 1) for sign in (1, -1)), key=abs)
        found.append(np.array([1, -2 * z.real, abs(z) ** 2]) if y.imag > 1e-9 else np.array([1, -z.real]))
    return found


def _product(n: int, factors: Iterable[np.ndarray]) -> np.ndarray:
    taps = functools.reduce(np.convolve, [np.array([0.5, 0.5])] * n + list(factors))
    return taps * np.sqrt(2) / taps.sum()


def _polished(taps: np.ndarray) -> np.ndarray:
    """Newton's method on what defines the filter: n equations of orthonormality and n of vanishing moments."""
    n = taps.size // 2
    # Orthogonal polynomials in place of powers, which are nearly dependent.
    moments = legendre.legvander(np.linspace(-1, 1, 2 * n), n - 1).T * (-1.0) ** np.arange(2 * n)
    for _ in range(3):
        shifted = np.stack([np.pad(taps, (2 * k, 0))[: 2 * n] for k in range(n)])
        ahead = np.stack([np.pad(taps, (0, 2 * k))[2 * k :] for k in range(n)])
        residual = np.concatenate([shifted @ taps - (np.arange(n) == 0), moments @ taps])
        taps = taps - np.linalg.solve(np.concatenate([shifted + ahead, moments]), residual)
    return taps


def _phase(taps: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    # Up to pi the response vanishes, and with it the meaning of its phase.
    frequency = np.linspace(0, np.pi, 257)[1:-1]
    return frequency, np.unwrap(np.angle(np.exp(-1j * np.outer(frequency, np.arange(taps.size))) @ taps))


def _delay(taps: np.ndarray) -> float:
    frequency, phase = _phase(taps)
    return -float(frequency @ phase / (frequency @ frequency))


def _phase_error(taps: np.ndarray) -> float:
    frequency, phase = _phase(taps)
    return float(np.sum((phase + _delay(taps) * frequency) ** 2))


@functools.lru_cache(maxsize=64)
def filter_bank(wavelet: str) -> np.ndarray:
    """The low- and the high-pass filter, of shape ``(2, 2 n)``: h, and g with ``g_m = (-1)**m h_(2n-1-m)``."""
    h = scaling_filter(wavelet)
    bank = np.stack([h, h[::-1] * (-1.0) ** np.arange(h.size)])
    bank.setflags(write=False)
    return bank
