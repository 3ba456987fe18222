"""``armillary run``, ``report`` and ``demo``: the same draws as `infer`, kept in a directory that repeats them."""

import importlib.util
import os
import re
import shlex
import signal
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest
import xarray as xr
import yaml

from armillary.core import infer, registry
from armillary.core._checkpoint import Checkpoint
from armillary.core._cli import main
from armillary.core._config import load

needs_matplotlib = pytest.mark.skipif(
    importlib.util.find_spec("matplotlib") is None, reason="the report needs matplotlib, of the extra plots"
)

MODEL = """
import numpyro
import numpyro.distributions as dist

def model(y, scale=1.0):
    x = numpyro.sample("x", dist.Normal(0.0, 2.0))
    numpyro.sample("y", dist.Normal(x, scale), obs=y)

def wide(y, scale=1.0):
    x = numpyro.sample("x", dist.Normal(0.0, 20.0))
    numpyro.sample("y", dist.Normal(x, scale), obs=y)
"""
CONFIG = """
model: mine_to_run:model
data: {y: "t.csv:y", scale: 0.5}
sampler: {name: mala, step_size: 0.05}
seed: 3
num_warmup: 20
num_samples: 30
num_chains: 2
checkpoint_every: 20
precision: PRECISION
"""
Y = [0.5, 1.25, -0.25]


def command(*args):
    """Run a command in this process, and give its exit code."""
    with pytest.raises(SystemExit) as exit_:
        main([str(a) for a in args])
    return exit_.value.code or 0


def opened(store):
    return xr.open_datatree(store, engine="zarr", consolidated=False)


def by_infer():
    """The same inference through the Python API."""
    return infer(
        sys.modules["mine_to_run"].model,
        np.array(Y),
        0.5,
        sampler="mala",
        sampler_options={"step_size": 0.05},
        key=jax.random.key(3),
        num_warmup=20,
        num_samples=30,
        num_chains=2,
        progress_bar=False,
    )


@pytest.fixture(autouse=True)
def _environment(monkeypatch):
    """What the command line sets for JAX goes with the test."""
    monkeypatch.setenv("JAX_ENABLE_X64", os.environ.get("JAX_ENABLE_X64", "0"))


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """A directory with a model, its data, and a config for each precision."""
    directory = tmp_path_factory.mktemp("project")
    (directory / "mine_to_run.py").write_text(MODEL)
    (directory / "t.csv").write_text("y\n" + "\n".join(map(str, Y)))
    for precision in ("float32", "float64"):
        (directory / f"{precision}.yaml").write_text(CONFIG.replace("PRECISION", precision))
    path = list(sys.path)
    yield directory
    sys.path[:] = path
    sys.modules.pop("mine_to_run", None)


@pytest.fixture(scope="module")
def run(project):
    """The run directory of the float32 config, which is the precision of this process."""
    assert command("run", project / "float32.yaml", "--output", project / "run", "--quiet") == 0
    return project / "run"


def test_a_run_is_infer(run):
    tree = by_infer()
    stored = opened(run / "result.zarr")
    assert stored["posterior"]["x"].dtype == np.float32
    xr.testing.assert_identical(stored["posterior"].dataset.drop_attrs(), tree["posterior"].dataset.drop_attrs())
    xr.testing.assert_identical(stored["sample_stats"].dataset.drop_attrs(), tree["sample_stats"].dataset.drop_attrs())
    assert {k: v for k, v in stored.attrs.items() if k != "created_at"} == {
        k: v for k, v in tree.attrs.items() if k != "created_at"
    }


