"""What is said to vLLM and how its replies are read; no network here.

Two ways to ask. Both were recorded from vLLM 0.32.0; its own words for the formats are in the modules
`vllm/entrypoints/openai/chat_completion/protocol.py` and `vllm/entrypoints/scale_out/token_in_token_out/protocol.py`.

- exact: `POST /inference/v1/generate` (a server started with `--enable-scale-out`) takes token ids and `pixel_values`,
  so prompt and pixels are this package's own.
- chat: `POST /v1/chat/completions` takes the question and a PNG; the server writes the chat and resizes in its own way.

A reply is believed only if it fits what was asked: the prompt has as many tokens as our own plan says (in the chat, it
is the same ids), and the log-probability of every id that was asked for is there and is a number.
"""

from __future__ import annotations

import base64
import hashlib
import io
import json
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import torch
from PIL import Image

from ..errors import BackendError, CheckpointError
from ..packages import require
from ..pixels.tiles import cut, normalise
from ..prompts import Prompt
from .decoding import Generation
from .dialogue import Ids

if TYPE_CHECKING:
    from ..pixels import Picture
    from ..pixels.geometry import Geometry
    from ..pixels.tiles import Plan

MAX_TILES = 9
"""The feature budget of a grid that vLLM applies, whatever a checkpoint's `vision_aspect_ratio` says."""

_NO_NUMBER = -9999.0  # what vLLM writes for NaN and minus infinity
_RAW_BYTES = 3  # its msgpack extension type of a tensor's memory
# Greedy, and nothing between the model and its log-probabilities, whatever the server's own defaults are.
_PLAIN = {"temperature": 0.0, "top_p": 1.0, "top_k": 0, "min_p": 0.0, "presence_penalty": 0.0, "frequency_penalty": 0.0}


@dataclass(frozen=True)
class Ask:
    """One prompt about one picture.

    Attributes:
        prompt: What is said.
        ids: The same as token ids around the picture.
        image: Id that stands for the picture.
        plan: The picture's plan; says how many of these ids it takes.
    """

    prompt: Prompt
    ids: Ids
    image: int
    plan: Plan

    @property
    def length(self) -> int:
        """Tokens of the whole prompt."""
        return len(self.ids.before) + self.plan.tokens + len(self.ids.after)

    @property
    def tokens(self) -> list[int]:
        """The whole prompt."""
        return [*self.ids.before, *[self.image] * self.plan.tokens, *self.ids.after]


class Way(ABC):
    """A way to ask.

    Attributes:
        name: Its name.
        path: Where requests go.
        most: Ids whose log-probabilities one request may ask for.
    """

    name: ClassVar[str]
    path: ClassVar[str]
    most: ClassVar[int]

    def __init__(self, geometry: Geometry, model: str) -> None:
        self.geometry, self.model = geometry, model

    @abstractmethod
    def keep(self, picture: Picture) -> Any:
        """What of a picture is kept for its requests; called from several threads at once."""

    @abstractmethod
    def _written(self, ask: Ask, kept: Any, attempt: int, sampling: Mapping[str, Any]) -> bytes:
        """The request in JSON."""

    @abstractmethod
    def _top(self, choice: Mapping[str, Any]) -> Iterator[tuple[Any, Any]]:
        """The ids and log-probabilities of a reply's one token."""

    @abstractmethod
    def _wanted(self, words: Sequence[int], other: int) -> dict[str, Any]:
        """How the log-probabilities of ids are asked for; `other` is an id that is not among them."""

    def next_token(self, ask: Ask, kept: Any, words: Sequence[int], attempt: int) -> bytes:
        """A request for the log-probabilities of the next token being one of these words."""
        other = next(token for token in range(len(words) + 1) if token not in words)
        sampling = {**_PLAIN, "max_tokens": 1, "repetition_penalty": 1.0, **self._wanted(words, other)}
        return self._written(ask, kept, attempt, sampling)

    def text(self, ask: Ask, kept: Any, generation: Generation, limit: int, attempt: int) -> bytes:
        """A request for greedy text."""
        ends = {"ignore_eos": True, "stop_token_ids": sorted(generation.stop)}
        sampling = {**_PLAIN, "max_tokens": limit, "repetition_penalty": generation.repetition_penalty, **ends}
        return self._written(ask, kept, attempt, sampling)

    def read_chances(self, reply: Any, ask: Ask, words: Sequence[int]) -> list[float]:
        """The log-probability of each word.

        Raises:
            BackendError: The reply does not fit the request.
        """
        choice = self._choice(reply, ask)
        try:
            found = dict(self._top(choice))
            chances = {word: float(found[word]) for word in words if found.get(word) is not None}
        except (KeyError, IndexError, TypeError, ValueError, AttributeError) as error:
            raise _unfit(f"<no log-probabilities: {type(error).__name__}>", "those of the words") from error
        if missing := [word for word in words if word not in chances]:
            hint = "Is it an older vLLM? `logprob_token_ids` is needed."
            raise _unfit(f"<no log-probability for the ids {missing}>", "one for each word", hint)
        if bad := [word for word, value in chances.items() if not _NO_NUMBER < value < float("inf")]:
            hint = "Half precision may have overflowed on the server: try --dtype bfloat16 or float32 there."
            raise _unfit(f"<log-probabilities that are no numbers, of the ids {bad}>", "numbers", hint)
        return [chances[word] for word in words]

    def read_text(self, reply: Any, ask: Ask) -> tuple[list[int], bool]:
        """The tokens of a text, and whether it came to its end.

        Raises:
            BackendError: The reply does not fit the request.
        """
        choice = self._choice(reply, ask)
        tokens = choice.get("token_ids")
        if not isinstance(tokens, list) or not all(isinstance(token, int) for token in tokens):
            raise _unfit("<no token ids>", "those of the text", "Is it an older vLLM? `return_token_ids` is needed.")
        return tokens, choice.get("finish_reason") == "stop"

    def _choice(self, reply: Any, ask: Ask) -> Mapping[str, Any]:
        """The one choice of a reply whose prompt was ours."""
        try:
            choice, count, ids = reply["choices"][0], reply["usage"]["prompt_tokens"], reply.get("prompt_token_ids")
        except (KeyError, IndexError, TypeError, AttributeError) as error:
            raise _unfit(f"<no {error}>", "choices and usage, as vLLM gives") from error
        same_prompt(count, ids, ask)
        if not isinstance(choice, Mapping):
            raise _unfit("<a choice that is no object>", "one as vLLM gives")
        return choice


