import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from armillary.scatter import ScatteringCovariance, SynthesisProgress, synthesise
from armillary.sphere import SHT, GaussLegendre, alm_from_real, power_spectrum

pytestmark = pytest.mark.usefixtures("x64")


@functools.cache
def target(L):
    """The coefficients of a lognormal field."""
    x = np.random.default_rng(0).normal(size=L * L) / (1 + np.repeat(np.arange(L), 2 * np.arange(L) + 1))
    sht = SHT(GaussLegendre(2 * L), L, real=True)
    f = sht.synthesis(alm_from_real(x))
    return np.asarray(sht.analysis(jnp.exp(1.5 * f / f.std())))


def apart(cov, alm, goal):
    """By group, the largest norm of a difference in parts of the target's."""
    t = cov(goal).groups()
    return {
        group: float((jnp.linalg.norm(x - t[group], axis=-1) / jnp.linalg.norm(t[group])).max())
        for group, x in cov(alm).groups().items()
    }


def bands(alm, goal, width):
    L = len(goal)
    power = np.asarray(power_spectrum(alm)) * (2 * np.arange(L) + 1)
    wanted = np.asarray(power_spectrum(goal)) * (2 * np.arange(L) + 1)
    return max(abs(power[:, a : a + width].sum(1) / wanted[a : a + width].sum() - 1).max() for a in range(1, L, width))


L = 16


@pytest.fixture(scope="module")
def made():
    with jax.enable_x64(True):
        cov = ScatteringCovariance(L, N=1, J_min=1, reference=target(L))
        steps: list[SynthesisProgress] = []
        alm = synthesise(jax.random.key(1), cov, target(L), num=3, progress=steps.append)
        return cov, alm, steps


def test_textures_have_the_statistics_and_are_new(made):
    cov, alm, steps = made
    assert alm.shape == (3, L, 2 * L - 1)
    assert (steps[-1].evaluations <= 300).all()
    assert max(apart(cov, alm, target(L)).values()) < 0.03
    assert bands(alm, target(L), 2) < 0.1
    # A Gaussian field of the same spectrum has them not.
    noise = np.random.default_rng(3).normal(size=(8, L * L))
    root = np.sqrt(np.asarray(power_spectrum(target(L))))
    gaussian = alm_from_real(noise * root[np.repeat(np.arange(L), 2 * np.arange(L) + 1)])
    assert apart(cov, gaussian, target(L))["s4"] > 0.2
    # None is the target or another one.
    flat = jnp.concatenate([alm, target(L)[None]])[:, 1:].reshape(4, -1)
    flat = flat / jnp.linalg.norm(flat, axis=1, keepdims=True)
    assert float(abs(flat @ flat.conj().T - jnp.eye(4)).max()) < 0.8
    np.testing.assert_allclose(alm[:, 0, L - 1], target(L)[0, L - 1], rtol=1e-12)


def test_progress_and_going_on(made):
    cov, alm, steps = made
    losses = np.array([step.loss for step in steps])
    assert (np.diff(losses, axis=0) <= 0).all()
    assert (losses[-1] <= 0.01**2).all()
    np.testing.assert_array_equal(steps[-1].alm, alm)
    assert (losses[0] > 0.01**2).any()
    again: list[SynthesisProgress] = []
    went_on = synthesise(jax.random.key(1), cov, target(L), num=3, init=steps[0].alm, progress=again.append)
    assert max(apart(cov, went_on, target(L)).values()) < 0.03
    assert (again[0].loss < losses[0]).all()
    # The same key, the same textures, but for what sums in another order do to the last digits.
    few = [synthesise(jax.random.key(k), cov, target(L), num=3, max_evaluations=10) for k in (1, 1, 2)]
    np.testing.assert_allclose(few[0], few[1], atol=1e-8)
    assert float(abs(few[0] - few[2]).max()) > 0.01


class Stopped(Exception):
    pass


def test_checkpoint(made, tmp_path):
    cov, _, _ = made
    path = tmp_path / "state.npz"
    run = functools.partial(synthesise, jax.random.key(1), cov, target(L), num=3)
    whole = run()

    def stop(step):
        if (step.evaluations > 15).any():
            raise Stopped

    with pytest.raises(Stopped):
        run(checkpoint=path, progress=stop)
    assert [file.name for file in tmp_path.iterdir()] == ["state.npz"]
    steps: list[SynthesisProgress] = []
    np.testing.assert_array_equal(run(checkpoint=str(path), progress=steps.append), whole)
    assert (steps[0].evaluations > 15).any()
    np.testing.assert_array_equal(run(checkpoint=path, progress=stop), whole)  # nothing is left to do
    for kwargs in ({"num": 2}, {"init": "white"}, {"ensemble": 128}):
        with pytest.raises(ValueError, match="not a file of this synthesis"):
            run(**{"num": 3, "checkpoint": path, **kwargs})
    path.write_bytes(b"PK")
    with pytest.raises(ValueError, match="not a file of this synthesis"):
        run(checkpoint=path)


