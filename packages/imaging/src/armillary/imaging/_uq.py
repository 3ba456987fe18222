"""How certain an image is: intervals, credible regions about a maximum, and tests of structures."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, ArrayLike, Bool, Float, PyTree

from ._check import check_count, check_fraction, check_positive
from ._operators_base import check_shape

#: Doublings in search of the end of an interval, and halvings of what is then known.
_DOUBLINGS, _BISECTIONS = 60, 40


def credible_interval(
    samples: Float[Array, "draws ..."], level: float = 0.9, *, axis: int | tuple[int, ...] = 0
) -> tuple[Float[Array, ...], Float[Array, ...]]:
    r"""The interval that holds a share of the draws of each pixel, with equal tails.

    >>> import jax
    >>> from armillary.imaging import credible_interval
    >>> low, high = credible_interval(jax.random.normal(jax.random.key(0), (4000, 8, 8)), 0.9)
    >>> low.shape, bool(abs(low.mean() + 1.645) < 0.05)
    ((8, 8), True)

    Args:
        samples: draws of an image.
        level: the share, between 0 and 1.
        axis: the axis of draws, or the axes of chains and draws.

    Returns:
        The lower and the upper ends.

    Raises:
        ValueError: the level is not between 0 and 1.
    """
    check_fraction("level", level, "such as 0.9")
    tail = (1 - level) / 2
    low, high = jnp.quantile(jnp.asarray(samples), jnp.array([tail, 1 - tail]), axis)
    return low, high


def hpd_threshold(objective: Float[ArrayLike, ""], size: int, level: float = 0.95) -> Float[Array, ""]:
    r"""The objective up to which images are in a credible region, from its minimum alone.

    .. math:: \gamma = f(x^*) + N + \sqrt{16 N \ln(3 / \alpha)}, \qquad \alpha = 1 - \mathrm{level}

    for N pixels and the objective f = minus the log posterior density, but for a constant, with its minimum at the
    maximum of the posterior. **It holds for log-concave posteriors** (f convex) and :math:`4 e^{-N / 3} < \alpha < 1`,
    and is conservative: the region :math:`f(x) \le \gamma` contains that of highest posterior density at this level,
    and is larger, by of the order of :math:`\sqrt N` in f. Where there are draws, the ``level`` quantile of their
    objectives is the threshold itself.

    >>> from armillary.imaging import hpd_threshold
    >>> print(f"{hpd_threshold(100.0, 1000, 0.95):.0f}")
    1356

    Pereyra M. 2017, SIAM J. Imaging Sci. 10, 285, doi:10.1137/16M1071249 (arXiv:1602.08590).

    Args:
        objective: its value at the maximum of the posterior.
        size: the number N of pixels.
        level: of the region.

    Raises:
        ValueError: a size or level that is not allowed.
    """
    check_count("size", size, "the number of pixels")
    check_fraction("level", level, "such as 0.95")
    alpha = 1 - level
    if alpha <= 4 * math.exp(-size / 3):
        raise ValueError(
            f"level={level!r}: with size={size} the bound holds for levels below {1 - 4 * math.exp(-size / 3):.3g}; "
            "take a lower level, or the quantile of the objectives of draws"
        )
    return jnp.asarray(objective) + size + math.sqrt(16 * size * math.log(3 / alpha))


def local_credible_intervals(
    objective_fn: Callable[[PyTree], Array],
    x: Float[Array, "rows columns"],
    threshold: float | Float[Array, ""],
    region_size: int = 8,
    *,
    linear_fn: Callable[[Array], PyTree] | None = None,
    batch_size: int = 16,
) -> tuple[Float[Array, "r c"], Float[Array, "r c"]]:
    r"""The least and the largest value that a square of pixels can have in a credible region.

    .. math:: \xi_\pm = \max / \min\, \{\xi : f(x \text{ with all pixels of the square set to } \xi) \le \gamma\}

    for each square, the rest of the image as it is: one number for a square on the grid of squares, an error bar for
    structures of that size. Each end is found by doubling and bisection from the mean of the square, all squares of a
    batch at once; for a convex f it is that to float precision, and otherwise an end of the interval about the mean.
    Some hundred values of f are needed for a square. What is slow in f is most often linear, an operator or a wavelet
    transform: give it as ``linear_fn``, and f as the function of what that gives, and it is applied twice for a square.

    >>> import jax.numpy as jnp
    >>> from armillary.imaging import local_credible_intervals
    >>> f = lambda x: 0.5 * jnp.sum(x**2)
    >>> low, high = local_credible_intervals(f, jnp.zeros((8, 8)), threshold=8.0, region_size=4)
    >>> low.shape, round(float(low[0, 0]), 4), round(float(high[0, 0]), 4)
    ((2, 2), -1.0, 1.0)

    Cai X., Pereyra M., McEwen J. D. 2018, MNRAS 480, 4170, doi:10.1093/mnras/sty2015 (arXiv:1811.02514).

    Args:
        objective_fn: f, minus the log posterior density but for a constant, of an image.
        x: the maximum of the posterior.
        threshold: :math:`\gamma`; see `hpd_threshold`.
        region_size: the side of a square; those at the far edges are cut off where the image ends.
        linear_fn: a linear function of an image, any pytree: then f is ``objective_fn(linear_fn(image))``.
        batch_size: squares at a time: each has an image in memory.

    Returns:
        The lower and the upper ends, of as many squares as there are. NaN where the image with the square set to its
        mean is outside of the region already, and infinite where there is no end.

    Raises:
        ValueError: x is no image, or a size is not positive.
    """
    x = jnp.asarray(x)
    rows, columns = check_shape("the shape of x", x.shape)
    check_count("region_size", region_size, "the side of a square of pixels")
    check_count("batch_size", batch_size, "how many squares at a time")
    labels = np.arange(rows)[:, None] // region_size * -(-columns // region_size) + np.arange(columns) // region_size
    grid = (-(-rows // region_size), -(-columns // region_size))
    linear_fn = (lambda image: image) if linear_fn is None else linear_fn
    ends = _intervals(objective_fn, linear_fn, x, jnp.asarray(labels), jnp.asarray(threshold), grid, batch_size)
    return ends[0], ends[1]


@eqx.filter_jit
def _intervals(
    objective_fn: Callable[[PyTree], Array],
    linear_fn: Callable[[Array], PyTree],
    x: Array,
    labels: Array,
    threshold: Array,
    grid: tuple[int, int],
    batch_size: int,
) -> Array:
    def region(k: Array) -> Array:
        inside = labels == k
        mean = jnp.sum(jnp.where(inside, x, 0)) / jnp.sum(inside).astype(x.dtype)

        # The image is a line in the value of the square, and so is a linear function of it.
        rest, square = linear_fn(jnp.where(inside, 0, x)), linear_fn(inside.astype(x.dtype))

        def allowed(value: Array) -> Array:
            return objective_fn(jax.tree.map(lambda a, b: a + value * b, rest, square)) <= threshold

        def end(sign: int) -> Array:
            def double(carry: tuple) -> tuple:
                _, far, k = carry
                return far, 2 * far, k + 1

            start = jnp.maximum(jnp.abs(mean), 1) * jnp.finfo(x.dtype).eps
            near, far, _ = lax.while_loop(
                lambda carry: allowed(mean + sign * carry[1]) & (carry[2] < _DOUBLINGS),
                double,
                (jnp.zeros_like(start), start, 0),
            )

            def halve(_: Any, ends: tuple[Array, Array]) -> tuple[Array, Array]:
                middle = (ends[0] + ends[1]) / 2
                good = allowed(mean + sign * middle)
                return jnp.where(good, middle, ends[0]), jnp.where(good, ends[1], middle)

            found = lax.fori_loop(0, _BISECTIONS, halve, (near, far))[0]
            return mean + sign * jnp.where(allowed(mean + sign * far), jnp.inf, found)

        return jnp.where(allowed(mean), jnp.stack([end(-1), end(1)]), jnp.nan)

    count = grid[0] * grid[1]
    return lax.map(region, jnp.arange(count), batch_size=min(batch_size, count)).T.reshape(2, *grid)


class Coverage(NamedTuple):
    """How often intervals held the truth.

    Args:
        fraction: of the pixels of all repetitions.
        error: its standard error, from the spread between repetitions.
        level: what it should be.
        passed: whether it is within three errors.
    """

    fraction: Float[Array, ""]
    error: Float[Array, ""]
    level: float
    passed: Bool[Array, ""]


def coverage_test(
    low: Float[Array, "repetitions ..."],
    high: Float[Array, "repetitions ..."],
    truth: Float[Array, "repetitions ..."],
    level: float,
) -> Coverage:
    r"""Whether intervals hold the truth as often as they say.

    With truths drawn from the prior and data from the likelihood, intervals of a posterior of level c hold a share c of
    the truth's pixels on average, whatever the model. The pixels of one image depend on each other, so that the error
    is that between repetitions.

    >>> import jax, jax.numpy as jnp
    >>> from armillary.imaging import coverage_test
    >>> truth = jax.random.normal(jax.random.key(0), (200, 64))
    >>> ends = jnp.full((200, 64), 1.645)
    >>> bool(coverage_test(-ends, ends, truth, 0.9).passed), bool(coverage_test(-ends, ends, 1.5 * truth, 0.9).passed)
    (True, False)

    Cook S. R., Gelman A., Rubin D. B. 2006, J. Comput. Graph. Stat. 15, 675, doi:10.1198/106186006X136976.

    Args:
        low: the lower ends, with an axis of independent repetitions before those of the image.
        high: the upper ends.
        truth: what they are intervals for.
        level: of the intervals.

    Raises:
        ValueError: fewer than two repetitions, shapes that differ, or a level that is not between 0 and 1.
    """
    check_fraction("level", level, "such as 0.9")
    low, high, truth = jnp.asarray(low), jnp.asarray(high), jnp.asarray(truth)
    if not low.shape == high.shape == truth.shape:
        raise ValueError(
            f"low, high and truth have shapes {low.shape}, {high.shape} and {truth.shape}: make them the same"
        )
    if truth.ndim < 2 or len(truth) < 2:
        raise ValueError(f"truth has shape {truth.shape}: expected at least two repetitions on the first axis")
    held = ((low <= truth) & (truth <= high)).reshape(len(truth), -1).mean(axis=1)
    fraction, error = held.mean(), held.std(ddof=1) / math.sqrt(len(held))
    return Coverage(fraction, error, float(level), jnp.abs(fraction - level) <= 3 * error)


class StructureTest(NamedTuple):
    """Whether a structure in an image is there.

    Args:
        is_real: the image without it is not in the credible region: that there is nothing is rejected.
        objective: of the image without it.
        threshold: of the region.
        surrogate: the image without it.
    """

    is_real: Bool[Array, ""]
    objective: Float[Array, ""]
    threshold: Float[Array, ""]
    surrogate: Float[Array, "rows columns"]


def structure_test(
    objective_fn: Callable[[Array], Array],
    x: Float[Array, "rows columns"],
    region: Bool[ArrayLike, "rows columns"],
    threshold: float | Float[Array, ""],
    prior: Any,
    *,
    step: float = 1.0,
    num_steps: int = 200,
) -> StructureTest:
    r"""Test whether a structure of an image is real: whether the data allow the image without it.

    The structure is taken out by inpainting its region from around it with the prior,
    :math:`x' \leftarrow \mathrm{prox}(x')` within and x without. If the result is not in the credible region,
    :math:`f(x') > \gamma`, that there is no structure is rejected, at the level of the region. If it is in the region
    the test says nothing: the threshold of `hpd_threshold` is conservative.

    >>> import jax.numpy as jnp
    >>> from armillary.imaging import TotalVariation, structure_test
    >>> x = jnp.zeros((8, 8)).at[3, 3].set(5.0)
    >>> found = structure_test(lambda u: 0.5 * jnp.sum((u - x) ** 2), x, x > 0, 10.0, TotalVariation((8, 8)))
    >>> bool(found.is_real), round(float(found.objective), 1)
    (True, 12.5)

    Cai X., Pereyra M., McEwen J. D. 2018, MNRAS 480, 4170, doi:10.1093/mnras/sty2015 (arXiv:1811.02514).

    Args:
        objective_fn: f, minus the log posterior density but for a constant, of an image.
        x: the maximum of the posterior.
        region: True where the structure is.
        threshold: :math:`\gamma`; see `hpd_threshold`.
        prior: something with `prox`, such as `TotalVariation` or `L1Wavelet`.
        step: of the proximal operator: the larger the smoother the inpainting.
        num_steps: of the inpainting.

    Raises:
        ValueError: a prior without a proximal operator, a region that is no part of the image, or a bad number.
    """
    x, region = jnp.asarray(x), jnp.asarray(region, bool)
    if region.shape != x.shape:
        raise ValueError(f"region has shape {region.shape}: expected that of the image, {x.shape}")
    if not isinstance(region, jax.core.Tracer) and (not region.any() or region.all()):
        raise ValueError("region is empty or the whole image: it is True where the structure is, and False around it")
    if not hasattr(prior, "prox"):
        raise ValueError(f"prior={prior!r} has no prox: expected one such as TotalVariation or L1Wavelet")
    check_positive("step", step, "of the proximal operator")
    check_count("num_steps", num_steps, "of the inpainting")
    around = jnp.sum(jnp.where(region, 0, x)) / jnp.sum(~region).astype(x.dtype)

    def smooth(_: Any, u: Array) -> Array:
        return jnp.where(region, prior.prox(u, step), x)

    surrogate = lax.fori_loop(0, num_steps, smooth, jnp.where(region, around, x))
    objective = objective_fn(surrogate)
    return StructureTest(objective > threshold, objective, jnp.asarray(threshold), surrogate)
