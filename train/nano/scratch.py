"""Untrained LLaVA-OneVision checkpoints of any size, in the file format of the published ones.

A small model trained from nothing goes through the same files, loader and loop as the 0.5B and 7B models. Three things
are chosen so that it learns in minutes, not in GPU-years:

- The patch embedding is a 2-D DCT: brightness at all spatial frequencies, colour at the low ones. Each filter is scaled
  to unit variance, so that the fine detail in which blur, noise and blocks show is as loud as the coarse.
- The features that the language model reads are the last hidden state of the tower *without* its post-norm
  (`vision_feature_layer` -1 of LLaVA-OneVision). The residual branches start small, so these features start at unit
  scale; the projector brings them to the scale of the word embeddings.
- The output head is the embedding (tied), as in the published 0.5B model.

Architecture: LLaVA-OneVision, arXiv 2408.03326. File format: `llava-hf/llava-onevision-qwen2-*-ov-hf` of transformers
4.45; only keys that 4.45 to 5.x read alike are written, so one folder serves all of them.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from qsit_metric.backends.training import Config, LlavaOnevision
from qsit_metric.files import new_folder
from qsit_metric.pixels.geometry import Geometry
from qsit_metric.prompts import CHATML

from ..errors import RecipeError
from ..model import save_weights
from .tokenizer import EOS, IMAGE, PAD, SPECIALS, VIDEO, train_tokenizer

_THETA = 10000.0  # rotary base: the default of every release; a million, as in Qwen2, is for long contexts
_PROCESSOR = "LlavaOnevisionProcessor"

_SIGMA = 0.5  # standard deviation of pixels that are scaled to -1..1
_CHROMA = 0.1  # variance of a colour difference relative to brightness, in natural pictures
_AXES = np.array([[1, 1, 1], [1, 0, -1], [1, -2, 1]]) / np.sqrt([[3], [2], [6]])  # brightness, red-blue, green-purple
_LUMA = 2 / 3  # share of the filters that see brightness
_QUIET = 0.3  # of the language model's residual branches: louder ones drown the words (one seed: slower with 1.0)


@dataclass(frozen=True)
class Scratch:
    """Sizes of a model; the defaults are the small model of `python -m train tiny`.

    Attributes:
        tile: Side of a tile in pixels, a multiple of `patch`.
        patch: Side of a patch in pixels.
        rows: Grids have up to so many rows of tiles.
        cols: Grids have up to so many columns of tiles.
        max_tiles: The grid's features are sampled down to the number of so many tiles ("anyres_max_N").
        vision_width: Channels of the vision tower.
        vision_layers: Its layers.
        vision_heads: Its attention heads.
        vision_intermediate: Channels inside its MLPs.
        text_width: Channels of the language model.
        text_layers: Its layers.
        text_heads: Its attention heads.
        text_kv_heads: Its heads of keys and values; divides `text_heads`.
        text_intermediate: Channels inside its MLPs.
        positions: Longest sequence, image tokens included.
        vocabulary: Tokens, the special ones included.

    Raises:
        RecipeError: A size below 1, or sizes that do not divide each other.
    """

    tile: int = 32
    patch: int = 8
    rows: int = 3
    cols: int = 3
    max_tiles: int = 1
    vision_width: int = 96
    vision_layers: int = 2
    vision_heads: int = 4
    vision_intermediate: int = 192
    text_width: int = 96
    text_layers: int = 3
    text_heads: int = 4
    text_kv_heads: int = 2
    text_intermediate: int = 256
    positions: int = 2048
    vocabulary: int = 1024

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if not isinstance(value, int) or value < 1:
                raise RecipeError.about(f"scratch.{name}", value, "a whole number of 1 or more")
        for whole, part in _DIVIDES:
            if getattr(self, whole) % getattr(self, part):
                value = f"<{getattr(self, whole)}>"
                raise RecipeError.about(f"scratch.{whole}", value, f"a multiple of {part}, {getattr(self, part)}")
        if self.text_width // self.text_heads % 2:  # rotary positions turn pairs of channels
            raise RecipeError.about("scratch.text_width", self.text_width, "an even number of channels for each head")

    @property
    def pinpoints(self) -> list[list[int]]:
        """Allowed grids as (height, width) in pixels."""
        return [
            [self.tile * row, self.tile * col] for row in range(1, self.rows + 1) for col in range(1, self.cols + 1)
        ]

    @property
    def geometry(self) -> Geometry:
        """How pictures are cut."""
        grids = tuple((high, wide) for high, wide in self.pinpoints)
        return Geometry(self.tile, self.patch, grids, self.max_tiles)


_DIVIDES = (
    ("tile", "patch"),
    ("vision_width", "vision_heads"),
    ("text_width", "text_heads"),
    ("text_heads", "text_kv_heads"),
)


def build_base(spec: Scratch, texts: Iterable[str], folder: Path, seed: int, crops: torch.Tensor | None = None) -> Path:
    """Write an untrained checkpoint that `QSiT(folder)` loads; equal arguments give equal files.

    Args:
        spec: The sizes.
        texts: What the tokenizer is trained on; questions and answers of the data.
        folder: Where the checkpoint goes; must not exist or be empty.
        seed: Any whole number of 0 or more.
        crops: (N, 3, H, W), sides of at least one patch, scaled as the model reads them (-1..1): the filters get unit
            variance and zero mean on these. Default: on pictures whose power falls with the square of the frequency.

    Returns:
        The folder.

    Raises:
        RecipeError: The folder has files, the vocabulary is too small, or the crops do not fit.
    """
    if folder.is_dir() and any(folder.iterdir()):
        raise RecipeError.about("folder", str(folder), "a new or empty folder", "Remove it, or choose another.")
    with new_folder(folder) as work:
        vocabulary = train_tokenizer(texts, spec.vocabulary)
        vocabulary.save(work, spec.positions)
        model = _model(spec, vocabulary.places)
        initialise(model, spec, seed, crops)
        save_weights(model.state_dict(), model.config, work)
        for name, fields in config_files(spec, vocabulary.places).items():
            _write_json(work / name, fields)
    return folder


def config_files(spec: Scratch, places: Mapping[str, int]) -> dict[str, dict[str, Any]]:
    """The JSON files beside weights, config and tokenizer, by name.

    Args:
        spec: The sizes.
        places: Id of each special token.
    """
    return {
        "generation_config.json": {"eos_token_id": places[EOS], "pad_token_id": places[PAD]},
        "chat_template.json": {"chat_template": CHATML},
        "preprocessor_config.json": {
            "do_convert_rgb": True,
            "do_normalize": True,
            "do_pad": True,
            "do_rescale": True,
            "do_resize": True,
            "image_grid_pinpoints": spec.pinpoints,
            "image_mean": [0.5, 0.5, 0.5],
            "image_processor_type": "LlavaOnevisionImageProcessor",
            "image_std": [0.5, 0.5, 0.5],
            "processor_class": _PROCESSOR,
            "resample": 3,
            "rescale_factor": 1 / 255,
            "size": {"height": spec.tile, "width": spec.tile},
        },
        "processor_config.json": {
            "image_token": IMAGE,
            "num_image_tokens": (spec.tile // spec.patch) ** 2,
            "processor_class": _PROCESSOR,
            "video_token": VIDEO,
            "vision_aspect_ratio": f"anyres_max_{spec.max_tiles}",
            "vision_feature_select_strategy": "full",
        },
    }


def config_fields(spec: Scratch, places: Mapping[str, int]) -> dict[str, Any]:
    """Content of `config.json`."""
    return {
        "architectures": ["LlavaOnevisionForConditionalGeneration"],
        "image_grid_pinpoints": spec.pinpoints,
        "image_token_index": places[IMAGE],
        "model_type": "llava_onevision",
        "projector_hidden_act": "gelu",
        "text_config": _text(spec, places),
        "tie_word_embeddings": True,
        "torch_dtype": "float32",
        "transformers_version": "4.45.0",
        "video_token_index": places[VIDEO],
        "vision_aspect_ratio": f"anyres_max_{spec.max_tiles}",
        "vision_config": _vision(spec),
        "vision_feature_layer": -1,
        "vision_feature_select_strategy": "full",
    }


def _text(spec: Scratch, places: Mapping[str, int]) -> dict[str, Any]:
    return {
        "eos_token_id": places[EOS],
        "pad_token_id": places[PAD],
        "hidden_size": spec.text_width,
        "intermediate_size": spec.text_intermediate,
        "max_position_embeddings": spec.positions,
        "model_type": "qwen2",
        "num_attention_heads": spec.text_heads,
        "num_hidden_layers": spec.text_layers,
        "num_key_value_heads": spec.text_kv_heads,
        "rope_theta": _THETA,
        "tie_word_embeddings": True,
        "vocab_size": spec.vocabulary,
    }


def _vision(spec: Scratch) -> dict[str, Any]:
    return {
        "hidden_size": spec.vision_width,
        "image_size": spec.tile,
        "intermediate_size": spec.vision_intermediate,
        "model_type": "siglip_vision_model",
        "num_attention_heads": spec.vision_heads,
        "num_hidden_layers": spec.vision_layers,
        "patch_size": spec.patch,
        "vision_use_head": False,
    }


def count_parameters(spec: Scratch) -> int:
    """Parameters of a model, the tied head counted once; no weights are made.

    Example:
        >>> count_parameters(Scratch()) < 1_000_000
        True
    """
    with torch.device("meta"):
        model = _model(spec, {token: place for place, token in enumerate(SPECIALS)})
    return sum(weight.numel() for weight in model.parameters())


def initialise(model: LlavaOnevision, spec: Scratch, seed: int, crops: torch.Tensor | None = None) -> None:
    """Fill the weights: matrices by fan-in, residual outputs smaller by depth, the patch embedding as a DCT.

    Args:
        model: The network of these sizes.
        spec: The sizes.
        seed: Any whole number of 0 or more.
        crops: See `build_base`.
    """
    noise = torch.Generator().manual_seed(seed)
    depth = {"vision_tower": spec.vision_layers, "language_model": spec.text_layers}
    with torch.no_grad():
        for name, weight in sorted(model.named_parameters()):
            if weight.ndim < 2:
                weight.fill_(1.0 if "norm" in name and name.endswith("weight") else 0.0)
            else:
                layers = next((count for part, count in depth.items() if part in name), 0)
                weight.normal_(0.0, _spread(name, weight.shape[-1], layers), generator=noise)
        model.model.image_newline.normal_(0.0, spec.text_width**-0.5, generator=noise)
        kernel, bias = patch_filters(spec.patch, spec.vision_width, crops)
        patches = model.model.vision_tower.vision_model.embeddings.patch_embedding
        patches.load_state_dict({"weight": kernel, "bias": bias})


def _model(spec: Scratch, places: Mapping[str, int]) -> LlavaOnevision:
    return LlavaOnevision(Config.of(config_fields(spec, places)))


def _spread(name: str, inputs: int, layers: int) -> float:
    """Standard deviation of a fresh matrix."""
    if "position_embedding" in name:
        return 0.2  # a fifth of a feature: a place is known, and does not drown what is there
    if "embed_tokens" in name or "projector.linear_2" in name:
        return 1 / math.sqrt(inputs)  # words of unit length: the tied head then starts with logits of unit size
    residual = name.endswith(("out_proj.weight", "o_proj.weight", "fc2.weight", "down_proj.weight"))
    quiet = _QUIET if "language_model" in name else 1.0
    return (quiet / math.sqrt(2 * layers) if residual and layers else 1.0) / math.sqrt(inputs)


def patch_filters(patch: int, width: int, crops: torch.Tensor | None = None) -> tuple[torch.Tensor, torch.Tensor]:
    """Filters of a patch embedding: DCT functions of brightness and of two colour differences.

    Two thirds see brightness, spread evenly over all frequencies; the rest see colour at the lowest. When there are
    more channels than functions, the rest of the channels start at zero.

    Args:
        patch: Side of a patch.
        width: Number of filters.
        crops: See `build_base`.

    Returns:
        Kernel (width, 3, patch, patch) and bias (width,).

    Example:
        >>> kernel, bias = patch_filters(8, 96)
        >>> kernel.shape, bool((bias == 0).all())
        (torch.Size([96, 3, 8, 8]), True)
    """
    chosen = _functions(patch, width)
    waves = _dct(patch)
    kernel = np.zeros((width, 3, patch, patch))
    for number, (axis, row, col) in enumerate(chosen):
        kernel[number] = _AXES[axis][:, None, None] * np.outer(waves[row], waves[col])
    flat = torch.from_numpy(kernel).float()
    if crops is None:
        scale, mean = torch.tensor(_expected(patch, width, chosen)), torch.zeros(width)
    else:
        scale, mean = _measured(flat, crops)
    scale = scale.to(flat).clamp(min=1e-3)  # a filter that these crops never excite
    return flat / scale[:, None, None, None], -mean.to(flat) / scale


def _functions(patch: int, width: int) -> list[tuple[int, int, int]]:
    """(colour axis, row frequency, column frequency) of each filter."""
    plane = sorted(((r, c) for r in range(patch) for c in range(patch)), key=lambda f: (f[0] ** 2 + f[1] ** 2, f))
    luma = min(len(plane), max(1, round(width * _LUMA)))
    spread = [plane[round(i)] for i in np.linspace(0, len(plane) - 1, luma)]
    chroma = [(axis, *frequency) for frequency in plane for axis in (1, 2)]
    return [(0, *frequency) for frequency in spread] + chroma[: width - luma]


def _dct(size: int) -> np.ndarray[Any, np.dtype[np.float64]]:
    """The orthonormal DCT-II; a row for each frequency."""
    waves = np.cos(np.pi * np.outer(np.arange(size), np.arange(size) + 0.5) / size) * math.sqrt(2 / size)
    waves[0] /= math.sqrt(2)
    found: np.ndarray[Any, np.dtype[np.float64]] = waves
    return found


def _expected(patch: int, width: int, chosen: list[tuple[int, int, int]]) -> list[float]:
    """Standard deviation of each filter on pictures whose power falls with the square of the frequency."""
    power = {(r, c): 1 / max(r * r + c * c, 0.25) for r in range(patch) for c in range(patch)}
    total = sum(power.values())
    energy = 3 * (patch * _SIGMA) ** 2 / total  # of all frequencies; almost all of it is brightness
    found = [math.sqrt(energy * power[row, col] * (_CHROMA if axis else 1)) for axis, row, col in chosen]
    return found + [1.0] * (width - len(chosen))


def _measured(kernel: torch.Tensor, crops: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    patch = kernel.shape[-1]
    if crops.ndim != 4 or crops.shape[1] != 3 or min(crops.shape[2:]) < patch or not len(crops):
        shape = f"<shape {tuple(crops.shape)}>"
        raise RecipeError.about("crops", shape, f"(N, 3, H, W) with sides of {patch} or more")
    seen = torch.nn.functional.conv2d(crops.to(kernel), kernel, stride=patch).transpose(0, 1).flatten(1)
    return seen.std(dim=1), seen.mean(dim=1)


def _write_json(path: Path, fields: dict[str, Any]) -> None:
    path.write_text(json.dumps(fields, indent=2, sort_keys=True) + "\n", encoding="utf-8")
