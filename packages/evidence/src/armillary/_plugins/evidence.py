"""What armillary-evidence offers: estimators of the evidence, and its section of a report."""

from armillary.core.hookspecs import ComponentSpec, ReportSection, hookimpl


@hookimpl
def armillary_evidence_estimators():
    """Estimators of armillary.evidence."""
    yield ComponentSpec(
        "lhm",
        "armillary.evidence:LearnedHarmonicMean",
        "Learned harmonic mean with a spline flow, cross-fitted",
        "McEwen J. D., Wallis C. G. R., Price M. A., Spurio Mancini A. 2021 (arXiv:2111.12720)",
    )


@hookimpl
def armillary_report_sections(result):
    """The evidence of the run, where it has a group ``evidence``."""
    if "evidence" not in result.children:
        return []
    from armillary.evidence._report import section_html

    return [ReportSection("Evidence", section_html(result["evidence"]), order=30)]
