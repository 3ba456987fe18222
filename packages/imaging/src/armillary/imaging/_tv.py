"""Priors whose normalisation is not known: total variation, and sparsity in a redundant dictionary."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float
from numpyro import distributions as dist
from numpyro.distributions import constraints

from ._check import check_positive
from ._operators_base import OrthonormalOperator, check_array, check_shape
from ._priors import euclidean_norm
from ._priors_dual import dual_prox


class _Unnormalised(dist.ImproperUniform):
    """What the two have in common: a norm of an image, and the density ``exp(-norm / scale)`` but for a constant.

    As NumPyro's improper distribution, it has no evidence.
    """

    support = constraints.real_matrix
    pytree_data_fields = ("scale",)

    def __init__(self, shape: tuple[int, int], scale: Any, tolerance: float, validate_args: bool | None) -> None:
        check_positive("scale", scale, "it is the b of exp(-norm / b)", array=True)
        if not (isinstance(tolerance, (int, float)) and 0 < tolerance < 1):
            raise ValueError(f"tolerance={tolerance!r}: a number between 0 and 1, such as 1e-4")
        self.scale = jnp.asarray(scale)
        self.tolerance = float(tolerance)
        # Past the constructor of ImproperUniform, whose support is an argument.
        dist.Distribution.__init__(self, self.scale.shape, shape, validate_args=validate_args)

    #: The dimensions in which the density falls off, so that the constant is a power of the scale.
    _dimensions: int
    #: The norm of an image.
    norm: Callable[[Any], Array]

    def log_prob(self, value: Float[Array, "... rows columns"]) -> Float[Array, ...]:
        """The log-density of an image, but for a constant that does not depend on the scale."""
        norm = self.norm(value)
        scale = self.scale.astype(norm.dtype)
        return -norm / scale - self._dimensions * jnp.log(scale)

    def score(self, x: Float[Array, "... rows columns"]) -> Float[Array, "... rows columns"]:
        """The gradient of the log-density; where a term of the norm is 0, and has none, that term's is 0."""
        x = self._check(x)
        batch = x.shape[:-2]
        gradient = jax.vmap(jax.grad(self.norm))(x.reshape(-1, *self.event_shape)).reshape(x.shape)
        return -gradient / jnp.broadcast_to(self.scale, batch).astype(x.dtype)[..., None, None]

    def sample(self, key: jax.Array, sample_shape: tuple[int, ...] = ()) -> Float[Array, "... rows columns"]:
        """White noise of the standard deviation ``scale``: no draws of the density, but values to start chains from."""
        scale = self.scale.astype(jnp.result_type(self.scale, jnp.float32))
        shape = (*sample_shape, *self.batch_shape, *self.event_shape)
        return scale[..., None, None] * jax.random.normal(key, shape, scale.dtype)

    def _check(self, x: Any) -> Array:
        return check_array("x", x, jax.ShapeDtypeStruct(self.event_shape, jnp.float32))

    def _thresholds(self, x: Array, step: Any) -> Array:
        return jnp.broadcast_to(jnp.asarray(step / self.scale).astype(x.dtype), x.shape[:-2]).reshape(-1)


