"""Chains over the devices of several processes: they run in processes of their own, by distributed_run.py."""

import importlib.util
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest

SCRIPT = Path(__file__).with_name("distributed_run.py")


def start(directory, last="never"):
    """Both processes of a run, of which the first kills itself when it has written ``last``."""
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    # As these tests compile: see conftest.py. And each process has the devices that it asks for.
    environment = os.environ | {"JAX_DISABLE_MOST_OPTIMIZATIONS": "1", "JAX_ENABLE_X64": "1", "XLA_FLAGS": ""}
    return [
        subprocess.Popen(
            [sys.executable, SCRIPT, str(port), str(rank), str(directory), last],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=environment,
        )
        for rank in range(2)
    ]


@pytest.mark.slow
def test_a_run_of_two_processes_is_that_of_one_also_when_it_is_killed_and_resumed(tmp_path):
    first, second = start(tmp_path / "run", last="state-000003.zarr")
    errors = first.communicate(timeout=200)[1]
    second.kill()
    second.communicate()
    assert first.returncode == -signal.SIGKILL, errors
    # Two pieces of the warm-up, two of the draws; the last state but one was not removed yet.
    assert sorted(path.name for path in (tmp_path / "run").iterdir()) == [
        "draws-000002.zarr",
        "draws-000003.zarr",
        "settings.json",
        "state-000002.zarr",
        "state-000003.zarr",
    ]
    shutil.copytree(tmp_path / "run", tmp_path / "for one")

    both = start(tmp_path / "run")
    try:
        outputs = [process.communicate(timeout=200) for process in both]
    finally:
        for process in both:
            process.kill()
    for process, (_, errors) in zip(both, outputs, strict=True):
        assert process.returncode == 0, errors
    found = [json.loads(out.splitlines()[-1]) for out, _ in outputs]
    # The first writes, and no other; each has all draws.
    assert found[0].pop("saved") == ["draws-000004.zarr", "state-000004.zarr"]
    assert found[1].pop("saved") == []
    assert found[0] == found[1]
    assert found[0]["devices"] == [2, 4]
    assert "the 4 devices of all 2 processes: num_chains=6 must be a multiple" in found[0]["refused"]

    spec = importlib.util.spec_from_file_location("distributed_run", SCRIPT)
    here = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(here)
    # One process, from the beginning, and from where the two were killed; there the model's module had another name.
    settings = tmp_path / "for one" / "settings.json"
    settings.write_text(settings.read_text().replace("__main__:model", "distributed_run:model"))
    with jax.enable_x64(True):
        tree = here.run(chain_method="sequential")
        resumed = here.run(chain_method="sequential", checkpoint=tmp_path / "for one", resume=True)
    np.testing.assert_allclose(resumed.posterior["scale"], tree.posterior["scale"], rtol=1e-9)
    np.testing.assert_allclose(found[0]["scale"], tree.posterior["scale"], rtol=1e-9)
    np.testing.assert_allclose(found[0]["lp"], tree.sample_stats["lp"], rtol=1e-9)
    assert len(np.unique(tree.posterior["scale"])) > 8 * 50
