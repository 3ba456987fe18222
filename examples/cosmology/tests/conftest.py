from __future__ import annotations

from collections.abc import Iterator

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from armillary_cosmology import Cosmology


@pytest.fixture
def x64() -> Iterator[None]:
    with jax.enable_x64(True):
        yield


class AnalyticPower:
    """A matter power in closed form, the same for every code that is compared: BBKS with a growing bump at high k.

    It is no one's universe, but has the shape of ours, and depends on six of the eight parameters.
    """

    k = np.geomspace(1e-4, 50.0, 300)
    z = np.linspace(0.0, 3.0, 31)

    def table(self, cosmology, z, k, xp=np):
        gamma = (cosmology.omega_b + cosmology.omega_cdm) / cosmology.h
        q = k / gamma
        transfer = xp.log1p(2.34 * q) / (2.34 * q)
        transfer = transfer * (1 + 3.89 * q + (16.1 * q) ** 2 + (5.46 * q) ** 3 + (6.71 * q) ** 4) ** -0.25
        linear = 5e6 * xp.exp(cosmology.ln10As - 3.05) * k**cosmology.n_s * transfer**2
        linear = linear * (1 + z) ** (-1.7 - 0.3 * (cosmology.w0 + 1))
        return linear * (1 + 3 * k**1.3 / ((1 + z) * (1 + 0.1 * k)))

    def nonlinear(self, cosmology):
        dtype = jnp.result_type(float, *cosmology)
        k, z = jnp.asarray(self.k, dtype), jnp.asarray(self.z, dtype)
        return self.table(cosmology, z[:, None], k, jnp)


@pytest.fixture(scope="session")
def power() -> AnalyticPower:
    return AnalyticPower()


@pytest.fixture(scope="session")
def fiducial() -> Cosmology:
    return Cosmology(omega_b=0.0224, omega_cdm=0.12, h=0.67, n_s=0.965, ln10As=3.05)
