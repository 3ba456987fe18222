"""Maps as pictures."""

from __future__ import annotations

from typing import Any

import numpy as np
from jaxtyping import Array, Float

from ._checks import check_array
from ._grids import GaussLegendre


def plot_map(
    f: Float[Array | np.ndarray, "rings longitudes"],
    grid: GaussLegendre,
    *,
    ax: Any = None,
    title: str | None = None,
    label: str | None = None,
    cmap: str = "viridis",
    vmin: float | None = None,
    vmax: float | None = None,
) -> Any:
    """Draw a real map of the whole sphere in the Mollweide projection, north up and longitude growing to the right.

    Args:
        f: the map, real, of shape ``grid.shape``; longitude 0 is at the centre.
        grid: where it is sampled.
        ax: matplotlib axes of projection ``"mollweide"``; new ones, in a new figure of pyplot's, by default.
        title: a title.
        label: what the colours show, with its unit; written at the colour bar.
        cmap: a colour map of matplotlib's.
        vmin: the value of the first colour; the least in the map by default.
        vmax: the value of the last colour; the greatest in the map by default.

    Returns:
        The axes; ``ax.figure.savefig(...)`` writes the picture.

    Raises:
        ImportError: matplotlib is not installed.
        ValueError: `f` is not a real map on `grid`, or `ax` has another projection.
    """
    try:
        import matplotlib as mpl
    except ImportError as error:
        raise ImportError(
            "plot_map needs matplotlib, which is not installed: pip install 'armillary-core[plots]'"
        ) from error
    f = np.asarray(check_array("f", f, grid.shape, "real", f"rings by longitudes of {grid}"))
    if f.ndim != 2:
        raise ValueError(f"f has shape {f.shape}: one map, of shape {grid.shape}, is drawn; index the others away")
    if ax is None:
        from matplotlib import pyplot as plt

        _, ax = plt.subplots(figsize=(8, 4.5), subplot_kw={"projection": "mollweide"})
    elif getattr(ax, "name", None) != "mollweide":
        raise ValueError(f"ax={ax!r}: make it with fig.add_subplot(projection='mollweide')")

    latitude = np.pi / 2 - grid.theta
    edges = np.concatenate([[np.pi / 2], (latitude[1:] + latitude[:-1]) / 2, [-np.pi / 2]])
    # The number of longitudes is odd, so that cells centred on them fill -pi to pi exactly.
    longitudes = grid.shape[1]
    centred = np.roll(f, longitudes // 2, axis=1)
    borders = np.linspace(-np.pi, np.pi, longitudes + 1)
    image = ax.pcolormesh(
        borders, edges, centred, cmap=mpl.colormaps[cmap], vmin=vmin, vmax=vmax, rasterized=True, shading="flat"
    )
    ax.set_xticklabels([])
    ax.set_yticklabels([])
    ax.grid(color="0.5", alpha=0.4, linewidth=0.5)
    bar = ax.figure.colorbar(image, ax=ax, orientation="horizontal", fraction=0.05, pad=0.05, aspect=40)
    if label:
        bar.set_label(label)
    if title:
        ax.set_title(title)
    return ax
