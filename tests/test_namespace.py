"""The shared namespaces, and the audit of the wheels: what passes, and that each rule can fail."""

from __future__ import annotations

import ast
import email
import importlib.util
import itertools
import subprocess
import sys
import tomllib
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ["core", "evidence", "imaging", "scatter", "sphere"]


@pytest.fixture(scope="module")
def isolate():
    spec = importlib.util.spec_from_file_location("isolate", ROOT / "tools" / "isolate.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules["isolate"] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    yield module
    del sys.modules["isolate"]


@pytest.fixture(scope="module")
def wheels(isolate, tmp_path_factory):
    from hatchling.builders.wheel import WheelBuilder

    directory = tmp_path_factory.mktemp("wheels")
    found = []
    for package in PACKAGES:
        builder = WheelBuilder(str(ROOT / "packages" / package))
        found.append(isolate.Wheel.read(Path(next(builder.build(directory=str(directory), versions=["standard"])))))
    return found


def changed(isolate, wheel, *, without="", adding=(), **fields):
    """The wheel with a file fewer, files more, or other metadata."""
    metadata = email.message_from_string(wheel.metadata.as_string())
    for name, value in fields.items():
        del metadata[name.replace("_", "-")]
        for each in value if isinstance(value, list) else [value]:
            metadata[name.replace("_", "-")] = each
    files = tuple(file for file in wheel.files if not without or not file.endswith(without))
    assert not without or len(files) < len(wheel.files)
    return isolate.Wheel(wheel.path, files + tuple(adding), metadata, wheel.entry_points)


def test_the_source_has_no_init_in_a_namespace():
    for package in PACKAGES:
        source = ROOT / "packages" / package / "src" / "armillary"
        assert sorted(path.name for path in source.iterdir() if path.name != "__pycache__") == ["_plugins", package]
        assert not (source / "_plugins" / "__init__.py").exists()


def test_mypy_checks_the_source_of_every_package():
    # What mypy does not look at it passes: of a namespace, named as a package, it finds one part alone.
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["mypy"]
    sources = {path.relative_to(ROOT).as_posix() for path in ROOT.glob("packages/*/src")}
    assert sources == {f"packages/{package}/src" for package in PACKAGES}
    assert set(settings["files"]) >= sources
    assert set(settings["mypy_path"]) >= sources
    assert not settings.keys() & {"packages", "modules", "exclude"}


def test_the_wheels_pass_the_audit(isolate, wheels):
    assert isolate.audit(wheels) == {f"armillary-{package}": [] for package in PACKAGES}


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"adding": ["armillary/__init__.py"]}, "makes a package of the namespace"),
        ({"adding": ["armillary/_plugins/__init__.py"]}, "makes a package of the namespace"),
        ({"adding": ["tests/test_sphere.py"]}, "tests/test_sphere.py lies outside armillary/sphere"),
        ({"adding": ["armillary/core/_extra.py"]}, "armillary/core/_extra.py lies outside armillary/sphere"),
        ({"without": "py.typed"}, "armillary/sphere/py.typed is missing"),
        ({"without": "sphere/__init__.py"}, "armillary/sphere/__init__.py is missing"),
        ({"without": "licenses/LICENSE"}, "the text of the licence is missing"),
        ({"License_Expression": "MIT"}, "License-Expression is 'MIT', not 'Apache-2.0'"),
        ({"Requires_Python": ">=3.8"}, "Requires-Python is '>=3.8', not '>=3.12'"),
        ({"Summary": ""}, "the summary or the description is missing"),
        ({"Requires_Dist": ["jax>=0.11"]}, "it does not depend on armillary-core"),
        ({"Requires_Dist": ["armillary-core>=0.1"]}, "armillary-core>=0.1 has no upper bound"),
        ({"Requires_Dist": ["armillary-core>=0.1,<0.2", "jax"]}, "jax has no lower bound"),
        ({"Requires_Dist": ["armillary-core @ file:///tmp/core.whl"]}, "is tied to an address"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else value[:30],
)
def test_the_audit_finds_what_is_wrong(isolate, wheels, change, complaint):
    wheel = changed(isolate, wheels[PACKAGES.index("sphere")], **change)
    assert any(complaint in found for found in isolate.audit_one(wheel))


