"""Cosmology with Armillary: emulated matter power spectra, cosmic shear, and the models of its parameters."""

from ._cosmology import Cosmology as Cosmology
