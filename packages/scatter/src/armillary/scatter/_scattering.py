"""First-order scattering coefficients on the sphere."""

from __future__ import annotations

import functools
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Complex, Float

from armillary.sphere import GaussLegendre

from ._wavelets import AxisymmetricWavelets


@jax.tree_util.register_static
@dataclass(frozen=True)
class FirstOrderScattering:
    r"""The first-order scattering coefficients of a real field: the mean modulus of its wavelet coefficients.

    .. math:: S_1(j) = \frac{1}{4 \pi} \int |f \star \psi_j| \,\mathrm d\Omega, \qquad j = J_{min}, \dots, J,

    with the wavelets of `AxisymmetricWavelets`. It does not change when the field is rotated: exactly so, on the grid,
    by a multiple of its step in longitude; otherwise to the accuracy of the quadrature of a modulus, which is not
    bandlimited. The two smallest scales suffer most, and a `grid` finer than the field's improves them. The derivative
    of the modulus is the sign, and 0 at 0.

    Args:
        L: the bandlimit of the field.
        J_min: the largest scale, from 0 to the smallest.
        lam: the ratio between scales, above 1.
        grid: where the modulus is taken; ``GaussLegendre(L)`` by default.

    Raises:
        ValueError: as `AxisymmetricWavelets`.

    Reference: McEwen J. D., Wallis C. G. R., Mavor-Parker A. N. 2022, ICLR (arXiv:2102.02828); Mallat S. 2012, Comm.
    Pure Appl. Math. 65, 1331, doi:10.1002/cpa.21413.

    >>> import jax.numpy as jnp
    >>> from armillary.scatter import FirstOrderScattering
    >>> from armillary.sphere import alm_from_real
    >>> scattering = FirstOrderScattering(16, J_min=2)
    >>> scattering(alm_from_real(jnp.ones((5, 256)))).shape
    (5, 3)
    """

    L: int
    J_min: int = 0
    lam: float = 2.0
    grid: GaussLegendre = None  # type: ignore[assignment]

    def __post_init__(self) -> None:
        wavelets = self.wavelets  # which checks the arguments
        for name in ("L", "J_min", "lam", "grid"):
            object.__setattr__(self, name, getattr(wavelets, name))

    @property
    def wavelets(self) -> AxisymmetricWavelets:
        """The wavelet transform behind, which has a scaling function too."""
        return AxisymmetricWavelets(self.L, self.J_min, self.lam, self.grid)

    def __call__(self, alm: Complex[Array, "... L 2*L-1"]) -> Float[Array, "... scales"]:
        """The coefficients of a field, the largest scale first.

        Args:
            alm: harmonic coefficients of a real field.

        Returns:
            The mean modulus for `J_min` to `J`, of shape ``(..., J - J_min + 1)``, in the units of the field.

        Raises:
            ValueError: as `AxisymmetricWavelets.analysis`.
        """
        return _mean(self, self.modulus(alm))

    def modulus(self, alm: Complex[Array, "... L 2*L-1"]) -> Float[Array, "... scales rings longitudes"]:
        r"""The maps of :math:`|f \star \psi_j|`, of shape ``(..., J - J_min + 1, *grid.shape)``.

        Args:
            alm: harmonic coefficients of a real field.

        Raises:
            ValueError: as `AxisymmetricWavelets.analysis`.
        """
        maps = self.wavelets.analysis(alm)[..., 1:, :, :]
        # Not jnp.abs, whose derivative at 0 is 1.
        return maps * jnp.sign(maps)


@functools.partial(jax.jit, static_argnums=0)
def _mean(scattering: FirstOrderScattering, maps: Array) -> Array:
    weights = scattering.wavelets.grid.weights / (4 * np.pi)
    return (maps.sum(axis=-1) * weights.astype(maps.dtype)).sum(axis=-1)
