"""The general backend: against transformers used by hand, against the fast path, and what it refuses."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from PIL import Image

from conftest import IMAGES
from qsit_metric import QSiT
from qsit_metric.backends.base import Encoded
from qsit_metric.backends.generic import TransformersBackend
from qsit_metric.errors import BackendError
from qsit_metric.images import load
from qsit_metric.prompts import AUTHORS, TRAIN, Recipe
from tiny_models import golden_processor, tiny_idefics, tiny_llava

MIXED = ["square_512.png", "tiny_7x5.png", "panorama_1600x200.jpg", "gray_256.png", "tower_120x900.jpg", "rgba_300.png"]
QUESTIONS = ["Is it sharp?", "What is the worst thing about the quality of this picture, and where is it?"]
WORDS = AUTHORS.words


@pytest.fixture(scope="module", params=[tiny_llava, tiny_idefics], ids=["llava", "idefics"])
def folder(request, tmp_path_factory) -> Path:
    return request.param(tmp_path_factory.mktemp("tiny") / request.param.__name__)


@pytest.fixture(scope="module")
def metric(folder) -> QSiT:
    return QSiT(folder, device="cpu", dtype="float32")


@pytest.fixture(scope="module")
def llava(tmp_path_factory) -> Path:
    return tiny_llava(tmp_path_factory.mktemp("llava") / "model")


@pytest.fixture(scope="module")
def parts(tmp_path_factory):
    """Model and processor of several tiles for one picture, to build backends from; put back what you change."""
    found = QSiT(tiny_idefics(tmp_path_factory.mktemp("parts") / "model"), device="cpu").backend
    return found.model, found.processor


def by_hand(backend, image, prompt):
    """Inputs of one prompt, written out as the documentation of transformers does."""
    turns = [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": prompt.question}]}]
    if prompt.system:
        turns.insert(0, {"role": "system", "content": [{"type": "text", "text": prompt.system}]})
    template = {"chat_template": prompt.template} if prompt.template else {}
    text = backend.processor.apply_chat_template(turns, add_generation_prompt=True, tokenize=False, **template)
    picture = Image.open(image).convert("RGB")
    return backend.processor(images=picture, text=text + prompt.answer_prefix, return_tensors="pt")


def level_logits(score):
    return list(score.logits.values())


def ask_both(backend, prompts, image="square_512.png", tokens=8):
    """The same prompts in one call and in several."""
    encoded = backend.encode([backend.prepare(load(IMAGES / image))])[0]
    alone = [backend.generate([(encoded, prompt)], tokens)[0] for prompt in prompts]
    return backend.generate([(encoded, prompt) for prompt in prompts], tokens), alone


@pytest.mark.parametrize("recipe", [AUTHORS, TRAIN], ids=["authors", "train"])
def test_level_logits_are_those_of_a_plain_forward(metric, folder, recipe):
    scored = QSiT(metric.backend, recipe=recipe).score([IMAGES / name for name in MIXED])
    tokenizer, model = metric.backend.processor.tokenizer, metric.backend.model
    ids = [tokenizer(word, add_special_tokens=False)["input_ids"][0] for word in recipe.words]
    for name, score in zip(MIXED, scored, strict=True):
        with torch.no_grad():
            logits = model(**by_hand(metric.backend, IMAGES / name, recipe.scoring())).logits[0, -1, ids]
        assert level_logits(score) == pytest.approx(logits.tolist(), abs=1e-4), name


def test_answers_are_those_of_generate(metric):
    answers = metric.ask([IMAGES / name for name in MIXED[:3]], QUESTIONS, max_new_tokens=8)
    for name, row in zip(MIXED, answers, strict=False):
        for question, answer in zip(QUESTIONS, row, strict=True):
            inputs = by_hand(metric.backend, IMAGES / name, AUTHORS.asking(question))
            whole = metric.backend.model.generate(**inputs, do_sample=False, max_new_tokens=8)
            written = whole[0, inputs["input_ids"].shape[1] :].tolist()
            assert list(answer.tokens) == written
            assert answer == metric.backend.processor.decode(written, skip_special_tokens=True).strip()
            assert not answer.finished


def test_a_batch_of_mixed_sizes_gives_each_picture_its_own_score(metric):
    alone = [metric.score(IMAGES / name) for name in MIXED]
    for order in (MIXED, MIXED[::-1]):
        together = metric.score([IMAGES / name for name in order])
        for name, score in zip(order, together, strict=True):
            assert level_logits(score) == pytest.approx(level_logits(alone[MIXED.index(name)]), abs=1e-4), name
    assert len({round(score, 2) for score in alone}) >= 4, "pictures that all score alike would prove nothing"


def test_several_tiles_are_batched_by_padding_on_the_left(parts, monkeypatch):
    backend = TransformersBackend(*parts)
    seen = []
    forward = backend.model.model.forward
    monkeypatch.setattr(backend.model.model, "forward", lambda *a, **k: seen.append(k) or forward(*a, **k))
    QSiT(backend).score([IMAGES / name for name in MIXED])
    (call,) = seen
    mask = call["attention_mask"]
    assert mask.shape[0] == len(MIXED)
    assert mask[:, -1].all()
    assert not mask[:, 0].all()
    assert backend.processor.tokenizer.padding_side == "right", "the caller's tokenizer is not changed"


def test_likelihood_and_generated_choices(metric):
    choices = ["noise", "blur", "darkness"]
    answer = metric.ask(IMAGES / "rgba_300.png", "Which is worst?", choices=choices)
    prompt = AUTHORS.asking("Which is worst?\nA. noise\nB. blur\nC. darkness\n")
    tokenizer = metric.backend.processor.tokenizer
    with torch.no_grad():
        last = metric.backend.model(**by_hand(metric.backend, IMAGES / "rgba_300.png", prompt)).logits[0, -1]
    probs = last[[tokenizer(letter)["input_ids"][0] for letter in "ABC"]].softmax(dim=0)
    assert list(answer.probs.values()) == pytest.approx(probs.tolist(), abs=1e-5)
    assert answer.choice == choices[probs.argmax()]
    written = metric.ask(IMAGES / "rgba_300.png", "Which?", choices=choices, method="generate", max_new_tokens=3)
    assert len(written.tokens) == 3


def test_a_view_answers_as_the_metric_does(metric):
    image = IMAGES / "square_512.png"
    with metric.open(image) as view:
        assert level_logits(view.score()) == pytest.approx(level_logits(metric.score(image)), abs=1e-5)
        assert view.ask(QUESTIONS, max_new_tokens=4) == metric.ask(image, QUESTIONS, max_new_tokens=4)
    with pytest.raises(BackendError, match="view"):
        view.score()
    prompt = AUTHORS.scoring()
    encoded = metric.backend.encode([metric.backend.prepare(load(image))])[0]
    encoded.close()
    with pytest.raises(BackendError, match="closed"):
        metric.backend.logits([(encoded, prompt)])


def test_it_is_chosen_by_the_family_or_by_name(folder, metric):
    named = QSiT(str(folder), backend="transformers", device="cpu", dtype="float32")
    assert isinstance(metric.backend, TransformersBackend)
    assert metric.info["backend"] == named.info["backend"] == "transformers"
    assert named.score(IMAGES / "gray_256.png") == metric.score(IMAGES / "gray_256.png")
    assert not any(weight.requires_grad for weight in named.backend.model.parameters())


def test_saved_and_loaded_again_it_scores_the_same(metric, tmp_path):
    recipe = Recipe("mine", "How is it?", "It is ", ("Bad", "Good"))
    metric.backend.model.save_pretrained(tmp_path)
    metric.backend.processor.save_pretrained(tmp_path)
    recipe.save(tmp_path)
    again = QSiT(tmp_path, device="cpu", dtype="float32")
    assert again.recipe == recipe
    picture = IMAGES / "gray_256.png"
    assert again.score(picture) == QSiT(metric.backend, recipe=recipe).score(picture)


def test_tensors_count_as_the_pictures_that_they_round_to(metric):
    picture = Image.open(IMAGES / "gray_256.png").convert("RGB")
    pixels = torch.frombuffer(bytearray(picture.tobytes()), dtype=torch.uint8).view(256, 256, 3).permute(2, 0, 1)
    x = (pixels.float() + 0.3) / 255 * 0.999
    expected = float(metric.score(picture))
    assert float(metric((pixels.float() / 255)[None])) == pytest.approx(expected, abs=1e-5)
    with torch.no_grad():
        moved = metric(x[None].requires_grad_())
    assert float(moved) == pytest.approx(float(metric.score(x.detach())), abs=1e-5)


def test_no_gradient_is_promised(metric):
    x = torch.rand(1, 3, 32, 32, requires_grad=True)
    assert not metric.backend.differentiable
    with pytest.raises(BackendError, match="no gradient with transformers"):
        metric(x)
    with pytest.raises(BackendError, match="no gradient"):
        metric.backend.prepare(load(x[0]))


def test_moving_to_another_type(llava):
    metric = QSiT(llava, device="cpu", dtype="float32")
    before = metric.score(IMAGES / "gray_256.png")
    assert metric.to(dtype=torch.bfloat16).dtype == torch.bfloat16
    assert metric.score(IMAGES / "gray_256.png") == pytest.approx(before, abs=0.1)
    metric.backend.model.hf_device_map = {"": "cpu"}
    with pytest.raises(BackendError, match="spread or quantised"):
        metric.to("cpu")


def test_the_fast_path_agrees_with_the_processor_of_transformers(tied):
    general = QSiT(TransformersBackend(tied.backend.model, golden_processor()))
    for name in ("square_512.png", "tile_384.png", "landscape_600x400.jpg"):
        fast, slow = tied.score(IMAGES / name), general.score(IMAGES / name)
        assert level_logits(slow) == pytest.approx(level_logits(fast), abs=1e-4), name
    question = {"question": QUESTIONS[0], "max_new_tokens": 6}
    picture = IMAGES / "tile_384.png"
    assert general.ask(picture, **question).tokens == tied.ask(picture, **question).tokens


class Stubborn:
    """A processor that makes no batches: it refuses to, or pads on the right whatever one says."""

    def __init__(self, processor, refuses):
        self._processor, self._refuses = processor, refuses

    def __getattr__(self, name):
        if name == "_get_num_multimodal_tokens":
            raise AttributeError(name)
        return getattr(self._processor, name)

    def __call__(self, text, images, **settings):
        if len(text) > 1 and self._refuses:
            raise ValueError("cannot stack")
        if min(images[0][0].size) < 6:
            raise LookupError("too small")
        return self._processor(text=text, images=images, **{**settings, "padding_side": "right"})


@pytest.mark.parametrize("refuses", [True, False], ids=["refuses", "pads-right"])
def test_a_processor_that_makes_no_batches_is_used_one_by_one(parts, refuses):
    model, processor = parts
    stubborn, plain = QSiT(TransformersBackend(model, Stubborn(processor, refuses))), QSiT(TransformersBackend(*parts))
    images = [IMAGES / name for name in MIXED if "7x5" not in name]
    assert [float(s) for s in stubborn.score(images)] == pytest.approx(
        [float(plain.score(i)) for i in images], abs=1e-4
    )
    assert stubborn.backend.prepare(load(images[0])).tokens == 1024
    with pytest.raises(BackendError, match="7x5.*too small"):
        stubborn.score(IMAGES / "tiny_7x5.png")


def test_the_cost_of_a_picture_is_about_its_tokens(parts):
    backend = TransformersBackend(*parts)
    for name in MIXED:
        ids = by_hand(backend, IMAGES / name, AUTHORS.scoring())["input_ids"]
        text = by_hand(backend, IMAGES / "tiny_7x5.png", AUTHORS.scoring())["input_ids"]
        tokens = {n: backend.prepare(load(IMAGES / n)).tokens for n in (name, "tiny_7x5.png")}
        assert tokens[name] - tokens["tiny_7x5.png"] == pytest.approx(ids.shape[1] - text.shape[1], abs=2), name


def test_many_questions_about_a_picture_are_cut_into_passes(parts, monkeypatch):
    backend = TransformersBackend(*parts)
    seen = []
    process = backend._process
    monkeypatch.setattr(backend, "_process", lambda texts, *a, **k: seen.append(len(texts)) or process(texts, *a, **k))
    image = Encoded(Image.new("RGB", (60, 60)), tokens=4000)
    prompts = [AUTHORS.asking(f"{question} {number}", ("A", "B")) for number in range(2) for question in QUESTIONS]
    rows = backend.logits([(image, prompt) for prompt in [*prompts, AUTHORS.scoring()]])
    assert seen == [2, 2, 1]
    assert [len(row) for row in rows] == [2, 2, 2, 2, 5]
    for prompt, row in zip(prompts, rows, strict=False):
        assert row.tolist() == pytest.approx(backend.logits([(image, prompt)])[0].tolist(), abs=1e-4)
