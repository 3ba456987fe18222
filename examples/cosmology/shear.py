"""The models of `shear.yaml`: the cosmic shear of a Stage-IV survey in ten bins, with 36 parameters and with 38.

    python examples/cosmology/shear.py

writes the simulated data, ``shear.npz``, that the run reads.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from armillary_cosmology import shear_models
from armillary_cosmology.power import MatterPower

models, data = shear_models(MatterPower.pretrained())
lcdm, w0wacdm = models["LCDM"], models["w0waCDM"]

if __name__ == "__main__":
    np.savez_compressed(Path(__file__).with_suffix(".npz"), spectra=data())
