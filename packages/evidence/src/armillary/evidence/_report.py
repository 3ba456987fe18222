"""A section on the evidence in the report of a run."""

from __future__ import annotations

import json
from html import escape
from typing import Any

_WORDS = {
    "flow": "density of each fold",
    "temperature": "temperature of each fold",
    "overlap": "overlap of density and posterior",
    "outside": "draws outside the density",
    "pareto_k": "Pareto shape of the ratios",
    "effective_ratios": "effective number of ratios",
    "kurtosis": "kurtosis of the blocks' means",
    "max_r_hat": "largest R-hat",
    "min_ess": "smallest effective sample size",
}


def section(group: Any) -> str:
    """The body of the section, as HTML: what each method gave, by which figures, and what is wrong.

    Args:
        group: the group ``evidence`` of a result of `armillary.core.infer`.
    """
    diagnostics = json.loads(group.attrs.get("diagnostics", "{}"))
    methods = "".join(
        f"<tr><td>{escape(method)}</td><td>{log_z:.4f}</td><td>{error:.4f}</td></tr>"
        for method, (log_z, error) in diagnostics.get("estimates", {}).items()
    )
    figures = "".join(
        f"<tr><td>{escape(words)}</td><td>{escape(_text(diagnostics[name]))}</td></tr>"
        for name, words in _WORDS.items()
        if name in diagnostics
    )
    wrong = json.loads(group.attrs.get("warnings", "[]"))
    notes = json.loads(group.attrs.get("notes", "[]"))
    said = "".join(f"<li>{escape(text)}</li>" for text in (*wrong, *notes)) or "<li>nothing to remark</li>"
    return (
        f"<table><thead><tr><th>method</th><th>ln Z</th><th>error</th></tr></thead><tbody>{methods}</tbody></table>"
        f"<table><tbody>{figures}</tbody></table><ul>{said}</ul>"
    )


def _text(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(map(_text, value))
    return f"{value:.4g}" if isinstance(value, float) else str(value)
