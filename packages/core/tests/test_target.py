"""Targets against NumPyro's own potential energy, scipy's densities, and quadrature."""

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest
import scipy.integrate
import scipy.stats
from numpyro.infer.util import potential_energy

from armillary.core import Target


@pytest.fixture
def x64():
    with jax.enable_x64(True):
        yield


def half_normal(y=None):
    scale = numpyro.sample("scale", dist.HalfNormal(1.0))
    numpyro.deterministic("twice", 2 * scale)
    numpyro.sample("y", dist.Normal(0.0, scale), obs=y)


def simplex(y):
    p = numpyro.sample("p", dist.Dirichlet(jnp.array([1.0, 2.0, 3.0])))
    numpyro.sample("y", dist.Multinomial(probs=p, total_count=y.sum()), obs=y)


def hierarchical(y):
    mu = numpyro.sample("mu", dist.Cauchy(0.0, 5.0))
    tau = numpyro.sample("tau", dist.HalfCauchy(5.0))
    with numpyro.plate("schools", y.shape[0]):
        theta = numpyro.sample("theta", dist.Normal(mu, tau))
        numpyro.sample("y", dist.Normal(theta, 10.0), obs=y)


def truncated(y):
    low = numpyro.sample("low", dist.Uniform(0.0, 1.0))
    x = numpyro.sample("x", dist.Uniform(low, 2.0))  # a support that depends on another site
    numpyro.sample("y", dist.Normal(x, 1.0), obs=y)
    numpyro.factor("penalty", -(x**2))


def correlation(y):
    factor = numpyro.sample("factor", dist.LKJCholesky(3, 2.0))
    with numpyro.plate("data", y.shape[0]):
        numpyro.sample("y", dist.MultivariateNormal(jnp.zeros(3), scale_tril=factor), obs=y)


def masked(y):
    x = numpyro.sample("x", dist.Normal(0.0, 1.0).expand([4]).to_event(1))
    with numpyro.handlers.scale(scale=0.5), numpyro.handlers.mask(mask=jnp.array([True, True, False, True])):
        numpyro.sample("y", dist.Normal(x, 1.0), obs=y)


def loop(y):
    from numpyro.contrib.control_flow import scan

    rho = numpyro.sample("rho", dist.Uniform(-1.0, 1.0))

    def step(previous, now):
        x = numpyro.sample("x", dist.Normal(rho * previous, 1.0))
        numpyro.sample("y", dist.Normal(x, 0.5), obs=now)
        return x, None

    scan(step, 0.0, y)


MODELS = {
    "half_normal": (half_normal, (0.3,)),
    "simplex": (simplex, (np.array([3, 1, 2]),)),
    "hierarchical": (hierarchical, (np.array([28.0, 8.0, -3.0]),)),
    "truncated": (truncated, (0.4,)),
    "correlation": (correlation, (np.random.default_rng(0).normal(size=(5, 3)),)),
    "masked": (masked, (np.array([0.1, -0.4, 9.0, 1.0]),)),
    "scan": (loop, (np.array([0.1, 0.5, -0.2]),)),
}


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.usefixtures("x64")
def test_log_density_is_numpyros_and_is_the_sum_of_its_parts(name):
    model, args = MODELS[name]
    target = Target.from_numpyro(model, *args)
    for seed in range(3):
        z = target.sample_prior(jax.random.key(seed))
        with numpyro.handlers.seed(rng_seed=0):
            expected = -potential_energy(model, args, {}, z)
        np.testing.assert_allclose(target.log_density(z), expected, rtol=1e-12)
        np.testing.assert_allclose(target.log_prior(z) + target.log_likelihood(z), expected, rtol=1e-12)


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.usefixtures("x64")
def test_unconstrain_inverts_constrain_and_unravel_inverts_ravel(name):
    model, args = MODELS[name]
    target = Target.from_numpyro(model, *args)
    z = target.sample_prior(jax.random.key(1))
    back = target.unconstrain(target.constrain(z))
    assert jax.tree.structure(back) == jax.tree.structure(z) == jax.tree.structure(target.structure)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-8, atol=1e-8), back, z)
    vector = target.ravel(z)
    assert vector.shape == (target.dim,)
    jax.tree.map(np.testing.assert_array_equal, target.unravel(vector), z)


@pytest.mark.usefixtures("x64")
def test_the_parts_of_a_half_normal_model_in_closed_form():
    target = Target.from_numpyro(half_normal, 0.3)
    z = {"scale": jnp.log(0.7)}
    # The support is positive, so scale = exp(z) and the Jacobian is its logarithm.
    np.testing.assert_allclose(target.log_prior(z), scipy.stats.halfnorm.logpdf(0.7) + np.log(0.7), rtol=1e-12)
    np.testing.assert_allclose(target.log_likelihood(z), scipy.stats.norm.logpdf(0.3, 0, 0.7), rtol=1e-12)
    assert target.constrain(z)["twice"] == pytest.approx(1.4)


