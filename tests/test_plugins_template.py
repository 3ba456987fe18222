"""The template of a third party's distribution: built, installed, listed, and tested by its own tests."""

from __future__ import annotations

import ast
import json
import shutil
from pathlib import Path

import pytest

TEMPLATE = Path(__file__).resolve().parents[1] / "examples" / "plugin-template"


@pytest.fixture
def installed(workspace):
    workspace.add_source(TEMPLATE)
    return workspace


def test_the_command_line_lists_it(installed):
    done = installed.run("-c", "from armillary.core._cli import main; main()", "list", "--json")
    assert done.returncode == 0, done.stderr
    listed = json.loads(done.stdout)
    rows = listed["components"] if isinstance(listed, dict) else listed
    found = {row["name"]: row["distribution"] for row in rows if row["distribution"] == "example-suite"}
    assert found == {"random-walk": "example-suite", "generalised-normal": "example-suite"}


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_its_own_tests_pass_on_what_is_installed(installed):
    away = installed.directory / "away"
    shutil.copytree(TEMPLATE / "tests", away / "tests", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(TEMPLATE / "pyproject.toml", away)
    done = installed.run("-m", "pytest", "-q", "-p", "no:cacheprovider", "--rootdir", str(away), str(away / "tests"))
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
    assert " passed" in done.stdout
    assert installed.run("-c", "import example_suite as e; print(e.__file__)").stdout.startswith(str(installed.site))


@pytest.mark.parametrize(
    ("module", "name"), [("_random_walk", "RandomWalk"), ("_generalised_normal", "GeneralisedNormal")]
)
def test_each_component_has_fewer_than_30_lines_of_code(module, name):
    path = TEMPLATE / "src" / "example_suite" / f"{module}.py"
    tree = ast.parse(path.read_text())
    # Without docstrings and comments: what ast writes back.
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and ast.get_docstring(node):
            del node.body[0]
    classes = [node for node in tree.body if isinstance(node, ast.ClassDef)]
    assert name in {node.name for node in classes}
    lines = [line for node in classes for line in ast.unparse(node).splitlines() if line.strip()]
    assert len(lines) < 30
