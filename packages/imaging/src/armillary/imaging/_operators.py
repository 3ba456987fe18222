"""Forward operators on images: what a telescope or a lens makes of them."""

from __future__ import annotations

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Bool

from ._operators_base import (
    ArrayOperator,
    OrthonormalOperator,
    check_dtype,
    check_shape,
    complex_of,
    filtered,
)
from ._tv import differences, differences_transposed


class Identity(OrthonormalOperator):
    r"""The operator that leaves an image as it is.

    >>> import jax.numpy as jnp
    >>> from armillary.imaging import Identity
    >>> Identity((4, 4))(jnp.ones((4, 4))).shape
    (4, 4)

    Args:
        shape: of the image, rows and columns.
        dtype: of its structures, real or complex; the floating dtype of JAX's setting by default.
    """

    shape: tuple[int, int] = eqx.field(static=True)
    dtype: np.dtype = eqx.field(static=True)

    def __init__(self, shape: tuple[int, int], *, dtype: Any = None) -> None:
        self.shape, self.dtype = check_shape("shape", shape), check_dtype(dtype)

    def in_structure(self) -> jax.ShapeDtypeStruct:
        """An image."""
        return jax.ShapeDtypeStruct(self.shape, self.dtype)

    def out_structure(self) -> jax.ShapeDtypeStruct:
        """The same."""
        return self.in_structure()

    def _apply(self, x: Array) -> Array:
        return x

    def _adjoint(self, y: Array) -> Array:
        return y


class Mask(ArrayOperator):
    r"""The pixels of an image that were observed, as a vector: inpainting.

    >>> import jax.numpy as jnp
    >>> from armillary.imaging import Mask
    >>> mask = Mask(jnp.array([[True, False], [True, True]]))
    >>> y = mask(jnp.array([[1.0, 2.0], [3.0, 4.0]]))
    >>> print(y, mask.adjoint(y)[0])
    [1. 3. 4.] [1. 0.]

    Args:
        mask: True, or not 0, where a pixel was observed; of the image's shape.
        dtype: of `in_structure`; see `Identity`.

    Raises:
        ValueError: the mask is no image, or nothing was observed.
    """

    indices: Array
    shape: tuple[int, int] = eqx.field(static=True)
    dtype: np.dtype = eqx.field(static=True)

    def __init__(self, mask: Bool[ArrayLike, "rows columns"], *, dtype: Any = None) -> None:
        self.indices, self.shape = _sampled(mask)
        self.dtype = check_dtype(dtype)

    def in_structure(self) -> jax.ShapeDtypeStruct:
        """An image."""
        return jax.ShapeDtypeStruct(self.shape, self.dtype)

    def out_structure(self) -> jax.ShapeDtypeStruct:
        """The pixels observed, row by row."""
        return jax.ShapeDtypeStruct(self.indices.shape, self.dtype)

    def opnorm(self) -> float:
        """1."""
        return 1.0

    def _apply(self, x: Array) -> Array:
        return _gathered(x, self.indices)

    def _adjoint(self, y: Array) -> Array:
        return _scattered(y, self.indices, self.shape)


