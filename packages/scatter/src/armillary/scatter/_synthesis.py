"""Synthesis of fields with given scattering covariances."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Complex, Float

from armillary.sphere import alm_from_real, alm_to_real, power_spectrum

from ._check import check_alm, check_integer
from ._covariance import ScatteringCovariance, check_power

#: Iterations between two looks at the losses from outside.
_CHUNK = 10


class SynthesisProgress(NamedTuple):
    """How far a synthesis is.

    Attributes:
        evaluations: of the statistics and their gradient, of each texture.
        loss: the mean square of the whitened differences, of each texture.
        alm: the textures as they are now; `synthesise` goes on from them with ``init=alm``.
    """

    evaluations: Array
    loss: Array
    alm: Complex[Array, "num L 2*L-1"]


class Problem(NamedTuple):
    """What the fields of a synthesis are like, and what they are to be like."""

    cov: ScatteringCovariance
    root: Float[Array, " L**2"]  # the root of the power of each coefficient
    offset: Float[Array, " L**2"]  # the monopole
    cl: Float[Array, " L"]
    statistics: Float[Array, " coefficients"]
    whitener: Float[Array, "coefficients coefficients"]


def synthesise(
    key: Array,
    cov: ScatteringCovariance,
    target: Complex[Array, "L 2*L-1"],
    num: int = 1,
    method: Literal["lbfgs"] | optax.GradientTransformation = "lbfgs",
    init: Literal["gaussian", "white"] | Complex[Array, "num L 2*L-1"] = "gaussian",
    *,
    spectrum: bool = True,
    max_evaluations: int = 300,
    tol: float = 0.01,
    ensemble: int = 256,
    progress: Callable[[SynthesisProgress], Any] | None = None,
) -> Complex[Array, "num L 2*L-1"]:
    r"""Fields that have the scattering covariances of one field, and are otherwise random: textures.

    Each starts from a random field, and goes down the loss

    .. math:: \frac1K \left|\Sigma^{-1/2} (s(a) - s(a_{target}))\right|^2 + \frac1L \sum_l \frac{2 l + 1}{2}
              \left(\frac{\hat C_l(a)}{\hat C_l(a_{target})} - 1\right)^2,

    where :math:`\Sigma` is the covariance of the K statistics over Gaussian fields of the target's power spectrum
    (where there are more statistics than such fields, its diagonal): all groups of statistics are then matched, each
    to the same part of what chance makes of it, and so is the spectrum. What is varied are the harmonic coefficients
    divided by the root of the target's spectrum. The monopole is the target's.

    Args:
        key: a random key.
        cov: the statistics.
        target: harmonic coefficients of the field to be like.
        num: the number of textures, made in one batch.
        method: ``"lbfgs"``, or an optimiser of optax.
        init: a Gaussian field of the target's spectrum (exactly that, in each degree), or of a flat one, or
            coefficients ``(num, L, 2 L - 1)`` to go on from.
        spectrum: whether the second term is there.
        max_evaluations: the most evaluations of the statistics and their gradient, of any texture.
        tol: each texture is left when the root of its loss is below it.
        ensemble: the number of Gaussian fields.
        progress: called every few iterations, to report, or to save what there is.

    Returns:
        Harmonic coefficients, ``(num, L, 2 L - 1)``.

    Raises:
        ValueError: an argument is out of range; or a scale of `target` has no power. Names it, and what is allowed.

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
    alm = check_alm("target", target, cov.L)
    if alm.ndim > 2:
        raise ValueError(f"target has shape {alm.shape}: one field, ({cov.L}, {2 * cov.L - 1})")
    num = check_integer("num", num, 1, None, "the number of textures")
    most = check_integer("max_evaluations", max_evaluations, 1, None, "the most evaluations")
    check_integer("ensemble", ensemble, 8, None, "the number of Gaussian fields")
    if not (isinstance(tol, (int, float)) and tol >= 0):
        raise ValueError(f"tol={tol!r}: a number of 0 or more")
    if method != "lbfgs" and not (hasattr(method, "init") and hasattr(method, "update")):
        raise ValueError(f"method={method!r}: 'lbfgs', or an optimiser of optax such as optax.adam(0.01)")
    optimiser = _lbfgs() if method == "lbfgs" else optax.with_extra_args_support(method)

    key_ensemble, key_start = jax.random.split(key)
    problem = _problem(key_ensemble, cov, alm, ensemble)
    x = _start(key_start, problem, init, num)
    run = functools.partial(_iterate, optimiser, bool(spectrum), most, problem)
    state, loss = _begin(optimiser, bool(spectrum), problem, x)
    evaluations = jnp.ones(num, np.int32)
    while True:
        x, state, loss, evaluations = run(tol, x, state, loss, evaluations)
        if progress is not None:
            progress(SynthesisProgress(evaluations, loss, _field(problem, x)))
        if ((evaluations >= most) | (loss <= tol**2)).all():
            return _field(problem, x)


@functools.cache
def _lbfgs() -> optax.GradientTransformationExtraArgs:
    return optax.lbfgs(memory_size=20)


