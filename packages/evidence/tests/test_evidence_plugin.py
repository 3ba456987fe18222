"""What the distribution registers."""

import subprocess
import sys

from armillary import evidence
from armillary._plugins import evidence as plugin


def test_components():
    made = [*plugin.armillary_evidence_estimators(), *plugin.armillary_flows()]
    assert [spec.name for spec in made] == [
        "flow", "lhm", "bridge", "importance", "spline", "realnvp", "autoregressive", "matching",
    ]  # fmt: skip
    for spec in made:
        module, _, attribute = spec.factory.partition(":")
        assert module == "armillary.evidence"
        getattr(evidence, attribute)()


def test_the_hook_module_imports_nothing_heavy():
    code = "import sys, armillary._plugins.evidence; print(sorted({'jax', 'numpy', 'flowjax'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
