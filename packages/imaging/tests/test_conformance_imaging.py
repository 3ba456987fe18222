"""Armillary's conformance kit over what this package registers."""

import jax.numpy as jnp

from armillary.core.testing import Case, parametrize_with_checks
from armillary.imaging import L1, MYULASampler


@parametrize_with_checks(
    [
        MYULASampler(step_size=0.1, smoothing=0.1),
        L1(0.5),
        Case(L1(jnp.array([0.5, 1.0])).to_event(1), id="L1-of-each-element"),
        "armillary-imaging",
    ]
)
def test_conformance(component, check):
    check(component)
