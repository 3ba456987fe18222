"""The file from which a synthesis goes on."""

from __future__ import annotations

import hashlib
import os
import zipfile
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np


class Checkpoint:
    """A file with the state of a synthesis, known by its arguments.

    Args:
        path: of the file.
        arguments: a pytree of what the state depends on.
    """

    def __init__(self, path: str | Path, arguments: Any) -> None:
        self.path = Path(path)
        leaves, structure = jax.tree.flatten(arguments)
        digest = hashlib.sha256(str(structure).encode())
        for leaf in leaves:
            key = isinstance(leaf, jax.Array) and jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)
            array = np.asarray(jax.random.key_data(leaf) if key else leaf)
            digest.update(f"{array.dtype} {array.shape}".encode() + array.tobytes())
        self.digest = digest.hexdigest()

    def level(self) -> int:
        """The level that the state of the file is of; 0 if there is none.

        Raises:
            ValueError: the file is of another synthesis.
        """
        if not self.path.exists():
            return 0
        try:
            with np.load(self.path, allow_pickle=False) as file:
                digest, level = str(file["digest"]), int(file["level"])
        except (OSError, KeyError, ValueError, zipfile.BadZipFile):
            digest, level = "", 0
        if digest != self.digest:
            raise ValueError(
                f"checkpoint={str(self.path)!r} is not a file of this synthesis, but of other arguments: remove it, or "
                "name another"
            )
        return level

    def read(self, state: Any) -> Any:
        """The state of the file, in the form of `state`, or `state` if there is none."""
        if not self.path.exists():
            return state
        leaves, structure = jax.tree.flatten(state)
        with np.load(self.path, allow_pickle=False) as file:
            return jax.tree.unflatten(structure, [jnp.asarray(file[str(k)]) for k in range(len(leaves))])

    def write(self, level: int, state: Any) -> None:
        """Write the file, and rename it into place when it is whole."""
        arrays: dict[str, Any] = {str(k): np.asarray(x) for k, x in enumerate(jax.tree.leaves(state))}
        whole = self.path.with_name(self.path.name + ".part")
        with whole.open("wb") as file:
            np.savez(file, digest=self.digest, level=level, **arrays)
        os.replace(whole, self.path)
