import itertools
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from armillary.scatter import Label, ScatteringCovariance
from armillary.sphere import SHT, GaussLegendre, Wavelets, alm_from_real, power_spectrum, rotate_alm

pytestmark = pytest.mark.usefixtures("x64")


def field(L, batch=(), seed=0):
    x = np.random.default_rng(seed).normal(size=(*batch, L * L))
    return alm_from_real(x / (1 + np.repeat(np.arange(L), 2 * np.arange(L) + 1)))


@pytest.fixture(scope="module")
def s2scat():
    # Six outputs of s2scat 0.0.3 at L=32, N=3, J_min=1, isotropic=False for a field of seeded coefficients, orders from
    # 0 up: mean, var, S1 and P00 by scale and direction, C01 by j1, j2, g2, g1, C11 by j1, j2, j3, g2, g3, g1.
    data = dict(np.load(Path(__file__).parent / "data" / "s2scat_32_1.npz"))
    half = data["flm"]
    L = len(half)
    data["alm"] = np.concatenate([((-1.0) ** np.arange(1, L) * half[:, 1:].conj())[:, ::-1], half], axis=1)
    return data


GROUPS = {"mean": "mean", "variance": "var", "s1": "S1", "s2": "P00", "s3": "C01", "s4": "C11"}


def test_numbers_of_s2scat(s2scat):
    s = ScatteringCovariance(32, N=3, J_min=1, isotropic=False, compat="s2scat")(s2scat["alm"])
    for ours, theirs in GROUPS.items():
        np.testing.assert_allclose(getattr(s, ours), s2scat[theirs], rtol=1e-10)
    assert len(s.labels()) == s.ravel().size


def test_numbers_of_s2scat_normalised_and_summed(s2scat):
    # Its normalisation, from its source: C01[j2, g2, g1] by the roots of P00[j1] at g2 and at g1, C11[.., g2, g3, g1]
    # by those at g2 and g3; then, for isotropic=True, the sum over all directions.
    n, scales = 5, range(1, 6)
    P = dict(zip(scales, s2scat["P00"].reshape(5, n), strict=True))
    c01, c11 = iter(s2scat["C01"]), iter(s2scat["C11"])
    s3, s4 = [], []
    for j1 in scales:
        above = range(j1 + 1, 6)
        for _ in above:
            terms = [next(c01) / np.sqrt(P[j1][g2] * P[j1][g1]) for g2 in range(n) for g1 in range(n)]
            s3.append(terms)
        for _ in itertools.product(above, above):
            terms = [next(c11) / np.sqrt(P[j1][g2] * P[j1][g3]) for g2 in range(n) for g3 in range(n) for _ in range(n)]
            s4.append(terms)
    alm = s2scat["alm"]
    s = ScatteringCovariance(32, N=3, J_min=1, isotropic=False, compat="s2scat", reference=alm)(alm)
    np.testing.assert_allclose(s.s1, s2scat["S1"] / np.sqrt(s2scat["P00"]), rtol=1e-10)
    np.testing.assert_allclose(s.s2, 1, rtol=1e-12)
    np.testing.assert_allclose(s.s3, np.ravel(s3), rtol=1e-10)
    np.testing.assert_allclose(s.s4, np.ravel(s4), rtol=1e-10)
    cov = ScatteringCovariance(32, N=3, J_min=1, isotropic=True, compat="s2scat", reference=alm)
    s = cov(alm)
    assert s.s1.shape == (25,)
    np.testing.assert_allclose(s.s3, np.sum(s3, axis=1), rtol=1e-10)
    np.testing.assert_allclose(s.s4, np.sum(s4, axis=1), rtol=1e-10)
    assert len(s.labels()) == s.ravel().size


