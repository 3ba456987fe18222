r"""Proximal nested sampling: the evidence of models whose prior is known by its proximal operator.

Live points drawn from the prior are replaced, the least likely first, by draws from the prior above their likelihood.
The prior volume that is left shrinks by a known factor each time, and the evidence is the sum of the likelihoods of
the points that died, weighted by the volume between them (Skilling J. 2006, Bayesian Anal. 1, 833,
doi:10.1214/06-BA127). New points are made by proximal MALA on the prior, with the likelihood constraint as a hard
wall, from a live point chosen at random.

Cai X., McEwen J. D., Pereyra M. 2022, Stat. Comput. 32, 87, doi:10.1007/s11222-022-10152-9 (arXiv:2106.03646). That
method moves without the Metropolis correction and projects onto the constraint; here neither is done, so that the
moves leave the constrained prior as it is.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from blackjax.ns import adaptive, base, from_mcmc
from jaxtyping import Array, Float, PyTree

from armillary.core import Target

from . import _px_mala, _steps
from ._check import check_count, check_fraction, check_positive
from ._image_evidence import ImageEvidence, refused
from ._moments import Moments, add, effective_size, standard_deviation
from ._nested_published import published_nested_sampling
from ._prior_chains import prior_draws

# How many random sequences of prior volumes the error of the evidence is estimated from: to 4 %.
_VOLUME_PATHS = 256
# Rounds of tuning the first step size, and moves in each.
_TUNING_ROUNDS, _TUNING_STEPS = 40, 4


class _Parts(NamedTuple):
    """The prior as proximal MALA takes it: its smooth part, the proximal operator of the rest, and that rest."""

    smooth: Callable[[PyTree], Array]
    prox: Callable[[PyTree, Any], PyTree]
    nonsmooth: Callable[[PyTree], Array]


class _Moved(NamedTuple):
    """Of a chain that made a new point: its rate of acceptance, and whether it moved at all."""

    acceptance_rate: Float[Array, ""]
    moved: Array


class Run(NamedTuple):
    """What a run keeps: the live set, and sums over the points that died.

    Iterations of a negative number tune the first step size: their points are thrown away.
    """

    state: adaptive.AdaptiveNSState
    moments: Moments
    path_log_volume: Float[Array, " paths"]
    path_log_z: Float[Array, " paths"]
    acceptance_rate: Float[Array, ""]
    least_moved: Float[Array, ""]
    num_iterations: Array


def parts_of(target: Target, inner: str) -> _Parts:
    """The prior of a target for the inner moves."""
    if inner == "px_mala":
        target.require({"prox"}, 'inner="px_mala"')
        assert target.prox is not None
        # The prior's other, smooth factors are left to the Metropolis correction: their gradient alone is not known.
        return _Parts(lambda x: jnp.zeros_like(target.log_prior(x)), target.prox, target.log_prior)
    return _Parts(target.log_prior, lambda x, step: x, lambda x: jnp.asarray(0.0))


def constrained_update(target: Target, parts: _Parts) -> Callable[..., Callable[..., Any]]:
    """BlackJAX's update strategy: chains of proximal MALA above a likelihood, which keep their gradient and prox."""
    kernel = _px_mala.build_kernel()

    def strategy(step_fn: None, num_steps: None, num_delete: int) -> Callable[..., Any]:
        def update(
            key: jax.Array, state: Any, threshold: Array, step_size: Array, num_steps: Array
        ) -> tuple[base.StateWithLogLikelihood, _Moved]:
            choice_key, chain_key = jax.random.split(key)
            particles = state.particles
            # Of ties no point is above the threshold; a chain from one of them stays, and is counted as stuck.
            logits = jnp.where(particles.loglikelihood > threshold, 0.0, -jnp.inf)
            logits = jnp.where(jnp.isfinite(logits).any(), logits, 0.0)
            start = jax.random.categorical(choice_key, logits, shape=(num_delete,))

            def chain(key: jax.Array, start: Array) -> tuple[base.StateWithLogLikelihood, _Moved]:
                position = jax.tree.map(lambda leaf: leaf[start], particles.position)
                first = _px_mala.init(position, *parts, step_size)

                def step(i: Array, carry: tuple) -> tuple:
                    walker, loglikelihood, count = carry
                    proposed, info = kernel(jax.random.fold_in(key, i), walker, *parts, step_size, step_size)
                    height = target.log_likelihood(proposed.position).astype(loglikelihood.dtype)
                    accepted = info.is_accepted & (height > threshold)
                    walker, loglikelihood = _steps.select(accepted, (proposed, height), (walker, loglikelihood))
                    return walker, loglikelihood, count + accepted

                nothing = jnp.zeros((), jnp.int32)
                walker, loglikelihood, count = jax.lax.fori_loop(
                    0, num_steps, step, (first, particles.loglikelihood[start], nothing)
                )
                particle = base.StateWithLogLikelihood(walker.position, walker.logdensity, loglikelihood, threshold)
                return particle, _Moved((count / num_steps).astype(loglikelihood.dtype), count > 0)

            return jax.vmap(chain)(jax.random.split(chain_key, num_delete), start)

        return update

    return strategy


