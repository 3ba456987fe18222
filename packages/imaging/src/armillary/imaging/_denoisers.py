r"""Denoisers as Equinox modules.

Each is a network F between layers that do not learn, as of Karras T. et al. 2022 (arXiv:2206.00364):

.. math:: D(x, \sigma) = \frac{s^2}{s^2 + \sigma^2}\, x + \frac{s \sigma}{\sqrt{s^2 + \sigma^2}}\,
          F\!\left(\frac{x}{\sqrt{s^2 + \sigma^2}},\, \tfrac14 \ln \frac{\sigma}{s}\right)

with the standard deviation s of images. What F takes and gives is of unit size at every noise level, the estimate tends
to the image as :math:`\sigma` tends to 0, and to what the network makes of nothing as it grows.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from itertools import pairwise
from typing import Any, Self

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float

from ._check import check_count, check_positive
from ._layers import Convolution, Double, Halve, pad_to_multiple
from ._spectral import norm_bound

# The largest noise that a non-expansive DnCNN takes away, in standard deviations.
_LARGEST = 5.0


class Network(eqx.Module):
    """What the denoisers share: their checks, batches and the layers that do not learn."""

    data_std: float = eqx.field(static=True)

    def __call__(
        self, x: Float[Array, "*batch rows columns"], sigma: Float[ArrayLike, "*#batch"]
    ) -> Float[Array, "*batch rows columns"]:
        """The estimate of an image from it and white noise; see `armillary.core.protocols.Denoiser`.

        Args:
            x: images, in the units of ``data_std``, with any leading batch axes.
            sigma: the standard deviation of the noise, positive; one for all, or one for each image.

        Raises:
            ValueError: ``x`` is not an image, or ``sigma`` is not positive or not of the batch's shape.
        """
        return self._map(type(self)._denoise, x, sigma)

    def score(
        self, x: Float[Array, "*batch rows columns"], sigma: Float[ArrayLike, "*#batch"]
    ) -> Float[Array, "*batch rows columns"]:
        r"""The score of images with noise :math:`\sigma`, :math:`(D(x, \sigma) - x) / \sigma^2`, without its rounding.

        Args:
            x: see the call of this.
            sigma: likewise.

        Raises:
            ValueError: as the call.
        """
        return self._map(type(self)._score, x, sigma)

    @property
    @abstractmethod
    def settings(self) -> dict[str, Any]:
        """The arguments of the constructor but for the key, with which `load_denoiser` makes it anew."""

    @abstractmethod
    def _network(
        self, x: Float[Array, "n rows columns"], level: Float[Array, "n 1 1"]
    ) -> Float[Array, "n rows columns"]:
        """F, of a stack of images and the noise level of each."""

    def _denoise(self, x: Array, sigma: Array) -> Array:
        s = self.data_std
        c = jnp.sqrt(s**2 + sigma**2)
        return (s / c) ** 2 * x + s * sigma / c * self._network(x / c, jnp.log(sigma / s) / 4)

    def _score(self, x: Array, sigma: Array) -> Array:
        s = self.data_std
        c = jnp.sqrt(s**2 + sigma**2)
        return s / (sigma * c) * self._network(x / c, jnp.log(sigma / s) / 4) - x / c**2

    def _map(self, function: Any, x: Any, sigma: Any) -> Array:
        """A method of an image and a noise level, over a batch, in the dtype of the images."""
        x = jnp.asarray(x)
        if x.ndim < 2 or not jnp.issubdtype(x.dtype, jnp.floating):
            raise ValueError(
                f"x has shape {x.shape} and dtype {x.dtype}: expected real images, rows and columns on the last axes"
            )
        check_positive("sigma", sigma, "it is the standard deviation of the noise", array=True)
        batch = x.shape[:-2]
        try:
            sigmas = jnp.broadcast_to(jnp.asarray(sigma).astype(x.dtype), batch)
        except ValueError:
            raise ValueError(
                f"sigma has shape {jnp.shape(sigma)}: expected one noise level, or one for each image of the batch "
                f"{batch}"
            ) from None
        stack, levels = x.reshape(-1, *x.shape[-2:]), sigmas.reshape(-1, 1, 1)
        return function(self._cast(x.dtype), stack, levels).reshape(x.shape)

    def _cast(self, dtype: Any) -> Self:
        return jax.tree.map(lambda leaf: leaf.astype(dtype) if eqx.is_inexact_array(leaf) else leaf, self)


def with_level(x: Float[Array, "n rows columns"], level: Float[Array, "n 1 1"]) -> Float[Array, "n rows columns 2"]:
    """Images and the maps of their noise levels, as two channels."""
    return jnp.stack([x, jnp.broadcast_to(level, x.shape)], axis=-1)


class DnCNN(Network):
    r"""A chain of convolutions that predicts the noise in an image (Zhang et al. 2017), told its level as FFDNet is.

    With ``spectral_norm=True`` it is made such that :math:`x - D(x, \sigma)` is a non-expansive function of the image,
    at every noise level and of any image, which the convergence of plug-and-play algorithms asks for (Ryu et al. 2019):
    every convolution is divided by a bound above its spectral norm, and

    .. math:: D(x, \sigma) = x - 5 \sigma \tanh\frac{c\, F(x / c)}{5 \sigma}, \qquad c = \sqrt{s^2 + \sigma^2}.

    It then takes away less noise than one that is free.

    >>> import jax
    >>> from armillary.imaging import DnCNN
    >>> denoiser = DnCNN(key=jax.random.key(0), width=8, depth=3)
    >>> denoiser(jax.numpy.ones((16, 16)), 0.1).shape
    (16, 16)

    Zhang K., Zuo W., Chen Y., Meng D., Zhang L. 2017, IEEE Trans. Image Process. 26, 3142 (arXiv:1608.03981); Zhang K.,
    Zuo W., Zhang L. 2018, IEEE Trans. Image Process. 27, 4608 (arXiv:1710.04026); Ryu E. K. et al. 2019, Proc. Mach.
    Learn. Res. 97, 5546 (arXiv:1905.05406).

    Args:
        key: of the weights to start from.
        data_std: the standard deviation s of the pixels of images, which sets the units.
        width: channels of the hidden layers.
        depth: convolutions, at least 2.
        spectral_norm: whether the residual is non-expansive.

    Raises:
        ValueError: a setting out of its range.
    """

    layers: tuple[Convolution, ...]
    width: int = eqx.field(static=True)
    depth: int = eqx.field(static=True)
    spectral_norm: bool = eqx.field(static=True)

    def __init__(
        self, *, key: jax.Array, data_std: float = 0.5, width: int = 32, depth: int = 6, spectral_norm: bool = False
    ) -> None:
        _check(data_std)
        check_count("width", width, "32 channels are a small network")
        check_count("depth", depth, "6 convolutions are a small network", least=2)
        self.data_std = float(data_std)
        self.width, self.depth, self.spectral_norm = int(width), int(depth), bool(spectral_norm)
        channels = [2, *[self.width] * (self.depth - 1), 1]
        keys = jax.random.split(key, self.depth)
        # Training starts near the network that gives nothing, but where the weights are normalised again.
        gains = [1.0] * (self.depth - 1) + [1.0 if spectral_norm else 0.01]
        self.layers = tuple(
            Convolution(k, i, o, gain=gain) for k, (i, o), gain in zip(keys, pairwise(channels), gains, strict=True)
        )

    @property
    def settings(self) -> dict[str, Any]:
        """The arguments of the constructor but for the key."""
        return {
            "data_std": self.data_std,
            "width": self.width,
            "depth": self.depth,
            "spectral_norm": self.spectral_norm,
        }

    def _network(self, x: Array, level: Array) -> Array:
        h = with_level(x, level)
        for i, layer in enumerate(self.layers):
            if self.spectral_norm:
                layer = eqx.tree_at(lambda layer: layer.weight, layer, layer.weight / norm_bound(layer.weight))
            h = layer(jax.nn.relu(h) if i else h)
        return h[..., 0]

    def _residual(self, x: Array, sigma: Array) -> Array:
        c = jnp.sqrt(self.data_std**2 + sigma**2)
        noise = c / sigma * self._network(x / c, jnp.log(sigma / self.data_std) / 4)
        return _LARGEST * jnp.tanh(noise / _LARGEST)

    def _denoise(self, x: Array, sigma: Array) -> Array:
        return x - sigma * self._residual(x, sigma) if self.spectral_norm else super()._denoise(x, sigma)

    def _score(self, x: Array, sigma: Array) -> Array:
        return -self._residual(x, sigma) / sigma if self.spectral_norm else super()._score(x, sigma)


class _Residual(eqx.Module):
    """x + conv(relu(conv(x))), without biases."""

    first: Convolution
    second: Convolution

    def __init__(self, key: jax.Array, width: int) -> None:
        first, second = jax.random.split(key)
        self.first = Convolution(first, width, width, bias=False)
        self.second = Convolution(second, width, width, bias=False, gain=0.1)

    def __call__(self, x: Array) -> Array:
        return x + self.second(jax.nn.relu(self.first(x)))


class DRUNet(Network):
    r"""The U-Net of residual blocks of plug-and-play restoration (Zhang et al. 2022), told the noise level by a map.

    Residual blocks without biases at each of several scales, strided convolutions between them, and sums across. Images
    of any shape are extended by their edges to a multiple of ``2**(len(widths) - 1)``.

    >>> import jax
    >>> from armillary.imaging import DRUNet
    >>> denoiser = DRUNet(key=jax.random.key(0), widths=(4, 8), num_blocks=1)
    >>> denoiser(jax.numpy.ones((3, 15, 16)), 0.1).shape
    (3, 15, 16)

    Zhang K., Li Y., Zuo W., Zhang L., Van Gool L., Timofte R. 2022, IEEE Trans. Pattern Anal. Mach. Intell. 44, 6360
    (arXiv:2008.13751).

    Args:
        key: of the weights to start from.
        data_std: the standard deviation s of the pixels of images, which sets the units.
        widths: channels at each scale, the finest first; those of the reference are 64, 128, 256 and 512.
        num_blocks: residual blocks at each scale, on the way down and on the way up; 4 in the reference.

    Raises:
        ValueError: a setting out of its range.
    """

    head: Convolution
    down: tuple[tuple[_Residual, ...], ...]
    halve: tuple[Halve, ...]
    body: tuple[_Residual, ...]
    double: tuple[Double, ...]
    up: tuple[tuple[_Residual, ...], ...]
    tail: Convolution
    widths: tuple[int, ...] = eqx.field(static=True)
    num_blocks: int = eqx.field(static=True)

    def __init__(
        self,
        *,
        key: jax.Array,
        data_std: float = 0.5,
        widths: Sequence[int] = (16, 32, 64),
        num_blocks: int = 2,
    ) -> None:
        _check(data_std)
        self.widths = check_widths(widths)
        check_count("num_blocks", num_blocks, "2 residual blocks at each scale are a small network")
        self.data_std, self.num_blocks = float(data_std), int(num_blocks)
        keys = iter(jax.random.split(key, 3 + len(self.widths) * (2 * self.num_blocks + 2)))

        def blocks(width: int) -> tuple[_Residual, ...]:
            return tuple(_Residual(next(keys), width) for _ in range(self.num_blocks))

        between = tuple(pairwise(self.widths))
        self.head = Convolution(next(keys), 2, self.widths[0], bias=False)
        self.down = tuple(blocks(width) for width in self.widths[:-1])
        self.halve = tuple(Halve(next(keys), fine, coarse) for fine, coarse in between)
        self.body = blocks(self.widths[-1])
        self.double = tuple(Double(next(keys), coarse, fine) for fine, coarse in between)
        self.up = tuple(blocks(width) for width in self.widths[:-1])
        self.tail = Convolution(next(keys), self.widths[0], 1, bias=False, gain=0.01)

    @property
    def settings(self) -> dict[str, Any]:
        """The arguments of the constructor but for the key."""
        return {"data_std": self.data_std, "widths": list(self.widths), "num_blocks": self.num_blocks}

    def _network(self, x: Array, level: Array) -> Array:
        h = self.head(with_level(pad_to_multiple(x, 2 ** (len(self.widths) - 1)), level))
        first, kept = h, []
        for blocks, halve in zip(self.down, self.halve, strict=True):
            for block in blocks:
                h = block(h)
            kept.append(h)
            h = halve(h)
        for block in self.body:
            h = block(h)
        for blocks, double, skip in reversed(list(zip(self.up, self.double, kept, strict=True))):
            h = double(h) + skip
            for block in blocks:
                h = block(h)
        return self.tail(h + first)[:, : x.shape[1], : x.shape[2], 0]


def check_widths(widths: Any) -> tuple[int, ...]:
    """The channels at each scale.

    Raises:
        ValueError: there is none, or one is not a positive whole number.
    """
    if isinstance(widths, (str, bytes)) or not hasattr(widths, "__len__") or not len(widths):
        raise ValueError(f"widths={widths!r}: expected the channels at each scale, such as (16, 32, 64)")
    for width in widths:
        check_count("widths", width, "they are the channels at each scale")
    return tuple(int(width) for width in widths)


def _check(data_std: Any) -> None:
    check_positive("data_std", data_std, "it is the standard deviation of the pixels of images")
