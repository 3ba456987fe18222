"""The prior that an image is sparse in an orthonormal basis of wavelets."""

from __future__ import annotations

import math
from typing import Any

import jax
import jax.numpy as jnp
from jax.scipy.special import erfc, erfcx
from jaxtyping import Array, ArrayLike, Float
from numpyro import distributions as dist
from numpyro.distributions import constraints

from ._check import check_positive
from ._dwt import DWT
from ._operators_base import check_array


class L1Wavelet(dist.Distribution):
    r"""An image whose coefficients in an orthonormal wavelet basis are independent Laplace variables.

    .. math:: p(x) = \prod_{i=1}^n \frac{1}{2 b} \exp(-|(W x)_i| / b)

    for the transform W of `DWT` and the scale b, the same for all coefficients, the approximation included. The
    transform is orthogonal, so that the density is normalised, draws are exact, and the proximal operator is a soft
    threshold of the coefficients. For an image seen directly in white noise the evidence and the posterior mean have a
    closed form: `log_evidence` and `posterior_mean`.

    >>> import jax, jax.numpy as jnp
    >>> from armillary.imaging import L1Wavelet
    >>> prior = L1Wavelet("db4", 2, scale=0.1, shape=(32, 32))
    >>> x = prior.sample(jax.random.key(0))
    >>> x.shape, prior.log_prob(x).shape
    ((32, 32), ())
    >>> bool(prior.log_prob(prior.prox(x, 0.01)) > prior.log_prob(x))
    True

    Donoho D. L., Johnstone I. M. 1994, Biometrika 81, 425, doi:10.1093/biomet/81.3.425; as a prior: Moulin P., Liu J.
    1999, IEEE Trans. Inf. Theory 45, 909, doi:10.1109/18.761332.

    Args:
        wavelet: "haar", "db1" to "db8" or "sym2" to "sym8".
        levels: of the transform.
        scale: the scale b, positive, in the units of the image; its axes are a batch.
        shape: of the image, rows and columns, both multiples of ``2**levels``.
        validate_args: as for every NumPyro distribution.

    Raises:
        ValueError: a scale that is not positive and finite, a wavelet that there is not, or a shape that cannot be
            halved so often.
    """

    arg_constraints = {"scale": constraints.positive}  # noqa: RUF012
    support = constraints.real_matrix
    reparametrized_params = ["scale"]  # noqa: RUF012
    pytree_data_fields = ("scale",)
    pytree_aux_fields = ("dwt",)

    def __init__(
        self,
        wavelet: str = "db4",
        levels: int = 4,
        scale: float | Float[Array, "*batch"] = 1.0,
        *,
        shape: tuple[int, int],
        validate_args: bool | None = None,
    ) -> None:
        check_positive("scale", scale, "it is the b of exp(-|c| / b)", array=True)
        self.dwt = DWT(shape, wavelet, levels, dtype=jnp.float32)
        self.scale = jnp.asarray(scale)
        super().__init__(self.scale.shape, self.dwt.shape, validate_args=validate_args)

    @dist.util.validate_sample
    def log_prob(self, value: Float[Array, "... rows columns"], intermediates: Any = None) -> Array:
        """The log-density of an image, normalised."""
        norm = jnp.abs(self.dwt(value)).sum(axis=(-2, -1))
        return -norm / self._scale(norm) - self._size * jnp.log(2 * self._scale(norm))

    def sample(self, key: jax.Array, sample_shape: tuple[int, ...] = ()) -> Float[Array, "... rows columns"]:
        """Draws of shape ``sample_shape + batch_shape + shape``: exact ones."""
        scale = self.scale.astype(jnp.result_type(self.scale, jnp.float32))
        shape = (*sample_shape, *self.batch_shape, *self.event_shape)
        return self.dwt.inverse(scale[..., None, None] * jax.random.laplace(key, shape, scale.dtype))

    def prox(
        self, x: Float[Array, "... rows columns"], step: Float[ArrayLike, ...]
    ) -> Float[Array, "... rows columns"]:
        r"""The soft threshold of the coefficients at ``step / b``.

        Args:
            x: an image, with any leading batch axes.
            step: positive, in squared units of ``x``; a number, or one for each image of the batch.
        """
        return self.dwt.soft_threshold(x, step / self.scale)

    def score(self, x: Float[Array, "... rows columns"]) -> Float[Array, "... rows columns"]:
        r"""The gradient of the log-density, :math:`-W^T \mathrm{sign}(W x) / b`; 0 for a coefficient that is 0."""
        signs = self.dwt.inverse(jnp.sign(self.dwt(x)))
        return -signs / self._scale(signs)[..., None, None]

    def log_evidence(self, data: Float[Array, "... rows columns"], noise: Float[ArrayLike, ...]) -> Float[Array, ...]:
        r"""The evidence of an image seen directly in white Gaussian noise, in closed form.

        .. math:: \ln Z = \sum_i \ln \frac{e^{s^2 / 2 b^2}}{4 b} \left[
                  e^{-d_i / b} \,\mathrm{erfc}\!\left(\frac{s}{\sqrt2 b} - \frac{d_i}{\sqrt2 s}\right) +
                  e^{d_i / b} \,\mathrm{erfc}\!\left(\frac{s}{\sqrt2 b} + \frac{d_i}{\sqrt2 s}\right) \right]

        for the coefficients d of the data and noise of standard deviation s, the normalisation of the likelihood
        included. It says which wavelet and which scale are the best for an image, with no sampling.

        Args:
            data: the image that was seen, with any leading batch axes.
            noise: the standard deviation of its noise, positive, in the same units.

        Raises:
            ValueError: ``noise`` is not positive and finite.
        """
        right, left = self._terms(data, noise)
        return (jnp.logaddexp(right, left) - jnp.log(4 * self._scale(right))[..., None, None]).sum(axis=(-2, -1))

    def posterior_mean(
        self, data: Float[Array, "... rows columns"], noise: Float[ArrayLike, ...]
    ) -> Float[Array, "... rows columns"]:
        r"""The mean of the posterior of an image seen directly in white Gaussian noise, in closed form.

        :math:`w_i (d_i - s^2 / b) + (1 - w_i) (d_i + s^2 / b)` for each coefficient, with the share
        :math:`w_i` of the first term in `log_evidence`.

        Args:
            data: see `log_evidence`.
            noise: see `log_evidence`.

        Raises:
            ValueError: ``noise`` is not positive and finite.
        """
        right, left = self._terms(data, noise)
        d = self.dwt(data)
        shift = (jnp.asarray(noise).astype(d.dtype) ** 2 / self._scale(d))[..., None, None]
        return self.dwt.inverse(d + shift * (1 - 2 * jax.nn.sigmoid(right - left)))

    @property
    def _size(self) -> int:
        return self.event_shape[0] * self.event_shape[1]

    def _scale(self, like: Array) -> Array:
        return self.scale.astype(like.dtype)

    def _terms(self, data: Array, noise: Any) -> tuple[Array, Array]:
        """The logarithms of the two terms of the evidence: coefficients above 0 and below."""
        check_positive("noise", noise, "it is the standard deviation of the white noise of the data", array=True)
        d = self.dwt(check_array("data", data, self.dwt.in_structure()))
        s = jnp.asarray(noise).astype(d.dtype)[..., None, None]
        b = self._scale(d)[..., None, None]

        def term(d: Array) -> Array:
            a = (s / b - d / s) / math.sqrt(2)
            # Of two forms of the same the one in which nothing overflows or cancels.
            below = s**2 / (2 * b**2) - d / b + jnp.log(erfc(jnp.minimum(a, 0)))
            return jnp.where(a > 0, jnp.log(erfcx(jnp.maximum(a, 0))) - 0.5 * (d / s) ** 2, below)

        return term(d), term(-d)
