"""The numerical parts of the spectra, each against another way to the same."""

from __future__ import annotations

from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.interpolate import CubicSpline

from armillary_cosmology import (
    Nuisance,
    Survey,
    _limber,
    _spectral,
    _spline,
    cosmic_shear_cls,
    stage_iv,
    three_by_two_pt_cls,
)

pytestmark = pytest.mark.usefixtures("quick_compilation")


def test_integrals_are_those_of_closed_form(x64):
    at = np.linspace(-5, 0, 7)
    values = np.cos(_spectral.nodes(20, -5.0, 0.0))
    np.testing.assert_allclose(
        _spectral.integrated(jnp.asarray(values), at, -5.0, 0.0), np.sin(at) - np.sin(-5), atol=1e-13
    )
    twice = _spectral.integral(20, -5.0, 0.0, times=2) @ values
    expected = np.cos(5) - np.cos(at) + (at + 5) * np.sin(5)
    np.testing.assert_allclose(_spectral.basis(at, len(twice), -5.0, 0.0) @ twice, expected, atol=1e-12)


def test_the_basis_of_traced_points_is_that_of_known_ones(x64):
    at = np.linspace(0, 2, 9)
    traced = jax.jit(lambda z: _spectral.basis(z, 12, 0.0, 2.0))(at)
    np.testing.assert_allclose(traced, _spectral.basis(at, 12, 0.0, 2.0), atol=1e-14)


def test_splines_are_integrated_to_their_end():
    x = np.array([0.0, 0.3, 0.7, 1.0, 1.6, 2.0])
    start = np.array([0.0, 0.1, 0.3, 1.2, 2.0])
    y = np.random.default_rng(0).normal(size=len(x))
    expected = [CubicSpline(x, y).integrate(at, x[-1]) for at in start]
    np.testing.assert_allclose(_spline.integration(x, start) @ y, expected, atol=1e-13)


def test_lagrange_is_exact_for_polynomials_of_degree_five():
    taps = np.arange(-2, 4)
    for t in (0.0, 0.3, 1.0):
        for degree in range(6):
            assert sum(
                weight * float(tap) ** degree for weight, tap in zip(_limber.lagrange(t), taps, strict=True)
            ) == (pytest.approx(t**degree, abs=1e-12))


def test_narrow_bins_have_more_redshifts_in_the_integral():
    z = np.arange(1, 401) * 0.0075
    edges = stage_iv(3).ell_edges

    def survey(width):
        bins = np.exp(-0.5 * ((z - np.array([[0.5], [1.2]])) / width) ** 2)
        return Survey(z, bins, np.full(2, 5.0), 0.26, 0.36, edges, bins, np.full(2, 5.0))

    wide, narrow = survey(0.1), survey(0.02)
    found = _limber.quadrature(narrow)
    assert len(found.z) > len(_limber.quadrature(wide).z)
    # Of a normal the integral of the square is 1 / (2 sqrt(pi) width).
    squares = (narrow.sources @ found.values.T) ** 2 @ found.weights
    np.testing.assert_allclose(squares, 1 / (2 * np.sqrt(np.pi) * 0.02), rtol=2e-3)


def test_wavenumbers_of_unequal_steps_give_the_same(power, fiducial, x64):
    survey = stage_iv(2)
    k = np.exp(np.linspace(0, 1, 300) ** 1.2 * np.log(5e5)) * 1e-4
    uneven = SimpleNamespace(
        k=k, z=power.z, nonlinear=lambda cosmology: power.table(cosmology, jnp.asarray(power.z)[:, None], k, jnp)
    )
    ell, nuisance = np.array([40.0, 300.0, 2000.0]), Nuisance.none(survey)
    one, other = (
        jax.jit(lambda n, of=of: cosmic_shear_cls(of, fiducial, survey, n, ell))(nuisance) for of in (power, uneven)
    )
    np.testing.assert_allclose(other, one, rtol=1e-4)


def test_one_multipole_is_that_of_many(power, fiducial, x64):
    survey = stage_iv(2, lenses=True)
    nuisance = Nuisance.none(survey)
    many = three_by_two_pt_cls(power, fiducial, survey, nuisance, np.array([30.0, 250.0, 3000.0]))
    for wanted in (30.0, 250.0, 3000.0):
        alone = three_by_two_pt_cls(power, fiducial, survey, nuisance, np.array([wanted]))
        at = [30.0, 250.0, 3000.0].index(wanted)
        for kind, kinds in zip(alone, many, strict=True):
            np.testing.assert_allclose(kind[..., 0], kinds[..., at], rtol=2e-5, atol=1e-6 * np.max(np.abs(kinds)))


def test_a_universe_whose_scales_are_off_the_table_gives_nan_and_no_number(power, fiducial):
    survey = stage_iv(2)
    # Distances of millions of Mpc, as no dark energy that is known makes them.
    odd = fiducial._replace(w0=-9.0, wa=60.0)
    spectra = cosmic_shear_cls(power, odd, survey, Nuisance.none(survey), np.array([100.0]))
    sane = cosmic_shear_cls(power, fiducial, survey, Nuisance.none(survey), np.array([100.0]))
    assert np.all(np.isfinite(sane))
    assert np.all(np.isnan(spectra))
