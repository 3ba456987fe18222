"""The fused kernels, in Pallas' interpreter; and that they lower for CUDA, which needs no device."""

import math
from contextlib import nullcontext
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import sph_harm_y

from armillary.sphere import _legendre, _pallas
from armillary.sphere._pallas import Blocks, analyse, analysis_blocks, synthesis_blocks, synthesise
from armillary.sphere._rings import Rings

pytestmark = pytest.mark.usefixtures("quick_compilation")

CASES = [
    # rings, L, spin, columns
    (Rings("gauss-legendre", 12), 12, 0, 2),
    (Rings("gauss-legendre", 17), 11, 2, 3),
    (Rings("healpix", 4), 13, 0, 1),
    pytest.param(Rings("gauss-legendre", 12), 9, -3, 5, marks=pytest.mark.slow),
]


def arguments(rings: Any, L: int, spin: int, columns: int, dtype: Any = np.float64) -> tuple[jax.Array, jax.Array]:
    """Coefficients, zero beyond the lanes, and rings."""
    rng = np.random.default_rng(1)
    orders = np.tile(np.arange(L), 1 if spin == 0 else 2)
    lengths = L - np.maximum(orders, abs(spin))
    x = rng.normal(size=(orders.size, L - abs(spin), columns))
    x *= (np.arange(L - abs(spin)) < lengths[:, None])[:, :, None]
    f = rng.normal(size=(orders.size, 2 if spin == 0 else 1, columns, (rings.number + 1) // 2))
    return jnp.asarray(x, dtype), jnp.asarray(f, dtype)


def assert_close(actual: Any, desired: Any, tolerance: float = 1e-13) -> None:
    assert actual.shape == desired.shape
    assert actual.dtype == desired.dtype
    assert abs(actual - desired).max() <= tolerance * abs(desired).max()


@pytest.mark.usefixtures("x64")
class TestSums:
    @pytest.mark.parametrize(("rings", "L", "spin", "columns"), CASES)
    def test_are_those_of_the_jax_stage(self, rings, L, spin, columns):
        x, f = arguments(rings, L, spin, columns)
        assert_close(synthesise(x, rings=rings, L=L, spin=spin), _legendre.synthesise(x, rings, L, spin, "jax"))
        assert_close(analyse(f, rings=rings, L=L, spin=spin), _legendre.analyse(f, rings, L, spin, "jax"))

    def test_of_explicit_harmonics(self):
        rings, L, _, columns = CASES[0]
        x, _ = arguments(rings, L, 0, columns)
        theta = rings.north.astype(np.float64)
        desired = np.zeros((L, 2, columns, theta.size))
        for m in range(L):
            for t in range(L - m):
                function = sph_harm_y(m + t, m, theta, 0.0).real
                desired[m, t % 2] += np.asarray(x)[m, t][:, None] * function
        assert_close(synthesise(x, rings=rings, L=L, spin=0), desired)

    @pytest.mark.parametrize(("rings", "L", "spin", "columns"), CASES[:2])
    def test_do_not_depend_on_the_blocks(self, rings, L, spin, columns):
        x, f = arguments(rings, L, spin, columns)
        blocks = Blocks(columns=columns - 1, rings=4, warps=1)
        assert_close(_pallas._synthesise(x, rings, L, spin, blocks), synthesise(x, rings=rings, L=L, spin=spin))
        assert_close(_pallas._analyse(f, rings, L, spin, blocks), analyse(f, rings=rings, L=L, spin=spin))

    @pytest.mark.parametrize(("rings", "L", "spin", "columns"), CASES)
    def test_are_transposes(self, rings, L, spin, columns):
        x, f = arguments(rings, L, spin, columns)
        there = jnp.vdot(f, synthesise(x, rings=rings, L=L, spin=spin))
        back = jnp.vdot(analyse(f, rings=rings, L=L, spin=spin), x)
        assert abs(there - back) < 1e-13 * jnp.linalg.norm(f) * jnp.linalg.norm(x)

    def test_in_single_precision_are_rounded_once(self):
        rings, L, spin, columns = CASES[1]
        x, f = arguments(rings, L, spin, columns, np.float32)
        for function, argument in ((synthesise, x), (analyse, f)):
            double = function(argument.astype(np.float64), rings=rings, L=L, spin=spin)
            single = function(argument, rings=rings, L=L, spin=spin)
            np.testing.assert_array_equal(single, double.astype(np.float32), strict=True)

    def test_under_jit_are_the_same(self):
        rings, L, spin, columns = CASES[0]
        x, _ = arguments(rings, L, spin, columns)
        compiled = jax.jit(lambda x: synthesise(x, rings=rings, L=L, spin=spin))
        np.testing.assert_array_equal(compiled(x), synthesise(x, rings=rings, L=L, spin=spin))

    def test_of_the_primitive_batch_and_transpose(self):
        rings, L, spin, columns = CASES[0]
        x, f = arguments(rings, L, spin, columns)
        batch = jnp.stack([x, 2 * x[::-1]])
        desired = jnp.stack([synthesise(x, rings=rings, L=L, spin=spin) for x in batch])
        assert_close(jax.vmap(lambda x: _legendre.synthesise(x, rings, L, spin, "pallas"))(batch), desired)
        (transposed,) = jax.linear_transpose(lambda x: _legendre.synthesise(x, rings, L, spin, "pallas"), x)(f)
        assert_close(transposed, analyse(f, rings=rings, L=L, spin=spin))


class Polar(NamedTuple):
    """Rings at any colatitudes, as close to the poles as may be."""

    thetas: tuple[float, ...]

    @property
    def north(self) -> np.ndarray:
        return np.array(self.thetas, np.longdouble)

    @property
    def number(self) -> int:
        return 2 * len(self.thetas)


@pytest.mark.usefixtures("x64")
class TestScale:
    """Lanes of high order near a pole start below the range of numbers, and some come into it at a higher degree."""

    L = 44
    theta = 2.0**-36

    def polar_limit(self) -> np.ndarray:
        """Y_lm of every lane and step as theta tends to 0, where it is a power of theta."""
        table = np.zeros((self.L, self.L))
        for m in range(self.L):
            for degree in range(m, self.L):
                square = (2 * degree + 1) * math.perm(degree + m, 2 * m) / (4 * math.pi)
                table[m, degree - m] = (-1) ** m * math.sqrt(square) / math.factorial(m) * (self.theta / 2) ** m
        return table

    def test_values_come_into_range(self):
        ones = jnp.ones((self.L, 2, 1, 1))
        table = np.asarray(analyse(ones, rings=Polar((self.theta,)), L=self.L, spin=0))[:, :, 0]
        desired = self.polar_limit()
        seen = table != 0
        np.testing.assert_allclose(table[seen], desired[seen], rtol=1e-12)
        # What counts as 0 is less than 2**-700 before its block of degrees, in which it may grow.
        assert (abs(desired[~seen]) < 2.0**-650).all()
        assert (seen.any(axis=1) & ~seen[:, 0]).any()

    def test_rings_of_one_program_differ_in_scale(self):
        rings = Polar((1e-30, self.theta, 2.0**-30, 0.1, 1.5))
        x, f = arguments(rings, self.L, 0, 2)
        sums = synthesise(x, rings=rings, L=self.L, spin=0)
        desired = _legendre.synthesise(x, rings, self.L, 0, "jax")
        # Lane by lane and ring by ring, where no cancellation hides them.
        positive = _legendre.synthesise(abs(x), rings, self.L, 0, "jax")
        assert (abs(sums - desired) <= 1e-12 * abs(positive) + 1e-13 * (rings.north > 0.01)).all()
        assert_close(analyse(f, rings=rings, L=self.L, spin=0), _legendre.analyse(f, rings, self.L, 0, "jax"))


def test_without_x64_there_is_an_error_that_says_how_to_enable_it():
    rings, L = Rings("gauss-legendre", 4), 4
    with jax.enable_x64(False):
        x, f = (v.astype(jnp.float32) for v in arguments(rings, L, 0, 2, np.float32))
        with pytest.raises(ValueError, match=r"numpyro\.enable_x64\(\)"):
            synthesise(x, rings=rings, L=L, spin=0)
        with pytest.raises(ValueError, match="x64 is off"):
            analyse(f, rings=rings, L=L, spin=0)


@pytest.mark.usefixtures("x64")
def test_arrays_beyond_32_bit_offsets_are_refused():
    rings, L = Rings("gauss-legendre", 8), 8
    for size, error in ((2**31, pytest.raises(ValueError, match="smaller batches")), (2**31 - 256, nullcontext())):
        x = jax.ShapeDtypeStruct((L, L, size // L**2), np.float64)
        with error:
            jax.eval_shape(lambda x: synthesise(x, rings=rings, L=L, spin=0), x)


@pytest.mark.parametrize("columns", [2, 4, 7, 64])
@pytest.mark.parametrize("spin", [0, 2])
@pytest.mark.parametrize("rings", [1, 2, 33, 256, 1024, 4096])
def test_blocks_are_bounded_powers_of_two(rings, spin, columns):
    for blocks in (synthesis_blocks(rings, columns, spin), analysis_blocks(rings, columns, spin)):
        for size in (blocks.rings, blocks.warps):
            assert size & (size - 1) == 0
        assert blocks.columns <= columns
        assert blocks.rings < 2 * rings or blocks.rings <= 32
    partial_sums = math.ceil(rings / analysis_blocks(rings, columns, spin).rings)
    # Of 2 L lanes by L degrees, at most: 64 L**2 numbers where there are no more than 32 columns.
    assert 2 * partial_sums * columns <= max(64, 2 * columns)


# JAX's own words about the future of the Triton backend.
@pytest.mark.filterwarnings("ignore:The Pallas Triton backend:DeprecationWarning")
@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize(("spin", "columns", "dtype"), [(0, 2, np.float32), (0, 4, np.float64), (2, 4, np.float64)])
@pytest.mark.parametrize("function", [synthesise, analyse])
def test_kernels_lower_for_cuda(function, spin, columns, dtype):
    # Rings for several blocks of several warps.
    rings, L = Rings("healpix", 300), 8
    argument = arguments(rings, L, spin, columns, dtype)[0 if function is synthesise else 1]
    device = jax.sharding.AbstractDevice("NVIDIA H100 80GB HBM3", None, "gpu")
    mesh = jax.sharding.AbstractMesh((1,), ("device",), abstract_device=device)
    call = "__gpu$xla.gpu.triton"
    with jax.sharding.use_abstract_mesh(mesh):
        exported = jax.export.export(
            jax.jit(lambda x: function(x, rings=rings, L=L, spin=spin)),
            platforms=["cuda"],
            disabled_checks=[jax.export.DisabledSafetyCheck.custom_call(call)],
        )(argument)
    assert exported.mlir_module().count(f"@{call}(") == 1
    (out,) = exported.out_avals
    assert out.dtype == dtype
