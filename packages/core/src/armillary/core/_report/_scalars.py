"""The scalar parameters of a posterior: all of a small one, an even choice from a big one."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import xarray as xr

#: How many scalars are looked at, in all and of one variable: R-hat and both ESS cost some 5 ms each.
LIMIT = 300
LIMIT_OF_ONE = 64


@dataclass(frozen=True)
class Scalar:
    """One scalar parameter: a label such as ``theta[3]`` and its draws, of shape ``(chain, draw)``."""

    label: str
    draws: np.ndarray

    @property
    def constant(self) -> bool:
        """Whether it never varies, as a fixed element of a deterministic site; it has no diagnostics then."""
        return bool(np.all(self.draws == self.draws.flat[0]))


@dataclass(frozen=True)
class Selection:
    """Scalars chosen from a posterior, and how many it has in all."""

    scalars: tuple[Scalar, ...]
    total: int

    @property
    def partial(self) -> bool:
        """Whether some were left out."""
        return len(self.scalars) < self.total


def select(tree: xr.DataTree) -> Selection:
    """The scalars of the ``posterior`` group: every one, or evenly spaced elements of its big arrays.

    Small variables come before big ones, and of one size by name. A complex parameter counts as two. Of a stored
    tree only what is chosen is read.
    """
    if "posterior" not in tree.children or not tree["posterior"].data_vars:
        return Selection((), 0)
    variables = {str(name): _with_chains(v) for name, v in tree["posterior"].data_vars.items()}
    # The small first, so that of a map with two parameters those two are seen; and by name, for a store has no order.
    variables = {name: v for name, v in sorted(variables.items(), key=lambda item: (item[1].size, item[0])) if v.size}
    total = sum(_elements(v) * (2 if np.iscomplexobj(v) else 1) for v in variables.values())
    each = max(1, min(LIMIT_OF_ONE, LIMIT // max(1, len(variables))))
    scalars: list[Scalar] = []
    for name, variable in variables.items():
        scalars += _choose(name, variable, each)
        if len(scalars) >= LIMIT:
            break
    return Selection(tuple(scalars[:LIMIT]), total)


def _with_chains(variable: xr.DataArray) -> xr.DataArray:
    missing = [dim for dim in ("chain", "draw") if dim not in variable.dims]
    return variable.expand_dims(missing).transpose("chain", "draw", ...)


def _elements(variable: xr.DataArray) -> int:
    return math.prod(variable.shape[2:])


def _choose(name: str, variable: xr.DataArray, count: int) -> list[Scalar]:
    if np.iscomplexobj(variable):
        parts = {f"Re {name}": variable.real, f"Im {name}": variable.imag}
        return [s for label, part in parts.items() for s in _choose(label, part, max(1, count // 2))]
    dims, shape = variable.dims[2:], variable.shape[2:]
    if not dims:
        return [Scalar(name, np.asarray(variable, float))]
    size = _elements(variable)
    flat = np.arange(size) if size <= count else np.linspace(0, size - 1, count).astype(int)
    index = np.unravel_index(flat, shape)
    points = {dim: xr.DataArray(i, dims="_pick") for dim, i in zip(dims, index, strict=True)}
    values = np.asarray(variable.isel(points).transpose("chain", "draw", "_pick"), float)
    labels = [
        ", ".join(_coordinate(variable, dim, i) for dim, i in zip(dims, at, strict=True))
        for at in zip(*index, strict=True)
    ]
    return [Scalar(f"{name}[{label}]", values[..., i]) for i, label in enumerate(labels)]


def _coordinate(variable: xr.DataArray, dim: object, i: int) -> str:
    return str(variable.coords[dim].values[i]) if dim in variable.coords else str(i)
