"""Evidences of NumPyro models from their MCMC objects, against closed forms."""

import math

import arviz_base
import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest
from numpyro.infer import MCMC, NUTS
from scipy import stats
from scipy.special import gammaln

from armillary import evidence


@pytest.fixture
def x64():
    with jax.enable_x64(True):
        yield


def sample(model, *args, num_chains=4, num_samples=1000, **kwargs):
    mcmc = MCMC(
        NUTS(model),
        num_warmup=500,
        num_samples=num_samples,
        num_chains=num_chains,
        chain_method="vectorized",
        progress_bar=False,
    )
    mcmc.run(jax.random.key(0), *args, **kwargs)
    return mcmc


# tau ~ Gamma(1e-3, rate 1e-3), mu ~ Normal(0, 1 / sqrt(tau0 tau)), x ~ Normal(mu, 1 / sqrt(tau)).
SHAPE, TAU0 = 1e-3, 1e-2


def normal_gamma(x, tau0=TAU0):
    tau = numpyro.sample("tau", dist.Gamma(SHAPE, SHAPE))
    scale = numpyro.deterministic("scale", 1 / jnp.sqrt(tau))
    mu = numpyro.sample("mu", dist.Normal(0.0, scale / jnp.sqrt(tau0)))
    with numpyro.plate("n", x.shape[0]):
        numpyro.sample("x", dist.Normal(mu, scale), obs=x)


def normal_gamma_data():
    np.random.seed(1)
    return np.random.normal(0, 1, 100)


@pytest.fixture(scope="module")
def run():
    return sample(normal_gamma, normal_gamma_data(), tau0=TAU0)


def test_normal_gamma(run):
    x = normal_gamma_data()
    n, mean = len(x), x.mean()
    shape = SHAPE + n / 2
    rate = SHAPE + 0.5 * ((x - mean) ** 2).sum() + 0.5 * TAU0 * n * mean**2 / (TAU0 + n)
    exact = (
        gammaln(shape)
        - gammaln(SHAPE)
        + SHAPE * math.log(SHAPE)
        - shape * math.log(rate)
        + 0.5 * math.log(TAU0 / (TAU0 + n))
        - 0.5 * n * math.log(2 * math.pi)
    )
    assert exact == pytest.approx(-142.2505185867356, abs=1e-9)
    found = evidence.from_numpyro(run).estimate(jax.random.key(1))
    assert abs(found.log_z - exact) < 3 * found.log_z_err
    assert found.log_z_err < 0.02
    assert found.warnings == ()


def test_the_problem_of_a_run(run):
    problem = evidence.from_numpyro(run)
    assert problem.samples.shape == (4, 1000, 2)
    kept = run.get_samples(group_by_chain=True)
    tau, mu = (np.asarray(kept[name][3, 17], float) for name in ("tau", "mu"))
    # Positions are in the order of the names: mu, and tau by its logarithm; the deterministic site is left out.
    np.testing.assert_allclose(problem.samples[3, 17], [mu, np.log(tau)], rtol=1e-5, atol=1e-6)
    log_joint = (
        stats.gamma(SHAPE, scale=1 / SHAPE).logpdf(tau)
        + stats.norm(0, 1 / np.sqrt(TAU0 * tau)).logpdf(mu)
        + stats.norm(mu, 1 / np.sqrt(tau)).logpdf(normal_gamma_data()).sum()
    )
    assert problem.log_density[3, 17] == pytest.approx(log_joint + np.log(tau), abs=1e-3)
    assert problem.log_density_fn(problem.samples[3, 17]) == pytest.approx(problem.log_density[3, 17], rel=1e-5)


