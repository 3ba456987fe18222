"""Discrete-continuous convolutions: ours beside torch-harmonics, and how time and memory grow.

    python benchmarks/disco.py [--threads N] [--repeats N] [--peer PYTHON] [--rings N ...] [--large]

First the layer of torch-harmonics' own benchmark: an equiangular grid of 180 x 360 with both poles, 64 channels in and
out, a piecewise linear basis of shape (3, 3) and float32; its two cutoffs, one step of latitude and 0.03. Timed are the
forward pass, and forward and backward for the field and the weights together. The two libraries need environments of
their own: give the interpreter of one with torch-harmonics 0.9.3 by ``--peer``; each is timed in one process that does
nothing else, in turns, and their fields for one function of a basis of shape (3, 4) at a time are compared: by
correlation, as norms differ (and theirs widens the cutoff a little: at one step of latitude, where the hats to the
north and south are zero at the only rings they reach, there is little else to compare). The least of the repeats is
printed, in wall and in CPU time. Ratios are torch-harmonics' over ours.

Then the forward and backward pass of a layer of 16 channels on grids of more and more rings, with filters of as many
pixels; peak memory is that of a process of its own, less that of one that has the same imports. The exponents are those
of a power of the number of pixels. ``--large`` does the same for one image of 2048 x 4096, 3 channels to 16.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import platform
import resource
import subprocess
import sys
import tempfile
import time
from importlib import metadata
from pathlib import Path

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--threads", type=int, default=1)
parser.add_argument("--repeats", type=int, default=7)
parser.add_argument("--peer", metavar="PYTHON", help="an interpreter with torch-harmonics")
parser.add_argument("--rings", type=int, nargs="*", default=[64, 128, 256, 512, 1024])
parser.add_argument("--large", action="store_true", help="one image of 2048 x 4096")
parser.add_argument("--part", help=argparse.SUPPRESS)
args = parser.parse_args()

os.environ["OMP_NUM_THREADS"] = os.environ["MKL_NUM_THREADS"] = str(args.threads)
if args.threads == 1:
    os.environ.setdefault("XLA_FLAGS", "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1")

CHANNELS, SHAPE, KERNEL = 64, (180, 360), (3, 3)
CUTOFFS = [math.pi / 179, 0.03]


def timed(function, repeats=args.repeats):
    """The least wall and CPU time of a call, in milliseconds; the first is not counted."""
    function()
    found = []
    for _ in range(repeats):
        wall, cpu = time.perf_counter(), time.process_time()
        function()
        found.append((time.perf_counter() - wall, time.process_time() - cpu))
    return [1e3 * min(column) for column in zip(*found, strict=True)]


def problem(number):
    import numpy as np

    rng = np.random.default_rng(0)
    x = rng.normal(size=(CHANNELS, *SHAPE)).astype(np.float32)
    return x, rng.normal(size=(CHANNELS, CHANNELS, number)).astype(np.float32) / 10


def ours():
    import jax
    import numpy as np

    from armillary.sphere import ClenshawCurtis, DiscoConv
    from armillary.sphere._disco_contract import convolve

    grid = ClenshawCurtis(SHAPE[0] - 1, *SHAPE)
    times, fields = [], []
    for cutoff in CUTOFFS:
        layer = DiscoConv(
            CHANNELS, CHANNELS, grid, kernel_shape=KERNEL, cutoff=cutoff, use_bias=False, key=jax.random.key(0)
        )
        x, w = (jax.numpy.asarray(a) for a in problem(layer.operator.stencil.basis.size))
        forward = jax.jit(lambda w, x, operator=layer.operator: convolve(operator, w, x[:, None], 1)[:, 0])
        both = jax.jit(lambda w, x, ct, f=forward: (lambda y, back: (y, back(ct)))(*jax.vjp(f, w, x)))
        ct = jax.numpy.ones((CHANNELS, *SHAPE), np.float32)
        times.append(
            [
                timed(lambda f=forward, w=w, x=x: jax.block_until_ready(f(w, x))),
                timed(lambda f=both, w=w, x=x, ct=ct: jax.block_until_ready(f(w, x, ct))),
            ]
        )
        # Function by function, of one channel; four around, as theirs start in the opposite direction.
        single = DiscoConv(1, 1, grid, kernel_shape=(3, 4), cutoff=cutoff, key=jax.random.key(0))
        one = np.eye(single.operator.stencil.basis.size, dtype=np.float32)[:, None]
        fields.append(np.asarray(convolve(single.operator, one, x[:1, None], 1)[:, 0]))
    return times, fields


def theirs():
    import numpy as np
    import torch
    from torch_harmonics import DiscreteContinuousConvS2

    torch.set_num_threads(args.threads)
    times, fields = [], []
    for cutoff in CUTOFFS:

        def make(inputs, outputs, kernel, cutoff=cutoff, **settings):
            settings = {"kernel_shape": kernel, "theta_cutoff": cutoff, "bias": False, **settings}
            return DiscreteContinuousConvS2(inputs, outputs, SHAPE, SHAPE, **settings)

        layer = make(CHANNELS, CHANNELS, KERNEL)
        number = layer.kernel_size
        x, w = (torch.from_numpy(a) for a in problem(number))
        x = x[None].requires_grad_()
        with torch.no_grad():
            layer.weight.copy_(w.reshape(layer.weight.shape))
        ct = torch.ones(1, CHANNELS, *SHAPE)

        def both(layer=layer, x=x, ct=ct):
            x.grad = layer.weight.grad = None
            layer(x).backward(ct)

        def forward(layer=layer, x=x):
            with torch.no_grad():
                layer(x)

        times.append([timed(forward), timed(both)])
        number = 5
        single = make(1, number, (3, 4), basis_norm_mode="none")
        with torch.no_grad():
            single.weight.copy_(torch.eye(number).reshape(single.weight.shape))
            fields.append(single(x[:, :1])[0].numpy().astype(np.float32))
    return times, fields


def growth(rings):
    """Time and peak memory of one layer on a grid of so many rings; of the large image for 2048."""
    import jax

    from armillary.sphere import ClenshawCurtis, DiscoConv
    from armillary.sphere._disco_contract import convolve

    inputs = 3 if rings == 2048 else 16
    grid = ClenshawCurtis(rings - 1, rings, 2 * rings)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    layer = DiscoConv(inputs, 16, grid, use_bias=False, key=jax.random.key(0))
    x = jax.random.normal(jax.random.key(1), (inputs, 1, *grid.shape))
    began = time.perf_counter()
    tables = layer.operator.stencil.tables(x.dtype)
    setup = time.perf_counter() - began
    del tables
    gradient = jax.jit(jax.grad(lambda w, x: (convolve(layer.operator, w, x, 1) ** 2).sum(), (0, 1)))
    wall, cpu = timed(
        lambda: jax.block_until_ready(gradient(layer.weight, x)), 1 if rings > 1000 else min(args.repeats, 3)
    )
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return {"wall": wall, "cpu": cpu, "setup": setup, "peak": (peak - before) / 1024}


def run(part, python=sys.executable):
    """A part in a process of its own: what it printed last."""
    command = [python, __file__, "--part", part, "--threads", str(args.threads), "--repeats", str(args.repeats)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def compared(python):
    """A library's times and fields; the fields go by a file."""
    import numpy as np

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "fields.npy"
        name = "ours" if python == sys.executable else "theirs"
        return run(f"{name}:{path}", python), np.load(path)


