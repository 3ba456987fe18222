"""The prior of least assumption with given scattering covariances on average."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Self

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Complex, Float

from armillary.sphere import alm_to_real

from . import _prior_fit as fits
from ._covariance import ScatteringCovariance
from ._prior_matching import match
from ._prior_tilted import TiltedGaussian

#: The wall is at so many times the largest radius among the examples, squared.
_WALL = 2.0
TERMS = ("s1", "s2", "s3", "s4")


class MaximumEntropyPrior(TiltedGaussian):
    r"""The exponential family of scattering covariances, as the distribution of harmonic coefficients.

    .. math:: p(x) &= \frac1Z\, N(x; 0, C_l)\, e^{-\theta \cdot s(x) - V(x)}, \\
              V(x) &= L^2 \max\Bigl(0, \frac{r^2}{R^2} - 1\Bigr)^2, \qquad
              r^2 = \frac{1}{L^2} \sum_{lm} \frac{x_{lm}^2}{C_l}

    for the statistics s, which are S1 to S4. Of all densities with the same means of s it is, where V is 0, the one
    nearest to the Gaussian, in relative entropy. A value is the real layout of the coefficients, a vector of length
    ``L**2`` (see ``armillary.sphere.alm_to_real``).

    s grows as the square of the field at most, and :math:`\theta` may be negative, so that without V the integral may
    be infinite. V grows as the fourth power: **the density is proper whatever** :math:`\theta`. It is 0 for fields with
    no more than R**2 times the power of the Gaussian; that most draws are there, and not at the wall, is not sure, and
    seen from their power. **It is normalised up to the constant Z**, which depends on every parameter, so that none of
    them can be inferred: a traced one raises an error. `normalise` estimates Z where that can be done.

    Draws are made as those of `ScatteringPrior`.

    Args:
        cov: the statistics, of fields on the sphere.
        theta: :math:`\theta`, in the order of ``cov(alm).ravel()[2:]``.
        cl: the power of each degree in the Gaussian, positive.
        radius: R, positive.
        validate_args: as for every NumPyro distribution.

    Raises:
        ValueError: an argument is of the wrong shape or type, traced, or not finite; or a power or `radius` is not
            positive. Names it, and what is allowed.

    References: Jaynes E. T. 1957, Phys. Rev. 106, 620, doi:10.1103/PhysRev.106.620; Cheng S., Morel R., Allys E.,
    Ménard B., Mallat S. 2023 (arXiv:2306.17210).

    >>> import jax.numpy as jnp
    >>> from armillary.scatter import MaximumEntropyPrior, ScatteringCovariance
    >>> cov = ScatteringCovariance(4, N=1, J_min=0)
    >>> num = cov(jnp.zeros((4, 7), complex)).ravel().size - 2
    >>> prior = MaximumEntropyPrior(cov, jnp.zeros(num), jnp.ones(4))
    >>> print(f"{prior.log_prob(jnp.zeros(16)):.3f}")
    -14.703
    """

    pytree_data_fields: tuple[str, ...] = ("theta", "radius")

    theta: Float[Array, " coefficients"]
    radius: Float[Array, ""]

    def __init__(
        self,
        cov: ScatteringCovariance,
        theta: Float[Array, " coefficients"],
        cl: Float[Array, " L"],
        radius: float = 2.0,
        *,
        validate_args: bool | None = None,
    ) -> None:
        fits.check_cov(cov)
        fits.check_known(cov=cov, theta=theta, cl=cl, radius=radius)
        power = fits.check_cl(cl, cov.L)
        dtype = jnp.result_type(cl, jnp.float32)
        self.theta = jnp.asarray(fits.check_vector("theta", theta, len(fits.labels(cov))), dtype)
        if np.ndim(radius) or not 0 < radius < np.inf:
            raise ValueError(f"radius={radius!r}: a positive number, in standard deviations of the Gaussian")
        self.radius = jnp.asarray(radius, dtype)
        super().__init__(cov, jnp.asarray(power, dtype), validate_args)

    @classmethod
    def fit(
        cls,
        maps: Complex[Array, "*num L 2*L-1"] | Float[Array, "*num L 2*L-1"],
        cov: ScatteringCovariance,
        key: jax.Array | None = None,
        *,
        terms: Iterable[str] = TERMS,
        cl: Float[Array, " L"] | None = None,
    ) -> Self:
        r"""The prior of fields like some examples, or one, by score matching.

        In coordinates y in which the Gaussian is a standard one, and with means over the examples,

        .. math:: E[\nabla s\, \nabla s^T]\, \theta = E[\Delta s] - E[\nabla s \cdot y].

        That is not maximum likelihood, and needs no draws. It makes the slope of the density that of the examples' on
        average; draws of the prior by itself may still have other statistics than the examples, and often have where
        the examples are far from Gaussian: compare them. `ScatteringPrior` is safer there. The wall is at twice the
        squared radius of the farthest example, and at least of the Gaussian.

        Args:
            maps: harmonic coefficients of real fields, or maps on ``GaussLegendre(L)``; a first axis is of examples.
            cov: the statistics.
            key: of the random directions along which the Laplacian is taken; always the same by default.
            terms: the groups of statistics whose :math:`\theta` is not 0, of ``"s1"`` to ``"s4"``.
            cl: the power of each degree in the Gaussian; by default the mean spectrum of the examples.

        Raises:
            ValueError: `maps` are of another shape or type, traced, not finite, or have no power at some degree but 0;
                `cov` is none of the sphere; or there is no such group.

        References: Hyvärinen A. 2005, J. Mach. Learn. Res. 6, 695.

        >>> import jax, jax.numpy as jnp
        >>> from armillary.scatter import MaximumEntropyPrior, ScatteringCovariance
        >>> from armillary.sphere import GaussLegendre
        >>> examples = jnp.exp(jax.random.normal(jax.random.key(0), (16, *GaussLegendre(8).shape)))
        >>> prior = MaximumEntropyPrior.fit(examples, ScatteringCovariance(8, N=1, J_min=1), terms=["s1", "s2"])
        >>> prior.event_shape
        (64,)
        """
        fits.check_cov(cov)
        groups = tuple(terms)
        if isinstance(terms, str) or not groups or not set(groups) <= set(TERMS):
            raise ValueError(f"terms={terms!r}: some of {', '.join(map(repr, TERMS))}, in a list")
        alm = fits.examples_of(maps, cov)
        spectrum = fits.spectrum_of(alm)
        if cl is not None:
            fits.check_known(cl=cl)
            spectrum = jnp.asarray(fits.check_cl(cl, cov.L), spectrum.dtype)
        root, x = fits.degrees_to_modes(jnp.sqrt(spectrum)), alm_to_real(alm)
        chosen = np.array([label.group in groups for label in fits.labels(cov)])
        theta = np.zeros(chosen.size)
        theta[chosen] = match(jax.random.key(0) if key is None else key, cov, root, x, chosen=chosen)
        farthest = float(jnp.mean((x / root) ** 2, axis=-1).max())
        return cls(cov, jnp.asarray(theta, spectrum.dtype), spectrum, (_WALL * max(farthest, 1.0)) ** 0.5)

    def potential(self, x: Float[Array, "... L**2"]) -> Float[Array, "*shape"]:
        """Minus the logarithm of what the Gaussian is multiplied by, of coefficients in the real layout."""
        x = self._check(x)
        square = ((x / self.root.astype(x.dtype)) ** 2).mean(axis=-1)
        beyond = jnp.maximum(square / self.radius.astype(x.dtype) ** 2 - 1, 0)
        s = fits.statistics_of(self.cov, x)
        return jnp.matmul(s, self.theta.astype(x.dtype), precision="highest") + x.shape[-1] * beyond**2
