import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from armillary.core.testing import Case, parametrize_with_checks
from armillary.imaging import DWT, SARA, UndecimatedDWT
from armillary.imaging._dwt_taps import NAMES, scaling_filter

# Shapes with more taps than samples at the last level, blocks that do not divide evenly, and one level or none.
CASES = [((32, 48), "db4", 3), ((16, 16), "sym8", 4), ((2, 4), "db8", 1), ((74, 38), "sym5", 1), ((8, 8), "haar", 3)]


@pytest.fixture
def x64():
    with jax.enable_x64(True):
        yield


def images(shape, batch=(), dtype=np.float64):
    return np.random.default_rng(0).normal(size=(*batch, *shape)).astype(dtype)


def step_matrix(n, wavelet):
    """One level along an axis of n samples, from the definition."""
    h = scaling_filter(wavelet)
    g = [(-1) ** m * h[h.size - 1 - m] for m in range(h.size)]
    matrix = np.zeros((n, n))
    for k in range(n // 2):
        for m in range(h.size):
            matrix[k, (2 * k + m - h.size // 2 + 1) % n] += h[m]
            matrix[n // 2 + k, (2 * k + m - h.size // 2 + 1) % n] += g[m]
    return matrix


def transform(x, wavelet, levels):
    c = x.copy()
    for level in range(levels):
        rows, columns = (n // 2**level for n in x.shape)
        c[:rows, :columns] = step_matrix(rows, wavelet) @ c[:rows, :columns] @ step_matrix(columns, wavelet).T
    return c


@pytest.mark.parametrize("wavelet", NAMES)
def test_taps_are_orthonormal_with_the_vanishing_moments_of_the_name(wavelet):
    h = scaling_filter(wavelet)
    n = 1 if wavelet == "haar" else int(wavelet.lstrip("dbsym"))
    assert h.size == 2 * n
    shifts = [h[2 * k :] @ h[: h.size - 2 * k] for k in range(n)]
    np.testing.assert_allclose(shifts, np.eye(n)[0], atol=5e-16)
    assert abs(h.sum() - np.sqrt(2)) < 5e-16
    alternating = h * (-1.0) ** np.arange(h.size)
    centred = np.linspace(-1, 1, h.size)
    moments = [alternating @ centred**power for power in range(n + 1)]
    np.testing.assert_allclose(moments[:n], 0, atol=1e-15)
    assert abs(moments[n]) > 1e-6  # and no more


def test_db2_is_its_closed_form():
    root = np.sqrt(3)
    expected = np.array([1 + root, 3 + root, 3 - root, 1 - root]) / (4 * np.sqrt(2))
    np.testing.assert_allclose(scaling_filter("db2"), expected, rtol=2e-15)


@pytest.mark.parametrize("wavelet", NAMES)
def test_taps_are_those_of_pywavelets(wavelet):
    pywt = pytest.importorskip("pywt")
    # Its symlets are given to 12 digits.
    np.testing.assert_allclose(scaling_filter(wavelet), pywt.Wavelet(wavelet).rec_lo, atol=5e-12, rtol=0)


@pytest.mark.parametrize(("shape", "wavelet", "levels"), CASES)
def test_dwt_is_the_matrix_of_its_definition(x64, shape, wavelet, levels):
    x = images(shape, (2,))
    dwt = DWT(shape, wavelet, levels)
    c = dwt(x)
    np.testing.assert_allclose(c, [transform(one, wavelet, levels) for one in x], atol=2e-14)
    np.testing.assert_allclose(dwt.inverse(c), x, atol=1e-14)
    np.testing.assert_allclose(dwt.adjoint(c), dwt.inverse(c), atol=0)
    np.testing.assert_allclose(jnp.sum(c**2), np.sum(x**2), rtol=1e-13)


@pytest.mark.parametrize("wavelet", ["db6", "sym4"])
def test_dwt_is_that_of_pywavelets(x64, wavelet):
    pywt = pytest.importorskip("pywt")
    x = images((64, 96))
    expected = pywt.coeffs_to_array(pywt.wavedec2(x, wavelet, "periodization", level=2))[0]
    np.testing.assert_allclose(DWT(x.shape, wavelet, 2)(x), expected, atol=5e-11 if wavelet == "sym4" else 1e-12)


def test_dwt_is_exactly_orthogonal(x64):
    dwt = DWT((8, 8), "db3", 2)
    matrix = np.asarray(dwt(jnp.eye(64).reshape(64, 8, 8))).reshape(64, 64)
    np.testing.assert_allclose(matrix @ matrix.T, np.eye(64), atol=1e-14)


def test_details_of_a_polynomial_vanish(x64):
    # Away from the periodic boundary, at the finest level of rows: sym4 has four vanishing moments.
    rows = np.linspace(-1, 1, 64)[:, None] ** 3 * np.ones((1, 8))
    details = DWT((64, 8), "sym4", 1)(rows)[32:, :4]
    assert np.abs(details[4:-4]).max() < 1e-14
    assert np.abs(details).max() > 0.1


def test_float32_keeps_its_dtype_and_precision(x64):
    x = images((32, 48), dtype=np.float32)
    for frame in (DWT((32, 48), "db8", 2), UndecimatedDWT((32, 48), "db8", 2), SARA((32, 48), 1, ("dirac", "db4"))):
        c = frame(x)
        assert c.dtype == np.float32
        assert frame.inverse(c).dtype == np.float32
        np.testing.assert_allclose(c, frame(x.astype(np.float64)), atol=3e-6)
        np.testing.assert_allclose(frame.inverse(c), x, atol=3e-6)


def test_soft_threshold_is_that_of_the_coefficients(x64):
    x = images((16, 24), (3,))
    dwt = DWT((16, 24), "db2", 2)
    thresholds = np.array([0.1, 0.5, 2.0])
    c = np.asarray(dwt(x))
    expected = dwt.inverse(np.sign(c) * np.maximum(abs(c) - thresholds[:, None, None], 0))
    np.testing.assert_allclose(dwt.soft_threshold(x, thresholds), expected, atol=1e-14)
    assert dwt.soft_threshold(x.astype(np.float32), 0.1).dtype == np.float32


def test_complex_images_are_transformed_by_parts(x64):
    x = images((8, 12)) + 1j * images((8, 12), (2,))[1]
    for real, frame in (
        (DWT((8, 12), "db3", 1), DWT((8, 12), "db3", 1, dtype=np.complex128)),
        (UndecimatedDWT((8, 12), "db3", 1), UndecimatedDWT((8, 12), "db3", 1, dtype=np.complex128)),
    ):
        np.testing.assert_allclose(frame(x), real(x.real) + 1j * real(x.imag), atol=1e-13)
        np.testing.assert_allclose(frame.inverse(frame(x)), x, atol=1e-13)
    # The modulus shrinks and the phase stays.
    dwt = DWT((8, 12), "db3", 1, dtype=np.complex128)
    c = dwt(x)
    found = dwt(dwt.soft_threshold(x, 0.3))
    np.testing.assert_allclose(found, c * np.maximum(1 - 0.3 / abs(c), 0), atol=1e-13)


def undecimated(x, wavelet, levels):
    """With holes in the filters, by shifts of the image."""
    h = scaling_filter(wavelet)
    g = h[::-1] * (-1.0) ** np.arange(h.size)

    def along(x, taps, level, axis):
        shifts = [2**level * (m - h.size // 2 + 1) for m in range(h.size)]
        return sum(t * np.roll(x, -s, axis) for t, s in zip(taps, shifts, strict=True)) / np.sqrt(2)

    details = []
    for level in range(levels):
        both = functools.partial(along, level=level, axis=1)
        low, high = along(x, h, level, 0), along(x, g, level, 0)
        details[:0] = [both(low, g), both(high, h), both(high, g)]
        x = both(low, h)
    return np.stack([x, *details])


@pytest.mark.parametrize(
    ("shape", "wavelet", "levels"), [((12, 9), "db3", 2), ((16, 8), "sym4", 3), ((5, 4), "db1", 0)]
)
def test_undecimated_transform_is_that_by_shifts(x64, shape, wavelet, levels):
    x = images(shape)
    frame = UndecimatedDWT(shape, wavelet, levels)
    c = frame(x)
    assert c.shape == frame.out_structure().shape
    np.testing.assert_allclose(c, undecimated(x, wavelet, levels), atol=1e-13)
    np.testing.assert_allclose(frame.inverse(c), x, atol=1e-13)
    shifted = frame(np.roll(x, (1, 2), (0, 1)))
    np.testing.assert_allclose(shifted, np.roll(c, (1, 2), (1, 2)), atol=1e-13)


def test_sara_is_its_bases_side_by_side(x64):
    x = images((16, 24), (2,))
    sara = SARA((16, 24), 1)
    c = sara(x)
    assert c.shape == (2, 9, 16, 24)
    np.testing.assert_allclose(c[:, 0], x / 3, atol=1e-15)
    for k in (1, 4, 8):
        np.testing.assert_allclose(c[:, k], DWT((16, 24), f"db{k}", 1)(x) / 3, atol=1e-14)
    np.testing.assert_allclose(sara.inverse(c), x, atol=1e-13)
    y = images((9, 16, 24))
    np.testing.assert_allclose(jnp.vdot(sara(x[0]), y), jnp.vdot(x[0], sara.adjoint(y)), rtol=1e-12)
    np.testing.assert_allclose(SARA((4, 4), 1, ("dirac",))(x[0, :4, :4])[0], x[0, :4, :4])
    np.testing.assert_allclose(SARA((4, 4), 1, "db2")(x[0, :4, :4])[0], DWT((4, 4), "db2", 1)(x[0, :4, :4]))


@parametrize_with_checks(
    [
        Case(DWT((4, 8), "db3", 1), id="dwt"),
        Case(UndecimatedDWT((5, 4), "db2", 1), id="undecimated-dwt"),
        Case(SARA((4, 4), 1, ("dirac", "db1", "db3")), id="sara"),
    ]
)
def test_conformance(component, check):
    check(component)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (((8, 8), "db9", 1), r"wavelet='db9': expected haar, db1 to db8, or sym2 to sym8"),
        (((8, 12), "db2", 3), r"levels=3: .* multiples of 8; take at most levels=2"),
        (((8,), "db2", 1), r"shape=\(8,\): expected the shape of an image"),
        (((8, 8), "db2", -1), r"levels=-1: expected a whole number"),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        DWT(*arguments)
    if "levels=3" not in message:
        with pytest.raises(ValueError, match=message):
            UndecimatedDWT(*arguments)


def test_bad_arrays_and_dictionaries():
    dwt = DWT((8, 8), "db2", 1)
    with pytest.raises(ValueError, match=r"x has shape \(8, 4\): \(\.\.\., 8, 8\) is needed"):
        dwt(np.zeros((8, 4)))
    with pytest.raises(ValueError, match=r"y is complex64 and the operator takes real numbers"):
        dwt.adjoint(np.zeros((8, 8), np.complex64))
    with pytest.raises(ValueError, match=r"dtype='int32': expected float32"):
        DWT((8, 8), "db2", 1, dtype="int32")
    with pytest.raises(ValueError, match="wavelets is empty"):
        SARA((8, 8), 1, ())
    with pytest.raises(ValueError, match="wavelet='db0'"):
        SARA((8, 8), 1, ("db1", "db0"))
