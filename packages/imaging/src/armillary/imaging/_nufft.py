"""Fourier transforms of images at any frequencies, and the visibilities of a radio interferometer."""

from __future__ import annotations

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import scipy.fft
from jax import lax
from jaxtyping import Array, ArrayLike, Float

from ._check import check_positive
from ._operators_base import ArrayOperator, check_dtype, check_shape, complex_of, power_norm, real_of

#: Grid points that a sample is spread over, for single and for double precision: at an oversampling of 2 the error of
#: the Kaiser-Bessel kernel falls by about ten with each.
_WIDTHS = {32: 8, 64: 15}
#: NumPy's where an operator is made, so that nothing is lost where x64 is off; JAX's under jit.
Held = Array | np.ndarray


class NUFFT(ArrayOperator):
    r"""The Fourier transform of an image at frequencies that are on no grid.

    .. math:: y_k = \sum_{mn} x_{mn}\, e^{-i\, [u_k (m - \lfloor R / 2 \rfloor) + v_k (n - \lfloor C / 2 \rfloor)]}

    for an image of R rows and C columns. By a Fourier transform on a grid twice as fine and interpolation with a
    Kaiser-Bessel kernel, of which the image is corrected beforehand; the adjoint does the same in reverse. The error is
    of the order of rounding: that of single precision where `dtype` is single. It costs of the order of the number of
    pixels times its logarithm, and of the number of samples times 64, in double precision 225.

    >>> import jax.numpy as jnp
    >>> from armillary.imaging import NUFFT
    >>> operator = NUFFT(jnp.array([[0.0, 0.0], [0.3, -1.2]]), (8, 8))
    >>> y = operator(jnp.zeros((8, 8)).at[5, 4].set(1.0))
    >>> bool(jnp.allclose(y, jnp.array([1.0, jnp.exp(-0.3j)]), atol=1e-5))
    True

    Greengard L., Lee J.-Y. 2004, SIAM Rev. 46, 443, doi:10.1137/S003614450343200X; the kernel: Beatty P. J., Nishimura
    D. G., Pauly J. M. 2005, IEEE Trans. Med. Imaging 24, 799, doi:10.1109/TMI.2005.848376.

    Args:
        points: the frequencies (u, v), in radians for each row and for each column, of any size (they are periodic).
            In double precision, if possible; they cannot be traced.
        shape: of the image, rows and columns.
        dtype: of the image, real or complex; the floating dtype of JAX's setting by default.

    Raises:
        ValueError: points of another shape, traced, or not finite.
    """

    indices: tuple[Array, Array]
    weights: tuple[Array, Array]
    corrections: tuple[Array, Array]
    grid: tuple[int, int] = eqx.field(static=True)
    shape: tuple[int, int] = eqx.field(static=True)
    dtype: np.dtype = eqx.field(static=True)

    def __init__(self, points: Float[ArrayLike, "samples 2"], shape: tuple[int, int], *, dtype: Any = None) -> None:
        self.shape, self.dtype = check_shape("shape", shape), check_dtype(dtype)
        points = _concrete("points", points, (2,))
        precision = real_of(self.dtype)
        width = _WIDTHS[jnp.finfo(precision).bits]
        # Twice the size at least, and no smaller than the kernel.
        self.grid = tuple(scipy.fft.next_fast_len(max(2 * n, 2 * width), real=True) for n in self.shape)
        parts = [_spread(p, n, width) for p, n in zip(points.T, self.grid, strict=True)]
        self.indices = tuple(part[0] for part in parts)  # type: ignore[assignment]
        self.weights = tuple(part[1].astype(precision) for part in parts)  # type: ignore[assignment]
        self.corrections = tuple(  # type: ignore[assignment]
            (1 / kernel_transform((np.arange(n) - n // 2) / fine, width)).astype(precision)
            for n, fine in zip(self.shape, self.grid, strict=True)
        )

    def in_structure(self) -> jax.ShapeDtypeStruct:
        """An image."""
        return jax.ShapeDtypeStruct(self.shape, self.dtype)

    def out_structure(self) -> jax.ShapeDtypeStruct:
        """A complex number for each frequency."""
        return jax.ShapeDtypeStruct((self.indices[0].shape[1],), complex_of(self.dtype))

    def opnorm(self) -> Array:
        """By power iteration."""
        return power_norm(self)

    def _correction(self, dtype: Any) -> Array:
        rows, columns = (jnp.asarray(c).astype(real_of(dtype)) for c in self.corrections)
        return rows[:, None] * columns

    def _rows(self, dtype: Any) -> tuple[Array, Array, Array]:
        """What one row of the kernel needs: the rows of the grid, their weights, and the columns' weights."""
        by_row, by_column = (jnp.asarray(w).astype(real_of(dtype)) for w in self.weights)
        return jnp.asarray(self.indices[0]), by_row, by_column

    def _apply(self, x: Array) -> Array:
        x = (x * self._correction(x.dtype)).astype(complex_of(x.dtype))
        padding = [(0, 0)] * (x.ndim - 2) + [(0, fine - n) for n, fine in zip(self.shape, self.grid, strict=True)]
        shifted = jnp.roll(jnp.pad(x, padding), [-(n // 2) for n in self.shape], (-2, -1))
        grid = jnp.fft.fft2(shifted).reshape(*x.shape[:-2], -1)
        rows, by_row, by_column = self._rows(x.dtype)

        def add(y: Array, each: tuple[Held, Held]) -> tuple[Array, None]:
            row, weight = each
            values = grid[..., row * self.grid[1] + self.indices[1]]
            return y + weight * (values * by_column).sum(axis=-2), None

        start = jnp.zeros((*x.shape[:-2], rows.shape[1]), grid.dtype)
        return lax.scan(add, start, (rows, by_row))[0]

    def _adjoint(self, y: Array) -> Array:
        rows, by_row, by_column = self._rows(y.dtype)
        spread = y[..., None, :] * by_column

        def add(grid: Array, each: tuple[Held, Held]) -> tuple[Array, None]:
            row, weight = each
            return grid.at[..., row * self.grid[1] + self.indices[1]].add(spread * weight), None

        start = jnp.zeros((*y.shape[:-1], self.grid[0] * self.grid[1]), y.dtype)
        grid = lax.scan(add, start, (rows, by_row))[0].reshape(*y.shape[:-1], *self.grid)
        # Not normalised: the adjoint of fft2 is its conjugate.
        shifted = jnp.roll(jnp.fft.ifft2(grid, norm="forward"), [n // 2 for n in self.shape], (-2, -1))
        x = shifted[..., : self.shape[0], : self.shape[1]] * self._correction(y.dtype)
        return x if jnp.issubdtype(self.dtype, jnp.complexfloating) else x.real


def _concrete(name: str, value: Any, trailing: tuple[int, ...]) -> np.ndarray:
    """An array of known finite numbers in double precision, of shape ``(samples, *trailing)``."""
    if isinstance(value, jax.core.Tracer):
        raise ValueError(f"{name} is traced: make the operator outside of jax.jit, and pass it as an argument")
    array = np.asarray(value, np.float64)
    if array.shape[1:] != trailing or array.ndim != 1 + len(trailing) or not array.size:
        wanted = ", ".join(["samples", *map(str, trailing)])
        raise ValueError(f"{name} has shape {array.shape}: expected ({wanted})")
    if not np.isfinite(array).all():
        raise ValueError(f"{name} has {(~np.isfinite(array)).sum()} values that are NaN or infinite: leave them out")
    return array


def _shape_parameter(width: int) -> float:
    """Beatty's, for an oversampling of 2."""
    return np.pi * np.sqrt(width**2 * 0.5625 - 0.8)


def kernel(distance: np.ndarray, width: int) -> np.ndarray:
    """The Kaiser-Bessel kernel at distances in units of the grid, 0 from half of the width."""
    inside = 1 - (2 * distance / width) ** 2
    beta = _shape_parameter(width)
    return np.where(inside > 0, np.i0(beta * np.sqrt(np.maximum(inside, 0))), 0) / np.i0(beta)


def kernel_transform(frequency: np.ndarray, width: int) -> np.ndarray:
    """Its Fourier transform, at frequencies in cycles for a unit of the grid, within the main lobe."""
    root = np.sqrt(_shape_parameter(width) ** 2 - (np.pi * width * frequency) ** 2)
    return width * np.sinh(root) / root / np.i0(_shape_parameter(width))


def _spread(points: np.ndarray, n: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    """The grid points near each frequency, and their weights, of shape ``(width, samples)``."""
    position = points * (n / (2 * np.pi))
    first = np.ceil(position - width / 2)
    near = first + np.arange(width)[:, None]
    return (near % n).astype(np.int32), kernel(near - position, width)


class RadioInterferometer(ArrayOperator):
    r"""The visibilities that a radio interferometer measures of an image of the sky.

    .. math:: V_k = h_k \sum_{pq} \frac{x_{pq}}{n_{pq}}
              e^{-2 \pi i\, [u_k l_q + v_k m_p + w_k (n_{pq} - 1)]}, \qquad n = \sqrt{1 - l^2 - m^2},

    with the direction cosines l of columns and m of rows, 0 at the pixel in the middle (half of the shape, rounded
    down). With baselines (u, v) alone, n is taken to be 1. By `NUFFT`; the third coordinate by interpolation, with the
    same kernel, between planes of constant w, of which there are about
    :math:`4 (w_{max} - w_{min}) \max|n - 1|` and a kernel's width: each costs a `NUFFT` of all visibilities.

    >>> import jax.numpy as jnp
    >>> from armillary.imaging import RadioInterferometer
    >>> uvw = jnp.array([[0.0, 0.0], [120.0, -40.0]])
    >>> telescope = RadioInterferometer(uvw, (32, 32), pixel_size=1e-3, weights=jnp.array([1.0, 2.0]))
    >>> y = telescope(jnp.zeros((32, 32)).at[16, 18].set(3.0))
    >>> bool(jnp.allclose(abs(y), jnp.array([3.0, 6.0]), atol=1e-4))
    True

    Thompson A. R., Moran J. M., Swenson G. W. 2017, Interferometry and Synthesis in Radio Astronomy,
    doi:10.1007/978-3-319-44431-4; planes of w with a kernel: Arras P. et al. 2021, A&A 646, A58,
    doi:10.1051/0004-6361/202039723 (arXiv:2010.10122).

    Args:
        uvw: the baselines in wavelengths, of shape ``(visibilities, 3)``, or ``(visibilities, 2)`` without w. In double
            precision, if possible; they cannot be traced.
        shape: of the image, rows and columns.
        pixel_size: the side of a pixel, in radians (in direction cosines, at the centre).
        weights: the factors h, such as one over the standard deviation of the noise, which whitens it; 1 by default.
        dtype: of the image, real or complex; the floating dtype of JAX's setting by default.

    Raises:
        ValueError: baselines or weights of another shape, traced, or not finite; a pixel size that is not positive; a
            baseline that the pixels are too large for; or an image that reaches beyond the horizon.
    """

    nufft: NUFFT
    weights: Held
    planes: _Planes | None
    dtype: np.dtype = eqx.field(static=True)

    def __init__(
        self,
        uvw: Float[ArrayLike, "visibilities 3"],
        shape: tuple[int, int],
        pixel_size: float,
        weights: Float[ArrayLike, "*visibilities"] | None = None,
        *,
        dtype: Any = None,
    ) -> None:
        check_positive("pixel_size", pixel_size, "the side of a pixel in radians")
        dimension = jnp.shape(uvw)[-1] if jnp.ndim(uvw) == 2 else 3
        uvw = _concrete("uvw", uvw, (2 if dimension == 2 else 3,))
        points = 2 * np.pi * float(pixel_size) * uvw[:, [1, 0]]
        if np.abs(points).max() > np.pi:
            limit = 0.5 / np.abs(uvw[:, :2]).max()
            raise ValueError(
                f"pixel_size={pixel_size!r}: the longest baseline, {np.abs(uvw[:, :2]).max():.6g} wavelengths, needs "
                f"pixels of at most {limit:.4g} radians"
            )
        self.dtype = check_dtype(dtype)
        # Complex also for a real image, which has a phase on a plane of w.
        self.nufft = NUFFT(points, shape, dtype=complex_of(self.dtype))
        factors = np.ones(len(uvw)) if weights is None else _concrete("weights", weights, ())
        if factors.shape != (len(uvw),):
            raise ValueError(f"weights has shape {factors.shape}: expected one for each of {len(uvw)} visibilities")
        self.weights = factors.astype(real_of(self.dtype))
        self.planes = None if dimension == 2 else _Planes.make(uvw[:, 2], float(pixel_size), self.nufft)

    def in_structure(self) -> jax.ShapeDtypeStruct:
        """An image."""
        return jax.ShapeDtypeStruct(self.nufft.shape, self.dtype)

    def out_structure(self) -> jax.ShapeDtypeStruct:
        """A complex number for each visibility."""
        return self.nufft.out_structure()

    def opnorm(self) -> Array:
        """By power iteration."""
        return power_norm(self)

    def _apply(self, x: Array) -> Array:
        weights = jnp.asarray(self.weights).astype(real_of(x.dtype))
        if self.planes is None:
            return weights * self.nufft._apply(x)
        planes = self.planes.cast(x.dtype)
        x = x * planes.screen

        def add(y: Array, each: tuple[Held, Held]) -> tuple[Array, None]:
            plane, near = each
            return y + near * self.nufft._apply(x * planes.phase(plane)), None

        start = jnp.zeros((*x.shape[:-2], weights.size), complex_of(x.dtype))
        return weights * lax.scan(add, start, (planes.index, planes.near))[0]

    def _adjoint(self, y: Array) -> Array:
        y = y * jnp.asarray(self.weights).astype(real_of(y.dtype))
        if self.planes is None:
            x = self.nufft._adjoint(y)
        else:
            planes = self.planes.cast(y.dtype)

            def add(x: Array, each: tuple[Held, Held]) -> tuple[Array, None]:
                plane, near = each
                return x + self.nufft._adjoint(y * near) * planes.phase(plane).conj(), None

            start = jnp.zeros((*y.shape[:-1], *self.nufft.shape), y.dtype)
            x = lax.scan(add, start, (planes.index, planes.near))[0] * planes.screen
        return x if jnp.issubdtype(self.dtype, jnp.complexfloating) else x.real


class _Planes(eqx.Module):
    """Planes of constant w: their numbers, the weights of each for the visibilities, and what the image is given.

    The phase of plane p is p times ``coarse + fine`` turns. The first are multiples of 2**-12, so that their product
    with p is exact and the whole turns in it can be left out; what remains is small.
    """

    index: Held
    near: Held
    screen: Held
    coarse: Held
    fine: Held

    @classmethod
    def make(cls, w: np.ndarray, pixel_size: float, nufft: NUFFT) -> _Planes:
        """For baselines w in wavelengths, and pixels in direction cosines."""
        rows, columns = (pixel_size * (np.arange(n) - n // 2) for n in nufft.shape)
        squared = rows[:, None] ** 2 + columns**2
        if squared.max() >= 1:
            raise ValueError(
                f"pixel_size={pixel_size!r}: the corners of the image are {np.sqrt(squared.max()):.3g} from its centre "
                "in direction cosines, beyond the horizon; take a smaller image or smaller pixels"
            )
        n = np.sqrt(1 - squared)
        depth = -squared / (1 + n)  # n - 1, without cancellation
        width = nufft.weights[0].shape[0]
        # So close together that the depth is in the band for which the kernel is made: that of a grid twice as fine.
        spacing = 0.25 / max(np.abs(depth).max(), 1e-12)
        index = np.arange(np.floor(w.min() / spacing - width / 2), np.ceil(w.max() / spacing + width / 2) + 1)
        near = kernel(w / spacing - index[:, None], width)
        used = near.any(axis=1)
        coarse = np.round(spacing * depth * 4096) / 4096
        arrays = (
            index[used],
            near[used],
            1 / (n * kernel_transform(spacing * depth, width)),
            coarse,
            spacing * depth - coarse,
        )
        return cls(*(array.astype(real_of(nufft.dtype)) for array in arrays))

    def cast(self, dtype: Any) -> _Planes:
        """In the precision of another dtype."""
        return jax.tree.map(lambda array: jnp.asarray(array).astype(real_of(dtype)), self)

    def phase(self, plane: Held) -> Array:
        """Of the image on a plane."""
        turns = plane * self.coarse
        turns = turns - jnp.round(turns) + plane * self.fine
        return jnp.exp(-2j * jnp.pi * turns).astype(complex_of(turns.dtype))
