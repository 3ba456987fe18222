"""Axisymmetric scale-discretised wavelets."""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Complex, Float

from armillary.sphere import SHT, GaussLegendre, Wavelets


@jax.tree_util.register_static
@dataclass(frozen=True)
class AxisymmetricWavelets:
    r"""The wavelet transform of a real field on the sphere, with axisymmetric scale-discretised wavelets.

    .. math:: (f \star \psi_j)_{lm} = \kappa_j(l)\, a_{lm}, \qquad
              \kappa_j(l)^2 = k_\lambda(l / \lambda^{j+1}) - k_\lambda(l / \lambda^j),

    for the scales j from `J_min` to `J`, the first with :math:`\lambda^J \ge L - 1`; what is below is kept by the
    scaling function, of :math:`\kappa(l)^2 = k_\lambda(l / \lambda^{J_{min}})`. The filters are those of
    ``armillary.sphere.Wavelets(kind="axisymmetric")``: :math:`\kappa_j` lives on
    :math:`\lambda^{j-1} < l < \lambda^{j+1}`, and the squares of all filters sum to 1, so that energy is kept and
    reconstruction is exact. A larger j is a smaller scale. It is a `armillary.core.protocols.Transform` from
    coefficients to maps; called, it is `analysis`. Unlike those of ``Wavelets``, all maps are at the resolution of
    `grid`, which may be finer than the field's, and are one array. Fields are real, with the conventions of
    ``SHT(grid, real=True)``.

    Args:
        L: the bandlimit of the field.
        J_min: the largest scale that has a wavelet, from 0 to `J`.
        lam: the ratio between scales, above 1.
        grid: where the maps are; ``GaussLegendre(L)`` by default.

    Raises:
        ValueError: an argument is out of range; names it, and what is allowed.

    Reference: McEwen J. D., Durastanti C., Wiaux Y. 2018, Appl. Comput. Harmon. Anal. 44, 59,
    doi:10.1016/j.acha.2016.03.009.

    >>> import jax.numpy as jnp
    >>> from armillary.scatter import AxisymmetricWavelets
    >>> from armillary.sphere import alm_from_real
    >>> wavelets = AxisymmetricWavelets(16)
    >>> alm = alm_from_real(jnp.ones(256))
    >>> maps = wavelets.analysis(alm)
    >>> maps.shape
    (6, 16, 31)
    >>> bool(jnp.allclose(wavelets.synthesis(maps), alm, atol=1e-5))
    True
    """

    L: int
    J_min: int = 0
    lam: float = 2.0
    grid: GaussLegendre = None  # type: ignore[assignment]

    def __post_init__(self) -> None:
        scales = self._scales  # which checks the arguments
        for name in ("L", "J_min", "lam"):
            object.__setattr__(self, name, getattr(scales, name))
        grid = GaussLegendre(self.L) if self.grid is None else self.grid
        if not isinstance(grid, GaussLegendre) or grid.L < self.L:
            raise ValueError(
                f"grid={self.grid!r}: a grid of bandlimit L={self.L} or more, such as GaussLegendre({self.L})"
            )
        object.__setattr__(self, "grid", grid)

    @property
    def _scales(self) -> Wavelets:
        return Wavelets(self.L, J_min=self.J_min, lam=self.lam, kind="axisymmetric")

    @property
    def J(self) -> int:
        """The smallest scale: the first whose wavelet with those before it covers all degrees."""
        return self._scales.J

    @property
    def sht(self) -> SHT:
        """The transform behind."""
        return SHT(self.grid, L=self.L, real=True)

    @property
    def filters(self) -> np.ndarray:
        """The filters of the scaling function and of the wavelets `J_min` to `J`, of shape ``(J - J_min + 2, L)``."""
        kappa, _, scaling = self._scales.filters
        return np.concatenate([scaling[None], kappa])

    def analysis(self, alm: Complex[Array, "... L 2*L-1"]) -> Float[Array, "... scales rings longitudes"]:
        """The maps of the scaling function and of every wavelet, the largest scale first.

        Args:
            alm: coefficients of a real field.

        Returns:
            Maps of shape ``(..., J - J_min + 2, *grid.shape)``: the scaling function's, then of `J_min` to `J`.

        Raises:
            ValueError: `alm` has another shape, half precision or an integer type, or needs x64 where it is off.
        """
        shape, wanted = np.shape(alm), (self.L, 2 * self.L - 1)
        if shape[-2:] != wanted:
            raise ValueError(f"alm has shape {shape}: (..., {wanted[0]}, {wanted[1]}) is needed, (l, m) at [l, L-1+m]")
        alm = alm if isinstance(alm, jax.Array) else np.asarray(alm)
        # In the type of alm, which the transform then checks.
        filters = self.filters.astype(alm.real.dtype)
        return self.sht.synthesis(alm[..., None, :, :] * filters[:, :, None])

    def synthesis(self, maps: Float[Array, "... scales rings longitudes"]) -> Complex[Array, "... L 2*L-1"]:
        """The coefficients of the field whose wavelet transform is `maps`: the inverse of `analysis`.

        Raises:
            ValueError: as `analysis`.
        """
        self._check_scales(maps)
        return self._combine(self.sht.analysis(maps))

    def adjoint(self, maps: Float[Array, "... scales rings longitudes"]) -> Complex[Array, "... L 2*L-1"]:
        """The adjoint of `analysis`, for the inner product of ``SHT(grid, real=True)``."""
        self._check_scales(maps)
        return self._combine(self.sht.adjoint_synthesis(maps))

    __call__ = analysis
    inverse = synthesis

    def in_structure(self) -> jax.ShapeDtypeStruct:
        """Shape and type of coefficients, in the precision that JAX has now."""
        return self.sht.in_structure()

    def out_structure(self) -> jax.ShapeDtypeStruct:
        """Shape and type of the maps, in the precision that JAX has now."""
        one = self.sht.out_structure()
        return jax.ShapeDtypeStruct((len(self.filters), *one.shape), one.dtype)

    def opnorm(self) -> float:
        """The largest singular value of `analysis`, by power iteration to a part in a thousand."""
        return _opnorm(self)

    def _combine(self, alm: Array) -> Array:
        return (alm * self.filters[:, :, None].astype(alm.real.dtype)).sum(axis=-3)

    def _check_scales(self, maps: Array) -> None:
        scales, shape = len(self.filters), np.shape(maps)
        if len(shape) < 3 or shape[-3] != scales:
            wanted = ", ".join(["...", str(scales), *map(str, self.grid.shape)])
            raise ValueError(
                f"maps has shape {shape}: ({wanted}) is needed, the scaling function and {scales - 1} wavelets"
            )


@functools.lru_cache(maxsize=64)
def _opnorm(wavelets: AxisymmetricWavelets) -> float:
    structure = wavelets.in_structure()
    with jax.ensure_compile_time_eval():
        alm = jax.random.normal(jax.random.key(0), structure.shape).astype(structure.dtype)
        size = 0.0
        for _ in range(500):
            image = wavelets.adjoint(wavelets.analysis(alm))
            previous, size = size, float(jnp.linalg.norm(image))
            alm = image / size
            if abs(size - previous) < 1e-5 * size:
                break
    return math.sqrt(size) * (1 + 5e-4)
