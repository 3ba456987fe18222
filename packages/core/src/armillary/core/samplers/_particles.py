"""What nested sampling and sequential Monte Carlo share as NumPyro kernels: a whole run, then draws from it."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, PyTree

from armillary.core.protocols import Target


class ParticlesState(NamedTuple):
    """A finished run, and the particle last drawn from it.

    Its fields can be collected by ``MCMC.run(..., extra_fields=("algorithm.log_z",))``.

    Args:
        position: the particle last drawn.
        logdensity: its log posterior density.
        particles: all particles, with a leading axis.
        log_weights: their normalised posterior log-weights.
        log_z: the log-evidence.
        log_z_err: its standard error.
        effective_size: 1 / sum of the squared weights; draws beyond that number repeat themselves.
        converged: whether the run came to its end within its limit of iterations.
    """

    position: PyTree
    logdensity: Array
    particles: PyTree
    log_weights: Array
    log_z: Array
    log_z_err: Array
    effective_size: Array
    converged: Array


class ParticlesInfo(NamedTuple):
    """The number of the particle drawn; ``is_divergent`` is true of every draw of a run that did not converge."""

    particle: Array
    is_divergent: Array


def sample_prior(target: Target, key: jax.Array, num: int) -> PyTree:
    """``num`` prior draws, with a leading axis."""
    return jax.vmap(target.sample_prior)(jax.random.split(key, num))  # type: ignore[attr-defined]


def finish(
    target: Target,
    particles: PyTree,
    log_weights: Array,
    log_z: Array,
    log_z_err: Array,
    converged: Array,
) -> ParticlesState:
    """The state of a finished run, at its heaviest particle until `draw` draws one."""
    log_weights = log_weights - jax.nn.logsumexp(log_weights)
    position = take(particles, jnp.argmax(log_weights))
    effective_size = jnp.exp(-jax.nn.logsumexp(2 * log_weights))
    logdensity = target.log_density(position)
    return ParticlesState(position, logdensity, particles, log_weights, log_z, log_z_err, effective_size, converged)


def draw(target: Target, key: jax.Array, state: ParticlesState) -> tuple[ParticlesState, ParticlesInfo]:
    """An independent draw from the weighted particles."""
    index = jax.random.categorical(key, state.log_weights)
    position = take(state.particles, index)
    state = state._replace(position=position, logdensity=target.log_density(position))
    return state, ParticlesInfo(index, ~state.converged)


def take(particles: PyTree, index: Array) -> PyTree:
    """One particle."""
    return jax.tree.map(lambda leaf: leaf[index], particles)
