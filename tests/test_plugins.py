"""The registry before real installed distributions: broken, clashing, misspelt, switched off."""

from __future__ import annotations

import re

import pytest

ZIGZAG = """
    from armillary.core.hookspecs import ComponentSpec, hookimpl

    @hookimpl
    def armillary_samplers():
        yield ComponentSpec("zigzag", "{factory}", "Zig-zag process, by {author}", "Bierkens 2019")
"""

LOADED = """
    answer = {
        "samplers": [[c.name, c.distribution, c.version, c.entry_point] for c in registry.components("sampler")],
        "failures": {f.distribution: f.message for f in registry.failures()},
        "tracebacks": {f.distribution: f.traceback for f in registry.failures()},
    }
"""


def zigzag(author: str, factory: str = "fractions:Fraction") -> str:
    return ZIGZAG.format(author=author, factory=factory)


def test_a_plugin_of_another_distribution_is_found_and_loaded(environment):
    environment.add("alpha-suite", {"alpha_plugin": zigzag("alpha")}, version="1.2")
    answer = environment.ask(
        """
        (component,) = [c for c in registry.components("sampler") if c.name == "zigzag"]
        loaded = registry.get("sampler", "zigzag")
        answer = [component.distribution, component.version, component.entry_point, component.qualified_name,
                  component.summary, component.reference, loaded.__name__, len(registry.failures())]
        """
    )
    assert answer == [
        *("alpha-suite", "1.2", "plugin", "alpha-suite:zigzag"),
        *("Zig-zag process, by alpha", "Bierkens 2019", "Fraction", 0),
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "import a_module_that_is_nowhere\n",
            "ModuleNotFoundError: No module named 'a_module_that_is_nowhere'",
        ),
        ("raise RuntimeError('no licence server')\n", "RuntimeError: no licence server"),
        ("def broken(:\n", "SyntaxError: invalid syntax"),
        ("import sys\nsys.exit('wrong platform')\n", "SystemExit: wrong platform"),
    ],
    ids=["missing-dependency", "raises", "syntax-error", "exits"],
)
def test_a_plugin_whose_import_fails_is_reported_and_others_load(environment, text, message):
    environment.add("broken-suite", {"broken_plugin": text}, version="0.3")
    environment.add("alpha-suite", {"alpha_plugin": zigzag("alpha")})
    answer = environment.ask(LOADED)
    assert ["zigzag", "alpha-suite", "1.0", "plugin"] in answer["samplers"]
    assert answer["failures"].keys() == {"broken-suite"}
    assert answer["failures"]["broken-suite"].startswith(message)
    assert "broken_plugin.py" in answer["tracebacks"]["broken-suite"]


def test_one_component_name_of_two_distributions_is_ambiguous_only_when_asked_for(environment):
    environment.add("alpha-suite", {"alpha_plugin": zigzag("alpha")}, version="1.2")
    environment.add("beta-suite", {"beta_plugin": zigzag("beta", "decimal:Decimal")}, version="3.4")
    answer = environment.ask(
        """
        answer = {"names": [c.qualified_name for c in registry.components("sampler") if c.name == "zigzag"],
                  "failures": len(registry.failures()),
                  "alpha": registry.get("sampler", "alpha-suite:zigzag").__name__,
                  "beta": registry.get("sampler", "Beta_Suite:zigzag").__name__,
                  "another": registry.find("sampler", "nuts").distribution}
        try:
            registry.get("sampler", "zigzag")
        except registry.AmbiguousComponentError as error:
            answer["message"] = str(error)
        """
    )
    assert answer == {
        "names": ["alpha-suite:zigzag", "beta-suite:zigzag"],
        "failures": 0,
        "alpha": "Fraction",
        "beta": "Decimal",
        "another": "armillary-core",
        "message": "sampler 'zigzag' is offered by alpha-suite 1.2 (plugin) and beta-suite 3.4 (plugin): "
        "write 'alpha-suite:zigzag' or 'beta-suite:zigzag'",
    }


