"""Spherical harmonic transforms on sampling grids."""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Complex, Inexact

from . import _layout as layout
from ._checks import check_array, check_integer
from ._gauss_legendre import GaussLegendre
from ._legendre import analyse, synthesise
from ._rings import Rings


@jax.tree_util.register_static
@dataclass(frozen=True)
class SHT:
    r"""The spherical harmonic transform between coefficients and maps on a grid, of any spin below the bandlimit.

    .. math:: f(\theta, \phi) = \sum_{l=0}^{L-1} \sum_{m=-l}^{l} a_{lm}\, {}_sY_{lm}(\theta, \phi), \qquad
              {}_sY_{lm} = (-1)^s \sqrt{\frac{2 l + 1}{4 \pi}}\; d^l_{m,-s}(\theta)\, e^{i m \phi}.

    Harmonics are orthonormal, with the Condon-Shortley phase. Coefficients are dense, of shape ``(..., L, 2 L - 1)``,
    with :math:`a_{lm}` at ``[l, L - 1 + m]``; entries with :math:`|m| > l` or :math:`l < |s|` are ignored on input and
    zero on output. Leading axes are a batch, which shares the recursion. An `SHT` compares and hashes by value, is
    static under `jax.jit`, and is a `armillary.core.protocols.Transform`: called, it is `synthesis`.

    With ``real=True`` (spin 0) maps are real. `synthesis` gives the real part of the field above, which for
    coefficients of a real field, :math:`a_{l,-m} = (-1)^m a_{lm}^*`, is the field; `analysis` gives all orders, with
    that symmetry. To synthesise from the orders :math:`m \ge 0` alone, fill in the others. Everything is then linear
    over the real numbers, the inner product of coefficients is :math:`\mathrm{Re} \sum a_{lm}^* b_{lm}` over all
    orders, and the adjoints are those of that inner product. `synthesis` and `analysis` are inverses of each other on
    coefficients with the symmetry.

    The recursion over degrees runs in float64; for single precision input where x64 is off it runs in pairs of
    float32, so that the result has the accuracy of float32 at any bandlimit. Neither under- nor overflows.

    Args:
        grid: where maps are sampled.
        L: the bandlimit, degrees 0 to ``L - 1``; at most, and by default, the grid's.
        spin: the spin weight, of either sign.
        real: maps are real; spin 0 only.

    Raises:
        ValueError: an argument is out of range; names it, and what is allowed.

    References: Goldberg J. N. et al. 1967, J. Math. Phys. 8, 2155, doi:10.1063/1.1705135; the fold of the hemispheres
    and the scaling follow Reinecke M., Seljebotn D. S. 2013, A&A 554, A112, doi:10.1051/0004-6361/201321494.

    >>> import jax
    >>> from armillary.sphere import SHT, GaussLegendre
    >>> sht = SHT(GaussLegendre(32), real=True)
    >>> f = jax.random.normal(jax.random.key(0), (4, *sht.grid.shape))
    >>> alm = sht.analysis(f)
    >>> alm.shape
    (4, 32, 63)
    >>> bool(abs(sht.analysis(sht.synthesis(alm)) - alm).max() < 1e-5)
    True
    """

    grid: GaussLegendre
    L: int = None  # type: ignore[assignment]
    spin: int = 0
    real: bool = False

    def __post_init__(self) -> None:
        if not isinstance(self.grid, GaussLegendre):
            raise ValueError(f"grid={self.grid!r}: a grid such as GaussLegendre(128) is needed")
        L = self.grid.L if self.L is None else self.L
        L = check_integer("L", L, 1, self.grid.L, f"the bandlimit on {self.grid}")
        spin = check_integer("spin", self.spin, 1 - L, L - 1, f"a spin at the bandlimit L={L}")
        if self.real not in (True, False):
            raise ValueError(f"real={self.real!r}: True or False")
        if self.real and spin:
            raise ValueError(f"real=True with spin={spin}: fields of a spin are complex; use real=False")
        object.__setattr__(self, "L", L)
        object.__setattr__(self, "spin", spin)
        object.__setattr__(self, "real", bool(self.real))

    def synthesis(self, alm: Complex[Array, "... L 2*L-1"]) -> Inexact[Array, "... rings longitudes"]:
        """The map with the given coefficients.

        Args:
            alm: coefficients, complex64 or complex128 (real arrays are promoted).

        Returns:
            The map, of shape ``(..., *grid.shape)``: real if `real`, else complex, in the precision of `alm`.

        Raises:
            ValueError: `alm` has another shape, half precision or an integer type, or needs x64 where it is off.
        """
        return _synthesis(self, self._check_alm(alm))

    def analysis(self, f: Inexact[Array, "... rings longitudes"]) -> Complex[Array, "... L 2*L-1"]:
        """The coefficients of a map, exact for a map of the bandlimit: by quadrature.

        Args:
            f: the map, real if `real`; else complex, to which real arrays are promoted.

        Returns:
            The coefficients, of shape ``(..., L, 2 L - 1)``.

        Raises:
            ValueError: as `synthesis`.
        """
        f = self._check_map(f)
        return _adjoint_synthesis(self, f * self._weights(f))

    def adjoint_synthesis(self, f: Inexact[Array, "... rings longitudes"]) -> Complex[Array, "... L 2*L-1"]:
        r"""The adjoint of `synthesis`: :math:`\sum_p {}_sY_{lm}^*(p) f(p)`, with no weights. See `analysis`."""
        return _adjoint_synthesis(self, self._check_map(f))

    def adjoint_analysis(self, alm: Complex[Array, "... L 2*L-1"]) -> Inexact[Array, "... rings longitudes"]:
        """The adjoint of `analysis`: the synthesised map times the weights. See `synthesis`."""
        f = _synthesis(self, self._check_alm(alm))
        return f * self._weights(f)

    __call__ = synthesis
    adjoint = adjoint_synthesis
    inverse = analysis

    def in_structure(self) -> jax.ShapeDtypeStruct:
        """Shape and type of coefficients, in the precision that JAX has now."""
        return jax.ShapeDtypeStruct((self.L, 2 * self.L - 1), jax.dtypes.canonicalize_dtype(np.complex128))

    def out_structure(self) -> jax.ShapeDtypeStruct:
        """Shape and type of a map, in the precision that JAX has now."""
        dtype = np.float64 if self.real else np.complex128
        return jax.ShapeDtypeStruct(self.grid.shape, jax.dtypes.canonicalize_dtype(dtype))

    def opnorm(self) -> float:
        r"""The largest singular value of `synthesis`.

        It is :math:`(\min_t w_t)^{-1/2}` for spin 0 at the grid's own bandlimit, where a combination of the harmonics
        of order 0 vanishes on all rings but one; otherwise it is found by power iteration to a part in a thousand.
        """
        if self.spin == 0 and self.L == self.grid.L:
            return float(1 / math.sqrt(self.grid.weights.min()))
        return _power_iteration(self)

    def _check_alm(self, alm: Any) -> Array:
        layout_text = "with entry (l, m) at [l, L-1+m]"
        return check_array("alm", alm, (self.L, 2 * self.L - 1), "complex", layout_text)

    def _check_map(self, f: Any) -> Array:
        kind = "real" if self.real else "complex"
        return check_array("f", f, self.grid.shape, kind, f"rings by longitudes of {self.grid}")

    def _weights(self, f: Array) -> np.ndarray:
        return self.grid.weights[:, None].astype(np.finfo(f.dtype).dtype)


