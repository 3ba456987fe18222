"""Training of an emulator, in a loop that can be stopped and taken up to the same bits."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, PyTree

from ._box import Box
from ._checks import check_count, check_examples
from ._emulator import Emulator
from ._network import Network
from ._standardise import standardise


@dataclass(frozen=True)
class TrainedEmulator:
    """An emulator and how its training went; made by `train`.

    Args:
        emulator: the emulator of the epoch with the least validation loss.
        losses: root mean square error of each epoch over its batches, in units of the (log-)spectra.
        validation_losses: that of the validation spectra, after each epoch.
    """

    emulator: Emulator
    losses: Float[np.ndarray, " epochs"]
    validation_losses: Float[np.ndarray, " epochs"]


def train(
    key: jax.Array,
    parameters: Mapping[str, Float[Array | np.ndarray, " n"]],
    spectra: Float[Array | np.ndarray, "n bins"],
    *,
    box: Box | None = None,
    log: bool = True,
    num_components: int | None = None,
    hidden: tuple[int, ...] = (128, 128, 128),
    num_epochs: int = 500,
    batch_size: int = 64,
    learning_rate: float | optax.Schedule = 3e-3,
    patience: int | None = None,
    validation: float | tuple[Mapping[str, Float[Array | np.ndarray, " m"]], Float[Array | np.ndarray, "m bins"]] = 0.1,
    checkpoint: str | os.PathLike[str] | None = None,
    resume: bool = False,
    progress_bar: bool = False,
) -> TrainedEmulator:
    r"""Train an emulator of spectra, or of any positive or real vector, as a function of named parameters.

    The loss is the mean squared error of ln of the spectra (of principal components of it, weighted so that it is the
    same but for what they leave out), or of the spectra in units of their standard deviations. Adam (Optax) with
    gradients clipped to unit norm, in float32; an epoch is one compiled scan, over batches in another order each time.

    Args:
        key: a random key: with it and the spectra the result is determined, on one machine to the last bit.
        parameters: the values of each parameter, by name.
        spectra: what they give, a row for each.
        box: the bounds that the emulator is to have; by default those of the values.
        log: emulate ln of the spectra, which have to be positive.
        num_components: how many principal components the network gives; by default it gives the bins themselves.
        hidden: units of each hidden layer.
        num_epochs: passes over the spectra.
        batch_size: spectra of a step; what is left of them sits an epoch out, others each time.
        learning_rate: the first, which falls to 0 as a cosine; or an Optax schedule, a function of the step.
        patience: stop after so many epochs without a smaller validation loss; never, by default.
        validation: the part of the spectra that is held back, at random, to choose the epoch by; or such parameters
            and spectra.
        checkpoint: a file that is written after each epoch, and moved into place when it is whole.
        resume: go on from that file, where there is one.
        progress_bar: show one, on the standard error.

    Returns:
        The emulator, and the losses.

    Raises:
        ValueError: before training, parameters or spectra that are not finite, of shapes that do not match, constant,
            outside of the box, or not positive with ``log``; an argument out of its range; a checkpoint that is there
            with ``resume=False``, or of another training. In training, a loss that is no longer finite.

    >>> import jax, numpy as np
    >>> from armillary_cosmology.emulate import train
    >>> tilt, x = np.linspace(-1, 1, 200), np.linspace(1, 2, 5)
    >>> trained = train(
    ...     jax.random.key(0), {"tilt": tilt}, x ** tilt[:, None], hidden=(8,), num_epochs=60, batch_size=20
    ... )
    >>> bool(abs(trained.emulator(np.array([0.5], np.float32)) - x**0.5).max() < 0.03)
    True
    """
    settings = _Settings(log, num_components, tuple(hidden), num_epochs, batch_size, learning_rate, patience)
    x, y = check_examples("parameters", "spectra", parameters, spectra, log)
    _check(settings, y, validation)
    if not jnp.issubdtype(jnp.asarray(key).dtype, jax.dtypes.prng_key):
        key = jax.random.wrap_key_data(key)
    split_key, network_key, order_key = jax.random.split(key, 3)
    names = tuple(parameters)
    if isinstance(validation, (tuple, list)):
        xv, yv = check_examples("validation parameters", "validation spectra", *validation, log, names, y.shape[1])
    else:
        order = np.asarray(jax.random.permutation(split_key, len(x)))
        held = max(1, round(validation * len(x)))
        x, xv, y, yv = x[order[held:]], x[order[:held]], y[order[held:]], y[order[:held]]
    if batch_size > len(x):
        raise ValueError(f"batch_size={batch_size}: {len(x)} spectra are left to train with; take no more than that")
    everything = np.concatenate([x, xv])
    if box is None:
        box = Box(names, tuple(everything.min(axis=0)), tuple(everything.max(axis=0)))
    elif box.names != names:
        raise ValueError(f"box has the names {box.names}, parameters {names}: the same are needed, in the same order")
    box.check(everything)
    if resume and checkpoint is None:
        raise ValueError("resume=True needs checkpoint=, the file to go on from")

    standard = standardise(x, y, num_components)
    outputs = len(standard.coefficient_scale)
    network = Network((len(names), *settings.hidden, outputs), key=network_key)
    steps = len(x) // batch_size
    schedule = (
        learning_rate if callable(learning_rate) else optax.cosine_decay_schedule(learning_rate, num_epochs * steps)
    )
    optimiser = optax.chain(optax.clip_by_global_norm(1.0), optax.adam(schedule))
    run_epoch = _make_epoch(optimiser, batch_size)
    arrays = [jnp.asarray(array, jnp.float32) for array in (*standard.apply(x, y), *standard.apply(xv, yv))]
    weights = jnp.asarray(standard.weights, jnp.float32)
    params, static = eqx.partition(network, eqx.is_inexact_array)
    state = _State(params, params, optimiser.init(params))
    history = _History([], [])
    header = _header(key, settings, box, arrays)
    if checkpoint is not None and Path(checkpoint).exists():
        history = _resume(checkpoint, header, resume)
        with open(checkpoint, "rb") as file:
            file.readline()
            state = eqx.tree_deserialise_leaves(file, state)
    with _progress(progress_bar, num_epochs) as report:
        for epoch in range(len(history.losses), num_epochs):
            before = history.validation_losses
            if patience is not None and len(before) > patience and min(before[:-patience]) <= min(before[-patience:]):
                break
            # An array: of a Python number the compiled epoch would be made anew for each value.
            best = np.float32(min(before, default=np.inf))
            state, loss, validation_loss = run_epoch(
                state, static, *arrays, weights, best, jax.random.fold_in(order_key, epoch)
            )
            history.losses.append(float(loss))
            history.validation_losses.append(float(validation_loss))
            if not np.isfinite(history.losses[-1] + history.validation_losses[-1]):
                raise ValueError(
                    f"the loss is {history.losses[-1]}, that of validation {history.validation_losses[-1]}, in epoch "
                    f"{epoch}: take a learning_rate below {learning_rate!r}"
                )
            if checkpoint is not None:
                _write(checkpoint, header, history, state)
            report(epoch + 1, history.validation_losses[-1])
    emulator = Emulator(network=eqx.combine(state.best, static), box=box, log=log, **standard.arrays())
    return TrainedEmulator(emulator, np.array(history.losses), np.array(history.validation_losses))


class _Settings(NamedTuple):
    log: bool
    num_components: int | None
    hidden: tuple[int, ...]
    num_epochs: int
    batch_size: int
    learning_rate: float | optax.Schedule
    patience: int | None


class _State(NamedTuple):
    params: PyTree
    best: PyTree
    optimiser: PyTree


class _History(NamedTuple):
    losses: list[float]
    validation_losses: list[float]


def _make_epoch(optimiser: Any, batch_size: int) -> Callable[..., tuple[_State, Array, Array]]:
    """An epoch, compiled."""

    def loss_of(params: PyTree, static: PyTree, x: Array, y: Array, weights: Array) -> Array:
        return jnp.mean(jnp.square(eqx.combine(params, static)(x) - y) @ weights)

    @eqx.filter_jit
    def epoch(
        state: _State,
        static: PyTree,
        x: Array,
        y: Array,
        xv: Array,
        yv: Array,
        weights: Array,
        best: np.float32,
        key: jax.Array,
    ) -> tuple[_State, Array, Array]:
        steps = len(x) // batch_size
        batches = jax.random.permutation(key, len(x))[: steps * batch_size].reshape(steps, batch_size)
        # Gradients of a loss that is 1 at the start: Adam's epsilon would matter to that in units of the spectra.
        unit = jnp.sum(weights)

        def step(state: _State, batch: Array) -> tuple[_State, Array]:
            loss, gradient = jax.value_and_grad(loss_of)(state.params, static, x[batch], y[batch], weights / unit)
            updates, inner = optimiser.update(gradient, state.optimiser, state.params)
            return _State(optax.apply_updates(state.params, updates), state.best, inner), loss

        state, losses = jax.lax.scan(step, state, batches)
        validation = jnp.sqrt(loss_of(state.params, static, xv, yv, weights))
        kept = jax.tree.map(lambda new, old: jnp.where(validation < best, new, old), state.params, state.best)
        return state._replace(best=kept), jnp.sqrt(losses.mean() * unit), validation

    return epoch


def _check(settings: _Settings, y: np.ndarray, validation: Any) -> None:
    """Refuse arguments out of range.

    Raises:
        ValueError: naming one.
    """
    for width in settings.hidden:
        check_count("hidden", width, "the units of a layer")
    check_count("num_epochs", settings.num_epochs, "the passes over the spectra")
    check_count("batch_size", settings.batch_size, "the spectra of a step")
    if settings.patience is not None:
        check_count("patience", settings.patience, "epochs, or None")
    if settings.num_components is not None:
        check_count("num_components", settings.num_components, "principal components of the spectra, or None")
        if settings.num_components > min(y.shape):
            raise ValueError(
                f"num_components={settings.num_components}: {y.shape[0]} spectra of {y.shape[1]} bins have no more "
                f"than {min(y.shape)}"
            )
    rate = settings.learning_rate
    if not callable(rate) and (not isinstance(rate, (int, float)) or not 0 < rate < np.inf):
        raise ValueError(f"learning_rate={rate!r}: a positive number is needed, such as 3e-3, or an Optax schedule")
    if not isinstance(validation, (tuple, list)) and not 0 < validation < 1:
        raise ValueError(f"validation={validation!r}: a part between 0 and 1 is needed, or parameters and spectra")


def _header(key: jax.Array, settings: _Settings, box: Box, arrays: list[Array]) -> dict[str, Any]:
    """What a training is, so that no other is gone on with by mistake."""
    digest = hashlib.sha256()
    for array in arrays:
        digest.update(np.asarray(array).tobytes())
    rate = settings.learning_rate
    return {
        "spectra": digest.hexdigest(),
        "key": np.asarray(jax.random.key_data(key)).tolist(),
        "box": [list(box.names), list(box.lower), list(box.upper)],
        **{
            **settings._asdict(),
            "hidden": list(settings.hidden),
            "learning_rate": "schedule" if callable(rate) else rate,
        },
    }


def _resume(checkpoint: str | os.PathLike[str], header: dict[str, Any], resume: bool) -> _History:
    """The losses so far.

    Raises:
        ValueError: the checkpoint is not to be gone on from, or of another training.
    """
    where = f"checkpoint={os.fspath(checkpoint)!r}"
    if not resume:
        raise ValueError(f"{where} is there already: pass resume=True to go on from it, or another path to start anew")
    with open(checkpoint, "rb") as file:
        try:
            there = json.loads(file.readline())
        except ValueError:
            there = {}
    changed = [name for name in header if not isinstance(there, dict) or there.get(name) != header[name]]
    if changed:
        raise ValueError(
            f"{where} is of another training, its {', '.join(changed)} differ: pass the same arguments to go on from "
            "it, or another path to start anew"
        )
    return _History(*([float.fromhex(value) for value in there[name]] for name in _History._fields))


def _write(path: str | os.PathLike[str], header: dict[str, Any], history: _History, state: _State) -> None:
    """Under another name until the file is whole."""
    losses = {name: [value.hex() for value in values] for name, values in history._asdict().items()}
    partial = f"{os.fspath(path)}.partial"
    with open(partial, "wb") as file:
        file.write((json.dumps({**header, **losses}, sort_keys=True) + "\n").encode())
        eqx.tree_serialise_leaves(file, state)
    os.replace(partial, path)


@contextlib.contextmanager
def _progress(show: bool, total: int) -> Iterator[Callable[[int, float], None]]:
    if not show:
        yield lambda done, loss: None
        return
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True)) as bar:
        task = bar.add_task("Training", total=total)
        yield lambda done, loss: bar.update(task, completed=done, description=f"Training, validation loss {loss:.2e}")
