"""The evidence of models whose evidence is known from elsewhere: closed forms, quadrature, importance sampling."""

import math
from pathlib import Path

import arviz_base
import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest
from numpyro.infer import MCMC, NUTS
from scipy.special import gammaln

from armillary import evidence

DATA = Path(__file__).parent / "data"


@pytest.fixture
def x64():
    with jax.enable_x64(True):
        yield


def tree(**draws):
    """Draws, (chain, draw, ...), as ArviZ holds them."""
    return arviz_base.from_dict({"posterior": draws})


class Regression:
    """Linear regression with a normal-inverse-gamma prior: y ~ N(m + X w, s2), w ~ N(0, s2 / p), s2 ~ IG(a, b)."""

    def __init__(self, design, y, precision, shape, rate, mean=0.0):
        self.design, self.y, self.mean = design, y, mean
        self.precision = np.broadcast_to(np.asarray(precision, float), design.shape[1:])
        self.shape, self.rate = shape, rate
        n = len(y)
        post = np.diag(self.precision) + design.T @ design
        residual = y - design @ np.broadcast_to(mean, design.shape[1:])
        shift = np.linalg.solve(post, design.T @ residual)
        self.post, self.centre = post, shift + mean
        self.post_shape = shape + n / 2
        self.post_rate = rate + 0.5 * (residual @ residual - shift @ post @ shift)
        self.log_z = (
            -0.5 * n * math.log(2 * math.pi)
            + 0.5 * np.log(self.precision).sum()
            - 0.5 * np.linalg.slogdet(post)[1]
            + shape * math.log(rate)
            - self.post_shape * math.log(self.post_rate)
            + gammaln(self.post_shape)
            - gammaln(shape)
        )

    def model(self):
        s2 = numpyro.sample("s2", dist.InverseGamma(self.shape, self.rate))
        w = numpyro.sample("w", dist.Normal(self.mean, jnp.sqrt(s2 / self.precision)).to_event(1))
        numpyro.sample("y", dist.Normal(self.design @ w, jnp.sqrt(s2)).to_event(1), obs=self.y)

    def draws(self, seed, chains, number):
        """Exact ones."""
        rng = np.random.default_rng(seed)
        s2 = self.post_rate / rng.gamma(self.post_shape, size=(chains, number))
        z = rng.normal(size=(chains, number, len(self.post))) * np.sqrt(s2)[..., None]
        w = self.centre + np.linalg.solve(np.linalg.cholesky(self.post).T, z[..., None])[..., 0]
        return {"s2": s2, "w": w}

    def problem(self, seed, chains, number):
        return evidence.from_arviz(tree(**self.draws(seed, chains, number)), self.model)


def radiata(column):
    """Williams E. J. 1959, Regression Analysis, table 5.1: the strength of pine by its density, or by that adjusted."""
    y, *columns = np.loadtxt(DATA / "radiata_pine.dat").T[1:]
    x = columns[column]
    design = np.stack([np.ones_like(x), x - x.mean()], 1)
    # 1 / s2 ~ Gamma(3, rate 2 300^2); the intercept about 3000, the slope about 185.
    return Regression(design, y, [0.06, 6.0], 3.0, 2 * 300.0**2, np.array([3000.0, 185.0]))


def test_radiata_pine(x64):
    """The Bayes factor that harmonic means are usually judged by; exact 8.4236834."""
    models = [radiata(0), radiata(1)]
    np.testing.assert_allclose([m.log_z for m in models], [-310.12828554, -301.70460213], rtol=1e-9)
    found = [m.problem(seed, 4, 1000).estimate(jax.random.key(seed)) for seed, m in enumerate(models)]
    for estimate, model in zip(found, models, strict=True):
        assert abs(estimate.log_z - model.log_z) < 3 * estimate.log_z_err
        assert not [w for w in estimate.warnings if w.hard]
    assert abs(found[1].log_z - found[0].log_z - 8.4236834) < 0.02


def conjugate(n, p):
    rng = np.random.default_rng(0)
    design = rng.normal(size=(n, p))
    design[:, 1:] = 0.6 * design[:, :-1] + 0.8 * design[:, 1:]
    w = rng.normal(size=p) * 0.5
    return Regression(design, design @ w + rng.normal(size=n) * 0.7, 0.5, 3.0, 2.0)


# Closed forms, checked against another implementation's.
CONJUGATE = {(200, 36): -310.8307782752041, (200, 38): -300.6347998060547, (800, 156): -1313.8305707032637}


@pytest.mark.parametrize(
    ("n", "p", "chains"),
    [(200, 36, 8), *[pytest.param(*case, 20, marks=pytest.mark.slow) for case in [(200, 38), (800, 156)]]],
)
def test_conjugate_regression(x64, n, p, chains):
    model = conjugate(n, p)
    np.testing.assert_allclose(model.log_z, CONJUGATE[n, p], rtol=1e-12)
    found = model.problem(0, chains, 1000).estimate(jax.random.key(0), methods=("lhm", "bridge", "is"))
    assert abs(found.log_z - model.log_z) < min(3 * found.log_z_err, 0.1)
    assert not [w for w in found.warnings if w.hard]


