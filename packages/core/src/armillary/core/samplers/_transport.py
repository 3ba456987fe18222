"""Coordinates in which a posterior is near the standard normal, for chains to move in."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Bool, Float, PyTree

from ._bfgs import bfgs
from ._laplace import laplace

# So many of the widest directions bend the others, and none that is narrower than the widest by this factor.
_RANK, _RATIO = 12, 12.0
# Scattered points for each of these directions in a round; where they are drawn, in standard deviations; and the
# temperature at which what is known already chooses among draws: from the middle to what a chain will see, and beyond.
_POINTS = 36
_ROUNDS = np.array([[0.8, 1.0], [1.3, 1.0], [1.7, 1.5], [2.0, 2.0], [2.2, 2.0]])
_CANDIDATES = 8192
# Points below the mode by more nats tell nothing of where chains go.
_DEPTH = 30.0
# The scales over which a ridge bends, in standard deviations: looked for about the first, between the others.
_LENGTH, _SHORTEST, _LONGEST = 4.0, 1.0, 30.0
_SUBSET = 400
# Towards so many standard deviations the trend grows no further, and a chain in the tails is not thrown out.
_REACH = 8.0


class Kriging(NamedTuple):
    """Functions of the wide directions that go through values at scattered points.

    Args:
        centres: the points, in units of the lengths.
        lengths: over which the functions change, of each direction.
        trend: coefficients of 1, the directions, and products of two.
        weights: of the points' normal bumps.
    """

    centres: Float[Array, "points rank"]
    lengths: Float[Array, " rank"]
    trend: Float[Array, "features outputs"]
    weights: Float[Array, "points outputs"]

    def __call__(self, wide: Float[Array, "*batch rank"]) -> Float[Array, "*batch outputs"]:
        """The values there."""
        return _features(wide) @ self.trend + _bumps(wide / self.lengths, self.centres) @ self.weights


class Transport(NamedTuple):
    """A map from coordinates that are nearly standard normal to positions, as vectors.

    Args:
        mode: of the density.
        factor: of the covariance there, a column for each direction, from the widest on.
        wide: which of the first directions bend the others.
        ridge: how far these move the others.
    """

    mode: Float[Array, " dim"]
    factor: Float[Array, "dim dim"]
    wide: Bool[Array, " rank"]
    ridge: Kriging

    def __call__(self, y: Float[Array, " dim"]) -> Float[Array, " dim"]:
        """The position at coordinates ``y``."""
        return self.mode + self.factor @ (y + self._moved(y))

    def inverse(self, x: Float[Array, " dim"]) -> Float[Array, " dim"]:
        """The coordinates of a position."""
        y = jnp.linalg.solve(self.factor, x - self.mode)
        return y - self._moved(y)

    @property
    def log_volume(self) -> Array:
        """Ln of the volume that a unit of volume in the coordinates is, the same everywhere."""
        return jnp.linalg.slogdet(self.factor)[1]

    def _moved(self, y: Array) -> Array:
        """By the wide directions of ``y``, which it leaves where they are."""
        wide = jnp.where(self.wide, y[: len(self.wide)], 0)
        moved = self.ridge(wide / (1 + (wide / _REACH) ** 8) ** 0.125)
        return jnp.where(_narrow(self.wide, len(y)), moved, 0)


def transport(log_density: Callable[[PyTree], Array], position: PyTree, key: jax.Array) -> Transport:
    r"""The normal about the mode, bent to the ridges of a density; it can be traced and mapped over keys.

    .. math:: x = m + F\, (w,\; n + \mu(w)), \qquad y = (w, n)

    with the mode m, the covariance there :math:`F F^T`, the wide directions w and the narrow ones n: what moves, y, has
    a density that is the posterior's but for a constant, since the volume changes by the same everywhere. On a ridge,
    :math:`\mu(w)` is where the density is highest at given w. It is found at scattered w by a search along the narrow
    directions, and between them by kriging: a quadratic trend, and a Gaussian process with a squared-exponential
    covariance whose length in each direction maximises the restricted likelihood (Rasmussen & Williams 2006, ch. 2.7
    and 5.4). Each round of points is drawn wider than the one before, with a preference for where the posterior is
    expected by the values found, and its searches begin where the maxima are expected. Where the last round was
    expected worse than by no bending at all, there is none.

    That a chain moves where a map has made the density simple is the idea of Hoffman et al. (2019, arXiv:1903.03704),
    whose maps are networks; the conditional mode along which narrow directions are normal is that of nested Laplace
    approximations (Rue, Martino & Chopin 2009, J. R. Stat. Soc. B 71, 319).

    Args:
        log_density: of one position.
        position: where the search for the mode starts.
        key: for the points.
    """
    normal_key, key = jax.random.split(key)
    _, unravel = ravel_pytree(position)
    normal = laplace(log_density, position, normal_key, reach=0.02, growth=3.0)
    mode, _ = ravel_pytree(normal.mode)
    dtype, dim = mode.dtype, len(mode)
    variances, axes = jnp.linalg.eigh(normal.covariance)
    factor = axes[:, ::-1] * jnp.sqrt(jnp.maximum(variances[::-1], jnp.finfo(dtype).tiny))
    rank = min(_RANK, dim)
    widths = jnp.sqrt(variances[::-1])
    # The narrowest is bent and bends none.
    wide = (widths[:rank] * _RATIO > widths[0]) & (jnp.arange(rank) < max(dim - 1, 1))
    narrow = _narrow(wide, dim)

    def profile(at: tuple[Array, Array]) -> tuple[Array, Array]:
        """The conditional mode at given wide directions, searched from a guess, and how far below the mode it is."""
        w, guess = at
        fixed = jnp.zeros(dim, dtype).at[:rank].set(w)

        def value_and_grad(n: Array) -> tuple[Array, Array]:
            value, slope = jax.value_and_grad(lambda n: -log_density(unravel(mode + factor @ (fixed + n))))(n)
            return value, jnp.where(narrow, slope, 0)

        found = bfgs(value_and_grad, guess, scaled=True, tolerance=0.02, max_evaluations=40)
        return found.x, found.value + normal.log_density

    size = _POINTS * rank
    total = size * len(_ROUNDS)
    nothing = _Points(
        jnp.zeros((total, rank), dtype),
        jnp.zeros((total, dim), dtype),
        jnp.full(total, jnp.inf, dtype),
        jnp.full(rank, _LENGTH, dtype),
        jnp.array(False),
    )

    def visit(i: Array, points: _Points) -> _Points:
        spread, temperature = jnp.asarray(_ROUNDS, dtype)[i]
        draw_key, choose_key = jax.random.split(jax.random.fold_in(key, i))
        ridge, depth = _fitted(points, wide)
        candidates = jnp.where(wide, spread * jax.random.normal(draw_key, (_CANDIDATES, rank), dtype), 0)
        radius = jnp.sum(candidates**2, axis=1)
        expected = jax.lax.map(lambda w: depth(w)[0], candidates, batch_size=512)
        # No shallower than a wide normal: the trend alone may rise.
        weight = -jnp.maximum(expected, 0.05 * radius) / temperature + 0.5 * radius / spread**2
        weight = jnp.where(i == 0, 0, weight) + jax.random.gumbel(choose_key, weight.shape, dtype)
        chosen = candidates[jax.lax.top_k(weight, size)[1]]
        guesses = jnp.where(narrow, ridge(chosen), 0)
        modes, depths = jax.lax.map(profile, (chosen, guesses), batch_size=8)
        depths = jnp.where(jnp.isfinite(depths) & jnp.all(jnp.isfinite(modes), axis=1), depths, jnp.inf)
        useful = depths < _DEPTH
        modes = jnp.where(useful[:, None], modes, 0)
        wrong, bent = (jnp.sum(jnp.where(useful[:, None], x, 0) ** 2) for x in (modes - guesses, modes))
        points = points._replace(
            wide=jax.lax.dynamic_update_slice_in_dim(points.wide, chosen, i * size, 0),
            modes=jax.lax.dynamic_update_slice_in_dim(points.modes, modes, i * size, 0),
            depths=jax.lax.dynamic_update_slice_in_dim(points.depths, depths, i * size, 0),
            better=wrong < bent,
        )
        subset = jnp.arange(min(_SUBSET, size)) * ((i + 1) * size) // min(_SUBSET, size)
        return points._replace(lengths=_lengths(points, subset, wide))

    points = jax.lax.fori_loop(0, len(_ROUNDS), visit, nothing)
    ridge, _ = _fitted(points, wide)
    finite = jnp.all(jnp.array([jnp.all(jnp.isfinite(leaf)) for leaf in ridge]))
    keep = points.better & finite
    ridge = ridge._replace(
        trend=jnp.where(keep, ridge.trend, 0), weights=jnp.where(keep, ridge.weights, 0), lengths=points.lengths
    )
    return Transport(mode, factor, wide, ridge)


class _Points(NamedTuple):
    """What has been found: conditional modes at wide directions, and how far below the mode; infinity for none."""

    wide: Float[Array, "points rank"]
    modes: Float[Array, "points dim"]
    depths: Float[Array, " points"]
    lengths: Float[Array, " rank"]
    better: Array


def _narrow(wide: Bool[Array, " rank"], dim: int) -> Bool[Array, " dim"]:
    return jnp.ones(dim, bool).at[: len(wide)].set(~wide)


def _features(wide: Float[Array, "*batch rank"]) -> Float[Array, "*batch features"]:
    first, second = np.triu_indices(wide.shape[-1])
    return jnp.concatenate([jnp.ones_like(wide[..., :1]), wide, wide[..., first] * wide[..., second]], axis=-1)


def _bumps(scaled: Float[Array, "*batch rank"], centres: Float[Array, "points rank"]) -> Float[Array, "*batch points"]:
    squares = jnp.sum(scaled**2, axis=-1)[..., None] + jnp.sum(centres**2, axis=-1) - 2 * scaled @ centres.T
    return jnp.exp(-0.5 * jnp.maximum(squares, 0))


def _noise(depths: Float[Array, " points"]) -> Float[Array, " points"]:
    """The variance of the values over that of the process: of rounding and unfinished searches, and of no value."""
    least = max(1e-5, 1e3 * float(jnp.finfo(depths.dtype).eps))
    return jnp.where(depths < _DEPTH, least, 1e6)


class _System(NamedTuple):
    """The Cholesky factor of the covariance of values, and the trend's features and the values divided by it."""

    lower: Float[Array, "points points"]
    features: Float[Array, "points features"]
    values: Float[Array, "points outputs"]
    gram: Float[Array, "features features"]
    trend: Float[Array, "features outputs"]


