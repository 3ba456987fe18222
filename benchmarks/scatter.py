"""Scattering covariances on the sphere: ours and s2scat 0.0.3.

    python benchmarks/scatter.py [--bandlimits L ...] [--directions N] [--peer PYTHON] [--backend NAME] [--repeats N]

All statistics of a real field from its harmonic coefficients, in float64, and the gradient of the sum of their squares;
the mean over directions ("isotropic") and each direction for itself ("directional"). Ours are the literature's
definition at ``oversample=1``: with the grids of s2scat, and the same numbers up to factors (the tests compare them).
Each library is measured in a process of its own, one after the other in turns, each on the same number of threads; the
least and the median of `--repeats` calls are printed, compiled before. Set-up is what comes before compilation: kernels
and filters, and tracing the statistics; compilation is of these too, and the first call; both are CPU time, which the
load of the machine changes less. Memory is what XLA plans for the temporary arrays of a gradient. Ratios are of the
least times, and of the memories, theirs over ours.

s2scat pins packages that no longer build. `--peer` is the Python of an environment of its own, made by

    python -m venv s2 && s2/bin/pip install "jax==0.10.2" jaxtyping scipy optax
    s2/bin/pip install --no-deps s2fft==1.5.0 s2wav==1.0.4 s2scat==0.0.3

torch, which s2wav imports and does not use here, is replaced by an empty module. Without `--peer` ours are timed alone.
"""

from __future__ import annotations

import argparse
import datetime
import importlib.machinery
import json
import os
import platform
import statistics
import subprocess
import sys
import time
import types
from importlib import metadata

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--bandlimits", type=int, nargs="*", default=[64, 128])
parser.add_argument("--directions", type=int, default=3)
parser.add_argument("--scale", type=int, default=1, help="the largest scale, J_min")
parser.add_argument("--peer", metavar="PYTHON")
parser.add_argument("--backend", default="table")
parser.add_argument("--threads", type=int, default=1)
parser.add_argument("--repeats", type=int, default=7)
parser.add_argument("--one", nargs=2, metavar=("LIBRARY", "L"), help=argparse.SUPPRESS)
args = parser.parse_args()


def measure(library: str, L: int) -> list[dict[str, object]]:
    """Isotropic statistics, then directional ones."""
    import jax
    import jax.numpy as jnp
    import numpy as np

    jax.config.update("jax_enable_x64", True)
    half = np.random.default_rng(L).normal(size=(2, L, L)) / (1 + np.arange(L))[:, None]
    half = np.tril(half[0] + 1j * half[1])
    half[:, 0] = half[:, 0].real
    alm, kernels, set_up = jnp.asarray(half), None, 0.0
    if library == "s2scat":
        for name in ("torch", "torch.nn", "torch.nn.functional"):
            torch = types.ModuleType(name)
            torch.__spec__ = importlib.machinery.ModuleSpec(name, None)
            torch.__getattr__ = lambda attribute: None  # type: ignore[method-assign]
            sys.modules[name] = torch
        import s2scat

        begin = time.process_time()
        kernels = s2scat.configure(L, args.directions, args.scale, True, recursive=False)
        set_up = time.process_time() - begin
    else:
        from armillary.scatter import ScatteringCovariance

        order = (-1.0) ** np.arange(1, L)
        alm = jnp.asarray(np.concatenate([(order * half[:, 1:].conj())[:, ::-1], half], axis=1))

    results = []
    for isotropic in (True, False):
        begin = time.process_time()
        config = kernels
        if library == "s2scat":

            def compute(alm: jax.Array, config: object, isotropic: bool = isotropic) -> list[jax.Array]:
                found = s2scat.scatter(alm, L, args.directions, args.scale, True, config, isotropic=isotropic)
                return [x.real for x in found]

        else:
            config = ScatteringCovariance(L, args.directions, args.scale, isotropic, backend=args.backend)

            def compute(alm: jax.Array, config: object) -> list[jax.Array]:
                return [config(alm).ravel()]  # type: ignore[operator]

        # Kernels are arguments: as constants of a program XLA would rearrange them while it compiles.
        forward = jax.jit(compute)
        squares = lambda alm, config: sum((x**2).sum() for x in compute(alm, config))  # noqa: E731
        found: dict[str, object] = {}
        for name, call in {"statistics": forward, "gradient": jax.jit(jax.grad(squares))}.items():
            lowered = call.lower(alm, config)
            traced = time.process_time()
            compiled = lowered.compile()
            jax.block_until_ready(compiled(alm, config))
            if name == "statistics":
                found["set-up"] = set_up + traced - begin
                found["compilation"] = time.process_time() - traced
            times = []
            for _ in range(args.repeats):
                start = time.perf_counter()
                jax.block_until_ready(compiled(alm, config))
                times.append(time.perf_counter() - start)
            found[name] = [min(times), statistics.median(times)]
        found["memory"] = compiled.memory_analysis().temp_size_in_bytes
        found["versions"] = f"JAX {jax.__version__} on {jax.devices()[0].device_kind}"
        results.append(found)
    return results


