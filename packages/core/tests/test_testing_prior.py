"""Each check of a prior and of a likelihood catches one that breaks its law."""

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pytest
from numpyro.distributions import constraints

from armillary.core.testing import (
    CHECKS,
    Case,
    ConformanceError,
    check_likelihood,
    check_prior,
    parametrize_with_checks,
)

# ---- priors


class Laplace(dist.Laplace):
    """A right prior, with the soft threshold for its proximal operator."""

    def __init__(self, scale):
        super().__init__(0.0, scale)

    def threshold(self, step):
        return step / self.scale

    def prox(self, x, step):
        return jnp.sign(x) * jnp.maximum(jnp.abs(x) - jnp.asarray(self.threshold(step), x.dtype), 0)

    def score(self, x):
        return -jnp.sign(x) / self.scale


class NoDistribution:
    support = constraints.real

    def sample(self, key, sample_shape=()):
        return jax.random.normal(key, sample_shape)

    def log_prob(self, value):
        return -0.5 * value**2


class NoSampleShape(Laplace):
    def sample(self, key, sample_shape=()):
        return super().sample(key)


class SummedDensity(Laplace):
    def log_prob(self, value):
        return super().log_prob(value).sum()


class WrongSupport(Laplace):
    support = constraints.positive


class InfiniteDensity(Laplace):
    def log_prob(self, value):
        return jnp.where(value > 0, -jnp.inf, super().log_prob(value))


class FixedKey(Laplace):
    def sample(self, key, sample_shape=()):
        return super().sample(jax.random.key(0), sample_shape)


class Generator(Laplace):
    def sample(self, key, sample_shape=()):
        return super().sample(key, sample_shape) + np.random.default_rng().normal()


class LostAttribute(Laplace):
    def __init__(self, scale):
        super().__init__(scale)
        self.power = 1

    def log_prob(self, value):
        return self.power * super().log_prob(value)


class ArrayAsStatic(Laplace):
    pytree_aux_fields = ("table",)

    def __init__(self, scale):
        super().__init__(scale)
        self.table = jnp.ones(3)


class OutsideJax(Laplace):
    def log_prob(self, value):
        return -jnp.abs(value) / np.asarray(self.scale) - np.log(2 * np.asarray(self.scale))


class Unpicklable(Laplace):
    pytree_aux_fields = ("function",)

    def __init__(self, scale):
        super().__init__(scale)
        self.function = lambda x: x


@jax.custom_jvp
def magnitude(x):
    return jnp.abs(x)


@magnitude.defjvp
def _(primals, tangents):
    return jnp.abs(primals[0]), 0.9 * jnp.sign(primals[0]) * tangents[0]


class WrongGradient(Laplace):
    def log_prob(self, value):
        return -magnitude(value) / self.scale - jnp.log(2 * self.scale)


class Unnormalised(Laplace):
    def log_prob(self, value):
        return -jnp.abs(value) / self.scale


class WideSamples(Laplace):
    def sample(self, key, sample_shape=()):
        return 1.2 * super().sample(key, sample_shape)


class WrongExpansion(Laplace):
    def expand(self, batch_shape):
        return Laplace(2 * self.scale).expand(batch_shape)


class NoInference(Laplace):
    def log_prob(self, value):
        return jnp.where(jnp.ndim(value) > 0, super().log_prob(value), jnp.nan)


class DoubleThreshold(Laplace):
    def threshold(self, step):
        return 2 * step / self.scale


class ScaleForgotten(Laplace):
    def threshold(self, step):
        return step


class BatchStatistics(Laplace):
    def prox(self, x, step):
        return super().prox(x - x.mean(), step) + x.mean()


class HardThreshold(Laplace):
    def prox(self, x, step):
        return jnp.where(jnp.abs(x) > step / self.scale, x, 0)


class OffsetThreshold(Laplace):
    def threshold(self, step):
        return step / self.scale + 0.1


class WrongSign(Laplace):
    def score(self, x):
        return jnp.sign(x) / self.scale


# ---- likelihoods: of a line through three points


