"""Fig. 7 at toy size: what is counted without weights equals a real run, and rows follow from it. No speed is asserted."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # a program of the checkout, which nobody installs

from benchmarks.artefacts import fig7
from benchmarks.artefacts.fig7 import ANSWER, MEAN, ONE, SCORE, TWO, Clocked, Found, clock, shares
from benchmarks.cost import clock as clocks
from benchmarks.cost.counting import Counter, Counts, tflop
from benchmarks.cost.mixed import photo
from benchmarks.cost.models import SHAPES, Shape, _qwen2, build_backend, dialogue, shaped_config, stored_geometry
from benchmarks.output import save
from benchmarks.paper import printed
from qsit_metric import QSiT
from qsit_metric.evaluation import EvaluationError
from qsit_metric.model.config import Config
from qsit_metric.prompts import AUTHORS, DESCRIBE, TRAIN

SMALL = fig7.Task(300, 200, 3, 1)
OTHER = Shape(
    {"num_hidden_layers": 4},  # of the models, two and three layers are counted
    _qwen2(hidden=48, layers=5, heads=4, kv=2, inner=80, vocab=640, tied=False),
    std=0.2,
)


@pytest.fixture(autouse=True)
def one_thread():
    """Threads of a busy machine wait for each other far longer than a toy model computes."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def tiny():
    return QSiT(build_backend(SHAPES["tiny"], torch.float32, torch.device("cpu")))


@pytest.mark.compat
@pytest.mark.parametrize(
    ("shape", "size", "new_tokens", "recipe"),
    [(SHAPES["tiny"], (300, 200), 1, AUTHORS), (OTHER, (400, 700), 9, TRAIN)],
)
def test_counts_without_weights_equal_a_real_run(shape, size, new_tokens, recipe):
    config = Config.of(shaped_config(shape))
    counts = Counter(config, *dialogue(), stored_geometry(), recipe).count(*size, new_tokens)
    metric = QSiT(build_backend(shape, torch.float32, torch.device("cpu")), recipe=recipe)
    image = photo(*size)

    def both() -> None:
        with metric.open(image) as view:
            view.score()
            view.ask(DESCRIBE, max_new_tokens=new_tokens)

    assert counts.score == tflop(lambda: metric.score(image))
    assert counts.answer == tflop(lambda: metric.ask(image, DESCRIBE, max_new_tokens=new_tokens))
    assert counts.both == tflop(both)
    assert counts.parameters == sum(value.numel() for value in metric.backend.model.parameters())


def test_a_tower_that_is_read_before_its_end_is_not_counted():
    config = Config.of(shaped_config(SHAPES["tiny"]) | {"vision_feature_layer": -2})
    with pytest.raises(EvaluationError, match="vision_feature_layer -2: the costs of the last layer's states, -1, can"):
        Counter(config, *dialogue(), stored_geometry(), AUTHORS)


def test_more_tokens_and_a_larger_picture_cost_more():
    counter = Counter(Config.of(shaped_config(SHAPES["tiny"])), *dialogue(), stored_geometry(), AUTHORS)
    small, long, large = counter.count(300, 200, 1), counter.count(300, 200, 3), counter.count(900, 700, 1)
    assert long.answer > small.answer
    assert long.score == small.score < large.score
    assert small.both < small.score + small.answer
    assert large.tiles > small.tiles


COUNTS = Counts(parameters=100, tiles=2, tokens=50, score=1.0, answer=3.0, both=3.5)
CLOCKED = Clocked(
    {"score": [1.0, 4.0, 2.0], "answer": [6.0], "both": [7.0]}, {"score": 10.0, "answer": 30.0, "both": 31.0}, 5, 0.0
)


def rows(name: str = "a", **given) -> dict[str, dict]:
    fields = {"counts": COUNTS, "clocked": CLOCKED, "device": "cpu", **given}
    return {row["task"]: row for row in Found(name, "random", 100, 2**20 * 400, "float32", 5, **fields).rows()}


def test_rows_of_one_model():
    found = rows()
    assert list(found) == [SCORE, ANSWER, MEAN, ONE, TWO]
    assert [row["tflop"] for row in found.values()] == [1.0, 3.0, 2.0, 3.5, 4.0]
    assert [row["latency"] for row in found.values()] == [2.0, 6.0, 4.0, 7.0, 8.0]
    assert [row["memory_mib"] for row in found.values()] == [10.0, 30.0, 20.0, 31.0, 30.0 + 400.0]
    assert [row["parameters"] for row in found.values()] == [100] * 4 + [200]
    assert (found[SCORE]["latency_low"], found[SCORE]["latency_high"]) == (1.0, 4.0)
    assert (found[SCORE]["new_tokens"], found[ANSWER]["new_tokens"]) == (None, 5)
    assert {row["source"] for row in found.values()} == {"measured"}


