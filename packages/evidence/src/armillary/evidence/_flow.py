"""Normalised densities over the parameters: a whitened Gaussian, or a flow on top of it."""

from __future__ import annotations

import math
from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import paramax
from flowjax.bijections import AbstractBijection
from jaxtyping import Array, Float

from ._architectures import Architecture, in_default_precision

# Draws that are mapped at once: blocks of one shape, so that one compilation serves any number of them.
_BLOCK = 1024


class Whitener(eqx.Module):
    """The affine map of the samples to mean zero and covariance one, in float64 on the host.

    Args:
        loc: the mean of the samples.
        chol: the lower Cholesky factor of their covariance.
    """

    loc: Float[np.ndarray, " dim"]
    chol: Float[np.ndarray, "dim dim"]

    @classmethod
    def fit(cls, samples: Float[np.ndarray, "n dim"]) -> Whitener:
        """Fit to samples.

        Raises:
            ValueError: there are too few samples for a covariance, or they do not vary in some direction.
        """
        n, dim = samples.shape
        if n <= dim:
            raise ValueError(
                f"samples: {n} training draws do not determine a covariance in {dim} dimensions; give more draws"
            )
        loc = samples.mean(0)
        covariance = np.atleast_2d(np.cov(samples, rowvar=False))
        # Scaled to a correlation matrix first, so that the units of the parameters do not decide whether it is
        # numerically positive definite.
        scale = np.sqrt(np.diag(covariance))
        try:
            if not np.all(scale > 0):
                raise np.linalg.LinAlgError
            factor = np.linalg.cholesky(covariance / np.outer(scale, scale))
        except np.linalg.LinAlgError:
            raise ValueError(
                f"samples: the covariance of the {n} training draws is singular; give more draws, or remove a "
                "parameter that does not vary or is a function of the others"
            ) from None
        return cls(loc, scale[:, None] * factor)

    def __call__(self, samples: Float[np.ndarray, "n dim"]) -> Float[np.ndarray, "n dim"]:
        """The whitened samples."""
        return np.linalg.solve(self.chol, (samples - self.loc).T).T

    @property
    def log_det(self) -> float:
        """The log-determinant of the map back."""
        return float(np.log(np.diag(self.chol)).sum())


class Flow(eqx.Module):
    r"""A normalised density :math:`\varphi_T` over the parameters, with a temperature.

    With u the whitened parameters and z = b(u), b the trained bijection (the identity for a Gaussian),

    .. math:: \ln\varphi_T(x) = -\tfrac{|z|^2}{2T} - \tfrac d2\ln 2\pi T + \ln|\partial z/\partial u| - \ln|L|,

    so that the temperature T scales the covariance of the base, whatever the bijection.

    Args:
        whitener: the affine part.
        bijection: from whitened parameters to the base, or None for a Gaussian.
        architecture: what the bijection was built by.
    """

    whitener: Whitener
    bijection: AbstractBijection | None = None
    architecture: Architecture | None = eqx.field(static=True, default=None)

    def log_prob(self, samples: Float[np.ndarray, "n dim"], temperature: float = 1.0) -> Float[np.ndarray, " n"]:
        """The log-density of samples, shape (n, dim), as float64."""
        return self.base(samples).log_prob(temperature)

    def base(self, samples: Float[np.ndarray, "n dim"]) -> Base:
        """Where samples lie in the base, from which their density at any temperature is a formula."""
        z = self.whitener(np.asarray(samples, np.float64))
        log_det = np.zeros(len(z))
        if self.bijection is not None:
            z, log_det = self._by_blocks(_forward, z)
        return Base(np.einsum("nd,nd->n", z, z), log_det - self.whitener.log_det, z.shape[1])

    def sample(self, key: jax.Array, number: int) -> Float[np.ndarray, "n dim"]:
        """Draws of the density at T = 1, shape (number, dim), as float64."""
        seed = np.asarray(jax.random.bits(key, (4,), "uint32"))
        u = np.random.default_rng(seed).standard_normal((number, len(self.whitener.loc)))
        if self.bijection is not None:
            u = self._by_blocks(_inverse, u)[0]
        return u @ self.whitener.chol.T + self.whitener.loc

    def _by_blocks(self, mapping: Callable, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """A mapping of draws, computed in JAX's default precision and given in float64."""
        # Trained in single precision, but as good a bijection in double, and there the density is exact.
        assert self.bijection is not None
        assert self.architecture is not None
        bijection = in_default_precision(self.bijection, self.architecture, x.shape[1])
        number = -(-len(x) // _BLOCK)
        blocks = np.split(np.resize(x, (number * _BLOCK, x.shape[1])), number)
        mapped = [mapping(bijection, jnp.asarray(block)) for block in blocks]
        first, second = (np.concatenate(a, dtype=np.float64)[: len(x)] for a in zip(*mapped, strict=True))
        return first, second


class Base(eqx.Module):
    """Draws in the base of a flow: |z|**2 and ln|dz/dx| of each, and the dimension."""

    square: Float[np.ndarray, " n"]
    log_det: Float[np.ndarray, " n"]
    dim: int = eqx.field(static=True)

    def log_prob(self, temperature: float = 1.0) -> Float[np.ndarray, " n"]:
        """The log-density of each draw."""
        return self.log_det - 0.5 * self.square / temperature - 0.5 * self.dim * math.log(2 * math.pi * temperature)


@eqx.filter_jit
def _forward(bijection: AbstractBijection, u: Float[Array, "n dim"]) -> tuple[Array, Array]:
    return jax.vmap(paramax.unwrap(bijection).transform_and_log_det)(u)


@eqx.filter_jit
def _inverse(bijection: AbstractBijection, z: Float[Array, "n dim"]) -> tuple[Array, Array]:
    return jax.vmap(paramax.unwrap(bijection).inverse_and_log_det)(z)
