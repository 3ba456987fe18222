"""infer: what it returns, checkpoints that survive a kill, and bad arguments."""

import json
import os
import signal
import subprocess
import sys
import textwrap

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest
import scipy.stats

from armillary.core import Evidence, infer
from armillary.core._checkpoint import CheckpointError

DATA = np.array([0.9, 1.7, -0.4, 1.1])


def model(y, scale=1.0):
    mean = numpyro.sample("mean", dist.Normal(0.0, 2.0))
    positive = numpyro.sample("positive", dist.HalfNormal(1.0))
    numpyro.deterministic("sum", mean + positive)
    numpyro.factor("nothing", 0.0)
    with numpyro.plate("data", len(y)):
        numpyro.sample("y", dist.Normal(mean, scale), obs=y)


def quick(*args, **options):
    # MALA compiles in a second where NUTS takes five.
    settings = {"sampler": "mala", "num_warmup": 100, "num_samples": 60, "num_chains": 2, "progress_bar": False}
    return infer(model, *(args or (DATA,)), **(settings | options))


@pytest.fixture(scope="module")
def tree():
    return quick(sampler="nuts")


def test_the_tree_has_arviz_groups_and_names(tree):
    assert set(tree.children) == {"posterior", "sample_stats", "observed_data", "log_likelihood", "log_prior"}
    assert set(tree["posterior"].data_vars) == {"mean", "positive", "sum"}
    assert {"lp", "diverging", "acceptance_rate", "n_steps", "energy", "step_size"} <= set(
        tree["sample_stats"].data_vars
    )
    assert tree["posterior"]["mean"].dims == ("chain", "draw")
    assert tree["posterior"]["mean"].shape == (2, 60)
    assert set(tree["observed_data"].data_vars) == set(tree["log_likelihood"].data_vars) == {"y"}


def test_pointwise_groups_agree_with_scipy(tree):
    mean, positive = (tree["posterior"][name].values for name in ("mean", "positive"))
    expected = scipy.stats.norm.logpdf(DATA, mean[..., None], 1.0)
    np.testing.assert_allclose(tree["log_likelihood"]["y"], expected, rtol=1e-4)
    np.testing.assert_allclose(tree["log_prior"]["mean"], scipy.stats.norm.logpdf(mean, 0, 2), rtol=1e-4)
    np.testing.assert_allclose(
        tree["log_prior"]["positive"], scipy.stats.halfnorm.logpdf(positive), rtol=1e-4, atol=1e-5
    )
    # lp is of the unconstrained space: the sum, and the Jacobian of positive = exp(z).
    total = expected.sum(-1) + tree["log_prior"]["mean"] + tree["log_prior"]["positive"] + np.log(positive)
    np.testing.assert_allclose(tree["sample_stats"]["lp"], total, rtol=1e-4)


def test_provenance(tree):
    versions = json.loads(tree.attrs["versions"])
    assert versions["jax"] == jax.__version__
    assert any("Hoffman" in text for text in json.loads(tree.attrs["citations"]))
    assert tree.attrs["sampler"] == "nuts"


@pytest.mark.parametrize(
    ("sampler", "chain_method"), [("nuts", "sequential"), ("mala", "sequential"), ("mala", "parallel")]
)
def test_other_chain_methods_and_other_keys(sampler, chain_method):
    tree = quick(sampler=sampler, chain_method=chain_method, key=jax.random.PRNGKey(3))
    draws = tree["posterior"]["mean"].values
    assert draws.shape == (2, 60)
    assert not np.array_equal(draws[0], draws[1])
    assert abs(draws.mean() - DATA.sum() / 4.25) < 0.5


def test_several_parallel_chains_of_a_device_are_those_that_run_in_turn():
    options = {"num_chains": 6, "num_samples": 20}
    together = quick(chain_method="parallel", **options)["posterior"]["mean"]
    in_turn = quick(chain_method="sequential", **options)["posterior"]["mean"]
    np.testing.assert_allclose(together, in_turn, rtol=1e-4)


