import base64
import builtins
import re

import healpy as hp
import jax.numpy as jnp
import numpy as np
import pytest
import xarray as xr

from armillary.core.hookspecs import ReportSection
from armillary.sphere import (
    ClenshawCurtis,
    DriscollHealy,
    GaussLegendre,
    Healpix,
    McEwenWiaux,
    McEwenWiauxSS,
    plot_map,
)
from armillary.sphere._plot import nearest

matplotlib = pytest.importorskip("matplotlib")
matplotlib.use("Agg")


def colatitude_map(grid):
    return np.broadcast_to(grid.theta[:, None], grid.shape).astype(np.float32)


def test_plot_map_puts_north_up_and_longitude_0_in_the_middle():
    from matplotlib import pyplot as plt

    grid = GaussLegendre(8)
    f = (colatitude_map(grid) + 10 * (np.arange(15) == 0)).astype(np.float32)
    ax = plot_map(f, grid, title="A field", label="K", vmin=-1.0, vmax=20.0)
    mesh = ax.collections[0]
    drawn = np.asarray(mesh.get_array()).reshape(8, -1, 15)
    np.testing.assert_array_equal(drawn[:, 0, 7], f[:, 0])
    np.testing.assert_array_equal(drawn[:, -1, 8], f[:, 1])
    corners = mesh.get_coordinates()
    assert corners[0, 0, 1] == pytest.approx(np.pi / 2)
    assert corners[-1, -1, 1] == pytest.approx(-np.pi / 2)
    np.testing.assert_allclose((corners[0, 1:, 0] + corners[0, :-1, 0])[7:] / 2, grid.phi[:8], atol=1e-12)
    assert mesh.get_clim() == (-1.0, 20.0)
    assert ax.get_title() == "A field"
    plt.close(ax.figure)


def value_at(ax, longitude, latitude):
    """The value drawn at a point of a Mollweide picture."""
    mesh = ax.collections[0]
    corners = mesh.get_coordinates()
    borders, edges = corners[0, :, 0], corners[:, 0, 1]
    values = np.asarray(mesh.get_array()).reshape(len(edges) - 1, len(borders) - 1)
    return values[np.searchsorted(-edges, -latitude) - 1, np.searchsorted(borders, longitude) - 1]


GRIDS = [
    GaussLegendre(9),
    McEwenWiaux(9),
    McEwenWiauxSS(9),
    DriscollHealy(9),
    ClenshawCurtis(9),
    ClenshawCurtis(9, 12, 21),
    Healpix(8),
]


@pytest.mark.parametrize("grid", GRIDS, ids=str)
def test_both_projections_show_a_grid_where_it_is(grid):
    """At the place of every point that is not near an edge of the picture, its own value."""
    from matplotlib import pyplot as plt

    theta, phi = (x.ravel() for x in grid.points)
    f = np.random.default_rng(0).normal(size=grid.shape)
    latitude, longitude = np.pi / 2 - theta, np.mod(phi + np.pi, 2 * np.pi) - np.pi
    ax = plot_map(f, grid)
    for i in np.flatnonzero((abs(latitude) < 1.4) & (abs(longitude) < 3.1)):
        assert value_at(ax, longitude[i], latitude[i]) == f.flat[i]
    plt.close(ax.figure)

    centre = np.radians([200.0, -35.0])
    ax = plot_map(f, grid, projection="orthographic", centre=(200, -35))
    picture = ax.images[0].get_array().filled(np.nan)
    size = len(picture)
    turned = longitude - centre[0]
    x = np.cos(latitude) * np.sin(turned)
    y = np.sin(latitude) * np.cos(centre[1]) - np.cos(latitude) * np.cos(turned) * np.sin(centre[1])
    towards = np.sin(latitude) * np.sin(centre[1]) + np.cos(latitude) * np.cos(turned) * np.cos(centre[1])
    seen = np.flatnonzero((towards > 0.3) & (abs(latitude) < 1.4))
    assert len(seen) > 0.2 * f.size
    for i in seen:
        assert picture[int((y[i] + 1) / 2 * size), int((x[i] + 1) / 2 * size)] == f.flat[i]
    assert np.isfinite(picture).mean() == pytest.approx(np.pi / 4, rel=0.01)
    assert ax.images[0].get_clim() == (f.min(), f.max())
    plt.close(ax.figure)


@pytest.mark.parametrize("nside", [1, 2, 16, 1024])
def test_pixels_of_healpix_are_those_of_healpy(nside):
    rng = np.random.default_rng(0)
    theta, phi = np.arccos(rng.uniform(-1, 1, 50_000)), rng.uniform(-7, 7, 50_000)
    theta[:1000] = 1e-4 * rng.uniform(size=1000)
    np.testing.assert_array_equal(nearest(Healpix(nside), theta, phi), hp.ang2pix(nside, theta, phi))
    np.testing.assert_array_equal(
        nearest(Healpix(nside), np.array([0.0, np.pi]), 0.0), hp.ang2pix(nside, [0, np.pi], 0)
    )


def test_nan_is_left_blank():
    from matplotlib import pyplot as plt

    grid = GaussLegendre(6)
    f = np.where(np.arange(11) < 5, np.nan, 1.0) * np.ones((6, 1))
    for projection in ("mollweide", "orthographic"):
        for some in (f, np.full(grid.shape, np.nan)):
            ax = plot_map(some, grid, projection=projection)
            ax.figure.canvas.draw()
            plt.close(ax.figure)
    ax = plot_map(f, grid)
    assert np.ma.getmaskarray(ax.collections[0].get_array()).mean() == pytest.approx(5 / 11)
    plt.close(ax.figure)


