"""Redshift distributions of galaxies in tomographic bins."""

from __future__ import annotations

import math

import numpy as np
from jaxtyping import Float


def smail(
    z: Float[np.ndarray, " n"], median: float = 0.9, alpha: float = 2.0, beta: float = 1.5
) -> Float[np.ndarray, " n"]:
    r"""The distribution of Smail et al. (1994, MNRAS 270, 245), :math:`n(z) \propto z^\alpha e^{-(z/z_0)^\beta}`.

    Args:
        z: redshifts.
        median: about the median redshift, with :math:`z_0` a factor of the square root of 2 below.
        alpha: the power at low redshift.
        beta: the power of the cut-off.
    """
    scaled = np.asarray(z) * math.sqrt(2) / median
    return scaled**alpha * np.exp(-(scaled**beta))


def equal_number_edges(
    z: Float[np.ndarray, " n"], n_z: Float[np.ndarray, " n"], num_bins: int, scatter: float = 0.05
) -> Float[np.ndarray, " edges"]:
    r"""Edges in photometric redshift of bins that hold as many galaxies each.

    Args:
        z: true redshifts, uniform and increasing.
        n_z: the distribution of all galaxies there.
        num_bins: how many bins.
        scatter: the scatter of photometric redshifts is this times 1 + z.

    Returns:
        ``num_bins + 1`` edges, of which the outer ones are the ends of ``z``.

    Raises:
        ValueError: ``num_bins`` is no positive whole number.
    """
    if isinstance(num_bins, bool) or not isinstance(num_bins, (int, np.integer)) or num_bins < 1:
        raise ValueError(f"num_bins={num_bins!r}: expected a positive whole number")
    z, n_z = _distribution(z, n_z)
    photometric = np.sum(n_z * _scattered(z[:, None], z, scatter), axis=1)
    cumulative = np.concatenate([[0.0], np.cumsum((photometric[1:] + photometric[:-1]) / 2)])
    inner = np.interp(np.arange(1, num_bins) / num_bins, cumulative / cumulative[-1], z)
    return np.concatenate([z[:1], inner, z[-1:]])


def redshift_bins(
    z: Float[np.ndarray, " n"],
    n_z: Float[np.ndarray, " n"],
    edges: Float[np.ndarray, " edges"],
    scatter: float = 0.05,
) -> Float[np.ndarray, "bins n"]:
    r"""The distributions over true redshift of the galaxies between edges in photometric redshift.

    .. math:: n_i(z) \propto n(z) \int_{e_i}^{e_{i+1}} dz_p\, \mathcal{N}(z_p; z, \sigma (1+z))

    >>> import numpy as np
    >>> from armillary_cosmology import redshift_bins, smail
    >>> z = np.linspace(0.015, 3.0, 200)
    >>> redshift_bins(z, smail(z), np.array([0.2, 0.8, 1.4])).shape
    (2, 200)

    Args:
        z: true redshifts, uniform and increasing.
        n_z: the distribution of all galaxies there.
        edges: photometric redshifts of the bins' ends, each the end of one bin and the start of the next.
        scatter: the scatter of photometric redshifts is this times 1 + z.

    Returns:
        A row for each bin, of unit integral.

    Raises:
        ValueError: the edges do not increase, a bin is empty, or the redshifts and the distribution do not fit.
    """
    z, n_z = _distribution(z, n_z)
    edges = np.asarray(edges, dtype=float)
    if edges.ndim != 1 or len(edges) < 2 or not np.all(np.isfinite(edges)):
        raise ValueError(f"edges={edges}: expected at least two finite redshifts, the ends of the bins in turn")
    wrong = np.flatnonzero(np.diff(edges) <= 0)
    if len(wrong):
        i = int(wrong[0])
        raise ValueError(
            f"edges={edges}: bin {i} goes from {edges[i]:g} to {edges[i + 1]:g} and would overlap bin "
            f"{i - 1 if i else i + 1} or be empty; expected edges that increase: sort them, each once"
        )
    if not (isinstance(scatter, (int, float)) and 0 < scatter < 1):
        raise ValueError(f"scatter={scatter!r}: expected a number between 0 and 1, both excluded")
    erf = np.vectorize(math.erf)
    below = erf((edges[:, None] - z) / (math.sqrt(2) * scatter * (1 + z)))
    return normalised(z, n_z * np.diff(below, axis=0) / 2, "edges")


def normalised(z: np.ndarray, bins: np.ndarray, name: str) -> np.ndarray:
    """The rows with unit integral, by the sum that the theory uses; an empty one is an error that names it."""
    bins = np.asarray(bins, dtype=float)
    if bins.ndim != 2 or bins.shape[1] != len(z):
        raise ValueError(f"{name} has shape {bins.shape}: expected (bins, {len(z)}), a row for each bin over z")
    for i, row in enumerate(bins):
        if not np.all(np.isfinite(row)) or np.any(row < 0):
            raise ValueError(f"{name}: bin {i} has galaxies of negative, infinite or NaN density: expected them >= 0")
        if not np.sum(row) > 1e-12 * max(1.0, float(np.max(bins))):
            raise ValueError(
                f"{name}: bin {i} is empty: no galaxies between z = {z[0]:g} and {z[-1]:g}; move its edges"
            )
    return bins / (np.sum(bins, axis=1, keepdims=True) * (z[1] - z[0]))


def uniform(z: np.ndarray) -> np.ndarray:
    """The grid of redshifts as float64, or an error."""
    z = np.asarray(z, dtype=float)
    if z.ndim != 1 or len(z) < 8 or not np.all(np.isfinite(z)) or not z[0] > 0:
        raise ValueError(f"z has shape {z.shape}: expected at least 8 positive finite redshifts")
    step = np.diff(z)
    if not np.allclose(step, step[0], rtol=1e-4, atol=0) or step[0] <= 0 or not np.isclose(z[0], step[0], rtol=1e-3):
        raise ValueError(
            f"z = {z[0]:g}, {z[1]:g} ... {z[-1]:g}: expected equal steps that start one step above 0, such as "
            "numpy.arange(1, 201) * 0.015"
        )
    return z


def _distribution(z: np.ndarray, n_z: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    z, n_z = uniform(z), np.asarray(n_z, dtype=float)
    if n_z.shape != z.shape or not np.all(np.isfinite(n_z)) or np.any(n_z < 0) or not np.any(n_z > 0):
        raise ValueError(f"n_z has shape {n_z.shape}: expected {z.shape}, non-negative finite numbers, not all zero")
    return z, n_z


def _scattered(photometric: np.ndarray, z: np.ndarray, scatter: float) -> np.ndarray:
    width = scatter * (1 + z)
    return np.exp(-0.5 * ((photometric - z) / width) ** 2) / width
