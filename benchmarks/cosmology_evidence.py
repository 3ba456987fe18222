"""The evidence of cosmic shear in LCDM with six parameters: harmonic mean and bridge beside nested sampling.

    python benchmarks/cosmology_evidence.py [--seeds N] [--live N] [--save]

Three bins, simulated from CAMB's spectra with noise; the six parameters of LCDM with baryonic feedback have the priors
of `SpectraModel`, and what belongs to the bins is fixed at the truth. The posterior reaches the bounds in some of them.
NUTS gives the draws of which the harmonic mean and the bridge are made; nested slice sampling draws for itself. Each
seed is one of noise in the algorithms, the data stay. Wall times are with compilation.
"""

from __future__ import annotations

import argparse
import datetime
import importlib.metadata
import math
import os
import time
from collections.abc import Iterator
from pathlib import Path

import jax
import numpy as np
import numpyro

from armillary import core, evidence
from armillary_cosmology import Nuisance, SpectraLikelihood, SpectraModel, cosmic_shear_cls, fiducial_power, stage_iv
from armillary_cosmology.power import MatterPower

HERE = Path(__file__).parent
ALIGNMENT = 0.5


def problem() -> tuple[SpectraModel, np.ndarray]:
    simulated = fiducial_power()
    survey = stage_iv(3, num_z=60, num_ell=8, ell_max=1500, f_sky=0.01)
    nuisance = Nuisance.none(survey)
    nuisance = nuisance._replace(alignment=nuisance.alignment + ALIGNMENT)
    spectra = jax.jit(lambda n: cosmic_shear_cls(simulated, simulated.cosmology, survey, n, survey.ell))(nuisance)
    likelihood = SpectraLikelihood(survey, np.asarray(spectra))
    data = likelihood.check(likelihood(spectra).sample(jax.random.key(0)))
    power = MatterPower.pretrained(z=np.linspace(0, 3, 13))
    fixed = {"alignment": ALIGNMENT, "calibration": 0.0, "source_shift": 0.0}
    return SpectraModel(power, likelihood, fixed=fixed), data


def measure(seeds: int, live: int) -> Iterator[str]:
    model, data = problem()
    yield f"{'seed':>4s} {'by':32s} {'ln Z':>10s} {'error':>8s} {'less nested, in errors':>23s} {'s':>7s}  warnings"
    options = {"key": None, "progress_bar": False, "log_likelihood": False}
    nuts = {"sampler": "blackjax-nuts", "sampler_options": {"start": "transport"}}
    for seed in range(seeds):
        options["key"] = key = jax.random.key(seed)
        start = time.perf_counter()
        tree = core.infer(model, data, **nuts, **options)
        drawn = time.perf_counter()
        estimate = evidence.from_arviz(tree, model, (data,)).estimate(key, methods=("lhm", "bridge"))
        end = time.perf_counter()
        yield f"{seed:4d} {'NUTS, 4 chains of 1000':76s} {drawn - start:7.0f}"
        sampler = core.samplers.NestedSliceSampling(num_live=live)
        tree = core.infer(model, data, sampler=sampler, num_warmup=0, num_chains=1, **options)
        nested = core.compare({"nested": tree}).rows[0]
        by, seconds = f"nested slice sampling, {live} live", time.perf_counter() - end
        yield f"{seed:4d} {by:32s} {nested.log_z:10.4f} {nested.log_z_err:8.4f} {'':23s} {seconds:7.0f}"
        for method, each in estimate.estimates.items():
            far = (each.log_z - nested.log_z) / math.hypot(each.log_z_err, nested.log_z_err)
            warnings = ", ".join(warning.name for warning in each.warnings) or "none"
            row = f"{seed:4d} {method:32s} {each.log_z:10.4f} {each.log_z_err:8.4f} {far:23.2f} {end - drawn:7.0f}"
            yield f"{row}  {warnings}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--live", type=int, default=500, help="live points of nested sampling")
    parser.add_argument("--save", action="store_true", help="write the table to benchmarks/results/")
    options = parser.parse_args()
    numpyro.enable_x64()
    packages = ("armillary-cosmology", "armillary-evidence", "jax", "numpyro", "blackjax", "numpy")
    versions = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in packages)
    today, device = datetime.date.today().isoformat(), jax.devices()[0]
    load = ", ".join(f"{x:.1f}" for x in os.getloadavg())
    lines = [f"{today}; {versions}; float64; device {device.device_kind}, {os.cpu_count()} cores, load {load}"]
    print(lines[0], flush=True)
    for line in measure(options.seeds, options.live):
        print(line, flush=True)
        lines.append(line)
    if options.save:
        lines.insert(0, f"# python benchmarks/cosmology_evidence.py --seeds {options.seeds} --live {options.live}")
        (HERE / "results" / f"{today}-cosmology-evidence-{device.platform}.txt").write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
