"""Comparison of models by their evidence."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ._evidence import Evidence

if TYPE_CHECKING:
    import pandas
    import rich.table


@dataclass(frozen=True)
class Row:
    """One model of a `Comparison`, by decreasing evidence.

    ``log_bayes_factor`` is ln Z of this model over that of the best, with its error, and ``probability`` that of the
    model given the data and the prior odds, among those compared.
    """

    name: str
    log_z: float
    log_z_err: float
    log_bayes_factor: float
    log_bayes_factor_err: float
    probability: float
    method: str
    warnings: tuple[str, ...]


@dataclass(frozen=True)
class Comparison:
    """Models in order of their evidence; shown by ``print`` and, in colour, by rich."""

    rows: tuple[Row, ...]

    @property
    def winner(self) -> str:
        """The model of the largest evidence."""
        return self.rows[0].name

    def to_dataframe(self) -> pandas.DataFrame:
        """A frame with a row for each model, by its name."""
        import pandas

        columns = ("log_z", "log_z_err", "log_bayes_factor", "log_bayes_factor_err", "probability", "method")
        data = [{column: getattr(row, column) for column in columns} for row in self.rows]
        return pandas.DataFrame(data, index=pandas.Index([row.name for row in self.rows], name="model"))

    def plot(self, ax: Any = None) -> Any:
        """The log-evidences with their errors, relative to the best.

        Args:
            ax: matplotlib axes; new ones by default.

        Returns:
            The axes.

        Raises:
            ImportError: matplotlib is not installed.
        """
        try:
            import matplotlib.pyplot as plt
        except ImportError as error:
            raise ImportError("plots need matplotlib: pip install 'armillary-core[plots]'") from error
        if ax is None:
            ax = plt.subplots(figsize=(6, 1 + 0.5 * len(self.rows)), layout="constrained")[1]
        best = self.rows[0].log_z
        heights = range(len(self.rows))
        ax.errorbar(
            [row.log_z - best for row in self.rows],
            heights,
            xerr=[row.log_z_err if math.isfinite(row.log_z_err) else 0.0 for row in self.rows],
            fmt="o",
            capsize=4,
        )
        ax.axvline(0.0, color="0.7", zorder=0)
        ax.set_yticks(list(heights), [row.name for row in self.rows])
        ax.invert_yaxis()
        ax.set_xlabel(r"$\ln Z - \ln Z_\mathrm{best}$")
        return ax

    def __rich__(self) -> rich.table.Table:
        from rich.markup import escape
        from rich.table import Table

        table = Table(title="Models by evidence", caption=escape(self._caption()))
        for heading in ("model", "ln Z", "ln Bayes factor", "probability", "by"):
            table.add_column(heading, justify="left" if heading in ("model", "by") else "right")
        for i, row in enumerate(self.rows):
            mark = "[bold green]" if i == 0 else "[yellow]" if row.warnings else ""
            cells = self._cells(row)
            table.add_row(*(f"{mark}{escape(cell)}" for cell in cells))
        return table

    def __str__(self) -> str:
        heading = ("model", "ln Z", "ln Bayes factor", "probability", "by")
        lines = [heading, *(self._cells(row) for row in self.rows)]
        widths = [max(len(line[i]) for line in lines) for i in range(len(heading))]
        text = "\n".join(
            "  ".join(cell.ljust(w) for cell, w in zip(line, widths, strict=True)).rstrip() for line in lines
        )
        return f"{text}\n{self._caption()}"

    def _cells(self, row: Row) -> tuple[str, ...]:
        best = row.name == self.winner
        factor = "0" if best else f"{row.log_bayes_factor:.2f} ± {row.log_bayes_factor_err:.2f}"
        flag = " (warnings)" if row.warnings else ""
        return (
            row.name,
            f"{row.log_z:.2f} ± {row.log_z_err:.2f}",
            factor,
            f"{row.probability:.3g}",
            row.method + flag,
        )

    def _caption(self) -> str:
        if len(self.rows) == 1:
            return f"{self.winner}: one model, nothing to compare it with"
        second = self.rows[1]
        gap, error = -second.log_bayes_factor, second.log_bayes_factor_err
        # Jeffreys' scale, in nats.
        strength = next(word for bound, word in _JEFFREYS if gap < bound)
        verdict = f"{self.winner} over {second.name}: ln B = {gap:.2f} ± {error:.2f}, {strength}"
        if not gap > 2 * error:
            verdict += "; within twice its error of none"
        noted = [f"{row.name}: {warning}" for row in self.rows for warning in row.warnings]
        return "\n".join([verdict, *noted])


_JEFFREYS = (
    (1.0, "not worth more than a mention"),
    (2.5, "weak evidence"),
    (5.0, "moderate evidence"),
    (math.inf, "strong evidence"),
)


def compare(models: Mapping[str, Any], prior_odds: Mapping[str, float] | None = None) -> Comparison:
    """Compare models by their evidence.

    >>> from armillary.core import Evidence, compare
    >>> print(compare({"line": Evidence(-10.0, 0.1, "lhm"), "parabola": Evidence(-7.0, 0.1, "lhm")}))
    model     ln Z           ln Bayes factor  probability  by
    parabola  -7.00 ± 0.10   0                0.953        lhm
    line      -10.00 ± 0.10  -3.00 ± 0.14     0.0474       lhm
    parabola over line: ln B = 3.00 ± 0.14, moderate evidence

    Args:
        models: for each name an `Evidence` (anything with ``log_z`` and ``log_z_err``), or a result of `infer` with
            the group ``evidence``.
        prior_odds: prior weights of the models, equal by default; they need not sum to 1.

    Returns:
        The models by decreasing evidence, with the Bayes factors to the best and the posterior probabilities; the
        strength of the evidence is worded by Jeffreys' scale (Trotta 2008, Contemp. Phys. 49, 71).

    Raises:
        ValueError: there is no model, one has no evidence or one that is not a number, or the prior odds are not
            positive or name other models.
    """
    if not models:
        raise ValueError("compare({}): give at least one model, {name: result}")
    found = {name: _evidence(name, model) for name, model in models.items()}
    odds = dict.fromkeys(models, 1.0) if prior_odds is None else dict(prior_odds)
    if set(odds) != set(models) or not all(value > 0 and math.isfinite(value) for value in odds.values()):
        raise ValueError(f"prior_odds={prior_odds!r}: expected a positive number for each of {', '.join(models)}")
    if all(evidence.log_z == -math.inf for evidence in found.values()):
        raise ValueError(f"ln Z of {', '.join(found)} is -inf: none of these models can have made the data")
    order = sorted(found, key=lambda name: -found[name].log_z)
    best = found[order[0]]
    weights = {name: odds[name] * math.exp(found[name].log_z - best.log_z) for name in order}
    total = sum(weights.values())
    rows = []
    for name in order:
        evidence = found[name]
        error = 0.0 if evidence is best else math.hypot(evidence.log_z_err, best.log_z_err)
        rows.append(
            Row(
                name,
                evidence.log_z,
                evidence.log_z_err,
                evidence.log_z - best.log_z,
                error,
                weights[name] / total,
                evidence.method,
                tuple(evidence.warnings),
            )
        )
    return Comparison(tuple(rows))


def _evidence(name: str, model: Any) -> Evidence:
    if hasattr(model, "log_z") and hasattr(model, "log_z_err"):
        method, warnings = getattr(model, "method", ""), tuple(getattr(model, "warnings", ()))
        evidence = Evidence(float(model.log_z), float(model.log_z_err), method, {}, warnings)
    elif "evidence" in getattr(model, "children", {}):
        group = model["evidence"]
        warnings = tuple(json.loads(group.attrs.get("warnings", "[]")))
        evidence = Evidence(
            float(group["log_z"]), float(group["log_z_err"]), group.attrs.get("method", ""), {}, warnings
        )
    else:
        raise ValueError(
            f'{name!r} has no evidence ({type(model).__name__}): run infer(..., evidence="lhm"), or give an Evidence'
        )
    if math.isnan(evidence.log_z) or math.isnan(evidence.log_z_err) or evidence.log_z == math.inf:
        raise ValueError(f"{name!r} has ln Z = {evidence.log_z} ± {evidence.log_z_err}: an estimate that failed")
    return evidence
