"""The HTML report: its judgements against arviz, its bounds, and that it is one well-formed file."""

import base64
import json
import re
import struct
import sys
from html.parser import HTMLParser

import arviz_base
import arviz_stats
import numpy as np
import pytest
import xarray as xr

from armillary.core import Evidence, ReportSection, compare, registry, write_report
from armillary.core._report import _diagnostics
from armillary.core._report._diagnostics import Status
from armillary.core._report._scalars import LIMIT, LIMIT_OF_ONE, select

pytest.importorskip("matplotlib", reason="the report needs matplotlib, of the extra plots")

VOID = {"meta", "link", "img", "br", "hr"}


class Page(HTMLParser):
    """A report read back: its text, its images, and whether every tag is closed in its order."""

    def __init__(self, text):
        super().__init__()
        self.open, self.images, self.headings, self.words, self.tags = [], [], [], [], []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        if tag == "img":
            self.images.append(dict(attrs))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if "style" in self.open:
            return
        self.words.append(data)
        if self.open and self.open[-1] == "h2":
            self.headings.append(data)

    @property
    def text(self):
        return " ".join(" ".join(self.words).split())


def normal(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape)


def result(posterior, **groups):
    return arviz_base.from_dict({"posterior": posterior, **groups})


def with_evidence(tree, evidence, diagnostics=None):
    tree["evidence"] = xr.DataTree(
        xr.Dataset(
            {"log_z": evidence.log_z, "log_z_err": evidence.log_z_err},
            attrs={
                "method": evidence.method,
                "diagnostics": json.dumps(diagnostics or {}),
                "warnings": json.dumps(list(evidence.warnings)),
            },
        )
    )
    return tree


@pytest.fixture
def report(tmp_path):
    """Write a report and read it back."""

    def of(results, **options):
        write_report(results, tmp_path / "report.html", **options)
        return Page((tmp_path / "report.html").read_text(encoding="utf-8"))

    return of


def judged(tree):
    selection = select(tree)
    frame = _diagnostics.table(selection)
    found = _diagnostics.measures(tree, selection, frame)
    return {m.name: m for m in found}, _diagnostics.verdict(found)


# --- the figures and their judgement ---


def test_the_table_has_the_figures_of_arviz():
    tree = result({"a": normal(4, 200), "b": normal(4, 200, 3, seed=1).cumsum(axis=1)})
    frame = _diagnostics.table(select(tree))
    expected = arviz_stats.summary(tree, ci_prob=0.94, ci_kind="eti", round_to="none")
    assert list(frame.index) == list(expected.index) == ["a", "b[0]", "b[1]", "b[2]"]
    for ours, theirs in (
        ("mean", "mean"),
        ("sd", "sd"),
        ("low", "eti94_lb"),
        ("high", "eti94_ub"),
        ("ess_bulk", "ess_bulk"),
        ("ess_tail", "ess_tail"),
        ("r_hat", "r_hat"),
        ("mcse_mean", "mcse_mean"),
    ):
        np.testing.assert_allclose(frame[ours], expected[theirs].astype(float), rtol=1e-10, err_msg=ours)


def test_sound_draws_are_good():
    measures, (status, text) = judged(
        result({"x": normal(4, 500)}, sample_stats={"diverging": np.zeros((4, 500), bool)})
    )
    assert {m.status for m in measures.values()} == {Status.GOOD}
    assert status is Status.GOOD
    assert "look sound" in text


@pytest.mark.parametrize(("shift", "expected"), [(0.0, Status.GOOD), (0.42, Status.FAIR), (3.0, Status.BAD)])
def test_chains_that_disagree(shift, expected):
    tree = result({"fine": normal(4, 2000), "off": normal(4, 2000, seed=1) + shift * np.array([[0], [0], [0], [1]])})
    measures, (_, text) = judged(tree)
    measure = measures["R-hat, largest"]
    by_arviz = arviz_stats.rhat(tree["posterior"].dataset)
    assert float(measure.value) == pytest.approx(max(float(by_arviz["fine"]), float(by_arviz["off"])), abs=6e-4)
    assert measure.status is expected
    if expected is not Status.GOOD:
        assert "off" in measure.detail
        assert "do not agree" in text


@pytest.mark.parametrize(("draws", "expected"), [(500, Status.GOOD), (60, Status.FAIR), (16, Status.BAD)])
def test_few_effective_draws(draws, expected):
    measures, _ = judged(result({"x": normal(4, draws)}))
    assert measures["ESS bulk, smallest"].status is expected


@pytest.mark.parametrize(("count", "expected"), [(0, Status.GOOD), (1, Status.FAIR), (200, Status.BAD)])
def test_divergences(count, expected):
    diverging = np.zeros(2000, bool)
    diverging[:count] = True
    measures, _ = judged(result({"x": normal(4, 500)}, sample_stats={"diverging": diverging.reshape(4, 500)}))
    assert measures["Divergences"].value == str(count)
    assert measures["Divergences"].status is expected