class TotalVariation(_Unnormalised):
    r"""A piecewise constant image: the density falls with the total variation.

    .. math:: p(x) \propto b^{-(n-1)} \exp(-\mathrm{TV}(x) / b), \qquad
              \mathrm{TV}(x) = \sum_{ij} \sqrt{(x_{i+1,j} - x_{ij})^2 + (x_{i,j+1} - x_{ij})^2}

    for n pixels, with the differences across the last row and column 0; the anisotropic variation has
    :math:`|x_{i+1,j} - x_{ij}| + |x_{i,j+1} - x_{ij}|` in place of the root. **The density is not normalised, and
    cannot be**: adding a constant to the image does not change it. The dependence on b is right for the rest of the
    dimensions, so that b may be inferred; an evidence is refused, because there are no draws from the prior. `sample`
    gives white noise to start chains from.

    `prox` iterates on the dual problem until the error, which the duality gap bounds, is below ``tolerance`` times the
    norm of its argument. It has no derivative in reverse mode; `primal_dual` with `Gradient` needs none.

    >>> import jax.numpy as jnp
    >>> from armillary.imaging import TotalVariation
    >>> prior = TotalVariation((4, 4), scale=1.0)
    >>> step = jnp.zeros((4, 4)).at[:, 2:].set(10.0)
    >>> print(prior.norm(step), prior.prox(step, 1.0)[0].round(2))
    40.0 [0.5 0.5 9.5 9.5]

    Rudin L., Osher S., Fatemi E. 1992, Physica D 60, 259, doi:10.1016/0167-2789(92)90242-F; Chambolle A. 2004, J. Math.
    Imaging Vis. 20, 89, doi:10.1023/B:JMIV.0000011325.36760.1e; Beck A., Teboulle M. 2009, IEEE Trans. Image Process.
    18, 2419, doi:10.1109/TIP.2009.2028250.

    Args:
        shape: of the image, rows and columns.
        scale: the scale b, positive, in the units of the image; its axes are a batch.
        isotropic: which of the two variations.
        tolerance: of `prox`, relative.
        validate_args: as for every NumPyro distribution.

    Raises:
        ValueError: a scale that is not positive and finite, a bad shape, or a tolerance outside of (0, 1).
    """

    pytree_aux_fields = ("isotropic", "tolerance")

    def __init__(
        self,
        shape: tuple[int, int],
        scale: float | Float[Array, "*batch"] = 1.0,
        *,
        isotropic: bool = True,
        tolerance: float = 1e-4,
        validate_args: bool | None = None,
    ) -> None:
        self.isotropic = bool(isotropic)
        super().__init__(check_shape("shape", shape), scale, tolerance, validate_args)

    @property
    def _dimensions(self) -> int:  # type: ignore[override]
        return math.prod(self.event_shape) - 1

    def norm(self, x: Float[Array, "... rows columns"]) -> Float[Array, ...]:
        """The total variation of an image."""
        d = differences(self._check(x))
        return (euclidean_norm(d, axis=-3) if self.isotropic else _absolute(d).sum(axis=-3)).sum(axis=(-2, -1))

    def prox(
        self, x: Float[Array, "... rows columns"], step: Float[ArrayLike, ...]
    ) -> Float[Array, "... rows columns"]:
        r"""The proximal operator, :math:`\arg\min_u \mathrm{TV}(u) / b + |u - x|^2 / (2\,\mathrm{step})`.

        Args:
            x: an image, with any leading batch axes.
            step: positive, in squared units of ``x``; a number, or one for each image of the batch.
        """
        x = self._check(x)
        images = x.reshape(-1, *self.event_shape)
        return _tv_prox(images, self._thresholds(x, step), self.isotropic, self.tolerance).reshape(x.shape)


