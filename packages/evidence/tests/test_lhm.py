"""The learned harmonic mean against exact evidences, its laws, and its warnings."""

import json
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from armillary import evidence
from armillary.core.protocols import EvidenceEstimator
from armillary.evidence import LearnedHarmonicMean, _chains, _estimators, _train
from armillary.evidence._architectures import SplineFlow


def covariance(dim):
    """Tridiagonal, drawn as np.random.seed(10) fixes it; ln Z below is of exp(-x C^-1 x / 2)."""
    np.random.seed(10)
    diagonal = 1 + 0.1 * np.random.randn(dim)
    cov = np.diag(diagonal)
    for i in range(dim - 1):
        cov[i, i + 1] = cov[i + 1, i] = (-1) ** i * 0.5 * math.sqrt(cov[i, i] * cov[i + 1, i + 1])
    return cov


GAUSSIAN_LOG_Z = {2: 1.791083315460074, 10: 6.9379692089775284, 37: 23.24161566941514}
# exp(-100 (y - x^2)^2 - (1 - x)^2) over the uniform prior 1/400 on [-10, 10] x [-5, 15], by quadrature.
ROSENBROCK_LOG_Z = -7.149344


def gaussian(dim, seed, chains=4, num_draws=1000):
    cov = covariance(dim)
    x = np.random.default_rng(seed).normal(size=(chains, num_draws, dim)) @ np.linalg.cholesky(cov).T
    return x, -0.5 * np.einsum("...i,ij,...j", x, np.linalg.inv(cov), x)


def rosenbrock(seed, chains=4, num_draws=1000):
    """Exact draws: x is normal and y given x is, and the edge of the box is 60 standard deviations away in y for all
    but x beyond sqrt(15), which is 4 of them: a rejected draw is drawn again."""
    rng = np.random.default_rng(seed)
    n = chains * num_draws
    x = rng.normal(1, math.sqrt(0.5), 2 * n)
    y = x**2 + rng.normal(0, math.sqrt(1 / 200), 2 * n)
    inside = (np.abs(x) < 10) & (y > -5) & (y < 15)
    samples = np.stack([x, y], -1)[inside][:n].reshape(chains, num_draws, 2)
    return samples, -100 * (samples[..., 1] - samples[..., 0] ** 2) ** 2 - (1 - samples[..., 0]) ** 2 - math.log(400)


@pytest.fixture(scope="module")
def banana():
    return evidence.from_arrays(*rosenbrock(0)).estimate(jax.random.key(0))


@pytest.mark.parametrize("dim", [2, 10, 37])
def test_correlated_gaussian(dim):
    samples, log_density = gaussian(dim, seed=dim)
    found = LearnedHarmonicMean(flow="gaussian").from_arrays(jax.random.key(0), samples, log_density)
    assert abs(found.log_z - GAUSSIAN_LOG_Z[dim]) < 3 * found.log_z_err
    assert found.log_z_err < 0.05
    assert found.warnings == ()


def test_gaussian_with_splines_falls_back_and_says_so():
    samples, log_density = gaussian(2, seed=2)
    found = LearnedHarmonicMean().from_arrays(jax.random.key(0), samples, log_density)
    assert abs(found.log_z - GAUSSIAN_LOG_Z[2]) < 3 * found.log_z_err
    assert found.diagnostics["flow"] == ["gaussian", "gaussian"]
    (note,) = found.notes
    assert note.startswith("in 2 of 2 folds the trained flow did not beat a Gaussian")


def test_rosenbrock(banana):
    assert abs(banana.log_z - ROSENBROCK_LOG_Z) < 3 * banana.log_z_err
    assert banana.log_z_err < 0.1
    assert banana.diagnostics["flow"] == ["spline", "spline"]
    assert banana.warnings == ()
    assert banana.log_z_interval[0] < banana.log_z < banana.log_z_interval[1]
    assert banana.estimates["lhm"].log_z == banana.log_z
    # On the banana the splines must be worth their training: the Gaussian's error is many times as large.
    plain = evidence.from_arrays(*rosenbrock(0)).estimate(jax.random.key(0), flow="gaussian")
    assert plain.log_z_err > 5 * banana.log_z_err


def test_one_parameter():
    # x = ln of an exponential variable: density exp(x - e^x), which is skewed and has Z = 1.
    x = np.log(np.random.default_rng(0).exponential(size=(4, 1000, 1)))
    with jax.enable_x64(True):
        found = evidence.from_arrays(x, (x - np.exp(x))[..., 0]).estimate(jax.random.key(0))
    assert found.diagnostics["flow"] == ["spline", "spline"]
    assert abs(found.log_z) < 3 * found.log_z_err
    assert found.log_z_err < 0.02


@pytest.mark.parametrize("constant", [3.0, -1e6])
def test_shift(banana, constant):
    samples, log_density = rosenbrock(0)
    found = evidence.from_arrays(samples, log_density + constant).estimate(jax.random.key(0))
    assert found.log_z - constant == pytest.approx(banana.log_z, abs=1e-8)
    assert found.log_z_err == pytest.approx(banana.log_z_err, rel=1e-6)


