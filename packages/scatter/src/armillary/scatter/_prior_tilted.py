"""Isotropic Gaussian fields, tilted by a potential."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any, Self

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float
from numpyro import distributions as dist
from numpyro.distributions import constraints

from armillary.sphere import IsotropicGaussian

from . import _prior_fit as fits
from ._check import check_integer
from ._covariance import ScatteringCovariance
from ._prior_sampling import Chains, anneal

#: Transitions of the chain at whose end a draw is.
_DRAW_STEPS = 32


class TiltedGaussian(dist.Distribution):
    """An isotropic Gaussian field, times the exponential of minus a potential: what the priors here have in common."""

    support = constraints.real_vector
    pytree_data_fields: tuple[str, ...] = ("cov", "cl", "log_normaliser", "log_normaliser_error")

    cov: ScatteringCovariance
    cl: Float[Array, " L"]
    log_normaliser: Float[Array, ""] | None
    log_normaliser_error: Float[Array, ""] | None
    #: Minus the logarithm of what the Gaussian is multiplied by.
    potential: Callable[[Any], Array]

    def __init__(self, cov: ScatteringCovariance, cl: Float[Array, " L"], validate_args: bool | None) -> None:
        self.cov, self.cl = cov, cl
        self.log_normaliser = self.log_normaliser_error = None
        super().__init__((), (cov.L**2,), validate_args=validate_args)

    @property
    def normalised(self) -> bool:
        """Whether the normaliser was estimated, and is in `log_prob`."""
        return self.log_normaliser is not None

    @property
    def root(self) -> Float[Array, " L**2"]:
        """The standard deviation of each coefficient in the Gaussian."""
        return fits.degrees_to_modes(jnp.sqrt(self.cl))

    @dist.util.validate_sample
    def log_prob(self, value: Float[Array, "... L**2"], intermediates: Any = None) -> Array:
        """The log-density of coefficients in the real layout, but for a constant unless `normalised`.

        Raises:
            ValueError: the last axis of `value` is not of length ``L**2``, or it is not real.
        """
        x = self._check(value)
        log_density = IsotropicGaussian(self.cl.astype(x.dtype)).log_prob(x) - self.potential(x)
        return log_density if self.log_normaliser is None else log_density - self.log_normaliser.astype(x.dtype)

    def score(self, x: Float[Array, "... L**2"]) -> Float[Array, "... L**2"]:
        """The gradient of the log-density."""
        return jax.grad(lambda x: self.log_prob(x).sum())(self._check(x))

    def sample(self, key: jax.Array, sample_shape: tuple[int, ...] = ()) -> Float[Array, "... L**2"]:
        """Draws of shape ``sample_shape + (L**2,)``, of which the class says how good they are."""
        count = int(np.prod(sample_shape, dtype=int))
        if not count:
            return jnp.zeros((*sample_shape, *self.event_shape), self.cl.dtype)
        return anneal(self, key, count, _DRAW_STEPS).x.reshape(*sample_shape, *self.event_shape)

    def chains(self, key: jax.Array, num_chains: int, num_steps: int = _DRAW_STEPS) -> Chains:
        """The chains at whose ends draws are, with what tells whether they have arrived.

        They have where the `potential` of the last quarter of the steps, all at the full tilt, has no trend, and steps
        are accepted.

        Args:
            key: a random key.
            num_chains: how many.
            num_steps: transitions of each.

        Raises:
            ValueError: fewer than one chain, or than 4 transitions.
        """
        num_chains = check_integer("num_chains", num_chains, 1, None, "the number of chains")
        num_steps = check_integer("num_steps", num_steps, 4, None, "the number of transitions")
        return anneal(self, key, num_chains, num_steps)

    def normalise(self, key: jax.Array, num_chains: int = 256, num_steps: int = 128) -> Self:
        r"""The same prior with an estimate of its normaliser, by annealed importance sampling.

        .. math:: Z = E_{N(0, C)}\, e^{-U(x)} = E \prod_k e^{-(\beta_k - \beta_{k-1}) U(x_{k-1})}

        over chains whose step k leaves the density of the tilt :math:`\beta_k` as it is. The estimate of Z has no bias;
        `log_normaliser_error` is the standard error of its logarithm, by the scatter of the weights.

        Args:
            key: a random key.
            num_chains: how many.
            num_steps: transitions of each; the more, the less the weights scatter.

        Raises:
            ValueError: fewer than 16 chains, or than 4 transitions.
            RuntimeError: the weights are worth fewer than 10 chains, so that neither the estimate nor its error can be
                relied on.

        References: Neal R. M. 2001, Stat. Comput. 11, 125, doi:10.1023/A:1008923215028.
        """
        check_integer("num_chains", num_chains, 16, None, "the number of chains")
        weights = np.asarray(self.chains(key, num_chains, num_steps).log_weight, np.float64)
        relative = np.exp(weights - weights.max())
        effective = relative.sum() ** 2 / (relative**2).sum()
        if not effective >= 10:
            raise RuntimeError(
                f"the normaliser is not known: the weights of {num_chains} chains are worth {effective:.1f} of them. "
                f"Take more than num_steps={num_steps} or num_chains={num_chains}"
            )
        mean = relative.mean()
        prior = copy.copy(self)
        prior.log_normaliser = jnp.asarray(weights.max() + np.log(mean), self.cl.dtype)
        prior.log_normaliser_error = jnp.asarray(relative.std(ddof=1) / mean / len(weights) ** 0.5, self.cl.dtype)
        return prior

    def _check(self, x: Any) -> Array:
        shape, dtype = np.shape(x), jnp.result_type(x)
        if shape[-1:] != self.event_shape or not jnp.issubdtype(dtype, jnp.floating):
            raise ValueError(
                f"value is {dtype} of shape {shape}: real, (..., {self.cov.L**2}), the harmonic coefficients of a real "
                f"field of L={self.cov.L} in the real layout of armillary.sphere.alm_to_real"
            )
        return jnp.asarray(x)
