r"""Products of the coefficients of directional wavelets, from harmonic coefficients alone.

The mean over the sphere of a product of two wavelet coefficients of one direction :math:`\gamma` is a quadratic form in
harmonic coefficients, diagonal in the order m. With orthonormal :math:`h^n_{lm} = \sqrt{(2 l + 1) / 2}\, d^l_{mn}`,

.. math:: \langle W^{a \gamma} W^{b \gamma} \rangle = \frac{1}{8 \pi^2} \mathrm{Re} \sum_{m l l'}
          \kappa_j(l)\, a_{lm} H^\gamma_{m l l'}\, \kappa_j(l')\, b_{l'm}^*, \qquad
          H^\gamma = \sum_{k} e^{i k \gamma} E_k, \quad
          E_{k, m l l'} = \sum_{n - n' = k} \zeta_{ln}^* \zeta_{l'n'} \int_{-1}^1 h^n_{lm}\, h^{n'}_{l'm}\, \mathrm dx.

:math:`E_0` is 1. The others have even k, and as :math:`d^l_{mn}(\pi - \theta) = (-1)^{l+m} d^l_{m,-n}(\theta)`, the
transpose of :math:`E_k` is :math:`E_{-k} = (-1)^{l+l'} E_k`: only its cosine is between degrees of the same parity, and
only its sine between others. With these real matrices stored there is no transform to make, and the derivative of a
form is its other half, which has been computed.
"""

from __future__ import annotations

import functools
import itertools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from armillary.sphere import GaussLegendre

from . import _layers as layers
from ._layers import Scheme

#: The most that all kernels of a scheme may take, in bytes of float64. Beyond, maps are made instead.
LARGEST = 2**29

Kernels = tuple[tuple[Array, ...], ...]


class Band(NamedTuple):
    """Orders with one range of degrees, which starts at an even number and has an even length."""

    orders: slice
    degrees: slice

    @property
    def half(self) -> int:
        return (self.degrees.stop - self.degrees.start) // 2


def bands(scheme: Scheme, j: int) -> list[Band]:
    """All orders of a scale, so that few entries are beyond ``m <= l``."""
    L = scheme.bandlimit(j)
    lowest = int(np.flatnonzero(scheme.kappa[j - scheme.J_min]).min(initial=L - 1))
    edges = np.linspace(0, L, 5 if L >= 32 else 2).astype(int).tolist()
    found = []
    for first, last in itertools.pairwise(edges):
        start = max(first, lowest) // 2 * 2
        found.append(Band(slice(first, last), slice(start, L + (L - start) % 2)))
    return found


def stored(scheme: Scheme) -> bool:
    """Whether the products of a scheme are made with kernels: they need any, and they are small enough."""
    if scheme.reduction == "full" and not scheme.s2scat:
        return False
    entries = 0
    for j in range(scheme.J_min, scheme.J):
        for band in bands(scheme, j):
            entries += (band.orders.stop - band.orders.start) * (2 * band.half) ** 2 * (scheme.N - 1)
    return 8 * entries <= LARGEST


@functools.lru_cache(maxsize=4)
def kernels(scheme: Scheme, dtype: np.dtype) -> Kernels:
    r"""Of each scale but the last, and each band, :math:`2 E_k`.

    Their shape is ``(orders, 2, 2, k, half, half)``: by the parity of l', by whether that of l is the other, and by k
    from 2 on; the last axis is l'.
    """
    with jax.ensure_compile_time_eval():
        return tuple(
            tuple(jnp.asarray(_kernel(scheme, j, band), dtype) for band in bands(scheme, j))
            for j in range(scheme.J_min, scheme.J)
        )


