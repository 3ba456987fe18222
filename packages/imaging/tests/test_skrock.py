import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from armillary.core import Target
from armillary.imaging import L1, SKROCK, SKROCKSampler, myula, skrock, ula

# Stationary variance times the curvature L of N(0, 1 / L), for -step L of 0.1, 0.5 and 1 of the stability limit: with
# A = T_s(w0 + w1 p) / T_s(w0) and B = (1 + w1 p / 2) U_{s-1}(w0 + w1 p) / U_{s-1}(w0) it is 2 |p| B**2 / (1 - A**2),
# computed from the polynomials in another program.
VARIANCES = {
    3: (10.583333, [0.919378, 0.381371, 0.348289]),
    5: (37.65, [0.489996, 0.404805, 0.206125]),
    10: (172.983333, [0.29778, 0.503925, 0.060793]),
    15: (404.983333, [0.139052, 0.38728, 0.065369]),
}
FRACTIONS = np.array([0.1, 0.5, 1.0])


def quadratic(curvature):
    return lambda x: -0.5 * jnp.sum(curvature * x**2)


def one_step(algorithm, position, seed=0):
    return algorithm.step(jax.random.key(seed), algorithm.init(position))[0].position


def one_step_in_numpy(algorithm, position):
    return np.asarray(one_step(algorithm, position))


@pytest.mark.parametrize("num_stages", VARIANCES)
def test_a_step_on_a_gaussian_has_the_closed_form(num_stages):
    # A step is X' = A X + B Q, so that three steps with the same key give A and B, hence the stationary variance.
    limit, expected = VARIANCES[num_stages]
    with jax.enable_x64(True):
        curvature = jnp.asarray(FRACTIONS * limit)
        moved, still = (
            one_step_in_numpy(skrock(quadratic(curvature), 1.0, num_stages), jnp.full(3, x)) for x in (1.0, 0.0)
        )
        kick = one_step_in_numpy(skrock(quadratic(0.0), 1.0, num_stages), jnp.zeros(3))
        a, b = moved - still, still / kick
    np.testing.assert_allclose(2 * FRACTIONS * limit * b**2 / (1 - a**2), expected, rtol=1e-5)
    assert np.all(np.abs(a) < 1)
    skrock(quadratic(1.0), 0.9999 * limit, num_stages, lipschitz=1.0)
    with pytest.raises(ValueError, match="beyond the stability limit"):
        skrock(quadratic(1.0), 1.0001 * limit, num_stages, lipschitz=1.0)


@pytest.mark.slow
@pytest.mark.parametrize("num_stages", VARIANCES)
def test_the_stationary_variance_of_a_chain_is_the_closed_form_to_two_per_cent(num_stages):
    limit, expected = VARIANCES[num_stages]
    curvature = jnp.asarray(FRACTIONS * limit)[:, None]
    algorithm = skrock(quadratic(curvature), 1.0, num_stages)

    @jax.jit
    def run(key):
        state = algorithm.init(jnp.zeros((3, 50_000)))

        def step(state, key):
            state, info = algorithm.step(key, state)
            return state, (jnp.mean(state.position**2, axis=1), info.is_divergent)

        # |A| is below 0.96, so that after a hundred steps the start is forgotten to e**-8.
        _, (squares, diverged) = jax.lax.scan(step, state, jax.random.split(key, 300))
        return squares[100:].mean(axis=0), diverged.any()

    squares, diverged = run(jax.random.key(0))
    assert not diverged
    np.testing.assert_allclose(squares * curvature[:, 0], expected, rtol=0.02)


