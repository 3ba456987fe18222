"""Normalised densities fitted to posterior samples: a whitened Gaussian, and a spline flow on top of it."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import paramax
from flowjax.bijections import (
    AbstractBijection,
    Chain,
    Coupling,
    Flip,
    Permute,
    RationalQuadraticSpline,
    Scan,
    Vmap,
)
from jaxtyping import Array, Float, PyTree

# The splines act within this many standard deviations of the whitened samples and are the identity beyond.
_INTERVAL = 6.0
_KNOTS = 8
_LAYERS = 4
_LEARNING_RATE = 5e-3
_PATIENCE = 20
_BLOCK = 1024
# Chosen once, here: a new optimiser object would be a new static argument, hence a new compilation, at every fit.
_OPTIMISER = optax.chain(optax.clip_by_global_norm(5.0), optax.scale_by_adam())


class Whitener(eqx.Module):
    """The affine map of the samples to mean zero and covariance one, in float64 on the host.

    Args:
        loc: the mean of the samples.
        chol: the lower Cholesky factor of their covariance.
    """

    loc: Float[np.ndarray, " dim"]
    chol: Float[np.ndarray, "dim dim"]

    @classmethod
    def fit(cls, samples: Float[np.ndarray, "n dim"]) -> Whitener:
        """Fit to samples.

        Raises:
            ValueError: there are too few samples for a covariance, or they do not vary in some direction.
        """
        n, dim = samples.shape
        if n <= dim:
            raise ValueError(
                f"samples: {n} training draws do not determine a covariance in {dim} dimensions; give more draws"
            )
        loc = samples.mean(0)
        covariance = np.atleast_2d(np.cov(samples, rowvar=False))
        # Scaled to a correlation matrix first, so that the units of the parameters do not decide whether it is
        # numerically positive definite.
        scale = np.sqrt(np.diag(covariance))
        try:
            if not np.all(scale > 0):
                raise np.linalg.LinAlgError
            factor = np.linalg.cholesky(covariance / np.outer(scale, scale))
        except np.linalg.LinAlgError:
            raise ValueError(
                f"samples: the covariance of the {n} training draws is singular; give more draws, or remove a "
                "parameter that does not vary or is a function of the others"
            ) from None
        return cls(loc, scale[:, None] * factor)

    def __call__(self, samples: Float[np.ndarray, "n dim"]) -> Float[np.ndarray, "n dim"]:
        """The whitened samples."""
        return np.linalg.solve(self.chol, (samples - self.loc).T).T

    @property
    def log_det(self) -> float:
        """The log-determinant of the map back."""
        return float(np.log(np.diag(self.chol)).sum())


class Flow(eqx.Module):
    r"""A normalised density :math:`\varphi_T` over the parameters, with a temperature.

    With u the whitened parameters and z = b(u), b the spline bijection (the identity for a Gaussian),

    .. math:: \ln\varphi_T(x) = -\tfrac{|z|^2}{2T} - \tfrac d2\ln 2\pi T + \ln|\partial z/\partial u| - \ln|L|,

    so that the temperature T scales the covariance of the base, whatever the bijection.

    Args:
        whitener: the affine part.
        bijection: from whitened parameters to the base, or None for a Gaussian.
    """

    whitener: Whitener
    bijection: AbstractBijection | None = None

    def log_prob(self, samples: Float[np.ndarray, "n dim"], temperature: float = 1.0) -> Float[np.ndarray, " n"]:
        """The log-density of samples, shape (n, dim), as float64."""
        z = self.whitener(np.asarray(samples, np.float64))
        dim = z.shape[-1]
        log_det = np.zeros(len(z))
        if self.bijection is not None:
            # Blocks of one shape, so that one compilation serves any number of samples.
            blocks = np.split(np.resize(z, (-(-len(z) // _BLOCK) * _BLOCK, dim)), -(-len(z) // _BLOCK))
            mapped = [_forward(self.bijection, jnp.asarray(block)) for block in blocks]
            z, log_det = (np.concatenate(a, dtype=np.float64)[: len(z)] for a in zip(*mapped, strict=True))
        square = np.einsum("nd,nd->n", z, z)
        normaliser = 0.5 * dim * math.log(2 * math.pi * temperature) + self.whitener.log_det
        return log_det - 0.5 * square / temperature - normaliser


@dataclass(frozen=True)
class Fit:
    """A flow and how its training went; losses are mean negative log-densities of the held-out draws, in nats."""

    flow: Flow
    name: str
    epochs: int
    gaussian_loss: float
    spline_loss: float | None


def fit_gaussian(train: Float[np.ndarray, "n dim"], held_out: Float[np.ndarray, "m dim"]) -> Fit:
    """The Gaussian of the mean and covariance of all the draws; its loss is that of one fitted to ``train`` alone."""
    loss = -float(Flow(Whitener.fit(train)).log_prob(held_out).mean())
    return Fit(Flow(Whitener.fit(np.concatenate([train, held_out]))), "gaussian", 0, loss, None)


def fit_splines(
    key: jax.Array,
    train: Sequence[Float[np.ndarray, "n dim"]],
    held_out: Sequence[Float[np.ndarray, "m dim"]],
    *,
    max_epochs: int,
    progress: Callable[[int, int], None] | None = None,
) -> list[Fit]:
    """Fit a spline flow for each fold; a fold whose flow is no better than a Gaussian gets the Gaussian.

    Args:
        key: a random key.
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
        u, v = (jnp.asarray(np.resize(whitener(x), (size, x.shape[1]))) for x, size in ((draws, n), (judges, m)))

        def report(epoch: int, fold: int = fold) -> None:
            if progress is not None:
                progress(fold * max_epochs + epoch, folds * max_epochs)

        bijection, epochs = _train(fold_key, u, v, max_epochs, report)
        report(max_epochs)
        gaussian = fit_gaussian(draws, judges)
        flow = Flow(whitener, bijection)
        gain = flow.log_prob(judges) - Flow(whitener).log_prob(judges)
        loss = gaussian.gaussian_loss - float(gain.mean())
        # Two standard errors, so that a flow that has learnt the noise of its training draws is not taken.
        better = gain.mean() > 2 * gain.std() / math.sqrt(len(gain))
        name, chosen = ("spline", flow) if better else ("gaussian", gaussian.flow)
        fits.append(Fit(chosen, name, epochs, gaussian.gaussian_loss, loss))
    return fits


