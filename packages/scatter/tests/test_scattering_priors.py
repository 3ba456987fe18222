"""Priors of scattering covariances, against closed forms, importance sampling and identities of Gaussian fields."""

import functools
import inspect

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest
from numpyro.infer import MCMC, NUTS
from scipy import stats

from armillary.core import Target
from armillary.core.testing import CHECKS, Case
from armillary.scatter import (
    MaximumEntropyPrior,
    MicrocanonicalSampler,
    ScatteringCovariance,
    ScatteringPrior,
    _prior_fit,
    _prior_matching,
)
from armillary.sphere import SHT, GaussLegendre, IsotropicGaussian, alm_from_real, alm_to_real, power_spectrum

L = 4
CL = 1 / (1 + np.arange(L)) ** 1.5
DEGREE = np.repeat(np.arange(L), 2 * np.arange(L) + 1)


@pytest.fixture(autouse=True, scope="module")
def quick_compilation():
    """Most of the time of these tests is compilation of code that runs for milliseconds."""
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", False)


@pytest.fixture(autouse=True)
def x64():
    with jax.enable_x64(True):
        yield


@functools.cache
def cov(L=L):
    return ScatteringCovariance(L, N=1, J_min=1, backend="table")


def statistics(x, cov):
    return np.asarray(cov(alm_from_real(jnp.asarray(x))).ravel())[..., 2:]


@functools.cache
def gaussian_fields(num, seed=0):
    return np.random.default_rng(seed).normal(size=(num, L * L)) * np.sqrt(CL)[DEGREE]


@functools.cache
def prior():
    """Tilted to other statistics than those of Gaussian fields, by one deviation in each principal direction."""
    s = statistics(gaussian_fields(4000), cov())
    covariance = np.cov(s.T)
    shift = np.linalg.cholesky(covariance) @ np.ones(len(covariance))
    return ScatteringPrior(cov(), s.mean(axis=0) + shift, covariance, CL)


def lognormal(num, seed=1):
    """Maps on the grid of bandlimit L."""
    x = np.random.default_rng(seed).normal(size=(num, L * L)) / (1 + np.repeat(np.arange(L), 2 * np.arange(L) + 1))
    f = np.asarray(SHT(GaussLegendre(L), real=True, backend="table").synthesis(alm_from_real(x)))
    return np.exp(f / f.std())


def test_log_density_is_the_formula():
    p, x = prior(), gaussian_fields(5, seed=2)
    s = statistics(x, cov())
    draws = statistics(gaussian_fields(4000), cov())
    apart = s - np.asarray(p.statistics)
    U = 0.5 * np.einsum("ni,ij,nj->n", apart, np.linalg.inv(np.cov(draws.T)), apart)
    np.testing.assert_allclose(p.potential(x), U, rtol=1e-8)
    base = stats.norm.logpdf(x, scale=np.sqrt(CL)[DEGREE]).sum(axis=1)
    np.testing.assert_allclose(p.log_prob(x), base - U, rtol=1e-10)
    one = jax.jit(lambda p, x: p.log_prob(x))
    np.testing.assert_allclose([one(p, row) for row in x], p.log_prob(x), rtol=1e-12)
    # A diagonal covariance is that of a matrix.
    variances = draws.var(axis=0)
    pair = [ScatteringPrior(cov(), p.statistics, c, CL).potential(x) for c in (variances, np.diag(variances))]
    np.testing.assert_allclose(pair[0], (apart**2 / variances).sum(axis=1) / 2, rtol=1e-10)
    np.testing.assert_allclose(*pair, rtol=1e-12)


def test_single_precision():
    p, x = prior(), gaussian_fields(3, seed=2)
    expected, slope = p.log_prob(x), p.score(x)
    with jax.enable_x64(False):
        single = jax.tree.map(lambda leaf: jnp.asarray(np.asarray(leaf), jnp.float32), p)
        found = single.log_prob(jnp.asarray(x, jnp.float32))
        found_slope = single.score(jnp.asarray(x, jnp.float32))
        assert found.dtype == found_slope.dtype == np.float32
    np.testing.assert_allclose(found, expected, rtol=2e-5)
    np.testing.assert_allclose(found_slope, slope, atol=2e-4 * abs(np.asarray(slope)).max())


