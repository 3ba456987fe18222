"""Maps as pictures."""

from __future__ import annotations

import math
from typing import Any, Literal

import numpy as np
from jaxtyping import Array, Float

from ._grids import Grid, Healpix

#: Rows of a Mollweide picture of a HEALPix map (of other grids, half as many or more), and points across a disc.
_ROWS, _ACROSS = 360, 700
#: The names that matplotlib has for the axes of the projections.
_AXES = {"mollweide": "mollweide", "orthographic": "rectilinear"}


def plot_map(
    f: Float[Array | np.ndarray, "*shape"],
    grid: Grid,
    *,
    projection: Literal["mollweide", "orthographic"] = "mollweide",
    centre: tuple[float, float] = (0.0, 0.0),
    ax: Any = None,
    title: str | None = None,
    label: str | None = None,
    cmap: str = "viridis",
    vmin: float | None = None,
    vmax: float | None = None,
) -> Any:
    """Draw a real map of the sphere, north up and longitude growing to the right.

    Every point of the picture has the colour of the nearest point of the grid on the nearest ring, or, on HEALPix, of
    the pixel that it is in. NaN is left blank.

    Args:
        f: the map, real, of shape ``grid.shape``.
        grid: where it is sampled.
        projection: ``"mollweide"``, the whole sphere, areas in proportion, longitude 0 in the middle; or
            ``"orthographic"``, the half of it that is seen from far away.
        centre: longitude and latitude of the middle of an orthographic picture, in degrees.
        ax: matplotlib axes, of projection ``"mollweide"`` for that and of the ordinary kind for the other; new ones, in
            a new figure of pyplot's, by default.
        title: a title.
        label: what the colours show, with its unit; written at the colour bar.
        cmap: a colour map of matplotlib's.
        vmin: the value of the first colour; the least in the map by default.
        vmax: the value of the last colour; the greatest in the map by default.

    Returns:
        The axes; ``ax.figure.savefig(...)`` writes the picture.

    Raises:
        ImportError: matplotlib is not installed.
        ValueError: `f` is not a real map on `grid`, the projection is not one of the two, `centre` is given for
            another than the orthographic or is not a longitude and a latitude, or `ax` has another projection.
    """
    try:
        import matplotlib as mpl
    except ImportError as error:
        raise ImportError(
            "plot_map needs matplotlib, which is not installed: pip install 'armillary-core[plots]'"
        ) from error
    f = _checked_map(f, grid)
    centre = _checked_centre(centre, projection)
    if ax is None:
        from matplotlib import pyplot as plt

        size = (8, 4.5) if projection == "mollweide" else (6, 6.5)
        _, ax = plt.subplots(figsize=size, subplot_kw={"projection": _AXES[projection]})
    elif getattr(ax, "name", None) != _AXES[projection]:
        raise ValueError(f"ax={ax!r}: make it with fig.add_subplot(projection={_AXES[projection]!r})")

    finite = f[np.isfinite(f)]
    if finite.size:
        # Of the whole map, of which a picture may show a half.
        vmin, vmax = finite.min() if vmin is None else vmin, finite.max() if vmax is None else vmax
    colours: dict[str, Any] = {"cmap": mpl.colormaps[cmap], "vmin": vmin, "vmax": vmax}
    if projection == "mollweide":
        image = ax.pcolormesh(*_cells(f, grid), rasterized=True, shading="flat", **colours)
        ax.set_xticklabels([])
        ax.set_yticklabels([])
        ax.grid(color="0.5", alpha=0.4, linewidth=0.5)
    else:
        image = ax.imshow(_disc(f, grid, centre), extent=(-1, 1, -1, 1), origin="lower", **colours)
        _graticule(ax, centre)
    bar = ax.figure.colorbar(image, ax=ax, orientation="horizontal", fraction=0.05, pad=0.05, aspect=40)
    if label:
        bar.set_label(label)
    if title:
        ax.set_title(title)
    return ax


