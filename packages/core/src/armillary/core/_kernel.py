"""The bridge from BlackJAX's sampling algorithms to NumPyro's MCMC."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple, cast

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, PyTree
from numpyro.infer.mcmc import MCMCKernel
from numpyro.util import is_prng_key

from ._target import Target


class KernelState(NamedTuple):
    """The state of a `BlackJAXKernel`; its fields and properties can all be collected as ``extra_fields``.

    Args:
        i: steps made, warm-up included.
        z: the unconstrained position.
        potential_energy: minus the log posterior density at ``z``.
        mean_accept_prob: of the steps of the present phase, where the algorithm has an acceptance rate, else NaN.
        algorithm: the algorithm's own state.
        adaptation: the state of the warm-up, or None.
        parameters: what the warm-up has found.
        info: what the algorithm said of the last step.
        rng_key: the random key, from which sampling goes on.
    """

    i: Array
    z: PyTree
    potential_energy: Array
    mean_accept_prob: Array
    algorithm: PyTree
    adaptation: PyTree
    parameters: dict[str, Any]
    info: PyTree
    rng_key: Array

    @property
    def diverging(self) -> Array:
        """The algorithm's own flag, or where it has none whether the log-density is not finite."""
        flag = getattr(self.info, "is_divergent", None)
        return ~jnp.isfinite(self.potential_energy) if flag is None else flag

    @property
    def accept_prob(self) -> Array:
        """The acceptance rate of the last step."""
        return self.info.acceptance_rate

    @property
    def num_steps(self) -> Array:
        """The number of integration steps of the last step."""
        return self.info.num_integration_steps

    @property
    def energy(self) -> Array:
        """The energy of the last step."""
        return self.info.energy

    @property
    def step_size(self) -> Array:
        """The step size, where a warm-up adapts it."""
        return self.parameters["step_size"]


