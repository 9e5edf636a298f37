"""What a model costs, counted instead of measured: its tensors have a shape and no memory.

Counted are operations, by `torch.utils.flop_counter` (matrix products; a multiplication with its addition is two;
attention in full, as plain products, which every device counts alike), and of a step of `QSiTLoss` also
- what autograd keeps for the backward pass, each storage once, weights aside;
- the largest sum of all tensors that live at one time, weights aside. An allocator's rounding and reserve, what kernels
  work in and a CUDA context are not in it.

Layers of a tower, and of a language model, are alike: of a score and an answer two or three of them are counted and the
rest follows exactly. So a model of 8 billion parameters is counted on any machine, in seconds. Tests hold the counts
against real runs of small models.
"""

from __future__ import annotations

import copy
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map_only
from torch.utils.flop_counter import FlopCounterMode

from qsit_metric.evaluation import EvaluationError
from qsit_metric.levels import expect
from qsit_metric.pixels import Picture
from qsit_metric.prompts import DESCRIBE, Recipe

if TYPE_CHECKING:
    from qsit_metric.backends.prefix import Prefix
    from torch._subclasses.fake_tensor import FakeTensorMode

    from qsit_metric.backends.base import Backend
    from qsit_metric.backends.dialogue import Dialogue
    from qsit_metric.backends.llava_onevision import LlavaOnevisionBackend
    from qsit_metric.pixels.geometry import Geometry
    from qsit_metric.prompts import Prompt

_ATTENTION = "counted"
_COUNTED = 3  # tokens of an answer that are counted one by one
_FEW, _MORE = 2, 3  # layers of the models that are counted
_Operations = tuple[int, int, int, int]  # parameters; operations of a score, of an answer, of both


def operations(work: Callable[[], object]) -> int:
    """Floating-point operations of a call."""
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        work()
    return int(counter.get_total_flops())


def tflop(work: Callable[[], object]) -> float:
    """Floating-point operations of a call, in 1e12."""
    return operations(work) / 1e12


@dataclass(frozen=True)
class StepCost:
    """What a step costs.

    Attributes:
        tiles: Of the picture, the squeezed whole included; equal ones pass the tower once.
        tokens: Image tokens that the language model reads.
        tflop: Operations, in 1e12.
        kept: Bytes that the forward pass leaves for the backward pass.
        peak: Bytes of the largest moment.
    """

    tiles: int
    tokens: int
    tflop: float
    kept: int
    peak: int


def count_step(backend: Backend, prompt: Prompt, width: int, height: int) -> StepCost:
    """Count forward and backward of one picture's loss.

    Args:
        backend: Around a model of any device; on "meta" nothing is computed.
        prompt: The scoring prompt.
        width: Of the picture, in pixels.
        height: Likewise.
    """
    x = torch.zeros(3, height, width, device=backend.device, requires_grad=True)
    prepared = backend.prepare(Picture(x.detach(), "<counted>"))

    def forward() -> torch.Tensor:
        read = backend.encode([backend.prepare(Picture(x * 255, "<counted>"))])
        return expect(backend.logits([(read[0], prompt)])[0])[1]

    weights = _storages(backend)
    with LiveBytes(weights) as live:
        with _saved(weights) as kept:
            score = forward()
        score.backward()  # type: ignore[no-untyped-call]
    del score
    cost = tflop(lambda: forward().backward())  # type: ignore[no-untyped-call]  # apart: it holds on to tensors
    return StepCost(prepared.tiles, prepared.tokens, cost, sum(kept.values()), live.peak)


