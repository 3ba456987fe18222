"""The published recursion of proximal nested sampling: its formula, its projections, and how far off it is."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.optimize

from armillary.core import Target
from armillary.imaging import L1, proximal_nested_sampling
from armillary.imaging._nested_published import Quadratic, quadratic_of, recursion

RNG = np.random.default_rng(0)


@pytest.fixture
def x64():
    with jax.enable_x64(True):
        yield


def gaussian(y):
    """Prior N(0, 1), noise 1."""
    dim = y.size
    return Target(
        lambda x: -0.5 * jnp.sum(x**2) - 0.5 * dim * math.log(2 * math.pi),
        lambda x: -0.5 * jnp.sum((jnp.asarray(y, x.dtype) - x) ** 2),
        sample_prior=lambda key: jax.random.normal(key, (dim,)),
        prox=lambda x, step: x / (1 + step),
    )


def test_a_step_is_the_published_formula(x64):
    x, step = RNG.normal(size=5), 0.03
    xi = np.asarray(jax.random.normal(jax.random.key(3), (5,)))
    prox, inside = (lambda x, s: x / (1 + s)), (lambda x: 0.4 * x)
    found = recursion(jax.random.key(3), jnp.asarray(x), prox, inside, step)
    drift = (1 - 1 / 5) * x + 1 / 10 * (x / (1 + 5 * step) + 0.4 * x)
    np.testing.assert_allclose(found, drift + np.sqrt(step) * xi, rtol=1e-13)


def test_the_projection_onto_a_level_set_is_the_nearest_point(x64):
    matrix, y, x, level = RNG.normal(size=(4, 6)), RNG.normal(size=4), 3 * RNG.normal(size=6), 0.3

    def value(u):
        return 0.5 * jnp.sum((jnp.asarray(matrix) @ u - y) ** 2)

    found = Quadratic(value, None).project(jnp.asarray(x), level)
    assert float(value(found)) == pytest.approx(level, rel=1e-6)
    other = scipy.optimize.minimize(
        lambda u: 0.5 * np.sum((u - x) ** 2),
        x,
        jac=lambda u: u - x,
        constraints={"type": "ineq", "fun": lambda u: level - float(value(u))},
        method="SLSQP",
        options={"ftol": 1e-14, "maxiter": 500},
    )
    np.testing.assert_allclose(found, other.x, atol=1e-5)
    inner = jnp.linalg.lstsq(jnp.asarray(matrix), jnp.asarray(y))[0]
    np.testing.assert_array_equal(Quadratic(value, None).project(inner, level), inner)

    # A ball, by its closed form and by the same bisection.
    def ball(u):
        return 2.0 * jnp.sum((u - 1.0) ** 2)

    closed = Quadratic(ball, jnp.asarray(4.0)).project(jnp.asarray(x), level)
    np.testing.assert_allclose(closed, Quadratic(ball, None).project(jnp.asarray(x), level), atol=1e-6)
    np.testing.assert_allclose(np.linalg.norm(closed - 1), np.sqrt(level / 2), rtol=1e-12)


def test_the_curvature_of_white_noise_is_recognised():
    assert float(quadratic_of(gaussian(np.ones(4)), jax.random.key(0)).curvature) == pytest.approx(1, rel=1e-3)
    target = Target(
        lambda x: -0.5 * x @ x,
        lambda x: -0.5 * jnp.sum((jnp.arange(1.0, 5.0) * x - 1) ** 2),
        sample_prior=lambda key: jax.random.normal(key, (4,)),
        prox=lambda x, step: x / (1 + step),
    )
    assert quadratic_of(target, jax.random.key(0)).curvature is None


@pytest.mark.parametrize(("step_size", "num_inner_steps", "right"), [(0.002, 500, True), (0.2, 10, False)])
def test_it_tends_to_the_evidence_with_small_steps_only(step_size, num_inner_steps, right):
    y = np.array([1.5, -0.4, 0.7, 2.0])
    exact = -0.25 * y @ y - 2 * math.log(2)
    found = proximal_nested_sampling(
        jax.random.key(0),
        gaussian(y),
        num_live=100,
        num_inner_steps=num_inner_steps,
        proxnest_compat=True,
        step_size=step_size,
    )
    assert found.status == "converged"
    assert found.method == "proximal nested sampling as published"
    assert "not that of the model" in found.warnings[0]
    assert (abs(found.log_z - exact) < 3 * found.log_z_err) == right


def test_live_points_that_start_at_the_data_make_a_bad_prior_look_good():
    # A prior a hundred times narrower than the image: ln Z is about -sum |y| / scale, which the recursion never sees.
    y, prior = jnp.linspace(-1.0, 1.0, 16), L1(0.01)
    target = Target(
        lambda x: jnp.sum(prior.log_prob(x)),
        lambda x: -0.5 * jnp.sum((y - x) ** 2) / 0.1**2,
        sample_prior=lambda key: prior.sample(key, (16,)),
        prox=prior.prox,
    )
    found = proximal_nested_sampling(jax.random.key(0), target, num_live=50, proxnest_compat=True, step_size=1e-7)
    true = proximal_nested_sampling(jax.random.key(0), target, num_live=100)
    assert found.status == true.status == "converged"
    assert found.log_z > -30
    assert true.log_z < -200


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"step_size": None}, "proxnest_compat=True needs step_size="),
        ({"step_size": -0.1}, "step_size=-0.1: expected a positive finite number"),
        ({"proxnest_compat": False}, "step_size=0.1: only proxnest_compat=True takes one"),
        ({"log_likelihood": lambda x: -jnp.sum(jnp.abs(x) ** 3)}, "a log-likelihood that is a quadratic function"),
        ({"prox": None}, "prox"),
    ],
)
def test_bad_arguments(change, message):
    functions = {
        "log_likelihood": lambda x: -0.5 * jnp.sum((x - 1) ** 2),
        "prox": lambda x, step: x / (1 + step),
    }
    settings = {"proxnest_compat": True, "step_size": 0.1}
    functions |= {name: change[name] for name in functions if name in change}
    settings |= {name: change[name] for name in settings if name in change}
    target = Target(lambda x: -0.5 * x @ x, sample_prior=lambda key: jax.random.normal(key, (3,)), **functions)
    with pytest.raises(ValueError, match=message):
        proximal_nested_sampling(jax.random.key(0), target, num_live=20, **settings)
    without = Target(target.log_prior, target.log_likelihood, position=jnp.zeros(3), prox=lambda x, step: x)
    with pytest.raises(ValueError, match="proxnest_compat=True needs sample_prior"):
        proximal_nested_sampling(jax.random.key(0), without, proxnest_compat=True, step_size=0.1)
