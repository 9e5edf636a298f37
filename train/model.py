"""The model that is trained: what it is loaded from, which of it learns and how fast, and its loss.

Paper: Q-SiT, arXiv 2503.09197; full fine-tuning as in LLaVA-NeXT's `finetune_ov.sh` (df17966). Deviations: the logits
are computed at supervised positions only, and images take the way of `qsit_metric`, so that what is trained is what is
scored, on any transformers.
"""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import nn
from torch.nn import functional

from qsit_metric.backends.base import LoadOptions
from qsit_metric.backends.checkpoint import load_config, load_geometry, load_tokenizer
from qsit_metric.backends.generation import Generation
from qsit_metric.backends.llava_onevision import LlavaOnevisionBackend
from qsit_metric.backends.loading import load_model
from qsit_metric.backends.tokenizer import Tokenizer
from qsit_metric.backends.vision import projected, tower_states
from qsit_metric.errors import DependencyError
from qsit_metric.hub import resolve
from qsit_metric.pixels.geometry import Geometry
from qsit_metric.pixels.tiles import Plan, normalise
from qsit_metric.prompts import CHATML, Recipe, recipe_named

from .chat import IGNORED
from .errors import RecipeError

if TYPE_CHECKING:
    from .recipe import Lora, Model, Optim

# What belongs to a module that is not trained; a tied head is the embedding, an untied one goes with it.
_FROZEN = {
    "vision_tower": ("vision_tower.",),
    "multi_modal_projector": ("multi_modal_projector.", "image_newline"),
    "language_model": ("language_model.", "lm_head."),
}
# Linear layers of the language model, by the names of both transformers 5 and 4.57; not those of the vision tower.
_TARGETS = r".*language_model\..*\.(q|k|v|o|gate|up|down)_proj"
_ADAPTER = "default"
INDEX = "model.safetensors.index.json"
_LANGUAGE, _TOWER = "language_model.", "vision_tower."
_CARRIED = (
    "preprocessor_config.json", "processor_config.json", "generation_config.json", "tokenizer.json", "vocab.json",
    "merges.txt", "added_tokens.json", "special_tokens_map.json", "tokenizer_config.json",
)  # fmt: skip
# Of the tokenizer's settings: the template has a file of its own, which every release of transformers reads; how
# transformers 5 was asked to load it is nobody's business.
_NOT_CARRIED = ("chat_template", "is_local", "local_files_only")


@dataclass(frozen=True)
class Parts:
    """A loaded checkpoint, taken apart.

    Attributes:
        model: `LlavaOnevisionForConditionalGeneration`, in float32.
        tokenizer: Its tokenizer.
        geometry: Its tile geometry.
        base: The folder that it was loaded from; its processor files travel on.
        scoring: How it is asked for a score.
    """

    model: Any
    tokenizer: Tokenizer
    geometry: Geometry
    base: Path
    scoring: Recipe

    def backend(self) -> LlavaOnevisionBackend:
        """The model as the metric's engine; this freezes it and puts it in eval mode."""
        template = self.scoring.template or CHATML
        rules = Generation.load(self.base)
        return LlavaOnevisionBackend(self.model, self.tokenizer, template, self.geometry, self.scoring, rules)

    def save(self, folder: Path, state: Mapping[str, torch.Tensor] | None = None, dtype: Any = None) -> None:
        """Write a folder that `QSiT(folder)` loads: weights, tokenizer, chat template, processor files, recipe.

        Args:
            folder: Made if it is not there.
            state: The weights; default: the model's own.
            dtype: Floating-point type on disk; default: as they are.
        """
        folder.mkdir(parents=True, exist_ok=True)
        weights = merged_state(self.model.state_dict() if state is None else state, self.model)
        if dtype is not None:
            weights = {name: weight.to(dtype) for name, weight in weights.items()}
        self.model.save_pretrained(folder, state_dict=weights, safe_serialization=True)
        publish_names(folder)
        for file in folder.glob("*.safetensors"):
            file.chmod((folder / "config.json").stat().st_mode)  # the library makes weights private to their writer
        for name in _CARRIED:
            if (self.base / name).is_file():
                shutil.copyfile(self.base / name, folder / name)
        _make_portable(folder / "tokenizer_config.json")
        (folder / "chat_template.jinja").write_text(self.scoring.template or CHATML, encoding="utf-8")
        self.scoring.save(folder)


def _make_portable(path: Path) -> None:
    """Name special tokens and the class as every release does; transformers 5 writes what 4.57 does not know."""
    fields = json.loads(path.read_text(encoding="utf-8"))
    if isinstance(fields.get("extra_special_tokens"), list):
        fields["additional_special_tokens"] = fields.pop("extra_special_tokens")
    if fields.get("tokenizer_class") == "TokenizersBackend":
        fields["tokenizer_class"] = "PreTrainedTokenizerFast"
    kept = {name: value for name, value in fields.items() if name not in _NOT_CARRIED}
    path.write_text(json.dumps(kept, indent=2) + "\n", encoding="utf-8")


