"""What the solvers share: their result, when they stop, and the derivative of a fixed point."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jax import lax
from jax.scipy.sparse.linalg import bicgstab
from jaxtyping import Array, Float, Int, PyTree

from ._check import check_count, check_positive
from ._operators_base import inner


class SolverStatus(eqx.Enumeration):
    """How a solver ended, with advice: ``SolverStatus[solution.status]`` is the text."""

    converged = "converged: the residual is below the tolerance"
    max_steps_reached = (
        "the steps ran out before the residual was below the tolerance: raise max_steps or the tolerance, or see "
        "whether the step size is far below its limit"
    )
    diverged = (
        "a number was not finite: the step size is beyond its limit (see the solver), or the start or the data are not "
        "finite"
    )


class Solution(NamedTuple):
    """A point that minimises an objective, and how it was found.

    Args:
        x: the point; where it diverged, the last one that was finite. It can be differentiated: see the solver.
        objective: what was minimised, at ``x``; minus the log posterior density, but for constants.
        residual: how far the last step moved, relative to the size of what moved.
        steps: how many were made.
        status: a `SolverStatus`.
    """

    x: Float[Array, ...]
    objective: Float[Array, ""]
    residual: Float[Array, ""]
    steps: Int[Array, ""]
    status: SolverStatus


def solve_fixed_point(
    advance: Callable[[PyTree], tuple[PyTree, Array]],
    fixed_point: Callable[[PyTree], PyTree],
    start: PyTree,
    point: Callable[[PyTree], PyTree],
    max_steps: int,
    tolerance: Any,
) -> tuple[PyTree, tuple[Array, Array, SolverStatus]]:
    r"""Iterate until the residual is below a tolerance, and differentiate through the fixed point.

    Of a fixed point :math:`z = T(z, \theta)` the derivative is
    :math:`\mathrm dz = (1 - \partial_z T)^{-1} \partial_\theta T \,\mathrm d\theta`, solved by BiCGSTAB, so that no
    iteration is stored.

    Args:
        advance: a step of the algorithm: from its state to the next and the residual.
        fixed_point: T.
        start: the first state.
        point: from a state to z.
        max_steps: the most steps.
        tolerance: of the residual.

    Returns:
        The fixed point, and the residual, the number of steps and the status.
    """

    def step(carry: tuple) -> tuple:
        state, _, k, _ = carry
        new, residual = advance(state)
        finite = jnp.stack([jnp.isfinite(leaf).all() for leaf in jax.tree.leaves((new, residual))]).all()
        new = jax.tree.map(lambda a, b: jnp.where(finite, a, b), new, state)
        return new, residual, k + 1, ~finite

    def unfinished(carry: tuple) -> Array:
        _, residual, k, diverged = carry
        return (residual > tolerance) & (k < max_steps) & ~diverged

    infinite = jnp.full((), jnp.inf, jax.tree.leaves(start)[0].dtype)
    first = jax.tree.map(lax.stop_gradient, (start, infinite, 0, jnp.array(False)))
    state, residual, steps, diverged = jax.tree.map(lax.stop_gradient, lax.while_loop(unfinished, step, first))
    z = _with_derivative(fixed_point, point(state))
    # To a type checker equinox's members are the strings that they are made of.
    settled = SolverStatus.where(
        residual <= tolerance,
        SolverStatus.converged,  # type: ignore[arg-type]
        SolverStatus.max_steps_reached,  # type: ignore[arg-type]
    )
    status = SolverStatus.where(diverged, SolverStatus.diverged, settled)  # type: ignore[arg-type]
    return z, (residual, steps, status)


def _with_derivative(fixed_point: Callable[[PyTree], PyTree], z: PyTree) -> PyTree:
    """A fixed point that was found, with the derivative with respect to what the function closes over."""
    function, parameters = jax.closure_convert(fixed_point, z)

    @jax.custom_jvp
    def found(z: PyTree, *parameters: Array) -> PyTree:
        return z

    @found.defjvp
    def derivative(primals: tuple, tangents: tuple) -> tuple[PyTree, PyTree]:
        z, *parameters = primals
        moved = jax.jvp(lambda *parameters: function(z, *parameters), tuple(parameters), tuple(tangents[1:]))[1]

        def matrix(v: PyTree) -> PyTree:
            return jax.tree.map(jnp.subtract, v, jax.jvp(lambda z: function(z, *parameters), (z,), (v,))[1])

        def solve(matrix: Callable[[PyTree], PyTree], right: PyTree) -> PyTree:
            epsilon = jnp.finfo(jax.tree.leaves(right)[0].dtype).eps
            return bicgstab(matrix, right, tol=8 * epsilon, atol=0.0, maxiter=1000)[0]

        # Not by the derivative of bicgstab itself, which JAX cannot transpose here.
        return z, lax.custom_linear_solve(matrix, moved, solve, transpose_solve=solve)

    return found(z, *parameters)


def relative_move(new: PyTree, old: PyTree) -> Array:
    """The norm of the difference of two points, relative to that of the first; 0 if nothing moved."""
    moved = jnp.sqrt(inner(*[jax.tree.map(jnp.subtract, new, old)] * 2))
    size = jnp.sqrt(inner(new, new))
    return jnp.where(moved > 0, moved / jnp.where(size > 0, size, moved), 0)


def negative_log_density(prior: Any, x: Array) -> Array:
    """Of a prior, of all its elements."""
    return -jnp.sum(prior.log_prob(x)).astype(x.dtype)


def check_solver(prior: Any, start: Any, max_steps: Any, tolerance: Any, *, name: str = "prior") -> Array:
    """The start as an array of real numbers, or `ValueError`."""
    for needed in ("prox", "log_prob"):
        if not hasattr(prior, needed):
            raise ValueError(
                f"{name}={prior!r} has no {needed}: expected a prior with a proximal operator, such as L1, L1Wavelet, "
                "TotalVariation or Positivity; of a prior that was expanded, the one before"
            )
    check_count("max_steps", max_steps, "such as 1000")
    check_positive("tolerance", tolerance, "the relative size of a step at which to stop, such as 1e-5")
    start = jnp.asarray(start)
    if not jnp.issubdtype(start.dtype, jnp.floating):
        raise ValueError(f"x0 is {start.dtype}: expected an image of real floating numbers, in which the solver works")
    return start


def settled_step(step_size: Any, lipschitz: Any, loss: Any) -> tuple[Any, Any]:
    """The step size, by default ``1 / L``, and the Lipschitz constant where it is known.

    Raises:
        ValueError: neither is known, or one is not positive.
    """
    if lipschitz is None and step_size is None:
        if not hasattr(loss, "lipschitz"):
            raise ValueError(
                "step_size=None and the loss does not say its Lipschitz constant L: give step_size, at most 1 / L "
                "(armillary.imaging.lipschitz finds L), or use LeastSquares, which knows it"
            )
        lipschitz = loss.lipschitz()
    if step_size is None:
        return 1 / lipschitz, lipschitz
    check_positive("step_size", step_size, "at most 1 / L, for the Lipschitz constant L of the gradient of the loss")
    return step_size, lipschitz
