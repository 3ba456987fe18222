"""The model, the data and the options that a config names: found, read and held against each other."""

from __future__ import annotations

import csv
import difflib
import importlib
import importlib.util
import inspect
import os
import sys
from collections.abc import Callable, Iterable, Mapping
from importlib.machinery import PathFinder
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from armillary.core import registry
from armillary.core._config import EXPECTED_DATA, Config


def load_data(config: Config) -> dict[str, Any]:
    """The model's arguments: numbers as they are, lists and files as NumPy arrays.

    Raises:
        ConfigError: a file is not there, lacks the key or column, or does not hold numbers.
    """
    return {name: _value(config, name, given) for name, given in config.data.items()}


def load_model(config: Config, address: str) -> tuple[Callable[..., Any], Path | None]:
    """A model, and the file that it is in where that lies in the config's directory or the working directory.

    Raises:
        ConfigError: there is no such module or function, its import fails, or its arguments are not those of
            ``data``.
    """
    where, _, function = address.rpartition(":")
    file = _file_of(config, address, where)
    try:
        module = importlib.import_module(where) if file is None else _import_file(file)
    except Exception as error:
        raise config.error("model", address, f"importing {where!r} failed: {type(error).__name__}: {error}") from error
    model = getattr(module, function, None)
    if not callable(model):
        names = [n for n, v in vars(module).items() if inspect.isfunction(v) and not n.startswith("_")]
        raise config.error("model", address, f"{where!r} has no function {function!r}{_hint(function, names)}")
    _check_arguments(config, address, model)
    return model, file


def check_options(config: Config) -> None:
    """Hold the options of the sampler and the evidence estimator against what those take.

    Raises:
        ConfigError: an option is unknown, or has a value that the component refuses.
    """
    for key, kind, name, options in (
        ("sampler", "sampler", config.sampler, config.sampler_options),
        ("evidence", "evidence_estimator", config.evidence, config.evidence_options),
    ):
        if name is None:
            continue
        component = registry.get(kind, name)
        takes = inspect.signature(component).parameters
        if not any(p.kind is p.VAR_KEYWORD for p in takes.values()):
            for option, value in options.items():
                if option in takes:
                    continue
                if option in vars(config):
                    hint = f"{option} is a key of its own, beside {key}"
                else:
                    hint = f"{name!r} has no such option{_hint(option, takes)}"
                raise config.error(f"{key}.{option}", value, hint)
        if not inspect.isclass(component):
            continue
        try:
            component(**options)
        except (TypeError, ValueError) as error:
            raise config.error(key, {"name": name, **options}, str(error)) from None


def relative(config: Config, files: Mapping[str, Path | None], directory: Path) -> Config:
    """The same config as a file in ``directory`` would have to say it."""

    def path(target: Path) -> str:
        return Path(os.path.relpath(target.resolve(), directory.resolve())).as_posix()

    models = {
        name: f"{path(file)}:{address.rpartition(':')[2]}" if (file := files[name]) is not None else address
        for name, address in config.models.items()
    }
    changed: dict[str, Any] = {"model": models["result"] if isinstance(config.model, str) else models}
    changed["data"] = {
        name: path(config.path.parent / parts[0]) + "".join(f":{part}" for part in parts[1:] if part)
        if isinstance(given, str) and (parts := _split(given))
        else given
        for name, given in config.data.items()
    }
    return Config(**{**vars(config), "path": directory / "config.yaml", **changed})


def _file_of(config: Config, address: str, where: str) -> Path | None:
    directories = [config.path.parent.resolve(), Path.cwd()]
    if where.endswith(".py"):
        for directory in directories:
            if (directory / where).is_file():
                return directory / where
        raise config.error("model", address, f"there is no file {str(directories[0] / where)!r}")
    search = [str(d) for d in directories]
    file = None
    for part in where.split("."):
        spec = PathFinder.find_spec(part, search)
        if spec is None or spec.origin is None:
            return None
        file, search = Path(spec.origin), list(spec.submodule_search_locations or [])
    return file


