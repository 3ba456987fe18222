"""The proximal samplers as Armillary samplers and as NumPyro kernels."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

from blackjax.base import SamplingAlgorithm

from armillary.core import BlackJAXKernel, Target, protocols

from . import _myula


@dataclass(frozen=True)
class MYULASampler:
    r"""The settings of MYULA, an `armillary.core.protocols.Sampler`.

    >>> import jax, jax.numpy as jnp
    >>> from armillary.core import Target
    >>> from armillary.imaging import L1, MYULASampler
    >>> prior = L1(0.5).expand((4,)).to_event(1)
    >>> target = Target(prior.log_prob, lambda x: -0.5 * jnp.sum((x - 1.0) ** 2), prox=L1(0.5).prox,
    ...                 position=jnp.zeros(4))
    >>> alg = MYULASampler(step_size=0.1, smoothing=0.1).build(target)
    >>> state, info = alg.step(jax.random.key(0), alg.init(jnp.zeros(4)))

    Args:
        step_size: see `armillary.imaging.myula`, also for its stability limit.
        smoothing: the parameter of the Moreau envelope.

    Raises:
        ValueError: a setting that is not positive and finite.
    """

    step_size: float = 1e-3
    smoothing: float = 1e-3

    traits: ClassVar[frozenset[str]] = frozenset({"prox", "smooth_log_density"})

    def __post_init__(self) -> None:
        _myula.check_settings(self.step_size, self.smoothing)

    @property
    def bias(self) -> float:
        r"""Bound on the bias of the moments of a Gaussian of unit scale.

        With posterior precision P and a Gaussian prior of precision Q, the stationary precision is that of the
        envelope, P - smoothing Q^2 / (1 + smoothing Q), times 1 - step_size P / 2, and the relative error of the
        variance is to first order ``smoothing * Q**2 / P + step_size * P / 2``; here for Q <= P <= 2 with Q <= 1.
        """
        return self.step_size + self.smoothing

    def build(self, target: protocols.Target, *, step_size: Any = None, smoothing: Any = None) -> SamplingAlgorithm:
        """The algorithm, on the target's smooth log-density and proximal operator.

        Raises:
            ValueError: the target has no `prox`; says how to give it one.
        """
        target.require(self.traits, "myula")  # type: ignore[attr-defined]
        return _myula.as_top_level_api(
            target.smooth_log_density,  # type: ignore[attr-defined]
            target.prox,  # type: ignore[attr-defined]
            self.step_size if step_size is None else step_size,
            self.smoothing if smoothing is None else smoothing,
        )


class MYULA(BlackJAXKernel):
    r"""The Moreau-Yosida unadjusted Langevin algorithm as a NumPyro `MCMCKernel`.

    The sites whose distribution has a proximal operator, such as `L1`, are taken through it; all else is the smooth
    part. There is no accept-reject step and no adaptation of the step size: see `armillary.imaging.myula` for the
    stability limit and the bias. A step that is not finite leaves the chain where it is and sets ``diverging``.

    >>> import jax, numpyro, numpyro.distributions as dist
    >>> from numpyro.infer import MCMC
    >>> from armillary import imaging
    >>> def model(y):
    ...     x = numpyro.sample("x", imaging.L1(0.5).expand(y.shape).to_event(2))
    ...     numpyro.sample("y", dist.Normal(x, 0.5).to_event(2), obs=y)
    >>> kernel = imaging.MYULA(model, step_size=0.05, smoothing=0.05)
    >>> mcmc = MCMC(kernel, num_warmup=100, num_samples=200, progress_bar=False)
    >>> mcmc.run(jax.random.key(0), jax.numpy.zeros((8, 8)).at[2, 3].set(4.0))
    >>> mcmc.get_samples()["x"].shape
    (200, 8, 8)

    Durmus A., Moulines E., Pereyra M. 2018, SIAM J. Imaging Sci. 11, 473, doi:10.1137/16M1108340 (arXiv:1612.07471).

    Args:
        model: a NumPyro model with a latent site that has a proximal operator, or an `armillary.core.Target` with one.
        step_size: the step of the discretisation.
        smoothing: the parameter of the Moreau envelope.

    Raises:
        ValueError: a setting that is not positive and finite; at ``MCMC.run``, a model without a proximal operator.
    """

    def __init__(self, model: Callable[..., Any] | Target, step_size: float = 1e-3, smoothing: float = 1e-3) -> None:
        super().__init__(model, MYULASampler(step_size, smoothing))
