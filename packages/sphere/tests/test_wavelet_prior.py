"""The sparsity prior: its norm, its proximal operator against bounded least squares, its draws, and the laws."""

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest
import scipy.optimize

from armillary.core import Target
from armillary.core.testing import Case, parametrize_with_checks
from armillary.sphere import WaveletL1, Wavelets, alm_from_real, alm_to_real

pytestmark = pytest.mark.usefixtures("quick_compilation")


def vector(L, seed=0, batch=()):
    return np.random.default_rng(seed).normal(size=(*batch, L * L))


def test_norm_is_the_weighted_sum(x64):
    wavelets = Wavelets(6, 2, J_min=1)
    x = vector(6)
    c = wavelets.analysis(alm_from_real(x))
    expected = (wavelets.scaling_grid.weights * abs(np.asarray(c.scaling)).sum(axis=1)).sum()
    for maps, grid in zip(c.wavelets, wavelets.grids, strict=True):
        per_ring = abs(np.asarray(maps)).sum(axis=(0, 2))
        expected += (grid.weights * per_ring).sum() * 2 * np.pi / len(maps)
    for scale in (0.5, 2.0):
        prior = WaveletL1(wavelets, scale)
        np.testing.assert_allclose(prior.norm(x), expected, rtol=1e-13)
        np.testing.assert_allclose(prior.log_prob(x), -expected / scale - 36 * np.log(scale), rtol=1e-13)


def test_norm_hardly_depends_on_the_resolution(x64):
    """The sums are quadratures of one integral, of a function that has kinks."""
    x = vector(16)
    norms = [
        float(WaveletL1(Wavelets(16, 3, J_min=2, grid=grid, multiresolution=multiresolution)).norm(x))
        for grid in ("gl", "dh")
        for multiresolution in (True, False)
    ]
    np.testing.assert_allclose(norms, norms[0], rtol=0.01)


def test_gradient(x64):
    """Away from kinks it is the adjoint of the weighted signs."""
    wavelets = Wavelets(5, 2)
    x = vector(5)
    c = wavelets.analysis(alm_from_real(x))
    weights = [wavelets.scaling_grid.weights] + [
        grid.weights * 2 * np.pi / len(maps) for grid, maps in zip(wavelets.grids, c.wavelets, strict=True)
    ]
    leaves = [w[:, None] * np.sign(maps) for w, maps in zip(weights, jax.tree.leaves(c), strict=True)]
    expected = -alm_to_real(wavelets.adjoint_analysis(jax.tree.unflatten(jax.tree.structure(c), leaves))) / 0.5
    np.testing.assert_allclose(jax.grad(WaveletL1(wavelets, 0.5).log_prob)(x), expected, atol=1e-12)


@pytest.mark.parametrize(("L", "N", "kind"), [(2, 1, "needlet"), (3, 2, "directional"), (3, 1, "curvelet")])
@pytest.mark.parametrize("step", [0.01, 0.1, 1.0])
def test_prox_is_bounded_least_squares(x64, L, N, kind, step):
    """x - S q with |q| <= step / b, by another solver on the matrix of S."""
    wavelets = Wavelets(L, N, kind=kind)
    prior = WaveletL1(wavelets, 1.5, tolerance=1e-13)
    x = 3 * vector(L)
    zero = jax.tree.map(lambda s: jnp.zeros(s.shape), wavelets.out_structure())
    flat, unravel = jax.flatten_util.ravel_pytree(zero)
    matrix = jax.jacfwd(lambda q: alm_to_real(wavelets.synthesis(unravel(q))))(flat)
    bound = step / 1.5
    found = scipy.optimize.lsq_linear(np.asarray(matrix), x, (-bound, bound), tol=1e-14, max_iter=2000)
    np.testing.assert_allclose(prior.prox(x, step), x - matrix @ found.x, atol=1e-6)


def test_derivatives_of_the_prox(x64):
    """The projection on fields whose coefficients within the bounds vanish, from the matrices; and differences."""
    L, step = 3, 0.3
    wavelets = Wavelets(L, 2)
    prior = WaveletL1(wavelets, 1.5, tolerance=1e-13)
    x = jnp.asarray(3 * vector(L))
    flat, unravel = jax.flatten_util.ravel_pytree(jax.tree.map(lambda s: jnp.zeros(s.shape), wavelets.out_structure()))
    synthesis = np.asarray(jax.jacfwd(lambda q: alm_to_real(wavelets.synthesis(unravel(q))))(flat))
    bound = step / 1.5
    found = scipy.optimize.lsq_linear(synthesis, x, (-bound, bound), tol=1e-14, max_iter=2000)
    vanishing = synthesis[:, found.active_mask == 0]
    projection = np.eye(L * L) - vanishing @ np.linalg.pinv(vanishing, rcond=1e-10)
    assert 0 < np.linalg.matrix_rank(projection) < L * L
    prox = jax.jit(prior.prox)
    by_x, by_step = jax.jit(jax.jacrev(prior.prox, (0, 1)))(x, step)
    np.testing.assert_allclose(by_x, projection, atol=1e-8)
    difference = (prox(x, step + 1e-4) - prox(x, step - 1e-4)) / 2e-4
    np.testing.assert_allclose(by_step, difference, atol=1e-6)
    np.testing.assert_allclose(jax.jvp(prox, (x, step), (x, 1.0))[1], projection @ x + by_step, atol=1e-8)