class Exact(Way):
    """Our own token ids and pixels."""

    name: ClassVar[str] = "exact"
    path: ClassVar[str] = "/inference/v1/generate"
    # The server allows 20 (--max-logprobs), of which the token that it chose takes one.
    most: ClassVar[int] = 19

    def keep(self, picture: Picture) -> torch.Tensor:
        """The picture's tiles, 0..255."""
        return cut(picture, self.geometry)

    def _written(self, ask: Ask, kept: torch.Tensor, attempt: int, sampling: Mapping[str, Any]) -> bytes:
        span = {"offset": len(ask.ids.before), "length": ask.plan.tokens}
        features = {
            "mm_hashes": {"image": [_name_of(kept, ask.plan, self.geometry, attempt)]},
            "mm_placeholders": {"image": [span]},
            "kwargs_data": {"image": [""]},
        }
        plain = {**sampling, "detokenize": False}
        body = {"model": self.model, "token_ids": ask.tokens, "sampling_params": plain, "features": features}
        # Tens of megabytes: they are put into the hole as they are, as looking for characters to escape takes longest.
        start, end = json.dumps(body).encode().rsplit(b'""', 1)
        return b'%b"%b"%b' % (start, packed(normalise(kept, self.geometry), ask.plan.size), end)

    def _wanted(self, words: Sequence[int], other: int) -> dict[str, Any]:
        # It gives as many as ids are asked for, and the token that it chose comes first: the last one falls out.
        return {"logprobs": len(words) + 1, "logprob_token_ids": [*words, other]}

    def _top(self, choice: Mapping[str, Any]) -> Iterator[tuple[Any, Any]]:
        for one in choice["logprobs"]["content"][0]["top_logprobs"]:
            yield one["token_id"], one["logprob"]


class Chat(Way):
    """The question in words and the picture as a PNG; the server must write chats as we do (`for_server`)."""

    name: ClassVar[str] = "chat"
    path: ClassVar[str] = "/v1/chat/completions"
    most: ClassVar[int] = 1024

    def keep(self, picture: Picture) -> bytes:
        """The decoded picture as a PNG without an alpha channel: the server would lay that on white."""
        return png(picture.pixels)

    def _written(self, ask: Ask, kept: bytes, attempt: int, sampling: Mapping[str, Any]) -> bytes:
        wanted = {"return_token_ids": True, "return_tokens_as_token_ids": True}
        return json.dumps({"model": self.model, **messages(ask.prompt, kept), **wanted, **sampling}).encode()

    def _wanted(self, words: Sequence[int], other: int) -> dict[str, Any]:
        return {"logprobs": True, "logprob_token_ids": list(words)}

    def _top(self, choice: Mapping[str, Any]) -> Iterator[tuple[Any, Any]]:
        for one in choice["logprobs"]["content"][0]["top_logprobs"]:
            yield int(one["token"].removeprefix("token_id:")), one["logprob"]


_ANOTHER = "It has another checkpoint, with other tiles: scores would be wrong. Name its own: Server(checkpoint=...)."
_TEMPLATE = (
    "Its tokenizer or chat template is another: start it with --chat-template and what `qsit serve-template` writes, "
    "or with --enable-scale-out for the exact way, and name its checkpoint."
)

