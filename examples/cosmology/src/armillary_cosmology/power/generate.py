"""Make training data with CAMB: ``python -m armillary_cosmology.power.generate --out training.zarr --models 1000``.

It can be killed at any time and started again with the same arguments.
"""

from __future__ import annotations

import argparse
import os
import sys
import time


def main(argv: list[str] | None = None) -> int:
    """Run the command line; the exit status is that of the process."""
    parser = argparse.ArgumentParser(prog="python -m armillary_cosmology.power.generate", description=__doc__)
    parser.add_argument("--out", required=True, help="the Zarr group to write, or to go on from")
    parser.add_argument("--models", type=int, required=True, help="the number of Boltzmann runs")
    parser.add_argument("--variants", type=int, default=6, help="(n_s, A_s, feedback) for each run")
    parser.add_argument("--redshifts", type=int, default=16, help="redshifts for each run")
    parser.add_argument("--threads", type=int, default=1, help="threads of CAMB")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args(argv)
    os.environ["OMP_NUM_THREADS"] = str(arguments.threads)
    import camb

    from ._camb import K_MAX, camb_spectra
    from ._design import sobol_design
    from ._training_set import write_training_set

    design = sobol_design(arguments.models, arguments.variants, arguments.redshifts, arguments.seed)
    start, first = time.monotonic(), None

    def report(done: int, total: int) -> None:
        nonlocal first
        first = done - 1 if first is None else first
        rate = (time.monotonic() - start) / (done - first)
        if done % 10 == 0 or done == total:
            print(f"{done} of {total} models, {rate:.2f} s each", file=sys.stderr, flush=True)

    failed = write_training_set(
        arguments.out, design, camb_spectra, attributes={"camb": camb.__version__, "k_max": K_MAX}, report=report
    )
    print(f"{arguments.models - failed} models are in {arguments.out}, {failed} failed", file=sys.stderr)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
