"""Samplers of priors known by a denoiser, and of split posteriors, with their NumPyro kernels."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

from blackjax.base import SamplingAlgorithm
from jaxtyping import PyTree

from armillary.core import BlackJAXKernel, Target, protocols

from . import _myula, _pnp_ula, _split_gibbs, _steps
from ._check import check_positive
from ._samplers import check_settings, found_at_the_start, settled


@dataclass(frozen=True)
class PnPULASampler:
    r"""The settings of plug-and-play ULA, an `armillary.core.protocols.Sampler`.

    >>> import jax, jax.numpy as jnp
    >>> from armillary.core import Target
    >>> from armillary.imaging import PnPULASampler
    >>> target = Target(lambda x: -0.5 * x @ x, lambda x: -2 * (1 - x) @ (1 - x), position=jnp.zeros(4),
    ...                 denoiser=lambda x, sigma: x / (1 + sigma**2))
    >>> alg = PnPULASampler(step_size=0.05, sigma=0.3).build(target)
    >>> state, info = alg.step(jax.random.key(0), alg.init(jnp.zeros(4)))

    Args:
        step_size: see `armillary.imaging.pnp_ula`, also for its stability limit, of which it is half by default, with
            L the largest curvature of the likelihood where the chain starts, found by the warm-up.
        sigma: the standard deviation of the noise that the denoiser takes away.
        bounds: see `armillary.imaging.pnp_ula`.

    Raises:
        ValueError: a setting that is not positive and finite, or bounds that are not two numbers in order.
    """

    step_size: float | None = None
    sigma: float = 0.05
    bounds: tuple[float, float] | None = None

    traits: ClassVar[frozenset[str]] = frozenset({"denoiser"})

    def __post_init__(self) -> None:
        check_settings(_pnp_ula.FORMULA, step_size=self.step_size)
        check_positive("sigma", self.sigma, "it is the standard deviation of the noise that the denoiser takes away")
        if self.bounds is not None:
            _pnp_ula.check_bounds(self.bounds)

    @property
    def bias(self) -> float:
        """Bound on the bias of the moments of a Gaussian of unit scale: that of MYULA with ``sigma**2`` smoothing."""
        return settled("step_size", self.step_size) + self.sigma**2

    def build(self, target: protocols.Target, *, step_size: Any = None) -> SamplingAlgorithm:
        """The algorithm, on the target's log-likelihood and denoiser.

        Raises:
            ValueError: the target has no denoiser, and how to give it one; or the step size is missing.
        """
        target.require(self.traits, "pnp-ula")
        return _pnp_ula.as_top_level_api(
            target.log_likelihood,
            target.denoiser,  # type: ignore[attr-defined]
            settled("step_size", step_size, self.step_size),
            self.sigma,
            bounds=self.bounds,
        )

    def adaptation(self, target: protocols.Target, num_warmup: int) -> protocols.Adaptation:
        """Finds the step size that is not given."""

        def find(position: PyTree) -> dict[str, Any]:
            if self.step_size is not None:
                return {"step_size": self.step_size}
            constant = _steps.lipschitz(target.log_likelihood, position)
            pulls = 1 if self.bounds is None else 2
            return {"step_size": _myula.DEFAULT / (constant + pulls / self.sigma**2)}

        return found_at_the_start(self, target, find)


@dataclass(frozen=True)
class SplitGibbsSampler:
    r"""The settings of the split Gibbs sampler, an `armillary.core.protocols.Sampler`.

    >>> from armillary.imaging import SplitGibbsSampler
    >>> SplitGibbsSampler(rho=0.1)
    SplitGibbsSampler(rho=0.1, num_krylov=50)

    Args:
        rho: see `armillary.imaging.split_gibbs`; by default ``1 / sqrt(L)``, with L the largest curvature of the
            smooth part where the chain starts, found by the warm-up.
        num_krylov: products with the Hessian that a draw may take.

    Raises:
        ValueError: a setting out of its range.
    """

    rho: float | None = None
    num_krylov: int = 50

    traits: ClassVar[frozenset[str]] = frozenset({"prox", "smooth_log_density"})

    def __post_init__(self) -> None:
        _split_gibbs.check_settings(1.0 if self.rho is None else self.rho, self.num_krylov)

    @property
    def bias(self) -> float:
        """Bound on the bias of the moments of a Gaussian of curvature up to 2, of which the prior holds up to 1."""
        return 2 * settled("rho", self.rho) ** 2

    def build(self, target: protocols.Target, *, rho: Any = None) -> SamplingAlgorithm:
        """The algorithm, on the target's smooth log-density and proximal operator.

        Raises:
            ValueError: the target has no `prox`, and how to give it one; or ``rho`` is missing.
        """
        target.require(self.traits, "split-gibbs")
        return _split_gibbs.as_top_level_api(
            target.smooth_log_density,  # type: ignore[attr-defined]
            target.prox,  # type: ignore[attr-defined]
            settled("rho", rho, self.rho),
            self.num_krylov,
        )

    def adaptation(self, target: protocols.Target, num_warmup: int) -> protocols.Adaptation:
        """Finds the tie that is not given."""

        def find(position: PyTree) -> dict[str, Any]:
            if self.rho is not None:
                return {"rho": self.rho}
            smooth = target.smooth_log_density  # type: ignore[attr-defined]
            return {"rho": _steps.lipschitz(smooth, position) ** -0.5}

        return found_at_the_start(self, target, find)


class PnPULA(BlackJAXKernel):
    r"""Plug-and-play ULA as a NumPyro `MCMCKernel`, of a target with a denoiser.

    >>> import jax, jax.numpy as jnp
    >>> from numpyro.infer import MCMC
    >>> from armillary import imaging
    >>> from armillary.core import Target
    >>> y = jnp.ones((8, 8))
    >>> target = Target(lambda x: -0.5 * jnp.sum(x**2), lambda x: -2 * jnp.sum((y - x) ** 2), position=y,
    ...                 denoiser=lambda x, sigma: x / (1 + sigma**2))
    >>> mcmc = MCMC(imaging.PnPULA(target, sigma=0.2), num_warmup=100, num_samples=200, progress_bar=False)
    >>> mcmc.run(jax.random.key(0))
    >>> mcmc.get_samples().shape
    (200, 8, 8)

    Laumont R., De Bortoli V., Almansa A., Delon J., Durmus A., Pereyra M. 2022, SIAM J. Imaging Sci. 15, 701
    (arXiv:2103.04715).

    Args:
        target: an `armillary.core.Target` with a denoiser.
        step_size: the step of the discretisation; by default found by the warm-up, as `PnPULASampler` says.
        sigma: the standard deviation of the noise that the denoiser takes away.

    Raises:
        ValueError: a setting that is not positive and finite; at ``MCMC.run``, a target without a denoiser, or neither
            a step size nor a warm-up.
    """

    def __init__(
        self,
        target: Target,
        step_size: float | None = None,
        sigma: float = 0.05,
        bounds: tuple[float, float] | None = None,
    ) -> None:
        super().__init__(target, PnPULASampler(step_size, sigma, bounds))


class SplitGibbs(BlackJAXKernel):
    r"""The split Gibbs sampler as a NumPyro `MCMCKernel`.

    >>> import jax, numpyro, numpyro.distributions as dist
    >>> from numpyro.infer import MCMC
    >>> from armillary import imaging
    >>> def model(y):
    ...     x = numpyro.sample("x", imaging.L1(0.5).expand(y.shape).to_event(2))
    ...     numpyro.sample("y", dist.Normal(x, 0.5).to_event(2), obs=y)
    >>> mcmc = MCMC(imaging.SplitGibbs(model, rho=0.2), num_warmup=50, num_samples=200, progress_bar=False)
    >>> mcmc.run(jax.random.key(0), jax.numpy.zeros((8, 8)).at[2, 3].set(4.0))
    >>> mcmc.get_samples()["x"].shape
    (200, 8, 8)

    Vono M., Dobigeon N., Chainais P. 2019, IEEE Trans. Signal Process. 67, 1648, doi:10.1109/TSP.2019.2894825
    (arXiv:1804.05809).

    Args:
        model: a NumPyro model with a Gaussian likelihood, a linear forward operator and a latent site that has a
            proximal operator, or such an `armillary.core.Target`.
        rho: the standard deviation of the tie; by default found by the warm-up, as `SplitGibbsSampler` says.
        num_krylov: products with the Hessian that a draw may take.

    Raises:
        ValueError: a setting out of its range; at ``MCMC.run``, a model without a proximal operator, or neither
            ``rho`` nor a warm-up.
    """

    def __init__(self, model: Callable[..., Any] | Target, rho: float | None = None, num_krylov: int = 50) -> None:
        super().__init__(model, SplitGibbsSampler(rho, num_krylov))
