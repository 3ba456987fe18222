"""Scattering statistics of fields on the sphere, in JAX."""

from ._covariance import ScatteringCovariance as ScatteringCovariance
from ._cross import CrossLabel as CrossLabel
from ._cross import CrossStatistics as CrossStatistics
from ._ensemble import StatisticsEnsemble as StatisticsEnsemble
from ._network import ScatteringEnergy as ScatteringEnergy
from ._network import ScatteringNetwork as ScatteringNetwork
from ._scattering import FirstOrderScattering as FirstOrderScattering
from ._statistics import Label as Label
from ._statistics import ScatteringStatistics as ScatteringStatistics
from ._synthesis import SynthesisProgress as SynthesisProgress
from ._synthesis import synthesise as synthesise
from ._texture import TextureValidation as TextureValidation
from ._texture import validate_texture as validate_texture
from ._texture_measures import TextureMeasures as TextureMeasures
from ._wavelets import AxisymmetricWavelets as AxisymmetricWavelets
