"""Coordinates in which a posterior is near the standard normal, for chains to move in."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float, PyTree

from ._laplace import laplace

# Each layer is fitted where the draws of the normal are shrunk by so much: from the middle, where it is small, to all.
_SCALES = np.array([0.25, 0.35, 0.5, 0.7, 1.0, 1.0])
# So many of the widest directions bend the others.
_RANK = 10
# Draws for each coefficient of the regression.
_DRAWS = 3.2
# Towards so many standard deviations they bend no further, and a chain in the tails is not thrown out.
_REACH = 10.0


class Layer(NamedTuple):
    """One quadratic map; the volume changes by the same everywhere."""

    shift: Float[Array, " dim"]
    mix: Float[Array, "dim dim"]
    bend: Float[Array, "dim rank rank"]

    def __call__(self, y: Float[Array, " dim"]) -> Float[Array, " dim"]:
        """``shift + mix (y + bend(y, y) / 2)``."""
        wide = _reached(y[: self.bend.shape[-1]])
        return self.shift + self.mix @ (y + 0.5 * (self.bend @ wide) @ wide)


class Transport(NamedTuple):
    """A map from coordinates that are nearly standard normal to positions, as vectors.

    Args:
        mode: of the density.
        factor: of the covariance there, a column for each direction, from the widest on.
        layers: of quadratic maps, stacked; the last is the first to be applied.
    """

    mode: Float[Array, " dim"]
    factor: Float[Array, "dim dim"]
    layers: Layer

    def __call__(self, y: Float[Array, " dim"]) -> Float[Array, " dim"]:
        """The position at coordinates ``y``."""
        y, _ = jax.lax.scan(lambda y, layer: (layer(y), None), y, self.layers, reverse=True)
        return self.mode + self.factor @ y


def transport(log_density: Callable[[PyTree], Array], position: PyTree, key: jax.Array) -> Transport:
    r"""The normal about the mode, bent to the ridges of a density; it can be traced and mapped over chains.

    .. math:: x = m + F\, T_1(T_2(\dots T_K(y))), \qquad
              T(y) = b + L \left(y + \tfrac12 Q(\bar y, \bar y)\right), \quad \bar y = y\, (1 + (y / 10)^8)^{-1/8}

    with L triangular, and Q so that each direction is bent by wider ones alone: the volume changes by the same factor
    everywhere, and a density keeps its form. The quadratic maps are fitted one after another. Of a standard normal the
    score s(y), the gradient of its logarithm, is -y; what s(y) + y is instead, at draws of a normal, is regressed on 1,
    y and products of two of the widest directions, whose coefficients are the mean first, second and third derivatives
    (Stein 1981, Ann. Statist. 9, 1135). Newton's step with the second gives b and L, and the third is what Q cancels.
    The draws come from the middle of the normal at first. A map that does not bring the score nearer to -y, in the
    median at the same draws, is left out.

    That a chain moves where a map has made the density simple is the idea of Hoffman et al. (2019, arXiv:1903.03704),
    whose maps are networks.

    Args:
        log_density: of one position.
        position: where the search for the mode starts.
        key: for the draws.
    """
    normal_key, key = jax.random.split(key)
    _, unravel = ravel_pytree(position)
    # The curvature at the mode itself: a ridge that is bent leaves its tangent soon.
    normal = laplace(log_density, position, normal_key, reach=0.02, growth=3.0)
    mode, _ = ravel_pytree(normal.mode)
    variances, axes = jnp.linalg.eigh(normal.covariance)
    factor = axes[:, ::-1] * jnp.sqrt(jnp.maximum(variances[::-1], jnp.finfo(mode.dtype).tiny))
    dim, rank, count = len(mode), min(len(mode), _RANK), len(_SCALES)
    num_draws = 2 * round(_DRAWS * (1 + dim + rank * (rank + 1) // 2) / 2)
    residual = jax.grad(lambda y, layers: log_density(unravel(Transport(mode, factor, layers)(y))) + 0.5 * y @ y)

    def visit(i: Array, fit: _Fit) -> _Fit:
        """At even steps a layer is fitted, and at odd ones tried: the density is called at one place of the program."""
        k = i // 2
        draws = jax.random.normal(jax.random.fold_in(key, k), (num_draws // 2, dim), mode.dtype)
        draws = jnp.asarray(_SCALES, mode.dtype)[k] * jnp.concatenate([draws, -draws])
        residuals = jax.lax.map(lambda y: residual(y, fit.trial), draws, batch_size=4)
        lengths = jnp.sum(residuals**2, axis=1)
        lengths = jnp.where(jnp.isfinite(lengths), lengths, jnp.inf)
        median = jnp.median(lengths)

        def begin() -> _Fit:
            layer = _fitted(draws, residuals, lengths, rank)
            return _Fit(fit.layers, jax.tree.map(lambda every, one: every.at[k].set(one), fit.layers, layer), median)

        def judge() -> _Fit:
            kept = jax.tree.map(lambda new, old: jnp.where(median < fit.median, new, old), fit.trial, fit.layers)
            return _Fit(kept, kept, median)

        return jax.lax.cond(i % 2 == 0, begin, judge)

    layers = jax.tree.map(lambda leaf: jnp.broadcast_to(leaf, (count, *leaf.shape)), _nothing(mode, rank))
    fit = jax.lax.fori_loop(0, 2 * count, visit, _Fit(layers, layers, jnp.array(jnp.inf, mode.dtype)))
    return Transport(mode, factor, fit.layers)


class _Fit(NamedTuple):
    """The layers so far, the same with one more that is to be judged, and the median length of the residuals."""

    layers: Layer
    trial: Layer
    median: Array


def _nothing(like: Float[Array, " dim"], rank: int) -> Layer:
    dim = len(like)
    return Layer(jnp.zeros_like(like), jnp.eye(dim, dtype=like.dtype), jnp.zeros((dim, rank, rank), like.dtype))


def _reached(y: Array) -> Array:
    return y / (1 + (y / _REACH) ** 8) ** 0.125


def _fitted(
    draws: Float[Array, "n dim"], residuals: Float[Array, "n dim"], lengths: Float[Array, " n"], rank: int
) -> Layer:
    """The layer that would bring the scores to those of a standard normal, to third order."""
    dim = draws.shape[1]
    first, second = np.triu_indices(rank)
    # Outliers, which are far out on a bent ridge, count less, and what is not finite nothing.
    weights = 1 / jnp.sqrt(1 + lengths / (4 * jnp.median(lengths)))
    weights = jnp.where(jnp.isfinite(weights), weights, 0)[:, None]
    wide = _reached(draws[:, :rank])
    products = wide[:, first] * wide[:, second] * np.where(first == second, 0.5, 1).astype(draws.dtype)
    features = weights * jnp.concatenate([jnp.ones_like(weights), draws, products], axis=1)
    size = jnp.sqrt(jnp.sum(features**2, axis=0))
    size = jnp.where(size > 0, size, 1)
    features = features / size
    gram = features.T @ features + 1e-4 * jnp.eye(features.shape[1], dtype=draws.dtype)
    right = features.T @ jnp.where(weights > 0, weights * residuals, 0)
    solved = jax.scipy.linalg.solve(gram, right, assume_a="pos") / size[:, None]
    slope, hessian, third = jnp.split(solved, [1, 1 + dim])
    # Newton's step, and the square root of the covariance; no direction becomes wider by more than three times, or
    # narrower than by half.
    hessian = jnp.where(jnp.all(jnp.isfinite(hessian)), hessian, 0)
    precisions, axes = jnp.linalg.eigh(jnp.eye(dim, dtype=draws.dtype) - (hessian + hessian.T) / 2)
    covariance = (axes / jnp.clip(precisions, 0.1, 4)) @ axes.T
    shift = covariance @ slope[0]
    shift = shift / jnp.maximum(jnp.linalg.norm(shift), 1)
    mix = jnp.linalg.cholesky(covariance)
    # [i, a, b], of which each is there three times where all are wide.
    tensor = jnp.zeros((dim, rank, rank), draws.dtype)
    tensor = tensor.at[:, first, second].set(third.T).at[:, second, first].set(third.T)
    inner = tensor[:rank]
    tensor = tensor.at[:rank].set((inner + jnp.moveaxis(inner, 0, 1) + jnp.moveaxis(inner, 0, 2)) / 3)
    corner = mix[:rank, :rank]
    bend = jnp.einsum("ji,jcd,ca,db->iab", mix, tensor, corner, corner)
    earlier = np.maximum(np.arange(rank)[:, None], np.arange(rank)) < np.arange(dim)[:, None, None]
    layer = Layer(shift, mix, jnp.where(earlier, bend, 0))
    finite = jnp.all(jnp.array([jnp.all(jnp.isfinite(leaf)) for leaf in layer]))
    return jax.tree.map(lambda new, old: jnp.where(finite, new, old), layer, _nothing(draws[0], rank))
