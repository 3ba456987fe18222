"""The prior of fields whose scattering covariances are like those of examples."""

from __future__ import annotations

from typing import Any, Self

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Complex, Float

from . import _prior_fit as fits
from ._covariance import ScatteringCovariance
from ._prior_tilted import TiltedGaussian


class ScatteringPrior(TiltedGaussian):
    r"""Fields with scattering covariances near given ones, as the distribution of their harmonic coefficients.

    .. math:: p(x) = \frac1Z\, N(x; 0, C_l)\, e^{-U(x)}, \qquad
              U(x) = \tfrac12\, (s(x) - \mu)^T\, \Sigma^{-1}\, (s(x) - \mu)

    for the statistics s, which are S1 to S4 (the mean is left to the Gaussian, and the variance is a sum of S2). A
    value is the real layout of the coefficients, a vector of length ``L**2`` (see ``armillary.sphere.alm_to_real``), as
    for ``armillary.sphere.IsotropicGaussian``.

    The density is proper whatever :math:`\mu` and :math:`\Sigma`, because the tilt is never above 1. **It is normalised
    up to the constant Z**, which depends on every parameter, so that none of them can be inferred: a traced one raises
    an error. `normalise` estimates Z where that can be done.

    :math:`\mu` is where the potential is least, and not quite the mean of the statistics of draws: there are so many
    more fields with the statistics of Gaussian ones that draws are between these and :math:`\mu`, the closer to
    :math:`\mu` the smaller :math:`\Sigma` is.

    U grows as the fourth power of the field: samplers without an accept-reject step, such as ULA, need short steps, or
    their chains escape.

    Draws are the ends of chains of 32 transitions of Hamiltonian Monte Carlo from Gaussian fields, annealed over the
    first 24: independent of each other, and as good as the chains are long, of which `chains` tells.

    Args:
        cov: the statistics, of fields on the sphere.
        statistics: :math:`\mu`, in the order of ``cov(alm).ravel()[2:]``.
        covariance: :math:`\Sigma`, or its diagonal.
        cl: the power of each degree in the Gaussian, positive.
        validate_args: as for every NumPyro distribution.

    Raises:
        ValueError: an argument is of the wrong shape or type, traced, or not finite; a covariance is not positive
            definite, or a power not positive. Names it, and what is allowed.

    References: Cheng S., Morel R., Allys E., Ménard B., Mallat S. 2023 (arXiv:2306.17210); Bruna J., Mallat S. 2019,
    Mathematical Statistics and Learning 1, 257 (arXiv:1801.02013).

    >>> import jax, jax.numpy as jnp
    >>> from armillary.scatter import ScatteringCovariance, ScatteringPrior
    >>> cov = ScatteringCovariance(4, N=1, J_min=0)
    >>> num = cov(jnp.zeros((4, 7), complex)).ravel().size - 2
    >>> prior = ScatteringPrior(cov, jnp.full(num, 0.1), jnp.full(num, 0.01), jnp.ones(4))
    >>> prior.log_prob(jnp.zeros((5, 16))).shape, prior.normalised
    ((5,), False)
    """

    pytree_data_fields: tuple[str, ...] = ("statistics", "whitener")

    statistics: Float[Array, " coefficients"]
    whitener: Float[Array, "coefficients coefficients"]

    def __init__(
        self,
        cov: ScatteringCovariance,
        statistics: Float[Array, " coefficients"],
        covariance: Float[Array, "coefficients coefficients"] | Float[Array, " coefficients"],
        cl: Float[Array, " L"],
        *,
        validate_args: bool | None = None,
    ) -> None:
        fits.check_cov(cov)
        fits.check_known(cov=cov, statistics=statistics, covariance=covariance, cl=cl)
        power = fits.check_cl(cl, cov.L)
        size = len(fits.labels(cov))
        dtype = jnp.result_type(cl, jnp.float32)
        self.statistics = jnp.asarray(fits.check_vector("statistics", statistics, size), dtype)
        self.whitener = jnp.asarray(_whitener(covariance, size), dtype)
        super().__init__(cov, jnp.asarray(power, dtype), validate_args)

    @classmethod
    def fit(
        cls,
        maps: Complex[Array, "*num L 2*L-1"] | Float[Array, "*num L 2*L-1"],
        cov: ScatteringCovariance,
        key: jax.Array | None = None,
    ) -> Self:
        r"""The prior of fields like some examples, or one.

        The Gaussian has the mean spectrum of the examples, and :math:`\mu` are their mean statistics. :math:`\Sigma` is
        the covariance of the statistics over 256 Gaussian fields of that spectrum, with correlations shrunk as much as
        their number demands, for many examples as for one: with it the tilt is as steep as the number of Gaussian
        fields falls off, and draws have nearly the statistics :math:`\mu`. They differ less among each other than
        members of a population each with statistics of its own; the covariance over such a population, given to the
        constructor, would leave draws nearly Gaussian.

        Args:
            maps: harmonic coefficients of real fields, or maps on ``GaussLegendre(L)``; a first axis is of examples.
            cov: the statistics.
            key: of the Gaussian fields; always the same by default.

        Raises:
            ValueError: `maps` are of another shape or type, traced, not finite, or have no power at some degree but 0;
                or `cov` is none of the sphere.

        >>> import jax, jax.numpy as jnp
        >>> from armillary.scatter import ScatteringCovariance, ScatteringPrior
        >>> from armillary.sphere import GaussLegendre
        >>> examples = jnp.exp(jax.random.normal(jax.random.key(0), (16, *GaussLegendre(8).shape)))
        >>> prior = ScatteringPrior.fit(examples, ScatteringCovariance(8, N=1, J_min=1))
        >>> prior.event_shape
        (64,)
        """
        fits.check_cov(cov)
        alm = fits.examples_of(maps, cov)
        cl = fits.spectrum_of(alm)
        s, covariance = fits.moments_of(key, cov, alm, cl)
        return cls(cov, jnp.asarray(s, cl.dtype), jnp.asarray(covariance, cl.dtype), cl)

    def potential(self, x: Float[Array, "... L**2"]) -> Float[Array, "*shape"]:
        """U, of coefficients in the real layout."""
        return fits.mismatch(self.cov, self._check(x), self.statistics, self.whitener)


def _whitener(covariance: Any, size: int) -> np.ndarray:
    """The inverse of the Cholesky factor."""
    values = np.asarray(covariance, np.float64)
    if values.shape == (size,):
        values = np.diag(values)
    if values.shape != (size, size):
        raise ValueError(
            f"covariance has shape {np.shape(covariance)}: ({size}, {size}), or ({size},) for a diagonal, one for each "
            "coefficient of S1 to S4"
        )
    scale = np.sqrt(np.abs(np.diag(values)))
    if not np.isfinite(values).all() or not (np.diag(values) > 0).all():
        raise ValueError("covariance has variances that are not positive, or values that are not finite")
    correlation = values / scale[:, None] / scale
    if abs(correlation - correlation.T).max() > 1e-4:
        raise ValueError("covariance is not symmetric")
    least = np.linalg.eigvalsh(correlation).min()
    if not least > 1e-12:
        raise ValueError(
            f"covariance is not positive definite: the least eigenvalue of its correlations is {least:.2g}; add to its "
            "diagonal, or take that alone"
        )
    return np.linalg.inv(np.linalg.cholesky(correlation)) / scale
