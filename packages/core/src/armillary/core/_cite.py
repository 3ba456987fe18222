"""What to cite: Armillary and its foundations, and any component by name."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from importlib import metadata

from . import registry
from .registry import Component, UnknownComponentError

#: What every run stands on, by distribution.
FOUNDATIONS = {
    "armillary-core": "The Armillary developers, Armillary: Bayesian inference on the sphere and in imaging, "
    "version {version} (software)",
    "numpyro": "Phan D., Pradhan N., Jankowiak M. 2019, Composable effects for flexible and accelerated "
    "probabilistic programming in NumPyro (arXiv:1912.11554)",
    "jax": "Bradbury J. et al. 2018, JAX: composable transformations of Python+NumPy programs, "
    "version {version} (software, github.com/jax-ml/jax)",
    "blackjax": "Cabezas A., Corenflos A., Lao J., Louf R. 2024, BlackJAX: composable Bayesian inference in "
    "JAX (arXiv:2402.10797)",
}


def foundations() -> list[str]:
    """The citations of Armillary, NumPyro, JAX and BlackJAX; software with its installed version."""
    return [text.format(version=metadata.version(name)) for name, text in FOUNDATIONS.items()]


def find(name: str) -> list[Component]:
    """The components called ``name``, of whatever kind: nothing is imported.

    Args:
        name: a component's name, or ``"distribution:name"``.

    Raises:
        UnknownComponentError: there is none of any kind.
        AmbiguousComponentError: two distributions offer it as the same kind.
    """
    found = []
    unknown = []
    for kind in registry.KINDS:
        try:
            found.append(registry.find(kind, name))
        except UnknownComponentError as error:
            unknown.append(str(error))
    if found:
        return found
    for message in unknown:
        if "pip install" in message:
            raise UnknownComponentError(message)
    near = difflib.get_close_matches(name.rpartition(":")[2], {c.name for c in registry.components()}, n=1)
    hint = f"did you mean {near[0]!r}?" if near else "`armillary list` shows what there is"
    raise UnknownComponentError(f"no installed distribution offers a component {name!r} of any kind: {hint}")


def references(components: Sequence[Component]) -> list[str]:
    """The works to cite for some components, each once, in order; those without a reference are left out."""
    return list(dict.fromkeys(c.reference for c in components if c.reference))
