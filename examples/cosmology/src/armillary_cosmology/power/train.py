"""Train `MatterPower`: ``python -m armillary_cosmology.power.train --data training.zarr --out folder``.

Writes linear.npz and boost.npz, and their accuracy over models that were held out as accuracy.txt, accuracy.csv and
two figures. It can be killed at any time and started again with the same arguments.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

import numpy as np

ACCURATE = (1e-3, 5.0)
"""The wavenumbers in h/Mpc that the first of two tables is about."""


def main(argv: list[str] | None = None) -> int:
    """Run the command line; the exit status is that of the process."""
    parser = argparse.ArgumentParser(prog="python -m armillary_cosmology.power.train", description=__doc__)
    parser.add_argument("--data", required=True, help="what armillary_cosmology.power.generate has written")
    parser.add_argument("--out", required=True, type=Path, help="a folder, made if it is not there")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--linear-epochs", type=int, help="instead of as many as suit a thousand models")
    parser.add_argument("--boost-epochs", type=int)
    parser.add_argument("--held-out", type=Path, help="write a sample of the spectra held out to this .npz file")
    arguments = parser.parse_args(argv)
    import jax

    # The features are computed in double precision; the networks are trained in single all the same.
    with jax.enable_x64(True):
        return _train(arguments)


def _train(arguments: argparse.Namespace) -> int:
    from . import _fit
    from ._training_set import read_training_set

    linear, boost = (
        default if epochs is None else default._replace(num_epochs=epochs)
        for default, epochs in (
            (_fit.LINEAR_SETTINGS, arguments.linear_epochs),
            (_fit.BOOST_SETTINGS, arguments.boost_epochs),
        )
    )
    data = read_training_set(arguments.data)
    training, validation, test = _fit.split(data, arguments.seed)
    arguments.out.mkdir(parents=True, exist_ok=True)
    power = _fit.fit(
        training, validation, arguments.out, linear=linear, boost=boost, seed=arguments.seed, progress_bar=True
    )
    reports = dict(zip(("linear", "nonlinear"), _fit.held_out_accuracy(power, test), strict=True))
    _write_accuracy(arguments.out, power.k, reports, tuple(len(part.models) for part in (training, validation, test)))
    if arguments.held_out is not None:
        np.savez_compressed(arguments.held_out, **_sample(test))  # type: ignore[arg-type]
    print((arguments.out / "accuracy.txt").read_text())
    return 0


def _write_accuracy(directory: Path, k: np.ndarray, reports: dict, models: tuple[int, ...]) -> None:
    """Tables, and a figure of each."""
    within = (k >= ACCURATE[0]) & (k <= ACCURATE[1])
    lines = [
        f"Boltzmann runs: {models[0]} trained on, {models[1]} to validate, {models[2]} held out.",
        "Relative errors of spectra held out, the largest over z = 0 to 3.",
    ]
    for name, report in reports.items():
        inner = replace(report, errors=report.errors[:, within])
        lines += ["", f"{name}, k = {ACCURATE[0]:g} to {ACCURATE[1]:g} h/Mpc", inner.table()]
        lines += ["", f"{name}, k = {k[0]:g} to {k[-1]:.3g} h/Mpc", report.table()]
    (directory / "accuracy.txt").write_text("\n".join(lines) + "\n")
    columns = [k, *(row for report in reports.values() for row in report.per_bin)]
    head = ["k_h_per_Mpc", *(f"{name}_{p}" for name in reports for p in ("68", "95", "99", "99.9"))]
    np.savetxt(directory / "accuracy.csv", np.transpose(columns), "%.3e", ",", header=",".join(head), comments="")
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    for name, report in reports.items():
        figure, axes = plt.subplots(figsize=(6, 3.5), layout="constrained")
        report.plot(k, ax=axes)
        axes.set(xscale="log", xlabel="k in h/Mpc", title=f"{name}, {len(report.errors)} spectra held out")
        figure.savefig(directory / f"accuracy_{name}.png", dpi=90)
        plt.close(figure)


def _sample(test) -> dict[str, np.ndarray]:
    """A few models, redshifts and wavenumbers of those held out, for tests that have no CAMB."""
    runs, step = slice(0, 12), 4
    redshifts = np.unique(np.linspace(0, test.z.shape[1] - 1, 5).round().astype(int))
    return {
        "models": test.models[runs],
        "variants": test.variants[runs, :2],
        "z": test.z[runs][:, redshifts],
        "k": test.k[::step],
        "log_linear": test.log_linear[runs][:, redshifts, ::step],
        "log_boost": test.log_boost[runs, :2][:, :, redshifts, ::step],
    }


if __name__ == "__main__":
    raise SystemExit(main())