def _checked_map(f: Any, grid: Any) -> np.ndarray:
    if not isinstance(grid, Grid):
        raise ValueError(f"grid={grid!r}: a grid such as GaussLegendre(128) or Healpix(64) is needed")
    f = np.asarray(f)
    if f.shape != grid.shape:
        raise ValueError(f"f has shape {f.shape}: one map, of shape {grid.shape}, is drawn on {grid}")
    if f.dtype.kind not in "fiub":
        raise ValueError(f"f is {f.dtype}: a real map is drawn; pass f.real, f.imag or abs(f)")
    return f.astype(np.float64)


def _checked_centre(centre: Any, projection: str) -> tuple[float, float]:
    if projection not in _AXES:
        raise ValueError(f"projection={projection!r}: one of {', '.join(map(repr, _AXES))}")
    try:
        longitude, latitude = (float(x) for x in centre)
    except (TypeError, ValueError):
        longitude = latitude = math.nan
    if not (math.isfinite(longitude) and abs(latitude) <= 90):
        raise ValueError(f"centre={centre!r}: longitude and latitude in degrees, (lon, lat) with lat from -90 to 90")
    if projection == "mollweide" and (longitude, latitude) != (0, 0):
        raise ValueError(f"centre={centre!r}: a Mollweide map has longitude 0 in the middle; use 'orthographic'")
    return math.radians(longitude), math.radians(latitude)


