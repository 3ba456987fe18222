"""The laws of a denoiser."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from ._checks import Broken, Case, check, run
from ._numbers import agree, finite, plain, same_structure, tolerance

SIGMA = 0.1


@check("denoiser", "it gives finite numbers of the shape and dtype of x", "the last layer, and the weights' dtype")
def check_denoiser_structure(case: Case) -> None:
    """The structure of the image, for a noise level that is a Python number or an array."""
    x = _image(case)
    for sigma in (SIGMA, jnp.asarray(SIGMA, x.dtype)):
        denoised = case.component(x, sigma)
        same_structure(denoised, x, "denoiser(x, sigma)")
        finite(denoised, "denoiser(x, sigma)")


@check("denoiser", "a float32 image stays float32 also where x64 is on", "constants and weights of the default dtype")
def check_denoiser_float32_where_x64_is_on(case: Case) -> None:
    """The dtype follows the input."""
    with jax.enable_x64(True):
        x = jax.ShapeDtypeStruct(jnp.shape(_image(case)), jnp.float32)
        same_structure(jax.eval_shape(lambda x: case.component(x, SIGMA), x), x, "denoiser(x, sigma)")


@check("denoiser", "it tends to the identity as sigma tends to 0", "what sigma multiplies")
def check_denoiser_identity(case: Case) -> None:
    """At a hundred-thousandth of the image's own scale."""
    x = _image(case)
    scale = float(np.abs(plain(x)).max())
    moved = float(np.abs(plain(case.component(x, 1e-5 * scale)) - plain(x)).max()) / scale
    if not moved <= 1e-3:
        raise Broken(f"at sigma = 1e-5 of the image's scale it moves x by {moved:.2e} of it, allowed 1e-3")


@check("denoiser", "it depends on sigma", "whether sigma is used")
def check_denoiser_sigma(case: Case) -> None:
    """Two noise levels give two images."""
    x = _image(case)
    scale = float(np.abs(plain(x)).max())
    weak, strong = (plain(case.component(x, level * scale)) for level in (0.01, 0.5))
    if (weak == strong).all():
        raise Broken("at sigma = 0.01 and 0.5 of the image's scale the image is the same")


@check("denoiser", "leading axes are a batch, and vmap and jit equal a loop", "statistics over the batch")
def check_denoiser_batches(case: Case) -> None:
    """By leading axes, under jax.vmap and under jax.jit."""
    x = _image(case)
    images = jnp.stack([x, 0.5 * x, -x])
    rtol = tolerance(x, case.tolerance)
    loop = jnp.stack([case.component(image, SIGMA) for image in images])
    agree(case.component(images, SIGMA), loop, "denoiser of a batch", rtol)
    agree(jax.vmap(lambda x: case.component(x, SIGMA))(images), loop, "denoiser under vmap", rtol)
    agree(jax.jit(case.component)(x, SIGMA), loop[0], "denoiser under jit", rtol)


@check("denoiser", "vmap over sigma equals a loop", "Python branches on sigma")
def check_denoiser_vmapped_sigma(case: Case) -> None:
    """Images and noise levels together."""
    x = _image(case)
    sigmas = jnp.asarray([0.05, 0.1, 0.2], x.dtype)
    images = jnp.stack([x] * 3)
    loop = jnp.stack([case.component(x, sigma) for sigma in sigmas])
    agree(jax.vmap(case.component)(images, sigmas), loop, "denoiser under vmap", tolerance(x, case.tolerance))


@check("denoiser", "its gradient is finite and depends on the image", "jax.lax.stop_gradient, sqrt and norm at 0")
def check_denoiser_gradient(case: Case) -> None:
    """Of the sum of squares of what comes out."""
    x = _image(case)
    gradient = jax.grad(lambda x: jnp.sum(case.component(x, SIGMA) ** 2))(x)
    finite(gradient, "the gradient")
    if not (np.asarray(gradient) != 0).any():
        raise Broken("the gradient is zero everywhere")


def check_denoiser(denoiser: Any) -> None:
    """Run every check of a denoiser: see `armillary.core.protocols.Denoiser` for the laws.

    Args:
        denoiser: a `Case` of it, with an image (a real array, without batch axes) as the example.

    Raises:
        ConformanceError: at the first violation, with the law, the numbers, and what to look at.
    """
    run("denoiser", denoiser)


def _image(case: Case) -> Array:
    return jnp.asarray(case.draw(jax.random.key(0)))
