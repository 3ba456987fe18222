"""Scattering covariances of fields on the sphere."""

from __future__ import annotations

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from armillary.sphere import SHT, GaussLegendre

from . import _kernels
from . import _layers as layers
from ._kernels import Kernels
from ._layers import Scheme
from ._mask import Weights
from ._statistics import Layout, ScatteringStatistics


def statistics(scheme: Scheme, power: Array | None, weights: Weights | None, alm: Array) -> ScatteringStatistics:
    """The statistics of fields, divided by a power like S2 where there is one."""
    return _statistics(scheme, power, weights, kernels_of(scheme, weights, alm), alm)


def kernels_of(scheme: Scheme, weights: Weights | None, alm: Array) -> Kernels | None:
    """The stored kernels that the products of these fields are made with, if they are."""
    if weights is not None or not _kernels.stored(scheme):
        return None
    return _kernels.kernels(scheme, np.finfo(alm.dtype).dtype)


@functools.partial(jax.jit, static_argnums=0)
def _statistics(
    scheme: Scheme, power: Array | None, weights: Weights | None, kernels: Kernels | None, alm: Array
) -> ScatteringStatistics:
    alm = (alm + layers.flip(alm)) / 2
    mean, variance = _moments(scheme, alm) if weights is None else _masked_moments(scheme, weights, alm)
    s1, s2, moduli = first_layer(scheme, weights, alm)
    s3, s4 = _second_layer(scheme, weights, kernels, alm, moduli)
    if scheme.s2scat:
        s3, s4 = 4 * np.pi * s3, 4 * np.pi * s4
    s = ScatteringStatistics(mean, variance, s1, s2, s3, s4, scheme.layout)
    if power is not None:
        s = _divide(s, power.astype(alm.real.dtype))
    if scheme.s2scat and scheme.reduction == "full":
        s = _sum_directions(scheme, s)
    return s


def _moments(scheme: Scheme, alm: Array) -> tuple[Array, Array]:
    monopole = alm[..., 0, scheme.L - 1].real
    degree, order = np.arange(scheme.L)[:, None], np.arange(1 - scheme.L, scheme.L)
    inside = ((abs(order) <= degree) & (degree > 0)).astype(monopole.dtype)
    variance = ((alm.real**2 + alm.imag**2) * inside).sum(axis=(-2, -1)) / (4 * np.pi)
    mean = monopole / (2 * math.sqrt(math.pi))
    return layers.modulus(mean) if scheme.s2scat else mean, variance


def _masked_moments(scheme: Scheme, weights: Weights, alm: Array) -> tuple[Array, Array]:
    f = SHT(GaussLegendre(scheme.L), real=True, backend=scheme.backend).synthesis(alm)  # type: ignore[arg-type]
    mean = layers.mean(f, weights.field)
    return mean, layers.mean((f - mean[..., None, None]) ** 2, weights.field)


def first_layer(scheme: Scheme, weights: Weights | None, alm: Array) -> tuple[Array, Array, list[Array]]:
    """S1, S2, and by scale from ``J_min + 1`` on the coefficients of moduli, ``(..., directions or 1, L, 2 L - 1)``."""
    averaged = scheme.reduction != "none" and not scheme.s2scat
    s1, s2, moduli = [], [], []
    for j in scheme.layout.scales:
        grid = scheme.modulus_grid(j)
        over = layers.uniform_weights(grid) if weights is None else weights.moduli[j - scheme.J_min]
        maps = layers.wavelet_maps(scheme, alm, j, grid)
        size = layers.modulus(maps)
        if scheme.reduction == "full" and averaged:
            size = size.mean(axis=-3, keepdims=True)
        s1.append(layers.mean(size, over))
        if averaged and weights is None:
            s2.append(layers.mean_products(scheme, alm[..., None, :, :], j)[..., 0])
        else:
            power = layers.mean(maps**2, over)
            s2.append(power.mean(axis=-1, keepdims=True) if averaged else power)
        if j > scheme.J_min:
            moduli.append(layers.modulus_coefficients(scheme, size, j))
    if scheme.reduction == "relative":
        s1 = [s.mean(axis=-1, keepdims=True) for s in s1]
    return jnp.concatenate(s1, axis=-1), jnp.concatenate(s2, axis=-1), moduli


