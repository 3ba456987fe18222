"""Examples of a field, and the moments of their statistics."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from armillary.sphere import SHT, GaussLegendre, alm_from_real, alm_to_real, power_spectrum

from ._check import check_alm
from ._covariance import ScatteringCovariance
from ._ensemble import StatisticsEnsemble
from ._statistics import Label

#: Gaussian fields whose covariance is that of the tilt.
ENSEMBLE = 256


def check_cov(cov: Any) -> ScatteringCovariance:
    """Scattering covariances of fields on the sphere, or `ValueError`."""
    if not isinstance(cov, ScatteringCovariance):
        raise ValueError(f"cov={cov!r}: a ScatteringCovariance")
    if cov.domain != "sphere" or cov.compat is not None:
        raise ValueError(
            f"cov has domain={cov.domain!r} and compat={cov.compat!r}: 'sphere' and None, the literature's statistics "
            "of fields on the sphere, are needed"
        )
    if cov.spectra:
        raise ValueError("cov has spectra=True: a prior has the spectrum in its Gaussian; make cov without it")
    return cov


def check_known(**parameters: Any) -> None:
    """`ValueError` if a parameter is traced, as one that is inferred is."""
    for name, value in parameters.items():
        if any(isinstance(leaf, jax.core.Tracer) for leaf in jax.tree.leaves(value)):
            raise ValueError(
                f"{name} is traced, as it is where it is inferred, differentiated, or computed inside of jit. The "
                "density is known up to a constant that depends on every parameter, and the posterior of one would be "
                f"wrong without it. Make the prior outside of the model, of a known {name}; to infer a power spectrum, "
                "take armillary.sphere.IsotropicGaussian, whose density is normalised"
            )


def check_vector(name: str, value: Any, size: int) -> np.ndarray:
    """A finite number for each coefficient of S1 to S4, or `ValueError`."""
    values = np.asarray(value)
    if values.dtype.kind not in "iuf" or values.shape != (size,) or not np.isfinite(values).all():
        raise ValueError(
            f"{name} is {values.dtype} of shape {values.shape}: finite real numbers, ({size},), one for each "
            "coefficient of S1 to S4 in the order of cov(alm).ravel()[2:]"
        )
    return values


def labels(cov: ScatteringCovariance) -> tuple[Label, ...]:
    """What the coefficients of S1 to S4 are of."""
    return cov._scheme.layout.labels[2:]


def statistics_of(cov: ScatteringCovariance, x: Array) -> Array:
    """S1 to S4 of coefficients in the real layout, on one axis: all statistics but the mean and the variance.

    The monopole is left to the Gaussian, and the variance is a sum of S2.
    """
    return cov(alm_from_real(x)).ravel()[..., 2:]


def check_cl(cl: Any, L: int) -> np.ndarray:
    """A positive power for each degree below `L`, or `ValueError`."""
    values = np.asarray(cl)
    if values.dtype.kind not in "iuf" or values.shape != (L,):
        raise ValueError(f"cl is {values.dtype} of shape {values.shape}: real, ({L},), the power of each degree")
    bad = np.flatnonzero(~(np.isfinite(values) & (values > 0)))
    if bad.size:
        raise ValueError(
            f"cl is {values[bad[0]]} at degree {bad[0]}: positive and finite powers are needed; give a degree that the "
            "field has not a small one"
        )
    return values


def examples_of(maps: Any, cov: ScatteringCovariance) -> Array:
    """The coefficients ``(num, L, 2 L - 1)`` of examples, given as such or as maps on ``GaussLegendre(L)``."""
    if isinstance(maps, jax.core.Tracer):
        raise ValueError("maps is traced: fit the prior outside of jit")
    values = np.asarray(maps)
    L = cov.L
    if values.dtype.kind == "f":
        if values.shape[-2:] != GaussLegendre(L).shape:
            raise ValueError(
                f"maps has shape {values.shape}: (..., {L}, {2 * L - 1}), maps on GaussLegendre({L}), or complex "
                "harmonic coefficients of that shape"
            )
        if not np.isfinite(values).all():
            raise ValueError("maps has values that are NaN or infinite")
        maps = SHT(GaussLegendre(L), real=True, backend=cov.backend).analysis(jnp.asarray(maps))
    alm = check_alm("maps", maps, L)
    if alm.ndim > 3 or alm.size == 0:
        raise ValueError(f"maps has shape {values.shape}: one example, or some of them along the first axis")
    return alm.reshape(-1, L, 2 * L - 1)


def spectrum_of(alm: Array) -> Array:
    """The mean power spectrum of examples; where they have no mean, the power of degree 1 for that of degree 0."""
    cl = power_spectrum(alm).mean(axis=0)
    values = np.asarray(cl)
    nothing = (1e3 * np.finfo(values.dtype).eps) ** 2 * values.max()
    bad = np.flatnonzero(values[1:] <= nothing)
    if bad.size:
        raise ValueError(
            f"maps have no power at degree {bad[0] + 1}: a prior is of all degrees; take a smaller L, or add noise"
        )
    return cl.at[0].set(jnp.where(cl[0] > nothing, cl[0], cl[1]))


def statistics_of_each(cov: ScatteringCovariance, x: Array) -> np.ndarray:
    """Those of many fields, one at a time, in double precision for what is made of them."""
    return np.stack([np.asarray(_statistics_of(cov, one), np.float64) for one in x])


_statistics_of = jax.jit(statistics_of)


def gaussian_covariance(key: jax.Array, cov: ScatteringCovariance, root: Array) -> np.ndarray:
    """The covariance of statistics over Gaussian fields, `root` the standard deviations of their coefficients."""
    x = root * jax.random.normal(key, (ENSEMBLE, root.size), root.dtype)
    return StatisticsEnsemble.of(cov, alm_from_real(x)).shrunk()[0][2:, 2:]


def mismatch(cov: ScatteringCovariance, x: Array, statistics: Array, whitener: Array) -> Array:
    """Half the sum of squares of the whitened differences of statistics from given ones."""
    apart = statistics_of(cov, x) - statistics.astype(x.dtype)
    return (jnp.matmul(apart, whitener.astype(x.dtype).T, precision="highest") ** 2).sum(axis=-1) / 2


def jacobian(cov: ScatteringCovariance, root: Array, y: Array) -> tuple[Array, Array]:
    """The statistics of ``root * y``, and the gradient of each: one at a time, for a batch would not fit."""
    value, back = jax.vjp(lambda y: statistics_of(cov, root * y), y)
    return value, jax.lax.map(lambda row: back(row)[0], jnp.eye(value.size, dtype=y.dtype))


def moments_of(
    key: jax.Array | None, cov: ScatteringCovariance, alm: Array, cl: Array
) -> tuple[np.ndarray, np.ndarray]:
    """The mean statistics of examples, and their covariance over Gaussian fields of a power."""
    key = jax.random.key(0) if key is None else key
    covariance = gaussian_covariance(key, cov, degrees_to_modes(jnp.sqrt(cl)))
    return statistics_of_each(cov, alm_to_real(alm)).mean(axis=0), covariance


def degrees_to_modes(cl: Array) -> Array:
    """What is given for each degree, for each coefficient of the real layout."""
    L = cl.shape[-1]
    return cl[np.repeat(np.arange(L, dtype=np.int32), 2 * np.arange(L) + 1)]