def build(
    target: Target,
    inner: str,
    num_live: int,
    num_delete: int,
    num_inner_steps: int,
    target_rate: float,
    draw: Callable[[jax.Array], PyTree],
) -> tuple[Callable[[jax.Array], Run], Callable[[jax.Array, Run], Run]]:
    """The start of a run, from a key, and an iteration of it, which replaces ``num_delete`` points."""
    parts = parts_of(target, inner)
    strategy = constrained_update(target, parts)
    rates = 1.0 / jnp.arange(num_live, num_live - num_delete, -1)

    def keep(key: jax.Array, state: Any, info: Any, params: dict[str, Array]) -> dict[str, Array]:
        return params

    # The strategy makes the moves itself, with the parameters of the state.
    kernel = from_mcmc.build_kernel(None, None, keep, num_delete, update_strategy=strategy)

    def state_of(position: PyTree) -> base.StateWithLogLikelihood:
        return base.init_state_strategy(position, target.log_prior, target.log_likelihood)

    def start(key: jax.Array) -> Run:
        positions = draw(key)
        particles = base.init(positions, jax.vmap(state_of)).particles
        dtype = particles.loglikelihood.dtype
        spread = sum(jnp.sum(jnp.var(leaf, axis=0)) for leaf in jax.tree.leaves(positions)) / target.dim
        parameters = {"step_size": jnp.asarray(spread / target.dim, dtype), "num_steps": jnp.asarray(_TUNING_STEPS)}
        state = adaptive.AdaptiveNSState(particles, adaptive.init_integrator(particles), parameters)
        zeros = jnp.zeros(_VOLUME_PATHS, dtype)
        one = jnp.ones((), dtype)
        moments = Moments.empty(jax.tree.map(lambda leaf: leaf[0], positions), dtype)
        return Run(state, moments, zeros, zeros - jnp.inf, one, one, jnp.asarray(-_TUNING_ROUNDS))

    def iterate(key: jax.Array, run: Run) -> Run:
        new = advance(key, run)
        tuning = run.num_iterations < 0
        # While tuning the gain falls, so that the last rounds do not chase their own noise.
        gain = jnp.where(tuning, 4.0 / (1 + 0.2 * (_TUNING_ROUNDS + run.num_iterations)), 2.0)
        parameters = {
            "step_size": run.state.inner_kernel_params["step_size"]
            * jnp.exp(gain * (new.acceptance_rate - target_rate)).astype(new.acceptance_rate.dtype),
            "num_steps": jnp.where(run.num_iterations < -1, _TUNING_STEPS, num_inner_steps),
        }
        kept = _steps.select(tuning, run, new._replace(state=new.state._replace(inner_kernel_params=parameters)))
        state = kept.state._replace(inner_kernel_params=parameters)
        return kept._replace(state=state, num_iterations=run.num_iterations + 1)

    def advance(key: jax.Array, run: Run) -> Run:
        move_key, volume_key = jax.random.split(key)
        before = run.state.integrator.logX
        state, info = kernel(move_key, run.state)
        dead = info.particles
        dtype = dead.loglikelihood.dtype

        def shells(log_shrinkage: Array) -> tuple[Array, Array]:
            """ln of the volume between each dead point and the one before, as a part of that at the start."""
            after = jnp.cumsum(log_shrinkage)
            return jnp.concatenate([jnp.zeros(1, dtype), after[:-1]]) + jnp.log(-jnp.expm1(log_shrinkage)), after[-1]

        mean_shrinkage = -rates.astype(dtype)
        log_weights = dead.loglikelihood + before + shells(mean_shrinkage)[0]
        moments = add(run.moments, dead.position, dead.loglikelihood, log_weights)
        exponential = jax.random.exponential(volume_key, (_VOLUME_PATHS, num_delete), dtype)
        path_shells, path_after = jax.vmap(shells)(jnp.minimum(exponential, 1 / jnp.finfo(dtype).eps) * mean_shrinkage)
        terms = jax.nn.logsumexp(dead.loglikelihood + path_shells, axis=1) + run.path_log_volume
        return Run(
            state,
            moments,
            run.path_log_volume + path_after,
            jnp.logaddexp(run.path_log_z, terms),
            info.update_info.acceptance_rate.mean(),
            jnp.minimum(run.least_moved, info.update_info.moved.mean(dtype=dtype)),
            run.num_iterations,
        )

    return start, iterate