def test_one_chain_has_no_r_hat_and_says_so():
    measures, (status, text) = judged(result({"x": normal(1, 1000)}))
    assert measures["R-hat, largest"].status is Status.UNKNOWN
    assert status is Status.UNKNOWN
    assert "not defined for a single chain" in text


def test_draws_that_are_not_finite():
    draws = normal(4, 100)
    draws[2, 50] = np.nan
    measures, (status, text) = judged(result({"x": draws, "y": normal(4, 100)}))
    assert measures["Not finite"].detail == "x"
    assert status is Status.BAD
    assert "draws of x are not finite" in text


def test_a_constant_has_no_diagnostics_and_does_no_harm():
    tree = result({"x": normal(4, 500), "c": np.full((4, 500), 2.5)})
    frame = _diagnostics.table(select(tree))
    assert frame.loc["c", "mean"] == 2.5
    assert np.isnan(frame.loc["c", "r_hat"])
    assert judged(tree)[1][0] is Status.GOOD


# --- which scalars ---


def test_every_scalar_of_a_small_posterior():
    a, b = normal(2, 10), normal(2, 10, 2, 3)
    tree = arviz_base.from_dict({"posterior": {"a": a, "b": b}}, coords={"row": ["p", "q"]}, dims={"b": ["row", "col"]})
    selection = select(tree)
    assert [s.label for s in selection.scalars] == ["a", *(f"b[{r}, {c}]" for r in "pq" for c in range(3))]
    np.testing.assert_array_equal(selection.scalars[0].draws, a)
    np.testing.assert_array_equal(selection.scalars[4].draws, b[:, :, 1, 0])
    assert not selection.partial


def test_small_variables_come_first_and_then_by_name():
    tree = result({"map": normal(2, 10, 3), "z": normal(2, 10), "a": normal(2, 10)})
    assert [s.label for s in select(tree).scalars] == ["a", "z", "map[0]", "map[1]", "map[2]"]


def test_an_even_choice_from_a_big_array_the_last_element_too():
    values = normal(2, 4, 100, 100)
    selection = select(result({"x": values}))
    assert selection.total == 10_000
    assert len(selection.scalars) == LIMIT_OF_ONE
    assert selection.scalars[0].label == "x[0, 0]"
    assert selection.scalars[-1].label == "x[99, 99]"
    for scalar in selection.scalars:
        i, j = map(int, re.findall(r"\d+", scalar.label))
        np.testing.assert_array_equal(scalar.draws, values[:, :, i, j])


def test_many_variables_are_bounded():
    selection = select(result({f"x{i}": normal(2, 4, 3) for i in range(LIMIT)}))
    assert selection.total == 3 * LIMIT
    assert len(selection.scalars) == LIMIT


def test_a_complex_parameter_is_two():
    values = normal(2, 5, 3) + 1j * normal(2, 5, 3, seed=1)
    selection = select(result({"alm": values}))
    assert selection.total == len(selection.scalars) == 6
    draws = {s.label: s.draws for s in selection.scalars}
    np.testing.assert_array_equal(draws["Re alm[1]"], values[..., 1].real)
    np.testing.assert_array_equal(draws["Im alm[2]"], values[..., 2].imag)


# --- the file ---


def test_a_report_of_one_result(report):
    tree = result({"mu": normal(4, 100), "theta": normal(4, 100, 2)}, sample_stats={"diverging": normal(4, 100) > 2})
    tree.attrs |= {
        "sampler": "nuts",
        "model": "mine:model",
        "key": "[0, 7]",
        "num_warmup": 50,
        "num_samples": 100,
        "num_chains": 4,
        "versions": json.dumps({"jax": "0.12.9"}),
        "citations": json.dumps(["A & B 2020"]),
        "created_at": "2026-01-02T03:04:05",
    }
    page = report(tree, title="Mine")
    assert page.headings == ["Diagnostics", "Posterior", "Traces", "Pairs", "How to reproduce", "Please cite"]
    assert "4 chains × 100 draws by nuts on 2026-01-02" in page.text
    for text in ("A & B 2020", "jax 0.12.9", "theta[1]", "Crosses: draws that diverged", "num_warmup=50", "[0, 7]"):
        assert text in page.text
    assert len(page.images) == 3 * 2 + 1


def test_the_file_stands_by_itself(report, tmp_path):
    page = report(result({"x": normal(2, 50), "y": normal(2, 50)}))
    text = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "script" not in page.tags
    assert not re.search(r"https?://", text)
    for image in page.images:
        assert image["alt"]
        head, _, data = image["src"].partition(",")
        assert head == "data:image/png;base64"
        png = base64.b64decode(data, validate=True)
        assert png.startswith(b"\x89PNG")
        width, height = struct.unpack(">II", png[16:24])
        assert width / height == pytest.approx(int(image["width"]) / int(image["height"]), rel=0.02)


