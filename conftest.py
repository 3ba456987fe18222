"""What the tests of all packages share: memory between modules, and a part of the tests chosen by a seed."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Generator
from pathlib import Path

import pytest

#: Mappings of memory in a process, of the 65530 that Linux allows, above which compiled programs are let go.
_MAPPINGS = 12_000


def pytest_addoption(parser: pytest.Parser) -> None:
    """``--one-in 3 --seed TEXT``."""
    group = parser.getgroup("part of the tests")
    group.addoption("--one-in", type=int, default=1, metavar="N", help="run one in N of the tests, chosen by --seed")
    group.addoption("--seed", default="0", metavar="TEXT", help="any text, such as a commit's name")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Keep one test in N: by its name and the seed, so that every process keeps the same ones."""
    number, seed = config.getoption("one_in"), config.getoption("seed")
    if number < 1:
        raise pytest.UsageError(f"--one-in {number}: it is 1, for all the tests, or more")
    kept, left = [], []
    for item in items:
        digest = hashlib.sha256(f"{seed} {item.nodeid}".encode()).digest()
        (left if int.from_bytes(digest[:8]) % number else kept).append(item)
    if left:
        config.hook.pytest_deselected(items=left)
        items[:] = kept


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item, nextitem: pytest.Item | None) -> Generator[None, object, object]:
    """Let compiled programs go between modules where there are many.

    Each holds about four mappings of memory. Where a process has as many as Linux allows, the next compilation is a
    segmentation fault: with all the tests in two processes, they get there.
    """
    result = yield
    if "jax" in sys.modules and (nextitem is None or nextitem.path != item.path) and mappings() > _MAPPINGS:
        sys.modules["jax"].clear_caches()
    return result


def mappings() -> int:
    """The mappings of memory of this process; 0 where the system does not say."""
    maps = Path("/proc/self/maps")
    return len(maps.read_bytes().splitlines()) if maps.exists() else 0
