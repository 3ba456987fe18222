"""How long ``armillary list`` takes, and whether it imports JAX. Run: ``python benchmarks/startup.py``.

Prints the median wall time of five runs after one that warms the file cache and the bytecode cache, beside that of
an empty interpreter, and fails if it is not under 0.3 s.
"""

from __future__ import annotations

import os
import platform
import statistics
import subprocess
import sys
import time

LIMIT = 0.3
REPEATS = 5


def median_seconds(code: str) -> float:
    """The median wall time of ``python -c code``."""
    # An installed package is run from its bytecode: some build environments forbid writing any.
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    times = []
    for _ in range(REPEATS + 1):
        start = time.perf_counter()
        subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.DEVNULL, env=environment)
        times.append(time.perf_counter() - start)
    return statistics.median(times[1:])


def main() -> int:
    rows = {
        "python -c pass": "pass",
        "import armillary.core": "import armillary.core",
        "armillary list": "from armillary.core._cli import main; main(['list'])",
        "armillary list --json": "from armillary.core._cli import main; main(['list', '--json'])",
    }
    print(f"Python {platform.python_version()}, {os.cpu_count()} CPUs, median of {REPEATS} runs")
    seconds = {name: median_seconds(code) for name, code in rows.items()}
    for name, value in seconds.items():
        print(f"{name:<24}{value:6.3f} s")
    slow = seconds["armillary list"]
    print(f"armillary list: {slow:.3f} s, limit {LIMIT} s: {'met' if slow < LIMIT else 'NOT MET'}")
    return 0 if slow < LIMIT else 1


if __name__ == "__main__":
    sys.exit(main())
