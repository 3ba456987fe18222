"""The YAML file of ``armillary run``: what it may hold, checked to the last key before anything is run.

    model: "mine:model"           # or "mine.py:model", beside this file; {A: "mine:a", B: "mine:b"} to compare
    data:
      y: y.npy                    # also data.npz:y, table.csv:column, a number, a list
      scale: 2.0
    sampler: {name: nuts, target_acceptance_rate: 0.9}
    evidence: lhm
    num_samples: 2000             # as in infer, with num_warmup, num_chains, chain_method, checkpoint_every;
                                  # chain_method: parallel has as many chains at a time as there are cores, or GPUs
    seed: 7                       # of jax.random.key; 0 by default
    precision: float32            # float64 by default: the command line then asks JAX for 64-bit numbers
    output: runs/one              # the run directory; paths are relative to this file

Reading a config imports no JAX.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from . import registry

CHAIN_METHODS = ("vectorized", "sequential", "parallel")
PRECISIONS = ("float64", "float32")

#: What a model of several may be called: it names the file of its result.
_NAME = re.compile(r"[A-Za-z0-9][\w .+-]*")
_MODEL = re.compile(r"(?:[^:]+\.py|[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*):[A-Za-z_]\w*")


class ConfigError(ValueError):
    """A config that cannot be run: one line with the file, the key, the value and what was expected."""


@dataclass(frozen=True)
class Config:
    """A checked config; the fields are the keys of the file, with a component split from its options."""

    path: Path
    model: str | Mapping[str, str]
    data: Mapping[str, Any] = field(default_factory=dict)
    sampler: str = "nuts"
    sampler_options: Mapping[str, Any] = field(default_factory=dict)
    evidence: str | None = None
    evidence_options: Mapping[str, Any] = field(default_factory=dict)
    seed: int = 0
    num_warmup: int = 500
    num_samples: int = 1000
    num_chains: int = 4
    chain_method: str = "vectorized"
    checkpoint_every: int | None = None
    precision: str = "float64"
    output: str | None = None
    versions: Mapping[str, str] = field(default_factory=dict)

    def error(self, key: str, value: Any, problem: str) -> ConfigError:
        """An error about one key, in the form that all of them have."""
        return _error(self.path, key, value, problem)

    @property
    def models(self) -> dict[str, str]:
        """The models by the names of their results; a single one is ``result``."""
        return {"result": self.model} if isinstance(self.model, str) else dict(self.model)

    def resolved(self) -> dict[str, Any]:
        """Every key with its value, defaults too, as `load` reads it; ``output`` is left to the next run."""
        model = self.model if isinstance(self.model, str) else dict(self.model)
        answer: dict[str, Any] = {"model": model, "data": dict(self.data)}
        answer["sampler"] = {"name": self.sampler, **self.sampler_options}
        if self.evidence is not None:
            answer["evidence"] = {"name": self.evidence, **self.evidence_options}
        for key in (*_INTEGERS, "chain_method", "precision"):
            answer[key] = getattr(self, key)
        if self.checkpoint_every is None:
            del answer["checkpoint_every"]
        return {**answer, "versions": dict(self.versions)}


def load(path: Path) -> Config:
    """Read and check a config file.

    Args:
        path: the YAML file.

    Raises:
        ConfigError: the file is not there or not YAML, or a key is unknown, missing, or has a value of another
            type or range; the message names the key, the value and what was expected.
    """
    keys = _read(path)
    for key, value in keys.items():
        if key not in _CHECKS:
            near = difflib.get_close_matches(str(key), _CHECKS, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"the keys are {', '.join(_CHECKS)}"
            raise _error(path, str(key), value, f"unknown key; {hint}")
    if "model" not in keys:
        raise ConfigError(f"{path}: model is missing: expected {_EXPECTED_MODEL}")
    values: dict[str, Any] = {}
    for key, value in keys.items():
        try:
            values |= _CHECKS[key](key, value)
        except _Wrong as wrong:
            raise _error(path, wrong.key, wrong.value, str(wrong)) from None
    return Config(path=path, **values)


class _Wrong(Exception):
    """What is wrong with one value, before the file's name is put to it."""

    def __init__(self, key: str, value: Any, problem: str) -> None:
        super().__init__(problem)
        self.key, self.value = key, value


def _error(path: Path, key: str, value: Any, problem: str) -> ConfigError:
    shown = repr(value)
    if len(shown) > 80:
        shown = shown[:77] + "..."
    return ConfigError(f"{path}: {key} = {shown}: {problem}")


def _integer(minimum: int, maximum: int | None, expected: str) -> Callable[[str, Any], dict[str, Any]]:
    def check(key: str, value: Any) -> dict[str, Any]:
        # bool is an int to Python, and `num_chains: yes` is a mistake.
        right = isinstance(value, int) and not isinstance(value, bool)
        if not right or value < minimum or (maximum is not None and value > maximum):
            raise _Wrong(key, value, f"expected {expected}")
        return {key: value}

    return check


