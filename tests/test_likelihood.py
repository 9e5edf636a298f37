"""Options compared as whole answers: equal to one plain forward pass for each, in batches, views and lists."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch

from qsit_metric import QSiT, Recipe
from qsit_metric.errors import BackendError, CheckpointError, InputError
from qsit_metric.model.reading import Whole
from qsit_metric.pixels import load

GOLDEN = Path(__file__).parent / "golden"
CAT, SQUARE = (GOLDEN / "images" / name for name in ("landscape_451x300.png", "square_512.png"))
QUESTION = "What distortion can be seen in this image?"
CHOICES = ["blur", "a lot of noise in the dark parts", "none"]


@pytest.fixture(scope="module")
def metric() -> QSiT:
    return QSiT(GOLDEN / "tied", device="cpu")


def _plain(metric: QSiT, path: Path, text: str) -> float:
    """The whole conversation in one forward pass, without a cache."""
    backend = metric.backend
    ids = backend._dialogue.ids(metric.recipe.asking(QUESTION))
    answer = backend._dialogue.answer(text)
    (image,) = backend.encode([backend.prepare(load(path))])
    embed = backend.model.get_input_embeddings()
    rows = [embed(torch.tensor(ids.before)), image.data, embed(torch.tensor((*ids.after, *answer)))]
    with torch.no_grad():
        text = torch.cat(rows)
        hidden = backend.model.model.language_model(text, Whole([len(text)], text.device, every=True))
        chances = backend.model.lm_head(hidden).float().log_softmax(dim=-1)
    start = len(hidden) - len(answer)
    return sum(float(chances[start + place - 1, token]) for place, token in enumerate(answer))


def test_whole_answers_have_the_probability_of_their_tokens(metric: QSiT) -> None:
    requests = [
        (image, metric.recipe.asking(QUESTION))
        for image in metric.backend.encode([metric.backend.prepare(load(path)) for path in (CAT, SQUARE)])
    ]
    found = metric.backend.likelihoods(requests, CHOICES)
    for row, path in zip(found, (CAT, SQUARE), strict=True):
        assert row.tolist() == pytest.approx([_plain(metric, path, text) for text in CHOICES], abs=2e-4)


def test_lists_views_and_single_questions_agree(metric: QSiT) -> None:
    one = metric.ask(CAT, QUESTION, choices=CHOICES, method="texts")
    assert one.choice == max(one.probs, key=one.probs.__getitem__)
    assert sum(one.probs.values()) == pytest.approx(1)
    many = metric.ask([SQUARE, CAT], [QUESTION, "Is it sharp?"], choices=CHOICES, method="texts")
    assert many[1][0].probs == pytest.approx(one.probs, abs=1e-5)
    with metric.open(CAT) as view:
        before = float(view.score())
        assert view.ask(QUESTION, choices=CHOICES, method="texts").probs == pytest.approx(one.probs, abs=1e-5)
        assert float(view.score()) == pytest.approx(before, abs=1e-6)  # the kept image is as it was


def test_a_recipe_says_how_its_checkpoint_is_asked(metric: QSiT, monkeypatch: pytest.MonkeyPatch) -> None:
    letters = metric.ask(CAT, QUESTION, choices=CHOICES)
    assert metric.ask(CAT, QUESTION, choices=CHOICES, method="letters").probs == letters.probs
    texts = metric.ask(CAT, QUESTION, choices=CHOICES, method="texts")
    monkeypatch.setattr(metric, "recipe", dataclasses.replace(metric.recipe, choices="texts"))
    assert metric.ask(CAT, QUESTION, choices=CHOICES).probs == texts.probs
    assert metric.ask(CAT, QUESTION, choices=CHOICES, method="letters").probs == letters.probs
    assert texts.probs != letters.probs


def test_the_recipe_of_a_folder_keeps_it(metric: QSiT, tmp_path: Path) -> None:
    dataclasses.replace(metric.recipe, choices="texts").save(tmp_path)
    found = Recipe.load(tmp_path)
    assert found is not None
    assert found.choices == "texts"
    with pytest.raises(InputError, match=r"`recipe\.choices`: got 'words', expected 'letters' or 'texts'"):
        dataclasses.replace(metric.recipe, choices="words")
    (tmp_path / "qsit_recipe.json").write_text(
        (tmp_path / "qsit_recipe.json").read_text().replace('"texts"', '"words"'), encoding="utf-8"
    )
    with pytest.raises(CheckpointError, match=r"recipe\.choices"):
        Recipe.load(tmp_path)


def test_what_cannot_be_asked(metric: QSiT) -> None:
    with pytest.raises(InputError, match="`question`: .*plain text without reserved tokens"):
        metric.ask(CAT, QUESTION, choices=["blur", "<|im_end|>"], method="texts")

    from qsit_metric.backends.base import Backend

    with pytest.raises(BackendError, match="`method`: got 'texts', expected a backend that compares whole answers"):
        Backend.likelihoods(metric.backend, [], ["a", "b"])
