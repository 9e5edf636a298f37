"""Tables IV and V from runs: every number is what the library's own statistics say of the same rows."""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # a program of the checkout, which nobody installs

from benchmarks.artefacts import fig5, shared, table4, table5
from benchmarks.output import markdown
from benchmarks.runs import Pace, Process, Results, score_run
from benchmarks.runs.results import told
from benchmarks.sets.catalog import SETS
from qsit_metric.errors import ImageError
from qsit_metric.evaluation import EvaluationError, Item, Manifest, bootstrap_interval, correlate
from qsit_metric.evaluation.correlations import logistic_curve
from qsit_metric.evaluation.qbench import CONCERNS, TYPES

MADE = {"model": "m", "revision": "r1", "backend": "b", "recipe": "authors", "dtype": "float32", "device": "cpu"}
MADE |= {"qsit_metric": "0.1", "torch": "2.9", "transformers": "5.23"}
MOS = [float(value) for value in np.random.default_rng(0).uniform(1, 5, 40)]
GOOD = [value + (-1) ** place * place / 40 for place, value in enumerate(MOS)]


def scored(name: str, scores: list[float | None], total: int | None = None, **made: str) -> Results:
    """A run of scores; None is an image that failed."""
    run = {"kind": "scores", "set": name, "n": total or len(scores), "sha256": f"hash-{name}", "exif": False, "seed": 5}
    rows = tuple(
        {
            "id": f"{name}-{place}", "place": place, "mos": MOS[place], "score": score,
            "error": "" if score is not None else "ImageError: gone", "seconds": 0.5, "waited": 0.1,
        }
        for place, score in enumerate(scores)
    )  # fmt: skip
    return Results(Path(name), {**run, "made": {**MADE, **made}}, rows, 0, Pace.of(rows))


def answered(right: str, name: str = "llvisionqa-dev", total: int | None = None, **made: str) -> Results:
    """A run of questions, one a letter: y(es), n(o), w(ithheld), f(ailed); types and concerns take turns."""
    rows = tuple(
        {
            "id": str(place), "place": place, "type": TYPES[place % 3], "concern": CONCERNS[place % 4],
            "choices": ["a", "b", "c", "d"][: 2 + place % 3], "error": "ImageError: gone" if letter == "f" else "",
            "correct": {} if letter == "f" else {"strict": {"y": True, "n": False, "w": None}[letter]},
            "seconds": 1.0, "waited": 0.0,
        }
        for place, letter in enumerate(right)
    )  # fmt: skip
    run = {"kind": "questions", "set": name, "n": total or len(rows), "sha256": f"hash-{name}", "exif": False}
    run |= {"rules": ["strict"], "max_new_tokens": 200, "seed": 0}
    return Results(Path(name), {**run, "made": {**MADE, **made}}, rows, 0, Pace.of(rows))


@pytest.fixture(autouse=True)
def sets_of_any_size(monkeypatch):
    """A run has as many images as a test gives it, whatever was published."""
    monkeypatch.setattr(shared, "SETS", {})


# ---- table IV


def test_a_row_a_model_with_both_correlations_of_each_set():
    flipped = [-score for score in GOOD]
    runs = [scored("koniq", GOOD), scored("spaq", flipped), scored("koniq", flipped, model="other")]
    table = table4.make(runs, average=("koniq", "spaq"))
    first, second = table.rows
    found = correlate(GOOD, MOS)
    assert (first["model"], first["koniq SRCC"], first["koniq PLCC"]) == ("m", found.srcc, found.plcc)
    assert (first["spaq SRCC"], first["spaq PLCC"]) == (-found.srcc, pytest.approx(-found.plcc)), "never absolute"
    assert first["average"] == pytest.approx(0, abs=1e-12)
    assert (second["model"], second["koniq SRCC"], second["spaq SRCC"]) == ("other", -found.srcc, None)
    assert second["average"] is None, "one of the sets is not there"
    assert {name: first[name] for name in MADE} == MADE
    assert (first["source"], first["exif"]) == ("measured", False)
    assert table.columns[2:7] == ("koniq SRCC", "koniq PLCC", "spaq SRCC", "spaq PLCC", "average")


