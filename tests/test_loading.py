"""Loading verifies: nothing missing, nothing left over, nothing half set, files that agree with each other."""

from __future__ import annotations

import json

import pytest
import torch
from safetensors.torch import load_file, save_file

from conftest import GOLDEN, HERE, IMAGES, expected
from qsit_metric import QSiT, Recipe, packages
from qsit_metric.errors import BackendError, CheckpointError, DependencyError, InputError, UnknownNameError
from qsit_metric.model import weights
from qsit_metric.prompts import RECIPE_FILE

WANT = expected("tied")["images"]["square_512.png"]["score15"]


def rewrite(folder, change):
    """Change the weights of a copied checkpoint."""
    weights = load_file(folder / "model.safetensors")
    change(weights)
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


def without(name):
    return lambda weights: weights.pop(name)


@pytest.mark.compat
@pytest.mark.parametrize("release", ["4.45.0", "4.56.2", "6.0.0"])
def test_another_release_of_transformers_is_named_before_anything_is_read(monkeypatch, release):
    """By the general backend, which depends on it."""
    monkeypatch.setattr(packages, "version", lambda name: release)
    words = rf"`transformers`: got '{release}', expected transformers >=4.57,<6. Install one of these: pip install"
    with pytest.raises(DependencyError, match=words):
        QSiT(GOLDEN / "tied", backend="transformers")


def test_the_fast_path_asks_for_no_release_of_transformers(monkeypatch):
    monkeypatch.setattr(packages, "version", lambda name: "4.45.0")
    assert QSiT(GOLDEN / "tied").score(IMAGES / "square_512.png") == pytest.approx(WANT, abs=1e-4)


def test_the_range_is_that_of_the_package():
    wanted = (HERE.parent / "pyproject.toml").read_text(encoding="utf-8")
    assert '"transformers>={},<{}"'.format(*packages.TRANSFORMERS) in wanted


def test_the_tied_head_is_the_embedding(tied, untied):
    for metric, same in ((tied, True), (untied, False)):
        model = metric.backend.model
        assert (model.lm_head.weight is model.get_input_embeddings().weight) is same


@pytest.mark.parametrize(
    ("checkpoint", "change", "message"),
    [
        ("tied", without("vision_tower.vision_model.encoder.layers.1.mlp.fc1.weight"), "1 missing keys: .*fc1.weight"),
        ("tied", without("image_newline"), "1 missing keys: .*image_newline"),
        ("untied", without("language_model.lm_head.weight"), "1 missing keys: .*lm_head.weight"),
        ("tied", lambda w: w.update({"stray.weight": torch.zeros(2)}), "1 unexpected keys: stray.weight"),
        ("tied", lambda w: w.update({"image_newline": torch.zeros(3)}), "image_newline|weights that fit config.json"),
    ],
)
def test_weights_that_do_not_fit_are_refused(variant, checkpoint, change, message):
    folder = rewrite(variant({}, checkpoint), change)
    with pytest.raises(CheckpointError, match=message):
        QSiT(folder)


def test_a_head_that_config_calls_untied_must_be_there(variant):
    folder = variant({"config.json": lambda c: c["text_config"].update(tie_word_embeddings=False)})
    with pytest.raises(CheckpointError, match="missing keys: .*lm_head.weight"):
        QSiT(folder)


def test_a_tie_kept_in_the_text_part_only_is_honoured(variant):
    for top, text in ((False, True), (True, True), (None, True)):

        def edit(config, top=top, text=text):
            config["text_config"]["tie_word_embeddings"] = text
            config.pop("tie_word_embeddings")
            if top is not None:
                config["tie_word_embeddings"] = top

        metric = QSiT(variant({"config.json": edit}))
        assert metric.score(IMAGES / "square_512.png") == pytest.approx(WANT, abs=1e-4)


def test_sliding_windows_are_not_applied(variant):
    def edit(config):
        config["text_config"].update(use_sliding_window=True, sliding_window=64, max_window_layers=0)

    assert QSiT(variant({"config.json": edit})).score(IMAGES / "square_512.png") == pytest.approx(WANT, abs=1e-4)


