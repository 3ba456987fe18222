"""Plug-and-play ULA and split Gibbs sampling, against linear algebra."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from armillary.core import Target
from armillary.imaging import L1, PnPULASampler, SplitGibbsSampler, myula, pnp_ula, split_gibbs
from armillary.imaging._split_gibbs import inverse_root


def test_pnp_ula_with_the_denoiser_of_a_gaussian_is_myula_with_its_prox():
    # The posterior mean under N(0, 1) given noise sigma, x / (1 + sigma**2), is its proximal operator of sigma**2.
    log_likelihood = lambda x: -2.0 * jnp.sum((x - 1.0) ** 2)  # noqa: E731
    ours = pnp_ula(log_likelihood, lambda x, sigma: x / (1 + sigma**2), 0.05, 0.3)
    theirs = myula(log_likelihood, lambda x, step: x / (1 + step), 0.05, 0.3**2)
    start = jnp.array([0.2, -1.0, 3.0])
    states = [a.step(jax.random.key(0), a.init(start))[0].position for a in (ours, theirs)]
    np.testing.assert_allclose(*states, rtol=1e-6)
    default = pnp_ula(log_likelihood, lambda x, sigma: x / (1 + sigma**2), sigma=0.5, lipschitz=4.0)
    explicit = pnp_ula(log_likelihood, lambda x, sigma: x / (1 + sigma**2), 1 / 8, 0.5)
    states = [a.step(jax.random.key(0), a.init(start))[0].position for a in (default, explicit)]
    np.testing.assert_allclose(*states, rtol=1e-6)


def test_bounds_hold_a_chain_that_runs_away_and_are_not_felt_by_one_that_stays():
    def chain(denoiser, **bounds):
        alg = pnp_ula(lambda x: -0.5 * jnp.sum((x - 0.5) ** 2), denoiser, 0.01, 0.3, **bounds)
        state = alg.init(jnp.full((4, 4), 0.5))

        def step(state, key):
            state, info = alg.step(key, state)
            return state, (state.position, info.is_divergent)

        _, (draws, diverged) = jax.jit(lambda s: jax.lax.scan(step, s, jax.random.split(jax.random.key(0), 1500)))(
            state
        )
        return np.asarray(draws), bool(diverged.any())

    def expansive(x, sigma):
        return x + 0.15 * (x - 0.5)

    free, diverged = chain(expansive)
    assert diverged or np.abs(free[-1]).max() > 1e3
    held, diverged = chain(expansive, bounds=(-1.0, 2.0))
    assert not diverged
    assert np.abs(held).max() < 5
    # Inside of the box nothing changes.
    np.testing.assert_array_equal(
        chain(lambda x, sigma: 0 * x + 0.5)[0], chain(lambda x, sigma: 0 * x + 0.5, bounds=(-9.0, 9.0))[0]
    )


def test_a_root_by_lanczos_is_the_root_by_eigenvalues():
    rng = np.random.default_rng(0)
    basis = np.linalg.qr(rng.normal(size=(40, 40)))[0]
    values = np.geomspace(1.0, 100.0, 40)
    matrix, vector = (basis * values) @ basis.T, rng.normal(size=40)
    with jax.enable_x64(True):
        dense, v = jnp.asarray(matrix), jnp.asarray(vector)
        expected = (basis / np.sqrt(values)) @ basis.T @ vector
        np.testing.assert_allclose(inverse_root(lambda u: dense @ u, v, 40), expected, rtol=1e-8, atol=1e-10)
        # Fewer products than dimensions already do, and more than there are harm nothing.
        np.testing.assert_allclose(inverse_root(lambda u: dense @ u, v, 28), expected, atol=1e-3)
        np.testing.assert_allclose(inverse_root(lambda u: 4.0 * u, v, 60), v / 2, rtol=1e-12)


def test_a_sweep_of_split_gibbs_has_the_closed_form_of_a_gaussian():
    # With prox(z, s) = z / (1 + s): x given z is N(M^{-1}(H d + z / rho^2), M^{-1}), M = H + 1 / rho^2, and then
    # z' = (x + z / (1 + rho^2)) / 2 + rho xi. From many draws at one z.
    rho, hessian, data = 0.5, np.array([[3.0, 1.0], [1.0, 2.0]]), np.array([1.0, -2.0])
    algorithm = split_gibbs(
        lambda x: -0.5 * (x - jnp.asarray(data)) @ (jnp.asarray(hessian) @ (x - jnp.asarray(data))),
        lambda x, step: x / (1 + step),
        rho,
    )
    z = np.array([0.3, 2.0])
    state = algorithm.init(jnp.asarray(z))
    keys = jax.random.split(jax.random.key(0), 40_000)
    new, info = jax.jit(jax.vmap(lambda key: algorithm.step(key, state)))(keys)
    assert not info.is_divergent.any()
    covariance = np.linalg.inv(hessian + np.eye(2) / rho**2)
    mean = covariance @ (hessian @ data + z / rho**2)
    x = np.asarray(new.position, np.float64)
    error = np.sqrt(np.diag(covariance) / len(x))
    assert np.all(np.abs(x.mean(axis=0) - mean) < 5 * error)
    np.testing.assert_allclose(np.cov(x.T), covariance, atol=5 * np.sqrt(2 / len(x)) * covariance.max())
    rest = np.asarray(new.auxiliary, np.float64) - (x + z / (1 + rho**2)) / 2
    np.testing.assert_allclose(np.cov(rest.T), rho**2 * np.eye(2), atol=5 * np.sqrt(2 / len(x)) * rho**2)


def test_a_likelihood_that_is_not_quadratic_is_flagged():
    algorithm = split_gibbs(lambda x: -jnp.sum(jnp.cosh(3 * x)), L1(1.0).prox, 1.0)
    _, info = algorithm.step(jax.random.key(0), algorithm.init(jnp.ones(4)))
    assert info.is_divergent


def test_the_warm_up_finds_what_is_not_given():
    y = jnp.array([0.1, 2.0])
    target = Target(
        lambda x: -2 * jnp.sum(x**2),
        lambda x: -0.5 * jnp.sum((x - y) ** 2) / 0.1**2,
        position=y,
        prox=L1(0.5).prox,
        denoiser=lambda x, sigma: x,
    )
    for sampler, name, expected in (
        (SplitGibbsSampler(), "rho", 0.1),
        (PnPULASampler(sigma=0.2), "step_size", 1 / (100 + 25)),
    ):
        adaptation = sampler.adaptation(target, 10)
        found = adaptation.result(jax.jit(adaptation.init)(jax.random.key(0), y))[1]
        assert float(found[name]) == pytest.approx(expected, rel=1e-4)
        with pytest.raises(ValueError, match=f"{name}=None and no warm-up"):
            sampler.build(target)


def test_settings_are_checked():
    with pytest.raises(ValueError, match="rho=0"):
        split_gibbs(jnp.sum, L1(1.0).prox, 0)
    with pytest.raises(ValueError, match="num_krylov=0"):
        SplitGibbsSampler(0.1, 0)
    with pytest.raises(ValueError, match="sigma=-1"):
        pnp_ula(jnp.sum, lambda x, s: x, 0.1, -1)
    with pytest.raises(ValueError, match=r"beyond the stability limit.*sigma\*\*2"):
        pnp_ula(jnp.sum, lambda x, s: x, 1.0, 0.1, lipschitz=1.0)
    bare = Target(jnp.sum, jnp.sum, position=jnp.zeros(2))
    with pytest.raises(ValueError, match=r"bounds=\(1, 0\): expected a lower and a larger upper bound"):
        pnp_ula(jnp.sum, lambda x, s: x, 0.1, 0.1, bounds=(1, 0))
    with pytest.raises(ValueError, match=r"bounds=2.0: expected a lower"):
        PnPULASampler(bounds=2.0)
    with pytest.raises(ValueError, match="pnp-ula needs denoiser"):
        PnPULASampler(0.1).build(bare)
    with pytest.raises(ValueError, match="split-gibbs needs prox"):
        SplitGibbsSampler(0.1).build(bare)
