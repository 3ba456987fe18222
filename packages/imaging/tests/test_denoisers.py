"""Denoising networks: their laws, the bound that makes one non-expansive, and their training."""

import json
import re

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.signal import correlate2d

from armillary.core.testing import Case, check_denoiser
from armillary.imaging import (
    DnCNN,
    DRUNet,
    ScoreUNet,
    _training,
    load_denoiser,
    save_denoiser,
    train_denoiser,
    train_score,
)
from armillary.imaging._layers import Double, Halve, convolve
from armillary.imaging._spectral import norm_bound

KEY = jax.random.key(0)
NETWORKS = {
    "dncnn": lambda key=KEY: DnCNN(key=key, width=6, depth=3),
    "non-expansive dncnn": lambda key=KEY: DnCNN(key=key, width=6, depth=3, spectral_norm=True),
    "drunet": lambda key=KEY: DRUNet(key=key, widths=(4, 8), num_blocks=1),
    "score-unet": lambda key=KEY: ScoreUNet(key=key, widths=(4, 8)),
}


@pytest.fixture(autouse=True, scope="module")
def quick_compilation():
    """Most of the time of these tests is compilation of code that runs for milliseconds."""
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", False)


@pytest.mark.parametrize("name", [pytest.param("dncnn", marks=pytest.mark.slow), *list(NETWORKS)[1:]])
def test_networks_obey_the_laws_of_a_denoiser(name):
    network = NETWORKS[name]()
    # A shape that is no multiple of the U-Nets' two, and weights that are not near zero.
    network = jax.tree.map(lambda leaf: leaf * 1.5 if eqx.is_inexact_array(leaf) else leaf, network)
    check_denoiser(Case(lambda x, sigma: network(x, sigma), example=jax.random.normal(KEY, (7, 6))))


@pytest.mark.parametrize("name", ["non-expansive dncnn", "drunet"])
def test_score_is_tweedies_formula(name):
    network = NETWORKS[name]()
    with jax.enable_x64(True):
        x = jax.random.normal(KEY, (2, 8, 8), jnp.float64)
        sigma = jnp.array([0.05, 2.0])
        score = network.score(x, sigma)
        assert score.dtype == jnp.float64
        np.testing.assert_allclose(score, (network(x, sigma) - x) / sigma[:, None, None] ** 2, rtol=1e-9)
    # For weak noise, where the difference of the denoised image and the image loses its digits in single precision.
    single = network.score(x.astype(jnp.float32), 1e-4)
    with jax.enable_x64(True):
        np.testing.assert_allclose(single, network.score(x, 1e-4), rtol=1e-2, atol=0.01 * float(jnp.abs(score).max()))
    assert single.dtype == jnp.float32


def test_convolution_is_scipys_and_has_both_derivatives():
    rng = np.random.default_rng(0)
    with jax.enable_x64(True):
        x, weight = jnp.asarray(rng.normal(size=(2, 5, 6, 3))), jnp.asarray(rng.normal(size=(3, 3, 3, 2)))
        expected = np.zeros((2, 5, 6, 2))
        for n, i, o in np.ndindex(2, 3, 2):
            expected[n, :, :, o] += correlate2d(x[n, :, :, i], weight[:, :, i, o], mode="same")
        np.testing.assert_allclose(convolve(weight, x), expected, atol=1e-12)
        dx, dw = jnp.asarray(rng.normal(size=x.shape)), jnp.asarray(rng.normal(size=weight.shape))
        # Linear in each argument, so that the derivative is exactly this.
        expected = convolve(dw, x) + convolve(weight, dx)
        np.testing.assert_allclose(jax.jvp(convolve, (weight, x), (dw, dx))[1], expected, atol=1e-12)
        y = jnp.asarray(rng.normal(size=expected.shape))
        gw, gx = jax.vjp(convolve, weight, x)[1](y)
        assert float(jnp.vdot(gw, dw) + jnp.vdot(gx, dx)) == pytest.approx(float(jnp.vdot(y, expected)), rel=1e-12)


def test_strided_layers_are_transposes():
    halve, double = Halve(KEY, 3, 5), Double(KEY, 5, 3)
    double = eqx.tree_at(lambda layer: layer.weight, double, halve.weight.reshape(2, 2, 3, 5).transpose(3, 0, 1, 2))
    double = eqx.tree_at(lambda layer: layer.weight, double, double.weight.reshape(5, 12))
    x, y = jax.random.normal(KEY, (1, 4, 6, 3)), jax.random.normal(KEY, (1, 2, 3, 5))
    assert float(jnp.vdot(halve(x), y)) == pytest.approx(float(jnp.vdot(x, double(y))), rel=1e-5)
    # A block of two by two pixels is seen by one output alone.
    changed = halve(x.at[0, 2:, 4:].add(1.0)) != halve(x)
    assert changed[0, 1, 2].all()
    assert changed.sum() == 5