def load_parts(spec: Model, scoring: str, choices: str = "letters") -> Parts:
    """Load the checkpoint that training starts from, and mark what learns.

    Args:
        spec: What is trained.
        scoring: Name of the recipe that it is asked for a score with.
        choices: How it is asked to choose between options.

    Raises:
        CheckpointError: Not a complete LLaVA-OneVision checkpoint.
        HubError: It cannot be had.
        RecipeError: Everything is frozen.
    """
    from transformers import LlavaOnevisionForConditionalGeneration

    folder = resolve(spec.base, revision=spec.revision).folder
    recipe = dataclasses.replace(recipe_named(scoring), choices=choices)
    tokenizer, _ = load_tokenizer(folder, recipe.template or CHATML)
    model = load_model(LlavaOnevisionForConditionalGeneration, folder, load_config(folder), LoadOptions())
    if spec.attention:
        model.set_attn_implementation(spec.attention)
    mark_trainable(model, spec)
    return Parts(model, tokenizer, load_geometry(folder), folder, recipe)


def mark_trainable(model: Any, spec: Model) -> None:
    """Set `requires_grad`: all but what the recipe freezes and what the loss never reaches.

    The vision tower's post-norm and pooling head, and layers above the one whose states are read, get no gradient;
    left trainable they would stall distributed training.
    """
    model.requires_grad_(True)
    if spec.lora:
        add_adapters(model, spec.lora)
    still = [*_unused_layers(model), *(part for module in spec.frozen for part in _FROZEN[module])]
    for name, weight in model.named_parameters():
        if any(part in name for part in still) and "lora_" not in name:
            weight.requires_grad_(False)
    if not any(weight.requires_grad for weight in model.parameters()):
        raise RecipeError.about("model.frozen", spec.frozen, "something that learns")
    if spec.gradient_checkpointing:
        model.gradient_checkpointing_enable({"use_reentrant": False})


def _unused_layers(model: Any) -> list[str]:
    layer, count = model.config.vision_feature_layer, model.config.vision_config.num_hidden_layers
    last = layer + count + 1 if layer < 0 else layer  # hidden_states[k] comes out of layer k - 1
    return ["post_layernorm.", "vision_tower.head.", "vision_model.head."] + [
        f"encoder.layers.{index}." for index in range(last, count)
    ]


def add_adapters(model: Any, spec: Lora) -> None:
    """Put adapters on the language model; its own weights, embeddings and head no longer learn.

    Projector, image newline and vision tower stay as they are (trained in full unless the recipe freezes them).

    Raises:
        DependencyError: peft is not installed.
    """
    try:
        from peft import LoraConfig, inject_adapter_in_model
    except ImportError as error:
        hint = "Run `pip install 'qsit-metric[train]'`."
        raise DependencyError.about("model.lora", spec, "peft to be installed", hint) from error
    config = LoraConfig(r=spec.rank, lora_alpha=spec.alpha, lora_dropout=spec.dropout, target_modules=_TARGETS)
    inject_adapter_in_model(config, model, adapter_name=_ADAPTER)
    for name, weight in model.named_parameters():
        full = "vision_tower" in name or "multi_modal_projector" in name or "image_newline" in name
        weight.requires_grad_("lora_" in name or full)


def merged_state(state: Mapping[str, torch.Tensor], model: Any) -> dict[str, torch.Tensor]:
    """A state dict with adapters folded into the weights, under the names of the plain model.

    The model itself is left as it is: merging and unmerging in place would not give back the same bits.
    """
    scale = {name: module.scaling[_ADAPTER] for name, module in model.named_modules() if hasattr(module, "lora_A")}
    merged = {}
    for name, weight in state.items():
        if ".lora_" in name:
            continue
        owner = name.removesuffix(".base_layer.weight")
        if owner in scale and owner != name:
            down, up = (state[f"{owner}.lora_{side}.{_ADAPTER}.weight"] for side in "AB")
            weight = (weight.float() + scale[owner] * (up.float() @ down.float())).to(weight.dtype)  # noqa: PLW2901
        merged[name.replace(".base_layer.", ".")] = weight
    return merged


def parameter_groups(model: nn.Module, optim: Optim) -> list[dict[str, Any]]:
    """Trainable weights in two groups, each with its peak learning rate: the vision tower, and the rest.

    Reference:
        finetune_ov.sh: `mm_vision_tower_lr=2e-6` for names that contain "vision_tower", `learning_rate` for all others.
    """
    learning = [(name, weight) for name, weight in model.named_parameters() if weight.requires_grad]
    tower = [weight for name, weight in learning if "vision_tower" in name]
    rest = [weight for name, weight in learning if "vision_tower" not in name]
    groups = [{"params": rest, "lr": optim.lr}, {"params": tower, "lr": optim.vision_lr}]
    return [group for group in groups if group["params"]]


