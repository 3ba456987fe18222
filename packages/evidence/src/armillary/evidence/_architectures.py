"""The normalising flows that a density can be made of: what each is built of, and how it is trained."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import equinox as eqx
import jax
import jax.numpy as jnp
from flowjax.bijections import (
    AbstractBijection,
    Affine,
    Chain,
    Coupling,
    Flip,
    MaskedAutoregressive,
    Permute,
    RationalQuadraticSpline,
    Scan,
    Vmap,
)
from jaxtyping import Array, ArrayLike, Float, PyTree
from paramax import Parameterize

# The splines act within this many standard deviations of the whitened samples and are the identity beyond.
_INTERVAL = 6.0


@runtime_checkable
class Architecture(Protocol):
    """A kind of flow: what a third party implements and registers by the hook ``armillary_flows``.

    Whitening, training, early stopping, the comparison with a Gaussian and the temperature are common to all. Make it
    a frozen dataclass of plain settings, so that it is hashable and can be saved.

    Laws: `build` gives the same structure for every key, arrays apart; the bijection has an inverse.

    Optional: ``learning_rate``, a number; ``loss(bijection, key, u)``, a scalar to be minimised for a batch of
    whitened draws u, shape (n, dim), where it is not the mean negative log-density.
    """

    def build(self, key: jax.Array, dim: int) -> AbstractBijection:
        """A new bijection from the whitened draws, shape (dim,), to the standard normal base, best near identity."""

    if TYPE_CHECKING:
        # Said to type checkers alone: of an object, `isinstance` is to ask for `build` and no more.
        def __hash__(self) -> int: ...


@dataclass(frozen=True)
class SplineFlow:
    """Coupling layers of rational-quadratic splines: multimodal and strongly curved posteriors of few parameters.

    It starts as the identity. A posterior of one parameter gets a single spline.

    Reference: Durkan C., Bekasov A., Murray I., Papamakarios G. 2019 (arXiv:1906.04032).

    Args:
        layers: coupling layers, each followed by a permutation.
        knots: of each spline.
        width: of the conditioner's hidden layers; by default 32 in up to 8 dimensions and 64 above.
        learning_rate: of the optimiser, at the start.
    """

    layers: int = 4
    knots: int = 8
    width: int | None = None
    learning_rate: float = 5e-3

    def __post_init__(self) -> None:
        _check_positive(self, "layers", "knots", "learning_rate")

    def build(self, key: jax.Array, dim: int) -> AbstractBijection:
        """A bijection of ``dim`` coordinates, the identity but for the order of these."""
        if dim == 1:  # no other coordinate to condition on
            return _splines(1, self.knots)
        width, depth = self.width or (32 if dim <= 8 else 64), 1 if dim <= 8 else 2

        def coupling(key: jax.Array) -> AbstractBijection:
            return _coupling(key, RationalQuadraticSpline(knots=self.knots, interval=_INTERVAL), dim, width, depth)

        return _stack(key, coupling, dim, self.layers)


@dataclass(frozen=True)
class RealNVP:
    """Affine coupling layers, then a spline in each coordinate: skew and funnel-like posteriors of many parameters.

    It starts as the identity, has a tenth of the parameters of `SplineFlow`, and learns more from few draws in tens of
    dimensions.

    Reference: Dinh L., Sohl-Dickstein J., Bengio S. 2017 (arXiv:1605.08803).

    Args:
        layers: coupling layers, each followed by a permutation.
        knots: of each coordinate's spline.
        width: of the conditioner's two hidden layers.
        learning_rate: of the optimiser, at the start.
    """

    layers: int = 8
    knots: int = 8
    width: int = 64
    learning_rate: float = 1e-3

    def __post_init__(self) -> None:
        _check_positive(self, "layers", "knots", "width", "learning_rate")

    def build(self, key: jax.Array, dim: int) -> AbstractBijection:
        """A bijection of ``dim`` coordinates, the identity but for the order of these."""
        splines = _splines(dim, self.knots)
        if dim == 1:
            return splines
        # A layer scales by no more than exp(2): without a bound the inverse of a few draws far out overflows.
        scale: Parameterize[Array] = Parameterize(lambda a: jnp.exp(2 * jnp.tanh(a / 2)), jnp.zeros(()))
        affine = eqx.tree_at(lambda a: a.scale, Affine(), scale)
        layers = _stack(key, lambda key: _coupling(key, affine, dim, self.width, 2), dim, self.layers)
        return Chain([layers, splines])


@dataclass(frozen=True)
class AutoregressiveFlow:
    """Masked autoregressive layers of rational-quadratic splines.

    Each coordinate depends on all those before it, so a layer can do more than a coupling; drawing from it takes a
    pass for each dimension. It starts as the identity.

    Reference: Papamakarios G., Pavlakou T., Murray I. 2017 (arXiv:1705.07057).

    Args:
        layers: masked layers, each followed by a permutation.
        knots: of each spline.
        width: of the two hidden layers of each network; at least the dimension.
        learning_rate: of the optimiser, at the start.
    """

    layers: int = 2
    knots: int = 8
    width: int = 64
    learning_rate: float = 2e-3

    def __post_init__(self) -> None:
        _check_positive(self, "layers", "knots", "width", "learning_rate")

    def build(self, key: jax.Array, dim: int) -> AbstractBijection:
        """A bijection of ``dim`` coordinates, the identity but for the order of these."""
        if dim == 1:
            return _splines(1, self.knots)

        def layer(key: jax.Array) -> AbstractBijection:
            spline = RationalQuadraticSpline(knots=self.knots, interval=_INTERVAL)
            masked = MaskedAutoregressive(key, transformer=spline, dim=dim, nn_width=max(self.width, dim), nn_depth=2)
            return _from_identity(masked, lambda b: b.masked_autoregressive_mlp.layers[-1])

        return _stack(key, layer, dim, self.layers)


@dataclass(frozen=True)
class FlowMatching:
    r"""A continuous flow, trained by flow matching: few and multimodal parameters.

    A network v is fitted to the velocity of straight lines from the base to the draws,
    :math:`\mathrm E\,|v((1-t)z + tu, t) - (u - z)|^2`, and integrated with Runge-Kutta steps. The density is that of
    the discrete map itself, by its Jacobian, so it is normalised however few the steps; this costs ``dim`` integrations
    a draw.

    Reference: Lipman Y., Chen R. T. Q., Ben-Hamu H., Nickel M., Le M. 2023 (arXiv:2210.02747).

    Args:
        width: of the network's hidden layers.
        depth: the number of these.
        steps: of the integration, of fourth order.
        learning_rate: of the optimiser, at the start.
    """

    width: int = 64
    depth: int = 3
    steps: int = 12
    learning_rate: float = 3e-3

    def __post_init__(self) -> None:
        _check_positive(self, "width", "depth", "steps", "learning_rate")

    def build(self, key: jax.Array, dim: int) -> AbstractBijection:
        """A bijection of ``dim`` coordinates that integrates an untrained velocity."""
        network = eqx.nn.MLP(dim + 1, dim, self.width, self.depth, activation=jax.nn.silu, key=key)
        network = _from_identity(network, lambda n: n.layers[-1])
        # In flowjax's bijections mypy takes cond_shape, an attribute of the class, for an argument that is missing.
        return _Integrated(network=network, steps=self.steps, shape=(dim,))  # type: ignore[call-arg]

    def loss(self, bijection: _Integrated, key: jax.Array, u: Float[Array, "n dim"]) -> Float[Array, ""]:
        """The mean squared error of the velocity at random points of random lines."""
        base_key, time_key = jax.random.split(key)
        z = jax.random.normal(base_key, u.shape, u.dtype)
        # Stratified times: the loss of a batch scatters less.
        t = ((jnp.arange(len(u)) + jax.random.uniform(time_key, (len(u),), u.dtype)) / len(u))[:, None]
        velocity = jax.vmap(bijection.velocity)((1 - t) * z + t * u, t[:, 0])
        return ((velocity - (u - z)) ** 2).sum(-1).mean()


class _Integrated(AbstractBijection):
    """The map from draws (time 1) to the base (time 0) by Runge-Kutta steps, its inverse by Newton's method."""

    network: eqx.nn.MLP
    steps: int = eqx.field(static=True)
    shape: tuple[int, ...] = eqx.field(static=True)
    cond_shape = None

    def velocity(self, x: Float[Array, " dim"], t: Float[Array, ""]) -> Float[Array, " dim"]:
        return self.network(jnp.append(x, t))

    def _integrate(self, x: ArrayLike, start: float, stop: float) -> Array:
        h = (stop - start) / self.steps

        def step(x: Array, i: Array) -> tuple[Array, None]:
            t = start + h * i.astype(x.dtype)
            k1 = self.velocity(x, t)
            k2 = self.velocity(x + h / 2 * k1, t + h / 2)
            k3 = self.velocity(x + h / 2 * k2, t + h / 2)
            k4 = self.velocity(x + h * k3, t + h)
            return x + h / 6 * (k1 + 2 * k2 + 2 * k3 + k4), None

        return jax.lax.scan(step, jnp.asarray(x), jnp.arange(self.steps))[0]

    def transform_and_log_det(self, x: ArrayLike, condition: ArrayLike | None = None) -> tuple[Array, Array]:
        def both(x: Array) -> tuple[Array, Array]:
            z = self._integrate(x, 1.0, 0.0)
            return z, z

        jacobian, z = jax.jacfwd(both, has_aux=True)(x)
        return z, jnp.linalg.slogdet(jacobian)[1]

    def inverse_and_log_det(self, y: ArrayLike, condition: ArrayLike | None = None) -> tuple[Array, Array]:
        # Integrated the other way the steps undo one another only to their order; Newton's method does the rest.
        def newton(x: Array, _: None) -> tuple[Array, None]:
            residual = self._integrate(x, 1.0, 0.0) - y
            jacobian = jax.jacfwd(lambda x: self._integrate(x, 1.0, 0.0))(x)
            return x - jnp.linalg.solve(jacobian, residual), None

        x = jax.lax.scan(newton, self._integrate(y, 0.0, 1.0), length=3)[0]
        return x, -self.transform_and_log_det(x)[1]


