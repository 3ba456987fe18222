"""Scattering networks on the sphere."""

from __future__ import annotations

import functools
import math
from typing import Any, Literal, NamedTuple, get_args

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Complex, Float

from armillary.sphere import SHT, ClenshawCurtis, DriscollHealy, GaussLegendre, McEwenWiaux, McEwenWiauxSS, Wavelets

from . import _layers as layers
from . import _plane_network as plane_network
from ._check import check_alm, check_integer
from ._layers import Grid, Scheme
from ._plane import Plane, check_image, plane_of

GridName = Literal["gl", "mw", "mwss", "dh", "cc"]
_GRIDS: dict[str, type[Grid]] = {
    "gl": GaussLegendre,
    "mw": McEwenWiaux,
    "mwss": McEwenWiauxSS,
    "dh": DriscollHealy,
    "cc": ClenshawCurtis,
}
Path = tuple[int, ...] | tuple[tuple[int, int], ...]
Domain = Literal["sphere", "plane"]


class ScatteringEnergy(NamedTuple):
    """The energy of a field in a scattering network, by the number of wavelets, from 0 to the depth.

    Attributes:
        propagated: the integrals of the squares of what has passed so many wavelets, over all paths.
        scattered: those of the maps of the network. (Of images: the sums over the pixels.)
    """

    propagated: Float[Array, "... layers"]
    scattered: Float[Array, "... layers"]


