"""BlackJAX's adaptively tempered sequential Monte Carlo, run to its end and then drawn from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import blackjax
import jax
import jax.numpy as jnp
from blackjax.mcmc import random_walk
from blackjax.smc import adaptive_tempered, resampling
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, PyTree

from armillary.core.protocols import Target

from . import _particles, _settings

_MAX_TEMPERATURES = 1000


@dataclass(frozen=True)
class TemperedSMC:
    r"""Sequential Monte Carlo from the prior to the posterior (Del Moral, Doucet & Jasra 2006, JRSS B 68, 411).

    The inverse temperatures are chosen so that each step keeps ``target_ess`` of the particles; the particles move
    by random-walk Metropolis with 2.38**2 / dim of their own covariance. ``init`` makes the whole run; each ``step``
    draws a particle by its weight and moves it ``num_mcmc_steps`` more. A warm-up has nothing to do:
    ``num_warmup=0`` will do.

    The error of ln Z is that of the weights of each temperature, :math:`\sum_t (1/f_t - 1) / N` with f_t the effective
    fraction of the N particles, which holds when the moves mix: raise ``num_mcmc_steps`` until ln Z stays.

    Args:
        num_particles: N.
        num_mcmc_steps: Metropolis moves at each temperature.
        target_ess: fraction of the particles that a step of temperature is to keep.

    Raises:
        ValueError: a setting out of its range, or a target without ``sample_prior``.
    """

    num_particles: int = 1000
    num_mcmc_steps: int = 20
    target_ess: float = 0.8

    traits: ClassVar[frozenset[str]] = frozenset({"sample_prior"})

    def __post_init__(self) -> None:
        _settings.count("num_particles", self.num_particles, 10)
        _settings.count("num_mcmc_steps", self.num_mcmc_steps)
        _settings.fraction("target_ess", self.target_ess)

    def build(self, target: Target) -> Any:
        """The algorithm: its ``init`` is the run, its ``step`` a draw."""
        target.require(self.traits, "tempered-smc")
        move = random_walk.build_additive_step()

        def metropolis(key: jax.Array, state: Any, logdensity_fn: Any, factor: Array) -> tuple[Any, Any]:
            def propose(key: jax.Array, position: PyTree) -> PyTree:
                flat, unravel = ravel_pytree(position)
                return unravel(factor @ jax.random.normal(key, flat.shape, flat.dtype))

            return move(key, state, logdensity_fn, propose)

        kernel = adaptive_tempered.build_kernel(
            target.log_prior,
            target.log_likelihood,
            metropolis,
            random_walk.init,
            resampling.systematic,
            self.target_ess,
        )

        def init(position: PyTree, rng_key: jax.Array) -> _particles.ParticlesState:
            prior_key, run_key = jax.random.split(rng_key)
            start = _particles.start(target, prior_key, self.num_particles)
            state = adaptive_tempered.init(start.particles)
            dtype = state.weights.dtype
            state = state._replace(tempering_param=jnp.zeros((), dtype))

            def iterate(carry: tuple) -> tuple:
                state, log_z, variance, i = carry
                factor = _factor(state.particles, state.weights)[None]
                key = jax.random.fold_in(run_key, i)
                new, info = kernel(key, state, self.num_mcmc_steps, {"factor": factor})
                log_z = log_z + info.log_likelihood_increment
                variance = variance + (jnp.sum(new.weights**2) - 1.0 / self.num_particles)
                return new, log_z.astype(dtype), variance.astype(dtype), i + 1

            def remains(carry: tuple) -> Array:
                state, _, _, i = carry
                return (state.tempering_param < 1) & (i < _MAX_TEMPERATURES)

            carry = (state, start.log_fraction.astype(dtype), start.variance.astype(dtype), jnp.zeros((), jnp.int32))
            state, log_z, variance, _ = jax.lax.while_loop(remains, iterate, iterate(carry))
            converged = start.complete & (state.tempering_param >= 1) & jnp.isfinite(log_z)
            log_z_err = jnp.where(converged, jnp.sqrt(variance), jnp.inf)
            return _particles.finish(target, state.particles, jnp.log(state.weights), log_z, log_z_err, converged)

        def step(
            rng_key: jax.Array, state: _particles.ParticlesState
        ) -> tuple[_particles.ParticlesState, _particles.ParticlesInfo]:
            draw_key, move_key = jax.random.split(rng_key)
            state, info = _particles.draw(target, draw_key, state)
            factor = _factor(state.particles, jnp.exp(state.log_weights))
            walker = random_walk.init(state.position, target.log_density)

            def one(walker: Any, key: jax.Array) -> tuple[Any, None]:
                return metropolis(key, walker, target.log_density, factor)[0], None

            walker, _ = jax.lax.scan(one, walker, jax.random.split(move_key, self.num_mcmc_steps))
            return state._replace(position=walker.position, logdensity=walker.logdensity), info

        return blackjax.SamplingAlgorithm(init, step)


def _factor(particles: PyTree, weights: Array) -> Array:
    """The Cholesky factor of 2.38**2 / dim of the particles' covariance, which need not be of full rank."""
    flat = jax.vmap(lambda particle: ravel_pytree(particle)[0])(particles)
    dim = flat.shape[1]
    weights = weights.astype(flat.dtype)
    centred = flat - weights @ flat
    covariance = (centred * weights[:, None]).T @ centred
    ridge = 1e-6 * jnp.trace(covariance) / dim + jnp.finfo(flat.dtype).tiny
    return 2.38 / dim**0.5 * jnp.linalg.cholesky(covariance + ridge * jnp.eye(dim, dtype=flat.dtype))
