"""The evidence as a section of a run's report."""

from __future__ import annotations

import json
from html import escape
from typing import Any


def section_html(group: Any) -> str:
    """A table of ln Z and the diagnostics, and the warnings.

    Args:
        group: the ``evidence`` group of a run's `xarray.DataTree`: scalars ``log_z`` and ``log_z_err``, and the
            attributes ``method``, ``diagnostics`` and ``warnings``, the last two as JSON.
    """
    rows = [
        ("ln Z", f"{float(group['log_z']):.4f}"),
        ("standard error", f"{float(group['log_z_err']):.4f}"),
        ("method", str(group.attrs.get("method", ""))),
    ]
    diagnostics = json.loads(group.attrs.get("diagnostics", "{}"))
    rows += [(name.replace("_", " "), _shown(value)) for name, value in diagnostics.items()]
    body = "".join(f"<tr><th>{escape(name)}</th><td>{escape(value)}</td></tr>" for name, value in rows)
    warnings = json.loads(group.attrs.get("warnings", "[]"))
    listed = "".join(f"<li class='warn'>{escape(str(warning))}</li>" for warning in warnings)
    return f"<table>{body}</table>" + (f"<ul>{listed}</ul>" if listed else "")


def _shown(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(map(_shown, value))
    return f"{value:.4g}" if isinstance(value, float) else str(value)