@pytest.mark.slow
def test_draws_and_normaliser_against_importance_sampling():
    p = prior()
    x = gaussian_fields(100_000, seed=3)
    U = np.concatenate([np.asarray(p.potential(part)) for part in np.split(x, 10)])
    weights = np.exp(-U)
    log_z, log_z_error = np.log(weights.mean()), weights.std() / weights.mean() / len(weights) ** 0.5
    assert log_z < -0.5
    known = p.normalise(jax.random.key(0), num_chains=512, num_steps=32)
    assert known.normalised
    assert not p.normalised
    error = np.hypot(log_z_error, known.log_normaliser_error)
    assert error < 0.1
    assert abs(float(known.log_normaliser) - log_z) < 4 * error
    np.testing.assert_allclose(known.log_prob(x[:3]), p.log_prob(x[:3]) - known.log_normaliser, rtol=1e-12)
    # The moments of the draws, and that they are not those of the Gaussian.
    chains = p.chains(jax.random.key(1), 512)
    assert chains.acceptance[:, -8:].mean() > 0.6
    assert (chains.tilt[-8:] == 1).all()
    s = statistics(x, cov())
    weights /= weights.sum()
    expected = weights @ s
    spread = np.sqrt(weights @ (s - expected) ** 2)
    scatter = spread * np.sqrt(1 / 512 + (weights**2).sum())
    drawn = statistics(chains.x, cov()).mean(axis=0)
    assert abs((drawn - expected) / scatter).max() < 4.5
    assert abs((s.mean(axis=0) - expected) / scatter).max() > 10


def quadratic(theta, wall=10.0):
    """A prior of S2 alone, and the spectrum of the Gaussian that it is."""
    groups = np.array([label.group for label in _prior_fit.labels(cov())])
    whole = np.zeros(len(groups))
    whole[groups == "s2"] = theta
    # S2 of each degree, of unit power in it: the square of a coefficient is 1 / (2 l + 1) of that.
    unit = statistics((np.arange(L)[:, None] == DEGREE).astype(float), cov())[:, groups == "s2"]
    per_square = unit / (2 * np.arange(L) + 1)[:, None]
    return MaximumEntropyPrior(cov(), whole, CL, wall), 1 / (1 / CL + 2 * per_square @ theta), per_square


def test_quadratic_statistics_make_a_gaussian():
    p, cl, _ = quadratic(np.array([100.0, -120.0]))
    assert (cl > 0).all()
    assert max(cl / CL) > 1.05
    x = gaussian_fields(4, seed=5)
    np.testing.assert_allclose(p.score(x), -x / cl[DEGREE], rtol=1e-9, atol=1e-12)
    log_z = 0.5 * ((2 * np.arange(L) + 1) * np.log(cl / CL)).sum()
    np.testing.assert_allclose(p.log_prob(x) - log_z, IsotropicGaussian(cl).log_prob(x), rtol=1e-9)
    known = p.normalise(jax.random.key(0), num_chains=512, num_steps=32)
    assert known.log_normaliser_error < 0.05
    assert abs(float(known.log_normaliser) - log_z) < 4 * known.log_normaliser_error
    draws = np.asarray(p.sample(jax.random.key(1), (2048,)))
    chi2 = (draws**2 / cl[DEGREE]).sum(axis=1)
    assert stats.kstest(chi2, stats.chi2(L * L).cdf).pvalue > 1e-4
    assert stats.kstest((draws**2 / CL[DEGREE]).sum(axis=1), stats.chi2(L * L).cdf).pvalue < 1e-6


