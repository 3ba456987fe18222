"""LCDM against w0waCDM of simulated cosmic shear: the posteriors, the evidences, and how well the truth is recovered.

    python benchmarks/cosmology_shear.py [--bins N] [--seeds N] [--realisations N] [--save NAME]

As `armillary run examples/cosmology/shear.yaml`, or with fewer bins. Each seed is another run on the same data; the
scatter of ln BF between them belongs beside the errors that are quoted. Each realisation is another draw of the noise,
whose posterior in LCDM is held against the truth: parameters that are more than two standard deviations away are
counted, of which 4.6 % are expected; the first is the data of the seeds. Times are wall times, compilation included.
"""

from __future__ import annotations

import argparse
import datetime
import importlib.metadata
import json
import os
import time
from pathlib import Path
from typing import Any

import arviz_stats
import jax
import numpy as np
import xarray as xr

from armillary.core import infer
from armillary_cosmology import SpectraModel, fiducial_power, shear_models
from armillary_cosmology._study import ALIGNMENT, REDUCED
from armillary_cosmology.power import MatterPower

jax.config.update("jax_enable_x64", True)
jax.config.update("jax_num_cpu_devices", os.cpu_count())
RESULTS = Path(__file__).parent / "results"


def sample(model: SpectraModel, spectra: np.ndarray, seed: int, steps: argparse.Namespace, evidence: str | None) -> Any:
    """A run as that of shear.yaml, and its time in seconds."""
    start = time.perf_counter()
    tree = infer(
        model,
        spectra,
        sampler="blackjax-nuts",
        sampler_options={"start": "transport", "target_acceptance_rate": 0.85},
        key=jax.random.key(seed),
        num_warmup=steps.warmup,
        num_samples=steps.samples,
        num_chains=steps.chains,
        chain_method="parallel",
        evidence=evidence,
        log_likelihood=False,
        progress_bar=False,
    )
    return tree, time.perf_counter() - start


def latent(tree: xr.DataTree) -> xr.Dataset:
    """The draws of what was sampled, without what is derived."""
    return tree["posterior"].dataset[list(tree["log_prior"].data_vars)]


def convergence(tree: xr.DataTree) -> str:
    """The largest R-hat, the least effective sample size, and the steps of the trajectories."""
    draws = latent(tree)
    r_hat = max(float(value.max()) for value in arviz_stats.rhat(draws).data_vars.values())
    ess = min(float(value.min()) for value in arviz_stats.ess(draws, method="bulk").data_vars.values())
    statistics = tree["sample_stats"]
    return (
        f"max R-hat {r_hat:.4f}, min ESS {ess:.0f}, steps of a trajectory {float(statistics['n_steps'].mean()):.1f}, "
        f"divergences {int(statistics['diverging'].sum())}"
    )


def outside(tree: xr.DataTree) -> tuple[int, int]:
    """How many parameters are more than two standard deviations from the truth, and of how many."""
    truth = fiducial_power().cosmology._asdict() | {"alignment": ALIGNMENT, "calibration": 0.0, "source_shift": 0.0}
    truth["w0_plus_wa"] = truth["w0"] + truth["wa"]
    far = count = 0
    for name, values in latent(tree).items():
        over = ("chain", "draw")
        distance = np.abs(values.mean(over) - truth[name]) / values.std(over)
        far, count = far + int((distance > 2).sum()), count + int(distance.size)
    return far, count


def evidence_of(tree: xr.DataTree) -> str:
    """The value recommended, and that of each method."""
    group = tree["evidence"].dataset
    found = json.loads(group.attrs["diagnostics"])["estimates"]
    estimates = ", ".join(f"{method} {value:.3f} +- {error:.3f}" for method, (value, error) in found.items())
    return (
        f"ln Z {float(group['log_z']):.3f} +- {float(group['log_z_err']):.3f} by {group.attrs['method']}; {estimates}; "
        f"warnings {json.loads(group.attrs['warnings'])}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bins", type=int, default=10, help="of redshift; below ten on coarser grids")
    parser.add_argument("--seeds", type=int, default=1, help="runs of both models")
    parser.add_argument("--realisations", type=int, default=0, help="of the noise, each in LCDM alone")
    parser.add_argument("--warmup", type=int, default=400)
    parser.add_argument("--samples", type=int, default=1500)
    parser.add_argument("--chains", type=int, default=4)
    parser.add_argument("--save", metavar="NAME", help="also write the text to results/NAME")
    arguments = parser.parse_args()

    lines: list[str] = []

    def say(line: str) -> None:
        print(line, flush=True)
        lines.append(line)

    packages = ("armillary-core", "armillary-evidence", "armillary-cosmology", "jax", "numpyro", "blackjax")
    say(", ".join(f"{name} {importlib.metadata.version(name)}" for name in packages))
    device, load = jax.devices()[0].device_kind, os.getloadavg()[0]
    say(f"{datetime.date.today()}, {device}, {os.cpu_count()} cores, load {load:.1f} at the start, float64")
    options = REDUCED if arguments.bins < 10 else {}
    steps = f"{arguments.chains} chains, {arguments.warmup} + {arguments.samples} steps"
    say(f"{arguments.bins} bins {options or ''}, {steps}")
    models, data = shear_models(MatterPower.pretrained(), arguments.bins, **options)

    factors = []
    for seed in range(arguments.seeds):
        found = {}
        for name, model in models.items():
            tree, seconds = sample(model, data(), seed, arguments, "flow")
            far, count = outside(tree)
            say(f"seed {seed}, {name}: {count} parameters, {seconds:.0f} s; {convergence(tree)}; {far} outside 2 sigma")
            say(f"  {evidence_of(tree)}")
            found[name] = tree["evidence"].dataset
        difference = float(found["w0waCDM"]["log_z"] - found["LCDM"]["log_z"])
        error = float(np.hypot(found["w0waCDM"]["log_z_err"], found["LCDM"]["log_z_err"]))
        say(f"seed {seed}: ln BF of w0waCDM over LCDM {difference:.3f} +- {error:.3f}")
        factors.append(difference)
    if len(factors) > 1:
        say(f"ln BF of {len(factors)} seeds: standard deviation {np.std(factors, ddof=1):.3f}")

    total = np.zeros(2, int)
    for seed in range(arguments.realisations):
        tree, seconds = sample(models["LCDM"], data(seed), seed, arguments, None)
        far, count = outside(tree)
        total += far, count
        say(f"realisation {seed}, LCDM: {seconds:.0f} s; {convergence(tree)}; {far} of {count} outside 2 sigma")
    if arguments.realisations:
        say(f"of all realisations {total[0]} of {total[1]} outside 2 sigma: {100 * total[0] / total[1]:.1f} %")
    if arguments.save:
        (RESULTS / arguments.save).write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