class LiveBytes(TorchDispatchMode):
    """Adds up the storages that operations make, and takes them off when they die.

    Args:
        known: Storages that do not count, as `_storages` names them.

    Attributes:
        live: Bytes that are there now.
        peak: The most so far.
    """

    def __init__(self, known: set[int]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._known, self.live, self.peak = set(known), 0, 0

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Run the operation and look at what it made."""
        result = func(*args, **(kwargs or {}))
        tree_map_only(torch.Tensor, self._see, result)
        return result

    def _see(self, tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        name, size = storage._cdata, storage.nbytes()
        if name not in self._known:
            self._known.add(name)
            self.live += size
            self.peak = max(self.peak, self.live)
            weakref.finalize(storage, self._gone, name, size)
        return tensor

    def _gone(self, name: int, size: int) -> None:
        self._known.discard(name)
        self.live -= size


@contextmanager
def _saved(weights: set[int]) -> Iterator[dict[int, int]]:
    """Bytes of every storage that autograd keeps."""
    kept: dict[int, int] = {}

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage._cdata not in weights:
            kept[storage._cdata] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        yield kept


def _storages(backend: Any) -> set[int]:
    return {value.untyped_storage()._cdata for value in (*backend.model.parameters(), *backend.model.buffers())}


def empty_model(config: Any, dtype: torch.dtype) -> Any:
    """A LLaVA-OneVision model with no memory behind it, whose attention is counted as the fused kernel."""
    from transformers import LlavaOnevisionForConditionalGeneration

    _register()
    plain, before = copy.deepcopy(config), torch.get_default_dtype()
    plain._attn_implementation = _ATTENTION
    torch.set_default_dtype(dtype)
    try:
        with torch.device("meta"):
            # A config may name a type of its own for a part; the model is to have one.
            return LlavaOnevisionForConditionalGeneration(plain).to(dtype)
    finally:
        torch.set_default_dtype(before)


def _register() -> None:
    from transformers import AttentionInterface, AttentionMaskInterface

    AttentionInterface.register(_ATTENTION, _fused)
    AttentionMaskInterface.register(_ATTENTION, _no_mask)


def _fused(
    module: Any, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, mask: object, **options: Any
) -> tuple[torch.Tensor, None]:
    """The kernel that `scaled_dot_product_attention` takes on a GPU in half precision."""
    groups = query.shape[1] // key.shape[1]
    key, value = (part.repeat_interleave(groups, dim=1) for part in (key, value))
    kernel: Callable[..., Any] = torch.ops.aten._scaled_dot_product_flash_attention
    causal = bool(getattr(module, "is_causal", False))
    result = kernel(query, key, value, 0.0, causal, scale=options.get("scaling"))[0]
    return result.transpose(1, 2).contiguous(), None


def _no_mask(*_: object, **__: object) -> None:
    """Nothing is hidden beyond what causality hides."""


@dataclass(frozen=True)
class Counts:
    """What one picture costs.

    Attributes:
        parameters: Of the model.
        tiles: That the vision tower reads.
        tokens: Image tokens that the language model reads.
        score: Operations of a score, in 1e12.
        answer: Of an answer of a given number of tokens, in 1e12.
        both: Of a score and an answer behind one reading of the picture, in 1e12.
    """

    parameters: int
    tiles: int
    tokens: int
    score: float
    answer: float
    both: float


class Counter:
    """Counts for a model of LLaVA-OneVision's family.

    Args:
        config: Its `LlavaOnevisionConfig`.
        tokenizer: Its tokenizer.
        template: Its chat template.
        geometry: Its tile geometry.
        recipe: How it is asked for a score.

    Example:
        >>> config = model_config(stored("config.json"), SHAPES["7b"])  # doctest: +SKIP
        >>> counter = Counter(config, *dialogue(), stored_geometry(), AUTHORS)  # doctest: +SKIP
        >>> counter.count(1024, 768, 32).parameters  # doctest: +SKIP
        8030348832
    """

    def __init__(self, config: Any, tokenizer: Any, template: str, geometry: Geometry, recipe: Recipe) -> None:
        self._geometry = geometry
        self._layers: tuple[int, int] = (config.vision_config.num_hidden_layers, config.text_config.num_hidden_layers)
        self._few, self._tower, self._language = (
            _Model(_with_layers(config, *layers), tokenizer, template, geometry, recipe)
            for layers in ((_FEW, _FEW), (_MORE, _FEW), (_FEW, _MORE))
        )

    def count(self, width: int, height: int, new_tokens: int, question: str = DESCRIBE) -> Counts:
        """Count one picture's tasks.

        Args:
            width: Of the picture, in pixels.
            height: Likewise.
            new_tokens: Of an answer.
            question: What is asked.
        """
        from qsit_metric.pixels.tiles import plan

        layout = plan(self._geometry, height, width)
        costs = (one.cost(layout, new_tokens, question) for one in (self._few, self._tower, self._language))
        parameters, *operations = map(self._whole, *costs)
        return Counts(parameters, layout.tiles, layout.tokens, *(value / 1e12 for value in operations))

    def _whole(self, few: int, tower: int, language: int) -> int:
        """What all layers cost, from what few of them and one more of either kind cost."""
        vision, text = self._layers
        return few + (vision - _FEW) * (tower - few) + (text - _FEW) * (language - few)


class _Model:
    """One model without memory."""

    def __init__(self, config: Any, tokenizer: Any, template: str, geometry: Geometry, recipe: Recipe) -> None:
        from qsit_metric.backends.dialogue import Dialogue
        from qsit_metric.backends.llava_onevision import LlavaOnevisionBackend

        self._fake, model = _without_memory(config)
        self._backend: LlavaOnevisionBackend = LlavaOnevisionBackend(model, tokenizer, template, geometry)
        self._dialogue: Dialogue = Dialogue(tokenizer, template)
        self._recipe = recipe

    def cost(self, layout: Any, new_tokens: int, question: str) -> _Operations:
        return (
            sum(value.numel() for value in self._backend.model.parameters()),
            self._flop(lambda: self._score(self._features(layout))),
            self._spoken(lambda n: self._answer(self._prefix(self._features(layout)), question, n), new_tokens),
            self._spoken(lambda n: self._both(self._features(layout), question, n), new_tokens),
        )

    def _features(self, layout: Any) -> torch.Tensor:
        from qsit_metric.backends.vision import image_features

        side = self._backend.geometry.tile
        tiles = torch.empty(layout.tiles, 3, side, side, dtype=self._backend.dtype)
        return image_features(self._backend.model, [tiles], [layout], layout.tiles)[0]

    def _score(self, features: torch.Tensor) -> None:
        from qsit_metric.backends.base import Encoded

        self._backend.logits([(Encoded(features, len(features)), self._recipe.scoring())])

    def _prefix(self, features: torch.Tensor) -> Prefix:
        from qsit_metric.backends.prefix import Prefix

        before = self._dialogue.ids(self._recipe.scoring()).before
        embed = self._backend.model.get_input_embeddings()
        opening = embed(torch.zeros(len(before), dtype=torch.long))
        return Prefix(self._backend.model.model.language_model, [torch.cat([opening, features])])

    def _answer(self, prefix: Prefix, question: str, new_tokens: int) -> None:
        """As `Decoder.run`, which looks at values that are not there."""
        head, feed = (
            self._backend.model.get_output_embeddings(),
            self._dialogue.ids(self._recipe.asking(question)).after,
        )
        for _ in range(new_tokens):
            head(prefix.extend([(0, 0, feed)]))
            feed = (0,)

    def _both(self, features: torch.Tensor, question: str, new_tokens: int) -> None:
        from qsit_metric.backends.base import Encoded

        image = Encoded(features, len(features), keep=True)
        self._backend.logits([(image, self._recipe.scoring())])
        [prefix] = image.shared.values()
        self._answer(prefix, question, new_tokens)

    def _spoken(self, work: Callable[[int], object], new_tokens: int) -> int:
        """Operations of an answer of so many tokens.

        After the first token each takes as much more than the one before as the context is longer, so three are counted
        and the rest follows exactly; a token costs as many calls as a whole picture.
        """
        if new_tokens <= _COUNTED:
            return self._flop(lambda: work(new_tokens))
        one, two, three = (self._flop(partial(work, n)) for n in range(1, _COUNTED + 1))
        rest, last, growth = new_tokens - _COUNTED, three - two, three - 2 * two + one
        return three + rest * last + growth * rest * (rest + 1) // 2

    def _flop(self, work: Callable[[], object]) -> int:
        with torch.no_grad(), self._fake:
            return operations(work)


def _with_layers(config: Any, vision: int, text: int) -> Any:
    """A copy with so many layers.

    Raises:
        EvaluationError: Its tower is read at another place than its end, so that layers do not cost alike.
    """
    if config.vision_feature_layer != -1:
        layer = config.vision_feature_layer
        raise EvaluationError(f"vision_feature_layer {layer}: the costs of the last layer's states, -1, can be counted")
    found = copy.deepcopy(config)
    found.vision_config.num_hidden_layers, found.text_config.num_hidden_layers = vision, text
    found.text_config.layer_types = ["full_attention"] * text
    return found


def _without_memory(config: Any) -> tuple[FakeTensorMode, Any]:
    """The mode that the model runs in, and the model with no memory behind it; its attention is spelled out."""
    from torch._subclasses.fake_tensor import FakeTensorMode

    from benchmarks.cost.models import give_room, planned_model

    plain = copy.deepcopy(config)
    plain._attn_implementation = "eager"
    model = planned_model(plain, torch.float32)
    fake = FakeTensorMode(allow_non_fake_inputs=True)  # the planned weights, which it has not seen
    with fake:
        give_room(model, torch.device("cpu"))
    return fake, model