def test_several_models_are_run_and_reported_together(project):
    text = CONFIG.replace("PRECISION", "float32").replace("t.csv:y", "../t.csv:y")
    several = text.replace(
        "mine_to_run:model", "{narrow: '../mine_to_run.py:model', wide one: '../mine_to_run.py:wide'}"
    )
    (project / "several").mkdir()
    (project / "several" / "both.yaml").write_text(several)
    directory = project / "several" / "run"
    assert command("run", project / "several" / "both.yaml", "--output", directory, "--quiet") == 0
    narrow, wide = (opened(directory / f"{name}.zarr") for name in ("narrow", "wide one"))
    np.testing.assert_array_equal(narrow["posterior"]["x"], by_infer()["posterior"]["x"])
    assert wide.attrs["model"] == "mine_to_run:wide"
    assert yaml.safe_load((directory / "config.yaml").read_text())["model"] == {
        "narrow": "../../mine_to_run.py:model",
        "wide one": "../../mine_to_run.py:wide",
    }
    # The resolved config repeats it, from the checkpoints that are there or afresh.
    assert command("run", directory / "config.yaml", "--output", directory, "--quiet", "--resume") == 0
    np.testing.assert_array_equal(opened(directory / "wide one.zarr")["posterior"]["x"], wide["posterior"]["x"])
    assert command("run", project / "several" / "both.yaml", "--output", directory, "--quiet") == 2


KILLED = """
import os, signal
from armillary.core._cli import main

replace = os.replace

def replace_and_die(source, target):
    replace(source, target)
    if str(target).endswith("wide one/state-000001.zarr"):
        os.kill(os.getpid(), signal.SIGKILL)

os.replace = replace_and_die
main(["run", "both.yaml", "--output", "killed", "--quiet"])
"""


@pytest.mark.slow
def test_a_run_killed_in_the_second_of_two_models_goes_on_to_the_same_draws(project):
    directory = project / "two"
    directory.mkdir()
    text = CONFIG.replace("PRECISION", "float32").replace("t.csv:y", "../t.csv:y")
    (directory / "both.yaml").write_text(
        text.replace("mine_to_run:model", "{narrow: '../mine_to_run.py:model', wide one: '../mine_to_run.py:wide'}")
    )
    environment = os.environ | {"JAX_DISABLE_MOST_OPTIMIZATIONS": "1"}  # as in this process, see conftest.py
    killed = subprocess.run([sys.executable, "-c", KILLED], cwd=directory, env=environment, capture_output=True)
    assert killed.returncode == -signal.SIGKILL, killed.stderr.decode()
    assert (directory / "killed" / "narrow.zarr").exists()
    assert not (directory / "killed" / "wide one.zarr").exists()
    first = opened(directory / "killed" / "narrow.zarr")["posterior"]["x"].values
    for output, more in (("killed", ["--resume"]), ("whole", [])):
        assert command("run", directory / "both.yaml", "--output", directory / output, "--quiet", *more) == 0
    for name in ("narrow", "wide one"):
        resumed, whole = (opened(directory / output / f"{name}.zarr") for output in ("killed", "whole"))
        np.testing.assert_array_equal(resumed["posterior"]["x"], whole["posterior"]["x"])
    np.testing.assert_array_equal(first, opened(directory / "whole" / "narrow.zarr")["posterior"]["x"])


def test_the_resolved_config_says_everything(run):
    resolved = yaml.safe_load((run / "config.yaml").read_text())
    versions = resolved.pop("versions")
    assert resolved == {
        "model": "../mine_to_run.py:model",
        "data": {"y": "../t.csv:y", "scale": 0.5},
        "sampler": {"name": "mala", "step_size": 0.05},
        "seed": 3,
        "num_warmup": 20,
        "num_samples": 30,
        "num_chains": 2,
        "checkpoint_every": 20,
        "chain_method": "vectorized",
        "precision": "float32",
    }
    assert versions["jax"] == jax.__version__
    assert {"armillary-core", "numpyro", "blackjax"} <= set(versions)


