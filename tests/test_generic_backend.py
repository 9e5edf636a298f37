"""The general backend: against transformers used by hand, against the fast path, and what it refuses."""

from __future__ import annotations

import copy
import dataclasses
import json
import logging
import re
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from tokenizers.processors import TemplateProcessing

from conftest import GOLDEN, IMAGES
from qsit_metric import QSiT
from qsit_metric.backends.base import Encoded
from qsit_metric.backends.generic import TransformersBackend, load_processor
from qsit_metric.errors import BackendError, CheckpointError, DependencyError, InputError
from qsit_metric.pixels import Picture, load
from qsit_metric.prompts import AUTHORS, TRAIN, Recipe
from tiny_models import copied, golden_processor, tiny_idefics, tiny_llava

pytestmark = pytest.mark.compat

MIXED = ["square_512.png", "tiny_7x5.png", "panorama_1600x200.jpg", "gray_256.png", "tower_120x900.jpg", "rgba_300.png"]
QUESTIONS = ["Is it sharp?", "What is the worst thing about the quality of this picture, and where is it?"]


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


def test_only_the_last_position_is_computed_where_the_model_can(parts, monkeypatch):
    model, processor = parts
    metric = QSiT(TransformersBackend(model, processor))
    shapes = []
    with model.get_output_embeddings().register_forward_hook(lambda _, args, out: shapes.append(args[0].shape[:2])):
        can = metric.score([IMAGES / name for name in MIXED])
        forward = model.forward
        monkeypatch.setattr(model, "forward", lambda **inputs: forward(**inputs))
        cannot = metric.score([IMAGES / name for name in MIXED])
    assert shapes[0] == (len(MIXED), 1)
    assert shapes[1][1] > 100
    assert [float(score) for score in cannot] == pytest.approx([float(score) for score in can], abs=1e-5)


def test_a_model_in_memory_is_frozen(parts):
    model, processor = parts
    backend = TransformersBackend(model.train().requires_grad_(True), processor)
    assert not backend.model.training
    assert not any(weight.requires_grad for weight in backend.model.parameters())


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
    near = (pixels.float() - 0.4).clamp(min=0)
    assert float(metric(near[None] / 255)) == pytest.approx(float(metric.score(picture)), abs=1e-5)
    # From a GPU, or with a gradient that nobody asks for, a picture comes as a tensor, which the backend rounds itself.
    assert held(metric.backend.prepare(Picture(near, "<tensor>"))) == held(metric.backend.prepare(load(picture)))


def held(prepared) -> bytes:
    """What a backend keeps of a picture: the picture, or what its processor made of it."""
    data = prepared.data
    return data.tobytes() if isinstance(data, Image.Image) else data.tensors["pixel_values"].numpy().tobytes()


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
    from transformers import LlavaOnevisionForConditionalGeneration

    theirs = LlavaOnevisionForConditionalGeneration.from_pretrained(GOLDEN / "tied", dtype=torch.float32).eval()
    general = QSiT(TransformersBackend(theirs, golden_processor()))
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
    least, *others = [
        (
            backend.prepare(load(IMAGES / name)).tokens,
            by_hand(backend, IMAGES / name, AUTHORS.scoring()).input_ids.shape[1],
        )
        for name in ("tiny_7x5.png", *MIXED)
    ]
    for estimate, length in others:
        assert estimate - least[0] == pytest.approx(length - least[1], abs=2)
    assert len(set(others)) > 2


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


def test_an_answer_ends_with_its_end_and_not_with_padding(parts):
    backend = TransformersBackend(*parts)
    prompts = [AUTHORS.asking(question) for question in QUESTIONS]
    _, (first, second) = ask_both(backend, prompts)
    end = next(token for token in first.tokens[2:] if token not in second.tokens)
    settings = backend.model.generation_config
    settings.eos_token_id, before = [1, end], settings.eos_token_id
    try:
        together, alone = ask_both(backend, prompts)
    finally:
        settings.eos_token_id = before
    assert together == alone
    assert together[0].finished
    assert together[0].tokens == first.tokens[: first.tokens.index(end) + 1]
    assert not together[1].finished
    assert together[1].tokens == second.tokens


def test_without_an_end_in_the_generation_config_the_tokenizer_has_it(parts, monkeypatch):
    backend = TransformersBackend(*parts)
    prompt = AUTHORS.asking(QUESTIONS[0])
    whole = ask_both(backend, [prompt])[0][0].tokens
    monkeypatch.setattr(backend.model.generation_config, "eos_token_id", None)
    monkeypatch.setattr(backend.processor, "tokenizer", golden_tokenizer_with(backend, eos_token=whole[2]))
    reply = ask_both(backend, [prompt])[0][0]
    assert reply.tokens == whole[: whole.index(whole[2]) + 1]
    assert reply.finished


def golden_tokenizer_with(backend, **tokens):
    """A copy of a tokenizer whose special tokens are others, given as ids."""
    tokenizer = copy.deepcopy(backend.processor.tokenizer)
    for name, number in tokens.items():
        setattr(tokenizer, name, tokenizer.convert_ids_to_tokens(number))
    return tokenizer


