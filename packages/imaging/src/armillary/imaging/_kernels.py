"""The Langevin samplers as NumPyro kernels."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from armillary.core import BlackJAXKernel, Target

from ._samplers import MYULASampler, PxMALASampler, SKROCKSampler, ULASampler


class ULA(BlackJAXKernel):
    r"""The unadjusted Langevin algorithm as a NumPyro `MCMCKernel`.

    There is no accept-reject step: see `armillary.imaging.ula` for the stability limit and the bias. A step that is
    not finite leaves the chain where it is and sets ``diverging``.

    >>> import jax, numpyro, numpyro.distributions as dist
    >>> from numpyro.infer import MCMC
    >>> from armillary import imaging
    >>> def model(y):
    ...     x = numpyro.sample("x", dist.Normal(0.0, 1.0).expand(y.shape).to_event(2))
    ...     numpyro.sample("y", dist.Normal(x, 0.5).to_event(2), obs=y)
    >>> mcmc = MCMC(imaging.ULA(model), num_warmup=100, num_samples=200, progress_bar=False)
    >>> mcmc.run(jax.random.key(0), jax.numpy.ones((8, 8)))
    >>> mcmc.get_samples()["x"].shape
    (200, 8, 8)

    Roberts G. O., Tweedie R. L. 1996, Bernoulli 2, 341, doi:10.2307/3318418.

    Args:
        model: a NumPyro model, or an `armillary.core.Target`.
        step_size: the step of the discretisation; by default found by the warm-up, as `ULASampler` says.

    Raises:
        ValueError: a step size that is not positive and finite; at ``MCMC.run``, none and no warm-up.
    """

    def __init__(self, model: Callable[..., Any] | Target, step_size: float | None = None) -> None:
        super().__init__(model, ULASampler(step_size))


class MYULA(BlackJAXKernel):
    r"""The Moreau-Yosida unadjusted Langevin algorithm as a NumPyro `MCMCKernel`.

    The sites whose distribution has a proximal operator, such as `L1`, are taken through it; all else is the smooth
    part. There is no accept-reject step: see `armillary.imaging.myula` for the stability limit and the bias. A step
    that is not finite leaves the chain where it is and sets ``diverging``.

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
        step_size: the step of the discretisation; by default found by the warm-up, as `MYULASampler` says.
        smoothing: the parameter of the Moreau envelope; likewise.

    Raises:
        ValueError: a setting that is not positive and finite; at ``MCMC.run``, a model without a proximal operator, or
            a setting that is not given and no warm-up.
    """

    def __init__(
        self, model: Callable[..., Any] | Target, step_size: float | None = None, smoothing: float | None = None
    ) -> None:
        super().__init__(model, MYULASampler(step_size, smoothing))


class SKROCK(BlackJAXKernel):
    r"""SK-ROCK, the stabilised Langevin algorithm, as a NumPyro `MCMCKernel`.

    Sites whose distribution has a proximal operator, such as `L1`, are taken through it, as `MYULA` does. There is no
    accept-reject step: see `armillary.imaging.skrock` for the stability limit and the bias. A step that is not finite
    leaves the chain where it is and sets ``diverging``.

    >>> import jax, numpyro, numpyro.distributions as dist
    >>> from numpyro.infer import MCMC
    >>> from armillary import imaging
    >>> def model(y):
    ...     x = numpyro.sample("x", imaging.L1(0.5).expand(y.shape).to_event(2))
    ...     numpyro.sample("y", dist.Normal(x, 0.5).to_event(2), obs=y)
    >>> mcmc = MCMC(imaging.SKROCK(model), num_warmup=20, num_samples=200, progress_bar=False)
    >>> mcmc.run(jax.random.key(0), jax.numpy.zeros((8, 8)).at[2, 3].set(4.0))
    >>> mcmc.get_samples()["x"].shape
    (200, 8, 8)

    Pereyra M., Vargas Mieles L., Zygalakis K. C. 2020, SIAM J. Imaging Sci. 13, 905 (arXiv:1908.08845).

    Args:
        model: a NumPyro model, or an `armillary.core.Target`.
        step_size: the step of the discretisation; by default found by the warm-up, as `SKROCKSampler` says.
        num_stages: gradients of a step.
        eta: the damping.
        smoothing: the parameter of the Moreau envelope, where the model has a proximal operator; by default found.

    Raises:
        ValueError: a setting out of its range; at ``MCMC.run``, one that is not given and no warm-up.
    """

    def __init__(
        self,
        model: Callable[..., Any] | Target,
        step_size: float | None = None,
        num_stages: int = 10,
        eta: float = 0.05,
        smoothing: float | None = None,
    ) -> None:
        super().__init__(model, SKROCKSampler(step_size, num_stages, eta, smoothing))


class PxMALA(BlackJAXKernel):
    r"""The proximal Metropolis-adjusted Langevin algorithm as a NumPyro `MCMCKernel`.

    As `MYULA`, with an accept-reject step that makes it exact, and a warm-up that tunes the step size.

    >>> import jax, numpyro, numpyro.distributions as dist
    >>> from numpyro.infer import MCMC
    >>> from armillary import imaging
    >>> def model(y):
    ...     x = numpyro.sample("x", imaging.L1(0.5).expand(y.shape).to_event(2))
    ...     numpyro.sample("y", dist.Normal(x, 0.5).to_event(2), obs=y)
    >>> mcmc = MCMC(imaging.PxMALA(model), num_warmup=200, num_samples=200, progress_bar=False)
    >>> mcmc.run(jax.random.key(0), jax.numpy.zeros((8, 8)).at[2, 3].set(4.0))
    >>> mcmc.get_samples()["x"].shape
    (200, 8, 8)

    Pereyra M. 2016, Stat. Comput. 26, 745, doi:10.1007/s11222-015-9567-4 (arXiv:1306.0187).

    Args:
        model: a NumPyro model with a latent site that has a proximal operator, or an `armillary.core.Target` with one.
        step_size: of the proposal; by default found, as `PxMALASampler` says.
        target_acceptance_rate: what the warm-up tunes the step size to.

    Raises:
        ValueError: a setting out of its range; at ``MCMC.run``, a model without a proximal operator, or neither a step
            size nor a warm-up.
    """

    def __init__(
        self,
        model: Callable[..., Any] | Target,
        step_size: float | None = None,
        target_acceptance_rate: float = 0.574,
    ) -> None:
        super().__init__(model, PxMALASampler(step_size, target_acceptance_rate))
