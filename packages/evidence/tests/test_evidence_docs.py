"""The examples of the README and of the docstrings, run."""

import contextlib
import doctest
import importlib
import io
import re
from pathlib import Path

import pytest

README = Path(__file__).parents[1] / "README.md"


def test_readme():
    code, output = re.search(r"```python\n(.*?)```\s*```\n(.*?)```", README.read_text(), re.DOTALL).groups()
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(compile(code, str(README), "exec"), {"__name__": "readme"})
    assert printed.getvalue() == output


@pytest.mark.parametrize("name", ["_harmonic", "_estimators"])
def test_docstrings(name):
    module = importlib.import_module(f"armillary.evidence.{name}")
    result = doctest.testmod(module)
    assert result.attempted > 0
    assert result.failed == 0