@pytest.mark.compat
@pytest.mark.parametrize(
    ("edits", "message"),
    [
        ({"config.json": {"image_token_index": 12}}, "id of '<image>'.*got 463, expected 12"),
        ({"config.json": {"vision_feature_select_strategy": "default"}}, "vision_feature_select_strategy.*got 'default'"),
        ({"config.json": {"vision_feature_layer": [-2, -1]}}, "vision_feature_layer.*expected one layer"),
        ({"config.json": {"text_config": {"model_type": "no such model"}}}, "config.json.*a LLaVA-OneVision config"),
        ({"config.json": {"vision_aspect_ratio": "pad"}}, "vision_aspect_ratio.*got 'pad', expected 'anyres_max_N'"),
        ({"config.json": {"image_grid_pinpoints": [[384, 384]]}}, "image_grid_pinpoints.*the same list in both files"),
        ({"config.json": {"vision_config": None}}, "vision_config.*expected an object"),
        ({"preprocessor_config.json": {"size": {"height": 336, "width": 336}}}, "size.*the vision tower's image_size"),
        ({"preprocessor_config.json": {"do_resize": False}}, "do_resize.*expected true"),
        ({"preprocessor_config.json": {"resample": 2}}, "resample.*bicubic"),
        ({"preprocessor_config.json": {"rescale_factor": 1.0}}, "rescale_factor.*1/255"),
        ({"preprocessor_config.json": {"image_mean": [0.5]}}, "image_mean.*three numbers"),
        ({"preprocessor_config.json": {"image_std": [0.5, 0, 0.5]}}, "image_std.*three positive numbers"),
        ({"preprocessor_config.json": {"image_processor_type": "CLIPImageProcessor"}}, "image_processor_type.*CLIPImage"),
        ({"processor_config.json": {"num_image_tokens": 576}}, "num_image_tokens.*got 576, expected 729"),
        ({"processor_config.json": {"vision_aspect_ratio": "anyres_max_4"}}, "vision_aspect_ratio.*'anyres_max_9'"),
        ({"chat_template.json": {"chat_template": None}}, "a chat template in the checkpoint"),
        ({"chat_template.json": {"chat_template": "{{ broken"}}, "chat template.*a template that renders"),
        ({"chat_template.json": {"chat_template": "no image"}}, "chat template.*<0 images placed>"),
        ({"config.json": {"model_type": "llava"}}, "processor"),
        ({"config.json": {"model_type": "abacus"}}, "a config.json that transformers knows"),
    ],
)  # fmt: skip
def test_files_that_contradict_each_other_are_refused(variant, edits, message):
    with pytest.raises((CheckpointError, DependencyError), match=message):
        QSiT(variant(edits))


def test_settings_may_stand_in_either_file(variant):
    folder = variant()
    settings = json.loads((folder / "preprocessor_config.json").read_text())
    (folder / "processor_config.json").write_text(json.dumps({"image_processor": settings}))
    (folder / "preprocessor_config.json").unlink()
    template = json.loads((folder / "chat_template.json").read_text())["chat_template"]
    (folder / "chat_template.jinja").write_text(template)
    (folder / "chat_template.json").unlink()
    assert QSiT(folder).score(IMAGES / "square_512.png") == pytest.approx(WANT, abs=1e-4)


def test_level_words_that_cannot_be_told_apart_are_refused():
    words = ("Poor", "Poorly", "Good")
    with pytest.raises(CheckpointError, match="`words`: got <'Poor' -> .*words that begin with distinct tokens"):
        QSiT(GOLDEN / "tied", recipe=Recipe("own", "How good?", "It is ", words))