class BlackJAXKernel(MCMCKernel):
    """A NumPyro `MCMCKernel` of any BlackJAX sampling algorithm, or of any Armillary sampler.

    It runs under `numpyro.infer.MCMC` with every ``chain_method``, with typed and legacy keys, and can be resumed
    from ``mcmc.last_state``. Where the sampler adapts itself, the warm-up of ``MCMC`` is that adaptation.

    >>> import blackjax, jax, numpyro, numpyro.distributions as dist
    >>> from numpyro.infer import MCMC
    >>> from armillary.core import BlackJAXKernel
    >>> def model(y=None):
    ...     x = numpyro.sample("x", dist.Normal(0.0, 1.0))
    ...     numpyro.sample("y", dist.Normal(x, 1.0), obs=y)
    >>> kernel = BlackJAXKernel(model, "blackjax-nuts")                               # by name, with its adaptation
    >>> kernel = BlackJAXKernel(model, lambda t: blackjax.mala(t.log_density, 0.5))   # any algorithm on the model
    >>> mcmc = MCMC(kernel, num_warmup=100, num_samples=2000, progress_bar=False)
    >>> mcmc.run(jax.random.key(0), 1.0, extra_fields=("potential_energy",))
    >>> bool(abs(mcmc.get_samples()["x"].mean() - 0.5) < 0.1)
    True

    Args:
        model: a NumPyro model, a `Target`, or None with a ready ``SamplingAlgorithm``, whose positions are then the
            samples and for which ``MCMC.run`` needs ``init_params``.
        sampler: a registered name, an `armillary.core.protocols.Sampler`, a function from a target to a
            `blackjax.base.SamplingAlgorithm`, or such an algorithm.

    Raises:
        TypeError: ``sampler`` is none of these.
        ValueError: the target lacks what the sampler needs, or is missing.
    """

    sample_field = "z"

    def __init__(self, model: Callable[..., Any] | Target | None, sampler: Any) -> None:
        self._model = None if isinstance(model, Target) else model
        self._fixed_target = model if isinstance(model, Target) else None
        if isinstance(sampler, str):
            from . import registry

            sampler = registry.get("sampler", sampler)()
        ready = hasattr(sampler, "init") and hasattr(sampler, "step")
        if model is None and not ready:
            raise ValueError(
                f"model=None goes with a ready SamplingAlgorithm only, not with {sampler!r}: give a NumPyro model or a "
                "Target"
            )
        if not ready and not hasattr(sampler, "build") and not callable(sampler):
            raise TypeError(
                f"sampler={sampler!r}: expected a registered name, a Sampler, a function from a Target to a "
                "SamplingAlgorithm, or a SamplingAlgorithm"
            )
        if isinstance(sampler, type):
            raise TypeError(
                f"sampler={sampler.__name__}: this is the class; make an object of it, {sampler.__name__}()"
            )
        self._sampler = sampler
        self._num_warmup = 0
        self._sample_fn: Callable[..., Any] | None = None
        self._compiled: tuple[Any, list[Any], Callable[..., KernelState]] | None = None
        self._shared: PyTree = None

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_compiled": None, "_shared": None}

    @property
    def model(self) -> Callable[..., Any] | None:
        """The NumPyro model, by which ArviZ finds log-likelihoods and observed data."""
        return self._model

    @property
    def sampler(self) -> Any:
        """The sampler that was given."""
        return self._sampler

    @property
    def shared(self) -> Any:
        """What the sampler's adaptation computed once for all chains, when they began; None if nothing."""
        return self._shared

    @property
    def default_fields(self) -> tuple[str, ...]:
        """Collected at every step: the position and whether the step diverged."""
        return ("z", "diverging")

    def init(
        self,
        rng_key: Array,
        num_warmup: int,
        init_params: PyTree | None,
        model_args: tuple,
        model_kwargs: dict[str, Any],
    ) -> KernelState:
        """The first state: one chain's, or with a batch of keys that of as many chains."""
        target = self._target(model_args, model_kwargs)
        if target is None and init_params is None:
            raise ValueError("init_params is needed: a SamplingAlgorithm alone does not say where to start")
        self._num_warmup = num_warmup
        self._sample_fn = self.sample
        batched = not is_prng_key(rng_key)
        if target is not None and init_params is not None:
            init_params = _check_init_params(target, init_params, len(rng_key) if batched else None)
        # NumPyro calls this once a chain when it runs them in turn: the compiled function is kept for the next.
        leaves, treedef = jax.tree.flatten((model_args, model_kwargs))
        about = (treedef, num_warmup, batched, init_params is None)
        if self._compiled is not None and self._compiled[0] == about and _same(self._compiled[1], leaves):
            return self._compiled[2](rng_key, init_params)
        one = partial(self._first, target)
        many = jax.vmap(one, in_axes=(0, None if init_params is None else 0, None))
        begin, shared = jax.jit(many if batched else one), self._prepared(target)

        def first(rng_key: Array, init_params: PyTree | None) -> KernelState:
            return begin(rng_key, init_params, shared)

        self._shared = None if any(isinstance(leaf, jax.core.Tracer) for leaf in jax.tree.leaves(shared)) else shared
        if not any(isinstance(leaf, jax.core.Tracer) for leaf in leaves):
            self._compiled = (about, [leaf.copy() if isinstance(leaf, np.ndarray) else leaf for leaf in leaves], first)
        return first(rng_key, init_params)

    def sample(self, state: KernelState, model_args: tuple, model_kwargs: dict[str, Any]) -> KernelState:
        """One step, of the adaptation while the warm-up lasts, of the algorithm after."""
        target = self._target(model_args, model_kwargs)
        batched = state.i.ndim == 1
        each = jax.vmap if batched else lambda step: step
        advance = each(partial(self._advance, target))
        if state.adaptation is None:
            return advance(state)
        adapt = each(partial(self._adapt, cast(Target, target)))
        # Outside the vmap, so that it stays a branch and does not become a selection between two computed steps.
        i = state.i[0] if batched else state.i
        return jax.lax.cond(i < self._num_warmup, adapt, advance, state)

    def postprocess_fn(self, model_args: tuple, model_kwargs: dict[str, Any]) -> Callable[[PyTree], PyTree]:
        """From an unconstrained position to the values of the model's sites, deterministic ones too."""
        target = self._target(model_args, model_kwargs)
        return (lambda z: z) if target is None else target.constrain

    def get_diagnostics_str(self, state: KernelState) -> str:
        """For NumPyro's progress bar."""
        parts = []
        if "step_size" in state.parameters:
            parts.append(f"step size {float(state.step_size):.2e}")
        if hasattr(state.info, "acceptance_rate"):
            parts.append(f"acc. prob={float(state.mean_accept_prob):.2f}")
        return ", ".join(parts)

    def _target(self, args: tuple, kwargs: dict[str, Any]) -> Target | None:
        if self._fixed_target is not None:
            return self._fixed_target
        return None if self._model is None else Target.from_numpyro(self._model, *args, **kwargs)

    def _build(self, target: Target | None, parameters: dict[str, Any]) -> Any:
        if hasattr(self._sampler, "step"):
            return self._sampler
        target = cast(Target, target)
        if not hasattr(self._sampler, "build"):
            return self._sampler(target)
        target.require(self._sampler.traits, _name(self._sampler))
        return self._sampler.build(target, **parameters)

    def _prepared(self, target: Target | None) -> PyTree:
        """What the sampler's adaptation computes once for all chains, if anything."""
        if not self._num_warmup or not hasattr(self._sampler, "adaptation"):
            return None
        target = cast(Target, target)
        target.require(self._sampler.traits, _name(self._sampler))
        prepare = self._sampler.adaptation(target, self._num_warmup).prepare
        return None if prepare is None else jax.jit(prepare)()

    def _first(self, target: Target | None, key: Array, position: PyTree | None, prepared: PyTree) -> KernelState:
        key, position_key, init_key, step_key = jax.random.split(key, 4)
        if position is None:
            position = cast(Target, target).initial_position(position_key)
        position = jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.result_type(leaf)), position)
        if self._num_warmup and hasattr(self._sampler, "adaptation"):
            target = cast(Target, target)
            target.require(self._sampler.traits, _name(self._sampler))
            adaptation = self._sampler.adaptation(target, self._num_warmup)
            shared = () if adaptation.prepare is None else (prepared,)
            adapting = adaptation.init(init_key, position, *shared)
            algorithm, parameters = adaptation.result(adapting)
        else:
            adapting, parameters = None, {}
            algorithm = self._build(target, {}).init(position, init_key)
        _, info = jax.eval_shape(self._build(target, parameters).step, step_key, algorithm)
        info = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), info)
        energy = self._potential_energy(target, algorithm)
        mean = jnp.zeros((), energy.dtype) if hasattr(info, "acceptance_rate") else jnp.full((), jnp.nan, energy.dtype)
        count = jnp.zeros((), jnp.int32)
        state = KernelState(count, algorithm.position, energy, mean, algorithm, adapting, parameters, info, key)
        return jax.tree.map(_strong, state)

    def _adapt(self, target: Target, state: KernelState) -> KernelState:
        key, step_key = jax.random.split(state.rng_key)
        adaptation = self._sampler.adaptation(target, self._num_warmup)
        adapting, info = adaptation.step(step_key, state.i, state.adaptation)
        algorithm, parameters = adaptation.result(adapting)
        return self._next(target, state, key, algorithm, adapting, parameters, info)

    def _advance(self, target: Target | None, state: KernelState) -> KernelState:
        key, step_key = jax.random.split(state.rng_key)
        algorithm, info = self._build(target, state.parameters).step(step_key, state.algorithm)
        return self._next(target, state, key, algorithm, state.adaptation, state.parameters, info)

    def _next(
        self,
        target: Target | None,
        old: KernelState,
        key: Array,
        algorithm: PyTree,
        adapting: PyTree,
        parameters: dict[str, Any],
        info: PyTree,
    ) -> KernelState:
        i = old.i + 1
        mean = old.mean_accept_prob
        if hasattr(info, "acceptance_rate"):
            since = jnp.where(i > self._num_warmup, i - self._num_warmup, i)
            mean = mean + (info.acceptance_rate - mean) / since
        energy = self._potential_energy(target, algorithm)
        new = KernelState(i, algorithm.position, energy, mean, algorithm, adapting, parameters, info, key)
        # A branch and a scan need the types of the state to stay as they are.
        return jax.tree.map(lambda leaf, was: _cast(leaf, was.dtype), new, old)

    def _potential_energy(self, target: Target | None, algorithm: PyTree) -> Array:
        logdensity = getattr(algorithm, "logdensity", None)
        if logdensity is None:
            if target is None:
                return jnp.full((), jnp.nan)
            logdensity = target.log_density(algorithm.position)
        return -logdensity


