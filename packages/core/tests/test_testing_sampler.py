"""Each check of a sampler catches a sampler that breaks its law, and passes one that does not."""

from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import blackjax
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree

from armillary.core.protocols import Adaptation
from armillary.core.testing import CHECKS, ConformanceError, check_sampler, parametrize_with_checks


class State(NamedTuple):
    position: Any
    logdensity: Any


class Info(NamedTuple):
    acceptance_rate: Any


@dataclass(frozen=True)
class Metropolis:
    """A right sampler: random-walk Metropolis on any pytree, with nothing left to the default dtype."""

    step_size: float = 1.2
    traits: ClassVar[frozenset[str]] = frozenset()

    def build(self, target, *, step_size=None):
        log_density = self.density(target)
        size = self.step_size if step_size is None else step_size

        def init(position, rng_key=None):
            return State(position, log_density(position))

        def step(rng_key, state):
            move_key, accept_key = jax.random.split(rng_key)
            flat, unravel = ravel_pytree(state.position)
            moved = flat + jnp.asarray(size, flat.dtype) * jax.random.normal(move_key, flat.shape, flat.dtype)
            proposal = init(unravel(moved))
            rate = jnp.minimum(1, jnp.exp(proposal.logdensity - state.logdensity))
            accept = jax.random.uniform(accept_key, dtype=flat.dtype) < rate
            return jax.tree.map(lambda new, old: jnp.where(accept, new, old), proposal, state), Info(rate)

        return self.spoil(blackjax.SamplingAlgorithm(init, step))

    def density(self, target):
        return target.log_density

    def spoil(self, algorithm):
        return algorithm

    def adaptation(self, target, num_warmup):
        """Keeps the step size: enough to be one."""

        def step(key, i, state):
            return self.build(target).step(key, state)

        return Adaptation(
            lambda key, position: self.build(target).init(position, key),
            step,
            lambda state: (state, {"step_size": jnp.asarray(self.step_size, state.logdensity.dtype)}),
        )


def spoilt(change):
    """A Metropolis whose ``(state, info)`` is changed after each step by ``change(key, state, info)``."""

    class Spoilt(Metropolis):
        def spoil(self, algorithm):
            def step(key, state):
                return change(key, *algorithm.step(key, state))

            return blackjax.SamplingAlgorithm(algorithm.init, step)

    return Spoilt()


def moved(by):
    """A change of the position."""

    def change(key, state, info):
        return state._replace(position=jax.tree.map(lambda x: by(key, x), state.position)), info

    return spoilt(change)


class TraitsAsList(Metropolis):
    traits = ["prox"]  # noqa: RUF012


class UncheckedTraits(Metropolis):
    traits: ClassVar[frozenset[str]] = frozenset({"prox"})


class UndeclaredTrait(Metropolis):
    def density(self, target):
        return lambda x: target.smooth_log_density(x) + target.log_prior(x)


class Counted(NamedTuple):
    position: Any
    logdensity: Any
    count: Any


class Counting(Metropolis):
    """With a step count in its state, that starts as ``first``, and that ``after`` gives after a step."""

    first: ClassVar[Any] = 0
    after: ClassVar[Any] = staticmethod(lambda count: jnp.asarray(count, jnp.int32) + jnp.ones((), jnp.int32))

    def spoil(self, algorithm):
        def init(position, rng_key=None):
            return Counted(*algorithm.init(position, rng_key), self.first)

        def step(key, state):
            new, info = algorithm.step(key, State(*state[:2]))
            return Counted(*new, self.after(state.count)), info

        return blackjax.SamplingAlgorithm(init, step)


class ChangingType(Counting):
    after: ClassVar[Any] = staticmethod(lambda count: count + jnp.float32(1))


@jax.custom_batching.custom_vmap
def across_chains(x):
    return x


@across_chains.def_vmap
def _(axis_size, in_batched, x):
    return x - x.mean(axis=0), True


def tempered(by):
    class Tempered(Metropolis):
        def density(self, target):
            return lambda x: by * target.log_density(x)

    return Tempered()


class WrongParameters(Metropolis):
    def adaptation(self, target, num_warmup):
        right = super().adaptation(target, num_warmup)
        return right._replace(result=lambda state: (state, {"step_length": 1.0}))


