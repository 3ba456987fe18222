"""The Langevin kernels as Armillary samplers: settings, and where they are not set what the warm-up finds."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
from blackjax.adaptation.step_size import dual_averaging_adaptation
from blackjax.base import SamplingAlgorithm
from jaxtyping import Array, PyTree

from armillary.core import protocols

from . import _myula, _px_mala, _skrock, _steps, _ula
from ._check import check_fraction, check_positive


class TunedState(NamedTuple):
    """A chain's state and the settings that were found at its start."""

    algorithm: PyTree
    parameters: dict[str, Any]


class AveragingState(NamedTuple):
    """A chain's state and that of the dual averaging of its step size."""

    algorithm: PyTree
    averaging: PyTree


def found_at_the_start(
    sampler: Any, target: protocols.Target, find: Callable[[PyTree], dict[str, Any]]
) -> protocols.Adaptation:
    """A warm-up that finds the settings from the position that a chain starts from, and is burn-in after that."""
    dtype = jnp.result_type(*jax.tree.leaves(target.structure))

    def init(key: jax.Array, position: PyTree) -> TunedState:
        parameters = {name: jnp.asarray(value, dtype) for name, value in find(position).items()}
        return TunedState(sampler.build(target, **parameters).init(position, key), parameters)

    def step(key: jax.Array, i: jax.Array, state: TunedState) -> tuple[TunedState, Any]:
        algorithm, info = sampler.build(target, **state.parameters).step(key, state.algorithm)
        return state._replace(algorithm=algorithm), info

    def result(state: TunedState) -> tuple[PyTree, dict[str, Any]]:
        return state.algorithm, state.parameters

    return protocols.Adaptation(init, step, result)


def check_settings(formula: str, **settings: Any) -> None:
    """Refuse a setting that is given and is not positive and finite.

    Raises:
        ValueError: naming it.
    """
    for name, value in settings.items():
        if value is not None:
            check_positive(name, value, f"the step must be below {formula}; leave it out to have the warm-up find it")


def settled(name: str, *values: Any) -> Any:
    """The first of the values that is there.

    Raises:
        ValueError: there is none.
    """
    for value in values:
        if value is not None:
            return value
    raise ValueError(f"{name}=None and no warm-up to find it: give {name}, or num_warmup of at least 1")


def smooth_part(target: protocols.Target) -> Callable[[PyTree], Array]:
    """All of the log-density but the part that is known by its proximal operator, where there is one."""
    smooth = getattr(target, "smooth_log_density", None)
    return target.log_density if getattr(target, "prox", None) is None or smooth is None else smooth


@dataclass(frozen=True)
class ULASampler:
    """The settings of ULA, an `armillary.core.protocols.Sampler` for smooth log-densities.

    >>> from armillary.imaging import ULASampler
    >>> ULASampler(step_size=0.2).bias
    0.25

    Args:
        step_size: see `armillary.imaging.ula`; by default the inverse of the largest curvature of the log-density
            where the chain starts, found by the warm-up.

    Raises:
        ValueError: a step size that is not positive and finite.
    """

    step_size: float | None = None

    traits: ClassVar[frozenset[str]] = frozenset()

    def __post_init__(self) -> None:
        check_settings(_ula.FORMULA, step_size=self.step_size)

    @property
    def bias(self) -> float:
        """The relative error of the variance of a Gaussian of curvature up to 2."""
        step_size = settled("step_size", self.step_size)
        return step_size / (1 - step_size) if step_size < 1 else float("inf")

    def build(self, target: protocols.Target, *, step_size: Any = None) -> SamplingAlgorithm:
        """The algorithm on the target's log-density.

        Raises:
            ValueError: no step size.
        """
        return _ula.as_top_level_api(target.log_density, settled("step_size", step_size, self.step_size))

    def adaptation(self, target: protocols.Target, num_warmup: int) -> protocols.Adaptation:
        """Finds the step size that is not given."""

        def find(position: PyTree) -> dict[str, Any]:
            if self.step_size is not None:
                return {"step_size": self.step_size}
            return {"step_size": _ula.DEFAULT / _steps.lipschitz(target.log_density, position)}

        return found_at_the_start(self, target, find)