def _name(sampler: Any) -> str:
    return type(sampler).__name__


def _same(leaves: list[Any], others: list[Any]) -> bool:
    """Whether two lists of arguments are the same for sure; NumPy arrays are compared, since they can be changed."""

    def equal(a: Any, b: Any) -> bool:
        if isinstance(a, np.ndarray) and isinstance(b, np.ndarray):
            return a.dtype == b.dtype and np.array_equal(a, b)
        return a is b and isinstance(a, (jax.Array, int, float, complex, str))

    return len(leaves) == len(others) and all(map(equal, leaves, others))


def _check_init_params(target: Target, init_params: PyTree, num_chains: int | None) -> PyTree:
    """Starting positions of the target's structure, dtypes too."""
    lead = () if num_chains is None else (num_chains,)
    expected = jax.tree.map(lambda leaf: (*lead, *leaf.shape), target.structure)
    found = jax.tree.map(jnp.shape, init_params)
    if found != expected:
        raise ValueError(
            f"init_params has the shapes {found}: expected {expected}, unconstrained values of every latent site"
            + (", with a leading axis of chains" if lead else "")
        )
    return jax.tree.map(lambda leaf, like: jnp.asarray(leaf, like.dtype), init_params, target.structure)


def _cast(leaf: Any, dtype: Any) -> Array:
    leaf = jnp.asarray(leaf)
    return leaf if leaf.dtype == dtype else leaf.astype(dtype)


def _strong(leaf: Any) -> Array:
    """The same array with its dtype fixed, where a Python number left it open."""
    leaf = jnp.asarray(leaf)
    return leaf if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key) else leaf.astype(leaf.dtype)
