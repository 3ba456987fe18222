r"""Functions of position and direction, as one field of spin for every order in the direction.

A function on the rotation group is a trigonometric polynomial in the angle :math:`\gamma`,

.. math:: f(\alpha, \beta, \gamma_g) = \sum_n (-1)^n e^{i n \gamma_g}\, F_n(\beta, \alpha), \qquad
          \gamma_g = \frac{2 \pi g}{G},

whose coefficients :math:`F_n` are fields of spin :math:`-n` on the sphere.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from ._grids import Grid
from ._sht import SHT, Backend

Operation = Literal["synthesis", "adjoint_synthesis", "analysis", "adjoint_analysis"]


@dataclass(frozen=True)
class Directions:
    """Which orders there are, and how functions are sampled.

    Args:
        L: the bandlimit in degrees.
        samples: the number of angles gamma.
        orders: the orders; of a real function those from 0 up, whose conjugates are the others.
        grid: where the fields are sampled.
        real: whether functions are real.
        backend: of the transforms.
    """

    L: int
    samples: int
    orders: tuple[int, ...]
    grid: Grid
    real: bool
    backend: Backend

    def to_function(self, operation: Operation, coefficients: Sequence[Array], **kwargs: Any) -> Array:
        """The function whose fields have these coefficients.

        Args:
            operation: the method of `SHT` that makes the fields.
            coefficients: ``(..., L, 2 L - 1)`` for each of `orders`.
            **kwargs: for the method.

        Returns:
            An array ``(..., samples, *grid.shape)``, real if `real`.
        """
        fields = self._each(operation, coefficients, kwargs)
        matrix = self._matrix()
        if self.real:
            matrix = matrix * np.where(np.array(self.orders) > 0, 2, 1)[self._columns()]
        parts = jnp.stack([f.real for f in fields] + [f.imag for f in fields if jnp.iscomplexobj(f)])
        f = jnp.tensordot(matrix.astype(parts.dtype), parts, 1, precision="highest")
        if not self.real:
            f = f[: self.samples] + 1j * f[self.samples :]
        return jnp.moveaxis(f, 0, f.ndim - 1 - len(self.grid.shape))

    def from_function(self, operation: Operation, f: Array, **kwargs: Any) -> list[Array]:
        r"""The coefficients of :math:`\sum_g (-1)^n e^{-i n \gamma_g} f_g`, for each of `orders`.

        It is the adjoint of `to_function`, for the inner product over all orders, where `operation` is the adjoint of
        that one's.
        """
        f = jnp.moveaxis(f, f.ndim - 1 - len(self.grid.shape), 0)
        parts = f if self.real else jnp.concatenate([f.real, f.imag])
        mixed = jnp.tensordot(self._matrix().T.astype(parts.dtype), parts, 1, precision="highest")
        fields = [mixed[k] for k in range(len(self.orders))]
        for k, column in enumerate(self._columns()[len(self.orders) :], len(self.orders)):
            fields[column] = fields[column] + 1j * mixed[k]
        return self._each(operation, fields, kwargs)

    def _each(self, operation: Operation, arrays: Sequence[Array], kwargs: dict[str, Any]) -> list[Array]:
        transforms = [
            SHT(self.grid, self.L, spin=-n, real=self.real and n == 0, backend=self.backend) for n in self.orders
        ]
        return [getattr(sht, operation)(x, **kwargs) for sht, x in zip(transforms, arrays, strict=True)]

    def _columns(self) -> list[int]:
        """Which order each real field is of: the real parts of all, then the imaginary parts where there is one."""
        every = list(range(len(self.orders)))
        return every + [k for k in every if not (self.real and self.orders[k] == 0)]

    def _matrix(self) -> np.ndarray:
        """From real and imaginary parts of the fields to those of the function; a product beats an FFT this short."""
        n = np.array(self.orders)
        turns = np.arange(self.samples)[:, None] * n % self.samples / self.samples
        waves = (-1.0) ** n * np.exp(2j * np.pi * turns)
        matrix = np.block([[waves.real, -waves.imag], [waves.imag, waves.real]])
        columns = self._columns()
        keep = [*range(len(n)), *(len(n) + k for k in columns[len(n) :])]
        return matrix[: self.samples if self.real else 2 * self.samples, keep]


def flip(x: Array) -> Array:
    r"""The coefficients of the conjugate of a field of spin 0, :math:`(-1)^m a_{l,-m}^*`."""
    orders = np.arange(x.shape[-1]) - x.shape[-1] // 2
    return x[..., ::-1].conj() * (1 - 2 * (orders % 2)).astype(x.real.dtype)
