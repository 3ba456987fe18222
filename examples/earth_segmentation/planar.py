"""A planar U-shaped network for maps in latitude and longitude, of the plan of `SphericalUNet`, to compare with."""

from __future__ import annotations

import math
from itertools import pairwise

import equinox as eqx
import jax
import jax.numpy as jnp


class _Block(eqx.Module):
    """A convolution of 3 by 3 pixels, normalisation and rectifier. The longitude is periodic, beyond the poles is 0."""

    weight: jax.Array
    scale: jax.Array
    shift: jax.Array
    stride: int = eqx.field(static=True)

    def __init__(self, key, inputs, outputs, stride=1):
        self.weight = math.sqrt(2 / (9 * inputs)) * jax.random.normal(key, (outputs, inputs, 3, 3))
        self.scale, self.shift, self.stride = jnp.ones(outputs), jnp.zeros(outputs), stride

    def __call__(self, x):
        x = jnp.concatenate([x[..., -1:], x, x[..., :1]], axis=-1)
        x = jnp.pad(x, [(0, 0), (1, 1), (0, 0)])
        y = jax.lax.conv_general_dilated(x[None], self.weight, (self.stride,) * 2, "VALID")[0]
        y = (y - y.mean()) * jax.lax.rsqrt(y.var() + 1e-5)
        return jax.nn.gelu(self.scale[:, None, None] * y + self.shift[:, None, None])


class PlanarUNet(eqx.Module):
    """The network; called with channels of images of rings and longitudes."""

    down: tuple[_Block, ...]
    deeper: tuple[_Block, ...]
    higher: tuple[_Block, ...]
    up: tuple[_Block, ...]
    head: jax.Array
    bias: jax.Array

    def __init__(self, in_channels, out_channels, widths, *, key):
        keys = iter(jax.random.split(key, 4 * len(widths)))
        self.down = tuple(_Block(next(keys), v if i else in_channels, v) for i, v in enumerate(widths))
        self.deeper = tuple(_Block(next(keys), w, v, stride=2) for w, v in pairwise(widths))
        self.higher = tuple(_Block(next(keys), v, w) for w, v in pairwise(widths))
        self.up = tuple(_Block(next(keys), 2 * w, w) for w in widths[:-1])
        self.head = jax.random.normal(next(keys), (out_channels, widths[0])) / math.sqrt(widths[0])
        self.bias = jnp.zeros(out_channels)

    def __call__(self, x):
        x = self.down[0](x)
        skipped = []
        for deeper, down in zip(self.deeper, self.down[1:], strict=True):
            skipped.append(x)
            x = down(deeper(x))
        for higher, up, skip in zip(self.higher[::-1], self.up[::-1], skipped[::-1], strict=True):
            larger = jax.image.resize(x, (len(x), *skip.shape[1:]), "linear")
            x = up(jnp.concatenate([skip, higher(larger)]))
        return jnp.einsum("oc,cij->oij", self.head, x) + self.bias[:, None, None]


def parameters(network):
    """The number of weights."""
    return sum(x.size for x in jax.tree.leaves(eqx.filter(network, eqx.is_inexact_array)))
