"""The bridge to NumPyro: every registered BlackJAX sampler under every chain method, against a conjugate posterior."""

import arviz_base
import blackjax
import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest
import scipy.stats
from numpyro.infer import MCMC

from armillary.core import BlackJAXKernel, Target, registry, samplers

DATA = np.array([0.9, 1.7, -0.4, 1.1])
# Normal(0, 2) prior, unit noise: the posterior of the mean is normal.
PRECISION = 1 / 4 + len(DATA)
MEAN, DEVIATION = DATA.sum() / PRECISION, PRECISION**-0.5

SETTINGS = {
    "chees": {"num_walkers": 4},
    "nested-slice-sampling": {"num_live": 100},
    "tempered-smc": {"num_particles": 200, "num_mcmc_steps": 10},
}
NAMES = [
    c.name
    for c in registry.components("sampler")
    if c.distribution == "armillary-core" and c.name not in ("nuts", "hmc")
]


def model(y=None):
    mean = numpyro.sample("mean", dist.Normal(0.0, 2.0))
    scale = numpyro.sample("scale", dist.HalfNormal(1.0))  # of no datum: its posterior is its prior
    numpyro.deterministic("sum", mean + scale)
    with numpyro.plate("data", len(DATA)):
        numpyro.sample("y", dist.Normal(mean, 1.0), obs=y)


def make(name):
    return registry.get("sampler", name)(**SETTINGS.get(name, {}))


def run(kernel, chain_method, key, *, num_warmup=200, num_samples=300, **options):
    mcmc = MCMC(
        kernel,
        num_warmup=num_warmup,
        num_samples=num_samples,
        num_chains=2,
        chain_method=chain_method,
        progress_bar=False,
        **options,
    )
    mcmc.run(key, DATA, extra_fields=("potential_energy", "i"))
    return mcmc


def test_core_registers_the_blackjax_samplers_worth_having():
    assert set(NAMES) == {
        "blackjax-nuts",
        "blackjax-hmc",
        "mala",
        "mclmc",
        "chees",
        "nested-slice-sampling",
        "tempered-smc",
    }


# The others take a quarter of a minute each, three compilations.
@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=() if n in ("blackjax-nuts", "mala") else pytest.mark.slow) for n in NAMES]
)
def test_every_chain_method_draws_from_the_posterior_with_both_kinds_of_key(name):
    assert jax.local_device_count() >= 2, "parallel chains need two devices: see conftest.py"
    runs = {
        "sequential": run(BlackJAXKernel(model, make(name)), "sequential", jax.random.key(0)),
        "vectorized": run(BlackJAXKernel(model, make(name)), "vectorized", jax.random.key(0)),
        "parallel": run(BlackJAXKernel(model, make(name)), "parallel", jax.random.PRNGKey(0)),
    }
    for mcmc in runs.values():
        draws = mcmc.get_samples(group_by_chain=True)
        assert draws["mean"].shape == draws["sum"].shape == (2, 300)
        np.testing.assert_allclose(draws["sum"], draws["mean"] + draws["scale"], rtol=1e-6)
        assert not np.array_equal(draws["mean"][0], draws["mean"][1])
        assert (mcmc.last_state.i == 500).all()
        fields = mcmc.get_extra_fields(group_by_chain=True)
        target = Target.from_numpyro(model, DATA)
        z = target.unconstrain({k: draws[k][0, 7] for k in ("mean", "scale")})
        np.testing.assert_allclose(fields["potential_energy"][0, 7], -target.log_density(z), rtol=1e-4)
        size = _effective_size(draws["mean"])
        assert abs(draws["mean"].mean() - MEAN) < 5 * DEVIATION / size**0.5
        # Of squares, whose variance is twice the fourth power of the deviation: a chain that swings from side to side
        # knows the mean well and these badly.
        squares = (draws["mean"] - MEAN) ** 2
        assert abs(squares.mean() - DEVIATION**2) < 5 * DEVIATION**2 * (2 / _effective_size(squares)) ** 0.5


def _effective_size(draws):
    return min(float(np.sum(blackjax.ess(np.asarray(draws, dtype=np.float64)))), draws.size)


