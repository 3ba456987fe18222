"""Armillary's conformance kit over what this package registers."""

from armillary.core.testing import parametrize_with_checks
from armillary.evidence import BridgeSampling, FlowEvidence, ImportanceSampling, LearnedHarmonicMean


@parametrize_with_checks(
    [
        FlowEvidence(flow="gaussian"),
        LearnedHarmonicMean(flow="gaussian", temperature=0.8),
        BridgeSampling(flow="gaussian"),
        ImportanceSampling(flow="gaussian"),
    ],
    kind="evidence_estimator",
)
def test_estimator(component, check):
    check(component)


@parametrize_with_checks(["armillary-evidence"])
def test_plugin(component, check):
    check(component)
