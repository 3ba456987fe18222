"""Write the tested versions down: constraints.txt, and the same list in the workspace's pyproject.toml.

    python tools/constraints.py             # after a dependency was added or its bounds were changed
    python tools/constraints.py --upgrade   # to move everything to the newest versions; then run the tests

The lock file is not kept under version control, since it holds the addresses of one registry. The list in
pyproject.toml makes a fresh clone resolve to the same versions; constraints.txt offers them to pip.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
FILE = ROOT / "constraints.txt"
BLOCK = re.compile(r"^constraint-dependencies = \[\n(.*?)^\]\n", re.MULTILINE | re.DOTALL)


def uv(*arguments: str) -> str:
    """Run uv in the workspace."""
    beside = Path(sys.executable).parent / "uv"
    executable = os.environ.get("UV") or (str(beside) if beside.exists() else "uv")
    return subprocess.run([executable, *arguments], check=True, stdout=subprocess.PIPE, text=True, cwd=ROOT).stdout


def write(pins: list[str]) -> None:
    """Put the pins into both files."""
    path = ROOT / "pyproject.toml"
    block = "constraint-dependencies = [\n" + "".join(f'    "{pin}",\n' for pin in pins) + "]\n"
    text, count = BLOCK.subn(lambda _: block, path.read_text())
    if count != 1:
        raise SystemExit(f"{path} should have one list constraint-dependencies; it has {count}")
    path.write_text(text)
    FILE.write_text("".join(f"{pin}\n" for pin in pins))


def main() -> None:
    """Resolve, and write both files."""
    parser = argparse.ArgumentParser(description=str(__doc__).partition("\n")[0])
    parser.add_argument("--upgrade", action="store_true", help="to the newest versions that the packages allow")
    if parser.parse_args().upgrade:
        write([])
        uv("lock", "--upgrade")
    flags = "--no-hashes --no-emit-workspace --no-header --no-annotate --all-packages --all-groups --all-extras"
    exported = uv("export", "--quiet", "--format", "requirements.txt", *flags.split())
    write(exported.splitlines())
    uv("lock", "--quiet")


if __name__ == "__main__":
    main()
