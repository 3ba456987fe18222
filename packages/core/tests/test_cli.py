"""The command line where it needs the registry alone: list, cite, help and errors."""

import json
import subprocess
import sys
from importlib import metadata

import pytest

from armillary.core import registry
from armillary.core._cli import main

# One entry point that does not load, beside the real ones: what a broken third party looks like to `list`.
BROKEN = metadata.EntryPoint("broken", "armillary_no_such_module", registry.GROUP)


@pytest.fixture
def cli(capsys):
    """Run a command in this process: its exit code, stdout and stderr."""

    def run(*args):
        with pytest.raises(SystemExit) as exit_:
            main(args)
        out, err = capsys.readouterr()
        return exit_.value.code or 0, out, err

    return run


@pytest.fixture
def broken(monkeypatch):
    """A registry with one plugin that failed."""
    made = registry.Registry([*metadata.entry_points(group=registry.GROUP, name="core"), BROKEN])
    monkeypatch.setattr(registry, "default", lambda: made)
    return made


def rows(out):
    """The rows of a listing that have a name, by column: a name may also be a word of another's summary."""
    head, *lines = out.splitlines()[1:]
    name, summary, distribution = (head.index(title) for title in ("name", "summary", "from"))
    cut = [(line[name:summary].strip(), line[summary:distribution].strip(), line[distribution:]) for line in lines]
    return [row for row in cut if row[0] and not row[0].startswith("─")]


def test_list_names_every_component_with_its_distribution(cli):
    code, out, _ = cli("list")
    assert code == 0
    listed = rows(out)
    assert len(listed) == len(registry.components())
    for component in registry.components():
        ((_, summary, distribution),) = [row for row in listed if row[0] == component.name]
        assert component.summary.startswith(summary)  # a long one runs over several lines
        assert f"{component.distribution} {component.version}" in distribution


def test_list_of_one_kind(cli):
    code, out, _ = cli("list", "sampler")
    assert code == 0
    assert sorted(row[0] for row in rows(out)) == sorted(c.name for c in registry.components("sampler"))


def test_list_shows_failures_after_the_components(cli, broken):
    code, out, _ = cli("list")
    assert code == 0
    assert out.index("nuts") < out.index("did not load: ")
    assert "armillary_no_such_module" in out.splitlines()[-1]


def test_list_json_holds_components_and_failures(cli, broken):
    code, out, _ = cli("list", "--json")
    answer = json.loads(out)
    assert code == 0
    assert [c["name"] for c in answer["components"]] == [c.name for c in broken.components()]
    nuts = next(c for c in answer["components"] if c["name"] == "nuts")
    assert nuts["kind"] == "sampler"
    assert nuts["distribution"] == "armillary-core"
    assert nuts["version"] == metadata.version("armillary-core")
    assert [f["entry_point"] for f in answer["failures"]] == ["broken"]
    assert "ModuleNotFoundError" in answer["failures"][0]["traceback"]


def test_list_prints_what_plugins_wrote_as_it_is(cli, monkeypatch):
    """Square brackets in a summary are not console markup."""
    component = registry.Component("prior", "odd", "m:f", "of [bold]x[/] and [/nonsense]", "", "d", "1", "e")
    monkeypatch.setattr(registry, "components", lambda kind=None: (component,))
    code, out, _ = cli("list")
    assert code == 0
    assert "of [bold]x[/] and [/nonsense]" in out


@pytest.mark.parametrize("args", [["list"], ["list", "--json"], ["cite", "nuts"], ["--version"], ["--help"]])
def test_imports_no_jax(args):
    heavy = {"jax", "numpy", "numpyro", "blackjax", "xarray", "matplotlib", "pydantic"}
    if args[0] == "cite":
        heavy -= {"pydantic"}  # typer's own, for arguments
    code = f"""
import sys
from armillary.core._cli import main
try:
    main({args!r})
except SystemExit as e:
    assert not e.code, e.code
print(sorted({heavy!r} & set(sys.modules)))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


def test_version(cli):
    assert cli("--version") == (0, f"armillary {metadata.version('armillary-core')}\n", "")


def test_no_command_prints_the_help(cli):
    code, out, _ = cli()
    assert code == 0
    for command in ("list", "demo", "run", "report", "cite"):
        assert command in out


@pytest.mark.parametrize(
    ("args", "expected"),
    [
        (["lst"], "Did you mean 'list'?"),
        (["list", "--jsn"], "--json"),
        (["list", "samplr"], "the kinds of component are transform"),
        (["cite", "nutz"], "did you mean 'nuts'?"),
        (["cite", "qqqqqq"], "`armillary list` shows what there is"),
        (["run"], "Missing argument"),
        (["run", "nowhere.yaml"], "nowhere.yaml"),
        (["report", "nowhere"], "nowhere"),
        (["demo", "qqqqqq"], "no installed distribution offers the demo 'qqqqqq'"),
    ],
)
def test_an_error_is_one_line_and_code_2(cli, args, expected):
    code, out, err = cli(*args)
    assert code == 2
    assert out == ""
    assert err.startswith("armillary: ")
    assert err.count("\n") == 1
    assert expected in err


def test_an_unexpected_error_is_one_line_and_code_1(cli, monkeypatch):
    def fail(kind=None):
        raise TypeError("two\nlines")

    monkeypatch.setattr(registry, "components", fail)
    code, _, err = cli("list")
    assert code == 1
    assert err == "armillary: TypeError: two lines (ARMILLARY_DEBUG=1 shows where)\n"


def test_debug_raises(monkeypatch):
    monkeypatch.setenv("ARMILLARY_DEBUG", "1")
    with pytest.raises(registry.UnknownComponentError):
        main(["cite", "qqqqqq"])


def test_cite_prints_the_reference_of_each_name(cli):
    code, out, _ = cli("cite", "nuts", "mala")
    assert code == 0
    nuts, mala = out.splitlines()
    assert nuts.startswith("nuts (sampler of armillary-core ")
    assert registry.find("sampler", "nuts").reference in nuts
    assert registry.find("sampler", "mala").reference in mala


def test_cite_takes_a_qualified_name(cli):
    assert cli("cite", "armillary-core:nuts") == cli("cite", "nuts")


def test_cite_says_what_to_install(cli, broken):
    code, _, err = cli("cite", "myula")
    assert code == 2
    assert "`pip install armillary-imaging` brings it" in err


def test_cite_alone_is_armillary_and_what_it_stands_on(cli):
    code, out, _ = cli("cite")
    assert code == 0
    assert len(out.splitlines()) == 4
    for text in ("Armillary", "NumPyro", "JAX", "BlackJAX", metadata.version("jax")):
        assert text in out
