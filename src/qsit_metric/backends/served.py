"""A model behind vLLM: pictures are decoded and cut here, log-probabilities come from the server.

No weights are read here. Tokenizer, template and geometry are those of a checkpoint that the caller names, or that the
server says it serves, and whether the server has the same is tried once, before the first score: its tokens of whole
prompts must be ours, and its pictures must have as many as ours. vLLM computes what it is given without complaint where
they differ (and, where pixels and geometry do not fit, it ends), so this check is not optional.
"""

from __future__ import annotations

import dataclasses
import json
import logging
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from PIL import Image

from ..errors import BackendError, CheckpointError, InputError, QSiTError
from ..model.config import Config
from ..pixels.tiles import Plan, plan
from ..prompts import Prompt, Recipe
from .base import Backend, Encoded, LoadOptions, Prepared, Reply
from .checkpoint import load_geometry, load_tokenizer
from .decoding import Generation
from .dialogue import IMAGE, Dialogue, Ids
from .server import Link, Refusal
from .vllm import MAX_TILES, WAYS, Ask, Chat, Exact, Way, messages, png, same_picture, same_prompt, same_text

if TYPE_CHECKING:
    from typing_extensions import Self

    from ..pixels import Picture

_log = logging.getLogger("qsit_metric")
_SWITCH = "--enable-scale-out"  # a server without it says so with a 403
_PHOTO = (400, 600)  # height and width of the first picture that a server is tried with


@dataclass(frozen=True)
class Served:
    """What a server says of itself.

    Attributes:
        model: The name under which requests ask for its model.
        root: What it loaded: a Hub repository or a folder on its machine.
        positions: Tokens that a prompt may have with its answer, 0 if it does not say.
        version: Of vLLM, or None.
    """

    model: str
    root: str
    positions: int
    version: str | None

    @classmethod
    def ask(cls, link: Link) -> Served:
        """Ask which models there are.

        Raises:
            BackendError: It cannot be reached, wants another key, or says nothing that makes sense.
            InputError: It has several models, or not the one that was named.
        """
        reply = link.get("/v1/models")
        try:
            known = {str(one["id"]): one for one in reply["data"]}
        except (KeyError, TypeError) as error:
            hint = "Is it a vLLM server?"
            raise BackendError.about("server", f"<{link.url}>", "a list of models at /v1/models", hint) from error
        wanted = link.server.model or next(iter(known), None)
        if wanted not in known or (link.server.model is None and len(known) > 1):
            hint = "Name one: Server(model=...), --served-model."
            raise InputError.about("served model", link.server.model, f"one of {', '.join(known) or 'none'}", hint)
        found = known[wanted]
        return cls(wanted, str(found.get("root") or ""), _whole(found.get("max_model_len")), _version(link))

    def checkpoint(self) -> str | None:
        """The checkpoint that it seems to serve, if it can be found from here: a Hub repository, or a folder."""
        from .. import catalog

        for name in (self.model, self.root):
            if catalog.find(name) or (Path(name).is_absolute() and Path(name).is_dir()):
                return name
        return next((name for name in (self.root, self.model) if re.fullmatch(r"[\w.-]+/[\w.-]+", name)), None)


@dataclass(eq=False)
class _Sent:
    """What is kept of a picture, its plan, and what the server has said of it already.

    A batch in which one picture fails is asked in halves; without the latter the others would be paid for again.
    """

    kept: Any
    plan: Plan
    told: dict[Any, Any] = field(default_factory=dict)