class L1Frame(_Unnormalised):
    r"""An image that is sparse in a redundant dictionary, in its analysis form.

    .. math:: p(x) \propto b^{-n} \exp(-\|W x\|_1 / b)

    for n pixels and a tight frame W with :math:`W^* W = 1`, such as `SARA` or `UndecimatedDWT`. **The density is
    normalised but for a constant** that depends on the frame alone and is not known; the dependence on b is right.
    `sample` gives white noise to start chains from, and an evidence is refused, because there are no draws from the
    prior. For an orthonormal basis take `L1Wavelet`, of which all is known.

    `prox` iterates on the dual problem until the error, which the duality gap bounds, is below ``tolerance`` times the
    norm of its argument. It has no derivative in reverse mode; `primal_dual` with the frame needs none.

    >>> import jax.numpy as jnp
    >>> from armillary.imaging import SARA, L1Frame
    >>> prior = L1Frame(SARA((8, 8), levels=1), scale=1.0)
    >>> x = jnp.zeros((8, 8)).at[2, 3].set(10.0)
    >>> bool(prior.norm(prior.prox(x, 1.0)) < prior.norm(x))
    True

    Elad M., Milanfar P., Rubinstein R. 2007, Inverse Probl. 23, 947, doi:10.1088/0266-5611/23/3/007; Carrillo R. E.,
    McEwen J. D., Wiaux Y. 2012, MNRAS 426, 1223, doi:10.1111/j.1365-2966.2012.21605.x (arXiv:1205.3123).

    Args:
        frame: the tight frame, of real images.
        scale: the scale b, positive, in the units of the image; its axes are a batch.
        tolerance: of `prox`, relative.
        validate_args: as for every NumPyro distribution.

    Raises:
        ValueError: the frame is none of ours, or complex; a scale that is not positive and finite; or a tolerance
            outside of (0, 1).
    """

    pytree_aux_fields = ("frame", "tolerance")

    def __init__(
        self,
        frame: OrthonormalOperator,
        scale: float | Float[Array, "*batch"] = 1.0,
        *,
        tolerance: float = 1e-4,
        validate_args: bool | None = None,
    ) -> None:
        if not isinstance(frame, OrthonormalOperator):
            raise ValueError(
                f"frame={frame!r}: expected a tight frame, such as SARA((64, 64)) or UndecimatedDWT((64, 64))"
            )
        if jnp.issubdtype(frame.in_structure().dtype, jnp.complexfloating):
            raise ValueError("frame takes complex images: make it with a real dtype")
        self.frame = frame
        super().__init__(frame.in_structure().shape, scale, tolerance, validate_args)

    @property
    def _dimensions(self) -> int:  # type: ignore[override]
        return math.prod(self.event_shape)

    def norm(self, x: Float[Array, "... rows columns"]) -> Float[Array, ...]:
        """The l1 norm of the coefficients."""
        x = self._check(x)
        return _absolute(self.frame(x)).reshape(*x.shape[:-2], -1).sum(axis=-1)

    def prox(
        self, x: Float[Array, "... rows columns"], step: Float[ArrayLike, ...]
    ) -> Float[Array, "... rows columns"]:
        r"""The proximal operator, :math:`\arg\min_u \|W u\|_1 / b + |u - x|^2 / (2\,\mathrm{step})`.

        Args:
            x: an image, with any leading batch axes.
            step: positive, in squared units of ``x``; a number, or one for each image of the batch.
        """
        x = self._check(x)
        images = x.reshape(-1, *self.event_shape)
        return _frame_prox(self.frame, images, self._thresholds(x, step), self.tolerance).reshape(x.shape)


def _absolute(x: Array) -> Array:
    """With the derivative 0 at 0; that of `jnp.abs` is 1 there."""
    return jnp.sign(x) * x


def differences(x: Array) -> Array:
    """Those to the next row and to the next column, 0 across the last: of shape ``(..., 2, rows, columns)``."""
    rows = jnp.diff(x, axis=-2, append=x[..., -1:, :])
    return jnp.stack([rows, jnp.diff(x, axis=-1, append=x[..., -1:])], axis=-3)


def differences_transposed(d: Array) -> Array:
    """The transpose of `differences`."""
    rows, columns = d[..., 0, :-1, :], d[..., 1, :, :-1]
    pad = [(0, 0)] * (d.ndim - 3)
    rows = jnp.pad(rows, [*pad, (1, 0), (0, 0)]) - jnp.pad(rows, [*pad, (0, 1), (0, 0)])
    return rows + jnp.pad(columns, [*pad, (0, 0), (1, 0)]) - jnp.pad(columns, [*pad, (0, 0), (0, 1)])


@functools.partial(jax.jit, static_argnums=(2, 3))
def _tv_prox(x: Array, thresholds: Array, isotropic: bool, tolerance: float) -> Array:
    def one(x: Array, threshold: Array) -> Array:
        return dual_prox(
            x,
            threshold,
            differences,
            differences_transposed,
            opnorm=math.sqrt(8),  # each difference has a norm of at most 2
            grouped=isotropic,
            tolerance=tolerance,
        )

    return jax.vmap(one)(x, thresholds)


@functools.partial(jax.jit, static_argnums=3)
def _frame_prox(frame: OrthonormalOperator, x: Array, thresholds: Array, tolerance: float) -> Array:
    def one(x: Array, threshold: Array) -> Array:
        return dual_prox(x, threshold, frame, frame.adjoint, opnorm=1.0, grouped=False, tolerance=tolerance)

    return jax.vmap(one)(x, thresholds)
