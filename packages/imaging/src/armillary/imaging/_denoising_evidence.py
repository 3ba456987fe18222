r"""The evidence of the prior that a denoiser knows, for an image seen directly in white noise.

That evidence is the density of noisy images at the data, :math:`Z = \int p(x) N(y; x, s^2)\, dx = p_s(y)`, and a
denoiser knows the score :math:`S_\sigma` of noisy images at every noise level. With the score G of a Gaussian density q
of white noise about the data's mean, of their variance, and noise :math:`\tau \xi` that is added to the data

.. math:: \ln Z = \ln q(y) + \int_0^\infty \frac{d\tau}{\tau}\, E_\xi\left[
              \|\xi + \tau\, G_\tau(y + \tau \xi)\|^2
              - \|\xi + \tau\, S_{\sqrt{s^2 + \tau^2}}(y + \tau \xi)\|^2 \right],

the relation of information and estimation (Guo, Shamai & Verdú 2005) at one point (Kong, Brekelmans & Ver Steeg 2023).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from armillary.core import Evidence

from ._check import check_count, check_positive

# Below this part of the noise of the data, and above sigma_max, the integrand is its leading power of tau.
_SMALLEST = 0.01


def denoising_evidence(
    key: jax.Array,
    denoiser: Callable[[Array, Any], Array],
    data: Float[Array, "rows columns"],
    noise: float,
    *,
    sigma_max: float,
    num_levels: int = 32,
    num_draws: int = 16,
) -> Evidence:
    r"""The evidence of a denoiser's prior for an image in white noise, without sampling the posterior.

    For the posterior mean of a prior it is the evidence of that prior, to the Monte-Carlo error. A trained denoiser is
    the posterior mean of no prior exactly: its errors are larger than need be, so that what comes out is too small, on
    the average over data of the distribution that it was trained on. On other data that need not hold.

    With the posterior mean of a wavelet prior it is the evidence that `L1Wavelet` knows in closed form:

    >>> import jax
    >>> from armillary.imaging import L1Wavelet, denoising_evidence
    >>> prior = L1Wavelet("haar", 2, scale=1.0, shape=(16, 16))
    >>> y = prior.sample(jax.random.key(0)) + 0.5 * jax.random.normal(jax.random.key(1), (16, 16))
    >>> result = denoising_evidence(jax.random.key(2), prior.posterior_mean, y, 0.5, sigma_max=20.0)
    >>> bool(abs(result.log_z - prior.log_evidence(y, 0.5)) < 4 * result.log_z_err), bool(result.log_z_err < 1)
    (True, True)

    Guo D., Shamai S., Verdú S. 2005, IEEE Trans. Inf. Theory 51, 1261, doi:10.1109/TIT.2005.844072; Kong X.,
    Brekelmans R., Ver Steeg G. 2023, arXiv:2302.03792.

    Args:
        key: a random key.
        denoiser: ``denoiser(x, sigma)`` of one image, see `armillary.core.protocols.Denoiser`, good from ``noise`` to
            ``sigma_max``.
        data: the image with its noise, of which not all pixels are the same.
        noise: the standard deviation s of the noise of the data.
        sigma_max: the largest noise level of the integral, several times the spread of images.
        num_levels: nodes of the integral over noise levels.
        num_draws: draws of the noise at each, used with either sign.

    Returns:
        The evidence, of the normalised likelihood, with its Monte-Carlo error; that of the denoiser is not known.

    Raises:
        ValueError: a setting out of its range, data that are not one image, or a denoiser that gives numbers that are
            not finite.
    """
    data = jnp.asarray(data)
    if data.ndim != 2 or not jnp.issubdtype(data.dtype, jnp.floating):
        raise ValueError(f"data has shape {data.shape} and dtype {data.dtype}: expected one real image")
    check_positive("noise", noise, "it is the standard deviation of the noise of the data")
    check_positive("sigma_max", sigma_max, "it is the largest noise level of the integral")
    if not sigma_max > noise:
        raise ValueError(f"sigma_max={sigma_max!r}: expected more than the noise of the data, {noise!r}")
    check_count("num_levels", num_levels, "32 are usual", least=4)
    check_count("num_draws", num_draws, "16 are usual", least=2)
    pixels = np.asarray(data, np.float64)
    mean, variance = float(pixels.mean()), float(pixels.var())
    if not variance > 0:
        raise ValueError("data: expected finite pixels that are not all the same")
    log_gaussian = -0.5 * pixels.size * (math.log(2 * math.pi * variance) + 1)
    low, high = math.log(_SMALLEST * noise), 0.5 * math.log(sigma_max**2 - noise**2)
    nodes, weights = np.polynomial.legendre.leggauss(num_levels)
    taus = np.exp(low + (high - low) * (nodes + 1) / 2)
    weights = weights * (high - low) / 2

    def integrand(xi: Array, tau: Array) -> Array:
        """Of one noise image, with its antithetic one."""

        def one(xi: Array) -> Array:
            z = data + tau * xi
            gaussian = -(z - mean) / (variance + tau**2)
            sigma = jnp.sqrt(noise**2 + tau**2)
            score = (denoiser(z, sigma) - z) / sigma**2
            # The difference of the two squares, without cancellation.
            return jnp.sum(tau * (gaussian - score) * (2 * xi + tau * (gaussian + score)))

        return (one(xi) + one(-xi)) / 2

    @jax.jit
    def all_levels(key: jax.Array, taus: Array) -> Array:
        def level(at: tuple[jax.Array, Array]) -> Array:
            xi = jax.random.normal(at[0], (num_draws, *data.shape), data.dtype)
            return jax.lax.map(lambda xi: integrand(xi, at[1]), xi)

        return jax.lax.map(level, (jax.random.split(key, len(taus)), taus))

    # Both ends too: there the integrand is that power of tau by which the rest of the integral is known.
    ends = np.exp([low, high])
    values = np.asarray(all_levels(key, jnp.asarray([*taus, *ends], data.dtype)), np.float64)
    weights = np.append(weights, [0.5, 0.5])
    if not np.isfinite(values).all():
        raise ValueError("the denoiser gave numbers that are not finite: is it good for noise up to sigma_max?")
    log_z = log_gaussian + float(weights @ values.mean(1))
    error = math.sqrt(weights**2 @ (values.var(1, ddof=1) / num_draws))
    diagnostics = {"log_z_gaussian": log_gaussian, "beyond_sigma_max": 0.5 * float(values[-1].mean())}
    return Evidence(log_z, error, "denoising", diagnostics)
