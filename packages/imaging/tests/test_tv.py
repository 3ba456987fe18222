import pickle

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest
from scipy.optimize import lsq_linear

from armillary.core import Target, registry
from armillary.imaging import DWT, SARA, L1Frame, L1Wavelet, TotalVariation, UndecimatedDWT
from armillary.imaging._tv import differences, differences_transposed

SHAPE = (5, 4)
FRAME = SARA((4, 4), 1, ("dirac", "db1", "db2"))


@pytest.fixture
def x64():
    with jax.enable_x64(True):
        yield


def image(seed=0, batch=(), shape=SHAPE):
    return 2 * np.random.default_rng(seed).normal(size=(*batch, *shape))


def brute_force_variation(x, isotropic):
    total = 0.0
    for i in range(x.shape[0]):
        for j in range(x.shape[1]):
            down = x[i + 1, j] - x[i, j] if i + 1 < x.shape[0] else 0.0
            right = x[i, j + 1] - x[i, j] if j + 1 < x.shape[1] else 0.0
            total += np.hypot(down, right) if isotropic else abs(down) + abs(right)
    return total


@pytest.mark.parametrize("isotropic", [True, False])
def test_norm_and_score(x64, isotropic):
    x = image(batch=(3,))
    prior = TotalVariation(SHAPE, 0.5, isotropic=isotropic)
    expected = np.array([brute_force_variation(one, isotropic) for one in x])
    np.testing.assert_allclose(prior.norm(x), expected, rtol=1e-13)
    np.testing.assert_allclose(prior.log_prob(x), -expected / 0.5 - 19 * np.log(0.5), rtol=1e-13)
    h = 1e-6 * image(1)
    slope = [(brute_force_variation(one + h, isotropic) - brute_force_variation(one - h, isotropic)) / 2 for one in x]
    np.testing.assert_allclose((prior.score(x) * h).sum(axis=(1, 2)), -np.array(slope) / 0.5, rtol=1e-5)
    flat = prior.score(np.ones(SHAPE))
    np.testing.assert_array_equal(flat, np.zeros(SHAPE))


def test_differences_and_their_transpose(x64):
    matrix = np.asarray(jax.vmap(differences)(jnp.eye(20).reshape(20, *SHAPE))).reshape(20, 40)
    transposed = np.asarray(jax.vmap(differences_transposed)(jnp.eye(40).reshape(40, 2, *SHAPE))).reshape(40, 20)
    np.testing.assert_array_equal(matrix, transposed.T)
    assert np.linalg.norm(matrix, 2) < np.sqrt(8)


def by_active_sets(x, matrix, threshold):
    """The proximal operator of ``threshold * |A x|_1``, from its dual: least squares with bounds."""
    result = lsq_linear(matrix.T, x.ravel(), (-threshold, threshold), method="bvls", tol=1e-14, max_iter=1000)
    return x - (matrix.T @ result.x).reshape(x.shape)


def by_chambolle_pock(x, threshold, steps=20_000):
    """The isotropic proximal operator, by another algorithm, which is slow and runs long."""
    u, q = x.copy(), np.zeros((2, *x.shape))
    ahead = u
    tau = sigma = 1 / np.sqrt(8)
    for _ in range(steps):
        gradient = np.stack([np.diff(ahead, axis=a, append=np.take(ahead, [-1], a)) for a in (0, 1)])
        q = q + sigma * gradient
        q /= np.maximum(1, np.sqrt((q**2).sum(axis=0)) / threshold)
        rows, columns = q[0].copy(), q[1].copy()
        rows[-1], columns[:, -1] = 0, 0
        back = -np.diff(rows, axis=0, prepend=0) - np.diff(columns, axis=1, prepend=0)
        before, u = u, (u + tau * (x - back)) / (1 + tau)
        ahead = 2 * u - before
    return u


@pytest.mark.parametrize(("isotropic", "step"), [(False, 0.3), (False, 4.0), (True, 0.3), (True, 4.0)])
def test_prox_is_that_of_another_algorithm_to_the_tolerance(x64, isotropic, step):
    x = image()
    if isotropic:
        expected = by_chambolle_pock(x, step / 0.5)
    else:
        matrix = np.asarray(jax.vmap(differences)(jnp.eye(20).reshape(20, *SHAPE))).reshape(20, 40).T
        expected = by_active_sets(x, matrix, step / 0.5)
    for tolerance in (1e-2, 1e-6):
        prior = TotalVariation(SHAPE, 0.5, isotropic=isotropic, tolerance=tolerance)
        found = prior.prox(x, step)
        assert np.linalg.norm(found - expected) <= tolerance * np.linalg.norm(x)
    narrow = TotalVariation(SHAPE, 0.5, isotropic=isotropic).prox(x.astype(np.float32), step)
    assert narrow.dtype == np.float32
    assert np.linalg.norm(narrow - expected) <= 1e-3 * np.linalg.norm(x)


