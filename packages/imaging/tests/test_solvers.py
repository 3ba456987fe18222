import jax
import jax.numpy as jnp
import numpy as np
import pytest

from armillary.imaging import (
    L1,
    SARA,
    Blur,
    FourierMask,
    Gradient,
    GroupL1,
    Identity,
    L1Frame,
    L1Wavelet,
    LeastSquares,
    Mask,
    Positivity,
    SolverStatus,
    Stack,
    TotalVariation,
    admm,
    fista,
    primal_dual,
)

SHAPE = (4, 4)
RNG = np.random.default_rng(0)
DATA = 2 * RNG.normal(size=SHAPE)
KERNEL = np.array([[0.05, 0.2, 0.05], [0.1, 0.5, 0.1]])
NOISE = 0.7


@pytest.fixture
def x64():
    with jax.enable_x64(True):
        yield


class Ridge:
    """A Gaussian prior of some variance, by its proximal operator."""

    def __init__(self, variance):
        self.variance = variance

    def prox(self, x, step):
        return x / (1 + step / self.variance)

    def log_prob(self, x):
        return -0.5 * x**2 / self.variance


class Flat:
    """No prior."""

    def prox(self, x, step):
        return x

    def log_prob(self, x):
        return jnp.zeros(())


def by_fista(loss, prior, x0, **kwargs):
    return fista(loss, prior, x0, **kwargs)


def by_admm(loss, prior, x0, **kwargs):
    return admm(loss, prior, x0, **kwargs)


def by_primal_dual(loss, prior, x0, **kwargs):
    return primal_dual(loss, Flat(), Identity(SHAPE), prior, x0, **kwargs)


SOLVERS = [by_fista, by_admm, by_primal_dual]


def matrix_of(operator):
    return np.asarray(jax.vmap(operator)(jnp.eye(16).reshape(16, *SHAPE))).reshape(16, -1).T


def ridge(y, variance, noise=NOISE):
    A = matrix_of(Blur(KERNEL, SHAPE))
    return jnp.linalg.solve(A.T @ A / noise**2 + jnp.eye(16) / variance, A.T @ y.ravel() / noise**2).reshape(SHAPE)


@pytest.mark.parametrize("solver", SOLVERS)
def test_ridge_and_its_derivatives_are_the_closed_form(x64, solver):
    def solved(y, variance):
        loss = LeastSquares(Blur(KERNEL, SHAPE), y, NOISE)
        return solver(loss, Ridge(variance), jnp.zeros(SHAPE), tolerance=1e-12, max_steps=5000)

    solution = solved(DATA, 0.5)
    assert solution.status == SolverStatus.converged
    assert solution.residual <= 1e-12
    expected = ridge(DATA, 0.5)
    np.testing.assert_allclose(solution.x, expected, atol=1e-9)
    residual = matrix_of(Blur(KERNEL, SHAPE)) @ np.ravel(expected) - DATA.ravel()
    objective = 0.5 * residual @ residual / NOISE**2 + 0.5 * np.sum(np.square(expected)) / 0.5
    np.testing.assert_allclose(solution.objective, objective, rtol=1e-9)

    weights = RNG.normal(size=SHAPE)
    found = jax.grad(lambda y, v: jnp.vdot(weights, solved(y, v).x), (0, 1))(DATA, 0.5)
    wanted = jax.grad(lambda y, v: jnp.vdot(weights, ridge(y, v)), (0, 1))(DATA, 0.5)
    np.testing.assert_allclose(found[0], wanted[0], atol=1e-8)
    np.testing.assert_allclose(found[1], wanted[1], atol=1e-8)
    tangent = jax.jvp(lambda v: solved(DATA, v).x, (0.5,), (1.0,))[1]
    np.testing.assert_allclose(tangent, jax.jvp(lambda v: ridge(DATA, v), (0.5,), (1.0,))[1], atol=1e-8)


@pytest.mark.parametrize("solver", SOLVERS)
def test_soft_threshold_and_its_derivatives_are_the_closed_form(x64, solver):
    def solved(y, scale):
        return solver(LeastSquares(Identity(SHAPE), y, NOISE), L1(scale), jnp.ones(SHAPE), tolerance=1e-12).x

    threshold = NOISE**2 / 0.4
    np.testing.assert_allclose(solved(DATA, 0.4), np.sign(DATA) * np.maximum(abs(DATA) - threshold, 0), atol=1e-10)
    weights = RNG.normal(size=SHAPE)
    by_data, by_scale = jax.grad(lambda y, b: jnp.vdot(weights, solved(y, b)), (0, 1))(DATA, 0.4)
    kept = abs(DATA) > threshold
    assert 0 < kept.sum() < 16
    np.testing.assert_allclose(by_data, weights * kept, atol=1e-9)
    np.testing.assert_allclose(by_scale, np.sum(weights * kept * np.sign(DATA)) * NOISE**2 / 0.4**2, rtol=1e-8)


