"""BlackJAX's ChEES-HMC: jittered trajectories, of a length tuned by an ensemble of chains."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar

import blackjax
import jax
import jax.numpy as jnp
import optax
from blackjax.mcmc.dynamic_hmc import halton_sequence
from jaxtyping import PyTree

from armillary.core.protocols import Adaptation, Target

from . import _settings
from ._langevin import TunedState

# The quasi-random sequence that jitters the trajectories has two to this power terms before it repeats.
_JITTER_BITS = 14


def _num_steps(i: jax.Array, mean_steps: jax.Array) -> jax.Array:
    return jnp.asarray(jnp.ceil(halton_sequence(i, _JITTER_BITS) * mean_steps), dtype=int)


@dataclass(frozen=True)
class ChEES:
    """Hamiltonian Monte Carlo with the trajectory length that maximises the ChEES criterion.

    Hoffman, Radul & Sountsov 2021 (AISTATS, PMLR 130, 3907). The criterion is an average over chains, while a NumPyro
    kernel sees one chain: each chain therefore tunes itself on an ensemble of ``num_walkers``, at the start, over the
    number of warm-up steps; one walker then goes on as the chain, and the warm-up steps themselves are burn-in.

    Args:
        step_size: the first step size, and that used where there is no warm-up.
        trajectory_length: used where there is no warm-up.
        num_walkers: chains of the tuning ensemble.
        learning_rate: of the Adam optimiser of the trajectory length.
        target_acceptance_rate: what the step size is tuned to.
        max_num_integration_steps: the longest trajectory.

    Raises:
        ValueError: a setting out of its range.
    """

    step_size: float = 0.1
    trajectory_length: float = 1.5
    num_walkers: int = 16
    learning_rate: float = 0.05
    target_acceptance_rate: float = 0.651
    max_num_integration_steps: int = 1000

    traits: ClassVar[frozenset[str]] = frozenset()

    def __post_init__(self) -> None:
        _settings.positive("step_size", self.step_size)
        _settings.positive("trajectory_length", self.trajectory_length)
        _settings.count("num_walkers", self.num_walkers, 2)
        _settings.positive("learning_rate", self.learning_rate)
        _settings.fraction("target_acceptance_rate", self.target_acceptance_rate)
        _settings.count("max_num_integration_steps", self.max_num_integration_steps)

    def build(
        self, target: Target, *, step_size: Any = None, num_steps: Any = None, inverse_mass_matrix: Any = None
    ) -> Any:
        """The algorithm: HMC of ``ceil(u * num_steps)`` steps, ``u`` quasi-random in [0, 1)."""
        dtype = jnp.result_type(*jax.tree.leaves(target.structure))
        if num_steps is None:
            num_steps = jnp.asarray(math.ceil(self.trajectory_length / self.step_size), dtype)
        algorithm = blackjax.dhmc(
            target.log_density,
            self.step_size if step_size is None else step_size,
            jnp.ones(target.dim, dtype) if inverse_mass_matrix is None else inverse_mass_matrix,
            next_random_arg_fn=lambda i: i + 1,
            integration_steps_fn=_num_steps,
            integration_steps_params=(num_steps,),
        )
        # BlackJAX hands the key itself to the state as its "random argument"; here that is the index of the jitter.
        return blackjax.SamplingAlgorithm(
            lambda position, rng_key=None: blackjax.dhmc.init(position, target.log_density, jnp.zeros((), jnp.int32)),
            algorithm.step,
        )

    def adaptation(self, target: Target, num_warmup: int) -> Adaptation:
        """The tuning of the step size and of the trajectory length by an ensemble, done in ``init``."""
        tuning = blackjax.chees_adaptation(
            target.log_density,
            self.num_walkers,
            target_acceptance_rate=self.target_acceptance_rate,
            max_leapfrog_steps=self.max_num_integration_steps,
            mass_matrix_estimation="diagonal",
            adaptation_info_fn=lambda *args: None,
        )

        def init(key: jax.Array, position: PyTree) -> TunedState:
            start_key, tune_key = jax.random.split(key)
            keys = jax.random.split(start_key, self.num_walkers)
            positions = jax.vmap(target.initial_position)(keys)
            # The chain's own start is one of the walkers, and is the one that goes on.
            positions = jax.tree.map(lambda walkers, own: walkers.at[0].set(own), positions, position)
            (chains, tuned), _ = tuning.run(
                tune_key, positions, self.step_size, optax.adam(self.learning_rate), num_warmup
            )
            chain = jax.tree.map(lambda leaf: leaf[0], chains)
            chain = chain._replace(random_generator_arg=jnp.zeros((), jnp.int32))
            parameters = {
                "step_size": tuned["step_size"],
                "num_steps": tuned["integration_steps_params"][0],
                "inverse_mass_matrix": tuned["inverse_mass_matrix"],
            }
            dtype = jnp.result_type(*jax.tree.leaves(target.structure))
            return TunedState(chain, jax.tree.map(lambda leaf: jnp.asarray(leaf, dtype), parameters))

        def step(key: jax.Array, i: jax.Array, state: TunedState) -> tuple[TunedState, Any]:
            chain, info = self.build(target, **state.parameters).step(key, state.algorithm)
            return state._replace(algorithm=chain), info

        def result(state: TunedState) -> tuple[PyTree, dict[str, Any]]:
            return state.algorithm, state.parameters

        return Adaptation(init, step, result)