def test_no_tilt_is_the_gaussian_and_every_step_is_accepted():
    p, cl, _ = quadratic(np.zeros(2))
    chains = p.chains(jax.random.key(0), 8, 8)
    np.testing.assert_allclose(chains.acceptance, 1, atol=1e-12)
    np.testing.assert_array_equal(chains.log_weight, 0)
    np.testing.assert_allclose(cl, CL)


def test_the_wall_makes_any_theta_proper():
    """Without it the density of a reward of S2 would grow without bound."""
    p, cl, _ = quadratic(np.array([-900.0, -900.0]), wall=2.0)
    assert (cl < 0).any()
    x = gaussian_fields(1, seed=5)[0]
    along = np.asarray(p.log_prob(x * np.array([1.0, 30.0, 100.0, 1000.0])[:, None]))
    assert (np.diff(along) < 0).all()
    assert along[-1] < -1e6
    # Inside it is nothing.
    free, _, _ = quadratic(np.array([-900.0, -900.0]), wall=1e3)
    radius = np.sqrt((x**2 / CL[DEGREE]).mean())
    np.testing.assert_allclose(p.log_prob(1.9 / radius * x), free.log_prob(1.9 / radius * x), rtol=1e-12)
    assert p.log_prob(2.1 / radius * x) < free.log_prob(2.1 / radius * x) - 0.1


def test_laplacian_sees_the_kinks_of_a_modulus():
    r"""For white Gaussian y, :math:`E[\Delta s] = E[y \cdot \nabla s] = k E[s]`, where s has the degree k."""
    root = np.sqrt(CL)[DEGREE]
    y = jnp.asarray(gaussian_fields(1500, seed=6) / root)
    keys = jax.random.split(jax.random.key(0), len(y))
    _, right = jax.jit(
        jax.vmap(_prior_matching.moments, (0, None, None, 0)),
    )(keys, cov(), jnp.asarray(root), y)
    s = statistics(y * root, cov())
    degree = np.array([1 if label.group == "s1" else 2 for label in _prior_fit.labels(cov())])
    # What is returned is the Laplacian less y times the gradient: 0 on average.
    right = np.asarray(right)
    error = right.std(axis=0) / len(y) ** 0.5
    assert abs(right.mean(axis=0) / error).max() < 4.5
    # The test can tell: of S1 the Laplacian would be 0 without the kinks.
    s1 = degree == 1
    assert (s[:, s1].mean(axis=0) / error[s1]).min() > 10


def test_score_matching_of_band_powers_is_a_closed_form():
    """Linear equations in the sums of squares of the examples; and the family's own member comes out."""
    theta = np.array([100.0, -120.0])
    _, cl, per_square = quadratic(theta)
    x = np.random.default_rng(7).normal(size=(60, L * L)) * np.sqrt(cl)[DEGREE]
    # Squares in units of the Gaussian's power, by degree, summed over orders.
    power = np.array([(x[:, j == DEGREE] ** 2).sum(axis=1).mean() for j in range(L)]) / CL
    a = per_square * CL[:, None]
    left = 4 * a.T @ (power[:, None] * a)
    right = 2 * a.T @ (2 * np.arange(L) + 1) - 2 * a.T @ power
    fitted = MaximumEntropyPrior.fit(alm_from_real(x), cov(), terms=["s2"], cl=CL)
    groups = np.array([label.group for label in _prior_fit.labels(cov())])
    np.testing.assert_allclose(np.asarray(fitted.theta)[groups == "s2"], np.linalg.solve(left, right), rtol=1e-4)
    assert (np.asarray(fitted.theta)[groups != "s2"] == 0).all()
    # To the noise of 60 examples the Gaussian comes out whose fields they are.
    found = 1 / (1 / CL + 2 * per_square @ np.asarray(fitted.theta)[groups == "s2"])
    assert abs(found / cl - 1)[1:].max() < 0.2
    assert abs(CL / cl - 1)[1:].max() > 0.3


