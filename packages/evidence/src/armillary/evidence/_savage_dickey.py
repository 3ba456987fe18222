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

from . import _chains, _warnings
from ._architectures import default_architecture
from ._train import fit_flows

# Pieces of the chains that are drawn with replacement, and flows fitted to as many such draws of them.
_BLOCKS = 32
_REPLICATES = 10
_MAX_EPOCHS = 60
# So many draws, effectively, must lie farther out than the value for its density to be more than an extrapolation.
_MIN_BEYOND = 20


@dataclass(frozen=True)
class SavageDickey:
    """The Bayes factor of a nested model over the one that contains it; made by `savage_dickey`.

    Args:
        log_bayes_factor: ln of the evidence of the nested model over that of the larger; positive for the nested one.
        log_bayes_factor_err: one standard error of it, in nats.
        log_posterior: the log-density of the posterior at the value, in the unconstrained space.
        log_prior: that of the prior.
        warnings: what is wrong with it, each with what to do.
    """

    log_bayes_factor: float
    log_bayes_factor_err: float
    log_posterior: float
    log_prior: float
    warnings: tuple[str, ...] = ()

    def __str__(self) -> str:
        text = f"ln B = {self.log_bayes_factor:.3f} ± {self.log_bayes_factor_err:.3f} for the nested model"
        return "\n".join([text, *(f"  ! {warning}" for warning in self.warnings)])


def savage_dickey(
    mcmc: Any, values: Mapping[str, Float[ArrayLike, "*shape"]], key: jax.Array | None = None
) -> SavageDickey:
    r"""The Bayes factor of the model in which some sites are held at given values, from a run in which they are free.

    .. math:: \ln B_{01} = \ln p(w = w_0 \mid d) - \ln p(w = w_0),

    with the posterior's marginal by a flow of these parameters alone. The nested model is the larger one with the sites
    at their values, whatever the priors of the others that depend on them. The error is the scatter of flows fitted to
    draws with replacement from blocks of the chains.

    Reference: Dickey J. M. 1971, Ann. Math. Stat. 42, 204 (doi:10.1214/aoms/1177693507).

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
    columns, at, log_prior = [], [], 0.0
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
        at.append(np.asarray(u, np.float64).ravel())
    if not math.isfinite(log_prior):
        raise ValueError(f"values={dict(values)!r}: the prior is zero there, or on the edge of its support")
    x, point = np.concatenate(columns, -1), np.concatenate(at)
    warnings = _warnings.of_convergence(*_chains.convergence(x))
    warnings += _of_tail(x, point)
    logs = _log_densities(jax.random.key(0) if key is None else key, x, point)
    top = logs.max()
    log_posterior = float(top + np.log(np.exp(logs - top).mean()))
    return SavageDickey(log_posterior - log_prior, float(logs.std(ddof=1)), log_posterior, log_prior, tuple(warnings))


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

    def distance(values: np.ndarray) -> np.ndarray:
        return np.einsum("...i,...i", values - centre, np.linalg.solve(covariance, (values - centre).T).T)

    beyond = (distance(flat) > distance(point[None])[0]).reshape(x.shape[:2])
    number = int(beyond.sum())
    if number >= _MIN_BEYOND:
        return []
    text = (
        f"only {number} of {flat.shape[0]} draws lie farther out than the value, fewer than {_MIN_BEYOND}: its density "
        "is an extrapolation. Estimate the evidence of both models and compare them"
    )
    return [_warnings.EvidenceWarning("tail", text, hard=True)]
