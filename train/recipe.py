"""Training recipes: frozen records read from strict YAML, saved beside every checkpoint that they made.

Defaults are the published recipe (paper Sec. IV-A; the authors' `finetune_ov.sh` of LLaVA-NeXT at df17966). Unknown and
duplicate keys are refused; `extends: other.yaml` starts from another recipe. Words mean what YAML 1.2 says
(yaml.org/spec/1.2.2, core schema): `1e-5` is a number, `no` is a word, `1:30` is text, `010` is ten.
"""

from __future__ import annotations

import dataclasses
import hashlib
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass
from ruamel.yaml import YAML, MappingNode, ScalarNode
from ruamel.yaml.constructor import SafeConstructor
from ruamel.yaml.error import MarkedYAMLError, YAMLError

from qsit_metric.errors import shorten

from .errors import RecipeError

Record = TypeVar("Record")
_TAG = "tag:yaml.org,2002:"
_STRICT = ConfigDict(extra="forbid")
Share = Annotated[float, Field(ge=0, le=1)]
_AMOUNTS = frozenset(("preset", "ratio", "sizes", "fits"))  # of a mixture: they exclude each other
Positive = Annotated[float, Field(gt=0)]
Count = Annotated[int, Field(ge=1)]


@dataclass(frozen=True, config=_STRICT)
class Lora:
    """Low-rank adapters on the language model's linear layers; the projector is trained in full.

    Not the authors' way (they tune everything). Values: Q-Align's LoRA recipe.
    """

    rank: Count = 128
    alpha: Positive = 256
    dropout: Share = 0.05


@dataclass(frozen=True, config=_STRICT)
class Model:
    """The base checkpoint, and which of it learns.

    Attributes:
        base: Checkpoint to start from: a Hub repository, a catalog name or a local folder.
        revision: Branch, tag or commit on the Hub.
        lora: Train adapters instead of all weights.
        frozen: Names of modules that are not trained ("vision_tower", "multi_modal_projector", "language_model").
        gradient_checkpointing: Compute activations twice to keep fewer of them.
        attention: How attention is computed while training: by torch's fused kernels ("sdpa", the default), or by plain
            products ("eager").
    """

    base: str = "llava-hf/llava-onevision-qwen2-0.5b-ov-hf"
    revision: str | None = None
    lora: Lora | None = None
    frozen: tuple[Literal["vision_tower", "multi_modal_projector", "language_model"], ...] = ()
    gradient_checkpointing: bool = True
    attention: Literal["sdpa", "eager"] | None = None


@dataclass(frozen=True, config=_STRICT)
class Data:
    """Where the frozen data is (`python -m train data freeze`).

    Attributes:
        folder: The frozen folder.
        images: Image roots of this machine: d1, d2, d3, scoring, questions; default: those that were frozen.
        d1_sources: Only these sources of D1 ("koniq", "spaq"); default: all. For the single-set rows of Table IV.
        workers: Processes that read and cut images; 0 reads in the training process.
        states: What a frozen vision tower says of the pictures, computed beforehand (`train.states`); default: nothing
            is.
        tiles: The pictures cut into tiles beforehand (`train.tiles`), which are read instead of the files; default:
            pictures are decoded and cut at each use.
    """

    folder: str = "data/q-sit"
    images: Mapping[Literal["d1", "d2", "d3", "scoring", "questions"], str] = Field(default_factory=dict)
    d1_sources: tuple[str, ...] = ()
    workers: Annotated[int, Field(ge=0)] = 4
    states: str | None = None
    tiles: str | None = None


@dataclass(frozen=True, config=_STRICT)
class Mixture:
    """How many rows of D1, D2 and D3 an epoch has; exactly one of the first four.

    Attributes:
        preset: "paper" (1 : 2.50 : 1.04), "authors_yaml" (all D1, 22 % of D2, 8 % of D3) or "all".
        ratio: D1 : D2 : D3, with all of D1.
        sizes: Rows of each.
        fits: The two `fit.json` of Algorithm 1: D2 : D3, then |D2 + D3| : D1.
        without: Sets that are left out of whatever the others say; for Table VII's ablations.
    """

    preset: Literal["paper", "authors_yaml", "all"] | None = None
    ratio: tuple[float, float, float] | None = None
    sizes: tuple[int, int, int] | None = None
    fits: tuple[str, str] | None = None
    without: tuple[Literal["d1", "d2", "d3"], ...] = ()

    def __post_init__(self) -> None:
        given = [name for name in ("preset", "ratio", "sizes", "fits") if getattr(self, name) is not None]
        if len(given) > 1:
            raise ValueError(f"say one of preset, ratio, sizes and fits, not {' and '.join(given)}")
        if not given:
            object.__setattr__(self, "preset", "paper")


