"""The coordinates in which a network is trained: zero mean, unit variance, principal components."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float


class Standard(NamedTuple):
    """What maps parameters and (log-)spectra to those coordinates; made by `standardise`."""

    parameter_mean: Float[np.ndarray, " p"]
    parameter_scale: Float[np.ndarray, " p"]
    spectrum_mean: Float[np.ndarray, " n"]
    basis: Float[np.ndarray, "components n"] | None
    coefficient_scale: Float[np.ndarray, " components"]

    @property
    def weights(self) -> Float[np.ndarray, " components"]:
        """What the squared errors of the coordinates are multiplied by, to be the mean square error of a bin."""
        return self.coefficient_scale**2 / len(self.spectrum_mean)

    def apply(self, x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The coordinates of parameters and of spectra."""
        coefficients = y - self.spectrum_mean
        if self.basis is not None:
            coefficients = coefficients @ self.basis.T
        return (x - self.parameter_mean) / self.parameter_scale, coefficients / self.coefficient_scale

    def arrays(self) -> dict[str, Any]:
        """The fields in float32, as an emulator holds them."""
        return {
            name: None if value is None else jnp.asarray(value, jnp.float32) for name, value in self._asdict().items()
        }


def standardise(x: np.ndarray, y: np.ndarray, num_components: int | None) -> Standard:
    """Measure means and standard deviations, and the principal components if any are wanted.

    The principal components are of spectra that are centred and not scaled: an error is then as large in ln of the
    spectrum at every bin.
    """
    mean = y.mean(axis=0)
    basis = None
    if num_components is None:
        scale = y.std(axis=0)
    else:
        centred = y - mean
        variances, vectors = np.linalg.eigh(centred.T @ centred / len(y))
        order = np.argsort(variances)[::-1][:num_components]
        basis, scale = vectors[:, order].T, np.sqrt(np.maximum(variances[order], 0))
    # A bin that is always the same has no scale; any serves, since its network will give zero.
    scale = np.where(scale > 1e-12 * np.abs(mean).max(initial=1.0), scale, 1.0)
    return Standard(x.mean(axis=0), x.std(axis=0), mean, basis, scale)
