"""Scattering networks on the sphere."""

from __future__ import annotations

import functools
import math
from typing import Literal, NamedTuple, get_args

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Complex, Float

from armillary.sphere import SHT, ClenshawCurtis, DriscollHealy, GaussLegendre, McEwenWiaux, McEwenWiauxSS, Wavelets

from . import _layers as layers
from ._check import check_alm, check_integer
from ._layers import Grid, Scheme

GridName = Literal["gl", "mw", "mwss", "dh", "cc"]
_GRIDS: dict[str, type[Grid]] = {
    "gl": GaussLegendre,
    "mw": McEwenWiaux,
    "mwss": McEwenWiauxSS,
    "dh": DriscollHealy,
    "cc": ClenshawCurtis,
}
Path = tuple[int, ...]


class ScatteringEnergy(NamedTuple):
    """The energy of a field in a scattering network, by the number of wavelets, from 0 to the depth.

    Attributes:
        propagated: the integrals of the squares of what has passed so many wavelets, over all paths.
        scattered: those of the maps of the network.
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

    Args:
        L: the bandlimit of the field.
        depth: the most wavelets on a path.
        N: the number of directions that a wavelet resolves.
        J_min: the largest scale. The scaling function keeps degrees below :math:`2^{J_{min}}`: for 0, the mean.
        grid: of all maps: ``"gl"``, ``"mw"``, ``"mwss"``, ``"dh"`` or ``"cc"``, as of ``Wavelets``.
        multiresolution: every scale has its own bandlimit and grid; otherwise all have `L`, which costs more, and
            samples moduli more finely.

    Raises:
        ValueError: an argument is out of range; names it, and what is allowed.

    Reference: McEwen J. D., Wallis C. G. R., Mavor-Parker A. N. 2022, ICLR (arXiv:2102.02828).

    >>> import jax
    >>> from armillary.scatter import ScatteringNetwork
    >>> from armillary.sphere import alm_from_real
    >>> net = ScatteringNetwork(16, depth=2, J_min=2)
    >>> net.paths
    ((), (2,), (3,), (4,), (3, 2), (4, 2), (4, 3))
    >>> net(alm_from_real(jax.random.normal(jax.random.key(0), (5, 256)))).shape
    (5, 7, 4, 7)
    """

    L: int = eqx.field(static=True)
    depth: int = eqx.field(static=True)
    N: int = eqx.field(static=True)
    J_min: int = eqx.field(static=True)
    grid: GridName = eqx.field(static=True)
    multiresolution: bool = eqx.field(static=True)

    def __init__(
        self,
        L: int,
        depth: int = 2,
        N: int = 1,
        J_min: int = 0,
        grid: GridName = "gl",
        multiresolution: bool = True,
    ) -> None:
        if grid not in get_args(GridName):
            raise ValueError(f"grid={grid!r}: one of {', '.join(map(repr, get_args(GridName)))}")
        if multiresolution not in (True, False):
            raise ValueError(f"multiresolution={multiresolution!r}: True or False")
        # Which checks the others.
        wavelets = Wavelets(L, N, J_min, grid=grid, multiresolution=multiresolution)
        degrees = min(wavelets.L, 2 ** (max(wavelets.J_min, 1) + 1))
        meaning = f"the number of directions of a wavelet, at J_min={J_min} of {degrees} degrees,"
        check_integer("N", N, 1, degrees, meaning)
        self.L, self.N, self.J_min = wavelets.L, wavelets.N, wavelets.J_min
        scales = wavelets.J - wavelets.J_min + 1
        meaning = f"the most wavelets on a path of ever larger scales, of which there are {scales},"
        self.depth = check_integer("depth", depth, 0, scales, meaning)
        self.grid, self.multiresolution = grid, bool(multiresolution)

    @property
    def paths(self) -> tuple[Path, ...]:
        """The scales of the wavelets on each path, the first wavelet's first, in the order of the maps."""
        return tuple(path for group in _paths(self._scheme, self.depth) for each in group.values() for path in each)

    @property
    def scaling_grid(self) -> Grid:
        """The grid of the maps."""
        return _GRIDS[self.grid](_scaling(self._scheme).size)

    def __call__(
        self, alm: Complex[Array, "... L 2*L-1"], *, key: Array | None = None
    ) -> Float[Array, "... paths rings longitudes"]:
        """The maps of all paths.

        Args:
            alm: harmonic coefficients of a real field; leading axes are a batch.
            key: not used; layers of Equinox take one.

        Returns:
            A map on `scaling_grid` for each of `paths`.

        Raises:
            ValueError: `alm` has another shape or type, is of a complex field, or needs x64 where it is off.
        """
        return _run(self._scheme, self.depth, self.grid, check_alm("alm", alm, self.L))[0]

    def energy(self, alm: Complex[Array, "... L 2*L-1"]) -> ScatteringEnergy:
        """How the energy of a field goes through the network. See `__call__`."""
        return _run(self._scheme, self.depth, self.grid, check_alm("alm", alm, self.L))[1]

    @property
    def _scheme(self) -> Scheme:
        return Scheme(self.L, self.N, self.J_min, "full", 1.0, False, "auto", self.multiresolution)


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
