"""Layers of networks on the sphere beside the convolutions: pooling, resampling, normalisation, spectral filters."""

from __future__ import annotations

import functools
import math
from collections.abc import Hashable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float

from ._checks import check_integer
from ._disco import check_field, make_stencil
from ._disco_contract import Operator, convolve
from ._disco_stencil import Stencil
from ._grids import Grid
from ._sht import SHT


class SphericalPool(eqx.Module):
    r"""The mean over a cap about each point of another grid, or over the whole sphere.

    .. math:: y(\omega) = \sum_i q_i f(\omega_i) \Big/ \sum_i q_i

    over the points within the cutoff, with the weights q of their quadrature: what a cell of area is worth. A constant
    stays as it is.

    Args:
        grid_in: where the field is sampled.
        grid_out: where the means are; `None` for the mean over the sphere.
        cutoff: the radius of the cap in radians; by default the resolution ``pi / L`` of the coarser grid.

    Raises:
        ValueError: an argument is out of range; names it, and what is allowed.

    >>> import jax.numpy as jnp
    >>> from armillary.sphere import ClenshawCurtis, SphericalPool
    >>> grid = ClenshawCurtis(16)
    >>> pool = SphericalPool(grid, ClenshawCurtis(8))
    >>> pool(jnp.ones((3, *grid.shape))).shape
    (3, 9, 16)
    >>> SphericalPool(grid)(jnp.ones((3, *grid.shape))).round(3).tolist()
    [1.0, 1.0, 1.0]
    """

    grid_in: Grid = eqx.field(static=True)
    grid_out: Grid | None = eqx.field(static=True)
    stencil: Stencil | None = eqx.field(static=True)

    def __init__(self, grid_in: Grid, grid_out: Grid | None = None, cutoff: float | None = None) -> None:
        self.grid_in, self.grid_out = _check_grid("grid_in", grid_in), grid_out
        if grid_out is None:
            if cutoff is not None:
                raise ValueError(f"cutoff={cutoff!r} without grid_out: the mean over the whole sphere has none")
            self.stencil = None
            return
        if cutoff is None:
            cutoff = math.pi / min(grid_in.L, _check_grid("grid_out", grid_out).L)
        # Zernike's first polynomial is 1 up to the edge.
        self.stencil = make_stencil(("grid_out", grid_out), ("grid_in", grid_in), "zernike", 1, cutoff, "points")

    def __call__(self, x: Float[Array, "channels ..."]) -> Float[Array, "channels ..."]:
        """The means.

        Args:
            x: channels of maps on `grid_in`.

        Returns:
            Channels of maps on `grid_out`, or one number for each.

        Raises:
            ValueError: `x` has another shape, is not real, or needs x64 where it is off.
        """
        x = check_field(x, len(x), self.grid_in)
        if self.stencil is None:
            return mean(x, self.grid_in)
        ones = jnp.ones((len(x), 1, 1), x.dtype)
        total = convolve(Operator(self.stencil, False), ones, x[:, None], len(x))[:, 0]
        return total / _caps(self.stencil, x.dtype)


@functools.lru_cache(maxsize=64)
def _caps(stencil: Stencil, dtype: np.dtype) -> Array:
    """The contraction of 1."""
    with jax.ensure_compile_time_eval():
        one = jnp.ones((1, 1, *stencil.points.shape), dtype)
        return convolve(Operator(stencil, False), jnp.ones((1, 1, 1), dtype), one, 1)[0, 0]


