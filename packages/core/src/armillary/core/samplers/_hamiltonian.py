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
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, PyTree

from armillary.core.protocols import Adaptation, Target

from . import _settings
from ._laplace import laplace
from ._transport import Transport, transport


class TransportedState(NamedTuple):
    """The state of an algorithm in other coordinates: the position, and the state of what moves."""

    position: PyTree
    logdensity: Array
    moving: PyTree


class WindowState(NamedTuple):
    """The state of window adaptation: the chain's own, and what is being adapted."""

    algorithm: PyTree
    step_size: PyTree
    mass_matrix: PyTree
    parameters: dict[str, Any]


class Start(NamedTuple):
    """Where a chain starts, the inverse mass matrix that it starts with, if any, and what else its algorithm needs."""

    position: PyTree
    covariance: Array | None
    fixed: dict[str, Any]


def window_adaptation(
    build: Callable[..., Any],
    dim: int,
    num_warmup: int,
    *,
    step_size: float,
    target_acceptance_rate: float,
    dense: bool,
    start: Callable[..., Start] | None = None,
    prepare: Callable[[], Any] | None = None,
) -> Adaptation:
    """Stan's warm-up: fast windows tune the step size, slow ones the mass matrix too.

    The same computation as `blackjax.window_adaptation`, one step at a time, so that it can be stopped and resumed.
    With a start of its own, which knows of the posterior, one slow window takes the place of several: the first draws
    of a chain know less of the covariance than it does.

    Args:
        build: ``build(step_size=..., inverse_mass_matrix=...)`` gives the sampling algorithm.
        dim: the number of parameters.
        num_warmup: how many steps there will be; the windows are laid out over them.
        step_size: the first step size.
        target_acceptance_rate: the acceptance rate to tune the step size to.
        dense: adapt a full mass matrix and not a diagonal one.
        start: from a key and a position to where a chain starts and what else it begins with; without it, chains start
            at the position.
        prepare: computes what all chains share, a third argument of ``start``.
    """
    metric_init, metric_update, metric_final = mass_matrix_adaptation(not dense)
    averaging_init, averaging_update, averaging_final = dual_averaging_adaptation(target_acceptance_rate)
    windows = {} if start is None else {"first_window_size": max(num_warmup - 125, 25)}
    schedule = jnp.array(build_schedule(num_warmup, **windows), dtype=jnp.int32).reshape(-1, 2)

    def init(key: jax.Array, position: PyTree, *prepared: Any) -> WindowState:
        mass_matrix = metric_init(dim)
        fixed: dict[str, Any] = {}
        if start is not None:
            key, start_key = jax.random.split(key)
            position, covariance, fixed = start(start_key, position, *prepared)
            if covariance is not None:
                covariance = covariance if dense else jnp.diag(covariance)
                covariance = covariance.astype(mass_matrix.inverse_mass_matrix.dtype)
                mass_matrix = mass_matrix._replace(inverse_mass_matrix=covariance)
        first = jnp.asarray(step_size, mass_matrix.inverse_mass_matrix.dtype)
        parameters = {"step_size": first, "inverse_mass_matrix": mass_matrix.inverse_mass_matrix, **fixed}
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
            lambda metric: metric_update(metric, getattr(algorithm, "moving", algorithm).position),
            lambda metric: metric,
            state.mass_matrix,
        )
        averaging, metric = jax.lax.cond(window_ends, end_window, lambda x: x, (averaging, metric))
        parameters = state.parameters | {
            "step_size": jnp.exp(averaging.log_step_size),
            "inverse_mass_matrix": metric.inverse_mass_matrix,
        }
        return WindowState(algorithm, averaging, metric, parameters), info

    def result(state: WindowState) -> tuple[PyTree, dict[str, Any]]:
        parameters = state.parameters | {
            "step_size": jnp.exp(state.step_size.log_step_size_avg),
            "inverse_mass_matrix": state.mass_matrix.inverse_mass_matrix,
        }
        return state.algorithm, parameters

    return Adaptation(init, step, result, prepare)


