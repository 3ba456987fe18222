"""The prior that a field is sparse in wavelets."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, ArrayLike, Float
from numpyro import distributions as dist
from numpyro.distributions import constraints

from ._checks import check_array
from ._coefficients import alm_from_real, alm_to_real
from ._wavelet_transform import WaveletCoefficients
from ._wavelets import Wavelets

#: Steps of the chain at whose end a draw is, and iterations after which the proximal operator gives up.
_DRAW_STEPS, _MOST_ITERATIONS = 50, 2000
#: Up to this bandlimit draws are made with the matrix of the analysis: many small transforms take longer.
_DENSE_BANDLIMIT = 8


class WaveletL1(dist.Distribution):
    r"""A real field whose wavelet coefficients are sparse, as the distribution of its harmonic coefficients.

    .. math:: p(x) = \frac{1}{Z\, b^{L^2}} \exp\Bigl(-\frac{\|x\|_\psi}{b}\Bigr), \qquad
              \|x\|_\psi = \int |W_{scaling}| \,\mathrm d\Omega + \sum_j \int |W_j|
              \,\mathrm d\alpha \sin\beta \,\mathrm d\beta \,\mathrm d\gamma,

    with the integrals as sums over the samples with the weights of the grid's quadrature, so that the strength of the
    prior depends neither on the grid nor on the resolution of a scale. A value is the real layout of the coefficients,
    a vector of length ``L**2`` (see `alm_to_real`), as for `IsotropicGaussian`.

    It is normalised up to the constant Z, which depends on the wavelets alone: a frame is redundant, and the volume of
    the unit ball of its norm is not known. `log_prob` is without it. The dependence on b is known, because the exponent
    is a norm: b may have a prior of its own, and evidences of models with the same wavelets may be compared.

    Draws are not independent of the start of the Markov chain from which they are taken, 50 steps of Hamiltonian Monte
    Carlo from a Gaussian field; they are for starts of chains and for prior predictive checks.

    Args:
        wavelets: real, on grid ``"gl"`` or ``"dh"``, of any kind but ridgelets: a tight frame. The grid of the data is
            not concerned.
        scale: the scale b, positive; leading axes are a batch.
        tolerance: where the iterations of `prox` stop: the change in one of them, relative to its argument.
        validate_args: check `scale` and the values, where they are not traced.

    Raises:
        ValueError: the wavelets are not real, or not a tight frame; or, if `validate_args`, `scale` is not positive.

    References: McEwen J. D. et al. 2013, IEEE Trans. Image Process. 22, 2275, doi:10.1109/TIP.2013.2249079
    (arXiv:1205.1013); Wallis C. G. R., Wiaux Y., McEwen J. D. 2016 (arXiv:1608.00553).

    >>> import jax.numpy as jnp
    >>> from armillary.sphere import WaveletL1, Wavelets
    >>> prior = WaveletL1(Wavelets(L=4, N=2), scale=0.5)
    >>> x = jnp.arange(16.0)
    >>> prior.log_prob(jnp.stack([x, -x])).shape
    (2,)
    >>> shrunk = prior.prox(x, 0.1)
    >>> bool(prior.log_prob(shrunk) > prior.log_prob(x))
    True
    """

    arg_constraints = {"scale": constraints.positive}  # noqa: RUF012
    support = constraints.real_vector
    reparametrized_params = ["scale"]  # noqa: RUF012
    pytree_data_fields = ("scale",)
    pytree_aux_fields = ("wavelets", "tolerance")
    #: The density is known up to a constant.
    normalised = False

    def __init__(
        self,
        wavelets: Wavelets,
        scale: Float[ArrayLike, "*shape"] = 1.0,
        *,
        tolerance: float = 1e-6,
        validate_args: bool | None = None,
    ) -> None:
        if not isinstance(wavelets, Wavelets):
            raise ValueError(f"wavelets={wavelets!r}: wavelets such as Wavelets(64, N=3) are needed")
        if not wavelets.real:
            raise ValueError("wavelets have real=False: the prior is of a real field; make them with real=True")
        if wavelets.grid not in ("gl", "dh") or wavelets.kind == "ridgelet":
            raise ValueError(
                f"wavelets have grid={wavelets.grid!r} and kind={wavelets.kind!r}: only on 'gl' and 'dh', and of other "
                "kinds than 'ridgelet', are they a tight frame; the map may be on any other grid"
            )
        if not (isinstance(tolerance, (int, float)) and 0 < tolerance < 1):
            raise ValueError(f"tolerance={tolerance!r}: a number between 0 and 1, such as 1e-6")
        self.wavelets = wavelets
        self.scale = jnp.asarray(scale)
        self.tolerance = float(tolerance)
        super().__init__(self.scale.shape, (wavelets.L**2,), validate_args=validate_args)

    def norm(self, x: Float[Array, "... L**2"]) -> Float[Array, "*shape"]:
        r"""The norm :math:`\|x\|_\psi`."""
        return _norm(self.wavelets, self._check(x))

    @dist.util.validate_sample
    def log_prob(self, value: Float[Array, "... L**2"], intermediates: Any = None) -> Array:
        """The log-density of coefficients in the real layout, but for the constant ln Z."""
        return -self.norm(value) / self.scale - self.wavelets.L**2 * jnp.log(self.scale)

    def prox(self, x: Float[Array, "... L**2"], step: Float[ArrayLike, "*shape"]) -> Float[Array, "... L**2"]:
        r"""The proximal operator :math:`\arg\min_u \|u\|_\psi / b + |u - x|^2 / (2\,\text{step})`.

        With analysis A and synthesis S it is :math:`x - S q`, where q, no larger than step / b anywhere, minimises
        :math:`|x - S q|`: by accelerated projected gradients, :math:`q \leftarrow \text{clip}(q + A (x - S q))`, until
        x - S q changes by less than `tolerance`. Derivatives, of either mode, are those of the solution and not of the
        iterations: it is linear where the same q are at their bounds. With M the mask of those that are not, its
        derivative is the projection on the null space of S M A.

        Args:
            x: coefficients in the real layout, with any leading batch axes.
            step: the step, positive; a number, or one for each element of the batch.

        References: Chambolle A. 2004, J. Math. Imaging Vis. 20, 89, doi:10.1023/B:JMIV.0000011325.36760.1e; Beck A.,
        Teboulle M. 2009, SIAM J. Imaging Sci. 2, 183, doi:10.1137/080716542; restarts: O'Donoghue B., Candès E. 2015,
        Found. Comput. Math. 15, 715, doi:10.1007/s10208-013-9150-3.
        """
        x = self._check(x)
        bound = jnp.asarray(step / self.scale, x.dtype)
        batch = x.shape[:-1]
        bound = jnp.broadcast_to(bound, batch).reshape(-1)
        return _prox(self.wavelets, x.reshape(-1, x.shape[-1]), bound, self.tolerance).reshape(x.shape)

    def sample(self, key: jax.Array, sample_shape: tuple[int, ...] = ()) -> Float[Array, "... L**2"]:
        """Draws of shape ``sample_shape + batch_shape + (L**2,)``, of which the class says how good they are."""
        dtype = jnp.result_type(self.scale, jnp.float32)
        shape = (*sample_shape, *self.batch_shape)
        count = math.prod(shape)
        # A power of two, so that few numbers of draws are compiled for.
        draws = _draw(self.wavelets, key, 1 << (count - 1).bit_length(), dtype)[:count]
        return draws.reshape(*shape, -1) * self.scale[..., None].astype(dtype)

    def _check(self, x: Any) -> Array:
        return check_array("x", x, (self.wavelets.L**2,), "real", "the real layout of coefficients")


def _weights(w: Wavelets, dtype: np.dtype) -> WaveletCoefficients[np.ndarray]:
    """What the samples stand for in an integral; broadcasts with them."""
    wavelets = tuple(
        (grid.weights * (2 * np.pi / structure.shape[0])).astype(dtype)[:, None]
        for grid, structure in zip(w.grids, w.out_structure().wavelets, strict=True)
    )
    return WaveletCoefficients(w.scaling_grid.weights.astype(dtype)[:, None], wavelets)


def _inner(
    weights: WaveletCoefficients[np.ndarray], a: WaveletCoefficients[Array], b: WaveletCoefficients[Array]
) -> Array:
    terms = jax.tree.map(lambda w, a, b: (w * a * b).sum(), weights, a, b)
    return functools.reduce(jnp.add, jax.tree.leaves(terms))


@functools.partial(jax.jit, static_argnums=0)
def _norm(w: Wavelets, x: Array) -> Array:
    c = w.analysis(alm_from_real(x))

    def integral(weights: np.ndarray, maps: Array) -> Array:
        return (abs(maps) * weights).sum(axis=tuple(range(x.ndim - 1, maps.ndim)))

    return functools.reduce(jnp.add, jax.tree.leaves(jax.tree.map(integral, _weights(w, x.dtype), c)))


@functools.partial(jax.jit, static_argnums=0)
def _prox(w: Wavelets, x: Array, bound: Array, tolerance: float) -> Array:
    return jax.vmap(lambda x, bound: _prox_of_one(w, x, bound, tolerance))(x, bound)


@functools.partial(jax.custom_jvp, nondiff_argnums=(0,))
def _prox_of_one(w: Wavelets, x: Array, bound: Array, tolerance: float) -> Array:
    return x - alm_to_real(w.synthesis(_dual(w, x, bound, tolerance)))


@_prox_of_one.defjvp
def _prox_jvp(w: Wavelets, primals: tuple[Array, Array, Array], tangents: tuple[Array, Array, Array]) -> Any:
    x, bound, tolerance = primals
    q = _dual(w, x, bound, tolerance)
    free = jax.tree.map(lambda q: abs(q) < bound, q)

    def through(v: Array) -> Array:
        """S M A, which is symmetric."""
        c = w.analysis(alm_from_real(v))
        return alm_to_real(w.synthesis(jax.tree.map(lambda f, c: jnp.where(f, c, 0), free, c)))

    edge = jax.tree.map(lambda f, q: jnp.where(f, 0, jnp.sign(q)), free, q)
    change = tangents[0] - tangents[1] * alm_to_real(w.synthesis(edge))
    # A projection is linear and symmetric, as a solution is: all that its own derivatives need.
    projected = lax.custom_linear_solve(through, change, _null_space_part, symmetric=True)
    return x - alm_to_real(w.synthesis(q)), projected


def _null_space_part(matvec: Callable[[Array], Array], v: Array) -> Array:
    """The projection of a vector on the null space of a matrix, symmetric and with eigenvalues from 0 to 1.

    Conjugate gradients for the rest of it, in which the rounding errors do not grow although the matrix is singular.
    """
    enough = (64 * jnp.finfo(v.dtype).eps) ** 2 * (v @ v)

    def iterate(state: Any) -> Any:
        left, image, before, along, k = state
        size = left @ image
        along = image + size / before * along
        left = left - size / (along @ along) * along
        return left, matvec(left), size, along, k + 1

    def unfinished(state: Any) -> Array:
        left, image, *_, k = state
        return (left @ image > enough) & (k < _MOST_ITERATIONS)

    start = v, matvec(v), jnp.ones((), v.dtype), jnp.zeros_like(v), jnp.array(0)
    return lax.while_loop(unfinished, iterate, start)[0]


def _dual(w: Wavelets, x: Array, bound: Array, tolerance: ArrayLike) -> WaveletCoefficients[Array]:
    """The q of the proximal operator."""
    weights = _weights(w, x.dtype)
    # Below some times the rounding error nothing settles.
    enough = jnp.maximum(tolerance, 8 * jnp.finfo(x.dtype).eps) * jnp.linalg.norm(x)

    def residual(q: WaveletCoefficients[Array]) -> Array:
        return x - alm_to_real(w.synthesis(q))

    def iterate(state: Any) -> Any:
        q, z, momentum, u, _, k = state
        new_u = residual(z)
        # In the metric of the weights the frame is tight, so that the step is 1 and the projection is by element.
        new_q = jax.tree.map(lambda z, c: jnp.clip(z + c, -bound, bound), z, w.analysis(alm_from_real(new_u)))
        moved = jax.tree.map(jnp.subtract, new_q, q)
        restart = _inner(weights, jax.tree.map(jnp.subtract, z, new_q), moved) > 0
        after = jnp.where(restart, 1, (1 + jnp.sqrt(1 + 4 * momentum**2)) / 2)
        ahead = jnp.where(restart, 0, (momentum - 1) / after)
        new_z = jax.tree.map(lambda q, d: q + ahead * d, new_q, moved)
        return new_q, new_z, after, new_u, jnp.linalg.norm(new_u - u) > enough, k + 1

    def unfinished(state: Any) -> Array:
        # The first iteration starts from 0 and has nothing to compare with.
        return (state[4] | (state[5] < 2)) & (state[5] < _MOST_ITERATIONS)

    q = jax.tree.map(lambda s: jnp.zeros(s.shape, x.dtype), w.out_structure())
    start = q, q, jnp.ones((), x.dtype), x, jnp.array(True), jnp.array(0)
    return lax.while_loop(unfinished, iterate, start)[0]


@functools.partial(jax.jit, static_argnums=(0, 2, 3))
def _draw(w: Wavelets, key: jax.Array, count: int, dtype: np.dtype) -> Array:
    """Draws at the scale 1, by chains that all start anew.

    The radius has a known density, a Gamma of L**2, and is drawn with every step of the chain.
    """
    size = w.L**2
    spread = np.repeat(np.sqrt(_gaussian_power(w)), 2 * np.arange(w.L) + 1).astype(dtype)
    step = 0.8 * size**-0.25
    leaps = math.ceil(1.5 / step)
    if w.L <= _DENSE_BANDLIMIT:
        c = w.analysis(alm_from_real(jnp.diag(jnp.asarray(spread))))
        parts = jax.tree.map(lambda weights, maps: (weights * maps).reshape(size, -1), _weights(w, dtype), c)
        matrix = jnp.concatenate(jax.tree.leaves(parts), axis=1)

    def norm(y: Array) -> Array:
        if w.L <= _DENSE_BANDLIMIT:
            return abs(jnp.matmul(y, matrix, precision="highest")).sum(axis=1)
        return _norm(w, spread * y)

    slope = jax.grad(lambda y: norm(y).sum())

    def hmc(y: Array, key: jax.Array) -> tuple[Array, None]:
        keys = jax.random.split(key, 4)
        # A Gamma of whole order is a sum of exponentials.
        y = y * (jax.random.exponential(keys[0], y.shape, dtype).sum(axis=1) / norm(y))[:, None]
        p = jax.random.normal(keys[1], y.shape, dtype)
        length = step * jax.random.uniform(keys[2], (count, 1), dtype, 0.5, 1.0)

        def leap(_: Any, state: tuple[Array, Array]) -> tuple[Array, Array]:
            y, p = state
            y = y + length * p
            return y, p - length * slope(y)

        new_y, new_p = lax.fori_loop(0, leaps, leap, (y, p - length / 2 * slope(y)))
        new_p = new_p + length / 2 * slope(new_y)
        energy = norm(new_y) - norm(y) + ((new_p**2 - p**2) / 2).sum(axis=1)
        accepted = jnp.log(jax.random.uniform(keys[3], (count,), dtype)) < -energy
        return jnp.where(accepted[:, None], new_y, y), None

    first, steps = jax.random.split(key)
    y = jax.random.normal(first, (count, size), dtype)
    return lax.scan(hmc, y, jax.random.split(steps, _DRAW_STEPS))[0] * spread


@functools.lru_cache(maxsize=64)
def _gaussian_power(w: Wavelets) -> np.ndarray:
    r"""The power spectrum of a Gaussian field with about the spread of a draw at the scale 1.

    Of the quadratic :math:`c^2 / (2 E|c|)` in place of :math:`|c|`, whose expectation follows from the power in turn.
    """
    filters = w.filters
    active = (abs(filters.directionality) ** 2).sum(axis=1)
    squares = np.concatenate([filters.scaling[None] ** 2, filters.kappa**2 * active])
    # The variance of a sample, per unit of power.
    variance = squares * (2 * np.arange(w.L) + 1) / (4 * np.pi)
    variance[1:] /= 2 * np.pi
    power = np.ones(w.L)
    for _ in range(200):
        size = np.sqrt(2 / np.pi * np.maximum(variance @ power, 1e-300))
        power = 1 / (squares / size[:, None]).sum(axis=0)
    return power
