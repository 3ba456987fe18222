"""Scattering statistics of fields on the sphere, in JAX."""

from ._covariance import ScatteringCovariance as ScatteringCovariance
from ._cross import CrossLabel as CrossLabel
from ._cross import CrossStatistics as CrossStatistics
from ._ensemble import StatisticsEnsemble as StatisticsEnsemble
from ._maximum_entropy import MaximumEntropyPrior as MaximumEntropyPrior
from ._microcanonical import MicrocanonicalSampler as MicrocanonicalSampler
from ._network import ScatteringEnergy as ScatteringEnergy
from ._network import ScatteringNetwork as ScatteringNetwork
from ._prior import ScatteringPrior as ScatteringPrior
from ._prior_sampling import Chains as Chains
from ._scattering import FirstOrderScattering as FirstOrderScattering
from ._statistics import Label as Label
from ._statistics import ScatteringStatistics as ScatteringStatistics
from ._synthesis import SynthesisProgress as SynthesisProgress
from ._synthesis import synthesise as synthesise
from ._texture import TextureValidation as TextureValidation
from ._texture import validate_texture as validate_texture
from ._texture_measures import TextureMeasures as TextureMeasures
from ._wavelets import AxisymmetricWavelets as AxisymmetricWavelets
