"""What the networks of the matter power see of a cosmology, and the part of the spectrum that is known without them.

Spectra in Mpc and not in Mpc/h, at given densities omega of matter: then h and dark energy change a linear spectrum
by its growth alone, but for scales near the horizon (Sanchez et al. 2022, MNRAS 514, 5673, arXiv:2108.12710).
"""

from __future__ import annotations

import math

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from armillary_cosmology._background import expansion_rate, growth_factor, omega_matter
from armillary_cosmology._cosmology import Cosmology

from ._design import PIVOT
from ._eisenstein_hu import log_transfer

EARLY = 49.0
"""The redshift to which growth is relative: matter is alone there, whatever dark energy does later."""

LINEAR = ("log_omega_m", "log_baryons", "h", "w0", "w0_plus_wa", "log1p_z", "dark_49", "dark_1000")
BOOST = (
    "omega_b",
    "omega_cdm",
    "h",
    "n_s",
    "log_amplitude",
    "w0",
    "w0_plus_wa",
    "log1p_z",
    "omega_m_z",
    "logT_AGN",
    "stars",
)


def log_growth(cosmology: Cosmology, z: Float[Array | np.ndarray, " nz"]) -> Float[Array, " nz"]:
    """Ln of the linear growth since `EARLY`."""
    growth = growth_factor(cosmology, jnp.append(jnp.asarray(z), EARLY))
    return jnp.log(growth[:-1] / growth[-1])


def log_known(cosmology: Cosmology, k: Float[np.ndarray, " nk"]) -> Float[Array, " nk"]:
    """Ln of the part of the linear spectrum that is the same at all redshifts, by formulas.

    It is the primordial spectrum, exact, times the transfer function of Eisenstein and Hu, which is good to some
    percent. With it the network has a twentieth of the variation to learn.

    Args:
        cosmology: its parameters.
        k: wavenumbers in 1/Mpc.
    """
    c = cosmology
    matter = omega_matter(c) * c.h**2
    log_k = jnp.asarray(np.log(k), matter.dtype)
    return log_primordial(c, log_k) + 2 * (log_transfer(c.omega_b, matter, k) - jnp.log(matter))


def log_primordial(cosmology: Cosmology, log_k: Float[Array | np.ndarray, " nk"]) -> Float[Array, " nk"]:
    """Ln of k times the primordial spectrum, in units of 1e-10.

    Args:
        cosmology: of which A_s and n_s are used.
        log_k: ln of wavenumbers in 1/Mpc.
    """
    return jnp.asarray(cosmology.ln10As + (cosmology.n_s - 1) * (log_k - math.log(PIVOT)) + log_k)


def linear_features(cosmology: Cosmology, z: Float[Array | np.ndarray, " nz"]) -> dict[str, Float[Array, " nz"]]:
    """The parameters `LINEAR` of one cosmology at redshifts.

    The transfer function depends on dark energy by its density before and at recombination, a steep function of w0 + wa
    that is therefore given as such, as its ratio to matter at z = 49 and 1000.
    """
    c = cosmology
    matter = omega_matter(c)

    def dark(z: float) -> Array:
        return (1 / matter - 1) * jnp.exp(3 * (c.w0 + c.wa) * math.log1p(z) - 3 * c.wa * z / (1 + z))

    baryons = c.omega_b / (matter * c.h**2)
    log_matter = jnp.log(matter * c.h**2)
    values = (log_matter, jnp.log(baryons), c.h, c.w0, c.w0 + c.wa, jnp.log1p(z), dark(EARLY), dark(1e3))
    return {name: jnp.asarray(value) + jnp.zeros_like(z) for name, value in zip(LINEAR, values, strict=True)}


def boost_features(
    cosmology: Cosmology, z: Float[Array | np.ndarray, " nz"], growth: Float[Array, " nz"]
) -> dict[str, Float[Array, " nz"]]:
    r"""The parameters `BOOST` of one cosmology at redshifts, with ln of the growth to them.

    HMCode-2020 takes a fraction of stars in haloes, :math:`f_* = (0.0201 - 0.003 t) 10^{(0.409 + 0.0224 t) z}` with
    t = logT_AGN - 7.8, but never more than all baryons (Mead et al. 2021, MNRAS 502, 1401, arXiv:2009.01858, eq. 28 and
    table 5). The bend where that begins is no smooth function of the parameters, and is one of this fraction.
    """
    c = cosmology
    matter = omega_matter(c)
    omega_m_z = matter * (1 + z) ** 3 / expansion_rate(c, z) ** 2
    t = c.logT_AGN - 7.8
    stars = (0.0201 - 0.003 * t) * 10 ** ((0.409 + 0.0224 * t) * z) * matter * c.h**2 / c.omega_b
    values = (
        c.omega_b,
        c.omega_cdm,
        c.h,
        c.n_s,
        c.ln10As + 2 * growth,
        c.w0,
        c.w0 + c.wa,
        jnp.log1p(z),
        omega_m_z,
        c.logT_AGN,
        jnp.minimum(stars, 1.0),
    )
    return {name: jnp.asarray(value) + jnp.zeros_like(growth) for name, value in zip(BOOST, values, strict=True)}