@pytest.mark.parametrize("solver", SOLVERS)
def test_sparse_deblurring_meets_the_conditions_of_optimality(x64, solver):
    """The gradient of the loss is minus the sign over the scale where a pixel is not 0, and no larger where it is."""
    loss = LeastSquares(Blur(KERNEL, SHAPE), DATA, NOISE)
    solution = solver(loss, L1(0.3), jnp.zeros(SHAPE), tolerance=1e-13, max_steps=20_000)
    x, slope = np.asarray(solution.x), np.asarray(jax.grad(loss)(solution.x))
    on = abs(x) > 1e-9
    assert 0 < on.sum() < 16
    np.testing.assert_allclose(slope[on], -np.sign(x[on]) / 0.3, atol=1e-6)
    assert (abs(slope[~on]) < (1 + 1e-7) / 0.3).all()


def test_gradients_of_sparse_deblurring_agree_with_differences(x64):
    weights, direction = RNG.normal(size=(2, *SHAPE))
    for solver in SOLVERS:

        def value(y, solver=solver):
            loss = LeastSquares(Blur(KERNEL, SHAPE), y, NOISE)
            return jnp.vdot(weights, solver(loss, L1(0.3), jnp.zeros(SHAPE), tolerance=1e-14, max_steps=20_000).x)

        slope = (value(DATA + 1e-5 * direction) - value(DATA - 1e-5 * direction)) / 2e-5
        np.testing.assert_allclose(jnp.vdot(jax.grad(value)(DATA), direction), slope, rtol=1e-5)


def test_total_variation_and_frames_by_primal_dual_are_their_proximal_operators(x64):
    # The proximal operator of step NOISE**2 is the maximum of the posterior of denoising.
    loss = LeastSquares(Identity(SHAPE), DATA, NOISE)
    pairs = [
        (TotalVariation(SHAPE, 0.5, tolerance=1e-9), Gradient(SHAPE), GroupL1(2, 0.5)),
        (TotalVariation(SHAPE, 0.5, isotropic=False, tolerance=1e-9), Gradient(SHAPE), L1(0.5)),
        (L1Frame(SARA(SHAPE, 1, ("dirac", "db1")), 0.5, tolerance=1e-9), SARA(SHAPE, 1, ("dirac", "db1")), L1(0.5)),
    ]
    for prior, operator, operator_prior in pairs:
        solution = primal_dual(
            loss, Flat(), operator, operator_prior, jnp.zeros(SHAPE), tolerance=1e-11, max_steps=20_000
        )
        assert solution.status == SolverStatus.converged
        np.testing.assert_allclose(solution.x, prior.prox(DATA, NOISE**2), atol=1e-6)


def test_positivity_beside_sparsity(x64):
    loss = LeastSquares(Blur(KERNEL, SHAPE), DATA, NOISE)
    x = primal_dual(loss, Positivity(), Identity(SHAPE), L1(0.5), jnp.zeros(SHAPE), tolerance=1e-12, max_steps=20_000).x
    # The same from one prior, which is linear where it is positive.
    slope = np.asarray(jax.grad(loss)(x)) + 1 / 0.5
    on = np.asarray(x) > 1e-9
    assert np.asarray(x).min() > -1e-12
    np.testing.assert_allclose(slope[on], 0, atol=1e-6)
    assert (slope[~on] > -1e-6).all()


def test_complex_data_inpainting_and_stacks(x64):
    mask = RNG.random(SHAPE) < 0.8
    operator = Stack(Mask(mask), FourierMask(mask))
    data = operator(DATA)
    loss = LeastSquares(operator, data, 0.1)
    assert float(loss(DATA)) == 0
    solution = fista(loss, L1Wavelet("haar", 1, 1e6, shape=SHAPE), jnp.zeros(SHAPE), tolerance=1e-10)
    np.testing.assert_allclose(solution.x, DATA, atol=1e-4)
    other = admm(loss, L1Wavelet("haar", 1, 1.0, shape=SHAPE), jnp.zeros(SHAPE), tolerance=1e-10)
    same = fista(loss, L1Wavelet("haar", 1, 1.0, shape=SHAPE), jnp.zeros(SHAPE), tolerance=1e-10)
    np.testing.assert_allclose(other.x, same.x, atol=1e-6)


