import pickle

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.signal

from armillary.core import registry
from armillary.core.testing import Case, parametrize_with_checks
from armillary.imaging import (
    NUFFT,
    Blur,
    Composition,
    FourierMask,
    Gradient,
    Identity,
    KaiserSquires,
    LinearMap,
    Mask,
    RadioInterferometer,
    Stack,
    Sum,
    check_adjoint,
)

SHAPE = (6, 5)
RNG = np.random.default_rng(0)
MASK = RNG.random(SHAPE) < 0.6
KERNEL = RNG.normal(size=(3, 2))
POINTS = RNG.uniform(-7, 7, (9, 2))
UVW = RNG.uniform(-1, 1, (9, 3)) * [4, 4, 20]

# Of each kind, with the dtype of its images.
MAKERS = {
    "identity": lambda dtype: Identity(SHAPE, dtype=dtype),
    "mask": lambda dtype: Mask(MASK, dtype=dtype),
    "blur": lambda dtype: Blur(KERNEL, SHAPE, dtype=dtype),
    "fourier-mask": lambda dtype: FourierMask(MASK, dtype=dtype),
    "gradient": lambda dtype: Gradient(SHAPE, dtype=dtype),
    "nufft": lambda dtype: NUFFT(POINTS, SHAPE, dtype=dtype),
    "radio-interferometer": lambda dtype: RadioInterferometer(UVW, SHAPE, 0.1, np.arange(9.0), dtype=dtype),
    "composition": lambda dtype: Composition(FourierMask(MASK, dtype=dtype), Blur(KERNEL, SHAPE, dtype=dtype)),
    "sum": lambda dtype: Sum(Identity(SHAPE, dtype=dtype), Blur(KERNEL, SHAPE, dtype=dtype)),
    "stack": lambda dtype: Stack(Mask(MASK, dtype=dtype), FourierMask(MASK, dtype=dtype)),
}
CASES = [(name, np.float32) for name in MAKERS] + [(name, np.complex128) for name in MAKERS if name != "stack"]


@pytest.fixture
def x64():
    with jax.enable_x64(True):
        yield


def image(seed=1, shape=SHAPE, dtype=np.float64):
    x, y = np.random.default_rng(seed).normal(size=(2, *shape))
    return (x + 1j * y).astype(dtype) if np.issubdtype(dtype, np.complexfloating) else x.astype(dtype)


@parametrize_with_checks(
    [
        Case(MAKERS[name](np.float32), id=name)
        for name in ("mask", "blur", "fourier-mask", "gradient", "nufft", "composition", "stack")
    ]
    + [Case(KaiserSquires(SHAPE, dtype=np.float32), id="kaiser-squires")]
)
def test_conformance(component, check):
    check(component)


@parametrize_with_checks(
    [Case(MAKERS[name](np.float32), id=name) for name in ("identity", "radio-interferometer", "sum")]
    + [Case(MAKERS[name](np.complex64), id=f"complex-{name}") for name in MAKERS]
)
@pytest.mark.exhaustive
def test_conformance_of_the_others(component, check):
    check(component)


@pytest.mark.parametrize(("name", "dtype"), CASES)
def test_dot_test_and_norm(x64, name, dtype):
    """To 1e-6 and 1e-12, and the norm against a matrix made column by column."""
    operator = MAKERS[name](dtype)
    check_adjoint(operator)
    units = np.eye(30).reshape(30, *SHAPE).astype(dtype)
    units = np.concatenate([units, 1j * units]) if np.issubdtype(dtype, np.complexfloating) else units
    columns = [np.asarray(leaf, complex).reshape(len(units), -1) for leaf in jax.tree.leaves(jax.vmap(operator)(units))]
    both = np.concatenate(columns, axis=1)
    largest = np.linalg.norm(np.concatenate([both.real, both.imag], axis=1), 2)
    assert (1 - 1e-5) * largest <= float(operator.opnorm())
    if name != "fourier-mask" or dtype == np.complex128:  # whose norm, for real images, is a bound
        assert float(operator.opnorm()) <= 1.01 * largest


def test_mask_and_fourier_mask(x64):
    x = image()
    np.testing.assert_array_equal(Mask(MASK)(x), x[MASK])
    np.testing.assert_allclose(FourierMask(MASK)(x), np.fft.fft2(x, norm="ortho")[MASK], atol=1e-14)
    batch = np.stack([x, 2 * x])
    np.testing.assert_array_equal(Mask(MASK)(batch), batch[:, MASK])
    np.testing.assert_array_equal(Mask(MASK).adjoint(Mask(MASK)(batch)), np.where(MASK, batch, 0))