def test_a_checkpoint_carries_its_recipe(variant):
    folder = variant()
    own = Recipe("own", "How good?", "It is ", ("Bad", "Good"))
    own.save(folder)
    assert QSiT(folder).recipe == own
    assert QSiT(folder, recipe="authors").recipe.name == "authors"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "expected a JSON file"),
        ("[]", "expected a JSON object"),
        ('{"name": "x"}', "<no answer_prefix, question, words>"),
        ('{"name": "x", "question": "q", "answer_prefix": "", "words": ["a", "b"], "scale": 5}', r"got \['scale'\]"),
        ('{"name": "x", "question": "q", "answer_prefix": "", "words": "ab"}', "recipe.words.*two or more"),
        ('{"name": "x", "question": 5, "answer_prefix": "", "words": ["a", "b"]}', "recipe.question.*expected text"),
    ],
)
def test_a_broken_recipe_is_refused(variant, text, message):
    folder = variant()
    (folder / RECIPE_FILE).write_text(text)
    with pytest.raises(CheckpointError, match=message):
        QSiT(folder)


@pytest.mark.parametrize("dtype", ["float32", "bf16", "fp16", torch.float64])
def test_dtypes(dtype):
    metric = QSiT(GOLDEN / "tied", dtype=dtype)
    assert metric.score(IMAGES / "tile_384.png") == pytest.approx(3.97, abs=0.05)
    rotary = metric.backend.model.model.language_model.rotary_emb.inv_freq
    assert rotary.dtype == torch.float32 or dtype == torch.float64


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"dtype": "int7"}, InputError, "`dtype`: got 'int7', expected one of float32"),
        ({"dtype": torch.int32}, InputError, "`dtype`: got torch.int32"),
        ({"device": "cuda:99"}, InputError, "`device`: got 'cuda:99', expected a device of this machine"),
        ({"device": "abacus"}, InputError, "`device`: got 'abacus'"),
        ({"backend": "llava"}, UnknownNameError, "`backend`: got 'llava'.*Did you mean 'llava_onevision'"),
    ],
)
def test_bad_arguments_are_found_before_weights_are_read(arguments, error, message, monkeypatch):
    monkeypatch.setattr(weights, "load", lambda *_, **__: pytest.fail("weights were read"))
    with pytest.raises(error, match=message):
        QSiT(GOLDEN / "tied", **arguments)


LAYERS = [f"model.language_model.{part}" for part in ("embed_tokens", "norm", "rotary_emb", "layers.0", "layers.2")]
ON_CPU = dict.fromkeys(["model.vision_tower", "model.multi_modal_projector", "model.image_newline", *LAYERS], "cpu")


@pytest.mark.compat
@pytest.mark.filterwarnings("ignore:The following device_map keys")
@pytest.mark.parametrize(
    "device",
    [
        "auto",
        {**ON_CPU, "model.language_model.layers.1": "cpu", "lm_head": "cpu"},
        {**ON_CPU, "model.language_model.layers.1": "disk", "lm_head": "disk"},
    ],
    ids=["auto", "map", "disk"],
)
def test_a_device_map_spreads_the_model(device):
    spread = QSiT(GOLDEN / "untied", device=device)
    want = expected("untied")["images"]["square_512.png"]
    assert spread.score(IMAGES / "square_512.png") == pytest.approx(want["score15"], abs=1e-4)
    answers = spread.ask(IMAGES / "square_512.png", list(want["answers"]), max_new_tokens=12)
    assert [list(answer.tokens) for answer in answers] == list(want["answers"].values())
    if "disk" in str(device):
        with pytest.raises(BackendError, match="no move of a spread or quantised model"):
            spread.to("cpu")


PARTS = ["model.vision_tower", "model.multi_modal_projector", "model.image_newline", "model.language_model", "lm_head"]


@pytest.mark.filterwarnings("ignore:The following device_map keys")
@pytest.mark.parametrize(
    "device",
    [
        *({**dict.fromkeys(PARTS, "cpu"), part: "disk"} for part in PARTS if "projector" not in part),
        {**dict.fromkeys(PARTS, "cpu"), "model.language_model": "disk", "lm_head": "disk"},
        {"": "disk"},
    ],
    ids=["tower", "newline", "decoder", "head", "decoder and head", "all"],
)
def test_any_part_may_stay_on_disk(device):
    """Also those that no layer brings back, and a head that is its embedding wherever the map puts the two."""
    spread = QSiT(GOLDEN / "tied", device=device)
    assert spread.device.type != "meta"
    assert spread.score(IMAGES / "square_512.png") == pytest.approx(WANT, abs=1e-4)


