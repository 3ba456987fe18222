"""Each distribution on its own: built, audited, installed with nothing but what it declares, and tested there.

    python tools/isolate.py                         # all five, at the tested versions and at the lowest
    python tools/isolate.py --package sphere --no-lowest
    python tools/isolate.py --share 3               # at either versions another third of the test modules

The tests run outside the repository, on the installed wheel. "Tested versions" are those of constraints.txt;
"lowest" is the lowest version that the distribution's own dependency table allows.
"""

from __future__ import annotations

import argparse
import dataclasses
import email
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
import tomllib
import zipfile
from pathlib import Path

from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("core", "sphere", "scatter", "evidence", "imaging")
PROBE = Path(__file__).with_name("isolate_probe.py")


class Failure(Exception):
    """What is wrong with a distribution, as text for the table."""


@dataclasses.dataclass(frozen=True)
class Wheel:
    """A built wheel: where it is, what it holds and what it says of itself."""

    path: Path
    files: tuple[str, ...]
    metadata: email.message.Message
    entry_points: str

    @classmethod
    def read(cls, path: Path) -> Wheel:
        """Read a wheel's listing and metadata."""
        with zipfile.ZipFile(path) as archive:
            files = tuple(name for name in archive.namelist() if not name.endswith("/"))
            (dist_info,) = {name.partition("/")[0] for name in files if ".dist-info/" in name}
            metadata = email.message_from_bytes(archive.read(f"{dist_info}/METADATA"))
            points = f"{dist_info}/entry_points.txt"
            entry_points = archive.read(points).decode() if points in files else ""
        return cls(path, files, metadata, entry_points)

    @property
    def distribution(self) -> str:
        """Its name, such as ``armillary-core``."""
        return str(self.metadata["Name"])

    @property
    def package(self) -> str:
        """The last word of its name, such as ``core``."""
        return self.distribution.removeprefix("armillary-")

    def requirements(self) -> list[Requirement]:
        """What it needs, extras left aside."""
        found = [Requirement(text) for text in self.metadata.get_all("Requires-Dist", [])]
        return [r for r in found if r.marker is None or r.marker.evaluate({"extra": ""})]


def build(directory: Path) -> list[Wheel]:
    """Build the wheel of every package."""
    for package in PACKAGES:
        where = ["--out-dir", str(directory), str(ROOT / "packages" / package)]
        uv("build", "--quiet", "--wheel", "--python", sys.executable, *where)
    return [Wheel.read(path) for path in sorted(directory.glob("*.whl"))]


def audit(wheels: list[Wheel]) -> dict[str, list[str]]:
    """What is wrong with the wheels, by distribution; each has its list, empty where nothing is."""
    complaints = {wheel.distribution: audit_one(wheel) for wheel in wheels}
    owner: dict[str, str] = {}
    for wheel in wheels:
        for file in wheel.files:
            if ".dist-info/" in file:
                continue
            if file in owner:
                complaints[wheel.distribution].append(f"{file} is in {owner[file]} too")
            owner.setdefault(file, wheel.distribution)
    return complaints


def audit_one(wheel: Wheel) -> list[str]:
    """What is wrong with one wheel."""
    package = wheel.package
    wrong = []
    for namespace in ("armillary", "armillary/_plugins"):
        if f"{namespace}/__init__.py" in wheel.files:
            wrong.append(f"{namespace}/__init__.py makes a package of the namespace, and hides the other distributions")
    ours = re.compile(rf"armillary/{package}/|armillary/_plugins/{package}\.py$|[^/]+\.dist-info/")
    wrong += [f"{file} lies outside armillary/{package}" for file in wheel.files if not ours.match(file)]
    for wanted in (f"armillary/{package}/__init__.py", f"armillary/{package}/py.typed"):
        if wanted not in wheel.files:
            wrong.append(f"{wanted} is missing")
    if not any(re.search(r"\.dist-info/licenses/LICENSE$", file) for file in wheel.files):
        wrong.append("the text of the licence is missing")
    for field, wanted in {"License-Expression": "Apache-2.0", "Requires-Python": ">=3.12"}.items():
        if wheel.metadata[field] != wanted:
            wrong.append(f"{field} is {wheel.metadata[field]!r}, not {wanted!r}")
    if not wheel.metadata["Summary"] or not str(wheel.metadata.get_payload()).strip():
        wrong.append("the summary or the description is missing")
    if f"{package} = armillary._plugins.{package}" not in wheel.entry_points:
        wrong.append(f"the entry point {package} = armillary._plugins.{package} is missing")
    needed = wheel.requirements()
    if package != "core" and "armillary-core" not in {r.name for r in needed}:
        wrong.append("it does not depend on armillary-core")
    for requirement in needed:
        operators = {specifier.operator for specifier in requirement.specifier}
        if requirement.url:
            wrong.append(f"{requirement} is tied to an address")
        elif ">=" not in operators:
            wrong.append(f"{requirement} has no lower bound")
        elif requirement.name.startswith("armillary-") and "<" not in operators:
            wrong.append(f"{requirement} has no upper bound")
    return wrong