@dataclass(frozen=True)
class MYULASampler:
    r"""The settings of MYULA, an `armillary.core.protocols.Sampler`.

    >>> import jax, jax.numpy as jnp
    >>> from armillary.core import Target
    >>> from armillary.imaging import L1, MYULASampler
    >>> prior = L1(0.5).expand((4,)).to_event(1)
    >>> target = Target(prior.log_prob, lambda x: -0.5 * jnp.sum((x - 1.0) ** 2), prox=L1(0.5).prox,
    ...                 position=jnp.zeros(4))
    >>> alg = MYULASampler(step_size=0.1, smoothing=0.1).build(target)
    >>> state, info = alg.step(jax.random.key(0), alg.init(jnp.zeros(4)))

    Args:
        step_size: see `armillary.imaging.myula`, also for its stability limit, of which it is half by default. With L
            the largest curvature of the smooth part where the chain starts, found by the warm-up.
        smoothing: the parameter of the Moreau envelope; by default ``1 / L``.

    Raises:
        ValueError: a setting that is not positive and finite.
    """

    step_size: float | None = None
    smoothing: float | None = None

    traits: ClassVar[frozenset[str]] = frozenset({"prox", "smooth_log_density"})

    def __post_init__(self) -> None:
        check_settings(_myula.FORMULA, step_size=self.step_size, smoothing=self.smoothing)

    @property
    def bias(self) -> float:
        r"""Bound on the bias of the moments of a Gaussian of unit scale.

        With posterior precision P and a Gaussian prior of precision Q, the stationary precision is that of the
        envelope, P - smoothing Q^2 / (1 + smoothing Q), times 1 - step_size P / 2, and the relative error of the
        variance is to first order ``smoothing * Q**2 / P + step_size * P / 2``; here for Q <= P <= 2 with Q <= 1.
        """
        return settled("step_size", self.step_size) + settled("smoothing", self.smoothing)

    def build(self, target: protocols.Target, *, step_size: Any = None, smoothing: Any = None) -> SamplingAlgorithm:
        """The algorithm, on the target's smooth log-density and proximal operator.

        Raises:
            ValueError: the target has no `prox`, and how to give it one; or a setting is missing.
        """
        target.require(self.traits, "myula")
        return _myula.as_top_level_api(
            target.smooth_log_density,  # type: ignore[attr-defined]
            target.prox,  # type: ignore[attr-defined]
            settled("step_size", step_size, self.step_size),
            settled("smoothing", smoothing, self.smoothing),
        )

    def adaptation(self, target: protocols.Target, num_warmup: int) -> protocols.Adaptation:
        """Finds the settings that are not given."""

        def find(position: PyTree) -> dict[str, Any]:
            step_size: float | Array | None = self.step_size
            smoothing: float | Array | None = self.smoothing
            if step_size is None or smoothing is None:
                constant = _steps.lipschitz(smooth_part(target), position)
                smoothing = 1 / constant if smoothing is None else smoothing
                step_size = _myula.DEFAULT / (constant + 1 / smoothing) if step_size is None else step_size
            return {"step_size": step_size, "smoothing": smoothing}

        return found_at_the_start(self, target, find)


@dataclass(frozen=True)
class SKROCKSampler:
    r"""The settings of SK-ROCK, an `armillary.core.protocols.Sampler`.

    A target that has a proximal operator is sampled with the Moreau envelope in place of its non-smooth part, any
    other by its log-density.

    >>> from armillary.imaging import SKROCKSampler
    >>> SKROCKSampler(num_stages=5)
    SKROCKSampler(step_size=None, num_stages=5, eta=0.05, smoothing=None)

    Args:
        step_size: see `armillary.imaging.skrock`, also for its stability limit, of which it is nine tenths by default.
            With L the largest curvature of the smooth part where the chain starts, found by the warm-up.
        num_stages: gradients of a step.
        eta: the damping.
        smoothing: the parameter of the Moreau envelope; by default ``1 / L``.

    Raises:
        ValueError: a setting out of its range.
    """

    step_size: float | None = None
    num_stages: int = 10
    eta: float = 0.05
    smoothing: float | None = None

    traits: ClassVar[frozenset[str]] = frozenset()

    def __post_init__(self) -> None:
        check_settings(_skrock.FORMULA, step_size=self.step_size, smoothing=self.smoothing)
        _skrock.check_stages(self.num_stages, self.eta)

    @property
    def bias(self) -> float:
        """The relative error of the variance of a Gaussian of curvature up to 2."""
        return _skrock.variance_bias(2 * settled("step_size", self.step_size), self.num_stages, self.eta)

    def build(self, target: protocols.Target, *, step_size: Any = None, smoothing: Any = None) -> SamplingAlgorithm:
        """The algorithm on the target.

        Raises:
            ValueError: a setting is missing.
        """
        prox = getattr(target, "prox", None)
        return _skrock.as_top_level_api(
            smooth_part(target),
            settled("step_size", step_size, self.step_size),
            self.num_stages,
            self.eta,
            prox=prox,
            smoothing=None if prox is None else settled("smoothing", smoothing, self.smoothing),
        )

    def adaptation(self, target: protocols.Target, num_warmup: int) -> protocols.Adaptation:
        """Finds the settings that are not given."""
        proximal = getattr(target, "prox", None) is not None

        def find(position: PyTree) -> dict[str, Any]:
            step_size: float | Array | None = self.step_size
            smoothing: float | Array | None = self.smoothing
            if step_size is None or (proximal and smoothing is None):
                constant = _steps.lipschitz(smooth_part(target), position)
                smoothing = 1 / constant if smoothing is None else smoothing
                total = constant + 1 / smoothing if proximal else constant
                limit = _skrock.SAFETY * _skrock.stability_limit(self.num_stages, self.eta)
                step_size = limit / total if step_size is None else step_size
            return {"step_size": step_size, "smoothing": smoothing} if proximal else {"step_size": step_size}

        return found_at_the_start(self, target, find)


