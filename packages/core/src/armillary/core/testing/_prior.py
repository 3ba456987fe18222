"""The laws of a prior, of its proximal operator and of its score."""

from __future__ import annotations

import copy
import functools
import math
import pickle
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
from jax.flatten_util import ravel_pytree
from jaxtyping import Array
from numpyro.distributions import biject_to
from numpyro.infer import MCMC, NUTS, SVI, Predictive, Trace_ELBO
from numpyro.infer.autoguide import AutoNormal

from armillary.core._lower import _base

from ._checks import Broken, Case, check, run, skip
from ._numbers import agree, directional, finite, plain, same_structure, tolerance

# Above this many dimensions the estimate of the normaliser is too noisy to say anything.
MOST_DIMENSIONS = 32
PROX_STEPS = (0.03, 0.3, 3.0)


@check("prior", "it is a numpyro.distributions.Distribution", "the base class")
def check_prior_interface(case: Case) -> None:
    """It is a NumPyro distribution with a support."""
    if not isinstance(case.component, dist.Distribution):
        raise Broken(f"a {type(case.component).__name__} was given")
    if case.component.support is None:
        raise Broken("its support is None")


@check(
    "prior",
    "samples have shape sample_shape + batch_shape + event_shape, and log_prob has sample_shape + batch_shape",
    "`sample`, `log_prob`, and the shapes given to Distribution.__init__",
)
def check_prior_shapes(case: Case) -> None:
    """Shapes of samples and of their log-density."""
    prior = case.component
    for sample_shape in ((), (3,), (2, 3)):
        sample = prior.sample(jax.random.key(0), sample_shape)
        expected = sample_shape + prior.batch_shape + prior.event_shape
        if jnp.shape(sample) != expected:
            raise Broken(f"sample(key, {sample_shape}) has shape {jnp.shape(sample)}, expected {expected}")
        expected = sample_shape + prior.batch_shape
        if jnp.shape(prior.log_prob(sample)) != expected:
            raise Broken(f"its log_prob has shape {jnp.shape(prior.log_prob(sample))}, expected {expected}")


@check("prior", "samples lie in the support, where log_prob is finite", "`support`, `sample` and `log_prob`")
def check_prior_support(case: Case) -> None:
    """A thousand samples."""
    sample = case.component.sample(jax.random.key(1), (1000,))
    inside = np.asarray(case.component.support(sample))
    if not inside.all():
        raise Broken(f"{(~inside).sum()} of {inside.size} samples are outside of {case.component.support}")
    finite(case.component.log_prob(sample), "log_prob of samples")


@check("prior", "a key gives one draw, another key another, and legacy keys those of typed ones", "`sample`")
def check_prior_keys(case: Case) -> None:
    """Determined by the key, of either sort."""
    prior = case.component
    first = prior.sample(jax.random.key(2), (5,))
    agree(prior.sample(jax.random.key(2), (5,)), first, "a second draw with the key", 0.0)
    agree(prior.sample(jax.random.PRNGKey(2), (5,)), first, "the draw with the legacy key", 0.0)
    if (plain(prior.sample(jax.random.key(3), (5,))) == plain(first)).all():
        raise Broken("two keys gave the same draw")


@check(
    "prior",
    "flattening and unflattening give it back",
    "`pytree_data_fields` and `pytree_aux_fields`: an attribute in neither is lost",
)
def check_prior_flatten(case: Case) -> None:
    """The same log-density after a round trip through its leaves."""
    prior, sample = case.component, _samples(case)
    leaves, treedef = jax.tree.flatten(prior)
    again = jax.tree.unflatten(treedef, leaves)
    agree(again.log_prob(sample), prior.log_prob(sample), "log_prob", 0.0)
    if (again.batch_shape, again.event_shape) != (prior.batch_shape, prior.event_shape):
        raise Broken(f"its shapes come back as {again.batch_shape}, {again.event_shape}")


@check(
    "prior",
    "it can be an argument of a function under jax.jit, twice, and jit equals eager",
    "arrays in `pytree_aux_fields`, which fail at the second call",
)
def check_prior_jit(case: Case) -> None:
    """Passed to a jitted function twice."""
    prior, sample = case.component, _samples(case)
    log_prob = jax.jit(lambda prior, x: prior.log_prob(x))
    for _ in range(2):
        # An equal distribution with new arrays: jit compares what is static with what it saw.
        prior = copy.deepcopy(prior)
        agree(log_prob(prior, sample), case.component.log_prob(sample), "log_prob under jit", tolerance(sample))


