"""The bare harmonic mean estimator: statistics of the ratio of a normalised density to the posterior."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float


@dataclass(frozen=True)
class HarmonicMeanStatistics:
    """What `harmonic_mean_statistics` finds; relative figures, so that none overflows however large ln Z is.

    Args:
        log_rho: ln of the estimate of 1/Z.
        relative_variance: the variance of that estimate over its square.
        relative_variance_of_variance: the variance of the variance over the fourth power of the estimate.
        kurtosis: of the chains' means about their mean; 3 for a Gaussian, not 0.
        n_eff: the effective number of chains: their number, if they are of equal length.
    """

    log_rho: float
    relative_variance: float
    relative_variance_of_variance: float
    kurtosis: float
    n_eff: float

    @property
    def log_z(self) -> float:
        """ln Z = -ln rho."""
        return -self.log_rho

    @property
    def log_z_err(self) -> float:
        """The standard error of ln Z, to first order: the relative error of rho."""
        return math.sqrt(self.relative_variance)

    @property
    def log_z_interval(self) -> tuple[float, float]:
        """ln Z where rho is one standard error higher and lower; the upper end is infinite if that error is rho."""
        error = self.log_z_err
        return self.log_z - math.log1p(error), self.log_z - math.log1p(-error) if error < 1 else math.inf

    @property
    def variance_ratio(self) -> float:
        """The standard deviation of the variance over the variance."""
        if self.relative_variance == 0:
            return 0.0
        return math.sqrt(self.relative_variance_of_variance) / self.relative_variance

    @property
    def variance_ratio_reference(self) -> float:
        """What `variance_ratio` is about when the chains' means are Gaussian."""
        return math.sqrt(2 / (self.n_eff - 1))