def test_a_small_step_of_the_proximal_kind_is_that_of_myula():
    # With one key: both add sqrt(2 step) xi and step times the drift, to second order in the step.
    data = jnp.array([0.2, -1.0, 3.0])
    log_likelihood, prox = lambda x: -2 * jnp.sum((x - data) ** 2), L1(0.5).prox
    with jax.enable_x64(True):
        position = jnp.array([0.5, 0.1, -0.3], jnp.float64)
        step_size = 1e-6
        theirs = one_step_in_numpy(myula(log_likelihood, prox, step_size, 0.1), position)
        ours = one_step_in_numpy(skrock(log_likelihood, step_size, 4, prox=prox, smoothing=0.1), position)
        without = one_step_in_numpy(skrock(log_likelihood, step_size, 4), position)
        pure = one_step_in_numpy(myula(lambda x: 0 * jnp.sum(x), lambda x, s: x, step_size, 0.1), position)
    # The kick is seen by the gradients of the stages, at order step**1.5; the drift is of order step.
    np.testing.assert_allclose(ours, theirs, atol=5e-8)
    assert np.abs(theirs - pure).max() > 1e-6
    assert np.abs(ours - without).max() > 1e-6


def test_the_default_step_is_nine_tenths_of_the_limit_of_all_curvature():
    position = jnp.ones(4)
    limit = VARIANCES[5][0]
    for given, default in (
        ({"step_size": 0.9 * limit / 7.0}, {"lipschitz": 7.0}),
        (
            {"step_size": 0.9 * limit / 14.0, "prox": L1(0.5).prox, "smoothing": 1 / 7.0},
            {"lipschitz": 7.0, "prox": L1(0.5).prox},
        ),
    ):
        a, b = (one_step(skrock(quadratic(7.0), num_stages=5, **kw), position) for kw in (given, default))
        np.testing.assert_allclose(a, b, rtol=1e-5)


def test_a_step_is_differentiable_in_position_and_step_size():
    def end(position, step_size):
        return jnp.sum(one_step(skrock(lambda x: -jnp.sum(jnp.cosh(x)), step_size, 3), position) ** 2)

    with jax.enable_x64(True):
        check_grads(end, (jnp.array([0.3, -1.0]), jnp.asarray(0.4)), order=1, modes=("fwd", "rev"), rtol=1e-6)


def test_a_float32_step_is_within_rounding_of_the_float64_one():
    curvature = np.geomspace(1, 1000, 50)
    with jax.enable_x64(True):
        exact = [one_step(skrock(quadratic(jnp.asarray(curvature)), 0.15, 10), jnp.full(50, x)) for x in (0.0, 1.0)]
        contraction = np.asarray(exact[1] - exact[0])
        single = jnp.asarray(curvature, jnp.float32)
        found = [one_step(skrock(quadratic(single), 0.15, 10), jnp.full(50, x, jnp.float32)) for x in (0.0, 1.0)]
        assert found[0].dtype == jnp.float32
        assert np.abs(np.asarray(found[1] - found[0], np.float64) - contraction).max() < 1e-5


def test_an_unstable_step_is_flagged_and_the_position_stays_finite():
    algorithm = skrock(quadratic(10.0), 2 * VARIANCES[3][0] / 10, 3)

    def step(state, key):
        state, info = algorithm.step(key, state)
        return state, (state.position, info.is_divergent)

    _, (positions, diverged) = jax.jit(lambda s, k: jax.lax.scan(step, s, k))(
        algorithm.init(jnp.ones(3)), jax.random.split(jax.random.key(0), 200)
    )
    assert diverged.any()
    assert jnp.isfinite(positions).all()
    first = int(jnp.argmax(diverged))
    np.testing.assert_array_equal(positions[first], positions[first - 1])