def closure(wheel: Wheel, wheels: list[Wheel]) -> set[str]:
    """The packages of ours that a wheel brings with it, its own among them."""
    by_name = {w.distribution: w for w in wheels}
    found: set[str] = set()
    todo = [wheel]
    while todo:
        current = todo.pop()
        if current.package not in found:
            found.add(current.package)
            todo += [by_name[r.name] for r in current.requirements() if r.name in by_name]
    return found


def isolate(wheel: Wheel, wheels: list[Wheel], directory: Path, *, lowest: bool, share: int = 1) -> tuple[str, str]:
    """Install a wheel with what it declares, look at what can be imported, and run one in ``share`` of its tests.

    Returns the version of JAX there and the last line of pytest; raises `Failure`.
    """
    directory.mkdir(parents=True)
    python = directory / "venv" / "bin" / "python"
    uv("venv", "--quiet", "--python", sys.executable, str(directory / "venv"))
    # Ours come from the wheels built here, whatever an index may hold under these names.
    siblings = directory / "siblings.txt"
    siblings.write_text("".join(f"{w.distribution} @ {w.path.as_uri()}\n" for w in wheels))
    install = ["pip", "install", "--quiet", "--python", str(python), "-c", str(siblings)]
    if lowest:
        # Direct dependencies are those named on the command line, so they are named there.
        names = [str(r) for r in wheel.requirements() if not r.name.startswith("armillary-")]
        uv(*install, "--resolution", "lowest-direct", str(wheel.path), *names)
    else:
        uv(*install, "-c", str(ROOT / "constraints.txt"), str(wheel.path))
    frozen = uv("pip", "freeze", "--python", str(python))
    probe(wheel, wheels, python)

    # What the tests need is added after the probe, without moving what is there; its versions are the tested ones.
    there = {re.split(r"[ =@]", line)[0] for line in frozen.splitlines()}
    tested = (ROOT / "constraints.txt").read_text().splitlines()
    held = directory / "held.txt"
    held.write_text("\n".join([*frozen.splitlines(), *(x for x in tested if re.split(r"[ =@]", x)[0] not in there)]))
    uv("pip", "install", "--quiet", "--python", str(python), "-c", str(held), *test_requirements())
    (jax,) = re.findall(r"^jax==(\S+)", frozen, re.MULTILINE)
    return jax, run_tests(wheel.package, directory, python, first=int(lowest), share=share)


def probe(wheel: Wheel, wheels: list[Wheel], python: Path) -> None:
    """Import every module of a package, where nothing but its declared dependencies is installed."""
    present = closure(wheel, wheels)
    absent = set(PACKAGES) - present
    done = subprocess.run(
        [python, "-P", PROBE, wheel.package, ",".join(sorted(present)), ",".join(sorted(absent))],
        capture_output=True,
        text=True,
        env=clean_environment(python),
        cwd=python.parent,
    )
    if done.returncode:
        raise Failure(f"the probe of {wheel.distribution} failed:\n{done.stdout}{done.stderr}")


