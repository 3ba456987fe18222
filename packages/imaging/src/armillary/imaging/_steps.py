"""What the Langevin kernels share: their noise, their step sizes, and how they refuse a step that is not finite."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, PyTree

from ._check import check_count, check_positive


def noise_like(rng_key: jax.Array, position: PyTree) -> PyTree:
    """White Gaussian noise like the position; blackjax.util's turns float32 into float64 where x64 is on."""
    leaves, treedef = jax.tree.flatten(position)
    keys = jax.random.split(rng_key, len(leaves))
    noise = [jax.random.normal(key, jnp.shape(leaf), leaf.dtype) for key, leaf in zip(keys, leaves, strict=True)]
    return jax.tree.unflatten(treedef, noise)


def is_finite(tree: PyTree) -> Bool[Array, ""]:
    """Whether every number of a tree is finite."""
    return jnp.stack([jnp.all(jnp.isfinite(leaf)) for leaf in jax.tree.leaves(tree)]).all()


def select(condition: Bool[Array, ""], new: PyTree, old: PyTree) -> PyTree:
    """``new`` where the condition holds, else ``old``."""
    return jax.tree.map(lambda a, b: jnp.where(condition, a, b), new, old)


def vdot(a: PyTree, b: PyTree) -> Float[Array, ""]:
    """The inner product of two real trees."""
    terms = (jnp.sum(x * y) for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True))
    return jnp.asarray(sum(terms, start=0.0))


def lipschitz(
    logdensity_fn: Callable[[PyTree], Array], position: PyTree, *, num_iterations: int = 50, seed: int = 0
) -> Float[Array, ""]:
    r"""The Lipschitz constant of a log-density's gradient: the largest absolute eigenvalue of its Hessian, found there.

    By power iteration with Hessian-vector products, so that no operator has to be known. For white noise and a linear
    forward operator it is ``(opnorm / sigma)**2`` at every position; for other models it is that of the position
    given. It is approached from below: a direction that few others resemble is found to a per cent or so.

    >>> import jax.numpy as jnp
    >>> from armillary import imaging
    >>> log_likelihood = lambda x: -0.5 * jnp.sum(jnp.array([1.0, 4.0]) * x**2) / 0.5**2
    >>> print(f"{imaging.lipschitz(log_likelihood, jnp.zeros(2)):.2f}")
    16.00

    Args:
        logdensity_fn: a log-density with a gradient.
        position: where, any pytree of real arrays.
        num_iterations: products with the Hessian.
        seed: of the random direction to start from.

    Raises:
        ValueError: ``num_iterations`` is not a positive whole number.
    """
    check_count("num_iterations", num_iterations, "50 are enough for step sizes")
    position = jax.tree.map(jnp.asarray, position)

    def unit(vector: PyTree) -> tuple[PyTree, Float[Array, ""]]:
        norm = jnp.sqrt(vdot(vector, vector))
        return jax.tree.map(lambda x: x / jnp.where(norm > 0, norm, 1).astype(x.dtype), vector), norm

    def body(_: int, carry: tuple) -> tuple:
        product = jax.jvp(jax.grad(logdensity_fn), (position,), (carry[0],))[1]
        vector, norm = unit(product)
        return vector, norm.astype(carry[1].dtype)

    return jax.lax.fori_loop(0, num_iterations, body, unit(noise_like(jax.random.key(seed), position)))[1]


def settle(step_size: Any, lipschitz: Any, *, limit: float, default: float, smoothing: Any = None, formula: str) -> Any:
    """A step size: the one given, or by the Lipschitz constant of the drift; beyond the stability limit, refused.

    Args:
        step_size: what the user gave, or None.
        lipschitz: L of the smooth part, or None where it is not known.
        limit: of ``step_size * (L + 1 / smoothing)``.
        default: the value of that product where the step size is not given.
        smoothing: the parameter of the Moreau envelope, or None where there is none.
        formula: the limit in words, for the messages.

    Raises:
        ValueError: neither is given, one is not positive and finite, or the step is not stable.
    """
    if lipschitz is not None:
        check_positive("lipschitz", lipschitz, "it is (opnorm / sigma)**2 for white noise; see imaging.lipschitz")
    if step_size is not None:
        check_positive("step_size", step_size, f"it must be below {formula}")
    if lipschitz is None:
        if step_size is None:
            raise ValueError(
                "step_size=None and lipschitz=None: give one of them. lipschitz is the Lipschitz constant L of the "
                "gradient of the smooth log-density, (opnorm / sigma)**2 for white noise, which "
                f"armillary.imaging.lipschitz(logdensity_fn, position) finds; the step must be below {formula}"
            )
        return step_size
    total = lipschitz if smoothing is None else lipschitz + 1 / smoothing
    if step_size is None:
        return default / total
    if not any(isinstance(value, jax.core.Tracer) for value in (step_size, total)) and step_size * total >= limit:
        raise ValueError(
            f"step_size={step_size!r} is beyond the stability limit {limit / float(total):.3g}, {formula} with "
            f"L={float(lipschitz):.3g}: take a smaller step"
        )
    return step_size


def settle_smoothing(smoothing: Any, lipschitz: Any) -> Any:
    """The parameter of the Moreau envelope: the one given, or ``1 / L``, which halves the largest stable step.

    Raises:
        ValueError: neither is given, or it is not positive and finite.
    """
    if smoothing is not None:
        check_positive("smoothing", smoothing, "it is the parameter of the Moreau envelope, and 1 / L a good start")
        return smoothing
    if lipschitz is None:
        raise ValueError(
            "smoothing=None and lipschitz=None: give one of them. smoothing is the parameter of the Moreau envelope, "
            "by default 1 / lipschitz; lipschitz is the Lipschitz constant of the gradient of the smooth log-density, "
            "which armillary.imaging.lipschitz(logdensity_fn, position) finds"
        )
    check_positive("lipschitz", lipschitz, "it is (opnorm / sigma)**2 for white noise; see imaging.lipschitz")
    return 1 / lipschitz
