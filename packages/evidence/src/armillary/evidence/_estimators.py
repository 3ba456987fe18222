"""The evidence from posterior samples and a density fitted to them, by methods that check each other."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float, PyTree
from scipy.special import chdtri

from armillary.core import registry

from . import _chains, _methods, _warnings
from ._architectures import Architecture, default_architecture
from ._result import EvidenceEstimate
from ._samples import as_matrix, block, check_samples, evaluate, rounding
from ._train import Fit, fit_flows, fit_gaussian

METHODS = ("lhm", "bridge", "is")
# The order in which an estimate is recommended: the first whose own warnings are none.
_PREFERENCE = ("bridge", "lhm", "is")
_MIN_CHAINS = 4
_TEMPERATURES = np.linspace(0.5, 1.0, 11)
# A temperature is chosen by the draws held out where there are so many of them, effectively, for each.
_MIN_VALIDATED = 200
_WORTH = 0.85


@dataclass(frozen=True)
class FlowEvidence:
    r"""The evidence by the methods asked for, all with the same flow, each checking the other.

    The chains are cross-fitted: split into folds, each estimated with a normalised density φ fitted to the others, so
    that every draw counts once and none is estimated by a density that has seen it. φ is a flow: a whitened Gaussian
    with a trained bijection on it, or the Gaussian alone where, on held-out draws, the bijection is no better. Then

    - ``"lhm"``, the learned harmonic mean, needs the posterior draws alone: :math:`\mathrm E_p[\varphi_T/p] = 1/Z`;
    - ``"bridge"``, bridge sampling, also draws from φ, as often, and evaluates the model there;
    - ``"is"``, importance sampling, uses these draws alone.

    The recommended value is the bridge's, unless it has warnings of its own and the harmonic mean has none.

    Reference: McEwen J. D., Wallis C. G. R., Price M. A., Spurio Mancini A. 2021 (arXiv:2111.12720); Polanska A.,
    Price M. A., Piras D., Spurio Mancini A., McEwen J. D. 2024 (arXiv:2405.05969); Meng X.-L., Wong W. H. 1996,
    Stat. Sin. 6, 831.

    >>> import jax, jax.numpy as jnp
    >>> from armillary.evidence import FlowEvidence
    >>> samples = jax.random.normal(jax.random.key(0), (4, 1000, 3))
    >>> found = FlowEvidence(flow="gaussian")(jax.random.key(1), samples, lambda x: -0.5 * x @ x)
    >>> print(f"{found.log_z:.2f}, exact {1.5 * jnp.log(2 * jnp.pi):.2f}; by {found.method}")
    2.76, exact 2.76; by bridge

    Args:
        methods: some of ``"lhm"``, ``"bridge"`` and ``"is"``.
        flow: ``"auto"``, as above, with splines in up to eight dimensions and affine layers in more; ``"gaussian"`` for
            no training; the name of a registered flow, such as ``"spline"``, ``"realnvp"``, ``"autoregressive"`` or
            ``"matching"``; or an `Architecture`.
        train_fraction: the fraction of the chains to which each flow is fitted; there are 1 / (1 - train_fraction)
            folds, rounded.
        temperature: T of the harmonic mean, between 0 and 1: the covariance of the base. By default, where held-out
            draws are enough, the least whose effective number of ratios is within 15 % of the best, and otherwise
            :math:`1 - 1/\sqrt d`, but between 0.6 and 0.95.
        max_epochs: the longest training; it stops before where held-out draws gain no more.
        progress_bar: whether to show one while training.

    Raises:
        ValueError: a setting is out of range.
        LookupError: no installed distribution has a flow of that name.
    """

    methods: tuple[str, ...] = ("lhm", "bridge")
    flow: str | Architecture = "auto"
    train_fraction: float = 0.5
    temperature: float | None = None
    max_epochs: int = 100
    progress_bar: bool = False

    def __post_init__(self) -> None:
        methods = self.methods
        if isinstance(methods, str) or not methods or any(method not in METHODS for method in methods):
            raise ValueError(f"methods={methods!r}: a tuple of some of {', '.join(map(repr, METHODS))}")
        self._architecture(2)
        if not 0.5 <= self.train_fraction < 1:
            raise ValueError(
                f"train_fraction={self.train_fraction}: it is at least 0.5 and less than 1 "
                "(0.5 is two folds, 0.75 four)"
            )
        if self.temperature is not None and not 0 < self.temperature <= 1:
            raise ValueError(
                f"temperature={self.temperature}: it is above 0 and at most 1, for the density must lie within the "
                "posterior; leave it out for one that suits the samples"
            )
        if self.max_epochs < 1:
            raise ValueError(f'max_epochs={self.max_epochs}: it is at least 1; for no training give flow="gaussian"')

    def __call__(
        self, key: jax.Array, samples: PyTree[Array, ...], log_density: Callable[[PyTree], Array]
    ) -> EvidenceEstimate:
        """The evidence of the posterior that the samples are of.

        Args:
            key: a random key, for training and for the draws of the density.
            samples: unconstrained positions, a pytree of arrays with leading axes (chain, draw).
            log_density: the unnormalised log posterior of one position, Jacobian included.

        Raises:
            ValueError: the samples or the log-density are not finite, or too few; says where and what to do.
        """
        matrix = as_matrix(samples)
        unravel = ravel_pytree(jax.tree.map(lambda leaf: jnp.asarray(leaf)[0, 0], samples))[1]
        return self.from_arrays(
            key, matrix, evaluate(log_density, samples), lambda vector: log_density(unravel(vector))
        )

    def from_arrays(
        self,
        key: jax.Array,
        samples: Float[np.ndarray, "chain draw dim"],
        log_density: Float[np.ndarray, "chain draw"],
        log_density_fn: Callable[[Float[Array, " dim"]], Float[Array, ""]] | None = None,
    ) -> EvidenceEstimate:
        """The evidence from samples and the log-density at each.

        Where the function of the log-density is not at hand, only the harmonic mean can be had; the others are left
        out, and the notes say so.

        Raises:
            ValueError: as when it is called; or there is no function, and no method that can do without.
        """
        x = np.asarray(samples, np.float64)
        log_post = np.asarray(log_density, np.float64)
        check_samples(x, log_post)
        methods, notes = self.methods, []
        if log_density_fn is None and methods != ("lhm",):
            left_out = ", ".join(method for method in methods if method != "lhm")
            if "lhm" not in methods:
                raise ValueError(
                    f"methods={methods!r} evaluate the model at new draws: give log_density_fn, or take 'lhm'"
                )
            notes.append(f"{left_out}: left out, for want of log_density_fn, the function of the log-density")
            methods = ("lhm",)
        r_hat, ess = _chains.convergence(x)
        common: dict[str, Any] = {
            "num_chains": x.shape[0],
            "num_draws": x.shape[1],
            "dim": x.shape[2],
            "max_r_hat": r_hat,
            "min_ess": ess,
            "rounding": rounding(log_density),
        }
        warnings = _warnings.of_convergence(r_hat, ess) + _warnings.of_rounding(common["rounding"])
        if len(x) < _MIN_CHAINS:
            number = -(-_MIN_CHAINS // len(x))
            warnings.append(_warnings.of_few_chains(len(x), number, _MIN_CHAINS))
            x, log_post = block(x, number), block(log_post, number)
            common["blocks_as_chains"] = len(x)

        fit_key, draw_key = jax.random.split(key)
        folds = _chains.folds(x, log_post, self.train_fraction)
        fits = self._fit(fit_key, folds)
        bases = [fit.flow.base(x[fold.estimate].reshape(-1, x.shape[2])) for fold, fit in zip(folds, fits, strict=True)]
        common |= {
            "flow": [fit.name for fit in fits],
            "epochs": [fit.epochs for fit in fits],
            "held_out_loss_gaussian": [fit.gaussian_loss for fit in fits],
            "held_out_loss_flow": [fit.flow_loss for fit in fits],
            "outside": _outside(bases),
        }
        warnings += _warnings.of_coverage(common["outside"])
        if self.flow != "gaussian":
            notes += _notes(common["flow"])

        found: dict[str, EvidenceEstimate] = {}
        if "lhm" in methods:
            temperatures = [self._temperature(fold, fit) for fold, fit in zip(folds, fits, strict=True)]
            log_phi = np.empty_like(log_post)
            for fold, base, (temperature, _) in zip(folds, bases, temperatures, strict=True):
                log_phi[fold.estimate] = base.log_prob(temperature).reshape(-1, x.shape[1])
            found["lhm"] = _methods.harmonic_mean(log_phi, log_post, temperatures)
        if set(methods) - {"lhm"}:
            assert log_density_fn is not None
            log_phi = np.empty_like(log_post)
            for fold, base in zip(folds, bases, strict=True):
                log_phi[fold.estimate] = base.log_prob().reshape(-1, x.shape[1])
            ratios = [(log_post - log_phi)[fold.estimate] for fold in folds]
            proposals, undefined = _proposal_ratios(draw_key, fits, [r.size for r in ratios], log_density_fn)
            warnings += _warnings.of_undefined(undefined, log_post.size)
            if "bridge" in methods:
                found["bridge"] = _methods.bridge(ratios, proposals)
            if "is" in methods:
                found["is"] = _methods.importance(proposals)
        if "lhm" in found and "bridge" in found:
            warnings += _warnings.of_disagreement(found["lhm"], found["bridge"])

        present = [method for method in _PREFERENCE if method in found]
        best = found[next((method for method in present if not found[method].warnings), present[0])]
        return replace(
            best,
            diagnostics=common
            | dict(best.diagnostics)
            | {"estimates": {method: [each.log_z, each.log_z_err] for method, each in found.items()}},
            warnings=(*warnings, *best.warnings),
            notes=tuple(notes),
            estimates=found,
            flows=tuple(fit.flow for fit in fits),
        )

    def _architecture(self, dim: int) -> tuple[str, Architecture] | None:
        """What to call and how to build what is trained, or None for the Gaussian."""
        if not isinstance(self.flow, str):
            if not isinstance(self.flow, Architecture):
                raise ValueError(
                    f"flow={self.flow!r}: it is a name, or an object with build(key, dim), which gives a bijection"
                )
            return type(self.flow).__name__, self.flow
        if self.flow == "gaussian":
            return None
        return default_architecture(dim) if self.flow == "auto" else (self.flow, registry.get("flow", self.flow)())

    def _fit(self, key: jax.Array, folds: Sequence[_chains.Fold]) -> list[Fit]:
        chosen = self._architecture(folds[0].train.shape[1])
        if chosen is None:
            return [fit_gaussian(fold.train, fold.held_out) for fold in folds]
        name, architecture = chosen
        with _progress(self.progress_bar) as progress:
            return fit_flows(
                key,
                architecture,
                name,
                [fold.train for fold in folds],
                [fold.held_out for fold in folds],
                max_epochs=self.max_epochs,
                progress=progress,
            )

    def _temperature(self, fold: _chains.Fold, fit: Fit) -> tuple[float, str]:
        """The temperature for a fold, and by what it was chosen."""
        if self.temperature is not None:
            return self.temperature, "fixed"
        dim = fold.train.shape[1]
        base = fit.flow.base(fold.held_out)
        found = {}
        for temperature in _TEMPERATURES:
            log_ratios = base.log_prob(temperature) - fold.held_out_log_density
            weights = np.exp(log_ratios - log_ratios.max())
            effective = weights.sum() ** 2 / (weights**2).sum()
            # A variance is only known where the tail of the ratios lets it be finite.
            if effective >= _MIN_VALIDATED and _chains.pareto_k(log_ratios) < 0.5:
                found[float(temperature)] = effective
        if not found:
            return default_temperature(dim), "dimension"
        # The least that costs no more than this: what a higher one gains on the held-out draws it may lose again in a
        # tail that they have not met.
        enough = _WORTH * max(found.values())
        return min(temperature for temperature, effective in found.items() if effective >= enough), "validated"


@dataclass(frozen=True)
class LearnedHarmonicMean(FlowEvidence):
    """The evidence by the learned harmonic mean alone: posterior draws suffice, and the model is not evaluated anew.

    See `FlowEvidence` for how it is done and for the settings.

    Reference: McEwen J. D., Wallis C. G. R., Price M. A., Spurio Mancini A. 2021 (arXiv:2111.12720); Polanska A.,
    Price M. A., Piras D., Spurio Mancini A., McEwen J. D. 2024 (arXiv:2405.05969).

    >>> import jax, jax.numpy as jnp
    >>> from armillary.evidence import LearnedHarmonicMean
    >>> samples = jax.random.normal(jax.random.key(0), (4, 1000, 3))
    >>> found = LearnedHarmonicMean(flow="gaussian")(jax.random.key(1), samples, lambda x: -0.5 * x @ x)
    >>> print(f"{found.log_z:.1f}, exact {1.5 * jnp.log(2 * jnp.pi):.1f}")
    2.8, exact 2.8
    """

    methods: ClassVar[tuple[str, ...]] = ("lhm",)  # type: ignore[misc]


@dataclass(frozen=True)
class BridgeSampling(FlowEvidence):
    """The evidence by bridge sampling alone, between the posterior and a flow: see `FlowEvidence`.

    Reference: Meng X.-L., Wong W. H. 1996, Stat. Sin. 6, 831.
    """

    methods: ClassVar[tuple[str, ...]] = ("bridge",)  # type: ignore[misc]


@dataclass(frozen=True)
class ImportanceSampling(FlowEvidence):
    """The evidence by importance sampling alone, with draws of a flow: see `FlowEvidence`."""

    methods: ClassVar[tuple[str, ...]] = ("is",)  # type: ignore[misc]


def default_temperature(dim: int) -> float:
    """The temperature that suits a dimension where nothing else is known."""
    # In few dimensions a flow can be poor at the edge of a curved posterior, where T > 0.6 would reach: on a 2-D
    # Rosenbrock density, 0.7 spoils one run in sixteen and gains a fifth in the error of the others.
    return min(0.95, max(0.6, 1 - 1 / math.sqrt(dim)))


def _proposal_ratios(
    key: jax.Array, fits: Sequence[Fit], sizes: Sequence[int], log_density_fn: Callable[[Array], Array]
) -> tuple[list[np.ndarray], int]:
    """Ln p - ln φ at as many draws of each flow as there are of the posterior, and how many gave no number."""
    dtype = jnp.zeros(()).dtype
    # In the precision in which the model will see them, so that both densities are of the same point.
    draws = [
        fit.flow.sample(k, size).astype(dtype)
        for k, fit, size in zip(jax.random.split(key, len(fits)), fits, sizes, strict=True)
    ]
    # A draw that overflowed is so far out that the posterior is zero there: the model need not be asked.
    finite = [np.isfinite(x).all(-1) for x in draws]
    draws = [np.where(good[:, None], x, 0) for good, x in zip(finite, draws, strict=True)]
    log_post = evaluate(log_density_fn, np.concatenate(draws)[None])[0].astype(np.float64)
    log_post[~np.concatenate(finite)] = -np.inf
    undefined = np.isnan(log_post) | np.isposinf(log_post)
    log_post[undefined] = -np.inf
    parts = np.split(log_post, np.cumsum(sizes)[:-1])
    ratios = [part - fit.flow.log_prob(x) for part, fit, x in zip(parts, fits, draws, strict=True)]
    return ratios, int(undefined.sum())


def _outside(bases: Sequence[Any]) -> float:
    """The fraction of the draws beyond what one in a million draws of the density reaches."""
    return float(np.mean(np.concatenate([base.square > chdtri(base.dim, 1e-6) for base in bases])))


def _notes(flows: list[str]) -> list[str]:
    number = flows.count("gaussian")
    if not number:
        return []
    return [
        f"in {number} of {len(flows)} folds the trained flow did not beat a Gaussian on held-out draws, so the "
        "Gaussian was used: well for a posterior like one; otherwise give more draws"
    ]


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