def run(library: str, L: int) -> list[dict[str, object]] | None:
    python = sys.executable if library == "ours" else args.peer
    if python is None:
        return None
    environment = dict(os.environ, OMP_NUM_THREADS=str(args.threads), DUCC0_NUM_THREADS=str(args.threads))
    if args.threads == 1:
        environment["XLA_FLAGS"] = "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"
    same = ["directions", "scale", "backend", "threads", "repeats"]
    settings = [part for name in same for part in (f"--{name}", str(getattr(args, name)))]
    command = [python, __file__, *settings, "--one", library, str(L)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    if done.returncode:
        print(f"{library} at L={L} failed: {done.stderr.strip().splitlines()[-1]}")
        return None
    return json.loads(done.stdout.strip().splitlines()[-1])


def main() -> None:
    print(
        f"{datetime.date.today()}, {platform.machine()}, {os.cpu_count()} cores, {args.threads} thread(s) used, float64"
    )
    print(
        f"armillary-scatter {metadata.version('armillary-scatter')}, N={args.directions}, J_min={args.scale},", end=" "
    )
    print(f"backend {args.backend!r}; load {os.getloadavg()[0]:.1f} at the start")
    print("times in ms: least (median); ratios are of statistics, gradient and memory\n")
    head = ["L", "what", "library", "statistics", "gradient", "gradient memory", "set-up", "compilation", "ratios"]
    print("| " + " | ".join(head) + " |\n|" + "---|" * len(head))
    for L in args.bandlimits:
        measured = {library: run(library, L) for library in ("ours", "s2scat")}
        for k, what in enumerate(("isotropic", "directional")):
            for library, results in measured.items():
                cells = [str(L), what, library]
                if results is None:
                    print("| " + " | ".join([*cells, *["not measured"] * 5, ""]) + " |")
                    continue
                found = results[k]
                for name in ("statistics", "gradient"):
                    least, median = found[name]
                    cells.append(f"{1e3 * least:.2f} ({1e3 * median:.2f})")
                cells += [
                    f"{found['memory'] / 2**20:.1f} MiB",
                    f"{found['set-up']:.1f} s",
                    f"{found['compilation']:.1f} s",
                ]
                ratios = ""
                if library == "s2scat" and measured["ours"] is not None:
                    ours = measured["ours"][k]
                    ratios = ", ".join(f"{found[n][0] / ours[n][0]:.1f}" for n in ("statistics", "gradient"))
                    ratios += f", {found['memory'] / ours['memory']:.1f}"
                print("| " + " | ".join([*cells, ratios]) + " |", flush=True)
        print("  ".join(f"{library}: {r[0]['versions']}" for library, r in measured.items() if r), flush=True)


if args.one:
    print(json.dumps(measure(args.one[0], int(args.one[1]))))
else:
    main()