@pytest.mark.slow
@pytest.mark.parametrize("theta", [(40.0, -40.0), (40.0, 40.0), (0.0, 0.0)], ids=str)
def test_score_matching_of_moduli_finds_the_parameters(theta):
    """Over Gaussian fields weighted to be draws of the family's member, which is exact: no chain is in it."""
    num, parts = 20_000, 40
    root = jnp.asarray(np.sqrt(CL)[DEGREE])
    y = jnp.asarray(gaussian_fields(num, seed=12)) / root
    of_one = jax.jit(lambda key_y: _prior_matching.moments(key_y[0], cov(), root, key_y[1]))
    left, right = jax.lax.map(of_one, (jax.random.split(jax.random.key(12), num), y), batch_size=256)
    s1 = [k for k, label in enumerate(_prior_fit.labels(cov())) if label.group == "s1"]
    s = statistics(y * root, cov())[:, s1]
    left, right = np.asarray(left)[:, s1][:, :, s1], np.asarray(right)[:, s1]
    weights = np.exp(-(s - s.mean(axis=0)) @ np.array(theta))
    moved = (np.average(s, axis=0, weights=weights) - s.mean(axis=0)) / s.std(axis=0)

    def solved(w):
        return np.linalg.solve(np.einsum("n,nij->ij", w, left), w @ right)

    found = solved(weights)
    without = np.array([solved(np.where(np.arange(num) % parts == k, 0, weights)) for k in range(parts)])
    error = (parts - 1) ** 0.5 * without.std(axis=0)
    assert (error < 4).all()
    assert (abs(found - theta) < 4 * error).all()
    # The tilt is no small one, where there is one: statistics are moved by a good part of their deviation.
    assert not any(theta) or abs(moved).max() > 0.5


def test_fits_are_of_their_examples():
    maps = lognormal(6)
    c = cov()
    alm = SHT(GaussLegendre(L), real=True, backend="table").analysis(maps)
    p = ScatteringPrior.fit(maps, c, jax.random.key(0))
    again = ScatteringPrior.fit(alm, c, jax.random.key(0))
    np.testing.assert_allclose(p.cl, power_spectrum(alm).mean(axis=0), rtol=1e-12)
    np.testing.assert_allclose(p.statistics, statistics(alm_to_real(alm), c).mean(axis=0), rtol=1e-12)
    np.testing.assert_allclose(again.statistics, p.statistics, rtol=1e-12)
    # Maps without a mean have the power of degree 1 in its place.
    flat = alm.at[:, 0, L - 1].set(0)
    np.testing.assert_allclose(ScatteringPrior.fit(flat[0], c).cl[0], power_spectrum(alm)[0, 1], rtol=1e-10)


@pytest.fixture(scope="module")
def sampler():
    with jax.enable_x64(True):
        return MicrocanonicalSampler.fit(lognormal(1)[0], cov(), num_steps=30)


def test_microcanonical_is_gradient_descent(sampler):
    z = np.random.default_rng(1).normal(size=(3, 16))
    x = sampler(z)
    y = jnp.asarray(z)
    slope = jax.jit(jax.grad(lambda y: sampler.mismatch(sampler.root * y).sum()))
    for _ in range(30):
        y = y - sampler.rate * slope(y)
    np.testing.assert_allclose(x, sampler.root * y, rtol=1e-7, atol=1e-9)
    one = jax.jit(lambda f, z: f(z))
    np.testing.assert_allclose([one(sampler, row) for row in z], x, rtol=1e-7, atol=1e-9)
    # The statistics are matched, by fields that are not each other.
    assert (sampler.mismatch(x) < 0.3 * sampler.mismatch(sampler.root * z)).all()
    assert sampler.mismatch(x).mean() < 0.1 * sampler.mismatch(sampler.root * z).mean()
    assert abs(np.corrcoef(x)[np.triu_indices(3, 1)]).max() < 0.8
    # The derivative along a direction, by differences.
    direction = np.random.default_rng(2).normal(size=16)
    value = jax.jit(lambda z: (sampler(z) ** 2).sum())
    # A short one: where a wavelet coefficient changes its sign the map jumps.
    h = 1e-7
    by_differences = (value(z[0] + h * direction) - value(z[0] - h * direction)) / (2 * h)
    np.testing.assert_allclose(jax.grad(value)(jnp.asarray(z[0])) @ direction, by_differences, rtol=1e-3)
    with jax.enable_x64(False):
        single = jax.tree.map(lambda leaf: jnp.asarray(np.asarray(leaf), jnp.float32), sampler)
        found = one(single, jnp.asarray(z[0], jnp.float32))
        assert found.dtype == np.float32
    np.testing.assert_allclose(found, x[0], atol=1e-3 * float(abs(x[0]).max()))


