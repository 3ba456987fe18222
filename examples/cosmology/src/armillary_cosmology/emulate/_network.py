"""The network: layers with an activation whose shape is trained."""

from __future__ import annotations

from itertools import pairwise

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float


class Network(eqx.Module):
    r"""A multilayer perceptron with the activation of CosmoPower.

    .. math:: f(x) = \left(\gamma + \frac{1 - \gamma}{1 + e^{-\beta x}}\right) x

    with :math:`\beta` and :math:`\gamma` of each hidden unit trained like the weights (Spurio Mancini A. et al. 2022,
    MNRAS 511, 1771, arXiv:2106.03846). Called with one vector or a batch of them.
    """

    weights: tuple[Float[Array, "n_in n_out"], ...]
    biases: tuple[Float[Array, " n_out"], ...]
    betas: tuple[Float[Array, " n_out"], ...]
    gammas: tuple[Float[Array, " n_out"], ...]

    def __init__(self, sizes: tuple[int, ...], *, key: jax.Array):
        keys = jax.random.split(key, (len(sizes) - 1, 3))
        pairs = list(pairwise(sizes))
        self.weights = tuple(
            jax.random.normal(keys[i, 0], pair, jnp.float32) / pair[0] ** 0.5 for i, pair in enumerate(pairs)
        )
        self.biases = tuple(jnp.zeros(n, jnp.float32) for _, n in pairs)
        self.betas = tuple(jax.random.normal(keys[i, 1], (n,), jnp.float32) for i, (_, n) in enumerate(pairs[:-1]))
        self.gammas = tuple(jax.random.uniform(keys[i, 2], (n,), jnp.float32) for i, (_, n) in enumerate(pairs[:-1]))

    def __call__(self, x: Float[Array, "*batch n_in"]) -> Float[Array, "*batch n_out"]:
        hidden = zip(self.weights, self.biases, self.betas, self.gammas, strict=False)
        for weight, bias, beta, gamma in hidden:
            x = x @ weight.astype(x.dtype) + bias.astype(x.dtype)
            beta, gamma = beta.astype(x.dtype), gamma.astype(x.dtype)
            x = (gamma + jax.nn.sigmoid(beta * x) * (1 - gamma)) * x
        return x @ self.weights[-1].astype(x.dtype) + self.biases[-1].astype(x.dtype)
