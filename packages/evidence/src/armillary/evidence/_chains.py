"""Chains: the folds that they are split into, the blocks that they are cut into, and their convergence."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

# Between-chain variances are taken over about this many pieces: chains, or blocks of chains where there are fewer. The
# relative error of a variance from n pieces is sqrt(2 / (n - 1)), here a quarter.
_PIECES = 32
# A block holds this many effective draws at least, so that neighbouring ones are nearly independent.
_EFFECTIVE_DRAWS = 20
_HELD_OUT = 0.2


@dataclass(frozen=True)
class Fold:
    """One turn of cross-fitting: draws to train on, draws to judge by, and the chains for which it is used."""

    train: Float[np.ndarray, "n dim"]
    held_out: Float[np.ndarray, "m dim"]
    held_out_log_density: Float[np.ndarray, " m"]
    estimate: np.ndarray


def folds(
    samples: Float[np.ndarray, "chain draw dim"], log_density: Float[np.ndarray, "chain draw"], train_fraction: float
) -> list[Fold]:
    """Split the chains so that each is estimated by a flow that has not seen it, and all are.

    Of the training chains one in five, at least one, is held out to stop the training; where there are fewer than
    four, the last fifth of each.
    """
    num_chains, num_draws, dim = samples.shape
    number = min(round(1 / (1 - train_fraction)), num_chains)
    chains = np.arange(num_chains)
    result = []
    for fold in range(number):
        estimate = chains % number == fold
        training = chains[~estimate]
        if len(training) >= 4:
            held = max(1, round(_HELD_OUT * len(training)))
            kept, judges = (training[:-held], slice(None)), (training[-held:], slice(None))
        else:
            held = max(1, round(_HELD_OUT * num_draws))
            kept, judges = (training, slice(-held)), (training, slice(-held, None))
        train, held_out = samples[kept].reshape(-1, dim), samples[judges].reshape(-1, dim)
        result.append(Fold(train, held_out, log_density[judges].ravel(), chains[estimate]))
    return result


def split(values: np.ndarray, pieces: int) -> list[np.ndarray]:
    """Cut every chain of (chain, draw) values into contiguous pieces, of lengths that differ by one at most."""
    return [piece for chain in values for piece in np.array_split(chain, pieces)]


def pieces_per_chain(log_ratios: Float[np.ndarray, "chain draw"]) -> int:
    """How many blocks to cut each chain into: enough for a variance, each long against the autocorrelation."""
    num_chains = len(log_ratios)
    wanted = -(-_PIECES // num_chains)
    # The relative ratio is what is averaged, so its autocorrelation counts.
    effective = effective_draws(np.exp(log_ratios - log_ratios.max())) / num_chains
    return max(1, min(wanted, int(effective / _EFFECTIVE_DRAWS)))


def convergence(samples: Float[np.ndarray, "chain draw dim"]) -> tuple[float, float]:
    """The largest rank-normalised R-hat and the smallest bulk effective sample size of the parameters."""
    from arviz_stats.base import array_stats

    axes = {"chain_axis": 0, "draw_axis": 1}
    if len(samples) == 1:  # the two halves of the only chain, which is all that there is to compare
        samples = samples[0, : samples.shape[1] // 2 * 2].reshape(2, -1, samples.shape[2])
    r_hat, ess = array_stats.rhat(samples, **axes), array_stats.ess(samples, **axes)
    return float(np.max(r_hat)), float(np.min(ess))


def pareto_k(log_weights: np.ndarray) -> float:
    """The shape of the generalised Pareto distribution fitted to the largest weights."""
    from arviz_stats.base import array_stats

    # ArviZ takes log-likelihoods, whose weights are their inverses.
    return float(array_stats.psislw(-log_weights.ravel())[1])


def effective_draws(values: Float[np.ndarray, "chain draw"]) -> float:
    """The number of independent draws whose mean is as uncertain as that of these."""
    from arviz_stats.base import array_stats

    return float(array_stats.ess(values, chain_axis=0, draw_axis=1, method="mean"))