def _system(scaled: Array, wide: Array, values: Array, depths: Array) -> _System:
    lower = jnp.linalg.cholesky(_bumps(scaled, scaled) + jnp.diag(_noise(depths)))
    features, values = (jax.scipy.linalg.solve_triangular(lower, x, lower=True) for x in (_features(wide), values))
    # A direction that is not wide has features of zero: a little of a ridge leaves their coefficients zero.
    gram = features.T @ features + 1e-4 * jnp.eye(features.shape[1], dtype=features.dtype)
    return _System(lower, features, values, gram, jnp.linalg.solve(gram, features.T @ values))


def _fitted(points: _Points, wide: Bool[Array, " rank"]) -> tuple[Kriging, Kriging]:
    """Kriging of the conditional modes, and of their depths."""
    scaled = points.wide / points.lengths
    useful = points.depths < _DEPTH
    depths = jnp.where(useful, points.depths, 0)
    values = jnp.concatenate([points.modes, depths[:, None]], axis=1)
    system = _system(scaled, points.wide, values, points.depths)
    weights = jax.scipy.linalg.solve_triangular(system.lower.T, system.values - system.features @ system.trend)
    every = Kriging(scaled, points.lengths, system.trend, weights)
    modes, depth = (
        every._replace(trend=every.trend[:, part], weights=every.weights[:, part])
        for part in (slice(None, -1), slice(-1, None))
    )
    return modes, depth