def _train(
    key: jax.Array,
    train: Float[Array, "n dim"],
    held_out: Float[Array, "m dim"],
    max_epochs: int,
    report: Callable[[int], None],
) -> tuple[AbstractBijection, int]:
    """The bijection with the least held-out loss, and the number of epochs made."""
    n, dim = train.shape
    init_key, key = jax.random.split(key)
    params, static = _initialise(init_key, dim, train.dtype)
    state = _State(params, _OPTIMISER.init(params), params, jnp.asarray(jnp.inf, train.dtype), jnp.asarray(0))
    batch_size = min(n, 2 ** min(10, max(7, round(math.log2(n / 8)))))
    epoch = 0
    for epoch in range(1, max_epochs + 1):
        key, epoch_key = jax.random.split(key)
        rate = _LEARNING_RATE * 0.5 * (1 + math.cos(math.pi * (epoch - 1) / max_epochs))
        state = _epoch(
            state, static, train, held_out, epoch_key, jnp.asarray(rate, train.dtype), jnp.asarray(epoch), batch_size
        )
        report(epoch)
        if epoch - int(state.best_epoch) >= _PATIENCE:
            break
    return paramax.unwrap(eqx.combine(state.best, static)), epoch


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
    train: Float[Array, "n dim"],
    held_out: Float[Array, "m dim"],
    key: jax.Array,
    rate: Float[Array, ""],
    epoch: Array,
    batch_size: int,
) -> _State:
    n = train.shape[0]
    steps = n // batch_size
    batches = jax.random.permutation(key, n)[: steps * batch_size].reshape(steps, batch_size)

    def step(carry, batch):
        params, optimiser = carry
        gradient = jax.grad(_loss)(params, static, train[batch])
        updates, optimiser = _OPTIMISER.update(gradient, optimiser, params)
        return (jax.tree.map(lambda p, g: p - rate * g, params, updates), optimiser), None

    (params, optimiser), _ = jax.lax.scan(step, (state.params, state.optimiser), batches)
    loss = _loss(params, static, held_out)
    better = loss < state.best_loss
    best, best_loss, best_epoch = jax.tree.map(
        lambda new, old: jnp.where(better, new, old),
        (params, loss, epoch),
        (state.best, state.best_loss, state.best_epoch),
    )
    return _State(params, optimiser, best, best_loss, best_epoch)


