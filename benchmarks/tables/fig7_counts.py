"""Operations and parameters of a model without its weights: its layers run on tensors that have a shape and no memory.

Such tensors are torch's fake ones. They say that they lie on the CPU, so a model that asks where it runs (transformers
4.57 does, for autocast) gets an answer that a tensor on the "meta" device cannot give.

The counts are those of `torch.utils.flop_counter` (matrix products; a multiplication with its addition is two), with
attention in full, as `benchmarks._measure.tflop` counts a real run; a test
holds the two equal on small shapes. Layers of a tower, and of a language model, are alike: two or three of them are
counted and the rest follows exactly. So a model of 8 billion parameters is counted on any machine, in seconds.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from qsit_metric.evaluation import EvaluationError
from qsit_metric.prompts import DESCRIBE, Recipe

if TYPE_CHECKING:
    import torch
    from torch._subclasses.fake_tensor import FakeTensorMode

    from qsit_metric.backends.dialogue import Dialogue
    from qsit_metric.backends.llava_onevision import LlavaOnevisionBackend
    from qsit_metric.backends.prefix import Prefix
    from qsit_metric.pixels.geometry import Geometry

_COUNTED = 3  # tokens of an answer that are counted one by one
_FEW, _MORE = 2, 3  # layers of the models that are counted
_Cost = tuple[int, int, int, int]  # parameters; operations of a score, of an answer, of both


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

    def cost(self, layout: Any, new_tokens: int, question: str) -> _Cost:
        return (
            sum(value.numel() for value in self._backend.model.parameters()),
            self._flop(lambda: self._score(self._features(layout))),
            self._spoken(lambda n: self._answer(self._prefix(self._features(layout)), question, n), new_tokens),
            self._spoken(lambda n: self._both(self._features(layout), question, n), new_tokens),
        )

    def _features(self, layout: Any) -> torch.Tensor:
        import torch

        from qsit_metric.backends.vision import image_features

        side = self._backend.geometry.tile
        tiles = torch.empty(layout.tiles, 3, side, side, dtype=self._backend.dtype)
        return image_features(self._backend.model, [tiles], [layout], layout.tiles)[0]

    def _score(self, features: torch.Tensor) -> None:
        from qsit_metric.backends.base import Encoded

        self._backend.logits([(Encoded(features, len(features)), self._recipe.scoring())])

    def _prefix(self, features: torch.Tensor) -> Prefix:
        import torch

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
        import torch
        from torch.utils.flop_counter import FlopCounterMode

        with torch.no_grad(), self._fake, FlopCounterMode(display=False) as counter:
            work()
        return int(counter.get_total_flops())


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
    import torch
    from torch._subclasses.fake_tensor import FakeTensorMode

    from benchmarks._model import give_room, planned_model

    plain = copy.deepcopy(config)
    plain._attn_implementation = "eager"
    model = planned_model(plain, torch.float32)
    fake = FakeTensorMode(allow_non_fake_inputs=True)  # the planned weights, which it has not seen
    with fake:
        give_room(model, torch.device("cpu"))
    return fake, model
