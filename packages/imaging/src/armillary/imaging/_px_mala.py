r"""The proximal Metropolis-adjusted Langevin algorithm.

For a density proportional to :math:`\exp(f(x) - g(x))`, with ``f`` smooth and ``g`` not, the step of
`armillary.imaging.myula` is a proposal,

.. math:: X' = X + \delta\, b(X) + \sqrt{2 \delta}\, \xi, \qquad
          b(x) = \nabla f(x) - \frac{x - \mathrm{prox}_{\lambda g}(x)}{\lambda}, \qquad \xi \sim N(0, 1),

that is accepted or refused by the exact density, which so becomes that of the chain. With :math:`\lambda = \delta`
the mean of the proposal is :math:`\mathrm{prox}_{\delta g}(X) + \delta \nabla f(X)`.

Pereyra M. 2016, Stat. Comput. 26, 745, doi:10.1007/s11222-015-9567-4 (arXiv:1306.0187).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from blackjax.base import SamplingAlgorithm, build_sampling_algorithm
from jaxtyping import Array, Bool, Float, PyTree

from . import _steps
from ._check import check_positive

__all__ = ["PxMALAInfo", "PxMALAState", "as_top_level_api", "build_kernel", "init"]


class PxMALAState(NamedTuple):
    """State of the proximal MALA algorithm.

    position
        Current position of the chain.
    logdensity
        The exact log-density there, of both parts.
    smooth_logdensity_grad
        The gradient of the smooth part.
    proximal
        The proximal operator of the other part. The two are kept so that a step costs one of each.

    """

    position: PyTree
    logdensity: Float[Array, ""]
    smooth_logdensity_grad: PyTree
    proximal: PyTree


class PxMALAInfo(NamedTuple):
    """Additional information on the proximal MALA transition.

    acceptance_rate
        The probability of accepting the proposal.
    is_accepted
        Whether it was.
    is_divergent
        Whether the proposal, its gradient or its proximal operator was not finite, or its log-density NaN or
        infinite (minus infinity is a proposal outside the support, and only refused).

    """

    acceptance_rate: Float[Array, ""]
    is_accepted: Bool[Array, ""]
    is_divergent: Bool[Array, ""]


def init(
    position: PyTree,
    smooth_logdensity_fn: Callable[[PyTree], Array],
    prox: Callable[[PyTree, Any], PyTree],
    nonsmooth_logdensity_fn: Callable[[PyTree], Array],
    smoothing: float | Float[Array, ""],
) -> PxMALAState:
    """The state at a position."""
    smooth, grad = jax.value_and_grad(smooth_logdensity_fn)(position)
    logdensity = smooth + nonsmooth_logdensity_fn(position)
    return PxMALAState(position, logdensity.astype(smooth.dtype), grad, prox(position, smoothing))


def build_kernel() -> Callable[..., tuple[PxMALAState, PxMALAInfo]]:
    """Build a proximal MALA kernel.

    Returns:
        A kernel that takes a random key, the state of the chain, the smooth log-density, the proximal operator, the
        log-density that it is of, the step size and the smoothing, and returns a new state and information about the
        transition.
    """

    def kernel(
        rng_key: jax.Array,
        state: PxMALAState,
        smooth_logdensity_fn: Callable[[PyTree], Array],
        prox: Callable[[PyTree, Any], PyTree],
        nonsmooth_logdensity_fn: Callable[[PyTree], Array],
        step_size: float | Float[Array, ""],
        smoothing: float | Float[Array, ""],
    ) -> tuple[PxMALAState, PxMALAInfo]:
        """Generate a new sample with the proximal MALA kernel."""
        noise_key, accept_key = jax.random.split(rng_key)
        noise = _steps.noise_like(noise_key, state.position)

        def drift(of: PxMALAState) -> PyTree:
            return jax.tree.map(
                lambda x, grad, proximal: grad - (x - proximal) / jnp.asarray(smoothing, x.dtype),
                of.position,
                of.smooth_logdensity_grad,
                of.proximal,
            )

        def move(x: Array, b: Array, xi: Array) -> Array:
            delta = jnp.asarray(step_size, x.dtype)
            return x + delta * b + jnp.sqrt(2 * delta) * xi

        there = drift(state)
        position = jax.tree.map(move, state.position, there, noise)
        proposal = init(position, smooth_logdensity_fn, prox, nonsmooth_logdensity_fn, smoothing)
        back = drift(proposal)

        # ln q(X' | X) - ln q(X | X') for both drifts together, s = b(X) + b(X'): the squares of the noise, which
        # would be the largest numbers of all, cancel on paper and not in rounding.
        both = jax.tree.map(jnp.add, there, back)
        dtype = state.logdensity.dtype
        delta = jnp.asarray(step_size, dtype)
        asymmetry = jnp.sqrt(delta / 2) * _steps.vdot(noise, both) + delta / 4 * _steps.vdot(both, both)
        log_ratio = proposal.logdensity - state.logdensity - asymmetry.astype(dtype)
        finite = _steps.is_finite(proposal._replace(logdensity=jnp.zeros(()))) & (proposal.logdensity < jnp.inf)
        rate = jnp.where(finite & ~jnp.isnan(log_ratio), jnp.exp(jnp.minimum(log_ratio, 0)), 0)
        accepted = jax.random.uniform(accept_key, (), dtype) < rate
        return _steps.select(accepted, proposal, state), PxMALAInfo(rate, accepted, ~finite)

    return kernel


def as_top_level_api(
    smooth_logdensity_fn: Callable[[PyTree], Array],
    prox: Callable[[PyTree, Any], PyTree],
    nonsmooth_logdensity_fn: Callable[[PyTree], Array],
    step_size: float | Float[Array, ""],
    smoothing: float | Float[Array, ""] | None = None,
) -> SamplingAlgorithm:
    r"""Implements the user interface for the proximal MALA kernel.

    A sparse image seen through noise. The prior is given twice, by its proximal operator for the proposal and by its
    log-density for the correction:

    >>> import jax, jax.numpy as jnp
    >>> from armillary import imaging
    >>> prior = imaging.L1(0.5).expand((8, 8)).to_event(2)
    >>> y, sigma = jnp.zeros((8, 8)).at[2, 3].set(4.0), 0.5
    >>> alg = imaging.px_mala(
    ...     lambda x: -0.5 * jnp.sum((y - x) ** 2) / sigma**2,
    ...     imaging.L1(0.5).prox,
    ...     prior.log_prob,
    ...     step_size=0.05,
    ... )
    >>> state, info = jax.jit(alg.step)(jax.random.key(0), alg.init(y))
    >>> state.position.shape, bool(info.is_divergent)
    ((8, 8), False)

    Args:
        smooth_logdensity_fn: the part of the log-density that has a gradient.
        prox: ``prox(position, step)``, the proximal operator of the rest of the negative log-density.
        nonsmooth_logdensity_fn: that rest of the log-density itself; of a prior its ``log_prob``.
        step_size: the step :math:`\delta` of the proposal, in squared units of the position. It sets the rate of
            acceptance, for which about a half is good; the chain is exact for every step.
        smoothing: the parameter :math:`\lambda` of the Moreau envelope in the proposal; by default ``step_size``.

    Returns:
        A `blackjax.base.SamplingAlgorithm`.

    Raises:
        ValueError: a step size or smoothing that is not positive and finite.
    """
    check_positive("step_size", step_size, "start from 1 / (L d**(1/3)) for d pixels; see armillary.imaging.px_mala")
    if smoothing is None:
        smoothing = step_size
    check_positive("smoothing", smoothing, "leave it out to have it equal to step_size")
    parts = (prox, nonsmooth_logdensity_fn)
    return build_sampling_algorithm(
        build_kernel(),
        init,
        smooth_logdensity_fn,
        init_args=(*parts, smoothing),
        kernel_args=(*parts, step_size, smoothing),
    )
