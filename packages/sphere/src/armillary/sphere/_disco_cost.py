"""What a convolution takes: counted operations and bytes, beside those of an exact one on the rotation group."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from ._checks import check_integer
from ._disco import make_stencil
from ._disco_basis import Kind
from ._grids import Grid


@dataclass(frozen=True)
class Cost:
    """Counts for one evaluation of a layer, in single precision; made by `cost`.

    Args:
        flops: additions and multiplications of real numbers.
        bytes: what is held at once: the field that goes in, the one that comes out, and the filters.
        exact_flops: as `flops`, of the exact convolution.
        exact_bytes: as `bytes`, of the exact convolution.
    """

    flops: int
    bytes: int
    exact_flops: int
    exact_bytes: int

    @property
    def flops_ratio(self) -> float:
        """How many times more operations the exact convolution takes."""
        return self.exact_flops / self.flops

    @property
    def bytes_ratio(self) -> float:
        """How many times more memory the exact convolution takes."""
        return self.exact_bytes / self.bytes


def cost(
    grid: Grid,
    grid_out: Grid | None = None,
    *,
    in_channels: int = 1,
    out_channels: int = 1,
    basis: Kind = "piecewise_linear",
    kernel_shape: int | tuple[int, int] | None = None,
    cutoff: float | None = None,
) -> Cost:
    r"""The counted cost of a `DiscoConv`, and of an exact convolution on SO(3) at the same bandlimit.

    The layer, as it is computed: a real Fourier transform of n points counts as :math:`\frac52 n \log_2 n`; the rings
    of a band are multiplied and added at 8 operations for each order, basis function and channel (4 where coefficients
    are real); the channels are mixed at 2 for each real number, weight and pixel. By lists, 2 for each neighbour, basis
    function and channel, and the same for mixing.

    The comparator is the convolution of real functions on the rotation group that group-equivariant spherical networks
    use, in its fastest exact form: a Fourier transform on SO(3) of each channel, by separation of variables, the
    products of the Wigner blocks of fields and filters

    .. math:: h_{lmn} = \sum_{|k| \le l} f_{lmk}\, \overline{\psi_{lnk}}, \qquad 0 \le l < L,

    and a transform back, with all orders n below the bandlimit L of `grid`. A transform counts 7 operations for each
    ring and coefficient :math:`(l, m, n \ge 0)` (4 for the sum over rings, 3 for the recursion, which the hemispheres
    share) and :math:`5 n \log_2 n` for each complex Fourier transform of n points over the two angles; a product of
    complex numbers counts 8, on half of the orders. Held are the functions, sampled on L rings by ``(2 L - 1)**2``
    angles, and the coefficients of the filters, for each pair of channels.

    Args:
        grid: where the field is sampled.
        grid_out: where the result is; by default `grid`.
        in_channels: the number of channels that go in.
        out_channels: the number of channels that come out.
        basis: see `DiscoConv`.
        kernel_shape: see `DiscoConv`.
        cutoff: see `DiscoConv`.

    Returns:
        The counts of both.

    Raises:
        ValueError: an argument is out of range; names it, and what is allowed.

    References: Ocampo J., Price M. A., McEwen J. D. 2023, ICLR (arXiv:2209.13603); Cohen T. S., Geiger M., Köhler J.,
    Welling M. 2018, ICLR (arXiv:1801.10130); McEwen J. D. et al. 2015, IEEE Sig. Proc. Let. 22, 2425,
    doi:10.1109/LSP.2015.2490676.

    >>> from armillary.sphere import ClenshawCurtis, cost
    >>> counted = cost(ClenshawCurtis(64))
    >>> counted.exact_flops > 100 * counted.flops
    True
    """
    inputs = check_integer("in_channels", in_channels, 1, None, "the number of channels that go in")
    outputs = check_integer("out_channels", out_channels, 1, None, "the number of channels that come out")
    grid_out = grid if grid_out is None else grid_out
    stencil = make_stencil(("grid_out", grid_out), ("grid", grid), basis, kernel_shape, cutoff, "points")
    size = stencil.basis.size
    points, pixels = (math.prod(g.shape) for g in (grid, grid_out))
    if stencil.method == "fourier":
        n, rings = grid.shape[1], grid_out.shape[0]
        parts = 1 if basis == "axisymmetric" else 2
        entries = size * stencil.band.width * rings * (n // 2 + 1)
        transforms = 2.5 * n * math.log2(n) * (inputs * grid.shape[0] + outputs * rings)
        flops = transforms + 4 * parts * entries * inputs + 2 * size * inputs * outputs * rings * 2 * (n // 2 + 1)
        filters = parts * entries
    else:
        flops = 2 * size * stencil.pairs * inputs + 2 * size * inputs * outputs * pixels
        # Each neighbour's number and the filters, for the sum and for its transpose.
        filters = 2 * (1 + size) * stencil.pairs
    held = inputs * points + outputs * pixels + filters + size * inputs * outputs
    return Cost(int(flops), 4 * held, *_exact(grid.L, inputs, outputs))


def _exact(L: int, inputs: int, outputs: int) -> tuple[int, int]:
    """Operations and bytes of the exact convolution."""
    # The coefficients with l >= n, of orders n >= 0, and the Fourier transforms of L rings of (2 L - 1)**2 angles.
    coefficients = sum(L * L - n * n for n in range(L))
    angles = (2 * L - 1) ** 2
    transform: Any = 7 * L * coefficients + 5 * L * angles * math.log2(max(angles, 2)) / 2
    products = 4 * sum((2 * degree + 1) ** 3 for degree in range(L))
    flops = (inputs + outputs) * transform + inputs * outputs * products
    blocks = sum((2 * degree + 1) ** 2 for degree in range(L))
    # Real samples; complex coefficients, those of half of the orders.
    return int(flops), 4 * ((inputs + outputs) * L * angles + inputs * outputs * blocks)
