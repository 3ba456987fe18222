r"""The regularisation strength of a prior by empirical Bayes, while sampling.

For a prior :math:`p(x \mid \theta) \propto \exp(-\theta g(x))` whose regulariser is homogeneous,
:math:`g(c x) = c^\alpha g(x)`, the gradient of the marginal likelihood of d pixels is

.. math:: \frac{d \log p(y \mid \theta)}{d \log \theta} = \frac{d}{\alpha} - \theta\, E[g(x) \mid y, \theta].

The stochastic approximation proximal gradient algorithm follows it with one draw of the posterior at a time, by MYULA
at the present strength:

.. math:: \log \theta_{n+1} = \log \theta_n
              + \min(\gamma n^{-4/5}, 1) \left[\frac{1}{\alpha} - \frac{\theta_n}{d}\, g(X_{n+1})\right]

Vidal A. F., De Bortoli V., Pereyra M., Durmus A. 2020, SIAM J. Imaging Sci. 13, 1945, doi:10.1137/20M1339829
(arXiv:1911.11709).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from blackjax.base import SamplingAlgorithm, build_sampling_algorithm
from jaxtyping import Array, Bool, Float, Int, PyTree

from . import _myula, _steps
from ._check import check_positive

__all__ = ["SAPGInfo", "SAPGState", "as_top_level_api", "build_kernel", "init"]


class SAPGState(NamedTuple):
    """State of the stochastic approximation.

    position
        Current position of the chain.
    smooth_logdensity
        The smooth part of the log-density there.
    smooth_logdensity_grad
        Its gradient.
    theta
        The present regularisation strength.
    theta_mean
        Its mean over the steps, the n-th with the weight n, so that the first ones are forgotten: the estimate.
    iteration
        Steps made.

    """

    position: PyTree
    smooth_logdensity: Float[Array, ""]
    smooth_logdensity_grad: PyTree
    theta: Float[Array, ""]
    theta_mean: Float[Array, ""]
    iteration: Int[Array, ""]


class SAPGInfo(NamedTuple):
    """Additional information on the transition.

    is_divergent
        Whether the proposed position, or the smooth log-density or its gradient there, was not finite. The chain and
        the strength then stay where they were, and the step size is too large.

    """

    is_divergent: Bool[Array, ""]


def init(
    position: PyTree, smooth_logdensity_fn: Callable[[PyTree], Array], theta: float | Float[Array, ""] = 1.0
) -> SAPGState:
    """The state at a position, with a strength to start from."""
    theta = jnp.asarray(theta, jnp.result_type(*jax.tree.leaves(position)))
    chain = _myula.init(position, smooth_logdensity_fn)
    return SAPGState(*chain, theta, theta, jnp.zeros((), jnp.int32))


def build_kernel() -> Callable[..., tuple[SAPGState, SAPGInfo]]:
    """Build a kernel of the stochastic approximation.

    Returns:
        A kernel that takes a random key, the state, the smooth log-density, the proximal operator and the regulariser
        at unit strength, the regulariser's degree, the step size, the smoothing, the gain and the bounds of the
        strength, and returns a new state and information about the transition.
    """
    kernel = _myula.build_kernel()

    def sapg_kernel(
        rng_key: jax.Array,
        state: SAPGState,
        smooth_logdensity_fn: Callable[[PyTree], Array],
        prox: Callable[[PyTree, Any], PyTree],
        regulariser: Callable[[PyTree], Array],
        degree: float,
        step_size: float | Float[Array, ""],
        smoothing: float | Float[Array, ""],
        gain: float,
        bounds: tuple[float, float],
    ) -> tuple[SAPGState, SAPGInfo]:
        """Generate a new sample, and a new strength."""
        theta = state.theta
        chain, info = kernel(
            rng_key,
            _myula.MYULAState(*state[:3]),
            smooth_logdensity_fn,
            lambda x, step: prox(x, step * theta),
            step_size,
            smoothing,
        )
        size = sum(math.prod(jnp.shape(leaf)) for leaf in jax.tree.leaves(chain.position))
        n = state.iteration + 1
        # Far from stationarity the regulariser may be many times its expectation: no more than as far down as up.
        slope = jnp.maximum(1 / degree - theta * regulariser(chain.position) / size, -1 / degree)
        rate = jnp.minimum(gain * n.astype(theta.dtype) ** -0.8, 1)
        new = jnp.clip(theta * jnp.exp(rate * slope), *bounds).astype(theta.dtype)
        mean = state.theta_mean + 2 / (n + 1).astype(theta.dtype) * (new - state.theta_mean)
        proposal = SAPGState(*chain, new, mean, n)
        good = ~info.is_divergent & jnp.isfinite(new)
        return _steps.select(good, proposal, state), SAPGInfo(~good)

    return sapg_kernel


def as_top_level_api(
    smooth_logdensity_fn: Callable[[PyTree], Array],
    prox: Callable[[PyTree, Any], PyTree],
    regulariser: Callable[[PyTree], Array],
    step_size: float | Float[Array, ""] | None = None,
    smoothing: float | Float[Array, ""] | None = None,
    *,
    lipschitz: float | Float[Array, ""] | None = None,
    degree: float = 1.0,
    theta: float = 1.0,
    gain: float = 10.0,
    bounds: tuple[float, float] = (1e-6, 1e6),
) -> SamplingAlgorithm:
    r"""Implements the user interface for the empirical-Bayes regularisation strength.

    An image that is sparse in its pixels with the unknown strength :math:`1 / b`:

    >>> import jax, jax.numpy as jnp
    >>> from armillary import imaging
    >>> truth = imaging.L1(2.0).expand((32, 32)).sample(jax.random.key(0))
    >>> y = truth + jax.random.normal(jax.random.key(1), truth.shape)
    >>> alg = imaging.sapg(
    ...     lambda x: -0.5 * jnp.sum((y - x) ** 2), imaging.L1(1.0).prox, lambda x: jnp.sum(jnp.abs(x)),
    ...     lipschitz=1.0, smoothing=0.1,
    ... )
    >>> step = lambda state, key: (alg.step(key, state)[0], None)
    >>> state, _ = jax.lax.scan(step, alg.init(y), jax.random.split(jax.random.key(2), 2000))
    >>> print(f"b = {1 / state.theta_mean:.0f}")
    b = 2

    Args:
        smooth_logdensity_fn: the log-likelihood, with a Lipschitz gradient.
        prox: ``prox(position, step)``, the proximal operator of the regulariser g at unit strength, such as that of a
            prior with ``scale=1``.
        regulariser: g of a position, convex and homogeneous: a norm, total variation, half a square.
        step_size: see `armillary.imaging.myula`.
        smoothing: see `armillary.imaging.myula`. The strength is that of the smoothed problem, and too small: of sparse
            priors by a share of the order of ``smoothing * theta**2``.
        lipschitz: see `armillary.imaging.myula`.
        degree: the degree :math:`\alpha` of homogeneity: 1 for norms, 2 for squares of them.
        theta: the strength to start from.
        gain: the factor :math:`\gamma`.
        bounds: the least and largest strength that is tried.

    Returns:
        A `blackjax.base.SamplingAlgorithm`. The estimate is ``state.theta_mean``; for draws of the posterior at it,
        sample anew with that strength.

    Raises:
        ValueError: an argument that is not positive and finite, bounds that are not in order or do not hold ``theta``,
            a setting that neither is given nor follows from ``lipschitz``, or a step that is not stable.
    """
    for name, value, advice in (
        ("degree", degree, "it is 1 for norms and 2 for squares of them"),
        ("theta", theta, "it is the strength to start from"),
        ("gain", gain, "10 is usual"),
    ):
        check_positive(name, value, advice)
    if not isinstance(bounds, (tuple, list)) or len(bounds) != 2 or not 0 < bounds[0] <= theta <= bounds[1] < math.inf:
        raise ValueError(
            f"bounds={bounds!r}: expected the least and largest strength, positive, with theta={theta!r} between them"
        )
    smoothing = _steps.settle_smoothing(smoothing, lipschitz)
    step_size = _steps.settle(
        step_size,
        lipschitz,
        limit=_myula.LIMIT,
        default=_myula.DEFAULT,
        smoothing=smoothing,
        formula=_myula.FORMULA,
    )
    return build_sampling_algorithm(
        build_kernel(),
        init,
        smooth_logdensity_fn,
        init_args=(theta,),
        kernel_args=(prox, regulariser, degree, step_size, smoothing, gain, tuple(bounds)),
    )
