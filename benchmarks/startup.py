"""How long ``armillary list`` takes. Run: ``python benchmarks/startup.py``.

Prints the median of five runs after one that warms the file cache and the bytecode cache, beside that of an empty
interpreter, and fails if the wall time is not under 0.3 s. Processor time is printed too: on a busy machine it tells
whose the wait is.
"""

from __future__ import annotations

import os
import platform
import resource
import statistics
import subprocess
import sys
import time

LIMIT = 0.3
REPEATS = 5


def median_seconds(code: str) -> tuple[float, float]:
    """The median wall and processor times of ``python -c code``."""
    # An installed package is run from its bytecode: some build environments forbid writing any.
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    wall, cpu = [], []
    for _ in range(REPEATS + 1):
        start, used = time.perf_counter(), _children()
        subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.DEVNULL, env=environment)
        wall.append(time.perf_counter() - start)
        cpu.append(_children() - used)
    return statistics.median(wall[1:]), statistics.median(cpu[1:])


def _children() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def main() -> int:
    rows = {
        "python -c pass": "pass",
        "import armillary.core": "import armillary.core",
        "armillary list": "from armillary.core._cli import main; main(['list'])",
        "armillary list --json": "from armillary.core._cli import main; main(['list', '--json'])",
    }
    print(f"Python {platform.python_version()}, {os.cpu_count()} CPUs, median of {REPEATS} runs")
    seconds = {name: median_seconds(code) for name, code in rows.items()}
    print(f"{'':<24}{'wall':>8}{'processor':>12}")
    for name, (wall, cpu) in seconds.items():
        print(f"{name:<24}{wall:6.3f} s{cpu:10.3f} s")
    slow = seconds["armillary list"][0]
    print(f"armillary list: {slow:.3f} s, limit {LIMIT} s: {'met' if slow < LIMIT else 'NOT MET'}")
    return 0 if slow < LIMIT else 1


if __name__ == "__main__":
    sys.exit(main())
