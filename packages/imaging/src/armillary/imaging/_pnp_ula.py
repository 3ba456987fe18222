r"""Plug-and-play ULA: the unadjusted Langevin algorithm whose prior is known by a denoiser.

For a denoiser :math:`D(x, \sigma)` that is the posterior mean of an image given that image with white noise, the score
of the prior smoothed by that noise is :math:`(D(x, \sigma) - x) / \sigma^2` by Tweedie's formula, and the chain is

.. math:: X' = X + \delta \left[\nabla \log p(y \mid X) + \frac{D(X, \sigma) - X}{\sigma^2}\right]
               + \sqrt{2 \delta}\, \xi, \qquad \xi \sim N(0, 1).

It is that of `armillary.imaging.myula` with the denoiser for the proximal operator and :math:`\sigma^2` for the
smoothing, and is made of it. A denoiser whose residual is expansive can let the chain run away; the term
:math:`(\Pi_C(X) - X) / \sigma^2` of a box C, which does nothing inside of it, holds it.

Laumont R., De Bortoli V., Almansa A., Delon J., Durmus A., Pereyra M. 2022, SIAM J. Imaging Sci. 15, 701
(arXiv:2103.04715).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from blackjax.base import SamplingAlgorithm, build_sampling_algorithm
from jaxtyping import Array, Float, PyTree

from . import _myula, _steps
from ._check import check_positive

__all__ = ["as_top_level_api", "build_kernel", "init"]

FORMULA = "2 / (L + 1 / sigma**2)"
init = _myula.init


def build_kernel() -> Callable[..., tuple[_myula.MYULAState, _myula.MYULAInfo]]:
    """Build a plug-and-play ULA kernel.

    Returns:
        A kernel that takes a random key, the state of the chain, the log-likelihood, the denoiser, the step size and
        the standard deviation of the denoiser's noise, and returns a new state and information about the transition.
    """
    kernel = _myula.build_kernel()

    def pnp_kernel(
        rng_key: jax.Array,
        state: _myula.MYULAState,
        loglikelihood_fn: Callable[[PyTree], Array],
        denoiser: Callable[[PyTree, Any], PyTree],
        step_size: float | Float[Array, ""],
        sigma: float | Float[Array, ""],
    ) -> tuple[_myula.MYULAState, _myula.MYULAInfo]:
        """Generate a new sample with the plug-and-play ULA kernel."""
        return kernel(rng_key, state, loglikelihood_fn, lambda x, _: denoiser(x, sigma), step_size, sigma**2)

    return pnp_kernel


def confined(
    loglikelihood_fn: Callable[[PyTree], Array], bounds: tuple[float, float], sigma: float | Float[Array, ""]
) -> Callable[[PyTree], Array]:
    """The log-likelihood less the squared distance from a box, of curvature ``1 / sigma**2``."""

    def distance(x: Array) -> Array:
        return jnp.sum((x - jnp.clip(x, *bounds)) ** 2)

    return lambda x: loglikelihood_fn(x) - 0.5 / sigma**2 * sum(distance(leaf) for leaf in jax.tree.leaves(x))


def check_bounds(bounds: Any) -> None:
    """Refuse what is not a lower and an upper bound.

    Raises:
        ValueError: saying what came.
    """
    try:
        low, high = (float(end) for end in bounds)
    except (TypeError, ValueError):
        low = high = math.nan
    if not -math.inf < low < high < math.inf:
        raise ValueError(
            f"bounds={bounds!r}: expected a lower and a larger upper bound, both finite, such as (-1, 2) for images "
            "between 0 and 1"
        )


def as_top_level_api(
    loglikelihood_fn: Callable[[PyTree], Array],
    denoiser: Callable[[PyTree, Any], PyTree],
    step_size: float | Float[Array, ""] | None = None,
    sigma: float | Float[Array, ""] = 0.05,
    *,
    lipschitz: float | Float[Array, ""] | None = None,
    bounds: tuple[float, float] | None = None,
) -> SamplingAlgorithm:
    r"""Implements the user interface for the plug-and-play ULA kernel.

    With the denoiser of a Gaussian prior of unit variance, which is a shrinkage:

    >>> import jax, jax.numpy as jnp
    >>> from armillary import imaging
    >>> y = jnp.ones((8, 8))
    >>> alg = imaging.pnp_ula(
    ...     lambda x: -0.5 * jnp.sum((y - x) ** 2) / 0.5**2,
    ...     lambda x, sigma: x / (1 + sigma**2),
    ...     sigma=0.2,
    ...     lipschitz=4.0,
    ... )
    >>> state, info = jax.jit(alg.step)(jax.random.key(0), alg.init(y))
    >>> state.position.shape, bool(info.is_divergent)
    ((8, 8), False)

    Args:
        loglikelihood_fn: the log-likelihood, with a Lipschitz gradient.
        denoiser: ``denoiser(position, sigma)``, see `armillary.core.protocols.Denoiser`. The chain is stable where its
            residual ``x - denoiser(x, sigma)`` is a non-expansive function, as that of a posterior mean under a
            log-concave prior is; a trained one may not be.
        step_size: the step :math:`\delta`, in squared units of the position, below ``2 / (lipschitz + 1 / sigma**2)``
            and by default half of that.
        sigma: the standard deviation of the noise that the denoiser takes away. The prior is smoothed by it, and the
            largest stable step falls with its square.
        lipschitz: the Lipschitz constant of the gradient of the log-likelihood, against which the step size is
            checked; see `armillary.imaging.lipschitz`.
        bounds: what pixels that leave this range are drawn back to, as strongly as by the denoiser, so that the limit
            is ``2 / (lipschitz + 2 / sigma**2)``. Wide ones, such as (-1, 2) for images between 0 and 1, are not felt
            by a chain that stays, and keep one that would run away.

    Returns:
        A `blackjax.base.SamplingAlgorithm`; its states and infos are those of `armillary.imaging.myula`.

    Raises:
        ValueError: an argument that is not positive and finite, neither step size nor ``lipschitz``, a step that is
            not stable, or bounds that are not two numbers in order.
    """
    check_positive("sigma", sigma, "it is the standard deviation of the noise that the denoiser takes away")
    if bounds is not None:
        check_bounds(bounds)
        loglikelihood_fn = confined(loglikelihood_fn, bounds, sigma)
        lipschitz = None if lipschitz is None else lipschitz + 1 / sigma**2
    step_size = _steps.settle(
        step_size,
        lipschitz,
        limit=_myula.LIMIT,
        default=_myula.DEFAULT,
        smoothing=sigma**2,
        formula=FORMULA,
    )
    return build_sampling_algorithm(build_kernel(), init, loglikelihood_fn, kernel_args=(denoiser, step_size, sigma))
