"""How much memory a training step needs, computed term by term from a model's shape. Pure.

The backward pass frees checkpoints while gradients grow, so a step is looked at in five moments, and its peak is the
largest of them; each term names the moments ("phases") in which it is there. Byte counts follow what PyTorch keeps for
float32 weights under bfloat16 autocast with every layer checkpointed: the residual stream in float32, inputs of matrix
products in bfloat16. `train.memory_measure` holds them against a real step.

Symbols: S tokens of the sequence, B rows at once, T tiles, P weights, L layers, D width, I width inside the MLP,
K width of keys (or values), V vocabulary, N processes that share the weights.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from qsit_metric.geometry import Geometry
from qsit_metric.tiling import plan

from .memory_shape import Shape, Tower
from .recipe import Lora, TrainingRecipe

PHASES = ("forward", "backward begins", "language done", "vision done", "step")
_BACKWARD = PHASES[1:4]
SUPERVISED = 21  # targets of a D1 row under the mask "next"
TEXT = 46  # its tokens beside the image's, in Qwen2's vocabulary
MIB = 2**20


@dataclass(frozen=True)
class Setting:
    """How a step is made.

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
    """They come from the head down to the vision tower."""
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
    """What one layer keeps while its backward pass runs: the larger of both towers."""
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
