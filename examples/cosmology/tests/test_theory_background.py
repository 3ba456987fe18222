"""Distances and growth against CAMB and pyccl, whose numbers are kept here beside the calls that gave them."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from armillary_cosmology import Cosmology, comoving_distance, expansion_rate, growth_factor, omega_matter

pytestmark = pytest.mark.usefixtures("quick_compilation")

Z = np.array([0.01, 0.1, 0.5, 1.0, 2.0, 3.0, 6.0, 10.0])
LCDM = Cosmology(0.0224, 0.12, 0.67, 0.965, 3.05)
DARK = Cosmology(0.0224, 0.12, 0.75, 0.965, 3.05, -0.8, -0.6)

# Of camb 2.0.5: set_cosmology(H0=100 * h, ombh2=omega_b, omch2=omega_cdm, mnu=0.06, num_massive_neutrinos=1,
# nnu=3.044, TCMB=2.7255), set_dark_energy(w0, wa, "ppf"), get_background: h times comoving_radial_distance(Z) in Mpc,
# and hubble_parameter(Z) in km/s/Mpc.
CAMB = {
    "lcdm": (
        LCDM,
        [
            29.9074402509,
            292.508826205,
            1313.54120163,
            2287.43327043,
            3569.02846158,
            4369.15892191,
            5653.79876152,
            6463.53550059,
        ],
        [
            67.3227948826,
            70.4460529381,
            88.813205144,
            120.447373963,
            204.229396388,
            307.733204855,
            703.260260534,
            1382.86918588,
        ],
        0.3186564922597913,
    ),
    "dark": (
        DARK,
        [
            29.889058624,
            291.203904422,
            1313.0949965,
            2329.11576905,
            3729.24217818,
            4622.04071652,
            6061.70377208,
            6968.86556013,
        ],
        [
            75.4526277769,
            79.4383014203,
            97.609527669,
            126.252517992,
            205.858128243,
            307.744764723,
            702.435809045,
            1382.20164249,
        ],
        0.2543020433340806,
    ),
}
# Of pyccl 3.3.6 for the second, by `pyccl_growth`.
PYCCL_GROWTH = [
    0.995356006776,
    0.954445361098,
    0.792358726919,
    0.635792564809,
    0.441050359361,
    0.333779104602,
    0.191612051048,
    0.122068665141,
]


def camb_background(cosmology):
    camb = pytest.importorskip("camb")
    parameters = camb.CAMBparams()
    parameters.set_cosmology(
        H0=100 * cosmology.h,
        ombh2=cosmology.omega_b,
        omch2=cosmology.omega_cdm,
        mnu=0.06,
        num_massive_neutrinos=1,
        nnu=3.044,
        TCMB=2.7255,
    )
    parameters.set_dark_energy(w=cosmology.w0, wa=cosmology.wa, dark_energy_model="ppf")
    background = camb.get_background(parameters)
    distance = background.comoving_radial_distance(Z) * cosmology.h
    return distance, background.hubble_parameter(Z), parameters.omegam


def pyccl_growth(cosmology):
    pyccl = pytest.importorskip("pyccl")
    h = cosmology.h
    return pyccl.Cosmology(
        Omega_c=cosmology.omega_cdm / h**2,
        Omega_b=cosmology.omega_b / h**2,
        h=h,
        n_s=cosmology.n_s,
        A_s=2.1e-9,
        m_nu=0.06,
        mass_split="single",
        Neff=3.044,
        T_ncdm=(4 / 11) ** (1 / 3) * (3.044 / 3) ** 0.25,
        w0=cosmology.w0,
        wa=cosmology.wa,
        transfer_function="boltzmann_camb",
    ).growth_factor(1 / (1 + Z))


@pytest.mark.parametrize("name", CAMB)
def test_distance_and_rate_are_those_of_camb(name, x64):
    cosmology, distance, rate, omega_m = CAMB[name]
    np.testing.assert_allclose(comoving_distance(cosmology, Z), distance, rtol=1e-8)
    np.testing.assert_allclose(expansion_rate(cosmology, Z) * 100 * cosmology.h, rate, rtol=1e-8)
    np.testing.assert_allclose(omega_matter(cosmology), omega_m, rtol=1e-8)


def test_growth_is_that_of_pyccl(x64):
    np.testing.assert_allclose(growth_factor(DARK, Z), PYCCL_GROWTH, rtol=3e-5)


@pytest.mark.parametrize("name", CAMB)
def test_the_numbers_kept_are_those_of_camb(name):
    for kept, now in zip(CAMB[name][1:], camb_background(CAMB[name][0]), strict=True):
        np.testing.assert_allclose(kept, now, rtol=1e-9)


@pytest.mark.slow
def test_the_growth_kept_is_that_of_pyccl():
    np.testing.assert_allclose(PYCCL_GROWTH, pyccl_growth(DARK), rtol=1e-6)


@pytest.mark.parametrize("function", [comoving_distance, expansion_rate, growth_factor])
def test_float32_stays_so_and_is_accurate(function):
    single = Cosmology(*(jnp.float32(leaf) for leaf in DARK))
    found = function(single, Z)
    with jax.enable_x64(True):
        expected = np.asarray(function(DARK, Z))
    assert found.dtype == jnp.float32
    np.testing.assert_allclose(found, expected, rtol=3e-6)


def test_a_batch_is_a_loop_and_the_gradient_is_that_of_differences(x64):
    @jax.jit
    def summary(parameters):
        cosmology = Cosmology(*parameters)
        return jnp.sum(growth_factor(cosmology, Z), -1) + jnp.sum(jnp.log(comoving_distance(cosmology, Z)), -1)

    at, step = np.array(DARK), 1e-5 * np.eye(len(DARK))
    each = jnp.asarray(np.stack([at + step, at - step], axis=1).reshape(-1, len(at)))
    batch = summary(each.T)
    np.testing.assert_allclose(batch, [summary(one) for one in each], rtol=1e-13)
    slopes = jax.jit(jax.grad(summary))(jnp.asarray(at))
    np.testing.assert_allclose(slopes, (batch[::2] - batch[1::2]) / 2e-5, rtol=1e-6, atol=1e-8)
