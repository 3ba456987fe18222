"""Comparison of models: the arithmetic of Bayes factors, and what is shown of it."""

import io
import math

import pytest
import rich.console

from armillary.core import Evidence, compare

MODELS = {
    "line": Evidence(-10.0, 0.3, "lhm"),
    "parabola": Evidence(-7.0, 0.4, "bridge", warnings=("few draws",)),
    "cubic": Evidence(-8.0, 0.0, "exact"),
}


def test_order_factors_errors_and_probabilities():
    table = compare(MODELS)
    assert [row.name for row in table.rows] == ["parabola", "cubic", "line"]
    assert table.winner == "parabola"
    line = table.rows[2]
    assert line.log_bayes_factor == pytest.approx(-3.0)
    assert line.log_bayes_factor_err == pytest.approx(0.5)
    assert table.rows[0].log_bayes_factor_err == 0.0
    total = 1 + math.exp(-1) + math.exp(-3)
    assert [row.probability for row in table.rows] == pytest.approx(
        [1 / total, math.exp(-1) / total, math.exp(-3) / total]
    )


def test_prior_odds_weigh_the_probabilities_and_not_the_factors():
    table = compare(MODELS, prior_odds={"line": 100.0, "parabola": 1.0, "cubic": 1.0})
    assert table.rows[2].log_bayes_factor == pytest.approx(-3.0)
    total = 1 + math.exp(-1) + 100 * math.exp(-3)
    assert table.rows[2].probability == pytest.approx(100 * math.exp(-3) / total)


def test_huge_evidences_do_not_overflow():
    table = compare({"a": Evidence(-1e6, 1.0), "b": Evidence(-2e6, 1.0)})
    assert table.rows[0].probability == 1.0
    assert table.rows[1].log_bayes_factor == -1e6


def test_the_frame_and_the_texts():
    table = compare(MODELS)
    frame = table.to_dataframe()
    assert list(frame.index) == ["parabola", "cubic", "line"]
    assert frame.loc["line", "log_z"] == -10.0
    console = rich.console.Console(width=120, record=True, file=io.StringIO())
    console.print(table)
    for text in (str(table), console.export_text()):
        assert "-10.00 ± 0.30" in text
        assert "parabola over cubic: ln B = 1.00 ± 0.40, weak evidence" in text
        assert "parabola: few draws" in text


def test_names_are_not_read_as_markup():
    console = rich.console.Console(width=120, record=True, file=io.StringIO())
    console.print(compare({"[bold]": Evidence(0.0, 0.1), "[/x]": Evidence(-9.0, 0.1)}))
    assert "[bold] over [/x]" in console.export_text()


def test_a_difference_within_the_errors_is_called_so():
    assert "within twice its error of none" in str(compare({"a": Evidence(0.0, 1.0), "b": Evidence(-1.0, 1.0)}))
    assert "one model" in str(compare({"a": Evidence(0.0, 1.0)}))


def test_the_plot_shows_every_model():
    matplotlib = pytest.importorskip("matplotlib", reason="matplotlib is not installed")
    matplotlib.use("Agg")
    axes = compare(MODELS).plot()
    assert [label.get_text() for label in axes.get_yticklabels()] == ["parabola", "cubic", "line"]


@pytest.mark.parametrize(
    ("models", "odds", "message"),
    [
        ({}, None, "give at least one model"),
        ({"a": 3}, None, r"'a' has no evidence \(int\)"),
        ({"a": Evidence(math.nan, 1.0)}, None, "'a' has ln Z = nan"),
        ({"a": Evidence(math.inf, 1.0)}, None, "'a' has ln Z = inf"),
        ({"a": Evidence(-math.inf, 1.0), "b": Evidence(-math.inf, 1.0)}, None, "ln Z of a, b is -inf"),
        ({"a": Evidence(0.0, 1.0)}, {"b": 1.0}, "expected a positive number for each of a"),
        ({"a": Evidence(0.0, 1.0)}, {"a": 0.0}, "expected a positive number"),
    ],
)
def test_bad_input(models, odds, message):
    with pytest.raises(ValueError, match=message):
        compare(models, odds)
