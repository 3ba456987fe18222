"""Checks of training data, made before anything is traced."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np


def check_count(name: str, value: Any, what: str) -> None:
    """Refuse what is not a positive integer.

    Raises:
        ValueError: naming the argument.
    """
    if not isinstance(value, (int, np.integer)) or isinstance(value, bool) or value < 1:
        raise ValueError(f"{name}={value!r}: expected a positive integer, {what}")


def check_examples(
    parameters_name: str,
    spectra_name: str,
    parameters: Mapping[str, Any],
    spectra: Any,
    log: bool,
    names: tuple[str, ...] | None = None,
    bins: int | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Parameters as the columns of an array, and spectra or ln of them, in float64.

    Args:
        parameters_name: what the caller named the parameters.
        spectra_name: what the caller named the spectra.
        parameters: values by name.
        spectra: a row for each value.
        log: the spectra have to be positive, and ln of them is given.
        names: the names that are needed, and their order.
        bins: the number of bins that is needed.

    Raises:
        ValueError: naming what is wrong and where.
    """
    if not isinstance(parameters, Mapping) or not parameters:
        raise ValueError(f"{parameters_name}: expected the values of each parameter by name, such as {{'h': array}}")
    if names is not None and set(names) != set(parameters):
        raise ValueError(f"{parameters_name} has the names {tuple(parameters)}: expected {names}")
    y = np.asarray(spectra, dtype=np.float64)
    if y.ndim != 2 or (bins is not None and y.shape[1] != bins) or 0 in y.shape:
        expected = "n, bins" if bins is None else f"n, {bins}"
        raise ValueError(f"{spectra_name} has shape {y.shape}: expected ({expected}), a row for each example")
    columns = []
    for name in names or parameters:
        values = np.asarray(parameters[name], dtype=np.float64)
        if values.shape != (len(y),):
            raise ValueError(
                f"{parameters_name}[{name!r}] has shape {values.shape}: {spectra_name} has {len(y)} rows, so expected "
                f"({len(y)},)"
            )
        if not np.isfinite(values).all():
            first = int(np.flatnonzero(~np.isfinite(values))[0])
            raise ValueError(f"{parameters_name}[{name!r}] is {values[first]} at row {first}: finite values are needed")
        if names is None and np.ptp(values) == 0:
            raise ValueError(f"{parameters_name}[{name!r}] is {values[0]} everywhere: leave out what does not vary")
        columns.append(values)
    _check_values(spectra_name, y, ~np.isfinite(y), "finite values are needed: leave out those rows")
    if log:
        _check_values(spectra_name, y, y <= 0, "log=True needs positive spectra: pass log=False")
        y = np.log(y)
    return np.stack(columns, axis=1), y


def _check_values(name: str, y: np.ndarray, bad: np.ndarray, what: str) -> None:
    if bad.any():
        row, column = map(int, np.argwhere(bad)[0])
        raise ValueError(
            f"{name} is {y[row, column]} at row {row}, bin {column}, the first of {int(bad.sum())} such values: {what}"
        )