def _kernel(scheme: Scheme, j: int, band: Band) -> np.ndarray:
    L, N = scheme.bandlimit(j), scheme.N
    grid = GaussLegendre(L)
    m, degree = np.arange(L)[band.orders], np.arange(band.degrees.start, band.degrees.stop)
    inside = degree < L
    # The weights of the grid are those of points, and of the integral over longitudes too.
    root = np.sqrt(grid.weights * grid.shape[1] / (2 * np.pi))
    parity = (-1.0) ** (degree + m[:, None])[:, :, None]
    functions = {}
    for n in range((N - 1) % 2, N, 2):
        zeta = np.where(inside, abs(scheme.zeta[np.minimum(degree, L - 1), n]), 0)
        h = wigner(L, m, n, grid.theta)[:, band.degrees.start :]
        h = np.pad(h, [(0, 0), (0, len(degree) - h.shape[1]), (0, 0)]) * zeta[:, None] * root
        functions[n] = h
        functions[-n] = parity * h[:, :, ::-1]
    found = np.zeros((len(m), 2, 2, N - 1, band.half, band.half))
    for k, p, other in itertools.product(range(2, 2 * N, 2), range(2), range(2)):
        # Orders (-n', -n) give the transpose, up to its parity.
        for n in (n for n in functions if n - k in functions and 2 * n >= k):
            to, of = functions[n][:, (p + other) % 2 :: 2], functions[n - k][:, p::2]
            part = to @ of.swapaxes(1, 2)
            part *= 2
            found[:, p, other, k // 2 - 1] += part
            if 2 * n > k:
                part *= 1 - 2 * other
                found[:, (p + other) % 2, other, k // 2 - 1] += part.swapaxes(1, 2)
    return found


def wigner(L: int, m: np.ndarray, n: int, theta: np.ndarray) -> np.ndarray:
    r""":math:`\sqrt{(2 l + 1) / 2}\, d^l_{mn}(\theta)` for ``m, n >= 0``, of shape ``(m, L, theta)``.

    By the recurrence over degrees in Reinsch's form, in the steps between them, which keeps digits near the pole.
    """
    found = np.zeros((len(m), L, len(theta)))
    first = np.maximum(m, n)
    high, low = first[:, None], np.minimum(m, n)[:, None]
    log = np.concatenate([[0], np.cumsum(np.log(np.arange(1, 2 * L + 1, dtype=np.longdouble)))])
    norm = (log[2 * high] - log[high + low] - log[high - low]) / 2 + np.log(high + np.longdouble(0.5)) / 2
    start = norm + (high + low) * np.log(np.cos(theta / 2)) + (high - low) * np.log(np.sin(theta / 2))
    sign = np.where(m >= n, (-1.0) ** (m - n), 1)[:, None]
    start = sign * np.exp(start.astype(np.float64))

    def epsilon(degree: int) -> np.ndarray:
        square = np.longdouble(degree) ** 2
        return np.sqrt(np.maximum(square - m**2, 0) * max(square - n**2, 0) / (4 * square - 1)) / degree

    y = 2 * np.sin(theta / 2) ** 2
    p, step = np.zeros_like(start), np.zeros_like(start)
    for degree in range(n, L):
        begins = (first == degree)[:, None]
        p, step = np.where(begins, start, p), np.where(begins, start, step)
        # What is too small to matter in a product would be a subnormal number there, with which computers are slow.
        found[:, degree] = np.where(abs(p) > 1e-60, p, 0)
        after, before = epsilon(degree + 1), epsilon(degree) if degree else np.zeros(len(m))
        beta = m * np.longdouble(n) / max(degree * (degree + 1), 1)
        going = first <= degree
        after = np.where(going, after, 1)
        middle = ((1 - beta - after - before) / after).astype(np.float64)[:, None]
        ratio = (before / after).astype(np.float64)[:, None]
        step = (middle - y / after.astype(np.float64)[:, None]) * p + ratio * step
        p = np.where(going[:, None], p + step, 0)
    return found


def directional_products(scheme: Scheme, fields: Array, j: int, kernels: tuple[Array, ...]) -> Array:
    """As `_layers.directional_products` over the whole sphere, with the kernels of scale `j`."""
    half = layers.weighted(scheme, fields, j)
    flat = half.reshape(-1, *half.shape[-3:])
    found = jax.vmap(lambda x: _products(scheme, x, j, kernels))(flat)
    return found.reshape(*half.shape[:-3], *found.shape[1:])


def _products(scheme: Scheme, half: Array, j: int, kernels: tuple[Array, ...]) -> Array:
    """Of fields ``(fields, L, orders)``: ``(directions, fields, fields)``."""
    L, dtype = half.shape[1], half.real.dtype
    x = jnp.stack([half.real, half.imag]).transpose(3, 2, 0, 1)  # order, degree, part, field
    x = jnp.pad(x, [(0, 0), (0, L % 2), (0, 0), (0, 0)])
    total = jnp.zeros((), dtype)
    for band, kernel in zip(bands(scheme, j), kernels, strict=True):
        own = x[band.orders, band.degrees]
        total = total + _forms(kernel, own.reshape(own.shape[0], band.half, 2, *own.shape[2:]).swapaxes(1, 2))
    gamma = 2 * np.pi / scheme.directions * np.arange(scheme.directions)
    k = np.arange(2, 2 * scheme.N, 2)
    waves = np.concatenate([np.cos(gamma[:, None] * k), np.sin(gamma[:, None] * k)], axis=1).astype(dtype)
    return layers.gram(half) + jnp.tensordot(waves, total, 1, precision="highest")


@jax.custom_jvp
def _forms(kernel: Array, x: Array) -> Array:
    """The forms of all k, cosines then sines, of ``x`` (orders, parities, degrees, parts, fields)."""
    return jnp.einsum("mpkcf,mprkcg->rfg", x, _apply(kernel, x), precision="highest")


@_forms.defjvp
def _forms_jvp(primals: tuple[Array, Array], tangents: tuple[Array, Array]) -> tuple[Array, Array]:
    # Each form is symmetric, so that the matrices need not be applied again.
    kernel, x = primals
    y = _apply(kernel, x)
    half = jnp.einsum("mpkcf,mprkcg->rfg", tangents[1], y, precision="highest")
    value = jnp.einsum("mpkcf,mprkcg->rfg", x, y, precision="highest")
    return value, half + half.swapaxes(1, 2)


def _apply(kernel: Array, x: Array) -> Array:
    y = jnp.einsum("mporkl,mplcf->mporkcf", kernel, x, precision="highest")
    other = y[:, ::-1, 1]
    other = jnp.stack([other[..., 1, :], -other[..., 0, :]], axis=-2)  # by -i
    return jnp.concatenate([y[:, :, 0], other], axis=2)
