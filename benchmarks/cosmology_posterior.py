"""A posterior of three cosmological parameters with the emulated matter power, beside that with CAMB in the loop.

    python benchmarks/cosmology_posterior.py [--nodes N] [--tables DIRECTORY] [--save]

Cosmic shear of three bins, whose data are the spectra by CAMB without noise; omega_cdm, h and ln10As are free with
uniform priors, all else is fixed at the truth. Nothing is sampled: both posteriors are integrated by the same
quadrature, so that nothing is random in the difference of their means. It is Gauss-Hermite in ln omega_cdm and ln h; at
each of these nodes the power is computed at seven ln10As, the spectra between them are polynomials, and the integral
over ln10As is a sum over hundreds of points, since the data fix it well where the others are given. One Boltzmann
run serves all ln10As of a node; DIRECTORY keeps what they give for another time. The emulator's posterior is sampled
by NUTS as well, which tells how good the quadrature is. It needs camb beside this project.
"""

from __future__ import annotations

import argparse
import datetime
import importlib.metadata
import math
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from numpyro.diagnostics import effective_sample_size
from scipy.interpolate import BarycentricInterpolator, CubicSpline
from scipy.special import logsumexp

from armillary import core
from armillary_cosmology import (
    Cosmology,
    Nuisance,
    SpectraLikelihood,
    SpectraModel,
    Survey,
    cosmic_shear_cls,
    fiducial_power,
    stage_iv,
)
from armillary_cosmology.power import MatterPower
from armillary_cosmology.power._camb import camb_spectra
from armillary_cosmology.power._design import PIVOT, REFERENCE_LN10AS, REFERENCE_N_S, wavenumbers

HERE = Path(__file__).parent
FREE = ("omega_cdm", "h", "ln10As")
ALIGNMENT = 0.5
# The scatter of ln omega_cdm and ln h in the posterior, about: its Cholesky factor.
SCATTER = np.array([[0.025, 0.0], [0.0088, 0.0077]])
# Of ln10As, less the truth: where the power is computed, and where the posterior is summed.
COARSE = 0.3 * np.cos(math.pi * (np.arange(7) + 0.5) / 7)
DENSE = np.linspace(-0.3, 0.3, 1601)


class Given(NamedTuple):
    """A matter power that is a table, which may be traced."""

    k: np.ndarray
    z: np.ndarray
    table: Any

    def nonlinear(self, _: Cosmology) -> Any:
        return self.table


def camb_tables(nodes: Cosmology, power: MatterPower, directory: Path) -> np.ndarray:
    """CAMB's non-linear power in (Mpc/h)^3 on the wavenumbers of ``power``, at nodes that share all but ln10As."""
    c = nodes
    file = directory / f"{c.omega_cdm:.8f}-{c.h:.8f}.npy"
    if file.exists():
        return np.load(file)
    variants = np.array([(c.n_s, ln10As, c.logT_AGN) for ln10As in c.ln10As])
    run = camb_spectra(np.array([c.omega_b, c.omega_cdm, c.h, c.w0, c.w0 + c.wa]), variants, power.z)
    log_k = np.log(wavenumbers())
    tilt = (c.n_s - REFERENCE_N_S) * (log_k - math.log(PIVOT)) + (c.ln10As[:, None, None] - REFERENCE_LN10AS)
    log_power = CubicSpline(log_k, run["log_linear"] + run["log_boost"] + tilt, axis=-1)(np.log(power.k * c.h))
    tables = np.exp(log_power + 3 * np.log(c.h))
    # Under its name only when it is whole.
    part = file.with_suffix(".part.npy")
    np.save(part, tables)
    part.rename(file)
    return tables


