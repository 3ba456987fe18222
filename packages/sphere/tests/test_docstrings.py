"""The examples in docstrings."""

import doctest
import importlib
import pathlib

import pytest

import armillary.sphere

FOLDER = pathlib.Path(armillary.sphere.__file__).parent
MODULES = sorted(file.stem for file in FOLDER.glob("*.py") if ">>> " in file.read_text(encoding="utf-8"))


@pytest.mark.usefixtures("quick_compilation")
@pytest.mark.parametrize("module", MODULES)
def test_examples(module):
    result = doctest.testmod(importlib.import_module(f"armillary.sphere.{module}"))
    assert result.attempted > 0
    assert result.failed == 0
