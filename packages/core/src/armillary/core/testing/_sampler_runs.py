"""The laws of a sampler that take a run: finite draws, right moments, adaptation, NumPyro's MCMC."""

from __future__ import annotations

import unittest
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
from jaxtyping import Array, PyTree
from numpyro.diagnostics import effective_sample_size
from numpyro.infer import MCMC

from ._checks import Broken, Case, check, run
from ._numbers import Gaussian, finite, plain, same_structure
from ._sampler import adaptation_of, bench

CHAINS, WARMUP, DRAWS = 8, 500, 4000
# Below this many effective draws an error of five standard errors is no small one.
LEAST_ESS = 200


class _Ridge(dist.Normal):
    """A Gaussian prior that is proximable, for samplers that need `prox`."""

    def prox(self, x: Array, step: Any) -> Array:
        return x / (1 + step / self.scale**2)


def _model(data: Any, curvature: Any) -> None:
    scale = Gaussian.prior_variance**0.5
    x = numpyro.sample("x", _Ridge(0.0, scale).expand(data.shape).to_event(1))
    numpyro.sample("y", dist.MultivariateNormal(x, precision_matrix=curvature), obs=data)


@check("sampler", "draws are finite", "the step size, divisions by zero, and logarithms at the edge")
def check_sampler_finite(case: Case) -> None:
    """A hundred steps from a prior draw stay finite."""
    here = bench(case)
    states = here.trajectory(jax.random.key(13), 100)
    for i, state in enumerate(states):
        finite(state.position, f"the position after {i + 2} steps")


@check(
    "sampler",
    "adaptation is a state machine under jit, whose result continues by build(target, **parameters)",
    "armillary.core.protocols.Adaptation",
)
def check_sampler_adaptation(case: Case) -> None:
    """``init``, ``step`` under a scan, and ``result``; skipped where there is no adaptation."""
    here = bench(case)
    num = 30
    adaptation = adaptation_of(case, here.target, num)
    state = jax.jit(adaptation.init)(jax.random.key(14), here.position)
    same_structure(
        jax.eval_shape(adaptation.step, jax.random.key(0), jnp.zeros((), jnp.int32), state)[0],
        state,
        "the state after a step of the adaptation",
    )
    state = _scan(adaptation.step, state, jax.random.key(15), num)
    chain, parameters = adaptation.result(state)
    if not isinstance(parameters, dict):
        raise Broken(f"result(state) gave parameters of type {type(parameters).__name__}, expected a dict")
    finite(parameters, "parameters")
    algorithm = case.component.build(here.target, **parameters)
    chain, _ = jax.jit(algorithm.step)(jax.random.key(16), chain)
    same_structure(chain.position, here.position, "the position after adaptation")
    finite(chain.position, "the position after adaptation")


@check(
    "sampler",
    "the mean and covariance of a correlated Gaussian come out within five Monte-Carlo errors, or within `bias`",
    "the acceptance probability, the scale of the noise, and what else makes the posterior the stationary law",
)
def check_sampler_moments(case: Case) -> None:
    """Moments of a Gaussian in three dimensions, from eight chains started at prior draws.

    The error of each moment is by the effective sample size over all chains, and not below that by the scatter of
    the chains. A sampler that is not exact declares a number ``bias``: the error that it may have more, of a mean in
    posterior standard deviations, of a covariance as a fraction of the standard deviations' product.
    """
    problem, draws = _posterior(case)
    bias = float(getattr(case.component, "bias", 0.0))
    deviation = np.sqrt(np.diag(problem.covariance))
    names, values, truths = [], [], []
    centred = (draws - problem.mean) / deviation
    for i in range(problem.dim):
        names.append(f"mean of x[{i}]")
        values.append(centred[..., i])
        truths.append(0.0)
        for j in range(i + 1):
            names.append(f"covariance of x[{i}] and x[{j}]")
            values.append(centred[..., i] * centred[..., j])
            truths.append(problem.covariance[i, j] / (deviation[i] * deviation[j]))
    for name, value, truth in zip(names, values, truths, strict=True):
        ess = float(effective_sample_size(value))
        if not ess >= LEAST_ESS:
            raise Broken(
                f"{value.size} draws of {name} hold {ess:.0f} effective ones, too few to judge by (at least "
                f"{LEAST_ESS}): give the sampler settings for a target of unit scale"
            )
        error = max(value.std() / np.sqrt(ess), value.mean(axis=1).std(ddof=1) / np.sqrt(CHAINS))
        off = abs(value.mean() - truth)
        if not off <= 5 * error + bias:
            raise Broken(
                f"{name} is {value.mean():.4f} in units of the posterior, expected {truth:.4f}: off by "
                f"{off:.4f}, the Monte-Carlo error is {error:.4f} (of {ess:.0f} effective draws) and the declared "
                f"bias {bias:g}"
            )


