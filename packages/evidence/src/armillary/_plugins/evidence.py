"""What armillary-evidence offers: estimators of the evidence."""

from armillary.core.hookspecs import ComponentSpec, hookimpl


@hookimpl
def armillary_evidence_estimators():
    """Estimators of armillary.evidence."""
    yield ComponentSpec(
        "lhm",
        "armillary.evidence:LearnedHarmonicMean",
        "Learned harmonic mean with a spline flow, cross-fitted",
        "McEwen J. D., Wallis C. G. R., Price M. A., Spurio Mancini A. 2021 (arXiv:2111.12720)",
    )
