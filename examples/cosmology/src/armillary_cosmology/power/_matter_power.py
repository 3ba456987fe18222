"""The matter power spectrum of a cosmology, emulated."""

from __future__ import annotations

import math
import os
from importlib import resources
from pathlib import Path

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from armillary_cosmology._background import _batched
from armillary_cosmology._cosmology import Cosmology
from armillary_cosmology._limber import lagrange
from armillary_cosmology.emulate import Box, Emulator

from ._design import BOX, K_MIN, LOG_K_STEP, Z_MAX, wavenumbers
from ._features import boost_features, linear_features, log_growth, log_known

_K_FIRST, _NUM_K = 1e-4, 461
_BOX = Box(tuple(BOX), tuple(low for low, _ in BOX.values()), tuple(high for _, high in BOX.values()))


class MatterPower(eqx.Module):
    r"""Linear and non-linear spectra of matter, from 1e-4 to 9.9 h/Mpc and z = 0 to 3, by two networks.

    .. math:: P_{lin} = A_s k (k / k_*)^{n_s - 1} (T(k) / \omega_m)^2 D^2(z) R(k, z), \qquad P = B(k, z) P_{lin}

    The primordial spectrum, the transfer function T of Eisenstein and Hu (1998, ApJ 496, 605) and the growth D are
    computed; what they lack, R, and the boost B are emulated, at any redshift. They are CAMB's, and B is that of its
    HMCode-2020 with baryonic feedback (Mead et al. 2021, MNRAS 502, 1401, arXiv:2009.01858), with one neutrino of
    0.06 eV and dark energy in the parametrised post-Friedmann form.

    Outside of `box` a call with numbers raises, and a traced one gives NaN. The box is of w0 and of w0 + wa, the
    equation of state today and early on: sample ``w0_plus_wa`` and pass ``wa = w0_plus_wa - w0``; a density that is
    uniform in the one pair is uniform in the other.

    Args:
        linear_emulator: of R, with the parameters of ``_features.LINEAR``.
        boost_emulator: of B, with the parameters of ``_features.BOOST``.
        z: the redshifts of the spectra, increasing, from 0 to 3.

    Raises:
        ValueError: redshifts that do not increase, or reach beyond 0 to 3.

    >>> from armillary_cosmology import Cosmology
    >>> from armillary_cosmology.power import MatterPower
    >>> power = MatterPower.pretrained()
    >>> fiducial = Cosmology(omega_b=0.0224, omega_cdm=0.12, h=0.67, n_s=0.965, ln10As=3.05)
    >>> power.nonlinear(fiducial).shape == (*power.z.shape, *power.k.shape)
    True
    >>> power.linear(fiducial._replace(h=0.9))
    Traceback (most recent call last):
    ValueError: h=0.8999999761581421 is outside of the box: 0.6 to 0.82 is what was trained
    """

    linear_emulator: Emulator
    boost_emulator: Emulator
    redshifts: tuple[float, ...] = eqx.field(static=True)

    def __init__(self, linear_emulator: Emulator, boost_emulator: Emulator, z: Float[np.ndarray, " nz"] | None = None):
        if z is None:
            z = np.append(np.expm1(np.linspace(0, math.log1p(Z_MAX), 16)[:-1]), Z_MAX)
        redshifts = np.asarray(z, dtype=float)
        if redshifts.ndim != 1 or not (np.diff(redshifts) > 0).all() or not 0 <= redshifts[0] <= redshifts[-1] <= Z_MAX:
            raise ValueError(f"z={z!r}: expected increasing redshifts from 0 to {Z_MAX:g}")
        self.linear_emulator = linear_emulator
        self.boost_emulator = boost_emulator
        self.redshifts = tuple(map(float, redshifts))

    @classmethod
    def pretrained(cls, z: Float[np.ndarray, " nz"] | None = None) -> MatterPower:
        """The networks that come with this package; their accuracy is in its README.

        Args:
            z: the redshifts of the spectra, by default 16 in equal steps of ln(1 + z) from 0 to 3.
        """
        with resources.as_file(resources.files(__package__) / "pretrained") as directory:
            return cls.load(directory, z)

    @classmethod
    def load(cls, directory: str | os.PathLike[str], z: Float[np.ndarray, " nz"] | None = None) -> MatterPower:
        """The networks that ``python -m armillary_cosmology.power.train`` has written.

        Args:
            directory: where they are.
            z: as in `pretrained`.
        """
        linear, boost = (Emulator.load(Path(directory) / f"{name}.npz") for name in ("linear", "boost"))
        return cls(linear, boost, z)

    @property
    def k(self) -> Float[np.ndarray, " nk"]:
        """Wavenumbers in h/Mpc, in equal steps of 0.025 in ln k."""
        return _K_FIRST * np.exp(LOG_K_STEP * np.arange(_NUM_K))

    @property
    def z(self) -> Float[np.ndarray, " nz"]:
        """Redshifts."""
        return np.array(self.redshifts)

    @property
    def box(self) -> Box:
        """The parameters that the networks know: those of `Cosmology`, with ``w0_plus_wa`` in the place of ``wa``."""
        return _BOX

    def linear(self, cosmology: Cosmology) -> Float[Array, "*batch nz nk"]:
        """The linear spectrum in (Mpc/h)^3.

        Args:
            cosmology: its parameters, which may have batch axes.

        Raises:
            ValueError: a parameter outside of `box`, unless it is traced.
        """
        return self._spectrum(cosmology, False)

    def nonlinear(self, cosmology: Cosmology) -> Float[Array, "*batch nz nk"]:
        """The non-linear spectrum in (Mpc/h)^3, with the effects of baryons.

        Args:
            cosmology: its parameters, which may have batch axes.

        Raises:
            ValueError: a parameter outside of `box`, unless it is traced.
        """
        return self._spectrum(cosmology, True)

    def _spectrum(self, cosmology: Cosmology, nonlinear: bool) -> Array:
        dtype = jnp.result_type(float, *cosmology)
        cosmology = Cosmology(*(jnp.asarray(leaf, dtype) for leaf in cosmology))
        _BOX.check(_boxed(cosmology))
        return _batched(lambda one: self._one(one, nonlinear), cosmology)

    @eqx.filter_jit
    def _one(self, cosmology: Cosmology, nonlinear: bool) -> Float[Array, "nz nk"]:
        z = jnp.asarray(self.redshifts, jnp.asarray(cosmology.h).dtype)
        inside = _BOX.contains(_boxed(cosmology))
        return jnp.where(inside, jnp.exp(self.log_spectrum(cosmology, z, nonlinear)), jnp.nan)

    def log_spectrum(self, cosmology: Cosmology, z: Float[Array, " nz"], nonlinear: bool) -> Float[Array, "nz nk"]:
        """Ln of the spectrum of one cosmology at any redshifts, traced or not, without a look at the box.

        Args:
            cosmology: its parameters, scalars.
            z: redshifts.
            nonlinear: which spectrum.
        """
        growth = log_growth(cosmology, z)
        values = _emulated(self.linear_emulator, linear_features(cosmology, z)) + log_known(cosmology, wavenumbers())
        if nonlinear:
            values = values + _emulated(self.boost_emulator, boost_features(cosmology, z, growth))
        log_h = jnp.log(cosmology.h)
        return _shifted(values, log_h) + 3 * log_h + 2 * growth[:, None]


def _boxed(cosmology: Cosmology) -> dict[str, Array]:
    named = cosmology._asdict()
    return {**{name: named[name] for name in _BOX.names if name in named}, "w0_plus_wa": cosmology.w0 + cosmology.wa}


def _emulated(emulator: Emulator, features: dict[str, Array]) -> Float[Array, "nz nk"]:
    return emulator.standardised(emulator.box.array(features))


def _shifted(values: Float[Array, "nz nk"], log_h: Float[Array, ""]) -> Float[Array, "nz nk"]:
    """From wavenumbers in 1/Mpc to those in h/Mpc: both have equal steps, so that all are shifted by the same.

    By Lagrange's interpolation on six points, which the acoustic oscillations need at these steps.
    """
    shift = (math.log(_K_FIRST / K_MIN) + log_h) / LOG_K_STEP
    whole = jnp.floor(shift)
    window = jax.lax.dynamic_slice_in_dim(values, whole.astype(int) - 2, _NUM_K + 5, axis=-1)
    weights = lagrange(shift - whole)
    return sum((weight * window[:, i : i + _NUM_K] for i, weight in enumerate(weights)), jnp.zeros((), values.dtype))
