r"""Rotations of fields, by their harmonic coefficients.

A rotation by :math:`\beta` about y is two fixed quarter turns and one rotation about an axis on which coefficients
only change phase,

.. math:: D(\alpha, \beta, \gamma) = Z(\alpha + \pi/2)\, \Delta\, Z(\beta)\, \Delta^T Z(\gamma - \pi/2), \qquad
          Z(x)_{mn} = \delta_{mn} e^{-i m x}, \quad \Delta^l_{mn} = d^l_{mn}(\pi / 2),

so that all angles of a batch share one set of matrices :math:`\Delta^l`. These are never stored: all orders advance
together in the degree, by the recursion of `_tables` at :math:`x = 0`. There it separates: with
:math:`\epsilon_l = s_l(m) s_l(n) / t_l`, :math:`s_l(m) = \sqrt{l^2 - m^2}` and :math:`t_l = l \sqrt{4 l^2 - 1}`, the
factors :math:`g_l = u_l(m) u_l(n) v_l` with :math:`u_{l+1}(m) u_l(m) s_{l+1}(m) = 1` and :math:`v_{l+1} v_l = t_{l+1}`
make it

.. math:: p_{l+1} = -A_l(m) A_l(n)\, p_l - p_{l-1}, \qquad A_l(m) = m\, u_l(m)^2 v_l / \sqrt{l (l + 1)},
          \qquad \sqrt{2 l + 1}\, \Delta^l_{mn} = g_l p_l.

By :math:`\Delta_{-m,n} = (-1)^{l-n} \Delta_{mn}` and :math:`\Delta_{m,-n} = (-1)^{l+m} \Delta_{mn}` the orders
:math:`m, n \ge 0` are enough.

References: Trapani S., Navaza J. 2006, Acta Cryst. A 62, 262, doi:10.1107/S0108767306017478; Edmonds A. R. 1957,
Angular Momentum in Quantum Mechanics, Princeton University Press, sections 4.1 and 4.5.
"""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir
from jaxtyping import Array, ArrayLike, Complex, Float

from ._arithmetic import Pairs
from ._coefficients import _check_dense
from ._phases import check_angle, phases

#: As in `_legendre`: by the type of the recursion, the step of a lane's scale in bits, and how far below 1 an unscaled
#: value may be.
_SCALE = {True: (800, 960), False: (80, 72)}
#: Degrees in a turn of the loop: more than one, so that p and the value before it change places without a copy, and,
#: where float64 needs a scale, more between two looks at it. From degree to degree a value grows by less than L; one
#: that is scaled down contributes nothing.
_BLOCK, _SCALED_BLOCK = 2, 8
#: Lanes that run through all degrees together: few enough for cache.
_CHUNK = 16384


def rotate_alm(
    alm: Complex[Array, "... L 2*L-1"],
    alpha: Float[ArrayLike, ...],
    beta: Float[ArrayLike, ...],
    gamma: Float[ArrayLike, ...],
) -> Complex[Array, "... L 2*L-1"]:
    r"""The coefficients of a rotated field, of any spin.

    The rotation is active, by the Euler angles zyz: :math:`R = R_z(\alpha) R_y(\beta) R_z(\gamma)`, first by
    :math:`\gamma` about z, then by :math:`\beta` about the fixed y axis, then by :math:`\alpha` about the fixed z axis;
    the rotated field is :math:`f(R^{-1} x)`. Its coefficients are

    .. math:: a'_{lm} = \sum_{n=-l}^{l} D^l_{mn}(\alpha, \beta, \gamma)\, a_{ln}, \qquad
              D^l_{mn} = e^{-i m \alpha} d^l_{mn}(\beta) e^{-i n \gamma}.

    These are healpy's and ducc0's angles in the opposite order, ``rotate_alm(alm, psi=gamma, theta=beta, phi=alpha)``.
    Time grows as ``L**3`` and memory as ``L**2``; all rotations and fields of a batch share the recursion.

    Args:
        alm: coefficients of any spin.
        alpha: the last rotation, about z, in radians; angles broadcast against the leading axes of `alm`.
        beta: the rotation about y, in radians.
        gamma: the first rotation, about z, in radians.

    Returns:
        The coefficients, in the precision of `alm`, with the leading axes of all arguments broadcast.

    Raises:
        ValueError: the last axes of `alm` are not ``(L, 2 L - 1)``, an angle is not real, or the leading axes do not
            broadcast.

    References: Edmonds A. R. 1957, Angular Momentum in Quantum Mechanics, Princeton University Press; Trapani S.,
    Navaza J. 2006, Acta Cryst. A 62, 262, doi:10.1107/S0108767306017478.

    >>> import jax, jax.numpy as jnp
    >>> from armillary.sphere import alm_from_real, power_spectrum, rotate_alm
    >>> alm = alm_from_real(jax.random.normal(jax.random.key(0), (64,)))
    >>> turned = rotate_alm(alm, jnp.array([0.1, 0.2, 0.3]), 0.5, -1.0)
    >>> turned.shape
    (3, 8, 15)
    >>> bool(jnp.allclose(power_spectrum(turned), power_spectrum(alm), rtol=1e-5))
    True
    """
    alm = _check_dense(alm)
    dtype = alm.real.dtype
    angles = [check_angle(name, x, dtype) for name, x in (("alpha", alpha), ("beta", beta), ("gamma", gamma))]
    shapes = [alm.shape[:-2], *(x.shape for x in angles)]
    try:
        batch = np.broadcast_shapes(*shapes)
    except ValueError:
        raise ValueError(
            f"the leading axes of alm {shapes[0]}, alpha {shapes[1]}, beta {shapes[2]} and gamma {shapes[3]} must "
            "broadcast"
        ) from None
    return _rotate(jnp.broadcast_to(alm, (*batch, *alm.shape[-2:])), *angles)