def _second_layer(
    scheme: Scheme, weights: Weights | None, kernels: Kernels | None, alm: Array, moduli: list[Array]
) -> tuple[Array, Array]:
    s3, s4 = [], []
    for j1 in range(scheme.J_min, scheme.J):
        fields = [alm[..., None, :, :], *moduli[j1 - scheme.J_min :]]
        found = products(scheme, weights, kernels, j1, fields)
        s3.append(flatten(found[..., 0, 1:]))
        s4.append(flatten(found[(..., *_pair_indices(scheme, j1))]))
    return jnp.concatenate(s3, axis=-1), jnp.concatenate(s4, axis=-1)


def products(
    scheme: Scheme, weights: Weights | None, kernels: Kernels | None, j: int, fields: list[Array], heads: int = 1
) -> Array:
    """Covariances of wavelet coefficients of scale `j`: ``(..., directions or 1, fields, fields)``.

    The first array of fields has `heads` of them, each other the moduli of one scale.
    """
    L = scheme.bandlimit(j)
    x = jnp.concatenate([layers.cut(b, L) for b in fields], axis=-3)
    averaged = scheme.reduction == "full" and not scheme.s2scat
    if averaged and weights is None:
        return layers.mean_products(scheme, x, j)[..., None, :, :]
    if kernels is not None:
        found = _kernels.directional_products(scheme, x, j, kernels[j - scheme.J_min])
    else:
        found = layers.directional_products(
            scheme, x, j, None if weights is None else weights.products[j - scheme.J_min]
        )
    if averaged:
        return found.mean(axis=-3, keepdims=True)
    return _turned(scheme.directions, found, heads) if scheme.reduction == "relative" else found


def flatten(found: Array) -> Array:
    """(..., directions, coefficients) -> one axis, directions last."""
    return jnp.swapaxes(found, -1, -2).reshape(*found.shape[:-2], -1)


def _unreduced(scheme: Scheme) -> Layout:
    """The layout before s2scat sums directions."""
    layout = scheme.layout
    return Layout(layout.J_min, layout.J, layout.directions, "none", every=True) if layout.every else layout


def _pair_indices(scheme: Scheme, j1: int) -> tuple[np.ndarray, np.ndarray]:
    """Where the pairs of S4 are among the products, whose first field is the field itself."""
    layout = _unreduced(scheme)
    each = 1 if layout.reduction == "full" else scheme.directions
    pairs = np.array(layout.pairs(j1))  # (pairs, 2, (scale, direction))
    where = 1 + (pairs[..., 0] - j1 - 1) * each + np.maximum(pairs[..., 1], 0)
    return where[:, 0], where[:, 1]


def _turned(directions: int, products: Array, heads: int) -> Array:
    """The mean over directions turned together, ``(..., 1, fields, fields)``; fields are by scale and direction."""
    scales = (products.shape[-1] - heads) // directions
    steps = np.arange(directions)
    own = heads + np.arange(scales)[:, None] * directions
    total = jnp.zeros((), products.dtype)
    for g in range(directions):
        fields = np.concatenate([np.arange(heads), (own + (g + steps) % directions).ravel()])
        total = total + products[..., g, fields[:, None], fields]
    return (total / directions)[..., None, :, :]


def _divide(s: ScatteringStatistics, power: Array) -> ScatteringStatistics:
    """Divided by the power of a reference, an array as S2."""
    layout = s.layout
    root = jnp.sqrt(power)
    if layout.every:
        layout = Layout(layout.J_min, layout.J, layout.directions, "none", every=True)
    # Indices (coefficient, wavelet) of the two wavelets by whose power S3 and S4 are divided; s2scat has the scale of
    # the second wavelet, with the directions of the first.
    third, fourth = layout.third, layout.fourth
    scales3 = third[:, [0, 0], 0] if layout.every else third[:, :, 0]
    scales4 = fourth[:, [0, 0], 0] if layout.every else fourth[:, 1:, 0]
    by3, by4 = layout.where(scales3, third[..., 1]), layout.where(scales4, fourth[:, 1:, 1])
    return ScatteringStatistics(
        s.mean,
        s.variance,
        s.s1 / root,
        s.s2 / power,
        s.s3 / root[by3].prod(axis=-1),
        s.s4 / root[by4].prod(axis=-1),
        s.layout,
    )


def _sum_directions(scheme: Scheme, s: ScatteringStatistics) -> ScatteringStatistics:
    n = scheme.directions
    s3 = s.s3.reshape(*s.s3.shape[:-1], -1, n**2).sum(axis=-1)
    s4 = s.s4.reshape(*s.s4.shape[:-1], -1, n**3).sum(axis=-1)
    return ScatteringStatistics(s.mean, s.variance, s.s1, s.s2, s3, s4, s.layout)
