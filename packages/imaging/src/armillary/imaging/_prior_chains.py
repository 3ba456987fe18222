"""Draws from a prior that cannot be drawn from exactly: the ends of long chains, which are checked against each other.

Nested sampling and tempering from the prior need draws of it and not its normaliser, so that the evidence of a prior
that is proper but not normalised is that of the model all the same.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PyTree

from armillary.core import Target

from . import _px_mala

# Rounds of tuning the step size and moves in each; then the moves between checks, which double, and their limit.
_TUNING_ROUNDS, _TUNING_STEPS = 100, 20
_FIRST_STEPS, _MOST_STEPS = 1000, 128_000
# Of the means of the chains: chains of twenty autocorrelation times have this.
_RHAT = 1.05
_RATE = 0.574


class PriorDraws(NamedTuple):
    """Where particles start, and what is known of it.

    Args:
        draw: the positions of all particles, given a key.
        diagnostics: of the chains; empty where draws are exact.
        fault: why the positions are not to be used, or nothing.
    """

    draw: Callable[[jax.Array], PyTree]
    diagnostics: dict[str, Any]
    fault: str


def prior_draws(key: jax.Array, target: Target, parts: tuple[Any, Any, Any], num: int) -> PriorDraws:
    """``num`` draws from the prior of a target: exact where it has `sample_prior`, else by chains of proximal MALA."""
    if target.sample_prior is not None and _can_sample(target.sample_prior):
        exact = target.sample_prior
        return PriorDraws(lambda key: jax.vmap(exact)(jax.random.split(key, num)), {}, "")
    start_key, tuning_key, key = jax.random.split(key, 3)
    first = target.initial_position(start_key)
    states = jax.tree.map(lambda leaf: jnp.broadcast_to(leaf, (num, *jnp.shape(leaf))), first)
    kernel = _px_mala.build_kernel()

    def move(key: jax.Array, positions: PyTree, step_size: Array, num_steps: Any) -> tuple[PyTree, Array, _Sums]:
        def chain(key: jax.Array, position: PyTree) -> tuple[PyTree, Array, _Sums]:
            state: Any = _px_mala.init(position, *parts, step_size)

            def step(i: Array, carry: tuple[Any, Array, _Sums]) -> tuple[Any, Array, _Sums]:
                state, rates, sums = carry
                state, info = kernel(jax.random.fold_in(key, i), state, *parts, step_size, step_size)
                return state, rates + info.acceptance_rate, sums.add((state.position, state.logdensity))

            nothing = _Sums.empty((state.position, state.logdensity))
            zero = jnp.zeros_like(state.logdensity)
            state, rates, sums = jax.lax.fori_loop(0, num_steps, step, (state, zero, nothing))
            return state.position, rates / num_steps, sums

        positions, rates, sums = jax.vmap(chain)(jax.random.split(key, num), positions)
        return positions, rates.mean(), sums

    @jax.jit
    def tuned(key: jax.Array, positions: PyTree) -> tuple[PyTree, Array]:
        def a_round(i: Array, carry: tuple[PyTree, Array]) -> tuple[PyTree, Array]:
            positions, step_size = carry
            positions, rate, _ = move(jax.random.fold_in(key, i), positions, step_size, _TUNING_STEPS)
            gain = 4.0 / (1 + 0.2 * i)
            return positions, (step_size * jnp.exp(gain * (rate - _RATE))).astype(step_size.dtype)

        dtype = jnp.result_type(*jax.tree.leaves(positions))
        return jax.lax.fori_loop(0, _TUNING_ROUNDS, a_round, (positions, jnp.asarray(1.0, dtype)))

    positions, step_size = tuned(tuning_key, states)
    longer = jax.jit(move)
    steps, rhat = _FIRST_STEPS, math.inf
    while True:
        positions, rate, sums = longer(jax.random.fold_in(key, steps), positions, step_size, steps)
        rhat = float(sums.rhat(steps))
        if rhat < _RHAT or 2 * steps > _MOST_STEPS or not math.isfinite(rhat):
            break
        steps *= 2
    diagnostics = {"prior_steps": steps, "prior_rhat": rhat, "prior_acceptance_rate": float(rate)}
    fault = ""
    if not rhat < _RHAT:
        fault = (
            f"the prior has no exact draws, and chains of {steps} moves do not agree on it (R-hat {rhat:.3g}, allowed "
            f"{_RHAT}): the prior may be improper, such as total variation by itself, or need sample_prior="
        )
    return PriorDraws(lambda key: positions, diagnostics, fault)


class _Sums(NamedTuple):
    """Of a chain: the sums of what is watched and of its squares, about where it started."""

    origin: PyTree
    first: PyTree
    second: PyTree

    @classmethod
    def empty(cls, x: PyTree) -> _Sums:
        zeros = jax.tree.map(jnp.zeros_like, x)
        return cls(x, zeros, zeros)

    def add(self, x: PyTree) -> _Sums:
        shifted = jax.tree.map(jnp.subtract, x, self.origin)
        return _Sums(
            self.origin,
            jax.tree.map(jnp.add, self.first, shifted),
            jax.tree.map(lambda total, a: total + a**2, self.second, shifted),
        )

    def rhat(self, num_steps: int) -> Float[Array, ""]:
        """The largest R-hat over all elements (Gelman & Rubin 1992, Stat. Sci. 7, 457), chains on the first axis."""

        def of(origin: Array, first: Array, second: Array) -> Array:
            mean = first / num_steps
            within = jnp.mean(second / num_steps - mean**2, axis=0)
            between = jnp.var(origin + mean, axis=0, ddof=1)
            return jnp.max(jnp.sqrt(1 + between / within))

        return jnp.max(jnp.stack(jax.tree.leaves(jax.tree.map(of, *self))))


def _can_sample(sample: Callable[[jax.Array], PyTree]) -> bool:
    """Whether a prior's draws are implemented: a distribution without them says so when it is asked."""
    try:
        jax.eval_shape(sample, jax.random.key(0))
    except NotImplementedError:
        return False
    return True
