"""Priors that are known by a denoiser, or by a score."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float

from ._check import check_positive


class DenoiserPrior(eqx.Module):
    r"""The prior of images that a denoiser was trained on, smoothed, by Tweedie's formula.

    Where D is the posterior mean of an image given that image with white noise, as a denoiser trained on squared error
    approaches, the score of :math:`p_\epsilon = p * N(0, \epsilon)`, the density of images *with that noise added*, is

    .. math:: \nabla \log p_\epsilon(x) = \frac{D(x, \sqrt\epsilon) - x}{\epsilon}

    exactly. It is not the score of p, which need not have one, and tends to it as :math:`\epsilon` tends to 0. For any
    other denoiser it is a vector field that need not be the score of anything. The density itself is not known, so
    there is no ``log_prob`` and this is no NumPyro distribution.

    >>> import jax.numpy as jnp
    >>> from armillary.imaging import DenoiserPrior
    >>> prior = DenoiserPrior(lambda x, sigma: x / (1 + sigma**2), epsilon=0.25)  # of a Gaussian of unit variance
    >>> print(prior.score(jnp.array([-1.25, 2.5])))
    [ 1. -2.]

    Efron B. 2011, J. Am. Stat. Assoc. 106, 1602, doi:10.1198/jasa.2011.tm11181; Laumont R. et al. 2022, SIAM J. Imaging
    Sci. 15, 701 (arXiv:2103.04715).

    Args:
        denoiser: ``denoiser(x, sigma)``, see `armillary.core.protocols.Denoiser`.
        epsilon: the variance of the noise, positive, in squared units of the image.

    Raises:
        ValueError: ``epsilon`` is not positive and finite.
    """

    denoiser: Callable[[Array, Any], Array]
    epsilon: float | Float[Array, ""]

    def __init__(self, denoiser: Callable[[Array, Any], Array], epsilon: float | Float[Array, ""] = 0.05**2) -> None:
        check_positive("epsilon", epsilon, "it is the variance of the noise that the denoiser takes away")
        self.denoiser, self.epsilon = denoiser, epsilon

    def score(self, x: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
        """The score of the prior smoothed by noise of variance ``epsilon``.

        Args:
            x: an image, with any leading batch axes that the denoiser takes.
        """
        x = jnp.asarray(x)
        epsilon = jnp.asarray(self.epsilon, x.dtype)
        return (self.denoiser(x, jnp.sqrt(epsilon)) - x) / epsilon

    def prox(self, x: Float[Array, "*shape"], step: Float[ArrayLike, ""]) -> Float[Array, "*shape"]:
        r"""The denoiser for noise of variance ``step``, in the place of a proximal operator: plug and play.

        It is not the proximal operator of :math:`-\log p`, but for a Gaussian p; that is a maximum of a posterior,
        this a mean. Algorithms with a smoothing :math:`\lambda` that use a proximal operator through
        :math:`(x - \mathrm{prox}(x, \lambda)) / \lambda` alone, `myula` and `skrock`, become Langevin algorithms
        of :math:`p_\lambda`, with nothing approximate about it. Others, such as `px_mala`, `fista`, `admm` and
        `split_gibbs`, take it at its word, and their results are those of no stated model.

        Args:
            x: an image, with any leading batch axes that the denoiser takes.
            step: positive, in squared units of the image.
        """
        x = jnp.asarray(x)
        return self.denoiser(x, jnp.sqrt(jnp.asarray(step, x.dtype)))


class ScorePrior(eqx.Module):
    r"""The prior that a score network was trained on, smoothed: `DenoiserPrior` for ``score(x, sigma)``.

    By Tweedie's formula the denoiser of a score is :math:`x + \sigma^2 s(x, \sigma)`; what is said there of it and of
    its `prox` holds here.

    >>> import jax.numpy as jnp
    >>> from armillary.imaging import ScorePrior
    >>> prior = ScorePrior(lambda x, sigma: -x / (1 + sigma**2), epsilon=0.25)  # of a Gaussian of unit variance
    >>> print(prior.denoiser(jnp.array([-1.25, 2.5]), 0.5))
    [-1.  2.]

    Song Y., Ermon S. 2019, arXiv:1907.05600.

    Args:
        score_fn: ``score_fn(x, sigma)``, the score of images with white noise sigma, such as ``ScoreUNet.score``.
        epsilon: the variance of the noise, positive, in squared units of the image.

    Raises:
        ValueError: ``epsilon`` is not positive and finite.
    """

    score_fn: Callable[[Array, Any], Array]
    epsilon: float | Float[Array, ""]

    def __init__(self, score_fn: Callable[[Array, Any], Array], epsilon: float | Float[Array, ""] = 0.05**2) -> None:
        check_positive("epsilon", epsilon, "it is the variance of the noise of images that the score is of")
        self.score_fn, self.epsilon = score_fn, epsilon

    def score(self, x: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
        """The score of the prior smoothed by noise of variance ``epsilon``.

        Args:
            x: an image, with any leading batch axes that the network takes.
        """
        x = jnp.asarray(x)
        return self.score_fn(x, jnp.sqrt(jnp.asarray(self.epsilon, x.dtype)))

    def denoiser(self, x: Float[Array, "*shape"], sigma: Float[ArrayLike, ""]) -> Float[Array, "*shape"]:
        """The posterior mean of an image given it with white noise; see `armillary.core.protocols.Denoiser`.

        Args:
            x: an image, with any leading batch axes that the network takes.
            sigma: the standard deviation of the noise.
        """
        x = jnp.asarray(x)
        sigma = jnp.asarray(sigma, x.dtype)
        return x + sigma**2 * self.score_fn(x, sigma)

    def prox(self, x: Float[Array, "*shape"], step: Float[ArrayLike, ""]) -> Float[Array, "*shape"]:
        """The denoiser for noise of variance ``step``: see `DenoiserPrior.prox`, also for what it is not.

        Args:
            x: an image, with any leading batch axes that the network takes.
            step: positive, in squared units of the image.
        """
        return self.denoiser(x, jnp.sqrt(jnp.asarray(step, jnp.result_type(x))))
