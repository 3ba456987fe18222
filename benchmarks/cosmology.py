"""The spectra of cosmic shear by the emulated matter power beside CAMB and pyccl: their time, and how they differ.

    python benchmarks/cosmology.py [--repeats N] [--save]

Ten bins, 55 spectra at 30 multipoles from 30 to 3000. Ours is one jitted function of 8 cosmological parameters and 30
of the bins; its gradient is that of the log-likelihood of a survey, by all 38. Theirs is a run of CAMB with HMCode-2020
and feedback at 31 redshifts, and Limber's integral by pyccl; it has no gradient, and finite differences would take a
run for each parameter, or two. All of it is in one process, which therefore needs camb and pyccl beside this project.
The times are medians of wall times and the least of them, compilation and a first call apart; on a machine with other
work the least say more.
"""

from __future__ import annotations

import argparse
import datetime
import importlib.metadata
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import camb
import jax
import jax.numpy as jnp
import numpy as np
import pyccl

from armillary_cosmology import (
    Cosmology,
    Nuisance,
    SpectraLikelihood,
    Survey,
    TabulatedPower,
    cosmic_shear_cls,
    pairs,
    stage_iv,
)
from armillary_cosmology.power import MatterPower
from armillary_cosmology.power._camb import K_MAX

HERE = Path(__file__).parent
Z = np.linspace(0.0, 3.0, 31)
COSMOLOGIES = {
    "LCDM": Cosmology(0.0224, 0.12, 0.67, 0.965, 3.05),
    "w0 = -0.9, wa = -0.3": Cosmology(0.0224, 0.12, 0.67, 0.965, 3.05, -0.9, -0.3),
    "all parameters moved": Cosmology(0.0235, 0.135, 0.74, 0.93, 2.9, -1.1, 0.2, 8.0),
}


def camb_power(cosmology: Cosmology) -> tuple[np.ndarray, np.ndarray]:
    """Wavenumbers in h/Mpc, and the non-linear power in (Mpc/h)^3 at `Z`, as the emulators were trained on."""
    c = cosmology
    p = camb.CAMBparams()
    p.set_cosmology(H0=100 * c.h, ombh2=c.omega_b, omch2=c.omega_cdm, mnu=0.06, tau=0.06)
    p.set_dark_energy(w=c.w0, wa=c.wa, dark_energy_model="ppf")
    p.InitPower.set_params(As=1e-10 * np.exp(c.ln10As), ns=c.n_s)
    p.WantCls = p.Want_CMB = False
    p.set_matter_power(redshifts=list(Z[::-1]), kmax=K_MAX, silent=True)
    p.NonLinear = camb.model.NonLinear_pk
    p.NonLinearModel.set_params(halofit_version="mead2020_feedback", HMCode_logT_AGN=c.logT_AGN)
    k, _, power = camb.get_results(p).get_nonlinear_matter_power_spectrum(hubble_units=True, k_hunit=True)
    return k, power


def pyccl_shear(
    cosmology: Cosmology,
    k: np.ndarray,
    power: np.ndarray,
    survey: Survey,
    nuisance: Nuisance,
    fine: bool = False,
) -> np.ndarray:
    """Our spectra by pyccl, of a table in our units.

    Args:
        cosmology: of which pyccl computes distances and growth.
        k: in h/Mpc.
        power: in (Mpc/h)^3, a row for each of `Z`.
        survey: the bins.
        nuisance: alignments are used; the others have to be none.
        fine: for a comparison of numbers, splines of the distributions at 4000 redshifts and the tracers sampled more
            often; pyccl itself draws straight lines between the redshifts of the survey.
    """
    c = cosmology
    universe = pyccl.Cosmology(
        Omega_c=c.omega_cdm / c.h**2,
        Omega_b=c.omega_b / c.h**2,
        h=c.h,
        n_s=c.n_s,
        A_s=1e-10 * np.exp(c.ln10As),
        m_nu=0.06,
        mass_split="single",
        Neff=3.044,
        T_ncdm=(4 / 11) ** (1 / 3) * (3.044 / 3) ** 0.25,
        w0=c.w0,
        wa=c.wa,
        transfer_function="boltzmann_camb",  # not called: the power is given
    )
    # Beyond the last wavenumber ln P goes on as a straight line, as ours does.
    table = pyccl.Pk2D(
        a_arr=1 / (1 + Z[::-1]),
        lk_arr=np.log(k * c.h),
        pk_arr=np.log(power[::-1] / c.h**3),
        is_logp=True,
        extrap_order_hik=1,
    )
    z, options = survey.z, {}
    rows = survey.sources
    if fine:
        from scipy.interpolate import CubicSpline

        z, options = np.linspace(0.0005, survey.z[-1], 4000), {"n_samples": 1024}
        nodes, padded = np.append(0, survey.z), np.pad(rows, ((0, 0), (1, 0)))
        rows = np.maximum(CubicSpline(nodes, padded, axis=-1)(z), 0)
    tracers = [
        pyccl.WeakLensingTracer(universe, dndz=(z, row), ia_bias=(z, np.full_like(z, amplitude)), **options)
        for row, amplitude in zip(rows, np.asarray(nuisance.alignment, dtype=float), strict=True)
    ]
    each = zip(*pairs(len(tracers)), strict=True)
    return np.array([pyccl.angular_cl(universe, tracers[i], tracers[j], survey.ell, p_of_k_a=table) for i, j in each])


