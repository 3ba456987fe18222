"""How accurate an emulator is, over spectra that its training has not seen."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Array, Float

from ._checks import check_examples
from ._emulator import Emulator

PERCENTILES = (68.0, 95.0, 99.0, 99.9)


@dataclass(frozen=True)
class Accuracy:
    """Relative errors over held-out spectra; made by `accuracy`.

    Args:
        errors: the absolute relative error of each bin of each spectrum.
    """

    errors: Float[np.ndarray, "n bins"]

    @property
    def per_bin(self) -> Float[np.ndarray, "4 bins"]:
        """The 68th, 95th, 99th and 99.9th percentile over the spectra, in each bin."""
        return np.percentile(self.errors, PERCENTILES, axis=0)

    @property
    def per_spectrum(self) -> Float[np.ndarray, " 4"]:
        """The same percentiles of the largest error of a spectrum over its bins."""
        return np.percentile(self.errors.max(axis=1), PERCENTILES)

    def table(self) -> str:
        """The percentiles of a spectrum's largest error, and the largest in any bin of those taken bin by bin."""
        rows = zip(PERCENTILES, self.per_spectrum, self.per_bin.max(axis=1), strict=True)
        lines = [f"{p:g} % of {len(self.errors)}   {a:9.2e}   {b:9.2e}" for p, a, b in rows]
        width = max(map(len, lines)) - 24
        head = f"{'spectra':<{width}}largest bin   worst bin"
        return "\n".join([head, *lines])

    def plot(self, x: Any = None, *, ax: Any = None) -> Any:
        """Bands of the relative error below which 68, 95, 99 and 99.9 % of the spectra are, as CosmoPower shows them.

        Args:
            x: the positions of the bins, their numbers by default.
            ax: matplotlib axes; new ones by default.

        Returns:
            The axes.

        Raises:
            ImportError: matplotlib is not installed.
        """
        try:
            import matplotlib.pyplot as plt
        except ImportError as error:
            raise ImportError("plots need matplotlib: pip install 'armillary-cosmology[plots]'") from error
        if ax is None:
            _, ax = plt.subplots()
        x = np.arange(self.errors.shape[1]) if x is None else np.asarray(x)
        for i in reversed(range(len(PERCENTILES))):
            ax.fill_between(x, 0, self.per_bin[i], color=f"C{i}", label=f"{PERCENTILES[i]:g} %", linewidth=0)
        ax.set_ylabel("relative error")
        ax.set_ylim(bottom=0)
        ax.legend()
        return ax


def accuracy(
    emulator: Emulator,
    parameters: Mapping[str, Float[Array | np.ndarray, " n"]],
    spectra: Float[Array | np.ndarray, "n bins"],
) -> Accuracy:
    """Compare an emulator with spectra that it was not trained with.

    Args:
        emulator: the emulator.
        parameters: the values of each parameter, by name.
        spectra: the true spectra, none of them zero.

    Raises:
        ValueError: parameters outside of the emulator's box, shapes that do not match, a spectrum that is zero or not
            finite.

    >>> import jax, numpy as np
    >>> from armillary_cosmology.emulate import accuracy, train
    >>> tilt, x = np.linspace(-1, 1, 201), np.linspace(1, 2, 5)
    >>> spectra = x ** tilt[:, None]
    >>> trained = train(
    ...     jax.random.key(0), {"tilt": tilt[::2]}, spectra[::2], hidden=(8,), num_epochs=60, batch_size=20
    ... )
    >>> report = accuracy(trained.emulator, {"tilt": tilt[1::2]}, spectra[1::2])
    >>> report.per_bin.shape, bool(report.per_spectrum[0] < 0.03)
    ((4, 5), True)
    """
    names = emulator.box.names
    x, y = check_examples("parameters", "spectra", parameters, spectra, False, names, len(emulator.spectrum_mean))
    if (y == 0).any():
        row, column = map(int, np.argwhere(y == 0)[0])
        raise ValueError(f"spectra is 0 at row {row}, bin {column}: a relative error is of spectra that are not")
    found = np.asarray(emulator(x), dtype=np.float64)
    return Accuracy(np.abs(found / y - 1))
