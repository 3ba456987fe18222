import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest
from numpyro.infer import MCMC
from scipy.stats import norm

from armillary.core import Target
from armillary.imaging import L1, PxMALA, PxMALASampler, lipschitz, px_mala

DATA, SIGMA, SCALE = 0.9, 0.5, 0.7


def log_likelihood(x):
    return -0.5 * jnp.sum((x - DATA) ** 2) / SIGMA**2


def log_prior(x):
    return jnp.sum(L1(SCALE).log_prob(x))


def exact():
    """Mean and variance under the L1 prior, by quadrature."""
    x = np.linspace(-6, 7, 400_001)
    weights = np.exp(-np.abs(x) / SCALE - (x - DATA) ** 2 / (2 * SIGMA**2))
    weights /= weights.sum()
    mean = weights @ x
    return mean, weights @ (x - mean) ** 2


@pytest.mark.parametrize("step_size", [0.1, 0.6])
@pytest.mark.parametrize("smoothing", [None, 0.4])
def test_moments_on_l1_are_exact_at_every_step_size(step_size, smoothing):
    # Chains of one pixel each, so that every one has its own acceptance.
    algorithm = px_mala(log_likelihood, L1(SCALE).prox, log_prior, step_size, smoothing)

    @jax.jit
    @jax.vmap
    def run(key):
        def step(state, key):
            state, info = algorithm.step(key, state)
            return state, (state.position, info.is_divergent)

        keys = jax.random.split(key, int(20 / step_size))
        _, (positions, diverged) = jax.lax.scan(step, algorithm.init(jnp.asarray(DATA)), keys)
        return positions[-1], diverged.any()

    draws, diverged = run(jax.random.split(jax.random.key(1), 40_000))
    assert not diverged.any()
    draws = np.asarray(draws, np.float64)
    mean, variance = exact()
    assert abs(draws.mean() - mean) < 4.5 * np.sqrt(variance / draws.size)
    assert abs(draws.var() / variance - 1) < 4.5 * np.sqrt(2.5 / draws.size)


def test_the_acceptance_is_that_of_metropolis_and_hastings():
    # From the definition, with the densities of the proposals written out.
    step_size, smoothing = 0.2, 0.15
    prox = L1(SCALE).prox
    with jax.enable_x64(True):
        algorithm = px_mala(log_likelihood, prox, log_prior, step_size, smoothing)
        x = jnp.array([0.6, -0.1, 0.8])
        # The proposal of a key is where the chain goes, where it is accepted; several keys, and compare those.
        compared = 0

        def centre(x):
            return x + step_size * ((DATA - x) / SIGMA**2 - (x - prox(x, smoothing)) / smoothing)

        step = jax.jit(algorithm.step)
        for seed in range(40):
            state, info = step(jax.random.key(seed), algorithm.init(x))
            if not info.is_accepted:
                continue
            to = state.position
            forward = -jnp.sum((to - centre(x)) ** 2) / (4 * step_size)
            backward = -jnp.sum((x - centre(to)) ** 2) / (4 * step_size)
            ratio = log_likelihood(to) + log_prior(to) + backward - log_likelihood(x) - log_prior(x) - forward
            np.testing.assert_allclose(info.acceptance_rate, min(1.0, float(jnp.exp(ratio))), rtol=1e-10)
            np.testing.assert_allclose(state.logdensity, log_likelihood(to) + log_prior(to), rtol=1e-12)
            compared += info.acceptance_rate < 1
        assert compared > 3


def test_the_acceptance_of_a_large_float32_image_is_not_lost_to_rounding():
    # The squares of the noise of 250 000 pixels sum to as many, where float32 has steps of 0.016, and so would the
    # ratio of two such sums; from where the chain went to, the definition in double precision.
    step_size = 0.01
    prox = lambda x, step: x / (1 + step)  # noqa: E731
    algorithm = px_mala(lambda x: 0.0 * jnp.sum(x), prox, lambda x: -0.5 * jnp.sum(x**2), step_size)
    start = jax.random.normal(jax.random.key(1), (500, 500))
    step = jax.jit(algorithm.step)
    compared = 0
    for seed in range(6):
        state, info = step(jax.random.key(seed), algorithm.init(start))
        x, to = np.asarray(start, np.float64), np.asarray(state.position, np.float64)
        forward = -np.sum((to - prox(x, step_size)) ** 2) / (4 * step_size)
        backward = -np.sum((x - prox(to, step_size)) ** 2) / (4 * step_size)
        ratio = -0.5 * np.sum(to**2) + backward + 0.5 * np.sum(x**2) - forward
        if info.is_accepted:
            np.testing.assert_allclose(info.acceptance_rate, min(1.0, np.exp(ratio)), rtol=0.03)
            compared += info.acceptance_rate < 1
    assert compared > 0


def test_a_proposal_outside_the_support_is_refused_and_no_divergence():
    algorithm = px_mala(
        lambda x: -jnp.sum(x), lambda x, s: x, lambda x: jnp.where(jnp.all(x > 0), 0.0, -jnp.inf), step_size=1.0
    )
    step = jax.jit(algorithm.step)
    state, refused = algorithm.init(jnp.ones(2)), 0
    for key in jax.random.split(jax.random.key(0), 50):
        state, info = step(key, state)
        assert not info.is_divergent
        assert (state.position > 0).all()
        refused += int(not info.is_accepted)
    assert 0 < refused < 50


