r"""Score matching of an exponential family of scattering statistics.

For densities :math:`\ln p(x) = \ln N(x; 0, C) - \theta \cdot s(x)`, in coordinates y in which the Gaussian is a
standard one, what Hyvärinen's objective :math:`E [\frac12 |\nabla \ln p|^2 + \Delta \ln p]` over examples says of
:math:`\theta` is a set of linear equations,

.. math:: E[\nabla s\, \nabla s^T]\, \theta = E[\Delta s] - E[\nabla s \cdot y].

A modulus has no second derivative where it is 0, and the Laplacian of one is concentrated there, where automatic
differentiation would not see it. It is taken by differences along random directions instead.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from . import _prior_fit as fits
from ._covariance import ScatteringCovariance

#: The step of differences, in standard deviations of the coefficients, and the directions for each example.
_STEP, _PROBES = 0.05, 8
#: The part of the mean eigenvalue of the equations' matrix (scaled to a unit diagonal) that is added to it.
_RIDGE = 1e-7


@jax.jit
def moments(
    key: jax.Array, cov: ScatteringCovariance, root: Float[Array, " L**2"], y: Float[Array, " L**2"]
) -> tuple[Array, Array]:
    r"""Of one example, ``(grad s @ grad s.T, Laplacian of s - grad s @ y)``.

    Args:
        key: of the directions.
        cov: the statistics.
        root: the standard deviations of coefficients in the Gaussian.
        y: the example's coefficients in the real layout, divided by `root`.
    """

    def s(y: Array) -> Array:
        return fits.statistics_of(cov, root * y)

    value, rows = fits.jacobian(cov, root, y)

    def curvature(key: jax.Array) -> Array:
        # Signs, for which the differences of a sum of squares are without noise.
        v = _STEP * jax.random.rademacher(key, y.shape, y.dtype)
        return (s(y + v) - 2 * value + s(y - v)) / _STEP**2

    laplacian = jax.lax.map(curvature, jax.random.split(key, _PROBES)).mean(axis=0)
    matrix = jnp.matmul(rows, rows.T, precision="highest")
    return matrix, laplacian - jnp.matmul(rows, y, precision="highest")


def match(
    key: jax.Array,
    cov: ScatteringCovariance,
    root: Array,
    x: Array,
    chosen: np.ndarray,
) -> np.ndarray:
    r"""The :math:`\theta` of examples.

    Args:
        key: of the directions.
        cov: the statistics.
        root: the standard deviations of coefficients in the Gaussian.
        x: the examples' coefficients in the real layout.
        chosen: which of the statistics there are.
    """
    keys = jax.random.split(key, len(x))
    found = [moments(k, cov, root, y) for k, y in zip(keys, x / root, strict=True)]
    left, right = (np.mean(parts, axis=0, dtype=np.float64) for parts in zip(*found, strict=True))
    left, right = left[np.ix_(chosen, chosen)], right[chosen]
    scale = np.sqrt(np.diag(left))
    left = left / scale[:, None] / scale + _RIDGE * np.eye(len(scale))
    return np.linalg.solve(left, right / scale) / scale