def test_the_same_key_gives_the_same_draws_and_another_gives_others():
    first, again, other = quick(), quick(), quick(key=jax.random.key(1))
    np.testing.assert_array_equal(again["posterior"]["mean"], first["posterior"]["mean"])
    assert not np.array_equal(other["posterior"]["mean"], first["posterior"]["mean"])


def test_one_chain_no_warmup_keywords_and_sampler_settings():
    tree = quick(
        num_chains=1, num_warmup=0, sampler="mala", sampler_options={"step_size": 0.3}, model_kwargs={"scale": 2.0}
    )
    assert tree["posterior"].sizes["chain"] == 1
    assert "0.3" in tree.attrs["sampler_settings"]
    assert "log_likelihood" not in quick(num_samples=5, log_likelihood=False).children


def test_an_evidence_estimator_gets_unconstrained_samples_and_the_log_density():
    seen = {}

    def estimator(key, samples, log_density):
        seen["shapes"] = jax.tree.map(jnp.shape, samples)
        seen["value"] = log_density(jax.tree.map(lambda leaf: leaf[0, 0], samples))
        return Evidence(-1.5, 0.1, "toy", {"array": jnp.ones(2)}, ("look out",))

    tree = quick(evidence=estimator)
    assert seen["shapes"] == {"mean": (2, 60), "positive": (2, 60)}
    np.testing.assert_allclose(seen["value"], tree["sample_stats"]["lp"].values[0, 0], rtol=1e-5)
    assert float(tree["evidence"]["log_z"]) == -1.5
    assert json.loads(tree["evidence"].attrs["warnings"]) == ["look out"]
    assert json.loads(tree["evidence"].attrs["diagnostics"]) == {"array": [1.0, 1.0]}


def test_the_tree_can_be_saved_and_read(tree, tmp_path):
    import xarray

    tree.to_zarr(tmp_path / "result.zarr", consolidated=False)
    read = xarray.open_datatree(tmp_path / "result.zarr", engine="zarr", consolidated=False)
    np.testing.assert_array_equal(read["posterior"]["mean"], tree["posterior"]["mean"])
    assert read.attrs["versions"] == tree.attrs["versions"]


@pytest.mark.parametrize("sampler", ["nuts", "mala", "chees"])
def test_a_checkpointed_run_taken_up_again_gives_the_same_draws(sampler, tmp_path):
    options = {"sampler": sampler, "checkpoint": tmp_path / "run", "checkpoint_every": 25}
    whole = quick(sampler=sampler)
    quick(num_samples=30, **options)
    resumed = quick(resume=True, **options)
    np.testing.assert_array_equal(resumed["posterior"]["mean"], whole["posterior"]["mean"])
    np.testing.assert_array_equal(resumed["sample_stats"]["lp"], whole["sample_stats"]["lp"])


@pytest.mark.parametrize("sampler", ["blackjax-nuts", "mala"])
def test_all_chunks_are_one_program(sampler, monkeypatch):
    from armillary.core import _chains

    compile_, compiled = _chains.Chains._compile, []
    monkeypatch.setattr(_chains.Chains, "_compile", lambda self: compiled.append(compile_(self)) or compiled[-1])
    quick(sampler=sampler, num_warmup=20, num_samples=15, checkpoint_every=10)
    assert [function._cache_size() for function in compiled] == [1]


KILLED = """
    import os, signal, sys
    sys.path.insert(0, {directory!r})
    from {module} import DATA, model
    from armillary.core import infer

    replace = os.replace

    def replace_and_die(source, target):
        replace(source, target)
        if os.path.basename(target) == {when!r}:
            os.kill(os.getpid(), signal.SIGKILL)

    os.replace = replace_and_die
    infer(model, DATA, sampler="mala", num_warmup=200, num_samples=900, num_chains=2, progress_bar=False,
          checkpoint={path!r}, checkpoint_every=100, log_likelihood=False)
"""


