"""Training of the two networks of `MatterPower` on spectra from CAMB, and their accuracy over models held out."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from armillary_cosmology._cosmology import Cosmology
from armillary_cosmology.emulate import Accuracy, Emulator, train

from ._design import BOX, REFERENCE_LN10AS, REFERENCE_N_S, TRANSFER, VARIANT
from ._features import boost_features, linear_features, log_growth, log_known, log_primordial
from ._matter_power import MatterPower
from ._training_set import TrainingSet


class Settings(NamedTuple):
    """How one network is trained; what `train` calls them."""

    num_components: int
    hidden: tuple[int, ...]
    num_epochs: int
    batch_size: int
    learning_rate: float


LINEAR_SETTINGS = Settings(24, (64, 64), 600, 64, 5e-3)
BOOST_SETTINGS = Settings(32, (256, 256, 256), 200, 128, 2e-3)


def split(data: TrainingSet, seed: int) -> tuple[TrainingSet, TrainingSet, TrainingSet]:
    """Boltzmann runs for training, for validation (a tenth), and for the test (a fifth): no run is in two.

    The test has what is inside of the box only.
    """
    order = np.random.default_rng(seed).permutation(len(data.models))
    inside = _inside(data.models, tuple(TRANSFER))
    test = [i for i in order if inside[i]][: len(order) // 5]
    rest = order[~np.isin(order, test)]
    validation, training = rest[: len(order) // 10], rest[len(order) // 10 :]

    def take(rows: Any) -> TrainingSet:
        return TrainingSet(*(value if name == "k" else value[rows] for name, value in data._asdict().items()))

    return take(training), take(validation), take(test)


def cosmologies(data: TrainingSet) -> tuple[Cosmology, Cosmology]:
    """The cosmologies of the linear spectra (n,), and of the boosts (n, v)."""
    omega_b, omega_cdm, h, w0, early = data.models.T
    ones = np.ones_like(h)
    reference = Cosmology(
        omega_b, omega_cdm, h, REFERENCE_N_S * ones, REFERENCE_LN10AS * ones, w0, early - w0, 7.8 * ones
    )
    n_s, ln10As, logT_AGN = np.moveaxis(data.variants, -1, 0)
    shape = data.variants.shape[:2]
    wide = Cosmology(*(np.broadcast_to(np.asarray(value)[:, None], shape) for value in reference))
    return reference, wide._replace(n_s=n_s, ln10As=ln10As, logT_AGN=logT_AGN)


Examples = tuple[dict[str, np.ndarray], np.ndarray]


def examples(data: TrainingSet) -> tuple[Examples, Examples]:
    """Parameters and spectra of the linear network and of the boost, each redshift an example of its own."""
    reference, wide = cosmologies(data)
    nk = len(data.k)
    growth = jax.vmap(log_growth)(reference, data.z)
    known = jax.vmap(lambda c: log_known(c, data.k))(reference)
    linear = np.exp(data.log_linear - known[:, None] - 2 * growth[:, :, None])
    of_linear = jax.vmap(linear_features)(reference, data.z)
    of_boost = jax.vmap(jax.vmap(boost_features, (0, None, None)))(wide, data.z, growth)

    def flat(features: dict[str, Any]) -> dict[str, np.ndarray]:
        return {name: np.asarray(value).reshape(-1) for name, value in features.items()}

    boost = np.exp(data.log_boost.astype(np.float64))
    return (flat(of_linear), linear.reshape(-1, nk)), (flat(of_boost), boost.reshape(-1, nk))


def fit(
    training: TrainingSet,
    validation: TrainingSet,
    directory: Path,
    *,
    linear: Settings = LINEAR_SETTINGS,
    boost: Settings = BOOST_SETTINGS,
    seed: int = 0,
    progress_bar: bool = False,
) -> MatterPower:
    """Train both networks and write them to a directory, with checkpoints that a killed run is taken up from."""
    emulators: list[Emulator] = []
    parts = zip(("linear", "boost"), (linear, boost), examples(training), examples(validation), strict=True)
    for i, (name, settings, (parameters, spectra), held_back) in enumerate(parts):
        trained = train(
            jax.random.key(seed + i),
            parameters,
            spectra,
            validation=held_back,
            checkpoint=directory / f"{name}.checkpoint",
            resume=True,
            progress_bar=progress_bar,
            **settings._asdict(),
        )
        trained.emulator.save(directory / f"{name}.npz")
        (directory / f"{name}.checkpoint").unlink()
        emulators.append(trained.emulator)
    return MatterPower(emulators[0], emulators[1])


def held_out_accuracy(power: MatterPower, data: TrainingSet) -> tuple[Accuracy, Accuracy]:
    """The largest relative error over redshift of the linear and of the non-linear spectra of models held out.

    The truth is interpolated by cubic splines from 1/Mpc to the wavenumbers of `power`, whose own interpolation is
    therefore a part of what is measured.
    """
    from scipy.interpolate import CubicSpline

    reference, wide = cosmologies(data)
    log_grid = np.log(data.k)
    spectrum = eqx.filter_jit(power.log_spectrum)
    linear, nonlinear = [], []
    for i, h in enumerate(np.asarray(reference.h)):
        log_k = np.log(power.k * h)

        def at(values: np.ndarray, log_k: np.ndarray = log_k, h: float = h) -> np.ndarray:
            return CubicSpline(log_grid, values, axis=-1)(log_k) + 3 * np.log(h)

        one = Cosmology(*(jnp.asarray(np.asarray(value)[i]) for value in reference))
        z = jnp.asarray(data.z[i])
        truth = at(data.log_linear[i].astype(np.float64))
        linear.append(np.abs(np.expm1(np.asarray(spectrum(one, z, False)) - truth)).max(axis=0))
        for j in np.flatnonzero(_inside(data.variants[i], tuple(VARIANT))):
            other = Cosmology(*(jnp.asarray(np.asarray(value)[i, j]) for value in wide))
            tilt = np.asarray(log_primordial(other, log_k) - log_primordial(one, log_k))
            truth_nl = at(data.log_linear[i].astype(np.float64) + data.log_boost[i, j]) + tilt
            nonlinear.append(np.abs(np.expm1(np.asarray(spectrum(other, z, True)) - truth_nl)).max(axis=0))
    return Accuracy(np.array(linear)), Accuracy(np.array(nonlinear))


def _inside(values: np.ndarray, names: tuple[str, ...]) -> np.ndarray:
    """Which rows are inside of the box of the emulators."""
    low, high = np.transpose([BOX[name] for name in names])
    return ((values >= low) & (values <= high)).all(axis=-1)