def test_another_layer_of_the_vision_tower(variant):
    """An earlier layer is what the tower gives when it has only the layers before it."""
    by_index = QSiT(variant({"config.json": {"vision_feature_layer": -2}}))

    def shorter(config):
        config["vision_config"]["num_hidden_layers"] = 1

    def without_the_last(weights):
        for name in [name for name in weights if ".encoder.layers.1." in name and "vision_tower" in name]:
            del weights[name]

    cut = QSiT(rewrite(variant({"config.json": shorter}), without_the_last))
    score = by_index.score(IMAGES / "tile_384.png")
    assert score == pytest.approx(cut.score(IMAGES / "tile_384.png"), abs=1e-5)
    assert abs(score - QSiT(GOLDEN / "tied").score(IMAGES / "tile_384.png")) > 1e-3


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("processor_config.json", "{", "processor_config.json.*expected a JSON file"),
        ("processor_config.json", "[1]", "processor_config.json.*expected a JSON object"),
        ("tokenizer.json", "{}", "expected a tokenizer"),
    ],
)
def test_unreadable_files(variant, name, content, message):
    folder = variant()
    (folder / name).write_text(content)
    with pytest.raises(CheckpointError, match=message):
        QSiT(folder)


def test_a_tokenizer_with_more_words_than_the_model_is_refused(variant):
    def fewer(weights):
        weights["language_model.model.embed_tokens.weight"] = weights["language_model.model.embed_tokens.weight"][
            :464
        ].clone()

    folder = rewrite(variant({"config.json": lambda c: c["text_config"].update(vocab_size=464)}), fewer)
    with pytest.raises(CheckpointError, match="tokenizer.*got <465 tokens>, expected at most 464"):
        QSiT(folder)


def test_what_the_folder_does_not_say(variant):
    """Fields that old files lack have the defaults of the released checkpoints."""
    edits = {
        "config.json": {"image_grid_pinpoints": None, "vision_aspect_ratio": None},
        "preprocessor_config.json": {"image_grid_pinpoints": None, "size": None, "resample": None},
    }
    assert QSiT(variant(edits)).score(IMAGES / "square_512.png") == pytest.approx(WANT, abs=1e-4)


@pytest.mark.compat
def test_quantisation_needs_its_package():
    try:
        import bitsandbytes  # noqa: F401
    except ImportError:
        with pytest.raises(DependencyError, match=r"`dtype`: got 'int8'.*pip install 'qsit-metric\[quant\]'"):
            QSiT(GOLDEN / "tied", dtype="int8")
    else:
        metric = QSiT(GOLDEN / "tied", dtype="int8")
        assert metric.info["dtype"] == "int8"
        assert metric.score(IMAGES / "square_512.png") == pytest.approx(WANT, abs=0.3)


def test_four_bits():
    pytest.importorskip("bitsandbytes")
    metric, plain = QSiT("q-sit-nano", dtype="int4"), QSiT("q-sit-nano")
    layers = metric.backend.model.model.language_model.layers
    assert {type(layers[0].mlp.up_proj).__name__, type(layers[-1].self_attn.q_proj).__name__} == {"Linear4bit"}
    assert layers[0].mlp.up_proj.weight.dtype == torch.uint8
    assert metric.score(IMAGES / "square_512.png") == pytest.approx(plain.score(IMAGES / "square_512.png"), abs=0.3)


@pytest.mark.hub
def test_the_published_mini_gives_the_published_score(request):
    """The authors' README: 44009500.jpg scores 0.0455 with q-sit-mini; QSIT_CHECK_IMAGE names the file."""
    import os

    metric = QSiT("q-sit-mini")
    assert metric.score(os.environ["QSIT_CHECK_IMAGE"], exif=False).unit == pytest.approx(0.0455, abs=0.01)