@pytest.mark.parametrize("when", [pytest.param("state-000001.zarr", marks=pytest.mark.slow), "draws-000006.zarr"])
def test_a_run_killed_by_sigkill_resumes_to_the_same_draws(when, tmp_path):
    """Killed in the warm-up, with two states on disk; and in sampling, between a chunk's draws and its state."""
    path = tmp_path / "run"
    directory, module = os.path.split(os.path.splitext(os.path.abspath(__file__))[0])
    script = textwrap.dedent(KILLED.format(directory=directory, module=module, when=when, path=str(path)))
    # As these tests compile: see conftest.py. Another optimisation would round otherwise.
    environment = os.environ | {"JAX_DISABLE_MOST_OPTIMIZATIONS": "1"}
    killed = subprocess.run([sys.executable, "-c", script], capture_output=True, env=environment, timeout=120)
    assert killed.returncode == -signal.SIGKILL, killed.stderr.decode()
    assert (path / when).exists()
    # The model's module name is part of what a checkpoint knows its run by: here and there it must be the same.
    settings = json.loads((path / "settings.json").read_text())
    settings["model"] = f"{model.__module__}:model"
    (path / "settings.json").write_text(json.dumps(settings))
    options = {"sampler": "mala", "num_warmup": 200, "num_samples": 900, "num_chains": 2, "progress_bar": False}
    resumed = infer(model, DATA, checkpoint=path, resume=True, **options)
    whole = infer(model, DATA, **options)
    np.testing.assert_array_equal(resumed["posterior"]["mean"], whole["posterior"]["mean"])


def test_an_interrupt_says_how_to_go_on(monkeypatch, tmp_path):
    from armillary.core import _chains

    def interrupted(self, *args):
        raise KeyboardInterrupt

    monkeypatch.setattr(_chains.Chains, "run", interrupted)
    with pytest.raises(KeyboardInterrupt) as caught:
        quick()
    assert "pass checkpoint=" in caught.value.__notes__[0]
    with pytest.raises(KeyboardInterrupt) as caught:
        quick(checkpoint=tmp_path / "run")
    assert "resume=True" in caught.value.__notes__[0]


def test_a_checkpoint_of_another_run_is_refused(tmp_path):
    path = tmp_path / "run"
    quick(num_samples=5, checkpoint=path)
    with pytest.raises(CheckpointError, match=r"there is a checkpoint already. Pass resume=True"):
        quick(num_samples=5, checkpoint=path)
    for change in ({"num_chains": 1}, {"num_warmup": 50}, {"sampler": "nuts"}, {"key": jax.random.key(9)}):
        name = next(iter(change))
        with pytest.raises(CheckpointError, match=f"is of another run: {name} is"):
            quick(num_samples=5, checkpoint=path, resume=True, **change)
    with pytest.raises(CheckpointError, match="is of another run: data is"):
        quick(DATA + 1, num_samples=5, checkpoint=path, resume=True)


def test_a_checkpoint_of_other_versions_warns(tmp_path):
    path = tmp_path / "run"
    quick(num_samples=5, checkpoint=path)
    settings = json.loads((path / "settings.json").read_text())
    settings["versions"]["jax"] = "0.1"
    (path / "settings.json").write_text(json.dumps(settings))
    with pytest.warns(UserWarning, match="other versions of jax"):
        quick(num_samples=5, checkpoint=path, resume=True)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_warmup": -1}, "num_warmup=-1: expected a whole number, at least 0"),
        ({"num_samples": 0}, "num_samples=0: expected a whole number, at least 1"),
        ({"num_chains": 1.5}, "num_chains=1.5"),
        ({"checkpoint_every": 0}, "checkpoint_every=0"),
        ({"key": 0}, r"key=0: expected one random key, jax.random.key\(seed\)"),
        ({"key": jax.random.split(jax.random.key(0))}, "expected one random key"),
        ({"chain_method": "threads"}, "chain_method='threads': expected one of vectorized"),
        ({"chain_method": "parallel", "num_chains": 7}, "of 2 only one serves num_chains=7: use 'vectorized'"),
        ({"resume": True}, "resume=True needs checkpoint="),
        ({"sampler_options": {"stepsize": 1}}, "sampler_options=.*stepsize.*unexpected keyword"),
        ({"sampler": "nested-slice-sampling", "sampler_options": {"num_live": 0}}, "num_live=0"),
    ],
)
def test_bad_arguments(options, message):
    with pytest.raises(ValueError, match=message):
        quick(**options)


