"""The cosmological parameters that every module of this package means."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Array, Float


class Cosmology(NamedTuple):
    """A flat universe with dark energy of equation of state ``w(a) = w0 + (1 - a) wa``, and baryonic feedback.

    One massive neutrino of 0.06 eV belongs to it, which no parameter here counts. A pytree: each field may be an array
    with leading batch axes, and the default values are those of LCDM.

    Args:
        omega_b: physical density of baryons, Omega_b h^2.
        omega_cdm: physical density of cold dark matter, Omega_cdm h^2.
        h: the Hubble constant in 100 km/s/Mpc.
        n_s: the spectral index of the primordial spectrum.
        ln10As: ln(10^10 A_s), at the pivot 0.05 / Mpc.
        w0: the equation of state of dark energy today.
        wa: minus its derivative with the scale factor.
        logT_AGN: log10 of the temperature in K that sets the strength of baryonic feedback in HMCode-2020.

    >>> from armillary_cosmology import Cosmology
    >>> Cosmology(omega_b=0.0224, omega_cdm=0.12, h=0.67, n_s=0.965, ln10As=3.05).w0
    -1.0
    """

    omega_b: Float[Array | np.ndarray, "*batch"] | float
    omega_cdm: Float[Array | np.ndarray, "*batch"] | float
    h: Float[Array | np.ndarray, "*batch"] | float
    n_s: Float[Array | np.ndarray, "*batch"] | float
    ln10As: Float[Array | np.ndarray, "*batch"] | float
    w0: Float[Array | np.ndarray, "*batch"] | float = -1.0
    wa: Float[Array | np.ndarray, "*batch"] | float = 0.0
    logT_AGN: Float[Array | np.ndarray, "*batch"] | float = 7.8
