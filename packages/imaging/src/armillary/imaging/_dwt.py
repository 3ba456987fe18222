"""The orthonormal discrete wavelet transform of images, with periodic boundaries."""

from __future__ import annotations

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Float

from ._dwt_taps import filter_bank
from ._operators_base import OrthonormalOperator, check_array, check_dtype, check_shape

#: Coefficients that one matrix product computes from a window of the signal. Larger windows overlap less and multiply
#: by more zeros; between 16 and 32 there is little to choose.
_BLOCK = 16


class DWT(OrthonormalOperator):
    r"""The orthonormal wavelet transform of an image, of compact support, with periodic boundaries.

    At each level the image a is replaced by its approximation and three images of details of half the size,

    .. math:: a'_k = \sum_m h_m a_{2k + m - n + 1}, \qquad d_k = \sum_m (-1)^m h_{2n-1-m} a_{2k + m - n + 1}

    along columns and then along rows, where h are the 2 n taps of the wavelet and indices are periodic. It is an
    `armillary.core.protocols.Transform`, and an orthogonal matrix: adjoint and inverse are one. Coefficients are an
    array of the image's shape, with the approximation in its upper left corner:

    ============================ ============================
    approximation, and so on     rows smooth, columns detail
    rows detail, columns smooth  both detail
    ============================ ============================

    which is what PyWavelets gives with ``mode="periodization"`` and `coeffs_to_array`. Each step along an axis is a
    matrix product over windows of the signal: the polyphase filters of a block of coefficients at once.

    >>> import jax.numpy as jnp
    >>> from armillary.imaging import DWT
    >>> dwt = DWT((8, 8), "db2", levels=2)
    >>> x = jnp.arange(64.0).reshape(8, 8)
    >>> c = dwt(x)
    >>> bool(jnp.allclose(dwt.inverse(c), x, atol=1e-4)), bool(jnp.allclose((c**2).sum(), (x**2).sum()))
    (True, True)

    Mallat S. 1989, IEEE Trans. Pattern Anal. Mach. Intell. 11, 674, doi:10.1109/34.192463.

    Args:
        shape: of the image, rows and columns; both multiples of ``2**levels``.
        wavelet: "haar" or "db1" to "db8", with as many vanishing moments, or "sym2" to "sym8".
        levels: how often the approximation is transformed again, 0 or more.
        dtype: of `in_structure`, real or complex; the floating dtype of JAX's setting by default.

    Raises:
        ValueError: a wavelet that there is not, or a shape that cannot be halved so often.
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
        if any(n % 2**levels for n in self.shape):
            most = min((n & -n).bit_length() - 1 for n in self.shape)
            raise ValueError(
                f"shape={shape!r} with levels={levels}: rows and columns must be multiples of {2**levels}; take at "
                f"most levels={most}, or pad the image"
            )
        self.dtype = check_dtype(dtype)

    def in_structure(self) -> jax.ShapeDtypeStruct:
        """An image."""
        return jax.ShapeDtypeStruct(self.shape, self.dtype)

    def out_structure(self) -> jax.ShapeDtypeStruct:
        """Its coefficients, an array of the same shape."""
        return self.in_structure()

    def _apply(self, x: Array) -> Array:
        return pack(*analysis(x, filter_bank(self.wavelet), self.levels))

    def _adjoint(self, y: Array) -> Array:
        return synthesis(*unpack(y, self.levels), filter_bank(self.wavelet))

    def soft_threshold(self, x: Float[Array, "... rows columns"], threshold: Float[ArrayLike, ...]) -> Array:
        r"""The proximal operator of ``threshold`` times the l1 norm of the coefficients, at an image.

        .. math:: W^T\, \mathrm{soft}(W x), \qquad \mathrm{soft}(c) = \mathrm{sign}(c) \max(|c| - \mathrm{threshold}, 0)

        Args:
            x: an image, with any leading batch axes.
            threshold: not negative; one number, or one for each image of the batch.
        """
        return _soft_threshold(self, check_array("x", x, self.in_structure()), threshold)


@jax.jit
def _soft_threshold(dwt: DWT, x: Array, threshold: Array) -> Array:
    limit = jnp.asarray(threshold).astype(x.real.dtype)[..., None, None]
    bank = filter_bank(dwt.wavelet)
    # Each array of details by itself: they need not be packed.
    approximation, details = jax.tree.map(lambda c: soft_threshold(c, limit), analysis(x, bank, dwt.levels))
    return synthesis(approximation, details, bank)


Details = list[tuple[Array, Array, Array]]
Bank = Array | np.ndarray


def soft_threshold(c: Array, threshold: Array) -> Array:
    """``sign(c) max(|c| - threshold, 0)``, also of complex numbers."""
    if not jnp.iscomplexobj(c):
        # One pass; and its derivative at the kinks is 0 or 1.
        return c - jnp.clip(c, -threshold, threshold)
    modulus = jnp.abs(c)
    return c * (jnp.maximum(modulus - threshold, 0) / jnp.where(modulus > 0, modulus, 1))


def check_levels(levels: Any) -> int:
    """A number of levels.

    Raises:
        ValueError: it is not a whole number from 0.
    """
    if not isinstance(levels, (int, np.integer)) or isinstance(levels, bool) or levels < 0:
        raise ValueError(f"levels={levels!r}: expected a whole number, 0 or more, such as 4")
    return int(levels)


def analysis(x: Array, bank: Bank, levels: int) -> tuple[Array, Details]:
    """The approximation at the last level, and the details of each, the finest first."""
    details = []
    for _ in range(levels):
        low, high = _analyse(x, bank, -2)
        (x, low_high), (high_low, high_high) = _analyse(low, bank, -1), _analyse(high, bank, -1)
        details.append((low_high, high_low, high_high))
    return x, details


def synthesis(x: Array, details: Details, bank: Bank) -> Array:
    """The image of an approximation and details."""
    for low_high, high_low, high_high in reversed(details):
        x = _synthesise(_synthesise(x, low_high, bank, -1), _synthesise(high_low, high_high, bank, -1), bank, -2)
    return x


def pack(x: Array, details: Details) -> Array:
    """One array of an approximation and details."""
    for low_high, high_low, high_high in reversed(details):
        x = jnp.block([[x, low_high], [high_low, high_high]])
    return x


def unpack(c: Array, levels: int) -> tuple[Array, Details]:
    """The inverse of `pack`."""
    details = []
    for _ in range(levels):
        rows, columns = (n // 2 for n in c.shape[-2:])
        details.append((c[..., :rows, columns:], c[..., rows:, :columns], c[..., rows:, columns:]))
        c = c[..., :rows, :columns]
    return c, details


def _analyse(x: Array, bank: Bank, axis: int) -> tuple[Array, Array]:
    """The approximation and the details of a signal along an axis, -1 or -2."""
    n = bank.shape[-1] // 2
    block = _block(x.shape[axis] // 2)
    windows = _windows(jnp.roll(x, n - 1, axis), axis, 2 * block, 2 * block + 2 * n - 2)
    position, output = np.arange(2 * block + 2 * n - 2)[:, None], np.arange(block)
    found = _product(windows, jnp.concatenate(_filters(bank, position - 2 * output), 1), axis)
    low, high = jnp.split(found, 2, axis)
    return _merged(low, axis), _merged(high, axis)


def _synthesise(low: Array, high: Array, bank: Bank, axis: int) -> Array:
    """The transpose of `_analyse`."""
    n = bank.shape[-1] // 2
    block = _block(low.shape[axis])
    # Sample j takes taps j - 2 k + n - 1 of coefficient k, so that a block needs coefficients from before - block.
    before, after = n // 2, (2 * block + n - 2) // 2
    position, output = np.arange(-before, after + 1)[:, None], np.arange(2 * block)
    matrix = jnp.concatenate(_filters(bank, output - 2 * position + n - 1), 0)
    windows = [_windows(jnp.roll(c, before, axis), axis, block, position.size) for c in (low, high)]
    return _merged(_product(jnp.concatenate(windows, axis), matrix, axis), axis)


def _filters(bank: Bank, index: np.ndarray) -> Array:
    """The taps of both filters at some indices, and zeros beyond them: of shape ``(2, *index.shape)``."""
    inside = (index >= 0) & (index < bank.shape[-1])
    return jnp.where(inside, bank[:, np.where(inside, index, 0)], 0)


def _block(count: int) -> int:
    """The size of the blocks of so many coefficients: a divisor."""
    return max(size for size in range(1, _BLOCK + 1) if count % size == 0)


def _windows(x: Array, axis: int, stride: int, length: int) -> Array:
    """Windows of a periodic signal, beginning at each multiple of the stride: the axis becomes two."""
    axis += x.ndim
    blocks = x.reshape(*x.shape[:axis], -1, stride, *x.shape[axis + 1 :])
    parts = []
    for ahead in range(-(-length // stride)):
        part = jnp.roll(blocks, -ahead, axis) if ahead else blocks
        parts.append(jax.lax.slice_in_dim(part, 0, min(stride, length - ahead * stride), axis=axis + 1))
    return jnp.concatenate(parts, axis + 1)


def _product(windows: Array, matrix: Array, axis: int) -> Array:
    """The windows, their samples along an axis, by a matrix from samples to outputs."""
    matrix = matrix.astype(windows.real.dtype)
    if axis == -1:
        return jnp.matmul(windows, matrix, precision="highest")
    return jnp.matmul(matrix.T, windows, precision="highest")


def _merged(blocks: Array, axis: int) -> Array:
    """The blocks of an axis one after the other."""
    axis += blocks.ndim
    return blocks.reshape(*blocks.shape[: axis - 1], -1, *blocks.shape[axis + 1 :])
