from __future__ import annotations

from collections.abc import Iterator

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from armillary_cosmology import Cosmology
from armillary_cosmology.emulate import Box


@pytest.fixture
def x64() -> Iterator[None]:
    with jax.enable_x64(True):
        yield


@pytest.fixture(scope="module")
def quick_compilation() -> Iterator[None]:
    """For tests whose time is the compilation of code that runs for milliseconds."""
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", False)


class AnalyticPower:
    """A matter power in closed form, the same for every code that is compared: BBKS with a growing bump at high k.

    It is no one's universe, but has the shape of ours, and depends on six of the eight parameters.
    """

    k = np.geomspace(1e-4, 50.0, 300)
    z = np.linspace(0.0, 3.0, 31)
    box = Box(
        ("omega_b", "omega_cdm", "h", "n_s", "ln10As", "logT_AGN", "w0", "w0_plus_wa"),
        (0.01875, 0.07, 0.6, 0.84, 2.4, 7.4, -1.5, -2.4),
        (0.02625, 0.22, 0.82, 1.1, 3.8, 8.3, -0.5, -0.2),
    )

    def table(self, cosmology, z, k, xp=np, bump=3.0):
        gamma = (cosmology.omega_b + cosmology.omega_cdm) / cosmology.h
        q = k / gamma
        transfer = xp.log1p(2.34 * q) / (2.34 * q)
        transfer = transfer * (1 + 3.89 * q + (16.1 * q) ** 2 + (5.46 * q) ** 3 + (6.71 * q) ** 4) ** -0.25
        linear = 5e6 * xp.exp(cosmology.ln10As - 3.05) * k**cosmology.n_s * transfer**2
        linear = linear * (1 + z) ** (-1.7 - 0.3 * (cosmology.w0 + 1))
        return linear * (1 + bump * k**1.3 / ((1 + z) * (1 + 0.1 * k)))

    def nonlinear(self, cosmology):
        dtype = jnp.result_type(float, *cosmology)
        k, z = jnp.asarray(self.k, dtype), jnp.asarray(self.z, dtype)
        return self.table(cosmology, z[:, None], k, jnp)

    def linear(self, cosmology):
        dtype = jnp.result_type(float, *cosmology)
        return self.table(cosmology, jnp.asarray(self.z, dtype)[:, None], jnp.asarray(self.k, dtype), jnp, bump=0.0)


@pytest.fixture(scope="session")
def power() -> AnalyticPower:
    return AnalyticPower()


@pytest.fixture(scope="session")
def fiducial() -> Cosmology:
    return Cosmology(omega_b=0.0224, omega_cdm=0.12, h=0.67, n_s=0.965, ln10As=3.05)
