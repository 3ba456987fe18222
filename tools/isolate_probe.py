"""Run by isolate.py inside a fresh environment: what can be imported there, and what cannot.

Usage: python isolate_probe.py PACKAGE PRESENT,... ABSENT,...
"""

from __future__ import annotations

import importlib
import importlib.util
import pkgutil
import sys

package, present, absent = sys.argv[1], *(set(filter(None, a.split(","))) for a in sys.argv[2:4])

for name in sorted(absent):
    if importlib.util.find_spec(f"armillary.{name}") is not None:
        sys.exit(f"armillary.{name} can be imported, and armillary-{package} does not declare it")
    if importlib.util.find_spec(f"armillary._plugins.{name}") is not None:
        sys.exit(f"the plugin of armillary-{name} is installed, and armillary-{package} does not declare it")
for name in sorted(present):
    if importlib.util.find_spec(f"armillary.{name}") is None:
        sys.exit(f"armillary.{name} cannot be imported, and armillary-{package} declares it")

from armillary.core import registry  # noqa: E402

if registry.failures():
    sys.exit(f"plugins failed: {[str(failure) for failure in registry.failures()]}")
found = {component.distribution for component in registry.components()}
if found != {f"armillary-{name}" for name in present}:
    sys.exit(f"the registry knows of {sorted(found)}, and {sorted(present)} are installed")

root = importlib.import_module(f"armillary.{package}")
for module in pkgutil.walk_packages(root.__path__, root.__name__ + "."):
    if module.name.endswith(".__main__"):
        continue
    importlib.import_module(module.name)
for component in registry.components():
    component.load()
