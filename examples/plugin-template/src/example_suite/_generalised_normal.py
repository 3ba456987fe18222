"""The generalised normal distribution, as a NumPyro distribution: nothing else is needed to be a prior."""

from typing import ClassVar

import jax
import jax.numpy as jnp
import numpyro.distributions as dist
from jax.scipy.special import gammaln
from numpyro.distributions import constraints
from numpyro.distributions.util import promote_shapes, validate_sample


class GeneralisedNormal(dist.Distribution):
    """The density power / (2 scale Gamma(1 / power)) exp(-|x / scale|^power).

    Args:
        scale: the width, positive.
        power: 1 is Laplace's distribution, 2 a Gaussian of variance scale^2 / 2; at least 1.
    """

    arg_constraints: ClassVar = {"scale": constraints.positive, "power": constraints.greater_than_eq(1.0)}
    support = constraints.real
    pytree_data_fields = ("scale", "power")

    def __init__(self, scale=1.0, power=2.0, *, validate_args=None):
        shape = jnp.broadcast_shapes(jnp.shape(scale), jnp.shape(power))
        self.scale, self.power = promote_shapes(scale, power)
        super().__init__(shape, validate_args=validate_args)

    def sample(self, key, sample_shape=()):
        key_size, key_sign = jax.random.split(key)
        shape = sample_shape + self.batch_shape
        size = jax.random.gamma(key_size, 1 / self.power, shape) ** (1 / self.power)
        return self.scale * size * jax.random.rademacher(key_sign, shape, size.dtype)

    @validate_sample
    def log_prob(self, value):
        normaliser = jnp.log(2 * self.scale / self.power) + gammaln(1 / self.power)
        return -(jnp.abs(value / self.scale) ** self.power) - normaliser
