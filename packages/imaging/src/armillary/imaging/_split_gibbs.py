r"""Split Gibbs sampling: likelihood and prior on two images that are tied together.

The posterior :math:`\exp(f(x) - g(x))` is replaced by

.. math:: p(x, z) \propto \exp\left(f(x) - g(z) - \frac{|x - z|^2}{2 \rho^2}\right),

which tends to it as :math:`\rho` tends to 0. Given z, x is Gaussian where f is quadratic, and is drawn as such however
ill-conditioned f is; given x, z makes a proximal Langevin step :math:`\rho^2 / 2` with the smoothing :math:`\rho^2`,

.. math:: Z' = \tfrac12 \left(\mathrm{prox}_{\rho^2 g}(Z) + X\right) + \rho\, \xi, \qquad \xi \sim N(0, 1).

Vono M., Dobigeon N., Chainais P. 2019, IEEE Trans. Signal Process. 67, 1648, doi:10.1109/TSP.2019.2894825
(arXiv:1804.05809).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from blackjax.base import SamplingAlgorithm, build_sampling_algorithm
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Bool, Float, PyTree

from . import _steps
from ._check import check_count, check_positive

__all__ = ["SplitGibbsInfo", "SplitGibbsState", "as_top_level_api", "build_kernel", "init"]


class SplitGibbsState(NamedTuple):
    """State of the split Gibbs sampler.

    position
        The image x that the likelihood is of.
    auxiliary
        The image z that the prior is of.

    """

    position: PyTree
    auxiliary: PyTree


class SplitGibbsInfo(NamedTuple):
    """Additional information on the transition.

    is_divergent
        Whether a new image was not finite, and the chain stayed where it was; or whether the smooth log-density is
        not quadratic between the old image and the new, where the draw is not one of its conditional.

    """

    is_divergent: Bool[Array, ""]


def init(position: PyTree, smooth_logdensity_fn: Callable[[PyTree], Array]) -> SplitGibbsState:
    """The state with both images at a position."""
    return SplitGibbsState(position, position)


def inverse_root(matrix: Callable[[Array], Array], vector: Float[Array, " n"], num_steps: int) -> Float[Array, " n"]:
    r"""The inverse square root of a positive definite matrix, times a vector, from its products with vectors.

    By Lanczos' recursion with full reorthogonalisation: :math:`M^{-1/2} v \approx |v|\, V T^{-1/2} e_1`. Where the
    recursion ends early, since the space is spent, what is left is the identity on nothing.
    """
    size = min(num_steps, vector.size)
    norm = jnp.linalg.norm(vector)
    tiny = jnp.finfo(vector.dtype).eps * 100

    def body(i: Array, carry: tuple) -> tuple:
        basis, alphas, betas, new = carry
        basis = basis.at[i].set(new)
        product = matrix(new)
        alpha = new @ product
        rest = product - basis.T @ (basis @ product)
        rest = rest - basis.T @ (basis @ rest)
        beta = jnp.linalg.norm(rest)
        goes_on = beta > tiny * jnp.abs(alpha)
        return (
            basis,
            alphas.at[i].set(jnp.where(new.any(), alpha, 1.0)),
            betas.at[i].set(jnp.where(goes_on, beta, 0.0)),
            jnp.where(goes_on, rest / jnp.where(goes_on, beta, 1.0), 0.0),
        )

    zeros = jnp.zeros(size, vector.dtype)
    start = (jnp.zeros((size, vector.size), vector.dtype), zeros, zeros, vector / norm)
    basis, alphas, betas, _ = jax.lax.fori_loop(0, size, body, start)
    values, vectors = jnp.linalg.eigh(jnp.diag(alphas) + jnp.diag(betas[:-1], 1) + jnp.diag(betas[:-1], -1))
    root = vectors @ (vectors[0] / jnp.sqrt(jnp.maximum(values, jnp.finfo(values.dtype).tiny)))
    return norm * (basis.T @ root)


def build_kernel(num_krylov: int = 50) -> Callable[..., tuple[SplitGibbsState, SplitGibbsInfo]]:
    """Build a split Gibbs kernel.

    Args:
        num_krylov: products with the Hessian of the smooth log-density that the draw of x may take.

    Returns:
        A kernel that takes a random key, the state of the chain, the smooth log-density, the proximal operator and
        the standard deviation of the tie, and returns a new state and information about the transition.
    """

    def kernel(
        rng_key: jax.Array,
        state: SplitGibbsState,
        smooth_logdensity_fn: Callable[[PyTree], Array],
        prox: Callable[[PyTree, Any], PyTree],
        rho: float | Float[Array, ""],
    ) -> tuple[SplitGibbsState, SplitGibbsInfo]:
        """Generate a new sample with the split Gibbs kernel."""
        smooth_key, prior_key = jax.random.split(rng_key)
        old, unravel = ravel_pytree(state.position)
        centre = ravel_pytree(state.auxiliary)[0]
        width = jnp.asarray(rho, old.dtype)

        def gradient(x: Array) -> Array:
            return jax.grad(lambda v: smooth_logdensity_fn(unravel(v)))(x)

        slope, hessian = jax.linearize(gradient, old)

        def precision(v: Array) -> Array:
            return v / width**2 - hessian(v)

        # Newton's step from the old image lands on the conditional mean of a quadratic.
        step, _ = jax.scipy.sparse.linalg.cg(precision, slope - (old - centre) / width**2, maxiter=num_krylov)
        white = ravel_pytree(_steps.noise_like(smooth_key, state.position))[0].astype(old.dtype)
        new = old + step + inverse_root(precision, white, num_krylov)
        error = gradient(new) - slope - hessian(new - old)
        scale = jnp.linalg.norm(precision(new - old))
        quadratic = jnp.linalg.norm(error) <= 1e-2 * scale + jnp.finfo(old.dtype).eps * jnp.linalg.norm(slope) * 100

        position = unravel(new)

        def tie(x: Array, proximal: Array, xi: Array) -> Array:
            return (x + proximal) / 2 + jnp.asarray(rho, x.dtype) * xi

        auxiliary = jax.tree.map(
            tie, position, prox(state.auxiliary, rho**2), _steps.noise_like(prior_key, state.auxiliary)
        )
        proposal = SplitGibbsState(position, auxiliary)
        finite = _steps.is_finite(proposal)
        return _steps.select(finite, proposal, state), SplitGibbsInfo(~(finite & quadratic))

    return kernel


def as_top_level_api(
    smooth_logdensity_fn: Callable[[PyTree], Array],
    prox: Callable[[PyTree, Any], PyTree],
    rho: float | Float[Array, ""],
    num_krylov: int = 50,
) -> SamplingAlgorithm:
    r"""Implements the user interface for the split Gibbs kernel.

    >>> import jax, jax.numpy as jnp
    >>> from armillary import imaging
    >>> y, sigma = jnp.zeros((8, 8)).at[2, 3].set(4.0), 0.5
    >>> alg = imaging.split_gibbs(lambda x: -0.5 * jnp.sum((y - x) ** 2) / sigma**2, imaging.L1(0.5).prox, rho=0.2)
    >>> state, info = jax.jit(alg.step)(jax.random.key(0), alg.init(y))
    >>> state.position.shape, bool(info.is_divergent)
    ((8, 8), False)

    Args:
        smooth_logdensity_fn: the part of the log-density that is quadratic and concave: a Gaussian likelihood with a
            linear forward operator. Of another one every step is marked as divergent.
        prox: ``prox(position, step)``, the proximal operator of the rest of the negative log-density.
        rho: the standard deviation of the tie between the two images, in units of the position. The bias is of the
            order of its square, as is the speed at which the chain moves.
        num_krylov: products with the Hessian that a draw may take, at most; with the condition number
            ``1 + rho**2 * L`` about its square root is enough.

    Returns:
        A `blackjax.base.SamplingAlgorithm`.

    Raises:
        ValueError: a setting out of its range.
    """
    check_settings(rho, num_krylov)
    return build_sampling_algorithm(build_kernel(num_krylov), init, smooth_logdensity_fn, kernel_args=(prox, rho))


def check_settings(rho: Any, num_krylov: Any) -> None:
    """Refuse a tie or a number of products out of range.

    Raises:
        ValueError: naming it.
    """
    check_positive("rho", rho, "it is the standard deviation of the tie between the two images")
    check_count("num_krylov", num_krylov, "50 are usual")
