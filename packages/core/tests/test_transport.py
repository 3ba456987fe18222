"""The coordinates in which a posterior is near the standard normal."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest
from scipy import stats

from armillary.core import Evidence, Target, infer, samplers
from armillary.core.samplers._transport import transport

pytestmark = pytest.mark.usefixtures("quick_compilation")

DIM, SHARP = 6, 0.05
MIX = np.linalg.qr(np.random.default_rng(3).normal(size=(DIM, DIM)))[0]


@pytest.fixture
def x64():
    with jax.enable_x64(True):
        yield


def straight(x):
    """A position on a bent ridge, twenty times as long as it is wide, as standard normal variables."""
    z = MIX.T @ (x - 1)
    thin = z[2:] - jnp.array([0.15, -0.3, 0.1, 0.25]) * z[0] ** 2 - jnp.array([0.0, 0.1, 0.2, -0.15]) * z[0] * z[1]
    return jnp.concatenate([z[:2], thin / SHARP])


def banana(x):
    return -0.5 * jnp.sum(straight(x) ** 2)


@pytest.fixture(scope="module")
def found():
    with jax.enable_x64(True):
        start = jnp.full(DIM, 0.5)
        return jax.jit(jax.vmap(lambda key: transport(banana, start, key)))(jax.random.split(jax.random.key(0), 2))


def test_a_bent_ridge_becomes_a_standard_normal(x64, found):
    normal = jax.random.normal(jax.random.key(5), (400, DIM), float)
    for chain in range(2):
        one = jax.tree.map(lambda leaf, chain=chain: leaf[chain], found)
        back = np.array(jax.vmap(lambda y, one=one: straight(one(y)))(normal))
        # Standard normal draws are standard normal again, up to a rotation.
        ratio = np.sum(back**2, 1) / np.sum(np.array(normal) ** 2, 1)
        assert np.median(np.abs(ratio - 1)) < 0.1
        score = jax.vmap(jax.grad(lambda y, one=one: banana(one(y))))(normal)
        assert np.median(np.sum((score + normal) ** 2, 1)) < 0.01 * DIM


def test_a_ridge_that_no_polynomial_is_is_followed_between_the_points(x64):
    def ridge(x):
        return -0.5 * (x[0] ** 2 + x[1] ** 2 + ((x[2] - 0.5 * jnp.tanh(x[0]) - 0.3 * jnp.sin(x[1])) / 0.05) ** 2)

    found = jax.jit(lambda: transport(ridge, jnp.zeros(3), jax.random.key(0)))()
    normal = 1.2 * jax.random.normal(jax.random.key(5), (400, 3), float)
    expected = -0.5 * np.sum(np.array(normal) ** 2, 1)
    bent, straight = (
        np.median(np.abs(jax.vmap(lambda y, to=to: ridge(to(y)))(normal) - expected))
        for to in (found, lambda y: found.mode + found.factor @ y)
    )
    assert bent < 0.3
    assert straight > 3


def test_where_the_ridge_is_not_found_there_is_the_normal(x64):
    # As noise: no coordinates make it smooth.
    def rough(x):
        return -0.5 * jnp.sum(x**2) + 30 * jnp.sin(1e4 * jnp.sum(x))

    found = jax.jit(lambda: transport(rough, jnp.ones(3), jax.random.key(0)))()
    y = jax.random.normal(jax.random.key(1), (20, 3), float)
    assert np.all(np.isfinite(jax.vmap(found)(y)))


def test_the_normal_alone_is_far_from_it(x64, found):
    one = jax.tree.map(lambda leaf: leaf[0], found)
    normal = jax.random.normal(jax.random.key(5), (400, DIM), float)
    score = jax.vmap(jax.grad(lambda y: banana(one.mode + one.factor @ y)))(normal)
    assert np.median(np.sum((score + normal) ** 2, 1)) > 100 * DIM


def test_volumes_change_by_the_same_everywhere(x64, found):
    one = jax.tree.map(lambda leaf: leaf[0], found)
    points = 2 * jax.random.normal(jax.random.key(6), (20, DIM), float)
    _, logarithms = np.linalg.slogdet(jax.vmap(jax.jacfwd(one))(points))
    np.testing.assert_allclose(logarithms, logarithms[0], atol=1e-8)


def test_the_coordinates_of_a_position_are_found_back(x64, found):
    one = jax.tree.map(lambda leaf: leaf[0], found)
    y = 2 * jax.random.normal(jax.random.key(7), (50, DIM), float)
    np.testing.assert_allclose(jax.vmap(lambda y: one.inverse(one(y)))(y), y, atol=1e-9)
    np.testing.assert_allclose(one.log_volume, np.linalg.slogdet(jax.jacfwd(one)(y[0]))[1], atol=1e-9)


def test_of_a_normal_there_is_nothing_to_bend(x64):
    key = jax.random.key(1)
    of_normal = jax.jit(
        lambda: transport(lambda x: -0.5 * jnp.sum(((x - 3) / jnp.arange(1.0, 5)) ** 2), jnp.ones(4), key)
    )()
    y = jax.random.normal(key, (50, 4), float)
    x = (jax.vmap(of_normal)(y) - 3) / jnp.arange(1.0, 5)
    np.testing.assert_allclose(jnp.sum(x**2, 1), jnp.sum(y**2, 1), rtol=1e-3)
    np.testing.assert_allclose(of_normal(y[0]), of_normal.mode + of_normal.factor @ y[0], atol=1e-3)


def test_beyond_a_wall_it_is_not_finite_and_no_matter(x64):
    def log_density(x):
        return jnp.where(x[0] < 1.2, -0.5 * jnp.sum(x**2), jnp.nan)

    cut = jax.jit(lambda: transport(log_density, jnp.zeros(3), jax.random.key(0)))()
    assert all(bool(jnp.all(jnp.isfinite(leaf))) for leaf in jax.tree.leaves(cut))
    np.testing.assert_allclose(jax.vmap(cut)(jnp.eye(3)) @ jax.vmap(cut)(jnp.eye(3)).T, np.eye(3), atol=0.2)


def test_float32_stays_so():
    half = jax.jit(lambda: transport(lambda x: -0.5 * jnp.sum((x - 3) ** 2), jnp.zeros(3), jax.random.key(0)))()
    assert {leaf.dtype for leaf in jax.tree.leaves(half)} == {jnp.dtype(jnp.float32), jnp.dtype(bool)}


# Of a standard normal a trajectory of length 2 pi, such as ten steps make, ends where it began.
HMC = partial(samplers.BlackJAXHMC, num_integration_steps=3)


@pytest.mark.parametrize("sampler", [samplers.BlackJAXNUTS, HMC], ids=["nuts", "hmc"])
def test_chains_move_there_and_are_recorded_as_positions(x64, sampler):
    target = Target(banana, lambda x: 0.0, position=jnp.full(DIM, 0.5))
    made = sampler(start="transport", step_size=0.5)
    adaptation = made.adaptation(target, 60)

    prepared = jax.jit(adaptation.prepare)()

    def chain(key):
        state = adaptation.init(key, jnp.full(DIM, 0.5), prepared)

        def warm(state, at):
            state, info = adaptation.step(*at, state)
            return state, info.acceptance_rate

        state, _ = jax.lax.scan(warm, state, (jax.random.split(key, 60), jnp.arange(60)))
        algorithm, parameters = adaptation.result(state)
        step = made.build(target, **parameters).step

        def advance(state, key):
            state, _ = step(key, state)
            return state, (state.position, state.logdensity)

        return jax.lax.scan(advance, algorithm, jax.random.split(key, 400))[1], parameters["step_size"]

    (positions, densities), step_size = jax.jit(jax.vmap(chain))(jax.random.split(jax.random.key(2), 4))
    np.testing.assert_allclose(densities[0, -1], banana(positions[0, -1]), rtol=1e-9)
    # On the ridge itself steps would be of its width, a twentieth.
    assert np.median(step_size) > 0.2
    draws = np.array(jax.vmap(straight)(positions[:, ::4].reshape(-1, DIM)))
    for i in range(DIM):
        assert stats.kstest(draws[:, i], "norm").pvalue > 1e-4
    assert np.abs(np.corrcoef(draws.T) - np.eye(DIM)).max() < 0.2


def test_an_evidence_is_estimated_where_the_chains_moved(x64):
    """By importance sampling with a normal, which would fail by far where the ridge is bent."""
    seen = {}

    def model(y):
        a = numpyro.sample("a", dist.Normal(0.0, 1.0))
        b = numpyro.sample("b", dist.Normal(0.0, 3.0))
        numpyro.sample("y", dist.Normal(b - 0.5 * a**2, 0.02), obs=y)

    def estimator(key, samples, log_density):
        flat = samples.reshape(-1, 2)
        seen["spread"] = np.std(flat, axis=0)
        normal = dist.MultivariateNormal(jnp.mean(flat, axis=0), jnp.cov(flat.T))
        drawn = normal.sample(key, (4000,))
        weights = jax.vmap(log_density)(drawn) - normal.log_prob(drawn)
        return Evidence(float(jax.nn.logsumexp(weights) - np.log(4000)), 0.01)

    options = {"start": "transport", "step_size": 0.5}
    tree = infer(
        model, 0.0, sampler="blackjax-nuts", sampler_options=options, evidence=estimator, num_samples=500,
        progress_bar=False,
    )  # fmt: skip
    a = np.linspace(-6, 6, 20001)
    density = stats.norm.pdf(a) * stats.norm.pdf(0.5 * a**2, 0, np.hypot(3, 0.02))
    exact = np.log(np.sum(density) * (a[1] - a[0]))
    assert float(tree["evidence"]["log_z"]) == pytest.approx(exact, abs=0.02)
    assert np.all(np.abs(seen["spread"] - 1) < 0.2)


@pytest.mark.slow
def test_a_model_with_bounds_is_sampled_right(x64):
    """Against quadrature: of two uniform parameters the product is known well."""

    def model(y):
        a = numpyro.sample("a", dist.Uniform(0.5, 2.0))
        b = numpyro.sample("b", dist.Uniform(0.5, 2.0))
        numpyro.sample("y", dist.Normal(a * b, 0.02), obs=y)

    tree = infer(
        model,
        1.5,
        sampler="blackjax-nuts",
        sampler_options={"start": "transport"},
        num_samples=2000,
        progress_bar=False,
    )
    a, b = np.meshgrid(*2 * [np.linspace(0.5, 2, 3001)], indexing="ij")
    weight = np.exp(-0.5 * ((a * b - 1.5) / 0.02) ** 2)
    mean = np.sum(weight * a) / np.sum(weight)
    spread = np.sqrt(np.sum(weight * (a - mean) ** 2) / np.sum(weight))
    draws = tree.posterior["a"].values
    assert abs(draws.mean() - mean) < 0.1 * spread
    assert abs(draws.std() / spread - 1) < 0.1
