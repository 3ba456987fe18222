"""``armillary run`` and ``armillary report``: a run directory from a config, and its report anew.

A run directory holds ``config.yaml`` (resolved: every key, the versions, and paths as seen from there), ``checkpoint``,
``result.zarr`` and ``report.html``.
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
from armillary.core._config import Config, ConfigError, load

if TYPE_CHECKING:
    import xarray as xr

RESULT = "result.zarr"
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
        FileExistsError: the run directory holds a result already.
    """
    config = load(path)
    directory = output or _own_output(config)
    if (directory / RESULT).exists() and not resume:
        raise FileExistsError(f"{directory / RESULT} is there already: choose another --output, or remove it")

    set_precision(config.precision)
    # All that needs JAX comes after this line, the user's model included.
    from armillary.core import infer, write_report

    from ._inputs import check_options, load_data, load_model, relative

    data = load_data(config)
    model, file = load_model(config)
    check_options(config)
    resolved = dataclasses.replace(relative(config, file, directory), versions=_versions(config))
    _note_versions(config, resolved)
    if resume:
        _check_same(resolved, directory)
    directory.mkdir(parents=True, exist_ok=True)
    _write(resolved)

    import jax

    try:
        tree = infer(
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
            checkpoint=directory / "checkpoint",
            checkpoint_every=config.checkpoint_every,
            resume=resume,
            progress_bar=not quiet,
        )
        tree.to_zarr(directory / RESULT, mode="w")
        write_report(tree, directory / REPORT, title=directory.resolve().name)
    except KeyboardInterrupt:
        command = shlex.join(["armillary", "run", str(path), "--output", str(directory), "--resume"])
        print(f"\narmillary: interrupted; continue with `{command}`", file=sys.stderr)
        raise SystemExit(130) from None
    if not quiet:
        print(directory / RESULT, directory / REPORT, sep="\n")


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

    results = {store.stem: xr.open_datatree(store, engine="zarr") for store in stores}
    title = directory.resolve().name
    if [store.name for store in stores] == [RESULT]:
        write_report(results["result"], directory / REPORT, title=title)
    else:
        write_report(results, directory / REPORT, title=title, comparison=comparison_of(results))
    return directory / REPORT


def comparison_of(results: dict[str, xr.DataTree]) -> object | None:
    """The comparison of the results, where there are two or more and each has an evidence."""
    if len(results) < 2 or not all("evidence" in tree.children for tree in results.values()):
        return None
    from armillary.core import compare

    return compare(results)


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


def _check_same(resolved: Config, directory: Path) -> None:
    """Refuse to continue a run under another config than it began with."""
    if not (directory / "config.yaml").is_file():
        raise FileNotFoundError(f"{directory}: nothing to resume; run without --resume")
    before = load(directory / "config.yaml").resolved()
    for key, value in resolved.resolved().items():
        if key != "versions" and before.get(key) != value:
            raise ConfigError(
                f"{directory / 'config.yaml'}: {key} = {before.get(key)!r} when the run began, now {value!r}: "
                "resume with the same config, or choose another --output"
            )


def _write(resolved: Config) -> None:
    head = "# Written by armillary: `armillary run` on this file repeats the run.\n"
    text = yaml.safe_dump(resolved.resolved(), sort_keys=False, allow_unicode=True)
    resolved.path.write_text(head + text, encoding="utf-8")
