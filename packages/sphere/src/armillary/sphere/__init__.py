"""Spherical harmonic transforms and random fields on the sphere, in JAX."""

from ._coefficients import (
    alm_from_real as alm_from_real,
)
from ._coefficients import (
    alm_to_real as alm_to_real,
)
from ._coefficients import (
    power_spectrum as power_spectrum,
)
from ._gauss_legendre import GaussLegendre as GaussLegendre
from ._gaussian import IsotropicGaussian as IsotropicGaussian
from ._plot import plot_map as plot_map
from ._sht import SHT as SHT
