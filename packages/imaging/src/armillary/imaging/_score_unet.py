"""The network of diffusion models."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from ._check import check_count, check_positive
from ._denoisers import Network, check_widths
from ._layers import Convolution, Double, Halve, group_norm, pad_to_multiple

# Frequencies of the embedding of the noise level, whose logarithm over four spans a few units.
_FREQUENCIES = 16


class _Modulated(eqx.Module):
    """A residual block that the noise level scales and shifts, on normalised channels."""

    first: Convolution
    modulation: eqx.nn.Linear
    second: Convolution

    def __init__(self, key: jax.Array, width: int, embedding: int) -> None:
        keys = jax.random.split(key, 3)
        self.first = Convolution(keys[0], width, width)
        self.modulation = eqx.nn.Linear(embedding, 2 * width, dtype=jnp.float32, key=keys[1])
        self.second = Convolution(keys[2], width, width, gain=0.1)

    def __call__(self, x: Array, embedding: Float[Array, "n size"]) -> Array:
        scale, shift = jnp.split(jax.vmap(self.modulation)(embedding)[:, None, None], 2, axis=-1)
        h = group_norm(self.first(jax.nn.silu(group_norm(x))))
        return x + self.second(jax.nn.silu(h * (1 + scale) + shift))


class ScoreUNet(Network):
    r"""A U-Net that knows the score of images at every noise level, for priors and diffusion posteriors.

    Residual blocks with normalised groups of channels, which Fourier features of the noise level scale and shift (Ho et
    al. 2020; Song et al. 2021). It is a denoiser, and its `score` is Tweedie's formula of that. It is made for noise
    from far below to far above ``data_std``.

    >>> import jax
    >>> from armillary.imaging import ScoreUNet
    >>> network = ScoreUNet(key=jax.random.key(0), widths=(4, 8), num_blocks=1)
    >>> network.score(jax.numpy.ones((3, 16, 16)), 2.0).shape
    (3, 16, 16)

    Ho J., Jain A., Abbeel P. 2020, arXiv:2006.11239; Song Y. et al. 2021, arXiv:2011.13456.

    Args:
        key: of the weights to start from.
        data_std: the standard deviation s of the pixels of images, which sets the units.
        widths: channels at each scale, the finest first.
        num_blocks: residual blocks at each scale, on the way down and on the way up.

    Raises:
        ValueError: a setting out of its range.
    """

    embedding: tuple[eqx.nn.Linear, eqx.nn.Linear]
    head: Convolution
    down: tuple[tuple[_Modulated, ...], ...]
    halve: tuple[Halve, ...]
    body: tuple[_Modulated, ...]
    double: tuple[Double, ...]
    up: tuple[tuple[_Modulated, ...], ...]
    tail: Convolution
    widths: tuple[int, ...] = eqx.field(static=True)
    num_blocks: int = eqx.field(static=True)

    def __init__(
        self,
        *,
        key: jax.Array,
        data_std: float = 0.5,
        widths: Sequence[int] = (16, 32, 64),
        num_blocks: int = 1,
    ) -> None:
        check_positive("data_std", data_std, "it is the standard deviation of the pixels of images")
        self.widths = check_widths(widths)
        check_count("num_blocks", num_blocks, "1 residual block at each scale is a small network")
        self.data_std, self.num_blocks = float(data_std), int(num_blocks)
        size = 4 * _FREQUENCIES
        keys = iter(jax.random.split(key, 5 + len(self.widths) * (2 * self.num_blocks + 2)))

        def blocks(width: int) -> tuple[_Modulated, ...]:
            return tuple(_Modulated(next(keys), width, size) for _ in range(self.num_blocks))

        between = tuple(pairwise(self.widths))
        self.embedding = (
            eqx.nn.Linear(2 * _FREQUENCIES, size, dtype=jnp.float32, key=next(keys)),
            eqx.nn.Linear(size, size, dtype=jnp.float32, key=next(keys)),
        )
        self.head = Convolution(next(keys), 1, self.widths[0])
        self.down = tuple(blocks(width) for width in self.widths[:-1])
        self.halve = tuple(Halve(next(keys), fine, coarse) for fine, coarse in between)
        self.body = blocks(self.widths[-1])
        self.double = tuple(Double(next(keys), coarse, fine) for fine, coarse in between)
        self.up = tuple(blocks(width) for width in self.widths[:-1])
        self.tail = Convolution(next(keys), self.widths[0], 1, gain=0.01)

    @property
    def settings(self) -> dict[str, Any]:
        """The arguments of the constructor but for the key."""
        return {"data_std": self.data_std, "widths": list(self.widths), "num_blocks": self.num_blocks}

    def _network(
        self, x: Float[Array, "n rows columns"], level: Float[Array, "n 1 1"]
    ) -> Float[Array, "n rows columns"]:
        angles = math.pi * level[:, 0] * jnp.asarray([0.25 * 1.25**i for i in range(_FREQUENCIES)], x.dtype)
        embedding = jnp.concatenate([jnp.cos(angles), jnp.sin(angles)], axis=-1)
        for layer in self.embedding:
            embedding = jax.nn.silu(jax.vmap(layer)(embedding))
        h = self.head(pad_to_multiple(x, 2 ** (len(self.widths) - 1))[..., None])
        kept = []
        for blocks, halve in zip(self.down, self.halve, strict=True):
            for block in blocks:
                h = block(h, embedding)
            kept.append(h)
            h = halve(h)
        for block in self.body:
            h = block(h, embedding)
        for blocks, double, skip in reversed(list(zip(self.up, self.double, kept, strict=True))):
            h = (double(h) + skip) / math.sqrt(2)
            for block in blocks:
                h = block(h, embedding)
        return self.tail(jax.nn.silu(group_norm(h)))[:, : x.shape[1], : x.shape[2], 0]