class ScatteringNetwork(eqx.Module):
    r"""The scattering network of a real field on the sphere: an Equinox layer with nothing to learn.

    A path :math:`p = (j_1, \dots, j_d)` alternates wavelets and moduli, and ends in the scaling function,

    .. math:: S[p] f = |\cdots ||f \star \psi_{j_1}| \star \psi_{j_2}| \cdots \star \psi_{j_d}| \star \phi.

    A modulus moves energy to larger scales, and only paths of ever larger ones are followed,
    :math:`j_1 > j_2 > \dots > j_d`. For directional wavelets, ``N > 1``, a modulus is the mean of those of all
    directions. Filters are those of ``armillary.sphere.Wavelets``, so that wavelets keep energy,
    :math:`\|f\|^2 = \|f \star \phi\|^2 + \sum_j \|f \star \psi_j\|^2`, and a network never adds any; `energy` says how
    much is left. Maps turn with the field, to the accuracy of a sampled modulus, and are stable when it is warped.

    With ``domain="plane"`` it is that of images, with Morlet wavelets: the numbers of kymatio's ``Scattering2D``. As on
    the sphere a larger j is a smaller scale: a wave of the wavelets of `J`, the smallest, is 8 / 3 pixels long, and
    each scale before it is twice as large. A wavelet on a path is a pair (scale, direction), for directions are not
    averaged; kymatio has the same direction, and ``J - j`` for the scale. An image is extended by reflection at its
    edges. These wavelets do not quite keep energy: the corners of the plane of frequencies lose most of it, and some
    other frequencies gain up to 3 %.

    Args:
        L: the bandlimit of the field. On the plane, the side of the image in pixels, or (rows, columns).
        depth: the most wavelets on a path.
        N: the number of directions that a wavelet resolves; 1 by default. On the plane, the number of directions of
            wavelets over half a circle; 8 by default.
        J_min: the largest scale. The scaling function keeps degrees below :math:`2^{J_{min}}`: for 0, the mean. On the
            plane, what varies over more than some :math:`2^{J - J_{min} + 1}` pixels, the distance of two samples of
            the maps.
        grid: of all maps: ``"gl"``, ``"mw"``, ``"mwss"``, ``"dh"`` or ``"cc"``, as of ``Wavelets``. Of the sphere.
        multiresolution: every scale has its own bandlimit and grid; otherwise all have `L`, which costs more, and
            samples moduli more finely. Of the sphere.
        domain: ``"sphere"`` or ``"plane"``.

    Raises:
        ValueError: an argument is out of range; names it, and what is allowed.

    References: McEwen J. D., Wallis C. G. R., Mavor-Parker A. N. 2022, ICLR (arXiv:2102.02828); on the plane, Bruna J.,
    Mallat S. 2013, IEEE Trans. Pattern Anal. Mach. Intell. 35, 1872, doi:10.1109/TPAMI.2012.230, and Andreux M., Angles
    T., Exarchakis G. et al. 2020, J. Mach. Learn. Res. 21, 60 (arXiv:1812.11214).

    >>> import jax
    >>> from armillary.scatter import ScatteringNetwork
    >>> from armillary.sphere import alm_from_real
    >>> net = ScatteringNetwork(16, depth=2, J_min=2)
    >>> net.paths
    ((), (2,), (3,), (4,), (3, 2), (4, 2), (4, 3))
    >>> net(alm_from_real(jax.random.normal(jax.random.key(0), (5, 256)))).shape
    (5, 7, 4, 7)
    >>> images = jax.random.normal(jax.random.key(0), (5, 32, 32))
    >>> ScatteringNetwork(32, depth=2, N=8, J_min=2, domain="plane")(images).shape
    (5, 217, 4, 4)
    """

    L: int | tuple[int, int] = eqx.field(static=True)
    depth: int = eqx.field(static=True)
    N: int = eqx.field(static=True)
    J_min: int = eqx.field(static=True)
    grid: GridName = eqx.field(static=True)
    multiresolution: bool = eqx.field(static=True)
    domain: Domain = eqx.field(static=True)

    def __init__(
        self,
        L: int | tuple[int, int],
        depth: int = 2,
        N: int | None = None,
        J_min: int = 0,
        grid: GridName = "gl",
        multiresolution: bool = True,
        domain: Domain = "sphere",
    ) -> None:
        if domain not in get_args(Domain):
            raise ValueError(f"domain={domain!r}: 'sphere' or 'plane'")
        if grid not in get_args(GridName):
            raise ValueError(f"grid={grid!r}: one of {', '.join(map(repr, get_args(GridName)))}")
        if multiresolution not in (True, False):
            raise ValueError(f"multiresolution={multiresolution!r}: True or False")
        self.grid, self.multiresolution, self.domain = grid, bool(multiresolution), domain
        if domain == "plane":
            if grid != "gl" or not multiresolution:
                raise ValueError("grid or multiresolution with domain='plane': they are of the sphere; leave them out")
            plane = plane_of(L, 8 if N is None else N, J_min, "none", fewest=1)
            self.L, self.N, self.J_min, scales = plane.shape, plane.N, plane.J_min, len(plane.scales)
        else:
            # Which checks the others.
            wavelets = Wavelets(L, 1 if N is None else N, J_min, grid=grid, multiresolution=multiresolution)  # type: ignore[arg-type]
            degrees = min(wavelets.L, 2 ** (max(wavelets.J_min, 1) + 1))
            meaning = f"the number of directions of a wavelet, at J_min={J_min} of {degrees} degrees,"
            check_integer("N", wavelets.N, 1, degrees, meaning)
            self.L, self.N, self.J_min = wavelets.L, wavelets.N, wavelets.J_min
            scales = wavelets.J - wavelets.J_min + 1
        meaning = f"the most wavelets on a path of ever larger scales, of which there are {scales},"
        self.depth = check_integer("depth", depth, 0, scales, meaning)

    @property
    def paths(self) -> tuple[Path, ...]:
        """The scales of the wavelets on each path, the first wavelet's first, in the order of the maps.

        On the plane, pairs (scale, direction).
        """
        on_plane = self.domain == "plane"
        found: list[Any] = (
            plane_network.paths(self._plane, self.depth) if on_plane else _paths(self._scheme, self.depth)
        )
        return tuple(path for group in found for each in group.values() for path in each)

    @property
    def scaling_grid(self) -> Grid | tuple[int, int]:
        """The grid of the maps; on the plane, their shape."""
        if self.domain == "plane":
            return plane_network.map_shape(self._plane)
        return _GRIDS[self.grid](_scaling(self._scheme).size)

    def __call__(
        self, alm: Complex[Array, "... L 2*L-1"] | Float[Array, "... rows columns"], *, key: Array | None = None
    ) -> Float[Array, "... paths rings longitudes"]:
        """The maps of all paths.

        Args:
            alm: harmonic coefficients of a real field; on the plane, the image itself. Leading axes are a batch.
            key: not used; layers of Equinox take one.

        Returns:
            A map on `scaling_grid` for each of `paths`.

        Raises:
            ValueError: `alm` has another shape or type, is of a complex field, or needs x64 where it is off.
        """
        return self._run(alm)[0]

    def energy(self, alm: Complex[Array, "... L 2*L-1"] | Float[Array, "... rows columns"]) -> ScatteringEnergy:
        """How the energy of a field goes through the network. See `__call__`."""
        return self._run(alm)[1]

    def _run(self, field: Any) -> tuple[Array, ScatteringEnergy]:
        if self.domain == "plane":
            plane = self._plane
            maps, *energies = plane_network.run(plane, self.depth, check_image("alm", field, plane.shape))
            return maps, ScatteringEnergy(*energies)
        return _run(self._scheme, self.depth, self.grid, check_alm("alm", field, self._scheme.L))

    @property
    def _scheme(self) -> Scheme:
        assert isinstance(self.L, int)
        return Scheme(self.L, self.N, self.J_min, "full", 1.0, False, "auto", self.multiresolution)

    @property
    def _plane(self) -> Plane:
        assert isinstance(self.L, tuple)
        return Plane(self.L, self.N, self.J_min)


