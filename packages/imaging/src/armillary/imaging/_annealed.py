r"""Annealed Langevin dynamics of a posterior whose prior is known by a denoiser.

Plug-and-play ULA whose prior is smoothed by noise that falls, geometrically over n steps, from a level at which the
chain moves freely to one that no longer matters, and then stays:

.. math:: X' = X + \delta \left[\nabla \log p(y \mid X) + \frac{D(X, \sigma) - X}{\sigma^2}\right]
               + \sqrt{2 \delta}\, \xi, \qquad
          \sigma_i = \sigma_{\max} (\sigma_{\min} / \sigma_{\max})^{\min(i / n, 1)}, \qquad
          \delta = \frac{2 a}{L + 1 / \sigma^2}

with the Lipschitz constant L of the gradient of the log-likelihood and the share a of the stability limit.

Song Y., Ermon S. 2019, arXiv:1907.05600; with a likelihood: Jalal A. et al. 2021, arXiv:2108.01368.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from blackjax.base import SamplingAlgorithm, build_sampling_algorithm
from jaxtyping import Array, Bool, Float, Int, PyTree

from . import _myula, _pnp_ula
from ._check import check_count, check_fraction, check_positive

__all__ = ["AnnealedLangevinInfo", "AnnealedLangevinState", "as_top_level_api", "build_kernel", "init"]


class AnnealedLangevinState(NamedTuple):
    """State of annealed Langevin dynamics.

    position
        Current position of the chain.
    loglikelihood
        The log-likelihood there.
    loglikelihood_grad
        Its gradient, kept so that a step costs one gradient and one call of the denoiser.
    iteration
        Steps made, on which the noise level depends.

    """

    position: PyTree
    loglikelihood: Float[Array, ""]
    loglikelihood_grad: PyTree
    iteration: Int[Array, ""]


class AnnealedLangevinInfo(NamedTuple):
    """Additional information on the transition.

    is_divergent
        Whether the proposed position, or the log-likelihood or its gradient there, was not finite. The chain then
        stays where it was, and no draw of it is to be trusted.
    sigma
        The noise level of the step.

    """

    is_divergent: Bool[Array, ""]
    sigma: Float[Array, ""]


def init(position: PyTree, loglikelihood_fn: Callable[[PyTree], Array]) -> AnnealedLangevinState:
    """The state at a position, before the first step."""
    return AnnealedLangevinState(
        position, *jax.value_and_grad(loglikelihood_fn)(position), iteration=jnp.zeros((), jnp.int32)
    )


def build_kernel() -> Callable[..., tuple[AnnealedLangevinState, AnnealedLangevinInfo]]:
    """Build a kernel of annealed Langevin dynamics.

    Returns:
        A kernel that takes a random key, the state of the chain, the log-likelihood, the denoiser, its Lipschitz
        constant, the largest and least noise level, the number of steps between them and the share of the stability
        limit, and returns a new state and information about the transition.
    """
    kernel = _pnp_ula.build_kernel()

    def annealed_kernel(
        rng_key: jax.Array,
        state: AnnealedLangevinState,
        loglikelihood_fn: Callable[[PyTree], Array],
        denoiser: Callable[[PyTree, Any], PyTree],
        lipschitz: float | Float[Array, ""],
        sigma_max: float,
        sigma_min: float,
        num_steps: int | Int[Array, ""],
        share: float,
    ) -> tuple[AnnealedLangevinState, AnnealedLangevinInfo]:
        """Generate a new sample."""
        dtype = jnp.result_type(*jax.tree.leaves(state.position))
        progress = jnp.minimum(state.iteration.astype(dtype) / jnp.asarray(num_steps, dtype), 1)
        sigma = sigma_max * jnp.asarray(sigma_min / sigma_max, dtype) ** progress
        step_size = 2 * share / (jnp.asarray(lipschitz, dtype) + 1 / sigma**2)
        chain = _myula.MYULAState(state.position, state.loglikelihood, state.loglikelihood_grad)
        chain, info = kernel(rng_key, chain, loglikelihood_fn, denoiser, step_size, sigma)
        return (
            AnnealedLangevinState(*chain, iteration=state.iteration + 1),
            AnnealedLangevinInfo(info.is_divergent, sigma),
        )

    return annealed_kernel


def as_top_level_api(
    loglikelihood_fn: Callable[[PyTree], Array],
    denoiser: Callable[[PyTree, Any], PyTree],
    lipschitz: float | Float[Array, ""],
    sigma_max: float = 1.0,
    sigma_min: float = 0.05,
    num_steps: int | Int[Array, ""] = 1000,
    *,
    share: float = 0.5,
) -> SamplingAlgorithm:
    r"""Implements the user interface for annealed Langevin dynamics.

    >>> import jax, jax.numpy as jnp
    >>> from armillary import imaging
    >>> y = jnp.ones((8, 8))
    >>> alg = imaging.annealed_langevin(
    ...     lambda x: -0.5 * jnp.sum((y - x) ** 2) / 0.5**2,
    ...     lambda x, sigma: x / (1 + sigma**2),
    ...     lipschitz=4.0,
    ...     sigma_min=0.2,
    ...     num_steps=100,
    ... )
    >>> state, info = jax.jit(alg.step)(jax.random.key(0), alg.init(y))
    >>> state.position.shape, float(info.sigma)
    ((8, 8), 1.0)

    Args:
        loglikelihood_fn: the log-likelihood, with a Lipschitz gradient.
        denoiser: ``denoiser(position, sigma)``, see `armillary.core.protocols.Denoiser`, good at all the noise levels.
        lipschitz: the Lipschitz constant L of that gradient, ``(opnorm / sigma)**2`` for white noise; see
            `armillary.imaging.lipschitz`.
        sigma_max: the noise level of the first step, of the order of the spread of images.
        sigma_min: that of step ``num_steps`` and all later ones, whose stationary distribution is the posterior under
            the prior smoothed by it, but for the bias of the step as in `ula`. Draws are those after ``num_steps``.
        num_steps: the length of the annealing.
        share: of the stability limit ``2 / (L + 1 / sigma**2)`` that a step takes.

    Returns:
        A `blackjax.base.SamplingAlgorithm`.

    Raises:
        ValueError: a setting out of its range.
    """
    check_positive("lipschitz", lipschitz, "it is (opnorm / sigma)**2 for white noise; see imaging.lipschitz")
    check_settings(sigma_max, sigma_min, num_steps, share)
    return build_sampling_algorithm(
        build_kernel(),
        init,
        loglikelihood_fn,
        kernel_args=(denoiser, lipschitz, sigma_max, sigma_min, num_steps, share),
    )


def check_settings(sigma_max: Any, sigma_min: Any, num_steps: Any, share: Any) -> None:
    """Refuse noise levels, a number of steps or a share out of range.

    Raises:
        ValueError: naming it.
    """
    check_levels(sigma_max, sigma_min)
    if not isinstance(num_steps, jax.Array):
        check_count("num_steps", num_steps, "1000 are usual")
    check_fraction("share", share, "0.5 is usual; the bias of the step grows with it")


def check_levels(sigma_max: Any, sigma_min: Any) -> None:
    """Refuse noise levels that are not positive and in order.

    Raises:
        ValueError: naming them.
    """
    check_positive("sigma_max", sigma_max, "it is the first noise level, of the order of the spread of images")
    check_positive("sigma_min", sigma_min, "it is the last noise level")
    if not sigma_min < sigma_max:
        raise ValueError(f"sigma_min={sigma_min!r} and sigma_max={sigma_max!r}: the noise must fall; exchange the two")
