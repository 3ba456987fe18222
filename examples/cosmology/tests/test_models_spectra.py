from __future__ import annotations

from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest
from scipy import stats

from armillary.core import Target
from armillary_cosmology import (
    Nuisance,
    SpectraLikelihood,
    SpectraModel,
    TabulatedPower,
    ThreeByTwoPoint,
    cosmic_shear_cls,
    data_vector,
    fiducial_power,
    gaussian_covariance,
    pairs,
    sigma_r,
    stage_iv,
    three_by_two_pt_cls,
)

pytestmark = pytest.mark.usefixtures("quick_compilation")

SMALL = {"num_z": 60, "num_ell": 4}


@pytest.fixture(scope="module")
def survey():
    return stage_iv(2, lenses=True, **SMALL)


@pytest.fixture(scope="module")
def spectra(survey):
    simulated = fiducial_power()
    nuisance = Nuisance.none(survey)
    found = jax.jit(lambda n: three_by_two_pt_cls(simulated, simulated.cosmology, survey, n, survey.ell))(nuisance)
    return jax.tree.map(lambda leaf: np.asarray(leaf, dtype=float), found)


@pytest.fixture(scope="module")
def likelihood(survey, spectra):
    return SpectraLikelihood(survey, spectra.shear)


def test_covariance_is_that_of_gaussian_modes(survey, spectra):
    covariance = gaussian_covariance(spectra, survey)
    assert covariance.shape == (4, 10, 10)
    # Modes of all four fields at once, with noise; the spectra that they give, many times.
    num_modes, b = int(survey.num_modes[0]), 0
    total = np.empty((4, 4))
    i, j = pairs(2)
    total[i, j] = total[j, i] = spectra.shear[:, b]
    total[i + 2, j + 2] = total[j + 2, i + 2] = spectra.clustering[:, b]
    total[2:, :2], total[:2, 2:] = spectra.galaxy_shear[..., b], spectra.galaxy_shear[..., b].T
    total += np.diag(np.concatenate([survey.shape_noise, survey.shot_noise]))
    rng, draws = np.random.default_rng(0), 4000
    modes = rng.normal(size=(draws, num_modes, 4)) @ np.linalg.cholesky(total).T
    measured = np.einsum("dni,dnj->dij", modes, modes) / num_modes
    clustering = measured[:, i + 2, j + 2]
    data = np.concatenate([measured[:, i, j], measured[:, 2:, :2].reshape(draws, -1), clustering], axis=1)
    # num_modes is no whole number: the covariance goes with its inverse.
    expected = covariance[b] * survey.num_modes[b] / num_modes
    scale = np.sqrt(np.diag(expected))
    error = (np.cov(data.T) - expected) / np.outer(scale, scale)
    assert np.max(np.abs(error)) < 5 * np.sqrt(2 / draws)


def test_the_likelihood_is_a_normal_of_that_covariance(likelihood, spectra, x64):
    data = data_vector(spectra.shear) * 1.01
    expected = sum(
        stats.multivariate_normal(mean, block).logpdf(row)
        for mean, block, row in zip(data_vector(spectra.shear), likelihood.covariance, data, strict=True)
    )
    assert likelihood(jnp.asarray(spectra.shear)).log_prob(data) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize(("dark_energy", "count"), [(False, 36), (True, 38)])
def test_ten_bins_of_shear_have_36_parameters_or_38(power, dark_energy, count):
    survey = stage_iv(10, **SMALL)
    i, j = pairs(10)
    shear = np.where(i == j, 1e-8, 5e-9)[:, None] * np.ones(4)
    model = SpectraModel(power, SpectraLikelihood(survey, shear), dark_energy=dark_energy)
    assert Target.from_numpyro(model, data_vector(shear)).dim == count


def test_three_surveys_of_shear_and_galaxies_have_156(power):
    survey = stage_iv(10, lenses=True, **SMALL)
    i, j = pairs(10)
    auto = np.where(i == j, 1e-8, 5e-9)[:, None] * np.ones(4)
    spectra = ThreeByTwoPoint(auto, np.zeros((10, 10, 4)), 1e3 * auto)
    likelihoods = [SpectraLikelihood(survey, spectra)] * 3
    target = Target.from_numpyro(SpectraModel(power, likelihoods), *[data_vector(spectra)] * 3)
    assert target.dim == 156
    assert "lens_shift_2" in target.structure