def test_microcanonical_field_in_a_model(sampler):
    def model(data):
        z = numpyro.sample("z", dist.Normal().expand([sampler.size]).to_event(1))
        x = numpyro.deterministic("x", sampler(z))
        numpyro.sample("data", dist.Normal(x, 0.3).to_event(1), obs=data)

    truth = sampler(np.random.default_rng(3).normal(size=16))
    target = Target.from_numpyro(model, truth)
    position = target.initial_position(jax.random.key(0))
    value, slope = jax.value_and_grad(target.log_density)(position)
    assert np.isfinite(value)
    assert np.isfinite(slope["z"]).all()
    assert (slope["z"] != 0).all()


# The checks that draw by the thousand need a normalised prior; all compile a sampler for each number of draws.
HEAVY = ("check_prior_samples", "check_prior_normalised")


@pytest.mark.slow
@pytest.mark.parametrize("check", [c for c in CHECKS["prior"] if c.__name__ not in HEAVY], ids=lambda c: c.__name__)
def test_conformance(check):
    with jax.enable_x64(False):
        single = jax.tree.map(lambda leaf: jnp.asarray(np.asarray(leaf), jnp.float32), prior())
        check(Case(single, tolerance=1e-4))


@pytest.mark.exhaustive
@pytest.mark.parametrize("name", HEAVY)
def test_conformance_of_many_draws(name):
    with jax.enable_x64(False):
        single = jax.tree.map(lambda leaf: jnp.asarray(np.asarray(leaf), jnp.float32), prior())
        known = single.normalise(jax.random.key(0), num_chains=8192, num_steps=64)
        next(c for c in CHECKS["prior"] if c.__name__ == name)(Case(known))


def test_registered():
    registry = pytest.importorskip("armillary.core.registry")
    assert registry.get("prior", "scattering") is ScatteringPrior
    assert registry.get("prior", "scattering-maximum-entropy") is MaximumEntropyPrior


def test_an_inferred_parameter_is_refused_with_the_reason():
    p = prior()

    def model():
        amplitude = numpyro.sample("amplitude", dist.LogNormal())
        x = numpyro.sample(
            "x", ScatteringPrior(cov(), p.statistics, jnp.diag(jnp.ones(len(p.statistics))), amplitude * CL)
        )
        numpyro.sample("y", dist.Normal(x.sum(), 1.0), obs=0.0)

    mcmc = MCMC(NUTS(model), num_warmup=2, num_samples=2, progress_bar=False)
    with pytest.raises(ValueError, match=r"cl is traced.*inferred.*IsotropicGaussian"):
        mcmc.run(jax.random.key(0))
    with pytest.raises(ValueError, match="theta is traced"):
        jax.grad(lambda theta: MaximumEntropyPrior(cov(), theta, CL).log_prob(jnp.zeros(16)))(p.statistics)


