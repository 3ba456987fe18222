"""Which cosmologies the emulators of the matter power spectrum are trained at, and on which wavenumbers."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Float

TRANSFER = {
    "omega_b": (0.01875, 0.02625),
    "omega_cdm": (0.07, 0.22),
    "h": (0.60, 0.82),
    "w0": (-1.5, -0.5),
    "w0_plus_wa": (-2.4, -0.2),
}
"""The parameters of which the linear transfer functions depend: each point of these is one Boltzmann run."""

VARIANT = {
    "n_s": (0.84, 1.1),
    "ln10As": (2.4, 3.8),
    "logT_AGN": (7.4, 8.3),
}
"""The parameters that a Boltzmann run can be used again for."""

BOX = {
    "omega_b": (0.019, 0.026),
    "omega_cdm": (0.08, 0.21),
    "h": (0.61, 0.81),
    "w0": (-1.45, -0.55),
    "w0_plus_wa": (-2.3, -0.4),
    "n_s": (0.85, 1.09),
    "ln10As": (2.5, 3.75),
    "logT_AGN": (7.4, 8.3),
}
"""What the emulators are for: a part of what they are trained on, which keeps away from the corners of the design."""

Z_MAX = 3.0
LOG_K_STEP = 0.025
NUM_K = 480
K_MIN = 5.5e-5
"""In 1/Mpc, a little below 1e-4 h/Mpc at the smallest h."""

REFERENCE_N_S = 0.96
REFERENCE_LN10AS = 3.0
PIVOT = 0.05
NEUTRINO_MASS = 0.06


def wavenumbers() -> Float[np.ndarray, " nk"]:
    """Where the spectra are tabulated, in 1/Mpc: equal steps of ln k from 5.5e-5 to 8.7."""
    return K_MIN * np.exp(LOG_K_STEP * np.arange(NUM_K))


class Design(NamedTuple):
    """What is to be computed.

    Args:
        models: `TRANSFER` parameters of each Boltzmann run.
        variants: `VARIANT` parameters, several for each run.
        z: redshifts, increasing, others for each run.
    """

    models: Float[np.ndarray, "n 5"]
    variants: Float[np.ndarray, "n v 3"]
    z: Float[np.ndarray, "n nz"]


def sobol_design(num_models: int, num_variants: int, num_z: int, seed: int) -> Design:
    """A scrambled Sobol design whose first rows are a design too, so that a stopped run covers the box.

    The redshifts of a run are 0, `Z_MAX`, and one in each of equal parts of ln(1 + z) between them.
    """
    from scipy.stats import qmc

    def sample(box: dict[str, tuple[float, float]], n: int, seed: int) -> np.ndarray:
        sampler = qmc.Sobol(len(box), seed=seed)
        unit = sampler.random_base2(int(np.ceil(np.log2(n))))[:n]
        lower, upper = np.array(list(box.values())).T
        return lower + unit * (upper - lower)

    models = sample(TRANSFER, num_models, seed)
    variants = sample(VARIANT, num_models * num_variants, seed + 1).reshape(num_models, num_variants, len(VARIANT))
    uniform = np.random.default_rng(seed + 2).random((num_models, num_z - 2))
    parts = (np.arange(num_z - 2) + uniform) / (num_z - 2) * np.log1p(Z_MAX)
    inner = np.clip(np.expm1(parts), 1e-3, Z_MAX - 1e-3)
    z = np.concatenate([np.zeros((num_models, 1)), inner, np.full((num_models, 1), Z_MAX)], axis=1)
    return Design(models, variants, z)