class Line:
    """A right likelihood."""

    def __call__(self, x):
        return dist.Normal(x["slope"] * jnp.arange(3.0), x["noise"]).to_event(1)


class Residual(Line):
    def __call__(self, x):
        return super().__call__(x).log_prob(jnp.zeros(3))


class Overflowing(Line):
    class Density(dist.Normal):
        def log_prob(self, value):
            return super().log_prob(value) - jnp.exp(jnp.full_like(value, 1000.0))

    def __call__(self, x):
        return self.Density(x["slope"] * jnp.arange(3.0), x["noise"]).to_event(1)


class Stopped(Line):
    def __call__(self, x):
        return super().__call__(jax.lax.stop_gradient(x))


class Branching(Line):
    def __call__(self, x):
        return super().__call__(x) if x["slope"] > 0 else super().__call__({**x, "slope": 0.0})


def of_line(likelihood):
    return Case(likelihood, example={"slope": 1.5, "noise": 0.5})


KINDS = ("prior", "likelihood")
WRONG = {
    "check_prior_interface": [NoDistribution()],
    "check_prior_shapes": [NoSampleShape(0.7), SummedDensity(0.7)],
    "check_prior_support": [WrongSupport(0.7), InfiniteDensity(0.7)],
    "check_prior_keys": [FixedKey(0.7), Generator(0.7)],
    "check_prior_flatten": [LostAttribute(0.7)],
    "check_prior_jit": [ArrayAsStatic(0.7), OutsideJax(0.7)],
    "check_prior_vmap": [OutsideJax(0.7)],
    "check_prior_pickle": [Unpicklable(0.7)],
    "check_prior_gradient": [WrongGradient(0.7)],
    "check_prior_samples": [WideSamples(0.7)],
    "check_prior_normalised": [Unnormalised(0.7)],
    "check_prior_wrappers": [WrongExpansion(0.7)],
    "check_prior_inference": [NoInference(0.7)],
    "check_prior_prox_optimality": [DoubleThreshold(0.7), ScaleForgotten(0.7), HardThreshold(0.7)],
    "check_prior_prox_batches": [BatchStatistics(0.7)],
    "check_prior_prox_nonexpansive": [HardThreshold(0.7)],
    "check_prior_prox_small_step": [OffsetThreshold(0.7)],
    "check_prior_score": [WrongSign(0.7)],
    "check_likelihood_interface": [of_line(Residual()), Line()],
    "check_likelihood_log_density": [of_line(Overflowing())],
    "check_likelihood_gradient": [of_line(Stopped())],
    "check_likelihood_transforms": [of_line(Branching())],
}
BY_NAME = {check.__name__: check for kind in KINDS for check in CHECKS[kind]}


def test_every_check_has_a_wrong_component():
    assert set(WRONG) == set(BY_NAME)


@pytest.mark.parametrize(("name", "wrong"), [(name, wrong) for name, several in WRONG.items() for wrong in several])
def test_a_wrong_component_is_caught(name, wrong):
    with pytest.raises(ConformanceError, match=rf"^{name}: .* breaks the law that (.|\n)*Found: (.|\n)*Look at: "):
        BY_NAME[name](wrong)


@parametrize_with_checks(
    [Laplace(0.7), Case(Unnormalised(0.7), id="unnormalised")],
    {"unnormalised": {"check_prior_normalised": "its density lacks the normaliser on purpose"}},
)
def test_a_right_prior_passes(component, check):
    check(component)


@parametrize_with_checks([of_line(Line())], kind="likelihood")
def test_a_right_likelihood_passes(component, check):
    check(component)


@pytest.mark.parametrize(
    ("check", "wrong", "first"),
    [
        (check_prior, NoSampleShape(0.7), "check_prior_shapes"),
        (check_likelihood, of_line(Overflowing()), "check_likelihood_log_density"),
    ],
)
def test_the_whole_suite_stops_at_the_first_violation(check, wrong, first):
    with pytest.raises(ConformanceError, match=f"^{first}: "):
        check(wrong)
