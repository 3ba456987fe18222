"""The emulated matter power: against stored spectra of CAMB, its box, derivatives, growth, and the training data."""

from __future__ import annotations

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from armillary_cosmology import Cosmology, growth_factor
from armillary_cosmology.power import MatterPower
from armillary_cosmology.power._design import PIVOT, TRANSFER, VARIANT, Z_MAX, sobol_design, wavenumbers
from armillary_cosmology.power._eisenstein_hu import log_transfer
from armillary_cosmology.power._matter_power import _shifted
from armillary_cosmology.power._training_set import read_training_set, write_training_set

FIDUCIAL = Cosmology(omega_b=0.0224, omega_cdm=0.12, h=0.67, n_s=0.965, ln10As=3.05)


@pytest.fixture(scope="module")
def emulated():
    return MatterPower.pretrained(z=np.array([0.0, 0.5, 3.0]))


@pytest.fixture(scope="module")
def nonlinear(emulated):
    return jax.jit(lambda cosmology: emulated.nonlinear(cosmology))


@pytest.fixture(scope="module")
def held_out():
    """Spectra of CAMB at models that no training saw: linear ones, and boosts, at wavenumbers in 1/Mpc."""
    with np.load(Path(__file__).parent / "camb_spectra.npz") as file:
        return dict(file)


def test_against_camb(emulated, held_out, x64):
    at_any = jax.jit(emulated.log_spectrum.__func__, static_argnums=3)
    errors = {False: [], True: []}
    for i, model in enumerate(held_out["models"]):
        named = dict(zip(TRANSFER, model, strict=True))
        z, log_k = held_out["z"][i], np.log(held_out["k"] / named["h"])
        for j, variant in enumerate(held_out["variants"][i]):
            named.update(zip(VARIANT, variant, strict=True))
            named["wa"] = named["w0_plus_wa"] - named["w0"]
            cosmology = Cosmology(*(jnp.asarray(named[name]) for name in Cosmology._fields))
            primordial = named["ln10As"] - 3.0 + (named["n_s"] - 0.96) * np.log(held_out["k"] / PIVOT)
            truth = held_out["log_linear"][i] + primordial + 3 * np.log(named["h"])
            for nonlinear in (False, True):
                found = np.asarray(at_any(emulated, cosmology, jnp.asarray(z), nonlinear))
                inside = (log_k > np.log(1e-3)) & (log_k < np.log(5))
                found = np.stack([_cubic(np.log(emulated.k), row, log_k[inside]) for row in found])
                expected = truth + nonlinear * held_out["log_boost"][i, j]
                errors[nonlinear].append(np.abs(np.expm1(found - expected[:, inside])).max())
    # The bars for 99 % of spectra; of these 24 none is beyond.
    assert max(errors[False]) < 0.003
    assert max(errors[True]) < 0.01


def _cubic(x, y, at):
    """Lagrange's interpolation on the four points around, of equal steps: written apart from what is tested."""
    i = np.clip(np.searchsorted(x, at) - 2, 0, len(x) - 4)
    t = (at - x[i]) / (x[1] - x[0])
    basis = [-(t - 1) * (t - 2) * (t - 3) / 6, t * (t - 2) * (t - 3) / 2, -t * (t - 1) * (t - 3) / 2]
    basis.append(t * (t - 1) * (t - 2) / 6)
    return sum(weight * y[i + j] for j, weight in enumerate(basis))


def test_primordial_amplitude_and_tilt_are_exact(emulated, x64):
    base = emulated.linear(FIDUCIAL)
    other = emulated.linear(FIDUCIAL._replace(ln10As=3.3, n_s=0.9))
    k = emulated.k * FIDUCIAL.h
    expected = 0.25 + (0.9 - 0.965) * np.log(k / PIVOT)
    np.testing.assert_allclose(jnp.log(other / base), np.broadcast_to(expected, base.shape), atol=1e-12)


def test_growth_on_linear_scales(emulated, x64):
    # Neutrinos of 0.06 eV slow the growth of small scales by less than half a percent to z = 3.
    linear = emulated.linear(FIDUCIAL)
    growth = growth_factor(FIDUCIAL, emulated.z)
    middle = np.searchsorted(emulated.k, [0.02, 0.1])
    np.testing.assert_allclose((linear / linear[0])[:, middle], np.stack([growth**2] * 2, axis=1), rtol=0.01)


def test_boost_is_one_on_large_scales_and_feedback_lowers_small_ones(emulated):
    boost = emulated.nonlinear(FIDUCIAL) / emulated.linear(FIDUCIAL)
    assert np.abs(boost[:, emulated.k < 3e-3] - 1).max() < 0.01
    assert (boost[0, emulated.k > 1] > 2).all()
    strong = emulated.nonlinear(FIDUCIAL._replace(logT_AGN=8.2))
    weak = emulated.nonlinear(FIDUCIAL._replace(logT_AGN=7.5))
    assert 0.6 < (strong / weak)[0, np.searchsorted(emulated.k, 3.0)] < 0.9


