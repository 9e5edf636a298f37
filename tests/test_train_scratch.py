"""`train.scratch`: untrained checkpoints, their tokenizer, their filters, their files."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from qsit_metric import QSiT
from qsit_metric.backends.training import Tokenizer
from qsit_metric.levels import LEVELS
from qsit_metric.prompts import CHATML, TRAIN
from train.chat import IGNORED, Encoder
from train.data.rows import Row
from train.errors import RecipeError
from train.nano.scratch import Scratch, build_base, count_parameters, initialise, patch_filters
from train.nano.tokenizer import SPECIALS, train_tokenizer, whole_words

TEXTS = ["Is it sharp?", "It is blurry.\nA. Yes\nB. No\n", "The image is slightly noisy."] * 20
SMALL = Scratch(
    vision_width=32, vision_layers=1, vision_heads=2, vision_intermediate=48,
    text_width=32, text_layers=1, text_heads=2, text_kv_heads=1, text_intermediate=48, vocabulary=512,
)  # fmt: skip


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_base(SMALL, TEXTS, tmp_path_factory.mktemp("scratch") / "base", seed=1)


@pytest.fixture(scope="module")
def tokenizer(base: Path) -> Any:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(base, local_files_only=True)  # as everybody else reads it


@pytest.mark.parametrize("size", [(96, 96), (7, 5), (300, 40), (33, 500)])
def test_scores_and_answers_at_any_size(base: Path, size: tuple[int, int]) -> None:
    metric = QSiT(base)
    picture = Image.effect_noise(size, 60).convert("RGB")
    assert 1 < float(metric.score(picture)) < 5
    assert isinstance(str(metric.ask(picture, "Is it sharp?", max_new_tokens=3)), str)


def test_has_the_files_and_keys_of_the_published_format(base: Path) -> None:
    golden = Path(__file__).parent / "golden" / "tied"
    assert {path.name for path in golden.iterdir()} - {"video_processor"} <= {path.name for path in base.iterdir()}
    for name in ("preprocessor_config.json", "processor_config.json", "special_tokens_map.json"):
        published, ours = (json.loads((folder / name).read_text()) for folder in (golden, base))
        assert set(published) <= set(ours), name
    published, ours = (json.loads((folder / "config.json").read_text()) for folder in (golden, base))
    assert set(published) == set(ours)
    assert json.loads((base / "chat_template.json").read_text())["chat_template"] == CHATML


@pytest.mark.compat
def test_transformers_reads_every_weight_and_no_other(base: Path) -> None:
    from transformers import LlavaOnevisionForConditionalGeneration

    _, report = LlavaOnevisionForConditionalGeneration.from_pretrained(base, output_loading_info=True)
    assert not any(report[kind] for kind in ("missing_keys", "unexpected_keys", "mismatched_keys"))


def test_equal_arguments_give_equal_files(base: Path, tmp_path: Path) -> None:
    again = build_base(SMALL, TEXTS, tmp_path / "again", seed=1)
    other = build_base(SMALL, TEXTS, tmp_path / "other", seed=2)
    assert _digest(again) == _digest(base)
    assert _digest(other) != _digest(base)


@pytest.mark.compat
def test_level_words_and_the_words_of_d1_are_single_tokens(tokenizer: Any) -> None:
    levels = [space + form for level in LEVELS for form in (level, level.capitalize()) for space in ("", " ")]
    assert set(levels) <= set(whole_words())
    for word in [*whole_words(), *"ABCDEF", "\n", "<image>"]:
        assert len(tokenizer(word)["input_ids"]) == 1, word
    assert [tokenizer.decode(tokenizer(text)["input_ids"]) for text in TEXTS[:3]] == TEXTS[:3]


@pytest.mark.parametrize("level", LEVELS)
def test_a_d1_row_has_21_targets_under_the_mask_of_llava_next(base: Path, level: str) -> None:
    """The count of the reference for Qwen2's vocabulary: 3 system, 5 user, 13 assistant."""
    row = Row("a", "a.png", ((TRAIN.question, f"The quality of the image is {level}."),))
    tokens = Encoder(Tokenizer.load(base), TRAIN.system, "next").encode(row, 36)
    assert sum(label != IGNORED for label in tokens.labels[1:]) == 21


def test_a_newline_is_never_part_of_another_token() -> None:
    vocabulary = train_tokenizer(["Is it sharp?\nA. Yes\nB. No\n\n"] * 500, 600)
    newline = vocabulary.ids("\n")
    assert vocabulary.ids("Is it sharp?\nA. Yes\n").count(newline[0]) == 2


@pytest.mark.compat
def test_special_tokens_stand_at_the_end_in_the_order_of_qwen2(base: Path, tokenizer: Any) -> None:
    places = [tokenizer.convert_tokens_to_ids(token) for token in SPECIALS]
    assert places == list(range(len(tokenizer) - 5, len(tokenizer)))
    config = json.loads((base / "config.json").read_text())
    assert [config["image_token_index"], config["video_token_index"]] == places[3:]
    assert config["text_config"]["eos_token_id"] == tokenizer.eos_token_id == places[2]


