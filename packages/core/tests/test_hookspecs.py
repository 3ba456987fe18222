"""Component specifications, and the hooks that the specification lists."""

from __future__ import annotations

import inspect
import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from armillary.core import hookspecs, registry
from armillary.core.hookspecs import ComponentSpec

WORDS = st.text(string.ascii_lowercase + string.digits, min_size=1, max_size=8)
NAMES = st.lists(WORDS, min_size=1, max_size=4).map("-".join)
FIRST = st.sampled_from(string.ascii_letters + "_")
IDENTIFIERS = st.builds("{}{}".format, FIRST, st.text(string.ascii_letters + string.digits + "_", max_size=8))
DOTTED = st.lists(IDENTIFIERS, min_size=1, max_size=4).map(".".join)


@given(name=NAMES, module=DOTTED, attribute=DOTTED)
def test_names_and_factories_of_the_documented_form_are_taken(name, module, attribute):
    spec = ComponentSpec(name, f"{module}:{attribute}", "A component")
    assert (spec.name, spec.factory, spec.reference) == (name, f"{module}:{attribute}", "")


def is_name(text: str) -> bool:
    """The rule said another way: hyphens separate words, and a word is of lower-case letters and digits."""
    allowed = set(string.ascii_lowercase + string.digits)
    return all(word and set(word) <= allowed for word in text.split("-"))


@given(st.one_of(st.text(max_size=12), st.text("ab1-_. :A", max_size=8)))
def test_any_other_name_is_refused(name):
    if is_name(name):
        assert ComponentSpec(name, "a:B", "A component").name == name
    else:
        with pytest.raises(ValueError, match=r"component name .* use lower case letters"):
            ComponentSpec(name, "a:B", "A component")


@given(st.text("ab.:_1 ", max_size=10))
def test_any_other_factory_is_refused(factory):
    module, colon, attribute = factory.partition(":")
    parts = [*module.split("."), *attribute.split(".")]
    if colon and all(part.isidentifier() for part in parts):
        assert ComponentSpec("name", factory, "A component").factory == factory
    else:
        with pytest.raises(ValueError, match=r'write "package.module:attribute"'):
            ComponentSpec("name", factory, "A component")


@pytest.mark.parametrize("name", ["nuts", "px-mala", "hmc2", "2d-fft"])
def test_names_that_read_well(name):
    assert ComponentSpec(name, "a:B", "A component").name == name


@pytest.mark.parametrize("name", [None, 3, "", "NUTS", "px_mala", "px--mala", "-mala", "mala-", "a:b", "mala\n", "é"])
def test_names_that_do_not(name):
    with pytest.raises(ValueError, match=f"component name {name!r}".replace("\\", "\\\\")):
        ComponentSpec(name, "a:B", "A component")


@pytest.mark.parametrize("factory", [None, print, "a", "a.B", "a:", ":B", "a:B:C", "a b:C", "a:B()", "a:B\n"])
def test_factories_are_addresses(factory):
    with pytest.raises(ValueError, match="of 'name': write"):
        ComponentSpec("name", factory, "A component")


@pytest.mark.parametrize("summary", ["", "  ", "\n", None])
def test_a_summary_is_wanted(summary):
    with pytest.raises(ValueError, match="'name' has no summary: say in one line"):
        ComponentSpec("name", "a:B", summary)


def test_a_summary_is_one_line():
    with pytest.raises(ValueError, match="'name' has several lines"):
        ComponentSpec("name", "a:B", "One.\nTwo.")


def test_a_specification_does_not_change():
    spec = ComponentSpec("name", "a:B", "A component")
    with pytest.raises(AttributeError):
        spec.name = "other"


def test_each_kind_has_a_documented_hook():
    hooks = {name for name in vars(hookspecs) if name.startswith("armillary_")}
    assert hooks == {*registry.KINDS.values(), "armillary_report_sections"}
    for hook in hooks:
        function = getattr(hookspecs, hook)
        assert function.armillary_spec is not None
        assert inspect.getdoc(function)
