r"""One step of the recursion :math:`p_{l+1} = (a_l x - c_l) p_l - p_{l-1}`, in float64 or where there is only float32.

In float64 it is Reinsch's form in :math:`d_l = p_l - p_{l-1}` and :math:`y = 1 - x = 2 \sin^2(\theta / 2)`,

.. math:: d_{l+1} = (b_l - a_l y) p_l + d_l, \quad p_{l+1} = p_l + d_{l+1}, \qquad b_l = a_l - c_l - 2,

which does not lose a factor of :math:`L^2` near the pole, where x differs from 1 by little.

In float32 it is the recursion as it stands, on pairs ``(high, low)`` that keep some 36 bits: rounding is then far below
that of a float32 result. A compiler may contract ``a * b + c`` into one rounding, which would break the classical
error-free product; here every product that matters is of factors with 12 bits each, exact in float32, so that
contraction changes nothing.

References: Reinsch's form: Gautschi W. 2004, Orthogonal Polynomials, section 2.1; pairs: Dekker T. J. 1971, Numer.
Math. 18, 224, doi:10.1007/BF01397083.
"""

from __future__ import annotations

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array

State = tuple[Array, ...]


class Double:
    """Reinsch's form in float64; a state is ``(p, d)``."""

    @staticmethod
    def coefficients(a: np.ndarray, c: np.ndarray) -> tuple[np.ndarray, ...]:
        """The tables that `advance` takes, from those of the recursion in extended precision."""
        return a.astype(np.float64), np.where(a == 0, 0, a - c - 2).astype(np.float64)

    @staticmethod
    def abscissa(theta: np.ndarray) -> tuple[np.ndarray, ...]:
        """What `advance` takes of the colatitude."""
        return ((2 * np.sin(theta / 2) ** 2).astype(np.float64),)

    @staticmethod
    def first(value: np.ndarray) -> tuple[np.ndarray, ...]:
        """The state at the start of a lane."""
        return value.astype(np.float64), value.astype(np.float64)

    @staticmethod
    def advance(coefficients: State, abscissa: State, state: State) -> State:
        """The state at the next degree."""
        a, b = coefficients
        p, d = state
        # The barriers keep the compiler from computing all earlier steps again in every later one.
        d = lax.optimization_barrier((b - a * abscissa[0]) * p + d)
        return lax.optimization_barrier(p + d), d


class Pairs:
    """The recursion in pairs of float32; a state is ``(p_high, p_low, previous_high, previous_low)``."""

    @staticmethod
    def coefficients(a: np.ndarray, c: np.ndarray) -> tuple[np.ndarray, ...]:
        """As `Double.coefficients`."""
        return *_pair_of(a), *_pair_of(c)

    @staticmethod
    def abscissa(theta: np.ndarray) -> tuple[np.ndarray, ...]:
        """As `Double.abscissa`."""
        return _pair_of(np.cos(theta))

    @staticmethod
    def first(value: np.ndarray) -> tuple[np.ndarray, ...]:
        """As `Double.first`."""
        pair = _pair_of(value)
        return *pair, np.zeros_like(pair[0]), np.zeros_like(pair[0])

    @staticmethod
    def advance(coefficients: State, abscissa: State, state: State) -> State:
        """As `Double.advance`."""
        a, c = _Pair(*coefficients[:2]), _Pair(*coefficients[2:])
        p, previous = _Pair(*state[:2]), _Pair(*state[2:])
        slope = _subtract(_multiply(a, _Pair(*abscissa)), c)
        following = lax.optimization_barrier(_subtract(_multiply(slope, p), previous))
        return *following, *p


class _Pair(NamedTuple):
    high: Array
    low: Array


def _pair_of(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    high = x.astype(np.float32)
    return high, (x - high).astype(np.float32)


def _multiply(a: _Pair, b: _Pair) -> _Pair:
    a_top, b_top = _top(a.high), _top(b.high)
    a_rest, b_rest = a.high - a_top, b.high - b_top
    main = a_top * b_top
    rest = (a_top * b_rest + a_rest * b_top) + (a_rest * b_rest + (a.high * b.low + a.low * b.high))
    high = main + rest
    return _Pair(high, rest - (high - main))


def _subtract(a: _Pair, b: _Pair) -> _Pair:
    total = a.high - b.high
    part = total - a.high
    error = (a.high - (total - part)) - (b.high + part)
    rest = error + (a.low - b.low)
    high = total + rest
    return _Pair(high, rest - (high - total))


def _top(x: Array) -> Array:
    """The leading 12 bits of the significand."""
    bits = lax.bitcast_convert_type(x, jnp.uint32) & jnp.uint32(0xFFFFF000)
    return lax.bitcast_convert_type(bits, jnp.float32)
