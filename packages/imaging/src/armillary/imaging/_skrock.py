r"""SK-ROCK: the stabilised Runge-Kutta-Chebyshev discretisation of the Langevin diffusion.

With :math:`T_s` the Chebyshev polynomials, :math:`\omega_0 = 1 + \eta / s^2` and
:math:`\omega_1 = T_s(\omega_0) / T_s'(\omega_0)`, a step :math:`\delta` of :math:`s` stages is

.. math::
    K_0 &= X, \qquad Q = \sqrt{2 \delta}\, \xi, \qquad \xi \sim N(0, 1), \\
    K_1 &= X + \frac{\omega_1}{\omega_0} \delta \nabla \log p(X + \tfrac{s \omega_1}{2} Q)
           + \frac{s \omega_1}{\omega_0} Q, \\
    K_j &= \mu_j \delta \nabla \log p(K_{j-1}) + \nu_j K_{j-1} + (1 - \nu_j) K_{j-2}, \qquad
    \nu_j = 2 \omega_0 \frac{T_{j-1}(\omega_0)}{T_j(\omega_0)}, \quad \mu_j = \frac{\omega_1}{\omega_0} \nu_j,

and :math:`X' = K_s`. It is stable for steps up to :math:`\ell_s / L`, which grows with the square of the stages.

Abdulle A., Almuslimani I., Vilmart G. 2018, SIAM/ASA J. Uncertain. Quantif. 6, 937, doi:10.1137/17M1145859;
for imaging Pereyra M., Vargas Mieles L., Zygalakis K. C. 2020, SIAM J. Imaging Sci. 13, 905 (arXiv:1908.08845).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from blackjax.base import SamplingAlgorithm, build_sampling_algorithm
from jaxtyping import Array, Bool, Float, PyTree

from . import _steps
from ._check import check_count, check_positive

__all__ = ["SKROCKInfo", "SKROCKState", "as_top_level_api", "build_kernel", "init", "stability_limit"]


class SKROCKState(NamedTuple):
    """State of the SK-ROCK algorithm, which keeps nothing from one step to the next but the position."""

    position: PyTree


class SKROCKInfo(NamedTuple):
    """Additional information on the SK-ROCK transition.

    is_divergent
        Whether the proposed position was not finite, as it is where a gradient of a stage was not. The chain then
        stays where it was. Where this is set at all, the step size is beyond the stability limit and no draw of the
        chain is to be trusted.

    """

    is_divergent: Bool[Array, ""]


def init(position: PyTree, logdensity_fn: Callable[[PyTree], Array]) -> SKROCKState:
    """The state at a position."""
    return SKROCKState(position)


def build_kernel(num_stages: int = 10, eta: float = 0.05) -> Callable[..., tuple[SKROCKState, SKROCKInfo]]:
    """Build a SK-ROCK kernel.

    Args:
        num_stages: gradients of a step.
        eta: the damping.

    Returns:
        A kernel that takes a random key, the state of the chain, the log-density and the step size, and where there
        is a non-smooth part its proximal operator and the smoothing; it returns a new state and information about
        the transition.
    """
    # x_j = mu * step * grad(K_{j-1} + shift * Q) + nu * K_{j-1} + (1 - nu) * K_{j-2} + kick * Q, one row a stage.
    coefficients = _coefficients(num_stages, eta)

    def kernel(
        rng_key: jax.Array,
        state: SKROCKState,
        logdensity_fn: Callable[[PyTree], Array],
        step_size: float | Float[Array, ""],
        prox: Callable[[PyTree, Any], PyTree] | None = None,
        smoothing: float | Float[Array, ""] | None = None,
    ) -> tuple[SKROCKState, SKROCKInfo]:
        """Generate a new sample with the SK-ROCK kernel."""

        def drift(position: PyTree) -> PyTree:
            grad = jax.grad(logdensity_fn)(position)
            if prox is None:
                return grad
            return jax.tree.map(
                lambda g, x, p: g - (x - p) / jnp.asarray(smoothing, x.dtype), grad, position, prox(position, smoothing)
            )

        def scaled(noise: Array) -> Array:
            return jnp.sqrt(2 * jnp.asarray(step_size, noise.dtype)) * noise

        kick = jax.tree.map(scaled, _steps.noise_like(rng_key, state.position))

        def stage(carry: tuple[PyTree, PyTree], row: Array) -> tuple[tuple[PyTree, PyTree], None]:
            last, before = carry
            at = jax.tree.map(lambda k, q: k + row[2].astype(k.dtype) * q, last, kick)

            def combine(g: Array, k: Array, older: Array, q: Array) -> Array:
                mu, nu, _, push = row.astype(k.dtype)
                return mu * jnp.asarray(step_size, k.dtype) * g + nu * k + (1 - nu) * older + push * q

            return (jax.tree.map(combine, drift(at), last, before, kick), last), None

        (position, _), _ = jax.lax.scan(stage, (state.position, state.position), jnp.asarray(coefficients))
        finite = _steps.is_finite(position)
        return SKROCKState(_steps.select(finite, position, state.position)), SKROCKInfo(~finite)

    return kernel


def _coefficients(num_stages: int, eta: float) -> Float[np.ndarray, "num_stages 4"]:
    """The rows (mu, nu, shift, kick) of the stages; nu of the first is 1, since K_0 is all that came before."""
    w0 = 1 + eta / num_stages**2
    chebyshev = np.cosh(np.arange(num_stages + 1) * np.arccosh(w0))
    w1 = chebyshev[-1] * np.sinh(np.arccosh(w0)) / (num_stages * np.sinh(num_stages * np.arccosh(w0)))
    nu = 2 * w0 * chebyshev[:-1] / chebyshev[1:]
    rows = np.stack([w1 / w0 * nu, nu, np.zeros(num_stages), np.zeros(num_stages)], axis=1)
    rows[0] = [w1 / w0, 1, num_stages * w1 / 2, num_stages * w1 / w0]
    return rows


def stability_limit(num_stages: int, eta: float = 0.05) -> float:
    r"""The limit of ``step_size * L`` up to which SK-ROCK is stable, :math:`(s - 1/2)^2 (2 - 4 \eta / 3) - 3/2`."""
    return (num_stages - 0.5) ** 2 * (2 - 4 * eta / 3) - 1.5


def variance_bias(largest: float, num_stages: int, eta: float = 0.05) -> float:
    r"""The largest relative error of the variance of Gaussian modes with ``step_size * curvature`` up to ``largest``.

    With p = -step_size * curvature a step is :math:`X' = A X + B \sqrt{2 \delta} \xi` for
    :math:`A = T_s(\omega_0 + \omega_1 p) / T_s(\omega_0)` and
    :math:`B = (1 + \omega_1 p / 2)\, U_{s-1}(\omega_0 + \omega_1 p) / U_{s-1}(\omega_0)`, and the variance times the
    curvature :math:`2 |p| B^2 / (1 - A^2)`.
    """
    w0 = 1 + eta / num_stages**2
    first = np.polynomial.Chebyshev.basis(num_stages)
    second = first.deriv() / num_stages  # U_{s-1}
    w1 = first(w0) / first.deriv()(w0)
    p = -np.linspace(0, largest, 1001)[1:]
    a, b = first(w0 + w1 * p) / first(w0), second(w0 + w1 * p) / second(w0) * (1 + w1 * p / 2)
    return float(np.abs(2 * np.abs(p) * b**2 / (1 - a**2) - 1).max())


# Of the limit. A Lipschitz constant that comes from power iteration is a little too small.
SAFETY = 0.9
FORMULA = "((s - 1/2)**2 * (2 - 4 * eta / 3) - 3/2) / (L + 1 / smoothing), without smoothing that over L"


def check_stages(num_stages: Any, eta: Any) -> None:
    """Refuse a number of stages or a damping out of range.

    Raises:
        ValueError: naming it.
    """
    check_count("num_stages", num_stages, "5 to 15 are usual", least=2)
    check_positive("eta", eta, "the damping; 0.05 is usual")
    if eta > 1:
        raise ValueError(f"eta={eta!r}: expected a damping of at most 1; 0.05 is usual")


def as_top_level_api(
    logdensity_fn: Callable[[PyTree], Array],
    step_size: float | Float[Array, ""] | None = None,
    num_stages: int = 10,
    eta: float = 0.05,
    *,
    lipschitz: float | Float[Array, ""] | None = None,
    prox: Callable[[PyTree, Any], PyTree] | None = None,
    smoothing: float | Float[Array, ""] | None = None,
) -> SamplingAlgorithm:
    r"""Implements the user interface for the SK-ROCK kernel.

    A step of s gradients goes about s**2 times as far as one of ULA, so that at the same cost it is s times faster
    along the directions that are slow. The directions of large curvature pay for it: where ``step_size * curvature``
    is well above 1 their variance is too small, at some curvatures almost nothing. Where that matters take smaller
    steps, or `armillary.imaging.px_mala`.

    >>> import jax, jax.numpy as jnp
    >>> from armillary import imaging
    >>> curvature = jnp.geomspace(1.0, 1000.0, 64)
    >>> alg = imaging.skrock(lambda x: -0.5 * jnp.sum(curvature * x**2), num_stages=10, lipschitz=1000.0)
    >>> state, info = jax.jit(alg.step)(jax.random.key(0), alg.init(jnp.zeros(64)))
    >>> state.position.shape, bool(info.is_divergent)
    ((64,), False)

    With a prior that has a proximal operator, on the density whose non-smooth part is replaced by its Moreau
    envelope, as `armillary.imaging.myula`:

    >>> y, sigma = jnp.zeros((8, 8)).at[2, 3].set(4.0), 0.5
    >>> alg = imaging.skrock(lambda x: -0.5 * jnp.sum((y - x) ** 2) / sigma**2, lipschitz=1 / sigma**2,
    ...                      prox=imaging.L1(0.5).prox)
    >>> state, info = alg.step(jax.random.key(0), alg.init(y))

    Args:
        logdensity_fn: the log-density; with ``prox`` its smooth part.
        step_size: the step :math:`\delta`, in squared units of the position, below ``limit / lipschitz`` (with
            ``prox``, ``limit / (lipschitz + 1 / smoothing)``), where ``limit`` is
            ``(num_stages - 1/2)**2 * (2 - 4 * eta / 3) - 3/2``. By default nine tenths of that.
        num_stages: the number s of gradients of a step, at least 2.
        eta: the damping, at most 1.
        lipschitz: the Lipschitz constant of the gradient of ``logdensity_fn``, against which the step size is
            checked; see `armillary.imaging.lipschitz`.
        prox: ``prox(position, step)``, the proximal operator of the rest of the negative log-density.
        smoothing: the parameter of its Moreau envelope, in squared units of the position; by default
            ``1 / lipschitz``.

    Returns:
        A `blackjax.base.SamplingAlgorithm`.

    Raises:
        ValueError: an argument out of its range, neither ``step_size`` nor ``lipschitz`` given, a step that is not
            stable, or ``smoothing`` without ``prox``.
    """
    check_stages(num_stages, eta)
    if prox is None and smoothing is not None:
        raise ValueError(f"smoothing={smoothing!r} without prox: pass prox=, or leave smoothing out")
    if prox is not None:
        smoothing = _steps.settle_smoothing(smoothing, lipschitz)
    limit = stability_limit(num_stages, eta)
    step_size = _steps.settle(
        step_size, lipschitz, limit=limit, default=SAFETY * limit, smoothing=smoothing, formula=FORMULA
    )
    return build_sampling_algorithm(
        build_kernel(num_stages, eta), init, logdensity_fn, kernel_args=(step_size, prox, smoothing)
    )
