"""Samplers and evidences of images: effective samples a gradient, ln Z where it is known, and proximal steps a second.

    python benchmarks/imaging_sampling.py [--only NAME ...] [--save]

Images are crops of the Hubble Deep Field where scikit-image is installed, else of a magnetic resonance image that comes
with matplotlib. Times are wall times, compilation apart where it says so. The last table has ProxNest beside ours where
it is installed; its licence (GPL, for non-commercial use only) is for you to judge.
"""

from __future__ import annotations

import argparse
import datetime
import functools
import gzip
import importlib.metadata
import importlib.util
import math
import os
import time
from collections.abc import Iterator
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
from numpyro.diagnostics import effective_sample_size
from scipy.optimize import minimize_scalar

from armillary import imaging
from armillary.core import Target


def picture(size: int) -> np.ndarray:
    """A real image with values from 0 to 1."""
    if importlib.util.find_spec("skimage"):
        from skimage import data

        whole = data.hubble_deep_field().mean(axis=2)[280:536, 60:316]
    else:
        from matplotlib.cbook import get_sample_data

        with get_sample_data("s1045.ima.gz") as file:
            raw = file.read()
        raw = gzip.decompress(raw) if raw[:2] == b"\x1f\x8b" else raw
        whole = np.frombuffer(raw, np.uint16).reshape(256, 256).astype(float)
    shrunk = whole.reshape(size, 256 // size, size, 256 // size).mean(axis=(1, 3))
    return (shrunk - shrunk.min()) / (shrunk.max() - shrunk.min())


def denoising(prior: imaging.L1Wavelet, y: np.ndarray, sigma: float) -> Target:
    """An image in noise; the likelihood is normalised."""
    data = jnp.asarray(y, jnp.float32)
    constant = -0.5 * data.size * math.log(2 * math.pi * sigma**2)
    return Target(
        prior.log_prob,
        lambda x: -0.5 * jnp.sum((data - x) ** 2) / sigma**2 + constant,
        sample_prior=prior.sample,
        prox=prior.prox,
    )


def best_scale(wavelet: str, levels: int, y: np.ndarray, sigma: float) -> imaging.L1Wavelet:
    """The prior of a basis at the scale of the largest closed-form evidence."""

    def loss(log_scale: float) -> float:
        return -exact(imaging.L1Wavelet(wavelet, levels, math.exp(log_scale), shape=y.shape), y, sigma)[0]

    found = minimize_scalar(loss, bounds=(math.log(1e-3), math.log(10.0)), method="bounded", options={"xatol": 1e-4})
    return imaging.L1Wavelet(wavelet, levels, math.exp(found.x), shape=y.shape)


def exact(prior: imaging.L1Wavelet, y: np.ndarray, sigma: float) -> tuple[float, np.ndarray]:
    """The closed-form ln Z and posterior mean, in double precision and apart from the package's own."""
    from scipy.special import log_ndtr

    with jax.enable_x64(True):
        dwt = imaging.DWT(y.shape, prior.dwt.wavelet, prior.dwt.levels, dtype=jnp.float64)
        d = np.asarray(dwt(jnp.asarray(y)))
        mu = 1 / float(prior.scale)
        right = mu**2 * sigma**2 / 2 - mu * d + log_ndtr((d - mu * sigma**2) / sigma)
        left = mu**2 * sigma**2 / 2 + mu * d + log_ndtr(-(d + mu * sigma**2) / sigma)
        both = np.logaddexp(right, left)
        w = np.exp(right - both)
        mean = w * (d - mu * sigma**2) + (1 - w) * (d + mu * sigma**2)
        # The normaliser of the likelihood cancels that of the integral over a coefficient.
        return float(np.sum(both + math.log(mu / 2))), np.asarray(dwt.inverse(jnp.asarray(mean)))


def near(prior: imaging.L1Wavelet, y: np.ndarray, sigma: float) -> dist.Distribution:
    """A density to start tempering from: as wide as the noise, about the image with its coefficients shrunk."""
    return dist.Normal(prior.prox(jnp.asarray(y, jnp.float32), sigma**2), sigma).to_event(2)


def gradients() -> Iterator[str]:
    """SK-ROCK and MYULA on a blurred image of 64 x 64 pixels with a sparse prior, the same gradients each."""
    size, sigma, scale, budget, chains, stages = 64, 0.01, 0.1, 100_000, 2, 10
    axis = np.minimum(np.arange(size), size - np.arange(size))
    kernel = np.exp(-0.5 * (axis[:, None] ** 2 + axis**2) / 1.5**2)
    response = jnp.asarray(np.fft.rfft2(kernel / kernel.sum()), jnp.complex64)

    def blur(x):
        return jnp.fft.irfft2(jnp.fft.rfft2(x) * response, s=x.shape)

    rng = np.random.default_rng(0)
    y = jnp.asarray(np.asarray(blur(jnp.asarray(picture(size)))) + sigma * rng.normal(size=(size, size)), jnp.float32)
    prior = imaging.L1Wavelet("db4", 3, scale, shape=(size, size))
    constant = 1 / sigma**2  # the blur has norm 1
    # A mode of every frequency along the diagonal, from those that the data know to those that only the prior does.
    modes = np.arange(size // 2)

    def log_likelihood(x):
        return -0.5 * jnp.sum((y - blur(x)) ** 2) / sigma**2

    algorithms = {
        "MYULA": (imaging.myula(log_likelihood, prior.prox, lipschitz=constant), stages),
        "SK-ROCK": (imaging.skrock(log_likelihood, num_stages=stages, lipschitz=constant, prox=prior.prox), 1),
    }
    yield f"deblurring 64 x 64, L1 in db4, {chains} chains of {budget} gradients each"
    yield f"{'sampler':10s} {'slowest ESS':>12s} {'median ESS':>12s} {'s':>7s}   (of {size // 2} Fourier modes)"
    slowest, median, spread = {}, {}, {}
    for name, (algorithm, thin) in algorithms.items():

        def chain(key, algorithm=algorithm, thin=thin):
            def many(state, keys):
                state, info = jax.lax.scan(lambda s, k: algorithm.step(k, s), state, keys)
                return state, (jnp.fft.rfft2(state.position).real[modes, modes], info.is_divergent.any())

            keys = jax.random.split(key, (budget // stages, thin))
            return jax.lax.scan(many, algorithm.init(y), keys)[1]

        run = jax.jit(jax.vmap(chain)).lower(jax.random.split(jax.random.key(0), chains)).compile()
        start = time.perf_counter()
        draws, diverged = jax.block_until_ready(run(jax.random.split(jax.random.key(0), chains)))
        seconds = time.perf_counter() - start
        assert not diverged.any()
        draws = np.asarray(draws, np.float64)[:, budget // stages // 10 :]
        sizes = effective_sample_size(draws)
        # Draws that alternate about their mean are worth more than independent ones; they are counted as those.
        most = draws.shape[0] * draws.shape[1]
        sizes = np.where((sizes > 0) & (sizes < most), sizes, most)
        slowest[name], median[name], spread[name] = sizes.min(), np.median(sizes), draws.std(axis=(0, 1))
        yield f"{name:10s} {slowest[name]:12.1f} {median[name]:12.1f} {seconds:7.1f}"
    yield (
        f"ratio of effective samples a gradient: slowest mode {slowest['SK-ROCK'] / slowest['MYULA']:.1f}, median mode "
        f"{median['SK-ROCK'] / median['MYULA']:.1f}  (bar 5)"
    )
    ratio = spread["SK-ROCK"] / spread["MYULA"]
    yield f"posterior deviation by SK-ROCK over that by MYULA: {ratio.min():.2f} to {ratio.max():.2f} over the modes"


def row(name: str, truth: float, found: imaging.ImageEvidence, seconds: float) -> str:
    off = (found.log_z - truth) / found.log_z_err
    return (
        f"{name:34s} {found.method:25s} {truth:11.2f} {found.log_z:11.2f} {found.log_z_err:7.2f} {off:6.1f} "
        f"{found.information:8.1f} {seconds:7.1f}"
    )


HEADING = (
    f"{'model':34s} {'by':25s} {'exact ln Z':>11s} {'ln Z':>11s} {'error':>7s} {'off/er':>6s} {'inform.':>8s} {'s':>7s}"
)


def timed(function, *args, **kwargs):
    start = time.perf_counter()
    found = function(*args, **kwargs)
    return found, time.perf_counter() - start


def gaussians(dims: tuple[int, ...] = (32, 200)) -> Iterator[str]:
    """N(0, 1) prior and a Gaussian likelihood."""
    yield HEADING + "   (s with compilation)"
    for dim in dims:
        rng = np.random.RandomState(0)
        y = (rng.rand(dim, 1) + rng.randn(dim, 1))[:, 0]
        truth = -0.25 * y @ y - 0.5 * dim * math.log(2)
        data = jnp.asarray(y, jnp.float32)
        target = Target(
            lambda x: -0.5 * jnp.sum(x**2) - 0.5 * x.size * math.log(2 * math.pi),
            lambda x, data=data: -0.5 * jnp.sum((data - x) ** 2),
            sample_prior=lambda key, dim=dim: jax.random.normal(key, (dim,)),
            prox=lambda x, step: x / (1 + step),
        )
        live = {32: 500, 200: 500, 1000: 2700}[dim]
        steps = {32: 50, 200: 100, 1000: 60}[dim]
        found, seconds = timed(
            imaging.proximal_nested_sampling, jax.random.key(0), target, num_live=live, num_inner_steps=steps
        )
        yield row(f"Gaussian, d = {dim}", truth, found, seconds)
        found, seconds = timed(imaging.tempered_evidence, jax.random.key(0), target)
        yield row(f"Gaussian, d = {dim}", truth, found, seconds)


def gaussian_1000() -> Iterator[str]:
    """The largest of them by itself, since it takes minutes."""
    yield from gaussians((1000,))


def wavelets() -> Iterator[str]:
    """Real images in noise, sparse in wavelets at the scale of the largest evidence."""
    yield HEADING
    for size, levels, seeds, nested in (
        (16, 2, 3, {"num_live": 500}),
        (32, 3, 2, {"num_live": 200, "num_inner_steps": 60}),
    ):
        sigma = 0.05
        y = picture(size) + sigma * np.random.default_rng(0).normal(size=(size, size))
        prior = best_scale("db2", levels, y, sigma)
        truth, mean = exact(prior, y, sigma)
        target = denoising(prior, y, sigma)
        name = f"{size} x {size}, db2, scale {float(prior.scale):.3f}"
        for route, settings in (
            (imaging.tempered_evidence, {"num_inner_steps": 60, "reference": near(prior, y, sigma)}),
            (imaging.proximal_nested_sampling, nested),
        ):
            means = []
            for seed in range(seeds):
                found, seconds = timed(route, jax.random.key(seed), target, **settings)
                means.append(np.asarray(found.mean, float))
                yield row(name, truth, found, seconds)
            # The root mean square over the pixels of the error of the mean over the runs, by their own scatter.
            error = math.sqrt(np.mean(np.var(means, axis=0, ddof=1)) / seeds)
            off = math.sqrt(np.mean((np.mean(means, axis=0) - mean) ** 2))
            yield f"    posterior mean of {seeds} runs: root mean square off {off:.5f}, Monte-Carlo error {error:.5f}"


def ranking() -> Iterator[str]:
    """Six bases on a 64 x 64 image."""
    yield HEADING
    sigma = 0.05
    y = picture(64) + sigma * np.random.default_rng(0).normal(size=(64, 64))
    truths, estimates = {}, {}
    for wavelet, levels in (("haar", 0), ("haar", 2), ("db2", 2), ("db2", 4), ("db4", 3), ("db6", 2)):
        prior = best_scale(wavelet, levels, y, sigma)
        name = f"64 x 64, {wavelet}, {levels} levels" if levels else "64 x 64, pixels"
        truths[name] = exact(prior, y, sigma)[0]
        found, seconds = timed(
            imaging.tempered_evidence,
            jax.random.key(0),
            denoising(prior, y, sigma),
            reference=near(prior, y, sigma),
            num_particles=200,
            num_inner_steps=60,
        )
        estimates[name] = found.log_z
        yield row(name, truths[name], found, seconds)
    same = sorted(truths, key=truths.__getitem__) == sorted(estimates, key=estimates.__getitem__)
    yield f"order of the estimates is that of the closed forms: {same}"


def coverage() -> Iterator[str]:
    """Truths drawn from the prior, blurred and noisy, and how often intervals of 90 % hold their pixels."""
    shape, sigma, repetitions, kept = (16, 16), 0.2, 100, 1000
    prior = imaging.L1Wavelet("db2", 2, 0.5, shape=shape)
    blur = imaging.Blur(jnp.outer(w := jnp.array([1, 2, 1]) / 4, w), shape)
    truth = prior.sample(jax.random.key(0), (repetitions,))
    data = jax.vmap(blur)(truth) + sigma * jax.random.normal(jax.random.key(1), truth.shape)
    constant = 1 / sigma**2  # the kernel sums to 1, so that the blur has norm 1
    yield f"{repetitions} truths of {shape[0]} x {shape[1]} pixels from L1Wavelet db2, blurred, noise {sigma}"
    yield f"{'sampler':12s} {'held':>7s} {'error':>7s} {'accepted':>9s} {'s':>7s}   (bar 0.87 to 0.93)"

    def algorithm(name: str, y: jax.Array):
        def log_likelihood(x):
            return -0.5 * jnp.sum((y - blur(x)) ** 2) / sigma**2

        match name:
            case "px_mala":
                return imaging.px_mala(log_likelihood, prior.prox, prior.log_prob, 0.012)
            case "myula":
                return imaging.myula(log_likelihood, prior.prox, smoothing=0.01, lipschitz=constant)
            case "skrock":
                return imaging.skrock(
                    log_likelihood, num_stages=5, step_size=0.1, prox=prior.prox, smoothing=0.01, lipschitz=constant
                )
            case "split_gibbs":
                return imaging.split_gibbs(log_likelihood, prior.prox, rho=0.1, num_krylov=20)

    for name, burn, thin in (("px_mala", 3000, 15), ("myula", 3000, 15), ("skrock", 1000, 4), ("split_gibbs", 500, 2)):

        def intervals(key, y, name=name, burn=burn, thin=thin):
            kernel = algorithm(name, y)

            def step(state, key):
                state, info = kernel.step(key, state)
                return state, getattr(info, "acceptance_rate", jnp.ones(()))

            def draw(state, key):
                state, rates = jax.lax.scan(step, state, jax.random.split(key, thin))
                return state, (state.position, rates.mean())

            first, second = jax.random.split(key)
            state, _ = jax.lax.scan(step, kernel.init(y), jax.random.split(first, burn))
            draws, rates = jax.lax.scan(draw, state, jax.random.split(second, kept))[1]
            return *imaging.credible_interval(draws, 0.9), rates.mean()

        keys = jax.random.split(jax.random.key(2), repetitions)
        run = jax.jit(jax.vmap(intervals)).lower(keys, data).compile()
        (low, high, rate), seconds = timed(lambda run=run, keys=keys: jax.block_until_ready(run(keys, data)))
        found = imaging.coverage_test(low, high, truth, 0.9)
        yield f"{name:12s} {float(found.fraction):7.3f} {float(found.error):7.3f} {rate.mean():9.2f} {seconds:7.1f}"


def throughput() -> Iterator[str]:
    """Proximal steps a second of the constrained moves, denoising 64 x 64 with db6, two levels, float32."""
    sigma, num_steps = 0.04, 4800
    y = picture(64) + sigma * np.random.default_rng(0).normal(size=(64, 64))
    prior = imaging.L1Wavelet("db6", 2, 1 / 13.3, shape=(64, 64))
    target = denoising(prior, y, sigma)
    from armillary.imaging import _nested

    for num_live in (2, 50, 500):
        num_delete = num_live // 2
        draw = functools.partial(prior.sample, sample_shape=(num_live,))
        start, iterate = _nested.build(target, "px_mala", num_live, num_delete, num_steps // num_delete, 0.3, draw)
        first = jax.jit(start)(jax.random.key(0))
        first = first._replace(num_iterations=jnp.asarray(0))
        parameters = first.state.inner_kernel_params | {"num_steps": jnp.asarray(num_steps // num_delete)}
        first = first._replace(state=first.state._replace(inner_kernel_params=parameters))
        run = jax.jit(iterate).lower(jax.random.key(1), first).compile()
        seconds = []
        for _ in range(3):
            begin = time.perf_counter()
            jax.block_until_ready(run(jax.random.key(1), first))
            seconds.append(time.perf_counter() - begin)
        done = num_delete * (num_steps // num_delete)
        yield f"armillary, {num_delete:3d} chains at once: {done / np.median(seconds):9.0f} proximal steps a second"
    if not importlib.util.find_spec("ProxNest"):
        yield "ProxNest: not installed"
        return
    yield f"ProxNest, as it comes:         {num_steps / proxnest(y, sigma, num_steps):9.0f} proximal steps a second"


def proxnest(y: np.ndarray, sigma: float, num_steps: int) -> float:
    """Seconds that ProxNest takes for as many steps, at the settings of its own example."""
    import ProxNest
    import ProxNest.operators as operators
    import ProxNest.optimisations as optimisations
    import ProxNest.sampling as sampling

    phi = operators.sensing_operators.Identity()
    psi = operators.wavelet_operators.db_wavelets(["db6"], 2, y.shape)
    parameters = ProxNest.utils.create_parameters_dict(
        y=y, Phi=phi, epsilon=1e-3, tight=False, nu=1, tol=1e-10, max_iter=200, verbose=0, u=0, pos=True, reality=True
    )
    delta = 1e-7
    live, burn = 200, 100
    options = ProxNest.utils.create_options_dict(
        samplesL=live,
        samplesD=(num_steps - burn - 10 * live),
        thinning=10,
        delta=delta,
        burn=burn,
        sigma=sigma,
    )
    begin = time.perf_counter()
    sampling.proximal_nested.ProxNestedSampling(
        y.copy(),
        lambda x: -(np.linalg.norm(y - phi.dir_op(x), "fro") ** 2) / (2 * sigma**2),
        lambda x, step: operators.proximal_operators.l1_projection(x, step, 13.3, Psi=psi),
        lambda x, tau: optimisations.l2_ball_proj.sopt_fast_proj_B2(x, tau, parameters),
        parameters,
        options,
    )
    return time.perf_counter() - begin


CASES = {
    "gradients": gradients,
    "gaussians": gaussians,
    "gaussian-1000": gaussian_1000,
    "wavelets": wavelets,
    "ranking": ranking,
    "coverage": coverage,
    "throughput": throughput,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=CASES, default=[name for name in CASES if name != "gaussian-1000"])
    parser.add_argument(
        "--save", action="store_true", help="add the tables to the file of the day in benchmarks/results/"
    )
    options = parser.parse_args()
    today = datetime.date.today().isoformat()
    packages = ("armillary-imaging", "jax", "blackjax", "numpy")
    versions = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in packages)
    path = Path(__file__).parent / "results" / f"{today}-imaging-sampling-cpu.txt"
    for name in options.only:
        load = ", ".join(f"{x:.1f}" for x in os.getloadavg())
        device = jax.devices()[0].device_kind
        lines = [f"{name}: {today}; {versions}; float32; device {device}, {os.cpu_count()} cores, load {load}"]
        print(lines[0], flush=True)
        for line in CASES[name]():
            print(line, flush=True)
            lines.append(line)
        if options.save:
            with path.open("a") as file:
                file.write("\n".join([*lines, "", ""]))


if __name__ == "__main__":
    main()
