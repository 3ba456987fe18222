"""Spherical harmonic transforms and random fields on the sphere, in JAX."""

from ._coefficients import alm_from_real as alm_from_real
from ._coefficients import alm_to_real as alm_to_real
from ._coefficients import cross_spectrum as cross_spectrum
from ._coefficients import eb_to_spin as eb_to_spin
from ._coefficients import power_spectrum as power_spectrum
from ._coefficients import spin_to_eb as spin_to_eb
from ._compat import alm2map as alm2map
from ._compat import forward as forward
from ._compat import inverse as inverse
from ._compat import map2alm as map2alm
from ._evaluate import evaluate as evaluate
from ._gaussian import IsotropicGaussian as IsotropicGaussian
from ._grids import ClenshawCurtis as ClenshawCurtis
from ._grids import DriscollHealy as DriscollHealy
from ._grids import GaussLegendre as GaussLegendre
from ._grids import Healpix as Healpix
from ._grids import McEwenWiaux as McEwenWiaux
from ._grids import McEwenWiauxSS as McEwenWiauxSS
from ._healpy import alm_from_healpy as alm_from_healpy
from ._healpy import alm_to_healpy as alm_to_healpy
from ._likelihood import MaskedGaussian as MaskedGaussian
from ._plot import plot_map as plot_map
from ._rotation import rotate_alm as rotate_alm
from ._sht import SHT as SHT
