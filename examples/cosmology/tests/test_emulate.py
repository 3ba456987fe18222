"""The emulator: a function with a closed form learned, the box, derivatives, files, training that is killed."""

from __future__ import annotations

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import optax
import pytest

from armillary_cosmology import emulate
from armillary_cosmology.emulate import Box, Emulator, accuracy, train
from armillary_cosmology.emulate import _training as training_module

X = np.linspace(1.0, 3.0, 12)


def power_law(parameters):
    """A power law with a bump: smooth in both parameters, positive, of four decades."""
    height, tilt = np.asarray(parameters["height"]), np.asarray(parameters["tilt"])
    return np.exp(height[:, None]) * X ** tilt[:, None] * (1 + 0.2 * np.sin(4 * X + tilt[:, None]))


def draw(n, seed):
    rng = np.random.default_rng(seed)
    return {"height": rng.uniform(-2, 3, n), "tilt": rng.uniform(-2, 1, n)}


def short(parameters, spectra, **changes):
    settings = {"num_components": 5, "hidden": (16,), "num_epochs": 6, "batch_size": 32, **changes}
    return train(jax.random.key(3), parameters, spectra, **settings)


@pytest.fixture(scope="module")
def trained():
    parameters = draw(1000, 0)
    box = Box(("height", "tilt"), (-2.0, -2.0), (3.0, 1.0))
    return train(
        jax.random.key(0),
        parameters,
        power_law(parameters),
        box=box,
        num_components=6,
        hidden=(32, 32),
        num_epochs=150,
        batch_size=25,
        learning_rate=1e-2,
    )


@pytest.fixture(scope="module")
def emulator(trained):
    return trained.emulator


def test_learns_a_closed_form(emulator):
    parameters = draw(400, 1)
    report = accuracy(emulator, parameters, power_law(parameters))
    # The spectra go over four decades; the 99th percentile of the largest error is 1.1 %.
    assert report.per_spectrum[2] < 0.02
    assert (np.diff(report.per_spectrum) >= 0).all()
    assert report.per_bin.shape == (4, len(X))
    assert report.table().count("\n") == 4


def test_accuracy_sees_an_error(emulator):
    parameters = draw(50, 2)
    spectra = power_law(parameters)
    spectra[:, 7] *= 1.1
    report = accuracy(emulator, parameters, spectra)
    np.testing.assert_allclose(report.per_bin[:, 7], 1 - 1 / 1.1, atol=0.01)
    assert report.per_spectrum[0] == pytest.approx(1 - 1 / 1.1, abs=0.01)


def test_accuracy_plot(emulator):
    pytest.importorskip("matplotlib").use("Agg")
    parameters = draw(20, 2)
    report = accuracy(emulator, parameters, power_law(parameters))
    axes = report.plot(X)
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["99.9 %", "99 %", "95 %", "68 %"]
    axes.figure.clear()


def test_without_log_and_components():
    parameters = draw(500, 4)
    values = np.cos(X + parameters["tilt"][:, None]) - 0.1 * parameters["height"][:, None]
    result = short(parameters, values, log=False, num_components=None, num_epochs=80, hidden=(24,), learning_rate=2e-2)
    other = draw(100, 5)
    truth = np.cos(X + other["tilt"][:, None]) - 0.1 * other["height"][:, None]
    found = result.emulator(np.stack([other["height"], other["tilt"]], axis=1).clip(*map(np.array, _bounds(result))))
    assert np.abs(found - truth).max() < 0.1


def _bounds(result):
    box = result.emulator.box
    return box.lower, box.upper