class Unadjusted(Metropolis):
    """Langevin without a Metropolis step, which says that it is exact."""

    bias: ClassVar[float] = 0.0

    def build(self, target, **parameters):
        def init(position, rng_key=None):
            return State(position, target.log_density(position))

        def step(key, state):
            x, unravel = ravel_pytree(state.position)
            noise = jax.random.normal(key, x.shape, x.dtype)
            gradient = jax.grad(lambda x: target.log_density(unravel(x)))(x)
            return init(unravel(x + 0.4 * gradient + 0.8**0.5 * noise)), Info(jnp.ones((), x.dtype))

        return blackjax.SamplingAlgorithm(init, step)


class Biased(Unadjusted):
    """The same, which says how much."""

    bias: ClassVar[float] = 0.4 * 2 / 2 / (1 - 0.4 * 2 / 2)


def in_jit_only(key, x):
    return x + 1 if isinstance(key, jax.core.Tracer) else x


def typed_only(key, x):
    if not jnp.issubdtype(key.dtype, jax.dtypes.prng_key):
        raise TypeError("not a typed key")
    return x


WRONG = {
    "check_sampler_interface": [TraitsAsList(), Metropolis],
    "check_sampler_traits": [UncheckedTraits(), UndeclaredTrait()],
    "check_sampler_state": [
        spoilt(lambda key, state, info: (state, {"acceptance_rate": info.acceptance_rate})),
        spoilt(lambda key, state, info: (state, Info("a string"))),
    ],
    "check_sampler_carry": [ChangingType()],
    "check_sampler_jit_equals_eager": [moved(in_jit_only)],
    "check_sampler_vmap_equals_loop": [moved(lambda key, x: across_chains(x))],
    "check_sampler_traces_once": [Counting()],
    "check_sampler_same_key": [moved(lambda key, x: x + np.float32(np.random.default_rng().normal()))],
    "check_sampler_different_keys": [moved(lambda key, x: jnp.ones_like(x))],
    "check_sampler_legacy_keys": [moved(typed_only)],
    "check_sampler_nested_position": [spoilt(lambda key, s, i: (s._replace(position=s.position + 0), i))],
    "check_sampler_scalar_position": [moved(lambda key, x: x.at[0].add(0))],
    "check_sampler_float32": [moved(lambda key, x: x.astype(jnp.float16))],
    "check_sampler_float64": [moved(lambda key, x: x.astype(jnp.float32))],
    "check_sampler_float32_where_x64_is_on": [moved(lambda key, x: x + 0 * jax.random.normal(key, x.shape))],
    "check_sampler_finite": [moved(lambda key, x: jnp.where(jax.random.uniform(key) < 0.1, jnp.nan, x))],
    "check_sampler_adaptation": [WrongParameters()],
    "check_sampler_moments": [
        tempered(0.8),
        tempered(1.3),
        Unadjusted(),
        moved(lambda key, x: x + 0.1),
        Metropolis(1e-3),
    ],
    "check_sampler_numpyro": [
        spoilt(lambda key, state, info: (state._replace(position=jax.tree.map(jnp.zeros_like, state.position)), info)),
        moved(lambda key, x: x + (0 if bool(x.sum() > 0) else 1)),
    ],
}
BY_NAME = {check.__name__: check for check in CHECKS["sampler"]}


def test_every_check_has_a_wrong_sampler():
    assert set(WRONG) == set(BY_NAME)


@pytest.mark.parametrize(("name", "wrong"), [(name, wrong) for name, several in WRONG.items() for wrong in several])
def test_a_wrong_sampler_is_caught(name, wrong):
    with pytest.raises(ConformanceError, match=rf"^{name}: .* breaks the law that (.|\n)*Found: (.|\n)*Look at: "):
        BY_NAME[name](wrong)


@parametrize_with_checks([Metropolis(), Biased()])
def test_a_right_sampler_passes(component, check):
    check(component)


def test_check_sampler_stops_at_the_first_violation():
    with pytest.raises(ConformanceError, match="check_sampler_traits"):
        check_sampler(UncheckedTraits())
