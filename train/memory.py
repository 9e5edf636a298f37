"""How much memory a training step needs: computed term by term from a model's shape, and measured in a real step.

The backward pass frees checkpoints while gradients grow, so a step is looked at in five moments, and its peak is the
largest of them; each term names the moments ("phases") in which it is there. Byte counts follow what PyTorch keeps for
float32 weights under bfloat16 autocast with every layer checkpointed: the residual stream in float32, inputs of matrix
products in bfloat16. `measure` holds them against a real step.

Symbols: S tokens of the sequence, B rows at once, T tiles, P weights, L layers, D width, I width inside the MLP,
K width of keys (or values), V vocabulary, N processes that share the weights.
"""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from qsit_metric import catalog
from qsit_metric.backends.training import Config, LlavaOnevision, Text, Vision, empty
from qsit_metric.pixels.geometry import Geometry
from qsit_metric.pixels.tiles import plan

from .chat import IGNORED
from .errors import RecipeError, RunError
from .model import JointModel, mark_trainable, parameter_groups
from .recipe import Lora, Model, Optim, TrainingRecipe

PHASES = ("forward", "backward begins", "language done", "vision done", "step")
MIB = 2**20
SUPERVISED = 21  # targets of a D1 row under the mask "next"
TEXT = 46  # its tokens beside the image's, in Qwen2's vocabulary
_BACKWARD = PHASES[1:4]
_STEPS = 2  # the moments of the optimiser are there from the second on
_TEXT = (
    "hidden_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads", "intermediate_size", "vocab_size",
    "tie_word_embeddings",
)  # fmt: skip
_SIZES = {
    "small": (256, 8, 4, 2, 1408, 8000, True),
    "0.5b": (896, 24, 14, 2, 4864, 152000, True),
    "7b": (3584, 28, 28, 4, 18944, 152064, False),
}
_MALLOC = {"MALLOC_ARENA_MAX": "1", "MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "65536"}


@dataclass(frozen=True)
class Tower:
    """Sizes of a stack of equal layers.

    Attributes:
        layers: How many.
        hidden: Width of the residual stream.
        inner: Width inside the MLP.
        keys: Width of the keys, and of the values.
        layer_weights: Weights of one layer.
        weights: Weights of all layers and the norms around them; embeddings of words not counted.
    """

    layers: int
    hidden: int
    inner: int
    keys: int
    layer_weights: int
    weights: int


@dataclass(frozen=True)
class Shape:
    """Sizes of a model, which its memory depends on; counted without making its weights.

    Attributes:
        vision: The vision tower.
        text: The language model without its embedding and head.
        projector: Weights of the projector and the image newline.
        words: Weights of the embedding and the head; tied ones count once.
        vocabulary: Words.
        patches: Features of one tile.
    """

    vision: Tower
    text: Tower
    projector: int
    words: int
    vocabulary: int
    patches: int = 729

    @property
    def weights(self) -> int:
        """All weights."""
        return self.vision.weights + self.text.weights + self.projector + self.words


def shape_of(base: str) -> Shape:
    """The shape of a base checkpoint: one of the published sizes, or a folder's own config; no weights are read.

    Raises:
        RecipeError: Neither.
        CheckpointError: A folder without a LLaVA-OneVision config.
    """
    if (Path(base) / "config.json").is_file():
        return count(Config.load(Path(base)))
    record = catalog.find(base.partition("@")[0])
    name = (record.name if record else base).lower()
    for size, words in (("0.5b", ("mini", "0.5b")), ("7b", ("7b", "q-sit"))):
        if any(word in name for word in words):
            return count(config_of(size))
    hint = "Download it and give its folder as model.base."
    raise RecipeError.about("model.base", base, "a folder, or a checkpoint of 0.5B or 7B", hint)


def config_of(name: str) -> Config:
    """The config of a shape: "0.5b", "7b", or "small", which has the same parts at sizes that a CPU can train.

    Reference:
        config.json of llava-hf/llava-onevision-qwen2-0.5b-ov-hf and -7b-ov-hf.
    """
    small = name == "small"
    text = dict(zip(_TEXT, _SIZES[name], strict=True))
    sizes = (256, 4, 6, 1024) if small else (1152, 16, 26, 4304)
    names = ("hidden_size", "num_attention_heads", "num_hidden_layers", "intermediate_size")
    vision = {"model_type": "siglip_vision_model", "image_size": 384, "patch_size": 14, "vision_use_head": False}
    fields = {
        "model_type": "llava_onevision", "text_config": {"model_type": "qwen2", **text},
        "vision_config": {**vision, **dict(zip(names, sizes, strict=True))},
        "image_token_index": 7999 if small else 151646, "tie_word_embeddings": text["tie_word_embeddings"],
    }  # fmt: skip
    return Config.of(fields)


def count(config: Config) -> Shape:
    """Count a model's weights exactly, on the meta device: nothing is allocated."""
    sizes = {name: weight.numel() for name, weight in empty(config).named_parameters()}
    vision, text = config.vision, config.text
    words = _sum(sizes, "embed_tokens") + _sum(sizes, "lm_head")
    projector = _sum(sizes, "multi_modal_projector") + _sum(sizes, "image_newline")
    tower = _sum(sizes, "vision_tower")
    seen = _tower(vision, tower, _sum(sizes, "encoder.layers.0."), vision.hidden)
    rest = sum(sizes.values()) - words - projector - tower
    spoken = _tower(text, rest, _sum(sizes, "language_model.layers.0."), text.groups * text.head)
    return Shape(seen, spoken, projector, words, text.vocabulary, vision.positions)


def _tower(config: Vision | Text, weights: int, layer: int, keys: int) -> Tower:
    return Tower(config.layers, config.hidden, config.inner, keys, layer, weights)


def _sum(sizes: dict[str, int], part: str) -> int:
    return sum(size for name, size in sizes.items() if part in name)


@dataclass(frozen=True)
class Setting:
    """Settings of a training step.

    Attributes:
        tokens: Tokens of a row, image tokens included.
        tiles: Tiles of a row.
        rows: Rows in one forward pass (micro-batch).
        shards: Processes that share weights, gradients and optimiser (FSDP2, ZeRO-3); 1: each has all (DDP).
        lora: Adapters instead of all weights of the language model.
        frozen_vision: The vision tower does not learn.
        supervised: Targets of a row.
    """

    tokens: int
    tiles: int
    rows: int = 1
    shards: int = 1
    lora: Lora | None = None
    frozen_vision: bool = False
    supervised: int = SUPERVISED


@dataclass(frozen=True)
class Term:
    """One part of the need: name, bytes, formula, and the phases in which it is there."""

    name: str
    size: int
    formula: str
    phases: tuple[str, ...] = PHASES


def peak(terms: Sequence[Term]) -> tuple[int, str]:
    """The largest phase: its bytes and its name.

    Example:
        >>> peak([Term("weights", 4, "4 P"), Term("logits", 3, "14 B V", ("backward begins",))])
        (7, 'backward begins')
    """
    sums = {phase: sum(term.size for term in terms if phase in term.phases) for phase in PHASES}
    largest = max(PHASES, key=lambda phase: sums[phase])
    return sums[largest], largest


def setting_of(recipe: TrainingRecipe, width: int, height: int, shards: int = 1, text: int = TEXT) -> Setting:
    """The step that a recipe makes of pictures of a size.

    Example:
        >>> from train.recipe import TrainingRecipe
        >>> setting_of(TrainingRecipe("x"), 1024, 768).tokens - TEXT
        4725
    """
    layout = plan(Geometry(), height, width)
    frozen = "vision_tower" in recipe.model.frozen
    rows, lora = recipe.optim.micro_batch, recipe.model.lora
    return Setting(layout.tokens + text, layout.tiles, rows, shards, lora, frozen)


def compute(shape: Shape, setting: Setting) -> list[Term]:
    """The terms of a step's peak memory, on each device.

    Args:
        shape: The model.
        setting: The step.

    Returns:
        Named terms in bytes; `peak` adds them up. What a CUDA context and the allocator's reserve take (1 to 2 GB)
        is not in them, nor are attention scores, which SDPA does not keep.
    """
    learned = trainable(shape, setting)
    return [*_states(shape, setting, learned), *_activations(shape, setting)]


def trainable(shape: Shape, setting: Setting) -> int:
    """Weights that learn."""
    vision = 0 if setting.frozen_vision else shape.vision.weights
    if setting.lora is None:
        return shape.weights - shape.vision.weights + vision
    text = shape.text
    pairs = 4 * text.hidden + 2 * (text.hidden + text.keys) + 3 * (text.hidden + text.inner)  # q, o; k, v; the MLP
    return vision + shape.projector + setting.lora.rank * pairs * text.layers


def _states(shape: Shape, setting: Setting, learned: int) -> list[Term]:
    n = setting.shards
    terms = [
        Term("weights, float32", 4 * _held(shape, setting) // n, "4 P / N"),
        Term("AdamW moments", 8 * learned // n, "8 P_trained / N"),
        *_gradients(shape, setting, learned),
        Term("AdamW's temporaries", 4 * learned // n, "4 P_trained / N (foreach)", ("step",)),
    ]
    if n > 1:
        unit = max(shape.vision.layer_weights, shape.text.layer_weights)
        root = shape.words + shape.projector
        gathered = 2 * (root + 2 * unit)
        formula = "2 (P_words + P_projector + 2 P_layer), bfloat16: this layer and the next"
        both = Term("gathered weights", gathered, formula, PHASES[:4])
        partial = Term("gradients before they are spread", 4 * (root + unit), "4 (P_root + P_layer)", _BACKWARD)
        return [*terms, both, partial]
    copies = learned - (shape.words if setting.lora is None else 0)
    # A tied head is cast too; an embedding alone is only read.
    copies += shape.words if _tied(shape) and setting.lora is None else 0
    cast = Term("weights cast by autocast", 2 * copies, "2 P_trained: kept until the forward pass ends", ("forward",))
    return [*terms, cast]


def _gradients(shape: Shape, setting: Setting, learned: int) -> list[Term]:
    """Gradients, which come from the head down to the vision tower."""
    n, vision = setting.shards, 0 if setting.frozen_vision else shape.vision.weights
    words = shape.words if setting.lora is None else 0
    text = learned - words - vision - shape.projector
    return [
        Term("gradients of embedding and head", 4 * words // n, "4 P_words / N, 0 with adapters", PHASES[1:]),
        Term("gradients of the language model", 4 * text // n, "4 P_text / N", PHASES[2:]),
        Term("gradients of projector and tower", 4 * (vision + shape.projector) // n, "4 P_vision / N", PHASES[3:]),
    ]


def _activations(shape: Shape, setting: Setting) -> list[Term]:
    stream = 4 if setting.shards == 1 else 2
    text, vision = shape.text, shape.vision
    patches, tokens = setting.rows * setting.tiles * shape.patches, setting.rows * setting.tokens
    kept = 0 if setting.frozen_vision else stream * patches * vision.hidden * vision.layers
    both = ("forward", "backward begins")
    side = round(shape.patches**0.5) * 14
    learned = setting.rows * setting.supervised
    return [
        Term("pixels", 4 * setting.rows * setting.tiles * 3 * side**2, "12 B T side^2", PHASES[:4]),
        Term("checkpoints of the vision tower", kept, f"{stream} B T patches D L, 0 if frozen", PHASES[:3]),
        Term(
            "checkpoints of the language model",
            stream * tokens * text.hidden * text.layers,
            f"{stream} B S D L",
            both,
        ),
        Term(
            "projector and embedded sequence",
            patches * (2 * vision.hidden + 6 * text.hidden) + 3 * stream * tokens * text.hidden,
            f"B T patches (2 D_vision + 6 D) + {3 * stream} B S D",
            both,
        ),
        _recomputed(text, vision, tokens, patches, frozen=setting.frozen_vision),
        Term("logits and their gradient", 14 * learned * shape.vocabulary, "14 B targets V", ("backward begins",)),
    ]


def _recomputed(text: Tower, vision: Tower, tokens: int, patches: int, *, frozen: bool) -> Term:
    """Tensors that one layer keeps while its backward pass runs: the larger of both towers."""
    spoken = tokens * (40 * text.hidden + 12 * text.keys + 14 * text.inner)
    seen = 0 if frozen else patches * (36 * vision.hidden + 8 * vision.inner)
    sizes = {"B S (40 D + 12 K + 14 I), language": spoken, "B T patches (36 D + 8 I), vision": seen}
    formula = max(sizes, key=lambda name: sizes[name])
    return Term("largest recomputed layer", sizes[formula], formula, _BACKWARD)


def _held(shape: Shape, setting: Setting) -> int:
    lora = 0
    if setting.lora is not None:
        frozen_vision = shape.vision.weights if not setting.frozen_vision else 0
        lora = trainable(shape, setting) - frozen_vision - shape.projector
    return shape.weights + lora


def _tied(shape: Shape) -> bool:
    return shape.words == shape.vocabulary * shape.text.hidden


@dataclass(frozen=True)
class Measured:
    """Measured peak memory of a step.

    Attributes:
        peak: Bytes of a step's peak, with weights and optimiser, without what the process takes before.
        tokens: Tokens of the row.
        tiles: Its tiles.
        device: "cpu" or the GPU's name.
    """

    peak: int
    tokens: int
    tiles: int
    device: str


def measure(shape: str, width: int, height: int, device: str) -> Measured:
    """Make training steps in a fresh process and report their peak.

    Args:
        shape: "small", "0.5b" or "7b"; random weights.
        width: Of the picture, in pixels.
        height: Of the picture, in pixels.
        device: "cpu" or "cuda".

    Raises:
        RunError: The process failed, for example for want of memory.
    """
    command = [sys.executable, "-m", "train.memory", shape, str(width), str(height), device]
    root = Path(__file__).resolve().parents[1]
    done = subprocess.run(
        command, cwd=root, env=os.environ | _MALLOC, capture_output=True, text=True, check=False, timeout=1800
    )
    if done.returncode:
        last = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
        hint = f"It said: {last}"
        raise RunError.about("measure", f"<{shape} at {width}x{height} on {device}>", "a step that fits", hint)
    return Measured(**json.loads(done.stdout.splitlines()[-1]))


def take_steps(config: Config, width: int, height: int, device: torch.device) -> tuple[int, int]:
    """Train on one random row in bfloat16 with gradient checkpointing; returns its tokens and tiles."""
    joint, optimiser = _model(config, device)
    geometry = joint.geometry
    layout = plan(geometry, height, width)
    image = torch.full((1, layout.tokens), config.image_token)
    ids = torch.cat([torch.ones(1, 20, dtype=torch.long), image, torch.ones(1, TEXT - 20, dtype=torch.long)], dim=1)
    labels = torch.full_like(ids, IGNORED)
    labels[:, -SUPERVISED:] = 1
    tiles = torch.zeros(layout.tiles, 3, geometry.tile, geometry.tile, dtype=torch.uint8, device=device)
    for _ in range(_STEPS):
        with torch.autocast(device.type, torch.bfloat16):
            losses = joint(ids.to(device), labels.to(device), tiles, [layout])
        losses.means.mean().backward()
        torch.nn.utils.clip_grad_norm_(joint.parameters(), 1.0)
        optimiser.step()
        optimiser.zero_grad()
    return ids.shape[1], layout.tiles


def _model(config: Config, device: torch.device) -> tuple[JointModel, torch.optim.Optimizer]:
    with device:
        model = LlavaOnevision(config)
    for weight in model.parameters():
        nn.init.normal_(weight, std=0.02)
    mark_trainable(model, Model())
    joint = JointModel(model, Geometry(), recompute=True)
    joint.train()
    return joint, torch.optim.AdamW(parameter_groups(joint, Optim()), weight_decay=0.0)


def _resident(field: str) -> int:
    """A line of this process's status: "VmRSS" now, "VmHWM" at most."""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(field))


def main() -> None:
    """Entry point of the process."""
    shape, width, height, name = sys.argv[1:]
    device = torch.device(name)
    config = config_of(shape)
    take_steps(config_of("small"), 384, 384, device)  # kernels load their libraries once
    if device.type == "cuda":
        torch.cuda.empty_cache()
        before = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
    else:
        before = _resident("VmRSS")
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # the high-water mark starts here
    tokens, tiles = take_steps(config, int(width), int(height), device)
    top = torch.cuda.max_memory_allocated() if device.type == "cuda" else _resident("VmHWM")
    told = torch.cuda.get_device_name() if device.type == "cuda" else "cpu"
    found = Measured(top - before, tokens, tiles, told)
    sys.stdout.write(json.dumps(dataclasses.asdict(found)) + "\n")


if __name__ == "__main__":
    main()