@dataclass(frozen=True)
class PxMALASampler:
    r"""The settings of proximal MALA, an `armillary.core.protocols.Sampler`.

    The warm-up tunes the step size to the rate of acceptance by dual averaging; the smoothing goes with it.

    >>> from armillary.imaging import PxMALASampler
    >>> PxMALASampler(step_size=0.1)
    PxMALASampler(step_size=0.1, target_acceptance_rate=0.574)

    Args:
        step_size: see `armillary.imaging.px_mala`; where there is a warm-up the first one, by default
            ``1 / (L d**(1/3))`` with d the number of parameters and L the largest curvature of the smooth part where
            the chain starts.
        target_acceptance_rate: what the warm-up tunes the step size to; 0.574 is optimal in high dimension for smooth
            densities, and not far from it for L1.

    Raises:
        ValueError: a setting out of its range.
    """

    step_size: float | None = None
    target_acceptance_rate: float = 0.574

    traits: ClassVar[frozenset[str]] = frozenset({"prox", "smooth_log_density"})

    def __post_init__(self) -> None:
        if self.step_size is not None:
            check_positive("step_size", self.step_size, "leave it out to have the warm-up find it")
        check_fraction("target_acceptance_rate", self.target_acceptance_rate, "0.574 is usual")

    def build(self, target: protocols.Target, *, step_size: Any = None) -> SamplingAlgorithm:
        """The algorithm on the target, with the step size that the warm-up found or the settings'.

        Raises:
            ValueError: the target has no `prox`, and how to give it one; or there is no step size.
        """
        target.require(self.traits, "px-mala")
        return _px_mala.as_top_level_api(
            target.smooth_log_density,  # type: ignore[attr-defined]
            target.prox,  # type: ignore[attr-defined]
            nonsmooth_part(target),
            settled("step_size", step_size, self.step_size),
        )

    def adaptation(self, target: protocols.Target, num_warmup: int) -> protocols.Adaptation:
        """Dual averaging of the step size."""
        averaging_init, averaging_update, _ = dual_averaging_adaptation(self.target_acceptance_rate)
        dtype = jnp.result_type(*jax.tree.leaves(target.structure))

        def first(position: PyTree) -> Any:
            if self.step_size is not None:
                return self.step_size
            return 1 / (_steps.lipschitz(smooth_part(target), position) * target.dim ** (1 / 3))

        def at(chain: PyTree, step_size: Array) -> PyTree:
            """The same place, with the proximal operator of this step in the state."""
            return chain._replace(proximal=target.prox(chain.position, step_size))  # type: ignore[attr-defined]

        def init(key: jax.Array, position: PyTree) -> AveragingState:
            step_size = jnp.asarray(first(position), dtype)
            return AveragingState(
                self.build(target, step_size=step_size).init(position, key), averaging_init(step_size)
            )

        def step(key: jax.Array, i: jax.Array, state: AveragingState) -> tuple[AveragingState, Any]:
            step_size = jnp.exp(state.averaging.log_step_size)
            chain, info = self.build(target, step_size=step_size).step(key, at(state.algorithm, step_size))
            return AveragingState(chain, averaging_update(state.averaging, info.acceptance_rate)), info

        def result(state: AveragingState) -> tuple[PyTree, dict[str, Any]]:
            step_size = jnp.exp(state.averaging.log_step_size_avg)
            return at(state.algorithm, step_size), {"step_size": step_size}

        return protocols.Adaptation(init, step, result)


def nonsmooth_part(target: protocols.Target) -> Callable[[PyTree], Array]:
    """The part of the log-density that the proximal operator is of."""
    smooth = target.smooth_log_density  # type: ignore[attr-defined]
    if smooth == target.log_likelihood:
        return target.log_prior
    return lambda position: target.log_density(position) - smooth(position)
