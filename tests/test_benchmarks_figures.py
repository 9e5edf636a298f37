"""The figures: what is drawn are the rows, what is missing is said, and equal rows give equal files."""

from __future__ import annotations

import json
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # a program of the checkout, which nobody installs

from benchmarks.artefacts.fig4 import mix, read_fits
from benchmarks.artefacts.fig5 import radar
from benchmarks.artefacts.fig7 import bars
from benchmarks.artefacts.table4 import scatter
from benchmarks.canvas import COLOURS, colour, new_figure, png, save_png
from benchmarks.paper import CONCERNS, SETS, TYPES, radar_rows, under
from qsit_metric.evaluation import EvaluationError, UndefinedError, plcc
from qsit_metric.evaluation.correlations import logistic_curve
from train.sweep.fit import Point, fit_curve


def scores(n=40, name="KonIQ"):
    rng = np.random.default_rng(0)
    x = rng.uniform(1, 5, n)
    y = 100 / (1 + np.exp(-2 * (x - 3))) + rng.normal(0, 3, n)
    return [{"set": name, "score": float(a), "mos": float(b)} for a, b in zip(x, y, strict=True)]


def sweep(step=1):
    """What `fit.json` has after a sweep of seven ratios."""
    points = [Point(ratio, 0.7 - (np.log10(ratio) - 0.3) ** 2 / 10) for ratio in (0.1, 0.2, 0.5, 1, 2, 5, 10)]
    fit = fit_curve(points, degree=2, bootstrap=20)
    formula = {1: "accuracy", 2: "mean"}[step]
    pairs = [[point.ratio, point.performance] for point in points]
    return json.loads(json.dumps({"step": step, **fit.as_dict(), "formula": formula, "points": pairs}))


COSTS = [
    {"model": "7B", "latency": 0.4, "memory": 16.0, "tflop": 60.0},
    {"model": "mini", "latency": None, "memory": 4.0, "tflop": 0.0},
]


def words(figure):
    """All text of a figure."""
    import matplotlib.text

    return " ".join(found.get_text() for found in figure.findobj(matplotlib.text.Text)).replace("\n", " ")


# --- files -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "draw",
    [lambda: scatter(scores()), lambda: radar(radar_rows()), lambda: mix([sweep()]), lambda: bars(COSTS)],
    ids=["scatter", "radar", "mix", "bars"],
)
def test_equal_rows_give_equal_files_that_say_nothing_of_their_maker(draw, tmp_path):
    path = save_png(draw(), tmp_path / "new" / "figure.png")
    content = path.read_bytes()
    assert content == png(draw())
    assert chunks(content) <= {b"IHDR", b"pHYs", b"IDAT", b"IEND"}
    image = Image.open(path).convert("L")
    assert min(image.size) >= 400
    assert image.getextrema() == (0, 255)


def chunks(content):
    kinds, place = set(), 8
    while place < len(content):
        (length,) = struct.unpack(">I", content[place : place + 4])
        kinds.add(content[place + 4 : place + 8])
        place += length + 12
    return kinds


