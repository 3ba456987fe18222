"""Spectra of many models in a Zarr group that grows as they are computed, and can be taken up after a kill."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float

from ._design import Design, wavenumbers

_DONE, _FAILED = 1, 2


class TrainingSet(NamedTuple):
    """The models that are there.

    Args:
        models: parameters of the Boltzmann runs, in the order of `TRANSFER`.
        variants: parameters of the boosts, in the order of `VARIANT`.
        z: redshifts.
        k: wavenumbers in 1/Mpc.
        log_linear: ln of the linear spectrum in Mpc^3, for the reference primordial spectrum.
        log_boost: ln of the non-linear over the linear spectrum.
        comoving_distance: in Mpc.
    """

    models: Float[np.ndarray, "n 5"]
    variants: Float[np.ndarray, "n v 3"]
    z: Float[np.ndarray, "n nz"]
    k: Float[np.ndarray, " nk"]
    log_linear: Float[np.ndarray, "n nz nk"]
    log_boost: Float[np.ndarray, "n v nz nk"]
    comoving_distance: Float[np.ndarray, "n nz"]


def write_training_set(
    path: str | os.PathLike[str],
    design: Design,
    compute: Callable[[np.ndarray, np.ndarray, np.ndarray], dict[str, np.ndarray]],
    *,
    attributes: dict[str, Any] | None = None,
    report: Callable[[int, int], None] = lambda done, total: None,
) -> int:
    """Compute what the group at `path` lacks of a design, a model at a time.

    A model is marked as done when all that belongs to it is written, so a run that was killed can be started again
    with the same arguments, and computes the model it was at anew. A model whose computation fails is marked as well
    and never tried again; its message is kept.

    Args:
        path: the Zarr group, made if it is not there.
        design: all models that are wanted.
        compute: gives the spectra of one model: see `camb_spectra`.
        attributes: what the numbers depend on beside the design, such as versions; a group with others is refused.
        report: called after each model with the number of those marked, and of all.

    Returns:
        The number of models that failed.

    Raises:
        ValueError: the group at `path` is of another design, or has other attributes.
    """
    import zarr

    path = Path(path)
    attributes = attributes or {}
    n, v = design.variants.shape[:2]
    nz, nk = design.z.shape[1], len(wavenumbers())
    shapes = {"log_linear": (n, nz, nk), "log_boost": (n, v, nz, nk), "comoving_distance": (n, nz)}
    if not (path / "complete_layout").exists():
        group = zarr.create_group(path, overwrite=True)
        for name, values in design._asdict().items():
            group.create_array(name, data=values)
        group.create_array("k", data=wavenumbers())
        for name, shape in shapes.items():
            dtype = "float64" if name == "comoving_distance" else "float32"
            group.create_array(name, shape=shape, chunks=(1, *shape[1:]), dtype=dtype, fill_value=np.nan)
        group.create_array("state", shape=(n,), chunks=(1,), dtype="int8", fill_value=0)
        group.attrs.update({**attributes, "failures": {}})
        (path / "complete_layout").touch()
    group = zarr.open_group(path, mode="r+")
    _same(path, group, design, attributes)
    arrays = {name: zarr.open_array(path / name, mode="r+") for name in (*shapes, "state")}
    state = np.asarray(arrays["state"])
    for i in map(int, np.flatnonzero(state == 0)):
        try:
            spectra = compute(design.models[i], design.variants[i], design.z[i])
        except Exception as error:  # a model that CAMB cannot do; a defect in what is ours stops at the first
            if not (state == _DONE).any():
                raise
            failures = group.attrs["failures"]
            assert isinstance(failures, dict)  # made so above
            group.attrs["failures"] = {**failures, str(i): f"{type(error).__name__}: {error}"}
            state[i] = _FAILED
        else:
            for name in shapes:
                arrays[name][i] = spectra[name]
            state[i] = _DONE
        arrays["state"][i] = state[i]
        report(int((state != 0).sum()), n)
    return int((state == _FAILED).sum())


def read_training_set(path: str | os.PathLike[str]) -> TrainingSet:
    """The models of a group that are done, whether or not all are.

    Raises:
        ValueError: no model is done, or there are NaN among the spectra of one.
    """
    import zarr

    group = zarr.open_group(Path(path), mode="r")
    done = np.flatnonzero(np.asarray(group["state"]) == _DONE)
    if not done.size:
        raise ValueError(f"{os.fspath(path)!r} has no finished model: run the generation longer")

    def rows(name: str) -> np.ndarray:
        return np.asarray(group[name])[done]

    names = [name for name in TrainingSet._fields if name != "k"]
    data = TrainingSet(k=np.asarray(group["k"]), **{name: rows(name) for name in names})
    for name in names:
        bad = ~np.isfinite(getattr(data, name).reshape(len(done), -1)).all(axis=1)
        if bad.any():
            raise ValueError(f"{name} of {os.fspath(path)!r} has values that are not finite, at models {done[bad]}")
    return data


def _same(path: Path, group: Any, design: Design, attributes: dict[str, Any]) -> None:
    """Refuse to go on from a group of something else.

    Raises:
        ValueError: naming what differs.
    """
    changed = [name for name, values in design._asdict().items() if not _equal(group[name], values)]
    changed += [name for name, value in attributes.items() if group.attrs.get(name) != value]
    if changed:
        raise ValueError(
            f"{os.fspath(path)!r} was begun with another {', '.join(changed)}: pass the same settings to go on from "
            "it, or another path to start anew"
        )


def _equal(stored: Any, values: np.ndarray) -> bool:
    return stored.shape == values.shape and bool(np.array_equal(np.asarray(stored), values))
