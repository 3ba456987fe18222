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
from ._gaussian import IsotropicGaussian as IsotropicGaussian
from ._grids import ClenshawCurtis as ClenshawCurtis
from ._grids import DriscollHealy as DriscollHealy
from ._grids import GaussLegendre as GaussLegendre
from ._grids import Healpix as Healpix
from ._grids import McEwenWiaux as McEwenWiaux
from ._grids import McEwenWiauxSS as McEwenWiauxSS
from ._plot import plot_map as plot_map
from ._sht import SHT as SHT
