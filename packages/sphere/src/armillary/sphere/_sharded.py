"""The transform over the devices of a mesh, of one process or several.

The orders are dealt to the devices in pairs of an even and an odd one, so that every device has as many long recursions
as short ones and knows the parity of each of its orders: device d of D has the pairs d, D + d, 2 D + d, .... Each takes
its orders through the Legendre stage to all rings of the grid; one all-to-all then gives it all orders on its own
rings, and these go to longitudes. The adjoint goes the other way, and ends with the coefficients on every device.

A whole transform is a primitive, with the other direction for its transpose: nothing differentiates through the stages.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P
from jaxtyping import Array

from . import _layout as layout
from . import _legendre
from . import _transform as transform
from ._linear import linear_pair
from ._shares import rings_of

if TYPE_CHECKING:
    from ._sht import SHT


def check_sharding(sharding: Any, backend: str) -> None:
    """`ValueError` for what is not a sharding of one array axis, or a backend that does not run sharded."""
    if not isinstance(sharding, NamedSharding):
        raise ValueError(
            f"sharding={sharding!r}: a jax.sharding.NamedSharding(mesh, PartitionSpec('name of a mesh axis')), or None"
        )
    spec = sharding.spec
    if len(spec) != 1 or not isinstance(spec[0], str | tuple) or not spec[0]:
        raise ValueError(
            f"sharding with the spec {spec}: one entry is needed, PartitionSpec('a') or PartitionSpec(('a', 'b')) with "
            f"one or more of the mesh's axes {sharding.mesh.axis_names}, over which orders and rings are split"
        )
    if backend not in ("auto", "jax"):
        raise ValueError(f"backend={backend!r} does not run over several devices: with sharding, use backend='jax'")


def synthesis(sht: SHT, alm: Array) -> Array:
    """Maps ``(batch, *grid.shape)`` from coefficients ``(batch, L, 2 L - 1)``."""
    return _maps(sht, alm, False)


def adjoint_analysis(sht: SHT, alm: Array) -> Array:
    """The adjoint of `analysis`."""
    return _maps(sht, alm, True)


def adjoint_synthesis(sht: SHT, f: Array) -> Array:
    """The adjoint of `synthesis`."""
    return _coefficients(sht, f, False)


def analysis(sht: SHT, f: Array) -> Array:
    """Coefficients from maps on grids on which it is exact."""
    return _coefficients(sht, f, True)


def _maps(sht: SHT, alm: Array, weighted: bool) -> Array:
    devices = Devices(sht, alm)
    alm = devices.announce(alm, devices.of_coefficients)
    return _to_maps_p.bind(alm, sht=sht, weighted=weighted)


def _coefficients(sht: SHT, f: Array, weighted: bool) -> Array:
    devices = Devices(sht, f)
    f = devices.announce(f, devices.of_maps if rings_of(sht, devices).even else devices.of_coefficients)
    return _to_coefficients_p.bind(f.conj(), sht=sht, weighted=weighted).conj()


class Devices:
    """Who has what: `count` devices share the transform, and the others of the mesh share the batch if they can."""

    def __init__(self, sht: SHT, x: Any) -> None:
        """`x` is the argument, an array or the type of one, with the batch first."""
        assert sht.sharding is not None
        self.mesh = sht.sharding.mesh
        self.explicit = AxisType.Explicit in self.mesh.axis_types
        self.axes = _names(sht.sharding.spec[0])
        self.count = math.prod(self.mesh.shape[name] for name in self.axes)
        if self.explicit:
            # The type of the argument says who has which part of the batch, and the result's will say the same.
            sharding = (jax.typeof(x) if isinstance(x, Array) else x).sharding
            names = () if sharding.mesh.empty else _names(sharding.spec[0])
            self.batch = tuple(name for name in names if name not in self.axes)
        else:
            others = tuple(name for name in self.mesh.axis_names if name not in self.axes)
            even = x.shape[0] % math.prod(self.mesh.shape[name] for name in others) == 0
            self.batch = others if even else ()
        self.L, self.spin = sht.L, abs(sht.spin)
        #: The orders of a device; those from L on stand for nothing.
        self.orders = 2 * math.ceil(math.ceil(self.L / 2) / self.count)
        self.of_coefficients = P(self.batch)
        self.of_maps = P(self.batch, self.axes)

    def run(self, local: Any, x: Array, before: P, after: P) -> Array:
        x = self.place(x, before)
        return jax.shard_map(local, mesh=self.mesh, in_specs=before, out_specs=after, check_vma=False)(x)

    def announce(self, x: Array, spec: P) -> Array:
        """Name the mesh to a surrounding `jit`, which compiles for the devices that it sees: it sees no primitives."""
        if not self.explicit:
            return self.place(x, spec)
        if not jax.typeof(x).sharding.mesh.empty:
            return x
        # A `reshard` is not seen either.
        x = self.place(x, P())
        return jax.shard_map(lambda x: x, mesh=self.mesh, in_specs=P(), out_specs=P())(x)

    def place(self, x: Array, spec: P) -> Array:
        """Bring an array to where it is needed."""
        bring = jax.sharding.reshard if self.explicit else lax.with_sharding_constraint
        return bring(x, NamedSharding(self.mesh, spec))

    def deal(self, x: Array, axis: int) -> Array:
        """Orders 0 to L - 1 -> two axes, devices and their orders."""
        widths = [(0, 0)] * x.ndim
        widths[axis] = (0, self.count * self.orders - self.L)
        shape = x.shape
        x = jnp.pad(x, widths).reshape(*shape[:axis], -1, self.count, 2, *shape[axis + 1 :])
        return jnp.moveaxis(x, axis + 1, axis).reshape(*shape[:axis], self.count, self.orders, *shape[axis + 1 :])

    def undeal(self, x: Array, axis: int) -> Array:
        """The transpose of `deal`."""
        before, after = x.shape[:axis], x.shape[axis + 2 :]
        x = x.reshape(*before, self.count, -1, 2, *after)
        x = jnp.moveaxis(x, axis, axis + 1).reshape(*before, -1, *after)
        return lax.slice_in_dim(x, 0, self.L, axis=axis)

    def index(self) -> Array:
        """The number of this device, in the program of each."""
        return lax.axis_index(self.axes).astype(np.int32)

    def own(self) -> Array:
        """The orders of this device; for one that stands for nothing, the last, which is the least work."""
        k = np.arange(self.orders, dtype=np.int32)
        return jnp.minimum(2 * ((k // 2) * self.count + self.index()) + k % 2, self.L - 1)


def _names(entry: Any) -> tuple[str, ...]:
    """The mesh axes in an entry of a spec."""
    return () if entry is None else (entry,) if isinstance(entry, str) else tuple(entry)


def _to_maps(alm: Array, *, sht: SHT, weighted: bool) -> Array:
    devices = Devices(sht, alm)
    rings = rings_of(sht, devices)

    def local(alm: Array) -> Array:
        x = transform._to_grid(sht, _to_rings(sht, devices, alm), weighted)
        x = rings.deal(x)  # (orders, part, batch, 2, device, ring)
        x = lax.all_to_all(x, devices.axes, split_axis=4, concat_axis=0)
        return rings.to_map(layout.from_real(devices.undeal(x, 0)))

    f = devices.run(local, alm, devices.of_coefficients, devices.of_maps)
    if rings.even:
        return f
    return devices.place(f, devices.of_coefficients)[:, : sht.grid.shape[0]]


def _to_coefficients(f: Array, *, sht: SHT, weighted: bool) -> Array:
    devices = Devices(sht, f)
    rings = rings_of(sht, devices)

    def local(f: Array) -> Array:
        x = devices.deal(layout.to_real(rings.from_map(f.conj())), 0)
        x = lax.all_to_all(x, devices.axes, split_axis=0, concat_axis=4)
        x = transform._from_grid(sht, rings.undeal(x), weighted)
        return _from_rings(sht, devices, x).conj()

    if not rings.even:
        padding = devices.count * rings.share - sht.grid.shape[0]
        f = devices.place(f, devices.of_coefficients)
        f = jnp.pad(f, [(0, 0), (0, padding)] + [(0, 0)] * (f.ndim - 2))
    return devices.run(local, f, devices.of_maps, devices.of_coefficients)


def _shape_of_maps(x: Any, *, sht: SHT, weighted: bool) -> Any:
    dtype = np.finfo(x.dtype).dtype if sht.real else x.dtype
    devices = Devices(sht, x)
    spec = devices.of_maps if rings_of(sht, devices).even else devices.of_coefficients
    return _aval(x, devices, (x.shape[0], *sht.grid.shape), dtype, spec)


def _shape_of_coefficients(x: Any, *, sht: SHT, weighted: bool) -> Any:
    dtype = np.result_type(x.dtype, np.complex64)
    devices = Devices(sht, x)
    return _aval(x, devices, (x.shape[0], sht.L, 2 * sht.L - 1), dtype, devices.of_coefficients)


def _aval(x: Any, devices: Devices, shape: tuple[int, ...], dtype: Any, spec: P) -> Any:
    spec = P(*spec, *[None] * (len(shape) - len(spec)))
    sharding = NamedSharding(devices.mesh.abstract_mesh, spec)
    return x.update(shape=shape, dtype=dtype, weak_type=False, sharding=sharding)


_to_maps_p, _to_coefficients_p = linear_pair(
    ("armillary_sharded_maps", "armillary_sharded_coefficients"),
    (_to_maps, _to_coefficients),
    (_shape_of_maps, _shape_of_coefficients),
    axis=0,
)


# The orders of a device, and all rings.


def _to_rings(sht: SHT, devices: Devices, alm: Array) -> Array:
    """Coefficients (batch, L, 2 L - 1) -> (order, part, batch, 2, ring of the Legendre stage)."""
    orders = devices.own()

    def to_lanes(parts: list[Array]) -> Array:
        return _to_lanes(parts, orders, sht.spin)

    def synthesise(lanes: Array) -> Array:
        return _legendre.synthesise_lanes(lanes, transform.rings_of(sht), sht.L, sht.spin, _lanes(sht, orders))

    positive, negative = (jnp.take(x, orders, axis=2) for x in layout.split_orders(alm))
    return transform.sum_degrees(sht, positive, negative, to_lanes, synthesise)


def _from_rings(sht: SHT, devices: Devices, x: Array) -> Array:
    """The transpose of `_to_rings`, and the coefficients of all devices together."""
    orders = devices.own()

    def analyse(sums: Array) -> Array:
        return _legendre.analyse_lanes(sums, transform.rings_of(sht), sht.L, sht.spin, _lanes(sht, orders))

    def from_lanes(lanes: Array, parts: int) -> list[Array]:
        return list(_from_lanes(lanes, orders, sht.L, parts))

    found = jnp.stack(transform.sum_rings(sht, x, analyse, from_lanes))
    return transform.join_parts(sht, list(devices.undeal(lax.all_gather(found, devices.axes, axis=3), 3)))


def _lanes(sht: SHT, orders: Array) -> Array:
    """The numbers of the lanes of some orders."""
    return jnp.concatenate([orders, sht.L + orders]) if sht.spin else orders


def _to_lanes(parts: list[Array], orders: Array, spin: int) -> Array:
    """As `_layout.to_lanes`, of some orders: complex (batch, degree, order) arrays -> (order, step, column)."""
    x = jnp.stack(parts)
    x = jnp.stack([x.real, x.imag], axis=2)  # (part, batch, 2, degree, order)
    L = x.shape[3]
    x = x.transpose(4, 3, 0, 1, 2).reshape(x.shape[4], L, -1)
    first = jnp.maximum(orders, abs(spin))
    # Beyond the end of a lane its functions are 0.
    degree = jnp.minimum(first[:, None] + np.arange(L - abs(spin), dtype=np.int32), L - 1)
    return jnp.take_along_axis(x, degree[:, :, None], axis=1)


def _from_lanes(x: Array, orders: Array, L: int, parts: int) -> Array:
    """The transpose of `_to_lanes`: complex (part, batch, degree, order)."""
    first = jnp.maximum(orders, L - x.shape[1])
    step = np.arange(L, dtype=np.int32) - first[:, None]
    x = jnp.take_along_axis(x, jnp.maximum(step, 0)[:, :, None], axis=1)
    x = jnp.where(step[:, :, None] < 0, 0, x)
    x = x.reshape(x.shape[0], L, parts, -1, 2).transpose(2, 3, 4, 1, 0)
    return x[:, :, 0] + 1j * x[:, :, 1]