def test_rules_against_repetition_do_not_read_padding(parts, monkeypatch):
    backend = TransformersBackend(*parts)
    prompts = [AUTHORS.asking(question) for question in QUESTIONS]
    monkeypatch.setattr(backend.model.generation_config, "repetition_penalty", 3.0)
    first = ask_both(backend, prompts)[1][0].tokens[0]
    monkeypatch.setattr(backend.processor, "tokenizer", golden_tokenizer_with(backend, pad_token=first))
    together, alone = ask_both(backend, prompts)
    assert together == alone
    assert together[0].tokens[0] == first


def test_settings_of_sampling_and_beams_do_not_matter(parts, monkeypatch, caplog):
    backend = TransformersBackend(*parts)
    prompts = [AUTHORS.asking(question) for question in QUESTIONS]
    before = ask_both(backend, prompts)[0]
    monkeypatch.setattr(logging.getLogger("transformers"), "propagate", True)
    changes = {"do_sample": True, "temperature": 0.1, "top_p": 0.2, "top_k": 3, "num_beams": 3}
    for name, value in {**changes, "return_dict_in_generate": True}.items():
        monkeypatch.setattr(backend.model.generation_config, name, value)
    assert ask_both(backend, prompts)[0] == before
    assert "generation flags" not in caplog.text


def starting_by_itself(tokenizer):
    """A copy that writes a first token, as Llama's does."""
    tokenizer = copy.deepcopy(tokenizer)
    start = tokenizer.convert_tokens_to_ids("<|im_start|>")
    inner = tokenizer.backend_tokenizer
    inner.post_processor = TemplateProcessing(single="<|im_start|> $A", special_tokens=[("<|im_start|>", start)])
    tokenizer.bos_token = "<|im_start|>"
    assert tokenizer("a").input_ids[0] == start
    return tokenizer


@pytest.mark.parametrize("written", [True, False], ids=["by-the-template", "by-the-tokenizer"])
def test_the_first_token_is_given_once(parts, monkeypatch, written):
    model, processor = parts
    plain = QSiT(TransformersBackend(model, processor))
    expected = [float(plain.score(IMAGES / name)) for name in MIXED[:3]]
    monkeypatch.setattr(processor, "tokenizer", starting_by_itself(processor.tokenizer))
    template = processor.chat_template
    own = (
        template
        if written
        else "{% set started = false %}"
        + template.replace(
            "{{'<|im_start|>' + message['role'] + ' '}}",
            "{{ '' if loop.first else '<|im_start|>' }}{{ message['role'] + ' ' }}",
        )
    )
    found = QSiT(TransformersBackend(model, processor, own)).score([IMAGES / name for name in MIXED[:3]])
    assert [float(score) for score in found] == pytest.approx(expected, abs=1e-4)


def test_prompts_that_begin_differently_make_no_batch(parts, monkeypatch):
    model, processor = parts
    monkeypatch.setattr(processor, "tokenizer", starting_by_itself(processor.tokenizer))
    backend = TransformersBackend(model, processor)
    bare = dataclasses.replace(AUTHORS, template="<image>{{ messages[-1]['content'][-1]['text'] }}")
    prompts = [AUTHORS.scoring(), bare.scoring()]
    image = Encoded(Image.new("RGB", (60, 60)), tokens=10)
    together = backend.logits([(image, prompt) for prompt in prompts])
    for prompt, row in zip(prompts, together, strict=True):
        assert row.tolist() == pytest.approx(backend.logits([(image, prompt)])[0].tolist(), abs=1e-4)


def test_the_chat_format_cannot_be_written_in_a_question(parts):
    metric = QSiT(TransformersBackend(*parts))
    for token in ("<image>", "<|im_end|>", "<row_1_col_1>", "<global-img>"):
        with pytest.raises(InputError, match=re.escape(token)):
            metric.ask(IMAGES / "tiny_7x5.png", f"What is {token}?")


def test_added_tokens_that_are_plain_text_may_be_asked(parts, monkeypatch):
    model, processor = parts
    tokenizer = copy.deepcopy(processor.tokenizer)
    tokenizer.add_tokens(["\n\n", "sharp"])
    monkeypatch.setattr(processor, "tokenizer", tokenizer)
    TransformersBackend(model, processor).check(AUTHORS.asking("Is it\n\nsharp?"))


def test_words_that_begin_alike_are_refused(llava):
    recipe = Recipe("bad", "How is it?", "It is ", ("Bad", "Badly"))
    with pytest.raises(CheckpointError, match="distinct tokens"):
        QSiT(llava, recipe=recipe)


@pytest.mark.parametrize("number", [0, 2])
def test_a_template_must_place_one_image(llava, number):
    recipe = dataclasses.replace(AUTHORS, template="<image>" * number + "{{ messages[-1]['content'][-1]['text'] }}")
    with pytest.raises(CheckpointError, match=f"{number} images placed"):
        QSiT(llava, recipe=recipe)