@dataclass(frozen=True)
class _Hamiltonian(_settings.Hamiltonian):
    start: str = "given"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.start not in ("given", "laplace", "transport"):
            raise ValueError(f"start={self.start!r}: expected 'given', 'laplace' or 'transport'")

    def build(
        self,
        target: Target,
        *,
        step_size: Any = None,
        inverse_mass_matrix: Any = None,
        transport: Transport | None = None,
    ) -> Any:
        """The algorithm, with what adaptation found or the settings."""
        step_size = self.step_size if step_size is None else step_size
        if inverse_mass_matrix is None:
            dtype = jnp.result_type(*jax.tree.leaves(target.structure))
            inverse_mass_matrix = jnp.eye(target.dim, dtype=dtype) if self.dense else jnp.ones(target.dim, dtype)
        if transport is None:
            return self._algorithm(target.log_density, step_size, inverse_mass_matrix)

        _, unravel = ravel_pytree(jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), target.structure))

        def position(y: Array) -> PyTree:
            return unravel(transport(y))

        moving = self._algorithm(lambda y: target.log_density(position(y)), step_size, inverse_mass_matrix)

        def state(inner: Any) -> TransportedState:
            return TransportedState(position(inner.position), inner.logdensity, inner)

        def step(key: jax.Array, old: TransportedState) -> tuple[TransportedState, Any]:
            inner, info = moving.step(key, old.moving)
            return state(inner), info

        # It begins at coordinates, not at a position.
        return blackjax.base.SamplingAlgorithm(lambda y, key=None: state(moving.init(y, key)), step)

    def adaptation(self, target: Target, num_warmup: int) -> Adaptation:
        """Window adaptation of the step size and the mass matrix over ``num_warmup`` steps."""

        def from_laplace(key: jax.Array, position: PyTree) -> Start:
            normal = laplace(target.log_density, position, key)
            return Start(normal.draw, normal.covariance, {})

        def prepare() -> Transport:
            # Of no chain, so that each process of several finds the same.
            position_key, map_key = jax.random.split(jax.random.key(0))
            return transport(target.log_density, target.initial_position(position_key), map_key)

        def from_transport(key: jax.Array, position: PyTree, found: Transport) -> Start:
            return Start(jax.random.normal(key, found.mode.shape, found.mode.dtype), None, {"transport": found})

        starts: dict[str, Callable[..., Start]] = {"laplace": from_laplace, "transport": from_transport}
        return window_adaptation(
            lambda **parameters: self.build(target, **parameters),
            target.dim,
            num_warmup,
            step_size=self.step_size,
            target_acceptance_rate=self.target_acceptance_rate,
            dense=self.dense,
            start=starts.get(self.start),
            prepare=prepare if self.start == "transport" else None,
        )

    def _algorithm(self, log_density: Callable[[PyTree], Array], step_size: Any, inverse_mass_matrix: Any) -> Any:
        raise TypeError(f"{type(self).__name__} has no algorithm of its own")


@dataclass(frozen=True)
class BlackJAXNUTS(_Hamiltonian):
    """The No-U-Turn sampler of BlackJAX (Hoffman & Gelman 2014, JMLR 15, 1593).

    Args:
        step_size: leapfrog step, the first one where there is a warm-up.
        target_acceptance_rate: what the warm-up tunes the step size to.
        dense: adapt a full mass matrix.
        start: ``"laplace"`` has the warm-up of each chain begin with a search for a mode, at a draw of the normal about
            it, with the covariance of that as the inverse mass matrix; ``"transport"`` has that normal bent to the
            posterior's ridges, once for all chains by up to ten thousand gradients, and lets each move in coordinates
            in which the posterior is near the standard normal, where degeneracies are curved; ``"given"`` begins at
            the position.
        max_num_doublings: the trajectory has at most two to this power steps.

    Raises:
        ValueError: a setting out of its range.
    """

    max_num_doublings: int = 10

    def __post_init__(self) -> None:
        super().__post_init__()
        _settings.count("max_num_doublings", self.max_num_doublings)

    def _algorithm(self, log_density: Callable[[PyTree], Array], step_size: Any, inverse_mass_matrix: Any) -> Any:
        return blackjax.nuts(log_density, step_size, inverse_mass_matrix, max_num_doublings=self.max_num_doublings)


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

    def _algorithm(self, log_density: Callable[[PyTree], Array], step_size: Any, inverse_mass_matrix: Any) -> Any:
        return blackjax.hmc(log_density, step_size, inverse_mass_matrix, self.num_integration_steps)
