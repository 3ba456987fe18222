"""Bridge and importance sampling against closed forms, and their errors against their scatter."""

import math

import numpy as np
import pytest
from scipy import optimize, stats

from armillary.evidence._bridge import bridge_statistics, importance_statistics
from armillary.evidence._chains import effective_draws


def pair(seed, *, scale=1.3, shift=0.4, chains=4, draws=500, log_z=2.0):
    """The log-ratios of a normal posterior, times Z, to a wider normal density off its centre."""
    rng = np.random.default_rng(seed)
    posterior, density = stats.norm(), stats.norm(shift, scale)

    def log_ratio(x):
        return posterior.logpdf(x) + log_z - density.logpdf(x)

    return log_ratio(rng.normal(size=(chains, draws))), log_ratio(rng.normal(shift, scale, chains * draws))


def test_a_perfect_density_gives_z_exactly():
    found = bridge_statistics(np.full((4, 10), -1e6), np.full(40, -1e6), lambda values: values.size)
    assert found.log_z == -1e6
    assert found.relative_variance == 0
    assert found.overlap == 1
    found = importance_statistics(np.full(40, 1e6))
    assert found.log_z == 1e6
    assert found.effective_draws == 40


def test_the_fixed_point():
    """The root of Meng and Wong's score, found by bracketing."""
    post, proposal = pair(0)
    found = bridge_statistics(post, proposal, lambda values: values.size)

    def score(log_z):
        share = 1 / (1 + np.exp(log_z - proposal))  # of s1 r / (s1 r + s2 Z), at s1 = s2
        return share.sum() - (1 / (1 + np.exp(post - log_z))).sum()

    assert found.log_z == pytest.approx(optimize.brentq(score, -10, 10, xtol=1e-13), abs=1e-10)


def test_correlated_draws_weigh_less():
    post, proposal = pair(0)
    thrice = np.repeat(post, 3, axis=1)
    independent = bridge_statistics(post, proposal, effective_draws)
    repeated = bridge_statistics(thrice, proposal, effective_draws)
    assert repeated.log_z == pytest.approx(independent.log_z, abs=0.3 * math.sqrt(independent.relative_variance))
    assert repeated.relative_variance == pytest.approx(independent.relative_variance, rel=0.2)


def test_error_is_the_scatter():
    """Over 200 seeds: 2 standard deviations of the mean and of the root mean square of z."""
    z, weights = [], []
    for seed in range(200):
        post, proposal = pair(seed, draws=100)
        found = bridge_statistics(post, proposal, lambda values: values.size)
        z.append((found.log_z - 2) / math.sqrt(found.relative_variance))
        found = importance_statistics(proposal)
        weights.append((found.log_z - 2) / math.sqrt(found.relative_variance))
    for values in (z, weights):
        assert abs(np.mean(values)) < 2 / math.sqrt(200) + 0.1  # a bias of the order of the error itself squared
        assert 0.9 < np.sqrt(np.mean(np.square(values))) < 1.1


def test_proposals_outside_the_support_count_as_zero():
    rng = np.random.default_rng(0)
    # The half normal, of Z = 1/2 by the normal as density.
    proposal = np.where(rng.normal(size=20000) > 0, 0.0, -np.inf)
    assert importance_statistics(proposal).log_z == pytest.approx(math.log(0.5), abs=0.03)
    assert bridge_statistics(np.zeros((4, 5000)), proposal, lambda v: v.size).log_z == pytest.approx(
        math.log(0.5), abs=0.03
    )


def test_no_overlap_is_refused():
    with pytest.raises(ValueError, match="zero at every draw"):
        bridge_statistics(np.zeros((2, 5)), np.full(10, -np.inf), lambda values: values.size)
    with pytest.raises(ValueError, match="zero at every draw"):
        importance_statistics(np.full(10, -np.inf))
