"""The laws of a likelihood."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
from jaxtyping import Array, PyTree

from ._checks import Broken, Case, check, run
from ._numbers import agree, directional, finite, tolerance


@check("likelihood", "it maps a parameter to a numpyro.distributions.Distribution", "what `__call__` returns")
def check_likelihood_interface(case: Case) -> None:
    """A distribution comes out."""
    found = case.component(_parameter(case))
    if not isinstance(found, dist.Distribution):
        raise Broken(f"it returned a {type(found).__name__}")


@check(
    "likelihood",
    "the log-density of data is finite, and its shape is the batch shape",
    "the scale of the noise, and the event dimensions of the distribution",
)
def check_likelihood_log_density(case: Case) -> None:
    """Data drawn from the likelihood itself."""
    distribution = case.component(_parameter(case))
    data = distribution.sample(jax.random.key(1))
    if jnp.shape(data) != distribution.batch_shape + distribution.event_shape:
        raise Broken(
            f"data have shape {jnp.shape(data)}, expected {distribution.batch_shape + distribution.event_shape}"
        )
    value = distribution.log_prob(data)
    if jnp.shape(value) != distribution.batch_shape:
        raise Broken(f"the log-density has shape {jnp.shape(value)}, expected {distribution.batch_shape}")
    finite(value, "the log-density")


@check(
    "likelihood",
    "the log-density depends on the parameter, and its gradient agrees with finite differences",
    "jax.lax.stop_gradient, rounding, NumPy functions, and integers between the parameter and the density",
)
def check_likelihood_gradient(case: Case) -> None:
    """In double precision as far as the likelihood allows."""
    x = _parameter(case)
    data = case.component(x).sample(jax.random.key(2))
    with jax.enable_x64(True):
        x, data = jax.tree.map(_double, (x, data))
        f = _log_density(case, data)
        directional(f, x, jax.random.key(3), "the log-density")
        if all((np.asarray(leaf) == 0).all() for leaf in jax.tree.leaves(jax.grad(f)(x))):
            raise Broken("its gradient is exactly zero")


@check("likelihood", "jit equals eager, and vmap over parameters equals a loop", "Python control flow on values")
def check_likelihood_transforms(case: Case) -> None:
    """Under jax.jit and jax.vmap."""
    x = _parameter(case)
    data = case.component(x).sample(jax.random.key(4))
    f = _log_density(case, data)
    rtol = tolerance(x, case.tolerance)
    agree(jax.jit(f)(x), f(x), "the log-density under jit", rtol)
    other = jax.tree.map(lambda leaf: 0.9 * leaf, x)
    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), x, other)
    agree(jax.vmap(f)(stacked), jnp.stack([f(x), f(other)]), "the log-density under vmap", rtol)


def check_likelihood(likelihood: Any) -> None:
    """Run every check of a likelihood: see `armillary.core.protocols.Likelihood` for the laws.

    Args:
        likelihood: a `Case` of it, with a parameter as the example.

    Raises:
        ConformanceError: at the first violation, with the law, the numbers, and what to look at.
    """
    run("likelihood", likelihood)


def _parameter(case: Case) -> PyTree:
    return jax.tree.map(jnp.asarray, case.draw(jax.random.key(0)))


def _log_density(case: Case, data: Array) -> Any:
    return lambda x: case.component(x).log_prob(data).sum()


def _double(x: Array) -> Array:
    array = np.asarray(x)
    if np.iscomplexobj(array):
        return jnp.asarray(array, jnp.complex128)
    return jnp.asarray(array, jnp.float64) if np.issubdtype(array.dtype, np.floating) else jnp.asarray(array)
