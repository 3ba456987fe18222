"""The likelihood of a noisy map that is not observed everywhere."""

from __future__ import annotations

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Bool, Float, Inexact
from numpyro import distributions as dist
from numpyro.distributions import constraints

from ._checks import check_integer


class MaskedGaussian(dist.Distribution):
    r"""A map with independent Gaussian noise, observed where a mask is true.

    .. math:: \ln p(d) = -\frac12 \sum_{p\ \text{observed}} \Bigl[ \frac{(d_p - \mu_p)^2}{\sigma_p^2}
              + \ln (2 \pi \sigma_p^2) \Bigr].

    An event is a whole map. Pixels that are not observed contribute nothing to the density or to its gradient whatever
    is in the data and in `scale` there, NaN included; the density is normalised over the others. For a complex map,
    such as Q + i U, `scale` is that of the real and of the imaginary part each, and the terms of both are summed. As a
    likelihood (see `armillary.core.protocols.Likelihood`) it is
    ``lambda x: MaskedGaussian(sht.synthesis(x), scale, mask)``.

    Args:
        loc: the map without noise, real or complex; the axes before those of the map are a batch.
        scale: the standard deviation of the noise in each real component, positive; a number or a map.
        mask: true where the map is observed; everywhere by default.
        event_dim: the number of axes of a map: 1 for HEALPix, 2 for grids with the axes colatitude and longitude.
        validate_args: check `loc` and `scale`, where they are not traced.

    Raises:
        ValueError: `mask` is not boolean, `loc` has fewer axes than a map, or shapes do not broadcast to that of the
            map; or, if `validate_args`, `scale` is not positive.

    >>> import jax, jax.numpy as jnp
    >>> from armillary.sphere import MaskedGaussian
    >>> noisy = MaskedGaussian(jnp.zeros(4), 0.5, jnp.array([True, True, False, False]))
    >>> data = jnp.array([0.5, -0.5, 7.0, jnp.nan])
    >>> print(f"{noisy.log_prob(data):.4f}")
    -1.4516
    """

    arg_constraints = {"loc": constraints.real, "scale": constraints.positive}  # noqa: RUF012
    pytree_data_fields = ("loc", "scale", "observed")
    reparametrized_params = ["loc", "scale"]  # noqa: RUF012

    def __init__(
        self,
        loc: Inexact[Array, "*shape"],
        scale: Float[ArrayLike, "*shape"],
        mask: Bool[ArrayLike, "*shape"] | None = None,
        *,
        event_dim: int = 1,
        validate_args: bool | None = None,
    ) -> None:
        event_dim = check_integer("event_dim", event_dim, 1, None, "the number of axes of a map")
        self.loc, self.scale = jnp.asarray(loc), jnp.asarray(scale)
        self.observed = jnp.asarray(True if mask is None else mask)
        if self.observed.dtype != bool:
            raise ValueError(
                f"mask is {self.observed.dtype}: it is boolean, true where observed; pass mask > 0 or such"
            )
        if self.loc.ndim < event_dim:
            raise ValueError(f"loc has shape {self.loc.shape}: a map of event_dim={event_dim} axes is needed")
        parts = {"loc": self.loc.shape, "scale": self.scale.shape, "mask": self.observed.shape}
        event = self.loc.shape[-event_dim:]
        try:
            shape = np.broadcast_shapes(*parts.values())
        except ValueError:
            shape = ()
        if shape[-event_dim:] != event:
            text = ", ".join(f"{name} {part}" for name, part in parts.items())
            raise ValueError(f"shapes {text}: scale and mask must broadcast to the map, of shape {event}")
        if mask is not None:
            self.scale = jnp.where(self.observed, self.scale, 1)
        super().__init__(shape[:-event_dim], event, validate_args=validate_args)

    @constraints.dependent_property(is_discrete=False, event_dim=None)
    def support(self) -> constraints.Constraint:
        """All maps."""
        return constraints.independent(constraints.real, self.event_dim)

    def sample(self, key: jax.Array, sample_shape: tuple[int, ...] = ()) -> Inexact[Array, "*shape"]:
        """Draws of shape ``sample_shape + batch_shape + event_shape``: `loc` itself where not observed."""
        dtype = jnp.result_type(self.loc, jnp.float32)
        shape = (*sample_shape, *self.batch_shape, *self.event_shape)
        if jnp.issubdtype(dtype, jnp.complexfloating):
            real, imaginary = jax.random.normal(key, (2, *shape), jnp.finfo(dtype).dtype)
            noise: Array = real + 1j * imaginary
        else:
            noise = jax.random.normal(key, shape, dtype)
        return jnp.where(self.observed, self.loc + self.scale * noise, self.loc).astype(dtype)

    def log_prob(self, value: Inexact[Array, "*shape"], intermediates: Any = None) -> Array:
        """The log-density of a map.

        Raises:
            ValueError: `value` is not of the shape of the map, or is complex where `loc` is real or the reverse.
        """
        value = jnp.asarray(value)
        if value.shape[-self.event_dim :] != self.event_shape:
            raise ValueError(f"value has shape {value.shape}: it ends in that of the map, {self.event_shape}")
        components = 2 if jnp.iscomplexobj(self.loc) else 1
        if jnp.iscomplexobj(value) != (components == 2):
            raise ValueError(f"value is {value.dtype} and loc {self.loc.dtype}: both are real, or both complex")
        # What is not observed is replaced before the arithmetic, so that a NaN there does not reach the derivatives.
        value, loc = jnp.where(self.observed, value, 0), jnp.where(self.observed, self.loc, 0)
        residual = (value - loc) / self.scale
        log_norm = jnp.log(self.scale) + math.log(2 * math.pi) / 2
        terms = (residual.real**2 + residual.imag**2) / 2 + components * log_norm
        return -jnp.where(self.observed, terms, 0).sum(axis=tuple(range(-self.event_dim, 0)))

    @property
    def mean(self) -> Array:
        """`loc`."""
        return jnp.broadcast_to(self.loc, (*self.batch_shape, *self.event_shape))

    @property
    def variance(self) -> Array:
        """That of a pixel, of both components together if complex; 0 where not observed."""
        variance = self.scale**2 * (2 if jnp.iscomplexobj(self.loc) else 1)
        return jnp.broadcast_to(jnp.where(self.observed, variance, 0), (*self.batch_shape, *self.event_shape))
