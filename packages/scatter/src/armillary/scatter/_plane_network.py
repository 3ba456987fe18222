"""Scattering networks of images."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from ._plane import Plane, scaling, wavelets

Path = tuple[tuple[int, int], ...]


def paths(plane: Plane, depth: int) -> list[dict[int, list[Path]]]:
    """For every number of wavelets, the paths by the last scale; a wavelet is (scale, direction)."""
    found: list[dict[int, list[Path]]] = [{plane.J + 1: [()]}]
    for _ in range(depth):
        longer: dict[int, list[Path]] = {}
        for j in plane.scales:
            parents = [path for last, group in found[-1].items() if last > j for path in group]
            if parents:
                longer[j] = [(*path, (j, g)) for path in parents for g in range(plane.N)]
        found.append(longer)
    return found


def map_shape(plane: Plane) -> tuple[int, int]:
    """The shape of the maps."""
    return plane.shape[0] // plane.widest, plane.shape[1] // plane.widest


def run(plane: Plane, depth: int, f: Array) -> tuple[Array, Array, Array]:
    """The maps, and the energies that were propagated and scattered."""
    steps = tuple(plane.step(j) for j in plane.scales)
    psi, phi = wavelets(plane.padded, plane.N, steps), scaling(plane.padded, plane.widest // 2)
    return _run(plane, depth, psi.astype(f.dtype), phi.astype(f.dtype), f)


@functools.partial(jax.jit, static_argnums=(0, 1))
def _run(plane: Plane, depth: int, psi: Array, phi: Array, f: Array) -> tuple[Array, Array, Array]:
    f = jnp.pad(f, (*((0, 0) for _ in f.shape[:-2]), *plane.padding), mode="reflect")
    fields = {plane.J + 1: jnp.fft.fft2(f)[..., None, :, :]}
    ends, propagated, scattered = [], [], []
    for length in range(depth + 1):
        maps = []
        for last, x in fields.items():
            step = plane.step(last)
            end = jnp.fft.ifft2(_subsample(x * _coarse(phi, step), plane.widest // step)).real
            maps.append(end[..., 1:-1, 1:-1])
        ends += maps
        pixels = plane.shape[0] * plane.shape[1]
        # By Parseval's identity.
        propagated.append(
            sum(((x.real**2 + x.imag**2).mean((-2, -1)) / (x.shape[-2] * x.shape[-1])).sum(-1) for x in fields.values())
            * pixels
        )
        scattered.append(sum((x**2).mean((-2, -1)).sum(-1) for x in maps) * pixels)
        if length < depth:
            fields = {
                j: jnp.concatenate(groups, axis=-3)
                for j, filters in zip(plane.scales, psi, strict=True)
                if (groups := [_next(plane, j, filters, last, x) for last, x in fields.items() if last > j])
            }
    return jnp.concatenate(ends, axis=-3), jnp.stack(propagated, axis=-1), jnp.stack(scattered, axis=-1)


def _next(plane: Plane, j: int, filters: Array, last: int, x: Array) -> Array:
    """The Fourier transforms of the moduli, of all directions, at the resolution of scale j."""
    step = plane.step(last)
    passed = x[..., None, :, :] * _coarse(filters, step)
    passed = _subsample(passed.reshape(*x.shape[:-3], -1, *x.shape[-2:]), plane.step(j) // step)
    return jnp.fft.fft2(abs(jnp.fft.ifft2(passed)))


def _coarse(x: Array, step: int) -> Array:
    """A filter at a coarser resolution: its frequencies below that one's highest."""
    for axis in (-2, -1):
        n = x.shape[axis] // step
        x = jnp.take(x, np.fft.fftfreq(n, 1 / n).astype(int), axis=axis)
    return x


def _subsample(x: Array, step: int) -> Array:
    """The Fourier transform of every so many samples."""
    rows, columns = x.shape[-2] // step, x.shape[-1] // step
    return x.reshape(*x.shape[:-2], step, rows, step, columns).mean(axis=(-4, -2))
