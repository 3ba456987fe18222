"""A U-shaped network of discrete-continuous convolutions."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from ._checks import check_integer
from ._disco import DiscoConv, DiscoConvTranspose, check_field
from ._disco_basis import Kind
from ._grids import ClenshawCurtis, Grid, Healpix
from ._nn import SphericalLayerNorm


class _Block(eqx.Module):
    """A convolution and, on one grid, a linear map of channels at each point; then normalisation and rectifier.

    Filters are smooth over the distance of points, so that the quadrature is accurate: the linear map is what sees and
    keeps single points.
    """

    convolution: DiscoConv | DiscoConvTranspose
    linear: Float[Array, "outputs inputs"] | None
    norm: SphericalLayerNorm

    def __init__(self, convolution: DiscoConv | DiscoConvTranspose, key: jax.Array) -> None:
        self.convolution = convolution
        outputs, inputs, _ = convolution.weight.shape
        scale = math.sqrt(2 / inputs)
        same = convolution.grid_in == convolution.grid_out
        self.linear = scale * jax.random.normal(key, (outputs, inputs), jnp.float32) if same else None
        self.norm = SphericalLayerNorm(outputs, convolution.grid_out)

    def __call__(self, x: Array) -> Array:
        y = self.convolution(x)
        if self.linear is not None:
            y = y + _mixed(self.linear, x)
        return jax.nn.gelu(self.norm(y))


def _mixed(matrix: Float[Array, "outputs inputs"], x: Array) -> Array:
    return jnp.einsum("oc,c...->o...", matrix.astype(x.dtype), x)


class SphericalUNet(eqx.Module):
    r"""A U-shaped network of DISCO convolutions, from channels on a grid to channels on the same grid.

    At each of the ``len(widths)`` levels, of half the resolution of the one before, there is a convolution on the way
    down and one on the way up; between levels go a `DiscoConv` to the coarser grid and a `DiscoConvTranspose` back, and
    what is at a level on the way down is an input on the way up. To what a convolution on one grid gives, a linear map
    of the channels at each point is added; a `SphericalLayerNorm` and GELU follow each, and at the end is a linear map.
    With the default basis the network commutes with rotations as far as its convolutions do.

    Args:
        in_channels: the number of channels that go in.
        out_channels: the number of channels that come out.
        grid: where fields are sampled; its bandlimit (``nside`` of HEALPix) is halved evenly between levels.
        widths: the number of channels at each level, from the finest.
        basis: see `DiscoConv`.
        kernel_shape: see `DiscoConv`.
        key: a random key for the weights to start from.

    Raises:
        ValueError: an argument is out of range; names it, and what is allowed.

    References: Ronneberger O., Fischer P., Brox T. 2015 (arXiv:1505.04597); Ocampo J., Price M. A., McEwen J. D. 2023,
    ICLR (arXiv:2209.13603).

    >>> import jax
    >>> from armillary.sphere import ClenshawCurtis, SphericalUNet
    >>> grid = ClenshawCurtis(16)
    >>> network = SphericalUNet(3, 2, grid, widths=(4, 8), key=jax.random.key(0))
    >>> jax.jit(lambda x: network(x))(jax.numpy.ones((3, *grid.shape))).shape
    (2, 17, 32)
    """

    down: tuple[_Block, ...]
    deeper: tuple[_Block, ...]
    higher: tuple[_Block, ...]
    up: tuple[_Block, ...]
    head: Float[Array, "out width"]
    bias: Float[Array, " out"]
    grid: Grid = eqx.field(static=True)
    in_channels: int = eqx.field(static=True)

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        grid: Grid,
        widths: Sequence[int] = (16, 32, 64),
        basis: Kind = "axisymmetric",
        kernel_shape: int | tuple[int, int] | None = None,
        *,
        key: jax.Array,
    ) -> None:
        if not isinstance(widths, (tuple, list)) or not widths:
            raise ValueError(f"widths={widths!r}: the numbers of channels at each level, such as (16, 32, 64)")
        widths = [check_integer("widths", w, 1, None, f"a number of channels, in {tuple(widths)!r},") for w in widths]
        self.in_channels = check_integer("in_channels", in_channels, 1, None, "the number of channels that go in")
        outputs = check_integer("out_channels", out_channels, 1, None, "the number of channels that come out")
        grids = _grids(grid, len(widths))
        keys = iter(jax.random.split(key, 8 * len(widths)))

        def block(kind: Any, inputs: int, outputs: int, *where: Grid) -> _Block:
            convolution = kind(inputs, outputs, *where, basis, kernel_shape, use_bias=False, key=next(keys))
            return _Block(convolution, next(keys))

        levels = list(pairwise(zip(widths, grids, strict=True)))
        self.down = tuple(
            block(DiscoConv, w if i else self.in_channels, w, g, g)
            for i, (w, g) in enumerate(zip(widths, grids, strict=True))
        )
        self.deeper = tuple(block(DiscoConv, w, v, g, h) for (w, g), (v, h) in levels)
        self.higher = tuple(block(DiscoConvTranspose, v, w, h, g) for (w, g), (v, h) in levels)
        self.up = tuple(block(DiscoConv, 2 * w, w, g, g) for (w, g), _ in levels)
        self.head = jax.random.normal(next(keys), (outputs, widths[0]), jnp.float32) / math.sqrt(widths[0])
        self.bias = jnp.zeros(outputs, jnp.float32)
        self.grid = grid

    def __call__(self, x: Float[Array, "in_channels ..."]) -> Float[Array, "out_channels ..."]:
        """The network's output.

        Args:
            x: channels of maps on `grid`; a batch goes by `jax.vmap`.

        Raises:
            ValueError: `x` has another shape, is not real, or needs x64 where it is off.
        """
        x = check_field(x, self.in_channels, self.grid)
        x = self.down[0](x)
        skipped = []
        for deeper, down in zip(self.deeper, self.down[1:], strict=True):
            skipped.append(x)
            x = down(deeper(x))
        for higher, up, skip in zip(self.higher[::-1], self.up[::-1], skipped[::-1], strict=True):
            x = up(jnp.concatenate([skip, higher(x)]))
        y = _mixed(self.head, x)
        return y + self.bias.astype(x.dtype).reshape(-1, *[1] * (x.ndim - 1))


def _grids(grid: Any, levels: int) -> list[Grid]:
    """The grid of each level."""
    if not isinstance(grid, Grid):
        raise ValueError(f"grid={grid!r}: a grid such as ClenshawCurtis(64) is needed")
    grids = [grid]
    for _ in range(levels - 1):
        coarser = _halved(grids[-1])
        if coarser is None:
            raise ValueError(
                f"grid={grid!r} with {levels} levels: the numbers that make the grid (of ClenshawCurtis, those of the "
                f"steps between its rings and of its longitudes) are halved {levels - 1} times, and must be even"
            )
        grids.append(coarser)
    return grids


def _halved(grid: Any) -> Grid | None:
    if isinstance(grid, Healpix):
        return replace(grid, nside=grid.nside // 2) if grid.nside > 1 else None
    if isinstance(grid, ClenshawCurtis):
        steps, odd = divmod(grid.ntheta - 1, 2)
        # As it may be finer than its bandlimit needs, the bandlimit of the coarser one is what is left of it.
        if odd or grid.longitudes % 2 or grid.L < 2:
            return None
        return ClenshawCurtis(min((grid.L + 1) // 2, steps), steps + 1, grid.longitudes // 2)
    return replace(grid, L=grid.L // 2) if grid.L % 2 == 0 else None
