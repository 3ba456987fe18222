"""Estimates on disk: a line of JSON, then the arrays of the flows as Equinox writes them. Nothing is pickled."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import numpy as np

from armillary.core import registry

from ._architectures import Architecture, build
from ._flow import Flow, Whitener
from ._result import EvidenceEstimate
from ._warnings import EvidenceWarning

_FORMAT = "armillary-evidence-1"


def save(path: str | Path, estimate: EvidenceEstimate) -> None:
    """Write an estimate with its flows to a file, which `load` reads.

    Args:
        path: the file; one that is there is replaced.
        estimate: what `Problem.estimate` gave.

    Raises:
        ValueError: a flow is of an architecture that no installed distribution registers.
    """
    flows = [
        {"dim": len(flow.whitener.loc), "architecture": None}
        if flow.architecture is None
        else {"dim": len(flow.whitener.loc), **_named(flow.architecture)}
        for flow in estimate.flows
    ]
    header = {"format": _FORMAT, "estimate": _plain(estimate), "flows": flows}
    path = Path(path)
    with path.open("wb") as file:
        file.write(json.dumps(header).encode() + b"\n")
        eqx.tree_serialise_leaves(file, estimate.flows)


def load(path: str | Path) -> EvidenceEstimate:
    """Read what `save` wrote.

    Raises:
        ValueError: the file is no estimate.
        LookupError: no installed distribution has a flow of the name that the file gives.
    """
    with Path(path).open("rb") as file:
        try:
            header = json.loads(file.readline())
            known = header["format"] == _FORMAT
        except (ValueError, KeyError, TypeError):
            known = False
        if not known:
            raise ValueError(f"{path} is not an estimate of the evidence: expected a file written by evidence.save")
        like = tuple(_empty(flow) for flow in header["flows"])
        flows = eqx.tree_deserialise_leaves(file, like)
    return dataclasses.replace(_estimate(header["estimate"]), flows=flows)


def _named(architecture: Architecture) -> dict[str, Any]:
    for component in registry.components("flow"):
        if registry.get("flow", component.name) is type(architecture):
            return {"architecture": component.name, "settings": dataclasses.asdict(architecture)}  # type: ignore[call-overload]
    raise ValueError(
        f"{type(architecture).__name__} is no registered flow, so a file could not say what it is: register it by the "
        "hook armillary_flows"
    )


def _empty(described: Mapping[str, Any]) -> Flow:
    dim = described["dim"]
    whitener = Whitener(np.zeros(dim), np.zeros((dim, dim)))
    if described["architecture"] is None:
        return Flow(whitener)
    architecture = registry.get("flow", described["architecture"])(**described["settings"])
    return Flow(whitener, build(architecture, jax.random.key(0), dim), architecture)


def _plain(estimate: Any) -> dict[str, Any]:
    return {
        "log_z": estimate.log_z,
        "log_z_err": estimate.log_z_err,
        "method": estimate.method,
        "diagnostics": dict(estimate.diagnostics),
        "warnings": [[getattr(w, "name", ""), str(w), getattr(w, "hard", False)] for w in estimate.warnings],
        "notes": list(estimate.notes),
        "log_z_interval": list(estimate.log_z_interval),
        "estimates": {name: _plain(each) for name, each in estimate.estimates.items()},
    }


def _estimate(plain: Mapping[str, Any]) -> EvidenceEstimate:
    return EvidenceEstimate(
        log_z=plain["log_z"],
        log_z_err=plain["log_z_err"],
        method=plain["method"],
        diagnostics=plain["diagnostics"],
        warnings=tuple(EvidenceWarning(name, text, hard=hard) for name, text, hard in plain["warnings"]),
        notes=tuple(plain["notes"]),
        log_z_interval=tuple(plain["log_z_interval"]),
        estimates={name: _estimate(each) for name, each in plain["estimates"].items()},
    )
