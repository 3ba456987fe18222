"""Constraints, and the prior that groups of numbers are sparse together."""

from __future__ import annotations

import math
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Float
from numpyro import distributions as dist
from numpyro.distributions import constraints

from ._check import check_positive


class Box(eqx.Module):
    r"""The constraint that every number of an image lies between two bounds, for the solvers and for a `Target`.

    Its `log_prob` is 0 inside and minus infinity outside: it is not normalised, and not a NumPyro distribution, for
    which `numpyro.distributions.Uniform` is there. Its proximal operator is the projection, whatever the step.

    >>> import jax.numpy as jnp
    >>> from armillary.imaging import Box
    >>> print(Box(0.0, 1.0).prox(jnp.array([-0.5, 0.25, 3.0]), step=1.0))
    [0.   0.25 1.  ]

    Args:
        low: the lower bound, a number or an array of the image's shape; minus infinity for none.
        high: the upper bound.

    Raises:
        ValueError: a lower bound is not below the upper one.
    """

    low: Float[ArrayLike, ...]
    high: Float[ArrayLike, ...]

    def __init__(self, low: Float[ArrayLike, ...] = 0.0, high: Float[ArrayLike, ...] = math.inf) -> None:
        if not any(isinstance(bound, jax.core.Tracer) for bound in (low, high)):
            lower, upper = np.broadcast_arrays(np.asarray(low), np.asarray(high))
            if not (lower < upper).all():
                worst = ~(lower < upper)
                raise ValueError(
                    f"low={lower[worst].flat[0]} and high={upper[worst].flat[0]}: every lower bound must be below the "
                    "upper one"
                )
        self.low, self.high = low, high

    def log_prob(self, value: Float[Array, ...]) -> Float[Array, ""]:
        """0 if every number is within the bounds, else minus infinity."""
        inside = jnp.all((value >= self.low) & (value <= self.high))
        return jnp.where(inside, 0.0, -jnp.inf).astype(jnp.result_type(value))

    def prox(self, x: Float[Array, ...], step: Any = 1.0) -> Float[Array, ...]:
        """The nearest image within the bounds."""
        x = jnp.asarray(x)
        return jnp.clip(x, jnp.asarray(self.low).astype(x.dtype), jnp.asarray(self.high).astype(x.dtype))

    def score(self, x: Float[Array, ...]) -> Float[Array, ...]:
        """0, the gradient of the log-density inside."""
        return jnp.zeros_like(x)


class Positivity(Box):
    r"""The constraint that no number of an image is negative: a `Box` without an upper bound.

    >>> import jax.numpy as jnp
    >>> from armillary.imaging import Positivity
    >>> print(Positivity().prox(jnp.array([-0.5, 0.25, 3.0]), step=1.0))
    [0.   0.25 3.  ]
    """

    def __init__(self) -> None:
        super().__init__(0.0, math.inf)


class GroupL1(dist.Distribution):
    r"""A vector that is zero, or not, as a whole: the prior whose negative logarithm is the Euclidean norm.

    .. math:: p(x) = \frac{\Gamma(d / 2)}{2 \pi^{d / 2}\, \Gamma(d)\, b^d} \exp(-\|x\|_2 / b)

    for vectors of length d and the scale b, normalised. Give it a shape as any NumPyro distribution, for an image with
    a vector in each pixel (colours, frequencies, polarisations, a gradient), on the last axis:

    >>> import jax, jax.numpy as jnp
    >>> from armillary.imaging import GroupL1
    >>> prior = GroupL1(3, 0.5).expand((8, 8)).to_event(2)
    >>> prior.sample(jax.random.key(0)).shape, prior.log_prob(jnp.zeros((8, 8, 3))).shape
    ((8, 8, 3), ())
    >>> print(GroupL1(2, 0.5).prox(jnp.array([[3.0, 4.0], [0.1, 0.1]]), step=1.25))
    [[1.5 2. ]
     [0.  0. ]]

    Yuan M., Lin Y. 2006, J. R. Stat. Soc. B 68, 49, doi:10.1111/j.1467-9868.2005.00532.x.

    Args:
        size: the length d of a vector, positive.
        scale: the scale b, positive; its axes are a batch. The norm has the mean ``size * scale``.
        validate_args: as for every NumPyro distribution.

    Raises:
        ValueError: the size is not a positive whole number, or the scale not positive and finite.
    """

    arg_constraints = {"scale": constraints.positive}  # noqa: RUF012
    support = constraints.real_vector
    reparametrized_params = ["scale"]  # noqa: RUF012
    pytree_data_fields = ("scale",)
    pytree_aux_fields = ("size",)

    def __init__(
        self, size: int, scale: float | Float[Array, "*batch"] = 1.0, *, validate_args: bool | None = None
    ) -> None:
        if not isinstance(size, (int, np.integer)) or isinstance(size, bool) or size < 1:
            raise ValueError(f"size={size!r}: expected a positive whole number, the length of a vector")
        check_positive("scale", scale, "it is the b of exp(-|x| / b)", array=True)
        self.size = int(size)
        self.scale = jnp.asarray(scale)
        super().__init__(self.scale.shape, (self.size,), validate_args=validate_args)

    @dist.util.validate_sample
    def log_prob(self, value: Float[Array, "... size"], intermediates: Any = None) -> Array:
        """The log-density of a vector, normalised."""
        norm = euclidean_norm(jnp.asarray(value))
        d = self.size
        log_volume = math.log(2) + d / 2 * math.log(math.pi) - math.lgamma(d / 2) + math.lgamma(d)
        return -norm / self._scale(norm) - d * jnp.log(self._scale(norm)) - log_volume

    def sample(self, key: jax.Array, sample_shape: tuple[int, ...] = ()) -> Float[Array, "... size"]:
        """Draws of shape ``sample_shape + batch_shape + (size,)``: a norm, which is Gamma, and a direction."""
        scale = self.scale.astype(jnp.result_type(self.scale, jnp.float32))
        first, second = jax.random.split(key)
        shape = (*sample_shape, *self.batch_shape)
        norm = scale * jax.random.gamma(first, self.size, shape, scale.dtype)
        direction = jax.random.normal(second, (*shape, self.size), scale.dtype)
        return norm[..., None] * direction / euclidean_norm(direction)[..., None]

    def prox(self, x: Float[Array, "... size"], step: Float[ArrayLike, ...]) -> Float[Array, "... size"]:
        r"""The block soft threshold :math:`x \max(1 - \mathrm{step} / (b \|x\|_2), 0)`.

        Args:
            x: vectors, with any leading batch axes.
            step: positive, in squared units of ``x``; a number, or one for each vector.
        """
        x = jnp.asarray(x)
        norm = euclidean_norm(x)
        kept = jnp.maximum(norm - jnp.asarray(step / self.scale).astype(x.dtype), 0)
        return x * (kept / jnp.where(norm > 0, norm, 1))[..., None]

    def score(self, x: Float[Array, "... size"]) -> Float[Array, "... size"]:
        """The gradient ``-x / (b |x|)`` of the log-density; 0 at the origin, where there is none."""
        x = jnp.asarray(x)
        norm = euclidean_norm(x)
        return -x / (jnp.where(norm > 0, norm, 1) * self._scale(norm))[..., None]

    def _scale(self, like: Array) -> Array:
        return self.scale.astype(like.dtype)


def euclidean_norm(x: Array, axis: int = -1) -> Array:
    """With the derivative 0 at the origin, where it has none."""
    squared = jnp.sum(x**2, axis)
    positive = squared > 0
    return jnp.where(positive, jnp.sqrt(jnp.where(positive, squared, 1)), 0)
