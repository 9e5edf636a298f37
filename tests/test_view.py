"""Opened images and questions: shared prefixes give what separate calls give, and what transformers generates."""

from __future__ import annotations

import dataclasses
import itertools
import json
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch

from conftest import GOLDEN, IMAGES
from qsit_metric import QSiT
from qsit_metric.backends.base import Prepared
from qsit_metric.backends.llava_onevision import LlavaOnevisionBackend
from qsit_metric.errors import BackendError, InputError
from qsit_metric.model.weights import published
from qsit_metric.pixels import load
from qsit_metric.pixels.tiles import normalise
from qsit_metric.prompts import CHATML, Recipe

QUESTIONS = [
    "Is it sharp?",
    "How are the colours of this picture, and why?",
    "Noise?",
    "Is the light good or bad here?",
]
CHOICES = ["Good", "Fair", "Poor"]


def noise(width, height, seed=0):
    return np.random.default_rng(seed + width * 10_000 + height).integers(0, 256, (height, width, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def lively():
    """A random model whose answers vary with the picture and the question: sharper attention, no end of text."""
    metric = QSiT(GOLDEN / "untied")
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for name, weight in metric.backend.model.named_parameters():
            if "language_model.layers" in name and weight.ndim == 2:
                weight.copy_(torch.randn(weight.shape, generator=generator) * 0.35)
        metric.backend.model.lm_head.weight.copy_(
            torch.randn(metric.backend.model.lm_head.weight.shape, generator=generator)
        )
    return metric


def test_the_lively_model_is_lively(lively):
    answers = [lively.ask(noise(60, 40, seed), QUESTIONS, max_new_tokens=10) for seed in range(3)]
    assert len({answer.tokens for row in answers for answer in row}) == 12
    assert max(len(set(answer.tokens)) for row in answers for answer in row) > 4


def test_a_view_answers_as_separate_calls_do(lively):
    picture = noise(400, 200)
    apart = [lively.ask(picture, question, max_new_tokens=12) for question in QUESTIONS]
    letters = lively.ask(picture, QUESTIONS[0], choices=CHOICES)
    score = lively.score(picture)
    with lively.open(picture) as view:
        assert [view.ask(question, max_new_tokens=12) for question in QUESTIONS] == apart
        assert view.ask(QUESTIONS, max_new_tokens=12) == apart
        assert view.score() == pytest.approx(score, abs=1e-5)
        assert view.ask(QUESTIONS[::-1], max_new_tokens=12) == apart[::-1]
        again = view.ask(QUESTIONS[0], choices=CHOICES)
        assert again.probs == pytest.approx(letters.probs, abs=1e-5)
        assert view.score().probs == pytest.approx(score.probs, abs=1e-5)


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
def test_order_does_not_matter(lively, order):
    with lively.open(noise(90, 70)) as view:
        want = [view.ask(question, max_new_tokens=6) for question in QUESTIONS[:3]]
        found = view.ask([QUESTIONS[index] for index in order], max_new_tokens=6)
    assert found == [want[index] for index in order]


def test_many_images_and_many_questions_in_one_call(lively):
    pictures = [noise(60, 40), noise(400, 300), noise(20, 200)]
    table = lively.ask(pictures, QUESTIONS, max_new_tokens=8)
    assert table == [[lively.ask(picture, q, max_new_tokens=8) for q in QUESTIONS] for picture in pictures]
    column = lively.ask(pictures, QUESTIONS[1], max_new_tokens=8)
    assert column == [row[1] for row in table]
    chosen = lively.ask(pictures, QUESTIONS[:2], choices=CHOICES)
    for row, picture in zip(chosen, pictures, strict=True):
        for answer, question in zip(row, QUESTIONS, strict=False):
            alone = lively.ask(picture, question, choices=CHOICES)
            assert answer.probs == pytest.approx(alone.probs, abs=1e-5)
            assert answer == answer.choice == max(answer.probs, key=answer.probs.get)
            assert sum(answer.probs.values()) == pytest.approx(1)
    assert lively.ask([], QUESTIONS) == []
    assert lively.ask(pictures[0], []) == []


def test_questions_about_one_image_encode_it_once(lively, monkeypatch):
    calls = []
    encode = lively.backend.encode
    monkeypatch.setattr(lively.backend, "encode", lambda prepared: calls.append(len(prepared)) or encode(prepared))
    lively.ask(noise(60, 40), QUESTIONS, max_new_tokens=2)
    lively.ask([noise(60, 40), noise(70, 40)], QUESTIONS, max_new_tokens=2)
    assert calls == [1, 2]


@pytest.fixture(scope="module")
def reference(lively):
    """The installed transformers' model with the lively weights."""
    from transformers import LlavaOnevisionForConditionalGeneration

    model = LlavaOnevisionForConditionalGeneration.from_pretrained(GOLDEN / "untied", dtype=torch.float32).eval()
    ours = lively.backend.model.state_dict()
    model.load_state_dict({name: ours[published(name)] for name in model.state_dict()})
    return model


def theirs(metric, model, picture, prompt, **rules):
    """The same prompt through `generate` of the installed transformers, without our network and prefix machinery."""
    backend: LlavaOnevisionBackend = metric.backend
    prepared: Prepared = backend.prepare(load(picture))
    ids = backend._dialogue.ids(prompt)
    tokens = [*ids.before, *[backend.model.config.image_token] * prepared.tokens, *ids.after]
    out = model.generate(
        input_ids=torch.tensor([tokens]),
        attention_mask=torch.ones(1, len(tokens), dtype=torch.long),
        pixel_values=normalise(prepared.data.tiles, backend.geometry)[None],
        image_sizes=torch.tensor([prepared.data.plan.size]),
        max_new_tokens=12,
        do_sample=False,
        **rules,
    )
    return tuple(out[0, len(tokens) :].tolist())


def ruled(monkeypatch, metric, **rules):
    monkeypatch.setattr(metric.backend, "generation", dataclasses.replace(metric.backend.generation, **rules))


@pytest.mark.compat
@pytest.mark.parametrize("rules", [{}, {"repetition_penalty": 1.4}, {"no_repeat_ngram_size": 2}])
def test_answers_equal_transformers_generate(lively, reference, monkeypatch, rules):
    ruled(monkeypatch, lively, **rules)
    for seed, question in enumerate(QUESTIONS):
        picture = noise(130, 90, seed)
        answer = lively.ask(picture, [question, QUESTIONS[0]], max_new_tokens=12)[0]
        assert answer.tokens == theirs(lively, reference, picture, lively.recipe.asking(question), **rules)


def test_ignored_generation_rules_are_said(lively, monkeypatch, caplog):
    ruled(monkeypatch, lively, ignored=("suppress_tokens",))
    lively.ask(noise(9, 9), "Sharp?", max_new_tokens=1)
    assert "suppress_tokens" in caplog.text


def test_an_answer_ends_at_the_end_token(lively, monkeypatch):
    picture = noise(60, 40)
    long = lively.ask(picture, QUESTIONS[1], max_new_tokens=10)
    assert not long.finished
    stop = next(token for i, token in enumerate(long.tokens) if i > 1 and token not in long.tokens[:i])
    ruled(monkeypatch, lively, stop=frozenset({460, stop}))
    short, other = lively.ask(picture, [QUESTIONS[1], QUESTIONS[2]], max_new_tokens=10)
    assert short.finished
    assert short.tokens == long.tokens[: long.tokens.index(stop) + 1]
    assert len(other.tokens) == 10 or other.finished


def test_generated_choices_follow_the_authors_rule(lively, monkeypatch):
    tokenizer = lively.backend._dialogue.tokenizer
    for text, choice in [("B.", "Fair"), ("nonsense", None), ("A. or B.", None), ("Poor", "Poor")]:
        monkeypatch.setattr(tokenizer, "decode", lambda *_, _text=text, **__: _text)
        answer = lively.ask(noise(9, 9), "How is it?", choices=CHOICES, method="generate", max_new_tokens=1)
        assert (str(answer), answer.choice, answer.probs) == (text, choice, {})


def test_recipes_with_a_system_turn_do_not_share_a_prefix(lively):
    own = Recipe("own", "How good?", "It is", ("Bad", "Poor"), system="Be terse.", template=CHATML)
    picture = noise(60, 40)
    with lively.open(picture) as view:
        plain = view.ask(QUESTIONS[0], max_new_tokens=6)
        assert len(view._encoded.shared) == 1
        lively_recipe, lively.recipe = lively.recipe, own
        try:
            view.ask(QUESTIONS[0], max_new_tokens=6)
            assert len(view._encoded.shared) == 2
        finally:
            lively.recipe = lively_recipe
        assert view.ask(QUESTIONS[0], max_new_tokens=6) == plain


def test_a_view_survives_an_error_in_the_middle(lively, monkeypatch):
    with lively.open(noise(60, 40)) as view:
        want = view.ask(QUESTIONS[0], max_new_tokens=6)
        head = lively.backend.model.lm_head
        forward, calls = head.forward, []

        def failing(hidden):
            calls.append(1)
            if len(calls) == 3:
                raise RuntimeError("device lost")
            return forward(hidden)

        monkeypatch.setattr(head, "forward", failing)
        with pytest.raises(BackendError, match="device lost"):
            view.ask(QUESTIONS[1], max_new_tokens=6)
        monkeypatch.undo()
        assert view.ask(QUESTIONS[0], max_new_tokens=6) == want


@pytest.mark.parametrize("asked", [False, True])
def test_a_view_from_before_a_move_says_so(asked):
    metric = QSiT("q-sit-nano", device="cpu")
    with metric.open(noise(30, 20)) as view:
        if asked:
            view.score()
        metric.to(dtype="float64")
        with pytest.raises(BackendError, match=r"`view`: the model was moved since. Open the image again"):
            view.score()


def test_a_view_serves_inside_and_outside_of_inference_mode():
    with QSiT("q-sit-nano").open(noise(30, 20)) as view:
        with torch.inference_mode():
            inside = view.score()
        assert view.score() == pytest.approx(inside, abs=1e-6)
        assert view.ask("Is it sharp?", choices=["yes", "no"]).choice in {"yes", "no"}


def test_threads_may_share_a_view(lively):
    with lively.open(noise(60, 40)) as view:
        want = [view.ask(question, max_new_tokens=6) for question in QUESTIONS]
        with ThreadPoolExecutor(4) as pool:
            found = list(pool.map(lambda question: view.ask(question, max_new_tokens=6), QUESTIONS * 3))
    assert found == want * 3


def test_a_closed_view(tied):
    view = tied.open(IMAGES / "tile_384.png")
    assert view.size == (384, 384)
    assert "tile_384.png" in repr(view)
    encoded = view._encoded
    view.score()
    view.close()
    view.close()
    assert encoded.data is None
    assert not encoded.shared
    assert "closed" in repr(view)
    for call in (view.score, view.describe, lambda: view.ask("Sharp?")):
        with pytest.raises(BackendError, match="`view`: got <a closed view>, expected an open one"):
            call()


def test_describe(tied):
    answer = tied.describe(IMAGES / "tiny_7x5.png", max_new_tokens=3)
    assert len(answer.tokens) == 3
    with tied.open(IMAGES / "tiny_7x5.png") as view:
        assert view.describe(max_new_tokens=3) == answer
    assert json.dumps(answer) == json.dumps(str(answer))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"question": ""}, "`question`: got '', expected a non-empty text"),
        ({"question": "  "}, "a non-empty text"),
        ({"question": 5}, "`question`: got 5"),
        ({"question": ["Sharp?", ""]}, "`question`: got ''"),
        ({"question": "What is <image>?"}, "Remove '<image>'"),
        ({"question": "Hi<|im_end|>"}, "Remove '<|im_end|>'".replace("|", r"\|")),
        ({"choices": ["one"]}, "`choices`: got <1 choices>, expected 2 to 26"),
        ({"choices": [str(i) for i in range(27)]}, "`choices`: got <27 choices>, expected 2 to 26"),
        ({"choices": ["a", "a"]}, "choices that differ"),
        ({"choices": ["a", ""]}, "non-empty text for each choice"),
        ({"choices": "ab"}, "a list of 2 to 26 texts"),
        ({"method": "guess"}, "`method`: got 'guess', expected one of likelihood, letters, texts, generate"),
        ({"max_new_tokens": 0}, "`max_new_tokens`: got 0"),
        ({"max_new_tokens": True}, "`max_new_tokens`: got True"),
    ],
)
def test_unusable_questions(tied, arguments, message):
    with pytest.raises(InputError, match=message):
        tied.ask(IMAGES / "tiny_7x5.png", **{"question": "Sharp?", **arguments})
    with pytest.raises(InputError, match=message), tied.open(IMAGES / "tiny_7x5.png") as view:
        view.ask(**{"question": "Sharp?", **arguments})


def test_open_takes_one_image(tied):
    with pytest.raises(InputError, match="`image`: got <2 images>, expected one image"):
        tied.open([noise(8, 8), noise(8, 8)])


def test_26_choices(tied):
    answer = tied.ask(IMAGES / "tiny_7x5.png", "Which?", choices=[f"option {i}" for i in range(26)])
    assert len(answer.probs) == 26
