"""Posterior samples with their log-density: what an evidence is estimated from, however they were drawn."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import jax
import numpy as np
from jaxtyping import Array, ArrayLike, Float

from armillary.core import Target

from ._lhm import LearnedHarmonicMean, as_matrix, check_samples, evaluate
from ._result import EvidenceEstimate


@dataclass(frozen=True)
class Problem:
    """Samples of a posterior over unconstrained parameters. Made by `from_numpyro` or `from_arrays`.

    Args:
        samples: the draws, (chain, draw, dim).
        log_density: the unnormalised log posterior at each, Jacobian included.
        log_density_fn: the function of one position, shape (dim,), that gives it; None where it is not at hand.
    """

    samples: Float[np.ndarray, "chain draw dim"]
    log_density: Float[np.ndarray, "chain draw"]
    log_density_fn: Callable[[Float[Array, " dim"]], Float[Array, ""]] | None = None

    def estimate(
        self,
        key: jax.Array,
        *,
        flow: str = "auto",
        train_fraction: float = 0.5,
        temperature: float | None = None,
        max_epochs: int = 100,
        progress_bar: bool = False,
    ) -> EvidenceEstimate:
        """Estimate the evidence: see `LearnedHarmonicMean` for the settings and what can be wrong.

        Args:
            key: a random key.
            flow: ``"auto"`` or ``"gaussian"``.
            train_fraction: the fraction of the chains to which each flow is fitted.
            temperature: of the base of the flow, in (0, 1]; by default by the dimension.
            max_epochs: the longest training.
            progress_bar: whether to show one while training.
        """
        estimator = LearnedHarmonicMean(flow, train_fraction, temperature, max_epochs, progress_bar)
        found = estimator.from_arrays(key, self.samples, self.log_density)
        return replace(found, estimates={"lhm": found})


def from_numpyro(mcmc: Any) -> Problem:
    """The problem of a NumPyro run: its model, arguments and samples, all from the MCMC object.

    The samples are mapped to the unconstrained space and their log-density is computed anew there from the model, with
    the Jacobian; deterministic sites are left out.

    Args:
        mcmc: a `numpyro.infer.MCMC` that has run, with any kernel that has a ``model``.

    Raises:
        ValueError: it has not run, its kernel has no model, or the model cannot be lowered: see
            `armillary.core.Target.from_numpyro`.
    """
    model = getattr(mcmc.sampler, "model", None)
    if model is None:
        raise ValueError(
            f"mcmc: its kernel {type(mcmc.sampler).__name__} has no model (was it made with potential_fn?); give the "
            "samples and their log-density to armillary.evidence.from_arrays"
        )
    if getattr(mcmc, "_states", None) is None:
        raise ValueError("mcmc has no samples: call mcmc.run(key, ...) first")
    target = Target.from_numpyro(model, *mcmc._args, **mcmc._kwargs)
    sites = {name: values for name, values in mcmc.get_samples(group_by_chain=True).items() if name in target.structure}
    positions = jax.jit(jax.vmap(jax.vmap(target.unconstrain)))(sites)
    problem = Problem(
        as_matrix(positions),
        evaluate(target.log_density, positions),
        lambda vector: target.log_density(target.unravel(vector)),
    )
    check_samples(problem.samples, problem.log_density)
    return problem


def from_arrays(
    samples: Float[ArrayLike, "chain draw dim"] | Sequence[Float[ArrayLike, "draw dim"]],
    log_density: Float[ArrayLike, "chain draw"] | None,
    log_density_fn: Callable[[Float[Array, " dim"]], Float[Array, ""]] | None = None,
) -> Problem:
    """The problem of samples from elsewhere, such as emcee or BlackJAX.

    Args:
        samples: unconstrained draws, (chain, draw, dim); a sequence of chains must be of one length.
        log_density: the unnormalised log posterior at each, Jacobian included; None to compute it by the function.
        log_density_fn: the function of one position, shape (dim,), that gives it.

    Raises:
        ValueError: shapes that do not belong together, chains of unequal length, values that are not finite, or
            neither `log_density` nor `log_density_fn`.
    """
    lengths = [len(np.asarray(chain)) for chain in samples]
    if len(set(lengths)) > 1:
        raise ValueError(
            f"samples: the chains have unequal lengths, from {min(lengths)} to {max(lengths)} draws; cut them to one "
            "length, for instance [chain[-n:] for chain in samples] with n the shortest, and log_density alike"
        )
    if log_density is None and log_density_fn is None:
        raise ValueError("give log_density, the values at the samples, or log_density_fn, to compute them by")
    array = np.asarray(samples)
    if array.ndim != 3:
        raise ValueError(
            f"samples: expected an array (chain, draw, dim) and not one of shape {array.shape}; of one parameter it is "
            "samples[..., None], of one chain samples[None]"
        )
    values = evaluate(log_density_fn, array) if log_density is None else np.asarray(log_density)
    problem = Problem(array.astype(np.float64), values, log_density_fn)
    check_samples(problem.samples, problem.log_density)
    return problem
