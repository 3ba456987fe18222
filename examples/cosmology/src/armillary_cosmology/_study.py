"""The study of cosmic shear: simulated data, and the two models of it."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from ._likelihood import SpectraLikelihood
from ._models import SpectraModel
from ._survey import Survey, stage_iv
from ._tabulated import fiducial_power
from ._theory import Nuisance, cosmic_shear_cls, three_by_two_pt_cls

#: The alignments of the simulated sky.
ALIGNMENT = 0.5
#: Between which the equations of state today and early on are uniform.
DARK_ENERGY = {"w0": (-1.3, -0.7), "w0_plus_wa": (-1.6, -0.5)}


def simulated_likelihood(survey: Survey) -> tuple[SpectraLikelihood, Any]:
    """The likelihood of a survey of the simulated sky, and the spectra there, from CAMB's matter power.

    Args:
        survey: with lenses, the spectra are of shear and galaxies, which have a bias of 1 + their mean redshift.
    """
    simulated = fiducial_power()
    nuisance = Nuisance.none(survey)
    nuisance = nuisance._replace(alignment=jnp.full_like(nuisance.alignment, ALIGNMENT))
    theory: Any = cosmic_shear_cls
    if survey.lenses is not None:
        theory = three_by_two_pt_cls
        mean = survey.lenses @ survey.z / np.sum(survey.lenses, axis=1)
        nuisance = nuisance._replace(bias=jnp.asarray(1 + mean))
    spectra = jax.jit(lambda nuisance: theory(simulated, simulated.cosmology, survey, nuisance, survey.ell))(nuisance)
    spectra = jax.tree.map(np.asarray, spectra)
    return SpectraLikelihood(survey, spectra), spectra


def simulated_data(likelihood: SpectraLikelihood, spectra: Any, seed: int = 0) -> Float[np.ndarray, "ell n"]:
    """Spectra as they would be measured: with a draw of the noise and of the sky.

    Args:
        likelihood: of `simulated_likelihood`.
        spectra: the true ones.
        seed: of the draw.
    """
    exact = jax.tree.map(jnp.asarray, spectra)
    return likelihood.check(likelihood(exact).sample(jax.random.key(seed)))


def shear_models(power: Any, num_bins: int = 10, **options: Any) -> tuple[dict[str, SpectraModel], Any]:
    """Both models of the cosmic shear of a Stage-IV survey, and a function from a seed to simulated data.

    Args:
        power: a matter power, such as `MatterPower`.
        num_bins: bins of redshift.
        **options: more of `stage_iv`.
    """
    likelihood, spectra = simulated_likelihood(stage_iv(num_bins, **options))
    models = {
        "LCDM": SpectraModel(power, likelihood),
        "w0waCDM": SpectraModel(power, likelihood, dark_energy=True, bounds=DARK_ENERGY),
    }
    return models, lambda seed=0: simulated_data(likelihood, spectra, seed)