def seconds(function: Callable[..., Any], *arguments: Any, repeats: int) -> np.ndarray:
    """The first call, and the median and the least of the others."""
    found = []
    for _ in range(repeats + 1):
        start = time.perf_counter()
        jax.block_until_ready(function(*arguments))
        found.append(time.perf_counter() - start)
    return np.array([found[0], np.median(found[1:]), min(found[1:])])


def times(survey: Survey, nuisance: Nuisance, repeats: int) -> Iterator[str]:
    cosmology = COSMOLOGIES["LCDM"]
    k, power = camb_power(cosmology)
    boltzmann = seconds(camb_power, cosmology, repeats=repeats)
    limber = seconds(pyccl_shear, cosmology, k, power, survey, nuisance, repeats=repeats)
    whole = boltzmann + limber
    yield (
        f"{'':40s} {'bits':>5s} {'first/s':>8s} {'median/ms':>10s} {'least/ms':>10s} "
        f"{'theirs over it, medians':>24s} {'least':>8s}"
    )
    theirs = {"CAMB, matter power": boltzmann, "pyccl, Limber integral": limber, "CAMB and pyccl, one value": whole}
    for name, (first, median, least) in theirs.items():
        yield f"{name:40s} {64:5d} {first:8.1f} {1e3 * median:10.1f} {1e3 * least:10.1f}"
    matter = MatterPower.pretrained()
    expected = pyccl_shear(cosmology, k, power, survey, nuisance)
    measured = SpectraLikelihood(survey, expected)
    data = measured.check(measured(expected).sample(jax.random.key(0)))

    def spectra(cosmology, nuisance):
        return cosmic_shear_cls(matter, cosmology, survey, nuisance, survey.ell)

    def log_likelihood(cosmology, nuisance):
        return measured(spectra(cosmology, nuisance)).log_prob(jnp.asarray(data, float))

    functions = {
        "ours, one value": jax.jit(spectra),
        "ours, log-likelihood and gradient": jax.jit(jax.value_and_grad(log_likelihood, argnums=(0, 1))),
    }
    for x64 in (False, True):
        with jax.enable_x64(x64):
            arguments = jax.tree.map(lambda leaf: jnp.asarray(leaf, float), (cosmology, nuisance))
            for name, function in functions.items():
                found = seconds(function, *arguments, repeats=20 * repeats)
                first, median, least = found
                _, by_median, by_least = whole / found
                yield (
                    f"{name:40s} {64 if x64 else 32:5d} {first:8.1f} {1e3 * median:10.2f} {1e3 * least:10.2f} "
                    f"{by_median:23.0f}x {by_least:7.0f}x"
                )


def differences(survey: Survey, nuisance: Nuisance) -> Iterator[str]:
    matter = MatterPower.pretrained()
    emulated = jax.jit(lambda cosmology: cosmic_shear_cls(matter, cosmology, survey, nuisance, survey.ell))
    yield f"{'largest relative difference, all pairs and l':48s} {'same P(k, z)':>14s} {'emulated P(k, z)':>17s}"
    with jax.enable_x64(True):
        for name, cosmology in COSMOLOGIES.items():
            k, power = camb_power(cosmology)
            theirs = pyccl_shear(cosmology, k, power, survey, nuisance, fine=True)
            # Of the linear spectrum nothing is used.
            table = TabulatedPower(cosmology, k, Z, power, power)
            same = jax.jit(lambda n, c=cosmology, p=table: cosmic_shear_cls(p, c, survey, n, survey.ell))(nuisance)
            by_table, by_network = (np.max(np.abs(found / theirs - 1)) for found in (same, emulated(cosmology)))
            yield f"{name:48s} {100 * by_table:12.3f} % {100 * by_network:15.3f} %"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=5, help="of CAMB and pyccl; twenty times as many of ours")
    parser.add_argument("--save", action="store_true", help="write the table to benchmarks/results/")
    options = parser.parse_args()
    survey = stage_iv(10)
    nuisance = Nuisance.none(survey)._replace(alignment=jnp.linspace(0.3, 0.8, 10))
    packages = ("armillary-cosmology", "jax", "camb", "pyccl", "numpy")
    versions = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in packages)
    today = datetime.date.today().isoformat()
    device = jax.devices()[0]
    load = ", ".join(f"{x:.1f}" for x in os.getloadavg())
    lines = [f"{today}; {versions}; device {device.device_kind}, {os.cpu_count()} cores, load {load}"]
    print(lines[0], flush=True)
    for part in (times(survey, nuisance, options.repeats), differences(survey, nuisance)):
        for line in part:
            print(line, flush=True)
            lines.append(line)
    if options.save:
        path = HERE / "results" / f"{today}-cosmology-{device.platform}.txt"
        lines.insert(0, f"# python benchmarks/cosmology.py --repeats {options.repeats}")
        path.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