class RowLosses(NamedTuple):
    """Cross-entropy of a batch, float32.

    Attributes:
        sums: (B,) sums over each row's targets.
        counts: (B,) numbers of each row's targets.
        each: (T,) the loss of each target.
        rows: (T,) the row that it is in.
        places: (T,) its position in the row.
    """

    sums: torch.Tensor
    counts: torch.Tensor
    each: torch.Tensor
    rows: torch.Tensor
    places: torch.Tensor

    @property
    def means(self) -> torch.Tensor:
        """(B,) mean over each row's targets."""
        return self.sums / self.counts


class JointModel(nn.Module):
    """The model with its loss inside, so that engines that wrap a module (DDP, FSDP2, ZeRO-3) see one forward.

    Args:
        model: `LlavaOnevisionForConditionalGeneration`.
        geometry: Its tile geometry.
    """

    def __init__(self, model: Any, geometry: Geometry) -> None:
        super().__init__()
        self.model = model
        self.geometry = geometry

    def forward(self, ids: torch.Tensor, labels: torch.Tensor, tiles: torch.Tensor, plans: Sequence[Plan]) -> RowLosses:
        """Compute the losses of a batch.

        Args:
            ids: (B, L) token ids, right-padded; image positions hold the image token.
            labels: (B, L), `IGNORED` where nothing is learned.
            tiles: (sum of plans' tiles, 3, tile, tile) uint8, all pictures one after the other; or what the tower says
                of them, (sum of plans' tiles, side * side, D).
            plans: B of them.

        Returns:
            The losses, differentiable. Right padding needs no mask: attention is causal, and padding is unlearned.
        """
        core = self.model.model
        seen = tower_states(self.model, normalise(tiles, self.geometry)) if tiles.ndim == 4 else tiles.float()
        features = projected(self.model, [seen], plans)
        embedded = self.model.get_input_embeddings()(ids)
        images = (ids == self.model.config.image_token_index).unsqueeze(-1)
        embedded = embedded.masked_scatter(images, torch.cat(features).to(embedded.dtype))
        # A mask of ones: without one, transformers 4.57 looks for sequences packed into a row.
        hidden = core.language_model(inputs_embeds=embedded, attention_mask=torch.ones_like(ids), use_cache=False)[0]
        return self.losses(hidden, labels)

    def losses(self, hidden: torch.Tensor, labels: torch.Tensor) -> RowLosses:
        """Losses from hidden states (B, L, D); logits at supervised positions only.

        All logits of a 7.3 k sequence with 152 k words would be 4.4 GB; those of its few learned tokens are nothing.
        """
        targets = labels[:, 1:]
        learned = targets != IGNORED
        logits = self.model.get_output_embeddings()(hidden[:, :-1][learned]).float()
        each = functional.cross_entropy(logits, targets[learned], reduction="none")
        rows, places = learned.nonzero().unbind(dim=1)
        sums = torch.zeros(len(labels), dtype=each.dtype, device=each.device).index_add(0, rows, each)
        return RowLosses(sums, learned.sum(dim=1), each, rows, places + 1)


def published(name: str) -> str:
    """A weight's name as the published checkpoints have it. Idempotent.

    Example:
        >>> published("model.vision_tower.post_layernorm.bias")
        'vision_tower.vision_model.post_layernorm.bias'
        >>> published("model.language_model.norm.weight"), published("lm_head.weight")
        ('language_model.model.norm.weight', 'language_model.lm_head.weight')

    Reference:
        model.safetensors of llava-hf/llava-onevision-qwen2-0.5b-ov-hf, written by transformers 4.45.
    """
    name = name.removeprefix("model.")
    if name.startswith("lm_head."):
        return _LANGUAGE + name
    if name.startswith(_LANGUAGE) and not name.startswith((_LANGUAGE + "model.", _LANGUAGE + "lm_head.")):
        return name.replace(_LANGUAGE, _LANGUAGE + "model.", 1)
    if name.startswith(_TOWER) and not name.startswith(_TOWER + "vision_model."):
        return name.replace(_TOWER, _TOWER + "vision_model.", 1)
    return name


def publish_names(folder: Path) -> None:
    """Rename the weights in a folder that was just saved, shard by shard; nothing where they are right already."""
    for file in folder.glob("*.safetensors"):
        with safe_open(file, "pt") as opened:
            names, metadata = list(opened.keys()), opened.metadata()
        if all(name == published(name) for name in names):
            continue
        weights = {published(name): weight for name, weight in load_file(file).items()}
        renamed = file.with_suffix(".renamed")  # the old file is mapped into memory
        save_file(weights, renamed, metadata)
        renamed.replace(file)
    if (folder / INDEX).is_file():
        index = json.loads((folder / INDEX).read_text(encoding="utf-8"))
        index["weight_map"] = {published(name): file for name, file in index["weight_map"].items()}
        (folder / INDEX).write_text(json.dumps(index, indent=2, sort_keys=True) + "\n", encoding="utf-8")
