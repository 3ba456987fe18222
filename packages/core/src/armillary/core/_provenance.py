"""Which versions made a result, and which works it stands on."""

from __future__ import annotations

import platform
from collections.abc import Iterable
from importlib import metadata

from . import _cite

_RECORDED = (
    "armillary-core",
    "armillary-sphere",
    "armillary-scatter",
    "armillary-evidence",
    "armillary-imaging",
    "jax",
    "jaxlib",
    "numpyro",
    "blackjax",
    "equinox",
    "flowjax",
    "optax",
    "numpy",
    "arviz-base",
)


def versions() -> dict[str, str]:
    """The versions of Python and of the installed distributions that bear on a result."""
    found = {"python": platform.python_version()}
    for name in _RECORDED:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def citations(references: Iterable[str]) -> list[str]:
    """The works to cite for a run that used components of these references, each once."""
    return list(dict.fromkeys([*filter(None, references), *_cite.foundations()]))
