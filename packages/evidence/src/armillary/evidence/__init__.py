"""Bayesian model evidence from posterior samples, by a learned harmonic mean with normalising flows.

from armillary import evidence

found = evidence.from_numpyro(mcmc).estimate(jax.random.key(0))
found.log_z, found.log_z_err, found.warnings
"""

from ._harmonic import (
    HarmonicMeanStatistics as HarmonicMeanStatistics,
)
from ._harmonic import (
    harmonic_mean_statistics as harmonic_mean_statistics,
)
from ._lhm import LearnedHarmonicMean as LearnedHarmonicMean
from ._problem import Problem as Problem
from ._problem import from_arrays as from_arrays
from ._problem import from_numpyro as from_numpyro
from ._result import EvidenceEstimate as EvidenceEstimate
