"""Operators on images of the whole sky, which need armillary-sphere."""

from __future__ import annotations

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from ._operators_base import ArrayOperator, check_dtype, complex_of, power_norm


class SphericalKaiserSquires(ArrayOperator):
    r"""The shear of a convergence map on the sphere: weak lensing of the whole sky, without projection.

    .. math:: {}_2\gamma_{lm} = -\sqrt{\frac{(l + 2)(l - 1)}{(l + 1)\, l}}\; \kappa_{lm}, \qquad l \ge 2,

    between the coefficients of the convergence, of spin 0, and those of the shear
    :math:`\gamma = \gamma_1 + i \gamma_2`, of spin 2, whose first direction is along the meridian to the south and
    whose second is to the east. Maps are on a grid of `armillary.sphere`, which is an optional dependency:
    ``pip install 'armillary-imaging[sphere]'``.

    The monopole and the dipole of the convergence are not seen. `inverse` gives the rest of a bandlimited convergence
    back from its shear, on grids whose quadrature is exact.

    >>> import jax
    >>> from armillary.imaging import SphericalKaiserSquires
    >>> from armillary.sphere import GaussLegendre
    >>> operator = SphericalKaiserSquires(GaussLegendre(16))
    >>> kappa = operator.inverse(jax.random.normal(jax.random.key(0), operator.out_structure().shape))
    >>> bool(abs(operator.inverse(operator(kappa)) - kappa).max() < 1e-4)
    True

    Wallis C. G. R., Price M. A., McEwen J. D., Kitching T. D., Leistedt B., Plouviez A. 2022, MNRAS 509, 4480,
    doi:10.1093/mnras/stab3235 (arXiv:1703.09233).

    Args:
        grid: where both maps are sampled.
        L: the bandlimit, by default the grid's.
        dtype: of the convergence, real; see `Identity`.

    Raises:
        ImportError: armillary-sphere is not installed.
        ValueError: a bandlimit that the grid does not allow, or below 3, where there is no shear.
    """

    grid: Any = eqx.field(static=True)
    L: int = eqx.field(static=True)
    dtype: np.dtype = eqx.field(static=True)

    def __init__(self, grid: Any, L: int | None = None, *, dtype: Any = None) -> None:
        transform = _transform(grid, L, spin=0)
        if transform.L < 3:
            raise ValueError(f"L={transform.L}: expected at least 3, since the shear has no degrees below 2")
        self.grid, self.L, self.dtype = grid, transform.L, check_dtype(dtype, real=True)

    def in_structure(self) -> jax.ShapeDtypeStruct:
        """The convergence, real."""
        return jax.ShapeDtypeStruct(self.grid.shape, self.dtype)

    def out_structure(self) -> jax.ShapeDtypeStruct:
        """The shear, complex."""
        return jax.ShapeDtypeStruct(self.grid.shape, complex_of(self.dtype))

    def opnorm(self) -> Array:
        """By power iteration: pixels near the poles have smaller weights than others."""
        return _norm(self)

    def inverse(self, gamma: Array) -> Array:
        """The convergence without its monopole and dipole: the inversion of Kaiser and Squires."""
        response = self._response(gamma)
        inverse = jnp.where(response != 0, 1 / jnp.where(response != 0, response, 1), 0)
        return self._convergence.synthesis(inverse * self._shear.analysis(gamma.astype(complex_of(gamma.dtype))))

    @property
    def _convergence(self) -> Any:
        return _transform(self.grid, self.L, spin=0)

    @property
    def _shear(self) -> Any:
        return _transform(self.grid, self.L, spin=2)

    def _response(self, like: Array) -> Array:
        degree = np.arange(self.L)[:, None]
        ratio = (degree + 2) * (degree - 1) / np.maximum((degree + 1) * degree, 1)
        return jnp.asarray(-np.sqrt(np.where(degree >= 2, ratio, 0)), jnp.finfo(like.dtype).dtype)

    def _apply(self, x: Array) -> Array:
        return self._shear.synthesis(self._response(x) * self._convergence.analysis(x))

    def _adjoint(self, y: Array) -> Array:
        return self._convergence.adjoint_analysis(self._response(y) * self._shear.adjoint_synthesis(y))


@jax.jit
def _norm(operator: SphericalKaiserSquires) -> Array:
    return power_norm(operator)


def _transform(grid: Any, L: int | None, spin: int) -> Any:
    try:
        from armillary.sphere import SHT
    except ImportError as error:
        raise ImportError(
            "SphericalKaiserSquires needs armillary-sphere: pip install 'armillary-imaging[sphere]'"
        ) from error
    return SHT(grid, L, spin, real=spin == 0)  # type: ignore[arg-type]
