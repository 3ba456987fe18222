"""Priors known by a denoiser, annealed Langevin dynamics and diffusion, against linear algebra."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from armillary.core import Target
from armillary.core.testing import check_sampler
from armillary.imaging import (
    AnnealedLangevinSampler,
    DenoiserPrior,
    DiffusionPosteriorSampler,
    ScorePrior,
    annealed_langevin,
    diffusion_posterior,
    myula,
    pnp_ula,
)
from armillary.imaging._diffusion import gaussian_moments

# A Gaussian prior of unit variance, and a likelihood with this centre and curvature.
CENTRE = np.array([1.5, -1.0, 0.5])
BASIS = np.linalg.qr(np.random.default_rng(0).normal(size=(3, 3)))[0]
VALUES = np.array([0.5, 4.0, 20.0])
CURVATURE = (BASIS * VALUES) @ BASIS.T
PRECISION = CURVATURE + np.eye(3)
COVARIANCE = np.linalg.inv(PRECISION)
MEAN = COVARIANCE @ CURVATURE @ CENTRE
NUM = 8000


def log_likelihood(x):
    off = x - jnp.asarray(CENTRE, x.dtype)
    return -0.5 * off @ (jnp.asarray(CURVATURE, x.dtype) @ off)


def denoiser(x, sigma):
    return x / (1 + sigma**2)


def agrees(draws, mean, covariance, sigmas=5):
    """Within so many Monte-Carlo errors of independent draws."""
    x = np.asarray(draws, np.float64)
    scale = np.sqrt(np.diag(covariance))
    assert np.all(np.abs(x.mean(0) - mean) < sigmas * scale / np.sqrt(len(x)))
    off = (np.cov(x.T) - covariance) / np.outer(scale, scale)
    assert np.all(np.abs(off) < sigmas * np.sqrt(2 / len(x)))


def test_the_score_of_a_gaussian_prior_is_its_closed_form():
    rng = np.random.default_rng(1)
    factor = rng.normal(size=(6, 6))
    covariance, epsilon = factor @ factor.T, 0.3
    with jax.enable_x64(True):
        c = jnp.asarray(covariance)
        mmse = lambda x, sigma: c @ jnp.linalg.solve(c + sigma**2 * jnp.eye(6), x)  # noqa: E731
        exact = lambda x, sigma: -jnp.linalg.solve(c + sigma**2 * jnp.eye(6), x)  # noqa: E731
        x = jnp.asarray(rng.normal(size=6))
        expected = -np.linalg.solve(covariance + epsilon * np.eye(6), x)
        priors = DenoiserPrior(mmse, epsilon), ScorePrior(exact, epsilon)
        for prior in priors:
            np.testing.assert_allclose(prior.score(x), expected, rtol=1e-10)
            # The one prior whose denoiser is its proximal operator: it minimises u' C^-1 u / 2 + |u - x|^2 / (2 step).
            prox = np.linalg.solve(np.linalg.inv(covariance) + np.eye(6) / 0.7, np.asarray(x) / 0.7)
            np.testing.assert_allclose(prior.prox(x, 0.7), prox, rtol=1e-9)
        for single in DenoiserPrior(denoiser, epsilon), ScorePrior(lambda x, sigma: -x / (1 + sigma**2), epsilon):
            assert single.score(x.astype(jnp.float32)).dtype == jnp.float32
            assert single.prox(x.astype(jnp.float32), 0.5).dtype == jnp.float32


def test_the_score_is_that_of_the_smoothed_density_and_of_no_other():
    # Half of the prior at 1 and half at -1, which has no density; its posterior mean is a hyperbolic tangent.
    epsilon = 0.4
    prior = DenoiserPrior(lambda x, sigma: jnp.tanh(x / sigma**2), epsilon)

    def smoothed(x):
        return jax.nn.logsumexp(jnp.stack([-((x - 1) ** 2), -((x + 1) ** 2)]) / (2 * epsilon))

    x = jnp.linspace(-2, 2, 9)
    np.testing.assert_allclose(prior.score(x), jax.vmap(jax.grad(smoothed))(x), rtol=1e-4, atol=1e-5)
    # Here the denoiser is no proximal operator: that of the smoothed density's logarithm is another function.
    fixed = jax.vmap(jax.grad(lambda u: -smoothed(u)))
    p = prior.prox(x, epsilon)
    assert float(jnp.abs(fixed(p) + (p - x) / epsilon).max()) > 0.1


def test_myula_with_the_prior_is_plug_and_play_ula():
    prior = DenoiserPrior(lambda x, sigma: jnp.tanh(x / sigma**2), 0.09)
    ours = myula(log_likelihood, prior.prox, 0.01, 0.09)
    theirs = pnp_ula(log_likelihood, prior.denoiser, 0.01, 0.3)
    start = jnp.array([0.2, -1.0, 3.0])
    states = [a.step(jax.random.key(0), a.init(start))[0].position for a in (ours, theirs)]
    np.testing.assert_allclose(*states, rtol=1e-6)
    with pytest.raises(ValueError, match="epsilon=0"):
        DenoiserPrior(denoiser, 0)
    with pytest.raises(ValueError, match="epsilon=-1"):
        ScorePrior(denoiser, -1)


def annealed_moments(start, lipschitz, sigma_max, sigma_min, num_steps, share, total):
    """Mean and covariance after all steps, by the recursion of a linear chain."""
    mean, covariance = np.asarray(start, float), np.zeros((3, 3))
    for i in range(total):
        sigma = sigma_max * (sigma_min / sigma_max) ** min(i / num_steps, 1)
        step = 2 * share / (lipschitz + 1 / sigma**2)
        slope = np.eye(3) - step * (CURVATURE + np.eye(3) / (1 + sigma**2))
        mean = slope @ mean + step * CURVATURE @ CENTRE
        covariance = slope @ covariance @ slope.T + 2 * step * np.eye(3)
    return mean, covariance


def test_annealed_langevin_has_the_moments_of_its_recursion_and_so_the_posterior():
    settings = {"lipschitz": 20.0, "sigma_max": 3.0, "sigma_min": 0.1, "num_steps": 100, "share": 0.3}
    algorithm = annealed_langevin(log_likelihood, denoiser, **settings)
    start = jnp.array([2.0, 2.0, 2.0])

    @jax.jit
    @jax.vmap
    def run(key):
        def body(state, key):
            state, info = algorithm.step(key, state)
            return state, (info.is_divergent, info.sigma)

        return jax.lax.scan(body, algorithm.init(start), jax.random.split(key, 1000))

    final, (divergent, sigmas) = run(jax.random.split(jax.random.key(0), NUM))
    assert not divergent.any()
    assert int(final.iteration[0]) == 1000
    np.testing.assert_allclose(sigmas[0, [0, 50, 100, 999]], [3.0, np.sqrt(0.3), 0.1, 0.1], rtol=1e-5)
    mean, covariance = annealed_moments(start, total=1000, **settings)
    agrees(final.position, mean, covariance)
    # The recursion has arrived, and its bias is that of a step and a smoothing at the largest precision, 21.
    half = settings["share"] / (settings["lipschitz"] + 1 / settings["sigma_min"] ** 2) * 21
    bias = half / (1 - half) + settings["sigma_min"] ** 2
    deviation = np.sqrt(np.diag(COVARIANCE))
    assert np.all(np.abs(mean - MEAN) < bias * deviation)
    assert np.all(np.abs(covariance - COVARIANCE) < bias * np.outer(deviation, deviation))
    # To these errors of the draws it is the posterior itself.
    agrees(final.position, MEAN, COVARIANCE)


def diffusion_moments(guidance, sigmas, zeta, scale=1.0):
    """Mean and covariance of a draw, by matrices."""
    identity = np.eye(3)
    mean, covariance = np.zeros(3), sigmas[0] ** 2 * identity
    for sigma, after in zip(sigmas, [*sigmas[1:], 0.0], strict=True):
        shrink = 1 / (1 + sigma**2)
        if guidance == "dps":
            score = -identity * shrink
            slope = identity + (sigma**2 - after**2) * (score - scale * shrink**2 * CURVATURE)
            offset = (sigma**2 - after**2) * scale * shrink * CURVATURE @ CENTRE
            noise = after**2 * (sigma**2 - after**2) / sigma**2
        else:
            inverse = np.linalg.inv(identity + scale * sigma**2 * CURVATURE)
            near, at = shrink * inverse, inverse @ (scale * sigma**2 * CURVATURE @ CENTRE)
            kept = np.sqrt(1 - zeta) * after / sigma
            slope, offset, noise = near + kept * (identity - near), (1 - kept) * at, zeta * after**2
        mean = slope @ mean + offset
        covariance = slope @ covariance @ slope.T + noise * identity
    return mean, covariance


@functools.cache
def diffused(guidance, num_steps, zeta):
    algorithm = diffusion_posterior(log_likelihood, denoiser, guidance, num_steps, zeta=zeta)
    state = algorithm.init(jnp.zeros(3))
    draws, info = jax.jit(jax.vmap(lambda key: algorithm.step(key, state)))(jax.random.split(jax.random.key(1), NUM))
    assert not info.is_divergent.any()
    np.testing.assert_allclose(draws.loglikelihood[0], log_likelihood(draws.position[0]), rtol=1e-5)
    return draws.position


@pytest.mark.parametrize(("guidance", "num_steps", "zeta"), [("dps", 100, 0.3), ("diffpir", 100, 0.3)])
def test_diffusion_has_the_moments_of_its_recursion(guidance, num_steps, zeta):
    agrees(diffused(guidance, num_steps, zeta), *diffusion_moments(guidance, np.geomspace(10, 0.01, num_steps), zeta))


def test_how_far_diffusion_is_from_the_posterior():
    deviation = np.sqrt(np.diag(COVARIANCE))

    # With many steps DiffPIR has the posterior's mean and a known share of its variance in every direction,
    mean, covariance = diffusion_moments("diffpir", np.geomspace(10, 0.01, 20_000), 0.3)
    assert (np.abs(mean - MEAN) / deviation).max() < 1e-2
    np.testing.assert_allclose(np.linalg.eigvals(PRECISION @ covariance).real, (1 + np.sqrt(0.7)) / 2, rtol=5e-3)
    # DPS with as many steps has not: its documented errors.
    mean, covariance = diffusion_moments("dps", np.geomspace(10, 0.01, 20_000), 0.3)
    assert (np.abs(mean - MEAN) / deviation).max() > 0.2
    assert np.linalg.eigvals(PRECISION @ covariance).real.min() < 0.7


def test_the_declared_bias_is_that_of_the_recursion():
    # As the documentation says for data of the same strength as the prior, and four times that.
    for curvature, off, share in ((1.0, 0.27, 0.86), (4.0, 0.61, 0.62)):
        sigmas = np.geomspace(10, 0.01, 5000)
        mean, variance = gaussian_moments("dps", sigmas, 1.0, 0.3, curvature, 1.0, 1.5)
        precision = 1 + curvature
        assert (mean - curvature * 1.5 / precision) * np.sqrt(precision) == pytest.approx(off, abs=0.006)
        assert variance * precision == pytest.approx(share, abs=0.006)
    # The scalar recursion of the package is the matrices' of this test.
    for guidance in ("dps", "diffpir"):
        sigmas = np.geomspace(10, 0.01, 50)
        mean, covariance = diffusion_moments(guidance, sigmas, 0.3)
        for value, vector in zip(VALUES, BASIS.T, strict=True):
            found = gaussian_moments(guidance, sigmas, 1.0, 0.3, value, 1.0, float(vector @ CENTRE))
            np.testing.assert_allclose(found, (vector @ mean, vector @ covariance @ vector), rtol=1e-9)


def test_float32_stays_where_x64_is_on():
    with jax.enable_x64(True):
        for algorithm in (
            annealed_langevin(log_likelihood, denoiser, 20.0, num_steps=10),
            diffusion_posterior(log_likelihood, denoiser, num_steps=3),
            diffusion_posterior(log_likelihood, denoiser, "dps", num_steps=3),
        ):
            state = jax.eval_shape(algorithm.init, jnp.ones(3, jnp.float32))
            new, _ = jax.eval_shape(algorithm.step, jax.random.key(0), state)
            assert new == state
            assert new.position.dtype == jnp.float32


def test_a_diffusion_that_is_not_stable_says_so():
    algorithm = diffusion_posterior(lambda x: -1e9 * jnp.sum(x**2), denoiser, "dps", 20)
    state = algorithm.init(jnp.ones(3))
    new, info = algorithm.step(jax.random.key(0), state)
    assert info.is_divergent
    np.testing.assert_array_equal(new.position, state.position)


def test_the_warm_up_is_the_annealing():
    target = Target(lambda x: -0.5 * x @ x, log_likelihood, position=jnp.zeros(3), denoiser=denoiser)
    sampler = AnnealedLangevinSampler()
    adaptation = sampler.adaptation(target, 70)
    _, found = adaptation.result(jax.jit(adaptation.init)(jax.random.key(0), jnp.zeros(3)))
    assert float(found["lipschitz"]) == pytest.approx(20.0, rel=1e-3)
    assert float(found["num_steps"]) == 70
    with pytest.raises(ValueError, match="lipschitz=None and no warm-up"):
        sampler.build(target)


def test_settings_are_checked():
    bare = Target(jnp.sum, jnp.sum, position=jnp.zeros(2))
    for make, message in (
        (lambda: annealed_langevin(jnp.sum, denoiser, 0.0), "lipschitz=0"),
        (lambda: annealed_langevin(jnp.sum, denoiser, 1.0, 0.1, 0.2), "sigma_min=0.2 and sigma_max=0.1"),
        (lambda: annealed_langevin(jnp.sum, denoiser, 1.0, num_steps=0), "num_steps=0"),
        (lambda: annealed_langevin(jnp.sum, denoiser, 1.0, share=1.0), "share=1.0"),
        (lambda: AnnealedLangevinSampler(1.0).build(bare), "annealed-langevin needs denoiser"),
        (lambda: diffusion_posterior(jnp.sum, denoiser, "ddrm"), "guidance='ddrm'"),
        (lambda: diffusion_posterior(jnp.sum, denoiser, num_steps=1), "num_steps=1"),
        (lambda: diffusion_posterior(jnp.sum, denoiser, zeta=1.5), "zeta=1.5"),
        (lambda: diffusion_posterior(jnp.sum, denoiser, scale=-1.0), "scale=-1.0"),
        (lambda: DiffusionPosteriorSampler().build(bare), "diffusion-posterior needs denoiser"),
    ):
        with pytest.raises(ValueError, match=message):
            make()


@pytest.mark.slow
@pytest.mark.parametrize(
    "sampler",
    [
        AnnealedLangevinSampler(lipschitz=2.0, sigma_max=3.0, sigma_min=0.3, num_steps=200),
        DiffusionPosteriorSampler(num_steps=50, sigma_max=20.0, num_krylov=3),
    ],
    ids=["annealed-langevin", "diffusion-posterior"],
)
def test_conformance_of_samplers_of_denoisers(sampler):
    check_sampler(sampler)