def test_jit_vmap_names_and_precision(emulator, x64):
    points = np.array([[0.0, 0.5], [1.0, -1.0]])
    batch = emulator(jnp.asarray(points))
    assert batch.dtype == jnp.float64
    np.testing.assert_allclose(eqx.filter_jit(emulator)(jnp.asarray(points)), batch, rtol=1e-12)
    np.testing.assert_allclose(jax.vmap(emulator)(jnp.asarray(points)), batch, rtol=1e-12)
    by_name = emulator({"tilt": points[:, 1], "height": points[:, 0]})
    np.testing.assert_allclose(by_name, batch, rtol=1e-12)
    single = emulator(points.astype(np.float32))
    assert single.dtype == jnp.float32
    np.testing.assert_allclose(single, batch, rtol=2e-5)


def test_gradient(emulator, x64):
    from jax.test_util import check_grads

    check_grads(lambda point: jnp.log(emulator(point)), (jnp.array([0.3, -0.4]),), order=1, modes=["rev"])


def test_box_of_numbers(emulator):
    with pytest.raises(ValueError, match=r"tilt=1.25 is outside of the box: -2.0 to 1.0 is what was trained"):
        emulator(np.array([[0.0, 0.0], [0.0, 1.25]]))
    with pytest.raises(ValueError, match=r"height=nan is outside"):
        emulator({"height": np.nan, "tilt": 0.0})
    with pytest.raises(ValueError, match=r"parameters Tilt, tilt: expected exactly height, tilt"):
        emulator({"height": 0.0, "Tilt": 0.0})
    with pytest.raises(ValueError, match=r"shape \(3,\): the last axis holds 2, height, tilt"):
        emulator(np.zeros(3))


def test_box_of_traced_values(emulator):
    points = jnp.array([[0.0, 0.0], [0.0, 1.25], [3.0, 1.0]])
    found = eqx.filter_jit(emulator)(jnp.asarray(points))
    assert np.isnan(found[1]).all()
    assert np.isfinite(found[jnp.array([0, 2])]).all()
    # A sampler's density there is not finite: the proposal is rejected.
    density = jax.jit(lambda point: -jnp.sum(emulator(point) ** 2))
    assert not np.isfinite(density(points[1]))


def test_box_as_prior(emulator):
    priors = emulator.box.priors()

    def model():
        for name, prior in priors.items():
            numpyro.sample(name, prior)

    trace = numpyro.infer.Predictive(model, num_samples=50)(jax.random.key(0))
    assert np.isfinite(emulator(trace)).all()
    assert (priors["height"].low, priors["height"].high) == (-2.0, 3.0)


@pytest.mark.parametrize(
    ("names", "lower", "upper", "match"),
    [
        (("a", "a"), (0, 0), (1, 1), "a name of its own"),
        (("a", "b"), (0,), (1, 1), "as many bounds"),
        (("a",), (1,), (1,), "a has the bounds 1.0 and 1.0"),
    ],
)
def test_box_refuses(names, lower, upper, match):
    with pytest.raises(ValueError, match=match):
        Box(names, lower, upper)


def test_save_and_load(emulator, tmp_path):
    path = tmp_path / "emulator.npz"
    emulator.save(path)
    again = Emulator.load(path)
    point = np.array([0.3, -0.4], np.float32)
    np.testing.assert_array_equal(again(point), emulator(point))
    assert again.box == emulator.box
    np.savez(tmp_path / "other.npz", a=np.zeros(2))
    with pytest.raises(ValueError, match=r"other.npz' is not a file of Emulator.save"):
        Emulator.load(tmp_path / "other.npz")


def test_killed_training_goes_on_to_the_same_numbers(tmp_path, monkeypatch):
    parameters = draw(200, 6)
    spectra = power_law(parameters)
    whole = short(parameters, spectra)
    path = tmp_path / "training"
    write = training_module._write

    def killed_after_three(path, header, history, state):
        write(path, header, history, state)
        if len(history.losses) == 3:
            raise KeyboardInterrupt

    monkeypatch.setattr(training_module, "_write", killed_after_three)
    with pytest.raises(KeyboardInterrupt):
        short(parameters, spectra, checkpoint=path)
    monkeypatch.undo()
    with pytest.raises(ValueError, match="is there already: pass resume=True"):
        short(parameters, spectra, checkpoint=path)
    with pytest.raises(ValueError, match="is of another training, its batch_size differ"):
        short(parameters, spectra, checkpoint=path, resume=True, batch_size=16)
    resumed = short(parameters, spectra, checkpoint=path, resume=True)
    np.testing.assert_array_equal(resumed.losses, whole.losses)
    np.testing.assert_array_equal(resumed.validation_losses, whole.validation_losses)
    for one, other in zip(jax.tree.leaves(resumed.emulator), jax.tree.leaves(whole.emulator), strict=True):
        np.testing.assert_array_equal(one, other)


