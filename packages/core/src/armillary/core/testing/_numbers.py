"""Random values, comparisons and the Gaussian problem that the checks share."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, PyTree

from armillary.core._target import OPTIONAL, Target

from ._checks import Broken


def like(structure: PyTree, key: Array) -> PyTree:
    """Standard normal numbers of a structure, complex where it is complex."""
    leaves, treedef = jax.tree.flatten(structure)
    keys = jax.random.split(key, len(leaves))
    return jax.tree.unflatten(
        treedef, [jax.random.normal(k, leaf.shape, leaf.dtype) for k, leaf in zip(keys, leaves, strict=True)]
    )


def structure_of(tree: PyTree) -> PyTree:
    """The shapes and dtypes of a tree."""
    return jax.eval_shape(lambda: tree)


def same_structure(found: PyTree, expected: PyTree, what: str) -> None:
    """Raise unless tree, shapes and dtypes are the same."""
    found, expected = structure_of(found), structure_of(expected)
    tree: Any = jax.tree.structure(found)
    if tree != jax.tree.structure(expected):
        raise Broken(f"{what} is the tree {tree}, expected {jax.tree.structure(expected)}")
    pairs = zip(jax.tree_util.tree_leaves_with_path(found), jax.tree.leaves(expected), strict=True)
    for (path, leaf), other in pairs:
        if (leaf.shape, leaf.dtype) != (other.shape, other.dtype):
            where = jax.tree_util.keystr(path)
            raise Broken(f"{what}{where} is {leaf.dtype}{leaf.shape}, expected {other.dtype}{other.shape}")


def tolerance(tree: PyTree, given: float | None = None) -> float:
    """What the dtype of a tree allows, unless something is given."""
    if given is not None:
        return given
    dtypes = [leaf.dtype for leaf in jax.tree.leaves(structure_of(tree)) if jnp.issubdtype(leaf.dtype, jnp.inexact)]
    return 5e-6 if any(jnp.finfo(dtype).bits < 64 for dtype in dtypes) else 1e-12


def plain(leaf: Any) -> np.ndarray:
    """A leaf in double precision outside JAX; a typed key as its data."""
    if jnp.issubdtype(jnp.result_type(leaf), jax.dtypes.prng_key):
        leaf = jax.random.key_data(leaf)
    array = np.asarray(leaf)
    return array.astype(np.complex128 if np.iscomplexobj(array) else np.float64)


def agree(found: PyTree, expected: PyTree, what: str, rtol: float) -> None:
    """Raise unless every leaf is within ``rtol`` of the largest element of what is expected, or of 1."""
    for (path, leaf), other in zip(jax.tree_util.tree_leaves_with_path(found), jax.tree.leaves(expected), strict=True):
        a, b = plain(leaf), plain(other)
        name = what + jax.tree_util.keystr(path)
        if a.shape != b.shape:
            raise Broken(f"{name} has shape {a.shape}, expected {b.shape}")
        if not np.array_equal(np.isfinite(a), np.isfinite(b)):
            raise Broken(f"{name} is not finite in {(~np.isfinite(a)).sum()} of {a.size} places, expected in others")
        finite = np.isfinite(b)
        scale = max(1.0, float(np.abs(b[finite]).max(initial=0.0)))
        error = float(np.abs(a[finite] - b[finite]).max(initial=0.0)) / scale
        if error > rtol:
            raise Broken(f"{name} differs by {error:.2e} of its largest element, allowed {rtol:.1e}")


def finite(tree: PyTree, what: str) -> None:
    """Raise if a leaf of a tree is not finite."""
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
        array = plain(leaf)
        if not np.isfinite(array).all():
            bad = (~np.isfinite(array)).sum()
            raise Broken(f"{what}{jax.tree_util.keystr(path)} is not finite in {bad} of {array.size} places")


def flat(tree: PyTree) -> np.ndarray:
    """All numbers of a tree, in double precision."""
    return np.concatenate([plain(leaf).ravel() for leaf in jax.tree.leaves(tree)])


def inner(a: PyTree, b: PyTree) -> complex:
    """``sum(conj(a) * b)``, summed in double precision."""
    return complex(np.vdot(flat(a), flat(b)))


def norm(tree: PyTree) -> float:
    """The Euclidean norm."""
    return float(np.linalg.norm(flat(tree)))


def directional(f: Callable[[PyTree], Array], x: PyTree, key: Array, what: str) -> None:
    """Raise unless the gradient of ``f`` agrees with central differences along random directions.

    Richardson's combination of two steps, which cancels the h**2 term of the error.
    """
    flat_x, unravel = ravel_pytree(x)
    value_and_gradient = jax.jit(jax.value_and_grad(lambda v: f(unravel(v))))
    gradient = value_and_gradient(flat_x)[1]
    single = jnp.finfo(value_and_gradient(flat_x)[0].dtype).bits < 64
    # Steps at which truncation and rounding balance, for a function with scales of order 1.
    h, rtol = (3e-2, 2e-2) if single else (1e-3, 1e-6)
    for direction_key in jax.random.split(key, 3):
        direction = jax.random.normal(direction_key, flat_x.shape, flat_x.dtype)
        direction = direction / jnp.linalg.norm(direction)
        values = [float(value_and_gradient(flat_x + t * direction)[0]) for t in (-h, -h / 2, h / 2, h)]
        expected = (8 * (values[2] - values[1]) - (values[3] - values[0])) / (6 * h)
        found = float(gradient @ direction)
        scale = max(1.0, abs(expected), float(jnp.linalg.norm(gradient)))
        if not abs(found - expected) <= rtol * scale:
            raise Broken(
                f"along a random direction the gradient of {what} is {found:.6g}, by differences {expected:.6g}"
            )


class Gaussian:
    r"""A Gaussian posterior with everything that a `Target` can have, and its moments and evidence known.

    The prior is N(0, 4), the likelihood :math:`\exp(-(x - m)^T A (x - m) / 2)`, with A such that the posterior
    precision has the eigenvalues 0.3, 1 and 2 (cyclically, where the dimension is not 3).
    """

    prior_variance = 4.0

    def __init__(self, position: PyTree) -> None:
        self.position = jax.tree.map(jnp.asarray, position)
        vector, self.unravel = ravel_pytree(self.position)
        self.dtype = vector.dtype
        self.dim = vector.size
        rng = np.random.default_rng(20)
        basis = np.linalg.qr(rng.normal(size=(self.dim, self.dim)))[0]
        precision = np.resize([0.3, 1.0, 2.0], self.dim)
        self.curvature = (basis * (precision - 1 / self.prior_variance)) @ basis.T
        self.data = np.resize([1.0, -1.5, 0.5], self.dim)
        self.covariance = (basis / precision) @ basis.T
        self.mean = self.covariance @ self.curvature @ self.data
        self.log_z = float(
            -0.5 * self.dim * np.log(self.prior_variance)
            - 0.5 * np.log(precision).sum()
            - 0.5 * self.data @ self.curvature @ (self.data - self.mean)
        )

    def ravel(self, position: PyTree) -> Array:
        """A position as a vector."""
        return ravel_pytree(position)[0]

    def log_prior(self, position: PyTree) -> Array:
        """Normalised."""
        x = self.ravel(position)
        return -0.5 * x @ x / self.prior_variance - 0.5 * self.dim * float(np.log(2 * np.pi * self.prior_variance))

    def log_likelihood(self, position: PyTree) -> Array:
        """One at its peak."""
        x = self.ravel(position)
        x = x - jnp.asarray(self.data, x.dtype)
        return -0.5 * x @ (jnp.asarray(self.curvature, x.dtype) @ x)

    def sample_prior(self, key: Array) -> PyTree:
        """A draw from the prior."""
        return self.unravel(self.prior_variance**0.5 * jax.random.normal(key, (self.dim,), self.dtype))

    def shrink(self, position: PyTree, by: Any) -> PyTree:
        """The proximal operator of the prior, and by ``sigma**2`` its denoiser."""
        return jax.tree.map(lambda x: x / (1 + jnp.asarray(by / self.prior_variance, x.dtype)), position)

    def target(self, traits: Iterable[str]) -> Target:
        """A target that has these of the optional capabilities and no other."""
        capabilities = {
            "sample_prior": self.sample_prior,
            "smooth_log_density": self.log_likelihood,
            "prox": self.shrink,
            "denoiser": lambda position, sigma: self.shrink(position, sigma**2),
        }
        target = Target(self.log_prior, self.log_likelihood, position=self.position)
        for name in OPTIONAL:
            setattr(target, name, capabilities[name] if name in traits else None)
        return target

    def sample_posterior(self, key: Array, shape: tuple[int, ...]) -> PyTree:
        """Independent posterior draws, with leading axes."""
        factor = jnp.asarray(np.linalg.cholesky(self.covariance), self.dtype)
        draws = jax.random.normal(key, (*shape, self.dim), self.dtype) @ factor.T + jnp.asarray(self.mean, self.dtype)
        unravel = self.unravel
        for _ in shape:
            unravel = jax.vmap(unravel)
        return unravel(draws)
