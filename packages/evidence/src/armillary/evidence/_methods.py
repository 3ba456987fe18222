"""Each method's estimate, with its diagnostics and warnings, from log-densities at draws."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Float

from . import _chains, _warnings
from ._bridge import bridge_statistics, importance_statistics
from ._harmonic import harmonic_mean_statistics
from ._result import EvidenceEstimate


def harmonic_mean(
    log_phi: Float[np.ndarray, "chain draw"],
    log_post: Float[np.ndarray, "chain draw"],
    temperatures: Sequence[tuple[float, str]],
) -> EvidenceEstimate:
    """The learned harmonic mean; the temperature of each fold comes with how it was chosen."""
    log_ratios = log_phi - log_post
    pieces = _chains.pieces_per_chain(log_ratios)
    statistics = harmonic_mean_statistics(_chains.split(log_phi, pieces), _chains.split(log_post, pieces))
    weights = np.exp(log_ratios - log_ratios.max())
    means = [float(piece.mean() / weights.mean()) for piece in _chains.split(weights, pieces)]
    diagnostics = {
        "temperature": [temperature for temperature, _ in temperatures],
        "temperature_by": [by for _, by in temperatures],
        "blocks_per_chain": pieces,
        "block_means": means,
        "n_eff": statistics.n_eff,
        "kurtosis": statistics.kurtosis,
        "variance_ratio": statistics.variance_ratio,
        "variance_ratio_reference": statistics.variance_ratio_reference,
        "effective_ratios": float(weights.sum() ** 2 / (weights**2).sum()),
        "pareto_k": _chains.pareto_k(log_ratios),
    }
    return EvidenceEstimate(
        log_z=statistics.log_z,
        log_z_err=statistics.log_z_err,
        method="lhm",
        diagnostics=diagnostics,
        warnings=tuple(_warnings.of_harmonic_mean(statistics, diagnostics)),
        log_z_interval=statistics.log_z_interval,
    )


def bridge(ratios: Sequence[np.ndarray], proposals: Sequence[np.ndarray]) -> EvidenceEstimate:
    """Bridge sampling, from ln p - ln φ at each fold's posterior draws and at the draws of its density."""
    parts = [bridge_statistics(r, p, _chains.effective_draws) for r, p in zip(ratios, proposals, strict=True)]
    diagnostics = {
        "iterations": [part.iterations for part in parts],
        "overlap": min(part.overlap for part in parts),
        "posterior_effective_draws": min(_chains.effective_draws(part.posterior_terms) for part in parts),
        "log_z_of_folds": [part.log_z for part in parts],
    }
    warnings = _warnings.of_bridge(diagnostics)
    return _of_folds("bridge", parts, [r.size for r in ratios], diagnostics, warnings)


def importance(proposals: Sequence[np.ndarray]) -> EvidenceEstimate:
    """Importance sampling, from ln p - ln φ at the draws of each fold's density."""
    parts = [importance_statistics(p) for p in proposals]
    diagnostics = {
        "effective_draws": min(part.effective_draws for part in parts),
        # The tail that matters is that of the weights, whatever the fold.
        "pareto_k": max(_chains.pareto_k(p[np.isfinite(p)]) for p in proposals),
        "log_z_of_folds": [part.log_z for part in parts],
    }
    return _of_folds("is", parts, [p.size for p in proposals], diagnostics, _warnings.of_importance(diagnostics))


def _of_folds(
    method: str, parts: Sequence[Any], sizes: Sequence[int], diagnostics: dict[str, Any], warnings: Sequence[str]
) -> EvidenceEstimate:
    """The mean of the folds' ln Z, whose draws are not shared."""
    weights = np.array(sizes) / sum(sizes)
    log_z = float(weights @ [part.log_z for part in parts])
    error = math.sqrt(weights**2 @ [part.relative_variance for part in parts])
    return EvidenceEstimate(
        log_z=log_z,
        log_z_err=error,
        method=method,
        diagnostics=diagnostics,
        warnings=tuple(warnings),
        log_z_interval=(log_z - error, log_z + error),
    )