class SphericalResample(eqx.Module):
    r"""A field on another grid, by its harmonic coefficients up to the bandlimit that both grids have.

    Downwards this is smoothing to what the coarser grid resolves; upwards interpolation. It commutes with rotations, to
    rounding where both grids are exact. Time grows as ``L**3``.

    Args:
        grid_in: where the field is sampled.
        grid_out: where it is to be.

    Raises:
        ValueError: an argument is no grid.

    >>> import jax.numpy as jnp
    >>> from armillary.sphere import GaussLegendre, SphericalResample
    >>> down = SphericalResample(GaussLegendre(16), GaussLegendre(8))
    >>> down(jnp.ones((3, 16, 31))).shape
    (3, 8, 15)
    """

    grid_in: Grid = eqx.field(static=True)
    grid_out: Grid = eqx.field(static=True)

    def __init__(self, grid_in: Grid, grid_out: Grid) -> None:
        self.grid_in, self.grid_out = _check_grid("grid_in", grid_in), _check_grid("grid_out", grid_out)

    def __call__(self, x: Float[Array, "channels ..."]) -> Float[Array, "channels ..."]:
        """The field on `grid_out`.

        Args:
            x: channels of maps on `grid_in`.

        Raises:
            ValueError: `x` has another shape, is not real, or needs x64 where it is off.
        """
        x = check_field(x, len(x), self.grid_in)
        L = min(self.grid_in.L, self.grid_out.L)
        return SHT(self.grid_out, L, real=True).synthesis(_coefficients(x, self.grid_in, L))


class SphericalLayerNorm(eqx.Module):
    r"""Normalisation to zero mean and unit variance over channels and the sphere, then a scale and shift by channel.

    .. math:: y_c = w_c \frac{x_c - \mu}{\sqrt{\sigma^2 + \epsilon}} + b_c

    The mean :math:`\mu` and variance :math:`\sigma^2` are integrals over the sphere, by quadrature, so that they do not
    depend on how the field is rotated.

    Args:
        channels: the number of channels.
        grid: where fields are sampled.
        eps: added to the variance.

    Raises:
        ValueError: an argument is out of range; names it, and what is allowed.

    Reference: Ba J. L., Kiros J. R., Hinton G. E. 2016 (arXiv:1607.06450).

    >>> import jax
    >>> from armillary.sphere import GaussLegendre, SphericalLayerNorm
    >>> x = jax.random.normal(jax.random.key(0), (3, 16, 31))
    >>> norm = SphericalLayerNorm(3, GaussLegendre(16))
    >>> bool(abs(norm(2 * x + 5) - norm(x)).max() < 1e-4)
    True
    """

    weight: Float[Array, " channels"]
    bias: Float[Array, " channels"]
    grid: Grid = eqx.field(static=True)
    eps: float = eqx.field(static=True)

    def __init__(self, channels: int, grid: Grid, eps: float = 1e-5) -> None:
        channels = check_integer("channels", channels, 1, None, "the number of channels")
        self.weight, self.bias = jnp.ones(channels, jnp.float32), jnp.zeros(channels, jnp.float32)
        self.grid, self.eps = _check_grid("grid", grid), _check_positive("eps", eps)

    def __call__(self, x: Float[Array, "channels ..."]) -> Float[Array, "channels ..."]:
        """The normalised field.

        Args:
            x: channels of maps on `grid`.

        Raises:
            ValueError: `x` has another shape, is not real, or needs x64 where it is off.
        """
        x = check_field(x, len(self.weight), self.grid)
        centred = x - mean(x, self.grid).mean()
        variance = mean(centred**2, self.grid).mean()
        scaled = centred * lax.rsqrt(variance + self.eps)
        return _by_channel(self.weight, x) * scaled + _by_channel(self.bias, x)


