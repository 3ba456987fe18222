"""The result of an estimate of the evidence."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from armillary.core import Evidence

from ._flow import Flow


@dataclass(frozen=True)
class EvidenceEstimate(Evidence):
    """A model evidence with its interval and, where several methods were used, what each gave.

    Args:
        log_z_interval: ln Z one standard error of 1/Z down and up. It is asymmetric: the estimator is of 1/Z.
        estimates: the estimate of each method, by its name.
        flows: the densities that were fitted, one a fold.
    """

    log_z_interval: tuple[float, float] = (-math.inf, math.inf)
    estimates: Mapping[str, Evidence] = field(default_factory=dict)
    flows: tuple[Flow, ...] = field(default=(), repr=False)

    def __str__(self) -> str:
        below, above = (abs(end - self.log_z) for end in self.log_z_interval)
        lines = [f"ln Z = {self.log_z:.3f} (+{above:.3f} -{below:.3f}), {self.method}"]
        return "\n".join([*lines, *(f"  ! {text}" for text in self.warnings), *(f"  {text}" for text in self.notes)])
