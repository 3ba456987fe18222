"""Several methods with one density: what they give, how they check each other, and what they say when they cannot."""

import dataclasses
import math

import arviz_base
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flowjax.bijections import Affine

from armillary import evidence
from armillary.evidence import FlowEvidence

DIM = 3
LOG_Z = 0.5 * DIM * math.log(2 * math.pi)


def density(x):
    return -0.5 * x @ x


def normal(seed=0, chains=4, draws=1000, dim=DIM):
    x = np.random.default_rng(seed).normal(size=(chains, draws, dim))
    return x, -0.5 * (x**2).sum(-1)


def two_modes(seed=0, chains=4, draws=1000):
    """Each chain in both modes, twenty apart; Z = 2 sqrt(2 pi)."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(chains, draws, 1)) + 10 * rng.choice([-1, 1], (chains, draws, 1))
    return x, np.logaddexp(-0.5 * (x[..., 0] - 10) ** 2, -0.5 * (x[..., 0] + 10) ** 2)


def names(found):
    return [warning.name for warning in found.warnings]


@pytest.fixture(scope="module")
def all_methods():
    problem = evidence.from_arrays(*normal(), density)
    return problem.estimate(jax.random.key(0), methods=("lhm", "bridge", "is"), flow="gaussian")


def test_all_methods(all_methods):
    assert set(all_methods.estimates) == {"lhm", "bridge", "is"}
    assert all_methods.method == "bridge"
    assert all_methods.warnings == ()
    for method, found in all_methods.estimates.items():
        assert found.method == method
        assert abs(found.log_z - LOG_Z) < 3 * found.log_z_err
        assert 0 < found.log_z_err < 0.02
        assert found.log_z_interval[0] < found.log_z < found.log_z_interval[1]
    assert all_methods.log_z == all_methods.estimates["bridge"].log_z
    assert all_methods.diagnostics["estimates"]["lhm"][0] == all_methods.estimates["lhm"].log_z


def test_a_large_constant_changes_nothing_else(all_methods):
    samples, log_density = normal()
    with jax.enable_x64(True):
        problem = evidence.from_arrays(samples, log_density - 1e6, lambda x: density(x) - 1e6)
        found = problem.estimate(jax.random.key(0), methods=("lhm", "bridge", "is"), flow="gaussian")
    for method, each in found.estimates.items():
        assert each.log_z + 1e6 == pytest.approx(all_methods.estimates[method].log_z, abs=1e-4)
        assert each.log_z_err == pytest.approx(all_methods.estimates[method].log_z_err, rel=1e-2)


def test_without_the_function_the_harmonic_mean_remains():
    found = evidence.from_arrays(*normal()).estimate(jax.random.key(0), flow="gaussian")
    assert found.method == "lhm"
    assert any("bridge: left out" in note for note in found.notes)
    with pytest.raises(ValueError, match="give log_density_fn"):
        evidence.from_arrays(*normal()).estimate(jax.random.key(0), methods=("bridge",))


@pytest.mark.parametrize("methods", ["lhm", (), ("lhm", "nested")])
def test_methods_that_are_refused(methods):
    with pytest.raises(ValueError, match="a tuple of some of 'lhm', 'bridge', 'is'"):
        evidence.from_arrays(*normal(), density).estimate(jax.random.key(0), methods=methods)


@pytest.mark.parametrize("seed", range(3))
def test_the_wrong_density_function_is_seen_as_disagreement(seed):
    """The values at the samples and the function differ by a factor: the two methods cannot both be right."""
    problem = evidence.from_arrays(*normal(seed), lambda x: density(x) + 0.5)
    found = problem.estimate(jax.random.key(seed), flow="gaussian")
    assert "disagreement" in names(found)
    assert [warning.hard for warning in found.warnings if warning.name == "disagreement"] == [True]


@pytest.mark.parametrize("seed", range(10))
def test_a_cold_density_in_157_dimensions_is_flagged(seed):
    samples, log_density = normal(seed, chains=8, draws=200, dim=157)
    for function in (density, None):
        problem = evidence.from_arrays(samples, log_density, function)
        found = problem.estimate(jax.random.key(seed), methods=("lhm", "bridge"), flow="gaussian", temperature=0.5)
        assert "effective_ratios" in names(found.estimates["lhm"])
        # The recommended value is then the bridge's, if it can be had, with a word on the other; alone it is flagged.
        assert found.method == ("lhm" if function is None else "bridge")
        assert found.warnings
        if function is not None:
            assert abs(found.log_z - 78.5 * math.log(2 * math.pi)) < 4 * found.log_z_err


@pytest.mark.parametrize("seed", range(10))
def test_too_few_samples_are_flagged(seed):
    problem = evidence.from_arrays(*normal(seed, chains=4, draws=50, dim=37), density)
    assert "ess" in names(problem.estimate(jax.random.key(seed), flow="gaussian"))


@dataclasses.dataclass(frozen=True)
class Blind:
    """A flow that sees the right mode only: the coordinate at ten standard deviations from its left one."""

    learning_rate: float = 1e-12

    def build(self, key, dim):
        return Affine(jnp.full(dim, -10.0), jnp.full(dim, 10.0))


@pytest.mark.parametrize("seed", range(10))
def test_a_missing_mode_is_flagged(seed, monkeypatch):
    samples, log_density = two_modes(seed)
    # A density of one mode: the flow's own training would not make one, so it is put in its place.
    right = samples[samples[..., 0] > 0][:, :]
    monkeypatch.setattr(
        "armillary.evidence._estimators.fit_gaussian",
        lambda train, held_out: evidence_fit(right),
    )
    found = evidence.from_arrays(samples, log_density).estimate(jax.random.key(seed), flow="gaussian")
    assert "coverage" in names(found)
    assert next(warning for warning in found.warnings if warning.name == "coverage").hard


def evidence_fit(draws):
    from armillary.evidence import _train

    return _train.fit_gaussian(draws[::2], draws[1::2])


def test_chains_that_each_saw_one_mode_are_flagged():
    x = np.random.default_rng(0).normal(size=(4, 500, 1)) + np.array([-10, -10, 10, 10])[:, None, None]
    log_density = np.logaddexp(-0.5 * (x + 10) ** 2, -0.5 * (x - 10) ** 2)[..., 0]
    assert "r_hat" in names(evidence.from_arrays(x, log_density).estimate(jax.random.key(0), flow="gaussian"))


def test_a_model_that_gives_nan_elsewhere_is_said():
    def cut(x):
        return jnp.where(jnp.abs(x).max() < 3.2, density(x), jnp.nan)

    samples, log_density = normal(draws=4000)
    samples, log_density = np.clip(samples, -3.15, 3.15), log_density
    log_density = -0.5 * (samples**2).sum(-1)
    found = evidence.from_arrays(samples, log_density, cut).estimate(jax.random.key(0), flow="gaussian")
    assert "undefined" in names(found)


def test_temperature_by_held_out_draws():
    samples, log_density = normal(draws=4000)
    found = evidence.from_arrays(samples, log_density).estimate(jax.random.key(0), flow="gaussian")
    # A Gaussian is fitted all but perfectly: of T the effective share of the ratios is (T (2 - T))^(3/2), which is 0.82
    # at 0.65 and 0.87 at 0.7, and 1 at 1.
    assert found.diagnostics["temperature_by"] == ["validated", "validated"]
    np.testing.assert_allclose(found.diagnostics["temperature"], [0.7, 0.7])
    few = evidence.from_arrays(*normal(draws=60)).estimate(jax.random.key(0), flow="gaussian")
    assert few.diagnostics["temperature_by"] == ["dimension", "dimension"]
    assert few.diagnostics["temperature"] == [0.6, 0.6]


def test_estimator_of_a_pytree_agrees_with_the_problem():
    samples, log_density = normal()
    tree = {"a": jnp.asarray(samples[..., :1], jnp.float32), "b": jnp.asarray(samples[..., 1:], jnp.float32)}
    estimator = FlowEvidence(flow="gaussian")
    found = estimator(jax.random.key(0), tree, lambda p: density(jnp.concatenate([p["a"], p["b"]])))
    expected = evidence.from_arrays(samples, log_density, density).estimate(jax.random.key(0), flow="gaussian")
    assert found.log_z == pytest.approx(expected.log_z, abs=1e-4)


def test_compare_takes_the_estimates(all_methods):
    other = dataclasses.replace(all_methods, log_z=all_methods.log_z - 2)
    comparison = evidence.compare({"A": other, "B": all_methods})
    assert comparison.winner == "B"
    assert comparison.rows[0].probability == pytest.approx(1 / (1 + math.exp(-2)))


def test_save_and_load(tmp_path, all_methods):
    samples, log_density = normal(draws=300)
    trained = evidence.from_arrays(samples, log_density, density).estimate(
        jax.random.key(0), flow=evidence.SplineFlow(layers=1, knots=4, width=8), max_epochs=2
    )
    for found in (all_methods, trained):
        path = tmp_path / "estimate"
        evidence.save(path, found)
        back = evidence.load(path)
        assert back.log_z == found.log_z
        assert back.estimates.keys() == found.estimates.keys()
        assert back.diagnostics == found.diagnostics
        assert [w.name for w in back.warnings] == names(found)
        for flow, same in zip(found.flows, back.flows, strict=True):
            assert same.architecture == flow.architecture
            np.testing.assert_array_equal(same.log_prob(samples[0]), flow.log_prob(samples[0]))
    (tmp_path / "other").write_bytes(b"not an estimate\n")
    with pytest.raises(ValueError, match=r"written by evidence\.save"):
        evidence.load(tmp_path / "other")
    strange = dataclasses.replace(trained, flows=(dataclasses.replace(trained.flows[0], architecture=Blind()),))
    with pytest.raises(ValueError, match="Blind is no registered flow"):
        evidence.save(tmp_path / "strange", strange)


def test_plots(all_methods):
    pytest.importorskip("matplotlib").use("Agg")
    import matplotlib.pyplot as plt

    problem = evidence.from_arrays(*normal(), density)
    figure = evidence.plot_flow(problem, all_methods, labels=("a", "b", "c"))
    assert len(figure.axes) == 9
    figure = evidence.plot_diagnostics(all_methods)
    assert [text.get_text() for text in figure.axes[0].get_yticklabels()] == ["lhm", "bridge", "is"]
    plt.close("all")
    with pytest.raises(ValueError, match="indices from 0 to 2"):
        evidence.plot_flow(problem, all_methods, parameters=[3])
    with pytest.raises(ValueError, match="by method"):
        evidence.plot_diagnostics(all_methods.estimates["lhm"])


def test_from_arviz_with_a_density():
    samples, log_density = normal()
    tree = arviz_base.from_dict({"posterior": {"a": samples[..., 0], "b": samples[..., 1:]}})
    problem = evidence.from_arviz(tree, log_density=lambda p: -0.5 * (p["a"] ** 2 + p["b"] @ p["b"]))
    assert problem.samples.shape == (4, 1000, 3)
    np.testing.assert_allclose(problem.log_density, log_density, rtol=1e-5, atol=1e-5)
    with pytest.raises(ValueError, match="one of them it needs"):
        evidence.from_arviz(tree)
    with pytest.raises(ValueError, match="group posterior"):
        evidence.from_arviz(arviz_base.from_dict({"prior": {"a": samples[..., 0]}}), log_density=density)