def test_simplex():
    # Counts of a multinomial under a Dirichlet prior: three probabilities, two dimensions.
    alpha, counts = np.array([1.0, 2.0, 3.0]), np.array([7, 2, 4])

    def model(counts):
        p = numpyro.sample("p", dist.Dirichlet(alpha))
        numpyro.sample("n", dist.Multinomial(counts.sum(), p), obs=counts)

    def log_beta(a):
        return gammaln(a).sum() - gammaln(a.sum())

    exact = gammaln(counts.sum() + 1) - gammaln(counts + 1).sum() + log_beta(alpha + counts) - log_beta(alpha)
    problem = evidence.from_numpyro(sample(model, counts))
    assert problem.samples.shape == (4, 1000, 2)
    found = problem.estimate(jax.random.key(1))
    assert abs(found.log_z - exact) < 3 * found.log_z_err
    assert found.log_z_err < 0.02


def test_runs_that_are_refused():
    with pytest.raises(ValueError, match=r"call mcmc\.run"):
        evidence.from_numpyro(MCMC(NUTS(normal_gamma), num_warmup=1, num_samples=1, progress_bar=False))
    kernel = NUTS(potential_fn=lambda x: 0.5 * x**2)
    mcmc = MCMC(kernel, num_warmup=10, num_samples=10, progress_bar=False)
    mcmc.run(jax.random.key(0), init_params=jnp.zeros(()))
    with pytest.raises(ValueError, match=r"NUTS has no model.*from_arrays"):
        evidence.from_numpyro(mcmc)


def test_from_arviz_is_from_numpyro(run):
    tree = arviz_base.from_dict({"posterior": run.get_samples(group_by_chain=True)})
    problem = evidence.from_arviz(tree, normal_gamma, (normal_gamma_data(),), model_kwargs={"tau0": TAU0})
    expected = evidence.from_numpyro(run)
    np.testing.assert_allclose(problem.samples, expected.samples, rtol=1e-6)
    np.testing.assert_allclose(problem.log_density, expected.log_density, rtol=1e-6)
    with pytest.raises(ValueError, match=r"no variable 'mu'.*it has tau"):
        evidence.from_arviz(
            arviz_base.from_dict({"posterior": {"tau": np.ones((4, 10))}}), normal_gamma, (normal_gamma_data(),)
        )
    with pytest.raises(ValueError, match=r"'mu' has shape \(3,\) a draw, and the model's site \(\)"):
        evidence.from_arviz(
            arviz_base.from_dict({"posterior": {"tau": np.ones((4, 10)), "mu": np.ones((4, 10, 3))}}),
            normal_gamma,
            (normal_gamma_data(),),
        )


# y ~ Normal(w, 1) for w ~ Normal(0, 2): both models' evidences are normal densities. The scale s is a nuisance.
def shifted(y):
    w = numpyro.sample("w", dist.Normal(0.0, 2.0))
    s = numpyro.sample("s", dist.LogNormal(0.0, 0.5))
    numpyro.sample("z", dist.Normal(jnp.log(s), 0.3), obs=0.2)
    numpyro.sample("y", dist.Normal(w, 1.0).expand([4]).to_event(1), obs=y)


@pytest.fixture(scope="module")
def shifted_run():
    return sample(shifted, jnp.array([0.3, 1.2, -0.4, 0.9]), num_samples=2000)


def test_savage_dickey(shifted_run):
    y = np.array([0.3, 1.2, -0.4, 0.9])
    posterior = stats.norm(y.sum() / (4 + 1 / 4), 1 / math.sqrt(4 + 1 / 4))
    exact = posterior.logpdf(0.0) - stats.norm(0, 2).logpdf(0.0)
    found = evidence.savage_dickey(shifted_run, {"w": 0.0})
    assert abs(found.log_bayes_factor - exact) < 3 * found.log_bayes_factor_err
    assert found.log_bayes_factor_err < 0.02
    assert found.warnings == ()
    assert found.method == "conditional"
    assert str(found).startswith("ln B = ")


