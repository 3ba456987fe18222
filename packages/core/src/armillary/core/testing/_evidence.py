"""The laws of an evidence estimator."""

from __future__ import annotations

import math
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, PyTree

from armillary.core._evidence import Evidence

from ._checks import Broken, Case, check, run
from ._numbers import Gaussian

CHAINS, DRAWS = 4, 1000
# An error above this many nats says nothing about a Gaussian in three dimensions.
LARGEST_ERROR = 0.5


@check(
    "evidence_estimator",
    "ln Z of a Gaussian comes out within five errors, with an error that says something",
    "the normaliser of the proposal or flow, the Jacobian, and the error estimate",
)
def check_evidence_gaussian(case: Case) -> None:
    """Three dimensions, of exact posterior draws."""
    problem, samples, log_density = _problem()
    found = _estimate(case, 0, samples, log_density)
    if not found.log_z_err <= LARGEST_ERROR:
        raise Broken(f"the error is {found.log_z_err:.3g} nats, expected at most {LARGEST_ERROR}")
    off = abs(found.log_z - problem.log_z)
    if not off <= 5 * found.log_z_err:
        raise Broken(
            f"ln Z is {found.log_z:.4f} +- {found.log_z_err:.4f}, the truth is {problem.log_z:.4f}: off by "
            f"{off / found.log_z_err:.1f} errors"
        )


@check(
    "evidence_estimator",
    "adding c to log_density adds c to ln Z",
    "exponentials that are not taken after subtracting the largest, and terms that are not in log_density",
)
def check_evidence_shift(case: Case) -> None:
    """Also for shifts beyond the range of exp."""
    _, samples, log_density = _problem()
    base = _estimate(case, 1, samples, log_density)
    for c in (-1000.0, 500.0):
        shifted = _estimate(case, 1, samples, lambda x, c=c: log_density(x) + c)
        # With the same key; rounding of c itself in the dtype of the density, and no more than the error.
        rounding = 10 * abs(c) * float(jnp.finfo(log_density(_first(samples)).dtype).eps)
        allowed = rounding + 0.1 * base.log_z_err
        if not abs(shifted.log_z - base.log_z - c) <= allowed:
            raise Broken(
                f"with c = {c:g} ln Z goes from {base.log_z:.4f} to {shifted.log_z:.4f}, expected {base.log_z + c:.4f} "
                f"within {allowed:.4f}"
            )


@check(
    "evidence_estimator",
    "the order of the chains does not matter beyond the error",
    "use of the first chains for one thing and of the last for another",
)
def check_evidence_permutation(case: Case) -> None:
    """The chains reversed."""
    _, samples, log_density = _problem()
    base = _estimate(case, 2, samples, log_density)
    other = _estimate(case, 2, jax.tree.map(lambda leaf: leaf[::-1], samples), log_density)
    error = math.hypot(base.log_z_err, other.log_z_err)
    if not abs(base.log_z - other.log_z) <= 5 * error:
        raise Broken(f"ln Z is {base.log_z:.4f}, with the chains reversed {other.log_z:.4f}; the error is {error:.4f}")


@check(
    "evidence_estimator",
    "a sample whose log-density is NaN raises ValueError, and never gives a number",
    "a check of the log-densities before anything else",
)
def check_evidence_nan(case: Case) -> None:
    """One NaN among the draws, and one among the log-densities."""
    _, samples, log_density = _problem()
    spoiled = jax.tree.map(lambda leaf: leaf.at[1, 5].set(jnp.nan), samples)
    mark = samples["x"][2, 7, 0]

    def partly(position: PyTree) -> Array:
        return jnp.where(position["x"][0] == mark, jnp.nan, log_density(position))

    for what, arguments in (("draw", (spoiled, log_density)), ("log-density", (samples, partly))):
        try:
            found = case.component(jax.random.key(3), *arguments)
        except ValueError:
            continue
        raise Broken(f"with one NaN {what} it gave ln Z = {found.log_z}")


def check_evidence_estimator(estimator: Any) -> None:
    """Run every check of an estimator: see `armillary.core.protocols.EvidenceEstimator` for the laws.

    Args:
        estimator: a constructed estimator, or a `Case` of one.

    Raises:
        ConformanceError: at the first violation, with the law, the numbers, and what to look at.
    """
    run("evidence_estimator", estimator)


def _problem() -> tuple[Gaussian, PyTree, Any]:
    problem = Gaussian({"x": jnp.zeros(2), "y": jnp.zeros(())})
    samples = problem.sample_posterior(jax.random.key(10), (CHAINS, DRAWS))
    return problem, samples, lambda x: problem.log_prior(x) + problem.log_likelihood(x)


def _first(samples: PyTree) -> PyTree:
    return jax.tree.map(lambda leaf: leaf[0, 0], samples)


def _estimate(case: Case, seed: int, samples: PyTree, log_density: Any) -> Evidence:
    found = case.component(jax.random.key(seed), samples, log_density)
    for name in ("log_z", "log_z_err", "diagnostics"):
        if not hasattr(found, name):
            raise Broken(f"it returned a {type(found).__name__} without {name}")
    if not math.isfinite(found.log_z) or not found.log_z_err > 0:
        raise Broken(f"ln Z is {found.log_z} +- {found.log_z_err}")
    return found
