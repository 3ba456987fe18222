"""Directional wavelets on the sphere: ours and s2wav, in one process.

    python benchmarks/wavelets.py [--bandlimits L ...] [--directions N] [--threads N] [--repeats N]

Analysis from a map and synthesis to a map of a real field, on the grid of McEwen and Wiaux that s2wav is made for, and
the gradients of a sum of squares through either; in float64. Libraries take turns; the least and the median of
`--repeats` rounds are printed. Set-up is all that comes before, kernels and the compilation of analysis; the first call
of the others has theirs. s2wav runs with its recursions; with its precomputed kernels, as arguments; and with these as
constants of a program around its own ("folded"), which XLA rearranges while it compiles, for a minute. Peak memory is
that of a process of its own that does the four once, less that of the process before it began. Ratios are s2wav's least
time, or memory, over ours.

s2wav 1.0.4 pins packages that no longer build, and imports torch, which it does not use here: install it by
``pip install --no-deps s2wav==1.0.4`` beside s2fft; torch is replaced by an empty module. Without s2wav ours are timed
alone.
"""

from __future__ import annotations

import argparse
import datetime
import functools
import os
import platform
import statistics
import subprocess
import sys
import time
import types
from collections.abc import Callable
from importlib import metadata
from importlib.util import find_spec

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--bandlimits", type=int, nargs="*", default=[128, 256])
parser.add_argument("--directions", type=int, default=3)
parser.add_argument("--threads", type=int, default=1)
parser.add_argument("--repeats", type=int, default=5)
parser.add_argument("--backend", default="auto")
parser.add_argument("--precomputed-to", type=int, default=256, metavar="L", help="s2wav's kernels up to this bandlimit")
parser.add_argument("--memory", metavar="LIBRARY", help=argparse.SUPPRESS)
args = parser.parse_args()

# Read when the libraries are first used.
os.environ["OMP_NUM_THREADS"] = os.environ["DUCC0_NUM_THREADS"] = str(args.threads)
if args.threads == 1:
    os.environ.setdefault("XLA_FLAGS", "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1")
os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")

import jax  # noqa: E402
import jax.numpy as jnp  # noqa: E402
import numpy as np  # noqa: E402

jax.config.update("jax_enable_x64", True)

from armillary.sphere import SHT, McEwenWiaux, Wavelets, alm_from_real  # noqa: E402

Call = Callable[[], object]
OPERATIONS = ["analysis", "synthesis", "analysis gradient", "synthesis gradient"]
PEERS = ["s2wav", "s2wav precomputed", "s2wav folded"]


