"""``armillary run`` and ``armillary report``: a run directory from a config, and its report anew.

A run directory holds ``config.yaml`` (resolved: every key, the versions, and paths as seen from there), ``checkpoint``,
``result.zarr`` and ``report.html``; of several models to compare, a checkpoint and a store of each by its name.
"""

from __future__ import annotations

import dataclasses
import os
import shlex
import sys
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

import yaml

from armillary.core import registry
from armillary.core._config import Config, load

if TYPE_CHECKING:
    import xarray as xr

CONFIG = "config.yaml"
CHECKPOINT = "checkpoint"
REPORT = "report.html"


def run_config(path: Path, output: Path | None, *, resume: bool, quiet: bool) -> None:
    """Run a config as `armillary.core.infer` would, and write the run directory.

    Args:
        path: the config file.
        output: the run directory; None is the config's own, or ``armillary-runs/`` and the config's name.
        resume: continue from the checkpoint of an interrupted run.
        quiet: no progress bar, nothing printed.

    Raises:
        ConfigError: the config is wrong in itself, for its model or for its data.
        FileExistsError: the run directory holds a result or a checkpoint already, or is that of the config itself.
    """
    config = load(path)
    directory = output or _own_output(config)
    stores = {name: directory / f"{name}.zarr" for name in config.models}
    for there, advice in (
        *((store.name, "") for store in stores.values()),
        (CHECKPOINT, "continue it with --resume, "),
    ):
        if (directory / there).exists() and not resume:
            raise FileExistsError(
                f"{directory / there} is there already: {advice}choose another --output, or remove it"
            )

    if (directory / CONFIG).resolve() == path.resolve() and not config.versions:
        raise FileExistsError(f"{path} would be overwritten by the resolved config: choose another --output")

    set_precision(config.precision)
    if config.chain_method == "parallel":
        set_devices(config.num_chains)
    # All that needs JAX comes after this line, the user's model included.
    from armillary.core import infer

    from ._inputs import check_options, load_data, load_model, relative

    data = load_data(config)
    models = {name: load_model(config, address) for name, address in config.models.items()}
    check_options(config)
    files = {name: file for name, (_, file) in models.items()}
    resolved = dataclasses.replace(relative(config, files, directory), versions=_versions(config))
    _note_versions(config, resolved)
    directory.mkdir(parents=True, exist_ok=True)
    if not resolved.path.exists():
        _write(resolved)  # now, for a run that is cut short; and again when the draws are those of this config

    import jax

    results = {}
    try:
        for name, (model, _) in models.items():
            if not quiet and len(models) > 1:
                print(name, file=sys.stderr)
            results[name] = infer(
                model,
                model_kwargs=data,
                sampler=config.sampler,
                sampler_options=dict(config.sampler_options),
                evidence=config.evidence,
                evidence_options=dict(config.evidence_options),
                key=jax.random.key(config.seed),
                num_warmup=config.num_warmup,
                num_samples=config.num_samples,
                num_chains=config.num_chains,
                chain_method=config.chain_method,
                checkpoint=directory / CHECKPOINT / ("" if isinstance(config.model, str) else name),
                checkpoint_every=config.checkpoint_every,
                resume=resume,
                progress_bar=not quiet,
            )
            _write(resolved)
            save(results[name], stores[name])
        if not quiet and len(results) > 1 and config.evidence is not None:
            from rich.console import Console

            from armillary.core import compare

            Console().print(compare(results))
        written = _report(results, directory, quiet=quiet)
    except KeyboardInterrupt:
        command = shlex.join(["armillary", "run", str(path), "--output", str(directory), "--resume"])
        print(f"\narmillary: interrupted; continue with `{command}`", file=sys.stderr)
        raise SystemExit(130) from None
    if not quiet:
        print(*stores.values(), *written, sep="\n")


