"""Which prior is best, without ground truth: wavelets and the trained denoiser on crops of the Hubble Deep Field.

    python benchmarks/imaging_galaxies.py

Test crops, of which the networks saw none, with noise of several levels. For each prior the evidence, which knows the
data alone, beside the accuracy of its posterior mean, which knows the truth. Needs scikit-image for the picture.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from armillary import imaging
from armillary.imaging._galaxies import WAVELETS, best_wavelet

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "examples" / "galaxies"))
from train import GAP, SPLIT, crops, hubble, psnr

LEVELS = (0.02, 0.05, 0.1, 0.2)


def main() -> None:
    parser = argparse.ArgumentParser(description=str(__doc__).partition("\n")[0])
    parser.add_argument("--crops", type=int, default=2)
    count = parser.parse_args().crops
    test = crops(hubble()[:, SPLIT + GAP :], 64, 64)
    order = np.argsort(test.var((1, 2)))
    chosen = order[np.linspace(len(order) // 2, len(order) - 1, count).astype(int)]
    network = imaging.pretrained_denoiser("galaxies")
    print(f"jax {jax.__version__}, {jax.devices()[0]}; 64 x 64 pixels; ln Z, and PSNR of the posterior mean in dB")
    agree = pairs = 0
    for crop in chosen:
        for noise in LEVELS:
            truth = jnp.asarray(test[crop])
            y = truth + noise * jax.random.normal(jax.random.key(int(crop)), truth.shape, truth.dtype)
            print(f"crop {crop}, noise {noise}: data {psnr(y, test[crop]):.2f} dB")
            rows = []
            for name in WAVELETS:
                prior, log_z = best_wavelet(name, y, noise)
                rows.append((name, log_z, 0.0, psnr(prior.posterior_mean(y, noise), test[crop]), None))
            start = time.perf_counter()
            found = imaging.denoising_evidence(jax.random.key(0), network, y, noise, sigma_max=2.0)
            seconds = time.perf_counter() - start
            rows.append(("galaxies", found.log_z, found.log_z_err, psnr(network(y, noise), test[crop]), seconds))
            for name, log_z, error, quality, seconds in sorted(rows, key=lambda row: -row[1]):
                clock = "" if seconds is None else f"  ({seconds:.1f} s)"
                print(f"  {name:22s} ln Z {log_z:9.1f} +- {error:4.1f}   {quality:6.2f} dB{clock}", flush=True)
            for i, first in enumerate(rows):
                for second in rows[:i]:
                    pairs += 1
                    agree += (first[1] > second[1]) == (first[3] > second[3])
    print(f"of {pairs} pairs of priors the evidence and the accuracy put {agree} in the same order")


if __name__ == "__main__":
    main()
