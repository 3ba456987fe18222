"""The evidence of models whose evidence is known: ln Z, its error, and the time it takes, beside harmonic's.

    python benchmarks/evidence.py [--seeds N] [--only NAME ...] [--save]

Times are wall times of one estimate: ``first`` with compilation, ``again`` without; sampling is not in them. Where
`harmonic` is installed it is given the same samples and its rational-quadratic spline flow at its own defaults.
"""

from __future__ import annotations

import argparse
import datetime
import importlib.metadata
import math
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
from numpyro.infer import MCMC, NUTS

from armillary import evidence


@dataclass
class Case:
    """A posterior with its exact ln Z, and a maker of the problem of a seed."""

    name: str
    dim: int
    truth: float
    make: Callable[[int], evidence.Problem]


def gaussian(dim: int) -> Case:
    """Exact draws of a Gaussian with a random covariance."""
    factor = np.linalg.cholesky(np.eye(dim) + 0.4 * (np.eye(dim, k=1) + np.eye(dim, k=-1)))
    truth = 0.5 * dim * math.log(2 * math.pi) + float(np.log(np.diag(factor)).sum())

    def make(seed):
        z = np.random.default_rng(seed).normal(size=(4, 1000, dim))
        return evidence.from_arrays(z @ factor.T, -0.5 * (z**2).sum(-1))

    return Case(f"Gaussian {dim}-D, 4 x 1000 exact draws", dim, truth, make)


def rosenbrock() -> Case:
    """Exact draws from exp(-100 (y - x^2)^2 - (1 - x)^2) / 400 on [-10, 10] x [-5, 15]; ln Z by quadrature."""

    def make(seed):
        rng = np.random.default_rng(seed)
        x = rng.normal(1, math.sqrt(0.5), 8000)
        y = x**2 + rng.normal(0, math.sqrt(1 / 200), 8000)
        samples = np.stack([x, y], -1)[(np.abs(x) < 10) & (y > -5) & (y < 15)][:4000].reshape(4, 1000, 2)
        x, y = samples[..., 0], samples[..., 1]
        return evidence.from_arrays(samples, -100 * (y - x**2) ** 2 - (1 - x) ** 2 - math.log(400))

    return Case("Rosenbrock 2-D, 4 x 1000 exact draws", 2, -7.149344, make)


def run_nuts(model, *args, seed, num_chains, num_samples=1000):
    mcmc = MCMC(
        NUTS(model),
        num_warmup=500,
        num_samples=num_samples,
        num_chains=num_chains,
        chain_method="vectorized",
        progress_bar=False,
    )
    mcmc.run(jax.random.key(seed), *args)
    return evidence.from_numpyro(mcmc)


def normal_gamma() -> Case:
    """tau ~ Gamma(1e-3, 1e-3), mu ~ Normal(0, 1/sqrt(0.01 tau)), 100 draws of Normal(mu, 1/sqrt(tau)); closed form."""
    np.random.seed(1)
    data = np.random.normal(0, 1, 100)

    def model(x):
        tau = numpyro.sample("tau", dist.Gamma(1e-3, 1e-3))
        mu = numpyro.sample("mu", dist.Normal(0.0, 1 / jnp.sqrt(1e-2 * tau)))
        numpyro.sample("x", dist.Normal(mu, 1 / jnp.sqrt(tau)).expand([100]).to_event(1), obs=x)

    return Case(
        "normal-gamma, NUTS 4 x 1000",
        2,
        -142.2505185867356,
        lambda seed: run_nuts(model, data, seed=seed, num_chains=4),
    )


def hierarchical(num_groups: int, truth: float) -> Case:
    """tau2 ~ InverseGamma(1, 1), mu ~ Normal(0, 1), theta_j ~ Normal(mu, tau), y_j ~ Normal(theta_j, 1); quadrature."""
    rng = np.random.default_rng(0)
    data = rng.normal(0.3, 0.8, num_groups) + rng.normal(size=num_groups)

    def model(y):
        tau2 = numpyro.sample("tau2", dist.InverseGamma(1.0, 1.0))
        mu = numpyro.sample("mu", dist.Normal(0.0, 1.0))
        theta = numpyro.sample("theta", dist.Normal(mu, jnp.sqrt(tau2)).expand([num_groups]).to_event(1))
        numpyro.sample("y", dist.Normal(theta, 1.0).to_event(1), obs=y)

    return Case(
        f"hierarchical normal {num_groups + 2}-D, NUTS 20 x 1000",
        num_groups + 2,
        truth,
        lambda seed: run_nuts(model, data, seed=seed, num_chains=20),
    )


