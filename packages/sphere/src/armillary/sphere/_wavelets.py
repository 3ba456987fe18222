"""Scale-discretised wavelets on the sphere, directional and of any spin."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, get_args

import jax
import numpy as np
from jaxtyping import Array, ArrayLike, Complex, Float

from . import _wavelet_transform
from ._checks import check_array, check_integer
from ._directions import Directions
from ._filters import Filters, Kind, filters, radon
from ._grids import ClenshawCurtis, DriscollHealy, GaussLegendre, Grid, Healpix, McEwenWiaux, McEwenWiauxSS
from ._phases import check_angle
from ._sht import SHT, Backend, _power_iteration
from ._wavelet_transform import Scale, WaveletCoefficients

GridName = Literal["gl", "mw", "mwss", "dh", "cc", "healpix"]
_GRIDS: dict[str, Callable[[int], Grid]] = {
    "gl": GaussLegendre,
    "mw": McEwenWiaux,
    "mwss": McEwenWiauxSS,
    "dh": DriscollHealy,
    "cc": ClenshawCurtis,
}


@jax.tree_util.register_static
@dataclass(frozen=True)
class Wavelets:
    r"""The scale-discretised wavelet transform on the sphere.

    Wavelets are made by dilation in harmonic space, and act on a field by directional correlation:

    .. math:: \psi^{(j)}_{ln} = \sqrt{\frac{2 l + 1}{8 \pi^2}}\, \kappa_j(l)\, \zeta_{ln}, \qquad
              W_j(\alpha, \beta, \gamma) = \int f\, (R_{\alpha\beta\gamma} \psi^{(j)})^* \,\mathrm d\Omega
              = \frac{1}{\sqrt{2 \pi}} \sum_{lmn} (-1)^n e^{i n \gamma}\, \kappa_j(l)\, \zeta_{ln}^*\, a_{lm}\,
              {}_{-n}Y_{lm}(\beta, \alpha),

    for the scales j from `J_min` to `J`, the first with :math:`\lambda^J \ge L - 1`; a larger j is a smaller scale,
    with :math:`\kappa_j` on :math:`\lambda^{j-1} < l < \lambda^{j+1}`. What is below is kept by the scaling function,
    :math:`\sum_{lm} \text{scaling}(l)\, a_{lm} Y_{lm}`. The frame is tight,

    .. math:: \int |f|^2 = \int |W_{scaling}|^2 \,\mathrm d\Omega + \sum_j \int |W_j|^2
              \,\mathrm d\alpha \sin\beta \,\mathrm d\beta \,\mathrm d\gamma,

    and `synthesis` is exact, but on HEALPix, where it is as good as the quadrature there; its iterations help.

    Coefficients are sampled at the directions :math:`\gamma_g = 2 \pi g / (2 N_j - 1)`, and on `grid`. Only the orders
    n that a filter has are transformed: every other one of directional wavelets. The transform takes harmonic
    coefficients: for a map, ``Wavelets(L).analysis(sht.analysis(f))``.

    Kinds, by :math:`\zeta`:

    - ``"directional"``: steerable wavelets with N directions, even for odd N and odd for even N under half a turn.
    - ``"axisymmetric"``: with no direction; the same as directional with ``N=1``.
    - ``"needlet"``: axisymmetric, with the filter over degrees of Marinucci et al. 2008.
    - ``"curvelet"``: as directional as their scale allows, a width of about the square of their length; centred on the
      pole. There are as many directions as degrees, so that work grows as ``L**4``.
    - ``"ridgelet"``: axisymmetric wavelets of the Radon transform, the integrals of the field, in the frame of the
      circle if it has a spin, over great circles. Its null space are the degrees with l + `spin` odd: `synthesis` gives
      the others, and 0 for these. The frame is not tight.

    With ``real=True`` (spin 0) fields and coefficients are real: see `SHT`. Otherwise both are complex; the
    coefficients of a field of a spin are scalar functions, those of the scaling function too. A `Wavelets` compares and
    hashes by value, is static under `jax.jit`, and is a `armillary.core.protocols.Transform`: called, it is `analysis`.

    Args:
        L: the bandlimit of the field.
        N: the number of directions that a directional wavelet resolves; 1 for all other kinds.
        J_min: the largest scale that has a wavelet.
        lam: the ratio :math:`\lambda` between scales, above 1.
        spin: the spin of the field, of either sign.
        grid: ``"gl"``, ``"mw"``, ``"mwss"``, ``"dh"``, ``"cc"`` or ``"healpix"``, each of the least size that has the
            bandlimit.
        real: the field is real; spin 0 only.
        multiresolution: every scale has its own bandlimit, and so its own grid; otherwise all have `L`.
        kind: see above.
        backend: of the transforms: see `SHT`.

    Raises:
        ValueError: an argument is out of range; names it, and what is allowed.
        ImportError: the backend is not installed.

    References: McEwen J. D., Durastanti C., Wiaux Y. 2018, Appl. Comput. Harmon. Anal. 44, 59,
    doi:10.1016/j.acha.2016.03.009; of any spin: McEwen J. D. et al. 2015 (arXiv:1509.06749); needlets: Marinucci D. et
    al. 2008, MNRAS 383, 539, doi:10.1111/j.1365-2966.2007.12550.x (arXiv:0707.0844); curvelets: Chan J. Y. H. et al.
    2017, IEEE Trans. Sig. Proc. 65, 5, doi:10.1109/TSP.2016.2600506 (arXiv:1511.05578); ridgelets: McEwen J. D., Price
    M. A. 2019, 27th EUSIPCO, doi:10.23919/EUSIPCO.2019.8903034 (arXiv:1510.01595).

    >>> import jax
    >>> from armillary.sphere import Wavelets, alm_from_real
    >>> wavelets = Wavelets(L=16, N=3)
    >>> alm = alm_from_real(jax.random.normal(jax.random.key(0), (256,)))
    >>> c = wavelets.analysis(alm)
    >>> [w.shape for w in c.wavelets]
    [(5, 4, 7), (5, 4, 7), (5, 8, 15), (5, 16, 31), (5, 16, 31)]
    >>> bool(abs(wavelets.synthesis(c) - alm).max() < 1e-5)
    True
    """

    L: int
    N: int = 1
    J_min: int = 0
    lam: float = 2.0
    spin: int = 0
    grid: GridName = "gl"
    real: bool = True
    multiresolution: bool = True
    kind: Kind = "directional"
    backend: Backend = "auto"

    def __post_init__(self) -> None:
        L = check_integer("L", self.L, 1, None, "the bandlimit of the field")
        if self.kind not in get_args(Kind):
            raise ValueError(f"kind={self.kind!r}: one of {', '.join(map(repr, get_args(Kind)))}")
        most = L if self.kind == "directional" else 1
        N = check_integer("N", self.N, 1, most, f"the number of directions of kind={self.kind!r}, at L={L},")
        if isinstance(self.lam, bool) or not isinstance(self.lam, (int, float)) or not 1 < self.lam < math.inf:
            raise ValueError(f"lam={self.lam!r}: the ratio between scales is a finite number above 1, such as 2.0")
        lam = float(self.lam)
        J_min = check_integer("J_min", self.J_min, 0, _last_scale(L, lam), f"the largest scale at L={L}, lam={lam}")
        if self.grid not in get_args(GridName):
            raise ValueError(f"grid={self.grid!r}: one of {', '.join(map(repr, get_args(GridName)))}")
        spin = check_integer("spin", self.spin, 1 - L, L - 1, f"a spin at the bandlimit L={L}")
        for name in ("real", "multiresolution"):
            if getattr(self, name) not in (True, False):
                raise ValueError(f"{name}={getattr(self, name)!r}: True or False")
            object.__setattr__(self, name, bool(getattr(self, name)))
        if self.real and spin:
            raise ValueError(f"real=True with spin={spin}: fields of a spin are complex; use real=False")
        for name, value in {"L": L, "N": N, "J_min": J_min, "lam": lam, "spin": spin}.items():
            object.__setattr__(self, name, value)
        # Checks the backend.
        SHT(self.scaling_grid, 1, backend=self.backend)

    @property
    def J(self) -> int:
        """The smallest scale."""
        return _last_scale(self.L, self.lam)

    @property
    def filters(self) -> Filters:
        """The filters: `kappa` by scale from `J_min` on and degree, `directionality`, and `scaling`; on the host."""
        N = self.L if self.kind == "curvelet" else self.N
        return filters(self.L, N, self.J_min, self.J, self.lam, self.spin, self.kind)

    @property
    def scaling_grid(self) -> Grid:
        """The grid of the scaling function's map."""
        return _grid(self.grid, self.scaling_bandlimit)

    @property
    def grids(self) -> tuple[Grid, ...]:
        """The grid of every scale."""
        return tuple(_grid(self.grid, self._bandlimit(j)) for j in range(self.J_min, self.J + 1))

    def analysis(self, alm: Complex[Array, "... L 2*L-1"]) -> WaveletCoefficients[Array]:
        """The wavelet coefficients of a field.

        Args:
            alm: its harmonic coefficients, complex64 or complex128 (real arrays are promoted).

        Returns:
            The map of the scaling function, ``(..., *scaling_grid.shape)``, and for every scale the coefficients, of
            shape ``(..., 2 N_j - 1, *grid.shape)``; N_j is N, but less where a scale has no as many degrees. Real if
            `real`, in the precision of `alm`.

        Raises:
            ValueError: `alm` has another shape, half precision or an integer type, or needs x64 where it is off.
        """
        return _wavelet_transform.to_wavelets(self, "synthesis", self._check_alm(alm))

    def synthesis(self, coefficients: WaveletCoefficients[Array], iterations: int = 0) -> Complex[Array, "... L 2*L-1"]:
        """The field of given wavelet coefficients: the inverse of `analysis`.

        Args:
            coefficients: as `analysis` returns them.
            iterations: the number of Jacobi iterations of every transform, for HEALPix (see `SHT.analysis`).

        Returns:
            Harmonic coefficients, ``(..., L, 2 L - 1)``.

        Raises:
            ValueError: an array has another shape, a type that is not transformed, or another batch than the others; or
                `iterations` is not an integer of 0 or more.
        """
        iterations = check_integer("iterations", iterations, 0, None, "the number of Jacobi iterations")
        return _wavelet_transform.from_wavelets(self, "analysis", self._check(coefficients), iterations=iterations)

    def adjoint_analysis(self, coefficients: WaveletCoefficients[Array]) -> Complex[Array, "... L 2*L-1"]:
        """The adjoint of `analysis`, for the plain sum over all samples. See `synthesis`."""
        return _wavelet_transform.from_wavelets(self, "adjoint_synthesis", self._check(coefficients))

    def adjoint_synthesis(self, alm: Complex[Array, "... L 2*L-1"], iterations: int = 0) -> WaveletCoefficients[Array]:
        """The adjoint of `synthesis` with as many iterations. See `analysis`."""
        iterations = check_integer("iterations", iterations, 0, None, "the number of Jacobi iterations")
        return _wavelet_transform.to_wavelets(self, "adjoint_analysis", self._check_alm(alm), iterations=iterations)

    def steer(
        self, coefficients: WaveletCoefficients[Array], angle: Float[ArrayLike, ""]
    ) -> WaveletCoefficients[Array]:
        r"""The coefficients of wavelets turned about their centre, at the directions :math:`\gamma_g + \text{angle}`.

        They are exact, for coefficients are trigonometric polynomials in the direction.

        Args:
            coefficients: as `analysis` returns them.
            angle: in radians, anticlockwise seen from outside.
        """
        coefficients = self._check(coefficients)
        angle = check_angle("angle", angle, coefficients.scaling.real.dtype)
        if angle.ndim:
            raise ValueError(f"angle has shape {angle.shape}: one number; map over others with jax.vmap")
        return _wavelet_transform.steer(self, coefficients, angle)

    __call__ = analysis
    adjoint = adjoint_analysis
    inverse = synthesis

    def in_structure(self) -> jax.ShapeDtypeStruct:
        """Shape and type of harmonic coefficients, in the precision that JAX has now."""
        return jax.ShapeDtypeStruct((self.L, 2 * self.L - 1), jax.dtypes.canonicalize_dtype(np.complex128))

    def out_structure(self) -> WaveletCoefficients[jax.ShapeDtypeStruct]:
        """Shapes and types of wavelet coefficients, in the precision that JAX has now."""
        dtype = jax.dtypes.canonicalize_dtype(np.float64 if self.real else np.complex128)
        sizes = [2 * self._directions_of(j) - 1 for j in range(self.J_min, self.J + 1)]
        return WaveletCoefficients(
            jax.ShapeDtypeStruct(self.scaling_grid.shape, dtype),
            tuple(jax.ShapeDtypeStruct((n, *g.shape), dtype) for n, g in zip(sizes, self.grids, strict=True)),
        )

    def opnorm(self) -> float:
        """The largest singular value of `analysis`, by power iteration to a part in a thousand."""
        return _power_iteration(self)

    def _check_alm(self, alm: Any) -> Array:
        return check_array("alm", alm, (self.L, 2 * self.L - 1), "complex", "with entry (l, m) at [l, L-1+m]")

    def _check(self, coefficients: Any) -> WaveletCoefficients[Array]:
        expected = self.out_structure()
        try:
            scaling, wavelets = coefficients
            pairs = [("scaling", scaling, expected.scaling)]
            pairs += [
                (f"wavelets[{j}]", x, structure)
                for j, (x, structure) in enumerate(zip(wavelets, expected.wavelets, strict=True))
            ]
        except (TypeError, ValueError):
            raise ValueError(
                f"coefficients are not a map of the scaling function and a tuple of {len(expected.wavelets)} arrays, "
                "one a scale: pass what analysis returns"
            ) from None
        kind = "real" if self.real else "complex"
        arrays = [check_array(name, x, s.shape, kind, "as analysis returns it") for name, x, s in pairs]
        batches = {x.shape[: x.ndim - len(s.shape)] for x, (_, _, s) in zip(arrays, pairs, strict=True)}
        if len(batches) > 1:
            raise ValueError(f"coefficients have the leading axes {sorted(batches)}: all arrays need the same")
        return WaveletCoefficients(arrays[0], tuple(arrays[1:]))

    @property
    def scaling_bandlimit(self) -> int:
        """The bandlimit of the scaling function's map."""
        return min(self.L, math.ceil(self.lam**self.J_min)) if self.multiresolution else self.L

    def _bandlimit(self, j: int) -> int:
        # The scales 0 and 1 share one, as in s2wav.
        return min(self.L, math.ceil(self.lam ** (max(j, 1) + 1))) if self.multiresolution else self.L

    def _directions_of(self, j: int) -> int:
        """N of a scale: no more than its degrees, and of the parity of all."""
        L = self._bandlimit(j)
        if self.kind == "curvelet":
            return L
        N = min(self.N, L)
        return N + (N + self.N) % 2

    def degrees(self) -> tuple[np.ndarray, np.ndarray]:
        """By degree: what comes before the filters, and what undoes it."""
        before = radon(self.L, self.spin) if self.kind == "ridgelet" else np.ones(self.L)
        there = (np.arange(self.L) >= abs(self.spin)) & (before != 0)
        return np.where(there, before, 0), np.where(there, 1 / np.where(there, before, 1), 0)

    def scale(self, j: int) -> Scale:
        """What the transform of scale `j` needs."""
        L, N = self._bandlimit(j), self._directions_of(j)
        zeta = self.filters.directionality
        middle = zeta.shape[1] // 2
        orders = np.arange(max(1 - N, -middle), min(N - 1, middle) + 1)
        factors = self.filters.kappa[j - self.J_min, :L, None] * zeta[:L, middle + orders] / math.sqrt(2 * math.pi)
        active = (factors != 0).any(axis=0) & ((orders >= 0) | (not self.real))
        # A scale between two degrees has none: it is all zeros.
        active |= (orders == 0) & ~active.any()
        grid = _grid(self.grid, L)
        chosen = tuple(orders[active].tolist())
        return Scale(Directions(L, 2 * N - 1, chosen, grid, self.real, self.backend), factors[:, active])


def _last_scale(L: int, lam: float) -> int:
    # A power that falls short by rounding alone is not short.
    return math.ceil(math.log(max(L - 1, 1)) / math.log(lam) - 1e-12)


def _grid(name: GridName, L: int) -> Grid:
    if name == "healpix":
        return Healpix(1 << max(0, math.ceil(math.log2(L)) - 1))
    return _GRIDS[name](L)
