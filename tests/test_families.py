"""The families that the general backend reads in parts: against the published quick-run lines, in batches, opened."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from conftest import IMAGES
from qsit_metric import QSiT, QSiTLoss
from qsit_metric.backends import families
from qsit_metric.backends.generic import TransformersBackend
from qsit_metric.backends.processors import load_processor
from qsit_metric.catalog import find, list_models
from qsit_metric.errors import BackendError, CheckpointError, DependencyError, InputError
from qsit_metric.prompts import AESTHETICS, Q_INSIGHT, Q_REALIGN, RECIPES, VISUALQUALITY_R1, Recipe
from tiny_models import copied, tiny_internvl, tiny_qwen2_5_vl, tiny_qwen3_5, tiny_qwen3_vl

BUILT = {"qwen3_5": tiny_qwen3_5, "qwen2_5_vl": tiny_qwen2_5_vl, "qwen3_vl": tiny_qwen3_vl, "internvl": tiny_internvl}
QUESTIONS = ["Is it sharp?", "What is the worst thing about the quality of this picture, and where is it?", "Why?"]
SIZES = [(1, 1), (7, 5), (3, 40), (90, 3), (64, 64), (63, 65), (129, 77), (200, 31), (45, 260), (333, 251)]
MODES = ["RGB", "L", "P", "RGBA", "CMYK", "1", "LA"]


@pytest.fixture(scope="module", params=BUILT)
def folder(request, tmp_path_factory) -> Path:
    if request.param == "qwen3_5":
        pytest.importorskip("transformers", minversion="5.2")
    return BUILT[request.param](tmp_path_factory.mktemp("family") / request.param)


@pytest.fixture(scope="module")
def metric(folder) -> QSiT:
    return QSiT(folder, recipe="q-realign", device="cpu", dtype="float32")


@pytest.fixture(scope="module")
def qwen(tmp_path_factory) -> Path:
    return tiny_qwen2_5_vl(tmp_path_factory.mktemp("qwen") / "model")


@pytest.fixture(scope="module")
def pictures() -> list[Image.Image]:
    """Twenty pictures of odd sizes and modes, from noise to smooth."""
    made = []
    for number in range(20):
        (width, height), mode = SIZES[number % len(SIZES)], MODES[number % len(MODES)]
        rng = np.random.default_rng(number)
        small = rng.integers(0, 256, (max(height >> number % 3, 1), max(width >> number % 3, 1), 3), dtype=np.uint8)
        made.append(Image.fromarray(small).resize((width, height), Image.Resampling.BILINEAR).convert(mode))
    return made


def quick_run(backend, image, recipe) -> list[float]:
    """The published lines, with the checkpoint's own processor and model: the level logits, worst first."""
    turns = [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": recipe.question}]}]
    text = backend.processor.apply_chat_template(turns, add_generation_prompt=True) + recipe.answer_prefix
    inputs = backend.processor(text=[text], images=[image.convert("RGB")], return_tensors="pt")
    ids = [backend.processor.tokenizer(word, add_special_tokens=False).input_ids[0] for word in recipe.words]
    with torch.no_grad():
        return backend.model(**inputs).logits[0, -1, ids].tolist()


def logits_of(score):
    return list(score.logits.values())


@pytest.mark.parametrize("recipe", [Q_REALIGN, AESTHETICS], ids=lambda recipe: recipe.name)
def test_scores_are_those_of_the_published_lines(metric, pictures, recipe):
    scored = QSiT(metric.backend, recipe=recipe).score(pictures)
    weights = torch.tensor([0.0, 0.25, 0.5, 0.75, 1.0])
    for image, score in zip(pictures, scored, strict=True):
        theirs = torch.tensor(quick_run(metric.backend, image, recipe))
        assert logits_of(score) == pytest.approx(theirs.tolist(), abs=1e-4), (image.size, image.mode)
        assert score.unit == pytest.approx(float((theirs.softmax(-1) * weights).sum()), abs=1e-4)
    assert len({round(float(score), 3) for score in scored}) >= 10, "pictures that score alike would prove nothing"


def test_a_batch_of_mixed_sizes_gives_each_picture_its_own_score(metric, pictures):
    alone = [metric.score(image) for image in pictures]
    for some in (pictures, pictures[::-1]):
        for image, score in zip(some, metric.score(some), strict=True):
            own = alone[pictures.index(image)]
            assert float(score) == pytest.approx(float(own), abs=1e-5)
            assert logits_of(score) == pytest.approx(logits_of(own), abs=1e-4)


def test_a_batch_is_one_pass(metric, pictures, monkeypatch):
    seen = []
    forward = metric.backend.model.model.forward
    monkeypatch.setattr(metric.backend.model.model, "forward", lambda *a, **k: seen.append(k) or forward(*a, **k))
    metric.score(pictures[4:8])
    assert [call["input_ids"].shape[0] for call in seen] == [4]


def test_a_view_reads_its_picture_once(metric, monkeypatch):
    image = IMAGES / "landscape_600x400.jpg"
    backend, own = metric.backend, metric.recipe
    alone = [metric.ask(image, question, max_new_tokens=6) for question in QUESTIONS]
    score = metric.score(image)
    seen = []
    forward = backend.model.model.forward
    monkeypatch.setattr(backend.model.model, "forward", lambda *a, **k: seen.append(k) or forward(*a, **k))
    with metric.open(image) as view:
        answers = view.ask(QUESTIONS, max_new_tokens=6)
        again = view.score()
        assert sum("pixel_values" in call for call in seen) == 1
        assert logits_of(again) == pytest.approx(logits_of(score), abs=1e-4)
        assert view.score() == again, "a question leaves nothing behind"
        assert [answer.tokens for answer in answers] == [answer.tokens for answer in alone]
        assert view.ask(QUESTIONS[::-1], max_new_tokens=6)[::-1] == answers
        metric.recipe = dataclasses.replace(own, system="Look closely.")
        other = view.score()
        assert sum("pixel_values" in call for call in seen) == 2, "another text before the picture is another prefix"
    closed = view
    metric.recipe = own
    assert other != again
    with pytest.raises(BackendError, match="closed"):
        closed.score()


def test_answers_are_those_of_generate(metric):
    backend, image = metric.backend, IMAGES / "rgba_300.png"
    for question, answer in zip(QUESTIONS, metric.ask(image, QUESTIONS, max_new_tokens=7), strict=True):
        turns = [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": question}]}]
        text = backend.processor.apply_chat_template(turns, add_generation_prompt=True)
        inputs = backend.processor(text=[text], images=[Image.open(image).convert("RGB")], return_tensors="pt")
        whole = backend.model.generate(**inputs, do_sample=False, max_new_tokens=7)
        assert list(answer.tokens) == whole[0, inputs["input_ids"].shape[1] :].tolist()


def test_choices_by_letter_and_by_text(metric):
    image, choices = IMAGES / "gray_256.png", ["noise", "blur of a kind", "darkness"]
    for method in ("letters", "texts"):
        found = metric.ask([image, IMAGES / "tiny_7x5.png"], "Which is worst?", choices=choices, method=method)
        alone = metric.ask(image, "Which is worst?", choices=choices, method=method)
        assert (found[0].choice, sum(found[0].probs.values())) == (alone.choice, pytest.approx(1))
        assert list(found[0].probs.values()) == pytest.approx(list(alone.probs.values()), abs=1e-5)
    with metric.open(image) as view:
        assert view.ask("Which is worst?", choices=choices, method="texts").choice == found[0].choice


def test_the_gradient_is_that_of_the_same_score(metric):
    assert metric.backend.differentiable
    picture = Image.open(IMAGES / "landscape_451x300.png").convert("RGB").resize((75, 50))
    pixels = torch.from_numpy(np.array(picture)).permute(2, 0, 1).float() / 255
    x = pixels[None].clone().requires_grad_()
    score = metric(x)
    assert float(score) == pytest.approx(float(metric.score(picture)), abs=1e-5)
    score.sum().backward()
    assert x.grad.abs().amax() > 0
    direction = torch.randn(x.shape, generator=torch.Generator().manual_seed(1)) * x.grad.abs().mean()
    direction = x.grad / x.grad.norm() + 0.1 * direction / direction.norm()
    backend = metric.backend.to(dtype=torch.float64) or metric.backend
    backend.rounding = False
    try:
        wide = (pixels[None].double() * 0.8 + 0.1).requires_grad_()
        metric(wide).sum().backward()
        step = 1e-3 * direction.double()  # of the whole picture; the random Qwen3.5 is bent too much for larger ones
        with torch.no_grad():
            low, high = (float(metric((wide + sign * step).detach().requires_grad_())) for sign in (-1, 1))
        slope = float((wide.grad * direction).sum())
        assert (high - low) / 2e-3 == pytest.approx(slope, rel=5e-2, abs=1e-6)
    finally:
        backend.rounding = True
        backend.to(dtype=torch.float32)


def test_a_loss_and_a_saliency_map(qwen):
    metric = QSiT(qwen, recipe="q-realign", device="cpu", dtype="float32")
    x = torch.rand(2, 3, 40, 56, requires_grad=True)
    QSiTLoss(metric)(x).backward()
    assert x.grad.abs().amax() > 0
    assert metric.map(IMAGES / "gray_256.png", method="saliency").values.size


def test_other_steps_of_a_processor_have_no_gradient(qwen):
    processor = load_processor(qwen)
    processor.image_processor.resample = 2  # bilinear: not the steps that are ours
    backend = TransformersBackend(QSiT(qwen, recipe="q-realign", device="cpu").backend.model, processor)
    assert not backend.differentiable
    metric = QSiT(backend, recipe="q-realign")
    score = metric.score(IMAGES / "gray_256.png")
    expected = quick_run(backend, Image.open(IMAGES / "gray_256.png"), Q_REALIGN)
    assert logits_of(score) == pytest.approx(expected, abs=1e-4)
    with pytest.raises(BackendError, match="no gradient"):
        metric(torch.rand(1, 3, 32, 32, requires_grad=True))


def test_a_picture_that_is_too_long_is_its_own_error(qwen):
    metric = QSiT(qwen, recipe="q-realign", device="cpu")
    good = Image.new("RGB", (50, 40))
    found = metric.score([good, Image.new("RGB", (900, 3)), good], errors="return")
    assert isinstance(found[1], BackendError)
    assert "900x3" in str(found[1])
    assert "200" in str(found[1])
    assert found[0] == found[2]


def test_a_model_that_was_saved_again_scores_the_same(qwen, tmp_path):
    metric = QSiT(qwen, recipe="q-realign", device="cpu", dtype="float32")
    metric.backend.model.save_pretrained(tmp_path)
    metric.backend.processor.save_pretrained(tmp_path)
    again = QSiT(tmp_path, recipe="q-realign", device="cpu", dtype="float32")
    assert again.score(IMAGES / "gray_256.png") == metric.score(IMAGES / "gray_256.png")


def test_an_old_transformers_is_refused_by_name(qwen, tmp_path, monkeypatch):
    folder = copied(qwen, tmp_path / "model", model_type="qwen3_5")
    monkeypatch.setattr(families, "installed", lambda name: "5.1.0")
    with pytest.raises(DependencyError, match=r"5\.1\.0.*transformers >=5\.2.*'qwen3_5'.*pip install"):
        QSiT(folder, device="cpu")


def test_remote_code_is_refused_with_that_reason(qwen, tmp_path):
    mapped = {"AutoModel": "modeling_mine.Mine"}
    folder = copied(qwen, tmp_path / "model", model_type="internvl_chat", auto_map=mapped)
    with pytest.raises(CheckpointError, match=r"remote code.*modeling_mine\.Mine.*never run"):
        QSiT(folder, device="cpu")


@pytest.mark.parametrize("name", ["deqa-score", "zhiyuanyou/DeQA-Score-Mix3", "OpenGVLab/InternVL3-8B"])
def test_known_models_with_code_of_their_own_are_refused_before_a_download(name):
    with pytest.raises(CheckpointError, match=r"remote code.*never run.*Nothing was fetched"):
        QSiT(name)


def test_the_catalog_says_how_each_is_asked():
    for name in list_models():
        record = find(name)
        assert record.recipe in RECIPES
    sizes = {"mini": "Mini-0.8B", "lite": "Lite-4B", "pro": "Pro-9B"}
    for name, repo in sizes.items():
        record = find(f"q-realign-{name}")
        assert (record.repo, record.recipe) == (f"q-future/Q-ReAlign-{repo}", "q-realign")
        assert record.licence == "Apache-2.0"
    assert Q_REALIGN.words == AESTHETICS.words == (" bad", " poor", " fair", " good", " excellent")
    assert find("q-insight").folder == "score_degradation"


@pytest.mark.parametrize(
    ("recipe", "reply", "score"),
    [
        (VISUALQUALITY_R1, "<answer>3.25</answer>", 3.25),
        (VISUALQUALITY_R1, "<think>not 2</think>\n<answer> It is 4 </answer>", 4.0),
        (VISUALQUALITY_R1, "<answer>1.0</answer> no: <answer>2.5</answer>", 2.5),
        (VISUALQUALITY_R1, "3.1", 3.1),
        (VISUALQUALITY_R1, "<answer>excellent</answer>", None),
        (VISUALQUALITY_R1, "<answer>85</answer>", None),
        (VISUALQUALITY_R1, "<answer>0.4</answer>", None),
        (VISUALQUALITY_R1, "", None),
        (Q_INSIGHT, '<think>1</think><answer>{"rating": 3.42}</answer>', 3.42),
        (Q_INSIGHT, '<answer>```json\n{\n"rating": "2"\n}\n```</answer>', 2.0),
        (Q_INSIGHT, "<answer>3.42</answer>", None),
    ],
)
def test_written_scores_are_read_and_never_drawn(recipe, reply, score):
    assert recipe.written(reply) == score


def test_a_written_score(qwen, monkeypatch):
    metric = QSiT(qwen, recipe="visualquality-r1", device="cpu")
    with pytest.raises(BackendError, match=r"score from 1 to 5.*recipe"):
        QSiT(metric.backend, recipe=dataclasses.replace(VISUALQUALITY_R1, max_new_tokens=3)).score(
            IMAGES / "gray_256.png"
        )
    texts = iter(["<answer>3.5</answer>", "no idea", "<answer>1</answer>"])
    prompts = []
    generate = metric.backend.generate

    def said(requests, limit):
        prompts.extend(prompt for _, prompt in requests)
        return [dataclasses.replace(reply, text=next(texts)) for reply in generate(requests, 1)]

    monkeypatch.setattr(metric.backend, "generate", said)
    good, bad, worst = metric.score([Image.new("RGB", (40, 40 + n)) for n in range(3)], errors="return")
    assert (float(good), good.level, good.unit, good.probs) == (3.5, "good", 0.625, {})
    assert "no idea" in str(bad)
    assert worst.level == "bad"
    assert good.as_dict()["level"] == "good"
    assert "Picture 1: <|vision_start|>" in metric.backend._chat.render(prompts[0])
    with pytest.raises(InputError, match=r"metric\.score"):
        metric(torch.rand(1, 3, 32, 32))


def test_recipes_with_a_written_score_travel(tmp_path):
    for recipe in RECIPES.values():
        recipe.save(tmp_path)
        assert Recipe.load(tmp_path) == recipe
    Q_REALIGN.save(tmp_path)
    assert "form" not in json.loads((tmp_path / "qsit_recipe.json").read_text()), "earlier releases read it too"
    for change in ({"form": "stars"}, {"form": "answer"}, {"max_new_tokens": 0}, {"switches": "add_vision_id"}):
        with pytest.raises(InputError, match=r"recipe\."):
            dataclasses.replace(Q_REALIGN, **change)


def test_what_is_kept_is_said():
    assert "recurrent" in families.family_of("qwen3_5").kept
    assert all(family.kept and family.decoder for family in families.families())
