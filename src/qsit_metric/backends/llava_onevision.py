"""The fast path for Q-SiT weights: LLaVA-OneVision, all of it our own.

Network, tiling, packing, prompt assembly and cache are ours, because releases of transformers disagree on them; so a
score depends on the weights and the pixels, not on which transformers is installed (`docs/how-it-works.md`).

Paper: Q-SiT, arXiv 2503.09197; LLaVA-OneVision, arXiv 2408.03326. Official code: Q-Future/Q-SiT at 4e4d1df.
Deviation: only the rows of the head that are asked for are computed, in float32 also for half-precision weights.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import torch

from ..errors import BackendError, CheckpointError, InputError
from ..model import weights
from ..model.config import FAMILY, Config
from ..model.network import LlavaOnevision
from ..model.reading import Prefix, Whole
from ..pixels.geometry import Geometry
from ..pixels.tiles import Plan, cut, plan
from ..prompts import Prompt, Recipe
from . import placement
from .base import Backend, Encoded, LoadOptions, Prepared, Reply
from .checkpoint import load_geometry, load_tokenizer
from .decoding import Generation, GreedyDecoder, answer_likelihoods, word_logits
from .dialogue import IMAGE, Dialogue, Ids
from .features import image_features
from .tokenizer import Tokenizer

if TYPE_CHECKING:
    from typing_extensions import Self

    from ..pixels import Picture

_QUESTION_TOKENS = 512  # of all questions about one image in one pass
_TILES_AT_ONCE = {"cpu": 16, "cuda": 64}  # vision-tower batch: past this, memory grows and speed does not


@dataclass(frozen=True)
class _Cut:
    """A picture's tiles (0..255) and its plan."""

    tiles: torch.Tensor
    plan: Plan


