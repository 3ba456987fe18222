r"""Wavelet coefficients, their moduli, and the products of those that scattering covariances are made of.

Every scale has its own bandlimit :math:`L_j` and grid, and only the orders in the direction that a wavelet has are
transformed. A wavelet coefficient of a real field is

.. math:: W_j(\theta, \phi, \gamma) = \frac{1}{\sqrt{2\pi}} \sum_n (-1)^n e^{i n \gamma} \sum_{lm} \kappa_j(l)\,
          \zeta_{ln}^*\, a_{lm}\, {}_{-n}Y_{lm}(\theta, \phi).
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from armillary.sphere import SHT, ClenshawCurtis, DriscollHealy, GaussLegendre, McEwenWiaux, McEwenWiauxSS, Wavelets

from ._statistics import Layout, Reduction

Grid = GaussLegendre | McEwenWiaux | McEwenWiauxSS | DriscollHealy | ClenshawCurtis


@dataclass(frozen=True)
class Scheme:
    """Which wavelets there are, and what is done with them."""

    L: int
    N: int
    J_min: int
    reduction: Reduction
    oversample: float
    s2scat: bool
    backend: str
    multiresolution: bool = True

    @property
    def J(self) -> int:
        # s2scat's covers the degree L too, which a field of bandlimit L has not.
        return math.ceil(math.log2(self.L if self.s2scat else max(self.L - 1, 1)))

    @property
    def directions(self) -> int:
        return 2 * self.N - 1

    @functools.cached_property
    def layout(self) -> Layout:
        return Layout(self.J_min, self.J, self.directions, self.reduction, every=self.s2scat)

    def bandlimit(self, j: int) -> int:
        return min(self.L, 2 ** (max(j, 1) + 1)) if self.multiresolution else self.L

    def grid(self, j: int) -> GaussLegendre:
        """Where products of coefficients of the scale are summed, exactly."""
        return GaussLegendre(self.bandlimit(j))

    def modulus_grid(self, j: int) -> GaussLegendre:
        """Where their moduli are taken, which no grid samples exactly."""
        return GaussLegendre(math.ceil(self.oversample * self.bandlimit(j)))

    @functools.cached_property
    def kappa(self) -> np.ndarray:
        """The filters over degrees, of every scale."""
        if self.s2scat:
            return _kappa_of_s2scat(self.L, self.J_min, self.J)
        return Wavelets(self.L, self.N, self.J_min).filters.kappa

    @functools.cached_property
    def zeta(self) -> np.ndarray:
        """The filters over directions, by degree and order from 0 up."""
        return Wavelets(self.L, self.N).filters.directionality[:, self.N - 1 :]


def flip(alm: Array) -> Array:
    r"""The coefficients of the conjugate field, :math:`(-1)^m a_{l,-m}^*`."""
    m = np.arange(alm.shape[-1]) - alm.shape[-1] // 2
    return alm[..., ::-1].conj() * (1 - 2 * (m % 2)).astype(alm.real.dtype)


def cut(alm: Array, L: int) -> Array:
    """The degrees below `L`."""
    whole = alm.shape[-2]
    return alm[..., :L, whole - L : whole + L - 1]


def wavelet_maps(scheme: Scheme, alm: Array, j: int, grid: Grid) -> Array:
    """The wavelet coefficients of scale `j`, ``(..., directions, *grid.shape)``, of real fields of any bandlimit."""
    L = min(scheme.bandlimit(j), alm.shape[-2])
    alm = cut(alm, L)
    dtype = alm.real.dtype
    kappa = scheme.kappa[j - scheme.J_min, :L] / math.sqrt(2 * math.pi)
    gamma = 2 * np.pi / scheme.directions * np.arange(scheme.directions)
    parts, waves = [], []
    for n in range(min(scheme.N, L)):
        factor = kappa * scheme.zeta[:L, n].conj()
        if not factor.any():
            continue
        factor = factor.astype(alm.dtype if np.iscomplexobj(factor) else dtype)
        sht = SHT(grid, L, spin=-n, real=n == 0, backend=scheme.backend)  # type: ignore[arg-type]
        field = sht.synthesis(alm * factor[:, None])
        if n == 0:
            parts.append(field)
            waves.append(np.ones_like(gamma))
        else:
            # The orders below 0 are the conjugates.
            parts += [field.real, field.imag]
            waves += [2 * (-1) ** n * np.cos(n * gamma), -2 * (-1) ** n * np.sin(n * gamma)]
    matrix = np.stack(waves, axis=1).astype(dtype)
    maps = jnp.tensordot(matrix, jnp.stack(parts), 1, precision="highest")
    return jnp.moveaxis(maps, 0, maps.ndim - 3)


def uniform_weights(grid: GaussLegendre) -> np.ndarray:
    """The weights of the mean over the sphere, ``(rings, 1)``."""
    return grid.weights[:, None] / (4 * np.pi)


def mean(maps: Array, weights: Array | np.ndarray) -> Array:
    """The mean of maps ``(..., rings, longitudes)`` with the given weights."""
    return (maps * weights.astype(maps.dtype)).sum(axis=(-2, -1))


def modulus(maps: Array) -> Array:
    """Not jnp.abs, whose derivative at 0 is 1."""
    return maps * jnp.sign(maps)


def modulus_coefficients(scheme: Scheme, maps: Array, j: int) -> Array:
    """Harmonic coefficients of maps on the scale's `modulus_grid`: the degrees that a larger scale can see."""
    L = scheme.bandlimit(j - 1)
    return SHT(scheme.modulus_grid(j), L, real=True, backend=scheme.backend).analysis(maps)  # type: ignore[arg-type]


