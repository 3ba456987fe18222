"""The hooks by which a distribution adds components to Armillary.

A plugin is a module named by an entry point of the group ``armillary``. It defines any of the hooks below,
each marked with `hookimpl` and each returning an iterable of `ComponentSpec`:

    # othersuite_plugin.py
    from armillary.core.hookspecs import ComponentSpec, hookimpl

    @hookimpl
    def armillary_samplers():
        yield ComponentSpec("zigzag", "othersuite.samplers:ZigZag", "Zig-zag process")

    # pyproject.toml
    [project.entry-points.armillary]
    othersuite = "othersuite_plugin"

The factory is a string so that listing components imports none of them. Keep the hook module itself light, and
outside any package whose ``__init__`` imports JAX: its import is paid by every ``armillary list``.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import pluggy

hookspec = pluggy.HookspecMarker("armillary")
hookimpl = pluggy.HookimplMarker("armillary")

_NAME = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*")
_FACTORY = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*(\.[A-Za-z_]\w*)*")


@dataclass(frozen=True, slots=True)
class ComponentSpec:
    """One component that a plugin offers, described without importing it.

    Args:
        name: what a user types; lower case words joined by hyphens, such as ``"px-mala"``.
        factory: where it is, ``"package.module:attribute"``; imported when it is asked for.
        summary: one line for ``armillary list``.
        reference: the work to cite, as text (authors, year, journal or arXiv number); may be empty.

    Raises:
        ValueError: a name or factory of another form, or a summary that is not one line of text.
    """

    name: str
    factory: str
    summary: str
    reference: str = ""

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not _NAME.fullmatch(self.name):
            raise ValueError(
                f'component name {self.name!r}: use lower case letters, digits and single hyphens, such as "px-mala"'
            )
        if not isinstance(self.factory, str) or not _FACTORY.fullmatch(self.factory):
            raise ValueError(f'factory {self.factory!r} of {self.name!r}: write "package.module:attribute"')
        if not isinstance(self.summary, str) or not self.summary.strip():
            raise ValueError(f"component {self.name!r} has no summary: say in one line what it is")
        if "\n" in self.summary.strip():
            raise ValueError(f"the summary of component {self.name!r} has several lines: {self.summary!r}; give one")


@dataclass(frozen=True, slots=True)
class ReportSection:
    """A section that a plugin adds to the HTML report of a run.

    Args:
        title: the heading.
        html: the body, self-contained HTML; images as ``data:`` addresses.
        order: sections stand in increasing order; core's own are 0 (diagnostics) to 90 (citations).
    """

    title: str
    html: str
    order: int = 50


@hookspec
def armillary_transforms() -> Iterable[ComponentSpec]:  # type: ignore[empty-body]
    """Linear transforms with an inverse: see `armillary.core.protocols.Transform`."""


@hookspec
def armillary_priors() -> Iterable[ComponentSpec]:  # type: ignore[empty-body]
    """Priors: see `armillary.core.protocols.Prior`."""


@hookspec
def armillary_likelihoods() -> Iterable[ComponentSpec]:  # type: ignore[empty-body]
    """Likelihoods: see `armillary.core.protocols.Likelihood`."""


@hookspec
def armillary_operators() -> Iterable[ComponentSpec]:  # type: ignore[empty-body]
    """Forward operators: see `armillary.core.protocols.ForwardOperator`."""


@hookspec
def armillary_denoisers() -> Iterable[ComponentSpec]:  # type: ignore[empty-body]
    """Denoisers: see `armillary.core.protocols.Denoiser`."""


@hookspec
def armillary_samplers() -> Iterable[ComponentSpec]:  # type: ignore[empty-body]
    """Samplers: see `armillary.core.protocols.Sampler`."""


@hookspec
def armillary_evidence_estimators() -> Iterable[ComponentSpec]:  # type: ignore[empty-body]
    """Evidence estimators: see `armillary.core.protocols.EvidenceEstimator`."""


@hookspec
def armillary_flows() -> Iterable[ComponentSpec]:  # type: ignore[empty-body]
    """Kinds of normalising flow for the evidence: see ``armillary.evidence.Architecture``."""


@hookspec
def armillary_demos() -> Iterable[ComponentSpec]:  # type: ignore[empty-body]
    """Demonstrations for ``armillary demo NAME``: ``demo(directory, *, console)`` gives results by model."""


@hookspec
def armillary_report_sections(result: Any) -> Iterable[ReportSection]:  # type: ignore[empty-body]
    """Sections for the report of ``result``, the `xarray.DataTree` of a run. Import what you need inside."""