@check(
    "prior",
    "jax.vmap over its parameters equals a loop",
    "shapes that are worked out from a parameter's own shape outside of __init__",
)
def check_prior_vmap(case: Case) -> None:
    """A batch of distributions, by stacked leaves."""
    prior, sample = case.component, _samples(case)
    stacked = jax.tree.map(lambda leaf: jnp.stack([jnp.asarray(leaf)] * 2), prior)
    if not jax.tree.leaves(stacked):
        raise skip("it has no parameters")
    together = jax.vmap(lambda prior, x: prior.log_prob(x))(stacked, jnp.stack([sample, sample[::-1]]))
    loop = jnp.stack([prior.log_prob(sample), prior.log_prob(sample[::-1])])
    agree(together, loop, "log_prob under vmap", tolerance(sample))


@check("prior", "it survives pickling", "lambdas and local classes among its attributes")
def check_prior_pickle(case: Case) -> None:
    """The same log-density after pickling."""
    sample = _samples(case)
    again = pickle.loads(pickle.dumps(case.component))
    agree(again.log_prob(sample), case.component.log_prob(sample), "log_prob", 0.0)


@check(
    "prior",
    "the gradient of log_prob agrees with finite differences",
    "custom derivatives, jnp.where with a NaN in the branch not taken, and integers",
)
def check_prior_gradient(case: Case) -> None:
    """In unconstrained coordinates, in double precision."""
    u = biject_to(case.component.support).inv(case.component.sample(jax.random.key(4), (3,)))
    with jax.enable_x64(True):
        prior, u = _double(case.component), _double(u)
        transform = biject_to(prior.support)
        directional(lambda u: prior.log_prob(transform(u)).sum(), u, jax.random.key(4), "log_prob")


@check(
    "prior",
    "its samples are of its density",
    "whether `sample` draws from the density of `log_prob`: the scales, the parametrisation",
)
def check_prior_samples(case: Case) -> None:
    r"""Stein's identity :math:`E[u_i \, \partial_i \log p(u)] = -1`, in unconstrained coordinates."""
    prior, num = case.component, 5000
    transform = biject_to(prior.support)
    u = transform.inv(prior.sample(jax.random.key(16), (num,)))

    def log_density(u: Array) -> Array:
        x = transform(u)
        return prior.log_prob(x).sum() + transform.log_abs_det_jacobian(u, x).sum()

    score = jax.jit(jax.vmap(jax.grad(log_density)))(u)
    terms = (plain(u) * plain(score)).reshape(num, -1)
    error = terms.std(axis=0) / math.sqrt(num)
    worst = np.abs((terms.mean(axis=0) + 1) / error).argmax()
    # One in millions for the worst of up to a few thousand elements.
    if not abs(terms[:, worst].mean() + 1) <= 6 * error[worst]:
        raise Broken(
            f"of element {worst}, E[u d log p / du] is {terms[:, worst].mean():.4f} +- {error[worst]:.4f}, expected -1"
        )


