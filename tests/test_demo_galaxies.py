"""``armillary demo galaxies`` as a user runs it."""

import os
import re
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import numpy as np
import pytest
import xarray


@pytest.mark.slow
def test_evidence_picks_the_prior_that_is_the_most_accurate(tmp_path):
    try:
        metadata.version("scikit-image")
    except metadata.PackageNotFoundError:
        pytest.skip("scikit-image (dependency group demo) is not installed")
    done = subprocess.run(
        [str(Path(sys.executable).parent / "armillary"), "demo", "galaxies", "--output", str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=280,
        env=os.environ | {"COLUMNS": "200"},
        check=False,
    )
    assert done.returncode == 0, done.stderr
    # At each noise level the first row, of the largest evidence, has the best signal-to-noise ratio too.
    rows = re.findall(r"│ (0\.\d+)\s*│ ([\w() ]+?)\s*│.*?│ (-?\d+\.\d+)\s*│", done.stdout)
    assert [row[0] for row in rows] == ["0.05"] * 7 + ["0.1"] * 7 + ["0.2"] * 7
    for level in ("0.05", "0.1", "0.2"):
        ratios = [float(ratio) for noise, _, ratio in rows if noise == level]
        assert ratios[0] == max(ratios)
        assert ratios[-1] == min(ratios)  # the data themselves
    snr = {}
    for name in ("wavelets", "denoiser"):
        tree = xarray.open_datatree(tmp_path / f"{name}.zarr", engine="zarr", consolidated=False)
        draws, truth = np.asarray(tree.posterior["image"], np.float64), np.asarray(tree.constant_data["truth"])
        assert np.abs(draws).max() < 2
        snr[name] = 10 * np.log10(np.sum(truth**2) / np.sum((draws.mean((0, 1)) - truth) ** 2))
    assert snr["denoiser"] > snr["wavelets"] + 2
    assert (tmp_path / "report.html").stat().st_size > 10_000
    assert (tmp_path / "galaxies.png").stat().st_size > 10_000
