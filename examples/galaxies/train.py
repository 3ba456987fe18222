"""Train the denoisers of galaxies that armillary-imaging ships, and report how accurate they are.

    pip install armillary-imaging scikit-image
    python examples/galaxies/train.py OUTPUT_DIRECTORY

The images are crops of the Hubble Deep Field (NASA and ESA, in scikit-image as ``data.hubble_deep_field()``), its
luminance between 0 and 1. Training crops lie in columns 0 to 599 of it, test crops in columns 640 to 999, so that no
pixel is in both. It takes about half an hour on two busy cores and can be stopped and started again.
"""

from __future__ import annotations

import argparse
import json
import time
from importlib import metadata
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from PIL import Image

from armillary import imaging

SPLIT, GAP = 600, 40
SIZE, STRIDE = 32, 20
LEVELS = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5)


def hubble() -> np.ndarray:
    """The luminance of the Hubble Deep Field, between 0 and 1."""
    files = metadata.files("scikit-image") or []
    path = next(file for file in files if file.name == "hubble_deep_field.jpg").locate()
    with Image.open(str(path)) as picture:
        return np.asarray(picture.convert("L"), np.float32) / 255


def crops(image: np.ndarray, size: int, stride: int) -> np.ndarray:
    """Square crops on a lattice."""
    rows, columns = (range(0, length - size + 1, stride) for length in image.shape)
    return np.stack([image[i : i + size, j : j + size] for i in rows for j in columns])


def dihedral(images: np.ndarray) -> np.ndarray:
    """The images in their eight orientations: the sky has no up."""
    turned = [np.rot90(images, k, axes=(1, 2)) for k in range(4)]
    return np.concatenate([*turned, *(image[:, :, ::-1] for image in turned)])


def psnr(estimate: np.ndarray, truth: np.ndarray) -> float:
    """In dB, for a peak of 1."""
    return float(-10 * np.log10(np.mean((np.asarray(estimate) - truth) ** 2)))


def wavelets(noisy: np.ndarray, sigma: float) -> np.ndarray:
    """The posterior mean under the wavelet prior of most evidence, over scales and levels: what there is to beat."""
    best, mean = -np.inf, noisy
    for levels in (2, 3, 4):
        for scale in np.geomspace(0.003, 0.3, 13):
            prior = imaging.L1Wavelet("db4", levels, float(scale), shape=noisy.shape[1:])
            log_z = float(prior.log_evidence(noisy, sigma).sum())
            if log_z > best:
                best, mean = log_z, np.asarray(prior.posterior_mean(noisy, sigma))
    return mean


def report(networks: dict[str, object], test: np.ndarray) -> list[dict[str, object]]:
    """PSNR over all test pixels, by noise level."""
    rows = []
    for sigma in LEVELS:
        noise = sigma * np.random.default_rng(0).normal(size=test.shape).astype(np.float32)
        noisy = test + noise
        row = {"sigma": sigma, "noisy": psnr(noisy, test), "wavelets": psnr(wavelets(noisy, sigma), test)}
        for name, network in networks.items():
            row[name] = psnr(jax.jit(lambda x, network=network, sigma=sigma: network(x, sigma))(noisy), test)
        rows.append(row)
        print("  ".join(f"{key} {value:.2f}" for key, value in row.items()), flush=True)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=str(__doc__).partition("\n")[0])
    parser.add_argument("directory", type=Path)
    parser.add_argument("--epochs", type=int, default=6)
    arguments = parser.parse_args()
    arguments.directory.mkdir(parents=True, exist_ok=True)
    image = hubble()
    train = jnp.asarray(dihedral(crops(image[:, :SPLIT], SIZE, STRIDE)))
    test = crops(image[:, SPLIT + GAP :], 64, 64)
    data_std = float(train.std())
    print(f"{len(train)} training crops, {len(test)} test crops, standard deviation {data_std:.4f}", flush=True)
    makers = {
        "galaxies": lambda: imaging.DRUNet(key=jax.random.key(0), data_std=data_std, widths=(16, 32, 64), num_blocks=1),
        "galaxies-nonexpansive": lambda: imaging.DnCNN(
            key=jax.random.key(1), data_std=data_std, width=24, depth=5, spectral_norm=True
        ),
    }
    # The first knows the noise of a diffusion as well; the second is for plug-and-play restoration.
    noise = {"galaxies": (0.002, 2.0), "galaxies-nonexpansive": (0.002, 0.5)}
    networks = {}
    for seed, (name, make) in enumerate(makers.items()):
        start = time.perf_counter()
        trained = imaging.train_denoiser(
            jax.random.key(10 + seed),
            make(),
            train,
            noise=noise[name],
            num_epochs=arguments.epochs,
            learning_rate=2e-3,
            checkpoint=arguments.directory / f"{name}.training",
            resume=True,
            progress_bar=True,
        )
        networks[name] = trained.network
        imaging.save_denoiser(arguments.directory / f"{name}.eqx", trained.network)
        print(f"{name}: {time.perf_counter() - start:.0f} s, losses {np.round(trained.losses, 4)}", flush=True)
    rows = report(networks, test)
    (arguments.directory / "accuracy.json").write_text(json.dumps(rows, indent=1))


if __name__ == "__main__":
    main()