@check("prior", "its density is normalised", "the normaliser of `log_prob`, and the Jacobian of a change of variables")
def check_prior_normalised(case: Case) -> None:
    r"""The reciprocal of the normaliser, :math:`E_p[\varphi / \tilde p]` for a normalised :math:`\varphi`.

    For :math:`\varphi` a Gaussian narrower than the samples, in unconstrained coordinates.
    """
    prior = case.component
    num = 20_000
    transform = biject_to(prior.support)
    dim = math.prod((*prior.batch_shape, *transform.inverse_shape(prior.event_shape)))
    if dim > MOST_DIMENSIONS:
        raise skip(f"it has {dim} dimensions, and the estimate is good up to {MOST_DIMENSIONS}")
    x = prior.sample(jax.random.key(5), (num,))
    u = transform.inv(x)
    log_density = prior.log_prob(x) + transform.log_abs_det_jacobian(u, x).reshape(num, *prior.batch_shape, -1).sum(-1)
    log_density = plain(log_density).reshape(num, -1).sum(axis=1)
    u = plain(u).reshape(num, -1)
    # The Gaussian from one half of the samples, the estimate from the other.
    fit, test = u[: num // 2], u[num // 2 :]
    covariance = 0.5 * np.atleast_2d(np.cov(fit.T))
    centred = test - fit.mean(axis=0)
    solved = np.linalg.solve(covariance, centred.T).T
    log_phi = -0.5 * (centred * solved).sum(axis=1) - 0.5 * np.linalg.slogdet(2 * np.pi * covariance)[1]
    ratio = np.exp(log_phi - log_density[num // 2 :])
    error = ratio.std() / math.sqrt(ratio.size)
    if not abs(ratio.mean() - 1) <= 5 * error + 1e-3:
        raise Broken(f"the estimate of 1 / integral of the density is {ratio.mean():.4f} +- {error:.4f}, expected 1")


@check("prior", "it works expanded, as an event, masked and in a plate", "`batch_shape` and `event_shape`")
def check_prior_wrappers(case: Case) -> None:
    """NumPyro's wrappers, against the sum of its own log-densities."""
    prior = case.component
    sample = prior.sample(jax.random.key(6), (4,))
    expected = prior.log_prob(sample)
    wide = prior.expand((4, *prior.batch_shape))
    agree(wide.log_prob(sample), expected, "log_prob of expand", tolerance(sample))
    agree(wide.to_event(1 + len(prior.batch_shape)).log_prob(sample), expected.sum(), "log_prob of to_event", 1e-5)
    agree(wide.mask(False).log_prob(sample), jnp.zeros_like(expected), "log_prob of mask(False)", 0.0)
    if not prior.batch_shape:
        with numpyro.handlers.seed(rng_seed=0), numpyro.plate("plate", 4):
            x = numpyro.sample("x", prior)
        if jnp.shape(x) != (4, *prior.event_shape):
            raise Broken(f"in a plate of 4 it has the shape {jnp.shape(x)}")


@check("prior", "NumPyro's NUTS, SVI and Predictive run on a model with it", "the traceback's last line in the prior")
def check_prior_inference(case: Case) -> None:
    """A few steps of each: finite, of the right shape."""
    prior = case.component

    def model() -> None:
        x = numpyro.sample("x", prior.to_event(len(prior.batch_shape)))
        numpyro.sample("y", dist.Normal(jnp.mean(x), 1.0), obs=0.5)

    shape = prior.batch_shape + prior.event_shape
    key = jax.random.key(7)
    mcmc = MCMC(NUTS(model, max_tree_depth=3), num_warmup=5, num_samples=5, progress_bar=False)
    mcmc.run(key)
    guide = AutoNormal(model)
    svi = SVI(model, guide, numpyro.optim.Adam(1e-2), Trace_ELBO()).run(key, 3, progress_bar=False)
    found = {
        "NUTS": mcmc.get_samples()["x"],
        "SVI": guide.sample_posterior(key, svi.params, sample_shape=(5,))["x"],
        "Predictive": Predictive(model, num_samples=5)(key)["x"],
    }
    for name, value in found.items():
        if jnp.shape(value) != (5, *shape):
            raise Broken(f"the samples of {name} have shape {jnp.shape(value)}, expected {(5, *shape)}")
        finite(value, f"the samples of {name}")


@check(
    "prior",
    "prox(x, step) minimises -log_prob(u) + |u - x|**2 / (2 step)",
    "`prox`: the threshold or shrinkage must be step times that of the prior's own scale",
)
def check_prior_prox_optimality(case: Case) -> None:
    """No point in random directions, near or far, does better, and the directional derivatives are not negative."""
    _prox(case)
    x = 2 * case.component.sample(jax.random.key(8))
    with jax.enable_x64(True):
        prior, x = _double(case.component), _double(x)
        prox = _base(prior).prox
        flat_x, unravel = ravel_pytree(x)

        def objective(v: Array, step: float) -> Array:
            return -prior.log_prob(unravel(v)).sum() + jnp.sum((v - flat_x) ** 2) / (2 * step)

        for step in PROX_STEPS:
            p = ravel_pytree(prox(x, step))[0]
            best = float(objective(p, step))
            directions = jax.random.normal(jax.random.key(9), (200, p.size), p.dtype)
            # Also towards x and along single elements, where shrinkage goes wrong.
            special = (flat_x - p)[None], (p - flat_x)[None], jnp.eye(min(p.size, 50), p.size)
            directions = jnp.concatenate([directions, *special])
            sizes = jnp.array([1e-4, 1e-3, 1e-2, 0.1, 1.0])[:, None, None] * math.sqrt(step / max(p.size, 1))
            others = p + (sizes * directions).reshape(-1, p.size)
            values = plain(jax.jit(jax.vmap(functools.partial(objective, step=step)))(others))
            gain = best - values.min()
            if not gain <= 1e-9 * max(1.0, abs(best)):
                raise Broken(f"at step {step} another point has an objective lower by {gain:.3g} than {best:.6g}")


@check("prior", "prox keeps the shape and the dtype, and takes leading batch axes", "reductions over all axes")
def check_prior_prox_batches(case: Case) -> None:
    """A batch equals a loop, and so does jit."""
    prox = _prox(case)
    x = case.component.sample(jax.random.key(10), (3,))
    batch = prox(x, 0.3)
    same_structure(batch, x, "prox(x, step)")
    loop = jnp.stack([prox(one, 0.3) for one in x])
    agree(batch, loop, "prox of a batch", tolerance(x))
    agree(jax.jit(prox)(x, 0.3), batch, "prox under jit", tolerance(x))


@check(
    "prior",
    "prox is firmly non-expansive: |p(x) - p(y)|**2 <= <p(x) - p(y), x - y>",
    "`prox`; and where the density is not log-concave, expect this failure and say so",
)
def check_prior_prox_nonexpansive(case: Case) -> None:
    """Pairs of points, at several steps."""
    prox = _prox(case)
    x, y = (case.component.sample(jax.random.key(seed), (50,)) for seed in (11, 12))
    for step in PROX_STEPS:
        moved, apart = plain(prox(x, step)) - plain(prox(y, step)), plain(x) - plain(y)
        excess = (moved * (moved - apart)).reshape(50, -1).sum(axis=1)
        scale = (apart**2).reshape(50, -1).sum(axis=1)
        if not np.all(excess <= 1e-5 * scale):
            raise Broken(f"at step {step} it is violated by {(excess / scale).max():.3g} of |x - y|**2")


@check("prior", "prox(x, step) tends to x as the step tends to 0", "`prox`: the step multiplies, and 0 changes nothing")
def check_prior_prox_small_step(case: Case) -> None:
    """At a step of 1e-6 it moves by no more than the step times the slope of the density."""
    prox = _prox(case)
    x = case.component.sample(jax.random.key(13))
    scale = max(1.0, float(np.abs(plain(x)).max()))
    moved = [float(np.abs(plain(prox(x, step)) - plain(x)).max()) / scale for step in (1e-2, 1e-6)]
    if not moved[1] <= max(1e-2 * moved[0], 1e-6):
        raise Broken(f"it moves x by {moved[1]:.3g} at step 1e-6 and {moved[0]:.3g} at step 1e-2")


@check("prior", "score(x) is the gradient of log_prob", "`score`: its sign, and the scale")
def check_prior_score(case: Case) -> None:
    """At samples, where the density is differentiable almost surely."""
    prior = _base(case.component)
    if not hasattr(prior, "score"):
        raise skip("it has no score")
    x = case.component.sample(jax.random.key(14))
    expected = jax.grad(lambda x: case.component.log_prob(x).sum())(x)
    same_structure(prior.score(x), x, "score(x)")
    agree(prior.score(x), expected, "score(x)", tolerance(x, case.tolerance))


def check_prior(prior: Any) -> None:
    """Run every check of a prior: see `armillary.core.protocols.Prior`, `Proximable` and `Scored` for the laws.

    Args:
        prior: a constructed distribution, or a `Case` of one.

    Raises:
        ConformanceError: at the first violation, with the law, the numbers, and what to look at.
    """
    run("prior", prior)


def _samples(case: Case) -> Array:
    return case.component.sample(jax.random.key(15), (6,))


def _prox(case: Case) -> Any:
    prior = _base(case.component)
    if not hasattr(prior, "prox"):
        raise skip("it has no prox")
    return prior.prox


def _double(tree: Any) -> Any:
    """Its floating leaves in double precision, by way of NumPy: arrays made before x64 was on stay single."""

    def double(leaf: Any) -> Any:
        floating = jnp.issubdtype(jnp.result_type(leaf), jnp.floating)
        return jnp.asarray(np.asarray(leaf), jnp.float64) if floating else leaf

    return jax.tree.map(double, tree)
