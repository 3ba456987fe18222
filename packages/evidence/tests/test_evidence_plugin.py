"""What the distribution registers."""

import subprocess
import sys

from armillary._plugins import evidence as plugin
from armillary.evidence import LearnedHarmonicMean


def test_component():
    (spec,) = plugin.armillary_evidence_estimators()
    assert spec.name == "lhm"
    module, _, attribute = spec.factory.partition(":")
    assert getattr(sys.modules[module], attribute) is LearnedHarmonicMean


def test_the_hook_module_imports_nothing_heavy():
    code = "import sys, armillary._plugins.evidence; print(sorted({'jax', 'numpy', 'flowjax'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