def two_layers(a, b, L, N, J_min):
    """S1 of a, and S2 to S4 of a and b, of every scale and direction, by wavelet transforms of every modulus."""
    wavelets = Wavelets(L, N=N, J_min=J_min)
    scales = range(J_min, wavelets.J + 1)
    n = 2 * N - 1

    def transform(alm):
        return dict(zip(scales, wavelets.analysis(alm).wavelets, strict=True))

    def mean(j, f):
        return float((f * wavelets.grids[j - J_min].weights[:, None]).sum() / (4 * np.pi))

    keys = list(itertools.product(scales, range(n)))

    def layers(alm):
        first, second = transform(alm), {}
        for j, g in keys:
            grid = wavelets.grids[j - J_min]
            c = SHT(grid, real=True).analysis(abs(first[j][g]))
            more = L - grid.L
            second[j, g] = transform(jnp.pad(c, [(0, more), (more, more)]))
        return first, second

    first, second = layers(a)
    first_b, second_b = (first, second) if b is a else layers(b)
    s1 = {(j, g): mean(j, abs(first[j][g])) for j, g in keys}
    s2 = {(j, g): mean(j, first[j][g] * first_b[j][g]) for j, g in keys}
    s3, s4 = {}, {}
    for j1, g1 in keys:
        above = [key for key in keys if key[0] > j1]
        for key in above:
            s3[(j1, g1), key] = mean(j1, first[j1][g1] * second_b[key][j1][g1])
        for one, other in itertools.product(above, above):
            s4[(j1, g1), one, other] = mean(j1, second[one][j1][g1] * second_b[other][j1][g1])
    return s1, s2, s3, s4


def value(label, references):
    """The coefficient of a label from those of every direction: the mean over those that agree with it."""
    group, scales, directions = label
    n = 1 + max(g for _, g in references[0])
    table = references[int(group[1]) - 1]

    def agrees(key):
        wavelets = [key] if group in ("s1", "s2") else key
        if tuple(j for j, _ in wavelets) != scales:
            return False
        if len(directions) == len(scales):
            return tuple(g for _, g in wavelets) == directions
        if directions:
            return tuple((g - wavelets[0][1]) % n for _, g in wavelets[1:]) == directions
        return True

    found = [x for key, x in table.items() if agrees(key)]
    assert len(found) == {0: n ** len(scales), len(scales): 1, len(scales) - 1: n}[len(directions)]
    return np.mean(found)


@pytest.mark.parametrize("N", [3, pytest.param(2, marks=pytest.mark.exhaustive)])
def test_one_layer_equals_two(N):
    L, J_min = 16, 2
    alm = field(L)
    references = two_layers(alm, alm, L, N, J_min)
    for isotropic in (False, True, "relative"):
        s = ScatteringCovariance(L, N, J_min, isotropic)(alm)
        found = np.asarray(s.ravel())
        size = {"s1": s.s1, "s2": s.s2, "s3": abs(s.s3).max(), "s4": s.s4.max()}
        assert len(s.labels()) == len(found) == len(set(s.labels()))
        for label, x in list(zip(s.labels(), found, strict=True))[2:]:
            expected = value(label, references)
            assert abs(x - expected) < 1e-12 * np.max(size[label.group]), label
    # Divided by the powers of the wavelets of a coefficient.
    other = field(L, seed=1)
    for isotropic in (False, True):
        plain, reference = ScatteringCovariance(L, N, J_min, isotropic), {}
        divided = ScatteringCovariance(L, N, J_min, isotropic, reference=other)(alm)
        powers = plain(other)
        for label, x in zip(powers.labels(), powers.ravel(), strict=True):
            if label.group == "s2":
                reference[label[1:]] = float(x)
        for label, x, y in zip(powers.labels(), plain(alm).ravel(), divided.ravel(), strict=True):
            each = [label.directions[k : k + 1] for k in range(len(label.scales))]
            P = [reference[(j,), g] for j, g in zip(label.scales, each, strict=True)]
            by = {"s1": lambda P: P[0] ** 0.5, "s2": lambda P: P[0]}.get(
                label.group, lambda P: np.sqrt(np.prod(P[-2:])) if P else 1.0
            )
            assert float(y) == pytest.approx(float(x) / by(P), rel=1e-12), label


def test_kernels_equal_maps(monkeypatch):
    # Of an odd bandlimit, and with bands of orders; the second time too large to be stored.
    L = 33
    x = np.random.default_rng(0).normal(size=L * L)

    def function():
        cov = ScatteringCovariance(L, 2, 4, isotropic=False)
        return jax.jit(jax.value_and_grad(lambda x: ((s := cov(alm_from_real(x))).s3 ** 2).sum() + s.s4.sum()))

    value, gradient = function()(x)
    monkeypatch.setattr("armillary.scatter._kernels.LARGEST", 0)
    mapped, mapped_gradient = function()(x)
    assert float(value) == pytest.approx(float(mapped), rel=1e-12)
    np.testing.assert_allclose(gradient, mapped_gradient, atol=1e-12 * abs(mapped_gradient).max())
    assert not np.array_equal(gradient, mapped_gradient)  # they are two computations