def _lengths(points: _Points, subset: Array, wide: Bool[Array, " rank"]) -> Float[Array, " rank"]:
    """The lengths that maximise the restricted likelihood of some of the conditional modes."""
    at, modes, depths = points.wide[subset], points.modes[subset], points.depths[subset]
    count = jnp.sum(depths < _DEPTH) * modes.shape[1]

    def unlikely(logarithms: Array) -> Array:
        lengths = jnp.exp(jnp.clip(logarithms, np.log(_SHORTEST), np.log(_LONGEST)))
        system = _system(at / lengths, at, modes, depths)
        rest = system.values - system.features @ system.trend
        tiny = jnp.finfo(at.dtype).tiny
        volume = jnp.sum(jnp.log(jnp.diag(system.lower))) + 0.5 * jnp.linalg.slogdet(system.gram)[1]
        # Per value, with one variance for all, and lengths that the values say nothing of near the first.
        fit = 0.5 * jnp.log(jnp.sum(rest**2) / count + tiny) + volume * modes.shape[1] / count
        return fit + jnp.sum((logarithms - np.log(_LENGTH)) ** 2) / count

    start = jnp.log(points.lengths)
    found = bfgs(jax.value_and_grad(unlikely), start, tolerance=1e-3, max_evaluations=40)
    lengths = jnp.exp(jnp.clip(found.x, np.log(_SHORTEST), np.log(_LONGEST)))
    return jnp.where(jnp.isfinite(lengths) & wide, lengths, _LENGTH)
