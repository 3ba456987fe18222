"""Fourier transforms on the rotation group."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Complex, Inexact

from ._checks import check_array, check_integer
from ._directions import Directions, Operation, flip
from ._grids import GaussLegendre, Grid
from ._sht import SHT, Backend, _power_iteration


@jax.tree_util.register_static
@dataclass(frozen=True)
class WignerTransform:
    r"""The Fourier transform on the rotation group SO(3), exact at any order below the bandlimit.

    .. math:: f(\alpha, \beta, \gamma) = \sum_{n=1-N}^{N-1} \sum_{l=0}^{L-1} \sum_{m=-l}^{l} \frac{2 l + 1}{8 \pi^2}\,
              f_{lmn}\, D^{l*}_{mn}(\alpha, \beta, \gamma), \qquad
              f_{lmn} = \int f\, D^l_{mn} \,\mathrm d\alpha \sin\beta \,\mathrm d\beta \,\mathrm d\gamma,

    with the Wigner functions :math:`D^l_{mn} = e^{-i m \alpha} d^l_{mn}(\beta) e^{-i n \gamma}` of the Euler angles zyz
    (see `rotate_alm`). Functions are sampled at :math:`\gamma_g = 2 \pi g / (2 N - 1)` and, in :math:`\beta` as
    colatitude and :math:`\alpha` as longitude, on `grid`. Coefficients are dense, of shape
    ``(..., 2 N - 1, L, 2 L - 1)``, with :math:`f_{lmn}` at ``[N - 1 + n, l, L - 1 + m]``; entries with :math:`|m| > l`
    or :math:`|n| > l` are ignored on input and zero on output. For each n it is a transform of spin -n: as accurate as
    `SHT`, whatever N.

    With ``real=True`` functions are real, at half the work: `synthesis` gives the real part of the sum above, and
    `analysis` all orders, with the symmetry :math:`f_{l,-m,-n} = (-1)^{m+n} f_{lmn}^*`. As for `SHT`, everything is
    then linear over the real numbers. A `WignerTransform` compares and hashes by value, is static under `jax.jit`, and
    is a `armillary.core.protocols.Transform`: called, it is `synthesis`.

    Args:
        L: the bandlimit in the degree.
        N: the bandlimit in the direction: orders n below it.
        grid: where functions are sampled in position; by default ``GaussLegendre(L)``.
        real: functions are real.
        backend: what computes: see `SHT`.

    Raises:
        ValueError: an argument is out of range; names it, and what is allowed.
        ImportError: the backend is not installed.

    Reference: McEwen J. D. et al. 2015, IEEE Sig. Proc. Let. 22, 2425, doi:10.1109/LSP.2015.2490676
    (arXiv:1508.03101).

    >>> import jax
    >>> from armillary.sphere import WignerTransform
    >>> so3 = WignerTransform(L=8, N=3, real=True)
    >>> f = jax.random.normal(jax.random.key(0), so3.out_structure().shape)
    >>> flmn = so3.analysis(f)
    >>> flmn.shape
    (5, 8, 15)
    >>> bool(abs(so3.analysis(so3.synthesis(flmn)) - flmn).max() < 1e-4)
    True
    """

    L: int
    N: int
    grid: Grid = None  # type: ignore[assignment]
    real: bool = False
    backend: Backend = "auto"

    def __post_init__(self) -> None:
        L = check_integer("L", self.L, 1, None, "the bandlimit in the degree")
        object.__setattr__(self, "L", L)
        N = check_integer("N", self.N, 1, L, f"the bandlimit in the direction, at the bandlimit L={L},")
        object.__setattr__(self, "N", N)
        if self.grid is None:
            object.__setattr__(self, "grid", GaussLegendre(L))
        if self.real not in (True, False):
            raise ValueError(f"real={self.real!r}: True or False")
        object.__setattr__(self, "real", bool(self.real))
        # The transform of the highest order checks the rest.
        SHT(self.grid, L, spin=1 - N, backend=self.backend)

    def synthesis(self, flmn: Complex[Array, "... 2*N-1 L 2*L-1"]) -> Inexact[Array, "... 2*N-1 *shape"]:
        """The function with the given coefficients.

        Args:
            flmn: coefficients, complex64 or complex128 (real arrays are promoted).

        Returns:
            The function, ``(..., 2 N - 1, *grid.shape)``: real if `real`, else complex, in the precision of `flmn`.

        Raises:
            ValueError: `flmn` has another shape, half precision or an integer type, or needs x64 where it is off.
        """
        return _to_function(self, "synthesis", self._check_flmn(flmn))

    def analysis(
        self, f: Inexact[Array, "... 2*N-1 *shape"], iterations: int = 0
    ) -> Complex[Array, "... 2*N-1 L 2*L-1"]:
        """The coefficients of a function: exact for a function of the bandlimits, but on HEALPix.

        Args:
            f: the function, real if `real`; else complex, to which real arrays are promoted.
            iterations: the number of Jacobi iterations of every `SHT.analysis`, for HEALPix.

        Returns:
            The coefficients, ``(..., 2 N - 1, L, 2 L - 1)``.

        Raises:
            ValueError: as `synthesis`; or `iterations` is not an integer of 0 or more.
        """
        return _from_function(self, "analysis", self._check_function(f), iterations=_check_iterations(iterations))

    def adjoint_synthesis(self, f: Inexact[Array, "... 2*N-1 *shape"]) -> Complex[Array, "... 2*N-1 L 2*L-1"]:
        r"""The adjoint of `synthesis`: :math:`\frac{2 l + 1}{8 \pi^2} \sum D^l_{mn} f` over all samples."""
        return _from_function(self, "adjoint_synthesis", self._check_function(f))

    def adjoint_analysis(
        self, flmn: Complex[Array, "... 2*N-1 L 2*L-1"], iterations: int = 0
    ) -> Inexact[Array, "... 2*N-1 *shape"]:
        """The adjoint of `analysis` with as many iterations."""
        flmn = self._check_flmn(flmn)
        return _to_function(self, "adjoint_analysis", flmn, iterations=_check_iterations(iterations))

    __call__ = synthesis
    adjoint = adjoint_synthesis
    inverse = analysis

    def in_structure(self) -> jax.ShapeDtypeStruct:
        """Shape and type of coefficients, in the precision that JAX has now."""
        shape = (2 * self.N - 1, self.L, 2 * self.L - 1)
        return jax.ShapeDtypeStruct(shape, jax.dtypes.canonicalize_dtype(np.complex128))

    def out_structure(self) -> jax.ShapeDtypeStruct:
        """Shape and type of a function, in the precision that JAX has now."""
        dtype = np.float64 if self.real else np.complex128
        shape = (2 * self.N - 1, *self.grid.shape)
        return jax.ShapeDtypeStruct(shape, jax.dtypes.canonicalize_dtype(dtype))

    def opnorm(self) -> float:
        """The largest singular value of `synthesis`, by power iteration to a part in a thousand."""
        return _power_iteration(self)

    def _check_flmn(self, flmn: Any) -> Array:
        return check_array("flmn", flmn, self.in_structure().shape, "complex", "(l, m, n) at [N-1+n, l, L-1+m]")

    def _check_function(self, f: Any) -> Array:
        kind = "real" if self.real else "complex"
        return check_array("f", f, self.out_structure().shape, kind, f"2 N - 1 angles gamma by a map on {self.grid}")

    def _directions(self) -> Directions:
        orders = tuple(range(0 if self.real else 1 - self.N, self.N))
        return Directions(self.L, 2 * self.N - 1, orders, self.grid, self.real, self.backend)


def _check_iterations(iterations: Any) -> int:
    return check_integer("iterations", iterations, 0, None, "the number of Jacobi iterations")


def _kwargs(operation: Operation, iterations: int) -> dict[str, int]:
    return {"iterations": iterations} if "analysis" in operation else {}


@functools.partial(jax.jit, static_argnums=(0, 1), static_argnames="iterations")
def _to_function(so3: WignerTransform, operation: Operation, flmn: Array, iterations: int = 0) -> Array:
    if so3.real:
        positive, negative = flmn[..., so3.N - 1 :, :, :], flmn[..., so3.N - 1 :: -1, :, :]
        flmn = (positive + _order_signs(so3, flmn) * flip(negative)) / 2
    flmn = flmn * _factors(so3, operation)[:, None].astype(flmn.real.dtype)
    each = [flmn[..., k, :, :] for k in range(flmn.shape[-3])]
    return so3._directions().to_function(operation, each, **_kwargs(operation, iterations))


@functools.partial(jax.jit, static_argnums=(0, 1), static_argnames="iterations")
def _from_function(so3: WignerTransform, operation: Operation, f: Array, iterations: int = 0) -> Array:
    each = so3._directions().from_function(operation, f, **_kwargs(operation, iterations))
    flmn = jnp.stack(each, axis=-3) * _factors(so3, operation)[:, None].astype(f.real.dtype)
    if so3.real:
        negative = _order_signs(so3, flmn) * flip(flmn)
        flmn = jnp.concatenate([negative[..., :0:-1, :, :], flmn], axis=-3)
    return flmn


def _factors(so3: WignerTransform, operation: Operation) -> np.ndarray:
    """From D to the harmonics of spin -n; by degree."""
    synthesis = np.sqrt((2 * np.arange(so3.L) + 1) / (16 * np.pi**3))
    return synthesis if "synthesis" in operation else 1 / (synthesis * (2 * so3.N - 1))


def _order_signs(so3: WignerTransform, flmn: Array) -> np.ndarray:
    """(-1)**n for n from 0 up."""
    return (1 - 2 * (np.arange(so3.N) % 2)).astype(flmn.real.dtype)[:, None, None]
