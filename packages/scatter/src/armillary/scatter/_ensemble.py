"""The mean and the covariance of scattering statistics over an ensemble of fields."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from ._check import check_integer


@dataclass(frozen=True, eq=False)
class StatisticsEnsemble:
    r"""The mean and the covariance of scattering statistics, over given or simulated fields.

    Fields are taken as they come, a batch at a time, and only sums are kept, in float64. The covariance is that of a
    sample, with the factor :math:`1 / (n - 1)`; its inverse is not that of the true one on average, and for few fields
    it has none: see `precision` and `shrunk`.

    Attributes:
        mean: of every statistic.
        covariance: of every two.
        num: the number of fields.
        labels: what each statistic is of.

    References: Hartlap J., Simon P., Schneider P. 2007, A&A 464, 399, doi:10.1051/0004-6361:20066170; Chen Y., Wiesel
    A., Eldar Y. C., Hero A. O. 2010, IEEE Trans. Signal Process. 58, 5016, doi:10.1109/TSP.2010.2053029.

    >>> import jax
    >>> from armillary.scatter import ScatteringCovariance, StatisticsEnsemble
    >>> from armillary.sphere import IsotropicGaussian, alm_from_real
    >>> prior = IsotropicGaussian(jax.numpy.ones(8))
    >>> cov = ScatteringCovariance(8, N=1, J_min=1)
    >>> fields = (alm_from_real(prior.sample(key)) for key in jax.random.split(jax.random.key(0), 40))
    >>> ensemble = StatisticsEnsemble.of(cov, fields)
    >>> ensemble.precision().shape
    (15, 15)
    """

    mean: Float[np.ndarray, " statistics"]
    covariance: Float[np.ndarray, "statistics statistics"]
    num: int
    labels: tuple[Any, ...]

    @classmethod
    def of(
        cls, cov: Callable[[Any], Any], fields: Array | np.ndarray | Iterable[Any], batch_size: int = 16
    ) -> StatisticsEnsemble:
        """The ensemble of the statistics of fields.

        Args:
            cov: a `ScatteringCovariance`, or another function from a batch of fields to its statistics.
            fields: the fields, along the first axis of an array, or any iterable of them, such as a generator that
                simulates them.
            batch_size: the number of fields whose statistics are computed at once.

        Raises:
            ValueError: there are fewer than two fields; a statistic is not finite; or as `cov`.
        """
        size = check_integer("batch_size", batch_size, 1, None, "the number of fields at once")
        num, labels, values = 0, (), iter(fields)
        mean, moment = np.zeros(()), np.zeros(())
        while batch := list(itertools.islice(values, size)):
            # All of one size, so that nothing is compiled twice.
            s = cov(jnp.stack([*batch, *batch[-1:] * (size - len(batch))]))
            found = np.asarray(s.ravel(), np.float64)[: len(batch)]
            if not np.isfinite(found).all():
                raise ValueError(f"fields: a statistic of fields {num} to {num + len(batch) - 1} is not finite")
            labels, total = s.labels(), num + len(batch)
            own = found.mean(axis=0)
            step = own - mean
            moment = moment + (found - own).T @ (found - own) + num * len(batch) / total * np.outer(step, step)
            mean, num = mean + len(batch) / total * step, total
        if num < 2:
            raise ValueError(f"fields: {num} of them, a covariance needs two or more")
        return cls(mean, moment / (num - 1), num, labels)

    def precision(self) -> Float[np.ndarray, "statistics statistics"]:
        r"""The inverse of the covariance, times :math:`(n - p - 2) / (n - 1)` for n fields and p statistics.

        With that factor, of Hartlap et al., it is right on average where statistics are Gaussian.

        Raises:
            ValueError: there are fewer than ``p + 3`` fields, or a statistic is the same in all.
        """
        p = len(self.mean)
        if self.num < p + 3:
            raise ValueError(
                f"{self.num} fields for {p} statistics: the inverse of their covariance needs {p + 3} fields or more; "
                "take more, fewer statistics (isotropic=True, a larger J_min), or shrunk()[0], which has an inverse"
            )
        root = self._deviations()
        inverse = np.linalg.inv(self.covariance / np.outer(root, root)) / np.outer(root, root)
        return inverse * ((self.num - p - 2) / (self.num - 1))

    def shrunk(self) -> tuple[Float[np.ndarray, "statistics statistics"], float]:
        r"""The covariance with its correlations shrunk towards 0, which has an inverse however few fields there are.

        .. math:: R \leftarrow (1 - \rho) R + \rho\, 1, \qquad \rho = \min\left(1, \frac{(1 - 2 / p)\, \mathrm{tr} R^2
                  + p^2}{(n - 2 / p) (\mathrm{tr} R^2 - p)}\right),

        the oracle approximating shrinkage of Chen et al. for n - 1 degrees of freedom, of the correlations R of p
        statistics.

        Returns:
            The covariance, and :math:`\rho`.

        Raises:
            ValueError: a statistic is the same in all fields.
        """
        root = self._deviations()
        R, p = self.covariance / np.outer(root, root), len(root)
        square = (R**2).sum()
        apart = (self.num - 2 / p) * (square - p)
        rho = min(1.0, ((1 - 2 / p) * square + p**2) / apart) if apart > 0 else 1.0
        return ((1 - rho) * R + rho * np.eye(p)) * np.outer(root, root), float(rho)

    def _deviations(self) -> np.ndarray:
        root = np.sqrt(np.diagonal(self.covariance))
        for label, deviation in zip(self.labels, root.tolist(), strict=True):
            if not deviation > 0:
                raise ValueError(f"the statistic {label} is the same in all fields: no precision, no correlation")
        return root
