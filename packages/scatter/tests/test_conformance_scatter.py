"""Armillary's conformance kit over what this package registers."""

import jax

from armillary.core.testing import Case, parametrize_with_checks
from armillary.scatter import AxisymmetricWavelets
from armillary.sphere import alm_from_real

L = 8


@parametrize_with_checks(
    [
        Case(
            AxisymmetricWavelets(L),
            example=alm_from_real(jax.random.normal(jax.random.key(0), (L**2,))),
            id="axisymmetric-wavelets",
        ),
        "armillary-scatter",
    ]
)
def test_conformance(component, check):
    check(component)