@pytest.mark.parametrize("name", ["blackjax-nuts", "mala"])
def test_draws_do_not_depend_on_the_chain_method(name):
    methods = ("sequential", "vectorized", "parallel")
    runs = [
        run(BlackJAXKernel(model, make(name)), method, jax.random.key(3), num_warmup=5, num_samples=5)
        for method in methods
    ]
    draws = [mcmc.get_samples(group_by_chain=True)["mean"] for mcmc in runs]
    # The same keys and the same arithmetic, reordered by the compiler: over few steps they agree to rounding.
    np.testing.assert_allclose(draws[0], draws[1], rtol=1e-3)
    np.testing.assert_allclose(draws[0], draws[2], rtol=1e-3)


def test_resuming_from_the_last_state_continues_the_chain():
    whole = run(BlackJAXKernel(model, "blackjax-nuts"), "vectorized", jax.random.key(1), num_samples=100)
    halves = run(BlackJAXKernel(model, "blackjax-nuts"), "vectorized", jax.random.key(1), num_samples=50)
    first = halves.get_samples(group_by_chain=True)["mean"]
    halves.post_warmup_state = halves.last_state
    halves.run(halves.post_warmup_state.rng_key, DATA)
    second = halves.get_samples(group_by_chain=True)["mean"]
    expected = whole.get_samples(group_by_chain=True)["mean"]
    np.testing.assert_allclose(np.concatenate([first, second], axis=1), expected, rtol=1e-5)


def test_a_callable_chain_method_and_jitted_arguments():
    callable_ = run(BlackJAXKernel(model, "mala"), jax.vmap, jax.random.key(0))
    assert callable_.get_samples()["mean"].shape == (600,)
    jitted = run(BlackJAXKernel(model, "mala"), "vectorized", jax.random.key(0), jit_model_args=True)
    moved = MCMC(jitted.sampler, num_warmup=200, num_samples=300, progress_bar=False, jit_model_args=True)
    moved.run(jax.random.key(0), DATA + 5.0)
    assert float(moved.get_samples()["mean"].mean()) == pytest.approx(MEAN + 5 * 4 / PRECISION, abs=0.4)


def test_arviz_reads_the_result():
    mcmc = MCMC(
        BlackJAXKernel(model, "blackjax-nuts"),
        num_warmup=100,
        num_samples=50,
        num_chains=2,
        chain_method="vectorized",
        progress_bar=False,
    )
    fields = ("potential_energy", "accept_prob", "num_steps", "energy", "step_size")
    mcmc.run(jax.random.key(0), DATA, extra_fields=fields)
    tree = arviz_base.from_numpyro(mcmc, log_likelihood=True)
    assert set(tree["posterior"].data_vars) == {"mean", "scale", "sum"}
    assert {"lp", "diverging", "acceptance_rate", "n_steps", "energy", "step_size"} <= set(
        tree["sample_stats"].data_vars
    )
    assert tree["log_likelihood"]["y"].shape == (2, 50, 4)
    assert tree["observed_data"]["y"].values == pytest.approx(DATA)


@pytest.mark.parametrize("dense", [False, True])
def test_window_adaptation_is_blackjaxs(dense):
    with jax.enable_x64(True):
        target = Target(lambda x: -0.5 * jnp.sum((x / SCALES) ** 2), lambda x: 0.0, position=np.zeros(3))
        # NUTS amplifies rounding, which depends on how the steps are compiled: over 40 steps it is small yet.
        key, num_warmup = jax.random.key(5), 40
        theirs = blackjax.window_adaptation(
            blackjax.nuts, target.log_density, is_mass_matrix_diagonal=not dense, target_acceptance_rate=0.8
        )
        (state, parameters), _ = theirs.run(key, np.zeros(3), num_warmup)
        ours = samplers.BlackJAXNUTS(dense=dense).adaptation(target, num_warmup)

        def step(carry, inputs):
            return ours.step(inputs[0], inputs[1], carry)[0], None

        start = ours.init(key, np.zeros(3))
        end, _ = jax.lax.scan(step, start, (jax.random.split(key, num_warmup), jnp.arange(num_warmup)))
        algorithm, found = ours.result(end)
        np.testing.assert_allclose(algorithm.position, state.position, rtol=1e-3)
        np.testing.assert_allclose(found["step_size"], parameters["step_size"], rtol=1e-3)
        np.testing.assert_allclose(found["inverse_mass_matrix"], parameters["inverse_mass_matrix"], rtol=1e-3)


