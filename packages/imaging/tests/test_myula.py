import blackjax
import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest
from numpyro.infer import MCMC
from scipy.stats import norm

from armillary.core import Target
from armillary.imaging import L1, MYULA, MYULASampler, myula


def identity(x, step):
    return x


def long_run(algorithm, position, *, burn, keep, thin, seed=0):
    """Positions of every `thin`-th step after `burn`; independent chains are elements of the position."""

    def step(state, key):
        state, info = algorithm.step(key, state)
        return state, info.is_divergent

    def sample(state, keys):
        state, diverged = jax.lax.scan(step, state, keys)
        return state, (state.position, diverged.any())

    @jax.jit
    def run(position, key):
        burn_key, key = jax.random.split(key)
        state, _ = jax.lax.scan(step, algorithm.init(position), jax.random.split(burn_key, burn))
        return jax.lax.scan(sample, state, jax.random.split(key, (keep, thin)))[1]

    positions, diverged = run(position, jax.random.key(seed))
    assert not diverged.any()
    return np.asarray(positions, np.float64)


@pytest.mark.parametrize("step_size", [0.02, 0.1, 0.4])
def test_stationary_variance_on_a_gaussian_is_the_closed_form(step_size):
    # With no non-smooth part MYULA is ULA, a linear recursion of stationary variance (1 / L) / (1 - step L / 2).
    curvature = jnp.array([0.5, 1.0, 2.0, 4.0])[:, None]
    algorithm = myula(lambda x: -0.5 * jnp.sum(curvature * x**2), identity, step_size=step_size, smoothing=1.0)
    num = 40_000
    burn = int(6 / (step_size * 0.5))
    draws = long_run(algorithm, jnp.zeros((4, num)), burn=burn, keep=4, thin=max(1, burn // 6))
    curvature = np.asarray(curvature)[:, 0]
    expected = 1 / (curvature * (1 - step_size * curvature / 2))
    found = (draws**2).mean(axis=(0, 2))
    error = np.sqrt(2 / num) * expected  # as if all four draws of a chain were one
    assert np.all(np.abs(found - expected) < 5 * error)
    if step_size == 0.4:
        # The check can fail: the variance without discretisation is far outside.
        assert abs(found[3] - 1 / curvature[3]) > 50 * error[3]


DATA, SIGMA, SCALE = 0.9, 0.5, 0.7


def moments(log_weights, x):
    weights = np.exp(log_weights - log_weights.max())
    weights /= weights.sum()
    mean = weights @ x
    return mean, weights @ (x - mean) ** 2


def smoothed_posterior(smoothing):
    """Mean and variance by quadrature of the density that has the Moreau envelope of |x| / b for its prior."""
    x = np.linspace(-6, 7, 400_001)
    # The envelope of |x| / b is the Huber function.
    envelope = np.where(
        np.abs(x) <= smoothing / SCALE, x**2 / (2 * smoothing), np.abs(x) / SCALE - smoothing / (2 * SCALE**2)
    )
    return moments(-envelope - (x - DATA) ** 2 / (2 * SIGMA**2), x)


def exact_mean():
    """The posterior mean under the exact L1 prior: a mixture of two truncated Gaussians."""
    mu = 1 / SCALE
    right = np.exp(mu**2 * SIGMA**2 / 2 - mu * DATA) * norm.cdf((DATA - mu * SIGMA**2) / SIGMA)
    left = np.exp(mu**2 * SIGMA**2 / 2 + mu * DATA) * norm.cdf(-(DATA + mu * SIGMA**2) / SIGMA)
    w = right / (right + left)
    return w * (DATA - mu * SIGMA**2) + (1 - w) * (DATA + mu * SIGMA**2)


def stationary(step_size, smoothing):
    """Mean and variance of the stationary law of the chain itself, by powers of its transition matrix on a grid."""
    x = np.linspace(-4, 5, 901)
    prox = np.sign(x) * np.maximum(np.abs(x) - smoothing / SCALE, 0)
    to = x + step_size * ((DATA - x) / SIGMA**2 - (x - prox) / smoothing)
    matrix = np.exp(-((x[None, :] - to[:, None]) ** 2) / (4 * step_size))
    matrix /= matrix.sum(axis=1, keepdims=True)
    for _ in range(11):  # 2048 steps
        matrix = matrix @ matrix
    return moments(np.log(matrix[450] + 1e-300), x)


def chain(step_size, smoothing, *, num=200_000, keep=4):
    algorithm = myula(lambda x: -0.5 * jnp.sum((x - DATA) ** 2) / SIGMA**2, L1(SCALE).prox, step_size, smoothing)
    decorrelate = int(np.ceil(3 * SIGMA**2 / step_size))
    return long_run(algorithm, jnp.zeros(num), burn=3 * decorrelate, keep=keep, thin=decorrelate)


@pytest.mark.parametrize(("step_size", "smoothing"), [(0.1, 0.2), (0.05, 0.05)])
def test_the_chain_has_the_stationary_law_of_its_transition(step_size, smoothing):
    draws = chain(step_size, smoothing, num=50_000)
    mean, variance = stationary(step_size, smoothing)
    error = np.sqrt(variance / draws.size)
    assert abs(draws.mean() - mean) < 5 * error
    assert abs(draws.var() - variance) < 5 * variance * np.sqrt(3 / draws.size)
    assert abs(mean - exact_mean()) > 8 * error  # and the bias is seen at this precision


def test_small_steps_sample_the_moreau_smoothed_posterior():
    step_size, smoothing = 0.005, 0.4
    draws = chain(step_size, smoothing, num=50_000, keep=2)
    mean, variance = smoothed_posterior(smoothing)
    error = np.sqrt(variance / draws.size)
    # The discretisation's own bias is known from the transition matrix; it is of the order of the error.
    discretised = stationary(step_size, smoothing)
    assert abs(discretised[0] - mean) < 2e-3
    assert abs(discretised[1] / variance - 1) < 2e-2
    assert abs(draws.mean() - mean) < 5 * error + abs(discretised[0] - mean)
    assert abs(draws.var() - variance) < 5 * variance * np.sqrt(3 / draws.size) + abs(discretised[1] - variance)
    assert abs(mean - exact_mean()) > 10 * error


def test_bias_on_l1_shrinks_at_least_linearly_with_the_smoothing():
    smoothings = np.array([0.4, 0.2, 0.1])
    # The step goes with the smoothing, as stability asks of it.
    bias = np.array([chain(s / 4, s, num=50_000).mean() for s in smoothings]) - exact_mean()
    expected = np.array([stationary(s / 4, s)[0] for s in smoothings]) - exact_mean()
    error = np.sqrt(0.21 / 200_000)
    assert np.all(np.abs(bias - expected) < 5 * error)
    assert np.all(bias[1:] < bias[:-1] / 2)


def test_bias_on_a_gaussian_prior_is_linear_in_the_smoothing():
    # The envelope of a Gaussian prior of variance 1 is one of variance 1 + smoothing: with the likelihood N(y; x, 1)
    # the mean is y (1 + smoothing) / (2 + smoothing), biased by y smoothing / 4 to first order.
    data, num = 4.0, 50_000
    bias = []
    for smoothing in (0.4, 0.2, 0.1):
        algorithm = myula(lambda x: -0.5 * jnp.sum((x - data) ** 2), lambda x, step: x / (1 + step), 0.1, smoothing)
        draws = long_run(algorithm, jnp.zeros(num), burn=100, keep=4, thin=20)
        assert abs(draws.mean() - data * (1 + smoothing) / (2 + smoothing)) < 5 * np.sqrt(0.6 / draws.size)
        bias.append(draws.mean() - data / 2)
    ratios = np.array(bias[:-1]) / np.array(bias[1:])
    assert np.all(np.abs(ratios - 2) < 0.25)  # (2 + s / 2) / (1 + s / 2) is 1.83 and 1.91; quadratic would be 4


def test_the_envelope_alone_tends_to_the_posterior():
    # Durmus et al. 2018, proposition 3.1: the total variation is at most smoothing * Lipschitz(g)**2, here 1 / b**2.
    bias = np.array([smoothed_posterior(s)[0] for s in (0.4, 0.2, 0.1, 0.05)]) - exact_mean()
    assert np.all(bias > 0)
    assert np.all(bias[1:] < bias[:-1] / 2)


def gaussian(curvature):
    return lambda x: -0.5 * jnp.sum(curvature * jnp.asarray(x) ** 2)


@pytest.mark.parametrize("bad", [0, -1e-3, float("inf"), float("nan"), [0.1, 0.2]])
@pytest.mark.parametrize("name", ["step_size", "smoothing"])
def test_settings_are_checked_before_tracing(name, bad):
    with pytest.raises(ValueError, match=rf"{name}=.*expected"):
        myula(gaussian(1.0), identity, **{"step_size": 0.1, "smoothing": 0.1, name: bad})
    with pytest.raises(ValueError, match=rf"{name}=.*expected"):
        MYULASampler(**{name: bad})
    with pytest.raises(ValueError, match=rf"{name}=.*expected"):
        MYULA(lambda: None, **{name: bad})


def test_a_target_without_prox_is_refused():
    target = Target(gaussian(1.0), gaussian(1.0), position=jnp.zeros(2))
    with pytest.raises(ValueError, match=r"needs prox.*armillary\.imaging\.L1"):
        MYULASampler().build(target)


def test_an_unstable_step_is_flagged_and_the_position_stays_finite():
    algorithm = myula(gaussian(10.0), identity, step_size=1.0, smoothing=1.0)  # the limit is 2 / 10

    def step(state, key):
        state, info = algorithm.step(key, state)
        return state, (state.position, info.is_divergent)

    keys = jax.random.split(jax.random.key(0), 200)
    state, (positions, diverged) = jax.lax.scan(step, algorithm.init(jnp.ones(3)), keys)
    assert diverged.any()
    assert jnp.isfinite(positions).all()
    assert jnp.isfinite(state.smooth_logdensity)
    assert jnp.isfinite(state.smooth_logdensity_grad).all()
    first = int(jnp.argmax(diverged))
    np.testing.assert_array_equal(positions[first], positions[first - 1])


def test_a_nan_of_the_density_is_flagged():
    algorithm = myula(lambda x: jnp.sum(jnp.log(x) - 50 * x), identity, step_size=10.0, smoothing=1.0)
    state, info = algorithm.step(jax.random.key(1), algorithm.init(jnp.full(20, 0.1)))
    assert info.is_divergent
    np.testing.assert_array_equal(state.position, jnp.full(20, 0.1))


def test_it_is_a_blackjax_algorithm():
    kernel = myula.build_kernel()
    state = myula.init({"a": jnp.ones(3), "b": jnp.ones(())}, lambda x: gaussian(1.0)(x["a"]) + gaussian(2.0)(x["b"]))
    assert isinstance(myula(gaussian(1.0), identity, lipschitz=1.0), blackjax.SamplingAlgorithm)
    fn = lambda x: gaussian(1.0)(x["a"]) + gaussian(2.0)(x["b"])  # noqa: E731
    new, _ = jax.jit(lambda key, state: kernel(key, state, fn, identity, 0.1, 0.2))(jax.random.key(0), state)
    assert jax.tree.structure(new) == jax.tree.structure(state)
    assert "step_size < 2 / (L + 1 / smoothing)" in myula.__doc__


def test_step_size_can_be_traced_and_keeps_float32():
    with jax.enable_x64(True):
        position = jnp.ones(3, jnp.float32)

        def one(step_size):
            algorithm = myula(gaussian(1.0), L1(0.5).prox, step_size, step_size)
            return algorithm.step(jax.random.key(0), algorithm.init(position))[0]

        state = jax.vmap(one)(jnp.array([0.1, 0.2], jnp.float64))
        assert {leaf.dtype for leaf in jax.tree.leaves(state)} == {jnp.dtype("float32")}
        # Twice the step of the same noise: the two are different draws.
        assert jnp.all(state.position[0] != state.position[1])


@pytest.fixture(scope="module")
def image():
    """A sparse 12 x 12 image drawn from the prior, and it with noise."""
    rng = np.random.default_rng(0)
    truth = rng.laplace(scale=SCALE, size=(12, 12))
    return truth, truth + SIGMA * rng.normal(size=(12, 12))


def denoise(y):
    x = numpyro.sample("x", L1(SCALE).expand(y.shape).to_event(2))
    numpyro.sample("y", dist.Normal(x, SIGMA).to_event(2), obs=y)


@pytest.mark.parametrize("chain_method", ["sequential", "vectorized"])
def test_denoising_under_mcmc_has_the_closed_form_mean(image, chain_method):
    _, y = image
    step_size, smoothing = 0.02, 0.02
    kernel = MYULA(denoise, step_size=step_size, smoothing=smoothing)
    mcmc = MCMC(
        kernel,
        num_warmup=200,
        num_samples=3000,
        num_chains=2,
        chain_method=chain_method,
        progress_bar=False,
    )
    mcmc.run(jax.random.key(0), jnp.asarray(y), extra_fields=("potential_energy",))
    draws = np.asarray(mcmc.get_samples(group_by_chain=True)["x"], np.float64)
    assert draws.shape == (2, 3000, 12, 12)
    assert not mcmc.get_extra_fields()["diverging"].any()
    mu = 1 / SCALE
    right = np.exp(mu**2 * SIGMA**2 / 2 - mu * y) * norm.cdf((y - mu * SIGMA**2) / SIGMA)
    left = np.exp(mu**2 * SIGMA**2 / 2 + mu * y) * norm.cdf(-(y + mu * SIGMA**2) / SIGMA)
    w = right / (right + left)
    expected = w * (y - mu * SIGMA**2) + (1 - w) * (y + mu * SIGMA**2)
    ess = numpyro.diagnostics.effective_sample_size(draws)
    error = draws.std(axis=(0, 1)) / np.sqrt(ess)
    bias = step_size + smoothing
    assert ess.min() > 100
    assert np.all(np.abs(draws.mean(axis=(0, 1)) - expected) < 5 * error + bias)
    # The pixels are independent, so that their average has a twelfth of the error of one.
    difference = (draws.mean(axis=(0, 1)) - expected) * np.sign(y)
    assert abs(difference.mean()) < 5 * error.mean() / 12 + bias / 2


def test_deblurring_with_the_potential_energy_of_the_model(image):
    truth = np.where(np.random.default_rng(1).random((12, 12)) < 0.1, 4.0, 0.0)
    kernel = np.zeros((12, 12))
    kernel[:3, :3] = np.outer([1, 2, 1], [1, 2, 1]) / 16.0
    response = jnp.asarray(np.fft.rfft2(kernel))
    rng = np.random.default_rng(2)
    blurred = np.fft.irfft2(np.fft.rfft2(truth) * np.asarray(response), s=(12, 12))
    y = jnp.asarray(blurred + 0.1 * rng.normal(size=(12, 12)))

    def model(y):
        x = numpyro.sample("x", L1(0.3).expand(y.shape).to_event(2))
        mean = jnp.fft.irfft2(jnp.fft.rfft2(x) * response, s=y.shape)
        numpyro.deterministic("blurred", mean)
        numpyro.sample("y", dist.Normal(mean, 0.1).to_event(2), obs=y)

    # L = (opnorm / sigma)**2 = 100 and 1 / smoothing = 100: the limit is 0.01.
    mcmc = MCMC(MYULA(model, step_size=0.004, smoothing=0.01), num_warmup=1000, num_samples=3000, progress_bar=False)
    mcmc.run(jax.random.key(0), y, extra_fields=("potential_energy",))
    samples, fields = mcmc.get_samples(), mcmc.get_extra_fields()
    assert not fields["diverging"].any()
    np.testing.assert_allclose(
        fields["potential_energy"][-1],
        -Target.from_numpyro(model, y).log_density({"x": samples["x"][-1]}),
        rtol=1e-4,
    )
    residual = float(jnp.std(samples["blurred"].mean(0) - y))
    assert 0.05 < residual < 0.13
    error = float(jnp.linalg.norm(samples["x"].mean(0) - truth))
    assert error < 0.5 * np.linalg.norm(np.asarray(np.roll(y, (-1, -1), (0, 1))) - truth)


def test_a_model_without_a_proximal_prior_is_refused():
    def model(y):
        x = numpyro.sample("x", dist.Normal(0, 1))
        numpyro.sample("y", dist.Normal(x, 1), obs=y)

    mcmc = MCMC(MYULA(model), num_warmup=1, num_samples=1, progress_bar=False)
    with pytest.raises(ValueError, match="needs prox, smooth_log_density"):
        mcmc.run(jax.random.key(0), 0.3)
