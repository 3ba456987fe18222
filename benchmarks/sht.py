"""Spherical harmonic transforms: ours, ducc0, healpy, s2fft and jaxht in one process.

    python benchmarks/sht.py [speed] [batch] [healpix] [accuracy] [memory] [--threads N] [--repeats N]

Without a name it prints all tables. Times are of calls after compilation, in float64; libraries take turns, so that
what else the machine does falls on all of them, and the median and the least of `--repeats` rounds are printed. A first
call holds compilation, tables and one run. Ratios are a library's least time over ours. On a GPU the script times the
backends jax and pallas there. What is not installed or was not run is said so.
"""

from __future__ import annotations

import argparse
import datetime
import functools
import os
import platform
import re
import statistics
import time
from collections.abc import Callable
from importlib import metadata

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("tables", nargs="*", default=["speed", "batch", "healpix", "accuracy", "memory"])
parser.add_argument("--bandlimits", type=int, nargs="*", default=[128, 256, 512, 1024])
parser.add_argument("--threads", type=int, default=1)
parser.add_argument("--repeats", type=int, default=9)
parser.add_argument("--s2fft-to", type=int, default=512, metavar="L", help="run s2fft up to this bandlimit")
args = parser.parse_args()

# Read when the libraries are first used.
os.environ["OMP_NUM_THREADS"] = os.environ["DUCC0_NUM_THREADS"] = str(args.threads)
if args.threads == 1:
    os.environ.setdefault("XLA_FLAGS", "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1")
os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")

import ducc0  # noqa: E402
import jax  # noqa: E402
import jax.numpy as jnp  # noqa: E402
import numpy as np  # noqa: E402

jax.config.update("jax_enable_x64", True)

from armillary.sphere import (  # noqa: E402
    SHT,
    ClenshawCurtis,
    DriscollHealy,
    GaussLegendre,
    Healpix,
    McEwenWiaux,
    McEwenWiauxSS,
    alm_from_real,
    alm_to_healpy,
    spin_to_eb,
)

Call = Callable[[], object]
DIRECTIONS = ("synthesis", "analysis")
GPU = jax.devices()[0].platform == "gpu"
BACKENDS = ["jax", "pallas"] if GPU else ["jax", "ducc"]


def installed(name: str) -> bool:
    return version(name) != "not installed"


