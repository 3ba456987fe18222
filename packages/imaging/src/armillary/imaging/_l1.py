"""The sparsity prior."""

from __future__ import annotations

import jax.numpy as jnp
from jaxtyping import Array, Float
from numpyro.distributions import Laplace

from ._check import check_positive


class L1(Laplace):
    r"""Independent Laplace densities about zero: the prior whose negative logarithm is the l1 norm.

    .. math:: p(x) = \prod_i \frac{1}{2 b} \exp(-|x_i| / b)

    for the scale ``b``, normalised, so that an evidence computed with it is that of the stated model. It is
    `numpyro.distributions.Laplace` with the proximal operator and score that proximal samplers use; it has no event
    axis of its own, so give it a shape as any NumPyro distribution:

    >>> import jax, numpyro
    >>> from armillary.imaging import L1
    >>> prior = L1(0.5).expand((8, 8)).to_event(2)
    >>> prior.sample(jax.random.key(0)).shape, prior.log_prob(jax.numpy.zeros((8, 8))).shape
    ((8, 8), ())
    >>> print(L1(0.5).prox(jax.numpy.array([-3.0, 0.1, 1.0]), step=0.25))
    [-2.5  0.   0.5]

    Tibshirani R. 1996, J. R. Stat. Soc. B 58, 267, doi:10.1111/j.2517-6161.1996.tb02080.x.

    Args:
        scale: the scale ``b`` of each element, positive, in the units of the image; the standard deviation is
            ``sqrt(2) b``, and ``1 / b`` is the regularisation strength of the LASSO.
        validate_args: as for every NumPyro distribution.

    Raises:
        ValueError: the scale is not positive and finite everywhere.
    """

    def __init__(self, scale: float | Float[Array, ...] = 1.0, *, validate_args: bool | None = None) -> None:
        check_positive("scale", scale, "it is the b of exp(-|x| / b)", array=True)
        super().__init__(0.0, scale, validate_args=validate_args)

    def prox(self, x: Float[Array, ...], step: float | Float[Array, ...]) -> Float[Array, ...]:
        r"""The soft threshold :math:`\mathrm{sign}(x) \max(|x| - \mathrm{step} / b, 0)`.

        Args:
            x: an image, with any leading batch axes.
            step: the step, positive, in squared units of ``x``; one number, or an array that broadcasts with ``x``.
        """
        x = jnp.asarray(x)
        threshold = jnp.asarray(step / self.scale, x.dtype)
        return jnp.sign(x) * jnp.maximum(jnp.abs(x) - threshold, 0)

    def score(self, x: Float[Array, ...]) -> Float[Array, ...]:
        """The gradient ``-sign(x) / b`` of the log-density, and at 0, where there is none, the subgradient 0."""
        x = jnp.asarray(x)
        return -jnp.sign(x) / jnp.asarray(self.scale, x.dtype)
