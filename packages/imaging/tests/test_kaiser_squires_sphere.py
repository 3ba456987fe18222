"""The shear on the sphere: by derivatives of the lensing potential, by a closed form, and the laws of an operator."""

import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from armillary.core.testing import Case, parametrize_with_checks
from armillary.imaging import SphericalKaiserSquires, check_adjoint

sphere = pytest.importorskip("armillary.sphere")
GRIDS = {"gl": sphere.GaussLegendre(12), "mw": sphere.McEwenWiaux(12), "healpix": sphere.Healpix(4)}


@pytest.fixture
def x64():
    with jax.enable_x64(True):
        yield


def seen():
    """A convergence that is all seen in its shear."""
    shear = np.random.default_rng(0).normal(size=GRIDS["gl"].shape)
    return SphericalKaiserSquires(GRIDS["gl"]).inverse(jnp.asarray(shear, jnp.float32))


@parametrize_with_checks(
    [Case(SphericalKaiserSquires(GRIDS["gl"], dtype=np.float32), id="gauss-legendre", example=seen())]
)
def test_conformance(component, check):
    check(component)


@pytest.mark.parametrize("name", GRIDS)
def test_adjoint(x64, name):
    check_adjoint(SphericalKaiserSquires(GRIDS[name], 8 if name == "healpix" else None))


def test_a_mass_at_both_poles_has_a_closed_form(x64):
    # kappa = P_2(cos theta) comes from the potential -kappa / 3, whose second derivative is -sin(theta)**2.
    grid = GRIDS["gl"]
    theta = np.asarray(grid.theta)[:, None] * np.ones(grid.shape)
    gamma = SphericalKaiserSquires(grid)(jnp.asarray((3 * np.cos(theta) ** 2 - 1) / 2))
    np.testing.assert_allclose(gamma, -(np.sin(theta) ** 2) / 2, atol=1e-13)


def test_the_shear_is_the_second_derivative_of_the_potential(x64):
    # With kappa the half of the potential's Laplacian, and gamma half of its second spin-raising derivative.
    L, grid = 6, sphere.GaussLegendre(6)
    rng = np.random.default_rng(0)
    transform = sphere.SHT(grid, real=True)
    potential = transform.analysis(jnp.asarray(rng.normal(size=grid.shape)))
    degree = np.arange(L)[:, None]
    kappa = transform.synthesis(-0.5 * degree * (degree + 1) * potential)
    gamma = SphericalKaiserSquires(grid)(kappa)

    def f(point):
        return sphere.evaluate(potential, point[0], point[1]).real

    for i, j in ((0, 0), (2, 3), (4, 7)):
        t, p = float(grid.theta[i]), float(2 * np.pi * j / grid.shape[1])
        first, second = jax.grad(f)(jnp.array([t, p])), jax.hessian(f)(jnp.array([t, p]))
        along = second[0, 0] - first[0] / np.tan(t) - second[1, 1] / np.sin(t) ** 2
        across = 2 / np.sin(t) * (second[0, 1] - first[1] / np.tan(t))
        np.testing.assert_allclose(gamma[i, j], 0.5 * (along + 1j * across), atol=1e-11)


def test_the_inversion_gives_the_convergence_back_but_for_two_degrees(x64):
    grid = GRIDS["gl"]
    operator, transform = SphericalKaiserSquires(grid), sphere.SHT(grid, real=True)
    alm = transform.analysis(jax.random.normal(jax.random.key(0), grid.shape))
    kappa = transform.synthesis(alm)
    without = transform.synthesis(alm.at[:2].set(0))
    np.testing.assert_allclose(operator.inverse(operator(kappa)), without, atol=1e-12)


def test_bad_arguments(monkeypatch):
    with pytest.raises(ValueError, match="L=2: expected at least 3"):
        SphericalKaiserSquires(GRIDS["gl"], 2)
    with pytest.raises(ValueError, match="L=40"):
        SphericalKaiserSquires(GRIDS["gl"], 40)
    with pytest.raises(ValueError, match=r"x has shape \(3, 3\): \(..., 12, 23\) is needed"):
        SphericalKaiserSquires(GRIDS["gl"])(jnp.zeros((3, 3)))
    monkeypatch.setitem(sys.modules, "armillary.sphere", None)
    with pytest.raises(ImportError, match=r"pip install 'armillary-imaging\[sphere\]'"):
        SphericalKaiserSquires(GRIDS["gl"])
