"""The examples in docstrings."""

import doctest
import importlib

import pytest


@pytest.mark.parametrize("module", ["_coefficients", "_gauss_legendre", "_gaussian", "_sht"])
def test_examples(module):
    result = doctest.testmod(importlib.import_module(f"armillary.sphere.{module}"))
    assert result.attempted > 0
    assert result.failed == 0
