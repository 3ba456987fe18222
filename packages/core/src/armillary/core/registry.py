"""What the installed distributions offer, by kind and name.

    from armillary.core import registry

    registry.components("sampler")        # what there is, nothing imported
    registry.get("sampler", "myula")      # the class, imported now
    registry.failures()                   # plugins that did not load, and why

Plugins are found by the entry-point group ``armillary``, loaded one at a time and each under guard: one that fails
is reported by `failures` and never stops another. Two environment variables steer this:

``ARMILLARY_DISABLE_PLUGINS``
    distributions (or ``distribution:entry-point``) to leave out, separated by commas.
``ARMILLARY_STRICT_PLUGINS``
    set to ``1``, a plugin that fails raises `PluginError` at once: for continuous integration.
"""

from __future__ import annotations

import difflib
import functools
import importlib
import os
import re
import sys
import traceback
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from importlib import metadata
from typing import Any

import pluggy

from . import hookspecs
from .hookspecs import ComponentSpec, ReportSection

GROUP = "armillary"

#: The kinds of component and the hook that offers each.
KINDS = {
    "transform": "armillary_transforms",
    "prior": "armillary_priors",
    "likelihood": "armillary_likelihoods",
    "operator": "armillary_operators",
    "denoiser": "armillary_denoisers",
    "sampler": "armillary_samplers",
    "evidence_estimator": "armillary_evidence_estimators",
    "flow": "armillary_flows",
    "demo": "armillary_demos",
}

# Which of our distributions brings a name, so that the error for a missing one can say what to install. A test holds
# this against the plugins themselves.
_PROVIDED_BY: dict[str, dict[str, tuple[str, ...]]] = {
    "armillary-core": {
        "sampler": (
            "nuts",
            "hmc",
            "blackjax-nuts",
            "blackjax-hmc",
            "mala",
            "mclmc",
            "chees",
            "nested-slice-sampling",
            "tempered-smc",
        ),
    },
    "armillary-sphere": {
        "transform": ("sht", "wigner", "wavelets"),
        "prior": ("isotropic-gaussian", "wavelet-l1"),
        "likelihood": ("masked-gaussian",),
        "demo": ("earth", "earth-segmentation"),
    },
    "armillary-scatter": {
        "transform": ("axisymmetric-wavelets",),
        "prior": ("scattering", "scattering-maximum-entropy"),
        "demo": ("texture",),
    },
    "armillary-evidence": {
        "evidence_estimator": ("flow", "lhm", "bridge", "importance"),
        "flow": ("spline", "realnvp", "autoregressive", "matching"),
    },
    "armillary-imaging": {
        "transform": ("dwt", "undecimated-dwt", "sara"),
        "operator": (
            "identity",
            "mask",
            "blur",
            "fourier-mask",
            "gradient",
            "nufft",
            "radio-interferometer",
            "kaiser-squires",
            "spherical-kaiser-squires",
        ),
        "prior": ("l1", "l1-wavelet", "group-l1", "total-variation", "l1-frame", "denoiser", "score"),
        "denoiser": ("dncnn", "drunet", "score-unet"),
        "sampler": (
            "myula",
            "ula",
            "px-mala",
            "skrock",
            "pnp-ula",
            "split-gibbs",
            "annealed-langevin",
            "diffusion-posterior",
        ),
        "demo": ("galaxies",),
    },
}


class PluginError(RuntimeError):
    """A plugin failed to load while ``ARMILLARY_STRICT_PLUGINS`` was set."""


class UnknownComponentError(LookupError):
    """No installed distribution offers a component of that name."""


class AmbiguousComponentError(LookupError):
    """Several distributions offer a component of that name."""


class ComponentImportError(ImportError):
    """A component is registered but its factory could not be imported."""


@dataclass(frozen=True, slots=True)
class Component:
    """A registered component: what it is and where it comes from."""

    kind: str
    name: str
    factory: str
    summary: str
    reference: str
    distribution: str
    version: str
    entry_point: str

    @property
    def qualified_name(self) -> str:
        """``distribution:name``, which is never ambiguous between distributions."""
        return f"{self.distribution}:{self.name}"

    def load(self) -> Any:
        """Import the factory and return the object that it names.

        Raises:
            ComponentImportError: with the distribution, the factory and the cause.
        """
        module, _, attribute = self.factory.partition(":")
        try:
            value: Any = importlib.import_module(module)
            for part in attribute.split("."):
                value = getattr(value, part)
        except Exception as error:
            hint = ""
            if isinstance(error, ModuleNotFoundError) and error.name:
                top = error.name.partition(".")[0]
                missing = error.name if top in sys.modules else top
                hint = f"; the module {missing!r} is not installed in this environment"
            raise ComponentImportError(
                f"{self.kind} {self.name!r} of {self.distribution} {self.version} could not be imported from "
                f"{self.factory!r}: {type(error).__name__}: {error}{hint}"
            ) from error
        return value


