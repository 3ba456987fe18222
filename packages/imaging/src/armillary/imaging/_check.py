"""Checks of arguments, made before anything is traced."""

from __future__ import annotations

import numbers
from typing import Any

import jax
import numpy as np


def check_positive(name: str, value: Any, advice: str, *, array: bool = False) -> None:
    """Refuse a concrete value that is not positive and finite; a traced one cannot be looked at.

    Args:
        name: of the argument.
        value: what came.
        advice: what to do, at the end of the message.
        array: allow an array, of which every element is checked.

    Raises:
        ValueError: naming the argument and the value, with the advice.
    """
    if isinstance(value, jax.core.Tracer):
        return
    number = np.asarray(value)
    if number.ndim and not array:
        raise ValueError(f"{name}={value!r}: expected one positive number; {advice}")
    good = np.isfinite(number) & (number > 0)
    if not good.all():
        worst = number[~good].ravel()[0]
        what = "a positive finite number" if number.ndim == 0 else f"every element positive and finite, not {worst:g}"
        raise ValueError(f"{name}={value!r}: expected {what}; {advice}")


def check_count(name: str, value: Any, advice: str, *, least: int = 1) -> None:
    """Refuse what is not a whole number of at least ``least``.

    Raises:
        ValueError: naming the argument and the value, with the advice.
    """
    if isinstance(value, bool) or not isinstance(value, numbers.Integral) or value < least:
        raise ValueError(f"{name}={value!r}: expected a whole number, at least {least}; {advice}")


def check_fraction(name: str, value: Any, advice: str) -> None:
    """Refuse what is not strictly between 0 and 1.

    Raises:
        ValueError: naming the argument and the value, with the advice.
    """
    if isinstance(value, bool) or not isinstance(value, numbers.Real) or value <= 0 or not value < 1:
        raise ValueError(f"{name}={value!r}: expected a number between 0 and 1, both excluded; {advice}")
