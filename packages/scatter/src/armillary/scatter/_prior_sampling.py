r"""Chains that lead from a Gaussian field to one of a tilted density, :math:`N(x; 0, C)\, e^{-\beta U(x)}`.

In coordinates y in which the Gaussian is a standard one, Hamiltonian Monte Carlo with its harmonic part exact: a step
is half a kick by :math:`-\beta \nabla U`, a rotation of y and its momentum, and half a kick. At :math:`\beta = 0` every
step is accepted, whatever its length and the dimension (Shahbaba B., Lan S., Johnson W. O., Neal R. M. 2014, Stat.
Comput. 24, 339, doi:10.1007/s11222-012-9373-1).
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

#: Leapfrog steps of a transition, and the angle of the longest: a quarter of a turn in all.
_LEAPS, _LONGEST = 8, math.pi / 16
#: Chains that find the temperatures and the steps for all others.
_PILOTS = 16
#: The part of the transitions after which a chain is at the full tilt.
_ANNEALED = 0.75
#: Numbers that the fields of one batch have at most.
_BATCH = 2**20


class Chains(NamedTuple):
    r"""What annealed chains did, each of independent steps from a Gaussian field.

    Attributes:
        x: where they ended, harmonic coefficients in the real layout.
        potential: U after every transition.
        acceptance: the probability with which every transition was accepted.
        tilt: :math:`\beta` of every transition.
        log_weight: the logarithm of the weight of annealed importance sampling, whose mean is the normaliser's
            estimate.
    """

    x: Float[Array, "chains L**2"]
    potential: Float[Array, "chains steps"]
    acceptance: Float[Array, "chains steps"]
    tilt: Float[Array, " steps"]
    log_weight: Float[Array, " chains"]


@functools.partial(jax.jit, static_argnums=(2, 3))
def anneal(prior: Any, key: jax.Array, count: int, steps: int) -> Chains:
    """Run `count` chains, by batches.

    Args:
        prior: with `potential`, of coefficients in the real layout, and `root`, their standard deviations in the
            Gaussian.
        key: a random key.
        count: the number of chains.
        steps: the number of transitions.
    """
    root = prior.root

    def U(y: Array) -> Array:
        return prior.potential(root * y)

    pilot, main = jax.random.split(key)
    tilts, angles = _schedule(U, pilot, root, steps)

    def chain(key: jax.Array) -> tuple[Array, ...]:
        first, rest = jax.random.split(key)
        y = jax.random.normal(first, root.shape, root.dtype)

        def transition(carry: tuple[Array, ...], inputs: tuple[Array, ...]) -> Any:
            y, log_weight, before = carry
            key, tilt, angle = inputs
            y, old, new, accepted = _transition(U, key, y, tilt, angle)
            return (y, log_weight - (tilt - before) * old, tilt), (new, accepted)

        zero = jnp.zeros((), root.dtype)
        end, traces = jax.lax.scan(transition, (y, zero, zero), (jax.random.split(rest, steps), tilts, angles))
        return root * end[0], *traces, end[1]

    # Powers of two, so that few numbers of chains are compiled for and batches are whole.
    padded = 1 << (count - 1).bit_length()
    batch = min(padded, max(1, 1 << (_BATCH // root.size).bit_length() - 1))
    keys = jax.random.split(main, padded)
    ran = jax.lax.map(jax.vmap(chain), keys.reshape(padded // batch, batch, *keys.shape[1:]))
    x, potential, acceptance, log_weight = (part.reshape(padded, *part.shape[2:])[:count] for part in ran)
    return Chains(x, potential, acceptance, tilts, log_weight)


def _schedule(U: Callable[[Array], Array], key: jax.Array, root: Array, steps: int) -> tuple[Array, Array]:
    """The tilts, of which each adds a potential that varies by no more than about 1, and the angles of the steps."""
    first, rest = jax.random.split(key)
    y = jax.random.normal(first, (_PILOTS, root.size), root.dtype)
    u = jax.vmap(U)(y)
    last = max(1, int(_ANNEALED * steps))
    move = jax.vmap(functools.partial(_transition, U), (0, 0, None, None))

    def transition(carry: tuple[Array, ...], inputs: tuple[Array, Array]) -> Any:
        y, u, tilt, log_angle = carry
        key, k = inputs
        # As many equal parts as there are left, or smaller ones while the potential varies much.
        left = jnp.maximum(last - k, 1).astype(u.dtype)
        spread = jnp.maximum(u.std(), jnp.finfo(u.dtype).tiny)
        tilt = jnp.where(k >= last - 1, 1, tilt + jnp.minimum(1 / spread, (1 - tilt) / left))
        angle = jnp.exp(log_angle)
        y, _, u, accepted = move(jax.random.split(key, _PILOTS), y, tilt, angle)
        log_angle = jnp.minimum(log_angle + 0.7 * (accepted.mean() - 0.8), math.log(_LONGEST))
        return (y, u, tilt, log_angle), (tilt, angle)

    start = (y, u, jnp.zeros((), root.dtype), jnp.full((), math.log(_LONGEST), root.dtype))
    return jax.lax.scan(transition, start, (jax.random.split(rest, steps), jnp.arange(steps)))[1]


def _transition(
    U: Callable[[Array], Array], key: jax.Array, y: Array, tilt: Array, angle: Array
) -> tuple[Array, Array, Array, Array]:
    """The next position, the potential before and after, and the probability with which the step was accepted."""
    for_momentum, for_angle, for_choice = jax.random.split(key, 3)
    start = y
    p = momentum = jax.random.normal(for_momentum, y.shape, y.dtype)
    # Of random length, for a whole number of turns of some direction would lead nowhere.
    angle = angle * jax.random.uniform(for_angle, (), y.dtype, 0.7, 1.0)

    def leap(k: Array, state: tuple[Array, ...]) -> tuple[Array, ...]:
        y, p, first, _ = state
        u, slope = jax.value_and_grad(U)(y)
        # Half kicks at both ends; in between those of two steps are one. There is no turn after the last.
        inside = (k > 0) & (k < _LEAPS)
        p = p - jnp.where(inside, 1, 0.5) * angle * tilt * slope
        turn = jnp.where(k < _LEAPS, angle, 0)
        cos, sin = jnp.cos(turn), jnp.sin(turn)
        return cos * y + sin * p, cos * p - sin * y, jnp.where(k == 0, u, first), u

    zero = jnp.zeros((), y.dtype)
    y, p, old, new = jax.lax.fori_loop(0, _LEAPS + 1, leap, (y, p, zero, zero))
    change = tilt * (new - old) + ((y**2 - start**2 + p**2 - momentum**2) / 2).sum()
    change = jnp.where(jnp.isnan(change), jnp.inf, change)
    accepted = jnp.log(jax.random.uniform(for_choice, (), y.dtype)) < -change
    return jnp.where(accepted, y, start), old, jnp.where(accepted, new, old), jnp.exp(jnp.minimum(0, -change))