def test_two_fields():
    L, N, J_min = 8, 2, 1
    a, b = field(L), field(L, seed=1)
    both = {(0, 1): two_layers(a, b, L, N, J_min), (1, 0): two_layers(b, a, L, N, J_min)}
    mask = np.random.default_rng(0).uniform(size=GaussLegendre(L).shape)
    for isotropic in (False, True, "relative"):
        cov = ScatteringCovariance(L, N, J_min, isotropic)
        s = cov.cross(a, b)
        found, labels = np.asarray(s.ravel()), s.labels()
        assert len(found) == len(labels) == len(set(labels))
        size = {"s2": cov(a).s2.max(), "s3": abs(s.s3).max(), "s4": s.s4.max()}
        # The covariance of the fields, of the variances of their sum and difference.
        assert float(s.covariance) == pytest.approx(float(cov(a + b).variance - cov(a - b).variance) / 4, rel=1e-12)
        for (group, fields, scales, directions), x in list(zip(labels, found, strict=True))[1:]:
            expected = value(Label(group, scales, directions), both[fields])
            assert abs(x - expected) < 1e-12 * size[group], (group, fields, scales, directions)
        # With the same field twice, the numbers of one; divided by a reference, and under a mask.
        for kwargs in ({"reference": b}, {"mask": mask})[: 2 if isotropic is not False else 1]:
            cov = ScatteringCovariance(L, N, J_min, isotropic, **kwargs)
            own, twice = cov(a), cov.cross(a, a)
            assert float(twice.covariance) == pytest.approx(float(own.variance), rel=1e-12)
            np.testing.assert_allclose(twice.s2, own.s2, rtol=1e-12)
            np.testing.assert_allclose(twice.s3, np.tile(own.s3, 2), rtol=1e-9, atol=1e-12)
            values = dict(zip(own.labels(), np.asarray(own.ravel()), strict=True))
            pairs = [(label, x) for label, x in zip(twice.labels(), twice.ravel(), strict=True) if label.group == "s4"]
            met = 0
            for (group, _, scales, directions), x in pairs:
                label = Label(group, scales, directions)
                if label in values:
                    assert float(x) == pytest.approx(values[label], rel=1e-9, abs=1e-12)
                    met += 1
            assert met == own.s4.size
    batch = cov.cross(jnp.stack([a, b]), b)
    np.testing.assert_allclose(batch.ravel()[0], cov.cross(a, b).ravel(), rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(batch.covariance[1], cov(b).variance, rtol=1e-12)


def test_isotropic_is_the_mean_over_directions_when_oversampled():
    L, N = 16, 2
    alm = field(L, seed=3)
    each = ScatteringCovariance(L, N, 2, isotropic=False, oversample=1.5)(alm)
    mean = ScatteringCovariance(L, N, 2, oversample=1.5)(alm)
    values = {}
    for label, x in zip(each.labels(), np.asarray(each.ravel()), strict=True):
        # S4 has each pair of wavelets once: those of the same scale and of two directions stand for two.
        twice = label.group == "s4" and label.scales[1] == label.scales[2] and len(set(label.directions[1:])) == 2
        values.setdefault(label[:2], []).extend([x] * (2 if twice else 1))
    for label, x in zip(mean.labels(), np.asarray(mean.ravel()), strict=True):
        assert x == pytest.approx(np.mean(values[label[:2]]), rel=1e-11), label


def test_power_is_parsevals():
    L = 32
    alm = field(L)
    s2 = ScatteringCovariance(L, 3, 1, isotropic=False)(alm).s2.reshape(5, -1).mean(axis=1)
    kappa = Wavelets(L, J_min=1).filters.kappa
    spectrum = (2 * np.arange(L) + 1) / (4 * np.pi) * power_spectrum(alm)
    np.testing.assert_allclose(s2, (kappa**2 * spectrum).sum(axis=1) / (2 * np.pi), rtol=1e-13)


def test_moments():
    L = 8
    alm = field(L, seed=5)
    s = ScatteringCovariance(L, 1)(alm)
    sht = SHT(Wavelets(2 * L).grids[-1], L, real=True)
    f, weights = sht.synthesis(alm), sht.grid.weights[:, None] / (4 * np.pi)
    assert float(s.mean) == pytest.approx(float((f * weights).sum()), rel=1e-13)
    assert float(s.variance) == pytest.approx(float(((f - s.mean) ** 2 * weights).sum()), rel=1e-13)
    assert float(ScatteringCovariance(L, 1)(-alm).mean) == -float(s.mean)


@pytest.mark.parametrize("isotropic", [False, True])
def test_derivatives_batches_and_types(isotropic):
    L = 8
    x = np.random.default_rng(2).normal(size=(2, L * L))
    cov = ScatteringCovariance(L, 2, 1, isotropic, reference=field(L))

    @jax.jit
    def function(x):
        return cov(alm_from_real(x)).ravel()

    check_grads(function, (x[0],), order=1, modes=["rev"], eps=1e-7, atol=1e-5, rtol=1e-5)
    gradient = jax.jacobian(function)(jnp.zeros(L * L))
    assert np.isfinite(gradient).all()
    np.testing.assert_array_equal(gradient[1:], 0)  # of all but the mean, which is linear
    np.testing.assert_allclose(cov(alm_from_real(x)).ravel(), [function(y) for y in x], rtol=1e-12, atol=1e-13)
    np.testing.assert_allclose(jax.vmap(function)(x), [function(y) for y in x], rtol=1e-12, atol=1e-13)
    passed = jax.jit(lambda cov, alm: cov(alm))(cov, alm_from_real(x[0]))
    np.testing.assert_allclose(passed.ravel(), function(x[0]), rtol=1e-12, atol=1e-13)


def test_single_precision():
    L = 32
    alm = np.asarray(field(L, seed=4))
    double = ScatteringCovariance(L, 3, 1)(alm)
    with jax.enable_x64(False):
        single = ScatteringCovariance(L, 3, 1)(alm.astype(np.complex64))
        assert single.ravel().dtype == np.float32
    for group, x in double.groups().items():
        np.testing.assert_allclose(single.groups()[group], x, rtol=1e-4, err_msg=group)
    assert single.labels() == double.labels()
    # Each direction for itself; many of the covariances are nearly 0.
    alm = np.asarray(field(16, seed=4))
    double = ScatteringCovariance(16, 3, 2, isotropic=False)(alm)
    with jax.enable_x64(False):
        single = ScatteringCovariance(16, 3, 2, isotropic=False)(alm.astype(np.complex64))
        assert single.ravel().dtype == np.float32
    for group, x in double.groups().items():
        np.testing.assert_allclose(single.groups()[group], x, atol=1e-5 * abs(x).max(), err_msg=group)


def test_labels():
    s = ScatteringCovariance(8, 1, 1)(field(8))
    assert s.labels() == (
        Label("mean"),
        Label("variance"),
        *(Label("s1", (j,)) for j in (1, 2, 3)),
        *(Label("s2", (j,)) for j in (1, 2, 3)),
        *(Label("s3", pair) for pair in ((1, 2), (1, 3), (2, 3))),
        *(Label("s4", triple) for triple in ((1, 2, 2), (1, 2, 3), (1, 3, 3), (2, 3, 3))),
    )
    double = jax.tree.map(lambda x: 2 * x, s)
    np.testing.assert_array_equal(double.ravel(), 2 * s.ravel())


def test_spectra():
    L = 8
    a, b = field(L), field(L, seed=1)
    plain = ScatteringCovariance(L, 1, 1)(a)
    s = ScatteringCovariance(L, 1, 1, spectra=True)(a)
    cl = [float((abs(a[d]) ** 2).sum()) / (2 * d + 1) for d in range(L)]
    np.testing.assert_array_equal(s.ravel()[: plain.ravel().size], plain.ravel())
    np.testing.assert_allclose(s.ravel()[plain.ravel().size :], cl[1:], rtol=1e-12)
    np.testing.assert_array_equal(s.cl, s.groups()["cl"])
    assert s.labels() == (*plain.labels(), *(Label("cl", (d,)) for d in range(1, L)))
    divided = ScatteringCovariance(L, 1, 1, spectra=True, reference=b)
    np.testing.assert_allclose(divided(a).cl, power_spectrum(a)[1:] / power_spectrum(b)[1:], rtol=1e-12)
    # A field whose scales all have power, and one of whose degrees has none.
    silent = np.array(field(L))
    silent[3] = 0
    ScatteringCovariance(L, 1, 1, reference=silent)
    with pytest.raises(ValueError, match="reference has no power at degree 3"):
        ScatteringCovariance(L, 1, 1, spectra=True, reference=silent)


def test_errors():
    silent = np.asarray(field(16)).copy()
    silent[:8] = 0
    for kwargs, message in [
        ({"L": 3}, "L=3: .* 4 or more"),
        ({"L": 16.0}, "L=16.0"),
        ({"L": 16, "J_min": 4}, "J_min=4: .*, 4 at L=16, is an integer from 0 to 3"),
        ({"L": 16, "N": 0}, "N=0"),
        ({"L": 16, "N": 5}, "N=5: .* from 1 to 4"),
        ({"L": 16, "isotropic": "full"}, "isotropic='full'"),
        ({"L": 16, "isotropic": "relative", "compat": "s2scat"}, "isotropic='relative' with compat"),
        ({"L": 16, "oversample": 0.5}, "oversample=0.5"),
        ({"L": 16, "oversample": 2, "compat": "s2scat"}, "oversample=2 with compat"),
        ({"L": 16, "compat": "foscat"}, "compat='foscat'"),
        ({"L": 16, "backend": "c"}, "backend='c'"),
        ({"L": 16, "spectra": 3}, "spectra=3"),
        ({"L": 16, "spectra": True, "compat": "s2scat"}, "spectra=True with domain"),
        ({"L": 16, "mask": np.ones((16, 30))}, r"mask has shape \(16, 30\): \(16, 31\)"),
        ({"L": 16, "mask": -np.ones((16, 31))}, "mask is float64 from -1.0 to -1.0"),
        ({"L": 16, "mask": np.zeros((16, 31))}, "mask is 0 everywhere"),
        ({"L": 16, "mask": np.ones((16, 31)), "compat": "s2scat"}, "mask with compat"),
        ({"L": 16, "J_min": 1, "reference": silent}, "no power at scale 1, degrees 2 to 3, .* raise J_min"),
        ({"L": 16, "reference": silent[None]}, r"reference has shape \(1, 16, 31\): one field"),
        ({"L": 16, "reference": silent[:8]}, r"reference has shape \(8, 31\)"),
        ({"L": 16, "reference": silent * 1j}, "reference is of a complex field"),
    ]:
        with pytest.raises(ValueError, match=message):
            ScatteringCovariance(**kwargs)
    with pytest.raises(ValueError, match="reference is traced"):
        jax.jit(lambda a: ScatteringCovariance(16, reference=a)(a))(silent)
    cov = ScatteringCovariance(8, 1)
    with pytest.raises(ValueError, match=r"alm has shape \(7, 15\): \(..., 8, 15\)"):
        cov(np.zeros((7, 15), complex))
    with pytest.raises(ValueError, match=r"alm is float64: .* SHT\(grid, real=True\)"):
        cov(np.zeros((8, 15)))
    with pytest.raises(ValueError, match="alm is of a complex field"):
        cov(1j * np.asarray(field(8)))
    with pytest.raises(ValueError, match="b is of a complex field"):
        cov.cross(field(8), 1j * np.asarray(field(8)))
    with pytest.raises(ValueError, match="cross with compat='s2scat'"):
        ScatteringCovariance(8, 1, compat="s2scat").cross(field(8), field(8))
    with pytest.raises(ValueError, match="cross with domain='plane'"):
        ScatteringCovariance(8, 2, 1, domain="plane").cross(np.zeros((8, 8)), np.zeros((8, 8)))
    with pytest.raises(ValueError, match="NaN"):
        cov(np.full((8, 15), np.nan + 0j))
    with jax.enable_x64(False), pytest.raises(ValueError, match="enable_x64"):
        cov(np.zeros((8, 15), complex))


def test_masks():
    L, J_min = 16, 2
    alm = field(L, seed=6)
    grid = GaussLegendre(L)
    # The same on the whole sphere, whatever the weight.
    for isotropic in (True, False):
        plain = ScatteringCovariance(L, 2, J_min, isotropic)(alm)
        whole = ScatteringCovariance(L, 2, J_min, isotropic, mask=3 * np.ones(grid.shape))(alm)
        np.testing.assert_allclose(whole.ravel(), plain.ravel(), rtol=1e-11)
    # A weight linear in the ring and the longitude, which interpolation keeps; the covariances by hand.
    mask = 1 + np.interp(grid.theta, [0, np.pi], [0, 2])[:, None] * np.ones(2 * L - 1)
    s = ScatteringCovariance(L, 1, J_min, mask=mask)(alm)
    wavelets = Wavelets(L, J_min=J_min)

    def mean(f, on):
        theta = np.clip(on.theta, grid.theta[0], grid.theta[-1])
        weights = on.weights[:, None] * (1 + np.interp(theta, [0, np.pi], [0, 2])[:, None])
        return float((f * weights).sum() / (weights.sum() * on.shape[1]))

    def transform(alm):
        more = L - alm.shape[0]
        return [w[0] for w in wavelets.analysis(jnp.pad(alm, [(0, more), (more, more)])).wavelets]

    first = transform(alm)
    grids = wavelets.grids
    second = [transform(SHT(on, real=True).analysis(abs(w))) for w, on in zip(first, grids, strict=True)]
    f = SHT(grid, real=True).synthesis(alm)
    assert float(s.mean) == pytest.approx(mean(f, grid), rel=1e-12)
    assert float(s.variance) == pytest.approx(mean((f - mean(f, grid)) ** 2, grid), rel=1e-12)
    np.testing.assert_allclose(s.s1, [mean(abs(w), on) for w, on in zip(first, grids, strict=True)], rtol=1e-12)
    np.testing.assert_allclose(s.s2, [mean(w**2, on) for w, on in zip(first, grids, strict=True)], rtol=1e-12)
    for label, x in zip(s.labels(), s.ravel(), strict=True):
        if label.group in ("s3", "s4"):
            j1, *others = (j - J_min for j in label.scales)
            a, b = ([first, *second][k + 1][j1] for k in (others if label.group == "s4" else [-1, *others]))
            expected = mean(a * b, grids[j1]) - mean(a, grids[j1]) * mean(b, grids[j1])
            assert float(x) == pytest.approx(expected, rel=1e-9), label
    # Of the northern half alone.
    north = np.broadcast_to((grid.theta < np.pi / 2)[:, None], grid.shape)
    half = ScatteringCovariance(L, 1, J_min, mask=north)(alm)
    squares = (first[-1] ** 2 * grid.weights[:, None])[: L // 2].sum() / grid.weights[: L // 2].sum() / grid.shape[1]
    assert float(half.s2[-1]) == pytest.approx(float(squares), rel=1e-12)


def test_rotations_change_what_the_grid_of_a_modulus_lets(s2scat):
    # The root mean square over rotations of the largest change in a group, in parts of its largest coefficient.
    rng = np.random.default_rng(9)
    alpha, cosine, gamma = rng.uniform(size=(3, 16))
    turned = rotate_alm(s2scat["alm"], 2 * np.pi * alpha, np.arccos(2 * cosine - 1), 2 * np.pi * gamma)
    bars = {1: (0.04, 0.35, 0.10), 2: (0.02, 0.03, 0.03), 4: (0.004, 0.006, 0.004)}
    for oversample, bar in bars.items():
        s = ScatteringCovariance(32, N=1, J_min=1, oversample=oversample)(
            np.concatenate([s2scat["alm"][None], np.asarray(turned)])
        )
        for group, most in zip(("s1", "s3", "s4"), bar, strict=True):
            x = np.asarray(getattr(s, group))
            change = abs(x[1:] - x[0]).max(axis=1) / abs(x[0]).max()
            assert np.sqrt((change**2).mean()) < most, (oversample, group)
            assert change.max() > 1e-5  # the field was turned
        np.testing.assert_allclose(s.s2[1:], np.tile(s.s2[0], (16, 1)), rtol=1e-11)