def proximal_nested_sampling(
    key: jax.Array,
    target: Target,
    *,
    num_live: int = 500,
    num_delete: int | None = None,
    inner: str = "px_mala",
    num_inner_steps: int | None = None,
    target_acceptance_rate: float = 0.3,
    tolerance: float = 1e-3,
    max_compression: float | None = None,
    proxnest_compat: bool = False,
    step_size: float | None = None,
) -> ImageEvidence:
    r"""The evidence and the posterior moments of a target, by nested sampling with proximal moves.

    Live points are drawn from the prior; in each iteration the ``num_delete`` least likely are replaced by chains of
    ``num_inner_steps`` Metropolis-corrected moves on the prior above the likelihood of the last of them, and their
    weights :math:`L_i (X_{i-1} - X_i)` are added to the evidence and the moments. Nothing but the live set is kept.
    The step size follows the acceptance of the iteration before.

    >>> import jax, jax.numpy as jnp
    >>> from armillary.core import Target
    >>> from armillary.imaging import L1, proximal_nested_sampling
    >>> prior, y = L1(1.0).expand((16,)).to_event(1), jnp.linspace(-2.0, 2.0, 16)
    >>> target = Target(prior.log_prob, lambda x: -2.0 * jnp.sum((y - x) ** 2), sample_prior=prior.sample,
    ...                 prox=L1(1.0).prox)
    >>> result = proximal_nested_sampling(jax.random.key(0), target, num_live=200)
    >>> result.status, result.mean.shape, bool(0 < result.log_z_err < 0.5)
    ('converged', (16,), True)

    Args:
        key: a random key.
        target: with ``prox``, the proximal operator of the prior or of one of its factors, for ``inner="px_mala"``.
            The live points start as draws from the prior by ``sample_prior``; without it they are the ends of chains on
            the prior, which are checked against each other, and whose prior has to be proper but not normalised.
        num_live: live points. The error of ln Z is about ``1.2 * sqrt(information / num_live)``.
        num_delete: points replaced at once; half of them by default, which costs as much for the same error as fewer.
        inner: ``"px_mala"``, or ``"mala"`` for a smooth prior without a proximal operator.
        num_inner_steps: moves for a new point, ``max(50, dim // 2)`` by default. It is enough when twice as many
            change neither ln Z nor the mean by more than the error.
        target_acceptance_rate: of the moves.
        tolerance: the run ends when the live points hold less than this fraction of the evidence.
        max_compression: the run is given up, and its result refused, when the prior volume has shrunk by exp of this
            many nats; by default 60 and 20 more for each parameter.
        proxnest_compat: follow the published recursion instead, to compare with it: Langevin steps without a
            correction, projected onto the likelihood's level sets, for live points that are a chain from the data.
            One point at a time is replaced, by a chain of ``num_inner_steps``, 10 by default; the other settings of
            moves are not used. Its ln Z comes with a warning, for it is not that of the model. Of linear operators
            with Gaussian noise only.
        step_size: of that recursion, in squared units of the position; all other moves find their own.

    Returns:
        An `ImageEvidence`. Where its status is not ``"converged"`` ln Z is NaN, so that no comparison accepts it.

    Raises:
        ValueError: a setting out of its range, a target without what is needed, or a log-likelihood that is not
            finite at a draw from the prior.
    """
    if inner not in ("px_mala", "mala"):
        raise ValueError(f'inner={inner!r}: expected "px_mala", or "mala" for a prior without a proximal operator')
    check_count("num_live", num_live, "500 is usual; the error of ln Z falls as its square root", least=10)
    num_delete = num_live // 2 if num_delete is None else num_delete
    check_count("num_delete", num_delete, "half of num_live is good")
    if num_delete > num_live // 2:
        raise ValueError(
            f"num_delete={num_delete}: expected at most half of num_live={num_live}, for the others to live"
        )
    if proxnest_compat:
        target.require({"prox"}, "proxnest_compat=True")
        if step_size is None:
            raise ValueError("proxnest_compat=True needs step_size=: the published recursion does not tune its own")
        check_positive("step_size", step_size, "the published recursion takes the step that it is given")
    elif step_size is not None:
        raise ValueError(f"step_size={step_size!r}: only proxnest_compat=True takes one; the others are tuned")
    if num_inner_steps is None:
        num_inner_steps = 10 if proxnest_compat else max(50, target.dim // 2)
    check_count("num_inner_steps", num_inner_steps, "max(50, dim // 2) is the default")
    check_fraction("target_acceptance_rate", target_acceptance_rate, "0.3 is usual")
    check_fraction("tolerance", tolerance, "1e-3 is usual")
    max_compression = 60.0 + 20.0 * target.dim if max_compression is None else max_compression
    check_positive("max_compression", max_compression, "it is in nats, and must exceed the information")
    if proxnest_compat:
        target.require({"sample_prior"}, "proxnest_compat=True")
        return published_nested_sampling(
            key,
            target,
            step_size=float(step_size),  # type: ignore[arg-type]
            num_live=num_live,
            num_inner_steps=num_inner_steps,
            tolerance=tolerance,
            max_compression=max_compression,
        )
    prior_key, start_key, run_key = jax.random.split(key, 3)
    prior = prior_draws(prior_key, target, parts_of(target, inner), num_live)
    start, iterate = build(target, inner, num_live, num_delete, num_inner_steps, target_acceptance_rate, prior.draw)

    def remains(run: Run) -> Array:
        integrator = run.state.integrator
        undecided = ~(integrator.logZ_live - integrator.logZ < math.log(tolerance))
        goes_on = undecided & (integrator.logX > -max_compression) & (run.least_moved > 0)
        return goes_on | (run.num_iterations < 0)

    @jax.jit
    def whole(start_key: jax.Array, run_key: jax.Array) -> tuple[Run, Run]:
        first = start(start_key)
        last = jax.lax.while_loop(
            remains, lambda run: iterate(jax.random.fold_in(run_key, run.num_iterations), run), first
        )
        return first, last

    first, last = whole(start_key, run_key)
    heights = first.state.particles.loglikelihood
    if not bool(jnp.isfinite(heights).all()):
        bad = int((~jnp.isfinite(heights)).sum())
        raise ValueError(
            f"the log-likelihood is not finite at {bad} of {num_live} draws from the prior: give a likelihood that is "
            "positive wherever the prior is, or a prior without the rest"
        )
    found = _finish(last, num_live, num_delete, num_inner_steps, max_compression, bool(remains(last)))
    found = dataclasses.replace(found, diagnostics={**found.diagnostics, **prior.diagnostics})
    return refused(found, prior.fault) if prior.fault else found


def _finish(
    run: Run, num_live: int, num_delete: int, num_inner_steps: int, max_compression: float, undecided: bool
) -> ImageEvidence:
    """The live points that are left share the volume that is left; and the judgement of the run."""
    live, integrator = run.state.particles, run.state.integrator
    share = live.loglikelihood + integrator.logX - math.log(num_live)
    moments = add(run.moments, live.position, live.loglikelihood, share)
    paths = jnp.logaddexp(
        run.path_log_z, jax.nn.logsumexp(live.loglikelihood) - math.log(num_live) + run.path_log_volume
    )
    log_z, compression = float(moments.log_weight), -float(integrator.logX)
    information = float(moments.loglikelihood) - log_z
    left = math.exp(min(0.0, float(integrator.logZ_live) - log_z))
    least_moved = float(run.least_moved)
    diagnostics = {
        "iterations": int(run.num_iterations),
        "compression": compression,
        "evidence_in_live_points": left,
        "acceptance_rate": float(run.acceptance_rate),
        "least_moved": least_moved,
        "step_size": float(run.state.inner_kernel_params["step_size"]),
    }
    found = ImageEvidence(
        log_z,
        float(jnp.std(paths)),
        "proximal nested sampling",
        diagnostics,
        information=information,
        mean=moments.mean,
        std=standard_deviation(moments),
        effective_size=float(effective_size(moments)),
        status="converged",
    )
    if not math.isfinite(log_z) or least_moved == 0:
        return refused(
            found,
            "stuck: in an iteration no chain moved from the live point that it started at. The likelihood may have a "
            "plateau, or the moves cannot follow it: raise num_inner_steps or num_live",
        )
    if compression < information or left > 0.5 or undecided:
        return refused(
            found,
            f"compression limit: the prior volume shrank by {compression:.1f} nats, after which the live points still "
            f"held {100 * left:.2g} % of the evidence, and the information is at least {information:.1f} nats: raise "
            "max_compression",
        )
    if least_moved < 0.9:
        warning = (
            f"in an iteration {100 * (1 - least_moved):.0f} % of the chains did not move: raise num_inner_steps, now "
            f"{num_inner_steps}, until ln Z stays"
        )
        return found.warn(warning)
    return found
