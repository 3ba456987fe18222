"""An evidence together with what was learned of the image on the way."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass

from jaxtyping import PyTree

from armillary.core import Evidence


@dataclass(frozen=True)
class ImageEvidence(Evidence):
    """An `armillary.core.Evidence` with the information and the posterior moments of the run that it is from.

    It goes to `armillary.core.compare` as any evidence does; one of a run that did not come to its end has a NaN for
    ln Z, which that refuses.

    Args:
        information: the Kullback-Leibler divergence of the posterior from the prior, in nats.
        mean: the posterior mean, a position of the target.
        std: the posterior standard deviation of each element.
        effective_size: how many posterior draws of equal weight the weights are worth. Draws that come from one
            another by a few moves resemble each other, and are worth fewer.
        status: ``"converged"``, or what was wrong and what to do.
    """

    information: float = math.nan
    mean: PyTree = None
    std: PyTree = None
    effective_size: float = math.nan
    status: str = ""

    def warn(self, warning: str) -> ImageEvidence:
        """The same with a warning more."""
        return dataclasses.replace(self, warnings=(*self.warnings, warning))


def refused(evidence: ImageEvidence, status: str) -> ImageEvidence:
    """The same without the numbers that would not be true."""
    return dataclasses.replace(evidence.warn(status), log_z=math.nan, log_z_err=math.inf, status=status)
