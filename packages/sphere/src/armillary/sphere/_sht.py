"""Spherical harmonic transforms on sampling grids."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Literal, get_args

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.sharding import AxisType, NamedSharding, PartitionSpec
from jaxtyping import Array, Complex, Inexact

from . import _ducc, _sharded, _transform
from ._checks import check_array, check_integer
from ._grids import GaussLegendre, Grid, Healpix
from ._table import check_table

Backend = Literal["auto", "jax", "table", "pallas", "ducc"]
Operation = Literal["synthesis", "adjoint_synthesis", "analysis", "adjoint_analysis"]


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

    Backends, for the same numbers to rounding. One exception: on Driscoll-Healy grids, and Clenshaw-Curtis grids with
    more rings than needed, ``"ducc"`` has other quadrature weights, as exact for maps within the grid's bandlimit. The
    `analysis` of maps with power above it, and so `adjoint_analysis`, differ there by some parts in a thousand.

    - ``"jax"``: on any device. The recursion over degrees is shared by a batch, and nothing of size ``L**3`` is stored.
    - ``"table"``: the functions of the recursion are computed once and kept, some ``2 L**3`` bytes of them (twice that
      for a spin): for many maps at a moderate bandlimit.
    - ``"pallas"``: the recursion is one fused kernel, for NVIDIA GPUs; needs x64.
    - ``"ducc"``: ducc0's C++, for CPUs: ``pip install 'armillary-sphere[ducc]'``. It uses as many threads as the
      environment's ``DUCC0_NUM_THREADS`` says, or all.
    - ``"auto"``: ``"ducc"`` on CPUs where it is installed, otherwise ``"jax"``; always ``"jax"`` with `sharding`, in a
      `jax.shard_map`, and for arrays on a mesh with explicit axes.

    With `sharding` one transform is shared by several devices, of one process or many: orders are split over them for
    the recursion, then, after one all-to-all, rings for the Fourier transforms. Maps come out split over rings (on
    HEALPix, over pixels) where the devices divide their number, and coefficients whole on every device. Arguments may
    be on the mesh in any way. Axes of the mesh that the sharding does not name split the flattened batch, where they
    divide it.

    Args:
        grid: where maps are sampled.
        L: the bandlimit, degrees 0 to ``L - 1``; by default the grid's, which on other grids than HEALPix is the
            largest (there it is ``4 nside``).
        spin: the spin weight, of either sign.
        real: maps are real; spin 0 only.
        backend: what computes: see above.
        validate: raise for NaN and infinite values in arrays that are not traced; this waits for them.
        sharding: ``NamedSharding(mesh, PartitionSpec(axis))`` with the axis of a mesh (or a tuple of axes) whose
            devices share each transform; by default none do.

    Raises:
        ValueError: an argument is out of range, or the table would not fit; names it, and what is allowed.
        ImportError: the backend is not installed.

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

    grid: Grid
    L: int = None  # type: ignore[assignment]
    spin: int = 0
    real: bool = False
    backend: Backend = "auto"
    validate: bool = False
    sharding: NamedSharding | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.grid, Grid):
            raise ValueError(f"grid={self.grid!r}: a grid such as GaussLegendre(128) is needed")
        largest = 4 * self.grid.nside if isinstance(self.grid, Healpix) else self.grid.L
        L = self.grid.L if self.L is None else self.L
        L = check_integer("L", L, 1, largest, f"the bandlimit on {self.grid}")
        spin = check_integer("spin", self.spin, 1 - L, L - 1, f"a spin at the bandlimit L={L}")
        for name in ("real", "validate"):
            if getattr(self, name) not in (True, False):
                raise ValueError(f"{name}={getattr(self, name)!r}: True or False")
            object.__setattr__(self, name, bool(getattr(self, name)))
        if self.real and spin:
            raise ValueError(f"real=True with spin={spin}: fields of a spin are complex; use real=False")
        object.__setattr__(self, "L", L)
        object.__setattr__(self, "spin", spin)
        if self.backend not in get_args(Backend):
            raise ValueError(f"backend={self.backend!r}: one of {', '.join(map(repr, get_args(Backend)))}")
        if self.sharding is not None:
            _sharded.check_sharding(self.sharding, self.backend)
        if self.backend == "table":
            check_table(_transform.rings_of(self), L, spin)
        if self.backend == "ducc" and not _ducc.available():
            raise ImportError("backend='ducc' needs jaxbind and ducc0: pip install 'armillary-sphere[ducc]'")

    @property
    def engine(self) -> str:
        """The backend that computes here and now: what ``backend="auto"`` means."""
        if self.backend != "auto":
            return self.backend
        if self.sharding is not None or jax.sharding.get_abstract_mesh().manual_axes:
            # In a `shard_map`, derivatives of ducc0's primitives are not known to vary between devices.
            return "jax"
        return "ducc" if jax.default_backend() == "cpu" and _ducc.available() else "jax"

    def synthesis(self, alm: Complex[Array, "... L 2*L-1"]) -> Inexact[Array, "*shape"]:
        """The map with the given coefficients.

        Args:
            alm: coefficients, complex64 or complex128 (real arrays are promoted).

        Returns:
            The map, of shape ``(..., *grid.shape)``: real if `real`, else complex, in the precision of `alm`.

        Raises:
            ValueError: `alm` has another shape, half precision or an integer type, or needs x64 where it is off.
        """
        return self._synthesis(self._check_alm(alm))

    def analysis(self, f: Inexact[Array, "*shape"], iterations: int = 0) -> Complex[Array, "... L 2*L-1"]:
        r"""The coefficients of a map: exact for a map of the bandlimit, but on HEALPix.

        On Gauss-Legendre and Driscoll-Healy rings, and on other equiangular ones where they are ``2 L - 1`` or more,
        this is a quadrature that uses all rings; on fewer it is the integral of the interpolating trigonometric
        polynomials. On HEALPix it is the quadrature of the grid's weights, which Jacobi iterations

        .. math:: a \leftarrow a + A (f - S a)

        with synthesis S and analysis A improve, the faster the lower the bandlimit.

        Args:
            f: the map, real if `real`; else complex, to which real arrays are promoted.
            iterations: the number of Jacobi iterations, each the cost of a synthesis and an analysis.

        Returns:
            The coefficients, of shape ``(..., L, 2 L - 1)``.

        Raises:
            ValueError: as `synthesis`; or `iterations` is not an integer of 0 or more.
        """
        f = self._check_map(f)
        iterations = check_integer("iterations", iterations, 0, None, "the number of Jacobi iterations")
        return _iterated_analysis(self, iterations, f) if iterations else self._analysis(f)

    def adjoint_synthesis(self, f: Inexact[Array, "*shape"]) -> Complex[Array, "... L 2*L-1"]:
        r"""The adjoint of `synthesis`: :math:`\sum_p {}_sY_{lm}^*(p) f(p)`, with no weights. See `analysis`."""
        return self._adjoint_synthesis(self._check_map(f))

    def adjoint_analysis(self, alm: Complex[Array, "... L 2*L-1"], iterations: int = 0) -> Inexact[Array, "*shape"]:
        """The adjoint of `analysis` with as many iterations. See `synthesis`."""
        alm = self._check_alm(alm)
        iterations = check_integer("iterations", iterations, 0, None, "the number of Jacobi iterations")
        return _iterated_adjoint_analysis(self, iterations, alm) if iterations else self._adjoint_analysis(alm)

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

        On a Gauss-Legendre grid it is :math:`(\min_t w_t)^{-1/2}` for spin 0 at the grid's own bandlimit, where a
        combination of the harmonics of order 0 vanishes on all rings but one; otherwise it is found by power iteration
        to a part in a thousand.
        """
        if isinstance(self.grid, GaussLegendre) and self.spin == 0 and self.L == self.grid.L:
            return float(1 / math.sqrt(self.grid.weights.min()))
        # Of the same numbers, on one device: `ensure_compile_time_eval` has no `shard_map`.
        return _power_iteration(replace(self, sharding=None))

    def _check_alm(self, alm: Any) -> Array:
        layout_text = "with entry (l, m) at [l, L-1+m]"
        return check_array("alm", alm, (self.L, 2 * self.L - 1), "complex", layout_text, self.validate)

    def _check_map(self, f: Any) -> Array:
        kind = "real" if self.real else "complex"
        return check_array("f", f, self.grid.shape, kind, f"a map on {self.grid}", self.validate)

    # The four operations on checked arrays, batches and all.

    def _synthesis(self, alm: Array) -> Array:
        return self._batched("synthesis", alm)

    def _adjoint_synthesis(self, f: Array) -> Array:
        return self._batched("adjoint_synthesis", f)

    def _analysis(self, f: Array) -> Array:
        if isinstance(self.grid, Healpix):
            return self._adjoint_synthesis(f * self._pixel_weights(f))
        return self._batched("analysis", f)

    def _adjoint_analysis(self, alm: Array) -> Array:
        if isinstance(self.grid, Healpix):
            f = self._synthesis(alm)
            return f * self._pixel_weights(f)
        return self._batched("adjoint_analysis", alm)

    def _batched(self, operation: Operation, x: Array) -> Array:
        if self.engine == "pallas":
            from . import _pallas

            _pallas.check_x64()
        if self.sharding is not None:
            return _flattened(self, operation, functools.partial(getattr(_sharded, operation), self), x)
        mesh = jax.typeof(x).sharding.mesh
        if AxisType.Explicit not in mesh.axis_types:
            return _run(self, self.engine, operation, x, _transform.table_of(self, x))
        # Types that say where arrays are would have to be carried through every stage: leave it to the compiler, and
        # give the result the batch's.
        sht = replace(self, backend="jax") if self.backend == "auto" else self
        run = functools.partial(_run, sht, sht.engine, operation, table=_transform.table_of(sht, x))
        batch = jax.typeof(x).sharding.spec[: x.ndim - _trailing(self, operation)]
        return jax.sharding.auto_axes(run, out_sharding=NamedSharding(mesh, PartitionSpec(*batch)))(x)

    def _pixel_weights(self, f: Array) -> np.ndarray:
        return np.repeat(self.grid.weights, self.grid.nphi).astype(np.finfo(f.dtype).dtype)