class SphericalBatchNorm(eqx.Module):
    r"""Normalisation of each channel over the batch and the sphere, with running statistics for inference.

    The mean and variance are integrals over the sphere, by quadrature, averaged over the batch: the axis of a
    `jax.vmap` of the name `axis_name`. Statistics are kept in an `equinox.nn.State`, as by `equinox.nn.BatchNorm`, and
    used where `inference` is true (`equinox.nn.inference_mode`); their bias towards the start is corrected.

    Args:
        channels: the number of channels.
        grid: where fields are sampled.
        axis_name: the name of the batch axis.
        momentum: how much of the running statistics a step keeps.
        eps: added to the variance.
        inference: normalise by the running statistics.

    Raises:
        ValueError: an argument is out of range; names it, and what is allowed.

    Reference: Ioffe S., Szegedy C. 2015, Proc. Mach. Learn. Res. 37, 448 (arXiv:1502.03167).

    >>> import equinox as eqx, jax
    >>> from armillary.sphere import GaussLegendre, SphericalBatchNorm
    >>> norm, state = eqx.nn.make_with_state(SphericalBatchNorm)(3, GaussLegendre(16), "batch")
    >>> x = jax.random.normal(jax.random.key(0), (4, 3, 16, 31))
    >>> y, state = jax.vmap(norm, axis_name="batch", in_axes=(0, None), out_axes=(0, None))(x, state)
    >>> y.shape
    (4, 3, 16, 31)
    """

    weight: Float[Array, " channels"]
    bias: Float[Array, " channels"]
    statistics: eqx.nn.StateIndex
    grid: Grid = eqx.field(static=True)
    axis_name: Hashable = eqx.field(static=True)
    momentum: float = eqx.field(static=True)
    eps: float = eqx.field(static=True)
    inference: bool

    def __init__(
        self,
        channels: int,
        grid: Grid,
        axis_name: Hashable,
        momentum: float = 0.99,
        eps: float = 1e-5,
        inference: bool = False,
    ) -> None:
        channels = check_integer("channels", channels, 1, None, "the number of channels")
        if not isinstance(momentum, (int, float)) or not 0 <= momentum < 1:
            raise ValueError(f"momentum={momentum!r}: how much a step keeps is a number from 0 to below 1")
        self.weight, self.bias = jnp.ones(channels, jnp.float32), jnp.zeros(channels, jnp.float32)
        self.grid, self.eps = _check_grid("grid", grid), _check_positive("eps", eps)
        self.axis_name, self.momentum, self.inference = axis_name, float(momentum), bool(inference)
        # The weight of all steps so far, and what each contributed to the mean and variance.
        self.statistics = eqx.nn.StateIndex((jnp.zeros(()), jnp.zeros(channels), jnp.zeros(channels)))

    def __call__(
        self, x: Float[Array, "channels ..."], state: eqx.nn.State, *, inference: bool | None = None
    ) -> tuple[Float[Array, "channels ..."], eqx.nn.State]:
        """The normalised field, and the state with the statistics of this batch.

        Args:
            x: channels of maps on `grid`.
            state: the state that `equinox.nn.make_with_state` made, or the last call.
            inference: instead of the module's own.

        Raises:
            ValueError: `x` has another shape, is not real, or needs x64 where it is off.
        """
        x = check_field(x, len(self.weight), self.grid)
        total, *sums = state.get(self.statistics)
        if self.inference if inference is None else inference:
            # Before the first step nothing is known: leave the field as it is.
            known = total > 0
            scale = jnp.where(known, total, 1)
            average = (sums[0] / scale).astype(x.dtype)
            variance = jnp.where(known, sums[1] / scale, 1).astype(x.dtype)
        else:
            average = lax.pmean(mean(x, self.grid), self.axis_name)
            variance = lax.pmean(mean((x - _by_channel(average, x)) ** 2, self.grid), self.axis_name)
            kept, new = self.momentum, 1 - self.momentum
            sums = [
                kept * old + new * now.astype(old.dtype) for old, now in zip(sums, (average, variance), strict=True)
            ]
            state = state.set(self.statistics, (kept * total + new, *sums))
        scaled = (x - _by_channel(average, x)) * _by_channel(lax.rsqrt(variance + self.eps), x)
        return _by_channel(self.weight, x) * scaled + _by_channel(self.bias, x), state


