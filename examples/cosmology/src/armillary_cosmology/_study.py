"""The study of cosmic shear: simulated data, LCDM and w0waCDM, and the demonstration of it."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from ._likelihood import SpectraLikelihood
from ._models import SpectraModel
from ._survey import Survey, stage_iv
from ._tabulated import fiducial_power
from ._theory import Nuisance, cosmic_shear_cls, three_by_two_pt_cls

if TYPE_CHECKING:
    import rich.console
    import xarray

#: The alignments of the simulated sky.
ALIGNMENT = 0.5


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
        "w0waCDM": SpectraModel(power, likelihood, dark_energy=True),
    }
    return models, lambda seed=0: simulated_data(likelihood, spectra, seed)


#: Of `stage_iv`, in the demonstration.
REDUCED = {"num_ell": 15, "num_z": 120}


def demo(directory: Path, *, console: rich.console.Console) -> Mapping[str, xarray.DataTree]:
    """``armillary demo shear``: five bins, LCDM and w0waCDM, the evidence of both, contours.

    Args:
        directory: where the contours go, ``contours.png``.
        console: where it is told what is done.

    Returns:
        The results by the models' names.

    Raises:
        LookupError: no installed distribution offers the evidence estimator ``"flow"``.
    """
    from armillary.core import infer, registry

    from .power import MatterPower

    registry.find("evidence_estimator", "flow")
    parallel = _two_devices()
    models, data = shear_models(MatterPower.pretrained(), 5, **REDUCED)
    console.print("Simulated cosmic shear of a Stage-IV survey: 5 bins, 15 spectra; two models, NUTS and evidence")
    results = {}
    for name, model in models.items():
        console.print(f"[bold]{name}[/bold]")
        results[name] = infer(
            model,
            data(),
            sampler="blackjax-nuts",
            sampler_options={"start": "transport"},
            key=jax.random.key(0),
            num_warmup=200,
            num_samples=500,
            num_chains=4,
            chain_method="parallel" if parallel else "vectorized",
            evidence="flow",
            log_likelihood=False,
        )
    save_contours(results, directory / "contours.png")
    console.print(f"Contours: {directory / 'contours.png'}", soft_wrap=True, highlight=False)
    return results


def _two_devices() -> bool:
    """Whether there are two devices: on the CPU JAX is asked for them, which it does before it is first used."""
    if (os.cpu_count() or 1) > 1 and "JAX_NUM_CPU_DEVICES" not in os.environ:
        with contextlib.suppress(RuntimeError):  # it has been used
            jax.config.update("jax_num_cpu_devices", 2)
    return jax.device_count() % 2 == 0


def save_contours(results: Mapping[str, xarray.DataTree], path: Path) -> None:
    """The contours of several models beside each other in every plane, as a picture.

    Args:
        results: of `armillary.core.infer`, by name.
        path: the file to write.
    """
    import matplotlib.pyplot as plt

    from ._contours import PLANES, plot_contours

    figure, axes = plt.subplots(1, len(PLANES), figsize=(9, 4), layout="constrained")
    for plane, ax in zip(PLANES, axes, strict=True):
        plot_contours(results, plane, ax)
    figure.savefig(path, dpi=120)
    plt.close(figure)
