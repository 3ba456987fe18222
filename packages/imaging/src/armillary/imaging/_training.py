"""Training of denoisers and scores, in a loop that can be stopped and taken up to the same bits."""

from __future__ import annotations

import contextlib
import hashlib
import math
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

from . import _saving
from ._check import check_count, check_fraction, check_positive

# The residual of a batch of images (with their noise and its level) that is zero for the truth, in units of the noise.
Residual = Callable[[PyTree, Array, Array, Array], Array]


@dataclass(frozen=True)
class Trained:
    """A trained network; made by `train_denoiser` and `train_score`.

    Args:
        network: the network, of the moving average of the weights.
        losses: the mean loss of each epoch; 1 for the network that gives back what it gets, where the noise is weak.
    """

    network: Any
    losses: Float[np.ndarray, " epochs"]


def train_denoiser(
    key: jax.Array,
    denoiser: Any,
    images: Float[Array, "n rows columns"],
    *,
    noise: tuple[float, float],
    num_epochs: int,
    batch_size: int = 32,
    learning_rate: float = 1e-3,
    ema: float = 0.999,
    checkpoint: str | os.PathLike[str] | None = None,
    resume: bool = False,
    progress_bar: bool = False,
) -> Trained:
    r"""Train a denoiser on images to which white noise is added.

    The loss is the squared error of the estimate, its expectation least for the posterior mean, at noise levels that
    are log-uniform between two bounds and weighted as by Karras et al. (2022, arXiv:2206.00364):

    .. math:: E\, \left(\frac{1}{\sigma^2} + \frac{1}{s^2}\right) \frac1n \|D(x + \sigma \xi, \sigma) - x\|^2

    with the standard deviation s of the images. Adam (Optax) with gradients clipped to unit norm and a learning rate
    that falls to 0 as a cosine; the result is of the exponential moving average of the weights. An epoch is one
    compiled scan.

    >>> import jax
    >>> from armillary.imaging import DnCNN, train_denoiser
    >>> images = 0.5 * jax.random.normal(jax.random.key(0), (64, 1, 1)) + jax.numpy.zeros((64, 8, 8))
    >>> network = DnCNN(key=jax.random.key(1), width=4, depth=2)
    >>> trained = train_denoiser(jax.random.key(2), network, images, noise=(0.1, 1.0), num_epochs=20, ema=0.9)
    >>> bool(trained.losses[-1] < trained.losses[0])
    True

    Args:
        key: a random key: with it, the network and the images the result is determined, on one machine to the last bit.
        denoiser: an Equinox module, called with a batch of images and their noise levels: see
            `armillary.core.protocols.Denoiser`.
        images: clean images of one shape; augmentation, such as by rotations, is the caller's.
        noise: the least and largest noise level.
        num_epochs: passes over the images.
        batch_size: images of a step; what is left of them sits an epoch out, another each time.
        learning_rate: the first.
        ema: the decay of the moving average a step, less in the first ones.
        checkpoint: a file that is written after each epoch.
        resume: go on from that file, where there is one.
        progress_bar: show one, on the standard error.

    Raises:
        ValueError: an argument out of its range, images that are not one stack, a checkpoint that is there with
            ``resume=False``, or one of another training.
    """

    def residual(network: Any, x: Array, xi: Array, sigma: Array) -> Array:
        return (network(x + sigma[:, None, None] * xi, sigma) - x) / sigma[:, None, None]

    settings = _Settings(noise, num_epochs, batch_size, learning_rate, ema)
    return _train("denoiser", key, denoiser, images, residual, settings, checkpoint, resume, progress_bar)