def directional_products(scheme: Scheme, fields: Array, j: int, weights: Array | None) -> Array:
    r"""Covariances of wavelet coefficients of scale `j`, from coefficients ``(..., fields, L, 2 L - 1)``.

    Returns:
        :math:`\langle W^{a \gamma} W^{b \gamma} \rangle`, of shape ``(..., directions, fields, fields)``, with the
        given weights, or those of the whole sphere.
    """
    grid = scheme.grid(j)
    maps = wavelet_maps(scheme, fields, j, grid)
    if weights is None:
        maps = maps * np.sqrt(uniform_weights(grid)).astype(maps.dtype)
    else:
        # On a part of the sphere wavelets have a mean, over points and directions.
        center = mean(maps, weights).mean(axis=-1)[..., None, None, None]
        maps = (maps - center) * jnp.sqrt(weights).astype(maps.dtype)
    flat = jnp.moveaxis(maps.reshape(*maps.shape[:-2], -1), -3, -2)  # (..., directions, fields, points)
    return jnp.einsum("...ap,...bp->...ab", flat, flat, precision="highest")


def mean_products(scheme: Scheme, fields: Array, j: int) -> Array:
    r"""The mean of `directional_products` over directions, with no transform.

    By Parseval's identity on the rotation group, :math:`\frac{1}{8 \pi^2} \mathrm{Re} \sum_{lm} \kappa_j(l)^2 a_{lm}
    b_{lm}^*`, whatever the directional part of the wavelet.
    """
    return gram(weighted(scheme, fields, j))


def weighted(scheme: Scheme, fields: Array, j: int) -> Array:
    """Coefficients ``(..., fields, L, orders)`` whose products add up to the mean of `directional_products`."""
    L = scheme.bandlimit(j)
    half = cut(fields, L)[..., L - 1 :]  # the orders below 0 add as much as those above
    square = scheme.kappa[j - scheme.J_min, :L, None] ** 2 / (8 * np.pi**2) * np.where(np.arange(L), 2, 1)
    inside = np.arange(L) <= np.arange(L)[:, None]
    return half * np.where(inside, np.sqrt(square), 0).astype(half.real.dtype)


def gram(half: Array) -> Array:
    """Sums of products of fields, ``(..., fields, fields)``."""
    flat = half.reshape(*half.shape[:-2], -1)
    flat = jnp.concatenate([flat.real, flat.imag], axis=-1)
    return jnp.einsum("...ap,...bp->...ab", flat, flat, precision="highest")


def _kappa_of_s2scat(L: int, J_min: int, J: int) -> np.ndarray:
    """The same integrals by 300 trapezia, as s2wav takes them: wrong in the sixth digit."""

    def integral(low: np.ndarray) -> np.ndarray:
        u = np.linspace(low, 1.0, 301)
        v = 4 * (u - 0.5) - 1
        inside = abs(v) < 1
        bump = np.where(inside, np.exp(-2 / np.where(inside, 1 - v**2, 1)), 0) / u
        return np.asarray(np.trapezoid(bump, u, axis=0))

    t = np.arange(L) / 2.0 ** np.arange(J_min, J + 2)[:, None]
    falling = (t > 0.5) & (t < 1)
    k = np.where(falling, integral(np.where(falling, t, 1.0)) / integral(np.array(0.5)), t <= 0.5)
    return np.sqrt(np.maximum(np.diff(k, axis=0), 0))