def test_what_was_not_measured_or_counted_is_empty():
    found = rows(clocked=None, device=None)
    assert {row[name] for row in found.values() for name in ("latency", "memory_mib", "device", "others")} == {None}
    assert {row["source"] for row in found.values()} == {"counted"}
    assert {row["tflop"] for row in rows(counts=None).values()} == {None}
    silent = Clocked(CLOCKED.seconds, dict.fromkeys(CLOCKED.memory), 5, None)
    assert {row["memory_mib"] for row in rows(clocked=silent).values()} == {None}


def test_shares_are_of_the_same_task_of_the_reference():
    double = Counts(100, 2, 50, 2.0, 12.0, 7.0)
    found = shares([*rows("a").values(), *rows("b", counts=double, clocked=None).values()], "b")
    assert [row["flops_of_qsit"] for row in found[:3]] == [0.5, 0.25, 2 / 7]
    assert [row["flops_of_qsit"] for row in found[5:]] == [1.0] * 5
    assert {row["latency_of_qsit"] for row in found} == {None}
    assert {row["flops_of_qsit"] for row in shares(found, "nobody")} == {None}


def test_a_given_model_and_a_shape_stand_beside_the_paper(tiny, tmp_path):
    table = fig7.make(["tiny"], {"mine": tiny}, SMALL, measure=["mine"], reference="mine", paper=printed("fig7"))
    assert [(row["model"], row["source"], row["weights"]) for row in table.rows[:2]] == [
        ("Q-SiT-mini", "paper", None),
        ("Q-SiT", "paper", None),
    ]
    assert [table.rows[0][name] for name in ("latency_of_qsit", "vram_of_qsit", "flops_of_qsit")] == [0.49, 0.25, 0.08]
    counted, measured = table.rows[2:7], table.rows[7:]
    assert {(row["model"], row["weights"], row["source"]) for row in counted} == {("tiny", "random", "counted")}
    assert {(row["model"], row["weights"], row["source"]) for row in measured} == {("mine", "given", "measured")}
    assert [row["tflop"] for row in counted] == [row["tflop"] for row in measured]
    assert [row["flops_of_qsit"] for row in counted] == [1.0] * 5
    assert all(row["latency"] > 0 for row in measured)
    assert {row["latency"] for row in counted} == {None}
    assert (table.made["new_tokens"], table.made["width"]) == (3, 300)
    save(table, tmp_path)


def test_a_shape_is_measured_too_and_its_answers_have_every_token():
    [answer] = [row for row in fig7.make(["tiny"], task=SMALL, reference="tiny").rows if row["task"] == ANSWER]
    assert (answer["weights"], answer["source"], answer["new_tokens"], answer["device"]) == (
        "random", "measured", 3, "cpu",
    )  # fmt: skip
    assert answer["latency_of_qsit"] == 1.0


def test_the_clock_counts_rounds_and_memory(tiny, monkeypatch):
    found = clock(tiny, photo(64, 64), 2, 2)
    assert {task: len(times) for task, times in found.seconds.items()} == {"score": 2, "answer": 2, "both": 2}
    assert found.new_tokens == 2
    if sys.platform == "linux":
        assert all(value > 10 for value in found.memory.values() if value is not None)
    monkeypatch.setattr(clocks, "_CLEAR", Path("/no/such/file"))
    assert set(clock(tiny, photo(64, 64), 1, 1).memory.values()) == {None}


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"shapes": []}, "at least one model"),
        ({"shapes": ["tiny", "tiny"]}, "each name once"),
        ({"shapes": ["huge"]}, "shapes among tiny, mini, 7b"),
        ({"shapes": ["tiny"], "measure": ["mini"]}, "names among tiny"),
        ({"shapes": ["tiny"], "dtype": "int3"}, "`dtype`"),
    ],
)
def test_what_cannot_be_measured_is_refused_first(given, message):
    with pytest.raises(EvaluationError, match=message):
        fig7.make(**given)
    with pytest.raises(EvaluationError, match="`task`"):
        fig7.Task(new_tokens=0)
