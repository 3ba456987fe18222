import contextlib
import doctest
import importlib
import io
import re
from pathlib import Path

import pytest

import armillary.imaging

README = Path(__file__).parents[1] / "README.md"
FOLDER = Path(armillary.imaging.__file__).parent
MODULES = sorted(file.stem for file in FOLDER.glob("*.py") if ">>> " in file.read_text(encoding="utf-8"))


@pytest.mark.parametrize("name", MODULES)
def test_docstrings(name):
    if name.endswith("_sphere"):
        pytest.importorskip("armillary.sphere")
    results = doctest.testmod(importlib.import_module(f"armillary.imaging.{name}"))
    assert results.attempted > 0
    assert results.failed == 0


def test_readme_example_prints_what_it_says():
    code, output = re.search(r"```python\n(.*?)```\n\n```\n(.*?)```", README.read_text(), re.DOTALL).groups()
    found = io.StringIO()
    with contextlib.redirect_stdout(found):
        exec(compile(code, str(README), "exec"), {"__name__": "__main__"})
    assert found.getvalue() == output
