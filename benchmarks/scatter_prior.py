"""A masked, noisy map with a scattering prior and with a Gaussian one: which is nearer to the truth, and is it sure?

The fields are textures of one target by `armillary.scatter.synthesise`, so that each has the target's scattering
covariances and spectrum: the relief of the Earth, or a lognormal field (--target lognormal). The priors know some of
them; the truth is another. Both have the same mean spectrum of these examples, so that what differs is what the prior
knows beyond the spectrum. The posterior is sampled by NumPyro's HMC, with the diagonal of the Gaussian posterior's
covariance as metric. Errors are root mean squares over the sphere of the posterior mean less the truth, in units of the
truth's; coverage is the part of the sphere where the truth is between the 5 % and 95 % quantiles.

    python benchmarks/scatter_prior.py --bandlimit 64
"""

from __future__ import annotations

import argparse
import os
import time
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
from numpyro.infer import HMC, MCMC

from armillary.scatter import ScatteringCovariance, ScatteringPrior, synthesise
from armillary.sphere import SHT, GaussLegendre, IsotropicGaussian, MaskedGaussian, alm_from_real


class Row(NamedTuple):
    """Errors and coverage: over the sphere, where the map is seen, and where it is hidden."""

    error: tuple[float, float, float]
    coverage: tuple[float, float, float]
    acceptance: float
    seconds: float


def lognormal(L):
    x = np.random.default_rng(0).normal(size=L * L) / (1 + np.repeat(np.arange(L), 2 * np.arange(L) + 1)) ** 1.5
    x = x.astype(np.float32)
    sht = SHT(GaussLegendre(2 * L), L, real=True)
    f = np.asarray(sht.synthesis(alm_from_real(x)))
    f = np.exp(f / f.std())
    return sht.analysis(jnp.asarray(f - f.mean(), jnp.float32))


def relief(L):
    from armillary.sphere._earth import relief

    f, grid = relief()
    return SHT(grid, L, real=True).analysis(jnp.asarray(f, jnp.float32))


def holes(grid, num, radius, seed=0):
    """True where a map is seen: outside of discs."""
    theta, phi = np.meshgrid(np.asarray(grid.theta), np.asarray(grid.phi), indexing="ij")
    points = np.stack([np.sin(theta) * np.cos(phi), np.sin(theta) * np.sin(phi), np.cos(theta)], axis=-1)
    centres = np.random.default_rng(seed).normal(size=(num, 3))
    centres /= np.linalg.norm(centres, axis=1, keepdims=True)
    return (points @ centres.T).max(axis=-1) < np.cos(radius)


def model(prior, sht, data, noise, seen):
    x = numpyro.sample("x", prior)
    f = sht.synthesis(alm_from_real(x))
    numpyro.sample("data", MaskedGaussian(f, noise, seen, event_dim=2), obs=data)


def study(goal, L, *, examples=4, truths=1, noise=0.7, num_holes=20, radius=0.18, chains=2, warmup=60, draws=150):
    """Rows by truth, of the Gaussian prior and of the scattering prior."""
    goal = jnp.asarray(goal, jnp.complex64)
    cov = ScatteringCovariance(L, N=2, J_min=1, reference=goal, backend="table")
    textures = synthesise(jax.random.key(0), cov, goal, num=examples + truths)
    tilted = ScatteringPrior.fit(textures[:examples], cov)
    grid = GaussLegendre(L)
    sht = SHT(grid, L, real=True, backend="table")
    seen = holes(grid, num_holes, radius)
    area = np.broadcast_to(np.asarray(grid.weights)[:, None] / (4 * np.pi), seen.shape)
    rows = []
    for k in range(truths):
        truth = np.asarray(sht.synthesis(textures[examples + k]))
        scale = float(np.sqrt((area * truth**2).sum()))
        sigma = noise * scale
        data = jnp.asarray(truth + sigma * np.random.default_rng(k).normal(size=truth.shape), jnp.float32)
        # The noise of a coefficient, were the whole map seen and its pixels equal in area.
        metric = {("x",): 1 / (1 / tilted.root**2 + seen.mean() * seen.size / (4 * np.pi * sigma**2))}
        row = {}
        for name, prior in [("Gaussian", IsotropicGaussian(tilted.cl)), ("scattering", tilted)]:
            kernel = HMC(model, trajectory_length=1.5, inverse_mass_matrix=metric, adapt_mass_matrix=False)
            mcmc = MCMC(
                kernel,
                num_warmup=warmup,
                num_samples=draws,
                num_chains=chains,
                chain_method="vectorized",
                progress_bar=False,
            )
            start = time.perf_counter()
            first = IsotropicGaussian(tilted.cl).sample(jax.random.key(3), (chains,))
            mcmc.run(
                jax.random.key(2),
                prior,
                sht,
                data,
                sigma,
                seen,
                init_params={"x": first},
                extra_fields=("accept_prob",),
            )
            x = mcmc.get_samples()["x"]
            maps = np.concatenate([np.asarray(sht.synthesis(alm_from_real(part))) for part in jnp.split(x, chains)])
            seconds = time.perf_counter() - start
            inside = (np.quantile(maps, 0.05, axis=0) < truth) & (truth < np.quantile(maps, 0.95, axis=0))
            apart = (maps.mean(axis=0) - truth) ** 2
            parts = [np.ones_like(seen), seen, ~seen]
            row[name] = Row(
                tuple(float(np.sqrt((area * apart)[part].sum() / area[part].sum()) / scale) for part in parts),
                tuple(float((area * inside)[part].sum() / area[part].sum()) for part in parts),
                float(mcmc.get_extra_fields()["accept_prob"].mean()),
                seconds,
            )
        rows.append(row)
    return rows


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bandlimit", type=int, default=64)
    parser.add_argument("--target", choices=["relief", "lognormal"], default="relief")
    parser.add_argument("--truths", type=int, default=1)
    parser.add_argument("--noise", type=float, default=0.7, help="per sample, in units of the field's own")
    parser.add_argument("--chains", type=int, default=2)
    parser.add_argument("--draws", type=int, default=150)
    arguments = parser.parse_args()
    L = arguments.bandlimit
    goal = (relief if arguments.target == "relief" else lognormal)(L)
    rows = study(
        goal, L, truths=arguments.truths, noise=arguments.noise, chains=arguments.chains, draws=arguments.draws
    )
    print(f"JAX {jax.__version__}, NumPyro {numpyro.__version__}, {jax.devices()[0]}, load {os.getloadavg()[0]:.1f}")
    print(f"textures of {arguments.target}, L = {L}, noise {arguments.noise} of the field")
    print("| truth | prior | error | seen | hidden | 90 % coverage | seen | hidden | acceptance | s |")
    print("|---|---|---|---|---|---|---|---|---|---|")
    for k, row in enumerate(rows):
        for name, r in row.items():
            numbers = " | ".join([*(f"{e:.4f}" for e in r.error), *(f"{100 * c:.1f} %" for c in r.coverage)])
            print(f"| {k} | {name} | {numbers} | {r.acceptance:.2f} | {r.seconds:.0f} |")


if __name__ == "__main__":
    main()
