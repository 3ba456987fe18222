"""R-hat, effective sample sizes and divergences, judged: what the report says first.

Vehtari A., Gelman A., Simpson D., Carpenter B., Bürkner P.-C. 2021, Bayesian Analysis 16, 667 (arXiv:1903.08008)
give both thresholds: R-hat below 1.01, and an effective sample size of more than 400 over all chains.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

import numpy as np
import pandas as pd
import xarray as xr

from ._scalars import Scalar, Selection

R_HAT_GOOD, R_HAT_FAIR = 1.01, 1.05
ESS_GOOD, ESS_FAIR = 400, 100
DIVERGING_FAIR = 0.01


class Status(Enum):
    """How a measure is judged: its CSS class, with the mark and word that say it without colour."""

    GOOD = ("good", "✓", "good")
    FAIR = ("fair", "!", "take care")
    BAD = ("bad", "✕", "not good")
    UNKNOWN = ("unknown", "?", "not known")


@dataclass(frozen=True)
class Measure:
    """One figure with its judgement, what is good, and what to do where it is not."""

    name: str
    value: str
    detail: str
    status: Status
    advice: str = ""


def table(selection: Selection) -> pd.DataFrame:
    """Mean, deviation, interval, and diagnostics of each scalar, as numbers; NaN where one is not defined."""
    import arviz_stats

    varying = {s.label: s for s in selection.scalars if not s.constant and np.all(np.isfinite(s.draws))}
    columns = ["mean", "sd", "low", "high", "ess_bulk", "ess_tail", "r_hat", "mcse_mean"]
    frame = pd.DataFrame(np.nan, index=[s.label for s in selection.scalars], columns=columns)
    for s in selection.scalars:
        if s.constant:
            frame.loc[s.label, ["mean", "sd", "low", "high"]] = [s.draws.flat[0], 0.0, *[s.draws.flat[0]] * 2]
    if not varying or next(iter(varying.values())).draws.shape[1] < 4:
        return frame
    data = xr.Dataset({label: (("chain", "draw"), s.draws) for label, s in varying.items()})
    chains = data.sizes["chain"]
    values = {
        "mean": data.mean(),
        "sd": data.std(ddof=1),
        "low": data.quantile(0.03),
        "high": data.quantile(0.97),
        "ess_bulk": arviz_stats.ess(data, method="bulk"),
        "ess_tail": arviz_stats.ess(data, method="tail"),
        "mcse_mean": arviz_stats.mcse(data, method="mean"),
    }
    if chains > 1:
        values["r_hat"] = arviz_stats.rhat(data)
    for column, result in values.items():
        frame.loc[list(varying), column] = [float(result[label]) for label in varying]
    return frame


def measures(tree: xr.DataTree, selection: Selection, frame: pd.DataFrame) -> list[Measure]:
    """The judged figures of one result."""
    if not selection.scalars:
        return []
    chains, draws = selection.scalars[0].draws.shape
    answer = [_r_hat(frame, chains, draws), *_ess(frame), *_divergences(tree)]
    broken = [s for s in selection.scalars if not np.all(np.isfinite(s.draws))]
    if broken:
        answer.append(_not_finite(broken))
    return answer


def judge_r_hat(value: float) -> Status:
    """The status of an R-hat; UNKNOWN of a NaN."""
    return _below(value, R_HAT_GOOD, R_HAT_FAIR)


def judge_ess(value: float) -> Status:
    """The status of an effective sample size; UNKNOWN of a NaN."""
    return _below(-value, -ESS_GOOD, -ESS_FAIR)


def verdict(found: list[Measure]) -> tuple[Status, str]:
    """The judgement of all of them together, in plain words."""
    if not found:
        return Status.UNKNOWN, "There are no posterior draws in this result: nothing to judge."
    worst = max(found, key=lambda m: _SEVERITY[m.status]).status
    advice = " ".join(dict.fromkeys(m.advice for m in found if m.advice))
    return worst, f"{_OPENING[worst]} {advice}".strip()


_SEVERITY = {Status.GOOD: 0, Status.UNKNOWN: 1, Status.FAIR: 2, Status.BAD: 3}
_OPENING = {
    Status.GOOD: "The draws look sound: the chains agree, and there are enough effective draws.",
    Status.FAIR: "Usable with care.",
    Status.BAD: "Do not rely on these draws yet.",
    Status.UNKNOWN: "Nothing speaks against these draws, but not everything could be judged.",
}


def _r_hat(frame: pd.DataFrame, chains: int, draws: int) -> Measure:
    name = "R-hat, largest"
    if chains < 2:
        advice = "R-hat is not defined for a single chain: run several (num_chains = 4) to see whether they agree."
        return Measure(name, "–", "one chain", Status.UNKNOWN, advice)
    worst = frame["r_hat"].idxmax() if frame["r_hat"].notna().any() else None
    if worst is None:
        return Measure(name, "–", f"{draws} draws a chain", Status.UNKNOWN, "R-hat could not be computed.")
    value = float(frame.loc[worst, "r_hat"])
    status = judge_r_hat(value)
    advice = "" if status is Status.GOOD else _ADVICE_R_HAT
    return Measure(name, f"{value:.3f}", f"{worst}; good below {R_HAT_GOOD}", status, advice)


def _ess(frame: pd.DataFrame) -> list[Measure]:
    answer = []
    for column, kind in (("ess_bulk", "bulk"), ("ess_tail", "tail")):
        if not frame[column].notna().any():
            answer.append(Measure(f"ESS {kind}, smallest", "–", "too few draws", Status.UNKNOWN))
            continue
        worst = frame[column].idxmin()
        value = float(frame.loc[worst, column])
        status = judge_ess(value)
        advice = "" if status is Status.GOOD else _ADVICE_ESS
        detail = f"{worst}; good above {ESS_GOOD}"
        answer.append(Measure(f"ESS {kind}, smallest", f"{value:,.0f}", detail, status, advice))
    return answer


def diverging(tree: xr.DataTree) -> np.ndarray | None:
    """Which draws diverged, of shape ``(chain, draw)``; None where the sampler does not say."""
    if "sample_stats" not in tree.children or "diverging" not in tree["sample_stats"].data_vars:
        return None
    return np.asarray(tree["sample_stats"]["diverging"]).astype(bool)


def _divergences(tree: xr.DataTree) -> list[Measure]:
    marks = diverging(tree)
    if marks is None:
        return []
    count, of = int(marks.sum()), marks.size
    if count == 0:
        return [Measure("Divergences", "0", f"of {of:,} draws; good at 0", Status.GOOD)]
    status = Status.FAIR if count < DIVERGING_FAIR * of else Status.BAD
    return [Measure("Divergences", f"{count:,}", f"of {of:,} draws; good at 0", status, _ADVICE_DIVERGENCES)]


def _not_finite(broken: list[Scalar]) -> Measure:
    advice = f"Some draws of {broken[0].label} are not finite: look for an overflow or a division by zero in the model."
    return Measure("Not finite", f"{len(broken):,}", broken[0].label, Status.BAD, advice)


def _below(value: float, good: float, fair: float) -> Status:
    if np.isnan(value):
        return Status.UNKNOWN
    if value < good:
        return Status.GOOD
    return Status.FAIR if value < fair else Status.BAD


_ADVICE_R_HAT = "The chains do not agree yet: run them longer (num_warmup, num_samples), or reparameterise the model."
_ADVICE_ESS = "There are few effective draws, so means and tails are uncertain: raise num_samples."
_ADVICE_DIVERGENCES = (
    "The sampler met curvature that it could not follow, which can bias the draws: raise its target acceptance rate, "
    "or reparameterise the model (a non-centred form often helps)."
)