def test_failures_count_in_no_number_and_are_named():
    holes = [None if place in (3, 7) else score for place, score in enumerate(GOOD)]
    run = scored("livec", holes)
    table = table4.make([run], average=("livec",))
    kept = [place for place, score in enumerate(holes) if score is not None]
    found = correlate([GOOD[place] for place in kept], [MOS[place] for place in kept])
    assert (table.rows[0]["livec SRCC"], table.rows[0]["failed"]) == (found.srcc, 2)
    assert table.rows[0]["average"] == pytest.approx((found.srcc + found.plcc) / 2)
    named = "m on livec: 2 failed and count in no number: livec-3, livec-7 (ImageError: gone)"
    assert named in table.notes
    [row] = table4.details([run], rounds=20).rows
    assert (row["N"], row["failed"]) == (38, 2)
    many = table4.make([scored("livec", [None] * 25 + GOOD[25:])])
    assert many.notes[-1].endswith("livec-3, livec-4 and 20 more (ImageError: gone)")


def test_equal_reasons_of_different_files_are_one():
    about = ("an existing file", "Check the spelling.")
    lost = [told(ImageError.about("image", f"/data/it's/{place}.jpg", *about)) for place in range(3)]
    assert lost[1]["error"].startswith('ImageError: `image`: got "/data/it\'s/1.jpg", expected an existing file.')
    errors = [*lost, *({"error": f"reason {place}"} for place in range(6))]  # older rows have no reason of their own
    run = scored("mine", [None] * 9)
    rows = tuple({**row, **said} for row, said in zip(run.rows, errors, strict=True))
    [note] = shared.failures([dataclasses.replace(run, rows=rows)])
    assert note == (
        "m on mine: 9 failed and count in no number: mine-0, mine-1, mine-2 (ImageError: expected an existing file. "
        "Check the spelling.); mine-3 (reason 0); mine-4 (reason 1); mine-5 (reason 2); mine-6 (reason 3); 2 more "
        "reasons in the run's folder"
    )


def test_details_have_all_statistics_and_intervals():
    table = table4.details([scored("koniq", GOOD)], rounds=50)
    [row] = table.rows
    found = correlate(GOOD, MOS)
    for column, field in table4.STATISTICS.items():
        assert row[column] == getattr(found, field)
    left = MOS - logistic_curve(np.array(GOOD), np.array(MOS))(np.array(GOOD))
    assert row["RMSE fitted"] == pytest.approx(float(np.sqrt(np.mean(left**2))), rel=1e-6)
    for name in ("SRCC", "PLCC"):
        assert (row[f"{name} low"], row[f"{name} high"]) == bootstrap_interval(
            GOOD, MOS, name.lower(), seed=5, rounds=50
        )
        assert row[f"{name} low"] < row[name] < row[f"{name} high"]
    assert (row["images/s"], row["waiting"]) == (pytest.approx(2.0), pytest.approx(0.2))
    assert (row["manifest"], row["dtype"], row["torch"]) == ("hash-koniq", "float32", "2.9")
    assert "| 20.0% |" in markdown(table)


def test_what_is_undefined_says_so_and_is_never_averaged():
    runs = [scored("koniq", GOOD), scored("spaq", [3.0] * 40), scored("livec", GOOD[:2])]
    [row] = table4.make(runs, average=("koniq", "spaq")).rows
    assert row["spaq SRCC"] == row["spaq PLCC"] == "undefined: predicted is constant"
    assert row["livec SRCC"] == "undefined: 2 pairs, it needs 3"
    assert row["average"] is None
    rows = table4.details(runs, rounds=20).rows
    assert rows[1]["SRCC low"] == rows[1]["PLCC high"] == "undefined: predicted is constant"
    assert isinstance(rows[1]["RMSE"], float), "constants have one"
    assert rows[1]["RMSE fitted"] == "undefined: predicted is constant"
    assert table4.make([scored("koniq", [None] * 4)]).rows[0]["koniq SRCC"] == "undefined: 0 pairs, it needs 3"


