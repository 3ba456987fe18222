"""Wavelets against explicit sums and s2wav's numbers, their exactness, and the laws of the transforms."""

import itertools

import jax
import jax.numpy as jnp
import mpmath
import numpy as np
import pytest

from armillary.core.testing import Case, check_transform
from armillary.sphere import (
    SHT,
    GaussLegendre,
    Healpix,
    WaveletCoefficients,
    Wavelets,
    WignerTransform,
    alm_from_real,
    rotate_alm,
)
from armillary.sphere._filters import generator

pytestmark = pytest.mark.usefixtures("quick_compilation")

KINDS = ["axisymmetric", "directional", "curvelet", "ridgelet", "needlet"]
#: Wavelets of every kind, and directional ones with every N.
EVERY = [("directional", N) for N in range(1, 7)] + [(kind, 1) for kind in KINDS if kind != "directional"]


def coefficients(L, spin=0, real=False, seed=0, batch=()):
    rng = np.random.default_rng(seed)
    if real:
        return alm_from_real(rng.normal(size=(*batch, L * L)))
    degree, order = np.arange(L)[:, None], np.arange(1 - L, L)
    alm = rng.normal(size=(*batch, L, 2 * L - 1)) + 1j * rng.normal(size=(*batch, L, 2 * L - 1))
    return jnp.asarray(alm * ((abs(order) <= degree) & (degree >= abs(spin))))


def in_the_range(wavelets, alm):
    """The part of a field that is not in the null space of the Radon transform."""
    if wavelets.kind != "ridgelet":
        return alm
    return alm * ((np.arange(wavelets.L) + wavelets.spin) % 2 == 0)[:, None]


def like(tree, seed=0):
    rng = np.random.default_rng(seed)

    def draw(x):
        noise = rng.normal(size=x.shape)
        return jnp.asarray(noise + 1j * rng.normal(size=x.shape) if jnp.iscomplexobj(x) else noise, x.dtype)

    return jax.tree.map(draw, tree)


def inner(a, b):
    return sum(np.vdot(x, y) for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True))


def largest(tree):
    return max(float(abs(x).max()) for x in jax.tree.leaves(tree))


def difference(a, b):
    return largest(jax.tree.map(lambda x, y: np.asarray(x) - np.asarray(y), a, b))


# The filters.


@pytest.mark.parametrize("lam", [1.3, 2.0, 3.0])
@pytest.mark.parametrize("kind", KINDS)
def test_admissible(kind, lam):
    for L, J_min in ((1, 0), (2, 0), (33, 1), (512, 2)):
        wavelets = Wavelets(L, lam=lam, J_min=min(J_min, Wavelets(L, lam=lam).J), kind=kind)
        kappa, _, scaling = wavelets.filters
        assert kappa.shape == (wavelets.J - wavelets.J_min + 1, L)
        assert abs(scaling**2 + (kappa**2).sum(axis=0) - 1).max() < 1e-14


@pytest.mark.parametrize(("kind", "N"), EVERY)
@pytest.mark.parametrize("spin", [0, 1, -2])
def test_directions_are_normalised(kind, N, spin):
    zeta = Wavelets(64, N, spin=spin, real=False, kind=kind).filters.directionality
    assert zeta.shape == (64, 127 if kind == "curvelet" else 2 * N - 1)
    power = (abs(zeta) ** 2).sum(axis=1)
    assert power[0] == 0
    assert abs(power[1:] - 1).max() < 1e-14


@pytest.mark.parametrize("lam", [1.3, 2.0, 3.0])
@pytest.mark.parametrize("needlet", [False, True])
def test_generator_is_the_integral(lam, needlet):
    def bump(u):
        v = 2 * lam / (mpmath.mpf(lam) - 1) * (u - 1 / mpmath.mpf(lam)) - 1
        return mpmath.exp(-(1 if needlet else 2) / (1 - v * v)) / (1 if needlet else u)

    t = np.linspace(1 / lam, 1, 9)[1:-1]
    with mpmath.workdps(25):
        whole = mpmath.quad(bump, mpmath.linspace(1 / mpmath.mpf(lam), 1, 9))
        expected = [float(mpmath.quad(bump, mpmath.linspace(x, 1, 9)) / whole) for x in t]
    np.testing.assert_allclose(generator(t, lam, needlet), expected, rtol=1e-13, atol=1e-15)
    np.testing.assert_array_equal(generator(np.array([0, 0.9 / lam, 1, 2]), lam, needlet), [1, 1, 0, 0])


