import base64
import builtins
import re

import jax.numpy as jnp
import numpy as np
import pytest
import xarray as xr

from armillary.core.hookspecs import ReportSection
from armillary.sphere import GaussLegendre, plot_map

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
    drawn = np.asarray(mesh.get_array()).reshape(grid.shape)
    np.testing.assert_array_equal(drawn[:, 7], f[:, 0])
    np.testing.assert_array_equal(drawn[:, 8], f[:, 1])
    corners = mesh.get_coordinates()
    assert corners[0, 0, 1] == pytest.approx(np.pi / 2)
    assert corners[-1, -1, 1] == pytest.approx(-np.pi / 2)
    np.testing.assert_allclose((corners[0, 1:, 0] + corners[0, :-1, 0])[7:] / 2, grid.phi[:8], atol=1e-12)
    assert mesh.get_clim() == (-1.0, 20.0)
    assert ax.get_title() == "A field"
    plt.close(ax.figure)


def test_plot_map_errors(monkeypatch):
    from matplotlib.figure import Figure

    grid = GaussLegendre(4)
    with pytest.raises(ValueError, match="f has shape"):
        plot_map(jnp.zeros((4, 8)), grid)
    with pytest.raises(ValueError, match="one map"):
        plot_map(jnp.zeros((2, 4, 7)), grid)
    with pytest.raises(ValueError, match="and this is real"):
        plot_map(jnp.zeros((4, 7), jnp.complex64), grid)
    with pytest.raises(ValueError, match="projection='mollweide'"):
        plot_map(jnp.zeros((4, 7)), grid, ax=Figure().add_subplot())

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


def test_no_section_without_a_map():
    assert (
        sections(xr.DataTree.from_dict({"posterior": xr.Dataset({"a": (("chain", "draw"), np.zeros((1, 2)))})})) == []
    )
    assert sections(xr.DataTree()) == []


@pytest.mark.parametrize("text", ["GaussLegendre(5)", "GaussLegendre(0)", "GaussLegendre(6) ", "__import__('os')", 6])
def test_grids_that_do_not_fit(text):
    data = xr.Dataset({"f": (("ring", "longitude"), np.zeros((6, 11)), {"armillary_grid": text})})
    with pytest.raises(ValueError, match="f"):
        sections(xr.DataTree.from_dict({"observed_data": data}))


def test_registered():
    from armillary._plugins import sphere
    from armillary.sphere import SHT, IsotropicGaussian

    where = {
        spec.name: spec.factory for hook in (sphere.armillary_transforms, sphere.armillary_priors) for spec in hook()
    }
    assert where == {"sht": "armillary.sphere:SHT", "isotropic-gaussian": "armillary.sphere:IsotropicGaussian"}
    assert SHT.__module__ == "armillary.sphere._sht"
    assert IsotropicGaussian.__module__ == "armillary.sphere._gaussian"
