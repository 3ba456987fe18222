"""Armillary's conformance kit over what this package registers."""

from armillary.core.testing import parametrize_with_checks
from armillary.evidence import LearnedHarmonicMean


@parametrize_with_checks(
    [LearnedHarmonicMean(), LearnedHarmonicMean(flow="gaussian", temperature=0.8)], kind="evidence_estimator"
)
def test_estimator(component, check):
    check(component)


@parametrize_with_checks(["armillary-evidence"])
def test_plugin(component, check):
    check(component)
