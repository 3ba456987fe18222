"""Weighted moments of points that come a few at a time and are not kept."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PyTree


class Moments(NamedTuple):
    """Weighted sums, relative to a weight that no double or single number has to hold.

    Args:
        log_weight: ln of the sum of the weights.
        log_weight_squared: ln of the sum of their squares.
        loglikelihood: the weighted mean of the log-likelihood.
        mean: the weighted mean of the position.
        square: the weighted mean of the squared distance from it, element by element.
    """

    log_weight: Float[Array, ""]
    log_weight_squared: Float[Array, ""]
    loglikelihood: Float[Array, ""]
    mean: PyTree
    square: PyTree

    @classmethod
    def empty(cls, position: PyTree, dtype: jnp.dtype) -> Moments:
        """Of no points."""
        zeros = jax.tree.map(jnp.zeros_like, position)
        nothing = jnp.full((), -jnp.inf, dtype)
        return cls(nothing, nothing, jnp.zeros((), dtype), zeros, zeros)


def add(
    moments: Moments, positions: PyTree, loglikelihood: Float[Array, " n"], log_weights: Float[Array, " n"]
) -> Moments:
    """The moments with some points more: the update of Chan, Golub & LeVeque 1983, Am. Stat. 37, 242, weighted."""
    new = jax.nn.logsumexp(log_weights)
    weights = jnp.exp(log_weights - jnp.where(jnp.isfinite(new), new, 0.0))
    total = jnp.logaddexp(moments.log_weight, new)
    share = jnp.where(jnp.isfinite(total), jnp.exp(new - total), 0.0)

    def merge(mean: Array, square: Array, points: Array) -> tuple[Array, Array]:
        w, a = weights.astype(points.dtype), share.astype(points.dtype)
        centre = jnp.tensordot(w, points, axes=1)
        spread = jnp.tensordot(w, (points - centre) ** 2, axes=1)
        shift = centre - mean
        return mean + a * shift, (1 - a) * square + a * spread + a * (1 - a) * shift**2

    pairs = jax.tree.map(merge, moments.mean, moments.square, positions)
    mean, square = (jax.tree.map(lambda leaf, pair, i=i: pair[i], moments.mean, pairs) for i in (0, 1))
    return Moments(
        total,
        jnp.logaddexp(moments.log_weight_squared, jax.nn.logsumexp(2 * log_weights)),
        moments.loglikelihood + share * (weights @ loglikelihood - moments.loglikelihood),
        mean,
        square,
    )


def standard_deviation(moments: Moments) -> PyTree:
    """The weighted standard deviation of each element."""
    return jax.tree.map(jnp.sqrt, moments.square)


def effective_size(moments: Moments) -> Float[Array, ""]:
    """The number of points of equal weight that would do as well: the squared sum over the sum of squares."""
    return jnp.exp(2 * moments.log_weight - moments.log_weight_squared)
