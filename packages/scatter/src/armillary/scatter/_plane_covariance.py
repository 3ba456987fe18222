r"""Scattering covariances of periodic images.

Convolutions are products of Fourier transforms, so that by Parseval's identity the covariances of wavelet coefficients
need no second layer of them, whatever the directions:

.. math:: \langle W^\lambda[a]\, W^\lambda[b]^* \rangle = \frac{1}{n^2} \sum_\omega |\hat\psi_\lambda(\omega)|^2\,
          \hat a(\omega)\, \hat b(\omega)^*,

for n pixels. As the transforms of real images are conjugate at opposite frequencies, the part of the weights that is
even there gives the real part, the odd one the imaginary part, both from half of the frequencies.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from ._plane import Plane, wavelets
from ._statistics import Label, Layout, ScatteringStatistics


@dataclass(frozen=True)
class PlaneLayout(Layout):
    """With each direction for itself, S3 and S4 have imaginary parts, after all real ones."""

    @functools.cached_property
    def unlike(self) -> np.ndarray:
        """Which coefficients of S4 are of two moduli: that of one with itself is real."""
        return (self.fourth[:, 1] != self.fourth[:, 2]).any(axis=-1)

    @functools.cached_property
    def labels(self) -> tuple[Label, ...]:
        """As that of `Layout`."""
        of_group = {group: [x for x in super(PlaneLayout, self).labels if x.group == group] for group in ("s3", "s4")}
        first = [x for x in super().labels if x.group not in of_group]
        if self.reduction == "none":
            third = [x._replace(group="s3 imaginary") for x in of_group["s3"]]
            fourth = [x for x, unlike in zip(of_group["s4"], self.unlike.tolist(), strict=True) if unlike]
            of_group["s3"] += third
            of_group["s4"] += [x._replace(group="s4 imaginary") for x in fourth]
        return (*first, *of_group["s3"], *of_group["s4"])


class Weights(NamedTuple):
    """The weights of the frequencies that a scale has, of each direction or of their mean.

    Attributes:
        even: their even parts.
        odd: their odd parts.
    """

    even: Float[Array, "directions rows columns"]
    odd: Float[Array, "directions rows columns"]


def layout(plane: Plane) -> PlaneLayout:
    """Which coefficients there are."""
    return PlaneLayout(plane.J_min, plane.J, plane.N, plane.reduction)


def statistics(plane: Plane, power: Array | None, f: Array) -> ScatteringStatistics:
    """The statistics of images, divided by the power of a reference if there is one."""
    psi = wavelets(plane.shape, plane.N, tuple(plane.step(j) for j in plane.scales))
    weights = jax.tree.map(lambda x: x.astype(f.dtype), _weights(plane))
    return _statistics(plane, psi.astype(f.dtype), weights, power, f)


@functools.lru_cache(maxsize=16)
def _weights(plane: Plane) -> list[Weights]:
    """Of every scale."""
    rows, columns = plane.shape
    halves = columns // 2 + 1
    # The frequencies that a half of them stands for.
    count = np.where((np.arange(halves) == 0) | (2 * np.arange(halves) == columns), 1, 2) / (rows * columns) ** 2
    found = []
    for filters in wavelets(plane.shape, plane.N, tuple(plane.step(j) for j in plane.scales)):
        square = filters**2
        if plane.reduction == "full":
            square = square.mean(axis=0, keepdims=True)
        opposite = np.roll(square[:, ::-1, ::-1], 1, axis=(1, 2))
        whole = [(square + opposite)[:, :, :halves] / 2 * count, (square - opposite)[:, :, :halves] / 2 * count]
        # What is left out is below the precision of sums.
        inside = (whole[0] > 1e-18 * whole[0].max()).any(axis=0)
        across = np.maximum.outer(abs(np.fft.fftfreq(rows, 1 / rows)), np.arange(halves))
        highest = int(across[inside].max())
        found.append(Weights(*(_cut(x, min(rows, 2 * highest + 1), highest + 1) for x in whole)))
    return found


def _cut(x: Array, rows: int, columns: int) -> Array:
    """The lowest frequencies, an odd number of rows or all, and the first columns."""
    if rows < x.shape[-2]:
        x = x[..., np.arange(-(rows // 2), rows // 2 + 1) % x.shape[-2], :]
    return x[..., :columns]


@functools.partial(jax.jit, static_argnums=0)
def _statistics(
    plane: Plane, psi: Array, weights: list[Weights], power: Array | None, f: Array
) -> ScatteringStatistics:
    averaged = plane.reduction == "full"
    mean = f.mean(axis=(-2, -1))
    variance = ((f - mean[..., None, None]) ** 2).mean(axis=(-2, -1))
    maps = jnp.fft.ifft2(jnp.fft.fft2(f)[..., None, None, :, :] * psi)
    moduli = abs(maps)  # (..., scales, directions, rows, columns)
    if averaged:
        moduli = moduli.mean(axis=-3, keepdims=True)
    s1 = moduli.mean(axis=(-2, -1))
    if plane.reduction == "relative":
        s1 = s1.mean(axis=-1, keepdims=True)
    field, moduli = jnp.fft.rfft2(f)[..., None, :, :], jnp.fft.rfft2(moduli)
    s2 = jnp.stack([_products(x.even, field)[..., 0, 0] for x in weights], axis=-2)
    if plane.reduction == "relative":
        s2 = s2.mean(axis=-1, keepdims=True)

    s3: list[list[Array]] = [[], []]
    s4: list[list[Array]] = [[], []]
    which = layout(plane)
    for j1, of_scale in zip(plane.scales[:-1], weights, strict=False):
        after = moduli[..., j1 - plane.J_min + 1 :, :, :, :]
        after = after.reshape(*after.shape[:-4], -1, *after.shape[-2:])
        fields = jnp.concatenate([field, after], axis=-3)
        third = which.third[which.third[:, 0, 0] == j1]
        own = np.concatenate([third[:, :1], np.full_like(third[:, :1], -1), third[:, 1:]], axis=1)
        fourth = which.fourth[which.fourth[:, 0, 0] == j1]
        real = _products(of_scale.even, fields)
        s3[0].append(_pick(plane, own, real))
        s4[0].append(_pick(plane, fourth, real))
        if plane.reduction == "none":
            imaginary = _products(of_scale.odd, fields, imaginary=True)
            s3[1].append(_pick(plane, own, imaginary))
            s4[1].append(_pick(plane, fourth[which.unlike[which.fourth[:, 0, 0] == j1]], imaginary))
    s = ScatteringStatistics(
        mean,
        variance,
        s1.reshape(*mean.shape, -1),
        s2.reshape(*mean.shape, -1),
        jnp.concatenate([*s3[0], *s3[1]], axis=-1),
        jnp.concatenate([*s4[0], *s4[1]], axis=-1),
        which,
    )
    return s if power is None else _divide(plane, s, power.astype(f.dtype))


def _products(weights: Array, fields: Array, *, imaginary: bool = False) -> Array:
    """Weighted sums over frequencies, ``(..., directions, fields, fields)``: the real or the imaginary part."""
    fields = _cut(fields, *weights.shape[-2:])
    flat = fields.reshape(*fields.shape[:-2], -1)
    weights = weights.reshape(weights.shape[0], -1)
    one = jnp.concatenate([flat.real, flat.imag], axis=-1)
    other = jnp.concatenate([flat.imag, -flat.real], axis=-1) if imaginary else one
    weighted = other[..., None, :, :] * jnp.concatenate([weights, weights], axis=-1)[:, None, :]
    return jnp.einsum("...gap,...bp->...gab", weighted, one, precision="highest")


def _pick(plane: Plane, rows: np.ndarray, products: Array) -> Array:
    """The products of the wavelets (scale, direction) of each row: j1's, and those of two fields; the image's is -1.

    Relative directions are turned together, and the mean is taken.
    """
    each = 1 if plane.reduction == "full" else plane.N
    turns = np.arange(plane.N) if plane.reduction == "relative" else np.zeros(1, int)
    scale, direction = rows[..., 0], (np.maximum(rows[..., 1], 0)[..., None] + turns) % each
    place = 1 + (scale[:, 1:] - scale[:, :1] - 1)[..., None] * each + direction[:, 1:]
    place = np.where(scale[:, 1:, None] < 0, 0, place)
    return products[..., direction[:, 0], place[:, 0], place[:, 1]].mean(axis=-1)


def _divide(plane: Plane, s: ScatteringStatistics, power: Array) -> ScatteringStatistics:
    which, root = layout(plane), jnp.sqrt(power)

    def by(rows: np.ndarray) -> Array:
        direction = np.maximum(rows[..., 1], 0) if plane.reduction == "none" else 0
        place = (rows[..., 0] - plane.J_min) * (plane.N if plane.reduction == "none" else 1) + direction
        return root[place].prod(axis=-1)

    third, fourth = which.third, which.fourth[:, 1:]
    if plane.reduction == "none":
        third, fourth = np.concatenate([third, third]), np.concatenate([fourth, fourth[which.unlike]])
    return ScatteringStatistics(
        s.mean, s.variance, s.s1 / root, s.s2 / power, s.s3 / by(third), s.s4 / by(fourth), s.layout
    )