def test_one_name_twice_in_one_distribution_cannot_be_qualified(environment):
    modules = {"alpha_plugin": zigzag("alpha"), "alpha_more": zigzag("alpha")}
    environment.add("alpha-suite", modules, entry_points={"one": "alpha_plugin", "two": "alpha_more"})
    message = environment.error('registry.get("sampler", "zigzag")')
    assert message == (
        "armillary.core.registry.AmbiguousComponentError: sampler 'zigzag' is offered by alpha-suite 1.0 (one) and "
        "alpha-suite 1.0 (two): ask the authors of alpha-suite to rename one"
    )


def test_two_distributions_with_one_entry_point_name_both_load(environment):
    bouncy = zigzag("beta").replace('"zigzag"', '"bouncy"')
    environment.add("alpha-suite", {"alpha_plugin": zigzag("alpha")}, entry_points={"samplers": "alpha_plugin"})
    environment.add("beta-suite", {"beta_plugin": bouncy}, entry_points={"samplers": "beta_plugin"})
    # The name of an entry point of our own, too.
    environment.add("gamma-suite", {"gamma_plugin": zigzag("g").replace('"zigzag"', '"coral"')},
                    entry_points={"core": "gamma_plugin"})  # fmt: skip
    answer = environment.ask(LOADED)
    names = {name: distribution for name, distribution, _, _ in answer["samplers"]}
    assert names["zigzag"] == "alpha-suite"
    assert names["bouncy"] == "beta-suite"
    assert names["coral"] == "gamma-suite"
    assert names["nuts"] == "armillary-core"
    assert answer["failures"] == {}


def test_an_unknown_hook_is_the_failure_of_that_plugin_alone(environment):
    environment.add("typo-suite", {"typo_plugin": zigzag("typo").replace("armillary_samplers", "armillary_sampler")})
    environment.add("alpha-suite", {"alpha_plugin": zigzag("alpha")})
    answer = environment.ask(LOADED)
    assert answer["failures"].keys() == {"typo-suite"}
    message = answer["failures"]["typo-suite"]
    assert message.startswith("LookupError: unknown hook 'armillary_sampler'; did you mean 'armillary_samplers'?")
    assert "armillary_evidence_estimators" in message
    assert [row[1] for row in answer["samplers"] if row[0] == "zigzag"] == ["alpha-suite"]


def test_a_hook_without_its_mark_is_reported(environment):
    environment.add("plain-suite", {"plain_plugin": zigzag("plain").replace("@hookimpl", "")})
    answer = environment.ask(LOADED)
    assert answer["failures"] == {
        "plain-suite": "TypeError: hook 'armillary_samplers' is not marked: put @armillary.core.hookspecs.hookimpl "
        "above it"
    }


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("1 / 0", "armillary_samplers: ZeroDivisionError: division by zero"),
        (
            "return [print]",
            "armillary_samplers: TypeError: armillary_samplers gave builtin_function_or_method, not",
        ),
        ('yield "zigzag"', "armillary_samplers: TypeError: armillary_samplers gave str, not ComponentSpec"),
        ("pass", "armillary_samplers: TypeError: 'NoneType' object is not iterable"),
        (
            'yield ComponentSpec("Zig Zag", "a:B", "Zig-zag")',
            "armillary_samplers: ValueError: component name 'Zig Zag'",
        ),
        (
            'yield ComponentSpec("zigzag", "a.B", "Zig-zag")',
            "armillary_samplers: ValueError: factory 'a.B' of 'zigzag'",
        ),
    ],
    ids=["raises", "list-of-functions", "yields-text", "returns-none", "bad-name", "bad-factory"],
)
def test_a_hook_that_fails_costs_its_own_components_only(environment, body, message):
    priors = 'yield ComponentSpec("horseshoe", "fractions:Fraction", "Horseshoe")'
    text = f"""
    from armillary.core.hookspecs import ComponentSpec, hookimpl

    @hookimpl
    def armillary_samplers():
        {body}

    @hookimpl
    def armillary_priors():
        {priors}
    """
    environment.add("beta-suite", {"beta_plugin": text})
    environment.add("alpha-suite", {"alpha_plugin": zigzag("alpha")})
    answer = environment.ask(LOADED + '    answer["prior"] = registry.find("prior", "horseshoe").distribution\n')
    assert answer["failures"].keys() == {"beta-suite"}
    assert answer["failures"]["beta-suite"].startswith(message)
    assert answer["prior"] == "beta-suite"
    assert [row[1] for row in answer["samplers"] if row[0] == "zigzag"] == ["alpha-suite"]


