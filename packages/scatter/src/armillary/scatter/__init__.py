"""Scattering statistics of fields on the sphere, in JAX."""

from ._scattering import FirstOrderScattering as FirstOrderScattering
from ._wavelets import AxisymmetricWavelets as AxisymmetricWavelets
