"""BlackJAX's Langevin samplers: MALA and microcanonical Langevin."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import blackjax
import jax
import jax.numpy as jnp
from blackjax.adaptation.step_size import dual_averaging_adaptation
from jaxtyping import PyTree

from armillary.core.protocols import Adaptation, Target

from . import _settings


class StepSizeState(NamedTuple):
    """The chain's state, and that of the dual averaging of its step size."""

    algorithm: PyTree
    averaging: PyTree


@dataclass(frozen=True)
class MALA:
    """The Metropolis-adjusted Langevin algorithm of BlackJAX (Roberts & Tweedie 1996, Bernoulli 2, 341).

    It has no preconditioner: for parameters of very different scales use NUTS.

    Args:
        step_size: the first one where there is a warm-up.
        target_acceptance_rate: what the warm-up tunes the step size to; 0.574 is optimal in high dimension.

    Raises:
        ValueError: a setting out of its range.
    """

    step_size: float = 0.1
    target_acceptance_rate: float = 0.574

    traits: ClassVar[frozenset[str]] = frozenset()

    def __post_init__(self) -> None:
        _settings.positive("step_size", self.step_size)
        _settings.fraction("target_acceptance_rate", self.target_acceptance_rate)

    def build(self, target: Target, *, step_size: Any = None) -> Any:
        """The algorithm, with the step size that adaptation found or the settings'."""
        return blackjax.mala(target.log_density, self.step_size if step_size is None else step_size)

    def adaptation(self, target: Target, num_warmup: int) -> Adaptation:
        """Dual averaging of the step size."""
        averaging_init, averaging_update, _ = dual_averaging_adaptation(self.target_acceptance_rate)
        dtype = jnp.result_type(*jax.tree.leaves(target.structure))

        def init(key: jax.Array, position: PyTree) -> StepSizeState:
            averaging = averaging_init(jnp.asarray(self.step_size, dtype))
            return StepSizeState(self.build(target).init(position, key), averaging)

        def step(key: jax.Array, i: jax.Array, state: StepSizeState) -> tuple[StepSizeState, Any]:
            algorithm = self.build(target, step_size=jnp.exp(state.averaging.log_step_size))
            chain, info = algorithm.step(key, state.algorithm)
            return StepSizeState(chain, averaging_update(state.averaging, info.acceptance_rate)), info

        def result(state: StepSizeState) -> tuple[PyTree, dict[str, Any]]:
            return state.algorithm, {"step_size": jnp.exp(state.averaging.log_step_size_avg)}

        return Adaptation(init, step, result)


class TunedState(NamedTuple):
    """The chain's state and the parameters with which it goes on."""

    algorithm: PyTree
    parameters: dict[str, Any]


@dataclass(frozen=True)
class MCLMC:
    """Microcanonical Langevin Monte Carlo of BlackJAX (Robnik et al. 2023, JMLR 24, 311).

    It is not Metropolis-adjusted: its step size is tuned so that the variance of the energy error a dimension is
    ``desired_energy_var``, and the bias is of that order. BlackJAX tunes in one go, so with a warm-up of n steps the
    tuning of n steps is done at the start, and the n steps of the warm-up itself are burn-in.

    Args:
        step_size: used as it is where there is no warm-up.
        momentum_decoherence_length: likewise; the length L of the method.
        desired_energy_var: what the step size is tuned to.

    Raises:
        ValueError: a setting out of its range, or a target of one dimension, where the method is not defined.
    """

    step_size: float = 0.1
    momentum_decoherence_length: float = 1.0
    desired_energy_var: float = 5e-4

    traits: ClassVar[frozenset[str]] = frozenset()
    bias: ClassVar[float] = 0.02

    def __post_init__(self) -> None:
        _settings.positive("step_size", self.step_size)
        _settings.positive("momentum_decoherence_length", self.momentum_decoherence_length)
        _settings.positive("desired_energy_var", self.desired_energy_var)

    def build(self, target: Target, *, step_size: Any = None, L: Any = None, inverse_mass_matrix: Any = 1.0) -> Any:
        """The algorithm, with what the tuning found or the settings."""
        if target.dim < 2:
            raise ValueError("mclmc needs at least 2 parameters, and this target has 1: use nuts")
        return blackjax.mclmc(
            target.log_density,
            L=self.momentum_decoherence_length if L is None else L,
            step_size=self.step_size if step_size is None else step_size,
            inverse_mass_matrix=inverse_mass_matrix,
        )

    def adaptation(self, target: Target, num_warmup: int) -> Adaptation:
        """BlackJAX's tuning of the step size, the length and a diagonal preconditioner, done in ``init``."""

        def init(key: jax.Array, position: PyTree) -> TunedState:
            start_key, tune_key = jax.random.split(key)
            chain = self.build(target).init(position, start_key)
            chain, tuned, _ = blackjax.mclmc_find_L_and_step_size(
                mclmc_kernel=blackjax.mcmc.mclmc.build_kernel(),
                logdensity_fn=target.log_density,
                # Each of the three stages takes a tenth of this.
                num_steps=max(10 * num_warmup // 3, 100),
                state=chain,
                rng_key=tune_key,
                desired_energy_var=self.desired_energy_var,
            )
            return TunedState(chain, tuned._asdict())

        def step(key: jax.Array, i: jax.Array, state: TunedState) -> tuple[TunedState, Any]:
            chain, info = self.build(target, **state.parameters).step(key, state.algorithm)
            return state._replace(algorithm=chain), info

        def result(state: TunedState) -> tuple[PyTree, dict[str, Any]]:
            return state.algorithm, state.parameters

        return Adaptation(init, step, result)
