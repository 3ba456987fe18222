"""Peers of the evidence benchmark, for an environment of their own: harmonic 1.3.1 needs an older JAX.

    python3 -m venv PEERS && PEERS/bin/pip install harmonic==1.3.1 dynesty
    python benchmarks/evidence.py --peers PEERS/bin/python

Each subcommand prints one line of JSON: ln Z and its error for each file or run, and the seconds that each took.
"""

from __future__ import annotations

import argparse
import json
import time
from importlib import metadata

import numpy as np


def versions(options: argparse.Namespace) -> dict:
    return {"versions": [f"{name} {metadata.version(name)}" for name in ("harmonic", "dynesty")]}


def by_harmonic(options: argparse.Namespace) -> dict:
    """Its spline flow with its defaults, on standardised samples: trained on half of the chains, used for the other."""
    import harmonic
    import jax

    jax.config.update("jax_enable_x64", True)

    def estimate(file: str, seed: int, epochs: int) -> tuple[float, float]:
        with np.load(file) as arrays:
            samples, log_density = arrays["samples"], arrays["log_density"]
        chains = harmonic.Chains(samples.shape[2])
        chains.add_chains_3d(samples, log_density)
        train, infer = harmonic.utils.split_data(chains, training_proportion=0.5)
        model = harmonic.model.RQSplineModel(samples.shape[2], standardize=True, temperature=options.temperature)
        model.fit(train.samples, epochs=epochs, key=jax.random.PRNGKey(seed))
        found = harmonic.Evidence(infer.nchains, model)
        found.add_chains(infer)
        # Its errors are of ln(1 / Z), downwards and upwards, NaN where the first has no end; their mean is compared.
        low, high = (float(error) for error in found.compute_ln_inv_evidence_errors())
        return -float(found.ln_evidence_inv), 0.5 * (high - low)

    def timed(*arguments) -> tuple[tuple[float, float], float]:
        start = time.perf_counter()
        found = estimate(*arguments)
        return found, time.perf_counter() - start

    first = options.files[0]
    estimate(first, 0, 1)  # what JAX keeps from a first call is not counted
    one, eleven = (timed(first, 0, number)[1] for number in (1, 11))
    epoch = max((eleven - one) / 10, 1e-3)
    # Its default is 3.
    epochs = max(3, int((options.seconds - (one - epoch)) / epoch))
    found = [timed(file, seed, epochs) for seed, file in enumerate(options.files)]
    return {"found": [f for f, _ in found], "seconds": [s for _, s in found], "epochs": epochs}


def by_dynesty(options: argparse.Namespace) -> dict:
    """The chain Rosenbrock density on the box [-5, 5]^dim, by nested sampling with its defaults."""
    import dynesty

    def log_likelihood(x: np.ndarray) -> float:
        return -float(np.sum(100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2))

    start = time.perf_counter()
    sampler = dynesty.NestedSampler(
        log_likelihood, lambda u: 10 * u - 5, options.dim, nlive=options.live, rstate=np.random.default_rng(0)
    )
    sampler.run_nested(print_progress=False)
    found = (float(sampler.results.logz[-1]), float(sampler.results.logzerr[-1]))
    return {"found": [found], "seconds": [time.perf_counter() - start]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True)
    commands.add_parser("versions").set_defaults(run=versions)
    harmonic = commands.add_parser("harmonic")
    harmonic.add_argument("--seconds", type=float, required=True, help="the time that an estimate may take")
    harmonic.add_argument("--temperature", type=float, default=0.8)
    harmonic.add_argument("files", nargs="+")
    harmonic.set_defaults(run=by_harmonic)
    dynesty = commands.add_parser("dynesty")
    dynesty.add_argument("--live", type=int, required=True)
    dynesty.add_argument("dim", type=int)
    dynesty.set_defaults(run=by_dynesty)
    options = parser.parse_args()
    print(json.dumps(options.run(options)))


if __name__ == "__main__":
    main()
