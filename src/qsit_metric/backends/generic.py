"""Any image-text-to-text model of transformers, through its own processor and chat template.

Two ways of reading:

- families that are known (`families`): a picture is made ready by itself, in threads; its tokens are put between the
  text before and after it; whole prompts of any lengths are one batch; a picture that gets several questions, or that
  is kept open, is read once. Where the steps of the image processor are ours to the bit, the score has a gradient;
- every other family: each prompt with its picture through the processor, anew.

Pixels are the processor's affair in both, so a score depends on the releases of transformers and Pillow; the backend
`llava_onevision` knows no such dependence.

Deviations from `processor.apply_chat_template(..., tokenize=True)`: the answer prefix is appended to the rendered text,
and questions must not contain the tokens of the chat format. The logits of half-precision models are computed in
float32 for the words that are asked for.
"""

from __future__ import annotations

import inspect
import logging
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, TypeAlias

import torch
from PIL import Image

from ..errors import BackendError, CheckpointError
from ..packages import check_transformers
from ..prompts import Prompt, Recipe
from .base import Backend, Encoded, LoadOptions, Prepared, Reply
from .continuing import Engine, Kept, Text
from .decoding import Generation, GreedyDecoder, answer_likelihoods, word_logits
from .dialogue import Dialogue, Ids
from .families import check_release, family_of, refuse_remote_code
from .placement import move
from .pretrained import first_line, load_model
from .processors import Pixels, Reader, image_of, load_processor, refused

if TYPE_CHECKING:
    from typing_extensions import Self

    from ..pixels import Picture

_log = logging.getLogger("qsit_metric")
_UNKNOWN_TOKENS = 1024  # the cost of a picture whose processor does not tell
_TOKENS_PER_TILE = 256  # processors count tiles in ways of their own, or not at all
_TOKENS_AT_ONCE = 8192  # image tokens in one pass when few pictures get many questions
_QUESTIONS_AT_ONCE = 16  # behind one picture: each has a copy of what is kept
_MARKERS = ("image_token", "boi_token", "start_image_token")
_PROBED = Prompt(" \n Is it?", "It is ")  # a question whose beginning must not melt into what stands before it
_CLOSED = "`view`: it was closed, its memory is freed. Open the image again with `metric.open`."
_Request: TypeAlias = tuple[Encoded, Prompt]