@pytest.mark.parametrize("channels", [(1, 1), (5, 3), (8, 8)])
def test_the_bound_is_just_above_the_norm_of_a_convolution(channels):
    weight = np.asarray(jax.random.normal(KEY, (3, 3, *channels)))
    spectrum = np.fft.fft2(weight, s=(96, 96), axes=(0, 1))
    norm = np.linalg.norm(spectrum, 2, axis=(2, 3)).max()
    bound = float(norm_bound(jnp.asarray(weight)))
    assert norm <= bound <= 1.1 * norm
    # One that has its peak between the 16 frequencies that are sampled.
    shifts = np.exp(1j * np.pi / 16 * np.arange(-1, 2))
    peaked = np.real(shifts[:, None] * shifts)[:, :, None, None]
    norm = np.abs(np.fft.fft2(peaked, s=(256, 256), axes=(0, 1))).max()
    assert norm <= float(norm_bound(jnp.asarray(peaked, jnp.float32))) <= 1.1 * norm


def lipschitz_of_residual(network, x, sigma, num=60):
    """The largest singular value of the Jacobian of x - D(x), by power iteration."""
    residual = lambda x: x - network(x, sigma)  # noqa: E731

    @jax.jit
    def run(v):
        def body(_, carry):
            v, _ = carry
            product = jax.vjp(residual, x)[1](jax.jvp(residual, (x,), (v,))[1])[0]
            norm = jnp.linalg.norm(product)
            return product / norm, norm

        return jax.lax.fori_loop(0, num, body, (v / jnp.linalg.norm(v), jnp.zeros(())))[1]

    return float(jnp.sqrt(run(jax.random.normal(jax.random.key(3), x.shape))))


def test_the_residual_of_a_spectrally_normalised_network_is_non_expansive():
    # Weights of every size, for which the residual of a free network is expansive.
    free, bound = (
        eqx.tree_at(
            lambda network: [layer.weight for layer in network.layers],
            DnCNN(key=KEY, width=6, depth=3, spectral_norm=spectral_norm),
            [10 * layer.weight for layer in DnCNN(key=KEY, width=6, depth=3, spectral_norm=True).layers],
        )
        for spectral_norm in (False, True)
    )
    x = 0.5 * jax.random.normal(KEY, (12, 12))
    constants = [lipschitz_of_residual(bound, x, sigma) for sigma in (0.02, 0.5)]
    assert max(constants) <= 1 + 1e-5
    # And not by being zero: a wide-open tanh passes a good part of what the layers do.
    assert constants[1] > 0.05
    assert lipschitz_of_residual(free, x, 0.5) > 1.5


def gaussian_images(n, spread=0.3):
    """Images of one value each: the best denoiser is a mean over pixels and a shrinkage."""
    values = spread * jax.random.normal(jax.random.key(5), (n, 1, 1))
    return jnp.broadcast_to(values, (n, 6, 6))


def test_training_approaches_the_posterior_mean():
    network = DnCNN(key=KEY, data_std=0.3, width=16, depth=3)
    images = gaussian_images(512)
    trained = train_denoiser(
        jax.random.key(1), network, images, noise=(0.3, 0.3), num_epochs=20, batch_size=32, learning_rate=5e-3
    )
    assert trained.losses[-1] < 0.5 * trained.losses[0]
    truth = 0.3 * jax.random.normal(jax.random.key(8), (256, 1, 1)) + jnp.zeros((256, 6, 6))
    noisy = truth + 0.3 * jax.random.normal(jax.random.key(9), truth.shape)
    error = float(jnp.mean((trained.network(noisy, 0.3) - truth) ** 2)) / 0.3**2
    # The posterior mean's is 1 / 37 over all pixels, that of the best shrinkage of pixels one by one 1 / 2.
    assert 1 / 37 * 0.8 < error < 0.15


