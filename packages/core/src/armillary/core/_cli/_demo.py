"""``armillary demo``."""

from __future__ import annotations

from pathlib import Path

from armillary.core import registry

from ._run import REPORT, save, set_precision


def run_demo(name: str, directory: Path) -> None:
    """Run a demonstration: print the comparison of its models, save each result, and write the report.

    Args:
        name: a component of kind ``demo``.
        directory: where to write ``NAME.zarr`` of every result, and ``report.html``.
    """
    component = registry.find("demo", name)
    set_precision("float64")
    from rich.console import Console

    from armillary.core import compare, write_report

    console = Console()
    directory.mkdir(parents=True, exist_ok=True)
    results = dict(component.load()(directory, console=console))
    for model, tree in results.items():
        save(tree, directory / f"{model}.zarr")
    comparison = None
    if all("evidence" in tree.children for tree in results.values()):
        comparison = compare(results)
        console.print(comparison)
    with console.status("Writing the report"):
        write_report(results, directory / REPORT, title=component.summary, comparison=comparison)
    console.print(f"Report: {directory / REPORT}", soft_wrap=True, highlight=False)