@functools.partial(jax.jit, static_argnums=0)
def _synthesis(sht: SHT, alm: Array) -> Array:
    L, spin = sht.L, sht.spin
    rings, longitudes = sht.grid.shape
    batch = alm.shape[:-2]
    positive, negative = layout.split_orders(alm.reshape(-1, L, 2 * L - 1))
    signs = layout.order_signs(L, alm.real.dtype)
    if spin:
        parity = (signs * (-1) ** spin)[:, None]
        lanes = [
            layout.to_lanes([positive, parity * negative], spin),
            layout.to_lanes([negative, parity * positive], spin),
        ]
        sums = synthesise(jnp.concatenate(lanes), Rings("gauss-legendre", sht.grid.L), L, spin)[:, 0]
        north, minus_south = layout.rings_from_columns(sums[:L], 2)
        minus_north, south = layout.rings_from_columns(sums[L:], 2)
        orders = [layout.join_hemispheres(north, south, rings)]
        orders.append(layout.join_hemispheres(minus_north, minus_south, rings))
    else:
        parts = [(positive + signs * negative.conj()) / 2] if sht.real else [positive, signs * negative]
        sums = synthesise(layout.to_lanes(parts, 0), Rings("gauss-legendre", sht.grid.L), L, 0)
        north, south = sums[:, 0] + sums[:, 1], sums[:, 0] - sums[:, 1]
        hemispheres = (layout.rings_from_columns(x, len(parts)) for x in (north, south))
        orders = [layout.join_hemispheres(n, s, rings) for n, s in zip(*hemispheres, strict=True)]
    if sht.real:
        f = jnp.fft.irfft(orders[0], n=longitudes, axis=2, norm="forward")
    else:
        gap = jnp.zeros((*orders[0].shape[:2], longitudes - 2 * L + 1), alm.dtype)
        f = jnp.fft.ifft(jnp.concatenate([orders[0], gap, orders[1][:, :, :0:-1]], axis=2), axis=2, norm="forward")
    return f.reshape(*batch, rings, longitudes)