def test_savage_dickey_of_a_positive_site(shifted_run):
    # ln s is normal a priori and in the likelihood, hence a posteriori.
    precision = 1 / 0.5**2 + 1 / 0.3**2
    posterior = stats.norm((0.2 / 0.3**2) / precision, 1 / math.sqrt(precision))
    exact = posterior.logpdf(0.0) - stats.norm(0, 0.5).logpdf(0.0)
    found = evidence.savage_dickey(shifted_run, {"s": 1.0}, jax.random.key(1))
    assert abs(found.log_bayes_factor - exact) < 3 * found.log_bayes_factor_err
    assert found.log_bayes_factor_err < 0.02


def test_savage_dickey_far_out(shifted_run):
    """Six standard deviations from the mean, where there is no draw: the density is that of the model."""
    y = np.array([0.3, 1.2, -0.4, 0.9])
    posterior = stats.norm(y.sum() / (4 + 1 / 4), 1 / math.sqrt(4 + 1 / 4))
    exact = posterior.logpdf(3.4) - stats.norm(0, 2).logpdf(3.4)
    found = evidence.savage_dickey(shifted_run, {"w": 3.4})
    assert abs(found.log_bayes_factor - exact) < 3 * found.log_bayes_factor_err
    assert found.warnings == ()


def test_savage_dickey_of_the_only_parameter_in_single_precision():
    def model(y):
        w = numpyro.sample("w", dist.Normal(0.0, 2.0))
        numpyro.sample("y", dist.Normal(w, 1.0).expand([4]).to_event(1), obs=y)
        numpyro.factor("constant", CONSTANT)

    y = np.array([0.3, 1.2, -0.4, 0.9])
    posterior = stats.norm(y.sum() / (4 + 1 / 4), 1 / math.sqrt(4 + 1 / 4))
    exact = posterior.logpdf(0.0) - stats.norm(0, 2).logpdf(0.0)
    found = evidence.savage_dickey(sample(model, jnp.asarray(y)), {"w": 0.0})
    assert found.method == "conditional"
    assert abs(found.log_bayes_factor - exact) < 0.1  # of the rounding, which is said
    assert [warning.name for warning in found.warnings] == ["rounding"]


CONSTANT = 4e5  # whose rounding in single precision is 0.03


def test_savage_dickey_where_the_others_would_move(x64):
    """The sum of w and v is known, so that v says what w is, and would be elsewhere at another w."""

    def degenerate():
        w = numpyro.sample("w", dist.Normal(0.0, 2.0))
        v = numpyro.sample("v", dist.Normal(0.0, 1.0))
        numpyro.sample("y", dist.Normal(w + v, 0.02), obs=0.5)

    run = sample(degenerate, num_samples=2000)
    variance = 1 / (1 / 4 + 1 / (1 + 0.02**2))
    posterior = stats.norm(variance * 0.5 / (1 + 0.02**2), math.sqrt(variance))
    found = evidence.savage_dickey(run, {"w": 1.0})
    assert found.method == "flow"
    assert abs(found.log_bayes_factor - posterior.logpdf(1.0) + stats.norm(0, 2).logpdf(1.0)) < 0.1
    assert found.warnings == ()
    # An extrapolation is said to be one.
    far = evidence.savage_dickey(run, {"w": 5.0})
    assert [warning.name for warning in far.warnings] == ["tail"]


def test_savage_dickey_that_is_refused(run, shifted_run):
    with pytest.raises(ValueError, match="no latent site of the model; its sites are w, s"):
        evidence.savage_dickey(shifted_run, {"v": 0.0})
    with pytest.raises(ValueError, match="prior of 'mu' depends on tau"):
        evidence.savage_dickey(run, {"mu": 0.0})
    with pytest.raises(ValueError, match="outside the support"):
        evidence.savage_dickey(shifted_run, {"s": -1.0})
    with pytest.raises(ValueError, match=r"has shape \(2,\)"):
        evidence.savage_dickey(shifted_run, {"w": [0.0, 1.0]})
    with pytest.raises(ValueError, match="name at least one site"):
        evidence.savage_dickey(shifted_run, {})
