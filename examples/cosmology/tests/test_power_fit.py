"""Training of the emulated matter power and its accuracy: on spectra that the shipped emulator makes itself."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from armillary_cosmology.power import MatterPower
from armillary_cosmology.power import train as training_script
from armillary_cosmology.power._design import BOX, TRANSFER, sobol_design, wavenumbers
from armillary_cosmology.power._features import boost_features, linear_features, log_growth, log_known
from armillary_cosmology.power._fit import cosmologies, held_out_accuracy, split
from armillary_cosmology.power._matter_power import _emulated
from armillary_cosmology.power._training_set import TrainingSet, write_training_set

pytest.importorskip("scipy")
pytestmark = pytest.mark.usefixtures("quick_compilation")


@pytest.fixture(scope="module")
def emulated_set():
    """A training set of which the shipped emulator is the truth."""
    with jax.enable_x64(True):
        emulated, design = MatterPower.pretrained(), sobol_design(32, 2, 4, seed=5)
        k = wavenumbers()
        empty = np.zeros((32, 2, 4, len(k)))
        data = TrainingSet(*design, k, empty[:, 0], empty, np.zeros((32, 4)))

        @jax.jit
        def spectra(reference, wide, z):
            growth = log_growth(reference, z)
            linear = _emulated(emulated.linear_emulator, linear_features(reference, z))
            boosts = [
                _emulated(emulated.boost_emulator, boost_features(jax.tree.map(lambda x, j=j: x[j], wide), z, growth))
                for j in range(2)
            ]
            return linear + log_known(reference, k) + 2 * growth[:, None], jnp.stack(boosts)

        reference, wide = cosmologies(data)
        found = [
            spectra(*(type(c)(*(jnp.asarray(value[i]) for value in c)) for c in (reference, wide)), jnp.asarray(z))
            for i, z in enumerate(data.z)
        ]
        linear, boost = (np.stack([np.asarray(pair[i], np.float32) for pair in found]) for i in (0, 1))
        return data._replace(log_linear=linear, log_boost=boost)


def test_no_boltzmann_run_is_in_two_parts(emulated_set):
    parts = split(emulated_set, seed=1)
    rows = np.concatenate([part.models for part in parts])
    assert [len(part.models) for part in parts] == [23, 3, 6]
    assert len(np.unique(rows, axis=0)) == 32
    low, high = np.transpose([BOX[name] for name in TRANSFER])
    assert ((parts[2].models >= low) & (parts[2].models <= high)).all()
    for part in parts:
        row = np.flatnonzero((emulated_set.models == part.models[0]).all(axis=1))[0]
        np.testing.assert_array_equal(part.log_boost[0], emulated_set.log_boost[row])


def test_an_emulator_is_accurate_for_what_it_says_and_for_nothing_else(emulated_set, x64):
    test = split(emulated_set, seed=1)[2]
    emulated = MatterPower.pretrained()
    linear, nonlinear = held_out_accuracy(emulated, test)
    # What is left is the interpolation to wavenumbers in h/Mpc, of spectra in single precision.
    assert linear.errors.shape == (6, len(emulated.k))
    assert linear.errors.max() < 1e-4
    assert nonlinear.errors.max() < 1e-4
    wrong = test._replace(log_boost=test.log_boost + np.log(1.02).astype(np.float32))
    linear, nonlinear = held_out_accuracy(emulated, wrong)
    assert linear.errors.max() < 1e-4
    np.testing.assert_allclose(nonlinear.errors, 1 - 1 / 1.02, rtol=0.01)


def test_the_script_trains_what_can_be_loaded_and_writes_of_its_accuracy(emulated_set, tmp_path, capsys):
    pytest.importorskip("zarr")
    pytest.importorskip("matplotlib")
    rows = iter(range(32))

    def compute(model, variants, z):
        i = next(rows)
        return {
            "log_linear": emulated_set.log_linear[i],
            "log_boost": emulated_set.log_boost[i],
            "comoving_distance": z,
        }

    write_training_set(tmp_path / "data.zarr", sobol_design(32, 2, 4, seed=5), compute)
    out, sample = tmp_path / "trained", tmp_path / "sample.npz"
    arguments = ["--data", tmp_path / "data.zarr", "--out", out, "--held-out", sample]
    precision = jax.config.jax_enable_x64
    assert training_script.main([*map(str, arguments), "--linear-epochs", "40", "--boost-epochs", "10"]) == 0
    assert jax.config.jax_enable_x64 == precision
    report = (out / "accuracy.txt").read_text()
    assert "23 trained on, 3 to validate, 6 held out" in report
    assert report.strip() in capsys.readouterr().out
    table = np.genfromtxt(out / "accuracy.csv", delimiter=",", names=True)
    np.testing.assert_allclose(table["k_h_per_Mpc"], MatterPower.load(out).k, rtol=1e-3)
    # So little training leaves errors, but not those of no training at all.
    assert 1e-4 < np.median(table["linear_68"]) < 0.05
    assert {path.name for path in out.iterdir()} == {
        *("linear.npz", "boost.npz", "accuracy.txt", "accuracy.csv", "accuracy_linear.png", "accuracy_nonlinear.png")
    }
    with np.load(sample) as file:
        assert file["log_linear"].shape == (6, 4, 120)