def integrate(
    tables: Callable[[Cosmology], np.ndarray],
    power: MatterPower,
    truth: Cosmology,
    survey: Survey,
    nuisance: Nuisance,
    likelihood: SpectraLikelihood,
    data: np.ndarray,
    num_nodes: int,
) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation of the free parameters, of uniform priors; ``tables`` gives the power at nodes."""

    @jax.jit
    def log_spectra(table: Any, cosmology: Cosmology) -> Any:
        given = Given(power.k, power.z, table)
        return jnp.log(cosmic_shear_cls(given, cosmology, survey, nuisance, survey.ell))

    @jax.jit
    def log_likelihood(log_values: Any) -> Any:
        return jax.lax.map(lambda values: likelihood(jnp.exp(values)).log_prob(jnp.asarray(data)), log_values)

    x, w = np.polynomial.hermite_e.hermegauss(num_nodes)
    points, log_weights = [], []
    for i, j in np.ndindex(num_nodes, num_nodes):
        shift = SCATTER @ [x[i], x[j]]
        omega_cdm, h = truth.omega_cdm * math.exp(shift[0]), truth.h * math.exp(shift[1])
        nodes = truth._replace(omega_cdm=omega_cdm, h=h, ln10As=truth.ln10As + COARSE)
        values = np.stack(
            [
                log_spectra(table, Cosmology(*map(jnp.asarray, nodes._replace(ln10As=ln10As))))
                for table, ln10As in zip(tables(nodes), nodes.ln10As, strict=True)
            ]
        )
        values = BarycentricInterpolator(COARSE, values)(DENSE)
        # Gauss's and Hermite's weight divided out; the prior is uniform in the parameters, not in their logarithms.
        weight = math.log(w[i] * w[j] * omega_cdm * h) + (x[i] ** 2 + x[j] ** 2) / 2
        log_weights.append(np.asarray(log_likelihood(values)) + weight)
        ones = np.ones_like(DENSE)
        points.append(np.stack([omega_cdm * ones, h * ones, truth.ln10As + DENSE], axis=-1))
    flat, where = np.concatenate(log_weights), np.concatenate(points)
    weights = np.exp(flat - logsumexp(flat))
    mean = weights @ where
    return mean, np.sqrt(weights @ (where - mean) ** 2)


def rows(num_nodes: int, directory: Path) -> Iterator[str]:
    power, simulated = MatterPower.pretrained(), fiducial_power()
    truth = simulated.cosmology
    survey = stage_iv(3, num_z=100, num_ell=8, ell_max=1500)
    nuisance = Nuisance.none(survey)
    nuisance = nuisance._replace(alignment=nuisance.alignment + ALIGNMENT)
    yield f"{len(survey.sources)} bins, {len(survey.ell)} multipoles to {survey.ell_edges[-1]}, f_sky {survey.f_sky}"
    fixed = {name: getattr(truth, name) for name in ("omega_b", "n_s", "logT_AGN")}
    fixed |= {"alignment": ALIGNMENT, "calibration": 0.0, "source_shift": 0.0}

    with jax.enable_x64(True):

        def emulated(nodes: Cosmology) -> np.ndarray:
            return np.asarray(power.nonlinear(nodes))

        def computed(nodes: Cosmology) -> np.ndarray:
            return camb_tables(nodes, power, directory)

        # The data by the same run of CAMB that the posterior's are by.
        table = computed(truth._replace(ln10As=truth.ln10As + COARSE))
        given = Given(power.k, power.z, BarycentricInterpolator(COARSE, np.log(table))(0.0))
        spectra = jax.jit(
            lambda n: cosmic_shear_cls(given._replace(table=jnp.exp(given.table)), truth, survey, n, survey.ell)
        )(nuisance)
        likelihood = SpectraLikelihood(survey, np.asarray(spectra))
        data = likelihood.check(np.asarray(spectra).T)
        arguments = (power, truth, survey, nuisance, likelihood, data)
        found = {"emulator": integrate(emulated, *arguments, num_nodes)}
        coarser = integrate(emulated, *arguments, num_nodes - 2)
        found["CAMB"] = integrate(computed, *arguments, num_nodes)
    (emulator, spread), (exact, sigma) = found["emulator"], found["CAMB"]
    yield f"{num_nodes**2} Boltzmann runs{'':25s}" + "".join(f"{name:>12s}" for name in FREE)
    yield row("truth", [getattr(truth, name) for name in FREE])
    yield row("mean, CAMB", exact)
    yield row("mean, emulator", emulator)
    yield row("sigma, CAMB", sigma)
    yield row("sigma, emulator", spread)
    yield row("mean, emulator less CAMB, in sigma", (emulator - exact) / sigma)
    yield row(f"emulator, {num_nodes}^2 less {num_nodes - 2}^2 nodes, in sigma", (emulator - coarser[0]) / sigma)
    start = time.perf_counter()
    tree = core.infer(
        SpectraModel(power, likelihood, fixed=fixed),
        data,
        sampler="blackjax-nuts",
        sampler_options={"dense": True, "start": "laplace"},
        num_warmup=300,
        num_samples=1500,
        progress_bar=False,
        log_likelihood=False,
    )
    draws = np.stack([tree.posterior[name].values for name in FREE], axis=-1).astype(float)
    effective = np.array([effective_sample_size(draws[..., i]) for i in range(len(FREE))])
    yield row("emulator, NUTS less quadrature, in sigma", (draws.mean(axis=(0, 1)) - emulator) / spread)
    yield row("that has a standard error of", 1 / np.sqrt(effective))
    yield row("sigma, NUTS over quadrature", draws.std(axis=(0, 1)) / spread)
    yield f"NUTS, 4 chains of 1500: {time.perf_counter() - start:.0f} s with compilation"


def row(name: str, values: Any) -> str:
    return f"{name:42s}" + "".join(f"{value:12.5f}" for value in values)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--nodes", type=int, default=5, help="in each of ln omega_cdm and ln h")
    parser.add_argument("--tables", type=Path, help="where to keep CAMB's spectra for another run")
    parser.add_argument("--save", action="store_true", help="write the table to benchmarks/results/")
    options = parser.parse_args()
    packages = ("armillary-cosmology", "jax", "numpyro", "camb", "numpy")
    versions = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in packages)
    today, device = datetime.date.today().isoformat(), jax.devices()[0]
    load = ", ".join(f"{x:.1f}" for x in os.getloadavg())
    lines = [f"{today}; {versions}; device {device.device_kind}, {os.cpu_count()} cores, load {load}"]
    print(lines[0], flush=True)
    with tempfile.TemporaryDirectory() as temporary:
        directory = options.tables or Path(temporary)
        directory.mkdir(exist_ok=True, parents=True)
        for line in rows(options.nodes, directory):
            print(line, flush=True)
            lines.append(line)
    if options.save:
        lines.insert(0, f"# python benchmarks/cosmology_posterior.py --nodes {options.nodes}")
        (HERE / "results" / f"{today}-cosmology-posterior-{device.platform}.txt").write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