@dataclass(frozen=True, config=_STRICT)
class Chat:
    """How a conversation is written and which of its tokens are learned.

    Attributes:
        mask: "next" supervises what LLaVA-NeXT does (answers, their headers and every template token); "answer" the
            answers and their ends only. A loss ratio measured with one means nothing under the other.
        scoring: Scoring recipe of `qsit_metric.prompts` that the D1 rows are written in; saved with the checkpoint.
        max_tokens: Longer rows are refused, never cut.
        choices: How the checkpoint is asked to choose between options, saved with it: by "letters", or by whole "texts"
            (`qsit_metric.Recipe.choices`).
    """

    mask: Literal["next", "answer"] = "next"
    scoring: str = "train"
    max_tokens: Count = 32768
    choices: Literal["letters", "texts"] = "letters"


@dataclass(frozen=True, config=_STRICT)
class Optim:
    """The optimiser: AdamW without weight decay, cosine by progress.

    Attributes:
        lr: Learning rate of everything but the vision tower.
        vision_lr: Learning rate of the vision tower.
        warmup: Share of the whole run in which the rate rises.
        batch: Rows in one optimiser step, over all devices.
        micro_batch: Rows in one forward pass on one device.
        loss_norm: "sample" averages over rows, each row over its tokens (LLaVA-NeXT with one row per device); "token"
            averages over all supervised tokens of a step.
        precision: "bf16" computes in bfloat16 over float32 weights; "no" in float32.
    """

    lr: Positive = 1e-5
    vision_lr: Positive = 2e-6
    betas: tuple[Share, Share] = (0.9, 0.999)
    eps: Positive = 1e-8
    weight_decay: Annotated[float, Field(ge=0)] = 0.0
    max_grad_norm: Positive = 1.0
    warmup: Share = 0.03
    batch: Count = 64
    micro_batch: Count = 1
    loss_norm: Literal["sample", "token"] = "sample"
    precision: Literal["bf16", "no"] = "bf16"


@dataclass(frozen=True, config=_STRICT)
class Validation:
    """Contents and times of validations.

    Attributes:
        every: Epochs between two validations; 1 validates at the end of each epoch.
        scores: Also measure SRCC, PLCC and LLVisionQA accuracy, not only the two losses.
        limit: At most so many rows and so many questions, drawn by seed; None: all.
        target: What a LLVisionQA question's answer is: the letter, letter and text, or the text alone, of a question
            without options.
        also: Other scoring recipes to ask with, for example "authors"; their correlations are reported as
            `authors/srcc/SOURCE`.
    """

    every: Annotated[float, Field(gt=0, le=1)] = 1.0
    scores: bool = True
    limit: Count | None = None
    target: Literal["letter", "letter_text", "text"] = "letter"
    also: tuple[str, ...] = ()


@dataclass(frozen=True, config=_STRICT)
class Stop:
    """End of a run: epochs, or a plateau.

    Attributes:
        epochs: Epochs at most.
        patience: Validations without improvement after which a run ends early, and goes back to the best; None: never.
        min_delta: Relative improvement that counts.
    """

    epochs: Count = 3
    patience: Count | None = None
    min_delta: Share = 0.005


@dataclass(frozen=True, config=_STRICT)
class Balance:
    """The fine-grained step (Eqs. 9-10) after each epoch.

    Attributes:
        reference: The small model's loss ratio (Eq. 8): a number, or the run that measured it.
        tolerance: |ln(ratio / reference)| within which nothing changes.
        kappa: Growth per unit of deviation.
        max_growth: Largest growth of one step.
        max_total: Largest growth of a side over its start.
    """

    reference: Positive | str
    tolerance: Annotated[float, Field(ge=0)] = 0.05
    kappa: Positive = 0.5
    max_growth: Annotated[float, Field(ge=1)] = 1.25
    max_total: Annotated[float, Field(ge=1)] = 2.0