def chain_rosenbrock(dim, seed, chains, number):
    """Exact draws of exp(-sum 100 (x_{i+1} - x_i^2)^2 + (1 - x_i)^2) on [-5, 5]^dim, by the messages of a chain."""
    x = np.linspace(-5, 5, 8001)
    h = x[1] - x[0]
    near = np.arange(-320, 321)  # the normal of width 0.07 about x_i^2, to 5.6 of its widths

    def forward(values):
        """The integral over x_{i+1} of the link times a function of it."""
        at = np.rint((x**2 + 5) / h).astype(int)[:, None] + near
        inside = (at >= 0) & (at < x.size)
        at = np.clip(at, 0, x.size - 1)
        link = np.exp(-100 * (x[at] - x[:, None] ** 2) ** 2) * inside
        return (link * values[at]).sum(1) * h

    messages = [np.ones_like(x)]
    for _ in range(dim - 1):
        message = np.exp(-((1 - x) ** 2)) * forward(messages[0])
        messages.insert(0, message / message.max())
    rng = np.random.default_rng(seed)
    weights = messages[0]
    current = x[rng.choice(x.size, chains * number, p=weights / weights.sum())]
    drawn = [current]
    for message in messages[1:]:
        at = np.rint((current**2 + 5) / h).astype(int)[:, None] + near
        inside = (at >= 0) & (at < x.size)
        at = np.clip(at, 0, x.size - 1)
        weights = np.exp(-100 * (x[at] - current[:, None] ** 2) ** 2) * message[at] * inside
        below = np.cumsum(weights, 1)
        chosen = (below < rng.uniform(size=len(at))[:, None] * below[:, -1:]).sum(1)
        # Uniform within a cell, a sixtieth of the width of the link.
        current = x[at[np.arange(len(at)), chosen]] + h * rng.uniform(-0.5, 0.5, size=len(at))
        current = np.where(abs(current) > 5, np.sign(current) * 10 - current, current)  # of the cells at the edges
        drawn.append(current)
    return np.stack(drawn, -1).reshape(chains, number, dim)


@pytest.mark.parametrize(("dim", "log_z"), [(2, -5.804132), pytest.param(10, -43.108355, marks=pytest.mark.slow)])
def test_chain_rosenbrock(x64, dim, log_z):
    """Ln Z with the uniform prior on the box, by quadrature over the chain."""

    def log_density(x):
        inside = jnp.all(jnp.abs(x) < 5)
        f = jnp.sum(100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2)
        return jnp.where(inside, -f - dim * math.log(10), -jnp.inf)

    problem = evidence.from_arrays(chain_rosenbrock(dim, 0, 20, 1000), None, log_density)
    found = problem.estimate(jax.random.key(0), methods=("lhm", "bridge", "is"))
    assert abs(found.log_z - log_z) < 3 * found.log_z_err
    assert found.log_z_err < 0.1


def pima(columns, tau):
    """Logistic regression on standardised data; weights, that of the intercept among them, ~ Normal(0, 1/sqrt(tau))."""
    outcome, *others = np.loadtxt(DATA / "pima_indian.dat").T
    design = np.stack([np.ones_like(outcome), *others[:columns]], 1)

    def model():
        w = numpyro.sample("w", dist.Normal(0.0, tau**-0.5).expand([columns + 1]).to_event(1))
        numpyro.sample("outcome", dist.Bernoulli(logits=design @ w).to_event(1), obs=outcome)

    mcmc = MCMC(
        NUTS(model), num_warmup=500, num_samples=1000, num_chains=4, chain_method="vectorized", progress_bar=False
    )
    mcmc.run(jax.random.key(0))
    return evidence.from_numpyro(mcmc)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("tau", "log_z", "log_bf"), [(0.01, (-257.23262, -259.85763), 2.62501), (1.0, (-247.3036, -247.56271), 0.25911)]
)
def test_pima(x64, tau, log_z, log_bf):
    """By importance sampling with 4e5 draws, to 0.0008."""
    found = [pima(columns, tau).estimate(jax.random.key(columns)) for columns in (4, 5)]
    for estimate, expected in zip(found, log_z, strict=True):
        assert abs(estimate.log_z - expected) < 3 * math.hypot(estimate.log_z_err, 8e-4)
        assert estimate.warnings == ()
    assert abs(found[0].log_z - found[1].log_z - log_bf) < 0.02


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(2))
def test_hierarchical_normal(x64, seed):
    """37 dimensions, of which the variance makes a funnel; ln Z by quadrature over the variance."""
    rng = np.random.default_rng(0)
    data = rng.normal(0.3, 0.8, 35) + rng.normal(size=35)

    def model():
        tau2 = numpyro.sample("tau2", dist.InverseGamma(1.0, 1.0))
        mu = numpyro.sample("mu", dist.Normal(0.0, 1.0))
        theta = numpyro.sample("theta", dist.Normal(mu, jnp.sqrt(tau2)).expand([35]).to_event(1))
        numpyro.sample("y", dist.Normal(theta, 1.0).to_event(1), obs=data)

    mcmc = MCMC(
        NUTS(model), num_warmup=1000, num_samples=1000, num_chains=20, chain_method="vectorized", progress_bar=False
    )
    mcmc.run(jax.random.key(seed))
    found = evidence.from_numpyro(mcmc).estimate(jax.random.key(seed))
    assert abs(found.log_z + 56.121888045875124) < min(3 * found.log_z_err, 0.02)
    assert not [w for w in found.warnings if w.hard]
