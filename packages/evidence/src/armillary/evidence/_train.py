"""Training of flows on whitened draws, stopped and judged by draws that are held out."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import paramax
from flowjax.bijections import AbstractBijection
from jaxtyping import Array, Float, PyTree

from ._architectures import Architecture, build
from ._flow import Flow, Whitener

_LEARNING_RATE = 1e-3
_PATIENCE = 8
# Chosen once, here: a new optimiser object would be a new static argument, hence a new compilation, at every fit. The
# decay of the weights keeps the flow near the Gaussian: on 8000 draws in 37 dimensions it gains a tenth more.
_OPTIMISER = optax.chain(optax.clip_by_global_norm(5.0), optax.scale_by_adam(), optax.add_decayed_weights(0.3))


@dataclass(frozen=True)
class Fit:
    """A flow and how its training went; losses are mean negative log-densities of the held-out draws, in nats."""

    flow: Flow
    name: str
    epochs: int
    gaussian_loss: float
    flow_loss: float | None


def fit_gaussian(train: Float[np.ndarray, "n dim"], held_out: Float[np.ndarray, "m dim"]) -> Fit:
    """The Gaussian of the mean and covariance of all the draws; its loss is that of one fitted to ``train`` alone."""
    loss = -float(Flow(Whitener.fit(train)).log_prob(held_out).mean())
    return Fit(Flow(Whitener.fit(np.concatenate([train, held_out]))), "gaussian", 0, loss, None)


def fit_flows(
    key: jax.Array,
    architecture: Architecture,
    name: str,
    train: Sequence[Float[np.ndarray, "n dim"]],
    held_out: Sequence[Float[np.ndarray, "m dim"]],
    *,
    max_epochs: int,
    progress: Callable[[int, int], None] | None = None,
) -> list[Fit]:
    """Fit a flow for each fold; a fold whose flow is no better than a Gaussian gets the Gaussian.

    Args:
        key: a random key.
        architecture: what the flows are made of.
        name: what to call them.
        train: the training draws of each fold.
        held_out: the draws of each fold by which training is stopped and judged.
        max_epochs: the longest training.
        progress: called with the epochs done and the most there can be, over all folds.
    """
    folds = len(train)
    # Folds may differ by a chain. Their draws are repeated to one size, so that one compilation serves them all.
    n, m = max(map(len, train)), max(map(len, held_out))
    fits = []
    for fold, (draws, judges) in enumerate(zip(train, held_out, strict=True)):
        whitener = Whitener.fit(draws)
        key, fold_key = jax.random.split(key)
        u, v = (np.resize(whitener(x), (size, x.shape[1])) for x, size in ((draws, n), (judges, m)))

        def report(epoch: int, fold: int = fold) -> None:
            if progress is not None:
                progress(fold * max_epochs + epoch, folds * max_epochs)

        # Training needs no more than single precision, and takes half the time in it. The splines of flowjax follow the
        # default precision, whatever that of their arrays.
        with jax.enable_x64(False):
            bijection, epochs = train_bijection(
                fold_key, architecture, jnp.asarray(u), jnp.asarray(v), max_epochs, report
            )
        report(max_epochs)
        gaussian = fit_gaussian(draws, judges)
        flow = Flow(whitener, bijection, architecture)
        gain = flow.log_prob(judges) - Flow(whitener).log_prob(judges)
        loss = gaussian.gaussian_loss - float(gain.mean())
        # Two standard errors, so that a flow that has learnt the noise of its training draws is not taken.
        better = gain.mean() > 2 * gain.std() / math.sqrt(len(gain))
        chosen = (name, flow) if better else ("gaussian", gaussian.flow)
        fits.append(Fit(chosen[1], chosen[0], epochs, gaussian.gaussian_loss, loss))
    return fits


def train_bijection(
    key: jax.Array,
    architecture: Architecture,
    train: Float[Array, "n dim"],
    held_out: Float[Array, "m dim"],
    max_epochs: int,
    report: Callable[[int], None],
) -> tuple[AbstractBijection, int]:
    """The bijection with the least held-out loss, and the number of epochs made."""
    n, dim = train.shape
    build_key, judge_key, key = jax.random.split(key, 3)
    params, static = eqx.partition(build(architecture, build_key, dim), eqx.is_inexact_array)
    state = _State(params, _OPTIMISER.init(params), params, jnp.asarray(jnp.inf, train.dtype), jnp.asarray(0))
    batch_size = min(n, 2 ** min(8, max(6, round(math.log2(n / 8)))))
    peak = getattr(architecture, "learning_rate", _LEARNING_RATE)
    epoch = 0
    for epoch in range(1, max_epochs + 1):
        key, epoch_key = jax.random.split(key)
        rate = peak * 0.5 * (1 + math.cos(math.pi * (epoch - 1) / max_epochs))
        state = _epoch(
            state,
            static,
            architecture,
            train,
            held_out,
            (epoch_key, judge_key),
            jnp.asarray(rate, train.dtype),
            jnp.asarray(epoch),
            batch_size,
        )
        report(epoch)
        if epoch - int(state.best_epoch) >= _PATIENCE:
            break
    return eqx.combine(state.best, static), epoch


class _State(eqx.Module):
    params: PyTree
    optimiser: PyTree
    best: PyTree
    best_loss: Float[Array, ""]
    best_epoch: Array


@eqx.filter_jit
def _epoch(
    state: _State,
    static: PyTree,
    architecture: Architecture,
    train: Float[Array, "n dim"],
    held_out: Float[Array, "m dim"],
    keys: tuple[jax.Array, jax.Array],
    rate: Float[Array, ""],
    epoch: Array,
    batch_size: int,
) -> _State:
    n = train.shape[0]
    steps = n // batch_size
    order_key, loss_key = jax.random.split(keys[0])
    batches = jax.random.permutation(order_key, n)[: steps * batch_size].reshape(steps, batch_size)

    def loss_of(params: PyTree, key: jax.Array, u: Array) -> Array:
        bijection = paramax.unwrap(eqx.combine(params, static))
        own = getattr(architecture, "loss", None)
        return negative_log_density(bijection, u) if own is None else own(bijection, key, u)

    def step(carry, at):
        params, optimiser = carry
        batch, key = at
        gradient = jax.grad(loss_of)(params, key, train[batch])
        updates, optimiser = _OPTIMISER.update(gradient, optimiser, params)
        return (jax.tree.map(lambda p, g: p - rate * g, params, updates), optimiser), None

    start = (state.params, state.optimiser)
    (params, optimiser), _ = jax.lax.scan(step, start, (batches, jax.random.split(loss_key, steps)))
    loss = loss_of(params, keys[1], held_out)
    better = loss < state.best_loss
    best, best_loss, best_epoch = jax.tree.map(
        lambda new, old: jnp.where(better, new, old),
        (params, loss, epoch),
        (state.best, state.best_loss, state.best_epoch),
    )
    return _State(params, optimiser, best, best_loss, best_epoch)


def negative_log_density(bijection: AbstractBijection, u: Float[Array, "n dim"]) -> Float[Array, ""]:
    """The mean over draws, but for the constants, which do not change with the parameters."""
    z, log_det = jax.vmap(bijection.transform_and_log_det)(u)
    return 0.5 * (z**2).sum(-1).mean() - log_det.mean()
