"""Armillary's core: protocols, registry, targets, the bridge to NumPyro, inference and comparison.

Importing this package imports no JAX: what needs it is loaded when first used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from . import hookspecs as hookspecs
from . import protocols as protocols
from . import registry as registry
from ._evidence import Evidence as Evidence
from .hookspecs import ComponentSpec as ComponentSpec
from .hookspecs import ReportSection as ReportSection
from .hookspecs import hookimpl as hookimpl

if TYPE_CHECKING:
    from ._compare import Comparison as Comparison
    from ._compare import compare as compare
    from ._infer import infer as infer
    from ._kernel import BlackJAXKernel as BlackJAXKernel
    from ._report import write_report as write_report
    from ._target import Target as Target

_LAZY = {
    "BlackJAXKernel": "._kernel",
    "Comparison": "._compare",
    "Target": "._target",
    "compare": "._compare",
    "infer": "._infer",
    "samplers": None,
    "testing": None,
    "write_report": "._report",
}


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module = _LAZY[name]
    if module is None:
        return importlib.import_module(f".{name}", __name__)
    return getattr(importlib.import_module(module, __name__), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *_LAZY})