class ServedBackend(Backend):
    """Asks a vLLM server that runs a LLaVA-OneVision checkpoint in the Hugging Face format.

    What a reply says are log-probabilities; they stand where other backends give logits, and all that follows from them
    (probabilities, scores, choices) is the same.

    Args:
        link: The way to the server.
        served: What it says of itself.
        folder: Where the checkpoint's small files are.
        template: Chat template that overrides the checkpoint's own.

    Attributes:
        way: "exact" or "chat".

    Raises:
        CheckpointError: The checkpoint cannot be served, or the server has another.
        BackendError: The server did not answer as it must.
    """

    name: ClassVar[str] = "served"
    device = torch.device("cpu")
    dtype = torch.float32

    def __init__(self, link: Link, served: Served, folder: Path, template: str | None = None) -> None:
        config = Config.load(folder)
        self.geometry = load_geometry(folder)
        self.recipe = Recipe.load(folder)
        self.generation = Generation.load(folder)
        self.link, self.served = link, served
        self._image = config.image_token
        self._positions = min(config.text.positions, served.positions or config.text.positions)
        self._dialogue = Dialogue(*load_tokenizer(folder, template))
        self._tried: set[tuple[str | None, str | None]] = set()
        self._check_checkpoint()
        self._way = self._choose()

    @classmethod
    def load(cls, folder: Path, options: LoadOptions) -> Self:
        """See `Backend.load`; weights in the folder are not read."""
        if options.link is None:
            hint = "Write QSiT('http://host:8000'), and the checkpoint as Server(checkpoint=...)."
            raise InputError.about("model", str(folder), "the address of a server for the backend 'served'", hint)
        return cls(options.link, Served.ask(options.link), folder, options.template)

    @property
    def way(self) -> str:
        """How the server is asked."""
        return self._way.name

    @property
    def patches(self) -> int:  # type: ignore[override]
        """Patches of one tile."""
        return self.geometry.side**2

    @property
    def tile(self) -> int:  # type: ignore[override]
        """Side of one tile in pixels."""
        return self.geometry.tile

    @property
    def parallel(self) -> int:  # type: ignore[override]
        """A batch keeps all places at the server busy, and some more pictures wait."""
        return self.link.server.concurrency

    def facts(self) -> dict[str, str]:
        """See `Backend.facts`."""
        return {"way": self.way, "served_model": self.served.model, "vllm": self.served.version or "unknown"}

    def prepare(self, picture: Picture) -> Prepared:
        """See `Backend.prepare`."""
        layout = plan(self.geometry, picture.height, picture.width)
        return Prepared(_Sent(self._way.keep(picture), layout), layout.tiles, layout.tokens)

    def encode(self, pictures: Sequence[Prepared]) -> list[Encoded]:
        """See `Backend.encode`. Nothing is sent yet: the server reads a picture with each of its prompts."""
        return [Encoded(picture.data, picture.tokens) for picture in pictures]

    def logits(self, requests: Sequence[tuple[Encoded, Prompt]]) -> list[torch.Tensor]:
        """See `Backend.logits`; these are log-probabilities among all tokens."""
        return self._chances([(image, self._ask(image, prompt)) for image, prompt in requests])

    def likelihoods(self, requests: Sequence[tuple[Encoded, Prompt]], answers: Sequence[str]) -> list[torch.Tensor]:
        """See `Backend.likelihoods`; a request for each token of each answer, in the exact way only."""
        if self.way != Exact.name:
            hint = "Use method='letters' or 'generate', or start the server with --enable-scale-out."
            raise BackendError.about("method", "texts", "the exact way, in which whole answers are compared", hint)
        texts = [self._dialogue.answer(answer) for answer in answers]
        steps = [(image, step) for image, prompt in requests for step in self._steps(image, prompt, texts)]
        counts = [len(text) for text in texts] * len(requests)
        sums = torch.stack([part.sum() for part in torch.split(torch.cat(self._chances(steps)), counts)])
        return list(sums.reshape(len(requests), len(texts)))

    def generate(self, requests: Sequence[tuple[Encoded, Prompt]], max_new_tokens: int) -> list[Reply]:
        """See `Backend.generate`."""
        if size := self.generation.no_repeat_ngram_size:
            raise BackendError.about("no_repeat_ngram_size", size, "0: vLLM has no such rule", "Ask with choices.")
        self.generation.warn()
        return self._answers([self._text(image, prompt, max_new_tokens) for image, prompt in requests])

    def to(self, device: Any = None, dtype: Any = None) -> None:
        """Refuse: the model is the server's."""
        got = device if device is not None else dtype
        raise BackendError.about("device", got, f"no move: the model is that of {self.link.url}", "Start that anew.")

    def check(self, prompt: Prompt) -> None:
        """See `Backend.check`; the first prompt in a chat format is held against what the server makes of it."""
        self._dialogue.ids(prompt)
        chat = (prompt.system, prompt.template)
        if chat not in self._tried:
            self._try(prompt)
            self._tried.add(chat)

    def _ask(self, image: Encoded, prompt: Prompt, new_tokens: int = 1) -> Ask:
        if not isinstance(image.data, _Sent):
            raise BackendError("`view`: it was closed, its memory is freed. Open the image again with `metric.open`.")
        found = Ask(prompt, self._dialogue.ids(prompt), self._image, image.data.plan)
        if (length := found.length + new_tokens) > self._positions:
            shown = f"<{length} tokens with the image and the answer>"
            raise InputError.about("question", shown, f"at most {self._positions}, as the server allows", "Ask less.")
        return found

    def _steps(self, image: Encoded, prompt: Prompt, texts: Sequence[Sequence[int]]) -> Iterator[Ask]:
        """Whether a text goes on with its next token: an `Ask` for each token of each text."""
        whole = self._ask(image, prompt, max(map(len, texts)))
        for text in texts:
            for place, token in enumerate(text):
                told = Ids(whole.ids.before, (*whole.ids.after, *text[:place]), (token,))
                yield dataclasses.replace(whole, ids=told)

    def _chances(self, asks: Sequence[tuple[Encoded, Ask]]) -> list[torch.Tensor]:
        """Log-probabilities of each prompt's words; more than one request may ask for are asked for in several."""
        most = self._way.most
        cuts = [[ask.ids.words[at : at + most] for at in range(0, len(ask.ids.words), most)] for _, ask in asks]
        requests = [
            self._words(image, ask, words) for (image, ask), parts in zip(asks, cuts, strict=True) for words in parts
        ]
        found = iter(self._answers(requests))
        return [torch.tensor([one for _ in parts for one in next(found)]) for parts in cuts]

    def _words(self, image: Encoded, ask: Ask, words: tuple[int, ...]) -> _Request:
        body = partial(self._way.next_token, ask, image.data.kept, words)
        return _Request(image, (ask.ids, words), body, partial(self._way.read_chances, ask=ask, words=words))

    def _text(self, image: Encoded, prompt: Prompt, limit: int) -> _Request:
        ask = self._ask(image, prompt, limit)

        def read(reply: Any) -> Reply:
            tokens, finished = self._way.read_text(reply, ask)
            return Reply(self._dialogue.tokenizer.decode(tokens).strip(), tuple(tokens), finished)

        body = partial(self._way.text, ask, image.data.kept, self.generation, limit)
        return _Request(image, (ask.ids, limit), body, read)

    def _answers(self, requests: Sequence[_Request]) -> list[Any]:
        """What the server says, all asked at once. The first error is raised when each one has its answer."""
        new = {(id(request.told), request.key): request for request in requests if request.key not in request.told}
        replies = self.link.post_all(self._way.path, [request.body for request in new.values()]) if new else []
        for request, reply in zip(new.values(), replies, strict=True):
            request.told[request.key] = request.outcome(reply)
        found = [request.told[request.key] for request in requests]
        for request in requests:
            if request.image.keep and isinstance(request.told.get(request.key), QSiTError):
                del request.told[request.key]  # who asks a view again wants it tried again
        if error := next((one for one in found if isinstance(one, QSiTError)), None):
            raise error
        return found

    def _check_checkpoint(self) -> None:
        """Refuse what vLLM would compute in another way."""
        if self.geometry.max_tiles != MAX_TILES:
            got, wanted = (f"anyres_max_{tiles}" for tiles in (self.geometry.max_tiles, MAX_TILES))
            hint = "Load it here, without a server."
            raise CheckpointError.about("vision_aspect_ratio", got, f"{wanted}, all that vLLM knows", hint)
        if (marker := self._dialogue.tokenizer.id_of(IMAGE)) != self._image:
            raise CheckpointError.about(f"id of {IMAGE!r}", marker, f"{self._image}, as config.json says")

    def _choose(self) -> Way:
        """The way that was asked for, or the exact one where the server has it."""
        name: str = self.link.server.way
        if name != Chat.name and not self._has(Exact.path):
            hint = "Start it with --enable-scale-out, or use Server(way='chat')."
            if name == Exact.name:
                raise BackendError.about("server", f"<{self.link.url}, without {Exact.path}>", "the exact way", hint)
            _log.warning(
                "%s has no %s: it is asked by chat, which moves scores by some hundredths", self.link.url, Exact.path
            )
            name = Chat.name
        return WAYS[name if name in WAYS else Exact.name](self.geometry, self.served.model)

    def _has(self, path: str) -> bool:
        """Whether the server knows a route: it says what an empty request lacks."""
        try:
            self.link.post(path, {})
        except Refusal as refusal:
            if refusal.status in (404, 405, 501) or (refusal.status == 403 and _SWITCH in refusal.said):
                return False
            if refusal.status not in (400, 422):
                raise
        return True

    def _try(self, prompt: Prompt) -> None:
        """Compare whole prompts as token ids, and how many tokens pictures of several shapes have.

        Raises:
            CheckpointError: The server has another tokenizer, template or geometry.
        """
        for size in _shapes(self.geometry.grids):
            ask = Ask(prompt, self._dialogue.ids(prompt), self._image, plan(self.geometry, *size))
            if ask.length < self._positions:
                self._compare(ask)
        if self.way == Exact.name:
            text = self._dialogue.render(prompt) + prompt.answer_prefix
            body = {"model": self.served.model, "prompt": text, "add_special_tokens": False}
            same_text(_tokens(self.link.post("/tokenize", body)), ask)

    def _compare(self, ask: Ask) -> None:
        picture = png(Image.new("RGB", ask.plan.size[::-1], "gray"))
        body = {"model": self.served.model, **messages(ask.prompt, picture)}
        try:
            tokens = _tokens(self.link.post("/tokenize", body))
        except Refusal as refusal:
            if refusal.status not in (404, 405) or self.way == Exact.name:
                raise
            content = self._way.next_token(ask, picture, ask.ids.words or ask.ids.after[:1], 0)
            self._way.read_text(self.link.post(self._way.path, json.loads(content)), ask)  # a server behind a gateway
            return
        if self.way == Exact.name:
            same_picture(tokens.count(self._image), ask.plan)
        else:
            same_prompt(len(tokens), tokens, ask)


