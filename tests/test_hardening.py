"""Misuse that a first user found: each leaves as one clear error, or does what was meant."""

from __future__ import annotations

import gc
import shutil
import threading
import weakref
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

from conftest import GOLDEN, IMAGES
from qsit_metric import Budget, QSiT, Recipe
from qsit_metric.cli import app
from qsit_metric.errors import BackendError, CheckpointError, InputError, UnknownNameError
from qsit_metric.hub import fingerprint

TINY = IMAGES / "tiny_7x5.png"


@pytest.fixture
def overflowing():
    """A model whose numbers overflow, as half precision does."""
    metric = QSiT(GOLDEN / "untied")
    metric.backend.model.model.language_model.norm.weight.data.fill_(float("inf"))
    return metric


def test_numbers_that_are_not_finite_never_become_results(overflowing):
    calls = [
        lambda m: m.score(TINY), lambda m: m.ask(TINY, "Sharp?"), lambda m: m.ask(TINY, "Sharp?", choices=["a", "b"]),
        lambda m: m(torch.rand(1, 3, 9, 9)), lambda m: m.open(TINY).score(),
    ]  # fmt: skip
    for call in calls:
        with pytest.raises(BackendError, match="<logits that are not finite>"):
            call(overflowing)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"dtype": torch.int64}, "`dtype`: got torch.int64"),
        ({"dtype": "int8"}, "`dtype`: got 'int8'"),
        ({"device": "cuda:77"}, "`device`: got 'cuda:77'"),
        ({"device": "bogus"}, "`device`: got 'bogus'"),
    ],
)
def test_a_move_that_makes_no_sense(arguments, message):
    metric = QSiT(GOLDEN / "tied")
    before = metric.score(TINY)
    with pytest.raises(InputError, match=message):
        metric.to(**arguments)
    assert metric.score(TINY) == before


def test_a_move_takes_the_names_of_the_constructor():
    assert QSiT(GOLDEN / "tied").to("cpu", "bfloat16").dtype == torch.bfloat16


@pytest.mark.parametrize("recipe", [{"name": "x"}, 5, b"train"])
def test_a_recipe_that_is_none(recipe, tied):
    with pytest.raises(InputError, match="`recipe`"):
        QSiT(GOLDEN / "tied", recipe=recipe)
    with pytest.raises(InputError, match="`recipe`"):
        tied.recipe = recipe


def test_a_recipe_may_be_set_by_name():
    metric = QSiT(GOLDEN / "tied")
    with pytest.raises(UnknownNameError, match="Did you mean 'train'"):
        metric.recipe = "trian"
    assert metric.recipe.name == "authors"
    metric.recipe = "authors"


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"words": ("Bad", "bad ")}, "words that differ by more than case"),
        ({"words": ("Bad",)}, "two or more"),
        ({"words": "AB"}, "two or more"),
        ({"question": None}, "recipe.question"),
    ],
)
def test_recipes_are_checked_when_they_are_made(fields, message):
    with pytest.raises(InputError, match=message):
        Recipe(**{"name": "own", "question": "How?", "answer_prefix": "", "words": ["Bad", "Good"], **fields})
    assert Recipe("own", "How?", "", ["Bad", "Good"]).words == ("Bad", "Good")


@pytest.mark.parametrize("budget", [(4, 4000), None, 7])
def test_a_budget_that_is_none(budget):
    with pytest.raises(InputError, match="`budget`"):
        QSiT(GOLDEN / "tied").budget = budget
    with pytest.raises(InputError, match="`budget`"):
        Budget("a", 3)


@pytest.mark.parametrize("images", [TINY, str(TINY), Image.new("RGB", (3, 3)), None, np.zeros((3, 3, 3), np.uint8)])
def test_a_stream_wants_many(images, tied):
    with pytest.raises(InputError, match="(?s)`images`.*expected many images"):
        tied.score_iter(images)
    with pytest.raises(InputError, match="`errors`"):
        tied.score_iter([], errors="bogus")


def test_any_ordered_iterable_is_a_list(tied):
    want = tied.score(TINY)
    loader = torch.utils.data.DataLoader([torch.zeros(3, 5, 5, dtype=torch.uint8)] * 2, batch_size=1)
    assert tied.score({"a": TINY, "b": TINY}.values()) == pytest.approx([want, want], abs=1e-5)
    assert len(tied.score(loader)) == 2
    for unordered in ({TINY}, {"a": TINY}):
        with pytest.raises(InputError):
            tied.score(unordered)


def test_channels_of_a_batch(tied):
    for channels in (2, 4):
        with pytest.raises(InputError, match=r"`x`.*expected a tensor \(N, 3\|1, H, W\)"):
            tied(torch.rand(1, channels, 8, 8))


def test_text_that_is_no_text(tied):
    with pytest.raises(InputError, match="UTF-8"):
        tied.ask(TINY, "q\udcff?")
    with pytest.raises(InputError, match="UTF-8"):
        tied.ask(TINY, "Which?", choices=["a", "b\udcff"])
    with pytest.raises(UnknownNameError, match="`backend`: got 5"):
        QSiT(GOLDEN / "tied", backend=5)