SCALES = np.array([0.1, 1.0, 5.0])


def test_any_blackjax_algorithm_on_a_model_and_a_ready_one_on_its_own():
    kernel = BlackJAXKernel(model, lambda target: blackjax.barker(target.log_density, 0.5))
    assert float(run(kernel, "vectorized", jax.random.key(0)).get_samples()["mean"].mean()) == pytest.approx(
        MEAN, abs=0.4
    )
    ready = blackjax.mala(lambda x: -0.5 * jnp.sum((x - 3.0) ** 2), 0.5)
    mcmc = MCMC(BlackJAXKernel(None, ready), num_warmup=0, num_samples=1000, progress_bar=False)
    mcmc.run(jax.random.key(0), init_params=jnp.zeros(2))
    assert mcmc.get_samples().shape == (1000, 2)
    np.testing.assert_allclose(mcmc.get_samples()[100:].mean(0), 3.0, atol=0.5)


def test_a_target_by_hand():
    target = Target(lambda x: -0.5 * jnp.sum(x**2), lambda x: -0.5 * jnp.sum((x - 1) ** 2), position=jnp.zeros(3))
    mcmc = MCMC(BlackJAXKernel(target, "blackjax-nuts"), num_warmup=200, num_samples=500, progress_bar=False)
    mcmc.run(jax.random.key(0))
    np.testing.assert_allclose(mcmc.get_samples().mean(0), 0.5, atol=0.2)


@pytest.mark.parametrize("name", ["nested-slice-sampling", "tempered-smc"])
def test_samplers_with_an_evidence_give_the_conjugate_one(name):
    target = Target.from_numpyro(model, DATA)
    state = jax.jit(make(name).build(target).init)(None, jax.random.key(2))
    covariance = np.eye(4) + 4.0
    expected = -0.5 * (DATA @ np.linalg.solve(covariance, DATA) + np.linalg.slogdet(2 * np.pi * covariance)[1])
    assert bool(state.converged)
    assert abs(float(state.log_z) - expected) < 4 * float(state.log_z_err)
    assert float(state.log_z_err) < 0.3


def test_a_run_that_stops_short_says_so():
    target = Target.from_numpyro(model, DATA)
    algorithm = samplers.NestedSliceSampling(num_live=50, max_compression=1.0).build(target)
    state = jax.jit(algorithm.init)(None, jax.random.key(0))
    _, info = algorithm.step(jax.random.key(1), state)
    assert not bool(state.converged)
    assert bool(info.is_divergent)
    assert float(state.log_z_err) == float("inf")


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ((None, "mala"), ValueError, "model=None goes with a ready SamplingAlgorithm only"),
        ((model, 3), TypeError, "sampler=3: expected a registered name"),
        ((model, samplers.MALA), TypeError, r"this is the class; make an object of it, MALA\(\)"),
        ((model, "mela"), LookupError, "did you mean 'mala'"),
    ],
)
def test_bad_kernels(arguments, error, message):
    with pytest.raises(error, match=message):
        BlackJAXKernel(*arguments)


def test_a_target_without_what_the_sampler_needs():
    target = Target(lambda x: -0.5 * jnp.sum(x**2), lambda x: 0.0, position=jnp.zeros(3))
    mcmc = MCMC(BlackJAXKernel(target, "tempered-smc"), num_warmup=0, num_samples=5, progress_bar=False)
    with pytest.raises(ValueError, match="TemperedSMC needs sample_prior of its target"):
        mcmc.run(jax.random.key(0))


