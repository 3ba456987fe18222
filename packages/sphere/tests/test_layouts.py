import math

import ducc0
import healpy as hp
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from armillary.sphere import SHT, GaussLegendre, alm_from_real
from armillary.sphere._coefficients import cross_spectrum, eb_to_spin, power_spectrum, spin_to_eb
from armillary.sphere._healpy import alm_from_healpy, alm_to_healpy

pytestmark = pytest.mark.usefixtures("quick_compilation")


def real_field(*shape, seed=0):
    """Coefficients of real fields; `shape` ends in L."""
    *batch, L = shape
    return np.asarray(alm_from_real(np.random.default_rng(seed).normal(size=(*batch, L * L))))


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("L", [1, 2, 7])
def test_healpy_layout(L):
    alm = real_field(2, 3, L)
    triangle = alm_to_healpy(alm)
    degree, order = hp.Alm.getlm(L - 1)
    np.testing.assert_array_equal(triangle, alm[..., degree, L - 1 + order])
    np.testing.assert_array_equal(alm_from_healpy(triangle), alm)


@pytest.mark.usefixtures("x64")
def test_healpy_layout_of_another_bandlimit():
    alm = real_field(5)
    wider = alm_from_healpy(alm_to_healpy(alm), 7)
    np.testing.assert_array_equal(wider[:5, 2:11], alm)
    assert abs(wider).sum() == pytest.approx(abs(alm).sum())
    np.testing.assert_array_equal(alm_from_healpy(alm_to_healpy(alm), 3), alm[:3, 2:7])


