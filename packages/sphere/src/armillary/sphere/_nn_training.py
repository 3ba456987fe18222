"""Training of networks on fields, in a loop that can be stopped and taken up to the same bits."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, PyTree

from ._checks import check_integer


@dataclass(frozen=True)
class TrainedNetwork:
    """A network and how its training went; made by `train_network`.

    Args:
        network: the network with the weights of the last step.
        losses: the mean loss of each epoch.
    """

    network: Any
    losses: Float[np.ndarray, " epochs"]


def train_network(
    key: jax.Array,
    network: Any,
    inputs: Float[Array, "n ..."],
    targets: PyTree[Array],
    loss: Callable[[Array, PyTree[Array]], Array],
    *,
    num_epochs: int,
    batch_size: int = 8,
    learning_rate: float = 3e-3,
    checkpoint: str | os.PathLike[str] | None = None,
    resume: bool = False,
    progress_bar: bool = False,
) -> TrainedNetwork:
    r"""Train a network of fields by the mean of a loss over examples.

    Adam with gradients clipped to unit norm and a learning rate that falls to 0 as a cosine (Optax). A step is
    compiled; the order of the examples is another in each epoch.

    Args:
        key: a random key: with it, the network and the examples the result is determined, on one machine to the last
            bit.
        network: an Equinox module, called with one example of `inputs`.
        inputs: what goes in, examples on the first axis.
        targets: arrays with as many examples on their first axes.
        loss: a function of the network's output and of the targets of one example.
        num_epochs: passes over the examples.
        batch_size: examples of a step; what is left of them sits an epoch out, others each time.
        learning_rate: the first.
        checkpoint: a file that is written after each epoch, and moved into place when it is whole.
        resume: go on from that file, where there is one.
        progress_bar: show one, on the standard error.

    Returns:
        The network and the losses.

    Raises:
        ValueError: an argument out of its range, NaN or infinite values in the examples, a loss that is no longer
            finite, a checkpoint that is there with ``resume=False``, or one of another training.

    >>> import jax
    >>> from armillary.sphere import DiscoConv, GaussLegendre, train_network
    >>> grid = GaussLegendre(8)
    >>> x = jax.random.normal(jax.random.key(0), (16, 1, *grid.shape))
    >>> layer = DiscoConv(1, 1, grid, key=jax.random.key(1))
    >>> trained = train_network(
    ...     jax.random.key(2), layer, x, 2 * x, lambda y, target: ((y - target) ** 2).mean(), num_epochs=4
    ... )
    >>> bool(trained.losses[-1] < trained.losses[0])
    True
    """
    inputs, targets = jnp.asarray(inputs), jax.tree.map(jnp.asarray, targets)
    settings = _Settings(num_epochs, batch_size, learning_rate)
    _check(inputs, targets, settings)
    if resume and checkpoint is None:
        raise ValueError("resume=True needs checkpoint=, the file to go on from")
    if not jnp.issubdtype(jnp.asarray(key).dtype, jax.dtypes.prng_key):
        key = jax.random.wrap_key_data(key)
    params, static = eqx.partition(network, eqx.is_inexact_array)
    steps = len(inputs) // batch_size
    optimiser = optax.chain(
        optax.clip_by_global_norm(1.0),
        optax.adam(optax.cosine_decay_schedule(learning_rate, num_epochs * steps)),
    )
    state = _State(params, optimiser.init(params))
    losses: list[float] = []
    header = _header(key, network, inputs, targets, settings)
    if checkpoint is not None and Path(checkpoint).exists():
        losses = _resume(checkpoint, header, resume)
        with open(checkpoint, "rb") as file:
            file.readline()
            state = eqx.tree_deserialise_leaves(file, state)

    # Not a scan over the steps: in one, XLA runs the derivatives of planar convolutions some thirty times slower on a
    # CPU, and such a network is what one compares with.
    @jax.jit
    def step(state: _State, x: Array, y: PyTree) -> tuple[_State, Array]:
        def mean_loss(params: PyTree) -> Array:
            return jax.vmap(lambda x, y: loss(eqx.combine(params, static)(x), y))(x, y).mean()

        value, gradient = jax.value_and_grad(mean_loss)(state.params)
        updates, inner = optimiser.update(gradient, state.optimiser, state.params)
        return _State(optax.apply_updates(state.params, updates), inner), value

    with _progress(progress_bar, num_epochs) as report:
        for epoch in range(len(losses), num_epochs):
            order = np.asarray(jax.random.permutation(jax.random.fold_in(key, epoch), len(inputs)))
            values = []
            for batch in order[: steps * batch_size].reshape(steps, batch_size):
                state, value = step(state, inputs[batch], jax.tree.map(lambda y, batch=batch: y[batch], targets))
                values.append(value)
            losses.append(float(np.mean(np.asarray(values, dtype=float))))
            if not np.isfinite(losses[-1]):
                raise ValueError(
                    f"the loss is {losses[-1]} in epoch {epoch}: take a learning_rate below {learning_rate!r}, or look "
                    "for what the loss makes of these examples"
                )
            if checkpoint is not None:
                _write(checkpoint, {**header, "losses": [value.hex() for value in losses]}, state)
            report(epoch + 1, losses[-1])
    return TrainedNetwork(eqx.combine(state.params, static), np.array(losses))


class _Settings(NamedTuple):
    num_epochs: int
    batch_size: int
    learning_rate: float


class _State(NamedTuple):
    params: PyTree
    optimiser: PyTree


def _check(inputs: Array, targets: PyTree, settings: _Settings) -> None:
    """Refuse arguments out of range.

    Raises:
        ValueError: naming one.
    """
    named = [("inputs", inputs), *(("targets", leaf) for leaf in jax.tree.leaves(targets))]
    for name, x in named:
        if x.ndim < 1 or len(x) != len(inputs):
            raise ValueError(f"{name} has shape {x.shape}: the same number of examples is needed on all first axes")
        if jnp.issubdtype(x.dtype, jnp.inexact) and not bool(jnp.isfinite(x).all()):
            bad = np.argwhere(~np.isfinite(np.asarray(x)))
            raise ValueError(
                f"{name} has {len(bad)} values that are NaN or infinite, the first at {tuple(bad[0].tolist())}: give "
                "them a value, and no weight in the loss"
            )
    check_integer("num_epochs", settings.num_epochs, 1, None, "the number of passes over the examples")
    check_integer("batch_size", settings.batch_size, 1, len(inputs), "the number of examples of a step")
    rate = settings.learning_rate
    if not isinstance(rate, (int, float)) or not 0 < rate < np.inf:
        raise ValueError(f"learning_rate={rate!r}: a positive number is needed, such as 3e-3")


def _header(key: jax.Array, network: Any, inputs: Array, targets: PyTree, settings: _Settings) -> dict[str, Any]:
    """What a training is, so that no other is gone on with by mistake."""
    digest = hashlib.sha256()
    for leaf in jax.tree.leaves((inputs, targets, eqx.filter(network, eqx.is_array))):
        digest.update(np.asarray(leaf).tobytes())
    return {
        "network": type(network).__name__,
        "examples and first weights": digest.hexdigest(),
        "key": np.asarray(jax.random.key_data(key)).tolist(),
        **settings._asdict(),
    }


def _resume(checkpoint: str | os.PathLike[str], header: dict[str, Any], resume: bool) -> list[float]:
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
    return [float.fromhex(value) for value in there["losses"]]


def _write(path: str | os.PathLike[str], header: dict[str, Any], state: _State) -> None:
    """Under another name until the file is whole."""
    partial = f"{os.fspath(path)}.partial"
    with open(partial, "wb") as file:
        file.write((json.dumps(header, sort_keys=True) + "\n").encode())
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
        yield lambda done, loss: bar.update(task, completed=done, description=f"Training, loss {loss:.4f}")