CASES = {
    "gaussian": lambda: gaussian(10),
    "rosenbrock": rosenbrock,
    "normal-gamma": normal_gamma,
    "hierarchical": lambda: hierarchical(35, -56.121888045875124),
}


def ours(problem: evidence.Problem, seed: int) -> tuple[float, float]:
    found = problem.estimate(jax.random.key(seed))
    return found.log_z, found.log_z_err


def harmonics(problem: evidence.Problem, seed: int) -> tuple[float, float]:
    import harmonic

    chains = harmonic.Chains(problem.samples.shape[-1])
    chains.add_chains_3d(problem.samples, problem.log_density)
    train, infer = harmonic.utils.split_data(chains, training_proportion=0.5)
    model = harmonic.model.RQSplineModel(problem.samples.shape[-1], standardize=True)
    model.fit(train.samples, epochs=20, key=jax.random.PRNGKey(seed))
    estimate = harmonic.Evidence(infer.nchains, model)
    estimate.add_chains(infer)
    # Its error is of ln(1/Z) downwards and upwards; their mean is compared.
    low, high = estimate.compute_ln_inv_evidence_errors()
    return -float(estimate.ln_evidence_inv), 0.5 * float(high - low)


def measure(case: Case, estimators: dict, seeds: int) -> list[str]:
    rows = []
    problems = [case.make(seed) for seed in range(seeds)]
    for name, estimate in estimators.items():
        if estimate is None:
            rows.append(f"{case.name:38s} {name:9s} not installed")
            continue
        found, seconds = [], []
        for seed, problem in enumerate(problems):
            start = time.perf_counter()
            found.append(estimate(problem, seed))
            seconds.append(time.perf_counter() - start)
        z, errors = np.array(found).T
        rmse = math.sqrt(np.mean((z - case.truth) ** 2))
        covered = int(np.sum(np.abs(z - case.truth) < 2 * errors))
        again = f"{np.median(seconds[1:]):7.2f}" if seeds > 1 else "      -"
        rows.append(
            f"{case.name:38s} {name:9s} {case.truth:11.4f} {z[0]:11.4f} {errors[0]:8.4f} {rmse:8.4f} "
            f"{covered:4d}/{seeds:<3d} {seconds[0]:7.2f} {again}"
        )
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--only", nargs="+", choices=CASES, default=list(CASES))
    parser.add_argument("--save", action="store_true", help="write the table to benchmarks/results/")
    options = parser.parse_args()
    numpyro.enable_x64()
    try:
        importlib.metadata.version("harmonic")
        peer = harmonics
    except importlib.metadata.PackageNotFoundError:
        peer = None
    today = datetime.date.today().isoformat()
    packages = ("armillary-evidence", "jax", "flowjax", "numpyro", "numpy")
    versions = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in packages)
    load = ", ".join(f"{x:.1f}" for x in os.getloadavg())
    lines = [
        f"{today}; {versions}; float64; device {jax.devices()[0].device_kind}, {os.cpu_count()} cores, load {load}",
        f"{'posterior':38s} {'by':9s} {'exact ln Z':>11s} {'ln Z':>11s} {'error':>8s} {'RMSE':>8s} "
        f"{'in 2 err':>8s} {'first/s':>7s} {'again/s':>7s}",
    ]
    print("\n".join(lines), flush=True)
    for name in options.only:
        rows = measure(CASES[name](), {"armillary": ours, "harmonic": peer}, options.seeds)
        print("\n".join(rows), flush=True)
        lines += rows
    if options.save:
        path = Path(__file__).parent / "results" / f"{today}-evidence-cpu.txt"
        path.parent.mkdir(exist_ok=True)
        path.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
