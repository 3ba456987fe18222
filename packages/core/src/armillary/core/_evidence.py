"""The result of an evidence estimator."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Evidence:
    """A model evidence Z = integral of the likelihood over the prior, as its natural logarithm.

    Args:
        log_z: ln Z.
        log_z_err: one standard error of ln Z, in nats.
        method: which estimator it is from, such as ``"lhm"``.
        diagnostics: named figures by which the estimate is to be judged.
        warnings: what is wrong with it, each with what to do; empty if nothing is.
        notes: what a reader should know of how it was made, and is no fault.
    """

    log_z: float
    log_z_err: float
    method: str = ""
    diagnostics: Mapping[str, Any] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
