"""The evidence of models whose evidence is known: ln Z, its error, and the time it takes, beside other ways to it.

    python benchmarks/evidence.py [--only NAME ...] [--seeds N] [--peers PYTHON] [--samples DIRECTORY] [--save]

Each case has posterior draws of some seeds, which all estimators get. Their times are wall times of one estimate, the
first with compilation and the median of the others; sampling is not in them. PYTHON is the interpreter of another
environment with harmonic and dynesty (see evidence_peers.py). harmonic gets as many epochs as fit into the time of our
first estimate. Nested sampling, ours by BlackJAX and dynesty's, draws for itself, once.
"""

from __future__ import annotations

import argparse
import datetime
import importlib.metadata
import importlib.util
import json
import math
import os
import subprocess
import tempfile
import time
import unittest.mock
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import flowjax.train
import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import optax
from flowjax.bijections import Invert
from flowjax.distributions import StandardNormal, Transformed
from numpyro.infer import MCMC, NUTS

from armillary import core, evidence
from armillary.evidence import RealNVP, _architectures, _train

HERE = Path(__file__).parent


def oracles() -> Any:
    """The models of the tests, whose evidences are closed forms or by quadrature, with their exact draws."""
    path = HERE.parent / "packages" / "evidence" / "tests" / "test_oracles.py"
    spec = importlib.util.spec_from_file_location("test_oracles", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@dataclass
class Case:
    """A posterior with its exact ln Z."""

    label: str
    truth: float
    model: Callable[[], None]
    # Draws in the unconstrained space, (chain, draw, dim).
    draws: Callable[[int], np.ndarray]
    # Live points of nested sampling; none where it would take too long.
    live: int | None = None

    def problem(self, samples: np.ndarray) -> evidence.Problem:
        target = core.Target.from_numpyro(self.model)
        return evidence.from_arrays(samples, None, lambda vector: target.log_density(target.unravel(vector)))


def by_nuts(model: Callable[[], None], chains: int, number: int = 1000) -> Callable[[int], np.ndarray]:
    mcmc = MCMC(
        NUTS(model),
        num_warmup=1000,
        num_samples=number,
        num_chains=chains,
        chain_method="vectorized",
        progress_bar=False,
    )

    def draws(seed: int) -> np.ndarray:
        mcmc.run(jax.random.key(seed))
        return evidence.from_numpyro(mcmc).samples

    return draws


def hierarchical(groups: int, truth: float, live: int | None) -> Case:
    """tau2 ~ InverseGamma(1, 1), mu ~ Normal(0, 1), theta_j ~ Normal(mu, tau), y_j ~ Normal(theta_j, 1); quadrature."""
    rng = np.random.default_rng(0)
    data = rng.normal(0.3, 0.8, groups) + rng.normal(size=groups)

    def model():
        tau2 = numpyro.sample("tau2", dist.InverseGamma(1.0, 1.0))
        mu = numpyro.sample("mu", dist.Normal(0.0, 1.0))
        theta = numpyro.sample("theta", dist.Normal(mu, jnp.sqrt(tau2)).expand([groups]).to_event(1))
        numpyro.sample("y", dist.Normal(theta, 1.0).to_event(1), obs=data)

    label = f"hierarchical normal {groups + 2}-D, NUTS 20 x 1000"
    return Case(label, truth, model, by_nuts(model, 20), live)


def rosenbrock(dim: int, truth: float, live: int) -> Case:
    """exp(-sum 100 (x_{i+1} - x_i^2)^2 + (1 - x_i)^2), uniform on [-5, 5]^dim; quadrature."""

    def model():
        x = numpyro.sample("x", dist.Uniform(-5.0, 5.0).expand([dim]).to_event(1))
        numpyro.factor("f", -jnp.sum(100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2))

    def draws(seed: int) -> np.ndarray:
        x = oracles().chain_rosenbrock(dim, seed, 20, 1000)
        return np.log(x + 5) - np.log(5 - x)

    return Case(f"Rosenbrock {dim}-D, 20 x 1000 exact draws", truth, model, draws, live)


def radiata(column: int) -> Case:
    """Linear regression of the strength of pine, on its density (0) or on that adjusted for resin (1); closed form."""
    regression = oracles().radiata(column)
    return Case(
        f"radiata pine, model {column + 1}, NUTS 4 x 2000",
        regression.log_z,
        regression.model,
        by_nuts(regression.model, 4, 2000),
    )


CASES: dict[str, Callable[[], Case]] = {
    "rosenbrock-2": lambda: rosenbrock(2, -5.804132, 1000),
    "rosenbrock-10": lambda: rosenbrock(10, -43.108355, 1000),
    "radiata-1": lambda: radiata(0),
    "radiata-2": lambda: radiata(1),
    "hierarchical-37": lambda: hierarchical(35, -56.121888045875124, 1000),
    "hierarchical-157": lambda: hierarchical(155, -264.9742882893303, None),
}

Found = list[tuple[float, float]]  # ln Z and its error of each seed
HEAD = (
    f"{'posterior':40s} {'by':30s} {'exact ln Z':>11s} {'first ln Z':>11s} {'error':>8s} {'RMSE':>8s} {'in 2 err':>8s} "
    f"{'hard':>5s} {'first/s':>8s} {'again/s':>8s}"
)


def row(case: Case, by: str, found: Found, seconds: Sequence[float], hard: int | None = None) -> str:
    z, errors = np.array(found).T
    rmse = math.sqrt(np.mean((z - case.truth) ** 2))
    covered = int(np.sum(np.abs(z - case.truth) < 2 * errors))
    again = f"{np.median(seconds[1:]):8.1f}" if len(seconds) > 1 else f"{'-':>8s}"
    return (
        f"{case.label:40s} {by:30s} {case.truth:11.4f} {z[0]:11.4f} {errors[0]:8.4f} {rmse:8.4f} "
        f"{covered:5d}/{len(z):<2d} {'-' if hard is None else hard:>5} {seconds[0]:8.1f} {again}"
    )


def measure(name: str, case: Case, seeds: int, peers: str | None, peer_seeds: int, directory: Path) -> list[str]:
    files = []
    for seed in range(seeds):
        file = directory / f"{name}-{seed}.npz"
        if not file.exists():
            problem = case.problem(case.draws(seed))
            np.savez(file, samples=problem.samples, log_density=problem.log_density)
        files.append(file)
    found: dict[str, Found] = {"lhm": [], "bridge": [], "is": []}
    seconds, hard = [], 0
    for seed, file in enumerate(files):
        with np.load(file) as arrays:
            problem = case.problem(arrays["samples"])
        start = time.perf_counter()
        estimate = problem.estimate(jax.random.key(seed), methods=tuple(found))
        seconds.append(time.perf_counter() - start)
        hard += any(warning.hard for warning in estimate.warnings)
        for method, each in estimate.estimates.items():
            found[method].append((each.log_z, each.log_z_err))
    rows = [row(case, f"armillary, {method} (one run)", each, seconds, hard) for method, each in found.items()]
    if peers is not None:
        # Its default, and where that is far from enough what suits the dimension.
        for temperature in (0.8, 0.95) if name == "hierarchical-157" else (0.8,):
            same = files[:peer_seeds]
            answer = ask(peers, "harmonic", "--seconds", seconds[0], "--temperature", temperature, *same)
            by = f"harmonic, T={temperature}, {answer['epochs']} epochs"
            rows.append(row(case, by, answer["found"], answer["seconds"]))
            ours, theirs = (
                math.sqrt(np.mean((np.array(each)[:peer_seeds, 0] - case.truth) ** 2))
                for each in (found["bridge"], answer["found"])
            )
            rows.append(f"{'':40s} RMSE of the bridge over harmonic's on the same {len(same)}: {ours / theirs:.2f}")
        if name.startswith("rosenbrock"):
            answer = ask(peers, "dynesty", "--live", case.live, name.partition("-")[2])
            rows.append(row(case, f"dynesty, {case.live} live", answer["found"], answer["seconds"]))
    if case.live is not None:
        sampler = core.samplers.NestedSliceSampling(num_live=case.live)
        start = time.perf_counter()
        nested = core.compare({"nested": core.infer(case.model, sampler=sampler, progress_bar=False)}).rows[0]
        rows.append(
            row(
                case,
                f"nested slice sampling, {case.live} live",
                [(nested.log_z, nested.log_z_err)],
                [time.perf_counter() - start],
            )
        )
    return rows


def ask(python: str, *arguments: object) -> dict:
    """Run the peers' script in their environment."""
    command = [python, str(HERE / "evidence_peers.py"), *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)}\n{done.stderr}")
    return json.loads(done.stdout.splitlines()[-1])


