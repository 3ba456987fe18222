"""The negative log-likelihood of a linear operator and Gaussian noise."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from jax.scipy.sparse.linalg import cg
from jaxtyping import Array, Float, PyTree

from armillary.core import protocols

from ._check import check_positive
from ._operators_base import Hashed, check_array, real_of


class LeastSquares(Hashed):
    r"""The loss of data with Gaussian noise: :math:`f(x) = \frac{1}{2 \sigma^2} \|A x - y\|^2`.

    It is minus the log-likelihood, but for a constant, and knows what the solvers need: its gradient's Lipschitz
    constant, and its proximal operator.

    >>> import jax.numpy as jnp
    >>> from armillary.imaging import Identity, LeastSquares
    >>> loss = LeastSquares(Identity((2, 2)), jnp.ones((2, 2)), noise=0.5)
    >>> print(loss(jnp.zeros((2, 2))), loss.lipschitz(), loss.prox(jnp.zeros((2, 2)), 0.25)[0])
    8.0 4.0 [0.5 0.5]

    Args:
        operator: any forward operator.
        data: what was measured, of the structure that comes out of it; complex data have this noise in the real and in
            the imaginary part.
        noise: the standard deviation, positive; a number, or, where the data are one array, one for each of them.

    Raises:
        ValueError: no operator, data of another shape, or a noise that is not positive and finite.
    """

    operator: Any
    data: PyTree
    noise: Float[Array, ...]

    def __init__(self, operator: Any, data: PyTree, noise: float | Float[Array, ...] = 1.0) -> None:
        if not isinstance(operator, protocols.ForwardOperator):
            raise ValueError(f"operator={operator!r}: expected a forward operator; LinearMap makes one of a function")
        check_positive("noise", noise, "it is the standard deviation of the noise of the data", array=True)
        structure = operator.out_structure()
        # A PyTreeDef is compiled, and jaxlib says nothing of its type.
        if jax.tree.structure(data) != jax.tree.structure(structure):  # type: ignore[operator]
            raise ValueError(f"data is {jax.tree.structure(data)}: the operator gives {jax.tree.structure(structure)}")
        for leaf, expected in zip(jax.tree.leaves(data), jax.tree.leaves(structure), strict=True):
            if jnp.shape(leaf) != expected.shape:
                raise ValueError(f"data has shape {jnp.shape(leaf)}: the operator gives {expected.shape}")
        self.operator = operator
        self.data = jax.tree.map(lambda leaf, expected: check_array("data", leaf, expected), data, structure)
        self.noise = jnp.asarray(noise)

    def __call__(self, x: PyTree) -> Float[Array, ""]:
        """The loss at an image."""
        residual = jax.tree.map(lambda a, y: self._whitened(a - y.astype(a.dtype)), self.operator(x), self.data)
        return 0.5 * sum(jnp.vdot(leaf, leaf).real for leaf in jax.tree.leaves(residual))  # type: ignore[return-value]

    def lipschitz(self) -> Float[Array, ""]:
        r"""That of the gradient: :math:`(\|A\| / \sigma)^2`, with the least of the noise."""
        return (self.operator.opnorm() / jnp.min(self.noise)) ** 2

    def prox(self, x: Array, step: Any) -> Array:
        r"""The proximal operator, :math:`(1 + \mathrm{step}\, A^* \sigma^{-2} A)^{-1} (x + \mathrm{step}\, A^*
        \sigma^{-2} y)`, by conjugate gradients.
        """
        step = jnp.asarray(step).astype(x.dtype)

        def back(y: PyTree) -> Array:
            return self.operator.adjoint(jax.tree.map(lambda leaf: self._whitened(self._whitened(leaf)), y))

        right = x + step * back(self.data).astype(x.dtype)
        epsilon = jnp.finfo(x.dtype).eps
        return cg(lambda u: u + step * back(self.operator(u)), right, x, tol=8 * epsilon, maxiter=500)[0]

    def _whitened(self, y: Array) -> Array:
        return y / self.noise.astype(real_of(y.dtype))
