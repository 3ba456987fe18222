"""Contours of the derived parameters that cosmic shear is about, as a section of the report."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterator, Mapping
from html import escape
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float

from armillary.core.hookspecs import ReportSection

if TYPE_CHECKING:
    import xarray as xr

PLANES = (("Omega_m", "S_8"), ("w0", "wa"))
_LABELS = {"Omega_m": r"$\Omega_\mathrm{m}$", "S_8": "$S_8$", "w0": "$w_0$", "wa": "$w_a$"}
_LEVELS = (0.683, 0.955)


def contour_levels(density: Float[np.ndarray, "n m"]) -> Float[np.ndarray, " levels"]:
    """The densities above which 95.5 % and 68.3 % of it lie, in this, increasing order.

    Args:
        density: on a grid of equal cells, non-negative.
    """
    values = np.sort(np.ravel(density))[::-1]
    mass = np.cumsum(values) / np.sum(values)
    return np.array([values[min(int(np.searchsorted(mass, level)), len(values) - 1)] for level in reversed(_LEVELS)])


def smoothed(
    x: Float[np.ndarray, " n"], y: Float[np.ndarray, " n"], bins: int = 120
) -> tuple[Float[np.ndarray, " bins"], Float[np.ndarray, " bins"], Float[np.ndarray, "bins bins"]]:
    """The density of draws on a grid, smoothed with a normal of their shape and of Silverman's width.

    Args:
        x: draws of one parameter.
        y: draws of the other.
        bins: cells of the grid in each direction.

    Returns:
        The middles of the cells in x and in y, and the density, with y along its first axis.
    """
    ranges = [(v.min() - 0.25 * np.ptp(v), v.max() + 0.25 * np.ptp(v)) for v in (x, y)]
    counts, *edges = np.histogram2d(x, y, bins=bins, range=ranges)
    # With the covariance of the draws, so that a narrow ridge stays as narrow.
    steps = np.array([edge[1] - edge[0] for edge in edges])
    cells = np.cov(x, y) * len(x) ** (-1 / 3) / np.outer(steps, steps)
    frequency = np.stack(np.meshgrid(np.fft.fftfreq(bins), np.fft.fftfreq(bins), indexing="ij"))
    factor = np.exp(-2 * np.pi**2 * np.einsum("inm,ij,jnm->nm", frequency, cells, frequency))
    density = np.fft.ifft2(np.fft.fft2(counts) * factor).real
    middles = [(edge[1:] + edge[:-1]) / 2 for edge in edges]
    return middles[0], middles[1], np.maximum(density, 0).T


def plot_contours(results: Mapping[str, xr.DataTree], plane: tuple[str, str], ax: Any = None) -> Any:
    """Contours of 68 % and 95 % of the posteriors of several models in a plane of two parameters.

    Args:
        results: of `armillary.core.infer`, by name; those without both parameters are left out.
        plane: the names of the two.
        ax: matplotlib axes; new ones by default.

    Returns:
        The axes.

    Raises:
        ValueError: no result has both parameters.
        ImportError: matplotlib is not installed.
    """
    import matplotlib.pyplot as plt

    shown = {name: tree for name, tree in results.items() if _has(tree, plane)}
    if not shown:
        raise ValueError(f"plane={plane}: none of {', '.join(results)} has draws of both")
    if ax is None:
        ax = plt.subplots(figsize=(4.5, 4), layout="constrained")[1]
    for name, tree in shown.items():
        # The same in every plane.
        color = f"C{list(results).index(name)}"
        x, y = (np.ravel(tree["posterior"].data_vars[parameter].values) for parameter in plane)
        at_x, at_y, density = smoothed(x, y)
        ax.contour(at_x, at_y, density, levels=contour_levels(density), colors=color, linestyles=["--", "-"])
        ax.plot([], [], color=color, label=name)
    ax.set_xlabel(_LABELS.get(plane[0], plane[0]))
    ax.set_ylabel(_LABELS.get(plane[1], plane[1]))
    if any(shown):
        ax.legend()
    return ax


def contour_sections(result: xr.DataTree) -> Iterator[ReportSection]:
    """A section with the contours of a result, where it has the parameters of a plane.

    Args:
        result: what a run has given.
    """
    planes = [plane for plane in PLANES if _has(result, plane)]
    if not planes:
        return
    figures = "\n".join(_figure(result, plane) for plane in planes)
    yield ReportSection("Cosmology", f"{figures}\n<p>Solid 68 %, dashed 95 % of the posterior.</p>", 25)


def _has(tree: xr.DataTree, plane: tuple[str, str]) -> bool:
    return "posterior" in tree.children and all(
        name in tree["posterior"].data_vars and tree["posterior"][name].ndim == 2 for name in plane
    )


def _figure(result: xr.DataTree, plane: tuple[str, str]) -> str:
    import matplotlib.pyplot as plt

    ax = plot_contours({"": result}, plane)
    picture = io.BytesIO()
    ax.figure.savefig(picture, format="png", dpi=110)
    plt.close(ax.figure)
    encoded = base64.b64encode(picture.getvalue()).decode()
    alt = escape(f"Contours of {plane[0]} and {plane[1]}")
    return f'<img alt="{alt}" src="data:image/png;base64,{encoded}">'