def test_the_posterior_is_prior_and_likelihood_and_has_a_gradient(power, survey, fiducial, x64):
    ell, nuisance = survey.ell, Nuisance.none(survey)
    spectra = jax.jit(lambda n: three_by_two_pt_cls(power, fiducial, survey, n, ell))(nuisance)
    likelihoods = [SpectraLikelihood(survey, spectra.shear), SpectraLikelihood(survey, spectra)]
    data = data_vector(spectra.shear), data_vector(spectra)
    target = Target.from_numpyro(SpectraModel(power, likelihoods, dark_energy=True), *data)
    sites = {name: getattr(fiducial, name) for name in ("omega_b", "omega_cdm", "h", "n_s", "ln10As", "logT_AGN")}
    sites |= {"w0": -1.0, "w0_plus_wa": -1.0}
    for i, names in enumerate([Nuisance._fields[:3], Nuisance._fields]):
        sites |= {f"{name}_{i}": getattr(nuisance, name) for name in names}
    position = target.unconstrain({name: jnp.asarray(value, float) for name, value in sites.items()})
    log_likelihood, gradient = jax.jit(jax.value_and_grad(target.log_likelihood))(position)
    # The data are what the theory says: only the normalisers are left.
    expected = sum(
        -0.5 * sum(np.linalg.slogdet(2 * np.pi * block)[1] for block in likelihood.covariance)
        for likelihood in likelihoods
    )
    assert float(log_likelihood) == pytest.approx(expected, rel=1e-9)
    assert max(float(jnp.max(jnp.abs(leaf))) for leaf in jax.tree.leaves(gradient)) < 1e-3
    derived = jax.jit(target.constrain)(position)
    assert float(derived["wa"]) == pytest.approx(0.0, abs=1e-12)
    assert float(derived["S_8"]) == pytest.approx(float(derived["sigma_8"] * np.sqrt(derived["Omega_m"] / 0.3)))


def test_fixed_parameters_are_no_sites(power, likelihood):
    fixed = {"omega_b": 0.0224, "h": 0.67, "n_s": 0.965, "logT_AGN": 7.8}
    fixed |= {"alignment": 0.0, "calibration": 0.0, "source_shift": 0.0}
    model = SpectraModel(power, likelihood, fixed=fixed, bounds={"ln10As": (2.9, 3.2)})
    trace = numpyro.handlers.trace(numpyro.handlers.seed(model, jax.random.key(0))).get_trace()
    latent = {name for name, site in trace.items() if site["type"] == "sample"} - {"spectra"}
    assert latent == {"omega_cdm", "ln10As"}
    assert 2.9 < trace["ln10As"]["value"] < 3.2


def test_priors_are_those_that_are_said(power, likelihood):
    def priors(**options):
        model = numpyro.handlers.seed(SpectraModel(power, likelihood, **options), jax.random.key(0))
        return {name: site["fn"] for name, site in numpyro.handlers.trace(model).get_trace().items() if "fn" in site}

    plain = priors()
    # Normal, and cut off so far out that it does not matter.
    expected = stats.norm(0.0222, 0.0005).logpdf(0.0229)
    assert float(plain["omega_b"].log_prob(0.0229)) == pytest.approx(expected, rel=1e-4)
    assert float(plain["n_s"].log_prob(0.98)) == pytest.approx(stats.norm(0.96, 0.02).logpdf(0.98), rel=1e-4)
    assert float(plain["h"].log_prob(0.7)) == pytest.approx(-np.log(0.22), rel=1e-5)
    one = np.ones(len(likelihood.survey.sources))
    assert float(plain["alignment"].log_prob(one)) == pytest.approx(np.sum(stats.norm.logpdf(one)), rel=1e-5)
    other = priors(bounds={"omega_b": (0.02, 0.025)}, priors={"alignment": dist.Uniform(-6.0, 6.0)})
    assert float(other["omega_b"].log_prob(0.021)) == pytest.approx(-np.log(0.005), rel=1e-5)
    assert float(other["alignment"].log_prob(one)) == pytest.approx(-len(one) * np.log(12), rel=1e-5)


def test_sigma_8_is_that_of_camb(x64):
    simulated = fiducial_power()
    # As printed by examples/cosmology/fiducial.py; CAMB's own sum is over coarser wavenumbers.
    assert float(sigma_r(simulated, simulated.cosmology)) == pytest.approx(0.81216, rel=3e-4)


def test_a_table_is_of_its_own_cosmology(survey):
    simulated = fiducial_power()
    other = simulated.cosmology._replace(h=0.7)
    with pytest.raises(ValueError, match=r"h=0\.7: the table is of 0\.67 alone"):
        simulated.nonlinear(other)
    with pytest.raises(ValueError, match="is traced"):
        jax.jit(simulated.linear)(simulated.cosmology)
    table = np.ones((5, 6))
    with pytest.raises(ValueError, match=r"linear has shape \(5, 6\): expected \(4, 6\)"):
        TabulatedPower(simulated.cosmology, np.arange(1, 7), np.arange(4), table, table)
    with pytest.raises(ValueError, match="z has shape"):
        TabulatedPower(simulated.cosmology, np.arange(1, 7), np.zeros(5), table, table)


