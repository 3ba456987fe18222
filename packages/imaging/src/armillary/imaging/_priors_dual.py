"""Proximal operators of norms of a linear map, by accelerated projected gradients on the dual problem."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from ._priors import euclidean_norm

#: Iterations after which one gives up; a prior that needs them has a step far above what is useful.
_MOST_ITERATIONS = 5000


def dual_prox(
    x: Float[Array, ...],
    threshold: Float[Array, ""],
    analysis: Callable[[Array], Array],
    synthesis: Callable[[Array], Array],
    *,
    opnorm: float,
    grouped: bool,
    tolerance: float,
) -> Float[Array, ...]:
    r"""The minimiser of ``threshold * sum(norm(A u)) + |u - x|**2 / 2``.

    It is :math:`u = x - A^T q`, with the q, nowhere larger than the threshold, that makes :math:`|u|` least. The
    duality gap is the sum of :math:`\mathrm{threshold}\,|A u| - q \cdot A u`, no term of which is negative, and bounds
    the error: :math:`|u - u^*|^2 \le 2\,\mathrm{gap}`. The iterations stop where this bound is ``tolerance * |x|``, or
    the gap a few units of rounding of its terms.

    Beck A., Teboulle M. 2009, IEEE Trans. Image Process. 18, 2419, doi:10.1109/TIP.2009.2028250; restarts: O'Donoghue
    B., Candès E. 2015, Found. Comput. Math. 15, 715, doi:10.1007/s10208-013-9150-3.

    Args:
        x: one array.
        threshold: not negative.
        analysis: A.
        synthesis: its adjoint.
        opnorm: of A, or a bound of it.
        grouped: the norm is the Euclidean one along the first axis of ``A u``, and otherwise the absolute value.
        tolerance: relative.
    """
    epsilon = jnp.finfo(x.dtype).eps
    enough = (tolerance * jnp.linalg.norm(x.ravel())) ** 2 / 2
    rate = jnp.asarray(1 / opnorm**2, x.dtype)

    def norm(v: Array) -> Array:
        return euclidean_norm(v, axis=0) if grouped else jnp.abs(v)

    def project(q: Array) -> Array:
        if not grouped:
            return jnp.clip(q, -threshold, threshold)
        size = norm(q)
        return q * jnp.where(size > threshold, threshold / jnp.where(size > 0, size, 1), 1)

    def iterate(state: Any) -> Any:
        # v is A u for the u that belongs to q, and by linearity extrapolates with it.
        q, v, z, v_z, momentum, _, k = state
        new_q = project(z + rate * v_z)
        new_v = analysis(x - synthesis(new_q))
        moved = new_q - q
        restart = jnp.sum((z - new_q) * moved) > 0
        after = jnp.where(restart, 1, (1 + jnp.sqrt(1 + 4 * momentum**2)) / 2)
        ahead = jnp.where(restart, 0, (momentum - 1) / after)
        terms, paired = threshold * norm(new_v), new_q * new_v
        gap = jnp.sum(terms - (paired.sum(axis=0) if grouped else paired))
        unfinished = gap > jnp.maximum(enough, 4 * epsilon * jnp.sum(terms))
        return new_q, new_v, new_q + ahead * moved, new_v + ahead * (new_v - v), after, unfinished, k + 1

    v = analysis(x)
    q = jnp.zeros_like(v)
    start = q, v, q, v, jnp.ones((), x.dtype), jnp.array(True), 0
    q = lax.while_loop(lambda state: state[5] & (state[6] < _MOST_ITERATIONS), iterate, start)[0]
    return x - synthesis(q)
