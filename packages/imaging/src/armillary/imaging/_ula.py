r"""The unadjusted Langevin algorithm.

The Euler discretisation, of step :math:`\delta`, of the Langevin diffusion of a smooth density:

.. math:: X' = X + \delta \nabla \log p(X) + \sqrt{2 \delta}\, \xi, \qquad \xi \sim N(0, 1).

Roberts G. O., Tweedie R. L. 1996, Bernoulli 2, 341, doi:10.2307/3318418.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from blackjax.base import SamplingAlgorithm, build_sampling_algorithm
from jaxtyping import Array, Bool, Float, PyTree

from . import _steps

# The limit of step_size * L, the value of it by default, and the limit in words.
LIMIT, DEFAULT, FORMULA = 2.0, 1.0, "2 / L"

__all__ = ["ULAInfo", "ULAState", "as_top_level_api", "build_kernel", "init"]


class ULAState(NamedTuple):
    """State of the ULA algorithm.

    position
        Current position of the chain.
    logdensity
        The log-density there.
    logdensity_grad
        Its gradient, kept so that a step costs one.

    """

    position: PyTree
    logdensity: Float[Array, ""]
    logdensity_grad: PyTree


class ULAInfo(NamedTuple):
    """Additional information on the ULA transition.

    is_divergent
        Whether the proposed position, or the log-density or its gradient there, was not finite. The chain then stays
        where it was. Where this is set at all, the step size is beyond the stability limit and no draw of the chain
        is to be trusted.

    """

    is_divergent: Bool[Array, ""]


def init(position: PyTree, logdensity_fn: Callable[[PyTree], Array]) -> ULAState:
    """The state at a position."""
    return ULAState(position, *jax.value_and_grad(logdensity_fn)(position))


def build_kernel() -> Callable[..., tuple[ULAState, ULAInfo]]:
    """Build a ULA kernel.

    Returns:
        A kernel that takes a random key, the state of the chain, the log-density and the step size, and returns a new
        state and information about the transition.
    """

    def kernel(
        rng_key: jax.Array,
        state: ULAState,
        logdensity_fn: Callable[[PyTree], Array],
        step_size: float | Float[Array, ""],
    ) -> tuple[ULAState, ULAInfo]:
        """Generate a new sample with the ULA kernel."""

        def move(x: Array, grad: Array, noise: Array) -> Array:
            delta = jnp.asarray(step_size, x.dtype)
            return x + delta * grad + jnp.sqrt(2 * delta) * noise

        noise = _steps.noise_like(rng_key, state.position)
        proposal = init(jax.tree.map(move, state.position, state.logdensity_grad, noise), logdensity_fn)
        finite = _steps.is_finite(proposal)
        return _steps.select(finite, proposal, state), ULAInfo(~finite)

    return kernel


def as_top_level_api(
    logdensity_fn: Callable[[PyTree], Array],
    step_size: float | Float[Array, ""] | None = None,
    *,
    lipschitz: float | Float[Array, ""] | None = None,
) -> SamplingAlgorithm:
    r"""Implements the user interface for the ULA kernel.

    >>> import jax, jax.numpy as jnp
    >>> from armillary import imaging
    >>> alg = imaging.ula(lambda x: -2.0 * jnp.sum((x - 1.0) ** 2), lipschitz=4.0)
    >>> state, info = jax.jit(alg.step)(jax.random.key(0), alg.init(jnp.zeros((8, 8))))
    >>> state.position.shape, bool(info.is_divergent)
    ((8, 8), False)

    Args:
        logdensity_fn: the log-density, with a Lipschitz gradient.
        step_size: the step :math:`\delta` of the discretisation, in squared units of the position, below
            ``2 / lipschitz``. On a Gaussian mode of precision P the variance is ``1 / (P (1 - step_size P / 2))``.
            By default ``1 / lipschitz``.
        lipschitz: the Lipschitz constant of the gradient, against which the step size is checked; see
            `armillary.imaging.lipschitz`.

    Returns:
        A `blackjax.base.SamplingAlgorithm`.

    Raises:
        ValueError: an argument that is not positive and finite, neither of the two given, or a step that is not
            stable.
    """
    step_size = _steps.settle(step_size, lipschitz, limit=LIMIT, default=DEFAULT, formula=FORMULA)
    return build_sampling_algorithm(build_kernel(), init, logdensity_fn, kernel_args=(step_size,))