def harmonic_mean_statistics(
    log_phi: Float[np.ndarray, "chain draw"] | Sequence[Float[np.ndarray, " draw"]],
    log_post: Float[np.ndarray, "chain draw"] | Sequence[Float[np.ndarray, " draw"]],
) -> HarmonicMeanStatistics:
    r"""The learned harmonic mean of posterior samples, with its error and the error of its error.

    For chains j of :math:`n_j` draws each, N in all, that did not serve to fit the normalised density φ,

    .. math::
        \hat\rho = \frac1N \sum_{ij} \frac{\varphi(x_{ij})}{p(x_{ij})},\qquad
        \hat s^2 = \sum_j \frac{n_j}{N} (\hat z_j - \hat\rho)^2,\qquad
        \mathrm{var}(\hat\rho) = \frac{\hat s^2}{n_\mathrm{eff} - 1},\qquad
        n_\mathrm{eff} = \frac{N^2}{\sum_j n_j^2},

    with :math:`\hat z_j` the mean of the ratio in chain j, whose kurtosis κ gives

    .. math::
        \mathrm{var}(\mathrm{var}) = \frac{\hat s^4}{n_\mathrm{eff}^3}
            \left[(\kappa - 1) + \frac{2}{n_\mathrm{eff} - 1}\right].

    All in float64 and in log space, so that any finite ln Z is as accurate as its inputs.

    Reference: McEwen J. D., Wallis C. G. R., Price M. A., Spurio Mancini A. 2021 (arXiv:2111.12720).

    >>> import numpy as np
    >>> x = np.random.default_rng(0).normal(size=(20, 500))              # draws from exp(-x**2 / 2), Z = sqrt(2 pi)
    >>> log_phi = -0.5 * x**2 / 0.8 - 0.5 * np.log(2 * np.pi * 0.8)      # a narrower normalised Gaussian
    >>> found = harmonic_mean_statistics(log_phi, -0.5 * x**2)
    >>> print(f"{found.log_z:.3f} ± {found.log_z_err:.3f}, exact {0.5 * np.log(2 * np.pi):.3f}")
    0.919 ± 0.002, exact 0.919

    Args:
        log_phi: the log of the normalised density at the draws; an array, or a list of chains of any lengths. -inf,
            outside the support of φ, is well.
        log_post: the unnormalised log posterior density there, which must be finite.

    Raises:
        ValueError: there are fewer than two chains, the two arguments differ in shape, a density is NaN or +inf, or
            the posterior is zero at a draw of it.
    """
    phi, post = _chains("log_phi", log_phi), _chains("log_post", log_post)
    if [len(c) for c in phi] != [len(c) for c in post]:
        raise ValueError(
            f"log_phi has chains of {_lengths(phi)} draws and log_post of {_lengths(post)}: give both for "
            "the same draws"
        )
    if len(phi) < 2:
        raise ValueError("one chain: its variance is not known; split it into blocks, as more chains")
    check_finite("log_phi", phi, allow_minus_infinity=True)
    check_finite("log_post", post)
    counts = np.array([len(chain) for chain in phi], np.float64)
    phi0, post0 = (max(float(chain.max()) for chain in chains) for chains in (phi, post))
    if phi0 == -np.inf:
        raise ValueError("log_phi is -inf at every draw: φ and the posterior do not overlap; fit φ to these samples")
    # Each is taken relative to its own largest value first: a difference of near numbers is exact in floating point,
    # where log_phi - log_post of a ln Z of 1e6 would lose six digits.
    log_ratios = [(a - phi0) - (b - post0) for a, b in zip(phi, post, strict=True)]
    shift = max(ratio.max() for ratio in log_ratios)
    means = np.array([np.exp(ratio - shift).mean() for ratio in log_ratios])
    weights = counts / counts.sum()
    rho = float(weights @ means)
    # Deviations relative to rho: nothing below depends on the shift.
    deviations = means / rho - 1
    s2 = float(weights @ deviations**2)
    n_eff = float(counts.sum() ** 2 / (counts**2).sum())
    kurtosis = float(weights @ deviations**4) / s2**2 if s2 > 0 else 3.0
    return HarmonicMeanStatistics(
        log_rho=math.log(rho) + float(shift) + (phi0 - post0),
        relative_variance=s2 / (n_eff - 1),
        relative_variance_of_variance=s2**2 / n_eff**3 * ((kurtosis - 1) + 2 / (n_eff - 1)),
        kurtosis=kurtosis,
        n_eff=n_eff,
    )


def check_finite(name: str, chains: Sequence[np.ndarray], *, allow_minus_infinity: bool = False) -> None:
    """Refuse values that are no log-density of a posterior draw, saying how many there are and where the first is."""
    for kind, test, advice in (
        ("NaN", np.isnan, "find the parameters at which the model gives NaN and remove the cause"),
        ("+inf", np.isposinf, "the density is unbounded there, or overflowed: numpyro.enable_x64() may help"),
        ("-inf", np.isneginf, "a posterior draw cannot have zero density: are the samples of this posterior?"),
    ):
        if kind == "-inf" and allow_minus_infinity:
            continue
        found = [(j, np.flatnonzero(test(chain))) for j, chain in enumerate(chains)]
        total = sum(len(draws) for _, draws in found)
        if total:
            chain, draws = next((j, draws) for j, draws in found if len(draws))
            raise ValueError(
                f"{name} is {kind} at {total} of {sum(map(len, chains))} draws, first at chain {chain}, "
                f"draw {draws[0]}: {advice}"
            )


def _chains(name: str, values) -> list[np.ndarray]:
    chains = [np.asarray(chain, np.float64) for chain in values]
    if not chains or any(chain.ndim != 1 or len(chain) == 0 for chain in chains):
        shapes = [chain.shape for chain in chains[:3]]
        raise ValueError(
            f"{name}: expected an array (chain, draw), or a list of one non-empty array a chain; the first chains "
            f"have shapes {shapes}"
        )
    return chains


def _lengths(chains: list[np.ndarray]) -> str:
    lengths = [len(chain) for chain in chains]
    return ", ".join(map(str, lengths[:5])) + (", ..." if len(lengths) > 5 else "")
