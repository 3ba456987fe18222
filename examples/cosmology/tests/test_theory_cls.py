"""Angular power spectra against pyccl, with the same matter power in both.

``pyccl_spectra.npz`` holds what `pyccl_spectra` gives, so that the comparison runs where pyccl is not installed:
``python test_theory_cls.py`` writes it anew.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from types import SimpleNamespace

import jax
import jax.flatten_util
import jax.numpy as jnp
import numpy as np
import pytest

from armillary_cosmology import Cosmology, Nuisance, cosmic_shear_cls, pairs, stage_iv, three_by_two_pt_cls

pytestmark = pytest.mark.usefixtures("quick_compilation")

REFERENCE = Path(__file__).with_name("pyccl_spectra.npz")
ELL = np.array([30.0, 60, 150, 400, 1000, 3000])
COSMOLOGY = Cosmology(0.0224, 0.12, 0.67, 0.965, 3.05, -0.9, -0.3)
BINS = np.arange(10)
NUISANCE = Nuisance(
    alignment=np.where(BINS % 3 == 1, -0.7, 0.5 + 0.1 * BINS),
    calibration=0.02 * np.sin(1.0 + BINS),
    source_shift=0.01 * np.cos(BINS),
    bias=1 + 0.1 * BINS,
    lens_shift=0.01 * np.sin(2.0 * BINS),
)
SURVEY = stage_iv(10, lenses=True)


def pyccl_spectra(power):
    """The spectra of pyccl 3.3.6, its tracers sampled finely; the pair (i, j) of shear and of clustering at [i, j]."""
    ccl = pytest.importorskip("pyccl")
    h = COSMOLOGY.h
    universe = ccl.Cosmology(
        Omega_c=COSMOLOGY.omega_cdm / h**2,
        Omega_b=COSMOLOGY.omega_b / h**2,
        h=h,
        n_s=COSMOLOGY.n_s,
        A_s=2.1e-9,
        m_nu=0.06,
        mass_split="single",
        Neff=3.044,
        T_ncdm=(4 / 11) ** (1 / 3) * (3.044 / 3) ** 0.25,
        w0=COSMOLOGY.w0,
        wa=COSMOLOGY.wa,
        transfer_function="boltzmann_camb",
    )
    k, a = np.geomspace(1e-4, 50, 500), np.linspace(1 / 4.3, 1, 60)
    matter = power.table(COSMOLOGY, (1 / a - 1)[:, None], k) / h**3
    matter = ccl.Pk2D(a_arr=a, lk_arr=np.log(k * h), pk_arr=np.log(matter), is_logp=True)
    fine = np.linspace(0.0005, 3.0, 4000)

    def distribution(row, shift):
        from scipy.interpolate import CubicSpline

        # From z = 0 on, where there are none.
        spline = CubicSpline(np.append(0, SURVEY.z), np.append(0, row), extrapolate=False)
        return fine, np.nan_to_num(np.maximum(spline(fine - shift), 0))

    n = NUISANCE
    shear = [
        ccl.WeakLensingTracer(
            universe,
            dndz=distribution(SURVEY.sources[i], n.source_shift[i]),
            ia_bias=(fine, np.full_like(fine, n.alignment[i])),
            n_samples=1024,
        )
        for i in BINS
    ]
    galaxies = [
        ccl.NumberCountsTracer(
            universe,
            has_rsd=False,
            dndz=distribution(SURVEY.lenses[i], n.lens_shift[i]),
            bias=(fine, np.full_like(fine, n.bias[i])),
        )
        for i in BINS
    ]

    def all_pairs(first, second):
        return np.array([[ccl.angular_cl(universe, x, y, ELL, p_of_k_a=matter) for y in second] for x in first])

    m = 1 + n.calibration
    return {
        "shear": all_pairs(shear, shear) * m[:, None, None] * m[None, :, None],
        "galaxy_shear": all_pairs(galaxies, shear) * m[None, :, None],
        "clustering": all_pairs(galaxies, galaxies),
    }


@pytest.fixture(scope="module")
def found(power):
    """The spectra, and the function compiled: of parameters as a vector, for the tests of gradients and batches."""

    @jax.jit
    def spectra(cosmology, nuisance):
        return three_by_two_pt_cls(power, cosmology, SURVEY, nuisance, ELL)

    with jax.enable_x64(True):
        double = spectra(COSMOLOGY, NUISANCE)
    return SimpleNamespace(spectra=spectra, double=jax.tree.map(np.asarray, double))


@pytest.fixture(scope="module")
def reference():
    return dict(np.load(REFERENCE))


def test_shear_is_that_of_pyccl_in_all_55_spectra(found, reference):
    i, j = pairs(10)
    np.testing.assert_allclose(found.double.shear, reference["shear"][i, j], rtol=1e-3)


def test_galaxy_shear_and_clustering_are_those_of_pyccl(found, reference):
    # Where two bins do not overlap the spectrum is next to nothing, and what is left of it is their outermost wings:
    # the error is measured by the spectra of both bins with themselves.
    i, j = pairs(10)
    shear = np.einsum("iil->il", reference["shear"])
    clustering = np.einsum("iil->il", reference["clustering"])
    scale = np.sqrt(clustering[:, None] * shear[None])
    assert np.max(np.abs(found.double.galaxy_shear - reference["galaxy_shear"]) / scale) < 1e-4
    scale = np.sqrt(clustering[i] * clustering[j])
    assert np.max(np.abs(found.double.clustering - reference["clustering"][i, j]) / scale) < 5e-4
    neighbours = j - i <= 1
    same = reference["clustering"][i, j][neighbours]
    np.testing.assert_allclose(found.double.clustering[neighbours], same, rtol=1e-3)


@pytest.mark.slow
def test_the_spectra_kept_are_those_of_pyccl(power, reference):
    for name, now in pyccl_spectra(power).items():
        np.testing.assert_allclose(reference[name], now, rtol=1e-6, atol=1e-20)


def test_float32_stays_so_and_is_accurate(found):
    single = jax.tree.map(jnp.float32, (COSMOLOGY, NUISANCE))
    for one, double in zip(found.spectra(*single), found.double, strict=True):
        assert one.dtype == jnp.float32
        assert np.max(np.abs(one - double)) < 1e-5 * np.max(np.abs(double))
    np.testing.assert_allclose(found.spectra(*single).shear, found.double.shear, rtol=5e-5)
    with jax.enable_x64(True):
        assert {one.dtype for one in jax.eval_shape(found.spectra, *single)} == {jnp.dtype(jnp.float32)}


def test_cosmic_shear_of_a_batch_is_the_shear_of_each(found, power, x64):
    batch = COSMOLOGY._replace(h=jnp.array([0.6, 0.67, 0.7]))
    shear = jax.jit(lambda c, n: cosmic_shear_cls(power, c, SURVEY, n, ELL))(
        batch, NUISANCE._replace(bias=None, lens_shift=None)
    )
    assert shear.shape == (3, 55, len(ELL))
    np.testing.assert_allclose(shear[1], found.double.shear, rtol=1e-12)
    other = found.spectra(COSMOLOGY._replace(h=0.7), NUISANCE).shear
    np.testing.assert_allclose(shear[2], other, rtol=1e-12)


def test_the_gradient_is_that_of_differences(found, x64):
    flat, unravel = jax.flatten_util.ravel_pytree(jax.tree.map(jnp.asarray, (COSMOLOGY, NUISANCE)))

    @jax.jit
    @partial(jnp.vectorize, signature="(n)->()")
    def summary(vector):
        spectra = found.spectra(*unravel(vector))
        # Each spectrum counts by its own size, and those of bins that do not overlap not at all.
        return sum(jnp.sum(x / (1e-3 + jnp.abs(y))) for x, y in zip(spectra, scale, strict=True))

    scale = jax.tree.map(lambda x: 0.01 * x / np.max(np.abs(x)), found.double)
    slope = jax.jit(jax.grad(summary))(flat)
    step = 1e-5 * np.random.default_rng(0).normal(size=(3, 1, len(flat)))
    at = summary(flat + np.array([2, 1, -1, -2])[:, None] * step)
    difference = at @ np.array([-1, 8, -8, 1]) / 12
    np.testing.assert_allclose(step[:, 0] @ slope, difference, rtol=1e-6)


def test_without_alignments_shear_grows_with_redshift_and_calibration(power, fiducial):
    survey = stage_iv(3)
    ell = np.array([100.0, 1000.0])
    plain = Nuisance.none(survey)
    spectra = jax.jit(lambda nuisance: cosmic_shear_cls(power, fiducial, survey, nuisance, ell))
    shear = spectra(plain)
    first, second = pairs(3)
    auto = shear[first == second]
    assert np.all(np.diff(auto, axis=0) > 0)
    calibrated = spectra(plain._replace(calibration=jnp.array([0.1, 0.0, 0.0])))
    np.testing.assert_allclose(calibrated[:3] / shear[:3], [[1.21] * 2, [1.1] * 2, [1.1] * 2], rtol=1e-5)
    np.testing.assert_array_equal(calibrated[3:], shear[3:])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"ell": [[2.0]]}, "expected a vector of multipoles"),
        ({"ell": [1.0, 100.0]}, "from 2 on"),
        ({"nuisance": Nuisance(*np.zeros((3, 4)))}, r"nuisance.alignment has shape \(4,\): expected \(..., 3\)"),
        ({"survey": stage_iv(3, z_max=4.0)}, "the survey goes to z = 4 and power to z = 3"),
    ],
)
def test_bad_arguments_are_named(power, fiducial, change, message):
    survey = stage_iv(3)
    arguments = {"survey": survey, "nuisance": Nuisance.none(survey), "ell": ELL} | change
    with pytest.raises(ValueError, match=message):
        cosmic_shear_cls(power, fiducial, **arguments)


def test_redshifts_below_those_of_the_power_are_named(power, fiducial):
    survey = stage_iv(3)
    late = SimpleNamespace(k=power.k, z=power.z[1:], nonlinear=power.nonlinear)
    with pytest.raises(ValueError, match=r"the survey starts at z = 0\.015 and power at z = 0\.1"):
        cosmic_shear_cls(late, fiducial, survey, Nuisance.none(survey), ELL)


def test_galaxies_need_lenses(power, fiducial):
    survey = stage_iv(3)
    with pytest.raises(ValueError, match="the survey has no lenses"):
        three_by_two_pt_cls(power, fiducial, survey, Nuisance.none(survey), ELL)


if __name__ == "__main__":
    from conftest import AnalyticPower

    np.savez_compressed(REFERENCE, **pyccl_spectra(AnalyticPower()))
