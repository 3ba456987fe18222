"""The contracts between Armillary, its plugins and its users, with the laws that each must satisfy.

They are structural: a class satisfies one by having its attributes, with no base class and no import of Armillary.
``isinstance(x, Prior)`` checks that the attributes are there; the laws are checked by `armillary.core.testing`, which
has one suite for each protocol.

Conventions for all of them: arrays are JAX arrays; what is called from a sampler is pure, and works under
`jax.jit`, `jax.vmap` and `jax.grad`; the dtype follows the input; random keys are typed (`jax.random.key`), and
legacy keys are accepted; a bad argument raises `ValueError` before tracing.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, runtime_checkable

if TYPE_CHECKING:
    import jax
    from jaxtyping import Array, PyTree

    from ._evidence import Evidence

__all__ = [
    "Adaptation",
    "Denoiser",
    "EvidenceEstimator",
    "ForwardOperator",
    "Likelihood",
    "Prior",
    "Proximable",
    "Sampler",
    "Scored",
    "Target",
    "Transform",
]


@runtime_checkable
class Prior(Protocol):
    """A prior is a `numpyro.distributions.Distribution`; nothing else is needed to be one.

    Laws: it survives flattening, `jax.jit` (called twice), `jax.vmap` of its constructor and pickling; samples lie
    in its support; `log_prob` is finite there, of shape ``batch_shape``, and its gradient agrees with finite
    differences; its density is normalised unless its docstring says that it is not.

    Optional capabilities: `Proximable` and `Scored`.
    """

    @property
    def support(self) -> Any:
        """The `numpyro.distributions.constraints.Constraint` in which samples lie."""

    def sample(self, key: jax.Array, sample_shape: tuple[int, ...] = ()) -> Array:
        """Draws of shape ``sample_shape + batch_shape + event_shape``."""

    def log_prob(self, value: Array) -> Array:
        """The log-density of ``value``, one number for each element of the batch."""


@runtime_checkable
class Proximable(Protocol):
    """Something whose negative log-density has a proximal operator.

    Laws: ``p = prox(x, step)`` minimises ``-log_prob(u) + |u - x|**2 / (2 step)`` over ``u``; it has ``x``'s shape
    and dtype, with leading batch axes; it is firmly non-expansive where the density is log-concave; and it tends to
    ``x`` as ``step`` tends to 0.
    """

    def prox(self, x: Array, step: float | Array) -> Array:
        """The proximal operator of ``-step * log_prob`` at ``x``."""


@runtime_checkable
class Scored(Protocol):
    """Something that knows the gradient of its log-density, perhaps without knowing the density.

    Law: where it has a ``log_prob`` too, ``score(x) == jax.grad(log_prob)(x)``.
    """

    def score(self, x: Array) -> Array:
        """The gradient of the log-density at ``x``, of ``x``'s shape."""


@runtime_checkable
class Likelihood(Protocol):
    """A map from a parameter to the NumPyro distribution of the data given that parameter.

    Laws: it returns a `numpyro.distributions.Distribution`, of the data's shape; the log-density of fixed data is
    finite and differentiable in the parameter.
    """

    def __call__(self, x: PyTree) -> Any:
        """The distribution of the data given ``x``."""


@runtime_checkable
class ForwardOperator(Protocol):
    """A linear map between arrays (or pytrees of arrays), such as a telescope.

    Laws: linear; ``<A x, y> == <x, A* y>`` for the inner product ``sum(conj(a) * b)`` (its real part where one side
    is real and the other complex); `in_structure` and `out_structure` describe what goes in and comes out; `opnorm`
    is not below the largest singular value, by more than one part in a thousand.
    """

    def __call__(self, x: PyTree) -> PyTree:
        """``A x``."""

    def adjoint(self, y: PyTree) -> PyTree:
        """``A* y``."""

    def in_structure(self) -> PyTree:
        """The `jax.ShapeDtypeStruct` of ``x``, or a pytree of them."""

    def out_structure(self) -> PyTree:
        """The same for ``A x``."""

    def opnorm(self) -> float | Array:
        """The largest singular value of ``A``, or a bound close above it."""


@runtime_checkable
class Transform(ForwardOperator, Protocol):
    """A `ForwardOperator` with an inverse on its range.

    Law: ``inverse(A x) == x`` to rounding, for every ``x`` in its domain.
    """

    def inverse(self, y: PyTree) -> PyTree:
        """The ``x`` with ``A x == y``."""


@runtime_checkable
class Denoiser(Protocol):
    """An estimate of an image from the same image with white Gaussian noise added.

    Laws: the shape and dtype of ``x``; the identity as ``sigma`` tends to 0; batched over leading axes, or under
    `jax.vmap`, also in ``sigma``. Its score, by Tweedie's formula, is ``(denoiser(x, sigma) - x) / sigma**2``
    (Efron 2011, JASA 106, 1602).
    """

    def __call__(self, x: Array, sigma: float | Array) -> Array:
        """The estimate, given noise of standard deviation ``sigma``."""