def test_a_run_that_is_not_whole_is_marked_and_not_averaged():
    runs = [scored("koniq", GOOD, total=100), scored("spaq", GOOD)]
    [row] = table4.make(runs, average=("koniq", "spaq")).rows
    assert (row["partial"], row["average"]) == ("koniq: 40 of 100", None)
    assert row["koniq SRCC"] == correlate(GOOD, MOS).srcc
    assert [one["partial"] for one in table4.details(runs, rounds=20).rows] == ["koniq: 40 of 100", ""]


def test_half_a_set_is_marked(monkeypatch):
    """Everything that is there was scored, and still it is not what was published."""
    monkeypatch.setattr(shared, "SETS", SETS)
    assert table4.make([scored("koniq", GOOD)]).rows[0]["partial"] == "koniq: 40 of the published 10073"
    assert table4.make([scored("mine", GOOD)]).rows[0]["partial"] == ""
    assert table5.make([answered("yyn")]).rows[1]["partial"] == "llvisionqa-dev: 3 of the published 1495"


def test_rows_of_the_paper_stand_above():
    """Columns as in `benchmarks/paper/table4.csv`; numbers of the paper's Table IV, trained on KonIQ and before SFT."""
    nima = {"training": "KonIQ", "sft": "after", "method": "NIMA", "venue": "TIP 2018", "koniq_srcc": 0.859}
    mini = {"training": "SPAQ+KonIQ", "sft": "before", "method": "Q-SiT-mini", "koniq_srcc": 0.728, "spaq_plcc": None}
    paper = [{**nima, "koniq_plcc": 0.896, "spaq_srcc": 0.856, "spaq_plcc": 0.838, "avg": 0.747}, mini]
    table = table4.make([scored("koniq-test", GOOD)], paper=paper, paper_sets={"koniq": "koniq-test"})
    first, second, ours = table.rows
    assert (first["source"], first["koniq-test PLCC"], first["average"], first["dtype"]) == (
        "paper",
        0.896,
        0.747,
        None,
    )
    assert (first["training"], second["training"], ours["training"]) == ("KonIQ", "before fine-tuning", None)
    assert (second["model"], second["koniq-test SRCC"], second["spaq PLCC"]) == ("Q-SiT-mini", 0.728, None)
    assert (ours["spaq SRCC"], ours["koniq-test SRCC"]) == (None, correlate(GOOD, MOS).srcc)
    with pytest.raises(EvaluationError, match="expected the paper's rows, each with the name of its model"):
        table4.make([scored("koniq", GOOD)], paper=[{"koniq_srcc": 0.9}])


def test_the_part_that_the_paper_tests_on_stands_beside_its_numbers():
    row = {"method": "Q-SiT", "training": "KonIQ", "sft": "after", "koniq_srcc": 0.9, "spaq_srcc": 0.8, "avg": 0.7}
    names = ["koniq", "koniq-test", "koniq-qalign", "spaq", "livec", "agiqa", "kadid", "kadid-test"]
    runs = [scored(name, GOOD) for name in names]
    table = table4.make(runs, paper=[row])
    assert (table.rows[0]["koniq-qalign SRCC"], table.rows[0]["spaq SRCC"]) == (0.9, 0.8)
    assert table.rows[0]["koniq SRCC"] is None
    assert table.rows[1]["average"] == pytest.approx((correlate(GOOD, MOS).srcc + correlate(GOOD, MOS).plcc) / 2)
    assert "over koniq-qalign, spaq, livec, agiqa, kadid." in table.notes[1]
    assert [note for note in table.notes if "whole set" in note] == [
        "spaq is the whole set. The paper's models learnt from most of it and are tested on the rest: run spaq-qalign "
        "to compare."
    ]
    assert table4.make(runs[3:], paper=[row]).rows[0]["koniq SRCC"] == 0.9, "not measured, so under the paper's name"
    drawn = [scored("koniq", [-one for one in GOOD]), scored("koniq-test", GOOD)]
    assert fig5.rows(drawn, [])[0]["koniq"] > 0.9


