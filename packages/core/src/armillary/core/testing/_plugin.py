"""The laws of a plugin: a distribution with entry points of the group ``armillary``."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path, PurePosixPath

from armillary.core import registry

from ._checks import Broken, Case, check, run

# What no listing of components may import: each takes a second or more.
HEAVY = ("jax", "numpyro", "blackjax", "equinox", "optax", "flowjax", "arviz_base", "matplotlib", "scipy")
_NAMESPACES = ("armillary", "armillary/_plugins")


@check("plugin", "it has an entry point of the group `armillary`", "[project.entry-points.armillary] in pyproject.toml")
def check_plugin_entry_point(case: Case) -> None:
    """A distribution by that name, or one whose hook module it is, is installed and has one."""
    _entry_points(case)


@check(
    "plugin",
    "importing its hook module imports nothing heavy, so that components can be listed at once",
    "the imports of the hook module, and the __init__ of any package that it is in",
)
def check_plugin_import_is_light(case: Case) -> None:
    """In a process of its own."""
    for entry_point in _entry_points(case):
        code = (
            "import importlib, json, sys; importlib.import_module(sys.argv[1]); "
            "print(json.dumps(sorted(set(sys.argv[2:]) & set(sys.modules))))"
        )
        process = subprocess.run(
            [sys.executable, "-c", code, entry_point.module, *HEAVY],
            capture_output=True,
            text=True,
            check=False,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
        )
        if process.returncode:
            raise Broken(f"the import of {entry_point.module} failed: {process.stderr.strip().splitlines()[-1]}")
        heavy = json.loads(process.stdout.splitlines()[-1])
        if heavy:
            raise Broken(f"importing {entry_point.module} imports {', '.join(heavy)}")


@check(
    "plugin",
    "its hooks are known and give well-formed ComponentSpecs, each name once, lower case words joined by hyphens",
    "armillary.core.hookspecs",
)
def check_plugin_hooks(case: Case) -> None:
    """The registry loads it without a failure, and finds something."""
    found = registry.Registry(_entry_points(case))
    if found.failures():
        raise Broken("; ".join(str(failure) for failure in found.failures()))
    names = [(component.kind, component.name) for component in found.components()]
    if not names:
        raise Broken("no hook gives a component")
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise Broken(f"the {twice[0][0]} {twice[0][1]!r} is offered {names.count(twice[0])} times")


@check("plugin", "every factory resolves to something callable", "the `factory` strings, `package.module:attribute`")
def check_plugin_factories(case: Case) -> None:
    """Every component is imported."""
    for component in registry.Registry(_entry_points(case)).components():
        loaded = component.load()
        if not callable(loaded):
            raise Broken(f"{component.factory} of {component.name!r} is a {type(loaded).__name__}")


@check(
    "plugin",
    "it requires armillary-core with an upper bound, since the protocols change between minor versions before 1.0",
    'dependencies in pyproject.toml: "armillary-core>=0.1,<0.2"',
)
def check_plugin_requires_core(case: Case) -> None:
    """Of the distribution's metadata; armillary-core itself is let off."""
    distribution = _distribution(case)
    if _normal(distribution.name) == "armillary-core":
        return
    requirements = [r for r in distribution.requires or () if _normal(re.split(r"[^\w.-]", r)[0]) == "armillary-core"]
    if not requirements:
        raise Broken(f"{distribution.name} requires {', '.join(distribution.requires or ()) or 'nothing'}")
    for requirement in requirements:
        specifiers = requirement.partition(";")[0]
        if not re.search(r"<|==|~=", specifiers):
            raise Broken(f"it requires {requirement!r}, without an upper bound")


@check(
    "plugin",
    "it has no armillary/__init__.py and no armillary/_plugins/__init__.py, which would hide every other distribution",
    "the files of the wheel: both are namespaces (PEP 420)",
)
def check_plugin_namespace(case: Case) -> None:
    """Of the installed files, and of the source folder of an editable install."""
    distribution = _distribution(case)
    forbidden = {f"{namespace}/__init__.py" for namespace in _NAMESPACES}
    for file in distribution.files or ():
        if PurePosixPath(file).as_posix() in forbidden:
            raise Broken(f"{distribution.name} installs {file}")
    for folder in _editable(distribution):
        for name in sorted(forbidden):
            if (folder / name).exists():
                raise Broken(f"{distribution.name} is installed from {folder}, which has {name}")


def check_plugin(plugin: str) -> None:
    """Run every check of a plugin.

    Args:
        plugin: the name of an installed distribution, or of the hook module that its entry point names.

    Raises:
        ConformanceError: at the first violation, with the law, the numbers, and what to look at.
    """
    run("plugin", plugin)


def _entry_points(case: Case) -> list[metadata.EntryPoint]:
    name = case.component
    everything = metadata.entry_points(group=registry.GROUP)
    found = [e for e in everything if e.dist is not None and _normal(e.dist.name) == _normal(name)]
    found = found or [e for e in everything if e.module == name]
    if not found:
        raise Broken(
            f"neither a distribution nor a hook module {name!r} is among the installed entry points "
            f"({', '.join(sorted(str(e.value) for e in everything)) or 'there are none'})"
        )
    return found


def _distribution(case: Case) -> metadata.Distribution:
    distribution = _entry_points(case)[0].dist
    if distribution is None:
        raise Broken("its entry point belongs to no distribution")
    return distribution


def _editable(distribution: metadata.Distribution) -> Iterator[Path]:
    """The folders that the distribution adds to the path, where it is installed in editable form."""
    for file in distribution.files or ():
        if file.suffix == ".pth":
            for line in Path(str(file.locate())).read_text().splitlines():
                if line and not line.startswith("import"):
                    yield Path(line)


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()
