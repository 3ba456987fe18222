"""The Savage-Dickey density ratio: the Bayes factor of a nested model from one run of the larger one."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
from jaxtyping import ArrayLike, Float
from numpyro import handlers
from numpyro.distributions import biject_to
from numpyro.infer.inspect import get_dependencies
from scipy import stats

from armillary.core import Target

from . import _chains, _warnings
from ._architectures import default_architecture
from ._problem import Problem, of_draws
from ._samples import as_matrix, evaluate, rounding
from ._train import fit_flows

# Pieces of the chains that are drawn with replacement, and flows fitted to as many such draws of them.
_BLOCKS = 32
_REPLICATES = 10
_MAX_EPOCHS = 60
# So many draws, effectively, must lie farther out than the value for its density to be more than an extrapolation.
_MIN_BEYOND = 20
# The mean of the conditional's terms is believed from so many of equal weight. Its covariance is narrowed by this, so
# that it lies within that of the posterior, whose density it is divided by.
_MIN_TERMS = 100
_NARROWED = 0.8


@dataclass(frozen=True)
class SavageDickey:
    """The Bayes factor of a nested model over the one that contains it; made by `savage_dickey`.

    Args:
        log_bayes_factor: ln of the evidence of the nested model over that of the larger; positive for the nested one.
        log_bayes_factor_err: one standard error of it, in nats.
        log_posterior: the log-density of the posterior at the value, in the unconstrained space.
        log_prior: that of the prior.
        method: ``"conditional"`` or ``"flow"``, by which the posterior's density was had.
        warnings: what is wrong with it, each with what to do.
    """

    log_bayes_factor: float
    log_bayes_factor_err: float
    log_posterior: float
    log_prior: float
    method: str
    warnings: tuple[str, ...] = ()

    def __str__(self) -> str:
        text = f"ln B = {self.log_bayes_factor:.3f} ± {self.log_bayes_factor_err:.3f} for the nested model"
        return "\n".join([text, *(f"  ! {warning}" for warning in self.warnings)])


def savage_dickey(
    mcmc: Any, values: Mapping[str, Float[ArrayLike, "*shape"]], key: jax.Array | None = None
) -> SavageDickey:
    r"""The Bayes factor of the model in which some sites are held at given values, from a run in which they are free.

    .. math:: \ln B_{01} = \ln p(w = w_0 \mid d) - \ln p(w = w_0),

    for the marginal densities of w. The nested model is the larger one with the sites at their values, whatever the
    priors of the others that depend on them. With the other parameters θ and a conditional density q of w,

    .. math:: p(w_0 \mid d) = \mathrm E_{w, \theta \mid d}
              \left[q(w \mid \theta)\, \frac{p(w_0, \theta, d)}{p(w, \theta, d)}\right]

    whatever q, here the Gaussian of the draws, a little narrowed, of one half of each chain for the other half. Where
    the terms are too uneven for their mean to be known, as when θ would be elsewhere at :math:`w_0`, the density is
    that of a flow of w alone instead, with the scatter of flows fitted to draws with replacement from blocks of the
    chains as its error.

    Reference: Dickey J. M. 1971, Ann. Math. Stat. 42, 204 (doi:10.1214/aoms/1177693507); Chen M.-H. 1994,
    J. Am. Stat. Assoc. 89, 818 (doi:10.1080/01621459.1994.10476815).

    Args:
        mcmc: a `numpyro.infer.MCMC` that has run with the larger model.
        values: the value of each site in the nested model, of the site's shape and within its support.
        key: a random key, for training; `jax.random.key(0)` by default.

    Raises:
        ValueError: there is no run or no such site, a value is of another shape or outside the support, or the prior
            of a site depends on other parameters, so that its marginal density is not known.
    """
    model = getattr(mcmc.sampler, "model", None)
    if model is None or getattr(mcmc, "_states", None) is None:
        raise ValueError("mcmc: expected a run with a model; call mcmc.run(key, ...) first")
    if not values:
        raise ValueError('values={}: name at least one site of the model, such as {"w": -1.0}')
    samples = mcmc.get_samples(group_by_chain=True)
    # At a draw, for a wide prior may give values that the model does not allow.
    at_draw = handlers.substitute(model, data={name: values[0, 0] for name, values in samples.items()})
    trace = handlers.trace(handlers.seed(at_draw, jax.random.key(0))).get_trace(*mcmc._args, **mcmc._kwargs)
    latent = [name for name, site in trace.items() if site["type"] == "sample" and not site["is_observed"]]
    with numpyro.validation_enabled(False):  # it runs the model on values that no prior allows
        priors = get_dependencies(model, mcmc._args, mcmc._kwargs)["prior_dependencies"]
    columns, at, log_prior = [], {}, 0.0
    for name, value in values.items():
        if name not in latent:
            raise ValueError(f"values: {name!r} is no latent site of the model; its sites are {', '.join(latent)}")
        others = sorted(set(priors[name]) - {name})
        if others:
            raise ValueError(
                f"values: the prior of {name!r} depends on {', '.join(others)}, so its marginal density is not known; "
                "estimate the evidence of both models and compare them"
            )
        site = trace[name]
        w = jnp.asarray(value, jnp.result_type(float))
        if w.shape != jnp.shape(site["value"]):
            raise ValueError(f"values[{name!r}] has shape {w.shape}: the site has {jnp.shape(site['value'])}")
        if not bool(jnp.all(site["fn"].support(w))):
            raise ValueError(f"values[{name!r}]={value!r} is outside the support of its prior: {site['fn'].support}")
        bijection = biject_to(site["fn"].support)
        u = bijection.inv(w)
        log_jacobian = jnp.sum(bijection.log_abs_det_jacobian(u, w))
        log_prior += float(jnp.sum(site["fn"].log_prob(w)) + log_jacobian)
        drawn = np.asarray(bijection.inv(samples[name]), np.float64)
        columns.append(drawn.reshape(*drawn.shape[:2], -1))
        at[name] = np.asarray(u, np.float64)
    if not math.isfinite(log_prior):
        raise ValueError(f"values={dict(values)!r}: the prior is zero there, or on the edge of its support")
    x, point = np.concatenate(columns, -1), np.concatenate([u.ravel() for u in at.values()])
    warnings = _warnings.of_convergence(*_chains.convergence(x))
    target = Target.from_numpyro(model, *mcmc._args, **mcmc._kwargs)
    problem = of_draws(target, samples)
    warnings += _warnings.of_rounding(rounding(problem.log_density))
    found, method = _by_conditional(target, problem, at), "conditional"
    if found is None:
        warnings += _of_tail(x, point)
        found, method = _by_flows(jax.random.key(0) if key is None else key, x, point), "flow"
    log_posterior, error = found
    return SavageDickey(log_posterior - log_prior, error, log_posterior, log_prior, method, tuple(warnings))


def _by_conditional(target: Target, problem: Problem, at: Mapping[str, np.ndarray]) -> tuple[float, float] | None:
    """The log-density at a point and its error by Chen's mean, or None where its terms are too uneven."""
    assert problem.log_density_fn is not None
    x = problem.samples
    sites = target.structure.items()
    fixed = as_matrix({name: at.get(name, np.full(site.shape, np.nan))[None, None] for name, site in sites})[0, 0]
    free = np.isnan(fixed)
    half = x.shape[1] // 2
    if len(x) * half <= 2 * x.shape[2]:
        return None  # no covariance to be had
    log_q = np.concatenate(
        [_log_conditional(x[:, half:], x[:, :half], free), _log_conditional(x[:, :half], x[:, half:], free)], axis=1
    )
    terms = log_q + evaluate(problem.log_density_fn, np.where(free, x, fixed)) - problem.log_density
    terms = np.where(np.isnan(terms), -np.inf, terms)  # the model gives no number there
    top = terms.max()
    weights = np.exp(terms - top) if np.isfinite(top) else np.zeros_like(terms)
    even = (weights > 0).mean() > 0.5 and _chains.pareto_k(terms[weights > 0]) <= 0.7
    if not even or (independent := _chains.effective_draws(weights)) < _MIN_TERMS:
        return None
    # So many terms of equal weight would be as good.
    equal = weights.mean() ** 2 / weights.var() * independent if weights.var() > 0 else math.inf
    if equal < _MIN_TERMS:
        return None
    return float(top + np.log(weights.mean())), 1 / math.sqrt(equal)