def test_the_resolved_config_repeats_the_run_and_tells_of_other_versions(run, project, capsys):
    text = (run / "config.yaml").read_text()
    changed = text.replace(f"jax: {jax.__version__}", "jax: 0.0.1")
    assert changed != text
    (run / "earlier.yaml").write_text(changed)
    assert command("run", run / "earlier.yaml", "--output", project / "again") == 0
    out, err = capsys.readouterr()
    assert f"was resolved with jax 0.0.1, here is {jax.__version__}" in err
    assert out.splitlines()[0] == str(project / "again" / "result.zarr")
    xr.testing.assert_identical(
        opened(project / "again" / "result.zarr")["posterior"].dataset.drop_attrs(),
        opened(run / "result.zarr")["posterior"].dataset.drop_attrs(),
    )
    assert load(project / "again" / "config.yaml").resolved() == load(run / "config.yaml").resolved()


@needs_matplotlib
def test_the_report_of_a_run_tells_how_to_repeat_it(run):
    text = (run / "report.html").read_text(encoding="utf-8")
    assert "armillary run config.yaml" in text
    assert "<h1>run</h1>" in text
    assert jax.__version__ in text


@needs_matplotlib
def test_report_writes_it_anew(run, capsys):
    before = (run / "report.html").read_text(encoding="utf-8")
    (run / "report.html").unlink()
    assert command("report", run) == 0
    assert capsys.readouterr().out == f"{run / 'report.html'}\n"
    after = (run / "report.html").read_text(encoding="utf-8")
    assert re.sub('base64,[^"]*', "", after) == re.sub('base64,[^"]*', "", before)


@pytest.mark.parametrize(
    ("missing", "expected"), [("", "result.zarr is there already"), ("result.zarr", "continue it with --resume")]
)
def test_a_run_directory_is_not_overwritten(run, project, tmp_path, capsys, missing, expected):
    directory = tmp_path / "kept"
    directory.mkdir()
    for name in {"result.zarr", "checkpoint"} - {missing}:
        (directory / name).mkdir()
    assert command("run", project / "float32.yaml", "--output", directory) == 2
    assert expected in capsys.readouterr().err


def test_nor_is_the_config_itself(project, capsys):
    (project / "config.yaml").write_text(CONFIG.replace("PRECISION", "float32"))
    assert command("run", project / "config.yaml", "--output", project) == 2
    assert "would be overwritten by the resolved config" in capsys.readouterr().err


def test_an_interrupted_run_says_how_to_go_on_and_ends_with_the_same_draws(run, project, capsys, monkeypatch):
    save = Checkpoint.save
    saved = []

    def interrupt(self, *args):
        save(self, *args)
        saved.append(args)
        if len(saved) == 2:  # of three: after the warm-up
            raise KeyboardInterrupt

    monkeypatch.setattr(Checkpoint, "save", interrupt)
    directory = project / "interrupted run"
    assert command("run", project / "float32.yaml", "--output", directory, "--quiet") == 130
    err = capsys.readouterr().err
    assert not (directory / "result.zarr").exists()
    assert (directory / "config.yaml").is_file()
    advice = re.fullmatch(r"\narmillary: interrupted; continue with `armillary (.*)`\n", err)
    assert advice is not None, err
    assert command(*shlex.split(advice.group(1)), "--quiet") == 0
    assert len(saved) == 3  # it went on; it did not begin again
    xr.testing.assert_identical(
        opened(directory / "result.zarr")["posterior"].dataset.drop_attrs(),
        opened(run / "result.zarr")["posterior"].dataset.drop_attrs(),
    )