def test_a_vocabulary_without_room_for_the_words_is_refused() -> None:
    with pytest.raises(RecipeError, match=r"`size`: got 300, expected room for the bytes and the words.*Use 512"):
        train_tokenizer(TEXTS, 300)


def test_filters_are_a_dct_of_unit_variance_on_the_crops() -> None:
    crops = torch.randn(64, 3, 32, 32, generator=torch.Generator().manual_seed(0)).cumsum(-1).cumsum(-2) / 40
    kernel, bias = patch_filters(8, 96, crops)
    seen = torch.nn.functional.conv2d(crops, kernel, bias, stride=8).transpose(0, 1).flatten(1)
    assert seen.mean(dim=1).abs().max() < 1e-4
    assert torch.allclose(seen.std(dim=1), torch.ones(96), atol=1e-3)
    flat = torch.nn.functional.normalize(kernel.flatten(1).double(), dim=1)
    assert torch.allclose(flat @ flat.T, torch.eye(96, dtype=torch.float64), atol=1e-6)


def test_filters_without_crops_are_near_unit_variance_on_pictures_with_a_natural_spectrum() -> None:
    rng = np.random.default_rng(0)
    frequency = np.hypot(np.fft.fftfreq(256)[:, None], np.fft.rfftfreq(256)[None])
    spectrum = np.fft.rfft2(rng.standard_normal((8, 256, 256))) / np.maximum(frequency, 1 / 256)
    light = np.fft.irfft2(spectrum, s=(256, 256))
    light = torch.from_numpy(0.5 * light / light.std()).float()[:, None].expand(-1, 3, -1, -1)
    kernel, bias = patch_filters(8, 64)
    seen = torch.nn.functional.conv2d(light, kernel, bias, stride=8).transpose(0, 1).flatten(1).std(dim=1)
    luma = seen[seen > 1e-3]
    assert len(luma) == round(64 * 2 / 3)
    assert luma.min() > 0.3
    assert luma.max() < 3


def test_channels_without_a_function_start_at_zero() -> None:
    kernel, _ = patch_filters(2, 32)
    assert (kernel.flatten(1).norm(dim=1) > 0).sum() == 12


@pytest.mark.parametrize("shape", [(0, 3, 8, 8), (2, 1, 8, 8), (2, 3, 4, 8), (3, 8, 8)])
def test_crops_that_do_not_fit_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(RecipeError, match=r"`crops`: got <shape .*>, expected \(N, 3, H, W\) with sides of 8 or more"):
        patch_filters(8, 16, torch.zeros(shape))


def test_features_begin_at_a_moderate_scale(base: Path) -> None:
    metric = QSiT(base)
    picture = Image.effect_noise((96, 96), 60).convert("RGB")
    from qsit_metric.pixels import load

    features = metric.backend.encode([metric.backend.prepare(load(picture))])[0].data
    assert 0.02 < features.std() < 2


def test_count_is_that_of_the_file(base: Path) -> None:
    from safetensors import safe_open

    with safe_open(base / "model.safetensors", "pt") as file:
        stored = sum(file.get_tensor(name).numel() for name in file.keys())  # noqa: SIM118
    assert count_parameters(SMALL) == stored
    assert count_parameters(replace(SMALL, text_layers=2)) > stored


def test_residual_outputs_begin_small(base: Path) -> None:
    from train.nano.scratch import _model

    model = _model(SMALL, {token: place for place, token in enumerate(SPECIALS)})
    initialise(model, SMALL, seed=0)
    layer = model.model.language_model.layers[0]
    assert layer.mlp.down_proj.weight.std() < 0.3 * layer.mlp.up_proj.weight.std()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"tile": 0}, r"`scratch.tile`: got 0, expected a whole number of 1 or more"),
        ({"text_layers": 1.5}, r"`scratch.text_layers`: got 1.5"),
        ({"tile": 30}, r"`scratch.tile`: got <30>, expected a multiple of patch, 8"),
        ({"vision_width": 33}, r"`scratch.vision_width`: got <33>, expected a multiple of vision_heads, 2"),
        ({"text_kv_heads": 3, "text_heads": 4}, r"`scratch.text_heads`: got <4>, expected a multiple of text_kv_heads"),
        ({"text_width": 6}, r"`scratch.text_width`: got 6, expected an even number of channels for each head"),
    ],
)
def test_sizes_that_do_not_fit_are_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        replace(SMALL, **change)


def test_a_folder_with_files_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(RecipeError, match="expected a new or empty folder"):
        build_base(SMALL, TEXTS, tmp_path, seed=0)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def test_nothing_is_left_where_building_fails(tmp_path: Path) -> None:
    with pytest.raises(RecipeError):
        build_base(replace(SMALL, vocabulary=300), TEXTS, tmp_path / "base", seed=0)
    assert not list(tmp_path.iterdir())


def _digest(folder: Path) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(folder.iterdir())}
