"""Checkpoints of a run of chains: draws in Zarr, written so that a killed process leaves a whole one behind.

A checkpoint is a directory:

    settings.json          what the run is, so that another is not continued by mistake
    draws-000003.zarr      the draws of one chunk, arrays with leading axes (chain, draw)
    state-000003.zarr      the chains' state after it: there is one, that of the last chunk

The arrays of a chunk are written one after the other as the bytes of a single Zarr array, with their types and shapes
in its attribute ``arrays``: a Zarr array for each of the forty of a small NUTS run took 80 ms a chunk, this takes 2.

Everything is written under another name and renamed when it is whole, the state last: it is what makes a chunk count.
"""

from __future__ import annotations

import json
import math
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import PyTree


class CheckpointError(ValueError):
    """A checkpoint that is of another run, or cannot be read."""


class Checkpoint:
    """The checkpoint directory of one run.

    Args:
        path: the directory; it is made if it is not there.
        settings: what the run is, of JSON types.
        resume: continue what is there; otherwise it is an error that there is something.

    Raises:
        CheckpointError: there is a checkpoint and ``resume`` is false, or it is of another run.
    """

    def __init__(self, path: str | os.PathLike[str], settings: Mapping[str, Any], *, resume: bool) -> None:
        self.path = Path(path)
        here: dict[str, Any] = json.loads(json.dumps(settings))
        file = self.path / "settings.json"
        if file.exists():
            if not resume:
                raise CheckpointError(
                    f"checkpoint={str(self.path)!r}: there is a checkpoint already. Pass resume=True to continue it, "
                    "or another path to start anew"
                )
            self._check(json.loads(file.read_text()), here)
        else:
            self.path.mkdir(parents=True, exist_ok=True)
            partial = file.with_suffix(".partial")
            partial.write_text(json.dumps(here, indent=1, sort_keys=True))
            os.replace(partial, file)
        for leftover in self.path.glob("*.partial"):
            shutil.rmtree(leftover)

    def last(self) -> int:
        """The number of chunks that are there, complete."""
        numbers = [int(state.stem.removeprefix("state-")) for state in self.path.glob("state-*.zarr")]
        return max(numbers, default=-1) + 1

    def save(self, chunk: int, steps: int, draws: PyTree | None, state: PyTree) -> None:
        """Write the draws of a chunk (None in the warm-up), and the state after it and ``steps`` steps in all."""
        if draws is not None:
            self._write(f"draws-{chunk:06d}.zarr", draws)
        self._write(f"state-{chunk:06d}.zarr", (np.asarray(steps, np.int32), state))
        for old in self.path.glob("state-*.zarr"):
            if old.name != f"state-{chunk:06d}.zarr":
                shutil.rmtree(old)

    def load_state(self, chunk: int, like: PyTree) -> tuple[int, PyTree]:
        """The steps made and the state after a chunk, with the structure, dtypes and key types of ``like``."""
        steps, state = self._read(f"state-{chunk:06d}.zarr", (np.zeros((), np.int32), like))
        return int(steps), state

    def load_draws(self, chunk: int, like: PyTree) -> PyTree | None:
        """The draws of a chunk, or None if it is one of the warm-up."""
        name = f"draws-{chunk:06d}.zarr"
        return self._read(name, like) if (self.path / name).exists() else None

    def _check(self, there: dict[str, Any], here: dict[str, Any]) -> None:
        for name in sorted({*there, *here} - {"versions"}):
            if there.get(name) != here.get(name):
                raise CheckpointError(
                    f"checkpoint={str(self.path)!r} is of another run: {name} is {there.get(name)!r} there and "
                    f"{here.get(name)!r} here. Pass the same arguments to continue it, or another path to start anew"
                )
        if there.get("versions") != here.get("versions"):
            import warnings

            changed = [k for k, v in here["versions"].items() if there["versions"].get(k) != v]
            warnings.warn(
                f"the checkpoint was made with other versions of {', '.join(changed) or 'some packages'}: the "
                "continued chains are valid, but may differ from an uninterrupted run in rounding",
                stacklevel=2,
            )

    def _write(self, name: str, tree: PyTree) -> None:
        import zarr

        partial = self.path / f"{name}.partial"
        arrays = [np.asarray(_to_numpy(leaf), order="C") for leaf in jax.tree.leaves(tree)]
        packed = np.frombuffer(b"".join(array.tobytes() for array in arrays), np.uint8)
        attributes: dict[str, Any] = {"arrays": [[array.dtype.str, list(array.shape)] for array in arrays]}
        stored = zarr.create_array(str(partial), shape=packed.shape, dtype=packed.dtype, attributes=attributes)
        stored[...] = packed
        final = self.path / name
        if final.exists():  # a chunk whose state was never written
            shutil.rmtree(final)
        os.replace(partial, final)

    def _read(self, name: str, like: PyTree) -> PyTree:
        import zarr

        leaves, treedef = jax.tree.flatten(like)
        stored = zarr.open_array(str(self.path / name), mode="r")
        described: Any = stored.attrs["arrays"]
        if len(described) != len(leaves):
            raise CheckpointError(
                f"{self.path / name} holds {len(described)} arrays, and this run has {len(leaves)}: it is of another "
                "model"
            )
        packed = np.asarray(stored[...]).tobytes()
        read, start = [], 0
        for (dtype, shape), leaf in zip(described, leaves, strict=True):
            array = np.frombuffer(packed, dtype, count=math.prod(shape), offset=start).reshape(shape)
            start += array.nbytes
            read.append(_from_numpy(array, leaf))
        return jax.tree.unflatten(treedef, read)


def _is_key(leaf: Any) -> bool:
    return jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)


def _to_numpy(leaf: Any) -> np.ndarray:
    return np.asarray(jax.random.key_data(leaf) if _is_key(leaf) else leaf)


def _from_numpy(array: np.ndarray, like: Any) -> jax.Array:
    if _is_key(like):
        return jax.random.wrap_key_data(jnp.asarray(array), impl=jax.random.key_impl(like))
    return jnp.asarray(array, like.dtype)
