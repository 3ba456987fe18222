"""A search for a minimum that can be traced, mapped over starting points, and compiles the function once."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float


class Search(NamedTuple):
    """Where a search is: the best point, its value and slope, and the inverse Hessian that the steps gave."""

    x: Float[Array, " dim"]
    value: Array
    slope: Float[Array, " dim"]
    covariance: Float[Array, "dim dim"]
    direction: Float[Array, " dim"]
    step: Array
    fresh: Array
    done: Array
    evaluations: Array


def bfgs(
    value_and_grad: Callable[[Array], tuple[Array, Array]],
    start: Float[Array, " dim"],
    *,
    scaled: bool = False,
    tolerance: float | None = None,
    max_evaluations: int = 500,
) -> Search:
    """The minimum downhill of a point, by BFGS (Nocedal & Wright 2006, ch. 6) with steps that shorten.

    Args:
        value_and_grad: of one point; not a number where the function is not defined, which the search goes around.
        start: the point.
        scaled: the coordinates are such that the Hessian is near the identity, and the first step is Newton's.
        tolerance: of the slope in units of the covariance so far; by default the root of the rounding.
        max_evaluations: after which the best is taken.
    """
    dtype = start.dtype
    identity = jnp.eye(len(start), dtype=dtype)
    if tolerance is None:
        tolerance = float(jnp.finfo(dtype).eps) ** 0.5

    def body(now: Search) -> Search:
        x = now.x + now.step * now.direction
        value, slope = value_and_grad(x)
        ahead = slope @ now.direction
        finite = jnp.isfinite(value) & jnp.all(jnp.isfinite(slope))
        along = now.slope @ now.direction
        # Armijo's condition, but for rounding; where it fails a shorter step, at last straight down and afresh.
        slack = 10 * jnp.finfo(dtype).eps * jnp.abs(now.value)
        better = finite & (value <= now.value + 1e-4 * now.step * along + slack)
        difference, change = x - now.x, slope - now.slope
        curvature = difference @ change
        curved = better & (ahead > 0.9 * along) & (curvature > 0)
        rho = 1 / jnp.where(curved, curvature, 1)
        # The first step knows no scale: the identity is given that of the curvature along it.
        scale = jnp.where(now.fresh, curvature / jnp.maximum(change @ change, jnp.finfo(dtype).tiny), 1)
        base = now.covariance * scale
        left = identity - rho * jnp.outer(difference, change)
        updated = left @ base @ left.T + rho * jnp.outer(difference, difference)
        stuck = ~better & (now.step < 1e-8)
        covariance = jnp.where(curved, updated, jnp.where(stuck, identity, now.covariance))
        slope = jnp.where(better, slope, now.slope)
        direction = jnp.where(better | stuck, -covariance @ slope, now.direction)
        fresh = jnp.where(curved, False, now.fresh | stuck)
        first = 1 / jnp.maximum(jnp.linalg.norm(slope), 1)
        # A step that was taken and too short to see the curvature is tried longer.
        grown = jnp.where(better & ~curved & jnp.isfinite(now.value), 2.0, 1.0) * jnp.where(fresh, first, 1.0)
        step = jnp.where(better | stuck, grown, 0.3 * now.step)
        small = jnp.sqrt(jnp.maximum(slope @ covariance @ slope, 0)) < tolerance
        return Search(
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

    # The function is called at one place of the program: of one that takes long to compile, each costs as much again.
    # So the search begins with a step of no length from a value of infinity.
    zeros = jnp.zeros_like(start)
    infinity, one = jnp.array([jnp.inf, 1], dtype)
    first = Search(
        start, infinity, zeros, identity, zeros, one, jnp.array(not scaled), jnp.array(False), jnp.zeros((), jnp.int32)
    )
    return jax.lax.while_loop(lambda now: ~now.done & (now.evaluations < max_evaluations), body, first)