@pytest.mark.parametrize(
    ("make_it", "message"),
    [
        (lambda: samplers.MALA(step_size=0.0), "step_size=0.0: expected a positive"),
        (lambda: samplers.NUTS(target_acceptance_rate=1.0), "target_acceptance_rate=1.0"),
        (lambda: samplers.BlackJAXNUTS(max_num_doublings=0), "max_num_doublings=0"),
        (lambda: samplers.ChEES(num_walkers=1), "num_walkers=1: expected a whole number, at least 2"),
        (lambda: samplers.NestedSliceSampling(num_live=10, num_delete=10), "num_delete=10: expected less than"),
        (lambda: samplers.TemperedSMC(num_particles=2.5), "num_particles=2.5"),
    ],
)
def test_bad_settings(make_it, message):
    with pytest.raises(ValueError, match=message):
        make_it()


@pytest.mark.parametrize(
    "sampler", [samplers.NestedSliceSampling(num_live=200), samplers.TemperedSMC(num_particles=400)]
)
def test_a_likelihood_that_vanishes_on_most_of_the_prior(sampler):
    target = Target(
        lambda x: dist.Normal(0, 1).log_prob(x).sum(),
        lambda x: jnp.where(x[0] > 1, -0.5 * x[1] ** 2, -jnp.inf),
        sample_prior=lambda key: jax.random.normal(key, (2,)),
    )
    # The tail of the normal beyond 1, and the integral of N(x; 0, 1) exp(-x**2 / 2).
    expected = scipy.stats.norm.logsf(1.0) - 0.5 * np.log(2.0)
    state = jax.jit(sampler.build(target).init)(None, jax.random.key(0))
    assert bool(state.converged)
    assert abs(float(state.log_z) - expected) < 4 * float(state.log_z_err)
    assert float(state.log_z_err) < 0.2
    assert (state.particles[:, 0][np.isfinite(state.log_weights)] > 1).all()


def test_a_likelihood_that_vanishes_everywhere_does_not_converge():
    target = Target(
        lambda x: dist.Normal(0, 1).log_prob(x).sum(),
        lambda x: jnp.where(x[0] > 50, 0.0, -jnp.inf),
        sample_prior=lambda key: jax.random.normal(key, (2,)),
    )
    for sampler in (samplers.NestedSliceSampling(num_live=20), samplers.TemperedSMC(num_particles=20)):
        state = jax.jit(sampler.build(target).init)(None, jax.random.key(0))
        assert not bool(state.converged)
        assert float(state.log_z_err) == float("inf")


def test_data_changed_in_place_is_seen():
    # By init, which makes the whole run. That NumPyro's MCMC knows data by their address is another matter.
    kernel, data = BlackJAXKernel(model, make("tempered-smc")), np.full(4, 1.0)
    before = kernel.init(jax.random.key(0), 0, None, (data,), {})
    data[...] = -4.0
    after = kernel.init(jax.random.key(0), 0, None, (data,), {})
    again = kernel.init(jax.random.key(0), 0, None, (data,), {})
    means = [float(state.algorithm.particles["mean"].mean()) for state in (before, after, again)]
    assert means == pytest.approx([4 / PRECISION, -16 / PRECISION, -16 / PRECISION], abs=0.3)


@pytest.mark.parametrize("start", [{"mean": 0.0}, {"mean": 0.0, "scale": np.zeros(2)}, {"wrong": 3.0}])
def test_starts_of_another_shape_are_refused(start):
    mcmc = MCMC(BlackJAXKernel(model, "mala"), num_warmup=0, num_samples=5, progress_bar=False)
    with pytest.raises(ValueError, match=r"init_params has the shapes .*unconstrained values of every latent site"):
        mcmc.run(jax.random.key(0), DATA, init_params=start)


def test_a_start_is_where_the_chains_start():
    start = {"mean": np.array([3, -3]), "scale": np.zeros(2)}
    mcmc = MCMC(
        BlackJAXKernel(model, samplers.MALA(step_size=1e-6)),
        num_warmup=0,
        num_samples=1,
        num_chains=2,
        chain_method="vectorized",
        progress_bar=False,
    )
    mcmc.run(jax.random.key(0), DATA, init_params=start)
    np.testing.assert_allclose(mcmc.get_samples()["mean"], [3.0, -3.0], atol=0.01)
