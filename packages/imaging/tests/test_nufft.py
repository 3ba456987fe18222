import jax
import numpy as np
import pytest

from armillary.imaging import NUFFT, Blur, Composition, RadioInterferometer, check_adjoint

SHAPE = (24, 31)
RNG = np.random.default_rng(0)
IMAGE = RNG.normal(size=SHAPE)
PIXEL = 0.01


@pytest.fixture
def x64():
    with jax.enable_x64(True):
        yield


def direct_sum(points, x):
    rows, columns = (np.arange(n) - n // 2 for n in x.shape)
    return np.einsum("kr,rc,kc->k", np.exp(-1j * points[:, :1] * rows), x, np.exp(-1j * points[:, 1:] * columns))


def measurement_equation(uvw, x):
    m, l = (PIXEL * (np.arange(n) - n // 2) for n in x.shape)  # noqa: E741
    n = np.sqrt(1 - l**2 - m[:, None] ** 2)
    return np.array([np.sum(x / n * np.exp(-2j * np.pi * (u * l + v * m[:, None] + w * (n - 1)))) for u, v, w in uvw])


# Beyond a period, at its edges, on the grid's points and next to them.
POINTS = np.concatenate(
    [RNG.uniform(-20, 20, (60, 2)), [[0, 0], [np.pi, -np.pi], [2 * np.pi / 48, 1e-9], [-1e-12, np.pi - 1e-12]]]
)


def relative(found, expected):
    return np.abs(np.asarray(found) - expected).max() / np.linalg.norm(IMAGE)


def test_nufft_is_the_direct_sum_in_double_precision(x64):
    operator = NUFFT(POINTS, SHAPE)
    assert relative(operator(IMAGE), direct_sum(POINTS, IMAGE)) < 1e-12
    x = IMAGE + 1j * IMAGE[::-1]
    operator = NUFFT(POINTS, SHAPE, dtype=np.complex128)
    assert relative(operator(x), direct_sum(POINTS, x)) < 2e-12
    y = RNG.normal(size=len(POINTS)) + 0.5j
    rows, columns = (np.arange(n) - n // 2 for n in SHAPE)
    adjoint = np.einsum("kr,k,kc->rc", np.exp(1j * POINTS[:, :1] * rows), y, np.exp(1j * POINTS[:, 1:] * columns))
    np.testing.assert_allclose(operator.adjoint(y), adjoint, atol=1e-11)
    check_adjoint(operator)


@pytest.mark.parametrize("double", [False, True])
def test_nufft_is_the_direct_sum_in_single_precision(double):
    with jax.enable_x64(double):
        operator = NUFFT(POINTS, SHAPE, dtype=np.float32)
        y = operator(IMAGE.astype(np.float32))
        assert y.dtype == np.complex64
        assert relative(y, direct_sum(POINTS, IMAGE)) < 2e-6
        check_adjoint(operator)


@pytest.mark.parametrize("shape", [(1, 1), (2, 3), (7, 64)])
def test_nufft_of_other_shapes(x64, shape):
    x = RNG.normal(size=(2, *shape))
    found = NUFFT(POINTS, shape)(x)
    expected = np.stack([direct_sum(POINTS, one) for one in x])
    np.testing.assert_allclose(found, expected, atol=1e-12 * np.linalg.norm(x))


def test_nufft_on_the_grid_is_the_fft(x64):
    frequencies = 2 * np.pi * np.stack(np.meshgrid(*(np.fft.fftfreq(n) for n in SHAPE), indexing="ij"), -1)
    found = NUFFT(frequencies.reshape(-1, 2), SHAPE)(IMAGE).reshape(SHAPE)
    expected = np.fft.fft2(np.roll(IMAGE, [-(n // 2) for n in SHAPE], (0, 1)))
    np.testing.assert_allclose(found, expected, atol=1e-11)


def test_nufft_is_that_of_finufft(x64):
    finufft = pytest.importorskip("jax_finufft")
    points = POINTS % (2 * np.pi) - np.pi
    expected = finufft.nufft2(IMAGE + 0j, points[:, 0], points[:, 1], iflag=-1, eps=1e-13)
    assert relative(NUFFT(points, SHAPE)(IMAGE), np.asarray(expected)) < 1e-11


UVW = RNG.uniform(-1, 1, (40, 3)) * [49, 49, 1500]


def test_visibilities_are_those_of_the_measurement_equation(x64):
    weights = RNG.uniform(size=40)
    telescope = RadioInterferometer(UVW, SHAPE, PIXEL, weights)
    assert relative(telescope(IMAGE), weights * measurement_equation(UVW, IMAGE)) < 2e-12
    check_adjoint(telescope)
    # And w matters.
    flat = RadioInterferometer(UVW[:, :2], SHAPE, PIXEL, weights)
    assert relative(flat(IMAGE), weights * measurement_equation(UVW, IMAGE)) > 0.1
    points = 2 * np.pi * PIXEL * UVW[:, [1, 0]]
    assert relative(flat(IMAGE), weights * direct_sum(points, IMAGE)) < 1e-12


def test_visibilities_in_single_precision():
    telescope = RadioInterferometer(UVW, SHAPE, PIXEL)
    y = telescope(IMAGE.astype(np.float32))
    assert y.dtype == np.complex64
    assert relative(y, measurement_equation(UVW, IMAGE)) < 3e-6
    check_adjoint(telescope)
    assert telescope.adjoint(y).dtype == np.float32


def test_a_single_plane_of_w_and_a_batch(x64):
    uvw = UVW * [1, 1, 0] + [0, 0, 700.0]
    telescope = RadioInterferometer(uvw, SHAPE, PIXEL)
    found = telescope(np.stack([IMAGE, 2 * IMAGE]))
    assert relative(found[1], 2 * measurement_equation(uvw, IMAGE)) < 2e-12


def test_a_telescope_behind_a_blur(x64):
    operator = Composition(RadioInterferometer(UVW[:, :2], SHAPE, PIXEL), Blur(np.ones((3, 3)) / 9, SHAPE))
    check_adjoint(operator)
    assert operator.out_structure().shape == (40,)