@functools.partial(jax.jit, static_argnums=0)
def _adjoint_synthesis(sht: SHT, f: Array) -> Array:
    L, spin = sht.L, sht.spin
    rings, longitudes = sht.grid.shape
    batch = f.shape[:-2]
    f = f.reshape(-1, rings, longitudes)
    signs = layout.order_signs(L, f.real.dtype)
    if sht.real:
        orders = [jnp.fft.rfft(f, axis=2)[:, :, :L]]
    else:
        spectrum = jnp.fft.fft(f, axis=2)
        negative = jnp.pad(jnp.flip(spectrum[:, :, longitudes - L + 1 :], axis=2), [(0, 0), (0, 0), (1, 0)])
        orders = [spectrum[:, :, :L], negative]
    hemispheres = [layout.split_hemispheres(x) for x in orders]
    if spin:
        (north, south), (minus_north, minus_south) = hemispheres
        columns = [layout.rings_to_columns([north, minus_south]), layout.rings_to_columns([minus_north, south])]
        sums = analyse(jnp.concatenate(columns)[:, None], Rings("gauss-legendre", sht.grid.L), L, spin)
        positive, minus_turned = layout.from_lanes(sums[:L], spin, 2)
        negative, turned = layout.from_lanes(sums[L:], spin, 2)
        parity = (signs * (-1) ** spin)[:, None]
        positive, negative = positive + parity * turned, negative + parity * minus_turned
    else:
        even, odd = (layout.rings_to_columns([n + sign * s for n, s in hemispheres]) for sign in (1, -1))
        sums = analyse(jnp.stack([even, odd], axis=1), Rings("gauss-legendre", sht.grid.L), L, 0)
        parts = layout.from_lanes(sums, 0, len(orders))
        positive, negative = parts[0], signs * (parts[0].conj() if sht.real else parts[1])
        if sht.real:
            positive = positive.at[:, :, 0].set(positive[:, :, 0].real)
    return layout.join_orders(positive, negative).reshape(*batch, L, 2 * L - 1)


@functools.lru_cache(maxsize=64)
def _power_iteration(sht: SHT) -> float:
    with jax.ensure_compile_time_eval():
        alm = jax.random.normal(jax.random.key(0), sht.in_structure().shape).astype(sht.in_structure().dtype)
        estimate = 0.0
        for _ in range(500):
            image = sht.adjoint_synthesis(sht.synthesis(alm))
            size = float(jnp.linalg.norm(image))
            alm = image / size
            if abs(size - estimate) < 1e-5 * size:
                break
            estimate = size
    return math.sqrt(size) * (1 + 5e-4)
