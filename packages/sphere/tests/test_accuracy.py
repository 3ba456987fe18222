"""Accuracy: round trips to high bandlimits, high spins, float32, HEALPix, and rotations, against ducc0."""

import itertools

import ducc0
import healpy as hp
import jax
import numpy as np
import pytest

from armillary.sphere import (
    SHT,
    ClenshawCurtis,
    DriscollHealy,
    GaussLegendre,
    Healpix,
    McEwenWiaux,
    McEwenWiauxSS,
    alm_to_healpy,
    rotate_alm,
    spin_to_eb,
)

pytestmark = pytest.mark.usefixtures("x64")


def random_alm(L, spin, real):
    rng = np.random.default_rng(0)
    shape = (L, 2 * L - 1)
    degree, order = np.arange(L)[:, None], np.arange(1 - L, L)
    alm = (rng.normal(size=shape) + 1j * rng.normal(size=shape)) * ((abs(order) <= degree) & (degree >= abs(spin)))
    return (alm + (-1.0) ** order * alm[..., ::-1].conj()) / 2 if real else alm


EXACT = [GaussLegendre, McEwenWiaux, McEwenWiauxSS, DriscollHealy, ClenshawCurtis]
SLOW = [(512, GaussLegendre, 0), (512, McEwenWiaux, 2), (512, ClenshawCurtis, 0)]


@pytest.mark.parametrize(
    ("kind", "L", "spin"),
    [
        (McEwenWiaux, 128, 0),
        (McEwenWiauxSS, 65, 2),
        pytest.param(DriscollHealy, 64, 0, marks=pytest.mark.exhaustive),
        *(
            pytest.param(kind, L, spin, marks=pytest.mark.slow if (L, kind, spin) in SLOW else pytest.mark.exhaustive)
            for L, kind, spin in itertools.product((512, 2048), EXACT, (0, 2))
        ),
    ],
)
def test_round_trip(kind, L, spin):
    sht = SHT(kind(L), spin=spin, real=spin == 0, backend="jax")
    alm = random_alm(L, spin, spin == 0)
    back = sht.analysis(sht.synthesis(alm))
    assert float(abs(back - alm).max() / abs(alm).max()) < 1e-11


@pytest.mark.parametrize(
    ("kind", "spin"),
    [
        pytest.param(kind, spin, marks=pytest.mark.slow if (512, kind, spin) in SLOW[:2] else pytest.mark.exhaustive)
        for kind, spin in itertools.product(EXACT, (0, 2))
    ],
)
def test_float32_at_a_high_bandlimit(kind, spin):
    L = 512
    sht = SHT(kind(L), spin=spin, real=spin == 0, backend="jax")
    alm = random_alm(L, spin, spin == 0)
    exact = np.asarray(sht.synthesis(alm))
    with jax.enable_x64(False):
        f = sht.synthesis(alm.astype(np.complex64))
        back = np.asarray(sht.analysis(f))
    assert f.dtype == (np.complex64 if spin else np.float32)
    assert abs(np.asarray(f) - exact).max() < 2e-5 * abs(exact).max()
    assert abs(back - alm).max() < 2e-5 * abs(alm).max()


@pytest.mark.parametrize(
    "spin",
    [
        20,
        *(pytest.param(s, marks=pytest.mark.slow if s in (0, 2, 7) else pytest.mark.exhaustive) for s in range(20)),
    ],
)
def test_high_spins_against_ducc(spin):
    L = 256
    sht = SHT(GaussLegendre(L), spin=spin, real=spin == 0, backend="jax")
    alm = random_alm(L, spin, spin == 0)
    f = np.asarray(sht.synthesis(alm))
    maps = ducc_maps(sht.grid, alm, spin)
    assert abs(f - maps).max() < 1e-11 * abs(maps).max()
    assert abs(np.asarray(sht.analysis(f)) - alm).max() < 1e-11 * abs(alm).max()


@pytest.mark.parametrize(
    "nside",
    [16, *(pytest.param(n, marks=pytest.mark.exhaustive if n < 256 else pytest.mark.slow) for n in (32, 64, 128, 256))],
)
def test_healpix_of_spin_2_against_ducc(nside):
    sht = SHT(Healpix(nside), spin=2, backend="jax")
    alm = random_alm(sht.L, 2, False)
    f = np.asarray(sht.synthesis(alm))
    maps = ducc_maps(sht.grid, alm, 2)
    assert np.linalg.norm(f - maps) < 1e-11 * np.linalg.norm(maps)
    assert abs(f - maps).max() < 1e-11 * abs(maps).max()


@pytest.mark.slow
def test_rotation_of_degrees_whose_matrices_underflow():
    """Above a bandlimit of about 960 some matrix elements are kept with a scale of their own."""
    L = 1010
    rng = np.random.default_rng(0)
    triangle = np.zeros(L * (L + 1) // 2, complex)
    top = hp.Alm.getidx(L - 1, np.full(L, L - 1), np.arange(L))
    triangle[top] = rng.normal(size=L) + 1j * rng.normal(size=L) * (np.arange(L) > 0)
    dense = np.zeros((L, 2 * L - 1), complex)
    dense[-1, L - 1 :] = triangle[top]
    dense[-1, : L - 1] = ((-1.0) ** np.arange(1, L) * triangle[top][1:].conj())[::-1]
    found = rotate_alm(dense, 0.3, 1.1, -2.2)
    expected = ducc0.sht.rotate_alm(triangle, L - 1, -2.2, 1.1, 0.3)
    np.testing.assert_allclose(alm_to_healpy(found), expected, atol=1e-12)


def ducc_maps(grid, alm, spin):
    """The synthesis by ducc0 itself: of E and B for a spin."""
    L = alm.shape[-2]
    m = np.concatenate([np.full(L - k, k) for k in range(L)])
    degree = np.concatenate([np.arange(k, L) for k in range(L)])
    parts = np.asarray(spin_to_eb(alm, spin)) if spin else alm[None]
    nphi = grid.nphi
    starts = np.concatenate([[0], np.cumsum(nphi)[:-1]])
    maps = ducc0.sht.synthesis(
        alm=np.ascontiguousarray(parts[:, degree, L - 1 + m]),
        theta=grid.theta,
        phi0=grid.phi0,
        nphi=nphi.astype(np.uint64),
        ringstart=starts.astype(np.uint64),
        spin=spin,
        lmax=L - 1,
    )
    return (maps[0] + 1j * maps[1] if spin else maps[0]).reshape(grid.shape)
