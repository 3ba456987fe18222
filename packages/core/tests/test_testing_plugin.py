"""Each check of a plugin catches a distribution that breaks its law."""

import textwrap

import pytest

from armillary.core.testing import CHECKS, ConformanceError, check_plugin

HOOKS = """
from armillary.core.hookspecs import ComponentSpec, hookimpl


@hookimpl
def armillary_priors():
    yield ComponentSpec("flat-line", "example_parts:Part", "an example")
"""
REQUIRES = "armillary-core>=0.1,<0.2"
BY_NAME = {check.__name__: check for check in CHECKS["plugin"]}


@pytest.fixture
def install(tmp_path, monkeypatch):
    """Puts a distribution on the path, as an installer would."""

    def put(name="example-plugin", *, module="example_hooks", hooks=HOOKS, requires=REQUIRES, files=()):
        (tmp_path / f"{module}.py").write_text(textwrap.dedent(hooks))
        (tmp_path / "example_parts.py").write_text("class Part:\n    pass\n\nnumber = 3\n")
        info = tmp_path / f"{name.replace('-', '_')}-1.0.dist-info"
        info.mkdir()
        metadata = f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\nRequires-Dist: {requires}\n"
        (info / "METADATA").write_text(metadata)
        (info / "entry_points.txt").write_text(f"[armillary]\nexample = {module}\n")
        record = [f"{module}.py", "example_parts.py", *files]
        (info / "RECORD").write_text("".join(f"{file},,\n" for file in record))
        for file in files:
            (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / file).touch()
        monkeypatch.syspath_prepend(tmp_path)
        return tmp_path

    return put


# Each hook module has a name of its own: an imported one stays imported.
WRONG = {
    "check_plugin_entry_point": {"name": "another-plugin"},
    "check_plugin_import_is_light": {"module": "heavy_hooks", "hooks": "import scipy\n" + HOOKS},
    "check_plugin_hooks": {"module": "misspelt_hooks", "hooks": HOOKS.replace("armillary_priors", "armillary_prior")},
    "check_plugin_factories": {"module": "absent_hooks", "hooks": HOOKS.replace(":Part", ":Absent")},
    "check_plugin_requires_core": {"requires": "armillary-core>=0.1"},
    "check_plugin_namespace": {"files": ["armillary/__init__.py"]},
}
ALSO_WRONG = [
    ("check_plugin_import_is_light", {"module": "broken_hooks", "hooks": "import no_such_module\n"}),
    ("check_plugin_hooks", {"module": "upper_hooks", "hooks": HOOKS.replace("flat-line", "Flat_Line")}),
    ("check_plugin_hooks", {"module": "empty_hooks", "hooks": "x = 1\n"}),
    ("check_plugin_hooks", {"module": "twice_hooks", "hooks": HOOKS + HOOKS.splitlines()[-1] + "\n"}),
    ("check_plugin_factories", {"module": "number_hooks", "hooks": HOOKS.replace(":Part", ":number")}),
    ("check_plugin_requires_core", {"requires": "armillary-corelike<2"}),
    ("check_plugin_namespace", {"files": ["armillary/_plugins/__init__.py"]}),
]


def test_every_check_has_a_wrong_plugin():
    assert set(WRONG) == set(BY_NAME)


@pytest.mark.parametrize(("name", "wrong"), [*WRONG.items(), *ALSO_WRONG])
def test_a_wrong_plugin_is_caught(install, name, wrong):
    install(**wrong)
    with pytest.raises(ConformanceError, match=rf"^{name}: .* breaks the law that (.|\n)*Found: (.|\n)*Look at: "):
        BY_NAME[name]("example-plugin")


def test_an_editable_install_is_looked_into(install):
    folder = install(files=["example.pth"])
    source = folder / "src"
    (source / "armillary").mkdir(parents=True)
    (folder / "example.pth").write_text(f"{source}\n")
    check_plugin("example-plugin")
    (source / "armillary" / "__init__.py").touch()
    with pytest.raises(ConformanceError, match=r"check_plugin_namespace(.|\n)*which has armillary/__init__\.py"):
        check_plugin("example-plugin")


def test_a_right_plugin_passes_by_distribution_and_by_module(install):
    install()
    check_plugin("Example_Plugin")
    check_plugin("example_hooks")


def test_core_passes():
    check_plugin("armillary-core")
