"""The transfer function of Eisenstein and Hu, what the emulated one is relative to."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

_THETA = 2.7255 / 2.7


def log_transfer(
    omega_b: Float[Array | np.ndarray, ""] | float, omega_m: Float[Array, ""], k: Float[Array | np.ndarray, " nk"]
) -> Array:
    """Ln of the transfer function of cold dark matter and baryons, with acoustic oscillations, good to some percent.

    Eisenstein D.J., Hu W. 1998, ApJ 496, 605, doi:10.1086/305424, equations 2 to 24.

    Args:
        omega_b: physical density of baryons.
        omega_m: that of all matter.
        k: wavenumbers in 1/Mpc.
    """
    k = jnp.asarray(k, jnp.result_type(omega_b, omega_m))
    baryons = omega_b / omega_m
    dark = 1 - baryons
    z_equal = 2.5e4 * omega_m / _THETA**4
    k_equal = 0.0746 * omega_m / _THETA**2
    b1 = 0.313 * omega_m**-0.419 * (1 + 0.607 * omega_m**0.674)
    b2 = 0.238 * omega_m**0.223
    z_drag = 1291 * omega_m**0.251 / (1 + 0.659 * omega_m**0.828) * (1 + b1 * omega_b**b2)
    r_drag, r_equal = (31.5e3 * omega_b / _THETA**4 / z for z in (z_drag, z_equal))
    root = jnp.sqrt(1 + r_drag) + jnp.sqrt(r_drag + r_equal)
    sound_horizon = 2 / (3 * k_equal) * jnp.sqrt(6 / r_equal) * jnp.log(root / (1 + jnp.sqrt(r_equal)))
    k_silk = 1.6 * omega_b**0.52 * omega_m**0.73 * (1 + (10.4 * omega_m) ** -0.95)
    q, ks = k / (13.41 * k_equal), k * sound_horizon

    a1 = (46.9 * omega_m) ** 0.670 * (1 + (32.1 * omega_m) ** -0.532)
    a2 = (12.0 * omega_m) ** 0.424 * (1 + (45.0 * omega_m) ** -0.582)
    alpha_dark = a1**-baryons * a2 ** -(baryons**3)
    c1 = 0.944 / (1 + (458 * omega_m) ** -0.708)
    c2 = (0.395 * omega_m) ** -0.0266
    beta_dark = 1 / (1 + c1 * (dark**c2 - 1))
    mix = 1 / (1 + (ks / 5.4) ** 4)
    transfer_dark = mix * _no_baryons(q, 1.0, beta_dark) + (1 - mix) * _no_baryons(q, alpha_dark, beta_dark)

    y = (1 + z_equal) / (1 + z_drag)
    s = jnp.sqrt(1 + y)
    growth = y * (-6 * s + (2 + 3 * y) * jnp.log((s + 1) / (s - 1)))
    alpha_baryons = 2.07 * k_equal * sound_horizon * (1 + r_drag) ** -0.75 * growth
    beta_node = 8.41 * omega_m**0.435
    beta_baryons = 0.5 + baryons + (3 - 2 * baryons) * jnp.sqrt((17.2 * omega_m) ** 2 + 1)
    phase = ks / (1 + (beta_node / ks) ** 3) ** (1 / 3)
    transfer_baryons = jnp.sinc(phase / np.pi) * (
        _no_baryons(q, 1.0, 1.0) / (1 + (ks / 5.2) ** 2)
        + alpha_baryons / (1 + (beta_baryons / ks) ** 3) * jnp.exp(-((k / k_silk) ** 1.4))
    )
    return jnp.log(baryons * transfer_baryons + dark * transfer_dark)


def _no_baryons(q: Array, alpha: Array | float, beta: Array | float) -> Array:
    log = jnp.log(np.e + 1.8 * beta * q)
    return log / (log + (14.2 / alpha + 386 / (1 + 69.9 * q**1.08)) * q**2)