@pytest.mark.usefixtures("x64")
def test_the_prior_is_normalised_in_the_unconstrained_space():
    target = Target.from_numpyro(half_normal, 0.3)
    log_prior = jax.jit(lambda z: target.log_prior({"scale": z}))
    integral = scipy.integrate.quad(lambda z: float(jnp.exp(log_prior(z))), -30, 5, epsabs=1e-9)[0]
    assert integral == pytest.approx(1.0, abs=1e-7)


def test_prior_draws_have_the_moments_of_the_prior():
    target = Target.from_numpyro(simplex, np.array([3, 1, 2]))
    draws = jax.vmap(target.sample_prior)(jax.random.split(jax.random.key(0), 4000))
    mean = jax.vmap(target.constrain)(draws)["p"].mean(0)
    # Dirichlet(1, 2, 3): mean a / 6, standard deviation below 0.19, error of the mean below 0.003.
    np.testing.assert_allclose(mean, np.array([1, 2, 3]) / 6, atol=0.015)


def test_jit_vmap_and_grad_agree_with_plain_evaluation():
    target = Target.from_numpyro(hierarchical, np.array([28.0, 8.0, -3.0]))
    zs = jax.vmap(target.sample_prior)(jax.random.split(jax.random.key(2), 4))
    each = [target.log_density(jax.tree.map(lambda leaf, i=i: leaf[i], zs)) for i in range(4)]
    np.testing.assert_allclose(jax.jit(jax.vmap(target.log_density))(zs), jnp.stack(each), rtol=1e-5)
    z = jax.tree.map(lambda leaf: leaf[0], zs)
    gradient = jax.grad(target.log_density)(z)
    step = 1e-2
    moved = {**z, "mu": z["mu"] + step}, {**z, "mu": z["mu"] - step}
    slope = (target.log_density(moved[0]) - target.log_density(moved[1])) / (2 * step)
    assert float(gradient["mu"]) == pytest.approx(float(slope), rel=0.05, abs=1e-3)


def test_float32_stays_float32():
    target = Target.from_numpyro(half_normal, 0.3)
    z = target.initial_position(jax.random.key(0))
    assert {leaf.dtype for leaf in jax.tree.leaves((z, target.log_density(z)))} == {jnp.dtype("float32")}


def discrete(y):
    k = numpyro.sample("k", dist.Bernoulli(0.5))
    numpyro.sample("y", dist.Normal(k, 1.0), obs=y)


def subsampled(y):
    x = numpyro.sample("x", dist.Normal(0.0, 1.0))
    with numpyro.plate("data", 10, subsample_size=3):
        numpyro.sample("y", dist.Normal(x, 1.0), obs=numpyro.subsample(y, event_dim=0))


def unobserved(y):
    numpyro.sample("x", dist.Normal(0.0, 1.0))


def no_latent(y):
    numpyro.sample("y", dist.Normal(0.0, 1.0), obs=y)


@pytest.mark.filterwarnings("ignore:.*subsample.*")
@pytest.mark.parametrize(
    ("model", "message"),
    [
        (discrete, r"latent site 'k' is discrete \(BernoulliProbs\): marginalise it"),
        (subsampled, r"plate 'data' is subsampled \(3 of 10\).*Remove subsample_size"),
        (unobserved, r"no observed site.*pass the data .* obs="),
        (no_latent, r"no latent site"),
    ],
)
def test_what_cannot_be_lowered_says_what_to_do(model, message):
    with pytest.raises(ValueError, match=message):
        Target.from_numpyro(model, np.zeros(10))


def test_conditioned_models_and_factors_count_as_observed():
    def free():
        x = numpyro.sample("x", dist.Normal(0.0, 1.0))
        numpyro.sample("y", dist.Normal(x, 1.0))

    conditioned = Target.from_numpyro(numpyro.handlers.condition(free, data={"y": 1.0}))
    assert conditioned.log_density({"x": 0.0}) == pytest.approx(scipy.stats.norm.logpdf([0, 1]).sum(), rel=1e-5)

    def factored():
        numpyro.factor("f", -(numpyro.sample("x", dist.Normal(0.0, 1.0)) ** 2))

    assert Target.from_numpyro(factored).log_likelihood({"x": jnp.array(2.0)}) == pytest.approx(-4.0)


def test_a_prior_so_vague_that_its_draws_underflow():
    def vague(y):
        tau = numpyro.sample("tau", dist.Gamma(1e-3, 1e-3))
        numpyro.sample("y", dist.Normal(0.0, tau**-0.5), obs=y)

    target = Target.from_numpyro(vague, np.array([1.0, 2.0]))
    expected = scipy.stats.gamma.logpdf(2.0, 1e-3, scale=1e3) + np.log(2.0)
    assert float(target.log_prior({"tau": jnp.log(2.0)})) == pytest.approx(expected, rel=1e-4)


