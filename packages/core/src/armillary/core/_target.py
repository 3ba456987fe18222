"""A posterior over unconstrained parameters: what every sampler and evidence estimator consumes."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, PyTree

OPTIONAL = ("sample_prior", "smooth_log_density", "prox", "denoiser")


def _identity(x: PyTree) -> PyTree:
    return x


class Target:
    r"""A posterior, as functions of an unconstrained position (a pytree of real arrays).

    The densities are over the unconstrained space, so that the Jacobian of `constrain` is in `log_prior` and the
    evidence is :math:`Z = \int \exp(\text{log\_density})`. From a NumPyro model:

    >>> import jax, numpyro, numpyro.distributions as dist
    >>> from armillary.core import Target
    >>> def model(y=None):
    ...     scale = numpyro.sample("scale", dist.HalfNormal(1.0))
    ...     numpyro.sample("y", dist.Normal(0.0, scale), obs=y)
    >>> target = Target.from_numpyro(model, 0.3)
    >>> position = target.unconstrain({"scale": 2.0})
    >>> print(f"{target.log_density(position):.4f}")
    -3.1488

    By hand, any functions of any pytree will do:

    >>> target = Target(log_prior=lambda x: -0.5 * x @ x, log_likelihood=lambda x: -0.5 * (1 - x) @ (1 - x),
    ...                 position=jax.numpy.zeros(3))
    >>> target.dim
    3

    Args:
        log_prior: log prior density of a position; its normaliser matters to the evidence only.
        log_likelihood: log likelihood of a position.
        sample_prior: draws one position from the prior, given a key. Nested sampling and SMC need it.
        position: an example of a position, for its structure and as a start; not needed with `sample_prior`.
        constrain: from a position to the values of the model's sites; the identity by default.
        unconstrain: the inverse of `constrain`.
        prox: ``prox(position, step)``, the proximal operator of the non-smooth part of ``-log_density``.
        smooth_log_density: the rest of `log_density`; where `prox` is given and this is not, the prior is taken to
            be the non-smooth part and this is `log_likelihood`.
        denoiser: ``denoiser(position, sigma)``, where the prior is known by its denoiser.

    Raises:
        ValueError: neither `sample_prior` nor `position` is given, or a position is not of real floating arrays.
    """

    log_prior: Callable[[PyTree], Array]
    log_likelihood: Callable[[PyTree], Array]
    sample_prior: Callable[[jax.Array], PyTree] | None
    smooth_log_density: Callable[[PyTree], Array] | None
    prox: Callable[[PyTree, Any], PyTree] | None
    denoiser: Callable[[PyTree, Any], PyTree] | None

    def __init__(
        self,
        log_prior: Callable[[PyTree], Array],
        log_likelihood: Callable[[PyTree], Array],
        *,
        sample_prior: Callable[[jax.Array], PyTree] | None = None,
        position: PyTree | None = None,
        constrain: Callable[[PyTree], PyTree] | None = None,
        unconstrain: Callable[[PyTree], PyTree] | None = None,
        prox: Callable[[PyTree, Any], PyTree] | None = None,
        smooth_log_density: Callable[[PyTree], Array] | None = None,
        denoiser: Callable[[PyTree, Any], PyTree] | None = None,
    ) -> None:
        if position is None and sample_prior is None:
            raise ValueError(
                "Target needs position= (an example of a position) or sample_prior= (a function of a key): without "
                "one of them the shape of a position is not known"
            )
        if (constrain is None) != (unconstrain is None):
            raise ValueError("Target takes constrain= and unconstrain= together, or neither")
        self.log_prior = log_prior
        self.log_likelihood = log_likelihood
        self.sample_prior = sample_prior
        self.constrain = constrain or _identity
        self.unconstrain = unconstrain or _identity
        self.prox = prox
        self.smooth_log_density = log_likelihood if prox and smooth_log_density is None else smooth_log_density
        self.denoiser = denoiser
        self._start: Callable[[jax.Array], PyTree]
        if position is not None:
            start = jax.tree.map(jnp.asarray, position)
            self._start = lambda key: start
        else:
            assert sample_prior is not None
            self._start = sample_prior
        self.structure = jax.eval_shape(self._start, jax.random.key(0))
        _check_structure(self.structure)

    @classmethod
    def from_numpyro(cls, model: Callable[..., Any], *args: Any, **kwargs: Any) -> Target:
        """Lower a NumPyro model and its arguments to a target.

        Observed sites and `numpyro.factor` make the likelihood; latent sites, with the Jacobian of the map to their
        support, make the prior. A position is a dictionary of unconstrained arrays by the names of the latent
        sites; `constrain` gives the values in the support, and deterministic sites too. Where the distribution of a
        latent site has a `prox` (see `armillary.core.protocols.Proximable`), the target has one, and
        `smooth_log_density` is all but that site's own log-density.

        Args:
            model: a NumPyro model.
            *args: its positional arguments, data included.
            **kwargs: its keyword arguments.

        Raises:
            ValueError: the model has a discrete latent site, a subsampled plate, no observed site or no latent one;
                the message says what to do.
        """
        from ._lower import lower

        return lower(cls, model, args, kwargs)

    def log_density(self, position: PyTree) -> Array:
        """The unnormalised log posterior density of one position."""
        return self.log_prior(position) + self.log_likelihood(position)

    @property
    def traits(self) -> frozenset[str]:
        """Which of ``sample_prior``, ``smooth_log_density``, ``prox`` and ``denoiser`` this target has."""
        return frozenset(name for name in OPTIONAL if getattr(self, name) is not None)

    @property
    def dim(self) -> int:
        """The number of unconstrained parameters."""
        return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(self.structure))

    def initial_position(self, key: jax.Array) -> PyTree:
        """A position of finite log-density to start from: for a model NumPyro's ``init_to_uniform``.

        Raises:
            RuntimeError: no finite position was found.
        """
        return self._start(key)

    def ravel(self, position: PyTree) -> Array:
        """A position as a vector of length `dim`."""
        return ravel_pytree(position)[0]

    def unravel(self, vector: Array) -> PyTree:
        """The position of which `ravel` gives ``vector``.

        Raises:
            ValueError: the vector is not of shape ``(dim,)``.
        """
        if jnp.shape(vector) != (self.dim,):
            raise ValueError(
                f"vector has shape {jnp.shape(vector)}: expected ({self.dim},); map over batch axes with jax.vmap"
            )
        zeros = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), self.structure)
        return ravel_pytree(zeros)[1](vector)

    def require(self, traits: frozenset[str] | set[str], sampler: str) -> None:
        """Check that the target has what ``sampler`` needs.

        Raises:
            ValueError: something is missing; says what, and how to supply it.
        """
        missing = sorted(set(traits) - self.traits)
        if missing:
            raise ValueError(
                f"{sampler} needs {', '.join(missing)} of its target, which has {_listed(self.traits)}. "
                + " ".join(_ADVICE[name] for name in missing)
            )

    def __repr__(self) -> str:
        return f"Target(dim={self.dim}, traits={_listed(self.traits)})"


_ADVICE = {
    "prox": "Use a prior with a proximal operator, such as armillary.imaging.L1, or pass prox= to Target(...).",
    "smooth_log_density": "Pass smooth_log_density= to Target(...), or use a prior with a proximal operator.",
    "sample_prior": "Give the model proper priors, or pass sample_prior= to Target(...).",
    "denoiser": "Pass denoiser= to Target(...).",
}


def _listed(traits: frozenset[str]) -> str:
    return ", ".join(sorted(traits)) or "no optional capability"


def _check_structure(structure: PyTree) -> None:
    leaves: Mapping[Any, Any] = dict(jax.tree_util.tree_leaves_with_path(structure))
    if not leaves:
        raise ValueError("the target has no parameter: a position is an empty pytree")
    for path, leaf in leaves.items():
        if not jnp.issubdtype(leaf.dtype, jnp.floating):
            where = jax.tree_util.keystr(path) or "the position"
            raise ValueError(
                f"{where} has dtype {leaf.dtype}: unconstrained parameters are real floating-point arrays "
                "(split a complex one into its real and imaginary parts)"
            )
