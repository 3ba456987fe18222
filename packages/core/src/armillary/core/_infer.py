"""Inference by one call: a model, data and a sampler in, an ArviZ DataTree out."""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import hashlib
import inspect
import json
import os
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any

import arviz_base
import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import xarray
from jax.flatten_util import ravel_pytree
from jaxtyping import PyTree
from numpyro import handlers
from numpyro.infer import util
from numpyro.infer.mcmc import MCMCKernel
from numpyro.util import is_prng_key

from . import registry
from ._chains import Chains, Draws, Progress, num_devices
from ._checkpoint import Checkpoint
from ._evidence import Evidence
from ._kernel import BlackJAXKernel
from ._provenance import citations, versions
from ._target import Target

_CHAIN_METHODS = ("vectorized", "sequential", "parallel")
# How many pieces a run is made in by default: as often is there news of it.
_PIECES = 50


def infer(
    model: Callable[..., Any],
    *args: Any,
    model_kwargs: Mapping[str, Any] | None = None,
    sampler: Any = "nuts",
    sampler_options: Mapping[str, Any] | None = None,
    key: jax.Array | None = None,
    num_warmup: int = 500,
    num_samples: int = 1000,
    num_chains: int = 4,
    chain_method: str = "vectorized",
    progress_bar: bool = True,
    checkpoint: str | os.PathLike[str] | None = None,
    checkpoint_every: int | None = None,
    resume: bool = False,
    evidence: Any = None,
    evidence_options: Mapping[str, Any] | None = None,
    log_likelihood: bool = True,
) -> xarray.DataTree:
    """Sample the posterior of a NumPyro model, and estimate its evidence if asked.

    >>> import jax, numpyro, numpyro.distributions as dist
    >>> from armillary.core import infer
    >>> def model(y):
    ...     x = numpyro.sample("x", dist.Normal(0.0, 1.0))
    ...     numpyro.sample("y", dist.Normal(x, 1.0), obs=y)
    >>> tree = infer(model, 1.0, num_samples=500, num_chains=2, progress_bar=False)
    >>> tree.posterior["x"].sizes
    Frozen({'chain': 2, 'draw': 500})

    Args:
        model: a NumPyro model.
        *args: its positional arguments, data included.
        model_kwargs: its keyword arguments.
        sampler: a registered name, such as ``"nuts"`` (``armillary list`` shows them), or a sampler object.
        sampler_options: settings of a sampler given by name.
        key: a random key; `jax.random.key(0)` by default.
        num_warmup: steps of adaptation of each chain, not kept.
        num_samples: draws of each chain.
        num_chains: chains.
        chain_method: ``"vectorized"``, ``"sequential"`` or ``"parallel"``, the last over as many devices as divide the
            chains; no device waits for another, as vectorized chains of NUTS do for the one with the most steps. After
            `jax.distributed.initialize` these are the devices of all processes; every process returns the whole
            result, and the first one writes the checkpoint.
        progress_bar: show one, on the standard error.
        checkpoint: a directory to save the run to as it goes.
        checkpoint_every: steps between two saves; a fiftieth of the run by default.
        resume: continue the run in ``checkpoint``; with nothing there it starts. The draws are those of an
            uninterrupted run. With a larger ``num_samples`` a finished run is extended.
        evidence: a registered estimator's name, such as ``"lhm"``, or an estimator; adds the group ``evidence``.
        evidence_options: settings of an estimator given by name.
        log_likelihood: add the pointwise group ``log_likelihood``, of the size of draws times data.

    A sampler with an evidence of its own, such as ``"nested-slice-sampling"``, gives the group ``evidence`` too.

    Returns:
        A tree with the groups ``posterior``, ``sample_stats``, ``observed_data``, ``log_prior``, and
        ``log_likelihood`` and ``evidence`` if asked; in its attributes (JSON texts) the versions and the works to
        cite.

    Raises:
        ValueError: an argument out of its range, a model that cannot be lowered (see `Target.from_numpyro`), or a
            target without what the sampler needs.
        LookupError: no installed distribution has a sampler or an estimator of that name.
        CheckpointError: the checkpoint is of another run, or is there without ``resume``.
    """
    kwargs = dict(model_kwargs or {})
    key = jax.random.key(0) if key is None else key
    _check(key, num_warmup, num_samples, num_chains, chain_method, checkpoint, checkpoint_every, resume)
    sampler, sampler_name, references = _component("sampler", sampler, sampler_options)
    if evidence is not None:
        evidence, evidence_name, more = _component("evidence_estimator", evidence, evidence_options)
        references += more

    target = Target.from_numpyro(model, *args, **kwargs)
    target.require(getattr(sampler, "traits", frozenset()), sampler_name)
    _check_sites(target)
    kernel = sampler.kernel(model) if hasattr(sampler, "kernel") else BlackJAXKernel(model, sampler)
    total = num_warmup + num_samples
    chains = Chains(
        kernel,
        args,
        kwargs,
        num_chains=num_chains,
        num_warmup=num_warmup,
        num_samples=num_samples,
        chain_method=chain_method,
        chunk_size=min(checkpoint_every or max(1, -(-total // _PIECES)), total),
    )
    sample_key, evidence_key = jax.random.split(key)
    settings = _settings(model, args, kwargs, target, sampler, key, num_warmup, num_chains)
    together = chain_method == "parallel" and jax.process_count() > 1
    progress_bar = progress_bar and not (together and jax.process_index())
    saved = None
    if checkpoint is not None:
        saved = (
            _checkpoint_of_all(checkpoint, settings, resume)
            if together
            else Checkpoint(checkpoint, settings, resume=resume)
        )
    with _progress(progress_bar, sampler_name, num_chains) as report:
        try:
            draws = chains.run(sample_key, saved, report)
        except KeyboardInterrupt as stop:
            stop.add_note(
                "stopped: pass resume=True to go on from the last checkpoint"
                if saved
                else "stopped, and the draws are lost: pass checkpoint= to be able to stop and go on"
            )
            raise

    attributes = {
        "model": settings["model"],
        "sampler": sampler_name,
        "sampler_settings": repr(sampler),
        "key": json.dumps(settings["key"]),
        "num_warmup": num_warmup,
        "num_samples": num_samples,
        "num_chains": num_chains,
        "chain_method": chain_method,
        "created_at": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "versions": json.dumps(versions()),
        "citations": json.dumps(citations(references)),
        "inference_library": "armillary",
    }
    tree = _tree(target, model, args, kwargs, draws, log_likelihood=log_likelihood)
    tree.attrs.update(attributes)
    if evidence is not None:
        positions = jax.tree.map(jnp.asarray, draws.positions)
        has_bar = dataclasses.is_dataclass(evidence) and hasattr(evidence, "progress_bar")
        if has_bar and progress_bar:
            evidence = dataclasses.replace(evidence, progress_bar=True)
        samples, log_density = _straightened(kernel, target, positions)
        with _status(progress_bar and not has_bar, f"evidence by {evidence_name}"):
            tree["evidence"] = evidence_group(evidence(evidence_key, samples, log_density), evidence_name)
    elif "log_z" in draws.statistics:
        tree["evidence"] = evidence_group(_of_runs(draws.statistics), sampler_name)
    return tree


def _straightened(kernel: Any, target: Target, positions: PyTree) -> tuple[PyTree, Callable[[PyTree], jax.Array]]:
    """The draws and the log-density in the coordinates in which the chains moved, whose ln Z is the same.

    There a posterior with curved degeneracies is nearly normal, and a flow has little to learn.
    """
    found: Any = getattr(kernel, "shared", None)
    if not hasattr(found, "log_volume"):
        return positions, target.log_density
    coordinates = jax.vmap(jax.vmap(lambda position: found.inverse(ravel_pytree(position)[0])))(positions)
    return coordinates, lambda y: target.log_density(target.unravel(found(y))) + found.log_volume


def _of_runs(statistics: Mapping[str, Any]) -> Evidence:
    """The evidence of a sampler that makes a run a chain: the mean of their ln Z."""
    log_z, error, size = (np.asarray(statistics[name])[:, -1] for name in ("log_z", "log_z_err", "effective_size"))
    num_draws = np.shape(statistics["log_z"])[1]
    # Of the errors that the runs give and of their scatter, the larger.
    given = np.sqrt(np.sum(error**2)) / len(error)
    scatter = np.std(log_z, ddof=1) / np.sqrt(len(log_z)) if len(log_z) > 1 else 0.0
    warnings = []
    if not np.isfinite(given):
        warnings.append("a run did not converge: raise its limits, or look at the likelihood")
    if num_draws > size.min():
        warnings.append(
            f"{num_draws} draws of a chain are more than the {size.min():.0f} that its run is worth, and repeat "
            "themselves: ask for fewer, or for more particles"
        )
    diagnostics = {"log_z_of_each_chain": log_z, "log_z_err_of_each_chain": error, "effective_size": size}
    return Evidence(float(np.mean(log_z)), float(max(given, scatter)), "", diagnostics, tuple(warnings))


def evidence_group(evidence: Any, method: str = "") -> xarray.DataTree:
    """An `armillary.core.Evidence` as the group ``evidence`` of a result."""
    dataset = xarray.Dataset(
        {"log_z": float(evidence.log_z), "log_z_err": float(evidence.log_z_err)},
        attrs={
            "method": evidence.method or method,
            "diagnostics": json.dumps(dict(evidence.diagnostics), default=_plain),
            "warnings": json.dumps(list(evidence.warnings)),
            "notes": json.dumps(list(evidence.notes)),
        },
    )
    return xarray.DataTree(dataset)


def _check(
    key: Any,
    num_warmup: Any,
    num_samples: Any,
    num_chains: Any,
    chain_method: Any,
    checkpoint: Any,
    checkpoint_every: Any,
    resume: bool,
) -> None:
    counts = [("num_warmup", num_warmup, 0), ("num_samples", num_samples, 1), ("num_chains", num_chains, 1)]
    if checkpoint_every is not None:
        counts.append(("checkpoint_every", checkpoint_every, 1))
    for name, value, least in counts:
        if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < least:
            raise ValueError(f"{name}={value!r}: expected a whole number, at least {least}")
    if not isinstance(key, jax.Array) or not is_prng_key(key):
        raise ValueError(f"key={key!r}: expected one random key, jax.random.key(seed)")
    if chain_method not in _CHAIN_METHODS:
        raise ValueError(f"chain_method={chain_method!r}: expected one of {', '.join(_CHAIN_METHODS)}")
    if chain_method == "parallel" and jax.process_count() > 1:
        if num_chains % jax.device_count():
            raise ValueError(
                f"chain_method='parallel' shares the chains out over the {jax.device_count()} devices of all "
                f"{jax.process_count()} processes: num_chains={num_chains} must be a multiple of that"
            )
    elif chain_method == "parallel" and num_chains > 1 and num_devices(num_chains) == 1:
        raise ValueError(
            f"chain_method='parallel' shares the chains out over devices, as many to each, and of "
            f"{jax.local_device_count()} only one serves num_chains={num_chains}: use 'vectorized', or on a CPU call "
            "numpyro.set_host_device_count(N) before JAX is first used, with N cores that divide the chains"
        )
    if resume and checkpoint is None:
        raise ValueError("resume=True needs checkpoint=, the directory of the run to continue")


def _checkpoint_of_all(path: str | os.PathLike[str], settings: dict[str, Any], resume: bool) -> Checkpoint:
    """The checkpoint of several processes: the first one makes it and will write it, and the others read."""
    from jax.experimental.multihost_utils import sync_global_devices

    first = jax.process_index() == 0
    saved = Checkpoint(path, settings, resume=resume) if first else None
    sync_global_devices("armillary: the checkpoint is there")
    saved = saved or Checkpoint(path, settings, resume=True)
    sync_global_devices("armillary: the checkpoint is read")
    return saved


def _check_sites(target: Target) -> None:
    sites = jax.eval_shape(target.constrain, target.structure)
    for name in ("chain", "draw"):
        if name in sites:
            raise ValueError(f"the model has a site {name!r}, which in the result is an axis: give it another name")


def _component(kind: str, component: Any, options: Mapping[str, Any] | None) -> tuple[Any, str, list[str]]:
    """The object of a registered name or the object itself; what to call it; what to cite."""
    label = kind.replace("_estimator", "")
    if isinstance(component, type):
        name = component.__name__
        raise ValueError(f"{label}={name}: this is the class; give its name, or an object of it, {name}()")
    if isinstance(component, MCMCKernel):
        raise ValueError(
            f"{label}={type(component).__name__}(...) is a NumPyro kernel, which has its model: run it by "
            "numpyro.infer.MCMC, or give a sampler by name, such as 'nuts'"
        )
    if not isinstance(component, str):
        if options:
            raise ValueError(f"{label}_options go with a {label} given by name, not with {component!r}")
        return component, getattr(component, "__name__", type(component).__name__), []
    spec = registry.find(kind, component)
    try:
        made = spec.load()(**(options or {}))
    except TypeError as error:
        raise ValueError(f"{label}_options={dict(options or {})!r} for {component!r}: {error}") from error
    return made, component, [spec.reference]


def _settings(
    model: Callable[..., Any],
    args: tuple,
    kwargs: dict[str, Any],
    target: Target,
    sampler: Any,
    key: jax.Array,
    num_warmup: int,
    num_chains: int,
) -> dict[str, Any]:
    typed = jnp.issubdtype(key.dtype, jax.dtypes.prng_key)
    return {
        "model": _address(model),
        "data": _digest((args, kwargs)),
        # What the model holds by itself, in a closure or by numpyro.handlers.condition: its data, and its density at
        # one place, to four digits since its last ones are the compiler's.
        "observed": _digest(_observed(model, args, kwargs)),
        "log_density_at_0": f"{float(target.log_density(target.unravel(jnp.zeros(target.dim)))):.4g}",
        "sampler": _address(sampler) if inspect.isfunction(sampler) else repr(sampler),
        "key": np.asarray(jax.random.key_data(key) if typed else key).tolist(),
        "num_warmup": num_warmup,
        "num_chains": num_chains,
        "precision": "float64" if jax.config.jax_enable_x64 else "float32",
        "versions": versions(),
    }


def _address(function: Any) -> str:
    return f"{getattr(function, '__module__', '?')}:{getattr(function, '__qualname__', type(function).__name__)}"


def _digest(arguments: PyTree) -> str:
    """A digest of the model's arguments, by which a checkpoint knows its data again."""
    digest = hashlib.sha256()
    for path, leaf in jax.tree_util.tree_leaves_with_path(arguments):
        digest.update(jax.tree_util.keystr(path).encode())
        try:
            array = np.asarray(leaf)
        except TypeError:
            array = np.asarray(None)
        if array.dtype == object:  # a callable or another static argument
            digest.update(type(leaf).__name__.encode())
        else:
            digest.update(f"{array.dtype}{array.shape}".encode())
            digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()


def _tree(
    target: Target,
    model: Callable[..., Any],
    args: tuple,
    kwargs: dict[str, Any],
    draws: Draws,
    *,
    log_likelihood: bool,
) -> xarray.DataTree:
    positions = draws.positions
    sites = _per_draw(target.constrain, positions)
    groups: dict[str, Any] = {"posterior": sites, "sample_stats": draws.statistics}
    latent = set(positions)
    log_probs = partial(_log_probs, model, args, kwargs, latent)
    observed = _observed(model, args, kwargs)
    groups["log_prior"] = _per_draw(
        lambda sites: {name: jnp.sum(value) for name, value in log_probs(sites).items() if name in latent}, sites
    )
    if observed:
        groups["observed_data"] = observed
    if observed and log_likelihood:
        groups["log_likelihood"] = _per_draw(
            lambda sites: {name: value for name, value in log_probs(sites).items() if name in observed}, sites
        )
    return arviz_base.from_dict(jax.tree.map(np.asarray, groups))


def _log_probs(
    model: Callable[..., Any], args: tuple, kwargs: dict[str, Any], latent: set[str], sites: dict[str, Any]
) -> dict[str, Any]:
    """Pointwise log-densities of the sampled sites, latent and observed, in the constrained space."""
    seeded = handlers.seed(model, jax.random.key(0))
    values = {name: value for name, value in sites.items() if name in latent}
    with numpyro.validation_enabled(False):
        return util.compute_log_probs(seeded, args, kwargs, values, sum_log_prob=False)[0]


def _per_draw(fn: Callable[[PyTree], PyTree], draws: PyTree) -> PyTree:
    """``fn`` of every draw, a chain at a time so that intermediate arrays stay small."""
    over_draws = jax.jit(jax.vmap(fn))
    num_chains = jax.tree.leaves(draws)[0].shape[0]
    chains = [
        jax.tree.map(np.asarray, over_draws(jax.tree.map(lambda leaf, c=chain: leaf[c], draws)))
        for chain in range(num_chains)
    ]
    return jax.tree.map(lambda *parts: np.stack(parts), *chains)


def _observed(model: Callable[..., Any], args: tuple, kwargs: dict[str, Any]) -> dict[str, np.ndarray]:
    """The data by the names of their sites; a `numpyro.factor` has none."""
    sites = handlers.trace(handlers.seed(model, jax.random.key(0))).get_trace(*args, **kwargs)
    return {
        name: np.asarray(site["value"])
        for name, site in sites.items()
        if site["type"] == "sample" and site["is_observed"] and not isinstance(site["fn"], numpyro.distributions.Unit)
    }


@contextlib.contextmanager
def _progress(show: bool, sampler: str, num_chains: int) -> Iterator[Callable[[Progress], None]]:
    if not show:
        yield lambda progress: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
    from rich.progress import Progress as Bar

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}"),
    )
    with Bar(*columns, console=Console(stderr=True)) as bar:
        label = f"{sampler}, {num_chains} chain{'s' if num_chains > 1 else ''}"
        task = bar.add_task(f"{label}: compiling", total=None, note="")

        def report(progress: Progress) -> None:
            phase = "warm-up" if progress.done < progress.num_warmup else "sampling"
            if progress.done:
                label_now = f"{label}: {phase}"
                note = f"divergences: {progress.num_divergent}" if progress.num_divergent else ""
                bar.update(task, completed=progress.done, total=progress.total, description=label_now, note=note)

        yield report


@contextlib.contextmanager
def _status(show: bool, text: str) -> Iterator[None]:
    if not show:
        yield
        return
    from rich.console import Console

    with Console(stderr=True).status(text):
        yield


def _plain(value: Any) -> Any:
    return np.asarray(value).tolist()