class TransformersBackend(Backend):
    """Runs what `AutoModelForImageTextToText` and `AutoProcessor` can load.

    Args:
        model: An image-text-to-text model, decoder-only, loaded; it is frozen and put in eval mode.
        processor: Its processor; not changed.
        template: Chat template in Jinja that overrides the processor's.
        recipe: The scoring recipe that it was calibrated with, or None.

    Attributes:
        family: What is known of the model's family, or None if each prompt is read with its picture anew.
        differentiable: Whether the image processor's steps are ours to the bit, so that scores have a gradient.
    """

    name: ClassVar[str] = "transformers"

    def __init__(self, model: Any, processor: Any, template: str | None = None, recipe: Recipe | None = None) -> None:
        self.model = model.eval().requires_grad_(False)
        self.processor = processor
        self.recipe = recipe
        self._chat = _Chat(processor, template)
        self.family = family_of(getattr(model.config, "model_type", None))
        self._reader = self._part_reader()
        self._engine = Engine(model) if self._reader else None
        self.differentiable = self._reader is not None and self._reader.exact  # type: ignore[misc]

    @classmethod
    def load(cls, folder: Path, options: LoadOptions) -> Self:
        """See `Backend.load`."""
        check_transformers()
        check_release(folder)
        from transformers import AutoModelForImageTextToText

        config = load_config(folder)
        processor = load_processor(folder)
        model = load_model(AutoModelForImageTextToText, folder, config, options, attention=None)
        return cls(model, processor, options.template, Recipe.load(folder))

    @property
    def device(self) -> torch.device:  # type: ignore[override]
        """Where inputs go."""
        return self.model.device  # type: ignore[no-any-return]

    @property
    def dtype(self) -> torch.dtype:  # type: ignore[override]
        """Floating-point type of the weights."""
        return self.model.dtype  # type: ignore[no-any-return]

    def to(self, device: Any = None, dtype: Any = None) -> None:
        """See `Backend.to`."""
        move(self.model, device, dtype)

    @property
    def rounding(self) -> bool:
        """Whether pictures are rounded to 8 bits; False is for finite-difference tests."""
        return self._reader is None or self._reader.rounding

    @rounding.setter
    def rounding(self, rounding: bool) -> None:
        if self._reader is not None:
            self._reader.rounding = rounding

    def facts(self) -> dict[str, str]:
        """See `Backend.facts`."""
        return {"image_processor": type(self.processor.image_processor).__name__}

    def prepare(self, picture: Picture) -> Prepared:
        """See `Backend.prepare`. For families that are not read in parts the cost is an estimate."""
        if self._reader is not None:
            pixels = self._reader(picture.pixels if self._reader.exact else image_of(picture.pixels))
            return Prepared(pixels, -(-len(pixels.ids) // _TOKENS_PER_TILE), len(pixels.ids))
        try:
            found = self.processor._get_num_multimodal_tokens(image_sizes=[(picture.height, picture.width)])
            tokens = max(int(found.num_image_tokens[0]), 1)
        except Exception:  # noqa: BLE001  # private and not everywhere: an estimate must not cost the picture
            tokens = _UNKNOWN_TOKENS
        return Prepared(image_of(picture.pixels), -(-tokens // _TOKENS_PER_TILE), tokens)

    def encode(self, pictures: Sequence[Prepared]) -> list[Encoded]:
        """See `Backend.encode`. The picture is read with its first prompt; what is kept of it then is in `shared`."""
        return [Encoded(picture.data, picture.tokens) for picture in pictures]

    def logits(self, requests: Sequence[_Request]) -> list[torch.Tensor]:
        """See `Backend.logits`, except that a family that is not read in parts reads an image for each prompt."""
        if self._engine is None:
            return self._logits_anew(requests)
        ids = [self._chat.ids(prompt) for _, prompt in requests]
        alone = len({id(image) for image, _ in requests}) == len(requests)
        if alone and not any(image.keep for image, _ in requests):
            texts = [
                Text.around(i.before, _pixels(image), i.after) for (image, _), i in zip(requests, ids, strict=True)
            ]
            return self._words(self._engine.last(texts), ids)
        found: dict[int, torch.Tensor] = {}
        with torch.no_grad():
            for kept, numbers in self._kept(requests, ids):
                hidden = kept.ask([ids[n].after for n in numbers])
                found |= dict(zip(numbers, self._words(hidden, [ids[n] for n in numbers]), strict=True))
        return [found[number] for number in range(len(requests))]

    def generate(self, requests: Sequence[_Request], max_new_tokens: int) -> list[Reply]:
        """See `Backend.generate`. Greedy, as `generate(do_sample=False)` of transformers with one beam."""
        if self._engine is None:
            return self._generate_anew(requests, max_new_tokens)
        ids = [self._chat.ids(prompt) for _, prompt in requests]
        head, tokenizer = self.model.get_output_embeddings(), self._chat.tokenizer
        found: dict[int, Reply] = {}
        with torch.no_grad():
            for kept, numbers in self._kept(requests, ids):
                prompts = [list(Text.around(ids[n].before, _pixels(requests[n][0]), ids[n].after).ids) for n in numbers]
                decoder = GreedyDecoder(head, tokenizer, self._generation(), max_new_tokens)
                with kept.questions():
                    replies = decoder.run(kept, [0] * len(numbers), [ids[n].after for n in numbers], prompts)
                found |= dict(zip(numbers, replies, strict=True))
        return [found[number] for number in range(len(requests))]

    def likelihoods(self, requests: Sequence[_Request], answers: Sequence[str]) -> list[torch.Tensor]:
        """See `Backend.likelihoods`; for families that are read in parts."""
        if self._engine is None:
            return super().likelihoods(requests, answers)
        texts = [self._chat.answer(answer) for answer in answers]
        expanded = [request for request in requests for _ in texts]
        ids = [self._chat.ids(prompt) for _, prompt in expanded]
        found = torch.zeros(len(expanded))
        with torch.no_grad():
            for kept, numbers in self._kept(expanded, ids):
                suffixes, wanted = [ids[n].after for n in numbers], [texts[n % len(texts)] for n in numbers]
                with kept.questions():
                    head = self.model.get_output_embeddings()
                    found[numbers] = answer_likelihoods(head, kept, [0] * len(numbers), suffixes, wanted)
        return list(found.reshape(len(requests), len(texts)))

    def check(self, prompt: Prompt) -> None:
        """See `Backend.check`."""
        self._chat.ask(prompt)

    def _part_reader(self) -> Reader | None:
        """What makes pictures ready by themselves; None where text and picture must go through the processor as one."""
        if self.family is None or not hasattr(self.model, "model"):
            return None
        try:
            reader = Reader(self.processor, self.family)
            return reader if self._fits(reader) else None
        except BackendError as error:
            _log.debug("%s is asked for each prompt: %s", type(self.processor).__name__, error)
            return None

    def _fits(self, reader: Reader) -> bool:
        """Whether a prompt put together here has the ids that the processor gives it."""
        self._chat.marker = reader.marker
        image = Image.new("RGB", (40, 30))
        try:
            text = self._chat.ask(_PROBED)[0]
            ids = self._chat.ids(_PROBED)
        except CheckpointError:  # no template of its own: those of the recipes are of the same tokens
            return True
        whole = Text.around(ids.before, reader(image), ids.after).ids
        return bool(whole == tuple(self._process([text], [image])["input_ids"][0].tolist()))

    def _kept(self, requests: Sequence[_Request], ids: Sequence[Ids]) -> Iterator[tuple[Kept, list[int]]]:
        """Pictures that were read once, and the numbers of the requests behind each."""
        groups: dict[tuple[int, tuple[int, ...]], list[int]] = {}
        for number, ((image, _), item) in enumerate(zip(requests, ids, strict=True)):
            groups.setdefault((id(image), item.before), []).append(number)
        for (_, before), numbers in groups.items():
            kept = self._once(requests[numbers[0]][0], before)
            for start in range(0, len(numbers), _QUESTIONS_AT_ONCE):
                yield kept, numbers[start : start + _QUESTIONS_AT_ONCE]

    def _once(self, image: Encoded, before: tuple[int, ...]) -> Kept:
        """A picture behind its text; kept in the image if later prompts will follow."""
        pixels = _pixels(image)
        key = before, str(self.device), self.dtype
        kept: Kept | None = image.shared.get(key)
        if kept is None:
            kept = Kept(self._engine or Engine(self.model), Text.around(before, pixels, ()))
            if image.keep:
                image.shared[key] = kept
        return kept

    def _words(self, hidden: torch.Tensor, ids: Sequence[Ids]) -> list[torch.Tensor]:
        return word_logits(self.model.get_output_embeddings(), self.dtype, hidden, [item.words for item in ids])

    def _generation(self) -> Generation:
        """What ends an answer, and the checkpoint's rules against repetition."""
        settings = self.model.generation_config
        stop = self._ends()["eos_token_id"] or []
        found = Generation.of(settings)
        return Generation(frozenset(stop), found.repetition_penalty, found.no_repeat_ngram_size, found.ignored)

    def _logits_anew(self, requests: Sequence[_Request]) -> list[torch.Tensor]:
        """Logits with each prompt's picture through the processor."""
        rows: list[torch.Tensor] = []
        for part in self._parts(requests):
            words = [self._chat.ask(prompt)[1] for _, prompt in part]
            last = torch.cat([self._last_logits(inputs) for inputs in self._inputs(part)])
            rows += [row[list(ids)] for row, ids in zip(last, words, strict=True)]
        return rows

    def _generate_anew(self, requests: Sequence[_Request], max_new_tokens: int) -> list[Reply]:
        """Text by `generate` of transformers."""
        settings = {"do_sample": False, "num_beams": 1, "return_dict_in_generate": False, **self._ends()}
        settings |= dict.fromkeys(("temperature", "top_p", "top_k"))  # else transformers warns that they do nothing
        replies: list[Reply] = []
        for part in self._parts(requests, alone=self._looks_back()):
            for inputs in self._inputs(part):
                with torch.no_grad():
                    whole = self.model.generate(**inputs, **settings, max_new_tokens=max_new_tokens)
                start = inputs["input_ids"].shape[1]
                replies += [self._reply(tokens, settings["eos_token_id"]) for tokens in whole[:, start:].tolist()]
        return replies

    def _parts(self, requests: Sequence[_Request], alone: bool = False) -> Iterator[Sequence[_Request]]:
        """Cut requests into passes: many questions about few pictures may be more than the pictures' batch allows."""
        pictures = {id(image): image.tokens for image, _ in requests}
        size = 1 if alone else max(len(pictures), _TOKENS_AT_ONCE // max(pictures.values(), default=1), 1)
        return (requests[start : start + size] for start in range(0, len(requests), size))

    def _inputs(self, requests: Sequence[_Request]) -> Iterator[dict[str, Any]]:
        """What the model's forward takes: one batch, padded on the left, or each request alone.

        Not every processor can stack pictures of different sizes or pads on the left when told to.
        """
        texts = [self._chat.ask(prompt)[0] for _, prompt in requests]
        images: list[Image.Image] = [image.data for image, _ in requests]
        if any(image is None for image in images):
            raise BackendError(_CLOSED)
        batch = self._batch(texts, images) if len(requests) > 1 else None
        if batch is not None:
            yield self._placed(batch)
            return
        for text, image in zip(texts, images, strict=True):
            try:
                alone = self._process([text], [image])
            except Exception as error:  # a processor may fail in any way
                raise refused(image.size, error) from error
            yield self._placed(alone)

    def _batch(self, texts: list[str], images: list[Image.Image]) -> Any:
        """All requests in one, or None if this processor cannot."""
        try:
            batch = self._process(texts, images, padding=True, padding_side="left")
            return batch if bool((batch["attention_mask"][:, -1] == 1).all()) else None
        except Exception as error:  # noqa: BLE001  # what is really wrong shows when each is read alone
            _log.debug("%s makes no batch of these pictures: %s", type(self.processor).__name__, error)
            return None

    def _process(self, texts: list[str], images: list[Image.Image], **padding: Any) -> Any:
        # As transformers' own apply_chat_template: a template that writes the first token must not get it twice.
        bos = self.processor.tokenizer.bos_token
        written = {bool(bos) and text.startswith(bos) for text in texts}
        if len(written) > 1:
            raise ValueError("some prompts begin with that token, others do not")  # so each is read alone
        special = {"add_special_tokens": False} if True in written else {}
        return self.processor(text=texts, images=[[i] for i in images], return_tensors="pt", **special, **padding)

    def _placed(self, batch: Any) -> dict[str, Any]:
        """Inputs on the model's device, floats in its type."""
        tensors = {name: value for name, value in batch.items() if isinstance(value, torch.Tensor)}
        return {k: v.to(self.device, self.dtype if v.is_floating_point() else v.dtype) for k, v in tensors.items()}

    def _last_logits(self, inputs: dict[str, Any]) -> torch.Tensor:
        """Logits of the position after each prompt, (rows, vocabulary), float32."""
        known = inspect.signature(self.model.forward).parameters
        spared = {name: value for name, value in (("logits_to_keep", 1), ("use_cache", False)) if name in known}
        with torch.no_grad():
            logits: torch.Tensor = self.model(**inputs, **spared).logits
        return logits[:, -1].float()

    def _ends(self) -> dict[str, Any]:
        """The tokens that end an answer, as the checkpoint says, and the one that fills up a batch."""
        tokenizer, stop = self.processor.tokenizer, self.model.generation_config.eos_token_id
        stop = tokenizer.eos_token_id if stop is None else stop
        stop = list(stop) if isinstance(stop, (list, tuple)) else [] if stop is None else [stop]
        pad = next(iter(stop), None) if tokenizer.pad_token_id is None else tokenizer.pad_token_id
        return {"eos_token_id": stop or None, "pad_token_id": pad}

    def _looks_back(self) -> bool:
        """Whether the checkpoint's generation rules read the prompt, of which padding must then be no part."""
        settings = self.model.generation_config
        penalty, ngram = getattr(settings, "repetition_penalty", None), getattr(settings, "no_repeat_ngram_size", None)
        return penalty not in (None, 1, 1.0) or bool(ngram)

    def _reply(self, tokens: list[int], stop: Sequence[int] | None) -> Reply:
        """A reply without the padding behind its end."""
        end = next((place for place, token in enumerate(tokens, start=1) if token in (stop or ())), None)
        decode = self.processor.tokenizer.decode
        text = decode(tokens[:end], skip_special_tokens=True, clean_up_tokenization_spaces=False)
        return Reply(text.strip(), tuple(tokens[:end]), end is not None)


class _Chat(Dialogue):
    """Renders prompts for a processor, which puts the image where the template wrote the image token.

    Words are encoded alone, not behind the answer prefix, as the authors do and as `llava_onevision` does: in context,
    "is " and "Bad" would merge into "is" and " Bad".
    """

    def __init__(self, processor: Any, template: str | None) -> None:
        tokenizer = self._theirs = processor.tokenizer
        own = template or getattr(processor, "chat_template", None) or getattr(tokenizer, "chat_template", None)
        super().__init__(tokenizer, own.get("default", "") if isinstance(own, dict) else own or "")
        self.marker = ""
        names = {getattr(owner, name, None) for owner in (processor, tokenizer) for name in _MARKERS}
        self._markers = sorted(str(name) for name in names if name)
        # Other added tokens may be plain text: some tokenizers add two spaces or an empty line.
        added = getattr(tokenizer, "added_tokens_decoder", {}).values()
        special = [token.content for token in added if token.special]
        self._reserved = sorted({*self._markers, *special, *tokenizer.all_special_tokens})

    def ask(self, prompt: Prompt) -> tuple[str, tuple[int, ...]]:
        """The text up to where the answer goes on, with one image token, and the first id of each word.

        Raises:
            InputError: The question contains a token reserved for the chat format.
            CheckpointError: There is no template, it does not place exactly one image, or two words begin alike.
        """
        self._check_question(prompt.question)
        if not (prompt.template or self.template):
            hint = "Put chat_template.jinja into its folder, or use a recipe that has a template."
            raise CheckpointError.about("model", "<no chat template>", "a chat template in the checkpoint", hint)
        text = self.render(prompt)
        placed = max((text.count(marker) for marker in self._markers), default=0)
        if placed != 1:
            raise CheckpointError.about("chat template", f"<{placed} images placed>", "exactly one image")
        return text + prompt.answer_prefix, self._first_tokens(prompt.words)

    def _encode(self, prompt: Prompt) -> Ids:
        """Ids before and after the image token; a first token that the tokenizer adds stands before."""
        text, words = self.ask(prompt)
        before, found, after = text.partition(self.marker)
        if not found:
            raise CheckpointError.about("chat template", f"<no {self.marker}>", "exactly one image")
        bos = self._theirs.bos_token
        special = not (bool(bos) and text.startswith(bos))
        first = self._theirs(before, add_special_tokens=special)["input_ids"] if before or special else []
        return Ids(tuple(first), self._tokens(after), words)


def load_config(folder: Path) -> Any:
    """The model's config.

    Raises:
        CheckpointError: It cannot be read, or is no image-text-to-text decoder that transformers itself has.
    """
    from transformers import MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING, AutoConfig

    try:
        config = AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except Exception as error:  # validators of transformers 5 raise types of their own
        refuse_remote_code(folder)
        hint = first_line(error)
        raise CheckpointError.about("model", str(folder), "a config.json that transformers knows", hint) from error
    if type(config) not in MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING or getattr(config, "is_encoder_decoder", False):
        raise CheckpointError.about("model_type", config.model_type, "a decoder that reads images and text")
    return config


def _pixels(image: Encoded) -> Pixels:
    if not isinstance(image.data, Pixels):
        raise BackendError(_CLOSED)
    return image.data
