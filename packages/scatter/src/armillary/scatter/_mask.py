"""Means over a part of the sphere."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from armillary.sphere import GaussLegendre

from . import _layers as layers
from ._layers import Scheme


class Weights(NamedTuple):
    """The weights of means on the grids of a scheme, each of sum 1.

    Attributes:
        field: on the field's own grid.
        products: on the grid of every scale.
        moduli: on that of the moduli of every scale.
    """

    field: Float[Array, "rings longitudes"]
    products: tuple[Float[Array, "rings longitudes"], ...]
    moduli: tuple[Float[Array, "rings longitudes"], ...]


def weights_of(scheme: Scheme, mask: Any) -> Weights:
    """The weights of a mask on the field's grid, interpolated linearly on the others; or `ValueError`."""
    if isinstance(mask, jax.core.Tracer):
        raise ValueError("mask is traced: make the ScatteringCovariance outside of jit, of a known mask")
    own = GaussLegendre(scheme.L)
    values = np.asarray(mask)
    if values.shape != own.shape:
        raise ValueError(f"mask has shape {values.shape}: {own.shape}, a map on {own}")
    if values.dtype.kind not in "biuf" or not np.isfinite(values).all() or not (values >= 0).all():
        raise ValueError(f"mask is {values.dtype} from {values.min()} to {values.max()}: real numbers of 0 or more")
    if not values.any():
        raise ValueError("mask is 0 everywhere: the mean over no part of the sphere is not defined")
    values = values.astype(np.float64)

    def on(grid: GaussLegendre) -> Array:
        weights = _interpolate(values, own, grid) * layers.uniform_weights(grid)
        if not weights.sum() > 0:
            raise ValueError(f"mask leaves no point of {grid}: it is too small for the scales from J_min on")
        return jnp.asarray(weights / weights.sum())

    scales = scheme.layout.scales
    return Weights(
        on(own), tuple(on(scheme.grid(j)) for j in scales), tuple(on(scheme.modulus_grid(j)) for j in scales)
    )


def _interpolate(f: np.ndarray, there: GaussLegendre, here: GaussLegendre) -> np.ndarray:
    if there == here:
        return f
    ring = np.clip(np.interp(here.theta, there.theta, np.arange(len(there.theta))), 0, len(f) - 1)
    turn = np.arange(here.shape[1]) / here.shape[1] * f.shape[1]
    top = np.minimum(ring.astype(int), len(f) - 2)
    left = turn.astype(int)
    down, right = (ring - top)[:, None], turn - left
    rows = f[top] * (1 - down) + f[top + 1] * down
    return rows[:, left] * (1 - right) + rows[:, (left + 1) % f.shape[1]] * right
