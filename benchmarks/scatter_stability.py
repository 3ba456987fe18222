"""How far scattering statistics, spectra and harmonic coefficients move when a field is warped.

    python benchmarks/scatter_stability.py [--output scatter_stability.png]

A Gaussian field with power about l = 30 (a bell of width 2) is warped by a smooth map of the sphere that moves points
by up to about eps radians. The distance is the norm of the difference in parts of the norm, for the scattering network
of depth 2, the isotropic scattering covariances S1, S3 and S4 together, the power spectrum, and the coefficients
themselves. Printed are the distances; the exponent of each by regression of logarithms on those of eps, to half of the
largest; for the network the slope through the origin, with the part of the variance that the line leaves. Drawn are the
means over seeds and the range. In float64.
"""

from __future__ import annotations

import argparse
import os
import platform

import jax
import numpy as np

jax.config.update("jax_enable_x64", True)

from armillary.scatter import ScatteringCovariance, ScatteringNetwork  # noqa: E402
from armillary.sphere import SHT, GaussLegendre, alm_from_real, evaluate, power_spectrum  # noqa: E402

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--output", default="scatter_stability.png")
parser.add_argument("--bandlimit", type=int, default=48)
parser.add_argument("--seeds", type=int, default=4)
args = parser.parse_args()

L = args.bandlimit
SIZES = np.geomspace(0.0025, 0.32, 8)
GRID = GaussLegendre(2 * L)
SHT_FINE = SHT(GRID, L, real=True)


def warped(alm: jax.Array, size: float) -> jax.Array:
    theta, phi = np.meshgrid(GRID.theta, 2 * np.pi * np.arange(GRID.shape[1]) / GRID.shape[1], indexing="ij")
    theta, phi = theta + size * np.sin(theta) ** 2 * np.cos(phi), phi + size * np.cos(theta) * np.sin(phi)
    return SHT_FINE.analysis(evaluate(alm, theta, phi).real)


def covariances(alm: np.ndarray) -> np.ndarray:
    s = cov(alm)
    return np.concatenate([s.s1, s.s3, s.s4], axis=-1)


degree = np.repeat(np.arange(L), 2 * np.arange(L) + 1)
net, cov = ScatteringNetwork(L, depth=2, J_min=1), ScatteringCovariance(L, N=1, J_min=1)
methods = {
    "scattering network": net,
    "scattering covariances": covariances,
    "power spectrum": power_spectrum,
    "harmonic coefficients": lambda alm: alm,
}
found = {name: [] for name in methods}
for seed in range(args.seeds):
    alm = alm_from_real(np.random.default_rng(seed).normal(size=L * L) * np.exp(-((degree - 30) ** 2) / 8))
    fields = np.stack([alm, *(warped(alm, size) for size in SIZES)])
    for name, method in methods.items():
        features = np.asarray(method(fields)).reshape(len(fields), -1)
        found[name].append(np.linalg.norm(features[1:] - features[0], axis=1) / np.linalg.norm(features[0]))

load = ", ".join(f"{x:.1f}" for x in os.getloadavg())
device = f"{jax.devices()[0].platform}, {platform.machine()}"
print(f"L = {L}, {args.seeds} fields; JAX {jax.__version__}, {device}, load {load}")
print(f"{'eps, radians':24s}" + "".join(f"{size:9.4f}" for size in SIZES) + "   exponent")
for name, values in found.items():
    mean = np.mean(values, axis=0)
    exponent = np.polyfit(np.log(SIZES[:-1]), np.log(mean[:-1]), 1)[0]
    print(f"{name:24s}" + "".join(f"{x:9.4f}" for x in mean) + f"   {exponent:8.2f}")
mean = np.mean(found["scattering network"], axis=0)[:-1]
slope = mean @ SIZES[:-1] / (SIZES[:-1] @ SIZES[:-1])
left = np.sum((mean - slope * SIZES[:-1]) ** 2) / np.sum(mean**2)
print(f"network: {slope:.2f} per radian to eps = {SIZES[-2]:.2f}; the line leaves {100 * left:.2f} % of the square")

from matplotlib.figure import Figure  # noqa: E402

figure = Figure(figsize=(6.4, 4.6), layout="constrained")
axes = figure.subplots()
for name, values in found.items():
    (line,) = axes.loglog(SIZES, np.mean(values, axis=0), "o-", label=name)
    axes.fill_between(SIZES, np.min(values, axis=0), np.max(values, axis=0), color=line.get_color(), alpha=0.2)
axes.loglog(SIZES, slope * SIZES, "k--", lw=1, label=f"{slope:.2f} eps")
axes.set_xlabel("size of the warp, radians")
axes.set_ylabel("distance, in parts of the norm")
axes.legend()
figure.savefig(args.output, dpi=110)
print(f"picture: {args.output}")
