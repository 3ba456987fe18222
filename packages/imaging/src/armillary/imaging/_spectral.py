r"""An upper bound on the spectral norm of a convolution, by which its weights are divided.

A convolution of any number of pixels, with zeros or periodic boundaries, is a compression of the one on the infinite
grid, whose norm is the largest spectral norm of the matrix :math:`A(\omega)` of channels at a frequency. That is
sampled on a grid of n by n frequencies. Each :math:`u^* A v` is a trigonometric polynomial of degree d on either axis,
and by M. Riesz's lemma falls off from its maximum no faster than :math:`\cos(d t)`, so that the maximum exceeds the
nearest sample by the factor :math:`\cos(\pi d / n)^{-2}` at most. At a frequency Gram iteration (Delattre B.,
Barthélemy Q., Araujo A., Allauzen A. 2023, arXiv:2305.16173) bounds the norm from above, by products of matrices alone:

.. math:: \|A\|^2 \le \|(A^* A)^{2^k}\|_F^{2^{-k}}.
"""

from __future__ import annotations

import math

import jax.numpy as jnp
from jaxtyping import Array, Float

FREQUENCIES, SQUARINGS = 16, 5


def norm_bound(weight: Float[Array, "size size in out"]) -> Float[Array, ""]:
    """A bound, a few per cent above it, on the norm of the convolution with a kernel of odd size."""
    size = weight.shape[0]
    n = FREQUENCIES
    spectrum = jnp.fft.rfft2(weight, s=(n, n), axes=(0, 1))
    if spectrum.shape[-1] > spectrum.shape[-2]:
        spectrum = jnp.swapaxes(spectrum, -1, -2)  # of the two Gram matrices the smaller one
    gram = jnp.swapaxes(spectrum.conj(), -1, -2) @ spectrum
    # The logarithm of what was divided out, so that no power overflows.
    log_scale = jnp.zeros(gram.shape[:2], weight.dtype)
    for _ in range(SQUARINGS):
        norm = _frobenius(gram)
        gram = gram / norm[..., None, None]
        gram = gram @ gram
        log_scale = 2 * (log_scale + jnp.log(norm))
    log_bound = (log_scale + jnp.log(_frobenius(gram))) / 2**SQUARINGS
    between = math.cos(math.pi * (size // 2) / n) ** -2
    return jnp.exp(log_bound.max() / 2) * between


def _frobenius(matrix: Array) -> Array:
    squared = jnp.sum(matrix.real**2 + matrix.imag**2, axis=(-2, -1))
    return jnp.sqrt(jnp.maximum(squared, jnp.finfo(squared.dtype).tiny))