@dataclass(frozen=True, slots=True)
class PluginFailure:
    """A plugin that did not load, wholly or for one hook."""

    distribution: str
    version: str
    entry_point: str
    value: str
    message: str
    traceback: str = ""

    def __str__(self) -> str:
        return f"{self.distribution} {self.version} ({self.entry_point} = {self.value}): {self.message}"


class Registry:
    """The components of a set of entry points. `default` is that of the running environment."""

    def __init__(
        self,
        entry_points: Iterable[metadata.EntryPoint],
        *,
        disabled: Iterable[str] = (),
        strict: bool = False,
    ) -> None:
        self._manager = pluggy.PluginManager(GROUP)
        self._manager.add_hookspecs(hookspecs)
        self._hooks = frozenset(name for name in vars(hookspecs) if name.startswith("armillary_"))
        self._disabled = frozenset(_normalise(name) for name in disabled)
        self._strict = strict
        self._failures: list[PluginFailure] = []
        self._provenance: dict[str, tuple[str, str, metadata.EntryPoint]] = {}
        for entry_point in _in_order(entry_points):
            self._load(entry_point)
        self._components = tuple(self._collect())

    def components(self, kind: str | None = None) -> tuple[Component, ...]:
        """Every component, or those of a kind, in the order of their kind, name and distribution."""
        if kind is None:
            return self._components
        kind = _kind(kind)
        return tuple(c for c in self._components if c.kind == kind)

    def failures(self) -> tuple[PluginFailure, ...]:
        """The plugins that did not load, or a hook of which failed."""
        return tuple(self._failures)

    def find(self, kind: str, name: str) -> Component:
        """The component of that kind and name, not imported.

        Args:
            kind: one of `KINDS`.
            name: its name, or ``"distribution:name"`` where two distributions offer it.

        Raises:
            UnknownComponentError: there is none; says what is near, and what to install.
            AmbiguousComponentError: there are several; names them and how to choose.
        """
        kind = _kind(kind)
        distribution, _, short = name.rpartition(":")
        matches = [
            c
            for c in self.components(kind)
            if c.name == short and (not distribution or _normalise(c.distribution) == _normalise(distribution))
        ]
        if len(matches) == 1:
            return matches[0]
        if matches:
            providers = " and ".join(f"{c.distribution} {c.version} ({c.entry_point})" for c in matches)
            if len({c.distribution for c in matches}) > 1:
                advice = "write " + " or ".join(repr(c.qualified_name) for c in matches)
            else:
                advice = f"ask the authors of {matches[0].distribution} to rename one"
            raise AmbiguousComponentError(f"{kind} {name!r} is offered by {providers}: {advice}")
        raise UnknownComponentError(self._missing(kind, name, short))

    def get(self, kind: str, name: str) -> Any:
        """The class (or function) of that kind and name, imported now: see `find` for the errors.

        Raises:
            ComponentImportError: it is registered, but its import failed.
        """
        return self.find(kind, name).load()

    def report_sections(self, result: Any) -> list[ReportSection]:
        """The report sections that plugins contribute for ``result``; one that fails becomes a section saying so."""
        sections: list[ReportSection] = []
        for plugin, implementation in self._implementations("armillary_report_sections"):
            try:
                for section in implementation(result):
                    if not isinstance(section, ReportSection):
                        raise TypeError(f"yielded {type(section).__name__}, not ReportSection")
                    sections.append(section)
            except Exception as error:
                distribution, version, entry_point = self._provenance[plugin]
                self._fail(entry_point, distribution, version, f"armillary_report_sections: {error!r}", error)
                sections.append(_failed_section(distribution, error))
        return sorted(sections, key=lambda section: section.order)

    def _load(self, entry_point: metadata.EntryPoint) -> None:
        distribution, version = _provider(entry_point)
        if {_normalise(distribution), f"{_normalise(distribution)}:{entry_point.name}"} & self._disabled:
            return
        # A name of our own: pluggy would silently skip the second of two entry points that share theirs.
        plugin_name = f"{distribution}:{entry_point.name}={entry_point.value}"
        if plugin_name in self._provenance:
            return
        self._provenance[plugin_name] = (distribution, version, entry_point)
        try:
            plugin = entry_point.load()
            self._check_hooks(plugin)
            self._manager.register(plugin, name=plugin_name)
        except (Exception, SystemExit) as error:  # a module that exits at import must not end its host either
            if self._manager.has_plugin(plugin_name):
                self._manager.unregister(name=plugin_name)
            self._fail(entry_point, distribution, version, f"{type(error).__name__}: {error}", error)

    def _check_hooks(self, plugin: Any) -> None:
        for name in dir(plugin):
            if not name.startswith("armillary_") or not callable(getattr(plugin, name)):
                continue
            if name not in self._hooks:
                near = difflib.get_close_matches(name, self._hooks, n=1)
                did_you_mean = f"; did you mean {near[0]!r}?" if near else ""
                raise LookupError(f"unknown hook {name!r}{did_you_mean} (hooks: {', '.join(sorted(self._hooks))})")
            if not hasattr(getattr(plugin, name), "armillary_impl"):
                raise TypeError(f"hook {name!r} is not marked: put @armillary.core.hookspecs.hookimpl above it")

    def _implementations(self, hook: str) -> Iterator[tuple[str, Callable[..., Any]]]:
        for implementation in getattr(self._manager.hook, hook).get_hookimpls():
            yield implementation.plugin_name, implementation.function

    def _collect(self) -> list[Component]:
        found = []
        for kind, hook in KINDS.items():
            for plugin, implementation in self._implementations(hook):
                distribution, version, entry_point = self._provenance[plugin]
                try:
                    specs = list(implementation())
                    for spec in specs:
                        if not isinstance(spec, ComponentSpec):
                            raise TypeError(f"{hook} gave {type(spec).__name__}, not ComponentSpec")
                except (Exception, SystemExit) as error:
                    self._fail(entry_point, distribution, version, f"{hook}: {type(error).__name__}: {error}", error)
                    continue
                found += [
                    Component(
                        kind,
                        s.name,
                        s.factory,
                        s.summary,
                        s.reference,
                        distribution,
                        version,
                        entry_point.name,
                    )
                    for s in specs
                ]
        order = list(KINDS)
        return sorted(found, key=lambda c: (order.index(c.kind), c.name, c.distribution))

    def _fail(
        self,
        entry_point: metadata.EntryPoint,
        distribution: str,
        version: str,
        message: str,
        error: BaseException,
    ) -> None:
        text = "".join(traceback.format_exception(error))
        failure = PluginFailure(distribution, version, entry_point.name, entry_point.value, message, text)
        if self._strict:
            raise PluginError(f"plugin {failure}") from error
        self._failures.append(failure)

    def _missing(self, kind: str, name: str, short: str) -> str:
        message = f"no installed distribution offers the {kind} {name!r}"
        for distribution, kinds in _PROVIDED_BY.items():
            if short in kinds.get(kind, ()):
                message += f": {self._remedy(distribution)}"
                break
        else:
            names = sorted({c.name for c in self.components(kind)})
            near = difflib.get_close_matches(short, names, n=1)
            if near:
                message += f": did you mean {near[0]!r}?"
            message += f" ({kind}s here: {', '.join(names) or 'none'})"
        if self._failures:
            failed = "; ".join(str(failure) for failure in self._failures)
            message += f". Plugins that did not load: {failed}"
        return message

    def _remedy(self, distribution: str) -> str:
        disabled = sorted(d for d in self._disabled if d.partition(":")[0] == distribution)
        if disabled:
            return f"{distribution} brings it, and ARMILLARY_DISABLE_PLUGINS leaves out {disabled[0]!r}: remove that"
        if any(_normalise(failure.distribution) == distribution for failure in self._failures):
            return f"{distribution} brings it, and did not load"
        return f"`pip install {distribution}` brings it"