def test_spectra_that_are_not_finite_are_named(survey, spectra, likelihood):
    wrong = spectra.shear.copy()
    wrong[2, 1] = np.nan
    edges = survey.ell_edges
    with pytest.raises(ValueError, match=f"spectra is nan in spectrum 2, the multipoles {edges[1]} to {edges[2] - 1}"):
        SpectraLikelihood(survey, wrong)
    with pytest.raises(ValueError, match="clustering is nan in spectrum 2"):
        SpectraLikelihood(survey, spectra._replace(clustering=wrong))
    with pytest.raises(ValueError, match="the data are nan in spectrum 2"):
        likelihood.check(data_vector(wrong))
    with pytest.raises(ValueError, match=r"the data have shape \(3, 4\): expected \(4, 3\)"):
        likelihood.check(wrong)
    np.testing.assert_array_equal(likelihood.check(data_vector(spectra.shear)), spectra.shear.T)


def test_a_covariance_that_is_not_positive_definite_is_named(survey, spectra, likelihood):
    covariance = likelihood.covariance.copy()
    covariance[3, 0] = covariance[3, 1]
    covariance[3, :, 0] = covariance[3, :, 1]
    with pytest.raises(ValueError, match=f"the multipoles {survey.ell_edges[3]} to .* is not positive definite"):
        SpectraLikelihood(survey, spectra.shear, covariance)
    with pytest.raises(ValueError, match="covariance has shape"):
        SpectraLikelihood(survey, spectra.shear, covariance[:2])
    # Two bins that are more alike than they can be.
    with pytest.raises(ValueError, match="is not positive definite"):
        SpectraLikelihood(survey, np.array([[1.0], [2.0], [1.0]]) * np.ones(4))
    with pytest.raises(ValueError, match=r"spectra has shape \(3, 3\): expected \(3, 4\)"):
        SpectraLikelihood(survey, np.ones((3, 3)))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"fixed": {"omega": 0.3}}, r"fixed=\['omega'\]: expected parameters of the model, omega_b"),
        ({"fixed": {"bias": 1.0}}, r"fixed=\['bias'\]"),
        ({"fixed": {"h": 0.9}}, "fixed h=0.9 is outside of 0.6 to 0.82"),
        ({"bounds": {"h": (0.5, 0.7)}}, r"bounds of h are \(0.5, 0.7\)"),
        ({"bounds": {"w0": (-1.1, -0.9)}}, "bounds of 'w0': expected some of omega_b"),
        ({"priors": {"omega": dist.Normal()}}, r"priors=\['omega'\]: expected parameters of the model, omega_b"),
        ({"priors": {"h": dist.Normal(0.7, 0.01)}}, "prior of h is from -inf to inf: expected one within 0.6 to 0.82"),
        ({"priors": {"h": 0.7}}, "prior of h is 0.7: expected a NumPyro distribution"),
        ({"priors": {"h": dist.Normal(jnp.zeros(2), 1.0).to_event(1)}}, "expected a NumPyro distribution of a number"),
    ],
)
def test_models_that_cannot_be_are_named(power, likelihood, options, message):
    with pytest.raises(ValueError, match=message):
        SpectraModel(power, likelihood, **options)


def test_data_sets_go_with_likelihoods(power, likelihood):
    with pytest.raises(ValueError, match="2 data sets: expected 1"):
        SpectraModel(power, likelihood)(None, None)
    with pytest.raises(ValueError, match="one at least"):
        SpectraModel(power, [])


def test_data_that_are_not_finite_are_named_by_the_model(power, survey, likelihood, spectra):
    wrong = np.array(data_vector(spectra.shear))
    wrong[1, 2] = np.nan
    model = numpyro.handlers.seed(SpectraModel(power, likelihood), jax.random.key(0))
    edges = survey.ell_edges
    with pytest.raises(
        ValueError, match=f"the data are nan in spectrum 2, the multipoles {edges[1]} to {edges[2] - 1}"
    ):
        model(wrong)


def test_sigma_8_is_of_today(power, fiducial):
    late = SimpleNamespace(k=power.k, z=power.z[1:], linear=power.linear)
    with pytest.raises(ValueError, match=r"power starts at z = 0\.1"):
        sigma_r(late, fiducial)


def test_theory_from_the_table_is_that_of_the_shear_alone(survey, spectra):
    simulated = fiducial_power()
    plain = Nuisance.none(survey)
    shear = jax.jit(lambda n: cosmic_shear_cls(simulated, simulated.cosmology, survey, n, survey.ell))(plain)
    np.testing.assert_allclose(shear, spectra.shear, rtol=1e-5)
