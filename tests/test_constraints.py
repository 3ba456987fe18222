"""The tested versions: the two lists of them, what is declared, and what these tests run on."""

from __future__ import annotations

import re
import tomllib
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[1]
PROJECTS = sorted(
    [ROOT / "pyproject.toml", *ROOT.glob("packages/*/pyproject.toml"), *ROOT.glob("examples/*/pyproject.toml")]
)


def load(path: Path) -> dict:
    return tomllib.loads(path.read_text())


def pins() -> list[Requirement]:
    return [Requirement(line) for line in (ROOT / "constraints.txt").read_text().splitlines()]


def declared(path: Path) -> list[Requirement]:
    project = load(path)
    texts = list(project["project"]["dependencies"])
    for extra in project["project"].get("optional-dependencies", {}).values():
        texts += extra
    for group in project.get("dependency-groups", {}).values():
        texts += [text for text in group if isinstance(text, str)]
    texts += project.get("build-system", {}).get("requires", [])
    return [Requirement(text) for text in texts]


def test_both_lists_are_one():
    listed = load(ROOT / "pyproject.toml")["tool"]["uv"]["constraint-dependencies"]
    assert listed == (ROOT / "constraints.txt").read_text().splitlines(), "run tools/constraints.py"


def test_a_line_is_a_name_a_version_and_a_marker():
    condition = r"[a-z_]+ [!=<>]+ '[^']*'"
    line_form = re.compile(rf"[a-z0-9-]+==[0-9][0-9a-z.]*( ; {condition}( and {condition})*)?")
    for line in (ROOT / "constraints.txt").read_text().splitlines():
        assert line_form.fullmatch(line)


@pytest.mark.parametrize("path", PROJECTS, ids=lambda path: path.parent.name)
def test_each_declared_dependency_is_pinned_within_its_bounds(path):
    versions: dict[str, list[str]] = {}
    for pin in pins():
        (specifier,) = pin.specifier
        versions.setdefault(canonicalize_name(pin.name), []).append(specifier.version)
    found = [r for r in declared(path) if not r.name.startswith("armillary-")]
    for requirement in found:
        allowed = versions.get(canonicalize_name(requirement.name), [])
        assert allowed, f"{requirement} has no tested version: run tools/constraints.py"
        assert all(requirement.specifier.contains(version) for version in allowed), requirement


def test_these_tests_run_on_the_tested_versions():
    there = {canonicalize_name(d.metadata["Name"]): d.version for d in metadata.distributions()}
    compared = 0
    for pin in pins():
        if pin.marker and not pin.marker.evaluate():
            continue
        installed = there.get(canonicalize_name(pin.name))
        if installed is not None:
            assert pin.specifier.contains(installed), f"{pin} is tested, {installed} is installed: run uv sync"
            compared += 1
    assert compared > 50
