"""Discrete-continuous convolutions on the sphere, as layers of networks."""

from __future__ import annotations

import math
from typing import Any, ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from ._checks import check_array, check_integer
from ._disco_basis import Kind, make_basis
from ._disco_contract import Operator, convolve
from ._disco_stencil import Stencil
from ._grids import Grid


class _Layer(eqx.Module):
    """What the convolution and its transpose share."""

    weight: Float[Array, "out in_per_group k"]
    bias: Float[Array, " out"] | None
    in_channels: int = eqx.field(static=True)
    groups: int = eqx.field(static=True)
    operator: Operator = eqx.field(static=True)

    _transposed: ClassVar[bool]

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        grid_in: Grid,
        grid_out: Grid | None = None,
        basis: Kind = "piecewise_linear",
        kernel_shape: int | tuple[int, int] | None = None,
        cutoff: float | None = None,
        groups: int = 1,
        use_bias: bool = True,
        *,
        key: jax.Array,
    ) -> None:
        grid_out = grid_in if grid_out is None else grid_out
        named = ("grid_in", grid_in), ("grid_out", grid_out)
        centres, points = named if self._transposed else named[::-1]
        weighted = "centres" if self._transposed else "points"
        stencil = make_stencil(centres, points, basis, kernel_shape, cutoff, weighted)
        inputs = check_integer("in_channels", in_channels, 1, None, "the number of channels that go in")
        outputs = check_integer("out_channels", out_channels, 1, None, "the number of channels that come out")
        groups = check_integer("groups", groups, 1, None, "the number of groups of channels")
        for name, number in (("in_channels", inputs), ("out_channels", outputs)):
            if number % groups:
                raise ValueError(f"{name}={number} with groups={groups}: channels divide into groups evenly")
        if use_bias not in (True, False):
            raise ValueError(f"use_bias={use_bias!r}: True or False")
        self.in_channels, self.groups, self.operator = inputs, groups, Operator(stencil, self._transposed)
        shape = (outputs, inputs // groups, stencil.basis.size)
        # The filters are of unit mean square: He's weights for rectified units have no factor of their number.
        self.weight = math.sqrt(2 * groups / inputs) * jax.random.normal(key, shape, jnp.float32)
        self.bias = jnp.zeros(outputs, jnp.float32) if use_bias else None

    @property
    def grid_in(self) -> Grid:
        """The grid of what goes in."""
        stencil = self.operator.stencil
        return stencil.centres if self.operator.transposed else stencil.points

    @property
    def grid_out(self) -> Grid:
        """The grid of what comes out."""
        stencil = self.operator.stencil
        return stencil.points if self.operator.transposed else stencil.centres

    @property
    def cutoff(self) -> float:
        """The radius of the filters' support, in radians."""
        return self.operator.stencil.cutoff

    def __call__(self, x: Float[Array, "in_channels ..."]) -> Float[Array, "out_channels ..."]:
        """The convolved field.

        Args:
            x: channels of maps on `grid_in`; a batch goes by `jax.vmap`.

        Returns:
            Channels of maps on `grid_out`, in the precision of `x`.

        Raises:
            ValueError: `x` has another shape, is not real, or needs x64 where it is off.
        """
        x = check_field(x, self.in_channels, self.grid_in)
        y = convolve(self.operator, self.weight.astype(x.dtype), x[:, None], self.groups)[:, 0]
        if self.bias is None:
            return y
        return y + self.bias.astype(x.dtype).reshape(-1, *[1] * (y.ndim - 1))


class DiscoConv(_Layer):
    r"""A discrete-continuous (DISCO) convolution of fields on the sphere, from one grid to another.

    .. math:: y_o(\omega) = b_o + \sum_{c k} w_{o c k} \frac{1}{2 \pi (1 - \cos \theta_c)}
              \int \psi_k(R_\omega^{-1} \omega')\, f_c(\omega')\, \mathrm d\omega', \qquad
              R_\omega = R_z(\phi) R_y(\theta).

    The filter is a continuous function on a cap of radius :math:`\theta_c`, a sum of basis functions with weights that
    are learned, and is rotated exactly; the field is sampled, and the integral is the sum over the samples with the
    weights of their quadrature. Rotations of the field that map its grid to itself, as those about the axis do on grids
    of rings, commute with the layer to rounding. Others do up to the error of the quadrature for filters that do not
    depend on the azimuth (``basis="axisymmetric"``), which falls as the grid is refined; the other bases have
    directions, which rotations turn against the meridians.

    Bases, functions of the radius u (1 at the edge) and the azimuth from the south:

    - ``"piecewise_linear"``, of shape ``(n, m)``: linear interpolation between n nodes across the cap (n odd), one at
      the centre, and m around it on each of the ``(n - 1) / 2`` rings: ``1 + (n - 1) / 2 * m`` functions;
    - ``"morlet"``, ``(n, m)``: n by m sines and cosines along the meridian and the parallel under Hann's window;
    - ``"zernike"``, n: Zernike's polynomials below degree n, ``n (n + 1) / 2`` of them; they do not vanish at the edge;
    - ``"axisymmetric"``, n: n rings, cubic B-splines in u.

    On grids of rings (all but HEALPix), where the longitudes of `grid_out` are those of `grid_in` or every s-th of
    them, the sum is taken by Fourier transforms along the rings and products in a band of latitudes; elsewhere by lists
    of neighbours. Either takes time and memory as the pixels times the points of a filter. No intermediate is kept for
    the backward pass.

    Args:
        in_channels: the number of channels that go in.
        out_channels: the number of channels that come out.
        grid_in: where the field is sampled.
        grid_out: where the result is; by default `grid_in`, for downsampling a coarser one.
        basis: the basis of the filters.
        kernel_shape: the shape of the basis, one integer or two; 3, or ``(3, 3)``, by default.
        cutoff: the radius of the filters in radians, at most pi. By default three times the resolution ``pi / L`` of
            the coarser grid; for n axisymmetric rings ``1.25 (n + 1)`` times.
        groups: channels that go in and come out are divided into so many groups with no weights between them.
        use_bias: add a learned number to each channel that comes out.
        key: a random key for the weights to start from.

    Raises:
        ValueError: an argument is out of range; names it, and what is allowed.

    Reference: Ocampo J., Price M. A., McEwen J. D. 2023, ICLR (arXiv:2209.13603).

    >>> import jax
    >>> from armillary.sphere import ClenshawCurtis, DiscoConv
    >>> grid = ClenshawCurtis(16)
    >>> layer = DiscoConv(3, 8, grid, ClenshawCurtis(8), key=jax.random.key(0))
    >>> layer(jax.numpy.ones((3, *grid.shape))).shape
    (8, 9, 16)
    """

    _transposed: ClassVar[bool] = False


class DiscoConvTranspose(_Layer):
    r"""A transposed discrete-continuous convolution, usually from a coarse grid to a finer one.

    .. math:: y_o(\omega) = b_o + \sum_{c k} w_{o c k} \frac{1}{2 \pi (1 - \cos \theta_c)}
              \int \psi_k(R_{\omega'}^{-1} \omega)\, f_c(\omega')\, \mathrm d\omega'

    Filters are centred at the points of `grid_in`, whose quadrature weights are in the sum, and evaluated at those of
    `grid_out`. It is the adjoint of the `DiscoConv` from `grid_out` to `grid_in`, of the same weights with channels
    exchanged, in the inner products of the two quadratures; everything else is as there.

    Args:
        in_channels: the number of channels that go in.
        out_channels: the number of channels that come out.
        grid_in: where the field is sampled.
        grid_out: where the result is; by default `grid_in`, for upsampling a finer one.
        basis: see `DiscoConv`.
        kernel_shape: see `DiscoConv`.
        cutoff: the radius of the filters in radians; as for `DiscoConv` by default.
        groups: see `DiscoConv`.
        use_bias: see `DiscoConv`.
        key: a random key for the weights to start from.

    Raises:
        ValueError: an argument is out of range; names it, and what is allowed.

    Reference: Ocampo J., Price M. A., McEwen J. D. 2023, ICLR (arXiv:2209.13603).

    >>> import jax
    >>> from armillary.sphere import ClenshawCurtis, DiscoConvTranspose
    >>> grid = ClenshawCurtis(8)
    >>> layer = DiscoConvTranspose(8, 3, grid, ClenshawCurtis(16), key=jax.random.key(0))
    >>> layer(jax.numpy.ones((8, *grid.shape))).shape
    (3, 17, 32)
    """

    _transposed: ClassVar[bool] = True


def make_stencil(
    centres: tuple[str, Any], points: tuple[str, Any], basis: Any, kernel_shape: Any, cutoff: Any, weighted: Any
) -> Stencil:
    """The stencil of two grids, each with the name of its argument; or `ValueError`."""
    for name, grid in (centres, points):
        if not isinstance(grid, Grid):
            raise ValueError(f"{name}={grid!r}: a grid such as ClenshawCurtis(64) is needed")
    coarser = min(centres[1].L, points[1].L)
    functions = make_basis(basis, kernel_shape)
    if cutoff is None:
        # So wide that the quadrature of a spline, a kink of which is at every step, has few per cent of error.
        steps = 1.25 * (functions.size + 1) if functions.kind == "axisymmetric" else 3
        cutoff = min(steps * math.pi / coarser, math.pi)
    number = isinstance(cutoff, (int, float, np.integer, np.floating)) and not isinstance(cutoff, bool)
    if not number or not 0 < cutoff <= math.pi:
        raise ValueError(
            f"cutoff={cutoff!r}: the radius of the filters is an angle in radians above 0 and at most pi; the "
            f"resolution of the coarser grid is pi / L = {math.pi / coarser:.4g}"
        )
    stencil = Stencil(centres[1], points[1], functions, float(cutoff), weighted)
    gap = max(abs(points[1].theta - theta).min() for theta in centres[1].theta)
    if gap > cutoff:
        raise ValueError(
            f"cutoff={cutoff!r}: some rings of {centres[0]}={centres[1]} have no ring of {points[0]}={points[1]} that "
            f"near; take more than {gap:.4g} radians, and for accuracy several times as much"
        )
    return stencil


def check_field(x: Any, channels: int, grid: Grid) -> Array:
    """Channels of real maps on a grid, or `ValueError`."""
    layout = f"{channels} channels of maps on {grid}"
    x = check_array("x", x, (channels, *grid.shape), "real", layout)
    if x.ndim != 1 + len(grid.shape):
        raise ValueError(
            f"x has shape {x.shape}: {(channels, *grid.shape)} is needed, {layout}; use jax.vmap for a batch"
        )
    return x