WAYS: Mapping[str, type[Way]] = {way.name: way for way in (Exact, Chat)}


def messages(prompt: Prompt, picture: bytes) -> dict[str, Any]:
    """A chat about a picture, up to where the model goes on: behind the answer's beginning, if the prompt has one."""
    address = f"data:image/png;base64,{base64.b64encode(picture).decode('ascii')}"
    shown = {"type": "image_url", "image_url": {"url": address}}
    turns: list[dict[str, Any]] = [{"role": "user", "content": [shown, {"type": "text", "text": prompt.question}]}]
    if prompt.system is not None:
        turns.insert(0, {"role": "system", "content": prompt.system})
    if prompt.answer_prefix:
        turns.append({"role": "assistant", "content": prompt.answer_prefix})
    begun = bool(prompt.answer_prefix)
    return {"messages": turns, "add_generation_prompt": not begun, "continue_final_message": begun}


def png(pixels: Image.Image | torch.Tensor) -> bytes:
    """A picture as an RGB PNG; a tensor (3, H, W) of 0..255 is rounded."""
    if isinstance(pixels, torch.Tensor):
        rounded = pixels.detach().round().clamp(0, 255).to(torch.uint8)
        pixels = Image.fromarray(rounded.permute(1, 2, 0).contiguous().cpu().numpy())
    file = io.BytesIO()
    pixels.convert("RGB").save(file, "PNG", compress_level=1)
    return file.getvalue()


def packed(pixels: torch.Tensor, size: tuple[int, int]) -> bytes:
    """Scaled tiles and the picture's (height, width) as vLLM packs what a processor made: msgpack in base64."""
    msgpack = require("msgpack", "served", least="1", below="2")
    array, sides = pixels.float().contiguous().numpy(), np.array(size, dtype=np.int64)
    one = partial(_tensor, msgpack.ExtType)
    item = {"pixel_values": one("float32", array), "image_sizes": one("int64", sides)}
    return base64.b64encode(msgpack.packb(item))


def _tensor(extension: Any, kind: str, array: np.ndarray[Any, Any]) -> dict[str, Any]:
    data = [kind, list(array.shape), extension(_RAW_BYTES, array.tobytes())]
    return {"data": data, "field": ["batched", {"keep_on_cpu": False}]}


def _name_of(tiles: torch.Tensor, plan: Plan, geometry: Geometry, attempt: int) -> str:
    """By what a server keeps a picture, so it depends on all that its features depend on.

    A repetition has another: what a server keeps under the first may be what made it fail.
    """
    digest = hashlib.sha256(tiles.contiguous().numpy().tobytes())
    digest.update(repr((tiles.dtype, plan, geometry)).encode())
    return digest.hexdigest() + (f"-{attempt}" if attempt else "")


def same_prompt(count: Any, tokens: Any, ask: Ask) -> None:
    """Refuse a prompt that is not ours.

    Args:
        count: How many tokens the server counted.
        tokens: Which, or None if it does not say.
        ask: What was asked.

    Raises:
        CheckpointError: The server has another geometry, template or tokenizer.
    """
    if isinstance(tokens, list):
        same_picture(tokens.count(ask.image), ask.plan)
        same_text([token for n, token in enumerate(tokens) if token != ask.image or token != tokens[n - 1]], ask)
    if count != ask.length:
        size = f"{ask.plan.size[1]}x{ask.plan.size[0]}"
        got = f"<a prompt of {count} tokens with a picture of {size}>"
        raise CheckpointError.about("server", got, f"{ask.length}, as our plan says", _ANOTHER)


def same_picture(count: int, layout: Plan) -> None:
    """Refuse a server that makes another number of tokens of a picture.

    Raises:
        CheckpointError: It has another geometry.
    """
    if count != layout.tokens:
        got = f"<{count} tokens for a picture of {layout.size[1]}x{layout.size[0]}>"
        raise CheckpointError.about("server", got, f"{layout.tokens}, as our plan says", _ANOTHER)


def same_text(tokens: list[int], ask: Ask) -> None:
    """Refuse a server that writes or reads a prompt in another way; the picture is one token here.

    Raises:
        CheckpointError: It has another tokenizer or template.
    """
    ours = [*ask.ids.before, ask.image, *ask.ids.after]
    if tokens != ours:
        pairs = enumerate(zip(tokens, ours, strict=False))
        place = next((n for n, (theirs, own) in pairs if theirs != own), min(len(tokens), len(ours)))
        got = f"<a prompt of {len(tokens)} tokens, of which number {place} differs>"
        raise CheckpointError.about("server", got, f"our {len(ours)} tokens, with one for the picture", _TEMPLATE)


def _unfit(got: str, expected: str, hint: str = "") -> BackendError:
    return BackendError.about("server", got, f"a reply with {expected}", hint)