def test_the_audit_finds_a_file_of_two_wheels(isolate, wheels):
    shared = "armillary/_plugins/sphere.py"
    core = changed(isolate, wheels[0], adding=[shared])
    assert f"{shared} is in armillary-core too" in isolate.audit([core, *wheels[1:]])["armillary-sphere"]


def test_what_a_distribution_brings_with_it(isolate, wheels):
    brings = {wheel.package: isolate.closure(wheel, wheels) for wheel in wheels}
    assert brings == {
        "core": {"core"},
        "evidence": {"core", "evidence"},
        "imaging": {"core", "imaging"},
        "scatter": {"core", "scatter", "sphere"},
        "sphere": {"core", "sphere"},
    }


def test_the_probe_finds_a_sibling_that_is_not_declared():
    # Here all five are installed, so that evidence with core alone is a false statement.
    probe = ROOT / "tools" / "isolate_probe.py"
    done = subprocess.run(
        [sys.executable, "-P", str(probe), "evidence", "core,evidence", "imaging"], capture_output=True, text=True
    )
    assert done.returncode == 1
    assert "armillary.imaging can be imported, and armillary-evidence does not declare it" in done.stderr


def test_the_pytest_settings_are_taken_along(isolate):
    table = isolate.pytest_table()
    assert table.startswith("[tool.pytest.ini_options]\n")
    assert '"error"' in table
    assert "testpaths" not in table
    assert "[tool.uv" not in table


def test_each_package_carries_the_licence():
    text = (ROOT / "LICENSE").read_text()
    for package in PACKAGES:
        assert (ROOT / "packages" / package / "LICENSE").read_text() == text


def imported(package):
    """The modules that a package's source imports, anywhere in it, and in which file."""
    source = ROOT / "packages" / package / "src"
    found = {}
    for path in source.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            names = []
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and node.level == 0:
                names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
            for name in names:
                found.setdefault(name, str(path.relative_to(source)))
    return found


def declared(package):
    """The distributions that a package names, in its extras too, and those that siblings which it names name."""
    project = tomllib.loads((ROOT / "packages" / package / "pyproject.toml").read_text())["project"]
    texts = [*project["dependencies"], *itertools.chain(*project.get("optional-dependencies", {}).values())]
    names = {canonicalize_name(Requirement(text).name) for text in texts}
    siblings = [other for other in PACKAGES if f"armillary-{other}" in names]
    return names.union(*(declared(other) for other in siblings))


# What a package imports and does not declare, and why that is right.
UNDECLARED = {
    "core": {"pytest": "the conformance kit, which only tests import"},
    "sphere": {"pillow": "the demonstration, of the group demo", "armillary-evidence": "likewise"},
    "imaging": {"pillow": "the demonstration, of the group demo"},
}


@pytest.mark.parametrize("package", PACKAGES)
def test_a_package_imports_what_it_declares(package):
    owners = metadata.packages_distributions()
    allowed = declared(package) | {f"armillary-{package}"} | UNDECLARED.get(package, {}).keys()
    for name, path in imported(package).items():
        top, _, rest = name.partition(".")
        if top in sys.stdlib_module_names:
            continue
        if top == "armillary":
            sibling = rest.partition(".")[0]
            found = {f"armillary-{sibling}"} if sibling in PACKAGES else set()
        else:
            found = {canonicalize_name(owner) for owner in owners.get(top, [top])}
        assert not found or found & allowed, f"{path} imports {name}, of {sorted(found)}, which is not declared"


@pytest.mark.parametrize("package", PACKAGES)
def test_a_package_declares_what_it_imports_and_no_more(package):
    project = tomllib.loads((ROOT / "packages" / package / "pyproject.toml").read_text())["project"]
    owners = metadata.packages_distributions()
    used = {f"armillary-{name.split('.')[1]}" for name in imported(package) if name.startswith("armillary.")}
    for name in imported(package):
        used |= {canonicalize_name(owner) for owner in owners.get(name.partition(".")[0], [])}
    assert {canonicalize_name(Requirement(text).name) for text in project["dependencies"]} <= used
