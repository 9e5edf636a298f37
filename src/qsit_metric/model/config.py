"""What `config.json` says of the network: every field that changes its numbers is read here, or refused by name.

Defaults are those of the classes that write these files (SigLIP's and Qwen2's configs of transformers, 4.45 to 5.x), so
a field that an old file leaves out means what it meant there. Sliding windows are ignored on purpose: the release that
the authors pin never applied them with this kind of attention.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..errors import CheckpointError
from ..files import Files

FAMILY = "llava_onevision"
"""`model_type` of the checkpoints that this network is for."""

ACTIVATIONS = ("gelu", "gelu_new", "gelu_pytorch_tanh", "quick_gelu", "relu", "silu", "swish", "tanh")
_FILES = Files(CheckpointError, "model", rescue="Download the checkpoint again.")
_ROPES = ("default", "linear", "llama3", "yarn")
_ROPE_NUMBERS = ("factor", "low_freq_factor", "high_freq_factor", "original_max_position_embeddings",
                 "attention_factor", "beta_fast", "beta_slow", "mscale", "mscale_all_dim")  # fmt: skip
_HINT = "This is not a LLaVA-OneVision config that is read here. Try backend='transformers'."


@dataclass(frozen=True)
class Vision:
    """The SigLIP tower.

    Attributes:
        hidden: Width of a token.
        inner: Width inside the feed-forward part.
        layers: How many there are.
        heads: Attention heads.
        image: Side of a tile in pixels.
        patch: Side of a patch in pixels.
        act: Activation of the feed-forward part.
        eps: Of the layer norms.
        dropout: Of the attention weights, in training.
        pooled: Whether the file may hold a pooling head, which nothing here reads.
    """

    hidden: int = 768
    inner: int = 3072
    layers: int = 12
    heads: int = 12
    image: int = 224
    patch: int = 16
    act: str = "gelu_pytorch_tanh"
    eps: float = 1e-6
    dropout: float = 0.0
    pooled: bool = True

    @property
    def positions(self) -> int:
        """Patches of a tile."""
        return (self.image // self.patch) ** 2


@dataclass(frozen=True)
class Rope:
    """Rotary positions.

    Attributes:
        theta: Base wavelength.
        kind: "default", "linear", "llama3" or "yarn".
        settings: The other numbers of that kind, as the file has them.
    """

    theta: float = 10000.0
    kind: str = "default"
    settings: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Text:
    """The Qwen2 decoder; names as in `Vision`.

    Attributes:
        vocabulary: Rows of the embedding and of the head.
        groups: Key-value heads.
        head: Width of an attention head.
        positions: Longest sequence.
        rope: Its rotary positions.
    """

    vocabulary: int = 151936
    hidden: int = 4096
    inner: int = 22016
    layers: int = 32
    heads: int = 32
    groups: int = 32
    head: int = 128
    act: str = "silu"
    eps: float = 1e-6
    dropout: float = 0.0
    positions: int = 32768
    rope: Rope = Rope()


@dataclass(frozen=True)
class Config:
    """The whole network.

    Attributes:
        vision: The tower.
        text: The decoder.
        act: Activation of the projector.
        bias: Whether the projector's two layers have biases.
        feature_layer: Which hidden state of the tower the projector reads: 0 is the embedding, -1 the last layer's.
        image_token: Id that stands for the image in a prompt.
        tied: Whether the head is the embedding.
        raw: The file's fields, for whoever writes the checkpoint again.

    Example:
        >>> Config.of({"model_type": "llava_onevision", "vision_config": {}, "text_config": {}}).text.heads
        32
    """

    vision: Vision
    text: Text
    act: str
    bias: bool
    feature_layer: int
    image_token: int
    tied: bool
    raw: Mapping[str, Any] = field(compare=False, repr=False)

    @property
    def depth(self) -> int:
        """How many layers of the tower run."""
        return self.feature_layer if self.feature_layer >= 0 else self.vision.layers + 1 + self.feature_layer

    @classmethod
    def load(cls, folder: Path) -> Config:
        """Read a checkpoint folder's `config.json`.

        Raises:
            CheckpointError: It is missing, of another family, or says something that this network does not do.
        """
        return cls.of(_FILES.json(folder / "config.json"))

    @classmethod
    def of(cls, raw: Mapping[str, Any]) -> Config:
        """Read the fields of a `config.json`.

        Raises:
            CheckpointError: See `load`.
        """
        if raw.get("model_type") != FAMILY:
            raise CheckpointError.about("model_type", raw.get("model_type"), f"'{FAMILY}'", _HINT)
        if raw.get("quantization_config") is not None:
            hint = "Load the unquantised checkpoint with dtype='int8' or 'int4', or try backend='transformers'."
            raise CheckpointError.about("quantization_config", "<quantised weights>", "plain weights", hint)
        top = _Section(raw, "")
        top.one_of("vision_feature_select_strategy", "full", ("full",))
        vision, text = _vision(top.section("vision_config")), _text(top.section("text_config"))
        layer = raw.get("vision_feature_layer", -1)
        if isinstance(layer, bool) or not isinstance(layer, int) or not -vision.layers - 1 <= layer <= vision.layers:
            raise CheckpointError.about("vision_feature_layer", layer, f"one layer of the {vision.layers} + 1 states")
        return cls(
            vision=vision,
            text=text,
            act=top.one_of("projector_hidden_act", "gelu", ACTIVATIONS),
            bias=top.flag("multimodal_projector_bias", True),
            feature_layer=layer,
            image_token=top.number("image_token_id" if "image_token_id" in raw else "image_token_index", 151646, 0),
            # Files of 4.45 keep the tie of the 0.5B head in the text part only; either place counts.
            tied=top.flag("tie_word_embeddings", False)
            or top.section("text_config").flag("tie_word_embeddings", False),
            raw=raw,
        )


class _Section:
    """Typed reading of one object of the file; errors name the field with its section."""

    def __init__(self, fields: Mapping[str, Any], name: str) -> None:
        self.fields, self._name = fields, name

    def section(self, key: str) -> _Section:
        found = self.fields.get(key)
        if not isinstance(found, Mapping):
            raise CheckpointError.about(key, found, "an object in config.json", _HINT)
        return _Section(found, f"{key}.")

    def number(self, key: str, default: int, least: int = 1) -> int:
        value = self.fields.get(key, default)
        if isinstance(value, bool) or not isinstance(value, int) or value < least:
            self.refuse(key, value, f"a whole number of at least {least} in config.json")
        return int(value)

    def real(self, key: str, default: float, least: float = 0.0) -> float:
        value = self.fields.get(key, default)
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value) or value < least:
            self.refuse(key, value, f"a number of at least {least:g} in config.json")
        return float(value)

    def flag(self, key: str, default: bool) -> bool:
        value = self.fields.get(key, default)
        if not isinstance(value, bool):
            self.refuse(key, value, "true or false in config.json")
        return bool(value)

    def one_of(self, key: str, default: str, known: tuple[str, ...]) -> str:
        value = self.fields.get(key, default)
        if value not in known:
            self.refuse(key, value, f"{' or '.join(map(repr, known))} in config.json")
        return str(value)

    def refuse(self, key: str, value: object, expected: str) -> None:
        raise CheckpointError.about(self._name + key, value, expected, _HINT)


def _vision(section: _Section) -> Vision:
    section.one_of("model_type", "siglip_vision_model", ("siglip_vision_model",))
    if (channels := section.number("num_channels", 3)) != 3:
        section.refuse("num_channels", channels, "3")
    vision = Vision(
        hidden=section.number("hidden_size", Vision.hidden),
        inner=section.number("intermediate_size", Vision.inner),
        layers=section.number("num_hidden_layers", Vision.layers),
        heads=section.number("num_attention_heads", Vision.heads),
        image=section.number("image_size", Vision.image),
        patch=section.number("patch_size", Vision.patch),
        act=section.one_of("hidden_act", Vision.act, ACTIVATIONS),
        eps=section.real("layer_norm_eps", Vision.eps),
        dropout=section.real("attention_dropout", Vision.dropout),
        pooled=section.flag("vision_use_head", Vision.pooled),
    )
    if vision.hidden % vision.heads:
        section.refuse("num_attention_heads", vision.heads, f"a divisor of hidden_size {vision.hidden}")
    return vision


def _text(section: _Section) -> Text:
    section.one_of("model_type", "qwen2", ("qwen2",))
    kinds = section.fields.get("layer_types") or ()
    if others := sorted(set(kinds) - {"full_attention", "sliding_attention"}):
        section.refuse("layer_types", others, "'full_attention' for every layer")
    hidden, heads = section.number("hidden_size", Text.hidden), section.number("num_attention_heads", Text.heads)
    head = section.number("head_dim", 0) if section.fields.get("head_dim") is not None else hidden // heads
    groups = section.fields.get("num_key_value_heads", Text.groups)
    groups = heads if groups is None else section.number("num_key_value_heads", Text.groups)
    if heads % groups:
        section.refuse("num_key_value_heads", groups, f"a divisor of num_attention_heads {heads}")
    if head % 2:
        section.refuse("head_dim", head, "an even number")
    positions = section.number("max_position_embeddings", Text.positions)
    return Text(
        vocabulary=section.number("vocab_size", Text.vocabulary),
        hidden=hidden,
        inner=section.number("intermediate_size", Text.inner),
        layers=section.number("num_hidden_layers", Text.layers),
        heads=heads,
        groups=groups,
        head=head,
        act=section.one_of("hidden_act", Text.act, ACTIVATIONS),
        eps=section.real("rms_norm_eps", Text.eps),
        dropout=section.real("attention_dropout", Text.dropout),
        positions=positions,
        rope=_rope(section, positions),
    )


def _rope(section: _Section, positions: int) -> Rope:
    """Rotary settings in either spelling: `rope_theta` with `rope_scaling` (4.x), or `rope_parameters` (5.x)."""
    for name in ("rope_scaling", "rope_parameters"):
        if not isinstance(section.fields.get(name) or {}, Mapping):
            section.refuse(name, section.fields[name], "an object")
    older, newer = (dict(section.fields.get(name) or {}) for name in ("rope_scaling", "rope_parameters"))
    settings = older or newer
    bases = _bases(section, older, newer)
    kind = _kind(settings)
    if older and newer and (kind != _kind(newer) or any(older.get(name) != newer.get(name) for name in _ROPE_NUMBERS)):
        section.refuse("rope_parameters", newer, f"what rope_scaling says, {older}")
    if kind not in _ROPES:
        section.refuse("rope_parameters", kind, f"the rope_type {' or '.join(map(repr, _ROPES))}")
    partial = section.fields.get("partial_rotary_factor", settings.get("partial_rotary_factor", 1.0))
    if partial not in (None, 1, 1.0):
        section.refuse("partial_rotary_factor", partial, "1")
    if kind in ("llama3", "yarn"):
        outer = section.fields.get("original_max_position_embeddings")
        settings["original_max_position_embeddings"] = (
            outer or settings.get("original_max_position_embeddings") or positions
        )
    needed = {"linear": _ROPE_NUMBERS[:1], "yarn": _ROPE_NUMBERS[:1], "llama3": _ROPE_NUMBERS[:3]}.get(kind, ())
    for name in _ROPE_NUMBERS if kind != "default" else ():
        value = settings.get(name)
        if (value is not None or name in needed) and not _positive(value):
            section.refuse(f"rope_parameters.{name}", value, "a number above 0")
    return Rope(bases.pop() if bases else Rope.theta, str(kind), settings)


def _bases(section: _Section, older: Mapping[str, Any], newer: Mapping[str, Any]) -> set[float]:
    """The base wavelength, none or one, wherever the file has it."""
    for name, inner in [*older.items(), *newer.items()]:
        if isinstance(inner, Mapping):
            section.refuse(f"rope_parameters.{name}", dict(inner), "one setting for all layers")
    found = [fields.get("rope_theta") for fields in (section.fields, older, newer)]
    for value in found:
        if value is not None and not _positive(value):
            section.refuse("rope_theta", value, "a number above 0")
    bases = {float(value) for value in found if value is not None}
    if len(bases) > 1:
        section.refuse("rope_theta", sorted(bases), "one number, the same in all places")
    return bases


def _kind(settings: Mapping[str, Any]) -> Any:
    return settings.get("rope_type", settings.get("type", "default"))


def _positive(value: object) -> bool:
    return not isinstance(value, bool) and isinstance(value, (int, float)) and math.isfinite(value) and value > 0
