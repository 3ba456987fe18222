"""Redundant dictionaries of wavelets: tight frames, of which the adjoint undoes the analysis."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from ._dwt import DWT, analysis, check_levels, pack, synthesis, unpack
from ._dwt_taps import filter_bank
from ._operators_base import (
    OrthonormalOperator,
    check_dtype,
    check_shape,
    filtered,
    inverse_spectrum,
    real_of,
    spectrum,
)

#: Of the SARA dictionary; the first is the image itself.
_SARA = ("dirac", "db1", "db2", "db3", "db4", "db5", "db6", "db7", "db8")


class UndecimatedDWT(OrthonormalOperator):
    r"""The undecimated wavelet transform of an image: that of every shift of it, as a tight frame.

    Nothing is left out at any level: the filters are stretched instead, by 2 to the power of the level, and divided by
    :math:`\sqrt2`, so that :math:`W^* W = 1`. There are ``3 * levels + 1`` images of coefficients, the approximation
    first, then from the coarsest level to the finest the details of columns, of rows and of both. Shifting the image
    shifts them. Computed by Fourier transforms; boundaries are periodic, and the shape may be any.

    >>> import jax.numpy as jnp
    >>> from armillary.imaging import UndecimatedDWT
    >>> frame = UndecimatedDWT((6, 5), "db2", levels=2)
    >>> x = jnp.arange(30.0).reshape(6, 5)
    >>> c = frame(x)
    >>> c.shape, bool(jnp.allclose(frame.inverse(c), x, atol=1e-4))
    ((7, 6, 5), True)

    Starck J.-L., Fadili J., Murtagh F. 2007, IEEE Trans. Image Process. 16, 297, doi:10.1109/TIP.2006.887733.

    Args:
        shape: of the image, rows and columns.
        wavelet: see `DWT`.
        levels: how many, 0 or more.
        dtype: of `in_structure`; see `DWT`.

    Raises:
        ValueError: a wavelet that there is not, or a bad shape.
    """

    shape: tuple[int, int] = eqx.field(static=True)
    wavelet: str = eqx.field(static=True)
    levels: int = eqx.field(static=True)
    dtype: np.dtype = eqx.field(static=True)

    def __init__(self, shape: tuple[int, int], wavelet: str = "db4", levels: int = 4, *, dtype: Any = None) -> None:
        self.shape = check_shape("shape", shape)
        filter_bank(wavelet)  # which checks the name
        self.wavelet = wavelet
        self.levels = check_levels(levels)
        self.dtype = check_dtype(dtype)

    def in_structure(self) -> jax.ShapeDtypeStruct:
        """An image."""
        return jax.ShapeDtypeStruct(self.shape, self.dtype)

    def out_structure(self) -> jax.ShapeDtypeStruct:
        """Its coefficients, ``3 * levels + 1`` images."""
        return jax.ShapeDtypeStruct((3 * self.levels + 1, *self.shape), self.dtype)

    def _responses(self, dtype: Any) -> Array:
        """Of each image of coefficients, at the frequencies of `spectrum`."""
        rows, columns = (_responses_1d(self.wavelet, self.levels, n) for n in self.shape)
        if not jnp.issubdtype(dtype, jnp.complexfloating):
            columns = columns[..., : self.shape[1] // 2 + 1]
        pairs = [(self.levels, 0, 0)]
        pairs += [(level, *which) for level in range(self.levels, 0, -1) for which in ((0, 1), (1, 0), (1, 1))]
        level, row, column = np.array(pairs).T
        return jnp.asarray(rows[level, row])[:, :, None] * jnp.asarray(columns[level, column])[:, None, :]

    def _apply(self, x: Array) -> Array:
        return filtered(x[..., None, :, :], self._responses(x.dtype))

    def _adjoint(self, y: Array) -> Array:
        transformed = spectrum(y)
        total = (transformed * self._responses(y.dtype).conj().astype(transformed.dtype)).sum(axis=-3)
        return inverse_spectrum(total, self.shape, y.dtype)


def _responses_1d(wavelet: str, levels: int, n: int) -> np.ndarray:
    """The frequency responses of the cascades, by level (from 0, where there is none) and by low- and high-pass."""
    bank = filter_bank(wavelet)
    position = np.arange(bank.shape[1]) - bank.shape[1] // 2 + 1
    frequency = 2 * np.pi * np.fft.fftfreq(n)
    found = np.ones((levels + 1, 2, n), complex)
    for level in range(levels):
        phases = np.exp(1j * np.outer(position, frequency * 2**level)) / np.sqrt(2)
        found[level + 1] = found[level, 0] * (bank @ phases)
    return found


class SARA(OrthonormalOperator):
    r"""Several orthonormal wavelet bases side by side, as a tight frame: the dictionary of SARA.

    .. math:: \Psi^* x = \frac{1}{\sqrt q} (\Psi_1^T x, \dots, \Psi_q^T x)

    An image that is sparse on average over bases of different regularity is sparse in this. The Dirac basis is the
    image itself. The filters of all bases are brought to one length, and the bases computed together.

    >>> import jax.numpy as jnp
    >>> from armillary.imaging import SARA
    >>> sara = SARA((8, 8), levels=1)
    >>> x = jnp.arange(64.0).reshape(8, 8)
    >>> c = sara(x)
    >>> c.shape, bool(jnp.allclose(sara.inverse(c), x, atol=1e-4))
    ((9, 8, 8), True)

    Carrillo R. E., McEwen J. D., Wiaux Y. 2012, MNRAS 426, 1223, doi:10.1111/j.1365-2966.2012.21605.x
    (arXiv:1205.3123).

    Args:
        shape: of the image; both numbers multiples of ``2**levels``.
        levels: of each wavelet basis.
        wavelets: the bases, by the names of `DWT`, and "dirac".
        dtype: of `in_structure`; see `DWT`.

    Raises:
        ValueError: no basis, one that there is not, or a shape that cannot be halved so often.
    """

    shape: tuple[int, int] = eqx.field(static=True)
    levels: int = eqx.field(static=True)
    wavelets: tuple[str, ...] = eqx.field(static=True)
    dtype: np.dtype = eqx.field(static=True)

    def __init__(
        self, shape: tuple[int, int], levels: int = 4, wavelets: Sequence[str] = _SARA, *, dtype: Any = None
    ) -> None:
        self.wavelets = (wavelets,) if isinstance(wavelets, str) else tuple(wavelets)
        if not self.wavelets:
            raise ValueError("wavelets is empty: give at least one, such as ('dirac', 'db1', 'db4')")
        for wavelet in self.wavelets:
            # Its checks are those of each basis.
            DWT(shape, "haar" if wavelet == "dirac" else wavelet, levels, dtype=dtype)
        self.shape = check_shape("shape", shape)
        self.levels = int(levels)
        self.dtype = check_dtype(dtype)

    def in_structure(self) -> jax.ShapeDtypeStruct:
        """An image."""
        return jax.ShapeDtypeStruct(self.shape, self.dtype)

    def out_structure(self) -> jax.ShapeDtypeStruct:
        """Its coefficients, as many images as there are bases."""
        return jax.ShapeDtypeStruct((len(self.wavelets), *self.shape), self.dtype)

    def _banks(self) -> tuple[np.ndarray, np.ndarray]:
        """Which bases are wavelets, and their filters, centred in the length of the longest."""
        which = np.array([i for i, name in enumerate(self.wavelets) if name != "dirac"], int)
        banks = [filter_bank(self.wavelets[i]) for i in which]
        longest = max((bank.shape[1] for bank in banks), default=0)
        return which, np.array([np.pad(bank, ((0, 0), [(longest - bank.shape[1]) // 2] * 2)) for bank in banks])

    def _apply(self, x: Array) -> Array:
        which, banks = self._banks()
        y = jnp.broadcast_to(x[..., None, :, :], (*x.shape[:-2], len(self.wavelets), *self.shape))
        if which.size:
            one = jax.vmap(lambda bank: pack(*analysis(x, bank, self.levels)), out_axes=-3)
            y = y.at[..., which, :, :].set(one(jnp.asarray(banks)))
        return y / jnp.asarray(np.sqrt(len(self.wavelets)), real_of(x.dtype))

    def _adjoint(self, y: Array) -> Array:
        which, banks = self._banks()
        dirac = np.setdiff1d(np.arange(len(self.wavelets)), which)
        x = y[..., dirac, :, :].sum(axis=-3)
        if which.size:
            one = jax.vmap(lambda c, bank: synthesis(*unpack(c, self.levels), bank), in_axes=(-3, 0))
            x = x + one(y[..., which, :, :], jnp.asarray(banks)).sum(axis=0)
        return x / jnp.asarray(np.sqrt(len(self.wavelets)), real_of(y.dtype))
