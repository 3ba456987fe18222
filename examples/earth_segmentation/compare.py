"""Land and sea on randomly turned pictures of the Earth: a spherical network and a planar one.

    python examples/earth_segmentation/compare.py [--rings N] [--seeds N] [--examples N] [--epochs N] [--noise S]

Both are U-shaped, with the same levels, normalisation, rectifier, losses, examples, steps and, to 2 %, number of
weights, and see the same maps in latitude and longitude: one convolves on the sphere (`SphericalUNet`, filters that do
not depend on the azimuth), the other on the plane by 3 by 3 pixels, periodic in longitude. Every picture, for training
and for testing, is turned by a rotation of its own; there are few to train on. Scores are on parts of the Earth that
were not trained on, by area on the sphere; the seed changes rotations, noise and weights. Prints a table, the mean over
seeds last.
"""

from __future__ import annotations

import argparse
import os
import time

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--rings", type=int, default=32, help="steps between the rings, a multiple of 4")
parser.add_argument("--seeds", type=int, default=3)
parser.add_argument("--examples", type=int, default=4)
parser.add_argument("--epochs", type=int, default=150)
parser.add_argument("--noise", type=float, default=0.5)
args = parser.parse_args()
os.environ.setdefault("XLA_FLAGS", "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1")

import jax  # noqa: E402
import numpy as np  # noqa: E402
from planar import PlanarUNet, parameters  # noqa: E402

from armillary.sphere import ClenshawCurtis, SphericalUNet, train_network  # noqa: E402
from armillary.sphere._segmentation import examples, loss, score  # noqa: E402

GRID = ClenshawCurtis(args.rings)
NETWORKS = {
    "spherical": lambda key: SphericalUNet(1, 2, GRID, widths=(11, 22, 44), key=key),
    "planar": lambda key: PlanarUNet(1, 2, (7, 14, 28), key=key),
}

if __name__ == "__main__":
    print(f"{args.examples} pictures on {GRID}, noise {args.noise}, {args.epochs} epochs; mean IoU of land and sea")
    found: dict[str, list[float]] = {name: [] for name in NETWORKS}
    for seed in range(args.seeds):
        training = examples(GRID, args.examples, 2 * seed, "train", args.noise)
        testing = examples(GRID, 24, 2 * seed + 1, "test", args.noise)
        for name, make in NETWORKS.items():
            began = time.process_time()
            network = make(jax.random.key(seed))
            key = jax.random.key(100 + seed)
            trained = train_network(
                key,
                network,
                jax.numpy.asarray(training.inputs),
                training.targets,
                loss,
                num_epochs=args.epochs,
                batch_size=min(8, args.examples),
            )
            scores, on_training = score(trained.network, testing), score(trained.network, training)
            found[name].append(scores.iou)
            print(
                f"seed {seed}  {name:9}  {parameters(network)} weights  IoU {100 * scores.iou:.1f} (on what was "
                f"trained on {100 * on_training.iou:.1f})  error of the relief {scores.relief_error:.3f}  "
                f"loss {trained.losses[-1]:.3f}  {time.process_time() - began:.0f} s of CPU",
                flush=True,
            )
    means = {name: 100 * np.mean(values) for name, values in found.items()}
    differences = 100 * (np.array(found["spherical"]) - found["planar"])
    print(
        f"mean IoU over {args.seeds} seeds: spherical {means['spherical']:.1f}, planar {means['planar']:.1f}; "
        f"difference {differences.mean():.1f} points, from {differences.min():.1f} to {differences.max():.1f}"
    )
