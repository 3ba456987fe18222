r"""Posterior sampling by reverse diffusion, with the prior known by a denoiser.

A draw starts as white noise of standard deviation :math:`\sigma_{\max}` and is denoised in n steps
:math:`\sigma_1 > \dots > \sigma_n > 0`, at each of which the data pull on it. Every draw is made anew: a chain of them
is of independent draws. With :math:`\hat x = D(x, \sigma)`, and :math:`\sigma'` the next noise level:

"dps" (Chung et al. 2023) adds the gradient of the likelihood of the denoised image, through the denoiser, to a step of
ancestral sampling:

.. math:: x' = x + (\sigma^2 - \sigma'^2) \left[\frac{\hat x - x}{\sigma^2}
               + \gamma \nabla_x \log p(y \mid \hat x(x))\right]
               + \frac{\sigma'}{\sigma} \sqrt{\sigma^2 - \sigma'^2}\, \xi

"diffpir" (Zhu et al. 2023) moves the denoised image to the data by a proximal step, and adds noise again, a part of it
new:

.. math:: \tilde x = \mathrm{prox}_{-\gamma \sigma^2 \log p(y \mid \cdot)}(\hat x), \qquad
          x' = \tilde x + \sigma' \left[\sqrt{1 - \zeta}\, \frac{x - \tilde x}{\sigma} + \sqrt{\zeta}\, \xi\right]

Neither is exact, whatever the number of steps: see `as_top_level_api`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from blackjax.base import SamplingAlgorithm, build_sampling_algorithm
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Bool, Float, PyTree

from . import _steps
from ._annealed import check_levels
from ._check import check_count, check_positive

__all__ = ["DiffusionInfo", "DiffusionState", "as_top_level_api", "build_kernel", "init"]

GUIDANCES = ("diffpir", "dps")


class DiffusionState(NamedTuple):
    """State of posterior sampling by diffusion.

    position
        The last draw.
    loglikelihood
        The log-likelihood there.

    """

    position: PyTree
    loglikelihood: Float[Array, ""]


class DiffusionInfo(NamedTuple):
    """Additional information on a draw.

    is_divergent
        Whether the draw, or its log-likelihood, was not finite, and the one before was kept. Where this is set at all,
        "dps" needs more steps or less guidance.

    """

    is_divergent: Bool[Array, ""]


def init(position: PyTree, loglikelihood_fn: Callable[[PyTree], Array]) -> DiffusionState:
    """A state of the shape of a position, on which no draw depends."""
    return DiffusionState(position, loglikelihood_fn(position))


def build_kernel(
    guidance: str = "diffpir", num_krylov: int = 20
) -> Callable[..., tuple[DiffusionState, DiffusionInfo]]:
    """Build a kernel of posterior sampling by diffusion.

    Args:
        guidance: "diffpir" or "dps".
        num_krylov: products with the Hessian of the log-likelihood that a proximal step may take.

    Returns:
        A kernel that takes a random key, the last state, the log-likelihood, the denoiser, the noise levels in falling
        order, the weight of the data and the share of new noise, and returns a new state and information about it.
    """

    def kernel(
        rng_key: jax.Array,
        state: DiffusionState,
        loglikelihood_fn: Callable[[PyTree], Array],
        denoiser: Callable[[PyTree, Any], PyTree],
        sigmas: Float[np.ndarray, " n"],
        scale: float,
        zeta: float,
    ) -> tuple[DiffusionState, DiffusionInfo]:
        """Generate a new sample."""
        like, unravel = ravel_pytree(state.position)

        def loglikelihood(x: Array) -> Array:
            return loglikelihood_fn(unravel(x))

        def denoise(x: Array, sigma: Array) -> Array:
            return ravel_pytree(denoiser(unravel(x), sigma))[0].astype(x.dtype)

        def dps(x: Array, sigma: Array, after: Array, xi: Array) -> Array:
            clean, pullback = jax.vjp(lambda x: denoise(x, sigma), x)
            pull = pullback(jax.grad(loglikelihood)(clean))[0]
            drop = sigma**2 - after**2
            return x + drop * ((clean - x) / sigma**2 + scale * pull) + after / sigma * jnp.sqrt(drop) * xi

        def diffpir(x: Array, sigma: Array, after: Array, xi: Array) -> Array:
            clean = denoise(x, sigma)
            slope, hessian = jax.linearize(jax.grad(loglikelihood), clean)
            # Newton's step, which is the proximal operator where the log-likelihood is quadratic.
            width = scale * sigma**2
            step, _ = jax.scipy.sparse.linalg.cg(lambda v: v - width * hessian(v), width * slope, maxiter=num_krylov)
            near = clean + step
            return near + after * (math.sqrt(1 - zeta) * (x - near) / sigma + math.sqrt(zeta) * xi)

        update = dps if guidance == "dps" else diffpir

        def body(x: Array, at: tuple[Array, Array, jax.Array]) -> tuple[Array, None]:
            sigma, after, key = at
            return update(x, sigma, after, jax.random.normal(key, x.shape, x.dtype)), None

        keys = jax.random.split(rng_key, len(sigmas) + 1)
        levels = jnp.asarray(sigmas, like.dtype)
        start = levels[0] * jax.random.normal(keys[0], like.shape, like.dtype)
        final, _ = jax.lax.scan(body, start, (levels, jnp.append(levels[1:], 0), keys[1:]))
        proposal = init(unravel(final), loglikelihood_fn)
        finite = _steps.is_finite(proposal)
        return _steps.select(finite, proposal, state), DiffusionInfo(~finite)

    return kernel


def as_top_level_api(
    loglikelihood_fn: Callable[[PyTree], Array],
    denoiser: Callable[[PyTree, Any], PyTree],
    guidance: str = "diffpir",
    num_steps: int = 200,
    sigma_max: float = 10.0,
    sigma_min: float = 0.01,
    *,
    scale: float = 1.0,
    zeta: float = 0.3,
    num_krylov: int = 20,
) -> SamplingAlgorithm:
    r"""Implements the user interface for posterior sampling by diffusion.

    Every step of the algorithm is a whole diffusion and gives a draw that is independent of the last. The draws are not
    of the posterior, even with an exact denoiser. For a Gaussian prior and likelihood their moments are known: with
    many steps "diffpir" has the posterior's mean, and :math:`(1 + \sqrt{1 - \zeta}) / 2` of its variance, less where
    the steps are few. "dps" takes the denoised image as certain: of data 1.5 prior standard deviations from zero and as
    strong as the prior, its mean is 0.27 posterior standard deviations off and its variance 0.86 of the posterior's;
    where they are four times as strong, 0.61 and 0.62. Take `annealed_langevin` or `pnp_ula` where the uncertainty
    matters, and this for a start, or where chains do not mix.

    >>> import jax, jax.numpy as jnp
    >>> from armillary import imaging
    >>> y = jnp.ones((8, 8))
    >>> alg = imaging.diffusion_posterior(
    ...     lambda x: -0.5 * jnp.sum((y - x) ** 2) / 0.5**2, lambda x, sigma: x / (1 + sigma**2), num_steps=50
    ... )
    >>> state, info = jax.jit(alg.step)(jax.random.key(0), alg.init(y))
    >>> state.position.shape, bool(info.is_divergent)
    ((8, 8), False)

    Chung H. et al. 2023, arXiv:2209.14687; Zhu Y. et al. 2023, arXiv:2305.08995.

    Args:
        loglikelihood_fn: the log-likelihood; for "diffpir" of Gaussian noise and a linear operator, of another one the
            proximal step is a step of Newton's method.
        denoiser: ``denoiser(position, sigma)``, see `armillary.core.protocols.Denoiser`, good at all the noise levels.
        guidance: "diffpir" or "dps".
        num_steps: denoisings of a draw, n. "dps" is stable where
            :math:`n > \tfrac14 L s^2 \ln(\sigma_{\max} / \sigma_{\min})` or so, with the Lipschitz constant L of the
            gradient of the log-likelihood and the standard deviation s of images.
        sigma_max: the first noise level, many times the spread of images about zero.
        sigma_min: the last one before the end; below it nothing is denoised.
        scale: the weight :math:`\gamma` of the data; 1 is that of the likelihood.
        zeta: the share :math:`\zeta` of new noise in a step of "diffpir", from 0 to 1.
        num_krylov: products with the Hessian that a proximal step of "diffpir" may take.

    Returns:
        A `blackjax.base.SamplingAlgorithm`.

    Raises:
        ValueError: a setting out of its range.
    """
    check_settings(guidance, num_steps, sigma_max, sigma_min, scale, zeta, num_krylov)
    sigmas = np.geomspace(sigma_max, sigma_min, num_steps)
    return build_sampling_algorithm(
        build_kernel(guidance, num_krylov), init, loglikelihood_fn, kernel_args=(denoiser, sigmas, scale, zeta)
    )


def check_settings(
    guidance: Any, num_steps: Any, sigma_max: Any, sigma_min: Any, scale: Any, zeta: Any, num_krylov: Any
) -> None:
    """Refuse a setting out of range.

    Raises:
        ValueError: naming it.
    """
    if guidance not in GUIDANCES:
        raise ValueError(f"guidance={guidance!r}: expected one of {', '.join(map(repr, GUIDANCES))}")
    check_count("num_steps", num_steps, "200 are usual", least=2)
    check_levels(sigma_max, sigma_min)
    check_positive("scale", scale, "1 is the weight of the likelihood")
    if isinstance(zeta, bool) or not 0 <= zeta <= 1:
        raise ValueError(f"zeta={zeta!r}: expected the share of new noise, from 0 to 1; 0.3 is usual")
    check_count("num_krylov", num_krylov, "20 are usual")


def gaussian_moments(
    guidance: str, sigmas: Float[np.ndarray, " n"], scale: float, zeta: float, curvature: float, spread: float, y: float
) -> tuple[float, float]:
    """The mean and variance of a draw for the likelihood N(x; y, 1 / curvature) and the prior N(0, spread**2)."""
    mean, variance = 0.0, float(sigmas[0]) ** 2
    for sigma, after in zip(sigmas, [*sigmas[1:], 0.0], strict=True):
        shrink = spread**2 / (spread**2 + sigma**2)
        if guidance == "dps":
            drop = sigma**2 - after**2
            slope = 1 - drop * ((1 - shrink) / sigma**2 + scale * shrink**2 * curvature)
            offset = drop * scale * shrink * curvature * y
            noise = (after / sigma) ** 2 * drop
        else:
            weight = 1 / (1 + scale * sigma**2 * curvature)
            old = math.sqrt(1 - zeta) * after / sigma
            slope = weight * shrink * (1 - old) + old
            offset = (1 - weight) * y * (1 - old)
            noise = zeta * after**2
        mean, variance = slope * mean + offset, slope**2 * variance + noise
    return mean, variance