class Blur(ArrayOperator):
    r"""The periodic convolution of an image with a kernel, by Fourier transforms.

    .. math:: y_{ij} = \sum_{kl} h_{kl}\, x_{i - k + k_0,\; j - l + l_0}

    for a kernel h of any shape up to that of the image, with its origin :math:`(k_0, l_0)` the middle: half of its
    shape, rounded down.

    >>> import jax.numpy as jnp
    >>> from armillary.imaging import Blur
    >>> blur = Blur(jnp.ones((3, 3)) / 9, (8, 8))
    >>> y = blur(jnp.zeros((8, 8)).at[4, 4].set(9.0))
    >>> print(y[4].round(4), f"{blur.opnorm():.4f}")
    [0. 0. 0. 1. 1. 1. 0. 0.] 1.0000

    Args:
        kernel: the point spread function; complex only where `dtype` is.
        shape: of the image, rows and columns.
        dtype: of its structures; see `Identity`.

    Raises:
        ValueError: a kernel that is no image, is larger than the image, is complex for real images, or not finite.
    """

    response: Array
    shape: tuple[int, int] = eqx.field(static=True)
    dtype: np.dtype = eqx.field(static=True)

    def __init__(self, kernel: ArrayLike, shape: tuple[int, int], *, dtype: Any = None) -> None:
        self.shape, self.dtype = check_shape("shape", shape), check_dtype(dtype)
        is_complex = jnp.issubdtype(self.dtype, jnp.complexfloating)
        size = jnp.shape(kernel)
        if len(size) != 2 or not all(0 < a <= b for a, b in zip(size, self.shape, strict=True)):
            raise ValueError(f"kernel has shape {size}: expected an image, no larger than shape={self.shape}")
        if jnp.iscomplexobj(kernel) and not is_complex:
            raise ValueError("kernel is complex and images are real: pass dtype='complex64', or the kernel's real part")
        if isinstance(kernel, jax.core.Tracer):
            xp: Any = jnp
        else:
            # In double precision, whatever that of the images.
            xp, kernel = np, np.asarray(kernel, np.complex128 if jnp.iscomplexobj(kernel) else np.float64)
            if not np.isfinite(kernel).all():
                raise ValueError("kernel is not finite everywhere: replace the NaN and infinite values")
        padded = xp.pad(kernel, [(0, b - a) for a, b in zip(size, self.shape, strict=True)])
        padded = xp.roll(padded, [-(a // 2) for a in size], (0, 1))
        self.response = (xp.fft.fft2 if is_complex else xp.fft.rfft2)(padded)

    def in_structure(self) -> jax.ShapeDtypeStruct:
        """An image."""
        return jax.ShapeDtypeStruct(self.shape, self.dtype)

    def out_structure(self) -> jax.ShapeDtypeStruct:
        """The same."""
        return self.in_structure()

    def opnorm(self) -> Array:
        """The largest modulus of the kernel's Fourier transform."""
        return jnp.abs(self.response).max()

    def _apply(self, x: Array) -> Array:
        return filtered(x, jnp.asarray(self.response))

    def _adjoint(self, y: Array) -> Array:
        return filtered(y, jnp.asarray(self.response).conj())


class FourierMask(ArrayOperator):
    r"""Some of the Fourier coefficients of an image, as a vector: magnetic resonance, or gridded visibilities.

    :math:`y = M F x`, with the orthonormal Fourier transform F and the frequencies that were sampled M.

    >>> import jax.numpy as jnp
    >>> from armillary.imaging import FourierMask
    >>> operator = FourierMask(jnp.array([[True, True], [False, False]]))
    >>> print(operator(jnp.array([[1.0, 2.0], [3.0, 4.0]])))
    [ 5.+0.j -1.+0.j]

    Args:
        mask: True, or not 0, where a frequency was sampled, in the order of `jax.numpy.fft.fft2`: the zero frequency
            comes first. Of the image's shape.
        dtype: of the image, real or complex; see `Identity`.

    Raises:
        ValueError: the mask is no image, or nothing was sampled.
    """

    indices: Array
    shape: tuple[int, int] = eqx.field(static=True)
    dtype: np.dtype = eqx.field(static=True)

    def __init__(self, mask: Bool[ArrayLike, "rows columns"], *, dtype: Any = None) -> None:
        self.indices, self.shape = _sampled(mask)
        self.dtype = check_dtype(dtype)

    def in_structure(self) -> jax.ShapeDtypeStruct:
        """An image."""
        return jax.ShapeDtypeStruct(self.shape, self.dtype)

    def out_structure(self) -> jax.ShapeDtypeStruct:
        """The coefficients sampled, complex, in the order of the mask."""
        return jax.ShapeDtypeStruct(self.indices.shape, complex_of(self.dtype))

    def opnorm(self) -> float:
        """1, which for real images is a bound."""
        return 1.0

    def _apply(self, x: Array) -> Array:
        return _gathered(jnp.fft.fft2(x, norm="ortho"), self.indices)

    def _adjoint(self, y: Array) -> Array:
        x = jnp.fft.ifft2(_scattered(y, self.indices, self.shape), norm="ortho")
        return x if jnp.issubdtype(self.dtype, jnp.complexfloating) else x.real


class KaiserSquires(ArrayOperator):
    r"""The shear of a convergence map on the flat sky: weak lensing.

    .. math:: \hat\gamma(k) = \frac{k_1^2 - k_2^2 + 2 i k_1 k_2}{k_1^2 + k_2^2}\, \hat\kappa(k), \qquad
              \hat\gamma(0) = 0,

    for :math:`\gamma = \gamma_1 + i \gamma_2`, with the first direction along the columns' index and the second along
    the rows'; boundaries are periodic. Its adjoint is the inversion of Kaiser and Squires: it gives the map back, but
    for its mean.

    >>> import jax.numpy as jnp
    >>> from armillary.imaging import KaiserSquires
    >>> operator = KaiserSquires((8, 8))
    >>> kappa = jnp.zeros((8, 8)).at[3, 4].set(64.0)
    >>> gamma = operator(kappa)
    >>> bool(jnp.allclose(operator.adjoint(gamma), kappa - 1, atol=1e-4))
    True

    Kaiser N., Squires G. 1993, ApJ 404, 441, doi:10.1086/172297.

    Args:
        shape: of the map, rows and columns.
        dtype: of the convergence, real; see `Identity`.
    """

    shape: tuple[int, int] = eqx.field(static=True)
    dtype: np.dtype = eqx.field(static=True)

    def __init__(self, shape: tuple[int, int], *, dtype: Any = None) -> None:
        self.shape, self.dtype = check_shape("shape", shape), check_dtype(dtype, real=True)

    def in_structure(self) -> jax.ShapeDtypeStruct:
        """The convergence, real."""
        return jax.ShapeDtypeStruct(self.shape, self.dtype)

    def out_structure(self) -> jax.ShapeDtypeStruct:
        """The shear, complex."""
        return jax.ShapeDtypeStruct(self.shape, complex_of(self.dtype))

    def opnorm(self) -> float:
        """1."""
        return 1.0

    def _response(self) -> Array:
        second, first = (np.fft.fftfreq(n) for n in self.shape)
        wave = first[None, :] + 1j * second[:, None]
        squared = np.abs(wave) ** 2
        return jnp.asarray(wave**2 / np.where(squared > 0, squared, 1))

    def _apply(self, x: Array) -> Array:
        return filtered(x.astype(complex_of(x.dtype)), self._response())

    def _adjoint(self, y: Array) -> Array:
        return filtered(y, self._response().conj()).real


class Gradient(ArrayOperator):
    r"""The differences of an image to the next row and to the next column, 0 across the last.

    A vector in each pixel, on the last axis. Its l1 norm is the anisotropic total variation, and the sum of the lengths
    of the vectors the isotropic one: with `primal_dual`, `L1` and ``GroupL1(2)`` of it are those priors.

    >>> import jax.numpy as jnp
    >>> from armillary.imaging import Gradient
    >>> gradient = Gradient((2, 3))(jnp.array([[1.0, 2.0, 4.0], [1.0, 5.0, 4.0]]))
    >>> print(gradient[0])
    [[0. 1.]
     [3. 2.]
     [0. 0.]]

    Args:
        shape: of the image, rows and columns.
        dtype: of its structures; see `Identity`.
    """

    shape: tuple[int, int] = eqx.field(static=True)
    dtype: np.dtype = eqx.field(static=True)

    def __init__(self, shape: tuple[int, int], *, dtype: Any = None) -> None:
        self.shape, self.dtype = check_shape("shape", shape), check_dtype(dtype)

    def in_structure(self) -> jax.ShapeDtypeStruct:
        """An image."""
        return jax.ShapeDtypeStruct(self.shape, self.dtype)

    def out_structure(self) -> jax.ShapeDtypeStruct:
        """Two numbers in each pixel."""
        return jax.ShapeDtypeStruct((*self.shape, 2), self.dtype)

    def opnorm(self) -> float:
        r"""Of n pixels along an axis :math:`2 \sin((n - 1) \pi / 2 n)`, and of both the root of the sum of squares."""
        return max(1e-3, float(np.hypot(*(2 * np.sin((n - 1) * np.pi / (2 * n)) for n in self.shape))))

    def _apply(self, x: Array) -> Array:
        return jnp.moveaxis(differences(x), -3, -1)

    def _adjoint(self, y: Array) -> Array:
        return differences_transposed(jnp.moveaxis(y, -1, -3))


def _sampled(mask: Any) -> tuple[Any, tuple[int, int]]:
    """The flat indices of what a mask leaves, and its shape."""
    mask = np.asarray(mask)
    if mask.ndim != 2 or mask.size == 0:
        raise ValueError(f"mask has shape {mask.shape}: expected that of an image, rows and columns")
    indices = np.flatnonzero(mask)
    if not indices.size:
        raise ValueError("mask is False everywhere: nothing was observed; it is True where something was")
    return indices, (mask.shape[0], mask.shape[1])


def _gathered(x: Array, indices: Array) -> Array:
    return x.reshape(*x.shape[:-2], -1)[..., indices]


def _scattered(y: Array, indices: Array, shape: tuple[int, int]) -> Array:
    flat = jnp.zeros((*y.shape[:-1], shape[0] * shape[1]), y.dtype).at[..., indices].set(y, unique_indices=True)
    return flat.reshape(*y.shape[:-1], *shape)