def test_prox_of_one_coefficient_is_a_soft_threshold(x64):
    r"""With :math:`L = 1` the norm is :math:`2 \sqrt\pi |x|`, and the density that of Laplace."""
    prior = WaveletL1(Wavelets(1), 0.5)
    x = np.array([[2.0], [-0.3], [0.1]])
    threshold = 0.1 * 2 * np.sqrt(np.pi) / 0.5
    expected = np.sign(x) * np.maximum(abs(x) - threshold, 0)
    np.testing.assert_allclose(prior.prox(x, 0.1), expected, atol=1e-6)
    laplace = dist.Laplace(0.0, 0.5 / (2 * np.sqrt(np.pi)))
    difference = prior.log_prob(x) - laplace.log_prob(x[:, 0])
    np.testing.assert_allclose(difference, difference[0], atol=1e-13)
    draws = prior.sample(jax.random.key(0), (4000,))
    assert abs(float(abs(draws).mean()) / float(laplace.scale) - 1) < 0.1


def test_prox_takes_a_step_and_a_scale_for_each_of_a_batch(x64):
    x = vector(3, batch=(2,))
    wavelets = Wavelets(3)
    together = WaveletL1(wavelets, jnp.array([0.5, 2.0])).prox(x, jnp.array([0.1, 0.2]))
    for k, (scale, step) in enumerate([(0.5, 0.1), (2.0, 0.2)]):
        np.testing.assert_allclose(together[k], WaveletL1(wavelets, scale).prox(x[k], step), atol=1e-12)


def test_draws(x64):
    """The radius is a Gamma of as many dimensions; Stein's identity holds for the rest."""
    L, count = 3, 2000
    prior = WaveletL1(Wavelets(L, 2), 0.3)
    draws = prior.sample(jax.random.key(0), (count,))
    radius = np.asarray(prior.norm(draws)) / 0.3
    assert abs(radius.mean() - L**2) < 5 * L / np.sqrt(count)
    assert abs(radius.std() / L - 1) < 0.08
    terms = np.asarray(draws * jax.vmap(jax.grad(prior.log_prob))(draws))
    error = terms.std(axis=0) / np.sqrt(count)
    assert (abs(terms.mean(axis=0) + 1) < 5 * error).all()


def test_draws_at_a_bandlimit_without_a_matrix():
    prior = WaveletL1(Wavelets(9, J_min=2), 2.0)
    draw = prior.sample(jax.random.key(0))
    assert draw.shape == (81,)
    assert draw.dtype == np.float32
    # Six standard deviations of the Gamma.
    assert abs(float(prior.norm(draw)) / 2 - 81) < 6 * 9


def test_in_a_model():
    prior = WaveletL1(Wavelets(2), 0.5)

    def model(data):
        x = numpyro.sample("x", prior)
        numpyro.sample("data", dist.Normal(x, 0.1).to_event(1), obs=data)

    target = Target.from_numpyro(model, jnp.arange(4.0))
    assert target.traits >= {"prox", "smooth_log_density"}
    x = {"x": jnp.array([1.0, -2.0, 0.5, 0.0])}
    np.testing.assert_allclose(target.prox(x, 0.2)["x"], prior.prox(x["x"], 0.2), rtol=1e-6)


@parametrize_with_checks(
    [Case(WaveletL1(Wavelets(2), 0.7, tolerance=1e-12), id="wavelet-l1")],
    expected_failures={"check_prior_normalised": "the volume of the unit ball of the norm is not known"},
)
def test_conformance(component, check):
    check(component)


@pytest.mark.parametrize(
    ("wavelets", "kwargs", "message"),
    [
        ("db4", {}, "wavelets='db4'"),
        (Wavelets(4, real=False), {}, "wavelets have real=False"),
        (Wavelets(4, grid="mw"), {}, "grid='mw'"),
        (Wavelets(4, kind="ridgelet"), {}, "kind='ridgelet'"),
        (Wavelets(4), {"tolerance": 0}, "tolerance=0: "),
        (Wavelets(4), {"scale": -1.0, "validate_args": True}, "scale"),
    ],
)
def test_bad_arguments(wavelets, kwargs, message):
    with pytest.raises(ValueError, match=message):
        WaveletL1(wavelets, **kwargs)


def test_bad_arrays():
    with pytest.raises(ValueError, match=r"x has shape \(5,\): \(\.\.\., 4\) is needed"):
        WaveletL1(Wavelets(2)).prox(np.zeros(5, np.float32), 0.1)