@check(
    "sampler",
    "it runs in numpyro.infer.MCMC by armillary.core.BlackJAXKernel, with sequential and with vectorized chains",
    "the traceback's last line inside the sampler; and Python branches on what NumPyro traces",
)
def check_sampler_numpyro(case: Case) -> None:
    """Two chains of a NumPyro model by both chain methods, and their conversion for ArviZ."""
    import arviz_base

    from armillary.core._kernel import BlackJAXKernel

    problem = Gaussian(jnp.zeros(3))
    arguments = jnp.asarray(problem.data, problem.dtype), jnp.asarray(problem.curvature, problem.dtype)
    # What a model cannot have is given by hand.
    by_hand = "denoiser" in case.component.traits
    model = problem.target(case.component.traits) if by_hand else _model
    for chain_method in ("sequential", "vectorized"):
        mcmc = MCMC(
            BlackJAXKernel(model, case.component),
            num_warmup=100,  # shorter ones leave the step size that dual averaging starts from, ten times too large
            num_samples=30,
            num_chains=2,
            chain_method=chain_method,
            progress_bar=False,
        )
        mcmc.run(jax.random.key(17), *(() if by_hand else arguments))
        samples = mcmc.get_samples(group_by_chain=True)
        draws = plain(samples if by_hand else samples["x"])
        if draws.shape != (2, 30, 3):
            raise Broken(f"{chain_method} chains gave samples of shape {draws.shape}, expected (2, 30, 3)")
        finite(draws, f"the samples of {chain_method} chains")
        if (draws[0] == draws[1]).all():
            raise Broken(f"the two {chain_method} chains are the same")
        if (draws == draws[:, :1]).all():
            raise Broken(f"{chain_method} chains do not move in 30 draws")
    posterior = arviz_base.from_numpyro(mcmc).posterior
    if dict(posterior.sizes).get("chain") != 2 or posterior.sizes["draw"] != 30:
        raise Broken(f"arviz_base.from_numpyro gave a posterior of sizes {dict(posterior.sizes)}")


def check_sampler(sampler: Any) -> None:
    """Run every check of a sampler: see `armillary.core.protocols.Sampler` for the laws.

    Args:
        sampler: a constructed sampler (or a `Case` of one), with settings for a target of unit scale.

    Raises:
        ConformanceError: at the first violation, with the law, the numbers, and what to look at.
    """
    run("sampler", sampler)


def _scan(step: Any, state: PyTree, key: Array, num: int) -> PyTree:
    def body(state: PyTree, xs: tuple) -> tuple[PyTree, None]:
        i, key = xs
        return step(key, i, state)[0], None

    xs = jnp.arange(num, dtype=jnp.int32), jax.random.split(key, num)
    return jax.jit(lambda state: jax.lax.scan(body, state, xs)[0])(state)


def _posterior(case: Case) -> tuple[Gaussian, np.ndarray]:
    """Draws of several chains, ``(chain, draw, dim)``, after warm-up."""
    here = bench(case)
    algorithm = here.algorithm
    try:
        adaptation = adaptation_of(case, here.target, WARMUP)
    except unittest.SkipTest:
        pass
    else:
        state = jax.jit(adaptation.init)(jax.random.key(18), here.position)
        _, parameters = adaptation.result(_scan(adaptation.step, state, jax.random.key(19), WARMUP))
        algorithm = case.component.build(here.target, **parameters)

    def chain(key: Array) -> Array:
        start_key, init_key, run_key = jax.random.split(key, 3)
        state = algorithm.init(here.problem.sample_prior(start_key), init_key)

        def body(state: Any, key: Array) -> tuple[Any, Array]:
            state = algorithm.step(key, state)[0]
            return state, state.position

        return jax.lax.scan(body, state, jax.random.split(run_key, WARMUP + DRAWS))[1][WARMUP:]

    draws = plain(jax.jit(jax.vmap(chain))(jax.random.split(jax.random.key(20), CHAINS)))
    finite(draws, "the draws")
    return here.problem, draws
