"""The normal approximation about a mode, from which a chain may start."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float, PyTree

from ._bfgs import bfgs

# Searches begin at these parts of the way from the origin to the position. Of parameters with bounds the origin is the
# middle, and far out is where they are flat: a search that starts there may end in a corner and not at the mode.
_STARTS = np.array([1.0, 0.3, 0.0])


class Laplace(NamedTuple):
    """A mode, the log-density there, the covariance of the normal, and a draw of it."""

    mode: PyTree
    log_density: Array
    covariance: Float[Array, "dim dim"]
    draw: PyTree


def laplace(
    log_density: Callable[[PyTree], Array],
    position: PyTree,
    key: jax.Array,
    *,
    reach: float = 0.5,
    growth: float = 30.0,
    max_evaluations: int = 500,
) -> Laplace:
    """The normal about the mode uphill of a position; it can be traced and mapped over chains.

    By BFGS (Nocedal & Wright 2006, ch. 6) from the position, nearer to the origin, and from there, of which the highest
    end is taken, and then by Newton's steps with a Hessian of differences of the gradient, in coordinates in which the
    normal found so far is the standard one: half a standard deviation to either side, so that it is the curvature over
    the bulk and no rounding. It costs gradients alone, 2 dim of them for each of three rounds.

    Args:
        log_density: of one position.
        position: where to start from.
        key: for the draw.
        reach: how many standard deviations the differences go to either side, which the above is for half of one.
        growth: a direction that is flat or rises is taken as so many times as wide as it was, in each round.
        max_evaluations: of the log-density with its gradient in each search, after which the best is taken.
    """
    start, unravel = ravel_pytree(position)
    value_and_grad = jax.value_and_grad(lambda x: -log_density(unravel(x)))
    dim = len(start)
    identity = jnp.eye(dim, dtype=start.dtype)
    starts = _STARTS[:, None].astype(start.dtype) * start
    all_found = jax.lax.map(lambda x: bfgs(value_and_grad, x, max_evaluations=max_evaluations), starts)
    best = jnp.argmin(jnp.where(jnp.isfinite(all_found.value), all_found.value, jnp.inf))
    found = jax.tree.map(lambda leaf: leaf[best], all_found)

    def newton(_: Array, state: tuple[Array, Array, Array, Array]) -> tuple[Array, Array, Array, Array]:
        x, value, slope, factor = state
        shifts = reach * jnp.concatenate([factor.T, -factor.T])

        def refine(slopes: Array) -> tuple[Array, Array]:
            hessian = (slopes[:dim] - slopes[dim:]) @ factor / (2 * reach)
            scales, axes = jnp.linalg.eigh((hessian + hessian.T) / 2)
            scales = jnp.where(jnp.isfinite(scales), jnp.maximum(scales, 1 / growth**2), 1)
            axes = jnp.where(jnp.isfinite(axes), axes, identity)
            refined = factor @ (axes / jnp.sqrt(scales))
            return x - refined @ (refined.T @ slope), refined

        def visit(i: Array, carry: tuple) -> tuple:
            slopes, refined, *_ = carry
            # To either side along each direction, and last where Newton's step leads.
            point, refined = jax.lax.cond(
                i < 2 * dim, lambda: (x + shifts[jnp.minimum(i, 2 * dim - 1)], refined), lambda: refine(slopes)
            )
            there, gradient = value_and_grad(point)
            slopes = jnp.where((jnp.arange(2 * dim) == i)[:, None], gradient, slopes)
            return slopes, refined, point, there, gradient

        slopes = jnp.zeros((2 * dim, dim), x.dtype)
        _, refined, ahead, there, gradient = jax.lax.fori_loop(0, 2 * dim + 1, visit, (slopes, factor, x, value, slope))
        lower = there <= value
        return jnp.where(lower, ahead, x), jnp.where(lower, there, value), jnp.where(lower, gradient, slope), refined

    factor = jnp.linalg.cholesky((found.covariance + found.covariance.T) / 2)
    factor = jnp.where(jnp.all(jnp.isfinite(factor)), factor, identity)
    mode, value, _, factor = jax.lax.fori_loop(0, 3, newton, (found.x, found.value, found.slope, factor))
    draw = mode + factor @ jax.random.normal(key, mode.shape, mode.dtype)
    return Laplace(unravel(mode), -value, factor @ factor.T, unravel(draw))