class LlavaOnevisionBackend(Backend):
    """Runs LLaVA-OneVision checkpoints in the Hugging Face format (`model_type` "llava_onevision").

    Args:
        model: A `LlavaOnevision`, or transformers' `LlavaOnevisionForConditionalGeneration`, whose weights are then
            shared; it is frozen and put in eval mode.
        tokenizer: Its tokenizer: a `Tokenizer`, or transformers' object.
        template: Its chat template in Jinja.
        geometry: Its tile geometry.
        recipe: The scoring recipe that it was calibrated with, or None.
        generation: What ends an answer, and the rules against repetition; default: what the model says.

    Attributes:
        resize_on_device: Send decoded pictures to the model's device in bytes and resize them there, to the same bits;
            for a GPU that waits for its processor. False: the processor resizes.
    """

    name: ClassVar[str] = FAMILY
    differentiable: ClassVar[bool] = True

    def __init__(
        self,
        model: Any,
        tokenizer: Any,
        template: str,
        geometry: Geometry,
        recipe: Recipe | None = None,
        generation: Generation | None = None,
    ) -> None:
        network = model if isinstance(model, LlavaOnevision) else weights.adopt(model)
        self.model = network.eval().requires_grad_(False)
        self.geometry = geometry
        self.recipe = recipe
        self.generation = generation or Generation.of(getattr(model, "generation_config", None))
        self.rounding = True  # False: linear resize, for finite-difference tests
        self.resize_on_device = False
        self._recompute = False
        self._dialogue = Dialogue(tokenizer, template)
        self._check_tokens(self._dialogue.tokenizer)

    @classmethod
    def load(cls, folder: Path, options: LoadOptions) -> Self:
        """See `Backend.load`."""
        geometry = load_geometry(folder)
        tokenizer, template = load_tokenizer(folder, options.template)
        model = placement.load(folder, Config.load(folder), options)
        return cls(model, tokenizer, template, geometry, Recipe.load(folder), Generation.load(folder))

    @property
    def device(self) -> torch.device:  # type: ignore[override]
        """Where the vision tower is, hence where pictures go."""
        return placement.home(self.model.model.vision_tower.vision_model.embeddings.patch_embedding)

    @property
    def patches(self) -> int:  # type: ignore[override]
        """Patches of one tile."""
        return self.geometry.side**2

    @property
    def tile(self) -> int:  # type: ignore[override]
        """Side of one tile in pixels."""
        return self.geometry.tile

    @property
    def dtype(self) -> torch.dtype:  # type: ignore[override]
        """Floating-point type of the embeddings."""
        return self.model.model.image_newline.dtype

    def to(self, device: Any = None, dtype: Any = None) -> None:
        """See `Backend.to`."""
        placement.move(self.model, device, dtype)

    def leaner(self, *, checkpointing: bool = False, max_tiles: int | None = None) -> LlavaOnevisionBackend:
        """See `Backend.leaner`."""
        twin = copy.copy(self)
        twin._recompute = self._recompute or checkpointing
        twin.geometry = self.geometry if max_tiles is None else self.geometry.at_most(max_tiles)
        return twin

    def prepare(self, picture: Picture) -> Prepared:
        """See `Backend.prepare`."""
        layout = plan(self.geometry, picture.height, picture.width)
        device = self.device if self.resize_on_device else None
        tiles = cut(picture, self.geometry, rounding=self.rounding, device=device)
        return Prepared(_Cut(tiles, layout), layout.tiles, layout.tokens)

    def encode(self, pictures: Sequence[Prepared]) -> list[Encoded]:
        """See `Backend.encode`. One pass of the vision tower for all tiles, up to a limit of memory."""
        cuts = [picture.data for picture in pictures]
        tiles = [item.tiles.to(self.device) for item in cuts]
        limit = _TILES_AT_ONCE.get(self.device.type, 16)
        packed = image_features(self.model, tiles, [item.plan for item in cuts], self.geometry, limit, self._recompute)
        return [Encoded(feature, len(feature)) for feature in packed]

    def logits(self, requests: Sequence[tuple[Encoded, Prompt]]) -> list[torch.Tensor]:
        """See `Backend.logits`."""
        ids = self._ids(requests)
        alone = len({id(image) for image, _ in requests}) == len(requests)
        if alone and not any(image.keep for image, _ in requests):
            hidden = self._read_whole([(image, item) for (image, _), item in zip(requests, ids, strict=True)])
            return self._words(hidden, ids)
        with torch.no_grad():
            found: dict[int, torch.Tensor] = {}
            for prefix, numbers, rows in self._passes(requests, ids):
                with prefix.questions():
                    hidden = prefix.extend([(row, n, ids[n].after) for n, row in zip(numbers, rows, strict=True)])
                found |= dict(zip(numbers, self._words(hidden, [ids[n] for n in numbers]), strict=True))
        return [found[n] for n in range(len(requests))]

    def generate(self, requests: Sequence[tuple[Encoded, Prompt]], max_new_tokens: int) -> list[Reply]:
        """See `Backend.generate`. Greedy, as `generate(do_sample=False)` of transformers."""
        ids = self._ids(requests, max_new_tokens)
        replies: dict[int, Reply] = {}
        with torch.no_grad():
            for prefix, numbers, rows in self._passes(requests, ids):
                prompts = [self._whole_prompt(ids[n], requests[n][0].tokens) for n in numbers]
                decoder = GreedyDecoder(self.model.lm_head, self._dialogue.tokenizer, self.generation, max_new_tokens)
                with prefix.questions():
                    found = decoder.run(prefix, rows, [ids[n].after for n in numbers], prompts)
                replies |= dict(zip(numbers, found, strict=True))
        return [replies[n] for n in range(len(requests))]

    def likelihoods(self, requests: Sequence[tuple[Encoded, Prompt]], answers: Sequence[str]) -> list[torch.Tensor]:
        """See `Backend.likelihoods`. One pass for each token of the longest answer, whatever their number."""
        texts = [self._dialogue.answer(answer) for answer in answers]
        expanded = [request for request in requests for _ in texts]
        ids = self._ids(expanded, max(map(len, texts)))
        found = torch.zeros(len(expanded))
        with torch.no_grad():
            for prefix, numbers, rows in self._passes(expanded, ids):
                suffixes, wanted = [ids[n].after for n in numbers], [texts[n % len(texts)] for n in numbers]
                with prefix.questions():
                    found[numbers] = answer_likelihoods(self.model.lm_head, prefix, rows, suffixes, wanted)
        return list(found.reshape(len(requests), len(texts)))

    def check(self, prompt: Prompt) -> None:
        """See `Backend.check`."""
        self._dialogue.ids(prompt)

    def _ids(self, requests: Sequence[tuple[Encoded, Prompt]], new_tokens: int = 0) -> list[Ids]:
        """Token ids of every prompt, none longer than the model has positions."""
        limit = self.model.config.text.positions
        found = [self._dialogue.ids(prompt) for _, prompt in requests]
        for (image, _), item in zip(requests, found, strict=True):
            length = len(item.before) + image.tokens + len(item.after) + new_tokens
            if length > limit:
                shown = f"<{length} tokens with the image and the answer>"
                raise InputError.about("question", shown, f"at most {limit}, the model's context", "Ask less at once.")
        return found

    def _embed(self, ids: Sequence[int]) -> torch.Tensor:
        tensor = torch.tensor(list(ids), dtype=torch.long, device=self.device)
        embedded: torch.Tensor = self.model.get_input_embeddings()(tensor)
        return embedded.to(self.device)

    def _features(self, image: Encoded) -> torch.Tensor:
        if not isinstance(image.data, torch.Tensor):
            raise BackendError("`view`: it was closed, its memory is freed. Open the image again with `metric.open`.")
        if image.keep and (image.data.dtype, image.data.device.type) != (self.dtype, self.device.type):
            raise BackendError("`view`: the model was moved since. Open the image again with `metric.open`.")
        return image.data.to(self.device)

    def _read_whole(self, items: Sequence[tuple[Encoded, Ids]]) -> torch.Tensor:
        """One pass over whole prompts of any lengths; the last hidden state of each, (rows, hidden)."""
        rows = [
            torch.cat([self._embed(ids.before), self._features(image), self._embed(ids.after)]) for image, ids in items
        ]
        reading = Whole([len(row) for row in rows], rows[0].device)
        hidden: torch.Tensor = self.model.model.language_model(torch.cat(rows), reading, self._recompute)
        return hidden

    def _words(self, hidden: torch.Tensor, ids: Sequence[Ids]) -> list[torch.Tensor]:
        return word_logits(self.model.lm_head, self.dtype, hidden, [item.words for item in ids])

    def _passes(
        self, requests: Sequence[tuple[Encoded, Prompt]], ids: Sequence[Ids]
    ) -> Iterator[tuple[Prefix, list[int], list[int]]]:
        """Requests that are read together: a mask grows with the square of its questions, so no row gets too many."""
        for prefix, numbers, rows in self._prefixes(requests, ids):
            filled: dict[int, int] = {}
            start = 0
            for at, (number, row) in enumerate(zip(numbers, rows, strict=True)):
                length = len(ids[number].after)
                if at > start and filled.get(row, 0) + length > _QUESTION_TOKENS:
                    yield prefix, numbers[start:at], rows[start:at]
                    filled, start = {}, at
                filled[row] = filled.get(row, 0) + length
            yield prefix, numbers[start:], rows[start:]

    def _prefixes(
        self, requests: Sequence[tuple[Encoded, Prompt]], ids: Sequence[Ids]
    ) -> list[tuple[Prefix, list[int], list[int]]]:
        """Group requests by what they share: (prefix, request numbers, each one's row in the prefix).

        A kept image has a prefix of its own, made once for each text before the image. Others that have the same text
        before the image share one batch.
        """
        groups: dict[Any, list[int]] = {}
        for number, ((image, _), item) in enumerate(zip(requests, ids, strict=True)):
            groups.setdefault((item.before, id(image) if image.keep else None), []).append(number)
        found = []
        for (before, _), numbers in groups.items():
            images = list({id(requests[n][0]): requests[n][0] for n in numbers}.values())
            row = {id(image): index for index, image in enumerate(images)}
            found.append((self._prefix(before, images), numbers, [row[id(requests[n][0])] for n in numbers]))
        return found

    def _prefix(self, before: tuple[int, ...], images: list[Encoded]) -> Prefix:
        kept = images[0].shared if images[0].keep else {}
        features = [self._features(image) for image in images]
        prefix: Prefix | None = kept.get(before)
        if prefix is None:
            opening = self._embed(before)
            rows = [torch.cat([opening, feature]).detach() for feature in features]
            prefix = kept.setdefault(before, Prefix(self.model.model.language_model, rows))
        return prefix

    def _whole_prompt(self, ids: Ids, image_tokens: int) -> list[int]:
        """The ids that `generate` of transformers would see, for its repetition rules."""
        return [*ids.before, *[self.model.config.image_token] * image_tokens, *ids.after]

    def _check_tokens(self, tokenizer: Tokenizer) -> None:
        """Refuse a tokenizer that belongs to another model."""
        marker, wanted = tokenizer.id_of(IMAGE), self.model.config.image_token
        if marker != wanted:
            raise CheckpointError.about(f"id of {IMAGE!r}", marker, f"{wanted}, as config.json says")
        rows = self.model.get_input_embeddings().num_embeddings
        if len(tokenizer) > rows:
            raise CheckpointError.about(
                "tokenizer", f"<{len(tokenizer)} tokens>", f"at most {rows}, as many as embeddings"
            )