def test_unknown_samplers_and_estimators():
    with pytest.raises(LookupError, match="no installed distribution offers the sampler 'nutts': did you mean 'nuts'"):
        quick(sampler="nutts")
    with pytest.raises(TypeError, match="unexpected keyword argument 'num_sample'"):
        quick(num_sample=3)


def test_progress_is_shown_on_the_standard_error(capfd):
    quick(num_samples=20, progress_bar=True)
    assert "mala, 2 chains: sampling" in capfd.readouterr().err


def test_a_checkpoint_knows_the_data_that_a_model_holds_by_itself(tmp_path):
    def free(scale=1.0):
        mean = numpyro.sample("mean", dist.Normal(0.0, scale))
        numpyro.sample("y", dist.Normal(mean, 1.0))

    options = {"sampler": "mala", "num_warmup": 5, "num_samples": 5, "num_chains": 2, "progress_bar": False}
    conditioned = [numpyro.handlers.condition(free, data={"y": jnp.array(y)}) for y in (1.0, -8.0)]
    infer(conditioned[0], checkpoint=tmp_path / "run", **options)
    infer(conditioned[0], checkpoint=tmp_path / "run", resume=True, **options)
    with pytest.raises(CheckpointError, match="is of another run: log_density_at_0 is"):
        infer(conditioned[1], checkpoint=tmp_path / "run", resume=True, **options)


def test_a_sampler_with_an_evidence_gives_it():
    tree = quick(sampler="tempered-smc", sampler_options={"num_particles": 200}, num_warmup=0, num_samples=20)
    covariance = np.eye(4) + 4.0
    expected = scipy.stats.multivariate_normal.logpdf(DATA, np.zeros(4), covariance)
    found = tree["evidence"]
    assert found.attrs["method"] == "tempered-smc"
    assert abs(float(found["log_z"]) - expected) < 5 * float(found["log_z_err"])
    assert json.loads(found.attrs["warnings"]) == []
    many = quick(sampler="tempered-smc", sampler_options={"num_particles": 10}, num_warmup=0, num_samples=20)
    assert "repeat themselves" in json.loads(many["evidence"].attrs["warnings"])[0]


def test_wrong_sampler_objects_and_reserved_names():
    from numpyro.infer import NUTS

    from armillary.core import samplers

    with pytest.raises(ValueError, match=r"sampler=MALA: this is the class; give its name, or an object of it"):
        quick(sampler=samplers.MALA)
    with pytest.raises(ValueError, match="is a NumPyro kernel, which has its model"):
        quick(sampler=NUTS(model))

    def reserved(y):
        numpyro.sample("y", dist.Normal(numpyro.sample("chain", dist.Normal(0.0, 1.0)), 1.0), obs=y)

    with pytest.raises(ValueError, match="the model has a site 'chain'"):
        infer(reserved, 1.0, progress_bar=False)


def test_settings_may_be_numpys():
    options = {"step_size": np.float32(0.3), "target_acceptance_rate": np.float64(0.6)}
    assert quick(num_samples=5, sampler_options=options)["posterior"].sizes["draw"] == 5