def test_early_stopping_keeps_the_best(trained):
    parameters = draw(120, 7)
    # So large a rate that the loss goes up and down.
    rate = optax.constant_schedule(0.1)
    result = short(parameters, power_law(parameters), num_epochs=60, learning_rate=rate, patience=4)
    losses = result.validation_losses
    assert len(losses) < 60
    assert np.argmin(losses) == len(losses) - 5
    assert len(trained.losses) == 150


def test_validation_pair_gives_the_reported_loss():
    parameters, held = draw(200, 8), draw(40, 9)
    held = {name: values.clip(-1.9, 0.9) for name, values in held.items()}
    result = short(parameters, power_law(parameters), num_components=12, validation=(held, power_law(held)))
    x = np.stack([held["height"], held["tilt"]], axis=1).astype(np.float32)
    error = np.log(result.emulator(x)) - np.log(power_law(held))
    np.testing.assert_allclose(np.sqrt(np.mean(error**2)), result.validation_losses.min(), rtol=1e-3)


def _with(name, index, value):
    parameters = draw(30, 0)
    spectra = power_law(parameters)
    if name == "spectra":
        spectra[index] = value
    else:
        parameters[name][index] = value
    return parameters, spectra


@pytest.mark.parametrize(
    ("parameters", "spectra", "changes", "match"),
    [
        (*_with("spectra", (4, 2), np.nan), {}, "spectra is nan at row 4, bin 2, the first of 1"),
        (*_with("spectra", (5, 1), -1.0), {}, r"spectra is -1.0 at row 5, bin 1.*log=True needs positive"),
        (*_with("tilt", 3, np.inf), {}, r"parameters\['tilt'\] is inf at row 3"),
        (*_with("tilt", slice(None), 0.5), {}, r"parameters\['tilt'\] is 0.5 everywhere"),
        (draw(30, 0), np.ones((20, 3)), {}, r"parameters\['height'\] has shape \(30,\): spectra has 20 rows"),
        (draw(30, 0), np.ones(30), {}, r"spectra has shape \(30,\)"),
        (draw(30, 0), np.ones((30, 3)), {"num_components": 4}, "num_components=4: 30 spectra of 3 bins"),
        (draw(30, 0), np.ones((30, 3)), {"batch_size": 28}, "batch_size=28: 27 spectra are left"),
        (draw(30, 0), np.ones((30, 3)), {"learning_rate": -1.0}, "learning_rate=-1.0: a positive number"),
        (draw(30, 0), np.ones((30, 3)), {"validation": 1.0}, "validation=1.0: a part between 0 and 1"),
        (draw(30, 0), np.ones((30, 3)), {"resume": True, "batch_size": 4}, "resume=True needs checkpoint="),
        (
            draw(30, 0),
            np.ones((30, 3)),
            {"batch_size": 4, "box": Box(("height", "tilt"), (-2, -2), (3, 0))},
            "is outside of the box: -2.0 to 0.0",
        ),
    ],
)
def test_training_refuses(parameters, spectra, changes, match):
    with pytest.raises(ValueError, match=match):
        short(parameters, spectra, **{"num_components": 2, **changes})


def test_public_names():
    for name in ("Accuracy", "Box", "Emulator", "TrainedEmulator", "accuracy", "train"):
        assert getattr(emulate, name).__doc__