# Coefficients.


def wavelet_at(wavelets, j, alpha, beta, gamma):
    r"""The harmonic coefficients of a rotated wavelet, from :math:`\sqrt{(2l+1)/8 \pi^2}\, \kappa \zeta`."""
    L = wavelets.L
    zeta = wavelets.filters.directionality
    N = (zeta.shape[1] + 1) // 2
    psi = np.zeros((L, 2 * L - 1), complex)
    norm = np.sqrt((2 * np.arange(L) + 1) / (8 * np.pi**2)) * wavelets.filters.kappa[j - wavelets.J_min]
    psi[:, L - N : L + N - 1] = norm[:, None] * zeta
    return rotate_alm(psi, alpha, beta, gamma)


@pytest.mark.parametrize(("kind", "N", "spin"), [("directional", 3, 0), ("directional", 4, -2), ("curvelet", 1, 1)])
def test_coefficients_are_correlations(x64, kind, N, spin):
    """With the field, of the wavelet rotated to the point and the direction; steered ones of the wavelet turned."""
    wavelets = Wavelets(9, N, spin=spin, real=False, kind=kind, backend="ducc")
    alm = coefficients(9, spin)
    c = wavelets.analysis(alm)
    turn = 0.7
    steered = wavelets.steer(c, turn)
    for j in (1, 2, wavelets.J):
        grid, maps = wavelets.grids[j], c.wavelets[j]
        for g, t, p in ((0, 1, 2), (1, 0, 0), (len(maps) - 1, grid.shape[0] - 1, 3)):
            gamma = 2 * np.pi * g / len(maps)
            for found, angle in ((maps, gamma), (steered.wavelets[j], gamma + turn)):
                psi = wavelet_at(wavelets, j, grid.phi[p], grid.theta[t], angle)
                expected = np.vdot(psi[abs(spin) :], alm[abs(spin) :])
                assert abs(found[g, t, p] - expected) < 1e-12 * largest(maps)


def test_steering_by_a_whole_step_shifts(x64):
    wavelets = Wavelets(16, 3)
    c = wavelets.analysis(coefficients(16, real=True))
    turned = wavelets.steer(c, 2 * np.pi / 5)
    for a, b in zip(c.wavelets, turned.wavelets, strict=True):
        np.testing.assert_allclose(b, np.roll(a, -1, axis=0), atol=1e-13)


def test_curvelets_are_of_orders_l_about_the_axis(x64):
    """Of orders l and -l only, about the axis -x, turned to the pole (Chan et al. 2017, equation 13 on)."""
    L = 10
    for spin in (0, 1, 2):
        zeta = Wavelets(L, spin=spin, real=False, kind="curvelet").filters.directionality.astype(complex)
        back = np.asarray(rotate_alm(zeta, 0.0, -np.pi / 2, 0.0))
        degree = np.arange(1, L)
        np.testing.assert_allclose(abs(back[degree, L - 1 + degree]), np.sqrt(0.5), atol=1e-13)
        ratio = back[degree, L - 1 - degree] / back[degree, L - 1 + degree]
        np.testing.assert_allclose(ratio, (-1.0) ** (degree + spin), atol=1e-12)
        # In phase with each other at -x: e^{i l pi} (-1)**l, the sign of the harmonic of order l.
        phase = back[degree, L - 1 + degree]
        np.testing.assert_allclose(phase / phase[0], np.ones(L - 1), atol=1e-12)