def test_a_hook_with_an_argument_that_is_not_specified_is_reported(environment):
    text = zigzag("beta").replace("armillary_samplers()", "armillary_samplers(colour)")
    environment.add("beta-suite", {"beta_plugin": text})
    answer = environment.ask(LOADED)
    assert answer["failures"].keys() == {"beta-suite"}
    assert "colour" in answer["failures"]["beta-suite"]
    assert {row[1] for row in answer["samplers"]} == {"armillary-core"}


@pytest.mark.parametrize(
    ("disabled", "left"),
    [
        ("alpha-suite", ["beta-suite", "beta-suite"]),
        ("Alpha_Suite, beta-suite:two", ["beta-suite"]),
        ("beta-suite", ["alpha-suite"]),
        ("alpha-suite,beta-suite", []),
        ("two", ["alpha-suite", "beta-suite", "beta-suite"]),
        ("", ["alpha-suite", "beta-suite", "beta-suite"]),
    ],
)
def test_plugins_are_left_out_by_distribution_or_entry_point(environment, disabled, left):
    environment.add("alpha-suite", {"alpha_plugin": zigzag("alpha")})
    modules = {"beta_one": zigzag("beta"), "beta_two": zigzag("beta")}
    environment.add("beta-suite", modules, entry_points={"one": "beta_one", "two": "beta_two"})
    answer = environment.ask(LOADED, ARMILLARY_DISABLE_PLUGINS=disabled)
    assert [row[1] for row in answer["samplers"] if row[0] == "zigzag"] == left


def test_a_disabled_plugin_is_not_imported(environment):
    environment.add("broken-suite", {"broken_plugin": "raise RuntimeError('imported')\n"})
    answer = environment.ask(LOADED, ARMILLARY_DISABLE_PLUGINS="broken-suite")
    assert answer["failures"] == {}


def test_strict_makes_the_first_failure_an_error(environment):
    environment.add("broken-suite", {"broken_plugin": "raise RuntimeError('no licence server')\n"}, version="0.3")
    for value in ("", "0"):
        assert environment.ask(LOADED, ARMILLARY_STRICT_PLUGINS=value)["failures"].keys() == {"broken-suite"}
    message = environment.error("registry.components()", ARMILLARY_STRICT_PLUGINS="1")
    assert message == (
        "armillary.core.registry.PluginError: plugin broken-suite 0.3 (plugin = broken_plugin): "
        "RuntimeError: no licence server"
    )


def test_a_missing_component_says_what_to_install(environment):
    message = environment.error('registry.get("sampler", "myula")')
    assert message == (
        "armillary.core.registry.UnknownComponentError: no installed distribution offers the sampler 'myula': "
        "`pip install armillary-imaging` brings it"
    )


def test_a_misspelt_component_says_what_is_near(environment):
    message = environment.error('registry.get("sampler", "nutz")')
    assert "no installed distribution offers the sampler 'nutz': did you mean 'nuts'? (samplers here: " in message
    assert "mclmc" in message
    assert "pip install" not in message


def test_a_disabled_distribution_is_named_where_its_component_is_missing(workspace):
    message = workspace.error('registry.get("sampler", "myula")', ARMILLARY_DISABLE_PLUGINS="armillary-imaging")
    assert message.endswith(
        "armillary-imaging brings it, and ARMILLARY_DISABLE_PLUGINS leaves out 'armillary-imaging': remove that"
    )