def _scaling(scheme: Scheme) -> np.ndarray:
    """The scaling function, by degree below its bandlimit."""
    wavelets = Wavelets(scheme.L, J_min=scheme.J_min, multiresolution=scheme.multiresolution)
    return wavelets.filters.scaling[: wavelets.scaling_bandlimit]


def _paths(scheme: Scheme, depth: int) -> list[dict[int, list[Path]]]:
    """For every number of wavelets, the paths by the last scale."""
    found: list[dict[int, list[Path]]] = [{scheme.J + 1: [()]}]
    for _ in range(depth):
        longer: dict[int, list[Path]] = {}
        for j in range(scheme.J_min, scheme.J + 1):
            parents = [path for last, paths in found[-1].items() if last > j for path in paths]
            if parents:
                longer[j] = [(*path, j) for path in parents]
        found.append(longer)
    return found


@functools.partial(jax.jit, static_argnums=(0, 1, 2))
def _run(scheme: Scheme, depth: int, grid: GridName, alm: Array) -> tuple[Array, ScatteringEnergy]:
    alm = (alm + layers.flip(alm)) / 2
    fields = {scheme.J + 1: alm[..., None, :, :]}
    propagated, ends = [_energy(alm)], [alm[..., None, :, :]]
    for _ in range(depth):
        passed, longer = [], {}
        for j in range(scheme.J_min, scheme.J + 1):
            L = scheme.bandlimit(j)
            parents = [layers.cut(x, L) for last, x in fields.items() if last > j]
            if not parents:
                continue
            parent = jnp.concatenate(parents, axis=-3)
            kappa = scheme.kappa[j - scheme.J_min, :L, None].astype(alm.real.dtype)
            passed.append(_energy(parent * kappa).sum(axis=-1))
            points = _GRIDS[grid](L)
            maps = math.sqrt(2 * math.pi) * layers.wavelet_maps(scheme, parent, j, points)
            longer[j] = SHT(points, real=True).analysis(layers.modulus(maps).mean(axis=-3))
        propagated.append(jnp.stack(passed).sum(axis=0))
        fields = longer
        ends += longer.values()
    scaling = _scaling(scheme).astype(alm.real.dtype)
    end = jnp.concatenate([layers.cut(x, scaling.size) for x in ends], axis=-3) * scaling[:, None]
    lengths = [len(path) for group in _paths(scheme, depth) for each in group.values() for path in each]
    of_length = (np.array(lengths)[:, None] == np.arange(depth + 1)).astype(alm.real.dtype)
    scattered = (_energy(end)[..., None] * of_length).sum(axis=-2)
    maps = SHT(_GRIDS[grid](scaling.size), real=True).synthesis(end)
    return maps, ScatteringEnergy(jnp.stack(propagated, axis=-1), scattered)


def _energy(alm: Array) -> Array:
    degree, order = np.arange(alm.shape[-2])[:, None], np.arange(alm.shape[-1]) - alm.shape[-1] // 2
    inside = (abs(order) <= degree).astype(alm.real.dtype)
    return ((alm.real**2 + alm.imag**2) * inside).sum(axis=(-2, -1))
