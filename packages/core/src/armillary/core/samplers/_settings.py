"""Checks of sampler settings, made before anything is traced."""

from __future__ import annotations

import numbers
from dataclasses import dataclass
from typing import Any, ClassVar


def positive(name: str, value: Any) -> None:
    """Raise ValueError unless ``value`` is a positive number (or an array, which may be traced)."""
    if isinstance(value, (bool, str)) or (isinstance(value, numbers.Real) and not 0 < float(value) < float("inf")):
        raise ValueError(f"{name}={value!r}: expected a positive finite number")


def fraction(name: str, value: float) -> None:
    """Raise ValueError unless ``0 < value < 1``."""
    if isinstance(value, bool) or not isinstance(value, numbers.Real) or not 0 < float(value) < 1:
        raise ValueError(f"{name}={value!r}: expected a number between 0 and 1, both excluded")


def count(name: str, value: int, least: int = 1) -> None:
    """Raise ValueError unless ``value`` is a whole number, not below ``least``."""
    if isinstance(value, bool) or not isinstance(value, numbers.Integral) or value < least:
        raise ValueError(f"{name}={value!r}: expected a whole number, at least {least}")


@dataclass(frozen=True)
class Hamiltonian:
    """The settings that samplers of Hamiltonian dynamics share."""

    step_size: float = 1.0
    target_acceptance_rate: float = 0.8
    dense: bool = False

    traits: ClassVar[frozenset[str]] = frozenset()

    def __post_init__(self) -> None:
        positive("step_size", self.step_size)
        fraction("target_acceptance_rate", self.target_acceptance_rate)