@pytest.mark.parametrize("spin", [0, 1, -2])
def test_ridgelets_are_integrals_over_great_circles(x64, spin):
    """The synthesis of unfiltered coefficients at a pole, and the field on its equator, by the trapezium rule."""
    L = 6
    wavelets = Wavelets(L, spin=spin, real=False, kind="ridgelet", multiresolution=False)
    alm = coefficients(L, spin)
    alpha, beta = wavelets.scaling_grid.phi[3], wavelets.scaling_grid.theta[2]
    # Turned so that the pole of the circle is the north pole; Gauss-Legendre with odd L has the equator for a ring.
    turned = np.zeros((7, 13), complex)
    turned[:L, 1:-1] = rotate_alm(alm, 0.0, -beta, -alpha)
    equator = SHT(GaussLegendre(7), spin=spin).synthesis(turned)[3]
    expected = complex(equator.mean() * 2 * np.pi)
    # Filters that sum to 1: the axisymmetric wavelets' own synthesis.
    c = wavelets.analysis(alm)
    radon = Wavelets(L, real=False, multiresolution=False).synthesis(c)
    found = SHT(GaussLegendre(L)).synthesis(radon)[2, 3]
    assert abs(found - expected) < 1e-12 * abs(alm).max()


@pytest.mark.parametrize(
    ("kind", "N", "real"), [("directional", 3, True), ("directional", 2, False), ("needlet", 1, True)]
)
def test_tight_frame(x64, kind, N, real):
    wavelets = Wavelets(16, N, real=real, kind=kind)
    alm = coefficients(16, real=real)
    c = wavelets.analysis(alm)
    energy = float((wavelets.scaling_grid.weights[:, None] * abs(c.scaling) ** 2).sum())
    for maps, grid in zip(c.wavelets, wavelets.grids, strict=True):
        energy += float((grid.weights[:, None] * abs(maps) ** 2).sum() * 2 * np.pi / len(maps))
    np.testing.assert_allclose(energy, (abs(alm) ** 2).sum(), rtol=1e-13)


#: Coefficients of s2wav 1.0.4 (with s2fft 1.5.0), as it is installed: `analysis(f, L=32, N, J_min=0, lam=2.0, spin=0,
#: sampling="mw", reality=True)` with `filters_directional_vectorised(32, N, 0, 2.0)`, of the real field whose
#: coefficients in the real layout are cos(i), i from 0 to 1023. For each N and scale the entries [0, 1, 2],
#: [-1, rings // 2, longitudes // 3] and [directions // 2, rings - 2, -1].
S2WAV = {
    1: [
        [0.040188833352482294, 0.09727979697155882, 0.08026657484913736],
        [-0.028704099900346135, 0.1414726323963788, 0.19418400211671738],
        [0.3194443052389411, 0.038788180319170605, -0.12052376408491941],
        [-0.049969809875608215, 0.3613223065392905, 0.22907408464812523],
        [1.674053487020774, -1.346577470346641, -1.451295766315324],
        [0.7690656616497946, 0.12969144625295312, -0.8754503107823797],
    ],
    3: [
        [0.040188833352482294, 0.09727979697155884, 0.08026657484913738],
        [0.26886118766693035, -0.0644327124941939, 0.1718273306663814],
        [-0.04008303328974258, 0.12156299511313166, 0.08308710990423378],
        [0.020144972965842875, 0.3787509447354409, -0.5282717669756138],
        [-0.4969166552096933, 0.1526565008433894, -1.5396901197472328],
        [-0.252044441739111, 1.0806636657801518, -0.0858949879590385],
    ],
}


def s2wav_k(t, lam=2.0, steps=300):
    """The generating function as s2wav integrates it: trapezia, without those at the ends of the bump."""

    def integral(a):
        u = np.linspace(a, 1.0, steps + 1)
        with np.errstate(divide="ignore"):
            bump = np.exp(-2 / (1 - (2 * lam / (lam - 1) * (u - 1 / lam) - 1) ** 2)) / u
        end = (u == 1 / lam) | (u == 1)
        return ((bump[1:] + bump[:-1]) / 2 * np.diff(u) * ~(end[1:] | end[:-1])).sum()

    inside = [integral(x) / integral(1 / lam) if 1 / lam <= x < 1 else 0.0 for x in t]
    return np.where(t < 1 / lam, 1, inside)


