"""Transforms over several devices, and several processes: they run in processes of their own, by sharded_cases.py."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

from armillary.sphere import SHT, GaussLegendre, Healpix

SCRIPT = Path(__file__).with_name("sharded_cases.py")
DEFAULT = ["McEwen-Wiaux, complex", "HEALPix, spin 2"]
SLOW = [
    "Gauss-Legendre, spin 2",
    "Driscoll-Healy, real",
    "HEALPix, real",
]
EXHAUSTIVE = [
    "Gauss-Legendre, real",
    "Gauss-Legendre, complex",
    "Gauss-Legendre, fewer orders than devices",
    "McEwen-Wiaux, spin 2",
    "McEwen-Wiaux, symmetric, spin -1",
    "Clenshaw-Curtis, below the grid's bandlimit",
    "HEALPix, complex, highest bandlimit",
    "HEALPix, fewer rings than devices",
]


def start(*arguments):
    # Programs are compiled for longer than they run.
    environment = os.environ | {"JAX_DISABLE_MOST_OPTIMIZATIONS": "1"}
    command = [sys.executable, SCRIPT, *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)


def result(process):
    out, errors = process.communicate(timeout=600)
    assert process.returncode == 0, errors
    return json.loads(out.splitlines()[-1])


@pytest.fixture(scope="module")
def figures():
    return result(start(*DEFAULT, "collectives", "own_maps", "explicit_arrays"))


@pytest.fixture(scope="module")
def slow_figures():
    return result(start(*SLOW, "meshes", "work"))


@pytest.fixture(scope="module")
def exhaustive_figures():
    return result(start(*EXHAUSTIVE, "own_maps_otherwise", "explicit_arrays_otherwise"))


def check(case):
    assert set(case) == {"synthesis", "adjoint_synthesis", "analysis", "adjoint_analysis", "vjp", "jvp", "dot"}
    for name, error in case.items():
        assert error < 1e-13, name


@pytest.mark.parametrize("name", DEFAULT)
def test_same_numbers_on_one_and_on_eight_devices(figures, name):
    check(figures[name])


@pytest.mark.slow
@pytest.mark.parametrize("name", SLOW)
def test_same_numbers_on_other_grids(slow_figures, name):
    check(slow_figures[name])


@pytest.mark.exhaustive
@pytest.mark.parametrize("name", EXHAUSTIVE)
def test_same_numbers_in_all_other_cases(exhaustive_figures, name):
    check(exhaustive_figures[name])


def test_collectives_are_one_all_to_all_and_the_gathering_of_coefficients(figures):
    found = figures["collectives"]
    none = dict.fromkeys(("all-gather", "all-reduce", "collective-permute", "reduce-scatter"), 0)
    assert found["synthesis"] == none | {"all-to-all": 1}
    assert found["adjoint_synthesis"] == none | {"all-to-all": 1, "all-gather": 1}
    assert found["sharding"] == "P('m',)"


def test_maps_of_every_devices_own(figures):
    found = figures["own_maps"]
    assert len(found) == 2
    assert max(found.values()) < 1e-13


@pytest.mark.exhaustive
def test_maps_of_every_devices_own_otherwise(exhaustive_figures):
    found = exhaustive_figures["own_maps_otherwise"]
    assert len(found) == 10
    assert max(found.values()) < 1e-13


def test_arrays_of_a_mesh_with_explicit_axes(figures):
    found = figures["explicit_arrays"]
    assert len(found) == 6
    assert max(found.values()) < 1e-13


@pytest.mark.exhaustive
def test_arrays_of_a_mesh_with_explicit_axes_otherwise(exhaustive_figures):
    found = exhaustive_figures["explicit_arrays_otherwise"]
    assert len(found) == 24
    assert max(found.values()) < 1e-13


@pytest.mark.slow
def test_meshes_of_two_axes(slow_figures):
    assert len(slow_figures["meshes"]) == 20
    assert max(slow_figures["meshes"].values()) < 1e-13


@pytest.mark.slow
def test_work_is_shared_evenly(slow_figures):
    assert slow_figures["work"]["256"] < 1.06
    assert slow_figures["work"]["1000"] < 1.02


def two_processes(name):
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    both = [start(rank, "of", 2, port, name) for rank in range(2)]
    try:
        return [result(process) for process in both]
    finally:
        for process in both:
            process.kill()


@pytest.mark.slow
def test_two_processes():
    # 13 rings over 8 devices: whole maps on each.
    for found in two_processes("Gauss-Legendre, real"):
        assert set(found) == {"devices", "pieces", "synthesis", "gradient"}
        assert found.pop("devices") == 8
        assert found.pop("pieces") == [[3, 13, 25]] * 4
        assert max(found.values()) < 1e-13


@pytest.mark.exhaustive
def test_two_processes_and_healpix():
    for found in two_processes("HEALPix, spin 2"):
        assert set(found) == {"devices", "pieces", "synthesis", "gradient"}
        assert found.pop("devices") == 8
        assert found.pop("pieces") == [[2, 24]] * 4
        assert max(found.values()) < 1e-13


def on_one_device():
    return NamedSharding(jax.make_mesh((1,), ("m",)), P("m"))


@pytest.mark.parametrize("grid", [GaussLegendre(24), pytest.param(Healpix(8), marks=pytest.mark.slow)])
def test_single_precision_stays_and_is_accurate(grid):
    sht = SHT(grid, real=True, sharding=on_one_device())
    rng = np.random.default_rng(0)
    alm = rng.normal(size=(sht.L, 2 * sht.L - 1)) + 1j * rng.normal(size=(sht.L, 2 * sht.L - 1))
    f = sht.synthesis(alm.astype(np.complex64))
    assert f.dtype == np.float32
    back = sht.adjoint_synthesis(f)
    assert back.dtype == np.complex64
    with jax.enable_x64(True):
        plain = SHT(grid, real=True)
        expected = plain.synthesis(alm)
        np.testing.assert_allclose(f, expected, atol=1e-5 * abs(expected).max())
        expected = plain.adjoint_synthesis(expected)
        np.testing.assert_allclose(back, expected, atol=1e-5 * abs(expected).max())


def test_a_sharded_transform_is_a_value():
    one, other = (SHT(GaussLegendre(8), sharding=on_one_device()) for _ in range(2))
    assert one == other
    assert hash(one) == hash(other)
    assert one != SHT(GaussLegendre(8))
    assert one.engine == "jax"
    alm = jnp.zeros((8, 15), np.complex64)
    assert jax.jit(lambda sht, alm: sht.synthesis(alm))(one, alm).shape == (8, 15)


def test_bad_shardings():
    mesh = jax.make_mesh((1,), ("m",))
    with pytest.raises(ValueError, match=r"sharding='m': a jax.sharding.NamedSharding"):
        SHT(GaussLegendre(8), sharding="m")
    for spec in (P(), P(None), P(None, "m"), P("m", None), P(())):
        with pytest.raises(ValueError, match=r"one entry is needed.*\('m',\)"):
            SHT(GaussLegendre(8), sharding=NamedSharding(mesh, spec))
    for backend in ("ducc", "table", "pallas"):
        with pytest.raises(ValueError, match=f"backend='{backend}' does not run over several devices.*backend='jax'"):
            SHT(GaussLegendre(8), backend=backend, sharding=NamedSharding(mesh, P("m")))
