"""The evidence by nested sampling and by tempering, against closed forms."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest
import scipy.fft
from scipy.special import log_ndtr

from armillary.core import Target, compare
from armillary.imaging import L1, ImageEvidence, proximal_nested_sampling, tempered_evidence
from armillary.imaging._moments import Moments, add, effective_size, standard_deviation


def gaussian(dim, dtype=jnp.float32):
    """A prior N(0, 1) and a likelihood exp(-|y - x|**2 / 2), and ln Z: -|y|**2 / 4 - d ln(2) / 2."""
    rng = np.random.RandomState(0)
    y = (rng.rand(dim, 1) + rng.randn(dim, 1))[:, 0]
    data = jnp.asarray(y, dtype)
    target = Target(
        lambda x: -0.5 * jnp.sum(x**2) - 0.5 * dim * math.log(2 * math.pi),
        lambda x: -0.5 * jnp.sum((data - x) ** 2),
        sample_prior=lambda key: jax.random.normal(key, (dim,), dtype),
        prox=lambda x, step: x / (1 + step),
    )
    return target, y, -0.25 * y @ y - 0.5 * dim * math.log(2)


# ln((2 pi)**(d/2) Z), from another program.
PUBLISHED = {32: 5.588397515711915, 200: 60.01338449554919, 1000: 253.08252076578498}


@pytest.mark.parametrize("dim", PUBLISHED)
def test_the_closed_form_of_the_gaussian_is_the_one_of_another_program(dim):
    assert gaussian(dim)[2] + 0.5 * dim * math.log(2 * math.pi) == pytest.approx(PUBLISHED[dim], abs=1e-9)


def sparse(shape, sigma, scale, seed=0):
    """An image that is sparse in the cosine transform, seen through noise: target, closed-form ln Z and mean."""
    rng = np.random.default_rng(seed)
    basis = functools.reduce(np.kron, [scipy.fft.dct(np.eye(n), norm="ortho", axis=0) for n in shape])
    truth = basis.T @ rng.laplace(scale=scale, size=basis.shape[0])
    y = truth + sigma * rng.normal(size=truth.shape)
    transform, data, prior = jnp.asarray(basis, jnp.float32), jnp.asarray(y, jnp.float32), L1(scale)
    target = Target(
        lambda x: jnp.sum(prior.log_prob(transform @ x)),
        lambda x: -0.5 * jnp.sum((data - x) ** 2) / sigma**2,
        sample_prior=lambda key: transform.T @ prior.sample(key, data.shape),
        prox=lambda x, step: transform.T @ prior.prox(transform @ x, step),
    )
    # The coefficients are independent: each is a mixture of two Gaussians, cut at zero.
    mu, d = 1 / scale, basis @ y
    right = mu**2 * sigma**2 / 2 - mu * d + log_ndtr((d - mu * sigma**2) / sigma)
    left = mu**2 * sigma**2 / 2 + mu * d + log_ndtr(-(d + mu * sigma**2) / sigma)
    both = np.logaddexp(right, left)
    log_z = np.sum(both + np.log(mu / 2 * sigma * np.sqrt(2 * np.pi)))
    w = np.exp(right - both)
    return target, basis.T @ (w * (d - mu * sigma**2) + (1 - w) * (d + mu * sigma**2)), log_z


NESTED = functools.partial(proximal_nested_sampling, num_live=200)
TEMPERED = functools.partial(tempered_evidence, num_particles=200)
ROUTES = pytest.mark.parametrize("route", [NESTED, TEMPERED], ids=["nested", "tempered"])


@pytest.fixture(scope="module")
def gaussian_runs():
    target, y, log_z = gaussian(32)
    return {route.func: route(jax.random.key(2), target) for route in (NESTED, TEMPERED)}, y, log_z


@ROUTES
def test_a_gaussian_has_its_evidence_information_and_moments(gaussian_runs, route):
    runs, y, log_z = gaussian_runs
    found = runs[route.func]
    assert found.status == "converged"
    assert abs(found.log_z - log_z) < 3 * found.log_z_err
    assert 0.02 < found.log_z_err < 0.4
    # The posterior is N(y / 2, 1 / 2), whose divergence from N(0, 1) is this.
    information = 0.5 * (16 - 32 + y @ y / 4 + 32 * math.log(2))
    assert abs(found.information - information) < 1.5
    assert np.sqrt(np.mean((found.mean - y / 2) ** 2)) < 0.15
    assert np.sqrt(np.mean(found.std**2)) == pytest.approx(math.sqrt(0.5), rel=0.05)
    assert found.mean.dtype == found.std.dtype == jnp.float32


@ROUTES
def test_a_sparse_image_has_its_closed_form(route):
    target, mean, log_z = sparse((4, 4), 0.3, 0.7)
    found = route(jax.random.key(1), target)
    assert found.status == "converged"
    assert abs(found.log_z - log_z) < 3 * found.log_z_err
    assert np.sqrt(np.mean((found.mean - mean) ** 2)) < 0.1


@pytest.mark.slow
@ROUTES
def test_the_error_of_the_evidence_is_its_scatter(route):
    target, _, log_z = gaussian(16)
    found = [route(jax.random.key(seed), target) for seed in range(10)]
    off = np.array([f.log_z - log_z for f in found])
    error = np.sqrt(np.mean([f.log_z_err**2 for f in found]))
    assert abs(off.mean()) < 4 * error / np.sqrt(off.size)
    assert 0.4 < off.std(ddof=1) / error < 1.7


def test_tempering_from_a_density_near_the_posterior():
    target, mean, log_z = sparse((4, 4), 0.1, 0.7)
    y = mean  # the noise hardly moves it, and the reference need not be centred on the data
    reference = dist.Normal(jnp.asarray(y, jnp.float32), 0.2).to_event(1)
    near = TEMPERED(jax.random.key(1), target, reference=reference)
    far = TEMPERED(jax.random.key(1), target)
    for found in (near, far):
        assert found.status == "converged"
        assert abs(found.log_z - log_z) < 3 * found.log_z_err
        assert np.sqrt(np.mean((found.mean - mean) ** 2)) < 0.05
    assert near.diagnostics["temperatures"] < 0.6 * far.diagnostics["temperatures"]
    assert near.log_z_err < 0.6 * far.log_z_err
    assert near.information == pytest.approx(far.information, abs=1)


@ROUTES
def test_a_prior_without_draws_is_drawn_from_by_chains(route):
    # Known but for its normaliser: neither route needs that.
    exact, mean, log_z = sparse((4, 4), 0.3, 0.7)
    target = Target(lambda x: exact.log_prior(x) + 5.0, exact.log_likelihood, position=jnp.zeros(16), prox=exact.prox)
    found = route(jax.random.key(1), target)
    assert found.status == "converged"
    assert abs(found.log_z - log_z) < 3 * found.log_z_err
    assert np.sqrt(np.mean((found.mean - mean) ** 2)) < 0.1
    assert found.diagnostics["prior_rhat"] < 1.05


@pytest.mark.slow
@ROUTES
def test_a_prior_that_is_improper_is_refused(route):
    # It says nothing of the second parameter, where its chains walk away without end.
    known = jnp.array([1.0, 0.0])
    target = Target(
        lambda x: jnp.sum(known * L1(1.0).log_prob(x)),
        lambda x: -0.5 * jnp.sum(x**2),
        position=jnp.zeros(2),
        prox=lambda x, step: jnp.where(known > 0, L1(1.0).prox(x, step), x),
    )
    found = functools.partial(route.func, **dict.fromkeys(route.keywords, 20))(jax.random.key(0), target)
    assert "the prior may be improper" in found.status
    assert math.isnan(found.log_z)


@pytest.mark.parametrize(
    ("reference", "message"),
    [
        (dist.Normal(0.0, 1.0).expand((16,)), r"batch shape \(16,\) and event shape \(\): expected no batch"),
        (
            dist.Normal(0.0, 1.0).expand((4,)).to_event(1),
            r"shape \(4,\): expected no batch and the event \(16,\)",
        ),
        ({"x": dist.Normal(0.0, 1.0)}, "expected a numpyro distribution for each array"),
        (jnp.zeros(16), "expected a numpyro distribution for each array of a position"),
    ],
)
def test_a_reference_that_is_not_like_a_position(reference, message):
    with pytest.raises(ValueError, match=message):
        tempered_evidence(jax.random.key(0), sparse((4, 4), 0.1, 0.7)[0], reference=reference)


def test_tempering_whose_moves_do_not_mix_is_refused():
    # One move at each temperature, of a prior far from the posterior: families die out, and the weights do not know.
    found = tempered_evidence(jax.random.key(0), sparse((4, 4), 0.02, 0.2)[0], num_particles=100, num_inner_steps=1)
    assert found.diagnostics["log_z_err_of_weights"] < 0.4
    assert found.diagnostics["families"] < 5
    assert found.status.startswith("all particles descend from")
    assert math.isnan(found.log_z)


@pytest.mark.slow
@pytest.mark.parametrize("dim", [32, 200])
def test_gaussians_of_more_dimensions_to_better_than_0_4(dim):
    target, _, log_z = gaussian(dim)
    for found in (
        proximal_nested_sampling(jax.random.key(0), target, num_live=500, num_inner_steps=100),
        tempered_evidence(jax.random.key(0), target),
    ):
        assert abs(found.log_z - log_z) < 3 * found.log_z_err
        assert found.log_z_err < 0.4


@pytest.mark.slow
def test_sparse_images_of_64_pixels_by_both_routes():
    target, mean, log_z = sparse((8, 8), 0.2, 0.7)
    nested = [proximal_nested_sampling(jax.random.key(s), target, num_live=300) for s in range(3)]
    tempered = [tempered_evidence(jax.random.key(s), target, num_inner_steps=60) for s in range(3)]
    for runs in (nested, tempered):
        for run in runs:
            assert abs(run.log_z - log_z) < 3 * run.log_z_err
        # The Monte-Carlo error of the mean from the scatter between runs, averaged over the pixels.
        means = np.stack([run.mean for run in runs]).astype(np.float64)
        error = np.sqrt(means.var(axis=0, ddof=1).mean() / len(runs))
        assert np.sqrt(np.mean((means.mean(axis=0) - mean) ** 2)) < 1.5 * error


def test_a_run_that_is_stopped_before_the_posterior_is_refused(gaussian_runs):
    target = gaussian(32)[0]
    found = proximal_nested_sampling(jax.random.key(0), target, num_live=50, num_inner_steps=5, max_compression=4.0)
    assert found.status.startswith("compression limit: the prior volume shrank by 4.")
    assert found.warnings == (found.status,)
    assert math.isnan(found.log_z)
    with pytest.raises(ValueError, match="an estimate that failed"):
        compare({"stopped": found, "whole": gaussian_runs[0][proximal_nested_sampling]})
    found = tempered_evidence(jax.random.key(0), target, num_particles=50, num_inner_steps=1, max_temperatures=2)
    assert found.status.startswith("stopped at beta = 0.")
    assert math.isnan(found.log_z)


def test_a_likelihood_with_a_plateau_is_refused_and_one_that_vanishes_too():
    prior = L1(1.0).expand((3,)).to_event(1)
    flat = Target(prior.log_prob, lambda x: 0.0 * jnp.sum(x), sample_prior=prior.sample, prox=L1(1.0).prox)
    found = proximal_nested_sampling(jax.random.key(0), flat, num_live=20, num_inner_steps=5)
    assert found.status.startswith("stuck")
    assert math.isnan(found.log_z)
    hole = Target(
        prior.log_prob, lambda x: jnp.where(x[0] > 0, 0.0, -jnp.inf), sample_prior=prior.sample, prox=L1(1.0).prox
    )
    for route in (proximal_nested_sampling, functools.partial(tempered_evidence, num_particles=20)):
        with pytest.raises(ValueError, match=r"not finite at \d+ of \d+ draws from the prior"):
            route(jax.random.key(0), hole, num_inner_steps=1)


@pytest.mark.parametrize(
    ("sparsity", "inner"),
    [
        pytest.param(L1(0.7), "px_mala", id="px_mala"),
        pytest.param(dist.Laplace(0.0, 0.7), "mala", id="mala", marks=pytest.mark.slow),
    ],
)
def test_a_model_of_numpyro_with_two_sites_and_smooth_priors(sparsity, inner):
    # One Gaussian site beside one sparse one, of which only the sparse has a proximal operator.
    y = jnp.array([0.5, -1.0, 2.0])

    def model(y, sparsity):
        offset = numpyro.sample("offset", dist.Normal(0.0, 2.0))
        x = numpyro.sample("x", sparsity.expand(y.shape).to_event(1))
        numpyro.sample("y", dist.Normal(x + offset, 0.5).to_event(1), obs=y)

    # By quadrature over the offset of the product of one-dimensional closed forms.
    mu, sigma = 1 / 0.7, 0.5
    offsets = np.linspace(-14, 14, 4001)
    d = np.asarray(y, np.float64)[:, None] - offsets
    logs = mu**2 * sigma**2 / 2 + np.logaddexp(
        -mu * d + log_ndtr((d - mu * sigma**2) / sigma), mu * d + log_ndtr(-(d + mu * sigma**2) / sigma)
    )
    density = np.exp((np.log(mu / 2) + logs).sum(axis=0) - offsets**2 / 8) / np.sqrt(8 * np.pi)
    log_z = math.log(density.sum() * (offsets[1] - offsets[0]))
    found = proximal_nested_sampling(
        jax.random.key(3), Target.from_numpyro(model, y, sparsity), num_live=300, inner=inner, num_inner_steps=40
    )
    assert abs(found.log_z - log_z) < 3 * found.log_z_err
    assert found.log_z_err < 0.3
    assert set(found.mean) == {"offset", "x"}


@ROUTES
def test_float64_is_kept(route):
    with jax.enable_x64(True):
        target, _, log_z = gaussian(2, jnp.float64)
        found = route(jax.random.key(0), target)
        assert found.mean.dtype == found.std.dtype == jnp.float64
        assert abs(found.log_z - log_z) < 3 * found.log_z_err


@pytest.mark.parametrize(
    ("route", "settings", "message"),
    [
        (proximal_nested_sampling, {"inner": "ula"}, "inner='ula': expected"),
        (proximal_nested_sampling, {"num_live": 5}, "num_live=5: expected a whole number, at least 10"),
        (proximal_nested_sampling, {"num_live": 20, "num_delete": 11}, "num_delete=11: expected at most half"),
        (proximal_nested_sampling, {"num_inner_steps": 0}, "num_inner_steps=0"),
        (proximal_nested_sampling, {"target_acceptance_rate": 1.0}, r"target_acceptance_rate=1\.0"),
        (proximal_nested_sampling, {"tolerance": 0.0}, r"tolerance=0\.0"),
        (proximal_nested_sampling, {"max_compression": -1.0}, r"max_compression=-1\.0"),
        (tempered_evidence, {"inner": None}, "inner=None: expected"),
        (tempered_evidence, {"num_particles": 3}, "num_particles=3"),
        (tempered_evidence, {"num_inner_steps": 1.5}, r"num_inner_steps=1\.5"),
        (tempered_evidence, {"target_ess": 2}, "target_ess=2"),
        (tempered_evidence, {"max_temperatures": 0}, "max_temperatures=0"),
    ],
)
def test_settings_are_checked_before_anything_runs(route, settings, message):
    with pytest.raises(ValueError, match=message):
        route(jax.random.key(0), gaussian(2)[0], **settings)


@ROUTES
def test_a_target_without_what_is_needed_is_refused(route):
    log_prior, log_likelihood = (lambda x: -jnp.sum(x**2),) * 2
    sample = functools.partial(jax.random.normal, shape=(2,))
    with pytest.raises(ValueError, match="needs prox"):
        route(jax.random.key(0), Target(log_prior, log_likelihood, sample_prior=sample))


def test_streamed_moments_are_those_of_all_points_at_once():
    rng = np.random.default_rng(0)
    points, height = rng.normal(3.0, 1.0, size=(60, 4, 2)), rng.normal(size=60)
    # Weights over 600 nats: none of them is a number by itself.
    log_weights = np.sort(rng.uniform(-900, -300, size=60))
    with jax.enable_x64(True):
        moments = Moments.empty({"a": jnp.zeros((4, 2))}, jnp.float64)
        for part in np.split(np.arange(60), 6):
            moments = add(
                moments, {"a": jnp.asarray(points[part])}, jnp.asarray(height[part]), jnp.asarray(log_weights[part])
            )
        found = jax.tree.map(np.asarray, (moments, standard_deviation(moments), effective_size(moments)))
    weights = np.exp(log_weights - log_weights.max())
    np.testing.assert_allclose(found[0].log_weight, np.log(weights.sum()) + log_weights.max(), rtol=1e-14)
    weights /= weights.sum()
    mean = np.tensordot(weights, points, axes=1)
    np.testing.assert_allclose(found[0].mean["a"], mean, rtol=1e-13)
    np.testing.assert_allclose(
        found[1]["a"], np.sqrt(np.tensordot(weights, (points - mean) ** 2, axes=1)), rtol=1e-10, atol=1e-12
    )
    np.testing.assert_allclose(found[0].loglikelihood, weights @ height, rtol=1e-13)
    np.testing.assert_allclose(found[2], 1 / (weights**2).sum(), rtol=1e-12)


def test_it_is_an_evidence_that_can_be_compared(gaussian_runs):
    runs = gaussian_runs[0]
    assert all(isinstance(run, ImageEvidence) for run in runs.values())
    rows = compare({"nested": runs[proximal_nested_sampling], "tempered": runs[tempered_evidence]}).rows
    assert {row.method for row in rows} == {"proximal nested sampling", "tempered SMC"}