def test_an_improper_prior_gives_no_prior_draws_and_says_so_when_they_are_needed():
    def flat(y):
        x = numpyro.sample("x", dist.ImproperUniform(dist.constraints.real, (), ()))
        numpyro.sample("y", dist.Normal(x, 1.0), obs=y)

    target = Target.from_numpyro(numpyro.handlers.substitute(flat, substitute_fn=_start_at_zero), 1.0)
    assert target.traits == frozenset()
    with pytest.raises(ValueError, match=r"needs sample_prior of its target.*proper priors"):
        target.require({"sample_prior"}, "nested sampling")


def _start_at_zero(site):
    return jnp.zeros(()) if site["type"] == "sample" and site["name"] == "x" else None


class SoftLaplace(dist.Laplace):
    """A distribution with a proximal operator."""

    def prox(self, x, step):
        """Soft thresholding."""
        t = step / self.scale
        return jnp.sign(x) * jnp.maximum(jnp.abs(x) - t, 0.0)


def sparse(y, scale=2.0):
    with numpyro.plate("pixels", y.shape[0]):
        x = numpyro.sample("x", SoftLaplace(0.0, scale))
    b = numpyro.sample("b", dist.Normal(0.0, 1.0))
    numpyro.sample("y", dist.Normal(x + b, 1.0), obs=y)


def test_a_prior_with_a_prox_gives_the_target_one_through_plates_and_expansion():
    target = Target.from_numpyro(sparse, np.zeros(3))
    assert {"prox", "smooth_log_density"} <= target.traits
    z = {"x": jnp.array([3.0, -0.2, 0.5]), "b": jnp.array(0.7)}
    moved = target.prox(z, 0.6)
    np.testing.assert_allclose(moved["x"], [2.7, 0.0, 0.2], atol=1e-6)
    assert moved["b"] == z["b"]
    rough = scipy.stats.laplace.logpdf(z["x"], scale=2.0).sum()
    np.testing.assert_allclose(target.smooth_log_density(z) + rough, target.log_density(z), rtol=1e-5)


def test_a_prox_whose_parameters_are_sampled_is_refused():
    def model(y):
        sparse(y, numpyro.sample("scale", dist.HalfNormal(1.0)))

    with pytest.raises(ValueError, match="prior of 'x' depends on another latent site"):
        Target.from_numpyro(model, np.zeros(3))


def test_a_prox_does_not_reach_through_a_mask_or_a_transformation():
    def moved(y):
        x = numpyro.sample(
            "x", dist.TransformedDistribution(SoftLaplace(0.0, 0.2), dist.transforms.AffineTransform(5, 1))
        )
        numpyro.sample("y", dist.Normal(x, 1.0), obs=y)

    def masked_prior(y):
        x = numpyro.sample("x", SoftLaplace(0.0, 0.2).mask(False))
        numpyro.sample("y", dist.Normal(x, 1.0), obs=y)

    for model in (moved, masked_prior):
        assert "prox" not in Target.from_numpyro(model, 5.0).traits


def test_by_hand():
    target = Target(
        lambda x: -0.5 * jnp.sum(x**2),
        lambda x: -jnp.sum(x),
        sample_prior=lambda key: jax.random.normal(key, (2, 3)),
        prox=lambda x, step: x / (1 + step),
    )
    assert target.dim == 6
    assert target.traits == {"sample_prior", "prox", "smooth_log_density"}
    x = jnp.ones((2, 3))
    assert target.log_density(x) == pytest.approx(-9.0)
    assert target.smooth_log_density(x) == pytest.approx(-6.0)
    np.testing.assert_array_equal(target.constrain(x), x)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "needs position="),
        ({"position": jnp.zeros(2, jnp.int32)}, "dtype int32"),
        ({"position": {"a": jnp.zeros(2, jnp.complex64)}}, r"\['a'\] has dtype complex64"),
        ({"position": {}}, "no parameter"),
        ({"position": jnp.zeros(2), "constrain": lambda x: x}, "together, or neither"),
    ],
)
def test_bad_targets_by_hand(options, message):
    with pytest.raises(ValueError, match=message):
        Target(lambda x: 0.0, lambda x: 0.0, **options)


def test_bad_vectors_and_missing_sites():
    target = Target.from_numpyro(half_normal, 0.3)
    with pytest.raises(ValueError, match=r"shape \(2,\): expected \(1,\)"):
        target.unravel(jnp.zeros(2))
    with pytest.raises(ValueError, match="no value for the site 'scale'"):
        target.unconstrain({"other": 1.0})


def test_the_target_satisfies_its_protocol():
    from armillary.core import protocols

    assert isinstance(Target.from_numpyro(half_normal, 0.3), protocols.Target)