@jax.jit
def _rotate(alm: Array, alpha: Array, beta: Array, gamma: Array) -> Array:
    L = alm.shape[-2]
    m = np.arange(1 - L, L)
    # Delta = S Delta^T S with S = (-1)**m = Z(pi); quarter turns about z are exact powers of i.
    for angle, quarters in ((gamma, 1), (beta, -2), (alpha, -3)):
        turn = phases(-angle, m) * _powers_of_i(quarters * m).astype(alm.dtype)
        alm = alm * turn[..., None, :]
        if quarters != -3:
            alm = _quarter_turn(alm)
    return alm


def _powers_of_i(k: np.ndarray) -> np.ndarray:
    return np.array([1, 1j, -1, -1j])[k % 4]


def _quarter_turn(alm: Array) -> Array:
    r""":math:`\sum_n \Delta^l_{nk} a_{ln}` in each degree."""
    *batch, L, _ = alm.shape
    half = (L + 1) // 2
    x = alm.reshape(-1, L, 2 * L - 1)
    positive, negative = x[:, :, L - 1 :], x[:, :, L - 1 :: -1] if L > 1 else x
    negative = negative * (np.arange(L) > 0)
    degree = np.arange(L)[:, None]
    # By the symmetry in n, columns k of the parity of l need the sum of both signs and the others the difference.
    same = jnp.stack([positive + negative, positive - negative])
    x = jnp.where(degree % 2 == 0, same, same[::-1])  # (parity of k, b, l, n)
    x = jnp.pad(x, [(0, 0), (0, 0), (0, 0), (0, 2 * half - L)])
    x = jnp.stack([x.real, x.imag], axis=2).reshape(2, -1, L, half, 2)
    x = x.transpose(0, 2, 4, 3, 1)  # (parity of k, l, parity of n, n // 2, column)
    y = _quarter_turn_p.bind(x, wide=x.dtype == np.float64 or bool(jax.config.jax_enable_x64))
    y = y.transpose(2, 4, 1, 3, 0).reshape(2, -1, L, 2 * half)[..., :L]  # (parity of n, column, l, k)
    positive, negative = y[0] + y[1], (y[0] - y[1]) * (1 - 2 * (degree % 2)).astype(y.dtype)
    out = jnp.concatenate([negative[..., :0:-1], positive], axis=-1).reshape(-1, 2, L, 2 * L - 1)
    return (out[:, 0] + 1j * out[:, 1]).reshape(*batch, L, 2 * L - 1)


