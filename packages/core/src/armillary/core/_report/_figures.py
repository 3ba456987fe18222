"""The figures of a report: matplotlib PNG images as ``data:`` addresses.

Each is drawn for the width of a telephone, with text of a size to be read there, and grows with the page.
"""

from __future__ import annotations

import base64
import io
from html import escape
from typing import TYPE_CHECKING, Any

import numpy as np

from ._scalars import Scalar

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from armillary.core import Comparison

# Okabe and Ito's colours, which the colour-blind can tell apart (jfly.uni-koeln.de/color).
COLOURS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#8C7A00", "#000000")
ALARM = "#C2185B"

MAX_PARAMETERS = 8
MAX_CHAINS = len(COLOURS)
MAX_POINTS = 1000

_STYLE: Any = {
    "font.size": 9,
    "axes.titlesize": 9,
    "axes.labelsize": 9,
    "xtick.labelsize": 8.5,
    "ytick.labelsize": 8.5,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": "#555555",
    "axes.formatter.useoffset": False,
    "axes.formatter.limits": (-4, 5),
    "text.parse_math": False,
    "svg.fonttype": "none",
}


def require_matplotlib() -> None:
    """Fail at once, and with the remedy, where matplotlib is not installed.

    Raises:
        ImportError: it is not.
    """
    try:
        import matplotlib.figure  # noqa: F401
    except ImportError as error:
        raise ImportError(
            "the report needs matplotlib: pip install 'armillary-core[plots]'", name="matplotlib"
        ) from error


def image(figure: Figure, alt: str, *, kind: str = "") -> str:
    """An ``<img>`` of a matplotlib figure, with the text that stands for it."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=180, facecolor="white")
    data = base64.b64encode(buffer.getvalue()).decode("ascii")
    width, height = (round(x * 100) for x in figure.get_size_inches())
    return (
        f'<img class="{escape(kind)}" src="data:image/png;base64,{data}" alt="{escape(alt)}" '
        f'width="{width}" height="{height}">'
    )


def traces(scalar: Scalar) -> str:
    """The density of every chain and the chains themselves: two images."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    draws = scalar.draws[:MAX_CHAINS]
    with mpl.rc_context(_STYLE):
        density = Figure(figsize=(3.6, 1.75), layout="constrained")
        axes = density.add_subplot()
        for chain, colour in zip(draws, COLOURS, strict=False):
            _density(axes, chain, colour)
        axes.set(title=scalar.label, yticks=[], ylim=(0, None))
        axes.locator_params(axis="x", nbins=5)  # more, and labels of four digits run into each other
        axes.spines["left"].set_visible(False)

        trace = Figure(figsize=(3.6, 1.75), layout="constrained")
        axes = trace.add_subplot()
        every = -(-draws.shape[1] // MAX_POINTS)
        x = np.arange(0, draws.shape[1], every)
        for chain, colour in zip(draws, COLOURS, strict=False):
            axes.plot(x, chain[::every], color=colour, linewidth=0.5, alpha=0.8)
        axes.set(title=f"{scalar.label} by draw", xlim=(0, max(1, draws.shape[1] - 1)))
        return (
            '<div class="pair">'
            + image(density, f"Posterior density of {scalar.label}, a curve for each chain")
            + image(trace, f"Trace of {scalar.label} against the draw, a line for each chain")
            + "</div>"
        )


def pairs(scalars: list[Scalar], diverging: np.ndarray | None) -> str:
    """Every scalar against every other, with divergent draws marked: one image."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    flat = np.stack([s.draws.ravel() for s in scalars])
    some = np.linspace(0, flat.shape[1] - 1, min(MAX_POINTS, flat.shape[1])).astype(int)
    bad = np.flatnonzero(diverging.ravel())[:MAX_POINTS] if diverging is not None else np.array([], int)
    n = len(scalars)
    side = 1.25 * n + 0.5
    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=(side, side), layout="constrained")
        grid = figure.subplots(n, n, squeeze=False, sharex="col")
        for row in range(n):
            for column in range(n):
                axes = grid[row, column]
                if column > row:
                    _correlation(axes, flat[column], flat[row])
                    continue
                if column == row:
                    axes.hist(flat[row], bins=30, color=COLOURS[0], histtype="stepfilled", alpha=0.7)
                    axes.set_yticks([])
                else:
                    axes.plot(flat[column, some], flat[row, some], ".", ms=3, alpha=0.5, color=COLOURS[0], mec="none")
                    axes.plot(flat[column, bad], flat[row, bad], "x", ms=4, color=ALARM)
                _edges(axes, scalars, row, column)
        figure.align_labels()
        names = ", ".join(s.label for s in scalars)
        return image(figure, f"Scatter plots of each pair of {names}, with correlations", kind="wide")


def compared(comparison: Comparison) -> str:
    """The plot that a comparison makes of itself."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    with mpl.rc_context(_STYLE | {"text.parse_math": True}):
        figure = Figure(figsize=(3.6, 1 + 0.35 * len(comparison.rows)), layout="constrained")
        axes = figure.add_subplot()
        axes.margins(y=0.5 / len(comparison.rows))
        comparison.plot(axes)
        names = ", ".join(row.name for row in comparison.rows)
        return image(figure, f"ln Z of {names}, relative to the best, with errors")


def _density(axes: Axes, chain: np.ndarray, colour: str) -> None:
    from arviz_stats.base import array_stats

    if np.all(chain == chain[0]):  # a chain that is stuck has no density
        axes.axvline(chain[0], color=colour)
        return
    with np.errstate(all="ignore"):  # its search for a bandwidth divides by zero where draws lie on a lattice
        grid, density, _ = array_stats.kde(chain)
    axes.plot(grid, density, color=colour, linewidth=1.2)


def _correlation(axes: Axes, x: np.ndarray, y: np.ndarray) -> None:
    r = np.corrcoef(x, y)[0, 1]
    axes.set_axis_off()
    axes.text(0.5, 0.5, f"{r:+.2f}", ha="center", va="center", transform=axes.transAxes, fontsize=9 + 5 * abs(r))


def _edges(axes: Axes, scalars: list[Scalar], row: int, column: int) -> None:
    """Labels on the outer edges only."""
    axes.locator_params(axis="x", nbins=3)
    if row == len(scalars) - 1:
        axes.set_xlabel(scalars[column].label)
    else:
        axes.tick_params(labelbottom=False)
    if column == 0:
        axes.set_ylabel(scalars[row].label)
        if row != column:
            axes.locator_params(axis="y", nbins=3)
    else:
        axes.tick_params(labelleft=False)
