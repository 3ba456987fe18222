"""Axisymmetric scale-discretised wavelets."""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Complex, Float

from armillary.sphere import SHT, GaussLegendre


@jax.tree_util.register_static
@dataclass(frozen=True)
class AxisymmetricWavelets:
    r"""The wavelet transform of a real field on the sphere, with axisymmetric scale-discretised wavelets.

    .. math:: (f \star \psi_j)_{lm} = \kappa_j(l)\, a_{lm}, \qquad
              \kappa_j(l)^2 = k_\lambda(l / \lambda^{j+1}) - k_\lambda(l / \lambda^j),

    for the scales j from `J_min` to `J`, the first with :math:`\lambda^J \ge L - 1`; what is below is kept by the
    scaling function, of :math:`\kappa(l)^2 = k_\lambda(l / \lambda^{J_{min}})`. Here

    .. math:: k_\lambda(t) = \frac{\int_t^1 s_\lambda(u)^2\, \mathrm du / u}{\int_{1/\lambda}^1 s_\lambda(u)^2\,
              \mathrm du / u}, \qquad s_\lambda(u) = \exp \frac{-1}{1 - v^2}, \quad
              v = \frac{2 \lambda}{\lambda - 1} (u - \lambda^{-1}) - 1,

    so that :math:`\kappa_j` lives on :math:`\lambda^{j-1} < l < \lambda^{j+1}` and the squares of all filters sum to 1:
    energy is kept and reconstruction is exact. A larger j is a smaller scale. It is a
    `armillary.core.protocols.Transform` from coefficients to maps, all at the resolution of `grid`; called, it is
    `analysis`. Fields are real, with the conventions of ``SHT(grid, real=True)``.

    Args:
        L: the bandlimit of the field.
        J_min: the largest scale that has a wavelet, 0 or more.
        lam: the ratio between scales, above 1.
        grid: where the maps are; ``GaussLegendre(L)`` by default.

    Raises:
        ValueError: an argument is out of range; names it, and what is allowed.

    Reference: McEwen J. D., Durastanti C., Wiaux Y. 2018, Appl. Comput. Harmon. Anal. 44, 59,
    doi:10.1016/j.acha.2016.03.009 (arXiv:1509.06749).

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
        for name, low in (("L", 1), ("J_min", 0)):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < low:
                raise ValueError(f"{name}={value!r}: an integer of {low} or more is needed")
            object.__setattr__(self, name, int(value))
        if not isinstance(self.lam, (int, float)) or not 1 < self.lam < math.inf:
            raise ValueError(f"lam={self.lam!r}: the ratio between scales is a finite number above 1, such as 2.0")
        object.__setattr__(self, "lam", float(self.lam))
        grid = GaussLegendre(self.L) if self.grid is None else self.grid
        if not isinstance(grid, GaussLegendre) or grid.L < self.L:
            raise ValueError(
                f"grid={self.grid!r}: a grid of bandlimit L={self.L} or more, such as GaussLegendre({self.L})"
            )
        object.__setattr__(self, "grid", grid)

    @property
    def J(self) -> int:
        """The smallest scale: the first, from `J_min` on, whose wavelet with those before it covers all degrees."""
        # A power that falls short by rounding alone is not short.
        steps = math.ceil(math.log(max(self.L - 1, 1)) / math.log(self.lam) - 1e-12)
        return max(self.J_min, steps)

    @property
    def sht(self) -> SHT:
        """The transform behind."""
        return SHT(self.grid, L=self.L, real=True)

    @property
    def filters(self) -> np.ndarray:
        """The filters of the scaling function and of the wavelets `J_min` to `J`, of shape ``(J - J_min + 2, L)``."""
        return _filters(self.L, self.J_min, self.J, self.lam)

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


@functools.lru_cache(maxsize=32)
def _filters(L: int, J_min: int, J: int, lam: float) -> np.ndarray:
    degree = np.arange(L)
    k = np.stack([_k(degree / lam**j, lam) for j in range(J_min, J + 2)])
    filters = np.sqrt(np.maximum(np.concatenate([k[:1], np.diff(k, axis=0)]), 0))
    filters.setflags(write=False)
    return filters


def _k(t: np.ndarray, lam: float) -> np.ndarray:
    """k_lambda: 1 up to 1 / lam, 0 from 1 on, and between them an integral, by Gauss-Legendre on 16 panels."""
    nodes, weights = np.polynomial.legendre.leggauss(32)

    def integral(low: np.ndarray) -> np.ndarray:
        edges = low[:, None] + (1 - low[:, None]) * np.linspace(0, 1, 17)
        half = np.diff(edges)[:, :, None] / 2
        u = edges[:, :-1, None] + half * (1 + nodes)
        below = 1 - (2 * lam / (lam - 1) * (u - 1 / lam) - 1) ** 2
        bump = np.where(below > 0, np.exp(-2 / np.where(below > 0, below, 1)), 0)
        return (bump / u * half * weights).sum(axis=(1, 2))

    clipped = np.clip(t, 1 / lam, 1)
    inside = (t > 1 / lam) & (t < 1)
    return np.where(t >= 1, 0, np.where(inside, integral(clipped) / integral(np.array([1 / lam])), 1.0))