def default_architecture(dim: int) -> tuple[str, Architecture]:
    """The name and settings of what ``flow="auto"`` trains: splines in few dimensions, affine layers in many."""
    return ("spline", SplineFlow()) if dim <= 8 else ("realnvp", RealNVP())


def build(architecture: Architecture, key: jax.Array, dim: int) -> AbstractBijection:
    """A new bijection of an architecture, in single precision."""
    with jax.enable_x64(False):
        made = architecture.build(key, dim)
    return eqx.combine(eqx.filter(made, eqx.is_array), _rest(architecture, dim, False))


def in_default_precision(bijection: AbstractBijection, architecture: Architecture, dim: int) -> AbstractBijection:
    """A bijection made by `build`, its arrays in JAX's present default precision."""
    dtype = jnp.zeros(()).dtype
    arrays = jax.tree.map(
        lambda a: jnp.asarray(a, dtype) if eqx.is_inexact_array(a) else a, eqx.filter(bijection, eqx.is_array)
    )
    return eqx.combine(arrays, _rest(architecture, dim, dtype == jnp.float64))


@functools.lru_cache(maxsize=32)
def _rest(architecture: Architecture, dim: int, x64: bool) -> PyTree:
    # Flowjax's layers hold closures made anew with each layer, which jit would take for new functions. All flows of an
    # architecture and a dimension share those of the first, so that a second fit compiles nothing. The closures hold
    # arrays too, of the precision in which they were made.
    with jax.enable_x64(x64):
        return eqx.partition(architecture.build(jax.random.key(0), dim), eqx.is_array)[1]


