"""BlackJAX's nested slice sampling, run to its end and then drawn from."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar

import blackjax
import jax
import jax.numpy as jnp
from jaxtyping import Array, PyTree

from armillary.core.protocols import Target

from . import _particles, _settings

# How many random sequences of prior volumes the error of the evidence is estimated from.
_VOLUME_PATHS = 64


@dataclass(frozen=True)
class NestedSliceSampling:
    r"""Nested sampling with slice moves (Skilling 2006; Yallup, Kroupa & Handley 2026, arXiv:2601.23252).

    ``init`` makes the whole run; each ``step`` then draws a particle in proportion to its posterior weight

    .. math:: w_i \propto L_i (X_{i-1} - X_i),

    so that the draws of a chain are independent given the run; each chain is a run of its own. Their number should
    not much exceed the state's ``effective_size``. A warm-up has nothing to do: ``num_warmup=0`` will do.

    Args:
        num_live: live points; the error of ln Z is about ``sqrt(information / num_live)``.
        num_delete: points replaced at once; a tenth of ``num_live`` by default.
        num_inner_steps: slice moves for a new point; ``max(5, 2 * dim)`` by default, less biases ln Z upwards.
        tolerance: the run ends when the live points hold less than this fraction of the evidence.
        max_compression: the run stops, unconverged, when the prior volume has shrunk by exp of this many nats.

    Raises:
        ValueError: a setting out of its range, or a target without ``sample_prior``.
    """

    num_live: int = 500
    num_delete: int | None = None
    num_inner_steps: int | None = None
    tolerance: float = 1e-3
    max_compression: float = 60.0

    traits: ClassVar[frozenset[str]] = frozenset({"sample_prior"})

    def __post_init__(self) -> None:
        _settings.count("num_live", self.num_live, 2)
        if self.num_delete is not None:
            _settings.count("num_delete", self.num_delete)
            if self.num_delete >= self.num_live:
                raise ValueError(f"num_delete={self.num_delete}: expected less than num_live={self.num_live}")
        if self.num_inner_steps is not None:
            _settings.count("num_inner_steps", self.num_inner_steps)
        _settings.fraction("tolerance", self.tolerance)
        _settings.positive("max_compression", self.max_compression)

    def build(self, target: Target) -> Any:
        """The algorithm: its ``init`` is the run, its ``step`` a draw."""
        target.require(self.traits, "nested-slice-sampling")
        num_delete = self.num_delete or max(1, self.num_live // 10)
        # Deleting k of n points at once shrinks the volume by the factors 1 - 1/n, ..., 1 - 1/(n-k+1).
        rates = 1.0 / jnp.arange(self.num_live, self.num_live - num_delete, -1)
        shrinkage = sum(1.0 / n for n in range(self.num_live - num_delete + 1, self.num_live + 1))
        max_iterations = math.ceil(self.max_compression / shrinkage)
        algorithm = blackjax.nss(
            target.log_prior,
            target.log_likelihood,
            num_inner_steps=self.num_inner_steps or max(5, 2 * target.dim),
            num_delete=num_delete,
        )

        def init(position: PyTree, rng_key: jax.Array) -> _particles.ParticlesState:
            prior_key, init_key, run_key, volume_key = jax.random.split(rng_key, 4)
            start = _particles.start(target, prior_key, self.num_live)
            live = algorithm.init(start.particles, init_key)
            shapes = jax.eval_shape(algorithm.step, run_key, live)[1].particles
            dead = jax.tree.map(lambda leaf: jnp.zeros((max_iterations, *leaf.shape), leaf.dtype), shapes)
            dead = dead._replace(loglikelihood=jnp.full_like(dead.loglikelihood, -jnp.inf))

            def remains(carry: tuple) -> Array:
                live, _, i = carry
                remaining = live.integrator.logZ_live - live.integrator.logZ
                return (i < max_iterations) & ~(remaining < math.log(self.tolerance))

            def iterate(carry: tuple) -> tuple:
                live, dead, i = carry
                live, info = algorithm.step(jax.random.fold_in(run_key, i), live)
                order = jnp.argsort(info.particles.loglikelihood)
                dead = jax.tree.map(lambda all_, new: all_.at[i].set(new[order]), dead, info.particles)
                return live, dead, i + 1

            # The first step settles the weak types of the carry.
            carry = iterate((live, dead, jnp.zeros((), jnp.int32)))
            live, dead, num = jax.lax.while_loop(remains, iterate, carry)
            converged = start.complete & ~remains((live, dead, jnp.zeros((), jnp.int32)))
            return self._weigh(target, live.particles, dead, num, rates, volume_key, converged, start)

        def step(
            rng_key: jax.Array, state: _particles.ParticlesState
        ) -> tuple[_particles.ParticlesState, _particles.ParticlesInfo]:
            return _particles.draw(target, rng_key, state)

        return blackjax.SamplingAlgorithm(init, step)

    def _weigh(
        self,
        target: Target,
        live: Any,
        dead: Any,
        num: Array,
        rates: Array,
        key: jax.Array,
        converged: Array,
        start: _particles.Start,
    ) -> _particles.ParticlesState:
        """Posterior weights and evidence of the dead points and of the live ones that are left."""
        max_iterations, num_delete = dead.loglikelihood.shape
        dtype = dead.loglikelihood.dtype
        used = jnp.repeat(jnp.arange(max_iterations) < num, num_delete)
        dead_loglikelihood = dead.loglikelihood.reshape(-1)

        def log_terms(log_shrinkage: Array) -> Array:
            """ln(L_i dX_i) of the dead points, then of the live ones, for a sequence of ln(X_i / X_{i-1})."""
            log_volume = jnp.cumsum(jnp.where(used, log_shrinkage, 0.0))
            before = jnp.concatenate([jnp.zeros(1, dtype), log_volume[:-1]])
            shell = before + jnp.log(-jnp.expm1(jnp.minimum(log_shrinkage, -jnp.finfo(dtype).tiny)))
            dead_terms = jnp.where(used, dead_loglikelihood + shell, -jnp.inf)
            live_terms = live.loglikelihood + log_volume[-1] - math.log(self.num_live)
            return jnp.concatenate([dead_terms, live_terms])

        mean_shrinkage = -jnp.tile(rates.astype(dtype), max_iterations)
        log_weights = log_terms(mean_shrinkage)
        exponential = jax.random.exponential(key, (_VOLUME_PATHS, used.size), dtype)
        paths = jax.lax.map(lambda e: jax.nn.logsumexp(log_terms(e * mean_shrinkage)), exponential)
        particles = jax.tree.map(
            lambda old, new: jnp.concatenate([old.reshape(-1, *new.shape[1:]), new]), dead.position, live.position
        )
        log_z = jax.nn.logsumexp(log_weights) + start.log_fraction
        log_z_err = jnp.where(converged, jnp.sqrt(jnp.var(paths) + start.variance), jnp.inf)
        return _particles.finish(target, particles, log_weights, log_z, log_z_err, converged)