@functools.partial(jax.jit, static_argnums=(0, 1, 2))
def _run(sht: SHT, engine: str, operation: Operation, x: Array, table: tuple[Array, ...]) -> Array:
    if engine == "ducc":
        return _flattened(sht, operation, functools.partial(getattr(_ducc, operation), sht), x)
    return _flattened(sht, operation, functools.partial(getattr(_transform, operation), sht, table=table), x)


# Compiled, for a loop that is not is compiled anew at every call.


@functools.partial(jax.jit, static_argnums=(0, 1))
def _iterated_analysis(sht: SHT, iterations: int, f: Array) -> Array:
    return lax.fori_loop(0, iterations, lambda _, alm: alm + sht._analysis(f - sht._synthesis(alm)), sht._analysis(f))


@functools.partial(jax.jit, static_argnums=(0, 1))
def _iterated_adjoint_analysis(sht: SHT, iterations: int, alm: Array) -> Array:
    def step(_: int, carry: tuple[Array, Array]) -> tuple[Array, Array]:
        term, total = carry
        term = term - sht._adjoint_synthesis(sht._adjoint_analysis(term))
        return term, total + term

    return sht._adjoint_analysis(lax.fori_loop(0, iterations, step, (alm, alm))[1])


def _trailing(sht: SHT, operation: Operation) -> int:
    """The number of axes of an argument that are no batch."""
    return 2 if operation in ("synthesis", "adjoint_analysis") else len(sht.grid.shape)


def _flattened(sht: SHT, operation: Operation, call: Callable[[Array], Array], x: Array) -> Array:
    """Call with all leading axes as one."""
    trailing = _trailing(sht, operation)
    batch, own = x.shape[: x.ndim - trailing], x.shape[x.ndim - trailing :]
    if 0 in batch:
        one = jax.eval_shape(call, jax.ShapeDtypeStruct((1, *own), x.dtype))
        return jnp.zeros((*batch, *one.shape[1:]), one.dtype)
    y = call(x.reshape(-1, *own))
    return y.reshape(*batch, *y.shape[1:])


@functools.lru_cache(maxsize=64)
def _power_iteration(operator: Any) -> float:
    """The norm of a linear operator on an array, one of `armillary.core.protocols.ForwardOperator` that is hashable."""
    structure = operator.in_structure()
    with jax.ensure_compile_time_eval():
        alm = jax.random.normal(jax.random.key(0), structure.shape).astype(structure.dtype)
        estimate = 0.0
        for _ in range(500):
            image = operator.adjoint(operator(alm))
            size = float(jnp.linalg.norm(image))
            alm = image / size
            if abs(size - estimate) < 1e-5 * size:
                break
            estimate = size
    return math.sqrt(size) * (1 + 5e-4)
