"""The machinery of the conformance kit: cases, messages, expected failures."""

import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pytest

from armillary.core.testing import CHECKS, Case, ConformanceError, check_prior, parametrize_with_checks
from armillary.core.testing._numbers import Gaussian


def test_every_kind_has_checks_with_a_law_and_advice():
    assert set(CHECKS) == {
        "sampler", "prior", "likelihood", "operator", "transform", "denoiser", "evidence_estimator", "plugin",
    }  # fmt: skip
    for kind, checks in CHECKS.items():
        assert len(checks) >= 4, kind
        assert len({check.__name__ for check in checks}) == len(checks)
        for check in checks:
            assert check.law
            assert check.look
            assert check.__doc__


def test_every_check_is_public():
    from armillary.core import testing

    for checks in CHECKS.values():
        for check in checks:
            assert getattr(testing, check.__name__) is check


def test_the_kit_needs_no_pytest():
    code = "import sys; sys.modules['pytest'] = None; import armillary.core.testing"
    subprocess.run([sys.executable, "-c", code], check=True)


def marks_of(decorator):
    """From test id to the reason of its expected failure, or None."""
    return {
        parameter.id: (parameter.marks[0].kwargs if parameter.marks else None) for parameter in decorator.mark.args[1]
    }


def test_one_test_for_each_component_and_check():
    priors = [dist.Normal(0.0, 1.0), dist.Normal(1.0, 2.0), Case(dist.Gamma(2.0, 1.0), id="gamma")]
    found = marks_of(parametrize_with_checks(priors))
    assert len(found) == 3 * len(CHECKS["prior"])
    assert {name.split("-")[0] for name in found} == {"Normal0", "Normal1", "gamma"}
    assert set(found.values()) == {None}


def test_expected_failures_are_strict_and_have_a_reason():
    reason = "the density is not normalised"
    found = marks_of(
        parametrize_with_checks(
            [Case(dist.Normal(0.0, 1.0), id="a"), Case(dist.Normal(0.0, 2.0), id="b")],
            {"b": {"check_prior_normalised": reason}},
        )
    )
    assert found["a-check_prior_normalised"] is None
    assert found["b-check_prior_normalised"] == {"strict": True, "reason": reason, "raises": ConformanceError}
    found = marks_of(parametrize_with_checks([dist.Normal(0.0, 1.0)], {"check_prior_keys": reason}))
    assert found["Normal-check_prior_keys"]["reason"] == reason


@pytest.mark.parametrize("reason", ["", "  ", None])
def test_an_expected_failure_without_a_reason_is_refused(reason):
    with pytest.raises(ValueError, match="check_prior_keys has no reason"):
        parametrize_with_checks([dist.Normal(0.0, 1.0)], {"check_prior_keys": reason})
    with pytest.raises(ValueError, match="check_prior_keys has no reason"):
        parametrize_with_checks([dist.Normal(0.0, 1.0)], {"Normal": {"check_prior_keys": reason}})


def test_unknown_checks_ids_and_kinds_are_refused():
    prior = dist.Normal(0.0, 1.0)
    with pytest.raises(ValueError, match=r"Normal has no check 'check_prior_key'; it has check_prior_"):
        parametrize_with_checks([prior], {"check_prior_key": "misspelt"})
    with pytest.raises(ValueError, match=r"no component has the id 'Laplace'; there are Normal"):
        parametrize_with_checks([prior], {"Laplace": {"check_prior_keys": "not there"}})
    with pytest.raises(ValueError, match="kind='priors': expected one of sampler"):
        parametrize_with_checks([prior], kind="priors")
    with pytest.raises(ValueError, match="not recognised as a component: pass kind="):
        parametrize_with_checks([lambda x, sigma: x])
    with pytest.raises(ValueError, match="components is empty"):
        parametrize_with_checks([])


class Wide(dist.Normal):
    def sample(self, key, sample_shape=()):
        return 2 * super().sample(key, sample_shape)


def test_a_message_names_the_law_the_numbers_and_what_to_look_at():
    with pytest.raises(ConformanceError) as caught:
        check_prior(Wide(0.0, 1.0))
    message = str(caught.value)
    assert message.startswith("check_prior_samples: Wide breaks the law that its samples are of its density.")
    assert "expected -1" in message
    assert "Look at: whether `sample`" in message


def test_the_gaussian_problem_against_quadrature():
    with jax.enable_x64(True):
        problem = Gaussian({"a": jnp.zeros(()), "b": jnp.zeros(1)})
        grid = np.linspace(-14, 14, 561)
        points = np.stack(np.meshgrid(grid, grid, indexing="ij"), -1).reshape(-1, 2)
        log_density = jax.jit(
            jax.vmap(lambda v: (lambda x: problem.log_prior(x) + problem.log_likelihood(x))(problem.unravel(v)))
        )
        weights = np.exp(np.asarray(log_density(jnp.asarray(points))))
        z = weights.sum() * 0.05**2
        np.testing.assert_allclose(np.log(z), problem.log_z, atol=1e-9)
        mean = weights @ points / weights.sum()
        np.testing.assert_allclose(mean, problem.mean, atol=1e-9)
        centred = points - mean
        np.testing.assert_allclose(
            (centred * weights[:, None]).T @ centred / weights.sum(), problem.covariance, atol=1e-8
        )
        draws = problem.sample_posterior(jax.random.key(0), (4, 5000))
        flat = np.stack([np.asarray(draws["a"]).ravel(), np.asarray(draws["b"]).ravel()])
        np.testing.assert_allclose(np.cov(flat), problem.covariance, atol=0.15)
        np.testing.assert_allclose(flat.mean(axis=1), problem.mean, atol=0.06)
        assert draws["b"].shape == (4, 5000, 1)
        # The proximal operator of the prior: x / (1 + step / variance).
        assert float(problem.shrink(jnp.asarray(3.0), 2.0)) == 2.0
