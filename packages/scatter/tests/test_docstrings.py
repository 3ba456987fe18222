"""The examples in docstrings."""

import doctest
import importlib

import pytest


@pytest.mark.parametrize(
    "module",
    [
        "_covariance",
        "_ensemble",
        "_maximum_entropy",
        "_microcanonical",
        "_network",
        "_prior",
        "_scattering",
        "_statistics",
        "_synthesis",
        "_texture",
        "_wavelets",
    ],
)
def test_examples(module):
    result = doctest.testmod(importlib.import_module(f"armillary.scatter.{module}"))
    assert result.attempted > 0
    assert result.failed == 0
