"""The functions of other libraries, by their names, arguments and conventions, over the transforms of this one."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Complex, Float, Inexact

from ._checks import check_array, check_integer
from ._coefficients import eb_to_spin, spin_to_eb
from ._grids import DriscollHealy, GaussLegendre, Grid, Healpix, McEwenWiaux, McEwenWiauxSS
from ._healpy import dense_triangle, from_triangle, triangle_length
from ._sht import SHT

_SAMPLINGS: dict[str, Callable[[int], Grid]] = {
    "mw": McEwenWiaux,
    "mwss": McEwenWiauxSS,
    "dh": DriscollHealy,
    "gl": GaussLegendre,
}
_METHODS = ("numpy", "jax", "jax_cuda", "jax_ssht")
#: healpy's mark of a pixel that was not seen, and how near to it a pixel must be, as a fraction.
_UNSEEN, _UNSEEN_TOLERANCE = -1.6375e30, 1e-5


def forward(
    f: Inexact[Array, "*shape"],
    L: int,
    spin: int = 0,
    nside: int | None = None,
    sampling: str = "mw",
    method: str = "jax",
    reality: bool = False,
    precomps: None = None,
    spmd: bool = False,
    L_lower: int = 0,
    iter: int | None = None,
) -> Complex[Array, "... L 2*L-1"]:
    """`SHT.analysis` with the arguments of s2fft's ``forward``.

    Args:
        f: the map; leading axes are a batch.
        L: the bandlimit.
        spin: the spin.
        nside: the resolution of HEALPix, for that sampling.
        sampling: ``"mw"``, ``"mwss"``, ``"dh"``, ``"gl"`` or ``"healpix"``.
        method: one of s2fft's names ``"numpy"``, ``"jax"``, ``"jax_cuda"`` and ``"jax_ssht"``, which give the same
            numbers here.
        reality: the map is real; its real part is used.
        precomps: None: there is nothing to be computed beforehand.
        spmd: False.
        L_lower: coefficients of degrees below this are 0.
        iter: the number of iterations of refinement; 0 by default. On HEALPix weights are uniform, as in s2fft.

    Returns:
        The coefficients, as s2fft's: dense, ``[l, L - 1 + m]``.

    Raises:
        ValueError: an argument is out of range, or cannot be honoured.

    Reference: Price M. A., McEwen J. D. 2024, J. Comput. Phys. 510, 113109, doi:10.1016/j.jcp.2024.113109.

    >>> import jax.numpy as jnp
    >>> from armillary.sphere import forward, inverse
    >>> f = jnp.ones((8, 15))
    >>> alm = forward(f, L=8, sampling="gl", reality=True)
    >>> bool(jnp.allclose(inverse(alm, L=8, sampling="gl", reality=True), f, atol=1e-5))
    True
    """
    sht = _s2fft_transform(L, spin, nside, sampling, method, reality, precomps, spmd)
    iterations = check_integer("iter", 0 if iter is None else iter, 0, None, "the number of iterations")
    if reality:
        f = jnp.real(check_array("f", f, sht.grid.shape, "complex", f"a map on {sht.grid}"))
    return _analysis(sht, f, iterations, _above(L_lower, L))


def inverse(
    flm: Complex[Array, "... L 2*L-1"],
    L: int,
    spin: int = 0,
    nside: int | None = None,
    sampling: str = "mw",
    method: str = "jax",
    reality: bool = False,
    precomps: None = None,
    spmd: bool = False,
    L_lower: int = 0,
) -> Inexact[Array, "*shape"]:
    """`SHT.synthesis` with the arguments of s2fft's ``inverse``, which are those of `forward`.

    Args:
        flm: coefficients, dense; leading axes are a batch.
        L: the bandlimit.
        spin: the spin.
        nside: as in `forward`.
        sampling: as in `forward`.
        method: as in `forward`.
        reality: the field is real: its real part is returned.
        precomps: as in `forward`.
        spmd: as in `forward`.
        L_lower: coefficients of degrees below this are taken to be 0.

    Returns:
        The map: real if `reality`.

    Raises:
        ValueError: as `forward`.
    """
    sht = _s2fft_transform(L, spin, nside, sampling, method, reality, precomps, spmd)
    flm = check_array("flm", flm, (sht.L, 2 * sht.L - 1), "complex", "with entry (l, m) at [l, L-1+m]")
    return sht.synthesis(flm * _above(L_lower, L))


def _s2fft_transform(
    L: int, spin: int, nside: int | None, sampling: str, method: str, reality: bool, precomps: Any, spmd: Any
) -> SHT:
    if method not in _METHODS:
        raise ValueError(f"method={method!r}: one of {', '.join(map(repr, _METHODS))}; all give the same numbers here")
    if precomps is not None:
        raise ValueError("precomps is given: recursions need none here; leave it out, or see SHT(..., backend='table')")
    if spmd:
        raise ValueError(f"spmd={spmd!r}: leave it out, and shard the arrays by jax.sharding instead")
    if reality not in (True, False):
        raise ValueError(f"reality={reality!r}: True or False")
    if reality and spin:
        raise ValueError(f"reality=True with spin={spin}: fields of a spin are complex; use reality=False")
    L = check_integer("L", L, 1, None, "the bandlimit")
    grid: Grid
    if sampling in _SAMPLINGS:
        if nside is not None:
            raise ValueError(f"nside={nside!r} with sampling={sampling!r}: it is for sampling='healpix'")
        grid = _SAMPLINGS[sampling](L)
    elif sampling == "healpix":
        if nside is None:
            raise ValueError("nside=None: sampling='healpix' needs the resolution, a power of two")
        grid = Healpix(nside, ring_weights=False)
    else:
        raise ValueError(f"sampling={sampling!r}: one of {', '.join(map(repr, [*_SAMPLINGS, 'healpix']))}")
    return SHT(grid, L, spin=spin, real=reality)


def _analysis(sht: SHT, f: Any, iterations: int, kept: np.ndarray) -> Array:
    """`SHT.analysis` of the coefficients that are kept alone: iterations leave the others in the residual."""
    if kept.all() or not iterations:
        return sht.analysis(f, iterations=iterations) * kept
    first = sht.analysis(f) * kept
    return lax.fori_loop(0, iterations, lambda _, alm: alm + sht.analysis(f - sht.synthesis(alm)) * kept, first)


def _above(L_lower: int, L: int) -> np.ndarray:
    L_lower = check_integer("L_lower", L_lower, 0, L, "the lowest degree")
    return (np.arange(L) >= L_lower)[:, None]


def map2alm(
    maps: Float[Array, "*shape"] | Sequence[Float[Array, " pixels"]],
    lmax: int | None = None,
    mmax: int | None = None,
    iter: int = 3,
    pol: bool = True,
    use_weights: bool = False,
    datapath: None = None,
    gal_cut: float = 0,
    use_pixel_weights: bool = False,
    verbose: bool = True,
) -> Complex[Array, "*triangles"]:
    """`SHT.analysis` of HEALPix maps with the arguments and the layout of healpy's ``map2alm``.

    Args:
        maps: a map in RING order, or several; with `pol`, three are T, Q and U. Pixels that are healpy's ``UNSEEN``,
            or masked in a `numpy.ma.MaskedArray`, count as 0.
        lmax: the highest degree, at most ``4 nside - 1``; ``3 nside - 1`` by default.
        mmax: the highest order; `lmax` by default.
        iter: the number of Jacobi iterations.
        pol: three maps are T, Q and U, and the results T, E and B; otherwise each is transformed as a scalar.
        use_weights: weights by ring, those of ``Healpix(nside)``, which are not to the last digit healpy's; otherwise
            uniform ones, as healpy's.
        datapath: None.
        gal_cut: 0: to leave pixels out, set them to 0.
        use_pixel_weights: False.
        verbose: without effect, as in healpy.

    Returns:
        The orders ``m >= 0`` in healpy's layout, with a leading axis where there was more than one map.

    Raises:
        ValueError: an argument is out of range, or cannot be honoured.

    >>> import jax.numpy as jnp
    >>> from armillary.sphere import alm2map, map2alm
    >>> alm = map2alm(jnp.ones(12 * 4**2), lmax=7)
    >>> bool(jnp.allclose(alm2map(alm, 4), 1, atol=1e-4))
    True
    """
    for name, value, instead in (
        ("datapath", datapath, "leave it out: no files are read"),
        ("gal_cut", gal_cut, "leave it out, and set pixels that are cut to 0"),
        ("use_pixel_weights", use_pixel_weights, "leave it out, and use use_weights=True or more iterations"),
    ):
        if value:
            raise ValueError(f"{name}={value!r}: {instead}")
    f, single = _stack("maps", maps)
    pixels = f.shape[-1]
    nside = math.isqrt(pixels // 12)
    if 12 * nside**2 != pixels:
        raise ValueError(f"maps has shape {f.shape}: maps of HEALPix have 12 nside**2 pixels")
    grid = Healpix(nside, ring_weights=bool(use_weights))
    f = check_array("maps", f, grid.shape, "real", "maps in RING order")
    f = jnp.where(abs(f - _UNSEEN) <= _UNSEEN_TOLERANCE * -_UNSEEN, 0, f)
    lmax, mmax = _degrees(3 * nside - 1 if lmax is None else lmax, mmax, nside)
    iterations = check_integer("iter", iter, 0, None, "the number of Jacobi iterations")

    def analysed(f: Array, spin: int) -> Array:
        sht = SHT(grid, max(lmax, spin) + 1, spin=spin, real=spin == 0)
        return _analysis(sht, f, iterations, (abs(np.arange(1 - sht.L, sht.L)) <= mmax)[None])

    if not (pol and len(f) > 1):
        alm = dense_triangle(analysed(f, 0), lmax, mmax)
        return alm[0] if single or len(f) == 1 else alm
    _check_three("maps", f, "T, Q and U")
    e, b = spin_to_eb(analysed(f[1] + 1j * f[2], 2))
    return jnp.stack([dense_triangle(x, lmax, mmax) for x in (analysed(f[0], 0), e, b)])


def alm2map(
    alms: Complex[Array, "*triangles"] | Sequence[Complex[Array, " triangle"]],
    nside: int,
    lmax: int | None = None,
    mmax: int | None = None,
    pixwin: bool = False,
    fwhm: float = 0.0,
    sigma: float | None = None,
    pol: bool = True,
    inplace: bool = False,
    verbose: bool = True,
) -> Float[Array, "*shape"]:
    r"""`SHT.synthesis` on HEALPix with the arguments and the layout of healpy's ``alm2map``.

    Args:
        alms: the orders ``m >= 0`` in healpy's layout, or several of these; with `pol`, three are T, E and B.
        nside: the resolution, a power of two.
        lmax: the highest degree, at most ``4 nside - 1``; by default that of a triangle of the length of `alms`.
        mmax: the highest order, with `lmax`, which it is by default.
        pixwin: False: multiply by the window of the pixels beforehand.
        fwhm: the full width at half maximum, in radians, of a Gaussian beam that smooths the field:
            :math:`e^{-[l (l + 1) - s^2] \sigma^2 / 2}` with s = 2 for E and B and 0 otherwise.
        sigma: the beam's standard deviation in radians, instead of `fwhm`.
        pol: three sets of coefficients are T, E and B, and the maps T, Q and U; otherwise each is of a scalar.
        inplace: False: arrays of JAX are not changed.
        verbose: without effect, as in healpy.

    Returns:
        The map in RING order, or the maps.

    Raises:
        ValueError: an argument is out of range, or cannot be honoured.
    """
    if pixwin:
        raise ValueError(f"pixwin={pixwin!r}: leave it out, and multiply alms by the window of the pixels")
    if inplace:
        raise ValueError(f"inplace={inplace!r}: leave it out: arrays of JAX are not changed")
    grid = Healpix(nside)
    a, single = _stack("alms", alms)
    length = a.shape[-1]
    if lmax is None:
        if mmax is not None:
            raise ValueError(f"mmax={mmax!r} with lmax=None: pass both")
        lmax = (math.isqrt(8 * length + 1) - 3) // 2
    lmax, mmax = _degrees(lmax, mmax, grid.nside)
    if triangle_length(lmax + 1, mmax) != length:
        raise ValueError(
            f"alms has shape {a.shape}: the length is {triangle_length(lmax + 1, mmax)} for lmax={lmax} and mmax={mmax}"
        )
    a = check_array("alms", a, (length,), "complex", "healpy's layout")
    sigma = fwhm / math.sqrt(8 * math.log(2)) if sigma is None else sigma
    L = lmax + 1

    def dense(x: Array, spin: int) -> Array:
        size = max(L, spin + 1)
        degree = np.arange(size)
        beam = jnp.exp(-0.5 * (degree * (degree + 1) - spin**2) * sigma**2).astype(x.real.dtype)
        return from_triangle(x, size, L, mmax) * beam[:, None]

    if not (pol and len(a) > 1):
        f = SHT(grid, L, real=True).synthesis(dense(a, 0))
        return f[0] if single else f
    _check_three("alms", a, "T, E and B")
    tensor = SHT(grid, max(L, 3), spin=2).synthesis(eb_to_spin(dense(a[1], 2), dense(a[2], 2)))
    return jnp.stack([SHT(grid, L, real=True).synthesis(dense(a[0], 0)), tensor.real, tensor.imag])


def _stack(name: str, x: Any) -> tuple[Any, bool]:
    """Several arrays as one with two axes, and whether there was one alone."""
    if isinstance(x, (list, tuple)):
        if len({np.shape(part) for part in x}) > 1:
            raise ValueError(f"{name} has parts of the shapes {[np.shape(part) for part in x]}: they must be equal")
        x = [part.filled(0) if isinstance(part, np.ma.MaskedArray) else part for part in x]
        x = np.stack(x) if all(isinstance(part, np.ndarray) for part in x) else jnp.stack(x)
    elif isinstance(x, np.ma.MaskedArray):
        x = x.filled(0)
    if np.ndim(x) not in (1, 2) or np.size(x) == 0:
        raise ValueError(f"{name} has shape {np.shape(x)}: one array with one axis is needed, or several of these")
    return (x[None], True) if np.ndim(x) == 1 else (x, False)


def _degrees(lmax: int, mmax: int | None, nside: int) -> tuple[int, int]:
    lmax = check_integer("lmax", lmax, 0, 4 * nside - 1, f"the highest degree at nside={nside}")
    return lmax, lmax if mmax is None else check_integer("mmax", mmax, 0, lmax, f"the highest order at lmax={lmax}")


def _check_three(name: str, x: Array, what: str) -> None:
    if len(x) != 3:
        raise ValueError(f"{name} has shape {x.shape}: with pol=True one or three are needed, {what}")
