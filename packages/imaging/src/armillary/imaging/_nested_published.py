r"""The recursion of proximal nested sampling as it was published, for comparison only.

With the prior's proximal operator, and the projection P onto the region of likelihoods above the threshold, a step is

.. math:: x' = \Bigl(1 - \frac{\delta}{\lambda}\Bigr) x
               + \frac{\delta}{2 \lambda} \bigl(\mathrm{prox}_\lambda(x) + P(x)\bigr)
               + \sqrt{\delta}\, \xi, \qquad \lambda = 5 \delta,

without a Metropolis correction, and a chain that ends outside is projected onto the edge (Cai X., McEwen J. D., Pereyra
M. 2022, Stat. Comput. 32, 87, doi:10.1007/s11222-022-10152-9, arXiv:2106.03646). The live points are a chain that
starts at the data and ignores the likelihood. Neither leaves the prior as it is, so that the evidence is not that of
the model: how far off it is depends on the step and on the length of that chain.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree
from jax.scipy.sparse.linalg import cg
from jaxtyping import Array, Float

from armillary.core import Target

from ._image_evidence import ImageEvidence, refused
from ._moments import Moments, add, effective_size, standard_deviation

METHOD = "proximal nested sampling as published"
WARNING = "the published recursion does not sample the prior: its ln Z is for comparison and not that of the model"
# The smoothing in steps, and the steps that the first chain makes before its first live point, in those between two.
_SMOOTHING, _BURN = 5.0, 10
_BISECTIONS, _KRYLOV = 40, 100


class Quadratic(NamedTuple):
    r"""A quadratic loss, minus the log-likelihood but for a constant, of a flat position.

    Args:
        value: the loss.
        curvature: the number that its Hessian is that times the identity, or None where it is another matrix.
    """

    value: Callable[[Array], Array]
    curvature: Array | None

    def slope(self, x: Array) -> Array:
        return jax.grad(self.value)(x)

    def hessian(self, x: Array, v: Array) -> Array:
        return jax.jvp(self.slope, (x,), (v,))[1]

    def minimum(self, x: Array) -> Array:
        """Where it is least, the nearest such point to x."""
        return x - cg(lambda v: self.hessian(x, v), self.slope(x), maxiter=_KRYLOV)[0]

    def project(self, x: Array, level: Array) -> Array:
        r"""The nearest point to x where the loss is at most ``level``: :math:`(1 + t H)^{-1}` of its slope, t times."""
        slope, value = self.slope(x), self.value(x)

        def at(t: Array) -> tuple[Array, Array]:
            u = cg(lambda v: v + t * self.hessian(x, v), slope, maxiter=_KRYLOV)[0]
            return x - t * u, value - t * slope @ u + t**2 / 2 * (u @ self.hessian(x, u))

        if self.curvature is not None:
            least = value - slope @ slope / (2 * self.curvature)
            shrink = jnp.sqrt(jnp.clip((level - least) / (value - least), 0.0, 1.0))
            return jnp.where(value > level, x - (1 - shrink) / self.curvature * slope, x)

        def halve(_: int, ends: tuple[Array, Array]) -> tuple[Array, Array]:
            low, high = ends
            middle = (low + high) / 2
            outside = at(jnp.exp(middle))[1] > level
            return jnp.where(outside, middle, low), jnp.where(outside, high, middle)

        # exp of what is between these brackets any t that matters: slope @ slope / slope @ H slope is its scale.
        scale = jnp.log(slope @ slope / (slope @ self.hessian(x, slope)))
        _, t = jax.lax.fori_loop(0, _BISECTIONS, halve, (scale - 20.0, scale + 20.0))
        return jnp.where(value > level, at(jnp.exp(t))[0], x)


def quadratic_of(target: Target, key: jax.Array) -> Quadratic:
    """The loss of a target with a linear operator and Gaussian noise.

    Raises:
        ValueError: the log-likelihood is not a quadratic function.
    """

    def value(x: Array) -> Array:
        return -target.log_likelihood(target.unravel(x))

    assert target.sample_prior is not None
    x, v = (ravel_pytree(target.sample_prior(k))[0] for k in jax.random.split(key))
    loss = Quadratic(value, None)
    there, bent = value(x + v), loss.hessian(x, v)
    expected = value(x) + loss.slope(x) @ v + 0.5 * v @ bent
    if not bool(jnp.allclose(there, expected, rtol=1e-3)) or not bool(v @ bent > 0):
        raise ValueError(
            "proxnest_compat=True: expected a log-likelihood that is a quadratic function of the position, of a linear "
            "operator and Gaussian noise, since its level sets are projected onto; leave proxnest_compat out"
        )
    curvature = (v @ bent) / (v @ v)
    return Quadratic(value, curvature if bool(jnp.allclose(bent, curvature * v, rtol=1e-3, atol=1e-4)) else None)


def recursion(
    key: jax.Array, x: Array, prox: Callable[[Array, Any], Array], inside: Callable[[Array], Array], step_size: Any
) -> Array:
    """A step, for a proximal operator and a projection."""
    smoothing = _SMOOTHING * step_size
    share = step_size / (2 * smoothing)
    noise = jnp.sqrt(jnp.asarray(step_size, x.dtype)) * jax.random.normal(key, x.shape, x.dtype)
    return (1 - 2 * share) * x + share * (prox(x, smoothing) + inside(x)) + noise


class _Run(NamedTuple):
    """The live points, and sums over the points that died."""

    live: Float[Array, "live dim"]
    loglikelihood: Float[Array, " live"]
    moments: Moments
    num_dead: Array


def published_nested_sampling(
    key: jax.Array,
    target: Target,
    *,
    step_size: float,
    num_live: int,
    num_inner_steps: int,
    tolerance: float,
    max_compression: float,
) -> ImageEvidence:
    """See `armillary.imaging.proximal_nested_sampling` with ``proxnest_compat=True``."""
    check_key, start_key, run_key = jax.random.split(key, 3)
    loss = quadratic_of(target, check_key)
    proximal = target.prox
    assert proximal is not None
    assert target.sample_prior is not None

    def prox(x: Array, step: Any) -> Array:
        return target.ravel(proximal(target.unravel(x), step))

    def chain(key: jax.Array, x: Array, inside: Callable[[Array], Array], num_steps: int) -> Array:
        return jax.lax.fori_loop(
            0, num_steps, lambda i, x: recursion(jax.random.fold_in(key, i), x, prox, inside, step_size), x
        )

    def start(key: jax.Array) -> _Run:
        origin = jnp.zeros_like(target.ravel(target.sample_prior(key)))  # type: ignore[misc]
        first = chain(key, loss.minimum(origin), lambda x: x, _BURN * num_inner_steps)

        def further(x: Array, key: jax.Array) -> tuple[Array, Array]:
            return (x := chain(key, x, lambda x: x, num_inner_steps)), x

        live = jax.lax.scan(further, first, jax.random.split(jax.random.fold_in(key, 1), num_live))[1]
        loglikelihood = -jax.vmap(loss.value)(live)
        return _Run(live, loglikelihood, Moments.empty(origin, loglikelihood.dtype), jnp.zeros((), jnp.int32))

    def iterate(run: _Run) -> _Run:
        choice_key, chain_key = jax.random.split(jax.random.fold_in(run_key, run.num_dead))
        worst = jnp.argmin(run.loglikelihood)
        threshold = run.loglikelihood[worst]
        # ln of (X_{i - 1} - X_{i + 1}) / 2 with X_i = exp(-i / num_live).
        shell = math.log(math.sinh(1 / num_live)) - (run.num_dead + 1) / num_live
        weight = (threshold + shell.astype(threshold.dtype))[None]
        moments = add(run.moments, run.live[worst][None], threshold[None], weight)
        other = (worst + jax.random.randint(choice_key, (), 1, num_live)) % num_live

        def inside(x: Array) -> Array:
            return loss.project(x, -threshold)

        x = inside(chain(chain_key, run.live[other], inside, num_inner_steps))
        live = run.live.at[worst].set(x)
        return _Run(live, run.loglikelihood.at[worst].set(-loss.value(x)), moments, run.num_dead + 1)

    def left(run: _Run) -> Array:
        """ln of the part of the evidence that the live points hold."""
        volume = -run.num_dead / num_live
        return jax.nn.logsumexp(run.loglikelihood) - math.log(num_live) + volume - run.moments.log_weight

    def remains(run: _Run) -> Array:
        return ~(left(run) < math.log(tolerance)) & (run.num_dead < max_compression * num_live)

    @jax.jit
    def whole(key: jax.Array) -> tuple[_Run, Array]:
        run = jax.lax.while_loop(remains, iterate, start(key))
        return run, left(run)

    run, rest = whole(start_key)
    log_z = float(run.moments.log_weight)
    information = float(run.moments.loglikelihood) - log_z
    found = ImageEvidence(
        log_z,
        math.sqrt(max(information, 0.0) / num_live),
        METHOD,
        {"iterations": int(run.num_dead), "compression": int(run.num_dead) / num_live, "step_size": step_size},
        information=information,
        mean=target.unravel(run.moments.mean),
        std=target.unravel(standard_deviation(run.moments)),
        effective_size=float(effective_size(run.moments)),
        status="converged",
    ).warn(WARNING)
    if not math.isfinite(log_z):
        return refused(found, "not finite: the recursion ran away; take a smaller step_size")
    if not float(rest) < math.log(tolerance):
        return refused(found, f"compression limit: {max_compression:.1f} nats did not reach the posterior")
    return found
