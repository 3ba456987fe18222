"""Samples and log-densities as they come, checked and brought into one form."""

from __future__ import annotations

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PyTree

from ._harmonic import check_finite

# Draws whose log-density is computed at once: memory stays bounded, and the vector units busy.
_BATCH = 256


def as_matrix(samples: PyTree) -> Float[np.ndarray, "chain draw dim"]:
    """Samples as one array, in the order of `jax.flatten_util.ravel_pytree`, in float64.

    Raises:
        ValueError: there is no array, or they differ in their leading axes (chain, draw).
    """
    leaves = [np.asarray(leaf) for leaf in jax.tree.leaves(samples)]
    shapes = [leaf.shape for leaf in leaves]
    if not leaves or any(len(shape) < 2 or shape[:2] != shapes[0][:2] for shape in shapes):
        raise ValueError(f"samples: the arrays need the same leading axes (chain, draw); their shapes are {shapes}")
    return np.concatenate([leaf.reshape(*leaf.shape[:2], -1) for leaf in leaves], -1, dtype=np.float64)


def evaluate(log_density: Callable[[PyTree], Array], samples: PyTree) -> Float[np.ndarray, "chain draw"]:
    """The log-density at every sample, in the precision in which it computes."""
    shape = jnp.shape(jax.tree.leaves(samples)[0])[:2]
    flat = jax.tree.map(lambda leaf: jnp.reshape(leaf, (-1, *jnp.shape(leaf)[2:])), samples)
    values = _batched(log_density)(flat)
    if values.shape != (shape[0] * shape[1],):
        raise ValueError(f"log_density gives an array of shape {values.shape[1:]} at one position: it gives one number")
    return np.asarray(values).reshape(shape)


def check_samples(samples: np.ndarray, log_density: np.ndarray) -> None:
    """Refuse samples and log-densities from which no evidence can be had."""
    if samples.ndim != 3 or 0 in samples.shape:
        raise ValueError(f"samples: expected an array (chain, draw, dim), none of them 0; its shape is {samples.shape}")
    if log_density.shape != samples.shape[:2]:
        raise ValueError(
            f"log_density: expected shape {samples.shape[:2]}, the (chain, draw) of the samples, and not "
            f"{log_density.shape}"
        )
    bad = ~np.isfinite(samples)
    if bad.any():
        chain, draw, which = (int(i) for i in np.argwhere(bad)[0])
        raise ValueError(
            f"samples are not finite at {int(bad.any(-1).sum())} of {log_density.size} draws, first at chain {chain}, "
            f"draw {draw}, parameter {which}: a parameter on the edge of its support has no finite unconstrained value "
            "(numpyro.enable_x64() before sampling moves it off the edge)"
        )
    check_finite("log_density", list(log_density))


def block(values: np.ndarray, number: int) -> np.ndarray:
    length = values.shape[1] // number
    if length == 0:
        raise ValueError(f"samples: {values.shape[1]} draws cannot be cut into {number} blocks; give more draws")
    # What does not fill a block is left out at the start, where a chain is least converged.
    kept = values[:, values.shape[1] - number * length :]
    return kept.reshape(-1, length, *values.shape[2:])


def rounding(log_density: np.ndarray) -> float:
    """The rounding error of the log-densities, in nats."""
    values = np.asarray(log_density)
    if not np.issubdtype(values.dtype, np.floating):
        return 0.0
    return float(np.finfo(values.dtype).eps * np.max(np.abs(values), initial=0.0))


@functools.lru_cache(maxsize=4)
def _batched(log_density: Callable[[PyTree], Array]) -> Callable[[PyTree], Array]:
    # Kept by function, so that the proposals of an estimate cost no second compilation.
    return jax.jit(lambda xs: jax.lax.map(log_density, xs, batch_size=_BATCH))
