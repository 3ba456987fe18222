"""Denoisers as files: a line of JSON that says what the network is, and its weights as Equinox writes them."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import equinox as eqx
import jax

from ._denoisers import DnCNN, DRUNet, Network
from ._score_unet import ScoreUNet

_WEIGHTS = Path(__file__).parent / "_weights"
_CLASSES: dict[str, type[Network]] = {cls.__name__: cls for cls in (DnCNN, DRUNet, ScoreUNet)}


def save_denoiser(path: str | os.PathLike[str], denoiser: Network) -> None:
    """Write a network and its settings to a file, without pickle.

    >>> import jax, tempfile, os
    >>> from armillary.imaging import DnCNN, load_denoiser, save_denoiser
    >>> path = os.path.join(tempfile.mkdtemp(), "denoiser.eqx")
    >>> save_denoiser(path, DnCNN(key=jax.random.key(0), width=8, depth=3))
    >>> load_denoiser(path).width
    8

    Args:
        path: the file; one that is there is replaced once the new one is whole.
        denoiser: a `DnCNN`, `DRUNet` or `ScoreUNet`.

    Raises:
        ValueError: it is another object.
    """
    if type(denoiser).__name__ not in _CLASSES:
        raise ValueError(
            f"denoiser is a {type(denoiser).__name__}: expected one of {', '.join(_CLASSES)}; write others with "
            "equinox.tree_serialise_leaves"
        )
    header = {"network": type(denoiser).__name__, "settings": denoiser.settings}
    write(path, header, denoiser)


def load_denoiser(path: str | os.PathLike[str]) -> Network:
    """Read a network that `save_denoiser` wrote.

    Args:
        path: the file.

    Returns:
        A network of the class and settings that it was.

    Raises:
        ValueError: the file is not one of `save_denoiser`.
    """
    header = read_header(path)
    if header.get("network") not in _CLASSES:
        raise ValueError(f"path={os.fspath(path)!r} is not a file of save_denoiser: its network is {header!r}")
    like = eqx.filter_eval_shape(_CLASSES[header["network"]], key=jax.random.key(0), **header["settings"])
    return read(path, like)


def pretrained_denoiser(name: str = "galaxies") -> Network:
    """A network that was trained by this project and comes with the package.

    Both know the Hubble Deep Field (NASA and ESA), as it is in scikit-image: galaxies on a dark sky, in pixels of its
    luminance between 0 and 1. How accurate they are on a part of it that they were not trained on is in the package's
    README, and ``examples/galaxies/train.py`` trains them anew.

    >>> import jax
    >>> from armillary.imaging import pretrained_denoiser
    >>> pretrained_denoiser("galaxies")(jax.numpy.zeros((64, 64)), 0.1).shape
    (64, 64)

    Args:
        name: "galaxies", a `DRUNet` for noise between 0.002 and 2, so for diffusion too; or "galaxies-nonexpansive", a
            `DnCNN` with a non-expansive residual, for noise between 0.002 and 0.1.

    Raises:
        ValueError: there is no such network.
    """
    names = sorted(file.stem for file in _WEIGHTS.glob("*.eqx"))
    if name not in names:
        raise ValueError(f"name={name!r}: expected one of {', '.join(names)}")
    return load_denoiser(_WEIGHTS / f"{name}.eqx")


def write(path: str | os.PathLike[str], header: dict[str, Any], tree: Any) -> None:
    """A header and the arrays of a tree, under another name until the file is whole."""
    partial = f"{os.fspath(path)}.partial"
    with open(partial, "wb") as file:
        file.write((json.dumps(header, sort_keys=True) + "\n").encode())
        eqx.tree_serialise_leaves(file, tree)
    os.replace(partial, path)


def read_header(path: str | os.PathLike[str]) -> dict[str, Any]:
    """The header.

    Raises:
        ValueError: there is none.
    """
    with open(path, "rb") as file:
        try:
            header = json.loads(file.readline())
        except ValueError:
            header = None
    if not isinstance(header, dict):
        raise ValueError(f"path={os.fspath(path)!r} is not a file of save_denoiser or of a training")
    return header


def read(path: str | os.PathLike[str], like: Any) -> Any:
    """The tree, of the structure of ``like``."""
    with open(path, "rb") as file:
        file.readline()
        return eqx.tree_deserialise_leaves(file, like)
