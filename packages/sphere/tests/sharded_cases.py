"""What test_sharding.py runs in processes of several devices: prints a JSON object of figures.

The arguments are the names of cases; or the process's number, "of", how many, the coordinator's port, and one case.
"""

import itertools
import json
import os
import re
import sys

os.environ["JAX_PLATFORMS"] = "cpu"
os.environ["XLA_FLAGS"] = f"--xla_force_host_platform_device_count={8 if 'of' not in sys.argv else 4}"

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

from armillary.sphere import SHT, ClenshawCurtis, DriscollHealy, GaussLegendre, Healpix, McEwenWiaux, McEwenWiauxSS

jax.config.update("jax_enable_x64", True)

CASES = {
    "Gauss-Legendre, real": (GaussLegendre(13), {"real": True}, (3,)),
    "McEwen-Wiaux, complex": (McEwenWiaux(15), {}, (3,)),
    "HEALPix, spin 2": (Healpix(4), {"spin": 2}, (2,)),
    "Gauss-Legendre, complex": (GaussLegendre(33), {}, (2,)),
    "Gauss-Legendre, spin 2": (GaussLegendre(16), {"spin": 2}, ()),
    "Gauss-Legendre, fewer orders than devices": (GaussLegendre(3), {}, ()),
    "McEwen-Wiaux, spin 2": (McEwenWiaux(16), {"spin": 2}, ()),
    "McEwen-Wiaux, symmetric, spin -1": (McEwenWiauxSS(15), {"spin": -1}, ()),
    "Driscoll-Healy, real": (DriscollHealy(12), {"real": True}, ()),
    "Clenshaw-Curtis, below the grid's bandlimit": (ClenshawCurtis(12, 20, 31), {"L": 9, "spin": 1}, ()),
    "HEALPix, real": (Healpix(8), {"real": True, "L": 20}, (3,)),
    "HEALPix, complex, highest bandlimit": (Healpix(4), {"L": 16}, ()),
    "HEALPix, fewer rings than devices": (Healpix(1), {"real": True}, ()),
}


def data(sht, batch):
    rng = np.random.default_rng(0)
    alm = rng.normal(size=(2, *batch, sht.L, 2 * sht.L - 1))
    f = rng.normal(size=(2, *batch, *sht.grid.shape))
    return alm[0] + 1j * alm[1], f[0] if sht.real else f[0] + 1j * f[1]


def everything(sht):
    """All four operations, a vector-Jacobian product and a Jacobian-vector product, in one program."""

    @jax.jit
    def run(alm, f):
        image, pull_back = jax.vjp(sht.synthesis, alm)
        return {
            "synthesis": image,
            "adjoint_synthesis": sht.adjoint_synthesis(f),
            "analysis": sht.analysis(f),
            "adjoint_analysis": sht.adjoint_analysis(alm),
            "vjp": pull_back(f)[0],
            "jvp": jax.jvp(sht.analysis, (f,), (f,))[1],
        }

    return run


def energy(sht):
    return lambda alm: (jnp.abs(sht.synthesis(alm)) ** 2).sum()


def difference(a, b):
    return float(np.abs(np.asarray(a) - np.asarray(b)).max() / np.abs(np.asarray(b)).max())


def over(axis_type=AxisType.Auto, shape=(8,), names=("m",), spec=("m",)):
    return NamedSharding(jax.make_mesh(shape, names, axis_types=(axis_type,) * len(shape)), P(*spec))


def same_numbers(name):
    grid, kwargs, batch = CASES[name]
    plain, shared = SHT(grid, backend="jax", **kwargs), SHT(grid, sharding=over(), **kwargs)
    alm, f = data(plain, batch)
    expected, found = everything(plain)(alm, f), everything(shared)(alm, f)
    figures = {key: difference(found[key], expected[key]) for key in expected}
    dot = np.vdot(f, found["synthesis"]) - np.vdot(found["adjoint_synthesis"], alm)
    figures["dot"] = float(abs(dot.real if plain.real else dot) / abs(np.vdot(f, f)))
    return figures


def collectives():
    """How many of each there are in the compiled programs, and what the maps' sharding is."""
    sht = SHT(GaussLegendre(16), real=True, sharding=over())
    alm, f = data(sht, ())
    figures = {}
    for name, x in (("synthesis", alm), ("adjoint_synthesis", f)):
        text = jax.jit(getattr(sht, name)).lower(x).compile().as_text()
        kinds = ("all-to-all", "all-gather", "all-reduce", "collective-permute", "reduce-scatter")
        figures[name] = {kind: len(re.findall(rf" {kind}(?:-start)?\(", text)) for kind in kinds}
    figures["sharding"] = str(jax.jit(sht.synthesis)(alm).sharding.spec)
    return figures