def _log_conditional(
    draws: Float[np.ndarray, "chain m dim"], x: Float[np.ndarray, "chain n dim"], free: np.ndarray
) -> Float[np.ndarray, "chain n"]:
    """The Gaussian log-density of the parameters that are not free given those that are, fitted to draws, at x."""
    flat = draws.reshape(-1, draws.shape[2])
    covariance = np.atleast_2d(np.cov(flat, rowvar=False))
    gain = np.linalg.solve(covariance[np.ix_(free, free)], covariance[np.ix_(free, ~free)])
    width = covariance[np.ix_(~free, ~free)] - covariance[np.ix_(~free, free)] @ gain
    centred = x - flat.mean(0)
    residual = centred[..., ~free] - centred[..., free] @ gain
    return stats.multivariate_normal(cov=_NARROWED * width).logpdf(residual).reshape(x.shape[:2])


def _by_flows(key: jax.Array, x: Float[np.ndarray, "chain draw dim"], point: np.ndarray) -> tuple[float, float]:
    logs = _log_densities(key, x, point)
    top = logs.max()
    return float(top + np.log(np.exp(logs - top).mean())), float(logs.std(ddof=1))


def _log_densities(key: jax.Array, x: Float[np.ndarray, "chain draw dim"], point: np.ndarray) -> np.ndarray:
    """The log-density at a point by flows fitted to draws, with replacement, of blocks of the chains."""
    pieces = max(1, -(-_BLOCKS // len(x)))
    length = x.shape[1] // pieces
    if length == 0:
        raise ValueError(f"mcmc: {x.shape[1]} draws cannot be cut into {pieces} blocks; run longer chains")
    blocks = x[:, x.shape[1] - pieces * length :].reshape(-1, length, x.shape[2])
    random = np.random.default_rng(np.asarray(jax.random.bits(key, (4,), "uint32")))
    held = max(1, len(blocks) // 5)
    train, held_out = [], []
    for _ in range(_REPLICATES):
        # Each replicate's held-out blocks are none of those it is trained on.
        order = random.permutation(len(blocks))
        train.append(blocks[random.choice(order[held:], len(blocks) - held)].reshape(-1, x.shape[2]))
        held_out.append(blocks[order[:held]].reshape(-1, x.shape[2]))
    name, architecture = default_architecture(x.shape[2])
    fits = fit_flows(key, architecture, name, train, held_out, max_epochs=_MAX_EPOCHS)
    return np.array([fit.flow.log_prob(point[None])[0] for fit in fits])


def _of_tail(x: Float[np.ndarray, "chain draw dim"], point: np.ndarray) -> list[_warnings.EvidenceWarning]:
    flat = x.reshape(-1, x.shape[2])
    centre, covariance = flat.mean(0), np.atleast_2d(np.cov(flat, rowvar=False))

    # In the direction of the value alone: a long tail on the other side says nothing of this one.
    direction = np.linalg.solve(covariance, point - centre)
    beyond = (flat - point) @ direction > 0
    number = int(beyond.sum())
    if number >= _MIN_BEYOND:
        return []
    text = (
        f"only {number} of {flat.shape[0]} draws lie beyond the value, fewer than {_MIN_BEYOND}: its density "
        "is an extrapolation. Estimate the evidence of both models and compare them"
    )
    return [_warnings.EvidenceWarning("tail", text, hard=True)]