@pytest.mark.usefixtures("run")  # it imports the model here, for by_infer
def test_float64_is_the_default_of_a_process_of_its_own(project):
    """The console script, as a user runs it; in this process JAX is there already, in float32."""
    script = Path(sys.executable).parent / "armillary"
    environment = {k: v for k, v in os.environ.items() if k != "JAX_ENABLE_X64"}
    environment["JAX_DISABLE_MOST_OPTIMIZATIONS"] = "1"  # as in this process, see conftest.py: for the same rounding
    done = subprocess.run(
        [script, "run", "float64.yaml"], cwd=project, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    stored = opened(project / "armillary-runs" / "float64" / "result.zarr")
    assert stored["posterior"]["x"].dtype == np.float64
    with jax.enable_x64(True):
        expected = by_infer()
    xr.testing.assert_identical(stored["posterior"].dataset.drop_attrs(), expected["posterior"].dataset.drop_attrs())


@pytest.mark.parametrize(("given", "devices"), [(None, 1 + (len(os.sched_getaffinity(0)) > 1)), ("3", 3)])
def test_parallel_chains_have_a_device_for_each_core_that_divides_them(given, devices):
    environment = {k: v for k, v in os.environ.items() if k not in ("JAX_NUM_CPU_DEVICES", "XLA_FLAGS")}
    environment |= {} if given is None else {"JAX_NUM_CPU_DEVICES": given}
    code = "from armillary.core._cli import _run; _run.set_devices(2); import jax; print(jax.device_count())"
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert int(done.stdout) == devices


def test_float64_after_jax_was_imported_without_is_refused(project, tmp_path, capsys):
    assert command("run", project / "float64.yaml", "--output", tmp_path / "run") == 2
    assert "must be set before JAX is imported" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_without_matplotlib_a_run_is_kept_and_says_how_to_report_it(run, project, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    assert command("run", project / "float32.yaml", "--output", project / "no report") == 0
    out, err = capsys.readouterr()
    assert out == f"{project / 'no report' / 'result.zarr'}\n"
    assert "pip install 'armillary-core[plots]', then `armillary report " in err
    assert not (project / "no report" / "report.html").exists()
    assert opened(project / "no report" / "result.zarr")["posterior"]["x"].shape == (2, 30)


def test_a_wrong_option_stops_before_anything_is_written(project, tmp_path, capsys):
    config = project / "wrong.yaml"
    config.write_text(CONFIG.replace("PRECISION", "float32").replace("step_size", "step_sise"))
    assert command("run", config, "--output", tmp_path / "run") == 2
    err = capsys.readouterr().err
    assert err.startswith(f"armillary: {config}: sampler.step_sise = 0.05: ")
    assert err.count("\n") == 1
    assert not (tmp_path / "run").exists()


DEMO = """
import arviz_base, numpy as np, xarray as xr, jax

def tree(log_z):
    made = arviz_base.from_dict({"posterior": {"x": np.random.default_rng(0).normal(size=(2, 50))}})
    attrs = {"method": "exact", "diagnostics": "{}", "warnings": "[]"}
    made["evidence"] = xr.DataTree(xr.Dataset({"log_z": log_z, "log_z_err": 0.25}, attrs=attrs))
    return made

def demo(directory, *, console):
    assert directory.is_dir()
    assert jax.config.jax_enable_x64
    console.print("two models")
    return {"line": tree(-10.0), "curve": tree(-6.0)}
"""


@needs_matplotlib
def test_demo_prints_the_comparison_and_keeps_the_results(tmp_path, capsys, monkeypatch):
    (tmp_path / "demo_of_mine.py").write_text(DEMO)
    monkeypatch.syspath_prepend(tmp_path)
    component = registry.Component("demo", "mine", "demo_of_mine:demo", "A <summary>", "", "d", "1", "e")
    monkeypatch.setattr(registry, "find", lambda kind, name: component)
    with jax.enable_x64(True):
        assert command("demo", "mine", "--output", tmp_path / "out") == 0
    out = capsys.readouterr().out
    for text in ("two models", "curve", "-10.00", "curve over line", str(tmp_path / "out" / "report.html")):
        assert text in out
    assert float(opened(tmp_path / "out" / "line.zarr")["evidence"]["log_z"]) == -10.0
    text = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    assert "<h1>A &lt;summary&gt;</h1>" in text
    assert "curve over line: ln B = 4.00" in text
    # And `report` finds both again.
    (tmp_path / "out" / "report.html").unlink()
    assert command("report", tmp_path / "out") == 0
    assert "curve over line: ln B = 4.00" in (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
