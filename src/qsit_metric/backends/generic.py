"""Any image-text-to-text model of transformers, through its own processor and chat template.

Made for comparison (the zero-shot rows of the tables: Qwen2.5-VL, InternVL, LLaVA, SmolVLM ...), not for speed: every
prompt reads its image anew. Pixels are the processor's affair here, so a score depends on the releases of transformers
and Pillow, and on whether torchvision is installed; the backend `llava_onevision` knows no such dependence.

Deviations from `processor.apply_chat_template(..., tokenize=True)`: the answer prefix is appended to the rendered text,
and questions must not contain the tokens of the chat format.
"""

from __future__ import annotations

import inspect
import logging
import re
import traceback
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, TypeAlias

import torch
from PIL import Image

from ..errors import BackendError, CheckpointError, DependencyError, QSiTError
from ..packages import check_transformers
from ..prompts import Prompt, Recipe
from .base import Backend, Encoded, LoadOptions, Prepared, Reply
from .dialogue import Dialogue
from .placement import move
from .pretrained import first_line, load_model

if TYPE_CHECKING:
    from typing_extensions import Self

    from ..pixels import Picture

_log = logging.getLogger("qsit_metric")
_UNKNOWN_TOKENS = 1024  # the cost of a picture whose processor does not tell
_TOKENS_PER_TILE = 256  # processors count tiles in ways of their own, or not at all
_TOKENS_AT_ONCE = 8192  # image tokens in one pass when few pictures get many questions
_MARKERS = ("image_token", "boi_token", "start_image_token")
_MISSING = re.compile(r"requires the (\w+) library|`(\w+)` to be installed|No module named '(\w+)|`(\w+)` is required")
_Request: TypeAlias = tuple[Encoded, Prompt]


class TransformersBackend(Backend):
    """Runs what `AutoModelForImageTextToText` and `AutoProcessor` can load.

    Args:
        model: An image-text-to-text model, decoder-only, loaded; it is frozen and put in eval mode.
        processor: Its processor; not changed.
        template: Chat template in Jinja that overrides the processor's.
        recipe: The scoring recipe that it was calibrated with, or None.
    """

    name: ClassVar[str] = "transformers"
    differentiable: ClassVar[bool] = False

    def __init__(self, model: Any, processor: Any, template: str | None = None, recipe: Recipe | None = None) -> None:
        self.model = model.eval().requires_grad_(False)
        self.processor = processor
        self.recipe = recipe
        self._chat = _Chat(processor, template)

    @classmethod
    def load(cls, folder: Path, options: LoadOptions) -> Self:
        """See `Backend.load`."""
        check_transformers()
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

    def facts(self) -> dict[str, str]:
        """See `Backend.facts`."""
        return {"image_processor": type(self.processor.image_processor).__name__}

    def prepare(self, picture: Picture) -> Prepared:
        """See `Backend.prepare`. The cost is an estimate; processors need not tell it."""
        try:
            found = self.processor._get_num_multimodal_tokens(image_sizes=[(picture.height, picture.width)])
            tokens = max(int(found.num_image_tokens[0]), 1)
        except Exception:  # noqa: BLE001  # private and not everywhere: an estimate must not cost the picture
            tokens = _UNKNOWN_TOKENS
        return Prepared(_image(picture.pixels), -(-tokens // _TOKENS_PER_TILE), tokens)

    def encode(self, pictures: Sequence[Prepared]) -> list[Encoded]:
        """See `Backend.encode`. Nothing can be shared between prompts in general, so the picture itself is kept."""
        return [Encoded(picture.data, picture.tokens) for picture in pictures]

    def logits(self, requests: Sequence[_Request]) -> list[torch.Tensor]:
        """See `Backend.logits`, except that an image is read once for each of its prompts."""
        rows: list[torch.Tensor] = []
        for part in self._parts(requests):
            words = [self._chat.ask(prompt)[1] for _, prompt in part]
            last = torch.cat([self._last_logits(inputs) for inputs in self._inputs(part)])
            rows += [row[list(ids)] for row, ids in zip(last, words, strict=True)]
        return rows

    def generate(self, requests: Sequence[_Request], max_new_tokens: int) -> list[Reply]:
        """See `Backend.generate`. `generate(do_sample=False)` of transformers, with one beam."""
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

    def check(self, prompt: Prompt) -> None:
        """See `Backend.check`."""
        self._chat.ask(prompt)

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
            raise BackendError("`view`: it was closed, its memory is freed. Open the image again with `metric.open`.")
        batch = self._batch(texts, images) if len(requests) > 1 else None
        if batch is not None:
            yield self._placed(batch)
            return
        for text, image in zip(texts, images, strict=True):
            try:
                alone = self._process([text], [image])
            except Exception as error:  # a processor may fail in any way
                shown = f"<{image.width}x{image.height}>"
                raise BackendError.about("image", shown, "one that its processor takes", first_line(error)) from error
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
        tokenizer = processor.tokenizer
        own = template or getattr(processor, "chat_template", None) or getattr(tokenizer, "chat_template", None)
        super().__init__(tokenizer, own.get("default", "") if isinstance(own, dict) else own or "")
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


def load_config(folder: Path) -> Any:
    """The model's config.

    Raises:
        CheckpointError: It cannot be read, or is no image-text-to-text decoder that transformers itself has.
    """
    from transformers import MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING, AutoConfig

    try:
        config = AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except Exception as error:  # validators of transformers 5 raise types of their own
        hint = first_line(error)
        raise CheckpointError.about("model", str(folder), "a config.json that transformers knows", hint) from error
    if type(config) not in MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING or getattr(config, "is_encoder_decoder", False):
        raise CheckpointError.about("model_type", config.model_type, "a decoder that reads images and text")
    return config


def load_processor(folder: Path) -> Any:
    """The processor that belongs to the checkpoint.

    Raises:
        DependencyError: It needs a package that is not installed.
        CheckpointError: It cannot be built, or does not read both images and text.
    """
    from transformers import AutoProcessor

    try:
        processor = AutoProcessor.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except Exception as error:  # tokenizers raises bare exceptions
        raise _explained(error, folder) from error
    if not all(hasattr(processor, part) for part in ("tokenizer", "image_processor")):
        got = f"<a {type(processor).__name__} in {folder}>"
        raise CheckpointError.about("model", got, "a processor of images and text", "Is processor_config.json there?")
    return processor


def _explained(error: BaseException, folder: Path) -> QSiTError:
    """Why a processor cannot be built; a missing package is told in several ways by transformers."""
    names = [name for found in _MISSING.findall("".join(traceback.format_exception(error, limit=0))) for name in found]
    names = [name.lower() for name in names if name]  # the deepest cause comes first
    if not names and not isinstance(error, ImportError):
        return CheckpointError.about("model", str(folder), "a processor that can be built", first_line(error))
    package = names[0] if names else "a package"
    hint = f"Run `pip install {package}`." if names else first_line(error)
    hint += " For LLaVA-OneVision checkpoints, backend='llava_onevision' does without."
    return DependencyError.about("model", str(folder), f"{package} to be installed, which its processor needs", hint)


def _image(pixels: Image.Image | torch.Tensor) -> Image.Image:
    """A PIL image of whatever a picture carries."""
    if isinstance(pixels, Image.Image):
        return pixels
    if pixels.requires_grad:
        raise BackendError.about("x", "<a tensor that requires grad>", "no gradient with the transformers backend")
    return Image.fromarray(pixels.round().clamp(0, 255).to(torch.uint8).permute(1, 2, 0).contiguous().cpu().numpy())
