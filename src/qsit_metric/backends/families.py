"""What the general backend knows of the families that it reads in parts: a picture once, its questions behind it.

A family that is not listed still runs, each prompt with its picture as one text, as transformers' own classes do it.

Sources: transformers 5.23 (`models/*/modeling_*.py`, `processing_*.py`); releases: its documentation of each model.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from packaging.version import Version

from ..errors import CheckpointError, DependencyError
from ..packages import TRANSFORMERS, installed
from .files import read_json

Steps = Literal["patches", "tiles"]

_REMOTE = ("config.json", "processor_config.json", "preprocessor_config.json", "tokenizer_config.json")
_ATTENTION = "the keys and values of every layer, one for each token"


@dataclass(frozen=True, kw_only=True)
class Family:
    """One `model_type` of transformers, read in parts.

    Attributes:
        name: The `model_type` of config.json.
        steps: What its image processor does, where ours does it to the same bits: a picture of its own proportions cut
            into "patches", or "tiles" of one size and the squeezed whole. None: the processor is asked.
        least: First release of transformers that has it.
        kept: What an opened picture keeps between questions.
        tower: Modules of the vision tower, by their names in the checkpoint.
        projector: Modules between tower and decoder.
        decoder: The language model.
    """

    name: str
    steps: Steps | None
    least: str = TRANSFORMERS[0]
    kept: str = _ATTENTION
    tower: tuple[str, ...] = ("model.vision_tower",)
    projector: tuple[str, ...] = ("model.multi_modal_projector",)
    decoder: tuple[str, ...] = ("model.language_model",)


_QWEN = ("model.visual.patch_embed", "model.visual.blocks")
_QWEN3 = (*_QWEN, "model.visual.pos_embed")
_MERGER = ("model.visual.merger",)
_HYBRID = (
    "of every full-attention layer the keys and values of each token; of every linear-attention layer its recurrent "
    "state and its last few inputs, of a size that does not grow with the picture. States cannot be cut back, so each "
    "question continues a copy"
)

_FAMILIES = (
    Family(name="qwen2_vl", steps="patches", tower=_QWEN, projector=_MERGER),
    Family(name="qwen2_5_vl", steps="patches", tower=_QWEN, projector=_MERGER),
    Family(
        name="qwen3_vl",
        steps="patches",
        tower=_QWEN3,
        projector=(*_MERGER, "model.visual.deepstack_merger_list"),
    ),
    Family(name="qwen3_5", steps="patches", least="5.2", kept=_HYBRID, tower=_QWEN3, projector=_MERGER),
    Family(name="internvl", steps="tiles"),
    Family(name="llava", steps=None),
)


def family_of(model_type: object) -> Family | None:
    """Look a family up by its `model_type`; None for one that is read prompt by prompt.

    Example:
        >>> family_of("qwen3_5").least, family_of("smolvlm") is None
        ('5.2', True)
    """
    return next((family for family in _FAMILIES if family.name == model_type), None)


def families() -> tuple[Family, ...]:
    """List the families that are read in parts."""
    return _FAMILIES


def check_release(folder: Path) -> None:
    """Refuse a release of transformers that does not have the checkpoint's family.

    Raises:
        DependencyError: The release is older than the family.
    """
    family = family_of(read_json(folder, "config.json").get("model_type"))
    found = installed("transformers")
    if family is None or found is None or Version(found) >= Version(family.least):
        return
    wanted = f"transformers >={family.least},<{TRANSFORMERS[1]}, the first that has the family {family.name!r}"
    hint = f"Run `pip install 'transformers>={family.least},<{TRANSFORMERS[1]}'`, or use a model of another family."
    raise DependencyError.about("transformers", found, wanted, hint)


def refuse_remote_code(folder: Path) -> None:
    """Refuse a checkpoint that brings its own code. Call it where transformers itself could not build a part of it.

    Raises:
        CheckpointError: A file of it names code to be run (`auto_map`).
    """
    for name in _REMOTE:
        mapped = read_json(folder, name).get("auto_map")
        if isinstance(mapped, dict) and mapped:
            raise remote_code(str(folder), f"{name} names {next(iter(mapped.values()))!r}")


def remote_code(model: str, reason: str) -> CheckpointError:
    """The refusal of a checkpoint that brings its own code."""
    hint = (
        f"It needs remote code ({reason}), which is never run here. Use a release of the model in transformers' own "
        "format; for InternVL that is the repository whose name ends in -hf."
    )
    return CheckpointError.about("model", model, "a family that transformers itself has", hint)