def _import_file(file: Path) -> ModuleType:
    """Import a file by its path; within a package by its full name, so that its relative imports work."""
    parts = [] if file.stem == "__init__" else [file.stem]
    root = file.parent
    while (root / "__init__.py").is_file():
        parts.insert(0, root.name)
        root = root.parent
    if str(root) not in sys.path:
        sys.path.insert(0, str(root))
    name = ".".join(parts)
    loaded = sys.modules.get(name)
    if loaded is not None and Path(getattr(loaded, "__file__", None) or "").resolve() == file.resolve():
        return loaded
    if len(parts) > 1:
        return importlib.import_module(name)
    spec = importlib.util.spec_from_file_location(name, file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


def _check_arguments(config: Config, address: str, model: Callable[..., Any]) -> None:
    takes = inspect.signature(model).parameters
    named = [n for n, p in takes.items() if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)]
    if not any(p.kind is p.VAR_KEYWORD for p in takes.values()):
        for name, given in config.data.items():
            if name not in named:
                raise config.error(f"data.{name}", given, f"{address!r} has no such argument{_hint(name, named)}")
    missing = [n for n in named if takes[n].default is inspect.Parameter.empty and n not in config.data]
    if missing:
        raise config.error(
            "data", dict(config.data), f"expected a value for {missing[0]!r}, an argument of {address!r}"
        )


def _value(config: Config, name: str, given: Any) -> Any:
    key = f"data.{name}"
    if isinstance(given, list):
        try:
            return _numbers(np.asarray(given))
        except ValueError:
            raise config.error(key, given, "expected a list of numbers, or lists of equal lengths") from None
    if not isinstance(given, str):
        return given
    parts = _split(given)
    if parts is None:
        raise config.error(key, given, EXPECTED_DATA)
    relative_path, entry = parts
    file = config.path.parent / relative_path
    if not file.is_file():
        raise config.error(key, given, f"there is no file {str(file)!r}")
    read = {".npy": _npy, ".npz": _npz, ".csv": _csv}[file.suffix]
    try:
        return _numbers(read(file, entry))
    except (ValueError, LookupError, OSError, EOFError) as error:
        raise config.error(key, given, str(error.args[0] if error.args else error)) from None


def _split(given: str) -> tuple[str, str] | None:
    """``x.npz:key`` as its file and key; None where the text names no data file."""
    if given.endswith(".npy"):
        return given, ""
    for suffix in (".npz", ".csv"):
        head, found, entry = given.partition(suffix)
        if found and (not entry or entry.startswith(":")):
            return head + suffix, entry[1:]
    return None


def _npy(file: Path, _: str) -> np.ndarray:
    return np.load(file, allow_pickle=False)


def _npz(file: Path, key: str) -> np.ndarray:
    with np.load(file, allow_pickle=False) as arrays:
        if key not in arrays:
            raise LookupError(f"expected {file.name}:KEY with a KEY of the file{_hint(key, arrays)}")
        return arrays[key]


def _csv(file: Path, column: str) -> np.ndarray:
    with file.open(newline="", encoding="utf-8-sig") as lines:
        rows = csv.DictReader(lines)
        if not rows.fieldnames or column not in rows.fieldnames:
            names = _hint(column, rows.fieldnames or [])
            raise LookupError(f"expected {file.name}:COLUMN with a COLUMN of the first line{names}")
        values = []
        for row in rows:
            try:
                values.append(float(row[column]))
            except (TypeError, ValueError):
                raise ValueError(f"line {rows.line_num} holds {row[column]!r}: expected a number") from None
    return np.array(values)


def _numbers(array: np.ndarray) -> np.ndarray:
    if array.dtype.kind not in "biufc":
        raise ValueError(f"expected numbers, found dtype {array.dtype}")
    return array


def _hint(name: str, names: Iterable[str]) -> str:
    names = list(names)
    near = difflib.get_close_matches(name, names, n=1)
    if near:
        return f"; did you mean {near[0]!r}?"
    return f" ({', '.join(names)})" if names else ""