def rewrite_report(directory: Path) -> Path:
    """Write the report of a run directory anew from its results, and give its path.

    Raises:
        FileNotFoundError: the directory holds no result.
    """
    stores = sorted(directory.glob("*.zarr"))
    if not stores:
        raise FileNotFoundError(f"{directory}: no result to report; expected a directory written by `armillary run`")
    import xarray as xr

    from armillary.core import write_report

    results = {store.stem: xr.open_datatree(store, engine="zarr", consolidated=False) for store in stores}
    write_report(_alone(results), directory / REPORT)
    return directory / REPORT


def _alone(results: dict[str, xr.DataTree]) -> xr.DataTree | dict[str, xr.DataTree]:
    """The result of a single model, which needs no name; of several, all of them."""
    return results["result"] if set(results) == {"result"} else results


def _report(results: dict[str, xr.DataTree], directory: Path, *, quiet: bool) -> list[Path]:
    """Write the report, and give its path; without matplotlib a run is a run all the same, and a line says so."""
    from rich.console import Console

    from armillary.core import write_report

    try:
        with Console(stderr=True, quiet=quiet).status("Writing the report"):
            write_report(_alone(results), directory / REPORT)
    except ImportError as error:
        advice = f"then `armillary report {shlex.quote(str(directory))}`"
        print(f"armillary: no report was written: {error}, {advice}", file=sys.stderr)
        return []
    return [directory / REPORT]


def save(tree: xr.DataTree, store: Path) -> None:
    """Store a result; without consolidated metadata, which Zarr 3 does not specify."""
    tree.to_zarr(store, mode="w", consolidated=False)


def set_precision(precision: str) -> None:
    """Ask JAX for 64-bit numbers, which it reads from the environment when it is imported.

    The packages never do this: the command line is an application. ``float32`` leaves JAX as it is.

    Raises:
        RuntimeError: JAX was imported before, without them.
    """
    if precision != "float64":
        return
    os.environ["JAX_ENABLE_X64"] = "1"
    if "jax" in sys.modules and not sys.modules["jax"].config.jax_enable_x64:
        raise RuntimeError(
            "precision: float64 must be set before JAX is imported: call jax.config.update('jax_enable_x64', "
            "True) first, or run the command line in a process of its own"
        )


def set_devices(num_chains: int) -> None:
    """Ask JAX for a device for each core where it runs on the CPU, or for fewer that divide the chains.

    JAX reads it from the environment when it is imported; what is set there already is left, and so is a JAX that is
    there already.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    several = max(n for n in range(1, cores + 1) if num_chains % n == 0)
    given = "xla_force_host_platform_device_count" in os.environ.get("XLA_FLAGS", "")
    if "jax" not in sys.modules and not given:
        os.environ.setdefault("JAX_NUM_CPU_DEVICES", str(several))


def _own_output(config: Config) -> Path:
    if config.output is not None:
        return config.path.parent / config.output
    return Path("armillary-runs") / config.path.stem


def _versions(config: Config) -> dict[str, str]:
    """The versions on which the draws depend: of the foundations, and of who brings the components."""
    found = [registry.find("sampler", config.sampler)]
    if config.evidence is not None:
        found.append(registry.find("evidence_estimator", config.evidence))
    names = ["armillary-core", "jax", "jaxlib", "numpyro", "blackjax", *(c.distribution for c in found)]
    return {name: metadata.version(name) for name in dict.fromkeys(names)}


def _note_versions(config: Config, resolved: Config) -> None:
    """Say on stderr where the versions differ from those under which a config was resolved."""
    for name, version in config.versions.items():
        now = resolved.versions.get(name)
        if now != version:
            print(
                f"armillary: {config.path} was resolved with {name} {version}, here is {now or 'none'}: "
                "the draws may differ",
                file=sys.stderr,
            )


def _write(resolved: Config) -> None:
    head = "# Written by armillary: `armillary run` on this file repeats the run.\n"
    text = yaml.safe_dump(resolved.resolved(), sort_keys=False, allow_unicode=True)
    resolved.path.write_text(head + text, encoding="utf-8")