@pytest.mark.parametrize("kind", ["denoiser", pytest.param("score", marks=pytest.mark.slow)])
def test_an_interrupted_training_ends_with_the_same_bits(kind, tmp_path, monkeypatch):
    network = NETWORKS["dncnn"]() if kind == "denoiser" else ScoreUNet(key=KEY, widths=(4,))
    train = train_denoiser if kind == "denoiser" else train_score
    images = gaussian_images(20)
    arguments = {"noise": (0.05, 0.5), "num_epochs": 3, "batch_size": 8}
    whole = train(jax.random.key(1), network, images, **arguments)
    path = tmp_path / "training"
    make = _training._make_epoch

    def dying(*given):
        epoch, calls = make(*given), []

        def run(*args):
            calls.append(1)
            if len(calls) == 3:
                raise KeyboardInterrupt
            return epoch(*args)

        return run

    with monkeypatch.context() as patched:
        patched.setattr(_training, "_make_epoch", dying)
        with pytest.raises(KeyboardInterrupt):
            train(jax.random.key(1), network, images, checkpoint=path, **arguments)
    assert len(json.loads(path.read_bytes().split(b"\n")[0])["losses"]) == 2
    resumed = train(jax.random.key(1), network, images, checkpoint=path, resume=True, **arguments)
    assert resumed.losses.tolist() == whole.losses.tolist()
    for a, b, first in zip(*(jax.tree.leaves(n) for n in (resumed.network, whole.network, network)), strict=True):
        np.testing.assert_array_equal(a, b)
        assert not np.array_equal(a, first)
    with pytest.raises(ValueError, match="is there already"):
        train(jax.random.key(1), network, images, checkpoint=path, **arguments)
    with pytest.raises(ValueError, match="of another training, its key, noise differ"):
        train(jax.random.key(2), network, images, checkpoint=path, resume=True, **{**arguments, "noise": (0.1, 0.5)})


@pytest.mark.parametrize("name", NETWORKS)
def test_a_saved_network_is_the_same(name, tmp_path):
    network = NETWORKS[name](jax.random.key(7))
    save_denoiser(tmp_path / "network.eqx", network)
    loaded = load_denoiser(tmp_path / "network.eqx")
    assert type(loaded) is type(network)
    assert loaded.settings == network.settings
    for a, b in zip(jax.tree.leaves(loaded), jax.tree.leaves(network), strict=True):
        np.testing.assert_array_equal(a, b)
        assert a.dtype == b.dtype


def test_bad_arguments_are_refused(tmp_path):
    network = NETWORKS["dncnn"]()
    x, images = jnp.zeros((3, 6, 6)), gaussian_images(8)
    for function, message in (
        (lambda: network(jnp.zeros(4), 0.1), "x has shape (4,)"),
        (lambda: network(jnp.zeros((4, 4), jnp.int32), 0.1), "dtype int32"),
        (lambda: network(x, 0.0), "sigma=0.0"),
        (lambda: network(x, jnp.ones(2)), "sigma has shape (2,)"),
        (lambda: DnCNN(key=KEY, depth=1), "depth=1"),
        (lambda: DnCNN(key=KEY, data_std=-1), "data_std=-1"),
        (lambda: DRUNet(key=KEY, widths=()), "widths=()"),
        (lambda: DRUNet(key=KEY, widths=(4, 0)), "widths=0"),
        (lambda: ScoreUNet(key=KEY, num_blocks=0), "num_blocks=0"),
        (lambda: save_denoiser(tmp_path / "a", lambda x, sigma: x), "denoiser is a function"),
        (lambda: train_denoiser(KEY, network, x[0], noise=(0.1, 1.0), num_epochs=1), "images has shape (6, 6)"),
        (lambda: train_denoiser(KEY, network, x, noise=(0.1, 1.0), num_epochs=1), "not all the same"),
        (lambda: train_denoiser(KEY, network, images, noise=(1.0, 0.1), num_epochs=1), "noise=(1.0, 0.1)"),
        (lambda: train_denoiser(KEY, network, images, noise=0.1, num_epochs=1), "noise=0.1"),
        (lambda: train_denoiser(KEY, network, images, noise=(0.1, 1.0), num_epochs=1), "batch_size=32: there are 8"),
        (lambda: train_score(KEY, network, images, noise=(0.1, 1.0), num_epochs=0, batch_size=8), "num_epochs=0"),
        (
            lambda: train_denoiser(KEY, network, images, noise=(0.1, 1.0), num_epochs=1, batch_size=8, resume=True),
            "resume=True needs checkpoint=",
        ),
    ):
        with pytest.raises(ValueError, match=re.escape(message)):
            function()
    (tmp_path / "b").write_bytes(b"\x93NUMPY")
    with pytest.raises(ValueError, match="is not a file of save_denoiser"):
        load_denoiser(tmp_path / "b")