class SpectralConv(eqx.Module):
    r"""A convolution with learned filters over the whole sphere, by harmonic coefficients.

    .. math:: b_{o l m} = \sum_c w_{o c l}\, a_{c l m}

    The filters are isotropic, and rotations commute with the layer, to rounding where the grids are exact. With a
    pointwise map beside it and a rectifier it is a block of a spherical Fourier neural operator. Time grows as
    ``L**3``.

    Args:
        in_channels: the number of channels that go in.
        out_channels: the number of channels that come out.
        grid_in: where the field is sampled.
        grid_out: where the result is; by default `grid_in`.
        L: the bandlimit: filters have the degrees below; by default that of the coarser grid.
        key: a random key for the weights to start from.

    Raises:
        ValueError: an argument is out of range; names it, and what is allowed.

    Reference: Bonev B. et al. 2023, Proc. Mach. Learn. Res. 202, 2806 (arXiv:2306.03838).

    >>> import jax
    >>> from armillary.sphere import GaussLegendre, SpectralConv
    >>> layer = SpectralConv(2, 3, GaussLegendre(16), key=jax.random.key(0))
    >>> layer(jax.numpy.ones((2, 16, 31))).shape
    (3, 16, 31)
    """

    weight: Float[Array, "outputs inputs L"]
    grid_in: Grid = eqx.field(static=True)
    synthesis: SHT = eqx.field(static=True)

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        grid_in: Grid,
        grid_out: Grid | None = None,
        L: int | None = None,
        *,
        key: jax.Array,
    ) -> None:
        inputs = check_integer("in_channels", in_channels, 1, None, "the number of channels that go in")
        outputs = check_integer("out_channels", out_channels, 1, None, "the number of channels that come out")
        grid_out = _check_grid("grid_in", grid_in) if grid_out is None else _check_grid("grid_out", grid_out)
        L = min(grid_in.L, grid_out.L) if L is None else L
        L = check_integer("L", L, 1, min(grid_in.L, grid_out.L), "the bandlimit of both grids")
        self.grid_in, self.synthesis = grid_in, SHT(grid_out, L, real=True)
        self.weight = math.sqrt(2 / inputs) * jax.random.normal(key, (outputs, inputs, L), jnp.float32)

    def __call__(self, x: Float[Array, "in_channels ..."]) -> Float[Array, "out_channels ..."]:
        """The convolved field.

        Args:
            x: channels of maps on `grid_in`.

        Raises:
            ValueError: `x` has another shape, is not real, or needs x64 where it is off.
        """
        x = check_field(x, self.weight.shape[1], self.grid_in)
        alm = _coefficients(x, self.grid_in, self.synthesis.L)
        return self.synthesis.synthesis(jnp.einsum("ocl,clm->olm", self.weight.astype(x.dtype), alm))


def mean(x: Float[Array, "channels ..."], grid: Grid) -> Float[Array, " channels"]:
    """The mean over the sphere, by the grid's quadrature."""
    weights = np.repeat(grid.weights, grid.nphi) / (4 * np.pi)
    return x.reshape(len(x), -1) @ jnp.asarray(weights, x.dtype)


def _coefficients(x: Array, grid: Grid, L: int) -> Array:
    """The coefficients of degrees below L: of those that the grid resolves, so that none is mistaken for another."""
    alm = SHT(grid, real=True).analysis(x)
    return alm[:, :L, grid.L - L : grid.L + L - 1]


def _by_channel(value: Array, x: Array) -> Array:
    return value.astype(x.dtype).reshape(-1, *[1] * (x.ndim - 1))


def _check_grid(name: str, grid: Any) -> Grid:
    if not isinstance(grid, Grid):
        raise ValueError(f"{name}={grid!r}: a grid such as ClenshawCurtis(64) is needed")
    return grid


def _check_positive(name: str, value: Any) -> float:
    if not isinstance(value, (int, float)) or not 0 < value < math.inf:
        raise ValueError(f"{name}={value!r}: a positive number is needed")
    return float(value)