def test_figures_leave_pyplot_alone():
    code = (
        "import sys; from benchmarks.artefacts.fig7 import bars; from benchmarks.canvas import png;"
        f"png(bars({COSTS!r})); sys.exit('matplotlib.pyplot' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parents[1], check=False).returncode == 0


def test_a_figure_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(EvaluationError, match=r"`path`: got .*figure\.png"):
        save_png(new_figure(1, 1), tmp_path / "file" / "figure.png")


def test_seven_things_have_seven_colours():
    assert len({colour(place) for place in range(7)}) == 7 == len(COLOURS)


# --- scatter ---------------------------------------------------------------------------------------------------------


def test_every_scored_image_is_a_dot_and_the_others_are_counted():
    rows = [*scores(40), {"set": "KonIQ", "score": None, "mos": 3.0}, *scores(12, "SPAQ")]
    figure = scatter(rows, "q-sit-mini")
    first, second = figure.axes
    dots = first.collections[0].get_offsets()
    assert dots.tolist() == [[row["score"], row["mos"]] for row in rows[:40]]
    assert len(second.collections[0].get_offsets()) == 12
    found = plcc(*([row[key] for row in rows[:40]] for key in ("score", "mos")))
    assert first.get_title("left").startswith("KonIQ: 40 images, 1 not scored\nSRCC 0.9")
    assert f"PLCC {found:.3f}" in first.get_title("left")
    assert "score by q-sit-mini" in words(figure)


def test_the_curve_is_the_logistic_fit():
    rows = scores(200)
    x, y = (np.array([row[key] for row in rows]) for key in ("score", "mos"))
    line = scatter(rows).axes[0].lines[-1]
    assert np.allclose(line.get_ydata(), logistic_curve(x, y)(line.get_xdata()))
    assert np.abs(line.get_ydata() - 100 / (1 + np.exp(-2 * (line.get_xdata() - 3)))).max() < 3
    down = [{**row, "mos": -row["mos"]} for row in rows]
    assert np.allclose(scatter(down).axes[0].lines[-1].get_ydata(), -line.get_ydata(), atol=1e-3)


def test_a_panel_without_a_curve_says_so():
    figure = scatter([{"set": "flat", "score": 3.0, "mos": float(mos)} for mos in range(8)])
    assert "SRCC undefined" in figure.axes[0].get_title("left")
    assert not figure.axes[0].lines
    assert "no curve: a curve needs 5 pairs" in words(figure)
    none = scatter([{"set": "none", "score": None, "mos": 1.0}])
    assert "none: 0 images, 1 not scored" in words(none)
    with pytest.raises(EvaluationError, match="`rows`: got <no rows>"):
        scatter([])


def test_a_line_is_fitted_as_a_line():
    x = np.linspace(1, 5, 30)
    assert np.abs(logistic_curve(x, 2 * x + 1)(x) - (2 * x + 1)).max() < 0.01
    with pytest.raises(UndefinedError, match="5 pairs that are not constant"):
        logistic_curve(x[:4], x[:4])


# --- radar -----------------------------------------------------------------------------------------------------------


def test_measured_and_printed_lines_of_a_model_share_their_colour():
    ours = {"model": "Q-SiT-mini", **dict.fromkeys((*SETS, *TYPES, *CONCERNS), 0.7)}
    figure = radar(under([ours], radar_rows()))
    lines = {line.get_label(): line for line in figure.axes[0].lines}
    assert set(lines) == {"Q-SiT-mini", "Q-SiT-mini (paper)", "Q-SiT (paper)", "Q-Align (paper)"}
    assert lines["Q-SiT-mini"].get_color() == lines["Q-SiT-mini (paper)"].get_color()
    assert len({line.get_color() for line in lines.values()}) == 3
    assert (lines["Q-SiT-mini"].get_linestyle(), lines["Q-SiT (paper)"].get_linestyle()) == ("-", "--")
    drawn = lines["Q-SiT (paper)"].get_ydata()
    assert drawn[0] == drawn[-1] == pytest.approx(0.9245)
    assert drawn[6] == pytest.approx(0.834)
    assert np.isnan(lines["Q-Align (paper)"].get_ydata()).tolist() == [False] * 5 + [True] * 7 + [False]
    assert "Q-Instruct (paper): no numbers" in words(figure)
    assert figure.axes[0].get_ylim() == (0.4, 1.0)


def test_spokes_may_be_chosen():
    axes = radar(radar_rows(), (*TYPES, *CONCERNS)).axes[0]
    assert [label.get_text() for label in axes.get_xticklabels()][:3] == ["yes or no", "what", "how"]
    with pytest.raises(EvaluationError, match="`spokes`: got .*'what'.*expected 3 or more"):
        radar(radar_rows(), ("what", "how"))
    with pytest.raises(EvaluationError, match="`rows: mine`: got 83.4, expected shares"):
        radar([{"model": "mine", **dict.fromkeys(TYPES, 83.4)}])


# --- mix -------------------------------------------------------------------------------------------------------------


def test_both_steps_are_drawn_with_the_papers_optimum(tmp_path):
    (tmp_path / "fit.json").write_text(json.dumps(sweep(2)))
    fits = [sweep(1), *read_fits([tmp_path])]
    assert fits[1] == sweep(2)
    first, second = mix(fits).axes
    labels = [text.get_text() for text in first.get_legend().get_texts()]
    assert "optimum 2.00" in labels
    assert "the paper's optimum 2.42" in labels
    assert "the paper's optimum 3.54" in [text.get_text() for text in second.get_legend().get_texts()]
    assert first.lines[0].get_xydata().tolist() == fits[0]["points"]
    assert (first.get_ylabel(), second.get_xlabel()[:13]) == ("accuracy on the validation questions", "|D2* + D3*| :")


@pytest.mark.parametrize(
    "change", [{"step": 3}, {"formula": "loss"}, {"points": [1]}, {"best_observed": {"ratio": 1}}, {"interval": None}]
)
def test_something_else_than_a_fit_is_refused(change):
    with pytest.raises(EvaluationError, match=r"`fits`: got .*expected the content of a fit\.json"):
        mix([sweep() | change])


def test_fits_that_are_not_there_are_named(tmp_path):
    with pytest.raises(EvaluationError, match=r"fit\.json"):
        read_fits([tmp_path])
    (tmp_path / "fit.json").write_text("{")
    with pytest.raises(EvaluationError, match="a JSON file"):
        read_fits([tmp_path])
    with pytest.raises(EvaluationError, match="<no fits>"):
        mix([])


# --- bars ------------------------------------------------------------------------------------------------------------


def test_bars_are_as_long_as_the_costs_and_gaps_say_so():
    figure = bars(COSTS)
    for axes, name in zip(figure.axes, ("latency", "memory", "tflop"), strict=True):
        assert [bar.get_width() for bar in axes.patches] == [row[name] or 0.0 for row in COSTS]
        assert axes.get_xlim()[0] == 0
    shown = [[text.get_text() for text in axes.texts] for axes in figure.axes]
    assert shown == [["0.4", "not measured"], ["16", "4"], ["60", "0"]]
    assert all(unit in words(figure) for unit in ("seconds per picture", "GiB", "7B", "mini"))
    with pytest.raises(EvaluationError, match="`rows`: got -1.0, expected costs of 0 or above"):
        bars([{**COSTS[0], "memory": -1}])
    with pytest.raises(EvaluationError, match="<no rows>"):
        bars([])