def test_all_text_is_escaped(report):
    evil = "<i>&\"'<script>alert(1)"
    tree = with_evidence(
        result({evil: normal(2, 50), "y": normal(2, 50)}), Evidence(-1.0, 0.1, evil, warnings=(evil,)), {evil: evil}
    )
    tree.attrs |= {
        "sampler": evil,
        "model": evil,
        "citations": json.dumps([evil]),
        "versions": json.dumps({evil: evil}),
    }
    page = report({evil: tree}, title=evil)
    assert "script" not in page.tags
    assert "i" not in page.tags
    assert page.text.count(evil) >= 10


def test_what_is_left_out_is_said(report):
    page = report(result({"x": normal(2, 40, 10_000)}))
    assert f"Judged by {LIMIT_OF_ONE} of 10,000 scalar parameters" in page.text
    assert "The first 40 of 10,000 scalar parameters." in page.text
    assert "The first 8 scalar parameters; 9,992 left out." in page.text
    assert len(page.images) == 8 * 2 + 1


@pytest.mark.parametrize(
    "tree",
    [
        xr.DataTree(),
        arviz_base.from_dict({"observed_data": {"y": normal(3)}}),
        with_evidence(xr.DataTree(), Evidence(-3.0, 0.1, "x")),
    ],
    ids=["empty", "data alone", "evidence alone"],
)
def test_no_draws(report, tree):
    page = report(tree)
    assert "There are no posterior draws in this result" in page.text
    assert page.headings[0] == "Diagnostics"
    assert "Posterior" not in page.headings


@pytest.mark.parametrize(
    "posterior",
    [
        {"x": normal(1, 100)},
        {"x": normal(1, 1)},
        {"x": normal(2, 3)},
        {"x": np.full((2, 50), 1.0)},
        {"x": np.full((2, 50), np.inf)},
        {"x": np.arange(200).reshape(2, 100)},
        {"x": normal(2, 100) > 0},
        {"x": normal(12, 50)},
        {"x": 1e100 * normal(2, 50), "y": 1e-100 * normal(2, 50)},
        {"x": np.array([np.full(50, 1.0), normal(50)]), "y": normal(2, 50)},
        {"x": normal(2, 50, 0), "y": normal(2, 50)},
    ],
    ids=[
        "one chain", "one draw", "three draws", "constant", "infinite", "integers", "booleans", "many chains",
        "huge and tiny", "a stuck chain", "an empty array",
    ],
)  # fmt: skip
def test_odd_posteriors(report, posterior):
    """Drawn without a warning, which the tests make an error."""
    page = report(result(posterior))
    assert page.headings[:3] == ["Diagnostics", "Posterior", "Traces"]


def test_a_comparison_is_made_of_results_with_evidence(report):
    trees = {
        "line": with_evidence(result({"x": normal(2, 50)}), Evidence(-10.25, 0.1, "lhm"), {"n": {"ess": 12.5}}),
        "curve": with_evidence(
            result({"x": normal(2, 50)}), Evidence(-7.0, 0.2, "lhm", warnings=("few draws: take more",))
        ),
    }
    page = report(trees)
    assert page.headings[:2] == ["Diagnostics", "Evidence"]
    for text in ("curve over line: ln B = 3.25 ± 0.22", "curve: few draws: take more", "n.ess 12.5"):
        assert text in page.text
    assert page.text.index("curve -7.00 0.20 0") < page.text.index("line -10.25 0.10 -3.25 ± 0.22")
    assert any("ln Z" in image["alt"] for image in page.images)


def test_a_comparison_given_is_the_one_shown(report):
    given = compare({"a": Evidence(-1.0, 0.1, "x"), "b": Evidence(-2.0, 0.1, "x")})
    assert "a over b: ln B = 1.00" in report(result({"x": normal(2, 50)}), comparison=given).text


def test_sections_of_plugins_stand_in_their_order(report, monkeypatch):
    def sections(tree):
        return [ReportSection("Early", "<p>one</p>", 5), ReportSection("Map <of> it", "<p>two</p>")]

    monkeypatch.setattr(registry, "report_sections", sections)
    page = report(result({"x": normal(2, 50)}))
    assert page.headings == [
        "Diagnostics", "Early", "Posterior", "Traces", "Map <of> it", "How to reproduce",
    ]  # fmt: skip
    assert "two" in page.text


def test_a_section_that_is_the_same_of_all_results_stands_once(report, monkeypatch):
    def sections(tree):
        yield ReportSection("Data", "<p>the same</p>")
        yield ReportSection("Fit", f"<p>{float(tree['posterior']['x'].mean())}</p>")

    monkeypatch.setattr(registry, "report_sections", sections)
    page = report({"a": result({"x": normal(2, 50)}), "b": result({"x": normal(2, 50, seed=1)})})
    assert page.headings[-4:-1] == ["Data", "Fit: a", "Fit: b"]


def test_without_matplotlib_it_says_what_to_install(report, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(ImportError, match=r"pip install 'armillary-core\[plots\]'"):
        report(result({"x": normal(2, 50)}))


def test_no_results(report):
    with pytest.raises(ValueError, match="expected a DataTree"):
        report({})
