"""Matter power spectra from CAMB, one Boltzmann run for several primordial spectra and strengths of feedback."""

from __future__ import annotations

from typing import Any

import numpy as np
from jaxtyping import Float

from ._design import NEUTRINO_MASS, REFERENCE_LN10AS, REFERENCE_N_S, TRANSFER, VARIANT, wavenumbers

K_MAX = 18.0
"""The largest wavenumber of the Boltzmann runs, in 1/Mpc: HMCode integrates over the linear spectrum beyond ours."""


def camb_spectra(
    model: Float[np.ndarray, " 5"],
    variants: Float[np.ndarray, "v 3"],
    z: Float[np.ndarray, " nz"],
    *,
    accuracy: float = 1.0,
    k_max: float = K_MAX,
) -> dict[str, np.ndarray]:
    """Linear spectra, and non-linear boosts by HMCode-2020 with feedback, of one background.

    Args:
        model: the parameters of `TRANSFER`.
        variants: the parameters of `VARIANT`, a row for each boost.
        z: increasing redshifts.
        accuracy: CAMB's ``AccuracyBoost``.
        k_max: the largest wavenumber of the Boltzmann run, in 1/Mpc.

    Returns:
        ``log_linear`` (nz, nk), ln of the spectrum in Mpc^3 for the reference primordial spectrum; ``log_boost``
        (v, nz, nk), ln of the ratio of non-linear to linear; ``comoving_distance`` (nz,) in Mpc.
    """
    import camb

    transfer = dict(zip(TRANSFER, map(float, model), strict=True))
    p = camb.CAMBparams()
    p.set_cosmology(
        H0=100 * transfer["h"], ombh2=transfer["omega_b"], omch2=transfer["omega_cdm"], mnu=NEUTRINO_MASS, tau=0.06
    )
    p.set_dark_energy(w=transfer["w0"], wa=transfer["w0_plus_wa"] - transfer["w0"], dark_energy_model="ppf")
    p.WantCls = False
    p.Want_CMB = False
    p.set_matter_power(redshifts=list(map(float, z[::-1])), kmax=k_max, silent=True)
    p.set_accuracy(AccuracyBoost=accuracy)
    p.NonLinear = camb.model.NonLinear_pk
    _set_variant(p, {"n_s": REFERENCE_N_S, "ln10As": REFERENCE_LN10AS, "logT_AGN": 7.8})
    results = camb.get_results(p)
    k, _, linear = results.get_linear_matter_power_spectrum(hubble_units=False, k_hunit=False)
    boosts = []
    for row in variants:
        _set_variant(results.Params, dict(zip(VARIANT, map(float, row), strict=True)))
        results.power_spectra_from_transfer()
        _, _, numerator = results.get_nonlinear_matter_power_spectrum(hubble_units=False, k_hunit=False)
        _, _, denominator = results.get_linear_matter_power_spectrum(hubble_units=False, k_hunit=False)
        boosts.append(_resample(k, np.log(numerator / denominator)))
    return {
        "log_linear": _resample(k, np.log(linear)),
        "log_boost": np.stack(boosts),
        "comoving_distance": np.asarray(results.comoving_radial_distance(z)),
    }


def _set_variant(p: Any, variant: dict[str, float]) -> None:
    p.InitPower.set_params(As=1e-10 * np.exp(variant["ln10As"]), ns=variant["n_s"])
    p.NonLinearModel.set_params(halofit_version="mead2020_feedback", HMCode_logT_AGN=variant["logT_AGN"])


def _resample(k: np.ndarray, values: np.ndarray) -> np.ndarray:
    from scipy.interpolate import CubicSpline

    return CubicSpline(np.log(k), values, axis=-1)(np.log(wavenumbers()))
