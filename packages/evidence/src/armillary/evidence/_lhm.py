"""The learned harmonic mean: the evidence from posterior samples and a density fitted to them."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PyTree

from . import _chains
from ._flow import Fit, fit_gaussian, fit_splines
from ._harmonic import HarmonicMeanStatistics, check_finite, harmonic_mean_statistics
from ._result import EvidenceEstimate

FLOWS = ("auto", "gaussian")
_MIN_CHAINS = 4
# Draws whose log-density is computed at once: memory stays bounded, and the vector units busy.
_BATCH = 256


@dataclass(frozen=True)
class LearnedHarmonicMean:
    r"""The evidence by the learned harmonic mean (an `armillary.core.protocols.EvidenceEstimator`).

    For a normalised density φ and samples of the posterior :math:`p/Z`, :math:`\mathrm E[\varphi/p] = 1/Z`. Here φ is
    a flow fitted to other chains of the same posterior, with the covariance of its base scaled by a temperature
    T < 1, so that it lies within the posterior and the ratio has a small variance. The flow is a whitened Gaussian
    with coupling layers of rational-quadratic splines on it, or the Gaussian alone where, on held-out draws, the
    splines are no better. The chains are cross-fitted: split into folds, each estimated with a flow fitted to the
    others, so that every draw counts once and none is estimated by a flow that has seen it.

    Reference: McEwen J. D., Wallis C. G. R., Price M. A., Spurio Mancini A. 2021 (arXiv:2111.12720); Polanska A.,
    Price M. A., Piras D., Spurio Mancini A., McEwen J. D. 2024 (arXiv:2405.05969).

    >>> import jax, jax.numpy as jnp
    >>> from armillary.evidence import LearnedHarmonicMean
    >>> samples = jax.random.normal(jax.random.key(0), (4, 1000, 3))
    >>> estimator = LearnedHarmonicMean(flow="gaussian")
    >>> found = estimator(jax.random.key(1), samples, lambda x: -0.5 * x @ x)
    >>> print(f"{found.log_z:.2f} ± {found.log_z_err:.2f}, exact {1.5 * jnp.log(2 * jnp.pi):.2f}")
    2.77 ± 0.01, exact 2.76

    Args:
        flow: ``"auto"``, as above, or ``"gaussian"`` for no splines and no training.
        train_fraction: the fraction of the chains to which each flow is fitted; there are 1 / (1 - train_fraction)
            folds, rounded.
        temperature: T, between 0 and 1; by default :math:`1 - 1/\sqrt d`, but between 0.6 and 0.95.
        max_epochs: the longest training; it stops before where held-out draws gain no more.
        progress_bar: whether to show one while training.

    Raises:
        ValueError: a setting is out of range.
    """

    flow: str = "auto"
    train_fraction: float = 0.5
    temperature: float | None = None
    max_epochs: int = 100
    progress_bar: bool = False

    def __post_init__(self) -> None:
        if self.flow not in FLOWS:
            raise ValueError(f"flow={self.flow!r}: it is one of {', '.join(map(repr, FLOWS))}")
        if not 0.5 <= self.train_fraction < 1:
            raise ValueError(
                f"train_fraction={self.train_fraction}: it is at least 0.5 and less than 1 "
                "(0.5 is two folds, 0.75 four)"
            )
        if self.temperature is not None and not 0 < self.temperature <= 1:
            raise ValueError(
                f"temperature={self.temperature}: it is above 0 and at most 1, for the density must lie within the "
                "posterior; leave it out for one that suits the dimension"
            )
        if self.max_epochs < 1:
            raise ValueError(f'max_epochs={self.max_epochs}: it is at least 1; for no training give flow="gaussian"')

    def __call__(
        self, key: jax.Array, samples: PyTree[Array, ...], log_density: Callable[[PyTree], Array]
    ) -> EvidenceEstimate:
        """The evidence of the posterior that the samples are of.

        Args:
            key: a random key, for training.
            samples: unconstrained positions, a pytree of arrays with leading axes (chain, draw).
            log_density: the unnormalised log posterior of one position, Jacobian included.

        Raises:
            ValueError: the samples or the log-density are not finite, or too few; says where and what to do.
        """
        matrix = as_matrix(samples)
        return self.from_arrays(key, matrix, evaluate(log_density, samples))

    def from_arrays(
        self, key: jax.Array, samples: Float[np.ndarray, "chain draw dim"], log_density: Float[np.ndarray, "chain draw"]
    ) -> EvidenceEstimate:
        """The evidence from samples and the log-density at each, where its function is not at hand."""
        x = np.asarray(samples, np.float64)
        rounding = _rounding(log_density)
        log_post = np.asarray(log_density, np.float64)
        check_samples(x, log_post)
        r_hat, ess = _chains.convergence(x)
        diagnostics: dict[str, Any] = {
            "num_chains": x.shape[0],
            "num_draws": x.shape[1],
            "dim": x.shape[2],
            "max_r_hat": r_hat,
            "min_ess": ess,
        }
        warnings = _warn_convergence(r_hat, ess)
        if len(x) < _MIN_CHAINS:
            number = -(-_MIN_CHAINS // len(x))
            warnings.append(
                f"only {len(x)} chain{'s' if len(x) > 1 else ''}: cut into {number} blocks each, which stand for "
                f"chains; that they have converged to one another is not known. Run {_MIN_CHAINS} chains or more"
            )
            x, log_post = _block(x, number), _block(log_post, number)
            diagnostics["blocks_as_chains"] = len(x)

        temperature = self.temperature if self.temperature is not None else default_temperature(x.shape[2])
        folds = _chains.folds(x, self.train_fraction)
        fits = self._fit(key, folds)
        log_phi = np.empty_like(log_post)
        for fold, fit in zip(folds, fits, strict=True):
            chains = x[fold.estimate]
            log_phi[fold.estimate] = fit.flow.log_prob(chains.reshape(-1, x.shape[2]), temperature).reshape(
                chains.shape[:2]
            )
        log_ratios = log_phi - log_post
        pieces = _chains.pieces_per_chain(log_ratios)
        statistics = harmonic_mean_statistics(_chains.split(log_phi, pieces), _chains.split(log_post, pieces))
        weights = np.exp(log_ratios - log_ratios.max())
        diagnostics |= {
            "temperature": temperature,
            "flow": [fit.name for fit in fits],
            "epochs": [fit.epochs for fit in fits],
            "held_out_loss_gaussian": [fit.gaussian_loss for fit in fits],
            "held_out_loss_spline": [fit.spline_loss for fit in fits],
            "blocks_per_chain": pieces,
            "n_eff": statistics.n_eff,
            "kurtosis": statistics.kurtosis,
            "variance_ratio": statistics.variance_ratio,
            "variance_ratio_reference": statistics.variance_ratio_reference,
            "effective_ratios": float(weights.sum() ** 2 / (weights**2).sum()),
            "pareto_k": _chains.pareto_k(log_ratios),
            "rounding": rounding,
        }
        warnings += _warn(statistics, diagnostics)
        return EvidenceEstimate(
            log_z=statistics.log_z,
            log_z_err=statistics.log_z_err,
            method="lhm",
            diagnostics=diagnostics,
            warnings=tuple(warnings),
            notes=_notes(diagnostics["flow"]) if self.flow == "auto" else (),
            log_z_interval=statistics.log_z_interval,
        )

    def _fit(self, key: jax.Array, folds: list[_chains.Fold]) -> list[Fit]:
        train, held_out = [fold.train for fold in folds], [fold.held_out for fold in folds]
        if self.flow == "gaussian":
            return [fit_gaussian(a, b) for a, b in zip(train, held_out, strict=True)]
        with _progress(self.progress_bar) as report:
            return fit_splines(key, train, held_out, max_epochs=self.max_epochs, progress=report)


def default_temperature(dim: int) -> float:
    """The temperature that suits a dimension where nothing else is known."""
    # In few dimensions a flow can be poor at the edge of a curved posterior, where T > 0.6 would reach: on a 2-D
    # Rosenbrock density, 0.7 spoils one run in sixteen and gains a fifth in the error of the others.
    return min(0.95, max(0.6, 1 - 1 / math.sqrt(dim)))


def as_matrix(samples: PyTree) -> Float[np.ndarray, "chain draw dim"]:
    """Samples as one array, in the order of `jax.flatten_util.ravel_pytree`, in float64.

    Raises:
        ValueError: there is no array, or they differ in their leading axes (chain, draw).
    """
    leaves = [np.asarray(leaf) for leaf in jax.tree.leaves(samples)]
    shapes = [leaf.shape for leaf in leaves]
    if not leaves or any(len(shape) < 2 or shape[:2] != shapes[0][:2] for shape in shapes):
        raise ValueError(f"samples: the arrays need the same leading axes (chain, draw); their shapes are {shapes}")
    return np.concatenate([leaf.reshape(*leaf.shape[:2], -1) for leaf in leaves], -1, dtype=np.float64)


def evaluate(log_density: Callable[[PyTree], Array], samples: PyTree) -> Float[np.ndarray, "chain draw"]:
    """The log-density at every sample, in the precision in which it computes."""
    shape = jnp.shape(jax.tree.leaves(samples)[0])[:2]
    flat = jax.tree.map(lambda leaf: jnp.reshape(leaf, (-1, *jnp.shape(leaf)[2:])), samples)
    values = jax.jit(lambda xs: jax.lax.map(log_density, xs, batch_size=_BATCH))(flat)
    if values.shape != (shape[0] * shape[1],):
        raise ValueError(f"log_density gives an array of shape {values.shape[1:]} at one position: it gives one number")
    return np.asarray(values).reshape(shape)


def check_samples(samples: np.ndarray, log_density: np.ndarray) -> None:
    """Refuse samples and log-densities from which no evidence can be had."""
    if samples.ndim != 3 or 0 in samples.shape:
        raise ValueError(f"samples: expected an array (chain, draw, dim), none of them 0; its shape is {samples.shape}")
    if log_density.shape != samples.shape[:2]:
        raise ValueError(
            f"log_density: expected shape {samples.shape[:2]}, the (chain, draw) of the samples, and not "
            f"{log_density.shape}"
        )
    bad = ~np.isfinite(samples)
    if bad.any():
        chain, draw, which = (int(i) for i in np.argwhere(bad)[0])
        raise ValueError(
            f"samples are not finite at {int(bad.any(-1).sum())} of {log_density.size} draws, first at chain {chain}, "
            f"draw {draw}, parameter {which}: a parameter on the edge of its support has no finite unconstrained value "
            "(numpyro.enable_x64() before sampling moves it off the edge)"
        )
    check_finite("log_density", list(log_density))


def _block(values: np.ndarray, number: int) -> np.ndarray:
    length = values.shape[1] // number
    if length == 0:
        raise ValueError(f"samples: {values.shape[1]} draws cannot be cut into {number} blocks; give more draws")
    # What does not fill a block is left out at the start, where a chain is least converged.
    kept = values[:, values.shape[1] - number * length :]
    return kept.reshape(-1, length, *values.shape[2:])


def _rounding(log_density: np.ndarray) -> float:
    """The rounding error of the log-densities, in nats."""
    values = np.asarray(log_density)
    if not np.issubdtype(values.dtype, np.floating):
        return 0.0
    return float(np.finfo(values.dtype).eps * np.max(np.abs(values), initial=0.0))


def _warn_convergence(r_hat: float, ess: float) -> list[str]:
    found = []
    if not r_hat <= 1.01:
        found.append(f"the chains have not converged: the largest R-hat is {r_hat:.3f}, above 1.01. Run them longer")
    if not ess >= 400:
        found.append(f"the smallest effective sample size is {ess:.0f}, below 400. Run the chains longer")
    return found


def _warn(statistics: HarmonicMeanStatistics, diagnostics: dict[str, Any]) -> list[str]:
    found = []
    advice = "Do not trust the error: give more draws, or another temperature"
    if statistics.kurtosis > 10:
        found.append(f"the kurtosis of the chains' means is {statistics.kurtosis:.1f}, above 10. {advice}")
    if statistics.variance_ratio > 2 * statistics.variance_ratio_reference:
        found.append(
            f"the error of the variance over the variance is {statistics.variance_ratio:.2f}, more than twice the "
            f"{statistics.variance_ratio_reference:.2f} of Gaussian means. {advice}"
        )
    if diagnostics["pareto_k"] > 0.7:
        found.append(
            f"the largest ratios have a Pareto shape of {diagnostics['pareto_k']:.2f}, above 0.7: a few draws decide "
            "the result. Give more draws; in many dimensions with a temperature nearer to 1"
        )
    if diagnostics["effective_ratios"] < 100:
        found.append(
            f"the ratios count as {diagnostics['effective_ratios']:.0f} draws of equal weight, fewer than 100: the "
            "density fits the posterior badly. Give more draws to train on, or a temperature nearer to 1"
        )
    if statistics.n_eff < 10:
        found.append(
            f"the error is from {statistics.n_eff:.0f} chains or blocks, and so uncertain by "
            f"{100 * math.sqrt(0.5 / (statistics.n_eff - 1)):.0f} %. Run more chains, or longer ones"
        )
    if diagnostics["rounding"] > 0.01:
        found.append(
            f"the log-density is rounded to {diagnostics['rounding']:.2g} nats in single precision. Compute it in "
            "double: put the line `numpyro.enable_x64()` first"
        )
    return found


def _notes(flows: list[str]) -> tuple[str, ...]:
    number = flows.count("gaussian")
    if not number:
        return ()
    return (
        f"in {number} of {len(flows)} folds the spline flow did not beat a Gaussian on held-out draws, so the Gaussian "
        "was used: well for a posterior like one; otherwise give more draws",
    )


@contextlib.contextmanager
def _progress(show: bool) -> Iterator[Callable[[int, int], None] | None]:
    if not show:
        yield None
        return
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True)) as bar:
        task = bar.add_task("Training the flow", total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)
