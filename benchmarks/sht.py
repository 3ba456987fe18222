"""Spherical harmonic transforms of real maps on a Gauss-Legendre grid: ours, ducc0 and s2fft, in one process.

    taskset -c 0 python benchmarks/sht.py [L ...]

Bandlimits are 64, 128 and 256 by default. Times are medians after compilation, of `--repeats` calls, in float64 and on
one thread each; the compilation is the first call of `synthesis` and of `analysis`, tables included. The round trip is
the largest error of a coefficient over the largest coefficient. What is not installed is said so.
"""

from __future__ import annotations

import argparse
import datetime
import os
import platform
import statistics
import time
from collections.abc import Callable
from importlib import metadata

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("XLA_FLAGS", "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1")

import jax
import numpy as np

jax.config.update("jax_enable_x64", True)

from armillary.sphere import SHT, GaussLegendre, alm_from_real  # noqa: E402

Pair = tuple[Callable[[], np.ndarray], Callable[[], np.ndarray]]


def version(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return "not installed"


def ours(L: int, alm: np.ndarray) -> Pair:
    sht = SHT(GaussLegendre(L), real=True)
    alm = jax.numpy.asarray(alm)
    f = sht.synthesis(alm).block_until_ready()
    return lambda: sht.synthesis(alm).block_until_ready(), lambda: sht.analysis(f).block_until_ready()


def ducc(L: int, alm: np.ndarray) -> Pair:
    import ducc0

    rings, longitudes = GaussLegendre(L).shape
    kwargs = {
        "geometry": "GL",
        "spin": 0,
        "lmax": L - 1,
        "nthreads": 1,
    }
    m = np.concatenate([np.full(L - k, k) for k in range(L)])
    degree = np.concatenate([np.arange(k, L) for k in range(L)])
    triangle = alm[degree, L - 1 + m][None]
    f = ducc0.sht.synthesis_2d(alm=triangle, ntheta=rings, nphi=longitudes, **kwargs)

    def dense() -> np.ndarray:
        out = np.zeros_like(alm)
        found = ducc0.sht.analysis_2d(map=f, **kwargs)[0]
        out[degree, L - 1 + m], out[degree, L - 1 - m] = found, (-1.0) ** m * found.conj()
        return out

    synthesis = lambda: ducc0.sht.synthesis_2d(alm=triangle, ntheta=rings, nphi=longitudes, **kwargs)  # noqa: E731
    return synthesis, dense


def s2fft(L: int, alm: np.ndarray) -> Pair:
    import s2fft as peer

    options = {"sampling": "gl", "method": "jax", "reality": True}
    f = peer.inverse(alm, L, **options).block_until_ready()
    return (
        lambda: peer.inverse(alm, L, **options).block_until_ready(),
        lambda: peer.forward(f, L, **options).block_until_ready(),
    )


def median_ms(call: Callable[[], object], repeats: int) -> float:
    times = []
    for _ in range(repeats):
        begin = time.perf_counter()
        call()
        times.append(time.perf_counter() - begin)
    return 1e3 * statistics.median(times)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bandlimits", nargs="*", type=int, default=[64, 128, 256], metavar="L")
    parser.add_argument("--repeats", type=int, default=9)
    args = parser.parse_args()

    packages = {"ducc": "ducc0", "s2fft": "s2fft"}
    print(
        f"{datetime.date.today()}  {platform.machine()}, {jax.devices()[0].device_kind}, one thread, float64, real maps"
    )
    names = ("armillary-sphere", "jax", "ducc0", "s2fft", "numpy")
    print(", ".join(f"{name} {version(name)}" for name in names))
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else float("nan")
    print(f"load average at the start {load:.1f} on {os.cpu_count()} CPUs\n")
    header = (
        f"{'L':>5} {'library':<10} {'synthesis ms':>13} {'analysis ms':>12} {'first calls s':>14} {'round trip':>11}"
    )
    print(header + "  time / ours (synthesis, analysis)")
    for L in args.bandlimits:
        alm = np.asarray(alm_from_real(np.random.default_rng(L).normal(size=L * L)))
        reference = None
        for library in (ours, ducc, s2fft):
            name = "ours" if library is ours else packages[library.__name__]
            if library is not ours and version(name) == "not installed":
                print(f"{L:>5} {name:<8}  not installed")
                continue
            begin = time.perf_counter()
            synthesis, analysis = library(L, alm)
            back = np.asarray(analysis())
            first = time.perf_counter() - begin
            error = abs(back - alm).max() / abs(alm).max()
            times = median_ms(synthesis, args.repeats), median_ms(analysis, args.repeats)
            reference = reference or times
            ratio = f"{times[0] / reference[0]:.2f}, {times[1] / reference[1]:.2f}"
            print(
                f"{L:>5} {name:<10} {times[0]:>13.2f} {times[1]:>12.2f} {first:>14.2f} {error:>11.1e}  {ratio}",
                flush=True,
            )


if __name__ == "__main__":
    main()
