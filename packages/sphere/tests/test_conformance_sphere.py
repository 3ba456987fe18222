"""Armillary's conformance kit over what this package registers."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from armillary.core.testing import Case, parametrize_with_checks
from armillary.sphere import (
    SHT,
    ClenshawCurtis,
    GaussLegendre,
    IsotropicGaussian,
    MaskedGaussian,
    McEwenWiaux,
    alm_from_real,
)

pytestmark = pytest.mark.usefixtures("quick_compilation")

L = 4


def coefficients(spin):
    """Coefficients of a complex field: none but those of |m| <= l and l >= |s|."""
    degree, order = np.arange(L)[:, None], np.arange(1 - L, L)[None]
    real, imaginary = jax.random.normal(jax.random.key(0), (2, L, 2 * L - 1))
    return jnp.where((abs(order) <= degree) & (degree >= abs(spin)), real + 1j * imaginary, 0)


def coefficients_of_a_real_field():
    return alm_from_real(jax.random.normal(jax.random.key(1), (L**2,)))


@parametrize_with_checks(
    [
        Case(SHT(GaussLegendre(L)), example=coefficients(0), id="sht-complex"),
        Case(SHT(GaussLegendre(L), real=True), example=coefficients_of_a_real_field(), id="sht-real"),
        Case(IsotropicGaussian(1 / (1 + jnp.arange(3.0)) ** 2), id="isotropic-gaussian"),
        "armillary-sphere",
    ]
)
def test_conformance(component, check):
    check(component)


# The checks are of a class; grids and backends have tests of their own.
@pytest.mark.exhaustive
@parametrize_with_checks(
    [
        Case(SHT(GaussLegendre(L), spin=2), example=coefficients(2), id="sht-spin-2"),
        Case(SHT(McEwenWiaux(L), spin=-1, backend="jax"), example=coefficients(1), id="sht-mcewen-wiaux"),
        Case(
            SHT(ClenshawCurtis(L), real=True, backend="table"),
            example=coefficients_of_a_real_field(),
            id="sht-clenshaw-curtis",
        ),
    ]
)
def test_conformance_on_other_grids(component, check):
    check(component)


MASK = np.arange(12) % 3 > 0


@parametrize_with_checks(
    [
        Case(
            lambda x: MaskedGaussian(x, 0.5, MASK),
            example=lambda key: jax.random.normal(key, (12,)),
            id="masked-gaussian",
        )
    ],
    kind="likelihood",
)
def test_conformance_of_the_likelihood(component, check):
    check(component)