def _splines(dim: int, knots: int) -> AbstractBijection:
    """An independent spline for each coordinate, the identity."""
    made = eqx.filter_vmap(lambda: RationalQuadraticSpline(knots=knots, interval=_INTERVAL), axis_size=dim)()
    return Vmap(made, in_axes=eqx.if_array(0))


def _coupling(key: jax.Array, transformer: AbstractBijection, dim: int, width: int, depth: int) -> AbstractBijection:
    coupling = Coupling(
        key, transformer=transformer, untransformed_dim=dim // 2, dim=dim, nn_width=width, nn_depth=depth
    )
    return _from_identity(coupling, lambda c: c.conditioner.layers[-1])


def _from_identity(module: Any, last_layer: Callable[[Any], Any]) -> Any:
    """A module whose last layer gives zero, at which the transformers of flowjax are the identity."""
    zero = jax.tree.map(lambda a: jnp.zeros_like(a) if eqx.is_inexact_array(a) else a, last_layer(module))
    return eqx.tree_at(last_layer, module, zero)


def _stack(key: jax.Array, make: Callable[[jax.Array], AbstractBijection], dim: int, layers: int) -> AbstractBijection:
    """Layers in a scan, so that compilation does not grow with their number."""

    def layer(key: jax.Array) -> AbstractBijection:
        layer_key, permutation_key = jax.random.split(key)
        permutation = jax.random.permutation(permutation_key, dim)
        # To mypy Flip's cond_shape is missing, as in `FlowMatching.build`.
        mix = Flip((dim,)) if dim == 2 else Permute(permutation)  # type: ignore[call-arg]
        return Chain([make(layer_key), mix])

    return Scan(eqx.filter_vmap(layer)(jax.random.split(key, layers)))


def _check_positive(settings: Any, *names: str) -> None:
    for name in names:
        value = getattr(settings, name)
        if not (isinstance(value, int | float) and math.isfinite(value) and value > 0):
            raise ValueError(f"{name}={value!r}: it is a positive number")
