"""Pictures: the fitted density over the samples, and the methods beside each other."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from scipy.ndimage import gaussian_filter

from ._problem import Problem
from ._result import EvidenceEstimate

_MOST = 6


def plot_flow(
    problem: Problem, estimate: EvidenceEstimate, parameters: Sequence[int] | None = None, labels: Sequence[str] = ()
) -> Any:
    """The samples and draws of the fitted density, in pairs of unconstrained parameters.

    Args:
        problem: what the estimate is of.
        estimate: what its `Problem.estimate` gave.
        parameters: which coordinates to show; the first six by default.
        labels: their names; x0, x1 and so on by default.

    Returns:
        The matplotlib figure.

    Raises:
        ValueError: the two do not belong together, or a coordinate does not exist.
        ImportError: matplotlib is not installed.
    """
    dim = problem.samples.shape[2]
    if not estimate.flows or len(estimate.flows[0].whitener.loc) != dim:
        raise ValueError(f"estimate: its flows are not of the problem's {dim} parameters; give problem.estimate(key)")
    shown = list(range(min(dim, _MOST)) if parameters is None else parameters)
    if not shown or any(not 0 <= i < dim for i in shown):
        raise ValueError(f"parameters={parameters!r}: expected indices from 0 to {dim - 1}")
    if labels and len(labels) != len(shown):
        raise ValueError(f"labels: {len(labels)} for {len(shown)} parameters")
    names = list(labels) or [f"x{i}" for i in shown]
    plt = _pyplot()
    samples = problem.samples.reshape(-1, dim)
    number = len(samples)
    keys = jax.random.split(jax.random.key(0), len(estimate.flows))
    share = -(-number // len(keys))
    drawn = np.concatenate([flow.sample(key, share) for key, flow in zip(keys, estimate.flows, strict=True)])[:number]
    size = len(shown)
    figure, axes = plt.subplots(
        size, size, figsize=(1.2 + 1.8 * size, 1.2 + 1.8 * size), squeeze=False, sharex="col", layout="constrained"
    )
    both = ((samples, "C0", "samples"), (drawn, "C1", "density"))
    for row, i in enumerate(shown):
        for column, j in enumerate(shown):
            ax = axes[row, column]
            if column > row:
                ax.axis("off")
                continue
            low, high = (np.quantile(samples[:, j], q) for q in (0.0005, 0.9995))
            margin = 0.1 * (high - low)
            if i == j:
                bins = np.linspace(low - margin, high + margin, 50)
                for values, colour, label in both:
                    ax.hist(values[:, j], bins, density=True, histtype="step", color=colour, label=label)
                ax.set_yticks([])
            else:
                y = [np.quantile(samples[:, i], q) for q in (0.0005, 0.9995)]
                for values, colour, _ in both:
                    _contours(ax, values[:, j], values[:, i], (low - margin, high + margin), y, colour)
            if row == size - 1:
                ax.set_xlabel(names[column])
            if column == 0 and row > 0:
                ax.set_ylabel(names[row])
    handles, texts = axes[0, 0].get_legend_handles_labels()
    figure.legend(handles, texts, loc="upper right")
    return figure


def plot_diagnostics(estimate: EvidenceEstimate) -> Any:
    """Ln Z by each method, and the means of the harmonic mean's blocks, whose scatter is its error.

    Args:
        estimate: what `Problem.estimate` gave.

    Returns:
        The matplotlib figure.

    Raises:
        ValueError: the estimate is of a single method.
        ImportError: matplotlib is not installed.
    """
    if not estimate.estimates:
        raise ValueError("estimate: expected the result of Problem.estimate, with its estimates by method")
    plt = _pyplot()
    means = [e.diagnostics["block_means"] for e in estimate.estimates.values() if "block_means" in e.diagnostics]
    figure, axes = plt.subplots(
        1, 1 + len(means), figsize=(5 + 4 * len(means), 3.2), squeeze=False, layout="constrained"
    )
    ax, methods = axes[0, 0], list(estimate.estimates)
    values = [estimate.estimates[method] for method in methods]
    ax.errorbar([e.log_z for e in values], range(len(methods)), xerr=[e.log_z_err for e in values], fmt="o", capsize=4)
    ax.set_yticks(range(len(methods)), methods)
    ax.set_ylim(len(methods) - 0.5, -0.5)
    ax.set_xlabel("ln Z")
    ax.ticklabel_format(axis="x", useOffset=False)
    ax.locator_params(axis="x", nbins=4)
    for ax, block in zip(axes[0, 1:], means, strict=True):
        ax.plot(block, ".")
        ax.axhline(1.0, color="0.7", zorder=0)
        ax.set_xlabel("chain or block")
        ax.set_ylabel("mean ratio over their mean")
    return figure


def _contours(ax: Any, x: np.ndarray, y: np.ndarray, x_range: Any, y_range: Any, colour: str) -> None:
    """The smallest regions of 68 % and 95 % of the draws."""
    margin = 0.1 * (y_range[1] - y_range[0])
    bounds = [list(x_range), [y_range[0] - margin, y_range[1] + margin]]
    counts, xs, ys = np.histogram2d(x, y, bins=30, range=bounds)
    counts = gaussian_filter(counts, 1.0)
    ordered = np.sort(counts.ravel())[::-1]
    reached = np.cumsum(ordered) / ordered.sum()
    levels = sorted({float(ordered[np.searchsorted(reached, fraction)]) for fraction in (0.68, 0.95)} - {0.0})
    if levels and levels[-1] < counts.max():
        ax.contour((xs[1:] + xs[:-1]) / 2, (ys[1:] + ys[:-1]) / 2, counts.T, levels=levels, colors=colour)


def _pyplot() -> Any:
    try:
        import matplotlib.pyplot as plt
    except ImportError as error:
        raise ImportError("plots need matplotlib: pip install 'armillary-core[plots]'") from error
    return plt
