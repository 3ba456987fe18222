"""Scattering covariances of two fields."""

from __future__ import annotations

import functools
import itertools
from dataclasses import dataclass
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from armillary.sphere import SHT, GaussLegendre

from . import _layers as layers
from . import _sphere_covariance as sphere_covariance
from ._kernels import Kernels
from ._layers import Scheme
from ._mask import Weights
from ._statistics import Layout


class CrossLabel(NamedTuple):
    """What a coefficient of two fields is of.

    Attributes:
        group: ``"covariance"``, ``"s2"``, ``"s3"`` or ``"s4"``.
        fields: which of the two fields, 0 or 1, each factor of the product is of.
        scales: the scales j, that of the second wavelet first.
        directions: as those of a `Label`.
    """

    group: str
    fields: tuple[int, int]
    scales: tuple[int, ...] = ()
    directions: tuple[int, ...] = ()


@dataclass(frozen=True)
class CrossLayout:
    """Which coefficients there are of two fields, and their order; `own` is that of one field."""

    own: Layout

    @functools.cached_property
    def fourth(self) -> np.ndarray:
        """As `Layout.fourth`: every modulus of the first field with every one of the second."""
        own = self.own
        rows = [
            ((j1, g1), b, c)
            for j1 in range(own.J_min, own.J)
            for b, c in itertools.product(own.fields(j1), repeat=2)
            for g1 in own.second_directions
        ]
        return np.array(rows).reshape(-1, 3, 2)

    @functools.cached_property
    def labels(self) -> tuple[CrossLabel, ...]:
        """What each coefficient is of."""
        found = [CrossLabel("covariance", (0, 1))]
        first, third = self.own.first[:, None], self.own.third
        for group, fields, rows in (
            ("s2", (0, 1), first),
            ("s3", (0, 1), third),
            ("s3", (1, 0), third),
            ("s4", (0, 1), self.fourth),
        ):
            for row in rows.tolist():
                directions = tuple(g for _, g in row if g >= 0)
                found.append(CrossLabel(group, fields, tuple(j for j, _ in row), directions))
        return tuple(found)


class CrossStatistics(eqx.Module):
    """The scattering covariances of two fields, as `ScatteringCovariance.cross` returns them: a pytree of four arrays.

    Attributes:
        covariance: that of the fields.
        s2: mean products of their wavelet coefficients.
        s3: covariances of the wavelet coefficients of the first field with those of moduli of the second; then the
            other way round.
        s4: covariances of the wavelet coefficients of moduli of the first field with those of the second.
    """

    covariance: Float[Array, ...]
    s2: Float[Array, "... scales"]
    s3: Float[Array, "... pairs"]
    s4: Float[Array, "... triples"]
    layout: CrossLayout = eqx.field(static=True, repr=False)

    def ravel(self) -> Float[Array, "... coefficients"]:
        """All coefficients on the last axis, in the order of `labels`; leading axes are those of the fields."""
        return jnp.concatenate([self.covariance[..., None], self.s2, self.s3, self.s4], axis=-1)

    def labels(self) -> tuple[CrossLabel, ...]:
        """What each entry of `ravel` is of."""
        return self.layout.labels


def statistics(scheme: Scheme, power: Array | None, weights: Weights | None, a: Array, b: Array) -> CrossStatistics:
    """The statistics of two fields, divided by a power like S2 where there is one."""
    both = jnp.stack(jnp.broadcast_arrays(a, b), axis=-3)
    return _statistics(scheme, power, weights, sphere_covariance.kernels_of(scheme, weights, both), both)


@functools.partial(jax.jit, static_argnums=0)
def _statistics(
    scheme: Scheme, power: Array | None, weights: Weights | None, kernels: Kernels | None, both: Array
) -> CrossStatistics:
    both = (both + layers.flip(both)) / 2
    layout = CrossLayout(scheme.layout)
    _, _, moduli = sphere_covariance.first_layer(scheme, weights, both)
    s2, covariance = _power(scheme, weights, both), _covariance(scheme, weights, both)
    s3, turned, s4 = [], [], []
    for j1 in range(scheme.J_min, scheme.J):
        above = moduli[j1 - scheme.J_min :]
        fields = [both, *(b[..., k, :, :, :] for k in range(2) for b in above)]
        found = sphere_covariance.products(scheme, weights, kernels, j1, fields, heads=2)
        second = 2 + (found.shape[-1] - 2) // 2
        s3.append(sphere_covariance.flatten(found[..., 0, second:]))
        turned.append(sphere_covariance.flatten(found[..., 1, 2:second]))
        pairs = found[..., 2:second, second:]
        s4.append(sphere_covariance.flatten(pairs.reshape(*pairs.shape[:-2], -1)))
    third, fourth = jnp.concatenate(s3 + turned, axis=-1), jnp.concatenate(s4, axis=-1)
    if power is not None:
        power = power.astype(both.real.dtype)
        root = jnp.sqrt(power)
        by3 = layout.own.where(layout.own.third[..., 0], layout.own.third[..., 1])
        by4 = layout.own.where(layout.fourth[:, 1:, 0], layout.fourth[:, 1:, 1])
        s2, third = s2 / power, third / jnp.tile(root[by3].prod(axis=-1), 2)
        fourth = fourth / root[by4].prod(axis=-1)
    return CrossStatistics(covariance, s2, third, fourth, layout)


def _power(scheme: Scheme, weights: Weights | None, both: Array) -> Array:
    averaged = scheme.reduction != "none"
    found = []
    for j in scheme.layout.scales:
        if averaged and weights is None:
            found.append(layers.mean_products(scheme, both, j)[..., 0, 1][..., None])
            continue
        grid = scheme.modulus_grid(j)
        over = layers.uniform_weights(grid) if weights is None else weights.moduli[j - scheme.J_min]
        maps = layers.wavelet_maps(scheme, both, j, grid)
        power = layers.mean(maps[..., 0, :, :, :] * maps[..., 1, :, :, :], over)
        found.append(power.mean(axis=-1, keepdims=True) if averaged else power)
    return jnp.concatenate(found, axis=-1)


def _covariance(scheme: Scheme, weights: Weights | None, both: Array) -> Array:
    if weights is None:
        degree, order = np.arange(scheme.L)[:, None], np.arange(1 - scheme.L, scheme.L)
        inside = ((abs(order) <= degree) & (degree > 0)).astype(both.real.dtype)
        a, b = both[..., 0, :, :], both[..., 1, :, :]
        return ((a.real * b.real + a.imag * b.imag) * inside).sum(axis=(-2, -1)) / (4 * np.pi)
    f = SHT(GaussLegendre(scheme.L), real=True, backend=scheme.backend).synthesis(both)  # type: ignore[arg-type]
    f = f - layers.mean(f, weights.field)[..., None, None]
    return layers.mean(f[..., 0, :, :] * f[..., 1, :, :], weights.field)
