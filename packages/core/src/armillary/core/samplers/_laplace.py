"""The normal approximation about a mode, from which a chain may start."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float, PyTree

# Searches begin at these parts of the way from the origin to the position. Of parameters with bounds the origin is the
# middle, and far out is where they are flat: a search that starts there may end in a corner and not at the mode.
_STARTS = np.array([1.0, 0.3, 0.0])


class Laplace(NamedTuple):
    """A mode, the covariance of the normal there, and a draw of it."""

    mode: PyTree
    covariance: Float[Array, "dim dim"]
    draw: PyTree


class _Search(NamedTuple):
    x: Array
    value: Array
    slope: Array
    covariance: Array
    direction: Array
    step: Array
    fresh: Array
    done: Array
    evaluations: Array


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
    # Of the slope in units of the covariance so far, which is too small where BFGS has not been yet.
    tolerance = jnp.sqrt(jnp.finfo(start.dtype).eps)

    def downhill(covariance: Array, slope: Array) -> Array:
        return -covariance @ slope

    def body(now: _Search) -> _Search:
        x = now.x + now.step * now.direction
        value, slope = value_and_grad(x)
        ahead = slope @ now.direction
        finite = jnp.isfinite(value) & jnp.all(jnp.isfinite(slope))
        along = now.slope @ now.direction
        # Armijo's condition, but for rounding; where it fails a shorter step, at last straight down and afresh.
        slack = 10 * jnp.finfo(x.dtype).eps * jnp.abs(now.value)
        better = finite & (value <= now.value + 1e-4 * now.step * along + slack)
        difference, change = x - now.x, slope - now.slope
        curvature = difference @ change
        curved = better & (ahead > 0.9 * along) & (curvature > 0)
        rho = 1 / jnp.where(curved, curvature, 1)
        # The first step knows no scale: the identity is given that of the curvature along it.
        scale = jnp.where(now.fresh, curvature / jnp.maximum(change @ change, jnp.finfo(x.dtype).tiny), 1)
        base = now.covariance * scale
        left = identity - rho * jnp.outer(difference, change)
        updated = left @ base @ left.T + rho * jnp.outer(difference, difference)
        stuck = ~better & (now.step < 1e-8)
        covariance = jnp.where(curved, updated, jnp.where(stuck, identity, now.covariance))
        slope = jnp.where(better, slope, now.slope)
        direction = jnp.where(better | stuck, downhill(covariance, slope), now.direction)
        fresh = jnp.where(curved, False, now.fresh | stuck)
        first = 1 / jnp.maximum(jnp.linalg.norm(slope), 1)
        # A step that was taken and too short to see the curvature is tried longer.
        grown = jnp.where(better & ~curved & jnp.isfinite(now.value), 2.0, 1.0) * jnp.where(fresh, first, 1.0)
        step = jnp.where(better | stuck, grown, 0.3 * now.step)
        small = jnp.sqrt(jnp.maximum(slope @ covariance @ slope, 0)) < tolerance
        return _Search(
            jnp.where(better, x, now.x),
            jnp.where(better, value, now.value),
            slope,
            covariance,
            direction,
            step,
            fresh,
            (better & ~fresh & small) | (stuck & now.fresh),
            now.evaluations + 1,
        )

    # The density is called at two places of the program only, here and in Newton's steps: of one that takes long to
    # compile, each costs as much again. So the search begins with a step of no length from a value of infinity.
    zeros = jnp.zeros_like(start)
    infinity, one = jnp.array([jnp.inf, 1], start.dtype)
    begun = _Search(
        start, infinity, zeros, identity, zeros, one, jnp.array(True), jnp.array(False), jnp.zeros((), jnp.int32)
    )

    def search(x: Array) -> _Search:
        return jax.lax.while_loop(
            lambda now: ~now.done & (now.evaluations < max_evaluations), body, begun._replace(x=x)
        )

    all_found = jax.lax.map(search, _STARTS[:, None].astype(start.dtype) * start)
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
    mode, _, _, factor = jax.lax.fori_loop(0, 3, newton, (found.x, found.value, found.slope, factor))
    draw = mode + factor @ jax.random.normal(key, mode.shape, mode.dtype)
    return Laplace(unravel(mode), factor @ factor.T, unravel(draw))
