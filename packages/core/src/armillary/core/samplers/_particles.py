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


# The prior is drawn from in at most this many batches before a likelihood is taken to vanish everywhere.
_MAX_BATCHES = 1000


class Start(NamedTuple):
    """Prior draws where the likelihood is not zero, and how large a part of the prior that is."""

    particles: PyTree
    log_fraction: Array
    variance: Array
    complete: Array


def start(target: Target, key: jax.Array, num: int) -> Start:
    """``num`` prior draws of finite log-likelihood, by rejection.

    With draws of zero likelihood among them the particles would be ties, and the volume that they stand for
    would be taken for another. The evidence is that over the rest of the prior, times its fraction n / tries.
    """
    shapes = jax.eval_shape(target.sample_prior, key)  # type: ignore[attr-defined]
    particles = jax.tree.map(lambda leaf: jnp.zeros((num, *leaf.shape), leaf.dtype), shapes)
    dtype = jax.eval_shape(target.log_likelihood, shapes).dtype

    def fill(carry: tuple) -> tuple:
        particles, found, tries, batch = carry
        keys = jax.random.split(jax.random.fold_in(key, batch), num)
        drawn = jax.vmap(target.sample_prior)(keys)  # type: ignore[attr-defined]
        good = jnp.isfinite(jax.vmap(target.log_likelihood)(drawn))
        place = jnp.where(good, found + jnp.cumsum(good) - 1, num)
        particles = jax.tree.map(lambda all_, new: all_.at[place].set(new, mode="drop"), particles, drawn)
        # The tries end with the draw that fills the last place.
        last = jnp.where(found + good.sum() >= num, jnp.argmax(place == num - 1) + 1, num)
        return particles, jnp.minimum(found + good.sum(), num), tries + last, batch + 1

    def lacks(carry: tuple) -> Array:
        _, found, _, batch = carry
        return (found < num) & (batch < _MAX_BATCHES)

    zero = jnp.zeros((), jnp.int32)
    carry = fill((particles, zero, zero, zero))
    carry = jax.tree.map(lambda leaf, like: leaf.astype(like.dtype), carry, (particles, zero, zero, zero))
    particles, found, tries, _ = jax.lax.while_loop(
        lacks, lambda c: jax.tree.map(lambda leaf, like: leaf.astype(like.dtype), fill(c), c), carry
    )
    fraction = found.astype(dtype) / tries
    return Start(particles, jnp.log(fraction), (1 - fraction) / jnp.maximum(found, 1), found == num)


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