def epochs(directory: Path) -> list[str]:
    """An epoch of training the same flow on the same draws in single precision, ours and FlowJAX's own."""
    with np.load(directory / "hierarchical-37-0.npz") as arrays:
        draws = arrays["samples"].reshape(-1, 37)[:10000]
    with jax.enable_x64(False):
        x = jnp.asarray((draws - draws.mean(0)) / draws.std(0))
        architecture, batch, number = RealNVP(), 256, 30
        ends: dict[str, list[float]] = {"armillary": [], "flowjax": []}
        _train.train_bijection(
            jax.random.key(0),
            architecture,
            x[:8000],
            x[8000:],
            number,
            lambda _: ends["armillary"].append(time.perf_counter()),
        )

        class Loop(list):
            """Stands for the progress bar of FlowJAX's loop, which alone knows when an epoch ends."""

            def __init__(self, steps: Sequence[int], disable: bool) -> None:
                super().__init__(steps)

            def set_postfix(self, losses: object) -> None:
                ends["flowjax"].append(time.perf_counter())

        bijection = _architectures.build(architecture, jax.random.key(0), 37)
        with unittest.mock.patch("flowjax.train.loops.tqdm", Loop):
            flowjax.train.fit_to_data(
                jax.random.key(0),
                Transformed(StandardNormal((37,)), Invert(bijection)),
                x,
                max_epochs=number,
                max_patience=number,
                batch_size=batch,
                val_prop=0.2,
                optimizer=optax.chain(optax.clip_by_global_norm(5.0), optax.adam(1e-3)),
            )
    # The first compile.
    found = {name: float(np.median(np.diff(times)[2:])) for name, times in ends.items()}
    ratio = found["flowjax"] / found["armillary"]
    each = ", ".join(f"{name} {1e3 * value:.0f} ms" for name, value in found.items())
    return [f"an epoch, RealNVP in 37-D, 8000 draws in batches of {batch}, float32, medians: {each}; ratio {ratio:.2f}"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--only", nargs="+", choices=[*CASES, "epoch"], default=[*CASES, "epoch"])
    parser.add_argument("--peer-seeds", type=int, default=3, help="of them for harmonic, which takes a minute each")
    parser.add_argument("--peers", help="the interpreter of an environment with harmonic and dynesty")
    parser.add_argument("--samples", type=Path, help="where to keep the draws for another run")
    parser.add_argument("--save", action="store_true", help="write the table to benchmarks/results/")
    options = parser.parse_args()
    numpyro.enable_x64()
    packages = ("armillary-evidence", "jax", "flowjax", "numpyro", "blackjax", "numpy")
    versions = [f"{name} {importlib.metadata.version(name)}" for name in packages]
    if options.peers:
        versions += ask(options.peers, "versions")["versions"]
    device = jax.devices()[0]
    load = ", ".join(f"{x:.1f}" for x in os.getloadavg())
    today = datetime.date.today().isoformat()
    lines = [
        f"{today}; {', '.join(versions)}; float64; device {device.device_kind}, {os.cpu_count()} cores, load {load}",
        HEAD,
    ]
    print("\n".join(lines), flush=True)
    with tempfile.TemporaryDirectory() as temporary:
        directory = options.samples or Path(temporary)
        directory.mkdir(exist_ok=True)
        for name in options.only:
            if name == "epoch":
                rows = epochs(directory) if (directory / "hierarchical-37-0.npz").exists() else []
            else:
                rows = measure(name, CASES[name](), options.seeds, options.peers, options.peer_seeds, directory)
            print("\n".join(rows), flush=True)
            lines += rows
    if options.save:
        path = HERE / "results" / f"{today}-evidence-{device.platform}.txt"
        path.parent.mkdir(exist_ok=True)
        path.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
