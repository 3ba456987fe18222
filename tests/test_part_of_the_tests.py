"""The option by which continuous integration runs a part of the slow tests."""

import importlib.util
from pathlib import Path
from types import SimpleNamespace

import pytest

NAMES = [f"tests/test_a.py::test_one[{k}]" for k in range(90)]


@pytest.fixture(scope="module")
def conftest():
    path = Path(__file__).resolve().parents[1] / "conftest.py"
    if not path.exists():
        pytest.skip("the settings of the workspace's tests are not here")
    spec = importlib.util.spec_from_file_location("conftest_of_the_workspace", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def chosen(conftest, one_in, seed):
    items = [SimpleNamespace(nodeid=name) for name in NAMES]
    options = {"one_in": one_in, "seed": seed}
    hook = SimpleNamespace(pytest_deselected=lambda items: None)
    conftest.pytest_collection_modifyitems(SimpleNamespace(getoption=options.get, hook=hook), items)
    return [item.nodeid for item in items]


def test_a_seed_chooses_one_test_in_so_many(conftest):
    assert chosen(conftest, 1, "a") == NAMES
    first, other = chosen(conftest, 3, "a"), chosen(conftest, 3, "b")
    assert first == chosen(conftest, 3, "a")
    assert first != other
    assert 15 < len(first) < 45
    assert 15 < len(other) < 45
    with pytest.raises(pytest.UsageError, match="--one-in 0: it is 1, for all the tests, or more"):
        chosen(conftest, 0, "a")
