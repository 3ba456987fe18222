"""BlackJAX's NUTS and HMC, with Stan's window adaptation as a stream of steps."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import blackjax
import jax
import jax.numpy as jnp
from blackjax.adaptation.mass_matrix import mass_matrix_adaptation
from blackjax.adaptation.staged_adaptation import build_schedule
from blackjax.adaptation.step_size import dual_averaging_adaptation
from jaxtyping import PyTree

from armillary.core.protocols import Adaptation, Target

from . import _settings
from ._laplace import Laplace, laplace


class WindowState(NamedTuple):
    """The state of window adaptation: the chain's own, and what is being adapted."""

    algorithm: PyTree
    step_size: PyTree
    mass_matrix: PyTree
    parameters: dict[str, Any]


def window_adaptation(
    build: Callable[..., Any],
    dim: int,
    num_warmup: int,
    *,
    step_size: float,
    target_acceptance_rate: float,
    dense: bool,
    approximate: Callable[[jax.Array, PyTree], Laplace] | None = None,
) -> Adaptation:
    """Stan's warm-up: fast windows tune the step size, slow ones the mass matrix too.

    The same computation as `blackjax.window_adaptation`, one step at a time, so that it can be stopped and resumed.
    With a normal approximation chains start at a draw of it, with its covariance as the inverse mass matrix, and one
    slow window takes the place of several: the first draws of a chain know less of the covariance than it does.

    Args:
        build: ``build(step_size=..., inverse_mass_matrix=...)`` gives the sampling algorithm.
        dim: the number of parameters.
        num_warmup: how many steps there will be; the windows are laid out over them.
        step_size: the first step size.
        target_acceptance_rate: the acceptance rate to tune the step size to.
        dense: adapt a full mass matrix and not a diagonal one.
        approximate: from a key and a position to the normal approximation; without it, chains start at the position.
    """
    metric_init, metric_update, metric_final = mass_matrix_adaptation(not dense)
    averaging_init, averaging_update, averaging_final = dual_averaging_adaptation(target_acceptance_rate)
    windows = {} if approximate is None else {"first_window_size": max(num_warmup - 125, 25)}
    schedule = jnp.array(build_schedule(num_warmup, **windows), dtype=jnp.int32).reshape(-1, 2)

    def init(key: jax.Array, position: PyTree) -> WindowState:
        mass_matrix = metric_init(dim)
        if approximate is not None:
            key, approximate_key = jax.random.split(key)
            normal = approximate(approximate_key, position)
            covariance = normal.covariance if dense else jnp.diag(normal.covariance)
            mass_matrix = mass_matrix._replace(
                inverse_mass_matrix=covariance.astype(mass_matrix.inverse_mass_matrix.dtype)
            )
            position = normal.draw
        first = jnp.asarray(step_size, mass_matrix.inverse_mass_matrix.dtype)
        parameters = {"step_size": first, "inverse_mass_matrix": mass_matrix.inverse_mass_matrix}
        algorithm = build(**parameters).init(position, key)
        return WindowState(algorithm, averaging_init(first), mass_matrix, parameters)

    def end_window(operands: tuple) -> tuple:
        averaging, metric = operands
        metric = metric_final(metric)
        return averaging_init(averaging_final(averaging)), metric

    def step(key: jax.Array, i: jax.Array, state: WindowState) -> tuple[WindowState, Any]:
        algorithm, info = build(**state.parameters).step(key, state.algorithm)
        slow, window_ends = schedule[i, 0] == 1, schedule[i, 1] == 1
        averaging = averaging_update(state.step_size, info.acceptance_rate)
        metric = jax.lax.cond(
            slow,
            lambda metric: metric_update(metric, algorithm.position),
            lambda metric: metric,
            state.mass_matrix,
        )
        averaging, metric = jax.lax.cond(window_ends, end_window, lambda x: x, (averaging, metric))
        parameters = {
            "step_size": jnp.exp(averaging.log_step_size),
            "inverse_mass_matrix": metric.inverse_mass_matrix,
        }
        return WindowState(algorithm, averaging, metric, parameters), info

    def result(state: WindowState) -> tuple[PyTree, dict[str, Any]]:
        parameters = {
            "step_size": jnp.exp(state.step_size.log_step_size_avg),
            "inverse_mass_matrix": state.mass_matrix.inverse_mass_matrix,
        }
        return state.algorithm, parameters

    return Adaptation(init, step, result)


