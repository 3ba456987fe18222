"""Cosmology with Armillary: emulated matter power spectra, cosmic shear, and the models of its parameters."""

from ._background import comoving_distance as comoving_distance
from ._background import expansion_rate as expansion_rate
from ._background import growth_factor as growth_factor
from ._background import omega_matter as omega_matter
from ._contours import plot_contours as plot_contours
from ._cosmology import Cosmology as Cosmology
from ._likelihood import SpectraLikelihood as SpectraLikelihood
from ._likelihood import data_vector as data_vector
from ._likelihood import gaussian_covariance as gaussian_covariance
from ._models import SpectraModel as SpectraModel
from ._models import sigma_r as sigma_r
from ._redshifts import equal_number_edges as equal_number_edges
from ._redshifts import redshift_bins as redshift_bins
from ._redshifts import smail as smail
from ._study import shear_models as shear_models
from ._study import simulated_data as simulated_data
from ._study import simulated_likelihood as simulated_likelihood
from ._survey import Survey as Survey
from ._survey import stage_iv as stage_iv
from ._tabulated import TabulatedPower as TabulatedPower
from ._tabulated import fiducial_power as fiducial_power
from ._theory import Nuisance as Nuisance
from ._theory import ThreeByTwoPoint as ThreeByTwoPoint
from ._theory import cosmic_shear_cls as cosmic_shear_cls
from ._theory import pairs as pairs
from ._theory import three_by_two_pt_cls as three_by_two_pt_cls
