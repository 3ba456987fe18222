"""Environments made of real installed distributions, for the tests of what crosses packages."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import subprocess
import sys
import textwrap
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from hatchling.builders.wheel import WheelBuilder

ROOT = Path(__file__).resolve().parents[1]


def uv() -> str:
    """The uv that runs these tests, or the one beside their Python."""
    beside = Path(sys.executable).parent / "uv"
    found = os.environ.get("UV") or (str(beside) if beside.exists() else shutil.which("uv"))
    assert found, "these tests install wheels with uv: pip install uv"
    return found


def build_wheel(source: Path, directory: Path) -> Path:
    """The wheel of a source tree, built by hatchling in this process: no isolation, no network."""
    return Path(next(WheelBuilder(str(source)).build(directory=str(directory), versions=["standard"])))


@dataclass
class Environment:
    """A directory of installed distributions, and a Python that sees them."""

    directory: Path
    alone: bool = False
    _wheels: list[Path] = field(default_factory=list)

    @property
    def site(self) -> Path:
        """Where the distributions are installed."""
        return self.directory / "site"

    def add(
        self,
        name: str,
        modules: dict[str, str],
        *,
        entry_points: dict[str, str] | None = None,
        version: str = "1.0",
    ) -> None:
        """Write a distribution's source, and build its wheel.

        ``modules`` maps module names to their text; ``entry_points`` the names of entry points of the group
        ``armillary`` to their values, by default one named ``plugin`` whose value is the first module.
        """
        source = self.directory / "source" / name
        source.mkdir(parents=True)
        for module, text in modules.items():
            (source / f"{module}.py").write_text(textwrap.dedent(text))
        points = {"plugin": next(iter(modules))} if entry_points is None else entry_points
        (source / "pyproject.toml").write_text(
            "\n".join(
                [
                    "[build-system]",
                    'requires = ["hatchling"]',
                    'build-backend = "hatchling.build"',
                    "[project]",
                    f'name = "{name}"',
                    f'version = "{version}"',
                    "[project.entry-points.armillary]",
                    *(f'{key} = "{value}"' for key, value in points.items()),
                    "[tool.hatch.build.targets.wheel]",
                    f"only-include = {json.dumps([f'{module}.py' for module in modules])}",
                ]
            )
        )
        self.add_source(source)

    def add_source(self, source: Path) -> None:
        """Build the wheel of a source tree."""
        self._wheels.append(build_wheel(source, self.directory / "wheels"))

    def run(self, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
        """Run Python with the distributions installed, and no variable of Armillary but those given."""
        if self._wheels:
            command = [uv(), "pip", "install", "--quiet", "--no-deps", "--no-index", "--offline"]
            command += ["--python", sys.executable, "--target", str(self.site), *map(str, self._wheels)]
            subprocess.run(command, check=True, capture_output=True, text=True, timeout=120)
            self._wheels.clear()
        environment = {key: value for key, value in os.environ.items() if not key.startswith("ARMILLARY_")}
        environment |= {"PYTHONPATH": str(self.site)} | variables
        isolation = ["-S", "-P"] if self.alone else []
        command = [sys.executable, *isolation, *arguments]
        return subprocess.run(command, capture_output=True, text=True, timeout=580, env=environment, cwd=self.directory)

    def ask(self, code: str, **variables: str) -> Any:
        """Run ``code``, which sets ``answer``, and return that."""
        text = f"import json\nfrom armillary.core import registry\n{textwrap.dedent(code)}\nprint(json.dumps(answer))"
        done = self.run("-c", text, **variables)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    def error(self, code: str, **variables: str) -> str:
        """Run ``code``, which must raise, and return the last line: the error's class and message."""
        done = self.run("-c", f"from armillary.core import registry\n{textwrap.dedent(code)}", **variables)
        assert done.returncode == 1, done.stdout
        return done.stderr.strip().splitlines()[-1]


@pytest.fixture(scope="session")
def core_wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel of armillary-core."""
    return build_wheel(ROOT / "packages" / "core", tmp_path_factory.mktemp("core"))


@pytest.fixture
def environment(tmp_path: Path, core_wheel: Path) -> Environment:
    """An environment in which only armillary-core and pluggy exist, no JAX, no sibling; a test adds to it."""
    made = Environment(tmp_path, alone=True)
    made._wheels.append(core_wheel)
    pluggy = importlib.util.find_spec("pluggy")
    assert pluggy is not None
    assert pluggy.origin is not None
    shutil.copytree(Path(pluggy.origin).parent, made.site / "pluggy")
    return made


@pytest.fixture
def workspace(tmp_path: Path) -> Environment:
    """The environment of these tests, with all our distributions and what they need; a test adds to it."""
    return Environment(tmp_path)