@pytest.mark.parametrize("N", [1, 3])
def test_coefficients_are_those_of_s2wav(x64, N):
    """Once every degree is scaled from our filter to its, which has an error of quadrature of up to 4e-5."""
    L = 32
    wavelets = Wavelets(L, N, grid="mw")
    alm = alm_from_real(np.cos(np.arange(L * L)))
    degree = np.arange(L)
    for j, numbers in enumerate(S2WAV[N]):
        theirs = np.sqrt(np.maximum(s2wav_k(degree / 2.0 ** (j + 1)) - s2wav_k(degree / 2.0**j), 0))
        ours = wavelets.filters.kappa[j]
        assert abs(ours - theirs).max() < 5e-5
        ratio = np.where(ours > 0, theirs / np.where(ours > 0, ours, 1), 0)
        maps = wavelets.analysis(alm * ratio[:, None]).wavelets[j]
        directions, rings, longitudes = maps.shape
        found = [
            maps[0, 1, 2],
            maps[-1, rings // 2, longitudes // 3],
            maps[directions // 2, rings - 2, longitudes - 1],
        ]
        np.testing.assert_allclose(found, numbers, atol=1e-11)


# Exactness.


def reconstructions():
    """Of every kind a real field at once; of a spin, and without multiresolution, most elsewhere."""
    for kind, N in EVERY:
        yield pytest.param(kind, N, 0, True, True)
        for spin, real, multiresolution in ((0, True, False), (0, False, True), (2, False, True), (-1, False, False)):
            quick = (kind, N, spin) in (("directional", 2, -1), ("directional", 3, 2), ("ridgelet", 1, -1))
            marks = () if quick else pytest.mark.slow if N in (1, 6) and spin == 2 else pytest.mark.exhaustive
            yield pytest.param(kind, N, spin, real, multiresolution, marks=marks)


@pytest.mark.parametrize(("kind", "N", "spin", "real", "multiresolution"), list(reconstructions()))
def test_reconstruction(x64, kind, N, spin, real, multiresolution):
    wavelets = Wavelets(7, N, spin=spin, real=real, multiresolution=multiresolution, kind=kind, backend="ducc")
    alm = in_the_range(wavelets, coefficients(7, spin, real))
    c = wavelets.analysis(alm)
    assert jax.tree.map(jnp.shape, c) == jax.tree.map(lambda x: x.shape, wavelets.out_structure())
    np.testing.assert_allclose(wavelets.synthesis(c), alm, atol=1e-13)


@pytest.mark.parametrize("grid", ["gl", "mw", "mwss", "dh", "cc"])
@pytest.mark.parametrize(("J_min", "lam"), [(2, 1.4), (1, 3.0)])
def test_reconstruction_on_every_grid(x64, grid, J_min, lam):
    wavelets = Wavelets(9, 3, J_min, lam, grid=grid, backend="ducc")
    alm = coefficients(9, real=True)
    np.testing.assert_allclose(wavelets.synthesis(wavelets.analysis(alm)), alm, atol=1e-13)


def test_reconstruction_in_jax(x64):
    wavelets = Wavelets(5, 2, backend="jax")
    alm = coefficients(5, real=True)
    np.testing.assert_allclose(wavelets.synthesis(wavelets.analysis(alm)), alm, atol=1e-13)
    np.testing.assert_allclose(difference(wavelets.analysis(alm), Wavelets(5, 2).analysis(alm)), 0, atol=1e-13)


def high_bandlimits():
    cases = [
        (512, "directional", 3, 0),
        (512, "directional", 6, 0),
        (512, "directional", 6, 2),
        (512, "needlet", 1, 0),
        (512, "axisymmetric", 1, 2),
        (512, "ridgelet", 1, 2),
        (128, "curvelet", 1, 0),
        (64, "curvelet", 1, 2),
    ]
    for case, multiresolution in itertools.product(cases, (True, False)):
        slow = multiresolution and case != (128, "curvelet", 1, 0)
        yield pytest.param(*case, multiresolution, marks=pytest.mark.slow if slow else pytest.mark.exhaustive)


@pytest.mark.parametrize(("L", "kind", "N", "spin", "multiresolution"), list(high_bandlimits()))
def test_reconstruction_at_high_bandlimits(x64, L, kind, N, spin, multiresolution):
    wavelets = Wavelets(L, N, spin=spin, real=spin == 0, multiresolution=multiresolution, kind=kind)
    alm = in_the_range(wavelets, coefficients(L, spin, spin == 0))
    error = np.linalg.norm(wavelets.synthesis(wavelets.analysis(alm)) - alm) / np.linalg.norm(alm)
    print(f"{kind} N={N} L={L} spin {spin} multiresolution {multiresolution}: {error:.1e}")
    assert error < 1e-12


def test_reconstruction_on_healpix_by_iterations(x64):
    wavelets = Wavelets(8, 3, grid="healpix")
    assert wavelets.grids[-1] == Healpix(4)
    alm = coefficients(8, real=True)
    c = wavelets.analysis(alm)
    errors = [float(abs(wavelets.synthesis(c, iterations=k) - alm).max()) for k in (0, 8)]
    assert errors[0] > 1e-3
    assert errors[1] < 1e-6


@pytest.mark.parametrize(("N", "spin", "real"), [(3, 2, False), pytest.param(2, 0, True, marks=pytest.mark.slow)])
def test_rotating_the_field_rotates_the_coefficients(x64, N, spin, real):
    """As functions on the rotation group: by the Wigner coefficients, order by order in n."""
    angles = 0.4, 1.1, -2.0
    wavelets = Wavelets(5, N, spin=spin, real=real)
    alm = coefficients(5, spin, real)
    c, turned = wavelets.analysis(alm), wavelets.analysis(rotate_alm(alm, *angles))
    for a, b, grid in zip(c.wavelets, turned.wavelets, wavelets.grids, strict=True):
        so3 = WignerTransform(grid.L, (len(a) + 1) // 2, grid, real)
        expected = rotate_alm(so3.analysis(a), *angles)
        np.testing.assert_allclose(so3.analysis(b), expected, atol=1e-13 * max(1, abs(expected).max()))


# Laws.


@pytest.mark.parametrize(
    ("kind", "N", "spin", "real", "grid"),
    [
        ("directional", 2, 0, True, "gl"),
        ("directional", 3, 0, True, "healpix"),
        ("directional", 2, -2, False, "mw"),
        ("curvelet", 1, 0, True, "dh"),
        ("curvelet", 1, 1, False, "gl"),
        ("ridgelet", 1, 0, True, "cc"),
        ("ridgelet", 1, 2, False, "healpix"),
    ],
)
def test_adjoints(x64, kind, N, spin, real, grid):
    wavelets = Wavelets(6, N, spin=spin, real=real, grid=grid, kind=kind)
    alm, c = coefficients(6, seed=1), like(wavelets.analysis(coefficients(6)))
    for left, right in (
        (inner(wavelets.analysis(alm), c), inner(alm, wavelets.adjoint_analysis(c))),
        (inner(wavelets.synthesis(c, 1), alm), inner(c, wavelets.adjoint_synthesis(alm, 1))),
    ):
        assert abs((left - right).real if real else left - right) < 1e-12 * abs(left)


@pytest.mark.parametrize(("N", "spin", "real"), [(3, 0, True), (2, 1, False)])
def test_derivatives(x64, N, spin, real):
    wavelets = Wavelets(4, N, spin=spin, real=real, backend="ducc")
    alm = coefficients(4, spin, real)
    c = like(wavelets.analysis(alm))
    tangent = jax.jvp(wavelets.analysis, (alm,), (2 * alm,))[1]
    assert difference(tangent, wavelets.analysis(2 * alm)) < 1e-13
    pulled = jax.vjp(wavelets.analysis, alm)[1](jax.tree.map(jnp.conj, c))[0].conj()
    np.testing.assert_allclose(pulled, wavelets.adjoint_analysis(c), atol=1e-12)
    pulled = jax.tree.map(jnp.conj, jax.vjp(wavelets.synthesis, c)[1](alm.conj())[0])
    assert difference(pulled, wavelets.adjoint_synthesis(alm)) < 1e-12


def test_batches(x64):
    wavelets = Wavelets(8, 3, backend="ducc")
    alm = coefficients(8, real=True, batch=(2, 3))
    c = wavelets.analysis(alm)
    assert c.scaling.shape == (2, 3, 1, 1)
    one = wavelets.analysis(alm[1, 2])
    assert difference(jax.tree.map(lambda x: x[1, 2], c), one) < 1e-13
    assert difference(jax.vmap(jax.vmap(wavelets.analysis))(alm), c) < 1e-13
    np.testing.assert_allclose(jax.vmap(wavelets.synthesis)(c), wavelets.synthesis(c), atol=1e-13)
    steered = jax.vmap(wavelets.steer, (None, 0))(one, jnp.array([0.0, 0.3]))
    assert difference(jax.tree.map(lambda x: x[1], steered), wavelets.steer(one, 0.3)) < 1e-13


def test_static_and_traced_once(x64):
    traced = []

    @jax.jit
    def f(wavelets, alm):
        traced.append(wavelets)
        return wavelets.synthesis(wavelets.analysis(alm))

    alm = coefficients(8, real=True)
    for _ in range(2):
        np.testing.assert_allclose(f(Wavelets(8, 2), alm), alm, atol=1e-13)
    assert len(traced) == 1
    assert Wavelets(8, np.int64(2), lam=2) == Wavelets(8, 2)


@pytest.mark.parametrize("backend", ["jax", "ducc"])
def test_single_precision(backend):
    wavelets = Wavelets(5, 2, backend=backend, J_min=1)
    alm = alm_from_real(np.random.default_rng(0).normal(size=25).astype(np.float32))
    c = wavelets.analysis(alm)
    assert {x.dtype for x in jax.tree.leaves(c)} == {np.dtype(np.float32)}
    back = wavelets.synthesis(c)
    assert back.dtype == np.complex64
    assert float(abs(back - alm).max()) < 1e-5
    with jax.enable_x64(True):
        exact = jax.tree.map(np.asarray, wavelets.analysis(np.asarray(alm, np.complex128)))
    assert difference(c, exact) < 1e-5 * largest(exact)
    assert wavelets.steer(c, 0.3).wavelets[0].dtype == np.float32


@pytest.mark.parametrize(("N", "spin", "real"), [(2, 0, True), pytest.param(3, 1, False, marks=pytest.mark.exhaustive)])
def test_conformance(N, spin, real):
    wavelets = Wavelets(4, N, J_min=1, spin=spin, real=real)
    with jax.enable_x64(True):
        example = np.asarray(coefficients(4, spin, real), np.complex64)
    check_transform(Case(wavelets, example=jnp.asarray(example)))


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"L": 0}, r"L=0: .* an integer of 1 or more"),
        ({"L": 8, "N": 9}, r"N=9: .* an integer from 1 to 8"),
        ({"L": 8, "N": 2, "kind": "needlet"}, r"N=2: .*kind='needlet'.* from 1 to 1"),
        ({"L": 8, "kind": "haar"}, r"kind='haar': one of 'axisymmetric'"),
        ({"L": 8, "lam": 1.0}, r"lam=1.0: .* above 1"),
        ({"L": 8, "J_min": 4}, r"J_min=4: the largest scale at L=8, lam=2.0 is an integer from 0 to 3"),
        ({"L": 8, "grid": "fibonacci"}, r"grid='fibonacci': one of 'gl'"),
        ({"L": 8, "spin": 8, "real": False}, r"spin=8: .* from -7 to 7"),
        ({"L": 8, "spin": 2}, r"real=True with spin=2"),
        ({"L": 8, "multiresolution": None}, r"multiresolution=None: True or False"),
        ({"L": 8, "backend": "c"}, r"backend='c': one of"),
    ],
)
def test_bad_arguments(kwargs, message):
    with pytest.raises(ValueError, match=message):
        Wavelets(**kwargs)


def test_bad_arrays():
    wavelets = Wavelets(4, 2)
    c = wavelets.analysis(np.zeros((4, 7), np.complex64))
    with pytest.raises(ValueError, match=r"alm has shape \(4, 4\): \(\.\.\., 4, 7\) is needed"):
        wavelets.analysis(np.zeros((4, 4), np.complex64))
    with pytest.raises(ValueError, match=r"coefficients are not .* a tuple of 3 arrays"):
        wavelets.synthesis(WaveletCoefficients(c.scaling, c.wavelets[:2]))
    with pytest.raises(ValueError, match=r"wavelets\[1\] has shape \(3, 4\)"):
        wavelets.synthesis(WaveletCoefficients(c.scaling, (c.wavelets[0], jnp.zeros((3, 4)), c.wavelets[2])))
    with pytest.raises(ValueError, match=r"leading axes \[\(\), \(2,\)\]"):
        wavelets.synthesis(WaveletCoefficients(jnp.zeros((2, 1, 1)), c.wavelets))
    with pytest.raises(ValueError, match=r"angle has shape \(2,\)"):
        wavelets.steer(c, jnp.zeros(2))