@dataclass(frozen=True, config=_STRICT)
class Saving:
    """States and models to keep, and trackers.

    Attributes:
        every_steps: Steps between two resumable states, beside those at each validation.
        keep: How many resumable states stay.
        trackers: Also log to these trackers of accelerate; the JSON Lines log is always written.
    """

    every_steps: Count = 100
    keep: Count = 2
    trackers: tuple[Literal["tensorboard", "trackio", "wandb"], ...] = ()


@dataclass(frozen=True, config=_STRICT)
class TrainingRecipe:
    """Everything that decides what a run gives, besides the data."""

    name: str
    model: Model = Model()
    data: Data = Data()
    mixture: Mixture = Mixture()
    chat: Chat = Chat()
    optim: Optim = Optim()
    validation: Validation = Validation()
    stop: Stop = Stop()
    balance: Balance | None = None
    saving: Saving = Saving()
    seed: Annotated[int, Field(ge=0)] = 42

    def as_dict(self) -> dict[str, Any]:
        """Plain values, as they stand in YAML."""
        plain: dict[str, Any] = json.loads(json.dumps(dataclasses.asdict(self)))
        return plain

    @property
    def digest(self) -> str:
        """SHA-256 of what decides the result; where images lie and how they are read does not."""
        fields = self.as_dict()
        for place in ("folder", "images", "workers", "tiles"):
            del fields["data"][place]
        del fields["saving"]
        return hashlib.sha256(json.dumps(fields, sort_keys=True).encode()).hexdigest()

    def changed(self, **sections: Mapping[str, Any] | Any) -> TrainingRecipe:
        """A copy with some fields replaced: `recipe.changed(seed=7, optim={"lr": 1e-4})`."""
        return build(merge(self.as_dict(), sections), "recipe")


def load_recipe(path: str | Path, overrides: Sequence[str] = ()) -> TrainingRecipe:
    """Read a recipe.

    Args:
        path: A YAML file, or the name of a recipe of this repository ("q-sit-mini").
        overrides: `section.key=value` texts, values in YAML.

    Raises:
        RecipeError: No such recipe, an unknown or duplicate key, or a value out of range.
    """
    fields = _resolved(_find(path), ())
    for text in overrides:
        key, equals, value = text.partition("=")
        if not equals or not key:
            raise RecipeError.about("--set", text, "section.key=value, for example optim.lr=1e-5")
        fields = merge(fields, _nested(key.split("."), _value(value)))
    return build(fields, str(path))


def build(fields: Mapping[str, Any], where: str) -> TrainingRecipe:
    """Check plain values and make a recipe of them.

    Raises:
        RecipeError: The message names each wrong key, what was read and what was expected.
    """
    return checked(TrainingRecipe, fields, where, "See train/README.md for the keys of a recipe.")


def checked(kind: type[Record], fields: Mapping[str, Any], where: str, hint: str) -> Record:
    """A record made of plain values, all of them looked at.

    Args:
        kind: A pydantic dataclass that refuses unknown keys.
        fields: Its fields, as they stand in a file.
        where: The file, for the message.
        hint: Where its keys are described.

    Raises:
        RecipeError: The message names each wrong key, what was read and what was expected.
    """
    try:
        return TypeAdapter(kind).validate_python(dict(fields))
    except ValidationError as error:
        said = [
            _problem(".".join(map(str, one["loc"])), one["type"], one["msg"], one["input"]) for one in error.errors()
        ]
        raise RecipeError(f"`{where}`: {'; '.join(dict.fromkeys(said))}. {hint}") from error


def _problem(where: str, kind: str, message: str, value: object) -> str:
    if kind == "unexpected_keyword_argument":
        return f"`{where}` is no key here"
    said = message.removeprefix("Value error, ").rstrip(".")
    return f"`{where}`: {said}" if kind == "value_error" else f"`{where}`: got {shorten(value)}: {said}"