def test_plot_map_errors(monkeypatch):
    from matplotlib.figure import Figure

    grid = GaussLegendre(4)
    f = jnp.zeros((4, 7))
    with pytest.raises(ValueError, match=r"f has shape \(4, 8\): one map, of shape \(4, 7\)"):
        plot_map(jnp.zeros((4, 8)), grid)
    with pytest.raises(ValueError, match="one map"):
        plot_map(jnp.zeros((2, 4, 7)), grid)
    with pytest.raises(ValueError, match=r"f is complex64: a real map is drawn; pass f\.real"):
        plot_map(jnp.zeros((4, 7), jnp.complex64), grid)
    with pytest.raises(ValueError, match="projection='mollweide'"):
        plot_map(f, grid, ax=Figure().add_subplot())
    with pytest.raises(ValueError, match="projection='rectilinear'"):
        plot_map(f, grid, projection="orthographic", ax=Figure().add_subplot(projection="mollweide"))
    with pytest.raises(ValueError, match="projection='hammer'"):
        plot_map(f, grid, projection="hammer")
    with pytest.raises(ValueError, match=r"centre=\(0, 91\)"):
        plot_map(f, grid, projection="orthographic", centre=(0, 91))
    with pytest.raises(ValueError, match="centre=5"):
        plot_map(f, grid, projection="orthographic", centre=5)
    with pytest.raises(ValueError, match=r"centre=\(10, 0\): a Mollweide map"):
        plot_map(f, grid, centre=(10, 0))
    with pytest.raises(ValueError, match="grid=4"):
        plot_map(f, 4)

    real_import = builtins.__import__

    def without(name, *args, **kwargs):
        if name.split(".")[0] == "matplotlib":
            raise ImportError(name)
        return real_import(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(ImportError, match=r"armillary-core\[plots\]"):
        plot_map(jnp.zeros((4, 7)), grid)


def sections(result):
    from armillary._plugins import sphere

    return list(sphere.armillary_report_sections(result))


def test_report_sections():
    grid = GaussLegendre(6)
    f = colatitude_map(grid)
    attrs = {"armillary_grid": "GaussLegendre(6)"}
    draws = np.stack([np.stack([f, 3 * f])] * 2)
    result = xr.DataTree.from_dict(
        {
            "posterior": xr.Dataset(
                {
                    "field": (("chain", "draw", "ring", "longitude"), draws, attrs),
                    "cl": (("chain", "draw"), draws[..., 0, 0]),
                }
            ),
            "constant_data": xr.Dataset({"mask <1>": (("ring", "longitude"), f, attrs)}),
            "observed_data": xr.Dataset({"y": ("i", np.zeros(3))}),
        }
    )
    found = sections(result)
    assert [s.title for s in found] == ["Map: mask <1>", "Map: field"]
    assert all(isinstance(s, ReportSection) for s in found)
    for section in found:
        data = re.search(r'src="data:image/png;base64,([A-Za-z0-9+/=]+)"', section.html)[1]
        assert base64.b64decode(data).startswith(b"\x89PNG")
        assert "http" not in section.html
    assert f"posterior mean, from {2 * f.min():.4g} to {2 * f.max():.4g}" in found[1].html
    assert "mask &lt;1&gt;" in found[0].html


@pytest.mark.parametrize(("text", "shape"), [("Healpix(2)", (48,)), ("ClenshawCurtis(4, 6, 9)", (6, 9))])
def test_report_sections_on_other_grids(text, shape):
    data = xr.Dataset(
        {"f": (("a", "b")[: len(shape)], np.arange(np.prod(shape)).reshape(shape), {"armillary_grid": text})}
    )
    (section,) = sections(xr.DataTree.from_dict({"observed_data": data}))
    assert "observed data" in section.html


def test_no_section_without_a_map():
    assert (
        sections(xr.DataTree.from_dict({"posterior": xr.Dataset({"a": (("chain", "draw"), np.zeros((1, 2)))})})) == []
    )
    assert sections(xr.DataTree()) == []


@pytest.mark.parametrize(
    "text", ["GaussLegendre(5)", "GaussLegendre(0)", "GaussLegendre(6) ", "__import__('os')", "Healpix(3)", 6]
)
def test_grids_that_do_not_fit(text):
    data = xr.Dataset({"f": (("ring", "longitude"), np.zeros((6, 11)), {"armillary_grid": text})})
    with pytest.raises(ValueError, match="f"):
        sections(xr.DataTree.from_dict({"observed_data": data}))


def test_registered():
    from armillary._plugins import sphere
    from armillary.sphere import SHT, IsotropicGaussian

    hooks = (sphere.armillary_transforms, sphere.armillary_priors, sphere.armillary_likelihoods)
    where = {spec.name: spec.factory for hook in hooks for spec in hook()}
    assert where["sht"] == "armillary.sphere:SHT"
    assert where["isotropic-gaussian"] == "armillary.sphere:IsotropicGaussian"
    assert where["masked-gaussian"] == "armillary.sphere:MaskedGaussian"
    assert SHT.__module__ == "armillary.sphere._sht"
    assert IsotropicGaussian.__module__ == "armillary.sphere._gaussian"