def test_a_nan_is_flagged_and_refused():
    algorithm = px_mala(lambda x: jnp.sum(jnp.log(x) - 50 * x), lambda x, s: x, lambda x: 0.0, step_size=10.0)
    state, info = algorithm.step(jax.random.key(1), algorithm.init(jnp.full(20, 0.1)))
    assert info.is_divergent
    assert info.acceptance_rate == 0
    np.testing.assert_array_equal(state.position, jnp.full(20, 0.1))


@pytest.mark.parametrize("bad", [0, -1.0, float("nan"), [0.1, 0.2]])
def test_settings_are_checked(bad):
    with pytest.raises(ValueError, match="step_size="):
        px_mala(log_likelihood, L1(SCALE).prox, log_prior, bad)
    with pytest.raises(ValueError, match="smoothing="):
        px_mala(log_likelihood, L1(SCALE).prox, log_prior, 0.1, bad)
    with pytest.raises(ValueError, match="step_size="):
        PxMALASampler(step_size=bad)
    with pytest.raises(ValueError, match=r"target_acceptance_rate=1\.5"):
        PxMALASampler(target_acceptance_rate=1.5)


def test_a_target_without_prox_or_step_is_refused():
    target = Target(log_prior, log_likelihood, position=jnp.zeros(2))
    with pytest.raises(ValueError, match=r"px-mala needs prox.*armillary\.imaging\.L1"):
        PxMALASampler(0.1).build(target)
    target = Target(log_prior, log_likelihood, position=jnp.zeros(2), prox=L1(SCALE).prox)
    with pytest.raises(ValueError, match="step_size=None and no warm-up"):
        PxMALASampler().build(target)


def test_denoising_under_mcmc_has_the_closed_form_mean_and_tunes_itself():
    rng = np.random.default_rng(0)
    y = rng.laplace(scale=SCALE, size=(10, 10))
    y = y + SIGMA * rng.normal(size=y.shape)

    def model(y):
        x = numpyro.sample("x", L1(SCALE).expand(y.shape).to_event(2))
        numpyro.sample("y", dist.Normal(x, SIGMA).to_event(2), obs=y)

    mcmc = MCMC(PxMALA(model), num_warmup=500, num_samples=5000, progress_bar=False)
    mcmc.run(jax.random.key(0), jnp.asarray(y), extra_fields=("potential_energy", "accept_prob", "step_size"))
    fields = mcmc.get_extra_fields()
    assert not fields["diverging"].any()
    assert abs(fields["accept_prob"].mean() - 0.574) < 0.1
    draws = np.asarray(mcmc.get_samples()["x"], np.float64)
    np.testing.assert_allclose(
        fields["potential_energy"][-1],
        -Target.from_numpyro(model, y).log_density({"x": draws[-1].astype(np.float32)}),
        rtol=1e-5,
    )
    mu = 1 / SCALE
    right = np.exp(mu**2 * SIGMA**2 / 2 - mu * y) * norm.cdf((y - mu * SIGMA**2) / SIGMA)
    left = np.exp(mu**2 * SIGMA**2 / 2 + mu * y) * norm.cdf(-(y + mu * SIGMA**2) / SIGMA)
    w = right / (right + left)
    expected = w * (y - mu * SIGMA**2) + (1 - w) * (y + mu * SIGMA**2)
    ess = numpyro.diagnostics.effective_sample_size(draws[None])
    error = draws.std(axis=0) / np.sqrt(ess)
    assert ess.min() > 100
    assert np.all(np.abs(draws.mean(axis=0) - expected) < 5 * error)
    # Independent pixels: with no bias allowed for, their average error is a tenth of one's.
    assert abs(((draws.mean(axis=0) - expected) * np.sign(y)).mean()) < 5 * error.mean() / 10


def test_lipschitz_is_the_largest_curvature():
    matrix = np.random.default_rng(0).normal(size=(6, 6))
    with jax.enable_x64(True):
        a = jnp.asarray(matrix)
        fn = lambda x: -0.5 * jnp.sum((a @ jnp.concatenate([x["u"], x["v"].ravel()])) ** 2) / 0.1**2  # noqa: E731
        position = {"u": jnp.zeros(2), "v": jnp.ones((2, 2))}
        found = lipschitz(fn, position, num_iterations=200)
        np.testing.assert_allclose(found, np.linalg.norm(matrix, 2) ** 2 / 0.01, rtol=1e-8)
        # It never lies above, and is the same under jit; no curvature at all is zero and not NaN.
        assert lipschitz(fn, position, num_iterations=3) < found
        np.testing.assert_allclose(jax.jit(lambda p: lipschitz(fn, p))(position), lipschitz(fn, position), rtol=1e-12)
        assert lipschitz(lambda x: jnp.sum(x), jnp.ones(3)) == 0
    assert lipschitz(lambda x: -jnp.sum(x**2), jnp.ones(3, jnp.float32)).dtype == jnp.float32
    with pytest.raises(ValueError, match="num_iterations=0"):
        lipschitz(lambda x: jnp.sum(x), jnp.ones(3), num_iterations=0)
