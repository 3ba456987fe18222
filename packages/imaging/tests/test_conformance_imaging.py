"""Armillary's conformance kit over what this package registers."""

import jax
import jax.numpy as jnp
import pytest

from armillary.core.testing import Case, parametrize_with_checks
from armillary.imaging import (
    L1,
    MYULASampler,
    PnPULASampler,
    PxMALASampler,
    SKROCKSampler,
    SplitGibbsSampler,
    ULASampler,
)


@pytest.fixture(autouse=True, scope="module")
def quick_compilation():
    """Most of the time of these checks is compilation of code that runs for milliseconds."""
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", False)


@parametrize_with_checks(
    [
        ULASampler(step_size=0.1),
        MYULASampler(step_size=0.1, smoothing=0.1),
        PxMALASampler(step_size=0.5),
        SKROCKSampler(step_size=0.1, num_stages=3),
        PnPULASampler(step_size=0.1, sigma=0.3),
        SplitGibbsSampler(rho=0.3),
        L1(0.5),
        Case(L1(jnp.array([0.5, 1.0])).to_event(1), id="L1-of-each-element"),
        "armillary-imaging",
    ]
)
def test_conformance(component, check):
    check(component)