def main():
    print(f"{platform.processor() or platform.machine()}, {args.threads} thread(s), load {os.getloadavg()[0]:.1f}")
    print(", ".join(f"{name} {metadata.version(name)}" for name in ("armillary-sphere", "jax", "jaxlib")))
    mine, my_fields = compared(sys.executable)
    if args.peer:
        their, their_fields = compared(args.peer)
        again, _ = compared(sys.executable)
        mine = [
            [[min(a, b) for a, b in zip(p, q, strict=True)] for p, q in zip(x, y, strict=True)]
            for x, y in zip(mine, again, strict=True)
        ]
    print(f"\n{SHAPE[0]} x {SHAPE[1]}, {CHANNELS} channels, kernel {KERNEL}, float32; ms of wall (CPU) time")
    for i, cutoff in enumerate(CUTOFFS):
        for j, what in enumerate(("forward", "forward and backward")):
            line = f"cutoff {cutoff:.4f}  {what:21} ours {mine[i][j][0]:7.1f} ({mine[i][j][1]:.1f})"
            if args.peer:
                theirs_ = their[i][j]
                line += (
                    f"  torch-harmonics {theirs_[0]:7.1f} ({theirs_[1]:.1f})  ratio {theirs_[0] / mine[i][j][0]:.2f}"
                )
                line += f" ({theirs_[1] / mine[i][j][1]:.2f})"
            print(line)
        if args.peer:
            print("  correlation of the fields of each function:", correlations(my_fields[i], their_fields[i]))
    if args.rings:
        print("\nforward and backward, 16 channels, cutoff of 3 steps")
        rows = []
        for rings in args.rings:
            rows.append(run(f"growth:{rings}"))
            wall, cpu, setup, peak = (rows[-1][name] for name in ("wall", "cpu", "setup", "peak"))
            print(
                f"{rings:5} rings: {wall:9.1f} ms ({cpu:.1f} of CPU), {peak:8.0f} MiB, filters {setup:.2f} s",
                flush=True,
            )
        if len(rows) > 1:
            pixels = 2 * math.log(args.rings[-1] / args.rings[0])
            exponents = {name: math.log(rows[-1][name] / rows[0][name]) / pixels for name in ("wall", "cpu", "peak")}
            print("exponents: " + ", ".join(f"{name} {value:.2f}" for name, value in exponents.items()))
    if args.large:
        found = run("growth:2048")
        print("\n2048 x 4096, 3 channels to 16, forward and backward: ", end="")
        print(f"{found['wall'] / 1e3:.1f} s ({found['cpu'] / 1e3:.1f} of CPU), {found['peak']:.0f} MiB")


def correlations(first, second):
    """Of each of our fields with the one of theirs that is most like it: their order around is another."""
    import numpy as np

    table = abs(np.corrcoef(first.reshape(len(first), -1), second.reshape(len(second), -1))[: len(first), len(first) :])
    return ", ".join(f"{value:.6f}" for value in table.max(axis=1))


if __name__ == "__main__":
    if args.part is None:
        main()
    elif args.part.startswith("growth"):
        print(json.dumps(growth(int(args.part.split(":")[1]))))
    else:
        import numpy

        kind, path = args.part.split(":", 1)
        times, fields = ours() if kind == "ours" else theirs()
        numpy.save(path, numpy.stack(fields))
        print(json.dumps(times))