def test_least_squares(x64):
    noise = RNG.uniform(0.5, 2, SHAPE)
    A = matrix_of(Blur(KERNEL, SHAPE)) / noise.ravel()[:, None]
    loss = LeastSquares(Blur(KERNEL, SHAPE), DATA, noise)
    x = RNG.normal(size=SHAPE)
    residual = A @ x.ravel() - (DATA / noise).ravel()
    np.testing.assert_allclose(loss(x), 0.5 * residual @ residual, rtol=1e-12)
    assert np.linalg.norm(A, 2) ** 2 <= float(loss.lipschitz())
    expected = np.linalg.solve(np.eye(16) + 0.3 * A.T @ A, x.ravel() + 0.3 * A.T @ (DATA / noise).ravel())
    np.testing.assert_allclose(loss.prox(x, 0.3).ravel(), expected, atol=1e-12)


@pytest.mark.parametrize("solver", SOLVERS)
def test_float32_stays_float32_and_reaches_its_precision(x64, solver):
    loss = LeastSquares(Blur(KERNEL, SHAPE, dtype=np.float32), DATA.astype(np.float32), NOISE)
    solution = solver(loss, Ridge(0.5), jnp.zeros(SHAPE, jnp.float32), tolerance=1e-6)
    assert solution.x.dtype == np.float32
    assert solution.objective.dtype == np.float32
    assert solution.status == SolverStatus.converged
    np.testing.assert_allclose(solution.x, ridge(DATA, 0.5), atol=2e-5)


def test_under_jit_and_vmap():
    def solved(y):
        return fista(LeastSquares(Identity(SHAPE), y, NOISE), L1(0.4), jnp.zeros(SHAPE, y.dtype)).x

    batch = jnp.stack([jnp.asarray(DATA, jnp.float32), jnp.asarray(DATA[::-1], jnp.float32)])
    together = jax.jit(jax.vmap(solved))(batch)
    np.testing.assert_allclose(together, jnp.stack([solved(y) for y in batch]), atol=1e-6)


def test_each_status_and_what_it_advises():
    loss = LeastSquares(Blur(KERNEL, SHAPE), DATA.astype(np.float32), NOISE)
    x0 = jnp.zeros(SHAPE)
    short = fista(loss, L1(0.3), x0, max_steps=3, tolerance=1e-7)
    assert short.status == SolverStatus.max_steps_reached
    assert int(short.steps) == 3
    assert "raise max_steps" in SolverStatus[short.status]
    wild = fista(loss, L1(0.3), x0, step_size=50.0, max_steps=1000)
    assert wild.status == SolverStatus.diverged
    assert "step size is beyond its limit" in SolverStatus[wild.status]
    assert np.isfinite(wild.x).all()
    assert primal_dual(loss, Flat(), Identity(SHAPE), L1(1.0), x0, lipschitz=1e-3).status == SolverStatus.diverged
    assert fista(loss, L1(0.3), jnp.full(SHAPE, jnp.nan)).status == SolverStatus.diverged


LOSS = LeastSquares(Identity(SHAPE), np.zeros(SHAPE, np.float32))
ZEROS = jnp.zeros(SHAPE)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: fista(LOSS, lambda x: x, ZEROS), "prior=.*has no prox: expected a prior with a proximal operator"),
        (lambda: fista(jnp.sum, L1(1.0), ZEROS), "step_size=None and the loss does not say its Lipschitz constant"),
        (lambda: fista(LOSS, L1(1.0), ZEROS, step_size=-1.0), "step_size=-1.0: expected a positive finite number"),
        (lambda: fista(LOSS, L1(1.0), ZEROS, max_steps=0), "max_steps=0: expected a whole number"),
        (lambda: fista(LOSS, L1(1.0), ZEROS, tolerance=0.0), "tolerance=0.0: expected a positive finite number"),
        (lambda: fista(LOSS, L1(1.0), ZEROS.astype(complex)), "x0 is complex64: expected an image of real"),
        (lambda: admm(jnp.sum, L1(1.0), ZEROS, step_size=1.0), "loss=.*has no prox: use LeastSquares"),
        (lambda: primal_dual(LOSS, Flat(), jnp.sum, L1(1.0), ZEROS), "operator=.*expected a forward operator"),
        (lambda: primal_dual(LOSS, Flat(), Gradient(SHAPE), jnp.sum, ZEROS), "operator_prior=.*has no prox"),
        (lambda: primal_dual(LOSS, Flat(), Gradient((4, 5)), L1(1.0), ZEROS), r"x0 has shape \(4, 4\): the operator"),
        (lambda: LeastSquares(jnp.sum, ZEROS), "operator=.*expected a forward operator"),
        (lambda: LeastSquares(Identity(SHAPE), np.zeros((4, 5))), r"data has shape \(4, 5\): the operator gives"),
        (lambda: LeastSquares(Identity(SHAPE), (ZEROS, ZEROS)), "data is PyTreeDef.*the operator gives"),
        (lambda: LeastSquares(Identity(SHAPE), ZEROS, 0.0), "noise=0.0: expected a positive finite number"),
    ],
)
def test_bad_arguments(make, message):
    with pytest.raises(ValueError, match=message):
        make()
