"""The networks that come with the package."""

from importlib import metadata
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import armillary.imaging
from armillary.imaging import L1Wavelet, pretrained_denoiser

NAMES = ("galaxies", "galaxies-nonexpansive")


def psnr(estimate, truth):
    return float(-10 * jnp.log10(jnp.mean((estimate - truth) ** 2)))


def sky():
    """Blobs of several sizes on a dark sky, in the units of the training images but made by a formula."""
    i, j = np.mgrid[:64, :64]
    image = np.full((64, 64), 0.05)
    for row, column, size, peak in ((12, 20, 2.0, 0.7), (40, 44, 4.0, 0.4), (50, 10, 1.5, 0.9), (25, 50, 3.0, 0.3)):
        image += peak * np.exp(-((i - row) ** 2 + (j - column) ** 2) / (2 * size**2))
    return jnp.asarray(image, jnp.float32)


def test_they_are_small():
    folder = Path(armillary.imaging.__file__).parent / "_weights"
    files = sorted(folder.iterdir())
    assert {file.stem for file in files} == set(NAMES)
    assert sum(file.stat().st_size for file in files) < 2e6
    with pytest.raises(ValueError, match="name='moon': expected one of galaxies, galaxies-nonexpansive"):
        pretrained_denoiser("moon")


@pytest.mark.parametrize("name", NAMES)
def test_they_denoise_what_they_were_not_trained_on(name):
    network, truth, sigma = pretrained_denoiser(name), sky(), 0.1
    noisy = truth + sigma * jax.random.normal(jax.random.key(0), truth.shape)
    denoised = jax.jit(lambda x: network(x, sigma))(noisy)
    assert denoised.dtype == jnp.float32
    # The best scale of a wavelet prior, by its evidence in closed form.
    priors = [L1Wavelet("db4", 3, scale, shape=truth.shape) for scale in (0.02, 0.05, 0.1, 0.2)]
    best = max(priors, key=lambda prior: float(prior.log_evidence(noisy, sigma)))
    gain = 3.0 if name == "galaxies" else 0.5
    assert psnr(denoised, truth) > psnr(best.posterior_mean(noisy, sigma), truth) + gain


def test_the_residual_of_one_is_non_expansive():
    network = pretrained_denoiser("galaxies-nonexpansive")
    assert network.spectral_norm

    @jax.jit
    def constant(x, sigma, v):
        residual = lambda x: x - network(x, sigma)  # noqa: E731

        def body(_, carry):
            product = jax.vjp(residual, x)[1](jax.jvp(residual, (x,), (carry[0],))[1])[0]
            norm = jnp.linalg.norm(product)
            return product / norm, norm

        return jnp.sqrt(jax.lax.fori_loop(0, 40, body, (v / jnp.linalg.norm(v), jnp.zeros(())))[1])

    noise = jax.random.normal(jax.random.key(1), (64, 64))
    found = [float(constant(sky() + sigma * noise, sigma, noise)) for sigma in (0.02, 0.1, 0.5)]
    assert max(found) <= 1 + 1e-5
    assert max(found) > 0.3


def test_the_accuracy_on_the_hubble_deep_field_is_that_of_the_table():
    image = hubble()
    test = np.stack([image[i : i + 64, j : j + 64] for i in range(0, 809, 64) for j in range(640, 937, 64)])
    noisy = test + 0.1 * np.random.default_rng(0).normal(size=test.shape).astype(np.float32)
    network = pretrained_denoiser("galaxies")
    assert psnr(network(noisy, 0.1), test) == pytest.approx(31.41, abs=0.02)


def hubble():
    """The luminance of scikit-image's picture, between 0 and 1."""
    pillow = pytest.importorskip("PIL.Image", reason="Pillow is not installed")
    try:
        files = metadata.files("scikit-image") or []
    except metadata.PackageNotFoundError:
        pytest.skip("scikit-image is not installed")
    path = next(file for file in files if file.name == "hubble_deep_field.jpg").locate()
    with pillow.open(str(path)) as picture:
        return np.asarray(picture.convert("L"), np.float32) / 255
