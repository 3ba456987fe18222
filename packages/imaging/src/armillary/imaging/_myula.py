r"""The Moreau-Yosida unadjusted Langevin algorithm.

For a density proportional to :math:`\exp(f(x) - g(x))`, with ``f`` smooth and ``g`` convex and perhaps not, the
chain is the Euler discretisation, of step :math:`\delta`, of the Langevin diffusion whose ``g`` is replaced by its
Moreau envelope of parameter :math:`\lambda`:

.. math:: X' = X + \delta \left[\nabla f(X) - \frac{X - \mathrm{prox}_{\lambda g}(X)}{\lambda}\right]
               + \sqrt{2 \delta}\, \xi, \qquad \xi \sim N(0, 1).

Durmus A., Moulines E., Pereyra M. 2018, SIAM J. Imaging Sci. 11, 473, doi:10.1137/16M1108340 (arXiv:1612.07471).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from blackjax.base import SamplingAlgorithm, build_sampling_algorithm
from jaxtyping import Array, Bool, Float, PyTree

from . import _steps

# The limit of step_size * (L + 1 / smoothing), the value of it by default, and the limit in words.
LIMIT, DEFAULT, FORMULA = 2.0, 1.0, "2 / (L + 1 / smoothing)"

__all__ = ["MYULAInfo", "MYULAState", "as_top_level_api", "build_kernel", "init"]


class MYULAState(NamedTuple):
    """State of the MYULA algorithm.

    position
        Current position of the chain.
    smooth_logdensity
        The smooth part of the log-density there.
    smooth_logdensity_grad
        Its gradient, kept so that a step costs one gradient and one proximal operator.

    """

    position: PyTree
    smooth_logdensity: Float[Array, ""]
    smooth_logdensity_grad: PyTree


class MYULAInfo(NamedTuple):
    """Additional information on the MYULA transition.

    is_divergent
        Whether the proposed position, or the smooth log-density or its gradient there, was not finite. The chain
        then stays where it was. Where this is set at all, the step size is beyond the stability limit and no draw
        of the chain is to be trusted.

    """

    is_divergent: Bool[Array, ""]


def init(position: PyTree, smooth_logdensity_fn: Callable[[PyTree], Array]) -> MYULAState:
    """The state at a position."""
    return MYULAState(position, *jax.value_and_grad(smooth_logdensity_fn)(position))


def build_kernel() -> Callable[..., tuple[MYULAState, MYULAInfo]]:
    """Build a MYULA kernel.

    Returns:
        A kernel that takes a random key, the state of the chain, the smooth log-density, the proximal operator, the
        step size and the smoothing, and returns a new state and information about the transition.
    """

    def kernel(
        rng_key: jax.Array,
        state: MYULAState,
        smooth_logdensity_fn: Callable[[PyTree], Array],
        prox: Callable[[PyTree, Any], PyTree],
        step_size: float | Float[Array, ""],
        smoothing: float | Float[Array, ""],
    ) -> tuple[MYULAState, MYULAInfo]:
        """Generate a new sample with the MYULA kernel."""

        def move(x: Array, grad: Array, proximal: Array, noise: Array) -> Array:
            # In the leaf's own precision: a float64 parameter must not promote a float32 image.
            delta = jnp.asarray(step_size, x.dtype)
            lam = jnp.asarray(smoothing, x.dtype)
            return x + delta * (grad - (x - proximal) / lam) + jnp.sqrt(2 * delta) * noise

        position = jax.tree.map(
            move,
            state.position,
            state.smooth_logdensity_grad,
            prox(state.position, smoothing),
            _steps.noise_like(rng_key, state.position),
        )
        proposal = init(position, smooth_logdensity_fn)
        finite = _steps.is_finite(proposal)
        return _steps.select(finite, proposal, state), MYULAInfo(~finite)

    return kernel


def as_top_level_api(
    smooth_logdensity_fn: Callable[[PyTree], Array],
    prox: Callable[[PyTree, Any], PyTree],
    step_size: float | Float[Array, ""] | None = None,
    smoothing: float | Float[Array, ""] | None = None,
    *,
    lipschitz: float | Float[Array, ""] | None = None,
) -> SamplingAlgorithm:
    r"""Implements the user interface for the MYULA kernel.

    A sparse image seen through noise; `prox` is that of ``-log p(x) = sum(|x|) / 0.5``, a soft threshold:

    >>> import jax, jax.numpy as jnp
    >>> from armillary import imaging
    >>> y, sigma = jnp.zeros((8, 8)).at[2, 3].set(4.0), 0.5
    >>> alg = imaging.myula(
    ...     lambda x: -0.5 * jnp.sum((y - x) ** 2) / sigma**2,
    ...     imaging.L1(0.5).prox,
    ...     step_size=0.05,
    ...     smoothing=0.05,
    ... )
    >>> state = alg.init(y)
    >>> state, info = jax.jit(alg.step)(jax.random.key(0), state)
    >>> state.position.shape, bool(info.is_divergent)
    ((8, 8), False)

    Args:
        smooth_logdensity_fn: the part of the log-density that has a Lipschitz gradient.
        prox: ``prox(position, step)``, the proximal operator of the rest of the negative log-density.
        step_size: the step :math:`\delta` of the discretisation, in squared units of the position. The chain is
            stable where ``step_size < 2 / (L + 1 / smoothing)``, with ``L`` the Lipschitz constant of the gradient
            of the smooth part (for white noise ``(opnorm / sigma)**2``); the bias of the variance is about
            ``step_size * L / 2``. By default half the limit, where ``lipschitz`` is given.
        smoothing: the parameter :math:`\lambda` of the Moreau envelope, in the same units. The target of the
            diffusion tends to the posterior as it tends to 0, and the largest stable step to 0 with it. By default
            ``1 / lipschitz``.
        lipschitz: the constant L, against which the step size is checked; see `armillary.imaging.lipschitz`.

    Returns:
        A `blackjax.base.SamplingAlgorithm`.

    Raises:
        ValueError: an argument that is not positive and finite, a setting that neither is given nor follows from
            ``lipschitz``, or a step that is not stable.
    """
    smoothing = _steps.settle_smoothing(smoothing, lipschitz)
    step_size = _steps.settle(step_size, lipschitz, limit=LIMIT, default=DEFAULT, smoothing=smoothing, formula=FORMULA)
    return build_sampling_algorithm(
        build_kernel(), init, smooth_logdensity_fn, kernel_args=(prox, step_size, smoothing)
    )