def test_batch_jit_and_precision(emulated, nonlinear, x64):
    ones = jnp.ones(2)
    batch = Cosmology(*(jnp.asarray(value) * ones for value in FIDUCIAL))._replace(h=jnp.array([0.65, 0.72]))
    found = emulated.nonlinear(batch)
    assert found.shape == (2, 3, len(emulated.k))
    assert found.dtype == jnp.float64
    for i, h in enumerate((0.65, 0.72)):
        np.testing.assert_allclose(found[i], emulated.nonlinear(FIDUCIAL._replace(h=h)), rtol=1e-11)
    np.testing.assert_allclose(nonlinear(batch), found, rtol=1e-11)
    single = emulated.nonlinear(Cosmology(*(jnp.asarray(value, jnp.float32) for value in batch)))
    assert single.dtype == jnp.float32
    np.testing.assert_allclose(single, found, rtol=1e-4)


def test_gradient_of_every_parameter(emulated, x64):
    at = np.searchsorted(emulated.k, [0.01, 0.2, 4.0])

    def some(*parameters):
        return jnp.log(emulated.nonlinear(Cosmology(*parameters))[:, at])

    point = [jnp.asarray(value, dtype=float) for value in FIDUCIAL]
    derivatives = jax.jacrev(some, argnums=tuple(range(8)))(*point)
    for i, (name, derivative) in enumerate(zip(Cosmology._fields, derivatives, strict=True)):
        step = 1e-5 * max(abs(float(point[i])), 0.1)
        up, down = (some(*(p + sign * step * (i == j) for j, p in enumerate(point))) for sign in (1, -1))
        np.testing.assert_allclose(derivative, (up - down) / (2 * step), rtol=1e-4, atol=1e-5, err_msg=name)
        assert np.abs(derivative).max() > 1e-3, name


def test_outside_of_the_box(emulated, nonlinear):
    with pytest.raises(ValueError, match=r"w0_plus_wa=0.5 is outside of the box: -2.3 to -0.4"):
        emulated.linear(FIDUCIAL._replace(w0=-0.75, wa=1.25))
    outside = Cosmology(*map(jnp.float32, FIDUCIAL._replace(n_s=1.2)))
    assert np.isnan(nonlinear(outside)).all()
    assert set(emulated.box.names) == {*Cosmology._fields, "w0_plus_wa"} - {"wa"}


@pytest.mark.parametrize("z", [[0.0, 3.5], [1.0, 0.5], [-0.1, 1.0]])
def test_redshifts_refused(z):
    with pytest.raises(ValueError, match="expected increasing redshifts from 0 to 3"):
        MatterPower.pretrained(z=z)


def test_shift_from_mpc_to_h(x64):
    # An oscillation in ln k, faster than any of a spectrum, at every h; and the limits of the grid.
    k = wavenumbers()
    for h in (0.6, 0.67, 0.82):
        found = _shifted(jnp.sin(12 * np.log(k))[None], jnp.log(h))[0]
        expected = np.sin(12 * np.log(1e-4 * np.exp(0.025 * np.arange(len(found))) * h))
        np.testing.assert_allclose(found, expected, atol=1e-5)


def test_eisenstein_hu(x64):
    # Their zero-baryon limit: T = L / (L + C q^2), L = ln(2e + 1.8 q), C = 14.2 + 731 / (1 + 62.5 q), eq. 28 and 29,
    # which is as good as their fit for some baryons is, a few percent, where there are almost none.
    k, omega_m = np.geomspace(1e-4, 5, 40), 0.14
    q = k * (2.7255 / 2.7) ** 2 / omega_m
    log = np.log(2 * np.e + 1.8 * q)
    expected = log / (log + (14.2 + 731 / (1 + 62.5 * q)) * q**2)
    np.testing.assert_allclose(np.exp(log_transfer(1e-4, omega_m, k)), expected, rtol=0.04)


def test_pretrained_files_are_small():
    directory = Path(__file__).parents[1] / "src" / "armillary_cosmology" / "power" / "pretrained"
    if not directory.exists():
        pytest.skip("the sources are not beside the tests")
    assert sum(path.stat().st_size for path in directory.iterdir()) < 2_000_000


def test_design_covers_its_box():
    pytest.importorskip("scipy")
    design = sobol_design(64, 4, 8, seed=3)
    lower, upper = np.array(list(TRANSFER.values())).T
    unit = (design.models - lower) / (upper - lower)
    # A Sobol design has one of 64 points in each of 64 equal parts of every axis.
    assert (np.sort(np.floor(64 * unit), axis=0) == np.arange(64)[:, None]).all()
    assert design.variants.shape == (64, 4, 3)
    assert (np.diff(design.z, axis=1) > 0).all()
    assert (design.z[:, 0] == 0).all()
    assert (design.z[:, -1] == Z_MAX).all()
    first = sobol_design(32, 4, 8, seed=3)
    np.testing.assert_array_equal(first.models, design.models[:32])


