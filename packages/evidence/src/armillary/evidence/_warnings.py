"""What can be wrong with an estimate: named, in words, with what to do."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from ._harmonic import HarmonicMeanStatistics


class EvidenceWarning(str):
    """A warning of an estimate: its text, with a name, and whether the number is not to be used.

    Args:
        name: such as ``"pareto"``, for programs.
        text: what is wrong and what to do, for people.
        hard: the estimate contradicts itself or its samples: do not use it.
    """

    name: str
    hard: bool

    def __new__(cls, name: str, text: str, *, hard: bool = False) -> EvidenceWarning:
        made = super().__new__(cls, text)
        made.name, made.hard = name, hard
        return made


def of_convergence(r_hat: float, ess: float) -> list[EvidenceWarning]:
    """Of the samples themselves."""
    found = []
    if not r_hat <= 1.01:
        text = f"the chains have not converged: the largest R-hat is {r_hat:.3f}, above 1.01. Run them longer"
        found.append(EvidenceWarning("r_hat", text))
    if not ess >= 400:
        text = f"the smallest effective sample size is {ess:.0f}, below 400. Run the chains longer"
        found.append(EvidenceWarning("ess", text))
    return found


def of_few_chains(number: int, blocks: int, wanted: int) -> EvidenceWarning:
    """Of a run of fewer chains than cross-fitting needs."""
    return EvidenceWarning(
        "few_chains",
        f"only {number} chain{'s' if number > 1 else ''}: cut into {blocks} blocks each, which stand for chains; that "
        f"they have converged to one another is not known. Run {wanted} chains or more",
    )


def of_rounding(rounding: float) -> list[EvidenceWarning]:
    """Of a log-density in single precision."""
    if rounding <= 0.01:
        return []
    text = (
        f"the log-density is rounded to {rounding:.2g} nats in single precision. Compute it in double: put the line "
        "`numpyro.enable_x64()` first"
    )
    return [EvidenceWarning("rounding", text)]


def of_coverage(outside: float) -> list[EvidenceWarning]:
    """Of a density that does not reach all of the posterior draws."""
    if outside <= 0.02:
        return []
    text = (
        f"{100 * outside:.0f} % of the draws lie where the density fitted to the other chains is practically zero: a "
        "mode or a tail that those have not seen. Run more and longer chains, or fit another flow"
    )
    return [EvidenceWarning("coverage", text, hard=True)]


def of_harmonic_mean(statistics: HarmonicMeanStatistics, diagnostics: Mapping[str, Any]) -> list[EvidenceWarning]:
    """Of the learned harmonic mean."""
    found = []
    advice = "Do not trust the error: give more draws, or another temperature"
    if statistics.kurtosis > 10:
        text = f"the kurtosis of the chains' means is {statistics.kurtosis:.1f}, above 10. {advice}"
        found.append(EvidenceWarning("kurtosis", text))
    if statistics.variance_ratio > 2 * statistics.variance_ratio_reference:
        text = (
            f"the error of the variance over the variance is {statistics.variance_ratio:.2f}, more than twice the "
            f"{statistics.variance_ratio_reference:.2f} of Gaussian means. {advice}"
        )
        found.append(EvidenceWarning("variance_of_variance", text))
    if diagnostics["pareto_k"] > 0.7:
        text = (
            f"the largest ratios have a Pareto shape of {diagnostics['pareto_k']:.2f}, above 0.7: a few draws decide "
            "the result. Give more draws; in many dimensions with a temperature nearer to 1"
        )
        found.append(EvidenceWarning("pareto", text))
    if diagnostics["effective_ratios"] < 100:
        text = (
            f"the ratios count as {diagnostics['effective_ratios']:.0f} draws of equal weight, fewer than 100: the "
            "density fits the posterior badly. Give more draws to train on, or a temperature nearer to 1"
        )
        found.append(EvidenceWarning("effective_ratios", text))
    if statistics.n_eff < 10:
        text = (
            f"the error is from {statistics.n_eff:.0f} chains or blocks, and so uncertain by "
            f"{100 * math.sqrt(0.5 / (statistics.n_eff - 1)):.0f} %. Run more chains, or longer ones"
        )
        found.append(EvidenceWarning("few_blocks", text))
    return found


def of_bridge(diagnostics: Mapping[str, Any]) -> list[EvidenceWarning]:
    """Of bridge sampling."""
    found = []
    if not diagnostics["overlap"] >= 0.01:
        text = (
            f"density and posterior overlap by {100 * diagnostics['overlap']:.2g} % of the draws, less than 1: the "
            "density fits the posterior badly. Give more draws to train on, or another flow"
        )
        found.append(EvidenceWarning("overlap", text))
    if diagnostics["posterior_effective_draws"] < 100:
        text = (
            f"the terms of the posterior draws count as {diagnostics['posterior_effective_draws']:.0f} independent "
            "ones, fewer than 100. Run the chains longer"
        )
        found.append(EvidenceWarning("effective_terms", text))
    return found


def of_importance(diagnostics: Mapping[str, Any]) -> list[EvidenceWarning]:
    """Of importance sampling."""
    found = []
    if diagnostics["pareto_k"] > 0.7:
        text = (
            f"the largest weights have a Pareto shape of {diagnostics['pareto_k']:.2f}, above 0.7: a few draws decide "
            "the result. Take the bridge, or give more draws to train on"
        )
        found.append(EvidenceWarning("pareto", text))
    if diagnostics["effective_draws"] < 100:
        text = (
            f"the weights count as {diagnostics['effective_draws']:.0f} draws of equal weight, fewer than 100. Take "
            "the bridge, or give more draws to train on"
        )
        found.append(EvidenceWarning("effective_draws", text))
    return found


def of_undefined(number: int, total: int) -> list[EvidenceWarning]:
    """Of proposals at which the model gave no number."""
    if number == 0:
        return []
    text = (
        f"the log-density is NaN or +inf at {number} of {total} draws of the fitted density, and was taken for -inf "
        "there. Find the parameters at which the model gives this and remove the cause"
    )
    return [EvidenceWarning("undefined", text)]


def of_disagreement(harmonic: Any, bridge: Any) -> list[EvidenceWarning]:
    """Of two methods that should agree and do not."""
    gap, error = harmonic.log_z - bridge.log_z, math.hypot(harmonic.log_z_err, bridge.log_z_err)
    if abs(gap) <= 3 * error:
        return []
    text = (
        f"the harmonic mean gives {harmonic.log_z:.3f} and the bridge {bridge.log_z:.3f}, {abs(gap) / error:.1f} "
        "combined errors apart: one of them is wrong. Give more draws, the default temperature, or another flow"
    )
    return [EvidenceWarning("disagreement", text, hard=True)]
