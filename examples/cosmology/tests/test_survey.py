from __future__ import annotations

import itertools

import numpy as np
import pytest

from armillary_cosmology import Survey, equal_number_edges, redshift_bins, smail, stage_iv

Z = np.arange(1, 201) * 0.015


def test_bins_of_equal_numbers_share_out_the_galaxies():
    survey = stage_iv(4)
    edges = equal_number_edges(Z, smail(Z), 4)
    rows = redshift_bins(Z, smail(Z), edges)
    np.testing.assert_allclose(survey.sources, rows)
    np.testing.assert_allclose(rows.sum(axis=1) * 0.015, 1.0)
    # By drawing galaxies: their redshifts by rejection, their photometric redshifts by the scatter.
    rng = np.random.default_rng(1)
    z = rng.uniform(0, 3, 400_000)
    z = z[rng.random(len(z)) < smail(z) / smail(Z).max()]
    photometric = z + 0.05 * (1 + z) * rng.normal(size=len(z))
    counts, _ = np.histogram(photometric, edges)
    np.testing.assert_allclose(counts / len(z), 0.25, atol=0.01)
    means = [z[(photometric > low) & (photometric < high)].mean() for low, high in itertools.pairwise(edges)]
    np.testing.assert_allclose(rows @ Z * 0.015, means, rtol=0.01)


def test_modes_and_multipoles_of_bins_are_sums():
    survey = stage_iv(2, ell_min=30, ell_max=300, num_ell=4)
    for b, (low, high) in enumerate(zip(survey.ell_edges[:-1], survey.ell_edges[1:], strict=True)):
        ell = np.arange(low, high)
        assert survey.num_modes[b] == pytest.approx(0.36 * np.sum(2 * ell + 1))
        assert survey.ell[b] == pytest.approx(np.sum(ell * (2 * ell + 1)) / np.sum(2 * ell + 1))


def test_noise_is_of_a_steradian():
    survey = stage_iv(10, lenses=True)
    per_steradian = 3 * (180 * 60 / np.pi) ** 2
    np.testing.assert_allclose(survey.shape_noise, 0.26**2 / per_steradian)
    np.testing.assert_allclose(survey.shot_noise, 1 / per_steradian)
    with pytest.raises(ValueError, match="no lenses"):
        _ = stage_iv(2).shot_noise


@pytest.mark.parametrize(
    ("edges", "message"),
    [
        ([0.2, 0.9, 0.7], "bin 1 goes from 0.9 to 0.7 and would overlap bin 0"),
        ([0.2, 0.2, 0.7], "bin 0 goes from 0.2 to 0.2"),
        ([0.2], "at least two finite redshifts"),
        ([0.2, np.nan], "at least two finite redshifts"),
        ([0.2, 1.0, 9.0, 9.5], "edges: bin 2 is empty: no galaxies between z = 0.015 and 3"),
    ],
)
def test_edges_that_cannot_be_are_named(edges, message):
    with pytest.raises(ValueError, match=message):
        redshift_bins(Z, smail(Z), edges)


GOOD = {
    "z": Z,
    "sources": np.stack([smail(Z), smail(Z, 0.5)]),
    "n_eff": [3.0, 3.0],
    "sigma_e": 0.26,
    "f_sky": 0.3,
    "ell_edges": [30, 60, 90],
}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"z": Z + 0.1}, "equal steps that start one step above 0"),
        ({"z": Z[:4]}, "at least 8 positive"),
        ({"sources": smail(Z)}, r"sources has shape \(200,\)"),
        ({"sources": np.stack([smail(Z), 0 * Z])}, "sources: bin 1 is empty"),
        ({"sources": np.stack([smail(Z), -smail(Z)])}, "sources: bin 1 has galaxies of negative"),
        ({"n_eff": [3.0]}, "n_eff=.*expected 2 positive finite numbers"),
        ({"sigma_e": 0.0}, "sigma_e=0.0"),
        ({"f_sky": 1.5}, "f_sky=1.5"),
        ({"ell_edges": [30, 30, 90]}, "expected numbers that increase, from 2 on"),
        ({"ell_edges": [30.5, 60]}, "expected two whole numbers at least"),
        ({"lenses": smail(Z)[None]}, "lenses and n_lens go together"),
    ],
)
def test_surveys_that_cannot_be_are_named(change, message):
    Survey(**GOOD)
    with pytest.raises(ValueError, match=message):
        Survey(**(GOOD | change))


def test_the_number_of_bins_is_checked():
    with pytest.raises(ValueError, match="num_bins=0"):
        stage_iv(0)
    with pytest.raises(ValueError, match="scatter=0"):
        redshift_bins(Z, smail(Z), [0.2, 0.8], scatter=0)
