"""``armillary list``."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Sequence

from armillary.core import registry
from armillary.core.registry import Component


def show(kinds: Sequence[str], *, as_json: bool) -> None:
    """Print the components, of some kinds if any are named, and the plugins that did not load."""
    components = [c for kind in dict.fromkeys(kinds) or (None,) for c in registry.components(kind)]
    if as_json:
        _print_json(components)
    else:
        _print_tables(components)


def _print_json(components: Sequence[Component]) -> None:
    import json

    answer = {
        "components": [dataclasses.asdict(c) for c in components],
        "failures": [dataclasses.asdict(f) for f in registry.failures()],
    }
    print(json.dumps(answer, indent=2))


def _print_tables(components: Sequence[Component]) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    # A pipe has no width: wide enough there that a line stays a line.
    console = Console(width=None if sys.stdout.isatty() else 160)
    table = Table(box=box.SIMPLE, pad_edge=False)
    for heading in ("kind", "name", "summary", "from"):
        table.add_column(heading, overflow="fold")
    last = ""
    for c in components:
        cells = (c.kind if c.kind != last else "", c.name, c.summary, f"{c.distribution} {c.version}")
        table.add_row(*map(Text, cells))  # Text: what plugins wrote is not markup
        last = c.kind
    console.print(table)
    for failure in registry.failures():
        console.print(Text(f"did not load: {failure}", style="red"), soft_wrap=True)
