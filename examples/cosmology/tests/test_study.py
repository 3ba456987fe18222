"""The study of cosmic shear: its simulated data, its contours and its registration."""

from __future__ import annotations

import base64
import importlib.util
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import xarray as xr
from scipy import stats

from armillary.core import Target, registry
from armillary_cosmology import shear_models, stage_iv
from armillary_cosmology._contours import contour_levels, contour_sections, plot_contours, smoothed
from armillary_cosmology._study import demo, save_contours, simulated_data, simulated_likelihood

pytestmark = pytest.mark.usefixtures("quick_compilation")

SMALL = {"num_z": 60, "num_ell": 4}
HERE = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def simulated():
    return simulated_likelihood(stage_iv(2, **SMALL))


def result(*names, seed=0, shape=(2, 500)):
    """A result with draws of some parameters, each normal about 1."""
    rng = np.random.default_rng(seed)
    draws = {name: (("chain", "draw"), rng.normal(1, 0.1, shape)) for name in names}
    return xr.DataTree.from_dict({"posterior": xr.Dataset(draws)})


def test_data_are_drawn_from_the_likelihood_of_the_true_spectra(simulated):
    likelihood, spectra = simulated
    first, again, other = (simulated_data(likelihood, spectra, seed) for seed in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    assert not np.any(first == other)
    residuals = np.stack([simulated_data(likelihood, spectra, seed) for seed in range(40)]) - spectra.T
    whitened = np.linalg.solve(np.linalg.cholesky(likelihood.covariance), residuals[..., None])
    assert stats.kstest(np.ravel(whitened), stats.norm.cdf).pvalue > 1e-3


def test_the_true_spectra_have_alignments(simulated):
    # They lower the correlation of the two bins, whose lensing alone is 5e-10 and more.
    _, spectra = simulated
    assert np.all(spectra[1] ** 2 < spectra[0] * spectra[2])
    lenses, both = simulated_likelihood(stage_iv(2, lenses=True, **SMALL))
    assert lenses.galaxies
    np.testing.assert_allclose(both.shear, spectra, rtol=1e-5)


def test_both_models_of_the_same_data(power):
    models, data = shear_models(power, 2, **SMALL)
    assert {name: model.dark_energy for name, model in models.items()} == {"LCDM": False, "w0waCDM": True}
    assert models["LCDM"].likelihoods == models["w0waCDM"].likelihoods
    np.testing.assert_array_equal(data(), data(0))
    assert data(3).shape == (4, 3)


def test_levels_of_a_normal_density_are_those_of_its_ellipses():
    x = np.linspace(-6, 6, 601)
    density = np.exp(-(x[:, None] ** 2 + x**2) / 2)
    # A share p lies within the radius at which the density is 1 - p of that at the middle.
    np.testing.assert_allclose(contour_levels(density), [1 - 0.955, 1 - 0.683], rtol=2e-3)


def test_smoothing_keeps_the_mean_and_widens_by_silvermans_width():
    cov = np.array([[4.0, 0.9], [0.9, 0.25]])
    draws = np.random.default_rng(0).multivariate_normal([3.0, -1.0], cov, 4000)
    x, y, density = smoothed(*draws.T)
    density = density / density.sum()
    mean = np.array([(density * x).sum(), (density * y[:, None]).sum()])
    step = np.array([x[1] - x[0], y[1] - y[0]])
    np.testing.assert_allclose(mean, draws.mean(axis=0), atol=0.1 * step.min())
    second = np.array(
        [
            [(density * (x - mean[0]) ** 2).sum(), (density * (x - mean[0]) * (y[:, None] - mean[1])).sum()],
            [0.0, (density * (y[:, None] - mean[1]) ** 2).sum()],
        ]
    )
    second[1, 0] = second[0, 1]
    found = np.cov(draws.T)
    wider = found * (1 + 4000 ** (-1 / 3)) + np.diag(step**2 / 12)
    np.testing.assert_allclose(second, wider, rtol=0.01)
    # The outlines hold the shares of draws that they say, but for the smoothing, by which they are 3 % too wide.
    at = density[np.searchsorted(y[:-1] + step[1] / 2, draws[:, 1]), np.searchsorted(x[:-1] + step[0] / 2, draws[:, 0])]
    for level, share in zip(contour_levels(density), (0.955, 0.683), strict=True):
        assert share - 0.01 < np.mean(at > level) < share + 0.035


def test_a_section_only_of_the_planes_whose_parameters_are_there():
    pytest.importorskip("matplotlib")
    assert list(contour_sections(result("Omega_m", "w0"))) == []
    assert list(contour_sections(xr.DataTree())) == []
    vectors = xr.Dataset({name: (("chain", "draw", "n"), np.ones((1, 9, 2))) for name in ("w0", "wa")})
    assert list(contour_sections(xr.DataTree.from_dict({"posterior": vectors}))) == []
    for names, planes in (
        (("Omega_m", "S_8"), ["Omega_m and S_8"]),
        (("Omega_m", "S_8", "w0", "wa"), ["Omega_m and S_8", "w0 and wa"]),
    ):
        (section,) = contour_sections(result(*names))
        assert section.title == "Cosmology"
        images = re.findall(r'<img alt="([^"]*)" src="data:image/png;base64,([^"]*)">', section.html)
        assert [alt for alt, _ in images] == [f"Contours of {plane}" for plane in planes]
        for _, picture in images:
            assert base64.b64decode(picture, validate=True).startswith(b"\x89PNG")
        # Nothing but the figures and the line below them.
        left = re.sub(r"<img [^>]*>\s*", "", section.html)
        assert left == "<p>Solid 68 %, dashed 95 % of the posterior.</p>"


def test_contours_of_several_models_leave_out_those_without_the_parameters(tmp_path):
    plt = pytest.importorskip("matplotlib.pyplot")
    before = plt.get_fignums()
    results = {"LCDM": result("Omega_m", "S_8"), "w0waCDM": result("Omega_m", "S_8", "w0", "wa", seed=1)}
    ax = plot_contours(results, ("w0", "wa"))
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["w0waCDM"]
    assert [line.get_color() for line in ax.get_lines()] == ["C1"]
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("$w_0$", "$w_a$")
    assert plot_contours(results, ("Omega_m", "S_8"), ax) is ax
    plt.close(ax.figure)
    with pytest.raises(ValueError, match=r"plane=\('w0', 'wa'\): none of LCDM has draws of both"):
        plot_contours({"LCDM": results["LCDM"]}, ("w0", "wa"))
    save_contours(results, tmp_path / "contours.png")
    assert (tmp_path / "contours.png").read_bytes().startswith(b"\x89PNG")
    assert plt.get_fignums() == before


def test_the_plugin_offers_the_demo_and_the_section_and_imports_no_jax():
    assert registry.find("demo", "shear").load() is demo
    pytest.importorskip("matplotlib")
    assert "Cosmology" in [section.title for section in registry.report_sections(result("Omega_m", "S_8"))]
    code = "import sys, armillary_cosmology_plugin; assert 'jax' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_the_demo_needs_an_evidence_before_it_begins(tmp_path, monkeypatch):
    def nothing(kind, name):
        raise LookupError(f"{kind} {name}")

    monkeypatch.setattr(registry, "find", nothing)
    with pytest.raises(LookupError, match="evidence_estimator flow"):
        demo(tmp_path, console=None)


def test_the_demo_runs_both_models_of_the_same_data_and_writes_contours(tmp_path, monkeypatch):
    """Without the chains, which take minutes."""
    pytest.importorskip("matplotlib")
    ran = []

    def infer(model, data, **options):
        ran.append((model.__name__, data.shape, options["evidence"], options["num_chains"]))
        return result("Omega_m", "S_8", *(("w0", "wa") if model.dark_energy else ()), seed=len(ran))

    monkeypatch.setattr("armillary.core.infer", infer)
    results = demo(tmp_path, console=SimpleNamespace(print=lambda *args, **kwargs: None))
    assert ran == [("LCDM", (15, 15), "flow", 4), ("w0waCDM", (15, 15), "flow", 4)]
    assert list(results) == ["LCDM", "w0waCDM"]
    assert (tmp_path / "contours.png").exists()


def test_the_data_of_the_run_are_those_of_its_script():
    with np.load(HERE / "shear.npz") as stored:
        spectra = stored["spectra"]
    assert spectra.shape == (30, 55)
    likelihood, exact = simulated_likelihood(stage_iv(10))
    # To a thousandth of the noise: the last digits of the spectra are the machine's.
    scale = np.sqrt(np.diagonal(likelihood.covariance, axis1=1, axis2=2))
    assert np.max(np.abs(spectra - simulated_data(likelihood, exact)) / scale) < 1e-3
    assert not jax.config.jax_enable_x64


@pytest.mark.slow
def test_the_run_of_three_surveys_has_its_models_and_data():
    spec = importlib.util.spec_from_file_location("three_surveys", HERE / "three_surveys.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    with np.load(HERE / "three_surveys.npz") as stored:
        spectra = dict(stored)
    for name, drawn in module.data().items():
        (likelihood,) = (one for one, of in zip(module.likelihoods, module.SURVEYS, strict=True) if of == name)
        scale = np.sqrt(np.diagonal(likelihood.covariance, axis1=1, axis2=2))
        assert np.max(np.abs(spectra[name] - drawn) / scale) < 1e-2
    for model, dim in ((module.lcdm, 156), (module.w0wacdm, 158)):
        target = Target.from_numpyro(model, **spectra)
        assert target.dim == dim
        value, slope = jax.jit(jax.value_and_grad(target.log_density))(target.unravel(jnp.zeros(dim)))
        assert np.isfinite(value)
        assert all(np.all(np.isfinite(leaf)) for leaf in jax.tree.leaves(slope))
