"""Maps in the report of a run."""

from __future__ import annotations

import base64
import io
import re
from collections.abc import Iterator
from html import escape
from typing import TYPE_CHECKING, Any

import numpy as np

from armillary.core.hookspecs import ReportSection

from . import _grids
from ._grids import Grid
from ._plot import plot_map

if TYPE_CHECKING:
    import xarray as xr

_KINDS = ("GaussLegendre", "McEwenWiaux", "McEwenWiauxSS", "DriscollHealy", "ClenshawCurtis", "Healpix")
_GRID = re.compile(rf"({'|'.join(_KINDS)})\(([1-9][0-9]{{0,5}}(?:, ?[1-9][0-9]{{0,5}}){{0,2}})\)")


def map_sections(result: xr.DataTree) -> Iterator[ReportSection]:
    """A section with a map for every variable of the run that has the attribute ``armillary_grid``.

    The groups looked at are ``constant_data``, ``observed_data`` and ``posterior``; of a posterior variable, the mean
    over chains and draws is shown. The attribute is the text of a grid, such as ``"GaussLegendre(128)"``,
    ``"Healpix(64)"`` or ``"ClenshawCurtis(64, 181, 360)"``.

    Raises:
        ValueError: the attribute is not the text of a grid, or the variable is not a real map on it.
    """
    for group in ("constant_data", "observed_data", "posterior"):
        if group not in result.children:
            continue
        for name, variable in result[group].data_vars.items():
            if "armillary_grid" in variable.attrs:
                yield _section(group, str(name), variable)


def _section(group: str, name: str, variable: xr.DataArray) -> ReportSection:
    text = variable.attrs["armillary_grid"]
    try:
        grid = _grid(text)
    except (TypeError, ValueError) as error:
        raise ValueError(
            f'armillary_grid={text!r} of {group}/{name}: write it as "GaussLegendre(128)" or "Healpix(64)"'
        ) from error
    what = group.replace("_", " ")
    if group == "posterior":
        variable = variable.mean(("chain", "draw"))
        what = "posterior mean"
    f = np.asarray(variable)
    if f.shape != grid.shape or f.dtype.kind not in "fiu":
        raise ValueError(f"{group}/{name} is {f.dtype} of shape {f.shape}: a real map of shape {grid.shape} is needed")
    alt = f"Mollweide map of {name}, {what}, from {f.min():.4g} to {f.max():.4g}"
    image = f'<img src="data:image/png;base64,{_png(f, grid)}" alt="{escape(alt, quote=True)}" style="max-width:100%">'
    return ReportSection(f"Map: {name}", f"<figure>{image}<figcaption>{escape(what)}</figcaption></figure>", order=45)


def _grid(text: str) -> Grid:
    """The grid of which this is the text; it is not evaluated."""
    match = _GRID.fullmatch(text)
    if match is None:
        raise ValueError(text)
    grid: Grid = getattr(_grids, match[1])(*map(int, match[2].split(",")))
    return grid


def _png(f: np.ndarray, grid: Grid) -> str:
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError(
            "maps need matplotlib, which is not installed: pip install 'armillary-core[plots]'"
        ) from error
    # Not pyplot's: a report is written where there may be no display, and keeps no figure open.
    figure = Figure(figsize=(8, 4.5))
    ax: Any = figure.add_subplot(projection="mollweide")
    plot_map(f.astype(np.float32), grid, ax=ax)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=110)
    return base64.b64encode(buffer.getvalue()).decode("ascii")
