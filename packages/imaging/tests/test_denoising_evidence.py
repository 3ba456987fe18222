"""The evidence of a denoiser's prior, against closed forms."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from armillary.imaging import L1Wavelet, denoising_evidence


def test_evidence_of_a_gaussian_prior_is_its_closed_form():
    noise, mean = 0.5, 3.0
    y = mean + 1.25**0.5 * jax.random.normal(jax.random.key(0), (32, 32))

    def denoiser(x, sigma):
        return (x + mean * sigma**2) / (1 + sigma**2)

    result = denoising_evidence(jax.random.key(1), denoiser, y, noise, sigma_max=20.0)
    pixels = np.asarray(y, np.float64)
    exact = -0.5 * np.sum((pixels - mean) ** 2) / 1.25 - 0.5 * 1024 * np.log(2 * np.pi * 1.25)
    assert result.log_z_err < 0.2
    assert abs(result.log_z - exact) < 4 * result.log_z_err
    # An estimate that is not the posterior mean has less evidence than it.
    worse = denoising_evidence(jax.random.key(1), lambda x, s: 0.9 * denoiser(x, s) + 0.1 * x, y, noise, sigma_max=20.0)
    assert worse.log_z < result.log_z - 3


def test_evidence_of_a_wavelet_prior_is_its_closed_form():
    prior = L1Wavelet("db2", 2, 1.0, shape=(16, 16))
    y = prior.sample(jax.random.key(0)) + 0.1 * jax.random.normal(jax.random.key(1), (16, 16))
    result = denoising_evidence(jax.random.key(2), prior.posterior_mean, y, 0.1, sigma_max=30.0)
    exact = float(prior.log_evidence(y, 0.1))
    assert result.log_z_err < 2
    assert abs(result.log_z - exact) < 4 * result.log_z_err
    # What is found by integration, and not by the Gaussian that it starts from.
    assert exact - result.diagnostics["log_z_gaussian"] > 8


def test_settings_are_checked():
    y, key = jnp.arange(16.0).reshape(4, 4), jax.random.key(0)
    for arguments, message in (
        ({"data": y[0]}, r"data has shape \(4,\)"),
        ({"data": jnp.zeros((4, 4))}, "not all the same"),
        ({"noise": 0.0}, "noise=0.0"),
        ({"sigma_max": 0.05}, "sigma_max=0.05: expected more"),
        ({"num_levels": 3}, "num_levels=3"),
        ({"num_draws": 1}, "num_draws=1"),
        ({"denoiser": lambda x, sigma: x * jnp.nan}, "not finite"),
    ):
        given = {"denoiser": lambda x, sigma: x, "data": y, "noise": 0.1, "sigma_max": 1.0, **arguments}
        with pytest.raises(ValueError, match=message):
            denoising_evidence(key, **given)
