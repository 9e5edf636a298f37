"""The model that is trained: what it is loaded from, which of it learns and how fast, its loss, and how it is saved.

The network is the one that scores (`qsit_metric.model`), so what is trained is what is measured; transformers
is not needed. Checkpoints are written in the published format, which transformers 4.57 and 5.x load.

Paper: Q-SiT, arXiv 2503.09197; full fine-tuning as in LLaVA-NeXT's `finetune_ov.sh` (df17966). Deviation: the logits
are computed at supervised positions only.
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
from huggingface_hub import save_torch_state_dict
from torch import nn
from torch.nn import functional

from qsit_metric.backends.training import (
    Config,
    Generation,
    LlavaOnevision,
    LlavaOnevisionBackend,
    Tokenizer,
    Whole,
    load_geometry,
    load_weights,
    projected,
)
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
_TARGETS = r".*language_model\..*\.(q|k|v|o|gate|up|down)_proj"  # of adapters
_ADAPTER = "default"
_DTYPES = ("dtype", "torch_dtype")  # what releases of transformers call the type of the weights in a config
_SHARD = "5GB"  # of a file
_OF_LOADING = ("chat_template", "is_local", "local_files_only")
_CARRIED = (
    "preprocessor_config.json", "processor_config.json", "generation_config.json", "tokenizer.json", "vocab.json",
    "merges.txt", "special_tokens_map.json", "added_tokens.json",
)  # fmt: skip


@dataclass(frozen=True)
class Parts:
    """A loaded checkpoint: network, tokenizer, geometry, folder and scoring recipe.

    Attributes:
        model: The network, in float32.
        tokenizer: Its tokenizer.
        geometry: Its tile geometry.
        base: The folder that it was loaded from; its processor and tokenizer files travel on.
        scoring: How it is asked for a score.
        recompute: Keep each layer's input only, and compute the rest again in the backward pass.
    """

    model: LlavaOnevision
    tokenizer: Tokenizer
    geometry: Geometry
    base: Path
    scoring: Recipe
    recompute: bool = False

    @property
    def device(self) -> torch.device:
        """Where the model is."""
        return self.model.model.image_newline.device

    def backend(self) -> LlavaOnevisionBackend:
        """The model as the metric's engine; this freezes it and puts it in eval mode."""
        template = self.scoring.template or CHATML
        rules = Generation.load(self.base)
        return LlavaOnevisionBackend(self.model, self.tokenizer, template, self.geometry, self.scoring, rules)

    def save(self, folder: Path, state: Mapping[str, torch.Tensor] | None = None, dtype: Any = None) -> None:
        """Write a folder that `QSiT(folder)` and transformers load.

        Args:
            folder: Made if it is not there.
            state: The weights; default: the model's own.
            dtype: Floating-point type on disk; default: as they are.
        """
        folder.mkdir(parents=True, exist_ok=True)
        weights = merged_state(self.model.state_dict() if state is None else state, self.model)
        if dtype is not None:
            weights = {name: weight.to(dtype) for name, weight in weights.items()}
        save_weights(weights, self.model.config, folder)
        for name in _CARRIED:
            if (self.base / name).is_file():
                shutil.copyfile(self.base / name, folder / name)
        settings = json.loads((self.base / "tokenizer_config.json").read_text(encoding="utf-8"))
        _write_json(folder / "tokenizer_config.json", _portable(settings))
        (folder / "chat_template.jinja").write_text(self.scoring.template or CHATML, encoding="utf-8")
        self.scoring.save(folder)


def save_weights(weights: Mapping[str, torch.Tensor], config: Config, folder: Path) -> None:
    """Write weights and `config.json` as the published checkpoints have them, in shards where they are large.

    Args:
        weights: By their names in the network.
        config: Of the network; a tied head is left out.
        folder: Where they go.
    """
    kept = {on_disk(name): weight for name, weight in weights.items() if name != "lm_head.weight" or not config.tied}
    save_torch_state_dict(kept, folder, filename_pattern="model{suffix}.safetensors", max_shard_size=_SHARD)
    dtype = str(next(iter(kept.values())).dtype).removeprefix("torch.")
    _write_json(folder / "config.json", _with_dtype({"torch_dtype": dtype, **config.raw}, dtype))
    for file in folder.glob("*.safetensors"):
        file.chmod((folder / "config.json").stat().st_mode)  # the library makes weights private to their writer


def on_disk(name: str) -> str:
    """A weight's name in the published checkpoints, which every release of transformers reads; idempotent.

    Example:
        >>> on_disk("model.vision_tower.vision_model.post_layernorm.bias")
        'vision_tower.vision_model.post_layernorm.bias'
        >>> on_disk("model.language_model.norm.weight"), on_disk("lm_head.weight")
        ('language_model.model.norm.weight', 'language_model.lm_head.weight')

    Reference:
        model.safetensors of llava-hf/llava-onevision-qwen2-0.5b-ov-hf, written by transformers 4.45.
    """
    name = name.removeprefix("model.")
    if name.startswith("lm_head."):
        return f"language_model.{name}"
    if name.startswith("language_model.") and not name.startswith(("language_model.model.", "language_model.lm_head.")):
        return name.replace("language_model.", "language_model.model.", 1)
    return name