@pytest.mark.parametrize("size", [(3, 2), (1, 1), (6, 5)])
def test_blur_is_the_periodic_convolution(x64, size):
    x, kernel = image(), image(2, size)
    wide = scipy.signal.convolve2d(x, kernel, "full")
    expected = np.zeros(SHAPE)
    for i in range(wide.shape[0]):
        for j in range(wide.shape[1]):
            expected[(i - size[0] // 2) % 6, (j - size[1] // 2) % 5] += wide[i, j]
    np.testing.assert_allclose(Blur(kernel, SHAPE)(x), expected, atol=1e-13)
    complex_blur = Blur(kernel * 1j, SHAPE, dtype=np.complex128)
    np.testing.assert_allclose(complex_blur(x + 2j * x), 1j * expected * (1 + 2j), atol=1e-13)


def test_blur_is_differentiable_in_its_kernel(x64):
    x, kernel, direction = image(), image(2, (3, 3)), image(3, (3, 3))

    def energy(kernel):
        return (Blur(kernel, SHAPE)(x) ** 2).sum()

    slope = (energy(kernel + 1e-6 * direction) - energy(kernel - 1e-6 * direction)) / 2e-6
    np.testing.assert_allclose(jnp.vdot(jax.grad(energy)(kernel), direction), slope, rtol=1e-7)


@pytest.mark.parametrize(("wave", "factor"), [((0, 2), 1), ((1, 0), -1), ((2, 2), 1j), ((1, -1), -1j)])
def test_shear_of_plane_waves(x64, wave, factor):
    """Waves along the columns' index shear along it, those along the rows' across it."""
    rows, columns = np.indices((8, 8))
    kappa = np.cos(2 * np.pi * (wave[0] * rows + wave[1] * columns) / 8 + 0.3)
    operator = KaiserSquires((8, 8))
    np.testing.assert_allclose(operator(kappa), factor * kappa, atol=1e-14)
    np.testing.assert_allclose(operator.adjoint(operator(kappa + 3)), kappa, atol=1e-14)


def test_a_map_of_odd_and_even_sides_comes_back_but_for_its_mean(x64):
    for shape in ((6, 5), (4, 8)):
        kappa = image(shape=shape)
        operator = KaiserSquires(shape)
        check_adjoint(operator)
        np.testing.assert_allclose(operator.adjoint(operator(kappa)), kappa - kappa.mean(), atol=1e-14)


def test_compositions_sums_and_stacks(x64):
    x = image()
    mask, blur, identity = Mask(MASK), Blur(KERNEL, SHAPE), Identity(SHAPE)
    np.testing.assert_allclose(Composition(mask, blur)(x), mask(blur(x)))
    np.testing.assert_allclose(Sum(blur, identity, identity)(x), blur(x) + 2 * x)
    first, second = Stack(mask, blur)(x)
    np.testing.assert_allclose(first, mask(x))
    np.testing.assert_allclose(second, blur(x))
    nested = Composition(Stack(mask, identity), blur)
    check_adjoint(nested)
    assert [leaf.shape for leaf in nested.out_structure()] == [mask(x).shape, SHAPE]


def test_a_function_becomes_an_operator(x64):
    structure = jax.ShapeDtypeStruct((3,), np.complex128)
    operator = LinearMap(lambda x: jnp.stack([2j * x[0], x[1] - 1j * x[2]]), structure, dot_test=True)
    matrix = np.array([[2j, 0, 0], [0, 1, -1j]])
    y = np.array([1 + 1j, 3 - 2j])
    np.testing.assert_allclose(operator.adjoint(y), matrix.conj().T @ y, atol=1e-15)
    np.testing.assert_allclose(operator.opnorm(), 2, rtol=2e-3)
    real_in = LinearMap(lambda x: x * (1 + 2j), jax.ShapeDtypeStruct((3,), np.float64), dot_test=True)
    assert real_in.adjoint(real_in(jnp.ones(3))).dtype == np.float64


def test_a_wrong_adjoint_is_found(x64):
    structure = jax.ShapeDtypeStruct((4,), np.complex128)
    with pytest.raises(ValueError, match="LinearMap is not adjoint to its adjoint"):
        LinearMap(jnp.fft.fft, structure, jnp.fft.ifft, dot_test=True)
    LinearMap(jnp.fft.fft, structure, lambda y: 4 * jnp.fft.ifft(y), dot_test=True)
    with pytest.raises(ValueError, match=r"A\* y of LinearMap is"):
        LinearMap(jnp.fft.fft, structure, lambda y: y[:2], dot_test=True)


def test_operators_are_pytrees_that_jit_as_arguments_and_pickle():
    x = image(dtype=np.float32)
    apply = jax.jit(lambda operator, x: operator(x))
    for name in ("mask", "blur", "nufft", "composition"):
        operator = pickle.loads(pickle.dumps(MAKERS[name](np.float32)))
        np.testing.assert_allclose(apply(operator, x), MAKERS[name](np.float32)(x), atol=1e-5)


def test_the_dtype_follows_the_input(x64):
    x = image(dtype=np.float32)
    for name in ("mask", "blur", "fourier-mask", "gradient", "nufft", "radio-interferometer"):
        operator = MAKERS[name](np.float64)
        y = operator(x)
        assert y.real.dtype == np.float32
        assert operator.adjoint(y).dtype == np.float32
        scale = float(jnp.abs(y).max())
        np.testing.assert_allclose(y, operator(x.astype(np.float64)), atol=2e-6 * scale)


@pytest.mark.parametrize("name", ["identity", "mask", "blur", "fourier-mask", "nufft", "radio-interferometer"])
def test_they_are_registered(name):
    assert registry.get("operator", name) is type(MAKERS[name](np.float32))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Identity((4, 0)), r"shape=\(4, 0\): expected the shape of an image"),
        (lambda: Identity((4, 4), dtype=int), "dtype=<class 'int'>: expected float32"),
        (lambda: Mask(np.zeros((2, 2))), "mask is False everywhere"),
        (lambda: Mask(np.ones(3)), r"mask has shape \(3,\): expected that of an image"),
        (lambda: Blur(np.ones((7, 1)), SHAPE), r"kernel has shape \(7, 1\): expected an image, no larger"),
        (lambda: Blur(np.ones((1, 1)) * 1j, SHAPE), "kernel is complex and images are real"),
        (lambda: Blur(np.full((1, 1), np.nan), SHAPE), "kernel is not finite"),
        (lambda: KaiserSquires(SHAPE, dtype=np.complex64), "dtype=.*expected float32, float64"),
        (lambda: Blur(KERNEL, SHAPE)(np.zeros((5, 6))), r"x has shape \(5, 6\): \(\.\.\., 6, 5\) is needed"),
        (lambda: Composition(), "operators is empty"),
        (lambda: Sum(Identity(SHAPE), jnp.fft.fft2), "operators has .*expected forward operators"),
        (lambda: Composition(Blur(KERNEL, SHAPE), Mask(MASK)), "what comes out of Mask is .*Blur has"),
        (lambda: Sum(Identity(SHAPE), Mask(MASK)), "what comes out of Mask is .*Identity has"),
        (lambda: Stack(Identity(SHAPE), Identity((5, 5))), "what goes into Identity is"),
        (lambda: NUFFT(np.zeros((3, 3)), SHAPE), r"points has shape \(3, 3\): expected \(samples, 2\)"),
        (lambda: NUFFT(np.full((3, 2), np.inf), SHAPE), "points has 6 values that are NaN or infinite"),
        (lambda: jax.jit(lambda p: NUFFT(p, SHAPE)(jnp.ones(SHAPE)))(jnp.zeros((3, 2))), "points is traced"),
        (lambda: RadioInterferometer(UVW, SHAPE, 0.0), "pixel_size=0.0: expected a positive"),
        (lambda: RadioInterferometer(UVW, SHAPE, 0.5), "longest baseline, .* wavelengths, needs pixels of at most"),
        (lambda: RadioInterferometer(UVW / 9, SHAPE, 0.5), "beyond the horizon"),
        (lambda: RadioInterferometer(UVW, SHAPE, 0.1, np.ones(3)), r"weights has shape \(3,\): expected one for each"),
        (lambda: RadioInterferometer(np.ones(3), SHAPE, 0.1), r"uvw has shape \(3,\)"),
    ],
)
def test_bad_arguments(make, message):
    with pytest.raises(ValueError, match=message):
        make()