def version(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return "not installed"


def first_call(call: Call) -> float:
    begin = time.perf_counter()
    jax.block_until_ready(call())
    return time.perf_counter() - begin


def race(calls: dict[str, Call]) -> dict[str, tuple[float, float]]:
    """Median and least time of every call in milliseconds, in turns."""
    times: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(args.repeats):
        for name, call in calls.items():
            times[name].append(1e3 * first_call(call))
    return {name: (statistics.median(each), min(each)) for name, each in times.items()}


def report(title: str, firsts: dict[str, float], times: dict[str, tuple[float, float]], maps: int = 1) -> None:
    """One line a library, with ratios to each of our backends."""
    for name, (median, least) in times.items():
        ratios = [
            f"{least / times[mine][1]:8.2f}" if mine in times else " " * 8 for mine in map("ours {}".format, BACKENDS)
        ]
        print(
            f"{title:<22} {name:<14} {median / maps:>10.3f} {least / maps:>10.3f} {firsts[name]:>12.2f}"
            + "".join(ratios),
            flush=True,
        )


def header(unit: str) -> None:
    ratios = "".join(f"{'/ ' + backend:>8}" for backend in BACKENDS)
    print(f"\n{'':<22} {'':<14} {'median ' + unit:>10} {'least ' + unit:>10} {'first call s':>12}{ratios}")


def random_alm(L: int, spin: int = 0, batch: tuple[int, ...] = ()) -> jax.Array:
    rng = np.random.default_rng(L)
    if spin == 0:
        return alm_from_real(rng.normal(size=(*batch, L * L)))
    degree, order = np.arange(L)[:, None], np.arange(1 - L, L)
    alm = rng.normal(size=(*batch, L, 2 * L - 1)) + 1j * rng.normal(size=(*batch, L, 2 * L - 1))
    return jnp.asarray(alm * ((abs(order) <= degree) & (degree >= abs(spin))))


def triangle(alm: jax.Array) -> np.ndarray:
    return np.asarray(alm_to_healpy(alm))


def ours(sht: SHT, alm: jax.Array) -> tuple[Call, Call]:
    return functools.partial(sht.synthesis, alm), functools.partial(sht.analysis, sht.synthesis(alm))


def speed() -> None:
    """Real maps, and maps of spin 2, on Gauss-Legendre grids."""
    header("ms")
    for L in args.bandlimits:
        for spin in (0, 2):
            alm = random_alm(L, spin)
            calls: dict[str, tuple[Call, Call]] = {}
            for backend in BACKENDS:
                if backend == "ducc" and not installed("jaxbind"):
                    continue
                sht = SHT(GaussLegendre(L), spin=spin, real=spin == 0, backend=backend)
                calls[f"ours {backend}"] = ours(sht, alm)
            calls["ducc0"] = ducc_calls(L, spin, alm)
            if installed("s2fft") and args.s2fft_to >= L and spin == 0:
                calls["s2fft"] = s2fft_calls(L, alm)
            for k, direction in enumerate(DIRECTIONS):
                chosen = {name: pair[k] for name, pair in calls.items()}
                firsts = {
                    name: first_of(L, spin, name, k) if name.startswith("ours") else first_call(call)
                    for name, call in chosen.items()
                }
                report(f"L={L} spin {spin} {direction}", firsts, race(chosen))


def first_of(L: int, spin: int, name: str, k: int) -> float:
    """The first call, in a fresh cache of compiled programs."""
    jax.clear_caches()
    sht = SHT(GaussLegendre(L), spin=spin, real=spin == 0, backend=name.removeprefix("ours "))
    x = random_alm(L, spin) if k == 0 else jnp.zeros(sht.grid.shape, sht.out_structure().dtype)
    return first_call(lambda: sht.synthesis(x) if k == 0 else sht.analysis(x))


def ducc_calls(L: int, spin: int, alm: jax.Array) -> tuple[Call, Call]:
    """ducc0's own call, from its own layout to its own."""
    kwargs = {"geometry": "GL", "spin": spin, "lmax": L - 1, "nthreads": args.threads}
    parts = triangle(spin_to_eb(alm, spin) if spin else alm[None])
    shape = {"ntheta": L, "nphi": 2 * L - 1}
    f = ducc0.sht.synthesis_2d(alm=parts, **shape, **kwargs)
    return lambda: ducc0.sht.synthesis_2d(alm=parts, **shape, **kwargs), lambda: ducc0.sht.analysis_2d(map=f, **kwargs)


def s2fft_calls(L: int, alm: jax.Array) -> tuple[Call, Call]:
    import s2fft

    options = {"sampling": "gl", "method": "jax", "reality": True}
    f = s2fft.inverse(alm, L, **options)
    return lambda: s2fft.inverse(alm, L, **options), lambda: s2fft.forward(f, L, **options)


def batch(maps: int = 16) -> None:
    """Many real maps at once, by the map."""
    header("ms/map")
    for L in [L for L in args.bandlimits if L <= 512]:
        alm = random_alm(L, batch=(maps,))
        for direction in DIRECTIONS:
            calls: dict[str, Call] = {}
            for backend in [*BACKENDS, "table"]:
                if backend == "ducc" and not installed("jaxbind"):
                    continue
                pair = ours(SHT(GaussLegendre(L), real=True, backend=backend), alm)
                calls[f"ours {backend}"] = pair[direction == "analysis"]
            firsts = {name: first_call(call) for name, call in calls.items()}
            report(f"L={L} {direction} x{maps}", firsts, race(calls), maps)
            if installed("s2fft") and args.s2fft_to >= L:
                one = s2fft_calls(L, alm[0])[direction == "analysis"]
                report(f"L={L} {direction} x1", {"s2fft": first_call(one)}, race({"s2fft": one}))


def healpix() -> None:
    """Real maps on HEALPix at L = 2 nside, with no iterations."""
    header("ms")
    for nside in (64, 128, 256):
        for direction in (0, 1):
            firsts: dict[str, float] = {}
            calls = healpix_calls(nside, direction, firsts)
            firsts |= {name: first_call(call) for name, call in calls.items() if name not in firsts}
            report(f"nside={nside} {DIRECTIONS[direction]}", firsts, race(calls))


def healpix_calls(nside: int, direction: int, firsts: dict[str, float]) -> dict[str, Call]:
    grid, L = Healpix(nside), 2 * nside
    alm = random_alm(L)
    packed = triangle(alm)
    f = SHT(grid, real=True, backend="jax").synthesis(alm)
    f_host = np.asarray(f)
    calls: dict[str, Call] = {}
    for backend in BACKENDS:
        if backend == "ducc" and not installed("jaxbind"):
            continue
        jax.clear_caches()
        sht = SHT(grid, real=True, backend=backend)
        call = functools.partial(sht.analysis, f) if direction else functools.partial(sht.synthesis, alm)
        firsts[f"ours {backend}"] = first_call(call)
        calls[f"ours {backend}"] = call
    if installed("healpy"):
        import healpy

        calls["healpy"] = (
            functools.partial(healpy.map2alm, f_host, lmax=L - 1, iter=0)
            if direction
            else functools.partial(healpy.alm2map, packed, nside, lmax=L - 1)
        )
    if installed("jaxht") and nside <= 128:
        import jht

        calls["jaxht"] = (
            functools.partial(jht.map2alm, f, nside, L - 1, niter=0)
            if direction
            else functools.partial(jht.synthesis, jnp.asarray(packed), nside, L - 1)
        )
    if installed("s2fft") and nside <= min(128, args.s2fft_to // 2):
        import s2fft

        options = {"nside": nside, "sampling": "healpix", "method": "jax", "reality": True}
        calls["s2fft"] = (
            functools.partial(s2fft.forward, f, L, iter=0, **options)
            if direction
            else functools.partial(s2fft.inverse, alm, L, **options)
        )
    return calls


def accuracy() -> None:
    """Round trips, and other libraries' numbers; errors are the greatest over the greatest value."""
    print("\nround trip, backend jax")
    for L in (512, 2048):
        for kind in (GaussLegendre, McEwenWiaux, McEwenWiauxSS, DriscollHealy, ClenshawCurtis):
            for spin in (0, 2):
                sht = SHT(kind(L), spin=spin, real=spin == 0, backend=BACKENDS[-1] if GPU else "jax")
                alm = random_alm(L, spin)
                back = sht.analysis(sht.synthesis(alm))
                line = f"  L={L:<5} {kind.__name__:<14} spin {spin}  float64 {relative(back, alm):.1e}"
                if L == 512:
                    single = sht.analysis(sht.synthesis(alm.astype(np.complex64)))
                    line += f"  {single.dtype} {relative(single, alm):.1e}"
                print(line, flush=True)
    print("\nsynthesis at L=256 against ducc0, and the round trip; s2fft's round trip at L=64 on MW")
    for spin in (0, 1, 2, 5, 8, 10, 12, 20):
        alm = random_alm(256, spin)
        sht = SHT(GaussLegendre(256), spin=spin, backend="jax")
        f = sht.synthesis(alm)
        theirs = ducc_calls(256, spin, alm)[0]()
        pair = theirs[0] + 1j * theirs[1] if spin else theirs[0]
        line = f"  spin {spin:<3} {relative(f, pair):.1e}  round trip {relative(sht.analysis(f), alm):.1e}"
        if installed("s2fft"):
            import s2fft

            small = random_alm(64, spin)
            back = s2fft.forward(s2fft.inverse(small, 64, spin=spin, method="jax"), 64, spin=spin, method="jax")
            line += f"  s2fft {relative(back, small):.1e}"
        print(line, flush=True)
    print("\nHEALPix, spin 2, L = 2 nside, synthesis against ducc0: relative norm of the difference")
    for nside in (16, 32, 64, 128, 256):
        grid = Healpix(nside)
        alm = random_alm(grid.L, 2)
        starts = np.concatenate([[0], np.cumsum(grid.nphi)[:-1]]).astype(np.uint64)
        rings = {"theta": grid.theta, "phi0": grid.phi0, "nphi": grid.nphi.astype(np.uint64), "ringstart": starts}
        theirs = ducc0.sht.synthesis(alm=triangle(spin_to_eb(alm, 2)), spin=2, lmax=grid.L - 1, **rings)
        exact = theirs[0] + 1j * theirs[1]
        f = np.asarray(SHT(grid, spin=2, backend="jax").synthesis(alm))
        line = f"  nside {nside:<4} ours {np.linalg.norm(f - exact) / np.linalg.norm(exact):.1e}"
        if installed("s2fft") and nside <= 32:
            import s2fft

            other = np.asarray(s2fft.inverse(alm, grid.L, spin=2, nside=nside, sampling="healpix", method="jax"))
            line += f"  s2fft {np.linalg.norm(other - exact) / np.linalg.norm(exact):.1e}"
        print(line, flush=True)


def relative(x: jax.Array, exact: jax.Array) -> float:
    return float(abs(jnp.asarray(x) - exact).max() / abs(exact).max())


def memory(L: int = 2048) -> None:
    """The largest array in the compiled program, over L**2 float64."""
    print(f"\nlargest array at L={L}, in units of L**2 float64 (8 L**2 bytes)")
    for spin in (0, 2):
        sht = SHT(GaussLegendre(L), spin=spin, real=spin == 0, backend=BACKENDS[-1] if GPU else "jax")
        for name, call, x in (
            ("synthesis", sht.synthesis, sht.in_structure()),
            ("analysis", sht.analysis, sht.out_structure()),
        ):
            compiled = jax.jit(call).lower(x).compile()
            statistics_ = compiled.memory_analysis()
            temporary = f"{statistics_.temp_size_in_bytes / (8 * L * L):.1f}" if statistics_ else "unknown"
            largest = largest_array(compiled.as_text()) / (8 * L * L)
            print(f"  spin {spin} {name:<10} {sht.backend}: {largest:.1f}; all temporaries {temporary}", flush=True)


def largest_array(text: str) -> int:
    """Bytes of the largest array in the text of a compiled program."""
    sizes = {"f64": 8, "f32": 4, "c64": 8, "c128": 16, "s32": 4, "u32": 4, "s64": 8, "pred": 1, "s8": 1, "u8": 1}
    found = re.findall(r"\b(f64|f32|c64|c128|s32|u32|s64|pred|s8|u8)\[([0-9,]+)\]", text)
    return max(sizes[kind] * int(np.prod([int(n) for n in shape.split(",")])) for kind, shape in found)


def main() -> None:
    names = ("armillary-sphere", "jax", "ducc0", "jaxbind", "healpy", "s2fft", "jaxht", "numpy")
    device = jax.devices()[0]
    print(f"{datetime.date.today()}  {platform.machine()}, {device.platform} {device.device_kind}, ", end="")
    print(f"{args.threads} thread(s), float64")
    print(", ".join(f"{name} {version(name)}" for name in names))
    print(f"load average at the start {os.getloadavg()[0]:.1f} on {os.cpu_count()} CPUs")
    for name in args.tables:
        table = {"speed": speed, "batch": batch, "healpix": healpix, "accuracy": accuracy, "memory": memory}[name]
        print(f"\n{name}: {table.__doc__}")
        table()
    if not GPU:
        print("\nGPU: not measured, there is none here")


if __name__ == "__main__":
    main()