def _portable(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings of a tokenizer as every release reads them; transformers 5 writes what 4.57 does not know.

    The chat template has a file of its own; how somebody once loaded the tokenizer is nobody's business.
    """
    kept = {name: value for name, value in settings.items() if name not in _OF_LOADING}
    if kept.get("tokenizer_class") == "TokenizersBackend":
        kept["tokenizer_class"] = "PreTrainedTokenizerFast"
    if isinstance(kept.get("extra_special_tokens"), list):
        kept["additional_special_tokens"] = kept.pop("extra_special_tokens")
    return kept


def _with_dtype(fields: Mapping[str, Any], dtype: str) -> dict[str, Any]:
    """A config that says of which type its weights are, wherever it says so."""
    changed = {}
    for key, value in fields.items():
        inner = _with_dtype(value, dtype) if isinstance(value, Mapping) else value
        changed[key] = dtype if key in _DTYPES and value is not None else inner
    return changed


def _write_json(path: Path, fields: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(fields, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


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
    folder = resolve(spec.base, revision=spec.revision).folder
    recipe = dataclasses.replace(recipe_named(scoring), choices=choices)
    model = load_weights(folder, Config.load(folder))
    _attend(spec.attention)
    mark_trainable(model, spec)
    tokenizer = Tokenizer.load(folder)
    return Parts(model, tokenizer, load_geometry(folder), folder, recipe, spec.gradient_checkpointing)


def _attend(kind: str | None) -> None:
    """Choose how torch computes attention, in this process: it has one switch for all devices."""
    fused = kind != "eager"
    torch.backends.cuda.enable_flash_sdp(fused)
    torch.backends.cuda.enable_mem_efficient_sdp(fused)
    torch.backends.cuda.enable_cudnn_sdp(fused)


def mark_trainable(model: LlavaOnevision, spec: Model) -> None:
    """Set `requires_grad`: all but what the recipe freezes and what the loss never reaches.

    The vision tower's post-norm, and layers above the one whose states are read, get no gradient; left trainable they
    would stall distributed training.
    """
    model.requires_grad_(True)
    if spec.lora:
        add_adapters(model, spec.lora)
    unread = [f"encoder.layers.{index}." for index in range(model.config.depth, model.config.vision.layers)]
    still = ["post_layernorm.", *unread, *(part for module in spec.frozen for part in _FROZEN[module])]
    for name, weight in model.named_parameters():
        if any(part in name for part in still) and "lora_" not in name:
            weight.requires_grad_(False)
    if not any(weight.requires_grad for weight in model.parameters()):
        raise RecipeError.about("model.frozen", spec.frozen, "something that learns")


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
        model: The network.
        geometry: Its tile geometry.
        recompute: See `Parts`.
    """

    def __init__(self, model: LlavaOnevision, geometry: Geometry, recompute: bool = False) -> None:
        super().__init__()
        self.model = model
        self.geometry = geometry
        self.recompute = recompute

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
        core, recompute = self.model.model, self.recompute and self.training
        features = projected(self.model, [self._states(tiles, recompute)], plans)
        embedded = core.language_model.embed_tokens(ids)
        images = (ids == self.model.config.image_token).unsqueeze(-1)
        embedded = embedded.masked_scatter(images, torch.cat(features).to(embedded.dtype))
        rows, length = ids.shape
        reading = Whole([length] * rows, ids.device, every=True)
        hidden = core.language_model(embedded.flatten(0, 1), reading, recompute)
        return self.losses(hidden.unflatten(0, (rows, length)), labels)

    def _states(self, tiles: torch.Tensor, recompute: bool) -> torch.Tensor:
        dtype = self.model.model.image_newline.dtype
        if tiles.ndim != 4:
            return tiles.to(dtype)
        return self.model.states(normalise(tiles, self.geometry).to(dtype), recompute)

    def losses(self, hidden: torch.Tensor, labels: torch.Tensor) -> RowLosses:
        """Losses from hidden states (B, L, D); logits at supervised positions only.

        All logits of a 7.3 k sequence with 152 k words would be 4.4 GB; those of its few learned tokens are nothing.
        """
        targets = labels[:, 1:]
        learned = targets != IGNORED
        logits = self.model.lm_head(hidden[:, :-1][learned]).float()
        each = functional.cross_entropy(logits, targets[learned], reduction="none")
        rows, places = learned.nonzero().unbind(dim=1)
        sums = torch.zeros(len(labels), dtype=each.dtype, device=each.device).index_add(0, rows, each)
        return RowLosses(sums, learned.sum(dim=1), each, rows, places + 1)
