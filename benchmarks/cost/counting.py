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
from typing import Any
from unittest.mock import patch

import torch
from torch.nn import functional
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map_only
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.cost.models import empty_network
from qsit_metric.backends.base import Backend, Encoded
from qsit_metric.backends.features import image_features
from qsit_metric.backends.llava_onevision import LlavaOnevisionBackend
from qsit_metric.evaluation import EvaluationError
from qsit_metric.levels import expect
from qsit_metric.model import products
from qsit_metric.model.config import Config
from qsit_metric.model.reading import Prefix
from qsit_metric.pixels import Picture
from qsit_metric.pixels.geometry import Geometry
from qsit_metric.pixels.tiles import Plan, plan
from qsit_metric.prompts import DESCRIBE, Prompt, Recipe

_COUNTED = 3  # tokens of an answer that are counted one by one
_FEW, _MORE = 2, 3  # layers of the models that are counted
_Operations = tuple[int, int, int, int]  # parameters; operations of a score, of an answer, of both


def operations(work: Callable[[], object]) -> int:
    """Floating-point operations of a call."""
    with products.ordinary(), sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
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
    with _fused_attention():  # also while layers are recomputed
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


@contextmanager
def _fused_attention() -> Iterator[None]:
    """Count attention without memory as the fused kernel of a GPU: it keeps inputs, output and a number a row."""
    general = functional.scaled_dot_product_attention

    def attention(q: torch.Tensor, *others: Any, **named: Any) -> torch.Tensor:
        if not q.is_meta:
            return general(q, *others, **named)
        causal = bool(named.get("is_causal"))
        found: torch.Tensor = torch.ops.aten._scaled_dot_product_flash_attention(q, *others, 0.0, causal)[0]
        return found

    with patch.object(functional, "scaled_dot_product_attention", attention):
        yield


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
        config: Of its network.
        tokenizer: Its tokenizer.
        template: Its chat template.
        geometry: Its tile geometry.
        recipe: How it is asked for a score.

    Raises:
        EvaluationError: Its tower is read at another place than its end, so that layers do not cost alike.

    Example:
        >>> config = Config.of(shaped_config(SHAPES["7b"]))  # doctest: +SKIP
        >>> counter = Counter(config, *dialogue(), stored_geometry(), AUTHORS)  # doctest: +SKIP
        >>> counter.count(1024, 768, 32).parameters  # doctest: +SKIP
        8030348832
    """

    def __init__(self, config: Config, tokenizer: Any, template: str, geometry: Geometry, recipe: Recipe) -> None:
        if config.depth != config.vision.layers:
            place, expected = config.feature_layer, "the costs of the last layer's states, -1, can be counted"
            raise EvaluationError(f"vision_feature_layer {place}: {expected}")
        self._geometry, self._recipe = geometry, recipe
        self._layers = config.vision.layers, config.text.layers
        self._few, self._tower, self._language = (
            LlavaOnevisionBackend(empty_network(_with_layers(config, *layers)), tokenizer, template, geometry)
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
        layout = plan(self._geometry, height, width)
        costs = (self._cost(one, layout, new_tokens, question) for one in (self._few, self._tower, self._language))
        parameters, *found = map(self._whole, *costs)
        return Counts(parameters, layout.tiles, layout.tokens, *(value / 1e12 for value in found))

    def _whole(self, few: int, tower: int, language: int) -> int:
        """What all layers cost, from what few of them and one more of either kind cost."""
        vision, text = self._layers
        return few + (vision - _FEW) * (tower - few) + (text - _FEW) * (language - few)

    def _cost(self, backend: LlavaOnevisionBackend, layout: Plan, new_tokens: int, question: str) -> _Operations:
        scoring, asking = self._recipe.scoring(), self._recipe.asking(question)

        def score(keep: bool = False) -> Encoded:
            features = _features(backend, layout)
            image = Encoded(features, len(features), keep=keep)
            backend.logits([(image, scoring)])
            return image

        def answer(count: int) -> None:
            before = backend._embed(backend._dialogue.ids(asking).before)
            rows = [torch.cat([before, _features(backend, layout)])]
            _speak(backend, Prefix(backend.model.model.language_model, rows), asking, count)

        def both(count: int) -> None:
            [prefix] = score(keep=True).shared.values()
            _speak(backend, prefix, asking, count)

        parameters = sum(value.numel() for value in backend.model.parameters())
        with torch.no_grad():
            return parameters, operations(score), _spoken(answer, new_tokens), _spoken(both, new_tokens)


def _features(backend: LlavaOnevisionBackend, layout: Plan) -> torch.Tensor:
    side = backend.geometry.tile
    tiles = torch.empty(layout.tiles, 3, side, side, device="meta")
    return image_features(backend.model, [tiles], [layout], backend.geometry, layout.tiles)[0]


def _speak(backend: LlavaOnevisionBackend, prefix: Prefix, asking: Prompt, count: int) -> None:
    """Write so many tokens, as `backends.decoding` does, which looks at values that are not there."""
    feed = backend._dialogue.ids(asking).after
    with prefix.questions():
        for _ in range(count):
            backend.model.lm_head(prefix.extend([(0, 0, feed)]))
            feed = (0,)


def _spoken(work: Callable[[int], object], new_tokens: int) -> int:
    """Operations of an answer of so many tokens.

    After the first token each takes as much more than the one before as the context is longer, so three are counted
    and the rest follows exactly; a token costs as many calls as a whole picture.
    """
    if new_tokens <= _COUNTED:
        return operations(partial(work, new_tokens))
    one, two, three = (operations(partial(work, n)) for n in range(1, _COUNTED + 1))
    rest, last, growth = new_tokens - _COUNTED, three - two, three - 2 * two + one
    return three + rest * last + growth * rest * (rest + 1) // 2


def _with_layers(config: Config, vision: int, text: int) -> Config:
    """The config with so many layers."""
    raw = copy.deepcopy(dict(config.raw))
    raw["vision_config"]["num_hidden_layers"], raw["text_config"]["num_hidden_layers"] = vision, text
    raw["text_config"].pop("layer_types", None)
    return Config.of(raw)