def _choice(allowed: tuple[str, ...]) -> Callable[[str, Any], dict[str, Any]]:
    def check(key: str, value: Any) -> dict[str, Any]:
        if value not in allowed:
            near = difflib.get_close_matches(str(value), allowed, n=1)
            raise _Wrong(key, value, f"expected one of {', '.join(allowed)}" + _did_you_mean(near))
        return {key: value}

    return check


def _component(kind: str) -> Callable[[str, Any], dict[str, Any]]:
    """A name, or a mapping with ``name`` and options: gives the keys KEY and KEY_options."""

    def check(key: str, value: Any) -> dict[str, Any]:
        name, options = (value.get("name"), value) if isinstance(value, dict) else (value, {})
        if not isinstance(name, str):
            raise _Wrong(key, value, f"expected the name of a {kind.replace('_', ' ')}, or name: with its options")
        where = key if isinstance(value, str) else f"{key}.name"
        try:
            registry.find(kind, name)
        except LookupError as error:
            raise _Wrong(where, name, str(error)) from None
        for option, given in options.items():
            if not isinstance(option, str):
                raise _Wrong(f"{key}.{option}", given, "expected the name of an option")
        return {key: name, f"{key}_options": {k: v for k, v in options.items() if k != "name"}}

    return check


def _model(key: str, value: Any) -> dict[str, Any]:
    if isinstance(value, dict) and value:
        for name, given in value.items():
            if not isinstance(name, str) or not _NAME.fullmatch(name):
                raise _Wrong(f"{key}.{name}", given, "expected a name of letters, digits, spaces, '.', '+' and '-'")
            _model(f"{key}.{name}", given)
    elif not isinstance(value, str) or not _MODEL.fullmatch(value):
        raise _Wrong(key, value, f"expected {_EXPECTED_MODEL}")
    return {key: value}


def _data(key: str, value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise _Wrong(key, value, "expected a mapping from the model's arguments to values or files")
    for name, given in value.items():
        if not isinstance(name, str) or not name.isidentifier():
            raise _Wrong(f"data.{name}", given, "expected the name of an argument of the model")
        if not isinstance(given, (bool, int, float, list, str)):
            raise _Wrong(f"data.{name}", given, EXPECTED_DATA)
    return {key: value}


def _output(key: str, value: Any) -> dict[str, Any]:
    if not isinstance(value, str) or not value.strip():
        raise _Wrong(key, value, "expected the path of a directory")
    return {key: value}


def _versions(key: str, value: Any) -> dict[str, Any]:
    if not isinstance(value, dict) or not all(isinstance(x, str) for pair in value.items() for x in pair):
        raise _Wrong(key, value, "expected a mapping from distributions to versions, in quotation marks")
    return {key: value}


def _did_you_mean(near: list[str]) -> str:
    return f"; did you mean {near[0]!r}?" if near else ""


_EXPECTED_MODEL = '"module:function" or "file.py:function"'
EXPECTED_DATA = "expected a number, a list of numbers, or a file: x.npy, x.npz:key, x.csv:column"

_INTEGERS = {
    "seed": _integer(0, 2**32 - 1, "an integer from 0 to 4294967295"),
    "num_warmup": _integer(0, None, "a non-negative integer"),
    "num_samples": _integer(1, None, "a positive integer"),
    "num_chains": _integer(1, None, "a positive integer"),
    "checkpoint_every": _integer(1, None, "a positive integer"),
}
_CHECKS: dict[str, Callable[[str, Any], dict[str, Any]]] = {
    "model": _model,
    "data": _data,
    "sampler": _component("sampler"),
    "evidence": _component("evidence_estimator"),
    **_INTEGERS,
    "chain_method": _choice(CHAIN_METHODS),
    "precision": _choice(PRECISIONS),
    "output": _output,
    "versions": _versions,
}


class _Loader(yaml.SafeLoader):
    """YAML as a scientist writes it: 1e-3 is a number, and a key given twice is a mistake."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[Any] = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if key in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"the key {key!r} is there twice", key_node.start_mark
                )
            seen.add(key)
        return super().construct_mapping(node, deep)


# YAML 1.1 reads 1e-3 as a string, for want of a point and of a sign.
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"[-+]?[0-9][0-9_]*(?:\.[0-9_]*)?[eE][-+]?[0-9]+"), list("-+0123456789")
)


def _read(path: Path) -> dict[str, Any]:
    try:
        keys = yaml.load(path.read_text(encoding="utf-8"), Loader=_Loader)
    except FileNotFoundError:
        raise ConfigError(f"{path}: there is no such file") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read: {error}") from None
    except yaml.YAMLError as error:
        raise ConfigError(f"{path}: not valid YAML: {_told(error)}") from None
    if not isinstance(keys, dict):
        raise ConfigError(f"{path}: expected keys and values, such as `model: mine:model`")
    return keys


def _told(error: yaml.YAMLError) -> str:
    mark = getattr(error, "problem_mark", None)
    where = f" (line {mark.line + 1}, column {mark.column + 1})" if mark else ""
    return f"{getattr(error, 'problem', None) or error}{where}"