def test_a_question_longer_than_the_context(tied):
    with pytest.raises(InputError, match="`question`: got <.* tokens with the image and the answer>, expected at most"):
        tied.ask(TINY, "word " * 40_000, max_new_tokens=1)


def test_many_questions_are_read_in_passes(tied, monkeypatch):
    widths = []
    model = tied.backend.model.model.language_model
    forward = model.forward
    monkeypatch.setattr(model, "forward", lambda x, *more: widths.append(len(x)) or forward(x, *more))
    questions = [f"Is it number {i}?" for i in range(100)]
    with tied.open(TINY) as view:
        answers = view.ask(questions, choices=["yes", "no"])
        first = view.ask(questions[7], choices=["yes", "no"])
    assert len(answers) == 100
    assert answers[7].probs == pytest.approx(first.probs, abs=1e-5)
    assert len(widths) > 3
    assert max(widths[1:]) <= 512


def test_a_returned_error_holds_no_tensors(tied, monkeypatch):
    kept = []
    encode = tied.backend.encode

    def remembered(prepared):
        encoded = encode(prepared)
        kept.extend(weakref.ref(image.data) for image in encoded)
        return encoded

    def failing(requests):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(tied.backend, "encode", remembered)
    monkeypatch.setattr(tied.backend, "logits", failing)
    errors = tied.score([TINY, TINY], errors="return")
    gc.collect()
    assert all(isinstance(error, BackendError) for error in errors)
    assert [reference() for reference in kept] == [None] * len(kept)


def test_threads_may_ask_different_things(tied):
    dialogue, failures = tied.backend._dialogue, []

    def ask(worker):
        try:
            for i in range(400):
                dialogue.ids(tied.recipe.asking(f"{worker} {i}?"))
        except Exception as error:
            failures.append(error)

    threads = [threading.Thread(target=ask, args=(worker,)) for worker in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []


@pytest.mark.parametrize(
    ("edits", "message"),
    [
        ({"preprocessor_config.json": {"rescale_factor": "x"}}, "rescale_factor"),
        ({"config.json": {"image_grid_pinpoints": [1]}}, "image_grid_pinpoints.*pairs"),
        ({"config.json": {"image_grid_pinpoints": 0}}, "image_grid_pinpoints.*pairs"),
        (
            {"config.json": lambda c: c["text_config"].update(num_attention_heads=0)},
            "weights that fit|a LLaVA-OneVision",
        ),
    ],
)
def test_configs_with_nonsense(variant, edits, message):
    with pytest.raises(CheckpointError, match=message):
        QSiT(variant(edits))


def test_dangling_links_are_named(variant):
    folder = variant()
    (folder / "added_tokens.json").unlink()
    (folder / "added_tokens.json").symlink_to("../gone")
    with pytest.raises(CheckpointError, match="added_tokens.json is a link to a file that is not there.*cp -rL"):
        QSiT(folder)


def test_a_fingerprint_is_of_the_checkpoint_only(variant):
    folder = variant()
    before = fingerprint(folder)
    (folder / "scores.json").write_text("[]")
    (folder / "x.json").mkdir()
    assert fingerprint(folder) == before


def test_a_wrong_dtype_is_found_before_the_model_is_looked_for():
    with pytest.raises(InputError, match="`dtype`: got 'flaot16'"):
        QSiT("q-sit", dtype="flaot16", local_files_only=True)


def test_resume_tells_folders_apart(tmp_path, monkeypatch):
    """The same relative path in two folders is two pictures; the same folder by another name is one model."""
    for name, source in (("A", TINY), ("B", IMAGES / "tile_384.png")):
        (tmp_path / name / "photos").mkdir(parents=True)
        shutil.copy(source, tmp_path / name / "photos" / "x.png")

    def score(folder, model):
        monkeypatch.chdir(tmp_path / folder)
        done = CliRunner().invoke(app, ["score", "photos", "-o", "../r.csv", "-m", model])
        assert done.exit_code == 0, done.output
        return done.output

    shutil.copytree(GOLDEN / "tied", tmp_path / "model")
    score("A", "../model")
    assert "1 added" in score("B", str(tmp_path / "model"))
    assert "0 added, 1 were there" in score("A", "../model")


def test_one_metric_serves_many_threads():
    """Scores, questions and one view, asked from several threads at once, are what one thread gets."""
    metric, names = QSiT("q-sit-nano", device="cpu"), ["square_512.png", "gray_256.png", "tiny_7x5.png"]
    pictures = [IMAGES / name for name in names]
    with metric.open(pictures[0]) as view, ThreadPoolExecutor(4) as pool:
        scores = [float(metric.score(picture)) for picture in pictures]
        answers = [metric.ask(picture, "Is it sharp?", max_new_tokens=4) for picture in pictures]
        seen = view.ask("Is it noisy?", max_new_tokens=4)
        work = [pool.submit(metric.score, picture) for picture in pictures * 4]
        asked = [pool.submit(metric.ask, picture, "Is it sharp?", max_new_tokens=4) for picture in pictures * 2]
        views = [pool.submit(view.ask, "Is it noisy?", max_new_tokens=4) for _ in range(4)]
        assert [float(one.result()) for one in work] == pytest.approx(scores * 4, abs=1e-5)
        assert [one.result() for one in asked] == answers * 2
        assert [one.result() for one in views] == [seen] * 4