@functools.cache
def default() -> Registry:
    """The registry of the running environment, made at the first call."""
    disabled = [name.strip() for name in os.environ.get("ARMILLARY_DISABLE_PLUGINS", "").split(",")]
    strict = os.environ.get("ARMILLARY_STRICT_PLUGINS", "").strip() not in ("", "0")
    entry_points = metadata.entry_points(group=GROUP)
    return Registry(entry_points, disabled=[name for name in disabled if name], strict=strict)


def components(kind: str | None = None) -> tuple[Component, ...]:
    """The components of the running environment: see `Registry.components`."""
    return default().components(kind)


def failures() -> tuple[PluginFailure, ...]:
    """The plugins of the running environment that did not load: see `Registry.failures`."""
    return default().failures()


def find(kind: str, name: str) -> Component:
    """A component of the running environment, not imported: see `Registry.find`."""
    return default().find(kind, name)


def get(kind: str, name: str) -> Any:
    """A component of the running environment, imported now: see `Registry.get`."""
    return default().get(kind, name)


def report_sections(result: Any) -> list[ReportSection]:
    """Report sections from the running environment's plugins: see `Registry.report_sections`."""
    return default().report_sections(result)


def _kind(kind: str) -> str:
    singular = kind.removesuffix("s")
    if singular not in KINDS:
        raise ValueError(f"kind={kind!r}: the kinds of component are {', '.join(KINDS)}")
    return singular


def _normalise(name: str) -> str:
    head, separator, tail = name.partition(":")
    return re.sub(r"[-_.]+", "-", head).lower() + separator + tail


def _provider(entry_point: metadata.EntryPoint) -> tuple[str, str]:
    dist = entry_point.dist
    if dist is None:
        return "unknown distribution", "?"
    # One that lost its METADATA, as a broken uninstallation leaves it, has neither name nor version.
    return dist.metadata.get("Name") or "unknown distribution", dist.metadata.get("Version") or "?"


def _in_order(entry_points: Iterable[metadata.EntryPoint]) -> list[metadata.EntryPoint]:
    return sorted(entry_points, key=lambda e: (_provider(e)[0], e.name, e.value))


def _failed_section(distribution: str, error: Exception) -> ReportSection:
    from html import escape

    text = escape(f"{type(error).__name__}: {error}")
    return ReportSection(f"A section of {distribution} failed", f"<p class='bad'>{text}</p>", order=95)
