"""The counted cost of a convolution, against XLA's own count and against sums term by term."""

import itertools
import math

import jax
import numpy as np
import pytest

from armillary.sphere import ClenshawCurtis, DiscoConv, Healpix, cost
from armillary.sphere import _disco_contract as contract


@pytest.mark.parametrize("grid", [ClenshawCurtis(32), Healpix(8)])
def test_the_count_is_that_of_the_compiled_layer(grid, monkeypatch):
    # In one block: XLA counts the body of a loop once.
    monkeypatch.setitem(contract._BLOCK, "cpu", 1 << 30)
    layer = DiscoConv(6, 4, grid, key=jax.random.key(0), use_bias=False)
    tables = layer.operator.stencil.tables(np.float32)
    x = np.zeros((6, 1, *grid.shape), np.float32)
    function = jax.jit(lambda w, x, *tables: contract._convolve(w, x, *tables, operator=layer.operator, groups=1))
    compiled = function.lower(layer.weight, x, *tables).compile()
    counted = cost(grid, in_channels=6, out_channels=4)
    if isinstance(grid, Healpix):
        # XLA counts, and holds, what fills up the lists.
        assert counted.flops < compiled.cost_analysis()["flops"] < 2 * counted.flops
        neighbours = sum(int((table != 0).any(-1).sum()) for table in tables[2 : len(tables) // 2 : 2])
        assert layer.operator.stencil.pairs == pytest.approx(neighbours, rel=0.01)
        return
    memory = compiled.memory_analysis()
    assert counted.bytes == memory.argument_size_in_bytes + memory.output_size_in_bytes
    # XLA counts Fourier transforms otherwise, and the zeros around the band.
    assert counted.flops == pytest.approx(compiled.cost_analysis()["flops"], rel=0.3)


def test_the_exact_convolution_term_by_term():
    L = 5
    counted = cost(ClenshawCurtis(L), in_channels=2, out_channels=3, cutoff=1.0)
    degrees = range(L)
    entries = sum(1 for n, l in itertools.product(range(L), degrees) if l >= n for _ in range(2 * l + 1))  # noqa: E741
    products = sum(8 * (2 * l + 1) ** 3 for l in degrees) / 2  # noqa: E741
    transform = 7 * L * entries + 5 * L * 81 * math.log2(81) / 2
    assert counted.exact_flops == int(5 * transform + 6 * products)
    assert counted.exact_bytes == 4 * (5 * L * 81 + 6 * sum((2 * l + 1) ** 2 for l in degrees))  # noqa: E741


def test_the_cost_is_linear_in_the_pixels():
    """With a cutoff of as many pixels, but for the logarithm of Fourier transforms; the exact one is as L**4."""
    low, high = (cost(ClenshawCurtis(L), in_channels=16, out_channels=16) for L in (128, 1024))
    assert high.flops < 64**1.02 * low.flops
    assert high.bytes < 64**1.02 * low.bytes
    assert high.exact_flops == pytest.approx(8**4 * low.exact_flops, rel=0.05)
    assert high.flops_ratio > 60 * low.flops_ratio
    assert high.bytes_ratio > 7 * low.bytes_ratio


def test_arguments():
    with pytest.raises(ValueError, match="in_channels=0"):
        cost(ClenshawCurtis(8), in_channels=0)
    with pytest.raises(ValueError, match="grid_out=8"):
        cost(8)