def test_a_missing_component_names_the_plugins_that_did_not_load(environment):
    environment.add("broken-suite", {"broken_plugin": "raise RuntimeError('no licence server')\n"}, version="0.3")
    message = environment.error('registry.get("sampler", "zigzag")')
    assert message.endswith(
        "Plugins that did not load: broken-suite 0.3 (plugin = broken_plugin): RuntimeError: no licence server"
    )


@pytest.mark.parametrize(
    ("factory", "cause"),
    [
        (
            "nowhere_at_all.samplers:ZigZag",
            "ModuleNotFoundError: No module named 'nowhere_at_all'; the module 'nowhere_at_all' is not installed in "
            "this environment",
        ),
        (
            "fractions.samplers:ZigZag",
            "ModuleNotFoundError: No module named 'fractions.samplers'; 'fractions' is not a package; the module "
            "'fractions.samplers' is not installed in this environment",
        ),
        ("fractions:ZigZag", "AttributeError: module 'fractions' has no attribute 'ZigZag'"),
    ],
)
def test_a_factory_that_cannot_be_imported_says_whose_it_is(environment, factory, cause):
    environment.add("alpha-suite", {"alpha_plugin": zigzag("alpha", factory)}, version="1.2")
    listed = environment.ask('answer = [c.name for c in registry.components("sampler")]')
    assert "zigzag" in listed
    message = environment.error('registry.get("sampler", "zigzag")')
    assert message == (
        "armillary.core.registry.ComponentImportError: sampler 'zigzag' of alpha-suite 1.2 could not be imported from "
        f"{factory!r}: {cause}"
    )


def test_listing_needs_nothing_but_pluggy(environment):
    # There is no JAX, no NumPy and no rich in this environment: an import of one would raise.
    answer = environment.ask('answer = [c.qualified_name for c in registry.components("sampler")]')
    assert "armillary-core:nuts" in answer


def test_listing_imports_no_component(workspace):
    heavy = ["jax", "jaxlib", "numpy", "numpyro", "blackjax", "equinox", "flowjax", "xarray", "zarr", "matplotlib"]
    answer = workspace.ask(
        f"""
        import sys
        import armillary.core
        registry.components()
        loaded = sorted(name for name in sys.modules if name.startswith("armillary."))
        answer = {{"heavy": sorted(set(sys.modules) & set({heavy!r})), "armillary": loaded,
                  "failures": [str(f) for f in registry.failures()]}}
        """
    )
    assert answer["failures"] == []
    assert answer["heavy"] == []
    packages = {name for name in answer["armillary"] if re.fullmatch(r"armillary\.[a-z]+", name)}
    assert packages == {"armillary.core"}


def test_a_broken_plugin_of_a_third_party_leaves_ours_alone(workspace):
    workspace.add("broken-suite", {"broken_plugin": "raise RuntimeError('no licence server')\n"})
    answer = workspace.ask(
        """
        answer = {"failures": [f.distribution for f in registry.failures()],
                  "distributions": sorted({c.distribution for c in registry.components()}
                                          & set(registry._PROVIDED_BY))}
        """
    )
    assert answer["failures"] == ["broken-suite"]
    ours = ["core", "evidence", "imaging", "scatter", "sphere"]
    assert answer["distributions"] == [f"armillary-{name}" for name in ours]


def test_what_the_registry_says_of_our_distributions_is_what_they_register(workspace):
    answer = workspace.ask(
        """
        ours = {}
        for c in registry.components():
            # The example of a third party's distribution is not ours.
            if c.distribution.startswith("armillary-") and c.distribution != "armillary-cosmology":
                ours.setdefault(c.distribution, {}).setdefault(c.kind, []).append(c.name)
        said = {d: {kind: sorted(names) for kind, names in kinds.items()}
                for d, kinds in registry._PROVIDED_BY.items()}
        answer = [ours, said]
        """
    )
    registered, said = answer
    assert registered == said


def test_every_component_of_ours_can_be_imported():
    from armillary.core import registry

    ours = [c for c in registry.components() if c.distribution.startswith("armillary-")]
    assert len(ours) >= 15
    for component in ours:
        assert callable(component.load()), component.qualified_name