@runtime_checkable
class Target(Protocol):
    """What a sampler draws from: a posterior over unconstrained positions (pytrees of real arrays).

    Laws: ``log_density == log_prior + log_likelihood``; `log_prior` is a density in the unconstrained space, with
    the Jacobian of `constrain` included, so that the evidence is the integral of ``exp(log_density)``;
    ``sample_prior`` draws from ``exp(log_prior)``; ``unconstrain`` inverts ``constrain`` on sampled sites. Optional
    attributes, ``None`` where a target has them not: ``sample_prior``, ``smooth_log_density``, ``prox``,
    ``denoiser``; `traits` names the ones it has.

    `armillary.core.Target` is the class that implements this; a sampler relies on no more than is here.
    """

    @property
    def traits(self) -> frozenset[str]:
        """The optional capabilities that are there, by the names of their attributes."""

    @property
    def dim(self) -> int:
        """The number of unconstrained parameters."""

    @property
    def structure(self) -> PyTree:
        """A position's pytree, with a `jax.ShapeDtypeStruct` for each array."""

    def initial_position(self, key: jax.Array) -> PyTree:
        """A position to start a chain from."""

    def require(self, traits: frozenset[str] | set[str], sampler: str) -> None:
        """Raise `ValueError` if one of these capabilities, which ``sampler`` needs, is missing."""

    def log_prior(self, position: PyTree) -> Array:
        """The log prior density of an unconstrained position, Jacobian included."""

    def log_likelihood(self, position: PyTree) -> Array:
        """The log likelihood of an unconstrained position."""

    def log_density(self, position: PyTree) -> Array:
        """The sum of the two: the unnormalised log posterior density."""

    def constrain(self, position: PyTree) -> PyTree:
        """The values of the model's sites, deterministic ones too."""


class Adaptation(NamedTuple):
    """The warm-up of a sampler, as a state machine that can be stopped and taken up between any two steps.

    ``init(key, position)`` gives the adaptation's state; ``step(key, i, state)`` makes the step ``i`` (traced, from
    0) of ``num_warmup`` and returns ``(state, info)`` with the sampler's own ``info``; ``result(state)`` returns
    ``(algorithm_state, parameters)``, with which sampling goes on by ``sampler.build(target, **parameters)``.

    Optional: ``prepare()`` computes what all chains share, once and before they begin; the same whenever it is called.
    With it the first is ``init(key, position, prepared)``. Where the chains move in coordinates that all share, it is
    the map from these as a vector to positions as vectors, with ``inverse`` and a constant ``log_volume``: `infer`
    then estimates the evidence there.
    """

    init: Callable[..., Any]
    step: Callable[[Any, Any, Any], tuple[Any, Any]]
    result: Callable[[Any], tuple[Any, dict[str, Any]]]
    prepare: Callable[[], Any] | None = None


@runtime_checkable
class Sampler(Protocol):
    """A factory of BlackJAX sampling algorithms: settings in, `blackjax.base.SamplingAlgorithm` out.

    Laws: ``build(target)`` returns ``init(position, rng_key)`` and ``step(rng_key, state) -> (state, info)``;
    states and infos are NamedTuples, flat pytrees that a scan can carry, with the state's ``position`` that of the
    target; the same key gives the same draw, another key another; jit equals eager, vmap equals a loop, and a step
    is traced once; the dtype of the position is kept; the moments of a Gaussian come out within five Monte-Carlo
    errors, and beyond them by no more than the ``bias`` that the sampler declares: of a mean, in standard deviations of
    the posterior; of a covariance, as a fraction of the product of two of them.

    Optional: ``adaptation(target, num_warmup) -> Adaptation``; ``kernel(model) -> MCMCKernel`` where NumPyro has the
    algorithm itself.
    """

    @property
    def traits(self) -> frozenset[str]:
        """The optional capabilities that it needs of a `Target`, such as ``{"prox"}``."""

    def build(self, target: Target, **parameters: Any) -> Any:
        """The sampling algorithm; ``parameters`` are what adaptation found, and override the settings."""


@runtime_checkable
class EvidenceEstimator(Protocol):
    """An estimate of ln Z from posterior samples.

    Args of the call:
        key: a random key.
        samples: unconstrained positions, a pytree of arrays with leading axes ``(chain, draw)``.
        log_density: the unnormalised log posterior of one position, Jacobian included.

    Laws: ln Z of a Gaussian within five errors; adding ``c`` to ``log_density`` adds ``c`` to ln Z; the order of the
    chains does not matter beyond the error; a sample whose log-density is NaN raises `ValueError`, and never gives a
    number.

    Optional: a dataclass with a field ``progress_bar`` shows one while it works, where `armillary.core.infer` does.
    """

    def __call__(self, key: jax.Array, samples: PyTree, log_density: Callable[[PyTree], Array]) -> Evidence:
        """The evidence with its error and diagnostics."""
