"""Lowering of a NumPyro model to a `Target`."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
from jaxtyping import Array, PyTree
from numpyro import handlers
from numpyro.distributions import Distribution, ExpandedDistribution, Independent
from numpyro.infer import util

if TYPE_CHECKING:
    from ._target import Target

Site = dict[str, Any]


def lower(cls: type[Target], model: Callable[..., Any], args: tuple, kwargs: dict) -> Target:
    """Make a target of a model: see `Target.from_numpyro`."""
    seeded = handlers.seed(model, jax.random.key(0))
    sites = _trace(seeded, args, kwargs)
    latent = _check(sites)
    # The values of numpyro.param and mutable sites are fixed at their first ones, as NumPyro's own samplers do.
    fixed = {name: site["value"] for name, site in sites.items() if site["type"] in ("param", "mutable")}
    unseeded = handlers.substitute(model, data=fixed)
    seeded = handlers.substitute(seeded, data=fixed)

    def log_probs(position: PyTree) -> dict[str, Array]:
        # The substitution that numpyro.infer.util.potential_energy makes: it adds the log-determinant of each site's
        # transform as a factor site.
        substituted = handlers.substitute(seeded, substitute_fn=partial(util._unconstrain_reparam, position))
        with numpyro.validation_enabled(False):
            return util.compute_log_probs(substituted, args, kwargs, {})[0]

    jacobians = {f"_{name}_log_det": name for name in latent}

    def total(position: PyTree, keep: Callable[[str], bool]) -> Array:
        return sum((jnp.asarray(v) for k, v in log_probs(position).items() if keep(k)), start=jnp.zeros(()))

    def log_prior(position: PyTree) -> Array:
        return total(position, lambda name: name in latent or name in jacobians)

    def log_likelihood(position: PyTree) -> Array:
        return total(position, lambda name: name not in latent and name not in jacobians)

    def sample_prior(key: jax.Array) -> PyTree:
        drawn = _trace(handlers.seed(unseeded, key), args, kwargs)
        return unconstrain({name: drawn[name]["value"] for name in latent})

    def constrain(position: PyTree) -> PyTree:
        return util.constrain_fn(seeded, args, kwargs, position, return_deterministic=True)

    def unconstrain(params: PyTree) -> PyTree:
        missing = sorted(set(latent) - set(params))
        if missing:
            raise ValueError(f"unconstrain: no value for the site {missing[0]!r}; the model has {sorted(latent)}")
        values = {name: jnp.asarray(params[name]) for name in latent}
        with numpyro.validation_enabled(False):
            return util.unconstrain_fn(seeded, args, kwargs, values)

    position = jax.eval_shape(
        lambda: unconstrain({name: site["value"] for name, site in latent.items()}),
    )
    proximable = {name: p for name, site in latent.items() if (p := _prox_of(site["fn"]))}
    optional: dict[str, Any] = {}
    if proximable:
        _check_proximable(proximable, latent, lambda key: _parameters(unseeded, args, kwargs, latent, key))

        def smooth_log_density(position: PyTree) -> Array:
            return total(position, lambda name: name not in proximable)

        def prox(position: PyTree, step: float | Array) -> PyTree:
            return {name: proximable[name](x, step) if name in proximable else x for name, x in position.items()}

        optional = {"prox": prox, "smooth_log_density": smooth_log_density}
    proper = not any(_is_improper(site["fn"]) for site in latent.values())

    target = cls(
        log_prior,
        log_likelihood,
        sample_prior=sample_prior if proper else None,
        position=jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), position),
        constrain=constrain,
        unconstrain=unconstrain,
        **optional,
    )
    target._start = partial(_initial_position, seeded, args, kwargs)
    return target


def _trace(seeded: Callable[..., Any], args: tuple, kwargs: dict) -> dict[str, Site]:
    """A run of the model on a draw from its prior, which may be so vague that the draw underflows its support."""
    with numpyro.validation_enabled(False):
        return handlers.trace(seeded).get_trace(*args, **kwargs)


def _initial_position(model: Callable[..., Any], args: tuple, kwargs: dict, key: jax.Array) -> PyTree:
    with numpyro.validation_enabled(False):
        info = util.initialize_model(key, model, model_args=args, model_kwargs=kwargs, validate_grad=True)
    return info.param_info.z


def _check(sites: dict[str, Site]) -> dict[str, Site]:
    """Refuse what cannot be lowered; the latent sites."""
    latent = {}
    observed = False
    for name, site in sites.items():
        if site["type"] == "plate":
            size, subsample_size = site["args"]
            if subsample_size is not None and subsample_size != size:
                raise ValueError(
                    f"plate {name!r} is subsampled ({subsample_size} of {size}): its likelihood is random, which "
                    "no sampler here allows. Remove subsample_size, or use stochastic variational inference"
                )
        if site["type"] != "sample":
            continue
        if site["is_observed"]:
            observed = True
        elif site["fn"].support.is_discrete:
            raise ValueError(
                f"latent site {name!r} is discrete ({type(site['fn']).__name__}): marginalise it in the model (for a "
                "mixture numpyro.distributions.MixtureSameFamily does so), or sample the model with NumPyro's "
                "DiscreteHMCGibbs"
            )
        else:
            latent[name] = site
    if not latent:
        raise ValueError("the model has no latent site: there is nothing to sample. Add a numpyro.sample without obs=")
    if not observed:
        raise ValueError(
            "the model has no observed site, so its posterior is its prior: pass the data as the model's argument "
            "and to obs= of a numpyro.sample, wrap it in numpyro.handlers.condition, or add a numpyro.factor"
        )
    return latent


def _base(distribution: Distribution) -> Distribution:
    """The distribution under any wrappers that NumPyro puts round it."""
    while hasattr(distribution, "base_dist"):
        distribution = distribution.base_dist
    return distribution


def _prox_of(distribution: Distribution) -> Callable[[Array, Any], Array] | None:
    """The proximal operator of a site: its distribution's own, also where that is only repeated over axes.

    A mask or a transformation changes the density, and what its base knows of itself no longer holds.
    """
    while isinstance(distribution, (Independent, ExpandedDistribution)):
        distribution = distribution.base_dist
    return getattr(distribution, "prox", None)


def _is_improper(distribution: Distribution) -> bool:
    return isinstance(_base(distribution), numpyro.distributions.ImproperUniform)


def _parameters(
    model: Callable[..., Any], args: tuple, kwargs: dict, latent: dict[str, Site], key: jax.Array
) -> dict[str, list[Array]]:
    sites = _trace(handlers.seed(model, key), args, kwargs)
    return {name: jax.tree.leaves(sites[name]["fn"]) for name in latent}


def _check_proximable(
    proximable: dict[str, Any],
    latent: dict[str, Site],
    parameters: Callable[[jax.Array], dict[str, list[Array]]],
) -> None:
    for name in proximable:
        site = latent[name]
        if site["fn"].support is not numpyro.distributions.constraints.real and not _is_real(site["fn"].support):
            raise ValueError(
                f"site {name!r} has a proximal operator but the support {site['fn'].support}: proximal samplers "
                "work on the values themselves, so its support must be real"
            )
        if site["scale"] is not None:
            raise ValueError(f"site {name!r} has a proximal operator and a scale handler: put the scale in the prior")
    try:
        first, second = (parameters(jax.random.key(seed)) for seed in (1, 2))
        depends = {
            name
            for name in proximable
            if any(not np.array_equal(a, b) for a, b in zip(first[name], second[name], strict=True))
        }
    except jax.errors.TracerArrayConversionError:
        return  # the arguments are traced: this was checked when the kernel was made from concrete ones
    if depends:
        raise ValueError(
            f"the prior of {sorted(depends)[0]!r} depends on another latent site: its proximal operator is known "
            "for fixed parameters only. Fix them, or sample this model with NUTS"
        )


def _is_real(support: Any) -> bool:
    return getattr(support, "base_constraint", support) is numpyro.distributions.constraints.real
