"""Random-walk Metropolis, as a BlackJAX algorithm behind an Armillary sampler."""

from dataclasses import dataclass
from functools import partial
from typing import ClassVar, NamedTuple

import jax
import jax.numpy as jnp
from blackjax.base import SamplingAlgorithm
from jax import Array
from jax.flatten_util import ravel_pytree
from jax.typing import ArrayLike


class RandomWalkState(NamedTuple):
    """A position and its log-density."""

    position: dict[str, Array]
    logdensity: Array


class RandomWalkInfo(NamedTuple):
    """What happened to the proposal."""

    acceptance_rate: Array
    is_accepted: Array


@dataclass(frozen=True)
class RandomWalk:
    """Random-walk Metropolis: a Gaussian step from where the chain is, taken with probability min(1, p'/p).

    Args:
        scale: the standard deviation of the step in each unconstrained parameter.
    """

    scale: float = 1.0
    traits: ClassVar[frozenset[str]] = frozenset()  # it needs a log-density and nothing more

    def build(self, target, *, scale: ArrayLike | None = None) -> SamplingAlgorithm:
        """The algorithm on a target."""
        width = self.scale if scale is None else scale

        def init(position, rng_key=None):
            return RandomWalkState(position, target.log_density(position))

        def step(rng_key, state):
            key_move, key_accept = jax.random.split(rng_key)
            x, unravel = ravel_pytree(state.position)
            move = jnp.asarray(width, x.dtype) * jax.random.normal(key_move, x.shape, x.dtype)
            proposed = init(unravel(x + move))
            rate = jnp.minimum(jnp.exp(proposed.logdensity - state.logdensity), 1.0)
            accepted = jax.random.uniform(key_accept) < rate  # False where the rate is NaN
            return jax.tree.map(partial(jnp.where, accepted), proposed, state), RandomWalkInfo(rate, accepted)

        return SamplingAlgorithm(init, step)
