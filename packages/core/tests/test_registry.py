"""The registry over entry points made in memory; installed distributions are tried in the workspace's tests."""

from __future__ import annotations

import sys
import types
from importlib import metadata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from armillary.core import registry
from armillary.core.hookspecs import ComponentSpec, ReportSection, hookimpl
from armillary.core.registry import Registry


class Distribution(metadata.Distribution):
    """A distribution that has a name and a version only."""

    def __init__(self, name: str | None, version: str) -> None:
        self._fields = (name, version)

    def read_text(self, filename: str) -> str | None:
        name, version = self._fields
        if filename != "METADATA":
            return None
        return "" if name is None else f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"

    def locate_file(self, path):
        raise FileNotFoundError(path)


@pytest.fixture
def plugin(monkeypatch):
    """A function that makes an entry point whose module has the given hooks."""

    def make(distribution: str | None, *, entry_point: str = "plugin", version: str = "1.0", **hooks):
        module = types.ModuleType(f"plugin_{len(sys.modules)}")
        vars(module).update(hooks)
        monkeypatch.setitem(sys.modules, module.__name__, module)
        point = metadata.EntryPoint(entry_point, module.__name__, "armillary")
        return point._for(Distribution(distribution, version))

    return make


def samplers(*names: str, factory: str = "fractions:Fraction"):
    @hookimpl
    def armillary_samplers():
        return [ComponentSpec(name, factory, f"The sampler {name}") for name in names]

    return armillary_samplers


def sections(*found: object, error: Exception | None = None):
    @hookimpl
    def armillary_report_sections(result):
        yield from found
        if error:
            raise error

    return armillary_report_sections


def test_components_stand_by_kind_then_name_then_distribution(plugin):
    @hookimpl
    def armillary_transforms():
        yield ComponentSpec("zoom", "a:B", "A zoom")

    made = Registry(
        [
            plugin("b-suite", armillary_samplers=samplers("b", "a")),
            plugin("a-suite", armillary_samplers=samplers("b"), armillary_transforms=armillary_transforms),
        ]
    )
    expected = ["a-suite:zoom", "b-suite:a", "a-suite:b", "b-suite:b"]
    assert [c.qualified_name for c in made.components()] == expected
    assert [c.qualified_name for c in made.components("sampler")] == expected[1:]
    assert [c.qualified_name for c in made.components("transforms")] == expected[:1]
    assert made.components("prior") == ()


@given(st.permutations(range(4)))
def test_the_order_of_the_entry_points_does_not_matter(order):
    points = []
    for i in range(4):
        module = types.ModuleType(f"permuted_plugin_{i}")
        module.armillary_samplers = samplers(f"s{i}", "shared")
        sys.modules[module.__name__] = module
        points.append(metadata.EntryPoint("same", module.__name__, "armillary")._for(Distribution(f"d{i}", "1")))
    try:
        reference = Registry(points).components()
        assert len(reference) == 8
        assert Registry([points[i] for i in order]).components() == reference
    finally:
        for i in range(4):
            del sys.modules[f"permuted_plugin_{i}"]


def test_one_entry_point_given_twice_is_loaded_once(plugin):
    point = plugin("a-suite", armillary_samplers=samplers("a"))
    made = Registry([point, point])
    assert len(made.components()) == 1
    assert made.failures() == ()


def test_a_distribution_that_lost_its_metadata_still_has_its_plugin(plugin):
    made = Registry(
        [plugin(None, armillary_samplers=samplers("lost")), plugin("a-suite", armillary_samplers=samplers("a"))]
    )
    assert {c.name: c.distribution for c in made.components()} == {"lost": "unknown distribution", "a": "a-suite"}


def test_an_entry_point_without_a_distribution(plugin):
    point = plugin("a-suite", armillary_samplers=samplers("a"))
    made = Registry([metadata.EntryPoint(point.name, point.value, point.group)])
    assert [(c.distribution, c.version) for c in made.components()] == [("unknown distribution", "?")]


def test_a_class_or_object_may_be_a_plugin(plugin):
    class Suite:
        @hookimpl
        def armillary_samplers(self):
            yield ComponentSpec("a", "fractions:Fraction", "A sampler")

    point = plugin("a-suite", suite=Suite())
    point = metadata.EntryPoint("suite", f"{point.value}:suite", "armillary")._for(point.dist)
    assert [c.name for c in Registry([point]).components()] == ["a"]


def test_what_only_looks_like_a_hook_is_let_be(plugin):
    made = Registry([plugin("a-suite", armillary_version="1.0", armillary_samplers=samplers("a"))])
    assert made.failures() == ()


