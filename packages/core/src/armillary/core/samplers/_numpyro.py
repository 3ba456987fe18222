"""NumPyro's own NUTS and HMC."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import blackjax
import jax
import numpyro.infer
from jaxtyping import Array, PyTree

from armillary.core.protocols import Adaptation, Target

from . import _settings


class NumPyroState(NamedTuple):
    """NumPyro's state, with the position and the log-density by the names that BlackJAX gives them."""

    position: PyTree
    logdensity: Array
    hmc: Any


class NumPyroInfo(NamedTuple):
    """What NumPyro says of a transition."""

    acceptance_rate: Array
    is_divergent: Array
    energy: Array
    num_integration_steps: Array


@dataclass(frozen=True)
class _NumPyro(_settings.Hamiltonian):
    def _make(self, **options: Any) -> numpyro.infer.HMC:
        raise TypeError(f"{type(self).__name__} has no algorithm of its own")

    def kernel(self, model: Callable[..., Any]) -> numpyro.infer.HMC:
        """NumPyro's kernel for a model, as a user would make it."""
        return self._make(model=model)

    def build(self, target: Target) -> Any:
        """The algorithm for a target, with the settings' step size and no adaptation."""
        kernel = self._kernel(target, adapt=False)

        def init(position: PyTree, rng_key: jax.Array) -> NumPyroState:
            return _wrap(kernel.init(rng_key, 0, position, (), {}))

        def step(rng_key: jax.Array, state: NumPyroState) -> tuple[NumPyroState, NumPyroInfo]:
            self._prepare(kernel, 0, state.position, rng_key)
            return _step(kernel, rng_key, state)

        return blackjax.SamplingAlgorithm(init, step)

    def adaptation(self, target: Target, num_warmup: int) -> Adaptation:
        """NumPyro's warm-up of the step size and the mass matrix, which it keeps in its state."""
        kernel = self._kernel(target, adapt=True)

        def init(key: jax.Array, position: PyTree) -> NumPyroState:
            return _wrap(kernel.init(key, num_warmup, position, (), {}))

        def step(key: jax.Array, i: jax.Array, state: NumPyroState) -> tuple[NumPyroState, NumPyroInfo]:
            self._prepare(kernel, num_warmup, state.position, key)
            return _step(kernel, key, state)

        return Adaptation(init, step, lambda state: (state, {}))

    def _kernel(self, target: Target, *, adapt: bool) -> numpyro.infer.HMC:
        return self._make(
            potential_fn=lambda position: -target.log_density(position),
            adapt_step_size=adapt,
            adapt_mass_matrix=adapt,
        )

    @staticmethod
    def _prepare(kernel: numpyro.infer.HMC, num_warmup: int, position: PyTree, key: jax.Array) -> None:
        """NumPyro's kernel learns its schedule in ``init``, which a step in a new process may not have seen."""
        if kernel._sample_fn is None:
            jax.eval_shape(lambda position, key: kernel.init(key, num_warmup, position, (), {}), position, key)


def _wrap(state: Any) -> NumPyroState:
    return NumPyroState(state.z, -state.potential_energy, state)


def _step(kernel: numpyro.infer.HMC, key: jax.Array, state: NumPyroState) -> tuple[NumPyroState, NumPyroInfo]:
    new = kernel.sample(state.hmc._replace(rng_key=key), (), {})
    return _wrap(new), NumPyroInfo(new.accept_prob, new.diverging, new.energy, new.num_steps)


@dataclass(frozen=True)
class NUTS(_NumPyro):
    """The No-U-Turn sampler of NumPyro (Hoffman & Gelman 2014, JMLR 15, 1593; Phan et al. 2019).

    Args:
        step_size: leapfrog step, the first one where there is a warm-up.
        target_acceptance_rate: what the warm-up tunes the step size to.
        dense: adapt a full mass matrix.
        max_tree_depth: the trajectory has at most two to this power steps.

    Raises:
        ValueError: a setting out of its range.
    """

    max_tree_depth: int = 10

    def __post_init__(self) -> None:
        super().__post_init__()
        _settings.count("max_tree_depth", self.max_tree_depth)

    def _make(self, **options: Any) -> numpyro.infer.HMC:
        return numpyro.infer.NUTS(
            step_size=self.step_size,
            target_accept_prob=self.target_acceptance_rate,
            dense_mass=self.dense,
            max_tree_depth=self.max_tree_depth,
            **options,
        )


@dataclass(frozen=True)
class HMC(_NumPyro):
    """Hamiltonian Monte Carlo of NumPyro with a fixed trajectory length (Duane et al. 1987).

    Args:
        step_size: leapfrog step, the first one where there is a warm-up.
        target_acceptance_rate: what the warm-up tunes the step size to.
        dense: adapt a full mass matrix.
        trajectory_length: step size times number of steps.

    Raises:
        ValueError: a setting out of its range.
    """

    trajectory_length: float = 1.5707964  # half a turn of a unit Gaussian would be pi; a quarter decorrelates it

    def __post_init__(self) -> None:
        super().__post_init__()
        _settings.positive("trajectory_length", self.trajectory_length)

    def _make(self, **options: Any) -> numpyro.infer.HMC:
        return numpyro.infer.HMC(
            step_size=self.step_size,
            target_accept_prob=self.target_acceptance_rate,
            dense_mass=self.dense,
            trajectory_length=self.trajectory_length,
            **options,
        )