@pytest.mark.usefixtures("x64")
def test_healpy_layout_is_what_healpy_synthesises():
    nside, L = 4, 8
    alm = real_field(L)
    theta, phi = hp.pix2ang(nside, np.arange(12 * nside**2))
    values = ducc0.sht.synthesis_general(
        alm=np.asarray(alm_to_healpy(alm))[None],
        spin=0,
        lmax=L - 1,
        loc=np.stack([theta, phi], axis=1),
        epsilon=1e-12,
    )[0]
    np.testing.assert_allclose(hp.alm2map(np.asarray(alm_to_healpy(alm)), nside), values, atol=1e-10)
    # A triangle with imaginary parts at m = 0, which healpy does not look at either.
    triangle = np.random.default_rng(1).normal(size=(L * (L + 1) // 2, 2)) @ [1, 1j]
    np.testing.assert_allclose(
        hp.alm2map(np.asarray(alm_to_healpy(alm_from_healpy(triangle))), nside), hp.alm2map(triangle, nside), atol=1e-12
    )


@pytest.mark.usefixtures("x64")
def test_layouts_are_differentiable_and_batch():
    alm = real_field(3, 4)
    np.testing.assert_array_equal(jax.vmap(alm_to_healpy)(alm), alm_to_healpy(alm))
    triangle = alm_to_healpy(alm)
    np.testing.assert_array_equal(jax.jit(jax.vmap(alm_from_healpy))(triangle), alm_from_healpy(triangle))
    check_grads(jax.jit(lambda x: (abs(alm_from_healpy(x, 5)) ** 2).sum()), (triangle,), order=1)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("spin", [1, 2, 3])
def test_spin_fields_are_those_of_ducc(spin):
    L = 8
    e, b = real_field(2, L)
    grid = GaussLegendre(L)
    triangles = np.stack([alm_to_healpy(e), alm_to_healpy(b)])
    q, u = ducc0.sht.synthesis_2d(alm=triangles, spin=spin, lmax=L - 1, geometry="GL", ntheta=L, nphi=2 * L - 1)
    f = SHT(grid, spin=spin).synthesis(eb_to_spin(e, b, spin))
    np.testing.assert_allclose(f, q + 1j * u, atol=1e-12)
    conjugate = SHT(grid, spin=-spin).synthesis(eb_to_spin(e, b, -spin))
    np.testing.assert_allclose(conjugate, q - 1j * u, atol=1e-12)


def spin_harmonic(degree, m, s, theta, phi):
    """The definition: Goldberg et al. 1967, equation 3.1, in the Condon-Shortley phase."""
    f, n = math.factorial, degree
    norm = f(n + m) * f(n - m) * (2 * n + 1) / (f(n + s) * f(n - s) * 4 * np.pi)
    total = sum(
        math.comb(n - s, r) * math.comb(n + s, r + s - m) * (-1.0) ** (n - r - s) / np.tan(theta / 2) ** (2 * r + s - m)
        for r in range(max(0, m - s), min(n - s, n + m) + 1)
    )
    return (-1.0) ** m * np.sqrt(norm) * np.sin(theta / 2) ** (2 * n) * total * np.exp(1j * m * phi)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("spin", [1, 2, 3])
def test_spin_fields_are_those_of_healpy_and_of_the_definition(spin):
    nside, L = 4, 7
    e, b = real_field(2, L)
    q, u = hp.alm2map_spin([np.asarray(alm_to_healpy(x)) for x in (e, b)], nside, spin, L - 1)
    theta, phi = hp.pix2ang(nside, np.arange(12 * nside**2))
    for s, expected in ((spin, q + 1j * u), (-spin, q - 1j * u)):
        alm = np.asarray(eb_to_spin(e, b, s))
        field = sum(
            alm[n, L - 1 + m] * spin_harmonic(n, m, s, theta, phi) for n in range(spin, L) for m in range(-n, n + 1)
        )
        np.testing.assert_allclose(field, expected, atol=1e-12)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("spin", [-3, 2])
def test_e_and_b_are_inverted_exactly(spin):
    e, b = real_field(2, 3, 6)
    alm = eb_to_spin(e, b[0], spin)
    assert alm.shape == (3, 6, 11)
    again = spin_to_eb(alm, spin)
    np.testing.assert_allclose(again[0], e, atol=1e-15)
    np.testing.assert_allclose(again[1], np.broadcast_to(b[0], e.shape), atol=1e-15)
    rng = np.random.default_rng(3)
    any_field = rng.normal(size=(6, 11)) + 1j * rng.normal(size=(6, 11))
    np.testing.assert_allclose(eb_to_spin(*spin_to_eb(any_field, spin), spin), any_field, atol=1e-15)
    np.testing.assert_array_equal(jax.jit(lambda a: spin_to_eb(a, spin))(alm), again)


@pytest.mark.usefixtures("x64")
def test_cross_spectrum_is_that_of_healpy():
    a, b = real_field(2, 9)
    expected = hp.alm2cl(*(np.asarray(alm_to_healpy(x)) for x in (a, b)))
    np.testing.assert_allclose(cross_spectrum(a, b), expected, rtol=1e-13)
    np.testing.assert_allclose(cross_spectrum(a, a), power_spectrum(a), rtol=1e-14)
    batch = real_field(3, 2, 9, seed=1)
    found = cross_spectrum(batch, jnp.stack([a, b]))
    assert found.shape == (3, 2, 9)
    np.testing.assert_allclose(found[1, 1], cross_spectrum(batch[1, 1], b), rtol=1e-14)
    check_grads(jax.jit(cross_spectrum), (jnp.asarray(a), jnp.asarray(b)), order=1)
    assert np.isfinite(jax.grad(lambda x: cross_spectrum(x, x).sum())(jnp.zeros((3, 5)))).all()


def test_single_precision_and_errors():
    alm = jnp.ones((3, 5), jnp.complex64)
    triangle = alm_to_healpy(alm)
    for x in (triangle, alm_from_healpy(triangle), eb_to_spin(alm, alm), *spin_to_eb(alm)):
        assert x.dtype == jnp.complex64
    assert cross_spectrum(alm, alm).dtype == jnp.float32
    with pytest.raises(ValueError, match=r"alm has shape \(5,\): its last axis is of length k \(k \+ 1\) / 2"):
        alm_from_healpy(jnp.ones(5))
    with pytest.raises(ValueError, match=r"alm has shape \(\)"):
        alm_from_healpy(1.0)
    with pytest.raises(ValueError, match="L=0: the bandlimit"):
        alm_from_healpy(jnp.ones(6), 0)
    with pytest.raises(ValueError, match=r"alm has shape \(3, 4\): \(..., 3, 5\)"):
        alm_to_healpy(jnp.ones((3, 4)))
    with pytest.raises(ValueError, match="spin=0"):
        eb_to_spin(alm, alm, 0)
    with pytest.raises(ValueError, match=r"spin=2\.0"):
        spin_to_eb(alm, 2.0)
    with pytest.raises(ValueError, match=r"b has shape \(4, 7\): \(..., 3, 5\)"):
        eb_to_spin(alm, jnp.ones((4, 7)))
    with pytest.raises(ValueError, match="must broadcast"):
        cross_spectrum(jnp.ones((2, 3, 5)), jnp.ones((3, 3, 5)))
    with pytest.raises(ValueError, match="enable_x64"):
        cross_spectrum(alm, np.ones((3, 5)))
