"""What a scattering prior gains on a masked, noisy map: the benchmark's study, of small lognormal fields."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest

SCRIPT = Path(__file__).resolve().parents[1] / "benchmarks" / "scatter_prior.py"


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_scattering_prior_is_nearer_to_the_truth_than_a_gaussian_one_and_sure_of_it():
    spec = importlib.util.spec_from_file_location("benchmark_of_scattering_priors", SCRIPT)
    benchmark = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(benchmark)
    rows = benchmark.study(benchmark.lognormal(16), 16, truths=2, warmup=30, draws=60)
    error = {name: np.mean([row[name].error for row in rows], axis=0) for name in ("Gaussian", "scattering")}
    # Over the sphere, where the map is seen, and where it is hidden.
    assert (error["scattering"] < error["Gaussian"]).all()
    coverage = np.mean([row["scattering"].coverage[0] for row in rows])
    assert 0.85 < coverage < 0.95
