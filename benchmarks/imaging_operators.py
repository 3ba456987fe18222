"""Operators of imaging beside their peers, in one process.

    python benchmarks/imaging_operators.py [--size N] [--repeats N] [--threads N]

The soft threshold in an orthonormal wavelet basis (analysis, threshold, synthesis: the proximal operator of sparsity in
it), of a square image in float32 over 4 levels with periodic boundaries: ours, jaxwavelets and PyWavelets, and how far
their results are from ours. Libraries take turns; the least and the median of `--repeats` rounds are printed, and the
ratio of a peer's least time to ours. The first call of JAX's libraries has their compilation.

Peers: ``pip install PyWavelets jaxwavelets``. One that is not installed is left out.
"""

from __future__ import annotations

import argparse
import datetime
import os
import platform
import statistics
import time
import warnings
from collections.abc import Callable
from importlib import metadata
from importlib.util import find_spec

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--size", type=int, default=256)
parser.add_argument("--repeats", type=int, default=50)
parser.add_argument("--threads", type=int, default=os.cpu_count())
args = parser.parse_args()

# Read when the libraries are first used.
os.environ["OMP_NUM_THREADS"] = str(args.threads)
if args.threads == 1:
    os.environ.setdefault("XLA_FLAGS", "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1")

import jax  # noqa: E402
import numpy as np  # noqa: E402

from armillary.imaging import DWT  # noqa: E402

LEVELS, THRESHOLD = 4, 0.5
WAVELETS = ("haar", "db2", "db4", "db6", "db8")
Call = Callable[[], object]


def version(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return "not installed"


def soft_thresholds(wavelet: str, image: np.ndarray) -> dict[str, Call]:
    """The proximal operator by each library that is installed."""
    dwt, device_image = DWT(image.shape, wavelet, LEVELS, dtype=image.dtype), jax.device_put(image)
    ours = jax.jit(lambda x: dwt.soft_threshold(x, THRESHOLD))
    calls: dict[str, Call] = {"ours": lambda: ours(device_image)}
    if find_spec("jaxwavelets"):
        import jaxwavelets

        def transformed(x: jax.Array) -> jax.Array:
            filters = jaxwavelets.get_wavelet(wavelet)
            c = jaxwavelets.wavedec2(x, filters, mode="periodization", level=LEVELS)
            c = jax.tree.map(lambda one: jaxwavelets.soft_threshold(one, THRESHOLD), c)
            return jaxwavelets.waverec2(c, filters, mode="periodization")

        jitted = jax.jit(transformed)
        calls["jaxwavelets"] = lambda: jitted(device_image)
    if find_spec("pywt"):
        import pywt

        # That the coarsest level has fewer samples than taps, which is no concern here.
        warnings.filterwarnings("ignore", message="Level value")
        threshold = np.float32(THRESHOLD)  # a float would make its results float64

        def by_pywt() -> np.ndarray:
            approximation, *details = pywt.wavedec2(image, wavelet, "periodization", level=LEVELS)
            details = [tuple(pywt.threshold(c, threshold, "soft") for c in level) for level in details]
            return pywt.waverec2([pywt.threshold(approximation, threshold, "soft"), *details], wavelet, "periodization")

        calls["PyWavelets"] = by_pywt
    return calls


def timed(call: Call) -> tuple[float, np.ndarray]:
    begin = time.perf_counter()
    result = jax.block_until_ready(call())
    return time.perf_counter() - begin, np.asarray(result)


def table(title: str, calls: dict[str, Call]) -> None:
    first = {name: timed(call) for name, call in calls.items()}
    times: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(args.repeats):
        for name, call in calls.items():
            times[name].append(1e3 * timed(call)[0])
    for name in calls:
        least, median = min(times[name]), statistics.median(times[name])
        ratio = "" if name == "ours" else f"{least / min(times['ours']):8.1f}"
        difference = "" if name == "ours" else f"{np.abs(first[name][1] - first['ours'][1]).max():10.1e}"
        print(
            f"{title:<24} {name:<14} {least:>9.2f} {median:>10.2f} {first[name][0]:>13.2f} {ratio:>8} {difference:>11}",
            flush=True,
        )


def main() -> None:
    device = jax.devices()[0]
    print(f"{datetime.date.today()}  {platform.processor() or platform.machine()}, {os.cpu_count()} cores, ", end="")
    print(f"{args.threads} thread(s); {device.platform} {device.device_kind}")
    print(", ".join(f"{name} {version(name)}" for name in ("jax", "jaxwavelets", "PyWavelets", "armillary-imaging")))
    header = f"{'least ms':>9} {'median ms':>10} {'first call s':>13} {'ratio':>8} {'difference':>11}"
    image = np.random.default_rng(0).normal(size=(args.size, args.size)).astype(np.float32)
    print(f"\nSoft threshold in a wavelet basis, {args.size} x {args.size}, {LEVELS} levels, float32")
    print(f"{'':<24} {'':<14} {header}")
    for wavelet in WAVELETS:
        table(wavelet, soft_thresholds(wavelet, image))


if __name__ == "__main__":
    main()
