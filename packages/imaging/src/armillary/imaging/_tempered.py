r"""Tempered sequential Monte Carlo with proximal moves: a second route to the evidence.

Particles drawn from the prior, or from another normalised density q, go to the posterior through the densities
:math:`q(x)^{1 - \beta} (p(x)\, L(x))^\beta`, with the inverse temperatures chosen so that each step keeps a given part
of them. The evidence is the product of the mean weights

.. math:: Z = \prod_t \frac{1}{N} \sum_i \Bigl(\frac{p(x_i)\, L(x_i)}{q(x_i)}\Bigr)^{\beta_{t+1} - \beta_t}.

Del Moral P., Doucet A., Jasra A. 2006, J. R. Stat. Soc. B 68, 411, doi:10.1111/j.1467-9868.2006.00553.x; with another
start than the prior, Fan Y., Wu R., Chen M.-H., Kuo L., Lewis P. O. 2011, Mol. Biol. Evol. 28, 523,
doi:10.1093/molbev/msq224.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
from blackjax.smc import resampling, solver
from blackjax.smc.ess import ess, ess_solver
from jaxtyping import Array, Float, Int, PyTree

from armillary.core import Target

from . import _px_mala, _steps
from ._check import check_count, check_fraction
from ._image_evidence import ImageEvidence, refused
from ._nested import parts_of
from ._prior_chains import PriorDraws, prior_draws

# Rounds of tuning the first step size.
_TUNING_ROUNDS = 60


class _Run(NamedTuple):
    """The particles, all at one temperature, and the evidence so far.

    Temperatures of a negative number tune the first step size: their particles are thrown away.
    """

    positions: PyTree
    height: Float[Array, " particles"]
    family: Int[Array, " particles"]
    beta: Float[Array, ""]
    log_z: Float[Array, ""]
    variance: Float[Array, ""]
    step_size: Float[Array, ""]
    acceptance_rate: Float[Array, ""]
    num_temperatures: Array


def _start_of(
    key: jax.Array, target: Target, prior: Any, reference: PyTree | None, num: int
) -> tuple[PriorDraws, Callable[[PyTree], Any]]:
    """How the first particles are drawn, and the log-density of the reference, which is 0 for the prior itself."""
    if reference is None:
        return prior_draws(key, target, prior, num), lambda x: 0.0
    leaves, structure = jax.tree.flatten(reference, is_leaf=lambda leaf: isinstance(leaf, dist.Distribution))
    wanted = jax.tree.structure(target.structure)
    # A PyTreeDef is compiled, and jaxlib says nothing of its type.
    if structure != wanted or not all(isinstance(leaf, dist.Distribution) for leaf in leaves):  # type: ignore[operator]
        raise ValueError(
            f"reference={reference!r}: expected a numpyro distribution for each array of a position, which is {wanted}"
        )
    for leaf, like in zip(leaves, jax.tree.leaves(target.structure), strict=True):
        if leaf.batch_shape or leaf.event_shape != like.shape:
            raise ValueError(
                f"reference: a distribution of batch shape {leaf.batch_shape} and event shape {leaf.event_shape}: "
                f"expected no batch and the event {like.shape}; .to_event({len(like.shape)}) makes axes part of it"
            )

    def draw(key: jax.Array) -> PyTree:
        keys = jax.random.split(key, len(leaves))
        return jax.tree.unflatten(structure, [leaf.sample(k, (num,)) for leaf, k in zip(leaves, keys, strict=True)])

    def log_density(position: PyTree) -> Array:
        return sum(leaf.log_prob(x) for leaf, x in zip(leaves, jax.tree.leaves(position), strict=True))

    return PriorDraws(draw, {}, ""), log_density


def tempered_evidence(
    key: jax.Array,
    target: Target,
    *,
    reference: PyTree | None = None,
    num_particles: int = 500,
    inner: str = "px_mala",
    num_inner_steps: int = 20,
    target_ess: float = 0.8,
    target_acceptance_rate: float = 0.574,
    max_temperatures: int = 1000,
) -> ImageEvidence:
    r"""The evidence and the posterior moments of a target, by tempered sequential Monte Carlo with proximal moves.

    It knows the gradient of the likelihood, and needs fewer evaluations of it than `proximal_nested_sampling`; it has
    no hard wall, and goes wrong in another way where it does: use one to check the other.

    >>> import jax, jax.numpy as jnp
    >>> from armillary.core import Target
    >>> from armillary.imaging import L1, tempered_evidence
    >>> prior, y = L1(1.0).expand((16,)).to_event(1), jnp.linspace(-2.0, 2.0, 16)
    >>> target = Target(prior.log_prob, lambda x: -2.0 * jnp.sum((y - x) ** 2), sample_prior=prior.sample,
    ...                 prox=L1(1.0).prox)
    >>> result = tempered_evidence(jax.random.key(0), target, num_particles=200)
    >>> result.status, result.mean.shape, bool(0 < result.log_z_err < 0.5)
    ('converged', (16,), True)

    Args:
        key: a random key.
        target: with ``prox``, the proximal operator of the prior or of one of its factors, for ``inner="px_mala"``.
            Where no reference is given the particles start from the prior, as in `proximal_nested_sampling`.
        reference: a normalised density q to start from instead of the prior: a NumPyro distribution over the position,
            or a pytree of them like it. Near the posterior, and wider than it, it saves most of the way and of the
            error: for an image in white noise ``dist.Normal(y, sigma).to_event(2)``, which is the likelihood. It
            needs a prior that is normalised.
        num_particles: N. The error of ln Z falls as its square root.
        inner: ``"px_mala"``, or ``"mala"`` for a smooth prior without a proximal operator.
        num_inner_steps: moves of every particle at each temperature. It is enough when twice as many change neither
            ln Z nor the mean by more than the error.
        target_ess: the part of the particles that a step of temperature keeps.
        target_acceptance_rate: of the moves, which sets their step size.
        max_temperatures: the run is given up, and its result refused, after so many.

    Returns:
        An `ImageEvidence`. Where its status is not ``"converged"`` ln Z is NaN, so that no comparison accepts it. The
        error of ln Z is from the sizes n_k of the families into which the particles fall by the draw that they descend
        from, :math:`\sqrt{\sum_k (n_k / N)^2 - 1/N}` (Lee & Whiteley 2018, Biometrika 105, 609, arXiv:1509.00394),
        which grows where the moves do not mix, and not below that of the weights alone.

    Raises:
        ValueError: a setting out of its range, a target without what is needed, a reference that is not like a
            position, or a log-likelihood that is not finite at a first draw.
    """
    if inner not in ("px_mala", "mala"):
        raise ValueError(f'inner={inner!r}: expected "px_mala", or "mala" for a prior without a proximal operator')
    check_count("num_particles", num_particles, "500 is usual; the error falls as its square root", least=10)
    check_count("num_inner_steps", num_inner_steps, "20 are usual")
    check_fraction("target_ess", target_ess, "0.8 is usual")
    check_fraction("target_acceptance_rate", target_acceptance_rate, "0.574 is usual")
    check_count("max_temperatures", max_temperatures, "1000 are more than most models need")
    prior = parts_of(target, inner)
    prior_key, key = jax.random.split(key)
    first, log_reference = _start_of(prior_key, target, prior, reference, num_particles)
    start_name = "the prior" if reference is None else "the reference"
    kernel = _px_mala.build_kernel()

    def move(
        key: jax.Array, positions: PyTree, beta: Array, step_size: Array, num_steps: Array
    ) -> tuple[PyTree, Float[Array, ""]]:
        share = 1.0 if reference is None else beta
        parts = (
            lambda x: (1 - beta) * log_reference(x) + share * prior.smooth(x) + beta * target.log_likelihood(x),
            lambda x, step: prior.prox(x, share * step),
            lambda x: share * prior.nonsmooth(x),
        )

        def chain(key: jax.Array, position: PyTree) -> tuple[PyTree, Array]:
            def step(i: Array, carry: tuple[Any, Array]) -> tuple[Any, Array]:
                state, rates = carry
                state, info = kernel(jax.random.fold_in(key, i), state, *parts, step_size, step_size)
                return state, rates + info.acceptance_rate

            state = _px_mala.init(position, *parts, step_size)
            state, rates = jax.lax.fori_loop(0, num_steps, step, (state, jnp.zeros_like(state.logdensity)))
            return state.position, rates / num_steps

        positions, rates = jax.vmap(chain)(jax.random.split(key, num_particles), positions)
        return positions, rates.mean()

    def height(x: PyTree) -> Array:
        """The logarithm of what a step of temperature takes a power of."""
        if reference is None:
            return target.log_likelihood(x)
        return target.log_density(x) - log_reference(x)

    def next_beta(heights: Array, beta: Array) -> tuple[Array, Array]:
        room = 1 - beta
        delta = ess_solver(lambda _: heights, None, target_ess, room, solver.dichotomy)
        # Exactly 1 at the end, which a sum of rounded steps would miss.
        return jnp.where(delta >= room, 1.0, beta + delta).astype(beta.dtype), delta

    def start(key: jax.Array) -> _Run:
        positions = first.draw(key)
        heights = jax.vmap(height)(positions)
        dtype = heights.dtype
        zero = jnp.zeros((), dtype)
        spread = sum(jnp.sum(jnp.var(leaf, axis=0)) for leaf in jax.tree.leaves(positions)) / target.dim
        step_size = jnp.asarray(0.1 * spread, dtype)
        family = jnp.arange(num_particles)
        return _Run(positions, heights, family, zero, zero, zero, step_size, zero, jnp.asarray(-_TUNING_ROUNDS))

    def iterate(run: _Run, key: jax.Array) -> _Run:
        resample_key, move_key = jax.random.split(jax.random.fold_in(key, run.num_temperatures))
        tuning = run.num_temperatures < 0
        beta, delta = next_beta(run.height, run.beta)
        log_weights = delta * run.height
        kept = ess(log_weights) / num_particles
        index = resampling.systematic(resample_key, jax.nn.softmax(log_weights), num_particles)
        positions = jax.tree.map(lambda leaf: leaf[index], run.positions)
        positions, rate = move(move_key, positions, beta, run.step_size, jnp.where(tuning, 1, num_inner_steps))
        # While tuning the gain falls, so that the last rounds do not chase their own noise.
        gain = jnp.where(tuning, 4.0 / (1 + 0.2 * (_TUNING_ROUNDS + run.num_temperatures)), 2.0)
        new = _Run(
            positions,
            jax.vmap(height)(positions),
            run.family[index],
            beta,
            run.log_z + jax.nn.logsumexp(log_weights) - math.log(num_particles),
            run.variance + (1 / kept - 1) / num_particles,
            run.step_size * jnp.exp(gain * (rate - target_acceptance_rate)),
            rate,
            run.num_temperatures + 1,
        )
        new = jax.tree.map(lambda leaf, like: leaf.astype(like.dtype), new, run)
        kept_run = _steps.select(tuning, run, new)
        return kept_run._replace(step_size=new.step_size, num_temperatures=new.num_temperatures)

    def remains(run: _Run) -> Array:
        return (run.beta < 1) & (run.num_temperatures < max_temperatures) & jnp.isfinite(run.log_z)

    @jax.jit
    def whole(key: jax.Array) -> tuple[Array, _Run]:
        start_key, run_key = jax.random.split(key)
        begun = start(start_key)
        return begun.height, jax.lax.while_loop(remains, lambda run: iterate(run, run_key), begun)

    heights, run = whole(key)
    if not bool(jnp.isfinite(heights).all()):
        raise ValueError(
            f"the log-likelihood is not finite at {int((~jnp.isfinite(heights)).sum())} of {num_particles} draws from "
            f"{start_name}: give a likelihood that is positive wherever the prior is, or a prior without the rest"
        )
    log_z = float(run.log_z)
    sizes = np.bincount(np.asarray(run.family)) / num_particles
    # The former is honest and noisy; the latter holds where the moves mix.
    variance = max(float(run.variance), float(np.sum(sizes**2)) - 1 / num_particles)
    found = ImageEvidence(
        log_z,
        math.sqrt(variance),
        "tempered SMC",
        {
            "temperatures": int(run.num_temperatures),
            "beta": float(run.beta),
            "acceptance_rate": float(run.acceptance_rate),
            "step_size": float(run.step_size),
            "families": int(np.count_nonzero(sizes)),
            "log_z_err_of_weights": math.sqrt(float(run.variance)),
            **first.diagnostics,
        },
        information=float(jax.vmap(target.log_likelihood)(run.positions).mean()) - log_z,
        mean=jax.tree.map(lambda leaf: leaf.mean(axis=0), run.positions),
        std=jax.tree.map(lambda leaf: leaf.std(axis=0), run.positions),
        effective_size=float(num_particles),
        status="converged",
    )
    if float(run.beta) != 1 or not math.isfinite(log_z):
        return refused(
            found,
            f"stopped at beta = {float(run.beta):.3g} after {int(run.num_temperatures)} temperatures: raise "
            "max_temperatures, and check that the log-likelihood is finite",
        )
    if first.fault:
        return refused(found, first.fault)
    families = np.count_nonzero(sizes)
    if families < 5:
        return refused(
            found,
            f"all particles descend from {families} of the first draws: the moves do not mix, and neither "
            "ln Z nor its error is known: raise num_inner_steps or num_particles",
        )
    if families < 10:
        found = found.warn(
            f"all particles descend from {families} of the first draws, so that the error of ln Z is itself "
            "uncertain: raise num_inner_steps or num_particles"
        )
    if not 0.1 < float(run.acceptance_rate) < 0.95:
        found = found.warn(
            f"the moves are accepted at a rate of {float(run.acceptance_rate):.2g}: the step size did not settle, "
            "raise num_inner_steps or target_ess"
        )
    return found