def train_score(
    key: jax.Array,
    network: Any,
    images: Float[Array, "n rows columns"],
    *,
    noise: tuple[float, float],
    num_epochs: int,
    batch_size: int = 32,
    learning_rate: float = 1e-3,
    ema: float = 0.999,
    checkpoint: str | os.PathLike[str] | None = None,
    resume: bool = False,
    progress_bar: bool = False,
) -> Trained:
    r"""Train the score of images at every noise level, by denoising score matching (Vincent 2011).

    .. math:: E\, \left(1 + \frac{\sigma^2}{s^2}\right) \frac1n
              \left\|\sigma\, \mathtt{score}(x + \sigma \xi, \sigma) + \xi\right\|^2

    the expectation least for the score of the images with that noise. By Tweedie's formula it is the loss of
    `train_denoiser`, and everything else is as there; here the module is known by its ``score``.

    >>> import jax
    >>> from armillary.imaging import ScoreUNet, train_score
    >>> images = 0.5 * jax.random.normal(jax.random.key(0), (32, 1, 1)) + jax.numpy.zeros((32, 8, 8))
    >>> network = ScoreUNet(key=jax.random.key(1), widths=(4,))
    >>> trained = train_score(jax.random.key(2), network, images, noise=(0.05, 5.0), num_epochs=5)
    >>> trained.losses.shape
    (5,)

    Vincent P. 2011, Neural Comput. 23, 1661, doi:10.1162/NECO_a_00142.

    Args:
        key: see `train_denoiser`, as for all the rest.
        network: an Equinox module with ``score(x, sigma)``, of a batch of images and their noise levels.
        images: clean images of one shape.
        noise: the least and largest noise level. For diffusion from `diffusion_posterior` the largest is several times
            the standard deviation of the images, the least a tenth of the smallest noise that matters.
        num_epochs: passes over the images.
        batch_size: images of a step.
        learning_rate: the first.
        ema: the decay of the moving average a step.
        checkpoint: a file that is written after each epoch.
        resume: go on from that file, where there is one.
        progress_bar: show one, on the standard error.

    Raises:
        ValueError: as `train_denoiser`.
    """

    def residual(network: Any, x: Array, xi: Array, sigma: Array) -> Array:
        sigma_ = sigma[:, None, None]
        return sigma_ * network.score(x + sigma_ * xi, sigma) + xi

    settings = _Settings(noise, num_epochs, batch_size, learning_rate, ema)
    return _train("score", key, network, images, residual, settings, checkpoint, resume, progress_bar)


class _Settings(NamedTuple):
    noise: tuple[float, float]
    num_epochs: int
    batch_size: int
    learning_rate: float
    ema: float


class _State(NamedTuple):
    params: PyTree
    average: PyTree
    optimiser: PyTree
    step: Array


