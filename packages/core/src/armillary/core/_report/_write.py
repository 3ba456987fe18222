"""The report: which sections it has, and what stands in them."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

from armillary.core import registry
from armillary.core.hookspecs import ReportSection

from . import _diagnostics, _figures, _page
from ._scalars import Selection, select

if TYPE_CHECKING:
    import pandas as pd

    from armillary.core import Comparison

#: Rows of the summary table.
MAX_ROWS = 40


def write_report(
    results: xr.DataTree | Mapping[str, xr.DataTree],
    path: str | os.PathLike[str],
    *,
    title: str | None = None,
    comparison: Comparison | None = None,
) -> None:
    """Write one self-contained HTML file about a result, or about the results of several models.

    It opens with the diagnostics, judged by their thresholds: R-hat below 1.01, bulk and tail effective sample size
    above 400, no divergence (Vehtari et al. 2021, Bayesian Analysis 16, 667, arXiv:1903.08008). Then come the
    evidence, a summary of the posterior, traces, pairs, the sections of plugins, how to reproduce the run, and what
    to cite. Of a big posterior an even choice of scalars is shown, and the report says so.

    >>> import numpy as np, pathlib, tempfile, arviz_base
    >>> from armillary.core import write_report
    >>> draws = np.random.default_rng(0).normal(size=(4, 500))
    >>> result = arviz_base.from_dict({"posterior": {"x": draws}})
    >>> file = pathlib.Path(tempfile.mkdtemp()) / "report.html"
    >>> write_report(result, file, title="A normal")
    >>> "<h1>A normal</h1>" in file.read_text(encoding="utf-8")
    True

    Args:
        results: a tree such as `infer` gives, or several by the names of their models.
        path: the file to write.
        title: its heading; the name of the file's directory by default.
        comparison: of the models; made by `compare` where two or more results all have an evidence.

    Raises:
        ImportError: matplotlib is not installed.
        ValueError: there is no result.
    """
    _figures.require_matplotlib()
    path = Path(path)
    trees = {"": results} if isinstance(results, xr.DataTree) else dict(results)
    if not trees:
        raise ValueError("results={}: expected a DataTree, or a mapping with one at least")
    if comparison is None and len(trees) > 1 and all("evidence" in tree.children for tree in trees.values()):
        from armillary.core import compare

        comparison = compare(trees)
    sections = [
        *_posterior_sections(trees),
        *_evidence_section(trees, comparison),
        *_plugin_sections(trees),
        ReportSection("How to reproduce", _reproduce(trees, path), 80),
        *_citations(trees),
    ]
    sections.sort(key=lambda section: section.order)
    heading = title or path.resolve().parent.name
    path.write_text(_page.page(heading, _subtitle(trees), sections), encoding="utf-8")


def _posterior_sections(trees: Mapping[str, xr.DataTree]) -> list[ReportSection]:
    """Diagnostics, summary, traces and pairs: each with a part for every result."""
    parts: dict[str, list[str]] = {"Diagnostics": [], "Posterior": [], "Traces": [], "Pairs": []}
    for name, tree in trees.items():
        selection = select(tree)
        frame = _diagnostics.table(selection)
        bodies = {"Diagnostics": _judged(tree, selection, frame)}
        if selection.scalars:
            bodies["Posterior"] = _summary(selection, frame)
            bodies["Traces"] = _traces(selection)
            bodies["Pairs"] = _pairs(tree, selection)
        for part, body in bodies.items():
            if body:
                parts[part].append((f"<h3>{escape(name)}</h3>\n" if name else "") + body)
    orders = {"Diagnostics": 0, "Posterior": 20, "Traces": 30, "Pairs": 40}
    return [ReportSection(part, "\n".join(html), orders[part]) for part, html in parts.items() if html]


def _judged(tree: xr.DataTree, selection: Selection, frame: pd.DataFrame) -> str:
    found = _diagnostics.measures(tree, selection, frame)
    status, text = _diagnostics.verdict(found)
    tiles = "\n".join(
        f'<div class="tile {m.status.value[0]}"><span>{escape(m.name)}</span><b>{escape(m.value)}</b>'
        f"<span>{m.status.value[1]} {m.status.value[2]}</span><span>{escape(m.detail)}</span></div>"
        for m in found
    )
    html = f'<p class="verdict {status.value[0]}">{status.value[1]} {escape(text)}</p>'
    html += f'\n<div class="tiles">\n{tiles}\n</div>' if tiles else ""
    if selection.partial:
        html += _page.note(
            f"Judged by {len(selection.scalars):,} of {selection.total:,} scalar parameters, "
            "evenly spaced in each array."
        )
    return html


def _summary(selection: Selection, frame: pd.DataFrame) -> str:
    head = ["parameter", "mean", "sd", "3 %", "97 %", "ESS bulk", "ESS tail", "R-hat", "MC error"]
    rows = [
        [
            str(label),
            *(_number(row[c], row["sd"]) for c in ("mean", "sd", "low", "high")),
            *(_marked(_dash(row[c], ",.0f"), _diagnostics.judge_ess(row[c])) for c in ("ess_bulk", "ess_tail")),
            _marked(_dash(row["r_hat"], ".3f"), _diagnostics.judge_r_hat(row["r_hat"])),
            _number(row["mcse_mean"], row["mcse_mean"]),
        ]
        for label, row in frame.head(MAX_ROWS).iterrows()
    ]
    html = _page.table("Posterior summary", head, rows)
    if len(rows) < selection.total:
        html += _page.note(f"The first {len(rows):,} of {selection.total:,} scalar parameters.")
    return html


def _traces(selection: Selection) -> str:
    shown = [s for s in selection.scalars if np.all(np.isfinite(s.draws))][: _figures.MAX_PARAMETERS]
    html = '<div class="pairs">\n' + "\n".join(map(_figures.traces, shown)) + "\n</div>"
    left_out = selection.total - len(shown)
    if left_out:
        html += _page.note(f"The first {len(shown)} scalar parameters; {left_out:,} left out.")
    chains = selection.scalars[0].draws.shape[0]
    if chains > _figures.MAX_CHAINS:
        html += _page.note(f"The first {_figures.MAX_CHAINS} of {chains:,} chains.")
    return html


def _pairs(tree: xr.DataTree, selection: Selection) -> str:
    shown = [s for s in selection.scalars if not s.constant and np.all(np.isfinite(s.draws))]
    shown = shown[: _figures.MAX_PARAMETERS]
    if len(shown) < 2:
        return ""
    diverging = _diagnostics.diverging(tree)
    if diverging is not None and diverging.size != shown[0].draws.size:
        diverging = None
    image = _figures.pairs(shown, diverging)
    html = f'<div class="scroll" role="region" aria-label="Pairs of parameters" tabindex="0">{image}</div>'
    text = "Above the diagonal: correlations."
    if diverging is not None and diverging.any():
        text += " Crosses: draws that diverged."
    if selection.total > len(shown):
        text += f" The first {len(shown)} scalar parameters; {selection.total - len(shown):,} left out."
    return html + _page.note(text)


def _evidence_section(trees: Mapping[str, xr.DataTree], comparison: Comparison | None) -> list[ReportSection]:
    groups = {name: tree["evidence"] for name, tree in trees.items() if "evidence" in tree.children}
    if not groups and comparison is None:
        return []
    html = ""
    if comparison is not None:
        html += _compared(comparison)
    elif groups:
        rows = [
            [name or "this model", *_with_error(g["log_z"], g["log_z_err"]), str(g.attrs.get("method", ""))]
            for name, g in groups.items()
        ]
        html += _page.table("Evidence", ["model", "ln Z", "error", "by"], rows)
    for name, group in groups.items():
        warnings = _json(group.attrs.get("warnings"), [])
        if warnings:
            told = _page.bullets(f"{name}: {warning}" if name else warning for warning in warnings)
            html += f'\n<div class="verdict fair">{told}</div>'
        for text in _json(group.attrs.get("notes"), []):
            html += "\n" + _page.note(f"{name}: {text}" if name else text)
    for name, group in groups.items():
        diagnostics = _json(group.attrs.get("diagnostics"), {})
        if diagnostics:
            heading = f"Diagnostics of the estimate: {name}" if name else "Diagnostics of the estimate"
            figures = _page.table(heading, ["figure", "value"], _flat(diagnostics))
            html += f"\n<details>\n<summary>{escape(heading)}</summary>\n{figures}\n</details>"
    return [ReportSection("Evidence", html, 10)]


def _compared(comparison: Comparison) -> str:
    rows = [
        [
            row.name,
            *_with_error(row.log_z, row.log_z_err),
            "0" if i == 0 else "{} ± {}".format(*_with_error(row.log_bayes_factor, row.log_bayes_factor_err)),
            f"{row.probability:.3g}",
            row.method,
        ]
        for i, row in enumerate(comparison.rows)
    ]
    head = ["model", "ln Z", "error", "ln Bayes factor", "probability", "by"]
    caption = str(comparison).splitlines()[len(rows) + 1]
    return (
        f'<p class="verdict good">{escape(caption)}</p>\n'
        + _page.table("Models by evidence", head, rows, best=0)
        + _figures.compared(comparison)
    )


def _plugin_sections(trees: Mapping[str, xr.DataTree]) -> list[ReportSection]:
    """The sections of plugins for each result; one that is the same for several, as of their data, stands once."""
    names: dict[ReportSection, list[str]] = {}
    for name, tree in trees.items():
        for section in registry.report_sections(tree):
            names.setdefault(section, []).append(name)
    return [
        ReportSection(
            section.title if len(of) == len(trees) else f"{section.title}: {', '.join(of)}", section.html, section.order
        )
        for section, of in names.items()
    ]


def _reproduce(trees: Mapping[str, xr.DataTree], path: Path) -> str:
    parts = []
    if (path.parent / "config.yaml").is_file():
        parts.append("<p>From this directory:</p>\n" + _page.code("armillary run config.yaml --output again"))
    else:
        calls = [_call(name, tree) for name, tree in trees.items() if "sampler" in tree.attrs]
        if calls:
            parts.append(_page.code("\n\n".join(calls)))
    versions: dict[str, str] = {}
    for tree in trees.values():
        versions |= _json(tree.attrs.get("versions"), {})
    if versions:
        parts.append("<h3>Versions</h3>\n" + _page.table("Versions", ["package", "version"], versions.items()))
    return "\n".join(parts) or "<p>This result does not record how it was made.</p>"


def _call(name: str, tree: xr.DataTree) -> str:
    """The call of `infer` that made a result, as far as its attributes tell."""
    a = tree.attrs
    lines = [f"# {name}"] if name else []
    lines += ["infer(", f"    {str(a.get('model', 'model')).rpartition(':')[2]}, ..."]
    lines[-1] += f",  # {a['model']}" if "model" in a else ","
    lines.append(f"    sampler={a['sampler']!r},")
    if "sampler_settings" in a:
        lines[-1] += f"  # {a['sampler_settings']}"
    if "key" in a:
        lines.append(f'    key=jax.random.wrap_key_data(jax.numpy.array({a["key"]}, "uint32")),')
    lines += [f"    {k}={a[k]}," for k in ("num_warmup", "num_samples", "num_chains") if k in a]
    lines += [f"    chain_method={a['chain_method']!r},"] if "chain_method" in a else []
    return "\n".join([*lines, ")"])


def _citations(trees: Mapping[str, xr.DataTree]) -> list[ReportSection]:
    texts = dict.fromkeys(text for tree in trees.values() for text in _json(tree.attrs.get("citations"), []))
    return [ReportSection("Please cite", _page.bullets(texts), 90)] if texts else []


def _subtitle(trees: Mapping[str, xr.DataTree]) -> str:
    lines = []
    for name, tree in trees.items():
        a = tree.attrs
        words = []
        if {"num_chains", "num_samples"} <= set(a):
            words.append(f"{a['num_chains']} chains × {a['num_samples']} draws")
        words += [f"by {a['sampler']}"] if "sampler" in a else []
        words += [f"on {str(a['created_at'])[:10]}"] if "created_at" in a else []
        if words:
            lines.append((f"{name}: " if name else "") + " ".join(words))
    return "; ".join(lines)


def _json(text: Any, default: Any) -> Any:
    return json.loads(text) if isinstance(text, str) else default


def _flat(figures: Mapping[str, Any], prefix: str = "") -> list[list[str]]:
    """Nested diagnostics as rows; a long list is not for a table, so only its length is given."""
    rows = []
    for name, value in figures.items():
        if isinstance(value, Mapping):
            rows += _flat(value, f"{prefix}{name}.")
        elif isinstance(value, list) and len(value) > 6:
            rows.append([f"{prefix}{name}", f"{len(value):,} values"])
        elif isinstance(value, list):
            rows.append([f"{prefix}{name}", ", ".join(_plain(v) for v in value)])
        else:
            rows.append([f"{prefix}{name}", _plain(value)])
    return rows


def _plain(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _number(value: float, scale: float) -> str:
    """A number to three digits of the scale by which it is uncertain."""
    if not math.isfinite(value):
        return "–"
    if not math.isfinite(scale) or scale <= 0:
        return f"{value:.4g}"
    decimals = 2 - math.floor(math.log10(scale))
    if not -4 <= decimals <= 8 or abs(value) >= 1e7:
        return f"{value:.4g}"
    return f"{value:,.{max(0, decimals)}f}"


def _dash(value: float, form: str) -> str:
    return format(value, form) if math.isfinite(value) else "–"


def _marked(text: str, status: _diagnostics.Status) -> str | _page.Marked:
    """A cell in colour where it is not good, and plain where it is or is not known."""
    if status in (_diagnostics.Status.FAIR, _diagnostics.Status.BAD):
        return _page.Marked(text, status.value[0])
    return text


def _with_error(value: Any, error: Any) -> tuple[str, str]:
    value, error = float(value), float(error)
    return _number(value, error * 10 if error > 0 else 0.1), _number(error, error * 10 if error > 0 else 0.1)