def fake_spectra(model, variants, z):
    """Spectra in closed form, in the place of CAMB's."""
    log_k = np.log(wavenumbers())
    linear = model[0] * log_k - np.log1p(z)[:, None]
    return {
        "log_linear": linear,
        "log_boost": variants[:, :1, None] + 0 * linear,
        "comoving_distance": model[2] * z,
    }


def test_generation_is_resumed_after_a_kill(tmp_path):
    pytest.importorskip("zarr")
    pytest.importorskip("scipy")
    design = sobol_design(6, 2, 3, seed=0)
    path, seen = tmp_path / "training.zarr", []

    def killed(model, variants, z):
        if len(seen) == 3:
            raise KeyboardInterrupt
        seen.append(model[0])
        return fake_spectra(model, variants, z)

    with pytest.raises(KeyboardInterrupt):
        write_training_set(path, design, killed, attributes={"camb": "0"})
    part = read_training_set(path)
    np.testing.assert_array_equal(part.models, design.models[:3])
    reports = []

    def rest(model, variants, z):
        assert model[0] not in seen
        if model[0] == design.models[4, 0]:
            raise RuntimeError("no such universe")
        return fake_spectra(model, variants, z)

    failed = write_training_set(
        path, design, rest, attributes={"camb": "0"}, report=lambda done, total: reports.append((done, total))
    )
    assert (failed, reports) == (1, [(4, 6), (5, 6), (6, 6)])
    whole = read_training_set(path)
    keep = [0, 1, 2, 3, 5]
    np.testing.assert_array_equal(whole.models, design.models[keep])
    for row, i in enumerate(keep):
        expected = fake_spectra(design.models[i], design.variants[i], design.z[i])
        for name, values in expected.items():
            np.testing.assert_allclose(getattr(whole, name)[row], values, rtol=1e-6, err_msg=name)
    with pytest.raises(ValueError, match="was begun with another camb"):
        write_training_set(path, design, rest, attributes={"camb": "1"})
    with pytest.raises(ValueError, match="was begun with another models, variants, z"):
        write_training_set(path, sobol_design(6, 2, 3, seed=1), rest)


def test_generation_stops_at_a_first_model_that_fails(tmp_path):
    pytest.importorskip("zarr")
    pytest.importorskip("scipy")

    def broken(model, variants, z):
        raise RuntimeError("CAMB is not there")

    with pytest.raises(RuntimeError, match="CAMB is not there"):
        write_training_set(tmp_path / "a.zarr", sobol_design(2, 2, 3, seed=0), broken)
    with pytest.raises(ValueError, match="has no finished model"):
        read_training_set(tmp_path / "a.zarr")


def test_camb_variants_are_those_of_a_run_of_their_own():
    camb = pytest.importorskip("camb")
    CubicSpline = pytest.importorskip("scipy.interpolate").CubicSpline
    from armillary_cosmology.power._camb import camb_spectra

    model = np.array([0.0224, 0.12, 0.67, -0.9, -1.1])
    variants, z = np.array([[0.9, 3.4, 7.5], [1.0, 2.9, 8.1]]), np.array([0.0, 1.0])
    settings = {"k_max": 10.0, "accuracy": 0.5}
    together = camb_spectra(model, variants, z, **settings)
    alone = camb_spectra(model, variants[1:], z, **settings)
    np.testing.assert_allclose(together["log_boost"][1], alone["log_boost"][0], rtol=0, atol=1e-12)
    assert together["log_linear"].shape == (2, len(wavenumbers()))
    # The amplitude and the tilt of the linear spectrum are known exactly.
    p = camb.CAMBparams()
    p.set_cosmology(H0=67, ombh2=0.0224, omch2=0.12, mnu=0.06, tau=0.06)
    p.set_dark_energy(w=-0.9, wa=-0.2, dark_energy_model="ppf")
    p.InitPower.set_params(As=1e-10 * np.exp(3.4), ns=0.9)
    p.WantCls = p.Want_CMB = False  # which CAMB integrates otherwise
    p.set_matter_power(redshifts=[1.0, 0.0], kmax=10.0, silent=True)
    p.set_accuracy(AccuracyBoost=0.5)
    k, _, spectrum = camb.get_results(p).get_linear_matter_power_spectrum(hubble_units=False, k_hunit=False)
    expected = together["log_linear"] + 0.4 + (0.9 - 0.96) * np.log(wavenumbers() / PIVOT)
    # Both on the same wavenumbers: between those of CAMB a spline is off by 1e-4 where the oscillations are.
    found = CubicSpline(np.log(k), np.log(spectrum), axis=-1)(np.log(wavenumbers()))
    np.testing.assert_allclose(expected, found, atol=1e-6)
