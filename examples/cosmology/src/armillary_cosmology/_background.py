"""The background of a flat w0waCDM universe with radiation and one massive neutrino, in JAX.

Distances are in Mpc/h, so that c / H0 is a number and h enters by the radiation alone.
"""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from . import _spectral
from ._cosmology import Cosmology

# In SI units; all exact but G (CODATA 2018).
_C, _K, _HBAR, _ELECTRON_VOLT, _G = 299792458.0, 1.380649e-23, 1.054571817e-34, 1.602176634e-19, 6.67430e-11
_MPC = 3.0856775814913673e22
_STEFAN_BOLTZMANN = math.pi**2 * _K**4 / (60 * _HBAR**3 * _C**2)

#: c / H0 in Mpc/h.
HUBBLE_DISTANCE = _C / 1e5

_T_CMB = 2.7255  # K (Fixsen 2009, ApJ 707, 916)
_N_EFF = 3.044  # of three neutrinos (Bennett et al. 2021, JCAP 04, 073)
_NEUTRINO_MASS = 0.06  # eV, of one; the other two have none
_H100 = 1e5 / _MPC  # 1/s
# Omega h^2 of the photons, and of one massless neutrino.
_OMEGA_GAMMA = 8 * math.pi * _G / (3 * _H100**2) * 4 * _STEFAN_BOLTZMANN * _T_CMB**4 / _C**3
_OMEGA_ONE_MASSLESS = _OMEGA_GAMMA * 7 / 8 * (4 / 11) ** (4 / 3) * _N_EFF / 3
_T_NEUTRINO = _T_CMB * (4 / 11) ** (1 / 3) * (_N_EFF / 3) ** 0.25
_MASS_OVER_T = _NEUTRINO_MASS * _ELECTRON_VOLT / (_K * _T_NEUTRINO)
# Gauss-Laguerre nodes for the momenta of a Fermi-Dirac gas, q^2 / (e^q + 1) = q^2 e^-q / (1 + e^-q).
_Q, _W = np.polynomial.laguerre.laggauss(24)
_W = _W * _Q**2 / (1 + np.exp(-_Q))
_W = _W / np.sum(_W * _Q)
# Gauss-Legendre nodes on [0, 1], for distances.
_U, _V = ((1 + x) / 2 if i == 0 else x / 2 for i, x in enumerate(np.polynomial.legendre.leggauss(24)))

# Of the growth: ln a deep in the era of matter, and nodes from there to now.
_START, _NODES = -5.0, 32


def omega_matter(cosmology: Cosmology) -> Float[Array, "*batch"]:
    r"""The density of matter today, :math:`\Omega_m`, of baryons, cold dark matter and the massive neutrino.

    Args:
        cosmology: its parameters.
    """
    neutrino = float(_neutrino_density(np.zeros(())))
    return jnp.asarray((cosmology.omega_b + cosmology.omega_cdm + neutrino) / jnp.asarray(cosmology.h) ** 2)


def expansion_rate(cosmology: Cosmology, z: Float[Array | np.ndarray, " n"]) -> Float[Array, "*batch n"]:
    r"""The Hubble rate over its value today, :math:`E(z) = H(z) / H_0`.

    .. math:: E^2 h^2 = (\omega_b + \omega_c)(1+z)^3 + \omega_r (1+z)^4 + \omega_\nu(z)
              + \omega_\Lambda (1+z)^{3(1+w_0+w_a)} e^{-3 w_a z/(1+z)}

    The neutrino of 0.06 eV is an integral over its Fermi-Dirac momenta, and the universe is flat.

    >>> from armillary_cosmology import Cosmology, expansion_rate
    >>> import jax.numpy as jnp
    >>> fiducial = Cosmology(omega_b=0.0224, omega_cdm=0.12, h=0.67, n_s=0.965, ln10As=3.05)
    >>> print(f"{expansion_rate(fiducial, jnp.array([1.0]))[0]:.3f}")
    1.788

    Args:
        cosmology: its parameters, which may have batch axes.
        z: redshifts.
    """
    return _batched(lambda one: _expansion_rate(one, z), cosmology)


def comoving_distance(cosmology: Cosmology, z: Float[Array | np.ndarray, " n"]) -> Float[Array, "*batch n"]:
    r"""The comoving distance in Mpc/h, :math:`\chi(z) = (c / H_0) \int_0^z dz' / E(z')`.

    By Gauss-Legendre quadrature, good to rounding for redshifts up to ten.

    Args:
        cosmology: its parameters, which may have batch axes.
        z: redshifts.
    """
    return _batched(lambda one: _comoving_distance(one, z), cosmology)


def growth_factor(cosmology: Cosmology, z: Float[Array | np.ndarray, " n"]) -> Float[Array, "*batch n"]:
    r"""The linear growth of density contrasts over that of today, :math:`D(z) / D(0)`.

    The growth rate :math:`f = d\ln D / d\ln a` obeys

    .. math:: f' + f^2 + (2 + d\ln H / d\ln a) f = \tfrac{3}{2} \Omega_m(a)

    with the primes by :math:`\ln a`; neutrinos count as matter here, on all scales.

    Args:
        cosmology: its parameters, which may have batch axes.
        z: redshifts, from 0 to 100.
    """
    return _batched(lambda one: _growth_factor(one, z), cosmology)


