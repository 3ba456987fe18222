"""Compute the matter power of the fiducial cosmology by CAMB, and write it where `fiducial_power` reads it.

python examples/cosmology/fiducial.py
"""

from __future__ import annotations

from pathlib import Path

import camb
import numpy as np
from scipy.interpolate import CubicSpline

COSMOLOGY = {
    "omega_b": 0.0224,
    "omega_cdm": 0.12,
    "h": 0.67,
    "n_s": 0.965,
    "ln10As": 3.05,
    "w0": -1.0,
    "wa": 0.0,
    "logT_AGN": 7.8,
}
K = np.exp(np.linspace(np.log(1e-4), np.log(10.0), 320))
Z = np.linspace(0.0, 3.0, 31)
FILE = Path(__file__).parent / "src/armillary_cosmology/data/fiducial_power.npz"


def parameters() -> camb.CAMBparams:
    p = camb.CAMBparams()
    p.set_cosmology(
        H0=100 * COSMOLOGY["h"], ombh2=COSMOLOGY["omega_b"], omch2=COSMOLOGY["omega_cdm"], mnu=0.06, tau=0.06
    )
    p.set_dark_energy(w=COSMOLOGY["w0"], wa=COSMOLOGY["wa"], dark_energy_model="ppf")
    p.InitPower.set_params(As=1e-10 * np.exp(COSMOLOGY["ln10As"]), ns=COSMOLOGY["n_s"])
    p.set_matter_power(redshifts=list(Z[::-1]), kmax=20.0, silent=True)
    p.NonLinear = camb.model.NonLinear_pk
    p.NonLinearModel.set_params(halofit_version="mead2020_feedback", HMCode_logT_AGN=COSMOLOGY["logT_AGN"])
    return p


def main() -> None:
    results = camb.get_results(parameters())
    arrays = {}
    for name in ("linear", "nonlinear"):
        k, _, power = getattr(results, f"get_{name}_matter_power_spectrum")(hubble_units=True, k_hunit=True)
        arrays["log_" + name] = CubicSpline(np.log(k), np.log(power), axis=-1)(np.log(K)).astype(np.float32)
    FILE.parent.mkdir(exist_ok=True)
    np.savez_compressed(FILE, cosmology=np.array(list(COSMOLOGY.values())), k=K, z=Z, **arrays)
    sigma = results.get_sigma8_0()
    print(f"{FILE}: {FILE.stat().st_size / 1e3:.0f} kB, sigma_8 = {sigma:.5f}")


if __name__ == "__main__":
    main()
