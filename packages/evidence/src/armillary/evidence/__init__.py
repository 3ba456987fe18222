"""Bayesian model evidence from posterior samples, by normalising flows and methods that check each other.

from armillary import evidence

found = evidence.from_numpyro(mcmc).estimate(jax.random.key(0))
found.log_z, found.log_z_err, found.warnings
"""

from armillary.core import Evidence as Evidence
from armillary.core import compare as compare

from ._architectures import Architecture as Architecture
from ._architectures import AutoregressiveFlow as AutoregressiveFlow
from ._architectures import FlowMatching as FlowMatching
from ._architectures import RealNVP as RealNVP
from ._architectures import SplineFlow as SplineFlow
from ._estimators import BridgeSampling as BridgeSampling
from ._estimators import FlowEvidence as FlowEvidence
from ._estimators import ImportanceSampling as ImportanceSampling
from ._estimators import LearnedHarmonicMean as LearnedHarmonicMean
from ._flow import Flow as Flow
from ._harmonic import (
    HarmonicMeanStatistics as HarmonicMeanStatistics,
)
from ._harmonic import (
    harmonic_mean_statistics as harmonic_mean_statistics,
)
from ._plot import plot_diagnostics as plot_diagnostics
from ._plot import plot_flow as plot_flow
from ._problem import Problem as Problem
from ._problem import from_arrays as from_arrays
from ._problem import from_arviz as from_arviz
from ._problem import from_numpyro as from_numpyro
from ._result import EvidenceEstimate as EvidenceEstimate
from ._savage_dickey import SavageDickey as SavageDickey
from ._savage_dickey import savage_dickey as savage_dickey
from ._saving import load as load
from ._saving import save as save
from ._warnings import EvidenceWarning as EvidenceWarning
