"""Every page of documentation: its code runs, prints what it says, and its links lead somewhere."""

from __future__ import annotations

import contextlib
import io
import os
import re
import subprocess
import sys
import types
from dataclasses import dataclass
from pathlib import Path

import jax
import pytest

ROOT = Path(__file__).resolve().parents[1]
PAGES = sorted(
    [
        *ROOT.glob("*.md"),
        *ROOT.glob("packages/*/README.md"),
        *ROOT.glob("docs/**/*.md"),
        ROOT / "examples/cosmology/README.md",
    ]
)
# Pages that take more than a quarter of a minute each.
LONG = {
    "denoise-a-map-on-the-sphere",
    "run-from-a-config",
    "resume-a-run",
    "from-a-model-to-a-bayes-factor",
    "make-textures",
    "train-a-network-on-the-sphere",
    "run-on-many-machines",
}
PAGE = "page_of_documentation"
COMMAND = "python3 -m venv .venv && .venv/bin/pip install -q uv && .venv/bin/uv run {}"

# A fence that opens, with its language, and the text to the fence that closes it. A bash block runs where the line
# above it is this mark, since most of them install or download something.
FENCE = re.compile(r"^(?P<mark><!-- run -->\n)?```(?P<language>\w*)\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Block:
    """A fenced block of a page, and the output that the page says it has: the plain block right below it."""

    language: str
    text: str
    line: int
    marked: bool
    output: str | None


def blocks(page: str) -> list[Block]:
    """The blocks of a page that have a language."""
    found = list(FENCE.finditer(page))
    answer = []
    for i, match in enumerate(found):
        output = None
        if i + 1 < len(found):
            after = found[i + 1]
            if after["language"] in ("", "text") and not page[match.end() : after.start()].strip():
                output = after["text"]
        if match["language"] not in ("", "text"):
            line = page.count("\n", 0, match.start("text")) + 1
            answer.append(Block(match["language"], match["text"], line, bool(match["mark"]), output))
    return answer


def run_page(name: str, page: str) -> int:
    """Run the Python blocks of a page in one namespace, and the marked bash blocks; how many ran."""
    namespace = {"__name__": PAGE}
    ran = 0
    for block in blocks(page):
        if block.language == "python":
            printed = io.StringIO()
            code = compile("\n" * (block.line - 1) + block.text, name, "exec", dont_inherit=True)
            with contextlib.redirect_stdout(printed):
                exec(code, namespace)
            output = printed.getvalue()
        elif block.language == "bash" and block.marked:
            output = run_bash(block.text)
        else:
            continue
        ran += 1
        if block.output is not None:
            assert output == block.output, f"{name}, line {block.line}: the output differs from the page's"
    return ran


def run_bash(text: str) -> str:
    environment = os.environ | {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", text], capture_output=True, text=True, env=environment, timeout=280
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture
def anywhere(tmp_path, monkeypatch):
    """A directory of its own to write to, and the precision as it was afterwards."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(sys.modules, PAGE, types.ModuleType(PAGE))  # dataclasses look the module of a class up
    x64 = jax.config.jax_enable_x64
    yield
    jax.config.update("jax_enable_x64", x64)


@pytest.mark.usefixtures("anywhere")
@pytest.mark.parametrize(
    "path",
    [pytest.param(path, marks=pytest.mark.slow if path.stem in LONG else ()) for path in PAGES],
    ids=[str(path.relative_to(ROOT)) for path in PAGES],
)
def test_the_code_of_a_page_runs_and_prints_what_the_page_says(path):
    page = path.read_text()
    wanted = sum(block.language == "python" or block.marked for block in blocks(page))
    assert run_page(str(path.relative_to(ROOT)), page) == wanted


@pytest.mark.parametrize("path", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_within_the_repository_lead_somewhere(path):
    for target in re.findall(r"\]\(([^)#\s]+)[^)]*\)", path.read_text()):
        if not re.match(r"[a-z]+:", target):
            assert (path.parent / target).exists(), f"{path}: {target}"


def test_the_readme_starts_with_an_example_and_its_output():
    first = blocks((ROOT / "README.md").read_text())[0]
    assert first.language == "python"
    assert first.output
    assert len(first.text.splitlines()) <= 20


def test_each_package_has_an_example_with_its_output():
    for path in ROOT.glob("packages/*/README.md"):
        found = [block for block in blocks(path.read_text()) if block.language == "python"]
        assert any(block.output for block in found), path


def test_the_two_commands_are_in_the_readme_and_the_second_in_ci():
    readme = (ROOT / "README.md").read_text()
    assert COMMAND.format("armillary demo") in readme
    assert COMMAND.format("pytest") in readme
    lines = (ROOT / ".ci" / "run").read_text().splitlines()
    assert any(line.strip().startswith(COMMAND.format("pytest")) for line in lines)


def test_no_tracked_file_has_the_address_of_a_registry():
    # The classes of one letter keep this file from being a hit.
    pattern = "py[p]i[.]org|python[h]osted[.]org|[-][-]index-url|[-][-]extra-index-url"
    done = subprocess.run(["git", "grep", "-lIE", pattern], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 1, f"addresses of a registry in:\n{done.stdout}{done.stderr}"


@pytest.mark.usefixtures("anywhere")
@pytest.mark.parametrize(
    ("page", "error"),
    [
        ("```python\nprint(1 + 1)\n```\n\n```\n3\n```\n", AssertionError),
        ("```python\nx = 2\n```\n\nText.\n\n```python\nassert x == 3\n```\n", AssertionError),
        ("```python\nraise KeyError\n```\n", KeyError),
        ("<!-- run -->\n```bash\nfalse | true\n```\n", AssertionError),
        ("<!-- run -->\n```bash\necho one\n```\n```\ntwo\n```\n", AssertionError),
    ],
)
def test_a_page_that_is_wrong_is_caught(page, error):
    with pytest.raises(error):
        run_page("page", page)


@pytest.mark.usefixtures("anywhere")
def test_what_is_run_of_a_page():
    page = (
        "```python\nx = 2\n```\n\n```bash\nexit 1\n```\n\n```python\nprint(x)\n```\n\n```\n2\n```\n```toml\n[x]\n```\n"
    )
    assert [(b.language, b.line, b.output) for b in blocks(page)] == [
        ("python", 2, None),
        ("bash", 6, None),
        ("python", 10, "2\n"),
        ("toml", 17, None),
    ]
    assert run_page("page", page) == 2