def test_the_warm_up_finds_the_settings_from_the_curvature():
    y = jnp.array([0.1, 2.0, -0.3])
    likelihood = lambda x: -0.5 * jnp.sum((x - y) ** 2) / 0.1**2  # noqa: E731
    for prox, total in ((None, 104.0), (L1(0.5).prox, 200.0)):
        # The prior of curvature 4 is known by its prox in the second case, whose smoothing is 1 / 100.
        target = Target(lambda x: -2 * jnp.sum(x**2), likelihood, position=y, prox=prox)
        adaptation = SKROCKSampler(num_stages=5).adaptation(target, 10)
        parameters = adaptation.result(jax.jit(adaptation.init)(jax.random.key(0), y))[1]
        assert float(parameters["step_size"]) == pytest.approx(0.9 * VARIANCES[5][0] / total, rel=1e-4)
        assert ("smoothing" in parameters) == (prox is not None)
        with pytest.raises(ValueError, match="step_size=None and no warm-up"):
            SKROCKSampler().build(target)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({}, "step_size=None and lipschitz=None"),
        ({"step_size": -1.0}, "step_size=-1.0: expected a positive finite number"),
        ({"step_size": 0.1, "num_stages": 1}, "num_stages=1: expected a whole number, at least 2"),
        ({"step_size": 0.1, "num_stages": 2.5}, "num_stages=2.5"),
        ({"step_size": 0.1, "eta": 0.0}, "eta=0.0"),
        ({"step_size": 0.1, "eta": 2.0}, "eta=2.0: expected a damping of at most 1"),
        ({"lipschitz": float("nan")}, "lipschitz=nan"),
        ({"step_size": 200.0, "lipschitz": 1.0}, "beyond the stability limit 173"),
        ({"step_size": 0.1, "smoothing": 0.1}, "without prox"),
        ({"step_size": 0.1, "prox": L1(0.5).prox}, "smoothing=None and lipschitz=None"),
    ],
)
def test_settings_are_checked_before_tracing(settings, message):
    with pytest.raises(ValueError, match=message):
        skrock(quadratic(1.0), **settings)


def test_the_settings_of_the_sampler_are_checked():
    for build in (SKROCKSampler, lambda **kw: SKROCK(lambda: None, **kw)):
        with pytest.raises(ValueError, match="num_stages=0"):
            build(num_stages=0)
        with pytest.raises(ValueError, match="smoothing=0"):
            build(smoothing=0)


def test_ula_is_the_euler_step():
    with jax.enable_x64(True):
        curvature = jnp.array([0.5, 2.0])
        moved, still = (one_step(ula(quadratic(curvature), 0.3), jnp.full(2, x)) for x in (1.0, 0.0))
        kick = one_step(ula(quadratic(0.0), 0.3), jnp.zeros(2))
        np.testing.assert_allclose(moved - still, 1 - 0.3 * curvature, rtol=1e-12)
        np.testing.assert_allclose(still, kick, rtol=1e-12)
        # Many steps from a point: the noise has variance 2 step.
        kicks = jax.vmap(lambda seed: one_step(ula(quadratic(0.0), 0.3), jnp.zeros(10), seed))(jnp.arange(2000))
        kicks = np.asarray(kicks)
    assert abs(float(kicks.var()) / 0.6 - 1) < 5 * np.sqrt(2 / kicks.size)
    np.testing.assert_allclose(
        one_step(ula(quadratic(2.0), lipschitz=2.0), jnp.ones(2)), one_step(ula(quadratic(2.0), 0.5), jnp.ones(2))
    )
    with pytest.raises(ValueError, match=r"step_size=1\.0 is beyond the stability limit 1, 2 / L"):
        ula(quadratic(2.0), 1.0, lipschitz=2.0)
    with pytest.raises(ValueError, match="step_size=None and lipschitz=None"):
        ula(quadratic(2.0))


def test_an_unstable_step_of_ula_is_flagged():
    algorithm = ula(quadratic(10.0), 1.0)
    state, diverged = algorithm.init(jnp.ones(3)), False
    step = jax.jit(algorithm.step)
    for key in jax.random.split(jax.random.key(0), 30):
        state, info = step(key, state)
        diverged = diverged or bool(info.is_divergent)
    assert diverged
    assert jnp.isfinite(state.position).all()