@dataclass(frozen=True)
class _Request:
    """Something to ask about a picture.

    Attributes:
        image: The picture.
        key: What is asked, among all that is asked about this picture.
        body: Makes the request's content.
        read: Reads the reply.
    """

    image: Encoded
    key: Any
    body: Callable[[int], bytes]
    read: Callable[[Any], Any]

    @property
    def told(self) -> dict[Any, Any]:
        """What was said about this picture already."""
        told: dict[Any, Any] = self.image.data.told
        return told

    def outcome(self, reply: Any) -> Any:
        """The answer in a reply, or the error that stands in place of one of both."""
        if isinstance(reply, QSiTError):
            return reply
        try:
            return self.read(reply)
        except QSiTError as error:
            return error


def _shapes(grids: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    """Heights and widths that tell one geometry from another: a photograph, the widest and the tallest grid."""
    return [_PHOTO, min(grids, key=lambda grid: grid[0] / grid[1]), max(grids, key=lambda grid: grid[0] / grid[1])]


def _tokens(reply: Any) -> list[int]:
    tokens = reply.get("tokens") if isinstance(reply, dict) else None
    if not isinstance(tokens, list):
        raise BackendError.about("server", "<no tokens from /tokenize>", "those of the prompt", "Is it a vLLM server?")
    return tokens


def _version(link: Link) -> str | None:
    try:
        found = link.get("/version")
    except BackendError:
        return None
    return str(found["version"]) if isinstance(found, dict) and "version" in found else None


def _whole(value: Any) -> int:
    return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else 0
