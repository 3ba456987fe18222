"""Bridge and importance sampling: the evidence from draws of the posterior and of a normalised density beside it."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

_MAX_ITERATIONS = 1000
_TOLERANCE = 1e-12


@dataclass(frozen=True)
class BridgeStatistics:
    """What `bridge_statistics` finds.

    Args:
        log_z: ln Z.
        relative_variance: of Z, over its square.
        iterations: of the fixed point.
        overlap: the smaller of the effective fractions of the two sets of draws, between 0 and 1.
        posterior_terms: the terms of the posterior draws, in [0, 1], by which their correlation is judged.
    """

    log_z: float
    relative_variance: float
    iterations: int
    overlap: float
    posterior_terms: Float[np.ndarray, "chain draw"]


def bridge_statistics(
    log_ratio_posterior: Float[np.ndarray, "chain draw"],
    log_ratio_proposal: Float[np.ndarray, " draw"],
    effective_draws,
) -> BridgeStatistics:
    r"""The optimal bridge of Meng and Wong between the posterior p/Z and a normalised density φ.

    With :math:`r = p/\varphi`, :math:`N_1` draws of the posterior and :math:`N_2` of φ, the fixed point of

    .. math::
        \hat Z = \frac{N_2^{-1} \sum_\varphi r / (s_1 r + s_2 \hat Z)}{N_1^{-1} \sum_p 1 / (s_1 r + s_2 \hat Z)},
        \qquad s_1 = \frac{N_1}{N_1 + N_2} = 1 - s_2,

    with the effective numbers in :math:`s_1`. Its relative variance is the sum of those of the two means, that of the
    posterior draws taken over their effective number.

    Reference: Meng X.-L., Wong W. H. 1996, Stat. Sin. 6, 831; Frühwirth-Schnatter S. 2004, Econom. J. 7, 143
    (doi:10.1111/j.1368-423X.2004.00125.x).

    Args:
        log_ratio_posterior: ln r at draws of the posterior, of which φ has seen none.
        log_ratio_proposal: ln r at draws of φ; -inf where the posterior is zero.
        effective_draws: the function that gives the effective number of draws of the mean of (chain, draw) values.

    Raises:
        ValueError: the posterior is zero at every draw of φ.
    """
    if not np.isfinite(log_ratio_proposal).any():
        raise ValueError("the posterior is zero at every draw of the density: they do not overlap; give more draws")
    shift = float(np.median(log_ratio_posterior))
    post, proposal = log_ratio_posterior - shift, log_ratio_proposal - shift
    number = min(effective_draws(post), post.size)
    s1 = number / (number + proposal.size)
    log_s1, log_s2 = math.log(s1), math.log1p(-s1)
    log_z, change, iterations = 0.0, math.inf, 0
    while change >= _TOLERANCE and iterations < _MAX_ITERATIONS:
        numerator = _log_mean(proposal - np.logaddexp(log_s1 + proposal, log_s2 + log_z))
        denominator = _log_mean(-np.logaddexp(log_s1 + post, log_s2 + log_z))
        previous, log_z = log_z, numerator - denominator
        change, iterations = abs(log_z - previous), iterations + 1
    of_proposal = np.exp(proposal - np.logaddexp(log_s1 + proposal, log_s2 + log_z))
    of_posterior = np.exp(log_z - np.logaddexp(log_s1 + post, log_s2 + log_z))
    variance = _relative_variance(of_proposal) / proposal.size + _relative_variance(of_posterior) / min(
        effective_draws(of_posterior), post.size
    )
    return BridgeStatistics(
        log_z=log_z + shift,
        relative_variance=variance,
        iterations=iterations,
        overlap=min(1 / (1 + _relative_variance(terms)) for terms in (of_proposal, of_posterior)),
        posterior_terms=of_posterior,
    )


@dataclass(frozen=True)
class ImportanceStatistics:
    """Ln Z by importance sampling, its relative variance, and the number of draws of equal weight."""

    log_z: float
    relative_variance: float
    effective_draws: float


def importance_statistics(log_ratio_proposal: Float[np.ndarray, " draw"]) -> ImportanceStatistics:
    r"""Importance sampling with draws of a normalised density φ: Z is the mean of :math:`p/\varphi`.

    Args:
        log_ratio_proposal: ln p - ln φ at draws of φ; -inf where the posterior is zero.

    Raises:
        ValueError: the posterior is zero at every draw of φ.
    """
    if not np.isfinite(log_ratio_proposal).any():
        raise ValueError("the posterior is zero at every draw of the density: they do not overlap; give more draws")
    weights = np.exp(log_ratio_proposal - log_ratio_proposal.max())
    relative = _relative_variance(weights)
    return ImportanceStatistics(_log_mean(log_ratio_proposal), relative / weights.size, weights.size / (1 + relative))


def _log_mean(logs: np.ndarray) -> float:
    top = logs.max()
    return float(top) + math.log(np.exp(logs - top).mean())


def _relative_variance(values: np.ndarray) -> float:
    return float(values.var() / values.mean() ** 2)
