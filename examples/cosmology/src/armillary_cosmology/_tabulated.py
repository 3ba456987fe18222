"""The matter power of one cosmology as a table: what simulated data are made of."""

from __future__ import annotations

from importlib import resources

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from ._cosmology import Cosmology


class TabulatedPower:
    """The power spectra of one cosmology, as they were computed elsewhere.

    Args:
        cosmology: the one that they are of.
        k: wavenumbers in h/Mpc, increasing.
        z: redshifts, increasing from 0.
        linear: in (Mpc/h)^3, a row for each redshift.
        nonlinear: the same with non-linear growth.

    Raises:
        ValueError: the tables do not fit, or are not positive.
    """

    def __init__(
        self,
        cosmology: Cosmology,
        k: Float[np.ndarray, " nk"],
        z: Float[np.ndarray, " nz"],
        linear: Float[np.ndarray, "nz nk"],
        nonlinear: Float[np.ndarray, "nz nk"],
    ) -> None:
        self.cosmology = Cosmology(*map(float, cosmology))
        self.k, self.z = np.asarray(k, dtype=float), np.asarray(z, dtype=float)
        for name, values in (("k", self.k), ("z", self.z)):
            if values.ndim != 1 or len(values) < 4 or not np.all(np.diff(values) > 0):
                raise ValueError(f"{name} has shape {values.shape}: expected at least 4 increasing numbers")
        self._linear, self._nonlinear = np.asarray(linear, dtype=float), np.asarray(nonlinear, dtype=float)
        for name, table in (("linear", self._linear), ("nonlinear", self._nonlinear)):
            if table.shape != (len(self.z), len(self.k)) or not np.all(table > 0) or not np.all(np.isfinite(table)):
                raise ValueError(
                    f"{name} has shape {table.shape}: expected {(len(self.z), len(self.k))}, all positive and finite"
                )

    def linear(self, cosmology: Cosmology) -> Float[Array, "nz nk"]:
        """The linear power in (Mpc/h)^3, of its own cosmology only.

        Raises:
            ValueError: another cosmology is asked for.
        """
        return self._of(cosmology, self._linear)

    def nonlinear(self, cosmology: Cosmology) -> Float[Array, "nz nk"]:
        """The non-linear power in (Mpc/h)^3, of its own cosmology only.

        Raises:
            ValueError: another cosmology is asked for.
        """
        return self._of(cosmology, self._nonlinear)

    def _of(self, cosmology: Cosmology, table: np.ndarray) -> Array:
        for name, asked, known in zip(Cosmology._fields, cosmology, self.cosmology, strict=True):
            if isinstance(asked, jax.core.Tracer):
                raise ValueError(f"{name} is traced: a table is of one cosmology; give it by a closure, not to jit")
            if not np.allclose(asked, known, rtol=1e-6):
                raise ValueError(f"{name}={float(asked)}: the table is of {known} alone; a MatterPower is of any")
        return jnp.asarray(table, dtype=jnp.result_type(float, *cosmology))


def fiducial_power() -> TabulatedPower:
    """The power by CAMB of the cosmology of the simulated data, with HMCode-2020 and baryonic feedback.

    >>> from armillary_cosmology import fiducial_power
    >>> fiducial_power().cosmology.h
    0.67
    """
    with resources.files(__package__).joinpath("data/fiducial_power.npz").open("rb") as file, np.load(file) as saved:
        tables = {name: np.exp(saved["log_" + name].astype(float)) for name in ("linear", "nonlinear")}
        return TabulatedPower(Cosmology(*map(float, saved["cosmology"])), saved["k"], saved["z"], **tables)