def _problem(key: Array, cov: ScatteringCovariance, target: Array, ensemble: int) -> Problem:
    s = cov(target)
    check_power("target", cov, s.s2 if cov.power is None else s.s2 * cov.power)
    L, x = cov.L, alm_to_real(target)
    cl = power_spectrum(target)
    root = jnp.sqrt(cl)[_degrees(L)].at[0].set(0)
    problem = Problem(cov, root, jnp.zeros_like(x).at[0].set(x[0]), cl, s.ravel()[1:], jnp.zeros((0, 0), x.dtype))
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


def _degrees(L: int) -> np.ndarray:
    return np.repeat(np.arange(L, dtype=np.int32), 2 * np.arange(L) + 1)


@jax.jit
def _field(problem: Problem, x: Array) -> Array:
    return alm_from_real(problem.root * x + problem.offset)


@jax.jit
def _ensemble(problem: Problem, keys: Array) -> Array:
    def draw(key: Array) -> Array:
        return problem.cov(_field(problem, jax.random.normal(key, problem.root.shape, problem.root.dtype))).ravel()[1:]

    return jax.lax.map(draw, keys)


def _start(key: Array, problem: Problem, init: Any, num: int) -> Array:
    L, root = problem.cov.L, problem.root
    if isinstance(init, str):
        if init not in ("gaussian", "white"):
            raise ValueError(f"init={init!r}: 'gaussian', 'white', or harmonic coefficients")
        x = jax.random.normal(key, (num, L * L), root.dtype)
        modes = 2 * np.arange(L) + 1
        if init == "gaussian":
            power = jax.vmap(lambda y: jax.ops.segment_sum(y**2, _degrees(L), L))(x) / modes.astype(root.dtype)
            return x / jnp.sqrt(power)[:, _degrees(L)]
        flat = jnp.sqrt((problem.cl * modes)[1:].sum() / (L * L - 1))
        return jnp.where(root > 0, x * flat / jnp.where(root > 0, root, 1), 0)
    alm = check_alm("init", init, L)
    if alm.shape[:-2] != (num,):
        raise ValueError(f"init has shape {alm.shape}: ({num}, {L}, {2 * L - 1}), one field for each texture")
    return jnp.where(root > 0, alm_to_real(alm).astype(root.dtype) / jnp.where(root > 0, root, 1), 0)


def _loss(problem: Problem, spectrum: bool, x: Array) -> Array:
    alm = _field(problem, x)
    apart = problem.cov(alm).ravel()[1:] - problem.statistics
    w = problem.whitener
    white = jnp.dot(w, apart, precision="highest") if w.ndim == 2 else w * apart
    total = (white**2).mean()
    if spectrum:
        there = problem.cl > 0
        ratio = jnp.where(there, power_spectrum(alm) / jnp.where(there, problem.cl, 1), 1)
        half = (np.arange(problem.cov.L) + 0.5).astype(x.dtype)
        total = total + (half * (ratio - 1) ** 2)[1:].mean()
    return total


@functools.partial(jax.jit, static_argnums=(0, 1))
def _begin(
    optimiser: optax.GradientTransformationExtraArgs, spectrum: bool, problem: Problem, x: Array
) -> tuple[Any, Array]:
    """The optimiser's state, and the losses."""

    def begin(x: Array) -> tuple[Any, Array]:
        loss, gradient = jax.value_and_grad(functools.partial(_loss, problem, spectrum))(x)
        state = optimiser.init(x)
        if _has_line_search(state):
            state = optax.tree_utils.tree_set(state, value=loss, grad=gradient)
        return state, loss

    return jax.vmap(begin)(x)


@functools.partial(jax.jit, static_argnums=(0, 1, 2))
def _iterate(
    optimiser: optax.GradientTransformationExtraArgs,
    spectrum: bool,
    most: int,
    problem: Problem,
    tol: Array,
    x: Array,
    state: Any,
    loss: Array,
    evaluations: Array,
) -> tuple[Array, Any, Array, Array]:
    value = functools.partial(_loss, problem, spectrum)

    def step(x: Array, state: Any, loss: Array, evaluations: Array) -> tuple[Array, Any, Array, Array]:
        line_search = _has_line_search(state)
        if line_search:
            # The last value and gradient of a line search are those of the field that it found.
            now, gradient = loss, optax.tree_utils.tree_get(state, "grad")
        else:
            now, gradient = jax.value_and_grad(value)(x)
        change, new = optimiser.update(gradient, state, x, value=now, grad=gradient, value_fn=value)
        steps = optax.tree_utils.tree_get(new, "num_linesearch_steps") if line_search else 1
        after = optax.tree_utils.tree_get(new, "value") if line_search else now
        fresh = (optax.apply_updates(x, change), new, after, evaluations + jnp.asarray(steps, np.int32))
        done = (evaluations >= most) | (loss <= tol**2)
        return jax.tree.map(lambda old, new: jnp.where(done, old, new), (x, state, loss, evaluations), fresh)

    def body(_: Any, carry: Any) -> Any:
        return jax.vmap(step)(*carry)

    return jax.lax.fori_loop(0, _CHUNK, body, (x, state, loss, evaluations))


def _has_line_search(state: Any) -> bool:
    return optax.tree_utils.tree_get(state, "num_linesearch_steps") is not None
