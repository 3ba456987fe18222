"""The models of `three_surveys.yaml`: shear and galaxies of three Stage-IV surveys, 156 parameters or 158.

    python examples/cosmology/three_surveys.py

writes the simulated data, ``three_surveys.npz``, that the run reads and that are here already. The surveys see
different skies: their areas and densities are about those of Euclid, of the Rubin Observatory and of the Roman
telescope.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from armillary_cosmology import SpectraModel, simulated_data, simulated_likelihood, stage_iv
from armillary_cosmology.power import MatterPower

SURVEYS = {
    "euclid": stage_iv(10, lenses=True),
    "rubin": stage_iv(10, lenses=True, f_sky=0.44, n_eff=27.0),
    "roman": stage_iv(10, lenses=True, f_sky=0.05, n_eff=45.0),
}
simulated = [simulated_likelihood(survey) for survey in SURVEYS.values()]
likelihoods = [likelihood for likelihood, _ in simulated]
power = MatterPower.pretrained()
LCDM, W0WACDM = (SpectraModel(power, likelihoods, dark_energy=dark_energy) for dark_energy in (False, True))


def lcdm(euclid, rubin, roman):
    """156 parameters: dark energy is a cosmological constant."""
    LCDM(euclid, rubin, roman)


def w0wacdm(euclid, rubin, roman):
    """158 parameters: with w0 and w0 + wa."""
    W0WACDM(euclid, rubin, roman)


def data() -> dict[str, np.ndarray]:
    """The simulated spectra of each survey, with noise of its own."""
    drawn = enumerate(zip(SURVEYS, simulated, strict=True))
    return {name: simulated_data(*of, seed=seed).astype(np.float32) for seed, (name, of) in drawn}


if __name__ == "__main__":
    np.savez_compressed(Path(__file__).with_suffix(".npz"), **data())