def _cells(f: np.ndarray, grid: Grid) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Borders in longitude, ascending from -pi, borders in latitude, from the north, and the values between them."""
    if isinstance(grid, Healpix):
        edges = np.linspace(np.pi / 2, -np.pi / 2, _ROWS + 1)
        borders = np.linspace(-np.pi, np.pi, 2 * _ROWS + 1)
        theta, phi = np.pi / 2 - (edges[1:] + edges[:-1]) / 2, (borders[1:] + borders[:-1]) / 2
        return borders, edges, f[nearest(grid, theta[:, None], phi)]
    latitude = np.pi / 2 - grid.theta
    edges = np.concatenate([[np.pi / 2], (latitude[1:] + latitude[:-1]) / 2, [-np.pi / 2]])
    # Cells are drawn with straight sides: few tall ones would leave gaps at the edge of the picture.
    parts = -(-_ROWS // (2 * len(latitude)))
    rows = np.arange(len(latitude) * parts + 1) / parts
    edges, f = np.interp(rows, np.arange(len(edges)), edges), np.repeat(f, parts, axis=0)
    longitudes = f.shape[1]
    step = 2 * np.pi / longitudes
    if longitudes % 2:
        return np.linspace(-np.pi, np.pi, longitudes + 1), edges, np.roll(f, longitudes // 2, axis=1)
    # The cell at longitude pi is cut in two by the edge of the picture.
    borders = np.concatenate([[-np.pi], -np.pi + step * (np.arange(longitudes) + 0.5), [np.pi]])
    centred = np.roll(f, longitudes // 2, axis=1)
    return borders, edges, np.concatenate([centred, centred[:, :1]], axis=1)


def _disc(f: np.ndarray, grid: Grid, centre: tuple[float, float]) -> np.ndarray:
    """The visible hemisphere on a square from -1 to 1, from the south up, NaN outside the disc."""
    side = (np.arange(_ACROSS) + 0.5) * 2 / _ACROSS - 1
    x, y = np.meshgrid(side, side)
    inside = x**2 + y**2 <= 1
    x, y = x[inside], y[inside]
    towards = np.sqrt(1 - x**2 - y**2)
    longitude, latitude = centre
    north = y * math.cos(latitude) + towards * math.sin(latitude)
    out = towards * math.cos(latitude) - y * math.sin(latitude)
    picture = np.full(inside.shape, np.nan)
    picture[inside] = f.ravel()[nearest(grid, np.arctan2(np.hypot(out, x), north), longitude + np.arctan2(x, out))]
    return picture


def _graticule(ax: Any, centre: tuple[float, float]) -> None:
    """Parallels and meridians every 30 degrees, and the limb."""
    longitude, latitude = centre
    along = np.linspace(-np.pi, np.pi, 361)
    lines = [(along, np.full(361, np.radians(b))) for b in range(-60, 90, 30)]
    lines += [(np.full(361, np.radians(a)), along / 2) for a in range(-180, 180, 30)]
    for a, b in lines:
        turned = a - longitude
        x, y = np.cos(b) * np.sin(turned), np.sin(b) * math.cos(latitude)
        y = y - np.cos(b) * np.cos(turned) * math.sin(latitude)
        towards = np.sin(b) * math.sin(latitude) + np.cos(b) * np.cos(turned) * math.cos(latitude)
        ax.plot(np.where(towards >= 0, x, np.nan), y, color="0.5", alpha=0.4, linewidth=0.5)
    ax.plot(np.cos(along), np.sin(along), color="0", linewidth=0.8)
    ax.set_xlim(-1.02, 1.02)
    ax.set_ylim(-1.02, 1.02)
    ax.set_aspect("equal")
    ax.set_axis_off()


def nearest(grid: Grid, theta: np.ndarray, phi: np.ndarray) -> np.ndarray:
    """The index, in a flat map, of the pixel that a point is in or of the nearest point on the nearest ring.

    Args:
        grid: the grid.
        theta: colatitudes in radians, from 0 to pi.
        phi: longitudes in radians; broadcasts against `theta`.
    """
    if isinstance(grid, Healpix):
        return _healpix_pixel(grid.nside, theta, phi)
    ring = np.searchsorted((grid.theta[1:] + grid.theta[:-1]) / 2, theta)
    longitudes = grid.nphi[0]
    return ring * longitudes + np.round(np.asarray(phi) * (longitudes / (2 * np.pi))).astype(np.int64) % longitudes


def _healpix_pixel(nside: int, theta: np.ndarray, phi: np.ndarray) -> np.ndarray:
    """The pixel in RING order: Górski et al. 2005, ApJ 622, 759, section 5.2, doi:10.1086/427976."""
    theta, phi = np.broadcast_arrays(np.asarray(theta, np.float64), np.asarray(phi, np.float64))
    z = np.cos(theta)
    quarter = np.mod(phi * (2 / np.pi), 4.0)  # longitude in quarter turns
    quarter = np.where(quarter == 4, 0.0, quarter)

    # In the belt, pixels are bounded by lines that rise and fall by 1 / nside; by these are they counted.
    falling = np.floor(nside * (0.5 + quarter - 0.75 * z)).astype(np.int64)
    rising = np.floor(nside * (0.5 + quarter + 0.75 * z)).astype(np.int64)
    ring = nside + 1 + falling - rising  # from 1 at z = 2/3
    shift = 1 - ring % 2
    within = ((falling + rising - nside + shift + 1) // 2) % (4 * nside)
    belt = 2 * nside * (nside - 1) + (ring - 1) * 4 * nside + within

    # In the caps a ring has 4 times as many pixels as its number from the pole.
    part = quarter - np.floor(quarter)
    distance = nside * np.sin(theta) * np.sqrt(3 / (1 + abs(z)))
    left = np.minimum(np.floor(part * distance), nside - 1).astype(np.int64)
    right = np.minimum(np.floor((1 - part) * distance), nside - 1).astype(np.int64)
    ring = left + right + 1
    within = np.minimum(np.floor(quarter * ring).astype(np.int64), 4 * ring - 1)
    cap = np.where(z > 0, 2 * ring * (ring - 1), 12 * nside**2 - 2 * ring * (ring + 1)) + within
    return np.where(abs(z) <= 2 / 3, belt, cap)