def test_order_of_chains():
    samples, log_density = gaussian(10, seed=4)
    estimator = LearnedHarmonicMean(flow="gaussian")
    first = estimator.from_arrays(jax.random.key(0), samples, log_density)
    for order in ([2, 3, 0, 1], [1, 0, 3, 2], [3, 1, 2, 0]):
        other = estimator.from_arrays(jax.random.key(0), samples[order], log_density[order])
        assert abs(other.log_z - first.log_z) < 2 * first.log_z_err
    # Two and two, the folds are the same chains: then the estimate is the same too.
    same = estimator.from_arrays(jax.random.key(0), samples[[2, 3, 0, 1]], log_density[[2, 3, 0, 1]])
    assert same.log_z == pytest.approx(first.log_z, abs=1e-10)


def test_pytree_and_function():
    samples, log_density = gaussian(3, seed=1)
    precision = jnp.asarray(np.linalg.inv(covariance(3)))
    tree = {"a": samples[..., :2], "b": samples[..., 2]}

    def density(position):
        x = jnp.append(position["a"], position["b"])
        return -0.5 * x @ precision @ x

    estimator = LearnedHarmonicMean(flow="gaussian")
    assert isinstance(estimator, EvidenceEstimator)
    with jax.enable_x64(True):
        found = estimator(jax.random.key(0), tree, density)
    expected = estimator.from_arrays(jax.random.key(0), samples, log_density)
    assert found.log_z == pytest.approx(expected.log_z, abs=1e-5)
    legacy = estimator(jax.random.PRNGKey(0), tree, density)
    assert legacy.log_z == pytest.approx(expected.log_z, abs=1e-4)
    json.dumps(found.diagnostics)


def test_every_draw_is_estimated_by_a_flow_that_has_not_seen_it():
    samples = np.arange(7 * 10, dtype=float).reshape(7, 10, 1)
    for fraction, number in ((0.5, 2), (0.75, 4)):
        folds = _chains.folds(samples, samples[..., 0], fraction)
        assert len(folds) == number
        assert sorted(np.concatenate([fold.estimate for fold in folds])) == list(range(7))
        for fold in folds:
            seen = set(np.concatenate([fold.train, fold.held_out]).ravel())
            assert not seen & set(samples[fold.estimate].ravel())
            assert not set(fold.train.ravel()) & set(fold.held_out.ravel())
            assert len(seen) == 70 - 10 * len(fold.estimate)


@pytest.mark.parametrize("chains", [1, 2, 3])
def test_few_chains_are_cut_into_blocks(chains):
    samples, log_density = gaussian(2, seed=chains, chains=chains, num_draws=1001)
    found = LearnedHarmonicMean(flow="gaussian").from_arrays(jax.random.key(0), samples, log_density)
    assert abs(found.log_z - GAUSSIAN_LOG_Z[2]) < 3 * found.log_z_err
    assert found.diagnostics["blocks_as_chains"] >= 4
    assert any(warning.startswith(f"only {chains} chain") for warning in found.warnings)


@pytest.mark.parametrize("seed", range(5))
def test_a_spoilt_density_is_flagged(seed):
    # At T = 0.5 in 100 dimensions a draw counts in 4e6: the estimate is far off, and must say so.
    samples = np.random.default_rng(seed).normal(size=(10, 400, 100))
    estimator = LearnedHarmonicMean(flow="gaussian", temperature=0.5)
    found = estimator.from_arrays(jax.random.key(0), samples, -0.5 * (samples**2).sum(-1))
    assert any("Pareto" in warning for warning in found.warnings)
    assert any("draws of equal weight" in warning for warning in found.warnings)


def test_a_missing_mode_is_flagged():
    # Two modes 20 apart; every chain stays in its own.
    rng = np.random.default_rng(0)
    x = rng.normal(size=(4, 500, 1)) + np.array([-10, -10, 10, 10])[:, None, None]
    log_density = np.logaddexp(-0.5 * (x + 10) ** 2, -0.5 * (x - 10) ** 2)[..., 0]
    found = LearnedHarmonicMean(flow="gaussian").from_arrays(jax.random.key(0), x, log_density)
    assert any("R-hat" in warning for warning in found.warnings)


def test_rounding_in_single_precision_is_flagged():
    samples, log_density = gaussian(2, seed=0)
    offset = (log_density - 1e6).astype(np.float32)
    found = evidence.from_arrays(samples, offset).estimate(jax.random.key(0), flow="gaussian")
    assert any("numpyro.enable_x64()" in warning for warning in found.warnings)
    found = evidence.from_arrays(samples, log_density - 1e6).estimate(jax.random.key(0), flow="gaussian")
    assert found.warnings == ()


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (np.nan, "log_density is NaN at 1 of 4000 draws, first at chain 2, draw 7"),
        (np.inf, r"log_density is \+inf at 1 of 4000"),
        (-np.inf, "log_density is -inf at 1 of 4000.*zero density"),
    ],
)
def test_log_density_that_is_refused(value, message):
    samples, log_density = gaussian(2, seed=0)
    log_density[2, 7] = value
    with pytest.raises(ValueError, match=message):
        LearnedHarmonicMean().from_arrays(jax.random.key(0), samples, log_density)


