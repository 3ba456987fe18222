"""Maxima of a posterior, which are minima of a loss and of minus the logarithm of a prior."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from armillary.core import protocols

from ._check import check_positive
from ._solvers import (
    Solution,
    check_solver,
    negative_log_density,
    relative_move,
    settled_step,
    solve_fixed_point,
)

Loss = Callable[[Array], Array]


def fista(
    loss: Loss,
    prior: Any,
    x0: Float[Array, ...],
    *,
    step_size: float | Float[Array, ""] | None = None,
    max_steps: int = 1000,
    tolerance: float = 1e-5,
) -> Solution:
    r"""The maximum of a posterior whose loss is smooth, by accelerated proximal gradients.

    .. math:: \min_x f(x) - \ln p(x), \qquad
              x_{k+1} = \mathrm{prox}_{s}(z_k - s \nabla f(z_k)), \quad z_{k+1} = x_{k+1} + \beta_k (x_{k+1} - x_k)

    for the proximal operator of a prior p. The momentum starts anew when it points uphill. It stops when a step moves
    by less than ``tolerance`` relative to the image. The solution can be differentiated in either mode, with respect
    to whatever the loss and the prior are made of, by the implicit function theorem; the prior's `prox` must have
    derivatives in that mode.

    >>> import jax.numpy as jnp
    >>> from armillary.imaging import L1, Identity, LeastSquares, SolverStatus, fista
    >>> y = jnp.array([[3.0, 0.1], [-0.2, 1.0]])
    >>> solution = fista(LeastSquares(Identity((2, 2)), y), L1(2.0), jnp.zeros((2, 2)))
    >>> print(solution.x[0], solution.status == SolverStatus.converged)
    [2.5 0. ] True

    Beck A., Teboulle M. 2009, SIAM J. Imaging Sci. 2, 183, doi:10.1137/080716542; restarts: O'Donoghue B., Candès E.
    2015, Found. Comput. Math. 15, 715, doi:10.1007/s10208-013-9150-3.

    Args:
        loss: f, with a gradient; see `LeastSquares`.
        prior: something with `prox` and `log_prob`, convex in minus its logarithm.
        x0: where to start, an image of real numbers.
        step_size: s, at most 1 / L for the Lipschitz constant L of the loss's gradient, which is the default where the
            loss knows it.
        max_steps: the most steps.
        tolerance: see above.

    Raises:
        ValueError: a prior without a proximal operator, a step size that is neither given nor known, or a bad argument.
    """
    x0 = check_solver(prior, x0, max_steps, tolerance)
    step_size, _ = settled_step(step_size, None, loss)
    return _fista(loss, prior, x0, step_size, max_steps, tolerance)


@eqx.filter_jit
def _fista(loss: Loss, prior: Any, x0: Array, step_size: Any, max_steps: int, tolerance: Any) -> Solution:
    s = jnp.asarray(step_size).astype(x0.dtype)

    def proximal_gradient(z: Array) -> Array:
        return prior.prox(z - s * jax.grad(loss)(z), s)

    def advance(state: tuple) -> tuple[tuple, Array]:
        x, z, t = state
        new = proximal_gradient(z)
        restart = jnp.sum((z - new) * (new - x)) > 0
        after = jnp.where(restart, 1, (1 + jnp.sqrt(1 + 4 * t**2)) / 2)
        ahead = jnp.where(restart, 0, (t - 1) / after)
        return (new, new + ahead * (new - x), after), relative_move(new, z)

    start = (x0, x0, jnp.ones((), x0.dtype))
    x, (residual, steps, status) = solve_fixed_point(
        advance, proximal_gradient, start, lambda state: state[0], max_steps, tolerance
    )
    return Solution(x, loss(x) + negative_log_density(prior, x), residual, steps, status)


def admm(
    loss: Any,
    prior: Any,
    x0: Float[Array, ...],
    *,
    step_size: float | Float[Array, ""] | None = None,
    max_steps: int = 1000,
    tolerance: float = 1e-5,
) -> Solution:
    r"""The maximum of a posterior whose loss has a proximal operator, by the alternating directions of multipliers.

    .. math:: \min_x f(x) - \ln p(x), \qquad x = \mathrm{prox}_{s f}(w), \quad v = \mathrm{prox}_{s}(2 x - w),
              \quad w \leftarrow w + v - x

    which is the method in the form of Douglas and Rachford, of penalty 1 / s. Any step converges: the size settles
    how fast. It is for ill-conditioned operators, whose proximal operator is solved in each step, and for losses that
    are not smooth. It stops when v and x differ by less than ``tolerance`` relative to w. The solution v can be
    differentiated as that of `fista`.

    >>> import jax.numpy as jnp
    >>> from armillary.imaging import L1, Identity, LeastSquares, admm
    >>> y = jnp.array([[3.0, 0.1], [-0.2, 1.0]])
    >>> solution = admm(LeastSquares(Identity((2, 2)), y), L1(2.0), jnp.zeros((2, 2)))
    >>> print(solution.x[0].round(3))
    [2.5 0. ]

    Boyd S. et al. 2011, Found. Trends Mach. Learn. 3, 1, doi:10.1561/2200000016; Eckstein J., Bertsekas D. P. 1992,
    Math. Program. 55, 293, doi:10.1007/BF01581204.

    Args:
        loss: f, with ``prox(x, step)``; see `LeastSquares`.
        prior: something with `prox` and `log_prob`, convex in minus its logarithm.
        x0: where to start, an image of real numbers.
        step_size: s; by default 10 / L, where the loss knows its Lipschitz constant L.
        max_steps: the most steps.
        tolerance: see above.

    Raises:
        ValueError: a loss or prior without a proximal operator, a step size that is neither given nor known, or a bad
            argument.
    """
    x0 = check_solver(prior, x0, max_steps, tolerance)
    if not hasattr(loss, "prox"):
        raise ValueError(f"loss={loss!r} has no prox: use LeastSquares, an object with prox(x, step), or fista")
    if step_size is None:
        step_size = 10 * settled_step(None, None, loss)[0]
    else:
        check_positive("step_size", step_size, "any will do: 10 / L is a good start")
    return _admm(loss, prior, x0, step_size, max_steps, tolerance)


@eqx.filter_jit
def _admm(loss: Any, prior: Any, x0: Array, step_size: Any, max_steps: int, tolerance: Any) -> Solution:
    s = jnp.asarray(step_size).astype(x0.dtype)

    def halves(w: Array) -> tuple[Array, Array]:
        x = loss.prox(w, s)
        return x, prior.prox(2 * x - w, s)

    def douglas_rachford(w: Array) -> Array:
        x, v = halves(w)
        return w + v - x

    def advance(w: Array) -> tuple[Array, Array]:
        new = douglas_rachford(w)
        return new, relative_move(new, w)

    w, (residual, steps, status) = solve_fixed_point(advance, douglas_rachford, x0, lambda w: w, max_steps, tolerance)
    v = halves(w)[1]
    return Solution(v, loss(v) + negative_log_density(prior, v), residual, steps, status)


def primal_dual(
    loss: Loss,
    prior: Any,
    operator: Any,
    operator_prior: Any,
    x0: Float[Array, ...],
    *,
    lipschitz: float | Float[Array, ""] | None = None,
    max_steps: int = 1000,
    tolerance: float = 1e-5,
) -> Solution:
    r"""The maximum of a posterior with a second prior, of a linear function of the image, after Condat and Vũ.

    .. math:: \min_x f(x) - \ln p(x) - \ln q(K x), \qquad
              x' = \mathrm{prox}_{\tau p}(x - \tau \nabla f(x) - \tau K^* u), \quad
              u' = \mathrm{prox}_{\sigma q^*}(u + \sigma K (2 x' - x))

    Nothing is solved within a step, and q may be a prior of any dictionary: `L1` of `SARA`, or ``GroupL1(2)`` of
    `Gradient`, which is total variation, both with `Positivity` as the first prior. The steps are
    :math:`\sigma = L / 2 \|K\|^2` and :math:`\tau = 0.99 / L`, at which it converges. It stops when image and dual
    variable move by less than ``tolerance``. The solution can be differentiated as that of `fista`.

    >>> import jax.numpy as jnp
    >>> from armillary.imaging import GroupL1, Gradient, Identity, LeastSquares, Positivity, primal_dual
    >>> y = jnp.tile(jnp.array([-1.0, -1.0, 5.0, 5.0]), (4, 1))
    >>> loss = LeastSquares(Identity((4, 4)), y)
    >>> solution = primal_dual(loss, Positivity(), Gradient((4, 4)), GroupL1(2, 1.0), jnp.zeros((4, 4)))
    >>> print(solution.x[0].round(2))
    [0.  0.  4.5 4.5]

    Condat L. 2013, J. Optim. Theory Appl. 158, 460, doi:10.1007/s10957-012-0245-9; Vũ B. C. 2013, Adv. Comput. Math.
    38, 667, doi:10.1007/s10444-011-9254-8.

    Args:
        loss: f, with a gradient; see `LeastSquares`.
        prior: p, something with `prox` and `log_prob`, convex in minus its logarithm.
        operator: K, a forward operator from images to real arrays.
        operator_prior: q, as the prior.
        x0: where to start, an image of real numbers.
        lipschitz: L, of the gradient of the loss; by default what the loss says.
        max_steps: the most steps.
        tolerance: see above.

    Raises:
        ValueError: a prior without a proximal operator, a Lipschitz constant that is neither given nor known, an
            operator of another shape than the image, or a bad argument.
    """
    x0 = check_solver(prior, x0, max_steps, tolerance)
    check_solver(operator_prior, x0, max_steps, tolerance, name="operator_prior")
    if not isinstance(operator, protocols.ForwardOperator):
        raise ValueError(f"operator={operator!r}: expected a forward operator; LinearMap makes one of a function")
    if operator.in_structure().shape != x0.shape:
        raise ValueError(f"x0 has shape {x0.shape}: the operator takes {operator.in_structure().shape}")
    if lipschitz is None:
        lipschitz = settled_step(None, None, loss)[1]
    else:
        check_positive("lipschitz", lipschitz, "of the gradient of the loss; see armillary.imaging.lipschitz")
    return _primal_dual(loss, prior, operator, operator_prior, x0, lipschitz, max_steps, tolerance)


@eqx.filter_jit
def _primal_dual(
    loss: Loss,
    prior: Any,
    operator: Any,
    operator_prior: Any,
    x0: Array,
    lipschitz: Any,
    max_steps: int,
    tolerance: Any,
) -> Solution:
    curvature = jnp.asarray(lipschitz).astype(x0.dtype)
    tau = 0.99 / curvature
    sigma = curvature / (2 * jnp.asarray(operator.opnorm()).astype(x0.dtype) ** 2)

    def condat_vu(state: tuple[Array, Array]) -> tuple[Array, Array]:
        x, u = state
        new = prior.prox(x - tau * (jax.grad(loss)(x) + operator.adjoint(u)), tau)
        v = u + sigma * operator(2 * new - x)
        # Moreau's identity, from the proximal operator of q to that of its conjugate.
        return new, v - sigma * operator_prior.prox(v / sigma, 1 / sigma)

    def advance(state: tuple[Array, Array]) -> tuple[tuple[Array, Array], Array]:
        new = condat_vu(state)
        return new, jnp.maximum(*map(relative_move, new, state))

    start = (x0, jnp.zeros_like(operator(x0)))
    (x, _), (residual, steps, status) = solve_fixed_point(
        advance, condat_vu, start, lambda state: state, max_steps, tolerance
    )
    objective = loss(x) + negative_log_density(prior, x) + negative_log_density(operator_prior, operator(x))
    return Solution(x, objective, residual, steps, status)