@pytest.mark.parametrize("levels", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_images(levels):
    shape = (20 * levels, 16 * levels)
    noise = np.random.default_rng(0).normal(size=shape)
    waves = np.hypot(np.fft.fftfreq(shape[0])[:, None], np.fft.fftfreq(shape[1]))
    f = np.fft.ifft2(np.fft.fft2(noise) / (0.02 + waves) ** 1.5).real
    goal = np.exp(f / f.std())
    cov = ScatteringCovariance(
        shape, 2, 1, isotropic="relative" if levels == 2 else True, reference=goal, domain="plane"
    )
    steps: list[SynthesisProgress] = []
    images = synthesise(jax.random.key(0), cov, goal, num=2, levels=levels, ensemble=64, progress=steps.append)
    assert images.shape == (2, *shape)
    assert max(apart(cov, images, goal).values()) < 0.05
    np.testing.assert_allclose(images.mean((1, 2)), goal.mean(), rtol=1e-10)
    assert {step.level for step in steps} == set(range(levels))
    # They are others.
    flat = np.concatenate([images, goal[None]]).reshape(3, -1)
    assert abs(np.corrcoef(flat) - np.eye(3)).max() < 0.8


@pytest.mark.slow
def test_coarse_to_fine(made):
    cov, _, _ = made
    steps: list[SynthesisProgress] = []
    alm = synthesise(jax.random.key(1), cov, target(L), num=3, levels=2, progress=steps.append)
    assert max(apart(cov, alm, target(L)).values()) < 0.03
    coarse = [step.alm for step in steps if step.level == 1][-1]
    assert coarse.shape == (3, L // 2, L - 1)
    # The large scales stay about what the coarse level has found.
    fine = np.asarray(alm[:, 1:4, L - 4 : L + 3]).reshape(3, -1)
    found = np.asarray(coarse[:, 1:4, L // 2 - 4 : L // 2 + 3]).reshape(3, -1)
    assert (abs(np.vecdot(fine, found)) > 0.7 * np.linalg.norm(fine, axis=1) * np.linalg.norm(found, axis=1)).all()


def test_other_starts_and_optimisers(made):
    cov, _, _ = made
    for kwargs in ({"init": "white"}, {"method": optax.adam(0.03), "max_evaluations": 600}):
        alm = synthesise(jax.random.key(2), cov, target(L), num=3, **kwargs)
        assert max(apart(cov, alm, target(L)).values()) < 0.05, kwargs


@pytest.mark.slow
@pytest.mark.parametrize(
    ("isotropic", "normalised"), [(False, True), pytest.param("relative", False, marks=pytest.mark.exhaustive)]
)
def test_more_statistics_than_draws(isotropic, normalised):
    L = 8
    cov = ScatteringCovariance(L, 2, 1, isotropic, reference=target(L) if normalised else None)
    assert cov(target(L)).ravel().size > 32
    alm = synthesise(jax.random.key(1), cov, target(L), ensemble=32, tol=0.03, spectrum=False)
    assert max(apart(cov, alm, target(L)).values()) < 0.1


def test_single_precision():
    L = 8
    goal = target(L).astype(np.complex64)
    with jax.enable_x64(False):
        cov = ScatteringCovariance(L, 1, 1, reference=goal)
        alm = synthesise(jax.random.key(1), cov, goal, tol=0.05)
        assert alm.dtype == np.complex64
        assert max(apart(cov, alm, goal).values()) < 0.05


@pytest.mark.slow
@pytest.mark.parametrize("N", [1, 3])
def test_relief_of_the_earth(N):
    pytest.importorskip("PIL")
    from armillary.sphere._earth import relief

    try:
        f, grid = relief()
    except ImportError as error:
        pytest.skip(str(error))
    L = 64
    goal = np.asarray(SHT(grid, L, real=True).analysis(jnp.asarray(f)))
    cov = ScatteringCovariance(L, N, 1, reference=goal)
    steps: list[SynthesisProgress] = []
    alm = synthesise(jax.random.key(3), cov, goal, num=2, progress=steps.append)
    assert (steps[-1].evaluations <= 300).all()
    assert max(apart(cov, alm, goal).values()) < 0.03
    assert bands(alm, goal, 4) < 0.1


def test_errors():
    cov = ScatteringCovariance(8, 1, 1)
    goal = target(8)
    silent = goal.copy()
    silent[4:] = 0
    key = jax.random.key(0)
    for args, kwargs, message in [
        ((None, goal), {}, "cov=None"),
        ((cov, goal[:7]), {}, "target has shape"),
        ((cov, goal[None]), {}, r"target has shape \(1, 8, 15\): one field"),
        ((cov, 1j * goal), {}, "target is of a complex field"),
        ((cov, silent), {}, "target has no power at scale 3, degrees 5 to 7"),
        ((cov, goal), {"num": 0}, "num=0"),
        ((cov, goal), {"max_evaluations": 0}, "max_evaluations=0"),
        ((cov, goal), {"ensemble": 2}, "ensemble=2"),
        ((cov, goal), {"tol": -1}, "tol=-1"),
        ((cov, goal), {"method": "sgd"}, "method='sgd'"),
        ((cov, goal), {"init": "zeros"}, "init='zeros'"),
        ((cov, goal), {"init": goal}, r"init has shape \(8, 15\): \(1, 8, 15\)"),
        ((cov, goal), {"levels": 0}, "levels=0"),
        ((cov, goal), {"levels": 3}, "levels=3: the coarsest has too few scales"),
        ((cov, goal), {"levels": 2, "init": goal[None]}, "levels=2 with fields"),
    ]:
        with pytest.raises(ValueError, match=message):
            synthesise(key, *args, **kwargs)