def test_runs_that_do_not_fit_in_a_table():
    with pytest.raises(EvaluationError, match="expected at least one run of scores"):
        table4.make([answered("y")])
    with pytest.raises(EvaluationError, match="both m on koniq>, expected one run of a model on a set"):
        table4.make([scored("koniq", GOOD), scored("koniq", MOS)])
    assert len(table4.make([scored("koniq", GOOD), scored("koniq", MOS, dtype="bfloat16")]).rows) == 2


def test_from_a_folder_to_a_table(tmp_path):
    manifest = Manifest("mine", [Item(f"{place}.png", mos, str(place)) for place, mos in enumerate(MOS)], "images")

    def bright(path: str) -> float:
        return GOOD[int(Path(path).stem)]

    for rank in (0, 1):
        score_run(bright, manifest, tmp_path / "bright" / "mine", process=Process(rank, 2))
    table = table4.make([Results.read(tmp_path / "bright" / "mine")])
    [row] = table.rows
    assert (row["mine SRCC"], row["partial"], row["dtype"]) == (correlate(GOOD, MOS).srcc, "", None)
    assert table.made == {"manifests": {"mine": manifest.sha256}}


# ---- table V


def test_accuracies_of_each_group_and_their_counts():
    right = "yynwnyfyyynn"
    run = answered(right)
    table = table5.make([run])
    guess, row = table.rows
    judged = {place: letter == "y" for place, letter in enumerate(right) if letter in "yn"}
    assert (row["overall"], row["N"]) == (pytest.approx(100 * 6 / 10), 10)
    assert (row["withheld"], row["failed"], row["rule"]) == (1, 1, "strict")
    for names, step in ((TYPES, 3), (CONCERNS, 4)):
        for index, name in enumerate(names):
            own = [value for place, value in judged.items() if place % step == index]
            assert row[name] == pytest.approx(100 * sum(own) / len(own)), name
    assert (row["low"], row["high"]) == (pytest.approx(31.27, abs=0.01), pytest.approx(83.18, abs=0.01))
    assert guess["yes-no"] == 50
    assert guess["what"] == pytest.approx(100 / 3)
    assert guess["overall"] == pytest.approx(100 * (1 / 2 + 1 / 3 + 1 / 4) / 3)
    assert (guess["source"], guess["N"]) == ("computed", 12)
    details = {one["group"]: one for one in table5.details([run]).rows}
    assert (details["how"]["right"], details["how"]["N"], details["how"]["accuracy"]) == (2, 4, row["how"])
    assert details["how"]["low"] < row["how"] < details["how"]["high"]
    assert sum(details[name]["N"] for name in TYPES) == sum(details[name]["N"] for name in CONCERNS) == 10


def test_withheld_answers_have_no_accuracy():
    _, row = table5.make([answered("www")]).rows
    assert (row["overall"], row["yes-no"], row["low"], row["N"], row["withheld"]) == (None, None, None, 0, 3)


def test_rows_of_two_models_one_guess_and_the_paper():
    runs = [answered("yn", total=3), answered("yny", model="other"), answered("yy", name="llvisionqa-test")]
    table = table5.make(runs, paper=[{"model": "Q-SiT", "yes_no": 79.63, "overall": 75.65, "group": "around 7B"}])
    assert [(row["model"], row["set"]) for row in table.rows] == [
        ("Q-SiT", "llvisionqa-test"), ("random guess", "llvisionqa-dev"), ("random guess", "llvisionqa-test"),
        ("m", "llvisionqa-dev"), ("other", "llvisionqa-dev"), ("m", "llvisionqa-test"),
    ]  # fmt: skip
    assert [row["partial"] for row in table.rows] == [None, "", "", "llvisionqa-dev: 2 of 3", "", ""]
    assert table.rows[1]["N"] == 3, "of the runs on one list the fullest is counted"
    assert (table.rows[0]["yes-no"], table.rows[0]["how"], table.rows[0]["source"]) == (79.63, None, "paper")
    assert "| 75.65 |" in markdown(table)