def _train(
    kind: str,
    key: jax.Array,
    network: Any,
    images: Any,
    residual: Residual,
    settings: _Settings,
    checkpoint: str | os.PathLike[str] | None,
    resume: bool,
    progress_bar: bool,
) -> Trained:
    images = jnp.asarray(images)
    _check(images, settings)
    if resume and checkpoint is None:
        raise ValueError("resume=True needs checkpoint=, the file to go on from")
    if not jnp.issubdtype(jnp.asarray(key).dtype, jax.dtypes.prng_key):
        key = jax.random.wrap_key_data(key)
    params, static = eqx.partition(network, eqx.is_inexact_array)
    total = settings.num_epochs * (len(images) // settings.batch_size)
    optimiser = optax.chain(
        optax.clip_by_global_norm(1.0), optax.adam(optax.cosine_decay_schedule(settings.learning_rate, total))
    )
    run_epoch = _make_epoch(residual, static, optimiser, settings)
    state = _State(params, params, optimiser.init(params), jnp.zeros((), jnp.int32))
    losses: list[float] = []
    header = _header(kind, key, network, images, settings)
    if checkpoint is not None and Path(checkpoint).exists():
        losses = _resume(checkpoint, header, resume)
        state = _saving.read(checkpoint, state)
    with _progress(progress_bar, settings.num_epochs) as report:
        for epoch in range(len(losses), settings.num_epochs):
            state, loss = run_epoch(state, images, jax.random.fold_in(key, epoch))
            losses.append(float(loss))
            if checkpoint is not None:
                _saving.write(checkpoint, {**header, "losses": [value.hex() for value in losses]}, state)
            report(epoch + 1, losses[-1])
    return Trained(eqx.combine(state.average, static), np.array(losses))


def _make_epoch(
    residual: Residual, static: PyTree, optimiser: Any, settings: _Settings
) -> Callable[[_State, Array, jax.Array], tuple[_State, Array]]:
    """An epoch, compiled."""
    low, high = map(math.log, settings.noise)
    batch_size = settings.batch_size

    def loss_of(params: PyTree, x: Array, spread: Array, key: jax.Array) -> Array:
        level_key, noise_key = jax.random.split(key)
        # Stratified over the batch, so that no step lacks a part of the range.
        shifts = (jnp.arange(len(x)) + jax.random.uniform(level_key, (len(x),), x.dtype)) / len(x)
        sigma = jnp.exp(low + (high - low) * shifts).astype(x.dtype)
        xi = jax.random.normal(noise_key, x.shape, x.dtype)
        squared = jnp.mean(residual(eqx.combine(params, static), x, xi, sigma) ** 2, axis=(1, 2))
        return jnp.mean((1 + (sigma / spread) ** 2) * squared)

    @jax.jit
    def epoch(state: _State, images: Array, key: jax.Array) -> tuple[_State, Array]:
        spread = jnp.std(images)
        order_key, key = jax.random.split(key)
        steps = len(images) // batch_size
        batches = jax.random.permutation(order_key, len(images))[: steps * batch_size].reshape(steps, batch_size)

        def step(state: _State, at: tuple[Array, jax.Array]) -> tuple[_State, Array]:
            batch, key = at
            loss, gradient = jax.value_and_grad(loss_of)(state.params, images[batch], spread, key)
            updates, inner = optimiser.update(gradient, state.optimiser, state.params)
            params = optax.apply_updates(state.params, updates)
            decay = jnp.minimum(settings.ema, (1 + state.step) / (10 + state.step))
            average = jax.tree.map(lambda a, p: a + (1 - decay).astype(p.dtype) * (p - a), state.average, params)
            return _State(params, average, inner, state.step + 1), loss

        state, losses = jax.lax.scan(step, state, (batches, jax.random.split(key, steps)))
        return state, losses.mean()

    return epoch


def _check(images: Array, settings: _Settings) -> None:
    """Refuse arguments out of range.

    Raises:
        ValueError: naming one.
    """
    if images.ndim != 3 or not jnp.issubdtype(images.dtype, jnp.floating):
        raise ValueError(
            f"images has shape {images.shape} and dtype {images.dtype}: expected real images of one shape, stacked "
            "along the first of three axes"
        )
    if not bool(jnp.isfinite(images).all()) or not float(jnp.std(images)) > 0:
        raise ValueError("images: expected finite numbers that are not all the same")
    noise, batch_size = settings.noise, settings.batch_size
    if not isinstance(noise, (tuple, list)) or len(noise) != 2:
        raise ValueError(f"noise={noise!r}: expected the least and largest noise level, such as (0.01, 0.5)")
    for level in noise:
        check_positive("noise", level, "it holds the least and largest noise level")
    if noise[0] > noise[1]:
        raise ValueError(f"noise={noise!r}: the first of the two noise levels must not be the larger one")
    check_count("num_epochs", settings.num_epochs, "they are passes over the images")
    check_count("batch_size", batch_size, "32 are usual")
    if batch_size > len(images):
        raise ValueError(f"batch_size={batch_size}: there are {len(images)} images; take no more than that")
    check_positive("learning_rate", settings.learning_rate, "1e-3 is usual")
    check_fraction("ema", settings.ema, "0.999 is usual")


def _header(kind: str, key: jax.Array, network: Any, images: Array, settings: _Settings) -> dict[str, Any]:
    """What a training is, so that no other is gone on with by mistake."""
    digest = hashlib.sha256(np.asarray(images).tobytes())
    for leaf in jax.tree.leaves(eqx.filter(network, eqx.is_array)):
        digest.update(np.asarray(leaf).tobytes())
    return {
        "training": kind,
        "network": type(network).__name__,
        "images and first weights": digest.hexdigest(),
        "key": np.asarray(jax.random.key_data(key)).tolist(),
        **{**settings._asdict(), "noise": list(settings.noise)},
    }


def _resume(checkpoint: str | os.PathLike[str], header: dict[str, Any], resume: bool) -> list[float]:
    """The losses so far.

    Raises:
        ValueError: the checkpoint is not to be gone on from, or of another training.
    """
    where = f"checkpoint={os.fspath(checkpoint)!r}"
    if not resume:
        raise ValueError(f"{where} is there already: pass resume=True to go on from it, or another path to start anew")
    there = _saving.read_header(checkpoint)
    changed = [name for name in header if there.get(name) != header[name]]
    if changed:
        raise ValueError(
            f"{where} is of another training, its {', '.join(changed)} differ: pass the same arguments to go on from "
            "it, or another path to start anew"
        )
    return [float.fromhex(value) for value in there["losses"]]


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
