"""A map from white noise to fields with given scattering covariances."""

from __future__ import annotations

from typing import Any, Self

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Complex, Float

from . import _prior_fit as fits
from ._check import check_integer
from ._covariance import ScatteringCovariance

#: Starts on which the rate is chosen, and the rates tried, in parts of one over the largest curvature there.
_TRIALS, _RATES = 4, (0.25, 0.5, 1.0, 1.5)


class MicrocanonicalSampler(eqx.Module):
    r"""A map z to x that turns Gaussian white noise into fields with given scattering covariances.

    From :math:`y_0 = z` a fixed number of steps of gradient descent,

    .. math:: y_{k+1} = y_k - \eta\, \nabla_y \tfrac12 \left|\Sigma^{-1/2} (s(\sqrt{C}\, y_k) - \bar s)\right|^2,
              \qquad x = \sqrt{C}\, y_K,

    where C is the power of the examples, :math:`\bar s` their mean statistics S1 to S4, and :math:`\Sigma` the
    covariance of the statistics of Gaussian fields. It is differentiable in z, so that in a NumPyro model it makes a
    field of the microcanonical model of a site z of standard normals:

    >>> import jax, jax.numpy as jnp, numpyro, numpyro.distributions as dist
    >>> from armillary.scatter import MicrocanonicalSampler, ScatteringCovariance
    >>> from armillary.sphere import GaussLegendre
    >>> example = jnp.exp(jax.random.normal(jax.random.key(0), GaussLegendre(8).shape))
    >>> field = MicrocanonicalSampler.fit(example, ScatteringCovariance(8, N=1, J_min=1), num_steps=20)
    >>> def model(data=None):
    ...     z = numpyro.sample("z", dist.Normal().expand([field.size]).to_event(1))
    ...     x = numpyro.deterministic("x", field(z))
    ...     numpyro.sample("data", dist.Normal(x, 0.1).to_event(1), obs=data)
    >>> z = jax.random.normal(jax.random.key(1), (field.size,))
    >>> bool(field.mismatch(field(z)) < 0.1 * field.mismatch(field.root * z))
    True

    The slope of a modulus jumps where its argument is 0, and so does the map, a little, where in a step a wavelet
    coefficient changes its sign at a point; its derivative is that of the pieces in between.

    The distribution of x is that of the algorithm, which has the symmetries of the statistics and of the noise, and is
    not in general the uniform one on fields with these statistics; it has no density in closed form. All fields have
    the same statistics, so that it is narrower than a population whose members have each their own.

    Args:
        cov: the statistics, of fields on the sphere.
        statistics: :math:`\bar s`, in the order of ``cov(alm).ravel()[2:]``.
        whitener: :math:`\Sigma^{-1/2}`, or any matrix W with :math:`W^T W = \Sigma^{-1}`.
        cl: the power of each degree, positive.
        rate: :math:`\eta`, positive.
        num_steps: the number of steps.

    Raises:
        ValueError: an argument is of the wrong shape or type, traced, or not finite. Names it, and what is allowed.

    References: Bruna J., Mallat S. 2019, Mathematical Statistics and Learning 1, 257 (arXiv:1801.02013).
    """

    cov: ScatteringCovariance
    statistics: Float[Array, " coefficients"]
    whitener: Float[Array, "coefficients coefficients"]
    cl: Float[Array, " L"]
    rate: Float[Array, ""]
    num_steps: int = eqx.field(static=True)

    def __init__(
        self,
        cov: ScatteringCovariance,
        statistics: Float[Array, " coefficients"],
        whitener: Float[Array, "coefficients coefficients"],
        cl: Float[Array, " L"],
        rate: float,
        num_steps: int = 50,
    ) -> None:
        self.cov = fits.check_cov(cov)
        fits.check_known(cov=cov, statistics=statistics, whitener=whitener, cl=cl, rate=rate)
        dtype = jnp.result_type(cl, jnp.float32)
        size = len(fits.labels(cov))
        self.cl = jnp.asarray(fits.check_cl(cl, cov.L), dtype)
        self.statistics = jnp.asarray(fits.check_vector("statistics", statistics, size), dtype)
        if np.shape(whitener) != (size, size) or not np.isfinite(np.asarray(whitener)).all():
            raise ValueError(f"whitener has shape {np.shape(whitener)}: a finite matrix, ({size}, {size})")
        self.whitener = jnp.asarray(whitener, dtype)
        if np.ndim(rate) or not 0 < rate < np.inf:
            raise ValueError(f"rate={rate!r}: a positive number")
        self.rate = jnp.asarray(rate, dtype)
        self.num_steps = check_integer("num_steps", num_steps, 1, None, "the number of steps")

    @classmethod
    def fit(
        cls,
        maps: Complex[Array, "*num L 2*L-1"] | Float[Array, "*num L 2*L-1"],
        cov: ScatteringCovariance,
        key: jax.Array | None = None,
        *,
        num_steps: int = 50,
    ) -> Self:
        r"""The map to fields like some examples, or one.

        The rate :math:`\eta` is, of four parts of one over the largest curvature at Gaussian fields, the one that leads
        closest to the statistics in `num_steps` steps from other such fields.

        Args:
            maps: harmonic coefficients of real fields, or maps on ``GaussLegendre(L)``; a first axis is of examples.
            cov: the statistics.
            key: of the Gaussian fields; always the same by default.
            num_steps: the number of steps.

        Raises:
            ValueError: `maps` are of another shape or type, traced, not finite, or have no power at some degree but 0;
                or `cov` is none of the sphere.
        """
        fits.check_cov(cov)
        check_integer("num_steps", num_steps, 1, None, "the number of steps")
        alm = fits.examples_of(maps, cov)
        cl = fits.spectrum_of(alm)
        first, second = jax.random.split(jax.random.key(0) if key is None else key)
        s, covariance = fits.moments_of(first, cov, alm, cl)
        whitener = jnp.asarray(np.linalg.inv(np.linalg.cholesky(covariance)), cl.dtype)
        root = fits.degrees_to_modes(jnp.sqrt(cl))
        starts = jax.random.normal(second, (_TRIALS, root.size), root.dtype)
        steepest = max(float(_curvature(cov, whitener, root, y)) for y in starts)
        tried = {}
        for part in _RATES:
            sampler = cls(cov, jnp.asarray(s, cl.dtype), whitener, cl, part / steepest, num_steps)
            end = float(_ends(sampler, starts))
            tried[end if np.isfinite(end) else np.inf] = sampler
        return tried[min(tried)]

    @property
    def size(self) -> int:
        """The length of z and x."""
        return int(self.cov.L) ** 2

    @property
    def root(self) -> Float[Array, " L**2"]:
        """The standard deviation of each coefficient of the Gaussian field that the descent starts from."""
        return fits.degrees_to_modes(jnp.sqrt(self.cl))

    def __call__(self, z: Float[Array, "... L**2"]) -> Float[Array, "... L**2"]:
        """The harmonic coefficients, in the real layout, of the field that white noise is turned into.

        Args:
            z: the noise; leading axes are a batch.

        Raises:
            ValueError: `z` is not real, or of another length.
        """
        if np.shape(z)[-1:] != (self.size,) or not jnp.issubdtype(jnp.result_type(z), jnp.floating):
            raise ValueError(f"z is {jnp.result_type(z)} of shape {np.shape(z)}: real, (..., {self.size})")
        y = jnp.asarray(z)
        root = self.root.astype(y.dtype)

        def loss(y: Array) -> Array:
            return self.mismatch(root * y).sum()

        # What a step needs in reverse is computed anew, and not kept for all steps.
        @jax.checkpoint
        def step(y: Array, _: Any) -> tuple[Array, None]:
            return y - self.rate.astype(y.dtype) * jax.grad(loss)(y), None

        return root * jax.lax.scan(step, y, None, self.num_steps)[0]

    def mismatch(self, x: Float[Array, "... L**2"]) -> Float[Array, "*shape"]:
        """What is descended: half the sum of squares of the whitened differences of the statistics."""
        return fits.mismatch(self.cov, x, self.statistics, self.whitener)


@jax.jit
def _ends(sampler: MicrocanonicalSampler, starts: Array) -> Array:
    return sampler.mismatch(sampler(starts)).mean()


@jax.jit
def _curvature(cov: ScatteringCovariance, whitener: Array, root: Array, y: Array) -> Array:
    """The largest eigenvalue of the linearised problem's Hessian."""
    rows = jnp.matmul(whitener, fits.jacobian(cov, root, y)[1], precision="highest")
    return jnp.linalg.eigvalsh(jnp.matmul(rows, rows.T, precision="highest"))[-1]