def test_a_template_of_another_format_is_refused(llava):
    recipe = dataclasses.replace(AUTHORS, template="{{ '<image>' + messages[-1]['content'] }}")
    with pytest.raises(CheckpointError, match="renders an image turn"):
        QSiT(llava, recipe=recipe)


def test_where_the_template_comes_from(llava, tmp_path):
    folder = copied(llava, tmp_path / "model")
    template = (folder / "chat_template.jinja").read_text()
    (folder / "chat_template.jinja").unlink()
    score = QSiT(llava, device="cpu").score(IMAGES / "gray_256.png")
    with pytest.raises(CheckpointError, match=r"no chat template.*chat_template\.jinja"):
        QSiT(folder, device="cpu")
    for name in ("chat_template.json", "tokenizer_config.json"):
        path = folder / name
        before = path.read_text() if path.exists() else "{}"
        path.write_text(json.dumps({**json.loads(before), "chat_template": template}))
        assert QSiT(folder, device="cpu").score(IMAGES / "gray_256.png") == score
        path.write_text(before) if before != "{}" else path.unlink()
    recipe = dataclasses.replace(AUTHORS, template=template)
    assert QSiT(folder, device="cpu", recipe=recipe).score(IMAGES / "gray_256.png") == score


def test_a_template_in_the_options_wins(parts):
    with pytest.raises(CheckpointError, match="0 images placed"):
        QSiT(TransformersBackend(*parts, template="{{ 'x' }}"))


def test_named_templates_have_a_default(parts):
    model, processor = parts
    score = QSiT(TransformersBackend(model, processor)).score(IMAGES / "gray_256.png")
    several = copy.copy(processor)
    several.chat_template = {"tools": "{{ 1 }}", "default": processor.chat_template}
    assert QSiT(TransformersBackend(model, several)).score(IMAGES / "gray_256.png") == score


def test_half_loaded_weights_are_refused(llava, tmp_path):
    folder = copied(llava, tmp_path / "model")
    weights = load_file(folder / "model.safetensors")
    lost = next(name for name in weights if "multi_modal_projector" in name)
    save_file({name: value for name, value in weights.items() if name != lost}, folder / "model.safetensors")
    with pytest.raises(CheckpointError, match="missing keys"):
        QSiT(folder, device="cpu")
    save_file({**weights, "extra.weight": torch.zeros(1)}, folder / "model.safetensors")
    with pytest.raises(CheckpointError, match="unexpected keys"):
        QSiT(folder, device="cpu")


@pytest.mark.parametrize(
    ("model_type", "message"),
    [("bert", "decoder that reads images"), ("florence2", "decoder that"), ("no_such_model", "transformers knows")],
)
def test_other_architectures_are_refused(llava, tmp_path, model_type, message):
    folder = copied(llava, tmp_path / "model")
    (folder / "config.json").write_text(json.dumps({"model_type": model_type}))
    with pytest.raises(CheckpointError, match=message):
        QSiT(folder, device="cpu")


def test_a_folder_without_a_processor_is_refused(llava, tmp_path):
    folder = copied(llava, tmp_path / "model")
    for name in ("processor_config.json", "preprocessor_config.json"):
        (folder / name).write_text(json.dumps({"processor_class": "Nobody", "image_processor": {}}))
    with pytest.raises(CheckpointError, match="processor"):
        load_processor(folder)


def test_a_processor_that_reads_films_too_is_built_without_that_half(tied):
    general = QSiT(GOLDEN / "tied", backend="transformers", device="cpu", dtype="float32")
    for name in ("square_512.png", "landscape_600x400.jpg"):
        assert level_logits(general.score(IMAGES / name)) == pytest.approx(
            level_logits(tied.score(IMAGES / name)), abs=1e-4
        )


@pytest.mark.parametrize(
    ("error", "package"),
    [
        (ImportError("\nXVideoProcessor requires the Torchvision library but it was not found"), "torchvision"),
        (ValueError("/x requires `torchvision` to be installed. Please install"), "torchvision"),
        (ImportError("Package `num2words` is required to run SmolVLM processor."), "num2words"),
        (ModuleNotFoundError("Could not import module 'X'. Are this object's requirements defined?"), "sentencepiece"),
        (ImportError("something else"), "a package"),
    ],
)
def test_the_ways_in_which_a_package_is_missing(monkeypatch, error, package):
    from transformers import AutoProcessor

    def build(*args, **kwargs):
        raise error from ModuleNotFoundError(f"No module named '{package}.x'") if package == "sentencepiece" else None

    monkeypatch.setattr(AutoProcessor, "from_pretrained", build)
    with pytest.raises(DependencyError, match=f"{package} to be installed"):
        load_processor(GOLDEN)


def test_another_failure_of_the_processor_is_the_checkpoints(monkeypatch):
    from transformers import AutoProcessor

    monkeypatch.setattr(AutoProcessor, "from_pretrained", lambda *a, **k: json.loads("{"))
    with pytest.raises(CheckpointError, match="processor that can be built"):
        load_processor(GOLDEN)