def run_tests(package: str, directory: Path, python: Path, *, first: int, share: int) -> str:
    """Run every ``share``-th module of a package's tests on what is installed, away from the repository."""
    away = directory / package
    ignore = shutil.ignore_patterns("__pycache__")
    shutil.copytree(ROOT / "packages" / package / "tests", away / "tests", ignore=ignore)
    shutil.copy(ROOT / "packages" / package / "README.md", away)
    shutil.copy(ROOT / "conftest.py", away)
    (away / "pyproject.toml").write_text(pytest_table())
    modules = sorted(path.relative_to(away).as_posix() for path in away.glob("tests/**/test_*.py"))
    chosen = modules[first % min(share, len(modules)) :: share]
    log = directory / "pytest.log"
    with log.open("w") as output:
        code = subprocess.run(
            [python, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--rootdir", away, *chosen],
            stdout=output,
            stderr=subprocess.STDOUT,
            env=clean_environment(python),
            cwd=away,
        ).returncode
    lines = log.read_text().strip().splitlines()
    if code:
        raise Failure("\n".join(lines[-80:]))
    return lines[-1]


def pytest_table() -> str:
    """The workspace's pytest settings, as a pyproject.toml of their own."""
    text = (ROOT / "pyproject.toml").read_text()
    (table,) = re.findall(r"^\[tool\.pytest\.ini_options\]\n.*?(?=^\[|\Z)", text, re.MULTILINE | re.DOTALL)
    return re.sub(r"^testpaths = .*\n", "", table, flags=re.MULTILINE)


def test_requirements() -> list[str]:
    """What the tests need, from the workspace's dependency group ``test``."""
    with (ROOT / "pyproject.toml").open("rb") as file:
        return tomllib.load(file)["dependency-groups"]["test"]


def clean_environment(python: Path) -> dict[str, str]:
    """The variables of this process, with nothing that points into another environment."""
    drop = ("ARMILLARY_", "PYTHON", "VIRTUAL_ENV", "UV_")
    kept = {key: value for key, value in os.environ.items() if not key.startswith(drop)}
    return kept | {"PATH": f"{python.parent}{os.pathsep}{kept.get('PATH', '')}", "ARMILLARY_STRICT_PLUGINS": "1"}


def uv(*arguments: str) -> str:
    """Run uv: the one that runs this, or the one beside this Python, or the one on the path."""
    places = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    executable = os.environ.get("UV") or shutil.which("uv", path=places)
    if executable is None:
        raise SystemExit("tools/isolate.py needs uv: pip install uv")
    environment = {key: value for key, value in os.environ.items() if key != "VIRTUAL_ENV"}
    # Away from the workspace, whose list of tested versions would hold back the lowest ones.
    away = tempfile.gettempdir()
    done = subprocess.run([executable, *arguments], capture_output=True, text=True, env=environment, cwd=away)
    if done.returncode:
        raise Failure(f"uv {' '.join(arguments)}\n{done.stdout}{done.stderr}")
    return done.stdout


def main() -> int:
    """Run the checks and print a table; 1 if anything failed."""
    parser = argparse.ArgumentParser(description=str(__doc__).partition("\n")[0])
    parser.add_argument("--package", choices=PACKAGES, action="append", help="this one only; may be repeated")
    parser.add_argument("--lowest", action=argparse.BooleanOptionalAction, help="only, or not, at the lowest versions")
    parser.add_argument("--share", type=int, default=1, metavar="N", help="run one in N of the test modules")
    arguments = parser.parse_args()
    if arguments.share < 1:
        parser.error(f"--share {arguments.share}: it is 1, for all the test modules, or more")
    passes = [False, True] if arguments.lowest is None else [arguments.lowest]
    chosen = arguments.package or PACKAGES
    rows = []
    with tempfile.TemporaryDirectory(prefix="armillary-isolate-") as scratch:
        wheels = build(Path(scratch) / "wheels")
        complaints = audit(wheels)
        for distribution, wrong in complaints.items():
            for complaint in wrong:
                print(f"{distribution}: {complaint}", flush=True)
        for wheel in sorted(wheels, key=lambda w: PACKAGES.index(w.package)):
            if wheel.package not in chosen:
                continue
            for lowest in passes:
                versions = "lowest" if lowest else "tested"
                print(f"{wheel.distribution} at the {versions} versions ...", flush=True)
                start = time.perf_counter()
                directory = Path(scratch) / f"{wheel.package}-{versions}"
                try:
                    (jax, outcome), passed = (
                        isolate(wheel, wheels, directory, lowest=lowest, share=arguments.share),
                        True,
                    )
                except Failure as failure:
                    print(failure, flush=True)
                    jax, outcome, passed = "", "FAILED, see above", False
                shutil.rmtree(directory / "venv", ignore_errors=True)
                audited = "FAILED" if complaints[wheel.distribution] else "passed"
                passed = passed and audited == "passed"
                rows.append((wheel.distribution, versions, jax, audited, time.perf_counter() - start, outcome, passed))
    print(f"\n{'distribution':20} {'versions':8} {'JAX':8} {'wheel':7} {'seconds':>7}  tests")
    for distribution, versions, jax, audited, seconds, outcome, _ in rows:
        print(f"{distribution:20} {versions:8} {jax:8} {audited:7} {seconds:7.0f}  {outcome.strip('= ')}")
    return 0 if all(row[-1] for row in rows) and not any(complaints.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
