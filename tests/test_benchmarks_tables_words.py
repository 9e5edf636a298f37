"""Tables I, VI and VII from made runs whose numbers were counted by hand, beside the paper's rows."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # a program of the checkout, which nobody installs

from benchmarks.artefacts import table1, table6, table7
from benchmarks.artefacts.table1 import classify, has_adjective
from benchmarks.output import Table, markdown, save
from benchmarks.paper import printed
from benchmarks.runs import Results
from qsit_metric.evaluation import EvaluationError

MADE = {"model": "small-model", "revision": "abc", "dtype": "float32"}


def results(folder: Path, run: dict, rows: list[dict]) -> Results:
    folder.mkdir(parents=True)
    common = {"set": "livec", "n": len(rows), "sha256": "0", "exif": False, "made": MADE}
    (folder / "run.json").write_text(json.dumps({**common, **run}))
    lines = [
        {"id": f"{place}.jpg", "place": place, "error": "", "seconds": 0.0, "waited": None, **row}
        for place, row in enumerate(rows)
    ]
    (folder / "part-00000.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return Results.read(folder)


def one(table: Table, **wanted) -> dict:
    [row] = [dict(row) for row in table.rows if wanted.items() <= row.items()]
    return row


QUALITATIVE = (
    "good",
    "The quality of the image is excellent.",
    "It is a high-quality photo.",
    "On a scale of 1 to 10, I would say that it is poor.",
    "The quality of the image is good, with 2 people as the subject.",
    "The quality is fair. 1. The sky is noisy. 2. The tower is sharp.",
    "I would rate it as a good one.",
    "The image quality is decent, since it was taken at 1080p and 24 fps.",
    "Using a 1-5 scale, it would be average",
    "It was shot at 4000 x 3000 and is sharp.",
    "The quality of image 3 is low.",
    "The quality is poor for 3 reasons.",
    "The quality of a 2-megapixel photo is low.",
    "About 4/5 of the image is dark.",
)
NUMERICAL = (
    "7",
    "8.5",
    "3 stars",
    "90%",
    "I would rate the quality of the image a 7 out of 10.",
    "8/10",
    "The quality of the image is good: 4/5.",
    "I'd give it a seven.",
    "Eight out of ten, a sharp and vivid picture",
    "Score: 85",
    "**Rating:** 3.5",
    "On a scale of 1 to 10, I would rate the image as a 6, as it is blurry.",
    "The quality of the image is 4 on a scale from 1 to 5.",
    "I would give this image a score of 9",
    "I would rate it 7 because of the noise.",
    "The rating is around 75%.",
    "I would give it a 4-star rating.",
)
NEITHER = (
    "",
    "A red car in front of a house.",
    "There are 3 people and 2 dogs.",
    "I cannot see images.",
    "1. A car 2. A house",
)


@pytest.mark.parametrize(
    ("replies", "kind"), [(QUALITATIVE, "qualitative"), (NUMERICAL, "numerical"), (NEITHER, "neither")]
)
def test_replies_are_told_apart(replies, kind):
    assert {reply: classify(reply) for reply in replies} == dict.fromkeys(replies, kind)


def test_adjectives_are_words_of_their_own():
    assert has_adjective("High-resolution")
    assert has_adjective("a Good picture")
    assert not has_adjective("the highway, the goods, a bookbinder")


def answers(folder: Path, prompt: str = table1.RATE, **made) -> Results:
    rows = [{"reply": text, "finished": True} for text in ("good", "It is fair.", "7/10, sharp", "A red | car.")]
    rows[1]["finished"] = False
    rows.append({"reply": None, "finished": None, "error": "ImageError: broken"})
    run = {"kind": "descriptions", "prompt": prompt, "max_new_tokens": 200, "made": {**MADE, **made}}
    return results(folder, run, rows)


def test_table1_counts_every_reply_and_names_what_is_strange(tmp_path):
    table = table1.make([answers(tmp_path / "a"), answers(tmp_path / "b", "Describe.")], paper=printed("table1"))
    row = one(table, model="small-model")
    assert {name: row[name] for name in ("qualitative", "numerical", "neither", "both", "images", "cut", "failed")} == {
        "qualitative": 2, "numerical": 1, "neither": 1, "both": 1, "images": 4, "cut": 1, "failed": 1,
    }  # fmt: skip
    assert (row["qualitative_percent"], row["numerical_percent"]) == (50, 25)
    assert row["partial"] == "livec: 5 of the published 1169"
    paper = one(table, model="InternVL2.5")
    assert (paper["source"], paper["qualitative"], paper["numerical"], paper["neither"]) == ("paper", 1157, 11, None)
    assert len(table.rows) == 6
    notes = "\n".join(table.notes)
    assert "1 of neither kind, such as 3.jpg 'A red | car.'" in notes
    assert "4.jpg (ImageError: broken)" in notes
    assert [path.name for path in save(table, tmp_path / "out")] == ["table1.csv", "table1.json", "table1.md"]


def test_table1_of_an_unfinished_run_and_of_none(tmp_path):
    whole = answers(tmp_path / "a")
    part = whole.folder / "part-00000.jsonl"
    part.write_text(part.read_text().splitlines()[0] + "\n")
    assert one(table1.make([Results.read(whole.folder)]))["partial"] == "livec: 1 of 5"
    part.write_text("")
    assert one(table1.make([Results.read(whole.folder)]))["qualitative_percent"] is None
    with pytest.raises(EvaluationError, match="at least one run of descriptions that asks 'How would you rate"):
        table1.make([answers(tmp_path / "b", "Describe.")])
    with pytest.raises(EvaluationError, match="one run of a model on a set"):
        table1.make([whole, answers(tmp_path / "c")])


RATED = {"completeness": (0, 1, 1, 2), "precision": (2, 2, 2, 0), "relevance": (2, 2, 1)}


def judged(folder: Path, judge: str = "m", rated=RATED) -> Results:
    rows = [
        {"id": f"{name}{n}", "dimension": name, "reply": f"Score: {value}", "rating": value}
        for name, values in rated.items()
        for n, value in enumerate(values)
    ]
    rows.append({"dimension": "relevance", "reply": "Fine.", "rating": None, "error": "no rating in the reply 'Fine.'"})
    rows.append({"dimension": "precision", "reply": None, "rating": None, "error": "no text"})
    run = {
        "kind": "judgements", "set": "lldescribe", "judge": {"model": judge, "temperature": 0}, "rounds": 2,
        "prompts": "1", "images": 2, "descriptions_failed": 1,
    }  # fmt: skip
    return results(folder, run, rows)


def test_table6_scores_are_p1_plus_twice_p2(tmp_path):
    table = table6.make([judged(tmp_path / "a"), judged(tmp_path / "b", "n")], paper=printed("table6"))
    row = one(table, model="small-model", judge="m")
    assert [row[f"completeness_{name}"] for name in ("p0", "p1", "p2", "score")] == [25, 50, 25, 1.0]
    assert [row[f"precision_{name}"] for name in ("p0", "p1", "p2", "score")] == [25, 0, 75, 1.5]
    assert row["relevance_score"] == pytest.approx(5 / 3)
    assert row["sum"] == pytest.approx(1 + 1.5 + 5 / 3)
    assert (row["ratings"], row["unparsed"], row["failed"], row["descriptions_failed"]) == (11, 1, 1, 1)
    paper = one(table, model="Q-SiT")
    assert (paper["sum"], paper["completeness_p2"], paper["language_model"]) == (4.15, 29.21, "QwenLM2-7B")
    assert len(table.rows) == 2 + len(printed("table6"))
    assert "11 (no rating in the reply 'Fine.')" in markdown(table).replace(".jpg", "")


def test_table6_without_ratings_of_a_dimension_has_no_sum(tmp_path):
    row = one(table6.make([judged(tmp_path / "a", rated={**RATED, "precision": ()})]))
    assert (row["precision_p0"], row["precision_score"], row["sum"]) == (None, None, None)
    assert row["completeness_score"] == 1.0


def test_table6_refuses_what_does_not_belong(tmp_path):
    with pytest.raises(EvaluationError, match="one run of a judge"):
        table6.make([judged(tmp_path / "a"), judged(tmp_path / "b")])
    with pytest.raises(EvaluationError, match="at least one run of judgements"):
        table6.make([answers(tmp_path / "c")])


def test_the_paper_s_scores_follow_the_same_rule_where_it_is_consistent():
    row = next(row for row in printed("table6") if row["model"] == "LLaMA-Adapter-V2")
    for name in ("completeness", "precision", "relevance"):
        assert row[f"{name}_score"] == pytest.approx((row[f"{name}_p1"] + 2 * row[f"{name}_p2"]) / 100, abs=0.0051)


def ablation(names=tuple(table7.TRIALS)):
    return [
        {"name": name, "srcc": 0.5, "plcc": 0.7 + n / 100, "accuracy": 0.4, "seconds": 60.0}
        for n, name in enumerate(names)
    ]


def test_table7_names_are_those_that_training_gives():
    from train.mixture import Sizes
    from train.nano.trials import trials

    assert [one.title for one in trials(Sizes(1, 1, 1), Sizes(1, 1, 1), 9, 1.0)] == list(table7.TRIALS)


def test_table7_stands_beside_the_paper_row_by_row(tmp_path):
    path = tmp_path / "ablation.json"
    path.write_text(json.dumps({"rows": ablation()}))
    table = table7.make(table7.read(path), paper=printed("table7"), made={"model": "q-sit-nano"})
    theirs = [(row["scoring"], row["interpreting"]) for row in printed("table7")]
    assert [(row["scoring (paper)"], row["interpreting (paper)"]) for row in table.rows] == theirs
    assert [row["scoring"] for row in table.rows] == pytest.approx([0.6 + n / 200 for n in range(6)])
    assert one(table, run="without D2")["interpreting (paper)"] == 0.721
    save(table, tmp_path / "out")


def test_table7_keeps_runs_of_its_own_and_rows_of_the_paper_alone():
    rows = [{**ablation(["with a larger D2"])[0], "srcc": None}]
    table = table7.make(rows, paper=printed("table7"))
    ours = one(table, run="with a larger D2")
    assert (ours["scoring"], ours["scoring (paper)"], ours["interpreting"]) == (None, None, 0.4)
    assert len(table.rows) == 7
    assert "Not among the paper's rows: with a larger D2" in table.notes


def test_table7_reads_what_training_writes(tmp_path):
    path = tmp_path / "ablations.json"
    metrics = {"accuracy": 0.5, "srcc/a": 0.25, "srcc/b": 0.75, "plcc/a": 0.5, "plcc/b": 0.5, "authors/srcc/a": -1.0}
    rows = [{"name": "without D1", "folder": "without-d1", "metrics": metrics, "seconds": 7.0}]
    path.write_text(json.dumps({"rows": rows}))
    assert table7.read(path) == [{"name": "without D1", "srcc": 0.5, "plcc": 0.5, "accuracy": 0.5, "seconds": 7.0}]
    metrics["srcc/b"] = None
    path.write_text(json.dumps({"rows": rows}))
    assert table7.read(path)[0]["srcc"] is None


@pytest.mark.parametrize("content", ["[]", "{", '{"rows": [{"name": "x"}]}', '{"rows": 3}'])
def test_table7_refuses_another_file(tmp_path, content):
    (tmp_path / "x.json").write_text(content)
    with pytest.raises(EvaluationError, match=r"`file`.*x\.json"):
        table7.read(tmp_path / "x.json")
    with pytest.raises(EvaluationError, match="each once"):
        table7.make(ablation(["a", "a"]))