def _turn(x: Array, *, wide: bool) -> Array:
    r""":math:`\sum_n \Delta^l_{nk} x_{ln}` over :math:`n \ge 0`, by the parities of n and k.

    Args:
        x: ``(parity of k, l, parity of n, n // 2, column)``.
        wide: the recursion runs in float64, and not in pairs of float32.

    Returns:
        The sums, ``(parity of k, l, parity of n, k // 2, column)``.
    """
    L, half = x.shape[1], x.shape[3]
    # Lanes of some orders k, all of one parity, and all n run through the degrees together, from their least k on.
    width = min(half, max(1, _CHUNK // (2 * half)))
    chunks = -(-half // width)
    step_bits, low_bits = _SCALE[wide]
    degrees = -(-L // _SCALED_BLOCK) * _SCALED_BLOCK
    tables = _tables(L, wide, degrees, width * chunks)
    scaled = bool(tables.exponent.any())
    block = _SCALED_BLOCK if scaled and wide else _BLOCK
    by_n = jax.tree.map(lambda v: jnp.asarray(v[..., :half]), tables)
    by_k = jax.tree.map(lambda v: jnp.asarray(v.reshape(-1, 2, chunks, width)), tables)
    parity = np.arange(2, dtype=np.int32)
    n = jnp.asarray(2 * np.arange(half, dtype=np.int32) + parity[:, None])
    scale = jnp.asarray(tables.scale[..., :half], x.dtype)
    x = jnp.pad(x, [(0, 0), (0, degrees - L), (0, 0), (0, 0), (0, 0)]) * scale[None, ..., None]

    def chunk(_: None, at: tuple[Array, Array]) -> tuple[None, Array]:
        q, j = at
        k = 2 * (j * width + np.arange(width, dtype=np.int32)) + q
        x_q = x[q]

        def step(degree: Array, state: Any, exponent: Array) -> tuple[Any, Array, Array]:
            """The state at a degree from that before, and the degree's part of the result."""
            slope_n, first_n, exponent_n = (jax.tree.map(lambda v: v[degree], v) for v in by_n[:3])
            slope_k, first_k, exponent_k = (jax.tree.map(lambda v: v[degree, q, j], v) for v in by_k[:3])
            state = _advance([v[:, :, None] for v in slope_n], slope_k, state, wide)
            # Lanes that start, of max(n, k) = l, are 0 so far; Delta_kn = (-1)^(k-n) Delta_nk.
            starts_n, starts_k = (n == degree)[:, :, None], (k == degree) & (n != degree)[:, :, None]
            sign = (1 - 2 * ((parity - degree) % 2))[:, None, None]
            state = tuple(
                p + starts_n * row + starts_k * (sign * column[:, :, None]).astype(p.dtype)
                for p, row, column in zip(state, first_k, first_n, strict=True)
            )
            values = state[0]
            if scaled:
                exponent = exponent + starts_n * exponent_k + starts_k * exponent_n[:, :, None]
                values = jnp.where(exponent == 0, values, 0)
            state, values = lax.optimization_barrier((state, values.astype(x.dtype)))
            x_l = x_q[degree]
            sums = [jnp.dot(values[i].T, x_l[i], precision=lax.Precision.HIGHEST) for i in range(2)]
            return state, exponent, jnp.stack(sums)

        def some_degrees(b: Array, carry: Any) -> Any:
            state, exponent, out = carry
            found = []
            for i in range(block):
                state, exponent, sums = step(b * block + i, state, exponent)
                found.append(sums)
            if scaled:
                # p and, in pairs, what stands for the value before it.
                size = jnp.maximum(abs(state[0]), abs(state[len(state) // 2]))
                up = (exponent < 0) & (size > 2.0 ** (step_bits - low_bits))
                factor = jnp.where(up, 2.0**-step_bits, 1.0).astype(state[0].dtype)
                state, exponent = tuple(v * factor for v in state), exponent + up
            return state, exponent, lax.dynamic_update_slice_in_dim(out, jnp.stack(found), b * block, 0)

        zero = jnp.zeros((2, half, width), tables.first[0].dtype)
        exponent = jnp.zeros(zero.shape if scaled else (), jnp.int32)
        carry = ((zero,) * len(tables.first), exponent, jnp.zeros((degrees, 2, width, x.shape[4]), x.dtype))
        return None, lax.fori_loop(k[0] // block, -(-L // block), some_degrees, carry)[2]

    q, j = (v.ravel() for v in np.meshgrid(parity, np.arange(chunks, dtype=np.int32), indexing="ij"))
    y = lax.scan(chunk, None, (jnp.asarray(q), jnp.asarray(j)))[1]
    y = y.reshape(2, chunks, *y.shape[1:])[:, :, :L].transpose(0, 2, 3, 1, 4, 5)
    y = y.reshape(2, L, 2, chunks * width, -1)[:, :, :, :half]
    return y * scale[:L].swapaxes(0, 1)[:, :, None, :, None]


def _advance(by_n: Any, by_k: Any, state: Any, wide: bool) -> Any:
    """The states ``(p, previous)``, or pairs of them, at the next degree."""
    if wide:
        p, previous = state
        return -(by_n[0] * by_k[0]) * p - previous, p
    nothing = jnp.zeros((1, 1, 1), jnp.float32)
    return Pairs.advance((*by_n, nothing, nothing), tuple(-v for v in by_k), state)


class _Tables(NamedTuple):
    """What the recursion needs, by degree, parity of the order, and order // 2, computed on the host."""

    slope: tuple[np.ndarray, ...]  # A at the degree before
    first: tuple[np.ndarray, ...]  # the state of the lanes that start in the degree, by the other order
    exponent: np.ndarray  # the exponents of `first`
    scale: np.ndarray  # u_l(m) (v_l / sqrt(2 l + 1))**(1/2): a factor on either side


@functools.lru_cache(maxsize=8)
def _tables(L: int, wide: bool, degrees: int, width: int) -> _Tables:
    """The tables, of `degrees` degrees and `width` orders of each parity: zeros beyond the bandlimit."""
    half = (L + 1) // 2
    m = np.arange(2 * half)
    degree = np.arange(L)[:, None].astype(np.longdouble)
    inside = m <= degree
    s = np.sqrt(np.where(inside, degree**2 - m**2, 0))
    t = degree[:, 0] * np.sqrt(np.abs(4 * degree[:, 0] ** 2 - 1))

    u, v = np.zeros_like(s), np.full(L, np.longdouble(3) ** 0.25)
    u[0, 0] = 1
    for row in range(1, L):
        u[row, :row] = 1 / (u[row - 1, :row] * s[row, :row])
        u[row, row] = (2 * row + 1) ** np.longdouble(-0.25)
        v[row] = t[row] / v[row - 1]
    slope = np.zeros_like(u)  # at the degree before
    slope[1:] = (m * u**2 * (v / np.sqrt(np.maximum(degree[:, 0] * (degree[:, 0] + 1), 1)))[:, None])[:-1]
    scale = u * np.sqrt(v / np.sqrt(2 * degree[:, 0] + 1))[:, None]

    # Delta^l_{ln} = (-1)^(l-n) binomial(2l, l+n)^(1/2) / 2^l
    logs = np.concatenate([[0], np.cumsum(np.log2(np.arange(1, 2 * L, dtype=np.longdouble)))])
    rows, order = np.arange(L)[:, None], np.minimum(m, np.arange(L)[:, None])
    bits = (logs[2 * rows] - logs[rows + order] - logs[rows - order]) / 2 - rows
    bits = bits - np.log2(np.where(inside, scale, 1)) - np.log2(scale[np.arange(L), np.arange(L)])[:, None]
    step_bits, low_bits = _SCALE[wide]
    exponent = np.where(inside, np.minimum(np.floor((bits + low_bits) / step_bits), 0), 0)
    mantissa = np.where(inside, np.exp2(bits - step_bits * exponent) * (1 - 2 * ((rows - m) % 2)), 0)

    def by_parity(x: np.ndarray) -> np.ndarray:
        x = np.pad(x, [(0, degrees - L), (0, 2 * (width - half))])
        return np.ascontiguousarray(x.reshape(degrees, width, 2).transpose(0, 2, 1))

    if wide:
        slopes: tuple[np.ndarray, ...] = (slope.astype(np.float64),)
        firsts: tuple[np.ndarray, ...] = (mantissa.astype(np.float64), np.zeros_like(mantissa, np.float64))
    else:
        slopes, firsts = Pairs.coefficients(slope, slope)[:2], Pairs.first(mantissa)
    return _Tables(
        tuple(by_parity(x) for x in slopes),
        tuple(by_parity(x) for x in firsts),
        by_parity(exponent.astype(np.int32)),
        by_parity(scale.astype(np.float64)),
    )


def _transposed(y: Array, **params: Any) -> Array:
    # Delta_kn = (-1)^(k-n) Delta_nk: the transpose is the sum itself, between exchanges of the parities.
    sign = jnp.asarray([[1, -1], [-1, 1]], y.dtype)[:, None, :, None, None]
    return _quarter_turn_p.bind(y.swapaxes(0, 2) * sign, **params).swapaxes(0, 2)


def _batched(args: Any, axes: Any, **params: Any) -> tuple[Array, int]:
    x = jnp.moveaxis(args[0], axes[0], 4)
    y = _quarter_turn_p.bind(x.reshape(*x.shape[:4], -1), **params)
    return y.reshape(x.shape), 4


_quarter_turn_p = Primitive("armillary_quarter_turn")
_quarter_turn_p.def_impl(jax.jit(_turn, static_argnames="wide"))
_quarter_turn_p.def_abstract_eval(lambda x, **_: x.update(weak_type=False))
mlir.register_lowering(_quarter_turn_p, mlir.lower_fun(_turn, multiple_results=False))
batching.primitive_batchers[_quarter_turn_p] = _batched
ad.deflinear2(
    _quarter_turn_p,
    lambda ct, _, **params: [ct if type(ct) is ad.Zero else _transposed(ct, **params)],
)