def test_a_function_that_gives_nan_is_refused():
    samples, _ = gaussian(2, seed=0)
    with pytest.raises(ValueError, match="log_density is NaN at 4000 of 4000"):
        LearnedHarmonicMean()(jax.random.key(0), samples, lambda x: x.sum() * jnp.nan)
    with pytest.raises(ValueError, match="one number"):
        LearnedHarmonicMean()(jax.random.key(0), samples, lambda x: x)


def test_samples_that_are_refused():
    samples, log_density = gaussian(2, seed=0)
    bad = samples.copy()
    bad[1, 5, 1] = np.inf
    with pytest.raises(ValueError, match="not finite at 1 of 4000 draws, first at chain 1, draw 5, parameter 1"):
        evidence.from_arrays(bad, log_density)
    with pytest.raises(ValueError, match=r"expected shape \(4, 1000\)"):
        evidence.from_arrays(samples, log_density[:3])
    with pytest.raises(ValueError, match="unequal lengths, from 900 to 1000"):
        evidence.from_arrays([*samples[:3], samples[3, :900]], list(log_density))
    with pytest.raises(ValueError, match=r"samples\[\.\.\., None\]"):
        evidence.from_arrays(samples[..., 0], log_density)
    with pytest.raises(ValueError, match="log_density_fn"):
        evidence.from_arrays(samples, None)
    with pytest.raises(ValueError, match="same leading axes"):
        LearnedHarmonicMean()(jax.random.key(0), {"a": samples, "b": samples[:2]}, lambda x: 0.0)
    with pytest.raises(ValueError, match="do not determine a covariance"):
        evidence.from_arrays(samples[:, :1].repeat(3, -1), log_density[:, :1]).estimate(jax.random.key(0))


def test_log_density_from_its_function():
    samples, log_density = gaussian(2, seed=0)
    precision = jnp.asarray(np.linalg.inv(covariance(2)))
    problem = evidence.from_arrays(samples, None, lambda x: -0.5 * x @ precision @ x)
    np.testing.assert_allclose(problem.log_density, log_density, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"flow": 3}, "flow=3: it is a name, or an object with build"),
        ({"train_fraction": 0.2}, "train_fraction=0.2"),
        ({"train_fraction": 1.0}, "train_fraction=1.0"),
        ({"temperature": 0.0}, "temperature=0.0"),
        ({"temperature": 1.5}, "temperature=1.5"),
        ({"max_epochs": 0}, "max_epochs=0"),
    ],
)
def test_settings_that_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        LearnedHarmonicMean(**settings)


def test_an_unknown_flow_is_refused():
    with pytest.raises(LookupError, match=r"spline-2.*did you mean 'spline'"):
        LearnedHarmonicMean(flow="spline-2")


def test_default_temperature():
    temperatures = [_estimators.default_temperature(dim) for dim in (1, 2, 4, 37, 157, 10_000)]
    assert temperatures == sorted(temperatures)
    assert temperatures[0] == 0.6
    assert temperatures[3] == pytest.approx(1 - 1 / math.sqrt(37))
    assert temperatures[-1] == 0.95


def test_progress(capsys):
    samples, log_density = rosenbrock(0)
    LearnedHarmonicMean(max_epochs=2, progress_bar=True).from_arrays(jax.random.key(0), samples, log_density)
    assert "Training the flow" in capsys.readouterr().err
    seen = []
    flat = samples.reshape(-1, 2)
    _train.fit_flows(
        jax.random.key(0),
        SplineFlow(),
        "spline",
        [flat[:1600], flat[2000:3600]],
        [flat[1600:2000], flat[3600:]],
        max_epochs=2,
        progress=lambda done, total: seen.append((done, total)),
    )
    assert seen[-1] == (4, 4)
    assert sorted(seen) == seen


def test_str(banana):
    text = str(banana)
    assert text.startswith("ln Z = -7.1")
    assert "lhm" in text


@pytest.mark.slow
@pytest.mark.parametrize(("make", "truth"), [(lambda s: gaussian(10, s), GAUSSIAN_LOG_Z[10]), (rosenbrock, None)])
def test_coverage(make, truth):
    """Over 40 seeds the error bar covers: of |z| < 2 at least 33 (a true 0.95 gives fewer with probability 2e-3), and
    the root mean square of z is within what 40 values of a 32-piece error allow."""
    truth = ROSENBROCK_LOG_Z if truth is None else truth
    z = []
    for seed in range(40):
        found = evidence.from_arrays(*make(100 + seed)).estimate(jax.random.key(seed))
        z.append((found.log_z - truth) / found.log_z_err)
    assert np.sum(np.abs(z) < 2) >= 33
    assert 0.7 < np.sqrt(np.mean(np.square(z))) < 1.4