def test_prox_of_a_batch_equals_a_loop_and_a_large_step_gives_the_mean(x64):
    x = image(batch=(2,))
    prior = TotalVariation(SHAPE, jnp.array([0.5, 2.0]), tolerance=1e-8)
    together = prior.prox(x, jnp.array([0.1, 0.9]))
    for k, (scale, step) in enumerate([(0.5, 0.1), (2.0, 0.9)]):
        one = TotalVariation(SHAPE, scale, tolerance=1e-8).prox(x[k], step)
        np.testing.assert_allclose(together[k], one, atol=1e-6)
    large = TotalVariation(SHAPE, 1.0, tolerance=1e-6).prox(x, 1e3)
    np.testing.assert_allclose(large, np.broadcast_to(x.mean(axis=(1, 2), keepdims=True), x.shape), atol=1e-4)
    # Of two halves, each as the other's neighbour along 4 pixels: every pixel moves by step * 4 / (4 * 2).
    halves = np.zeros((4, 4))
    halves[:, 2:] = 10
    for isotropic in (True, False):
        found = TotalVariation((4, 4), 1.0, isotropic=isotropic, tolerance=1e-9).prox(halves, 1.0)
        np.testing.assert_allclose(found, np.tile([0.5, 0.5, 9.5, 9.5], (4, 1)), atol=1e-6)


@pytest.mark.parametrize("step", [0.05, 1.0])
def test_prox_in_a_frame_is_that_of_another_algorithm_to_the_tolerance(x64, step):
    x = image(shape=(4, 4))
    matrix = np.asarray(FRAME(jnp.eye(16).reshape(16, 4, 4))).reshape(16, -1).T
    expected = by_active_sets(x, matrix, step / 0.5)
    found = L1Frame(FRAME, 0.5, tolerance=1e-6).prox(x, step)
    assert np.linalg.norm(found - expected) <= 1e-6 * np.linalg.norm(x)
    narrow = L1Frame(FRAME, 0.5).prox(x.astype(np.float32), step)
    assert narrow.dtype == np.float32
    assert np.linalg.norm(narrow - expected) <= 1e-3 * np.linalg.norm(x)


def test_in_an_orthonormal_basis_a_frame_is_the_wavelet_prior(x64):
    x = image(shape=(8, 4), batch=(2,))
    frame, basis = L1Frame(DWT((8, 4), "db2", 1), 0.5, tolerance=1e-9), L1Wavelet("db2", 1, 0.5, shape=(8, 4))
    np.testing.assert_allclose(frame.prox(x, 0.2), basis.prox(x, 0.2), atol=1e-8)
    np.testing.assert_allclose(frame.score(x), basis.score(x), atol=1e-12)
    np.testing.assert_allclose(frame.log_prob(x), basis.log_prob(x) + 32 * np.log(2), rtol=1e-12)


def test_a_frame_that_is_a_pytree_of_arrays_jits_and_pickles():
    prior = pickle.loads(pickle.dumps(L1Frame(UndecimatedDWT((4, 4), "db1", 1), 0.5)))
    x = jnp.asarray(image(shape=(4, 4)), jnp.float32)
    found = jax.jit(lambda prior, x: prior.prox(x, 0.1))(prior, x)
    np.testing.assert_allclose(found, prior.prox(x, 0.1), atol=1e-6)


@pytest.mark.parametrize("name", ["total-variation", "l1-frame"])
def test_in_a_model_there_is_a_prox_and_no_evidence(name):
    prior = TotalVariation((4, 4), 0.5) if name == "total-variation" else L1Frame(FRAME, 0.5)
    assert registry.get("prior", name) is type(prior)

    def model(y):
        x = numpyro.sample("x", prior)
        numpyro.sample("y", dist.Normal(x, 0.1).to_event(2), obs=y)

    target = Target.from_numpyro(model, jnp.ones((4, 4)))
    assert target.traits == {"prox", "smooth_log_density"}
    x = target.initial_position(jax.random.key(0))
    np.testing.assert_allclose(target.prox(x, 0.2)["x"], prior.prox(x["x"], 0.2), rtol=1e-5)
    np.testing.assert_allclose(
        target.log_density(x) - target.smooth_log_density(x), prior.log_prob(x["x"]), rtol=1e-4, atol=1e-3
    )


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: TotalVariation((4,)), r"shape=\(4,\): expected the shape of an image"),
        (lambda: TotalVariation((4, 4), 0.0), "scale=0.0: expected a positive finite number"),
        (lambda: TotalVariation((4, 4), tolerance=0), "tolerance=0: a number between 0 and 1"),
        (lambda: TotalVariation((4, 4)).prox(np.zeros((4, 3)), 1.0), r"x has shape \(4, 3\)"),
        (lambda: L1Frame("sara"), "frame='sara': expected a tight frame"),
        (lambda: L1Frame(DWT((4, 4), "db1", 1, dtype=np.complex64)), "frame takes complex images"),
    ],
)
def test_bad_arguments(make, message):
    with pytest.raises(ValueError, match=message):
        make()
