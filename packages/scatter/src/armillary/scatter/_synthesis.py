"""Synthesis of fields with given scattering covariances."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Complex, Float

from ._check import check_integer
from ._coefficients import Space, Sphere, Torus, power
from ._covariance import ScatteringCovariance, check_power
from ._synthesis_file import Checkpoint

#: Iterations between two looks at the losses from outside.
_CHUNK = 10


class SynthesisProgress(NamedTuple):
    """How far a synthesis is.

    Attributes:
        evaluations: of the statistics and their gradient, of each texture.
        loss: the mean square of the whitened differences, of each texture.
        alm: the textures as they are now; `synthesise` goes on from them with ``init=alm``.
        level: how many times the textures are yet to be made twice as fine.
    """

    evaluations: Array
    loss: Array
    alm: Complex[Array, "num L 2*L-1"] | Float[Array, "num rows columns"]
    level: int = 0


class Problem(NamedTuple):
    """What the fields of a synthesis are like, and what they are to be like."""

    cov: ScatteringCovariance
    root: Float[Array, " coefficients"]  # the root of the power of each coefficient
    offset: Float[Array, " coefficients"]  # the mean
    statistics: Float[Array, " statistics"]
    whitener: Float[Array, "statistics statistics"]


class State(NamedTuple):
    """Where the descent of all textures is."""

    x: Float[Array, "num coefficients"]
    optimiser: Any
    loss: Float[Array, " num"]
    evaluations: Array


def synthesise(
    key: Array,
    cov: ScatteringCovariance,
    target: Complex[Array, "L 2*L-1"] | Float[Array, "rows columns"],
    num: int = 1,
    method: Literal["lbfgs"] | optax.GradientTransformation = "lbfgs",
    init: Literal["gaussian", "white"] | Complex[Array, "num L 2*L-1"] | Float[Array, "num rows columns"] = "gaussian",
    *,
    spectrum: bool = True,
    max_evaluations: int = 300,
    tol: float = 0.01,
    ensemble: int = 256,
    levels: int = 1,
    progress: Callable[[SynthesisProgress], Any] | None = None,
    checkpoint: str | Path | None = None,
) -> Complex[Array, "num L 2*L-1"] | Float[Array, "num rows columns"]:
    r"""Fields that have the scattering covariances of one field, and are otherwise random: textures.

    Each starts from a random field, and goes down the loss

    .. math:: \frac1K \left|\Sigma^{-1/2} (s(a) - s(a_{target}))\right|^2 + \frac1L \sum_l \frac{2 l + 1}{2}
              \left(\frac{\hat C_l(a)}{\hat C_l(a_{target})} - 1\right)^2,

    where :math:`\Sigma` is the covariance of the K statistics over Gaussian fields of the target's power spectrum
    (where there are more statistics than such fields, its diagonal): all groups of statistics are then matched, each
    to the same part of what chance makes of it, and so is the spectrum. What is varied are the harmonic coefficients
    divided by the root of the target's spectrum. The monopole is the target's.

    On the plane coefficients are those of Hartley's transform, and the degree of a frequency is its number of waves
    across the shorter side, rounded.

    Args:
        key: a random key.
        cov: the statistics.
        target: harmonic coefficients of the field to be like; on the plane, the image.
        num: the number of textures, made in one batch.
        method: ``"lbfgs"``, or an optimiser of optax.
        init: a Gaussian field of the target's spectrum (exactly that, in each degree), or of a flat one, or
            fields, as many as `num`, to go on from.
        spectrum: whether the second term is there.
        max_evaluations: the most evaluations of the statistics and their gradient, of any texture, on each level.
        tol: each texture is left when the root of its loss is below it.
        ensemble: the number of Gaussian fields.
        levels: from coarse to fine: before the last level is one of half the bandlimit, or sides, and so on, from whose
            textures it starts.
        progress: called every few iterations.
        checkpoint: a file in which the state is kept, whole at any time. When there is one of the same arguments,
            it is gone on from, to the same bits; `max_evaluations` and `tol` may be others.

    Returns:
        Harmonic coefficients, ``(num, L, 2 L - 1)``, or images.

    Raises:
        ValueError: an argument is out of range; or a scale of `target` has no power; or `checkpoint` is a file of
            another synthesis. Names it, and what is allowed.

    References: Mousset L., Allys E., Price M. A. et al. 2024 (arXiv:2407.07007); Bruna J., Mallat S. 2019,
    Mathematical Statistics and Learning 1, 257 (arXiv:1801.02013).

    >>> import jax
    >>> from armillary.scatter import ScatteringCovariance, synthesise
    >>> from armillary.sphere import alm_from_real
    >>> target = alm_from_real(jax.random.normal(jax.random.key(0), (64,)) ** 3)
    >>> cov = ScatteringCovariance(8, N=1, J_min=1, reference=target)
    >>> textures = synthesise(jax.random.key(1), cov, target, num=2, max_evaluations=60)
    >>> bool(abs(cov(textures).s4 / cov(target).s4 - 1).max() < 0.05)
    True
    """
    if not isinstance(cov, ScatteringCovariance):
        raise ValueError(f"cov={cov!r}: a ScatteringCovariance")
    if isinstance(target, jax.core.Tracer):
        raise ValueError("target is traced: synthesise is a loop outside of jit")
    space = _space(cov)
    target = space.check("target", target)
    if target.ndim > 2:
        raise ValueError(f"target has shape {target.shape}: one field, {space.shape}")
    num = check_integer("num", num, 1, None, "the number of textures")
    most = check_integer("max_evaluations", max_evaluations, 1, None, "the most evaluations")
    check_integer("ensemble", ensemble, 8, None, "the number of Gaussian fields")
    if not (isinstance(tol, (int, float)) and tol >= 0):
        raise ValueError(f"tol={tol!r}: a number of 0 or more")
    if method != "lbfgs" and not (hasattr(method, "init") and hasattr(method, "update")):
        raise ValueError(f"method={method!r}: 'lbfgs', or an optimiser of optax such as optax.adam(0.01)")
    optimiser = _lbfgs() if method == "lbfgs" else optax.with_extra_args_support(method)
    covs = _levels(cov, levels)
    if isinstance(init, str):
        if init not in ("gaussian", "white"):
            raise ValueError(f"init={init!r}: 'gaussian', 'white', or fields")
    else:
        init = space.check("init", init)
        if init.shape != (num, *space.shape):
            raise ValueError(f"init has shape {init.shape}: {(num, *space.shape)}, one field for each texture")
        if levels > 1:
            raise ValueError(f"levels={levels} with fields to go on from: 1")
    file = None
    if checkpoint is not None:
        what = method if isinstance(method, str) else "optax"
        file = Checkpoint(checkpoint, (key, cov, target, what, init, num, bool(spectrum), ensemble, levels))

    keys = jax.random.split(key)
    first = 0 if file is None else file.level()
    coarse: tuple[Problem, Array] | None = None
    for level, (level_cov, level_target) in list(enumerate(_pyramid(covs, target)))[first:]:
        problem = _problem(keys[0], level_cov, level_target, ensemble)
        x = _start(keys[1], problem, init, num) if coarse is None else _refined(keys[1], problem, coarse, num)
        state = _begin(optimiser, bool(spectrum), problem, x)
        if file is not None and level == first:
            state = file.read(state)
        while not ((state.evaluations >= most) | (state.loss <= tol**2)).all():
            state = _iterate(optimiser, bool(spectrum), most, problem, tol, state)
            if file is not None:
                file.write(level, state)
            if progress is not None:
                fields = _field(problem, state.x)
                progress(SynthesisProgress(state.evaluations, state.loss, fields, len(covs) - 1 - level))
        coarse = problem, state.x
    return _field(problem, state.x)


def _space(cov: ScatteringCovariance) -> Space:
    return Torus(cov.L) if cov.domain == "plane" else Sphere(cov.L)


def _levels(cov: ScatteringCovariance, levels: Any) -> list[ScatteringCovariance]:
    """The statistics of every level, the coarsest first: what they are divided by the whitening undoes."""
    levels = check_integer("levels", levels, 1, None, "the number of levels")
    if levels > 1 and cov.weights is not None:
        raise ValueError(f"levels={levels} with a mask: 1")
    covs = [cov]
    for _ in range(levels - 1):
        c = covs[0]
        size = _space(c).coarser
        L = size.shape if isinstance(size, Torus) else size.L
        try:
            coarser = ScatteringCovariance(
                L, c.N, c.J_min, c.isotropic, c.oversample, compat=c.compat, backend=c.backend, domain=c.domain
            )
        except ValueError as error:
            raise ValueError(f"levels={levels}: the coarsest has too few scales: {error}") from None
        covs.insert(0, coarser)
    return covs


def _pyramid(covs: list[ScatteringCovariance], target: Array) -> list[tuple[ScatteringCovariance, Array]]:
    """The target on every level."""
    targets = [target]
    for cov, finer in zip(covs[-2::-1], covs[:0:-1], strict=True):
        here, there, ratio = _space(finer).shared(_space(cov))
        x = _space(finer).coefficients(targets[0])
        size = _space(cov).degrees.size
        targets.insert(0, _space(cov).field(jnp.zeros(size, x.dtype).at[there].set(x[here] / ratio)))
    return list(zip(covs, targets, strict=True))


@functools.cache
def _lbfgs() -> optax.GradientTransformationExtraArgs:
    return optax.lbfgs(memory_size=20)


def _problem(key: Array, cov: ScatteringCovariance, target: Array, ensemble: int) -> Problem:
    s, space = cov(target), _space(cov)
    check_power("target", cov, s.s2 if cov.power is None else s.s2 * cov.power)
    x = space.coefficients(target)
    root = jnp.sqrt(power(space, x))[space.degrees].at[0].set(0)
    offset = jnp.zeros_like(x).at[0].set(x[0])
    problem = Problem(cov, root, offset, s.ravel()[1:], jnp.zeros((0, 0), x.dtype))
    draws = np.asarray(_ensemble(problem, jax.random.split(key, ensemble)), np.float64)
    sd = draws.std(axis=0)
    count = sd.size
    if count <= ensemble:
        # Shrunk, for the small eigenvalues of a covariance of few draws are too small.
        correlation = 0.9 * np.corrcoef(draws, rowvar=False) + 0.1 * np.eye(count)
        whitener = np.linalg.inv(np.linalg.cholesky(correlation)) / sd
    else:
        whitener = 1 / sd
    return problem._replace(whitener=jnp.asarray(whitener, x.dtype))


@jax.jit
def _field(problem: Problem, x: Array) -> Array:
    return _space(problem.cov).field(problem.root * x + problem.offset)


@jax.jit
def _ensemble(problem: Problem, keys: Array) -> Array:
    def draw(key: Array) -> Array:
        return problem.cov(_field(problem, jax.random.normal(key, problem.root.shape, problem.root.dtype))).ravel()[1:]

    return jax.lax.map(draw, keys)


def _start(key: Array, problem: Problem, init: Any, num: int) -> Array:
    space, root = _space(problem.cov), problem.root
    if not isinstance(init, str):
        return _whitened(problem, space.coefficients(init).astype(root.dtype))
    x = jax.random.normal(key, (num, root.size), root.dtype)
    if init == "gaussian":
        return x / jnp.sqrt(power(space, x))[:, space.degrees]
    return _whitened(problem, x * jnp.sqrt((root**2).sum() / (root.size - 1)))


def _refined(key: Array, problem: Problem, coarse: tuple[Problem, Array], num: int) -> Array:
    """A Gaussian start but for what a coarser level has found."""
    before, x = coarse
    here, there, ratio = _space(problem.cov).shared(_space(before.cov))
    found = _whitened(
        problem, jnp.zeros((num, problem.root.size), x.dtype).at[:, here].set((before.root * x)[:, there])
    )
    return _start(key, problem, "gaussian", num).at[:, here].set(ratio * found[:, here])


def _whitened(problem: Problem, x: Array) -> Array:
    return jnp.where(problem.root > 0, x / jnp.where(problem.root > 0, problem.root, 1), 0)


def _loss(problem: Problem, spectrum: bool, x: Array) -> Array:
    space = _space(problem.cov)
    apart = problem.cov(_field(problem, x)).ravel()[1:] - problem.statistics
    w = problem.whitener
    white = jnp.dot(w, apart, precision="highest") if w.ndim == 2 else w * apart
    total = (white**2).mean()
    if spectrum:
        # x has the unit power that the target has, in every degree where that has any.
        there = np.bincount(space.degrees) * (power(space, problem.root) > 0)
        total = total + (there / 2 * (power(space, x) - 1) ** 2)[1:].mean()
    return total.astype(x.dtype)


@functools.partial(jax.jit, static_argnums=(0, 1))
def _begin(optimiser: optax.GradientTransformationExtraArgs, spectrum: bool, problem: Problem, x: Array) -> State:
    def begin(x: Array) -> tuple[Any, Array]:
        loss, gradient = jax.value_and_grad(functools.partial(_loss, problem, spectrum))(x)
        state = optimiser.init(x)
        if _has_line_search(state):
            state = optax.tree_utils.tree_set(state, value=loss, grad=gradient)
        return state, loss

    return State(x, *jax.vmap(begin)(x), jnp.ones(len(x), np.int32))


@functools.partial(jax.jit, static_argnums=(0, 1, 2))
def _iterate(
    optimiser: optax.GradientTransformationExtraArgs,
    spectrum: bool,
    most: int,
    problem: Problem,
    tol: Array,
    state: State,
) -> State:
    value = functools.partial(_loss, problem, spectrum)

    def step(state: State) -> State:
        inner = state.optimiser
        line_search = _has_line_search(inner)
        if line_search:
            # The last value and gradient of a line search are those of the field that it found.
            now, gradient = state.loss, optax.tree_utils.tree_get(inner, "grad")
        else:
            now, gradient = jax.value_and_grad(value)(state.x)
        change, new = optimiser.update(gradient, inner, state.x, value=now, grad=gradient, value_fn=value)
        steps = optax.tree_utils.tree_get(new, "num_linesearch_steps") if line_search else 1
        after = optax.tree_utils.tree_get(new, "value") if line_search else now
        x, evaluations = optax.apply_updates(state.x, change), state.evaluations + jnp.asarray(steps, np.int32)
        done = (state.evaluations >= most) | (state.loss <= tol**2)
        return jax.tree.map(lambda old, new: jnp.where(done, old, new), state, State(x, new, after, evaluations))

    return jax.lax.fori_loop(0, _CHUNK, lambda _, state: jax.vmap(step)(state), state)


def _has_line_search(state: Any) -> bool:
    return optax.tree_utils.tree_get(state, "num_linesearch_steps") is not None
