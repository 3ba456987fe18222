import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

from armillary.imaging import (
    DWT,
    Blur,
    L1Wavelet,
    TotalVariation,
    coverage_test,
    credible_interval,
    hpd_threshold,
    local_credible_intervals,
    structure_test,
)

RNG = np.random.default_rng(0)


@pytest.fixture
def x64():
    with jax.enable_x64(True):
        yield


def test_credible_interval_is_that_of_numpy(x64):
    samples = RNG.gamma(2.0, size=(2, 300, 3, 4))
    low, high = credible_interval(samples, 0.8, axis=(0, 1))
    np.testing.assert_allclose(low, np.quantile(samples.reshape(600, 3, 4), 0.1, axis=0), rtol=1e-12)
    np.testing.assert_allclose(high, np.quantile(samples.reshape(600, 3, 4), 0.9, axis=0), rtol=1e-12)
    assert credible_interval(samples[0].astype(np.float32))[0].dtype == np.float32


@pytest.mark.parametrize("size", [50, 2000])
def test_hpd_threshold_contains_the_region_of_a_gaussian_and_of_laplace(x64, size):
    # f = |x|^2 / 2 is half a chi-squared variable, f = |x|_1 a Gamma variable; both 0 at the maximum.
    for level in (0.9, 0.99):
        found = float(hpd_threshold(0.0, size, level))
        for exact in (scipy.stats.chi2(size).ppf(level) / 2, scipy.stats.gamma(size).ppf(level)):
            assert exact < found
        # Conservative, and not without measure: within the bound's own order.
        assert found < scipy.stats.gamma(size).ppf(level) + 9 * np.sqrt(size)
    np.testing.assert_allclose(hpd_threshold(3.0, size, 0.9), 3 + size + np.sqrt(16 * size * np.log(30)), rtol=1e-12)


def test_local_credible_intervals_solve_the_quadratic_of_each_square(x64):
    x, weights = RNG.normal(size=(5, 7)), RNG.uniform(0.5, 2, (5, 7))
    centre = x + 0.1 * RNG.normal(size=(5, 7))

    def objective(u):
        return 0.5 * jnp.sum(weights * (u - centre) ** 2)

    threshold = float(objective(x)) + 9.0
    low, high = local_credible_intervals(objective, x, threshold, 3, batch_size=4)
    assert low.shape == (2, 3)
    for i in range(2):
        for j in range(3):
            cut = np.s_[3 * i : 3 * i + 3, 3 * j : 3 * j + 3]
            rest = float(objective(x)) - 0.5 * np.sum(weights[cut] * (x[cut] - centre[cut]) ** 2)
            a, b = weights[cut].sum() / 2, -np.sum(weights[cut] * centre[cut])
            c = 0.5 * np.sum(weights[cut] * centre[cut] ** 2) + rest - threshold
            ends = np.sort(np.roots([a, b, c]).real)
            np.testing.assert_allclose([low[i, j], high[i, j]], ends, atol=1e-10)
            # No value within is outside of the region, and the ends are on its edge.
            for value, inside in ((ends[0] + 1e-6, True), (ends[1] + 1e-6, False)):
                assert (objective(np.where(_mask(cut), value, x)) <= threshold) == inside


def _mask(cut):
    mask = np.zeros((5, 7), bool)
    mask[cut] = True
    return mask


def test_local_credible_intervals_with_the_linear_part_apart(x64):
    """A deblurring posterior with a wavelet prior: the same ends, from two applications of operator and transform."""
    shape = (16, 16)
    dwt, blur = DWT(shape, "db2", 2), Blur(np.full((3, 3), 1 / 9), shape)
    y, calls = RNG.normal(size=shape), []

    def linear(image):
        calls.append(None)
        return blur(image), dwt(image)

    def of_linear(parts):
        blurred, coefficients = parts
        return jnp.sum((blurred - y) ** 2) / 0.1 + jnp.sum(jnp.abs(coefficients))

    x = jnp.asarray(RNG.normal(size=shape))
    threshold = of_linear(linear(x)) + 30
    calls.clear()
    apart = local_credible_intervals(of_linear, x, threshold, 4, linear_fn=linear)
    assert len(calls) == 2  # traced once for each, outside of the loops
    whole = local_credible_intervals(lambda image: of_linear(linear(image)), x, threshold, 4)
    np.testing.assert_allclose(apart, whole, rtol=1e-9, atol=1e-9)


def test_local_credible_intervals_without_an_end_or_without_a_start(x64):
    x = RNG.normal(size=(4, 4))
    low, high = local_credible_intervals(lambda u: jnp.sum(jnp.maximum(u, 0)), x, 100.0, 2)
    assert np.isneginf(low).all()
    assert np.isfinite(high).all()
    low, high = local_credible_intervals(lambda u: jnp.sum(u**2), x, -1.0, 2)
    assert np.isnan(low).all()
    assert np.isnan(high).all()
    narrow = local_credible_intervals(lambda u: jnp.sum(u**2), jnp.zeros((4, 4), jnp.float32), 4.0, 2)
    assert narrow[0].dtype == np.float32
    np.testing.assert_allclose(narrow[1], 1.0, rtol=1e-5)