def merge(base: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Replace fields, section by section; a mixture that says how much is replaced as a whole."""
    merged = dict(base)
    for key, value in changes.items():
        old = merged.get(key)
        whole = key == "mixture" and isinstance(value, Mapping) and not _AMOUNTS.isdisjoint(value)
        deep = isinstance(value, Mapping) and isinstance(old, Mapping) and not whole
        merged[key] = merge(old, value) if deep else value  # type: ignore[arg-type]
    return merged


def recipes() -> dict[str, Path]:
    """The training recipes of this repository by name."""
    folder = Path(__file__).parent / "recipes"
    return {path.stem: path for path in sorted(folder.glob("*.yaml")) if not path.stem.startswith("data-")}


def _find(path: str | Path) -> Path:
    found = recipes().get(str(path), Path(path))
    if not found.is_file():
        raise RecipeError.about("recipe", str(path), f"a YAML file or one of {', '.join(recipes())}")
    return found


def _resolved(path: Path, seen: tuple[Path, ...]) -> dict[str, Any]:
    fields = load_yaml(path)
    parent = fields.pop("extends", None)
    if parent is None:
        return fields
    if path in seen:
        raise RecipeError.about("extends", str(path), "recipes that do not extend each other in a circle")
    named = recipes().get(str(parent), path.parent / str(parent))
    return merge(_resolved(_find(named), (*seen, path)), fields)


def _value(text: str) -> Any:
    try:
        return parse_yaml(text)
    except (YAMLError, ValueError) as error:
        raise RecipeError.about("--set", text, "a value in YAML") from error


def _nested(keys: Sequence[str], value: Any) -> dict[str, Any]:
    return {keys[0]: _nested(keys[1:], value) if len(keys) > 1 else value}


def load_yaml(path: Path) -> dict[str, Any]:
    """Read a YAML file that holds one mapping.

    Args:
        path: The file, UTF-8.

    Returns:
        The mapping; every key in it, at any depth, is text. An empty file gives an empty mapping.

    Raises:
        RecipeError: Unreadable, no YAML, no mapping, a key that is given twice or is no text; with file, line and key.
    """
    try:
        text = Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise RecipeError.about("file", str(path), "a readable UTF-8 file", f"The system says: {error}.") from error
    try:
        found = parse_yaml(text)
    except (YAMLError, ValueError) as error:  # ValueError: a scalar that is not what its tag says
        mark, problem = getattr(error, "problem_mark", None), getattr(error, "problem", None) or str(error)
        line = "" if mark is None else f", line {mark.line + 1}"
        said = problem if isinstance(error, _KeyError) else f"this is no YAML: {problem}. Look at the lines above it"
        raise RecipeError(f"`{path}`{line}: {said}.") from error
    if found is None:
        return {}
    if not isinstance(found, dict):
        raise RecipeError.about("file", str(path), f"`key: value` lines at the top, not a {type(found).__name__}")
    return found


def parse_yaml(text: str) -> Any:
    """A value in the YAML of recipe files: `no` is text, `1e-5` a number.

    Raises:
        YAMLError, ValueError: It is none.

    Example:
        >>> parse_yaml("no"), parse_yaml("1e-5"), parse_yaml("[1, two]")
        ('no', 1e-05, [1, 'two'])
    """
    reader = YAML(typ="safe", pure=True)
    reader.Constructor = _Constructor
    return reader.load(text)


def dump_yaml(fields: Mapping[str, Any]) -> str:
    r"""Plain values as YAML, in their order.

    Example:
        >>> dump_yaml({"seed": 7, "model": {"base": "q-sit-mini"}})
        'seed: 7\nmodel:\n  base: q-sit-mini\n'
    """
    writer, stream = YAML(typ="safe", pure=True), io.StringIO()
    writer.default_flow_style = False
    writer.sort_base_mapping_type_on_output = False  # type: ignore[assignment]
    writer.dump(dict(fields), stream)
    return stream.getvalue()


class _KeyError(MarkedYAMLError):
    """A key that cannot be."""


class _Constructor(SafeConstructor):
    """Constructor of mappings with unique text keys; dates stay text, and whole numbers are decimal."""

    def construct_mapping(self, node: MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: dict[str, int] = {}
        for key, _ in node.value:
            line = key.start_mark.line + 1
            if not isinstance(key, ScalarNode) or key.tag != _TAG + "str":
                shown = getattr(key, "value", None)
                name = f"the key {shown!r}" if isinstance(shown, str) else "this key"
                raise _KeyError(problem=f"{name} is not text; quote it if it is meant", problem_mark=key.start_mark)
            if key.value in seen:
                said = f"the key {key.value!r} stands here and in line {seen[key.value]}; keep one of them"
                raise _KeyError(problem=said, problem_mark=key.start_mark)
            seen[key.value] = line
        found: dict[Any, Any] = super().construct_mapping(node, deep)
        return found


_Constructor.add_constructor(_TAG + "int", lambda reader, node: int(reader.construct_scalar(node)))
for _name in ("timestamp", "value"):
    _Constructor.add_constructor(_TAG + _name, SafeConstructor.construct_scalar)