def _loss(params: PyTree, static: PyTree, u: Float[Array, "n dim"]) -> Float[Array, ""]:
    # The constants of the density are left out: they do not change with the parameters.
    z, log_det = jax.vmap(paramax.unwrap(eqx.combine(params, static)).transform_and_log_det)(u)
    return 0.5 * (z**2).sum(-1).mean() - log_det.mean()


@eqx.filter_jit
def _forward(bijection: AbstractBijection, u: Float[Array, "n dim"]) -> tuple[Array, Array]:
    return jax.vmap(bijection.transform_and_log_det)(u)


def _initialise(key: jax.Array, dim: int, dtype: jnp.dtype) -> tuple[PyTree, PyTree]:
    """The trainable arrays of a new flow, and the rest of it."""
    if dim == 1:  # no other coordinate to condition on: one spline, which starts the same from every key
        return eqx.partition(_single_spline(dtype), eqx.is_inexact_array)
    arrays = _layer_arrays(jax.random.split(key, _LAYERS), dim)
    return eqx.partition(Scan(eqx.combine(arrays, _layer_rest(dim, dtype))), eqx.is_inexact_array)


@functools.partial(jax.jit, static_argnames="dim")
def _layer_arrays(keys: jax.Array, dim: int) -> PyTree:
    return jax.vmap(lambda key: eqx.partition(_layer(key, dim), eqx.is_array)[0])(keys)


@functools.lru_cache(maxsize=2)
def _single_spline(dtype: jnp.dtype) -> AbstractBijection:
    return Vmap(eqx.filter_vmap(_spline, axis_size=1)(), in_axes=eqx.if_array(0))


@functools.lru_cache(maxsize=32)
def _layer_rest(dim: int, dtype: jnp.dtype) -> PyTree:
    # Flowjax's layers hold closures made anew with each layer, which jit would take for new functions. All flows of a
    # dimension (and dtype: the closures hold arrays) share those of the first, so that a second fit compiles nothing.
    return eqx.partition(_layer(jax.random.key(0), dim), eqx.is_array)[1]


def _spline() -> RationalQuadraticSpline:
    return RationalQuadraticSpline(knots=_KNOTS, interval=_INTERVAL)


def _layer(key: jax.Array, dim: int) -> AbstractBijection:
    """A coupling layer of splines with a permutation; but for that the identity as it starts."""
    coupling_key, permutation_key = jax.random.split(key)
    coupling = Coupling(
        coupling_key,
        transformer=_spline(),
        untransformed_dim=dim // 2,
        dim=dim,
        nn_width=32 if dim <= 8 else 64,
        nn_depth=1 if dim <= 8 else 2,
    )
    last = coupling.conditioner.layers[-1]
    coupling = eqx.tree_at(
        lambda c: (c.conditioner.layers[-1].weight, c.conditioner.layers[-1].bias),
        coupling,
        (jnp.zeros_like(last.weight), jnp.zeros_like(last.bias)),
    )
    mix = Flip((dim,)) if dim == 2 else Permute(jax.random.permutation(permutation_key, dim))
    return Chain([coupling, mix])
