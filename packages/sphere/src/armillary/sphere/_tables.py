r"""What the recursion over degrees needs, computed once on the host and beyond float64.

For an order :math:`m \ge 0`, a sign :math:`\sigma` and :math:`n = -s`, a *lane* is the sequence, in the degree
:math:`l \ge l_0 = \max(m, |n|)`, of

.. math:: \lambda_l(\theta) = (-1)^s \sqrt{(2 l + 1) / 4 \pi}\; d^l_{\sigma m, n}(\theta).

It satisfies the three-term recurrence of orthonormal (Jacobi) polynomials in :math:`x = \cos\theta`,

.. math:: x \lambda_l = \epsilon_{l+1} \lambda_{l+1} + \beta_l \lambda_l + \epsilon_l \lambda_{l-1}, \qquad
          \epsilon_l = \frac1l \sqrt{\frac{(l^2 - m^2)(l^2 - n^2)}{4 l^2 - 1}}, \quad
          \beta_l = \frac{\sigma m n}{l (l + 1)}.

With :math:`\lambda_l = g_l p_l` and :math:`g_{l+1} g_l \epsilon_{l+1}` the same for all :math:`l`, one of its
coefficients becomes 1: :math:`p_{l+1} = (a_l x - c_l) p_l - p_{l-1}` with :math:`a_l = g_l / (g_{l+1}
\epsilon_{l+1})` and :math:`c_l = a_l \beta_l`; the :math:`g_l` go into the harmonic coefficients.

Reference: Kostelec P. J., Rockmore D. N. 2008, J. Fourier Anal. Appl. 14, 145, doi:10.1007/s00041-008-9013-5.
"""

from __future__ import annotations

import functools
from typing import NamedTuple

import numpy as np

from ._rings import Rings


class Tables(NamedTuple):
    """Coefficients of the recursion; lanes are the orders, all of sign + and then, for a spin, all of sign -.

    `a`, `c` and `g` have shape ``(lanes, steps)``, with ``step = l - l_0``, are zero beyond degree ``L - 1``, and are
    in extended precision.
    """

    first: np.ndarray  # (lanes,) the degree l_0 at which a lane starts
    a: np.ndarray
    c: np.ndarray
    g: np.ndarray


@functools.lru_cache(maxsize=16)
def recursion(L: int, spin: int) -> Tables:
    """The coefficients for the bandlimit `L` and a spin."""
    n = abs(spin)
    m = np.arange(L)
    first = np.maximum(m, n)
    degree = (first[:, None] + np.arange(L - n)).astype(np.longdouble)
    following = degree + 1
    square = following**2
    epsilon = np.sqrt((square - m[:, None] ** 2) * (square - n**2) / (4 * square - 1)) / following

    g = np.ones_like(epsilon)
    for step in range(2, L - n):
        g[:, step] = g[:, step - 2] * epsilon[:, step - 2] / epsilon[:, step - 1]
    a = g**2 / epsilon[:, :1]
    beta = m[:, None] * -np.longdouble(spin) / np.where(degree > 0, degree * following, 1.0)

    inside = degree < L
    a, g = np.where(inside, a, 0.0), np.where(inside, g, 0.0)
    if spin == 0:
        return Tables(first, a, np.zeros_like(a), g)
    c = a * beta
    return Tables(*(np.concatenate(pair) for pair in ((first, first), (a, a), (c, -c), (g, g))))


@functools.lru_cache(maxsize=16)
def start(rings: Rings, L: int, spin: int, step_bits: int, low_bits: int) -> tuple[np.ndarray, np.ndarray]:
    r"""The first value of every lane on every northern ring, with a power of two of its own against underflow.

    At :math:`l_0` the Wigner function is a single term, such as
    :math:`d^l_{l n} = (-1)^{l-n} \binom{2l}{l+n}^{1/2} \cos^{l+n}(\theta/2) \sin^{l-n}(\theta/2)`.

    Returns:
        Mantissas and exponents, of shape ``(lanes, rings)``: the value is ``mantissa * 2**(step_bits * exponent)``,
        and ``log2(abs(mantissa))`` is in ``[-low_bits, step_bits - low_bits)`` where the exponent is not 0.
    """
    theta = rings.north
    log_cos, log_sin = np.log2(np.cos(theta / 2)), np.log2(np.sin(theta / 2))
    n = -spin
    orders = [np.arange(L)] if spin == 0 else [np.arange(L), -np.arange(L)]
    m = np.concatenate(orders)
    degree = np.maximum(abs(m), abs(n))
    # The order that equals the degree in size decides the formula; the other is `rest`.
    by_m = abs(m) >= abs(n)
    extreme, rest = np.where(by_m, m, n), np.where(by_m, n, m)
    positive = extreme >= 0
    power_cos = np.where(positive, degree + rest, degree - rest)
    power_sin = 2 * degree - power_cos
    odd = np.where(by_m, positive * (degree - rest), ~positive * (degree + rest)) + spin
    log_factorial = np.concatenate([[0], np.cumsum(np.log2(np.arange(1, 2 * L + 1, dtype=np.longdouble)))])
    log_norm = log_factorial[2 * degree] - log_factorial[degree + rest] - log_factorial[degree - rest]
    log_norm = (log_norm + np.log2((2 * degree + 1) / (4 * np.longdouble(np.pi)))) / 2
    bits = log_norm[:, None] + power_cos[:, None] * log_cos + power_sin[:, None] * log_sin
    exponent = np.minimum(np.floor((bits + low_bits) / step_bits), 0)
    mantissa = np.exp2(bits - step_bits * exponent) * np.where(odd % 2, -1, 1)[:, None]
    return mantissa, exponent.astype(np.int32)
