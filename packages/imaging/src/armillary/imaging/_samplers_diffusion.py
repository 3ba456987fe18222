"""Samplers of priors known by a denoiser at every noise level, with their NumPyro kernels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from blackjax.base import SamplingAlgorithm
from jaxtyping import PyTree

from armillary.core import BlackJAXKernel, Target, protocols

from . import _annealed, _diffusion, _steps
from ._samplers import found_at_the_start, settled


@dataclass(frozen=True)
class AnnealedLangevinSampler:
    r"""The settings of annealed Langevin dynamics, an `armillary.core.protocols.Sampler`.

    The warm-up is the annealing. Without one, the first ``num_steps`` draws are.

    >>> from armillary.imaging import AnnealedLangevinSampler
    >>> AnnealedLangevinSampler(sigma_max=2.0, sigma_min=0.1).num_steps
    1000

    Args:
        lipschitz: see `armillary.imaging.annealed_langevin`; by default the largest curvature of the log-likelihood
            where the chain starts, found by the warm-up.
        sigma_max: the first noise level.
        sigma_min: the last one.
        num_steps: the length of the annealing where there is no warm-up.
        share: of the stability limit that a step takes.

    Raises:
        ValueError: a setting out of its range.
    """

    lipschitz: float | None = None
    sigma_max: float = 1.0
    sigma_min: float = 0.05
    num_steps: int = 1000
    share: float = 0.5

    traits: ClassVar[frozenset[str]] = frozenset({"denoiser"})

    def __post_init__(self) -> None:
        _annealed.check_settings(self.sigma_max, self.sigma_min, self.num_steps, self.share)

    @property
    def bias(self) -> float:
        """Bound on the bias of the moments of a Gaussian of curvature up to 2: that of the step and the smoothing."""
        lipschitz = settled("lipschitz", self.lipschitz)
        step = 2 * self.share / (lipschitz + 1 / self.sigma_min**2)
        return step / (1 - step) + self.sigma_min**2 if step < 1 else float("inf")

    def build(self, target: protocols.Target, *, lipschitz: Any = None, num_steps: Any = None) -> SamplingAlgorithm:
        """The algorithm, on the target's log-likelihood and denoiser.

        Raises:
            ValueError: the target has no denoiser, and how to give it one; or ``lipschitz`` is missing.
        """
        target.require(self.traits, "annealed-langevin")
        return _annealed.as_top_level_api(
            target.log_likelihood,
            target.denoiser,  # type: ignore[attr-defined]
            settled("lipschitz", lipschitz, self.lipschitz),
            self.sigma_max,
            self.sigma_min,
            self.num_steps if num_steps is None else num_steps,
            share=self.share,
        )

    def adaptation(self, target: protocols.Target, num_warmup: int) -> protocols.Adaptation:
        """Finds the constant that is not given, and anneals."""

        def find(position: PyTree) -> dict[str, Any]:
            constant: Any = self.lipschitz
            if constant is None:
                constant = _steps.lipschitz(target.log_likelihood, position)
            return {"lipschitz": constant, "num_steps": float(num_warmup)}

        return found_at_the_start(self, target, find)


@dataclass(frozen=True)
class DiffusionPosteriorSampler:
    r"""The settings of posterior sampling by diffusion, an `armillary.core.protocols.Sampler`; it needs no warm-up.

    >>> from armillary.imaging import DiffusionPosteriorSampler
    >>> print(f"{DiffusionPosteriorSampler(num_steps=1000, zeta=0.1).bias:.2f}")
    0.07

    Args:
        guidance: see `armillary.imaging.diffusion_posterior`, as for all the rest.
        num_steps: denoisings of a draw.
        sigma_max: the first noise level.
        sigma_min: the last one.
        scale: the weight of the data.
        zeta: the share of new noise in a step of "diffpir".
        num_krylov: products with the Hessian that a proximal step may take.

    Raises:
        ValueError: a setting out of its range.
    """

    guidance: str = "diffpir"
    num_steps: int = 200
    sigma_max: float = 10.0
    sigma_min: float = 0.01
    scale: float = 1.0
    zeta: float = 0.3
    num_krylov: int = 20

    traits: ClassVar[frozenset[str]] = frozenset({"denoiser"})

    def __post_init__(self) -> None:
        _diffusion.check_settings(
            self.guidance,
            self.num_steps,
            self.sigma_max,
            self.sigma_min,
            self.scale,
            self.zeta,
            self.num_krylov,
        )

    @property
    def bias(self) -> float:
        """The largest error of the moments of Gaussians of about unit scale, from their closed form."""
        sigmas = np.geomspace(self.sigma_max, self.sigma_min, self.num_steps)
        worst = 0.0
        for spread in (1.0, 2.0):
            for curvature in np.geomspace(0.05, 2.0, 8):
                precision = curvature + 1 / spread**2
                y = 1.5
                mean, variance = _diffusion.gaussian_moments(
                    self.guidance, sigmas, self.scale, self.zeta, curvature, spread, y
                )
                off = abs(mean - curvature * y / precision) * precision**0.5
                worst = max(worst, off, abs(variance * precision - 1))
        return worst

    def build(self, target: protocols.Target) -> SamplingAlgorithm:
        """The algorithm, on the target's log-likelihood and denoiser.

        Raises:
            ValueError: the target has no denoiser, and how to give it one.
        """
        target.require(self.traits, "diffusion-posterior")
        return _diffusion.as_top_level_api(
            target.log_likelihood,
            target.denoiser,  # type: ignore[attr-defined]
            self.guidance,
            self.num_steps,
            self.sigma_max,
            self.sigma_min,
            scale=self.scale,
            zeta=self.zeta,
            num_krylov=self.num_krylov,
        )


class AnnealedLangevin(BlackJAXKernel):
    r"""Annealed Langevin dynamics as a NumPyro `MCMCKernel`, of a target with a denoiser; its warm-up is the annealing.

    >>> import jax, jax.numpy as jnp
    >>> from numpyro.infer import MCMC
    >>> from armillary import imaging
    >>> from armillary.core import Target
    >>> y = jnp.ones((8, 8))
    >>> target = Target(lambda x: -0.5 * jnp.sum(x**2), lambda x: -2 * jnp.sum((y - x) ** 2), position=y,
    ...                 denoiser=lambda x, sigma: x / (1 + sigma**2))
    >>> kernel = imaging.AnnealedLangevin(target, sigma_min=0.2)
    >>> mcmc = MCMC(kernel, num_warmup=100, num_samples=200, progress_bar=False)
    >>> mcmc.run(jax.random.key(0))
    >>> mcmc.get_samples().shape
    (200, 8, 8)

    Song Y., Ermon S. 2019, arXiv:1907.05600.

    Args:
        target: an `armillary.core.Target` with a denoiser.
        lipschitz: the largest curvature of the log-likelihood; by default found by the warm-up.
        sigma_max: the first noise level.
        sigma_min: the last one.

    Raises:
        ValueError: a setting out of its range; at ``MCMC.run``, a target without a denoiser, or neither ``lipschitz``
            nor a warm-up.
    """

    def __init__(
        self, target: Target, lipschitz: float | None = None, sigma_max: float = 1.0, sigma_min: float = 0.05
    ) -> None:
        super().__init__(target, AnnealedLangevinSampler(lipschitz, sigma_max, sigma_min))


class DiffusionPosterior(BlackJAXKernel):
    r"""Posterior sampling by diffusion as a NumPyro `MCMCKernel`, of a target with a denoiser; it needs no warm-up.

    >>> import jax, jax.numpy as jnp
    >>> from numpyro.infer import MCMC
    >>> from armillary import imaging
    >>> from armillary.core import Target
    >>> y = jnp.ones((8, 8))
    >>> target = Target(lambda x: -0.5 * jnp.sum(x**2), lambda x: -2 * jnp.sum((y - x) ** 2), position=y,
    ...                 denoiser=lambda x, sigma: x / (1 + sigma**2))
    >>> mcmc = MCMC(imaging.DiffusionPosterior(target, num_steps=50), num_warmup=0, num_samples=20, progress_bar=False)
    >>> mcmc.run(jax.random.key(0))
    >>> mcmc.get_samples().shape
    (20, 8, 8)

    Chung H. et al. 2023, arXiv:2209.14687; Zhu Y. et al. 2023, arXiv:2305.08995.

    Args:
        target: an `armillary.core.Target` with a denoiser.
        guidance: "diffpir" or "dps".
        num_steps: denoisings of a draw.
        sigma_max: the first noise level, many times the spread of images.
        sigma_min: the last one.

    Raises:
        ValueError: a setting out of its range; at ``MCMC.run``, a target without a denoiser.
    """

    def __init__(
        self,
        target: Target,
        guidance: str = "diffpir",
        num_steps: int = 200,
        sigma_max: float = 10.0,
        sigma_min: float = 0.01,
    ) -> None:
        super().__init__(target, DiffusionPosteriorSampler(guidance, num_steps, sigma_max, sigma_min))