@dataclass(frozen=True)
class _Hamiltonian(_settings.Hamiltonian):
    start: str = "given"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.start not in ("given", "laplace"):
            raise ValueError(f"start={self.start!r}: expected 'given' or 'laplace'")

    def build(self, target: Target, *, step_size: Any = None, inverse_mass_matrix: Any = None) -> Any:
        raise TypeError(f"{type(self).__name__} has no algorithm of its own")

    def adaptation(self, target: Target, num_warmup: int) -> Adaptation:
        """Window adaptation of the step size and the mass matrix over ``num_warmup`` steps."""
        return window_adaptation(
            lambda **parameters: self.build(target, **parameters),
            target.dim,
            num_warmup,
            step_size=self.step_size,
            target_acceptance_rate=self.target_acceptance_rate,
            dense=self.dense,
            approximate=(lambda key, position: laplace(target.log_density, position, key))
            if self.start == "laplace"
            else None,
        )

    def _metric(self, target: Target, inverse_mass_matrix: Any) -> Any:
        if inverse_mass_matrix is not None:
            return inverse_mass_matrix
        dtype = jnp.result_type(*jax.tree.leaves(target.structure))
        return jnp.eye(target.dim, dtype=dtype) if self.dense else jnp.ones(target.dim, dtype)


@dataclass(frozen=True)
class BlackJAXNUTS(_Hamiltonian):
    """The No-U-Turn sampler of BlackJAX (Hoffman & Gelman 2014, JMLR 15, 1593).

    Args:
        step_size: leapfrog step, the first one where there is a warm-up.
        target_acceptance_rate: what the warm-up tunes the step size to.
        dense: adapt a full mass matrix.
        start: ``"laplace"`` has the warm-up of each chain begin with a search for a mode, at a draw of the normal about
            it, with the covariance of that as the inverse mass matrix; ``"given"`` begins at the position.
        max_num_doublings: the trajectory has at most two to this power steps.

    Raises:
        ValueError: a setting out of its range.
    """

    max_num_doublings: int = 10

    def __post_init__(self) -> None:
        super().__post_init__()
        _settings.count("max_num_doublings", self.max_num_doublings)

    def build(self, target: Target, *, step_size: Any = None, inverse_mass_matrix: Any = None) -> Any:
        """The algorithm, with what adaptation found or the settings."""
        return blackjax.nuts(
            target.log_density,
            self.step_size if step_size is None else step_size,
            self._metric(target, inverse_mass_matrix),
            max_num_doublings=self.max_num_doublings,
        )


@dataclass(frozen=True)
class BlackJAXHMC(_Hamiltonian):
    """Hamiltonian Monte Carlo of BlackJAX with a fixed number of leapfrog steps (Duane et al. 1987).

    Args:
        step_size: leapfrog step, the first one where there is a warm-up.
        target_acceptance_rate: what the warm-up tunes the step size to.
        dense: adapt a full mass matrix.
        start: as in `BlackJAXNUTS`.
        num_integration_steps: leapfrog steps of a trajectory.

    Raises:
        ValueError: a setting out of its range.
    """

    num_integration_steps: int = 10

    def __post_init__(self) -> None:
        super().__post_init__()
        _settings.count("num_integration_steps", self.num_integration_steps)

    def build(self, target: Target, *, step_size: Any = None, inverse_mass_matrix: Any = None) -> Any:
        """The algorithm, with what adaptation found or the settings."""
        return blackjax.hmc(
            target.log_density,
            self.step_size if step_size is None else step_size,
            self._metric(target, inverse_mass_matrix),
            self.num_integration_steps,
        )