def meshes():
    """Meshes of two axes, automatic or explicit, with a batch that one of them may split; and vmap."""
    grid = GaussLegendre(8)
    plain = SHT(grid, backend="jax", spin=1)
    alm, _ = data(plain, (4, 3))
    expected = plain.synthesis(alm)
    figures = {}
    for kind in (AxisType.Auto, AxisType.Explicit):
        for spec in (P("m"), P(("data", "m"))):
            sharding = over(kind, (2, 4), ("data", "m"), spec)
            sht = SHT(grid, sharding=sharding, spin=1)
            for where in (None, P(), P("data"), P(None, None, "m")):
                x = alm if where is None else jax.device_put(alm, NamedSharding(sharding.mesh, where))
                figures[f"{kind} {spec} {where}"] = difference(sht.synthesis(x), expected)
            mapped = jax.vmap(sht.synthesis, in_axes=1, out_axes=1)(alm)
            figures[f"{kind} {spec} vmap"] = difference(mapped, expected)
    return figures


def own_maps(backends=("auto",), checks=(True,)):
    """Every device transforms maps of its own, in a `shard_map` of the user's."""
    figures = {}
    for backend in backends:
        sht = SHT(GaussLegendre(8), real=True, backend=backend)
        _, f = data(sht, (16,))
        expected = np.asarray(sht.analysis(f))
        mesh = jax.make_mesh((8,), ("data",), axis_types=(AxisType.Auto,))
        for check in checks:
            each = jax.shard_map(sht.analysis, mesh=mesh, in_specs=P("data"), out_specs=P("data"), check_vma=check)
            power, gradient = jax.jit(jax.value_and_grad(lambda f, each=each: (jnp.abs(each(f)) ** 2).sum()))(f)
            figures[f"{backend} {check} value"] = difference(power, (np.abs(expected) ** 2).sum())
            figures[f"{backend} {check} gradient"] = difference(gradient, 2 * sht.adjoint_analysis(expected))
    return figures


def own_maps_otherwise():
    return own_maps(("jax", "table"), (True, False)) | own_maps(("auto",), (False,))


def explicit_arrays():
    return on_an_explicit_mesh(GaussLegendre(8), "auto")


def explicit_arrays_otherwise():
    cases = itertools.product((McEwenWiaux(8), Healpix(4)), ("jax", "table"))
    return {key: value for case in cases for key, value in on_an_explicit_mesh(*case).items()}


def on_an_explicit_mesh(grid, backend):
    """Transforms without a sharding, of arrays whose types say where they are."""
    mesh = jax.make_mesh((2, 4), ("data", "m"), axis_types=(AxisType.Explicit,) * 2)
    sht = SHT(grid, L=8, backend=backend)
    alm, _ = data(sht, (4,))
    expected, gradient = np.asarray(sht.synthesis(alm)), jax.grad(energy(sht))(jnp.asarray(alm))
    back = sht.analysis(expected)
    figures = {}
    for where in (P("data"), P(None, "m")):
        x = jax.device_put(alm, NamedSharding(mesh, where))
        with jax.set_mesh(mesh):
            f = sht.synthesis(x)
            assert jax.typeof(f).sharding.spec[0] == where[0]
            key = f"{type(grid).__name__} {backend} {where}"
            figures[f"{key} synthesis"] = difference(f, expected)
            figures[f"{key} analysis"] = difference(sht.analysis(f), back)
            figures[f"{key} gradient"] = difference(jax.grad(energy(sht))(x), gradient)
    return figures


def work():
    """The largest number of steps that a device recurs over, over the mean."""
    from armillary.sphere._sharded import Devices

    figures = {}
    for L in (31, 256, 1000):
        devices = Devices(SHT(GaussLegendre(L), sharding=over()), jnp.zeros((1, L, 2 * L - 1)))
        orders = devices.run(lambda _, devices=devices: devices.own(), jnp.zeros(8), P("m"), P("m"))
        steps = (L - np.asarray(orders)).reshape(8, -1).sum(axis=1)
        figures[str(L)] = float(steps.max() / steps.mean())
    return figures


def processes(rank, count, port, name):
    jax.distributed.initialize(f"localhost:{port}", count, rank)
    grid, kwargs, batch = CASES[name]
    plain, shared = SHT(grid, **kwargs), SHT(grid, sharding=over(), **kwargs)
    alm, _ = data(plain, batch)
    found = {"synthesis": shared.synthesis(alm), "gradient": jax.jit(jax.grad(energy(shared)))(alm)}
    expected = {"synthesis": plain.synthesis(alm), "gradient": jax.jit(jax.grad(energy(plain)))(alm)}
    figures = {}
    for key, value in expected.items():
        value = np.asarray(value)
        errors = [np.abs(piece.data - value[piece.index]).max() for piece in found[key].addressable_shards]
        figures[key] = float(max(errors) / np.abs(value).max())
    figures["devices"] = jax.device_count()
    figures["pieces"] = [list(piece.data.shape) for piece in found["synthesis"].addressable_shards]
    return figures


if __name__ == "__main__":
    if "of" in sys.argv:
        rank, _, count, port, name = sys.argv[1:]
        print(json.dumps(processes(int(rank), int(count), int(port), name)))
    else:
        others = {
            function.__name__: function
            for function in (
                collectives,
                meshes,
                own_maps,
                own_maps_otherwise,
                explicit_arrays,
                explicit_arrays_otherwise,
                work,
            )
        }
        print(json.dumps({name: others[name]() if name in others else same_numbers(name) for name in sys.argv[1:]}))
