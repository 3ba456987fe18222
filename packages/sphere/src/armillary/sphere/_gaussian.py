"""The Gaussian random field whose statistics no rotation changes."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float
from numpyro import distributions as dist
from numpyro.distributions import constraints

from ._checks import check_integer


class IsotropicGaussian(dist.Distribution):
    r"""A zero-mean isotropic Gaussian field, as the distribution of its harmonic coefficients in the real layout.

    .. math:: \ln p(x) = -\frac12 \sum_{l=0}^{L-1} \Bigl[ (2 l + 1) \ln (2 \pi C_l)
              + \frac{1}{C_l} \sum_{m=-l}^{l} x_{lm}^2 \Bigr].

    A value is a vector of length ``L**2`` (see `alm_to_real`): the field itself is
    ``SHT(grid, real=True).synthesis(alm_from_real(x))``. The density is normalised and in the real coefficients, so
    that it may be used for evidence as it is.

    Args:
        cl: the power :math:`C_l` of each degree from 0 on, positive; leading axes are a batch. A degree that the field
            has not (:math:`C_0 = 0` is common) has no density: give it a small power.
        L: the bandlimit, by default the length of `cl`; power of higher degrees is left out.
        validate_args: check `cl` and the values, where they are not traced.

    Raises:
        ValueError: `cl` has no axis, or fewer degrees than `L`; or, if `validate_args`, it is not positive.

    >>> import jax, jax.numpy as jnp
    >>> from armillary.sphere import IsotropicGaussian
    >>> prior = IsotropicGaussian(1 / (1 + jnp.arange(4.0)) ** 2)
    >>> prior.sample(jax.random.key(0), (5,)).shape
    (5, 16)
    >>> print(f"{prior.log_prob(jnp.zeros(16)):.3f}")
    2.574
    """

    arg_constraints = {"cl": constraints.independent(constraints.positive, 1)}  # noqa: RUF012
    support = constraints.real_vector
    reparametrized_params = ["cl"]  # noqa: RUF012

    def __init__(
        self, cl: Float[Array, "... degrees"], L: int | None = None, *, validate_args: bool | None = None
    ) -> None:
        if np.ndim(cl) == 0 or np.shape(cl)[-1] == 0:
            raise ValueError(f"cl has shape {np.shape(cl)}: its last axis holds the power of each degree from 0 on")
        degrees = np.shape(cl)[-1]
        meaning = f"the bandlimit of a cl of shape {np.shape(cl)}"
        L = check_integer("L", degrees if L is None else L, 1, degrees, meaning)
        self.cl = jnp.asarray(cl)[..., :L]
        super().__init__(self.cl.shape[:-1], (L * L,), validate_args=validate_args)

    def sample(self, key: jax.Array, sample_shape: tuple[int, ...] = ()) -> Float[Array, "... L**2"]:
        """Draws of shape ``sample_shape + batch_shape + (L**2,)``."""
        dtype = jnp.result_type(self.cl, jnp.float32)
        noise: Array = jax.random.normal(key, (*sample_shape, *self.batch_shape, *self.event_shape), dtype)
        return jnp.sqrt(self.variance) * noise

    @dist.util.validate_sample
    def log_prob(self, value: Float[Array, "... L**2"], intermediates: Any = None) -> Array:
        """The log-density of coefficients in the real layout.

        Raises:
            ValueError: the last axis of `value` is not of length ``L**2``.
        """
        L = self.cl.shape[-1]
        if np.shape(value)[-1:] != self.event_shape:
            raise ValueError(f"value has shape {np.shape(value)}: its last axis is of length L**2 = {L * L}")
        degree, order = np.arange(L)[:, None], np.arange(1 - L, L)
        inside = abs(order) <= degree
        dense = jnp.asarray(value)[..., np.where(inside, degree * (degree + 1) + order, 0).astype(np.int32)]
        power = (dense**2 * inside).sum(axis=-1)
        modes = jnp.asarray(2 * degree[:, 0] + 1, jnp.float32)
        return -0.5 * (modes * jnp.log(2 * np.pi * self.cl) + power / self.cl).sum(axis=-1)

    @property
    def mean(self) -> Array:
        """Zero."""
        return jnp.zeros((*self.batch_shape, *self.event_shape), self.cl.dtype)

    @property
    def variance(self) -> Array:
        """The power of the degree of each entry."""
        L = self.cl.shape[-1]
        return self.cl[..., np.repeat(np.arange(L, dtype=np.int32), 2 * np.arange(L) + 1)]
