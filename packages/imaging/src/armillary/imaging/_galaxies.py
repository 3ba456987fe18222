"""The demonstration ``armillary demo galaxies``: which prior of galaxies is best, without ground truth.

A crop of the Hubble Deep Field (NASA and ESA, ``hubble_deep_field.jpg`` of the PyPI package scikit-image) that the
trained network has not seen, with noise of several levels. The evidence, which knows the data alone, of wavelet priors
and of the network's, beside the accuracy of their estimates, which knows the clean crop.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np

from armillary.core import Evidence

from . import _diffusion, _myula
from ._denoising_evidence import denoising_evidence
from ._priors_wavelet import L1Wavelet
from ._saving import pretrained_denoiser

if TYPE_CHECKING:
    import rich.console
    import xarray

# Rows and columns of the picture: the training crops are of columns 0 to 599.
CROP = (slice(448, 512), slice(704, 768))
WAVELETS = ("haar", "db2", "db4", "db8", "sym4")
NOISES, SHOWN = (0.05, 0.1, 0.2), 0.1
NETWORK, SIGMA_MAX, SIGMA_MIN = "galaxies", 2.0, 0.005
CHAINS = 4


def crop() -> np.ndarray:
    """The clean crop, 64 x 64 pixels of luminance between 0 and 1.

    Raises:
        ImportError: scikit-image or Pillow is not installed.
    """
    try:
        from PIL import Image

        files = metadata.files("scikit-image") or []
    except (ImportError, metadata.PackageNotFoundError) as error:
        raise ImportError("the demonstration's image is in other packages: pip install scikit-image pillow") from error
    path = next(file for file in files if file.name == "hubble_deep_field.jpg").locate()
    with Image.open(str(path)) as picture:
        return np.asarray(picture.convert("L"), np.float32)[CROP] / 255


def snr(estimate: Any, truth: np.ndarray) -> float:
    """The signal-to-noise ratio of an estimate, in dB."""
    return float(10 * np.log10(np.sum(truth**2) / np.sum((np.asarray(estimate) - truth) ** 2)))


def best_wavelet(name: str, y: jax.Array, noise: float) -> tuple[L1Wavelet, float]:
    """The prior of a wavelet at the depth and scale of the largest evidence, and ln Z in closed form."""
    priors = [
        L1Wavelet(name, levels, scale, shape=(y.shape[0], y.shape[1]))
        for levels in (3, 4)
        for scale in np.geomspace(0.005, 0.3, 12).tolist()
    ]
    evidences = [float(prior.log_evidence(y, noise)) for prior in priors]
    best = int(np.argmax(evidences))
    return priors[best], evidences[best]


def draw(key: jax.Array, algorithm: Any, y: jax.Array, *, burn_in: int, draws: int, thin: int) -> np.ndarray:
    """Draws of the posterior, with leading axes of chains and draws."""

    def chain(key: jax.Array) -> jax.Array:
        def step(state: Any, key: jax.Array) -> tuple[Any, None]:
            return algorithm.step(key, state)[0], None

        def kept(state: Any, key: jax.Array) -> tuple[Any, jax.Array]:
            state, _ = jax.lax.scan(step, state, jax.random.split(key, thin))
            return state, state.position

        first, second = jax.random.split(key)
        state, _ = jax.lax.scan(step, algorithm.init(y), jax.random.split(first, burn_in))
        return jax.lax.scan(kept, state, jax.random.split(second, draws))[1]

    return np.asarray(jax.jit(jax.vmap(chain))(jax.random.split(key, CHAINS)))


def demo(directory: Path, *, console: rich.console.Console) -> Mapping[str, xarray.DataTree]:
    """Compare the priors at every noise level; draw from two posteriors at one.

    Args:
        directory: where the picture ``galaxies.png`` is written.
        console: where it is told what is done.

    Returns:
        Results by the priors' names, with draws of the image, the evidence, and the clean crop in ``constant_data``.

    Raises:
        ImportError: scikit-image, Pillow or matplotlib is not installed.
    """
    from rich.table import Table

    truth, network = crop(), pretrained_denoiser(NETWORK)
    console.print("A crop of the Hubble Deep Field that the network has not seen, 64 x 64 pixels")
    table = Table("noise", "prior", "ln Z", "SNR in dB, hidden from the inference", title="Priors by evidence")
    for noise in NOISES:
        y = noisy(truth, noise)
        rows: list[tuple[str, float, float, float]] = []
        for name in WAVELETS:
            prior, log_z = best_wavelet(name, y, noise)
            rows.append((name, log_z, 0.0, snr(prior.posterior_mean(y, noise), truth)))
        found = denoising_evidence(jax.random.key(1), network, y, noise, sigma_max=SIGMA_MAX)
        rows.append(("denoiser", found.log_z, found.log_z_err, snr(network(y, noise), truth)))
        for name, log_z, error, quality in sorted(rows, key=lambda row: -row[1]):
            table.add_row(f"{noise}", name, f"{log_z:.1f} ± {error:.1f}", f"{quality:.2f}")
        table.add_row(f"{noise}", "(the data)", "", f"{snr(y, truth):.2f}", end_section=True)
        if noise == SHOWN:
            wavelet = max(rows[:-1], key=lambda row: row[1])
            evidences = {"wavelets": Evidence(wavelet[1], 0.0, "closed form"), "denoiser": found}
    console.print(table)
    y = noisy(truth, SHOWN)
    log_likelihood = likelihood(y)
    prior, _ = best_wavelet(wavelet[0], y, SHOWN)
    console.print(f"Draws at noise {SHOWN}: {wavelet[0]} wavelets by MYULA, the denoiser by diffusion (DiffPIR)")
    # Not plug-and-play ULA: this network's residual is not non-expansive, and the chain runs away. Diffusion asks for
    # the denoiser only what it was trained for, and gives intervals that are too narrow.
    myula = _myula.as_top_level_api(log_likelihood, prior.prox, lipschitz=1 / SHOWN**2, smoothing=0.03**2)
    diffusion = _diffusion.as_top_level_api(log_likelihood, network, "diffpir", 60, SIGMA_MAX, SIGMA_MIN)
    draws = {
        "wavelets": draw(jax.random.key(2), myula, y, burn_in=500, draws=250, thin=8),
        "denoiser": draw(jax.random.key(2), diffusion, y, burn_in=0, draws=10, thin=1),
    }
    picture(directory / "galaxies.png", truth, np.asarray(y), draws)
    console.print(f"Picture: {directory / 'galaxies.png'}", soft_wrap=True, highlight=False)
    return {name: tree(draws[name], evidences[name], truth, np.asarray(y)) for name in draws}


def noisy(truth: np.ndarray, noise: float) -> jax.Array:
    """The crop with white noise, in single precision."""
    return jnp.asarray(truth) + noise * jax.random.normal(jax.random.key(0), truth.shape, jnp.float32)


def likelihood(y: jax.Array) -> Callable[[jax.Array], jax.Array]:
    """The log-likelihood at the noise level that is shown."""
    return lambda x: -0.5 * jnp.sum((y - x) ** 2) / SHOWN**2


def tree(draws: np.ndarray, evidence: Evidence, truth: np.ndarray, y: np.ndarray) -> xarray.DataTree:
    """A result in the form of `armillary.core.infer`."""
    import arviz_base
    import xarray

    pixels = ["row", "column"]
    result = arviz_base.from_dict(
        {"posterior": {"image": draws}, "observed_data": {"data": y}, "constant_data": {"truth": truth}},
        dims={"image": pixels, "data": pixels, "truth": pixels},
    )
    result["evidence"] = xarray.DataTree(
        xarray.Dataset(
            {"log_z": evidence.log_z, "log_z_err": evidence.log_z_err},
            attrs={
                "method": evidence.method,
                "diagnostics": json.dumps(dict(evidence.diagnostics)),
                "warnings": "[]",
                "notes": "[]",
            },
        )
    )
    return result


def picture(path: Path, truth: np.ndarray, y: np.ndarray, draws: Mapping[str, np.ndarray]) -> None:
    """The crop and the data; for each prior the posterior mean, its error and the standard deviation.

    Raises:
        ImportError: matplotlib is not installed.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError("the picture needs matplotlib: pip install 'armillary-core[plots]'") from error
    figure = Figure(figsize=(11, 5.2), layout="constrained")
    axes = figure.subplots(2, 4)
    panels = [(axes[0, 0], truth, "clean crop, hidden"), (axes[1, 0], y, f"data, {snr(y, truth):.1f} dB")]
    for row, (name, x) in zip(axes, draws.items(), strict=True):
        mean, deviation = x.mean((0, 1)), x.std((0, 1))
        panels.append((row[1], mean, f"{name}: mean, {snr(mean, truth):.1f} dB"))
        for axis, values, title in (
            (row[2], np.abs(mean - truth), f"{name}: |mean - clean|"),
            (row[3], deviation, f"{name}: standard deviation"),
        ):
            shown = axis.imshow(values, cmap="viridis", vmin=0, vmax=0.1)
            axis.set_title(title, fontsize=10)
    for axis, values, title in panels:
        axis.imshow(values, cmap="gray", vmin=0, vmax=1)
        axis.set_title(title, fontsize=10)
    for axis in axes.flat:
        axis.set_axis_off()
    figure.colorbar(shown, ax=axes[:, 3], shrink=0.8)
    figure.savefig(path, dpi=110)