def version(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return "not installed"


def field(L: int) -> jax.Array:
    alm = alm_from_real(np.random.default_rng(L).normal(size=L * L))
    return SHT(McEwenWiaux(L), real=True).synthesis(alm)


def four(f: jax.Array, analysis: Callable, synthesis: Callable, there: tuple = (), back: tuple = ()) -> dict[str, Call]:
    """The operations, from functions of a map and of a pytree of coefficients, and of the kernels of either."""

    def squares(tree: object) -> jax.Array:
        return sum(((x.real**2 + x.imag**2).sum() for x in jax.tree.leaves(tree)), start=jnp.zeros(()))

    c = analysis(f, *there)
    gradients = [jax.jit(jax.grad(lambda x, *k, g=g: squares(g(x, *k)))) for g in (analysis, synthesis)]
    calls = [
        lambda: analysis(f, *there),
        lambda: synthesis(c, *back),
        lambda: gradients[0](f, *there),
        lambda: gradients[1](c, *back),
    ]
    return dict(zip(OPERATIONS, calls, strict=True))


def ours(L: int, f: jax.Array) -> dict[str, Call]:
    wavelets = Wavelets(L, args.directions, grid="mw", backend=args.backend)
    sht = SHT(McEwenWiaux(L), real=True, backend=args.backend)
    analysis = jax.jit(lambda f: wavelets.analysis(sht.analysis(f)))
    return four(f, analysis, jax.jit(lambda c: sht.synthesis(wavelets.synthesis(c))))


def s2wav_calls(L: int, f: jax.Array, library: str) -> dict[str, Call]:
    torch = types.ModuleType("torch")
    torch.Tensor = torch.tensor = torch.autograd = type("Tensor", (), {"Function": object})
    sys.modules.setdefault("torch", torch)
    import s2wav
    from s2wav.transforms import construct, wavelet, wavelet_precompute

    N = args.directions
    filters = s2wav.filters.filters_directional_vectorised(L, N)
    if library != "s2wav":
        module, generate = wavelet_precompute, construct.generate_full_precomputes
    else:
        module, generate = wavelet, construct.generate_wigner_precomputes
    # For analysis, which transforms forward and then inverse, and for synthesis.
    there, back = (generate(L, N, forward=forward, reality=True) for forward in (False, True))
    common = {"L": L, "N": N, "J_min": 0, "reality": True, "filters": filters}

    def analysis(f: jax.Array, kernels: list) -> object:
        return module.analysis(f, **common, precomps=kernels)

    def synthesis(c: tuple, kernels: list) -> jax.Array:
        return module.synthesis(*c, **common, precomps=kernels)

    if library == "s2wav folded":
        return four(f, jax.jit(lambda f: analysis(f, there)), jax.jit(lambda c: synthesis(c, back)))
    return four(f, analysis, synthesis, (there,), (back,))


def make(library: str, L: int) -> dict[str, Call]:
    f = field(L)
    return ours(L, f) if library == "ours" else s2wav_calls(L, f, library)


def timed(call: Callable[[], object]) -> tuple[float, object]:
    begin = time.perf_counter()
    result = jax.block_until_ready(call())
    return time.perf_counter() - begin, result


def memory(library: str, L: int) -> float:
    """In MiB, by a process of its own."""
    command = [sys.executable, __file__, "--memory", library, "--bandlimits", str(L)]
    command += ["--directions", str(args.directions), "--threads", str(args.threads), "--backend", args.backend]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def peak_memory() -> float:
    """In MiB. Not that of getrusage, which on Linux starts from that of the process that started this one."""
    with open("/proc/self/status") as status:
        (line,) = (line for line in status if line.startswith("VmHWM"))
    return int(line.split()[1]) / 1024


def print_memory() -> None:
    (L,) = args.bandlimits
    jax.block_until_ready(field(8))
    before = peak_memory()
    for call in make(args.memory, L).values():
        jax.block_until_ready(call())
    print(peak_memory() - before)


def main() -> None:
    device = jax.devices()[0]
    print(f"{datetime.date.today()}  {platform.processor() or platform.machine()}, {os.cpu_count()} cores, ", end="")
    print(f"{args.threads} thread(s); {device.platform} {device.device_kind}; N = {args.directions}")
    print(
        ", ".join(
            f"{name} {version(name)}" for name in ("jax", "ducc0", "jaxbind", "s2fft", "s2wav", "armillary-sphere")
        )
    )
    if not find_spec("s2wav"):
        print("s2wav is not installed (see the top of this script): ours alone")
    print(f"\n{'':<26} {'':<18} {'least ms':>10} {'median ms':>10} {'first call s':>12} {'ratio':>8}")
    for L in args.bandlimits:
        peers = [name for name in PEERS if find_spec("s2wav") and (name == "s2wav" or args.precomputed_to >= L)]
        libraries = ["ours", *peers]
        setup, calls = {}, {}
        for library in libraries:
            setup[library], calls[library] = timed(functools.partial(make, library, L))
        for operation in OPERATIONS:
            firsts = {library: timed(calls[library][operation])[0] for library in libraries}
            times: dict[str, list[float]] = {library: [] for library in libraries}
            for _ in range(args.repeats):
                for library in libraries:
                    times[library].append(1e3 * timed(calls[library][operation])[0])
            for library in libraries:
                least = min(times[library])
                ratio = "" if library == "ours" else f"{least / min(times['ours']):8.1f}"
                median = statistics.median(times[library])
                numbers = f"{least:>10.2f} {median:>10.2f} {firsts[library]:>12.2f} {ratio:>8}"
                print(f"L={L:<4} {operation:<20} {library:<18} {numbers}", flush=True)
        for library in libraries:
            print(f"L={L:<4} {'set-up, s':<20} {library:<18} {setup[library]:>10.2f}")
        peaks = {library: memory(library, L) for library in libraries}
        for library, peak in peaks.items():
            ratio = "" if library == "ours" or peaks["ours"] < 1 else f"{peak / peaks['ours']:8.1f}"
            print(f"L={L:<4} {'peak memory, MiB':<20} {library:<18} {peak:>10.0f} {'':>23} {ratio:>8}", flush=True)


if __name__ == "__main__":
    print_memory() if args.memory else main()
