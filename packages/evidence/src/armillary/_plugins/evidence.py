"""What armillary-evidence offers: estimators of the evidence, and the flows that they fit."""

from armillary.core.hookspecs import ComponentSpec, ReportSection, hookimpl

_LHM = "McEwen J. D., Wallis C. G. R., Price M. A., Spurio Mancini A. 2021 (arXiv:2111.12720)"
_BRIDGE = "Meng X.-L., Wong W. H. 1996, Stat. Sin. 6, 831"


@hookimpl
def armillary_evidence_estimators():
    """Estimators of armillary.evidence."""
    yield ComponentSpec(
        "flow",
        "armillary.evidence:FlowEvidence",
        "Learned harmonic mean and bridge sampling with one flow, each checking the other",
        f"{_LHM}; {_BRIDGE}",
    )
    yield ComponentSpec(
        "lhm", "armillary.evidence:LearnedHarmonicMean", "Learned harmonic mean with a flow, cross-fitted", _LHM
    )
    yield ComponentSpec(
        "bridge", "armillary.evidence:BridgeSampling", "Bridge sampling between the posterior and a flow", _BRIDGE
    )
    yield ComponentSpec(
        "importance", "armillary.evidence:ImportanceSampling", "Importance sampling with draws of a flow"
    )


@hookimpl
def armillary_flows():
    """Kinds of flow of armillary.evidence."""
    yield ComponentSpec(
        "spline",
        "armillary.evidence:SplineFlow",
        "Coupling layers of rational-quadratic splines: few parameters",
        "Durkan C., Bekasov A., Murray I., Papamakarios G. 2019 (arXiv:1906.04032)",
    )
    yield ComponentSpec(
        "realnvp",
        "armillary.evidence:RealNVP",
        "Affine coupling layers, then a spline in each coordinate: many parameters",
        "Dinh L., Sohl-Dickstein J., Bengio S. 2017 (arXiv:1605.08803)",
    )
    yield ComponentSpec(
        "autoregressive",
        "armillary.evidence:AutoregressiveFlow",
        "Masked autoregressive layers of rational-quadratic splines",
        "Papamakarios G., Pavlakou T., Murray I. 2017 (arXiv:1705.07057)",
    )
    yield ComponentSpec(
        "matching",
        "armillary.evidence:FlowMatching",
        "Continuous flow trained by flow matching: few and multimodal parameters",
        "Lipman Y., Chen R. T. Q., Ben-Hamu H., Nickel M., Le M. 2023 (arXiv:2210.02747)",
    )


@hookimpl
def armillary_report_sections(result):
    """How the evidence of a run was made, where a run has one of a method of ours."""
    group = result.children.get("evidence")
    if group is None or group.attrs.get("method") not in ("lhm", "bridge", "is"):
        return
    from armillary.evidence._report import section

    yield ReportSection("Evidence", section(group), order=40)
