"""What the distribution registers, and its section of a report."""

import json
import subprocess
import sys

import numpy as np
import pytest
import xarray as xr

from armillary._plugins import evidence as plugin
from armillary.evidence import LearnedHarmonicMean
from armillary.evidence._report import section_html


def test_component():
    (spec,) = plugin.armillary_evidence_estimators()
    assert spec.name == "lhm"
    module, _, attribute = spec.factory.partition(":")
    assert getattr(sys.modules[module], attribute) is LearnedHarmonicMean


def test_the_hook_module_imports_nothing_heavy():
    code = "import sys, armillary._plugins.evidence; print(sorted({'jax', 'numpy', 'flowjax'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def tree(**attrs):
    group = xr.Dataset({"log_z": -12.34567, "log_z_err": 0.0123}, attrs=attrs)
    return xr.DataTree.from_dict({"evidence": group, "posterior": xr.Dataset({"x": ("chain", np.zeros(2))})})


def test_section():
    result = tree(
        method="lhm",
        diagnostics=json.dumps({"kurtosis": 3.14159, "flow": ["spline", "gaussian"], "n": 4}),
        warnings=json.dumps(["R-hat is 1.2 & <b>bad</b>"]),
    )
    (section,) = plugin.armillary_report_sections(result)
    assert section.title == "Evidence"
    for text in ("-12.3457", "0.0123", "lhm", "3.142", "spline, gaussian"):
        assert text in section.html
    assert "&amp; &lt;b&gt;bad&lt;/b&gt;" in section.html
    assert "<b>" not in section.html


def test_section_without_attributes():
    assert "-12.3457" in section_html(tree()["evidence"])


def test_no_section_without_evidence():
    assert list(plugin.armillary_report_sections(xr.DataTree.from_dict({"posterior": xr.Dataset()}))) == []


@pytest.mark.parametrize("name", ["method", "warnings"])
def test_text_is_escaped(name):
    result = tree(**{name: json.dumps(["<script>"]) if name == "warnings" else "<script>"})
    (section,) = plugin.armillary_report_sections(result)
    assert "<script>" not in section.html