def test_coverage_of_exact_intervals_is_their_level_and_of_others_is_not(x64):
    # Prior N(0, 1), noise 0.5: the posterior is N(y / 1.25, 0.2).
    truth = RNG.normal(size=(100, 16, 16))
    data = truth + 0.5 * RNG.normal(size=truth.shape)
    mean, width = data / 1.25, np.sqrt(0.2) * scipy.stats.norm.ppf(0.95)
    exact = coverage_test(mean - width, mean + width, truth, 0.9)
    assert exact.passed
    assert 0.87 < float(exact.fraction) < 0.93
    np.testing.assert_allclose(exact.error, np.sqrt(0.09 / 256 / 100), rtol=0.3)
    assert not coverage_test(mean - 0.9 * width, mean + 0.9 * width, truth, 0.9).passed
    assert not coverage_test(mean - 1.1 * width, mean + 1.1 * width, truth, 0.9).passed


def test_coverage_of_intervals_of_draws_from_a_sparse_posterior(x64):
    """Truths from a wavelet prior, and draws of its posterior by importance: 90 % intervals hold 87 to 93 %."""
    prior, noise, repetitions = L1Wavelet("haar", 1, 1.0, shape=(2, 2)), 0.8, 100
    truth = prior.sample(jax.random.key(0), (repetitions,))
    data = truth + noise * jax.random.normal(jax.random.key(1), truth.shape)

    def intervals(key, y):
        first, second = jax.random.split(key)
        x = prior.sample(first, (20_000,))
        weights = jax.nn.softmax(-0.5 * jnp.sum((x - y) ** 2, axis=(1, 2)) / noise**2)
        return credible_interval(x[jax.random.choice(second, len(x), (1000,), p=weights)], 0.9)

    low, high = jax.jit(jax.vmap(intervals))(jax.random.split(jax.random.key(2), repetitions), data)
    found = coverage_test(low, high, truth, 0.9)
    assert found.passed
    assert 0.87 < float(found.fraction) < 0.93


def test_a_bright_structure_is_real_and_a_faint_one_undecided(x64):
    prior = TotalVariation((16, 16), 1.0)
    background = np.linspace(0, 1, 16) * np.ones((16, 1))
    region = np.zeros((16, 16), bool)
    region[6:9, 7:10] = True
    for height, expected in ((30.0, True), (0.1, False)):
        x = background + height * region

        def objective(u, x=x):
            return 0.5 * jnp.sum((u - x) ** 2) / 0.5**2 - prior.log_prob(u)

        threshold = hpd_threshold(objective(x), x.size, 0.95)
        found = structure_test(objective, x, region, threshold, prior)
        assert found.is_real == expected
        # Taken out: the surrogate is the background within, and the image without.
        np.testing.assert_array_equal(np.asarray(found.surrogate)[~region], x[~region])
        np.testing.assert_allclose(found.surrogate, background, atol=0.1)
        np.testing.assert_allclose(found.objective, objective(found.surrogate), rtol=1e-12)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: credible_interval(np.ones((3, 2)), 1.0), "level=1.0: expected a number between 0 and 1"),
        (lambda: hpd_threshold(0.0, 0), "size=0: expected a whole number"),
        (lambda: hpd_threshold(0.0, 9, 0.95), "level=0.95: with size=9 the bound holds for levels below 0.801"),
        (lambda: local_credible_intervals(jnp.sum, np.ones(3), 1.0), r"the shape of x=\(3,\): expected"),
        (lambda: local_credible_intervals(jnp.sum, np.ones((3, 3)), 1.0, 0), "region_size=0: expected a whole"),
        (lambda: coverage_test(np.ones(3), np.ones(3), np.ones(3), 0.9), "expected at least two repetitions"),
        (lambda: coverage_test(np.ones((3, 1)), np.ones((3, 1)), np.ones((3, 2)), 0.9), "make them the same"),
        (
            lambda: structure_test(jnp.sum, np.ones((3, 3)), np.ones((3, 2)), 1.0, TotalVariation((3, 3))),
            r"region has shape \(3, 2\)",
        ),
        (
            lambda: structure_test(jnp.sum, np.ones((3, 3)), np.ones((3, 3)), 1.0, TotalVariation((3, 3))),
            "region is empty or the whole image",
        ),
        (lambda: structure_test(jnp.sum, np.ones((2, 2)), np.eye(2), 1.0, jnp.sum), "prior=.*has no prox"),
    ],
)
def test_bad_arguments(make, message):
    with pytest.raises(ValueError, match=message):
        make()
