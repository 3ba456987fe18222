"""Fields at arbitrary points."""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, ArrayLike, Complex, Float

from ._checks import check_integer
from ._coefficients import _check_dense
from ._grids import ClenshawCurtis
from ._phases import check_angle, phases
from ._sht import SHT

#: Numbers in the intermediate arrays of a chunk of points.
_CHUNK = 1 << 21


def evaluate(
    alm: Complex[Array, "... L 2*L-1"],
    theta: Float[ArrayLike, "*points"],
    phi: Float[ArrayLike, "*points"],
    spin: int = 0,
) -> Complex[Array, "*values"]:
    r"""The field at arbitrary points of the sphere, to rounding.

    .. math:: f(\theta, \phi) = \sum_{l m} a_{lm}\, {}_sY_{lm}(\theta, \phi)
              = \sum_{m=1-L}^{L-1} e^{i m \phi} \sum_{k=0}^{L-1} F_{mk}
                \begin{cases} \cos k \theta & m + s \text{ even} \\ \sin k \theta & m + s \text{ odd} \end{cases}

    The field on a Clenshaw-Curtis grid gives the Fourier coefficients F, once for all points; the sums over them are
    matrix products by chunks of points, in time ``points * L**2``. Differentiable in all three arguments. At a pole the
    field of a spin is that of the meridian `phi`.

    Args:
        alm: coefficients; leading axes are a batch.
        theta: colatitudes in radians.
        phi: longitudes in radians; broadcasts against `theta`.
        spin: the spin weight, of either sign.

    Returns:
        The field, complex (its real part is that of ``SHT(..., real=True)``), of the shape of the batch followed by
        that of the points, in the precision of `alm`.

    Raises:
        ValueError: the last axes of `alm` are not ``(L, 2 L - 1)``, `theta` or `phi` is not real, they do not
            broadcast, or ``abs(spin) >= L``.

    Reference: Reinecke M., Belkner S., Carron J. 2023, A&A 678, A165, doi:10.1051/0004-6361/202346717.

    >>> import jax, jax.numpy as jnp
    >>> from armillary.sphere import SHT, GaussLegendre, alm_from_real, evaluate
    >>> alm = alm_from_real(jax.random.normal(jax.random.key(0), (64,)))
    >>> grid = GaussLegendre(8)
    >>> f = evaluate(alm, grid.theta[:, None].astype("float32"), grid.phi.astype("float32"))
    >>> bool(abs(f - SHT(grid).synthesis(alm)).max() < 1e-5)
    True
    """
    alm = _check_dense(alm)
    L = alm.shape[-2]
    spin = check_integer("spin", spin, 1 - L, L - 1, f"a spin at the bandlimit L={L}")
    dtype = alm.real.dtype
    theta, phi = check_angle("theta", theta, dtype), check_angle("phi", phi, dtype)
    try:
        points = np.broadcast_shapes(theta.shape, phi.shape)
    except ValueError:
        raise ValueError(f"theta has shape {theta.shape} and phi {phi.shape}: they must broadcast") from None
    theta, phi = (jnp.broadcast_to(x, points).ravel() for x in (theta, phi))
    if not theta.size or not alm.size:
        return jnp.zeros((*alm.shape[:-2], *points), alm.dtype)
    f = _evaluate(alm.reshape(-1, L, 2 * L - 1), theta, phi, spin)
    return f.reshape(*alm.shape[:-2], *points)


@functools.partial(jax.jit, static_argnums=3)
def _evaluate(alm: Array, theta: Array, phi: Array, spin: int) -> Array:
    batch, L, columns = alm.shape
    even, odd = _fourier(alm, spin)
    matrices = [jnp.stack([x.real, x.imag], axis=2).reshape(L, -1) for x in (even, odd)]
    orders = np.arange(1 - L, L)
    of_even = (orders + spin) % 2 == 0

    count = theta.size
    size = min(count, max(1, _CHUNK // (2 * batch * columns)))
    chunks = -(-count // size)

    def chunk(angles: tuple[Array, Array]) -> Array:
        modes = phases(angles[0], np.arange(L))
        around = phases(angles[1], orders)
        total: Any = 0
        for table, matrix, chosen in ((modes.real, matrices[0], of_even), (modes.imag, matrices[1], ~of_even)):
            sums = jnp.dot(table, matrix, precision=lax.Precision.HIGHEST).reshape(size, batch, 2, chosen.sum())
            total = total + jnp.einsum("pbm,pm->bp", sums[:, :, 0] + 1j * sums[:, :, 1], around[:, chosen])
        return total

    padded = tuple(jnp.pad(x, (0, chunks * size - count)).reshape(chunks, size) for x in (theta, phi))
    f = lax.map(jax.checkpoint(chunk), padded)  # (chunks, b, size)
    return f.transpose(1, 0, 2).reshape(batch, -1)[:, :count]


def _fourier(alm: Array, spin: int) -> tuple[Array, Array]:
    """The coefficients of cos k theta for the orders with m + s even, and of sin k theta for the others: (k, b, m)."""
    L = alm.shape[1]
    grid = ClenshawCurtis(L)
    f = SHT(grid, spin=spin).synthesis(alm)
    rings = grid.shape[0]
    # By order, as a function on the whole circle of colatitude: f(2 pi - theta, m) = (-1)**(m + s) f(theta, m).
    by_order = jnp.fft.fft(f, axis=2, norm="forward")[:, :, np.arange(1 - L, L) % grid.shape[1]]
    sign = jnp.asarray(1 - 2 * ((np.arange(1 - L, L) + spin) % 2), f.real.dtype)
    circle = jnp.concatenate([by_order, sign * by_order[:, rings - 2 : 0 : -1]], axis=1)
    modes = jnp.fft.fft(circle, axis=1, norm="forward")[:, :L].transpose(1, 0, 2)
    modes = modes * jnp.asarray(np.where(np.arange(L) > 0, 2, 1)[:, None, None], f.real.dtype)
    of_even = (np.arange(1 - L, L) + spin) % 2 == 0
    return modes[:, :, of_even], 1j * modes[:, :, ~of_even]