@pytest.mark.parametrize("kind", ["samplerz", "", "Sampler", "hook"])
def test_an_unknown_kind_lists_the_kinds(kind):
    with pytest.raises(ValueError, match=f"kind='{kind}': the kinds of component are transform, prior, "):
        Registry([]).find(kind, "nuts")
    with pytest.raises(ValueError, match="the kinds of component are"):
        Registry([]).components(kind)


def test_find_takes_a_qualified_name_in_any_spelling(plugin):
    made = Registry([plugin(d, armillary_samplers=samplers("a")) for d in ("a-suite", "b.suite")])
    assert made.find("sampler", "A_Suite:a").distribution == "a-suite"
    assert made.find("sampler", "b-suite:a").distribution == "b.suite"
    with pytest.raises(registry.UnknownComponentError, match="offers the sampler 'c-suite:a'"):
        made.find("sampler", "c-suite:a")


@pytest.mark.parametrize(
    ("distribution", "kind", "name"),
    [(d, kind, name) for d, kinds in registry._PROVIDED_BY.items() for kind, names in kinds.items() for name in names],
)
def test_a_missing_component_of_ours_says_what_to_install(distribution, kind, name):
    message = f"no installed distribution offers the {kind} '{name}': `pip install {distribution}` brings it$"
    with pytest.raises(registry.UnknownComponentError, match=message):
        Registry([]).get(kind, name)


def test_a_missing_component_whose_plugin_failed_says_so(plugin):
    made = Registry([plugin("armillary-imaging", armillary_sampler=samplers("myula"))])
    with pytest.raises(
        registry.UnknownComponentError, match=r"armillary-imaging brings it, and did not load. Plugins that did not"
    ):
        made.get("sampler", "myula")


@pytest.mark.parametrize("disabled", ["armillary-imaging", "Armillary.Imaging", "armillary-imaging:imaging"])
def test_a_missing_component_whose_plugin_is_disabled_says_so(plugin, disabled):
    point = plugin("armillary-imaging", entry_point="imaging", armillary_samplers=samplers("myula"))
    made = Registry([point], disabled=[disabled])
    with pytest.raises(registry.UnknownComponentError, match="ARMILLARY_DISABLE_PLUGINS leaves out 'armillary-imag"):
        made.get("sampler", "myula")


def test_an_empty_registry_says_that_there_is_none():
    with pytest.raises(registry.UnknownComponentError, match=r"the denoiser 'median' \(denoisers here: none\)"):
        Registry([]).get("denoiser", "median")


def test_get_follows_dotted_attributes(plugin):
    made = Registry([plugin("a-suite", armillary_samplers=samplers("a", factory="fractions:Fraction.from_float"))])
    assert made.get("sampler", "a")(0.5) == 0.5


def test_report_sections_stand_in_their_order(plugin):
    first, last = ReportSection("First", "<p>1</p>", order=10), ReportSection("Last", "<p>2</p>", order=80)
    made = Registry(
        [
            plugin("a-suite", armillary_report_sections=sections(last)),
            plugin("b-suite", armillary_report_sections=sections(first)),
        ]
    )
    assert made.report_sections(object()) == [first, last]


@pytest.mark.parametrize(
    ("hook", "text"),
    [
        (sections(error=ZeroDivisionError("by <zero>")), "ZeroDivisionError: by &lt;zero&gt;"),
        (sections("<p>html</p>"), "TypeError: yielded str, not ReportSection"),
    ],
)
def test_a_report_section_that_fails_becomes_a_section_saying_so(plugin, hook, text):
    kept = ReportSection("Kept", "<p>1</p>")
    made = Registry(
        [
            plugin("a-suite", armillary_report_sections=hook),
            plugin("b-suite", armillary_report_sections=sections(kept)),
        ]
    )
    found = made.report_sections(object())
    assert found[0] == kept
    assert found[1].title == "A section of a-suite failed"
    assert text in found[1].html
    assert [f.distribution for f in made.failures()] == ["a-suite"]


def test_strict_raises_at_a_failing_report_section(plugin):
    hook = sections(error=ZeroDivisionError("by zero"))
    made = Registry([plugin("a-suite", armillary_report_sections=hook)], strict=True)
    with pytest.raises(registry.PluginError, match=r"plugin a-suite 1.0 .*armillary_report_sections"):
        made.report_sections(object())


def test_the_environment_is_read_once_and_steered_by_variables(monkeypatch):
    registry.default.cache_clear()
    try:
        monkeypatch.setenv("ARMILLARY_DISABLE_PLUGINS", " armillary-core ,")
        assert [c for c in registry.components("sampler") if c.distribution == "armillary-core"] == []
        assert registry.default() is registry.default()
        registry.default.cache_clear()
        monkeypatch.delenv("ARMILLARY_DISABLE_PLUGINS")
        assert registry.find("sampler", "nuts").distribution == "armillary-core"
        assert [f for f in registry.failures() if f.distribution == "armillary-core"] == []
    finally:
        registry.default.cache_clear()
