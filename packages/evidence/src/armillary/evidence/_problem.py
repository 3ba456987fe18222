"""Posterior samples with their log-density: what an evidence is estimated from, however they were drawn."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Float

from armillary.core import Target

from ._architectures import Architecture
from ._estimators import FlowEvidence
from ._result import EvidenceEstimate
from ._samples import as_matrix, check_samples, evaluate

if TYPE_CHECKING:
    import xarray


@dataclass(frozen=True)
class Problem:
    """Samples of a posterior over unconstrained parameters. Made by `from_numpyro`, `from_arviz` or `from_arrays`.

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
        methods: Sequence[str] = ("lhm", "bridge"),
        flow: str | Architecture = "auto",
        train_fraction: float = 0.5,
        temperature: float | None = None,
        max_epochs: int = 100,
        progress_bar: bool = False,
    ) -> EvidenceEstimate:
        """Estimate the evidence: see `FlowEvidence` for how, for the settings and for what can be wrong.

        Args:
            key: a random key.
            methods: some of ``"lhm"``, ``"bridge"`` and ``"is"``; without `log_density_fn` only the first can be had.
            flow: ``"auto"``, ``"gaussian"``, the name of a registered flow, or an `Architecture`.
            train_fraction: the fraction of the chains to which each flow is fitted.
            temperature: of the base of the flow in the harmonic mean, in (0, 1]; by default chosen on held-out draws.
            max_epochs: the longest training.
            progress_bar: whether to show one while training.

        Returns:
            The recommended estimate, those of all methods in its ``estimates``.
        """
        # Any, for a string goes on as it came, and FlowEvidence refuses it.
        chosen: Any = methods if isinstance(methods, str) else tuple(methods)
        estimator = FlowEvidence(chosen, flow, train_fraction, temperature, max_epochs, progress_bar)
        return estimator.from_arrays(key, self.samples, self.log_density, self.log_density_fn)


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
    return of_draws(target, mcmc.get_samples(group_by_chain=True))


def from_arviz(
    tree: xarray.DataTree,
    model: Callable[..., Any] | None = None,
    model_args: Sequence[Any] = (),
    log_density: Callable[[Mapping[str, Array]], Array] | None = None,
    *,
    model_kwargs: Mapping[str, Any] | None = None,
) -> Problem:
    """The problem of an ArviZ result: its group ``posterior``, and the model or the density that it is of.

    The log-density is computed anew; what a result may hold as ``lp`` is not looked at, for packages differ in its sign
    and in whether the Jacobian is in it.

    Args:
        tree: a result with the group ``posterior`` of dimensions (chain, draw, ...), such as `arviz.from_numpyro` and
            `armillary.core.infer` give.
        model: the NumPyro model; the group then holds its latent sites in their own supports, which are mapped to the
            unconstrained space. Other variables are left out.
        model_args: the model's arguments, data included.
        log_density: instead of a model, the unnormalised log posterior of one draw, a dictionary of all variables of
            the group, which are then taken as unconstrained parameters.
        model_kwargs: the model's keyword arguments.

    Raises:
        ValueError: there is no posterior, both or none of `model` and `log_density` are given, a latent site is missing
            or of another shape, or the model cannot be lowered.
    """
    if (model is None) == (log_density is None):
        raise ValueError("from_arviz takes model=, with model_args=, or log_density=, and one of them it needs")
    if "posterior" not in getattr(tree, "children", {}):
        raise ValueError(f"tree: expected an xarray.DataTree with the group posterior and not {type(tree).__name__}")
    posterior = tree["posterior"].to_dataset()
    drawn = {str(name): np.asarray(variable.transpose("chain", "draw", ...)) for name, variable in posterior.items()}
    if log_density is not None:
        target = Target(
            log_prior=lambda position: jnp.zeros(()),
            log_likelihood=log_density,
            position={name: values[0, 0] for name, values in drawn.items()},
        )
        return _of_positions(target, drawn)
    assert model is not None
    target = Target.from_numpyro(model, *model_args, **(model_kwargs or {}))
    wanted = jax.eval_shape(target.constrain, target.structure)
    for name in target.structure:
        if name not in drawn:
            raise ValueError(
                f"tree: its posterior has no variable {name!r}, a latent site of the model; it has {', '.join(drawn)}"
            )
        if drawn[name].shape[2:] != wanted[name].shape:
            raise ValueError(
                f"tree: the variable {name!r} has shape {drawn[name].shape[2:]} a draw, and the model's site "
                f"{wanted[name].shape}; are the model's arguments those of the run?"
            )
    return of_draws(target, drawn)


def from_arrays(
    samples: Float[Array | np.ndarray, "chain draw dim"] | Sequence[Float[ArrayLike, "draw dim"]],
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
    if log_density is None:
        assert log_density_fn is not None
        values = evaluate(log_density_fn, array)
    else:
        values = np.asarray(log_density)
    problem = Problem(array.astype(np.float64), values, log_density_fn)
    check_samples(problem.samples, problem.log_density)
    return problem


def of_draws(target: Target, drawn: Mapping[str, Any]) -> Problem:
    """The problem of draws in their supports, (chain, draw, ...), of which those of the latent sites are taken."""
    sites = {name: jnp.asarray(drawn[name]) for name in target.structure}
    return _of_positions(target, jax.jit(jax.vmap(jax.vmap(target.unconstrain)))(sites))


def _of_positions(target: Target, positions: Mapping[str, Any]) -> Problem:
    """The problem of unconstrained positions of a target, with leading axes (chain, draw)."""

    def log_density(vector: Float[Array, " dim"]) -> Float[Array, ""]:
        return target.log_density(target.unravel(vector))

    samples = as_matrix(positions)
    problem = Problem(samples, evaluate(log_density, samples), log_density)
    check_samples(problem.samples, problem.log_density)
    return problem
