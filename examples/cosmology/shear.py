"""The models of `shear.yaml`: the cosmic shear of a Stage-IV survey in ten bins, with 36 parameters and with 38.

    python examples/cosmology/shear.py

writes the simulated data, ``shear.npz``, that the run reads and that are here already.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from armillary_cosmology import shear_models
from armillary_cosmology.power import MatterPower

models, data = shear_models(MatterPower.pretrained())


def lcdm(spectra):
    """36 parameters: dark energy is a cosmological constant."""
    models["LCDM"](spectra)


def w0wacdm(spectra):
    """38 parameters: with w0 and w0 + wa."""
    models["w0waCDM"](spectra)


if __name__ == "__main__":
    np.savez_compressed(Path(__file__).with_suffix(".npz"), spectra=data())
