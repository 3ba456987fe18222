"""An emulator: a network between standardised parameters and standardised spectra."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from ._box import Box
from ._network import Network

_FORMAT = "armillary-cosmology emulator 1"


class Emulator(eqx.Module):
    r"""A function of named parameters, as a network has learned it; made by `train`, or read by `Emulator.load`.

    .. math:: \ln s(\theta) = \mu + B\, n\!\left(\frac{\theta - m}{d}\right)

    with a network n, the mean :math:`\mu` of the log-spectra, and a basis B of principal components, or the standard
    deviation of each bin on its diagonal. Without ``log``, s stands in the place of ln s.

    Of parameters outside of `box` it says nothing: a call with numbers raises, and a traced call, which cannot, gives
    NaN, so that a sampler sees a log-density that is not finite and rejects the proposal. `Box.priors` gives the
    priors with which this does not happen.

    Attributes:
        box: the parameters, in their order, and their bounds.
        log: whether ln of the spectra is what was standardised.

    >>> import jax, numpy as np
    >>> from armillary_cosmology.emulate import train
    >>> tilt, x = np.linspace(-1, 1, 200), np.linspace(1, 2, 5)
    >>> trained = train(jax.random.key(0), {"tilt": tilt}, x ** tilt[:, None], hidden=(8,), num_epochs=5)
    >>> trained.emulator(np.array([0.3], np.float32)).shape
    (5,)
    >>> trained.emulator(np.array([1.5], np.float32))
    Traceback (most recent call last):
    ValueError: tilt=1.5 is outside of the box: -1.0 to 1.0 is what was trained
    """

    network: Network
    parameter_mean: Float[Array, " p"]
    parameter_scale: Float[Array, " p"]
    spectrum_mean: Float[Array, " n"]
    basis: Float[Array, "components n"] | None
    coefficient_scale: Float[Array, " components"]
    box: Box = eqx.field(static=True)
    log: bool = eqx.field(static=True)

    def __call__(
        self, parameters: Mapping[str, Any] | Float[Array | np.ndarray, "*batch p"]
    ) -> Float[Array, "*batch n"]:
        """The spectra at parameters; differentiable, and of the precision of what comes in.

        Args:
            parameters: an array with the parameters on its last axis, or arrays by name.

        Raises:
            ValueError: a parameter outside of `box`, unless it is traced, or parameters of another number or name.
        """
        x = self.box.array(parameters)
        self.box.check(x)
        y = self.standardised(x)
        return jnp.where(self.box.contains(x)[..., None], jnp.exp(y) if self.log else y, jnp.nan)

    def standardised(self, parameters: Float[Array, "*batch p"]) -> Float[Array, "*batch n"]:
        """What the network was trained for: ln of the spectra with ``log``. It does not look at the box.

        Args:
            parameters: an array with the parameters on its last axis.
        """
        dtype = parameters.dtype
        x = (parameters - self.parameter_mean.astype(dtype)) / self.parameter_scale.astype(dtype)
        y = self.network(x) * self.coefficient_scale.astype(dtype)
        if self.basis is not None:
            y = y @ self.basis.astype(dtype)
        return self.spectrum_mean.astype(dtype) + y

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the emulator to a NumPy ``.npz`` file, of arrays and JSON without any pickle.

        Args:
            path: where to; the file is moved into place when it is whole.
        """
        arrays = {f"array_{i}": np.asarray(leaf) for i, leaf in enumerate(jax.tree.leaves(self))}
        about = {
            "format": _FORMAT,
            "names": self.box.names,
            "lower": self.box.lower,
            "upper": self.box.upper,
            "log": self.log,
            "components": self.basis is not None,
            "sizes": [len(self.box.names), *(len(bias) for bias in self.network.biases)],
        }
        partial = Path(f"{os.fspath(path)}.partial")
        with open(partial, "wb") as file:
            np.savez_compressed(file, about=np.array(json.dumps(about)), **arrays)  # type: ignore[arg-type]
        os.replace(partial, path)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Emulator:
        """Read an emulator that `save` has written.

        Args:
            path: the file.

        Raises:
            ValueError: the file is not such a one.
        """
        what = f"{os.fspath(path)!r} is not a file of Emulator.save"
        with np.load(path, allow_pickle=False) as file:
            if "about" not in file:
                raise ValueError(what)
            about = json.loads(str(file["about"]))
            if about.get("format") != _FORMAT:
                raise ValueError(f"{what} of this version: its format is {about.get('format')!r}, not {_FORMAT!r}")
            leaves = [jnp.asarray(file[f"array_{i}"]) for i in range(len(file.files) - 1)]
        sizes, p = about["sizes"], len(about["names"])
        zeros = jnp.zeros(0)
        like = cls(
            network=Network((p, *sizes[1:]), key=jax.random.key(0)),
            parameter_mean=zeros,
            parameter_scale=zeros,
            spectrum_mean=zeros,
            basis=zeros if about["components"] else None,
            coefficient_scale=zeros,
            box=Box(tuple(about["names"]), tuple(about["lower"]), tuple(about["upper"])),
            log=about["log"],
        )
        return jax.tree.unflatten(jax.tree.structure(like), leaves)