def _batched(fn, cosmology: Cosmology) -> Array:
    """``fn`` of each cosmology of a batch, whose parameters may broadcast against each other."""
    shape = jnp.broadcast_shapes(*(jnp.shape(leaf) for leaf in cosmology))
    if not shape:
        return fn(cosmology)
    flat = Cosmology(*(jnp.broadcast_to(jnp.asarray(leaf), shape).reshape(-1) for leaf in cosmology))
    out = jax.vmap(fn)(flat)
    return jax.tree.map(lambda leaf: leaf.reshape(*shape, *leaf.shape[1:]), out)


def _neutrino_density(z):
    """omega of the massive neutrino at z; of a NumPy array in NumPy, since it depends on no parameter."""
    xp = jnp if isinstance(z, jax.Array) else np
    scale = _MASS_OVER_T / (1 + z)
    momenta = xp.asarray(_Q, dtype=z.dtype)
    weights = xp.asarray(_W, dtype=z.dtype)
    energy = xp.sum(weights * xp.sqrt(momenta**2 + scale[..., None] ** 2), axis=-1)
    return _OMEGA_ONE_MASSLESS * (1 + z) ** 4 * energy


def _dark_energy(cosmology: Cosmology, z):
    """The density of dark energy over that of today."""
    w = 3 * (1 + cosmology.w0 + cosmology.wa)
    return jnp.exp(w * jnp.log1p(z) - 3 * cosmology.wa * z / (1 + z))


def _expansion_rate(cosmology: Cosmology, z) -> Array:
    z = _redshifts(cosmology, z)
    h2 = jnp.asarray(cosmology.h) ** 2
    matter = cosmology.omega_b + cosmology.omega_cdm
    radiation = _OMEGA_GAMMA + 2 * _OMEGA_ONE_MASSLESS
    neutrino_now = float(_neutrino_density(np.zeros(())))
    dark = h2 - matter - radiation - neutrino_now
    total = matter * (1 + z) ** 3 + radiation * (1 + z) ** 4 + _neutrino_density(z)
    return jnp.sqrt((total + dark * _dark_energy(cosmology, z)) / h2)


def _comoving_distance(cosmology: Cosmology, z) -> Array:
    z = _redshifts(cosmology, z)
    if not isinstance(z, jax.Array) and z.ndim and len(z) > _NODES:
        # One integral serves all: over ln(1 + z), of (1 + z) / E.
        end = float(np.log1p(np.max(z)))
        x = _spectral.nodes(_NODES, 0.0, end)
        integrand = _redshifts(cosmology, np.exp(x)) / _expansion_rate(cosmology, np.expm1(x))
        return HUBBLE_DISTANCE * _spectral.integrated(integrand, np.log1p(z), 0.0, end)
    xp = jnp if isinstance(z, jax.Array) else np
    nodes, weights = xp.asarray(_U, dtype=z.dtype), xp.asarray(_V, dtype=z.dtype)
    rate = _expansion_rate(cosmology, z[..., None] * nodes)
    return HUBBLE_DISTANCE * z * jnp.sum(weights / rate, axis=-1)


def _growth_factor(cosmology: Cosmology, z) -> Array:
    z = _redshifts(cosmology, z)
    # Of g = D / a, nearly a constant: g'' + p g' + q g = 0, an integral equation of second kind for g'' at the nodes.
    x = _spectral.nodes(_NODES, _START, 0.0)
    redshift = _redshifts(cosmology, np.expm1(-x))
    rate = _expansion_rate(cosmology, redshift)
    dtype = rate.dtype
    slope = _log_slope(cosmology, redshift)
    p, q = 4 + slope, 3 + slope - 1.5 * omega_matter(cosmology) * (1 + redshift) ** 3 / rate**2
    integrals = [_spectral.integral(_NODES, _START, 0.0, times) for times in (1, 2)]
    at_nodes = [_spectral.basis(x, len(series), _START, 0.0) @ series for series in integrals]
    once, twice = (jnp.asarray(matrix, dtype) for matrix in at_nodes)
    # It sets out with the slope that would not change, which is within a thousandth: what is wrong decays as a^-2.5.
    early = _redshifts(cosmology, np.expm1(np.array(-_START)))
    early_matter = 1.5 * omega_matter(cosmology) * (1 + early) ** 3 / _expansion_rate(cosmology, early) ** 2
    friction = 2 + _log_slope(cosmology, early)
    first = (jnp.sqrt(friction**2 + 4 * early_matter) - friction) / 2 - 1
    system = jnp.eye(_NODES, dtype=dtype) + p[:, None] * once + q[:, None] * twice
    bend = jnp.linalg.solve(system, -q - first * (p + q * jnp.asarray(x - _START, dtype)))

    def growth(log_a) -> Array:
        series = _spectral.integral(_NODES, _START, 0.0, 2)
        to_points = jnp.asarray(_spectral.basis(log_a, len(series), _START, 0.0) @ series.astype(dtype), dtype)
        return jnp.exp(log_a) * (1 + first * (log_a - _START) + to_points @ bend)

    xp = jnp if isinstance(z, jax.Array) else np
    return growth(-xp.log1p(z)) / growth(np.zeros((), dtype))


def _log_slope(cosmology: Cosmology, z) -> Array:
    """d ln H / d ln a."""
    _, slope = jax.jvp(lambda z: jnp.log(_expansion_rate(cosmology, z)), (jnp.asarray(z),), (jnp.ones_like(z),))
    return -(1 + z) * slope


def _redshifts(cosmology: Cosmology, z):
    """The redshifts as floating numbers of the cosmology's precision; a NumPy array stays one, and so a constant."""
    dtype = jnp.result_type(float, *cosmology) if not isinstance(z, jax.Array) else jnp.result_type(z, *cosmology)
    if isinstance(z, jax.Array):
        return z.astype(dtype)
    return np.asarray(z, dtype=dtype)