def test_errors():
    p, c = prior(), cov()
    K = len(p.statistics)
    mu, sigma = np.zeros(K), np.eye(K)
    singular = np.ones((K, K))
    plane = ScatteringCovariance(16, N=2, J_min=1, domain="plane")
    maps = lognormal(2)
    for build, message in [
        (lambda: ScatteringPrior(None, mu, sigma, CL), "cov=None: a ScatteringCovariance"),
        (lambda: ScatteringPrior(plane, mu, sigma, CL), "cov has domain='plane'"),
        (lambda: ScatteringPrior(ScatteringCovariance(4, N=1, compat="s2scat"), mu, sigma, CL), "compat='s2scat'"),
        (lambda: ScatteringPrior(ScatteringCovariance(4, N=1, spectra=True), mu, sigma, CL), "cov has spectra=True"),
        (lambda: ScatteringPrior(c, mu[1:], sigma, CL), rf"statistics is float64 of shape \({K - 1},\)"),
        (lambda: ScatteringPrior(c, mu + 1j, sigma, CL), "statistics is complex128"),
        (lambda: ScatteringPrior(c, mu, sigma[1:], CL), rf"covariance has shape \({K - 1}, {K}\)"),
        (lambda: ScatteringPrior(c, mu, singular, CL), "covariance is not positive definite"),
        (lambda: ScatteringPrior(c, mu, sigma + np.triu(singular, 1), CL), "covariance is not symmetric"),
        (lambda: ScatteringPrior(c, mu, -sigma, CL), "variances that are not positive"),
        (lambda: ScatteringPrior(c, mu, sigma, CL[1:]), r"cl is float64 of shape \(3,\)"),
        (lambda: ScatteringPrior(c, mu, sigma, CL * np.array([1, 1, 0, 1])), "cl is 0.0 at degree 2"),
        (lambda: MaximumEntropyPrior(c, mu, CL, -1.0), "radius=-1.0"),
        (lambda: MaximumEntropyPrior(c, np.full(K, np.nan), CL), "theta is float64"),
        (lambda: MaximumEntropyPrior.fit(maps, c, terms=["s5"]), r"terms=\['s5'\]"),
        (lambda: MaximumEntropyPrior.fit(maps, c, terms="s2"), "terms='s2'"),
        (lambda: ScatteringPrior.fit(maps[:0], c), r"maps has shape \(0, 4, 7\)"),
        (lambda: ScatteringPrior.fit(maps[None], c), r"maps has shape \(1, 2, 4, 7\)"),
        (lambda: ScatteringPrior.fit(maps[:, 1:], c), r"maps has shape \(2, 3, 7\)"),
        (lambda: ScatteringPrior.fit(maps * np.nan, c), "NaN"),
        (lambda: ScatteringPrior.fit(0 * maps[0] + 1, c), "no power at degree 1"),
        (lambda: MicrocanonicalSampler.fit(maps, c, num_steps=0), "num_steps=0"),
        (lambda: MicrocanonicalSampler(c, mu, sigma, CL, 0.0), "rate=0.0"),
        (lambda: MicrocanonicalSampler(c, mu, sigma[1:], CL, 1.0), "whitener has shape"),
        (lambda: MicrocanonicalSampler(c, mu, sigma, CL, 1.0)(jnp.zeros(15)), r"z is float64 of shape \(15,\)"),
        (lambda: p.log_prob(jnp.zeros(15)), r"value is float64 of shape \(15,\)"),
        (lambda: p.log_prob(jnp.zeros(16, complex)), "value is complex128"),
        (lambda: p.chains(jax.random.key(0), 0), "num_chains=0"),
        (lambda: p.normalise(jax.random.key(0), 4), "num_chains=4"),
    ]:
        with pytest.raises(ValueError, match=message):
            build()
    hopeless = ScatteringPrior(c, mu + 100, sigma * 1e-6, CL)
    with pytest.raises(RuntimeError, match="the normaliser is not known"):
        hopeless.normalise(jax.random.key(0), 16, 4)


def test_public_signatures_are_documented():
    for component in (ScatteringPrior, MaximumEntropyPrior, MicrocanonicalSampler):
        for name in inspect.signature(component.__init__).parameters:
            if name != "self":
                assert f"        {name}:" in component.__doc__.replace("    ", "        "), (component, name)
