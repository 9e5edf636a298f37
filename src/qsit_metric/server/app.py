"""The HTTP doors: `/score`, `/compute`, `/ask`, `/map`, `/health`, `/metrics`, and the page at `/`.

`/compute` and `/health` are what Flow-Factory's remote reward speaks (github.com/X-GenGroup/Flow-Factory at 32860ab); a
pickle by POST to `/` is what flow_grpo sends to a DeQA-Score server (github.com/yifan123/flow_grpo at 54809b5).

Importing this module imports FastAPI.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import io
import json
import pickle
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from fastapi import FastAPI, Request
from fastapi.responses import FileResponse, JSONResponse, Response
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException

from .._version import __version__
from ..errors import InputError, QSiTError, shorten
from ..results import Score
from ..rewards import Scale, scaled
from .batcher import Batcher, Full
from .bodies import decoded, listed, unpickled
from .gate import Gate, Limits, Refused
from .lines import answers

if TYPE_CHECKING:
    from ..metric import QSiT

T = TypeVar("T")

_PARTS = Path(__file__).parent / "page"
_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src data: blob:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
}


def build(
    metric: QSiT,
    *,
    token: str | None = None,
    limits: Limits | None = None,
    scale: Scale = "unit",
    pickles: bool = False,
) -> FastAPI:
    """Build the server's application; its thread ends with its lifespan.

    Args:
        metric: The model.
        token: What clients must send; None: clients of this machine need none.
        limits: See `Limits`.
        scale: That of `/compute`. A pickle is always answered with score / 5, as its client expects.
        pickles: Take pickles of plain values, by POST to `/`.

    Example:
        >>> build(metric, token="...")  # doctest: +SKIP
    """
    doors = _Doors(metric, limits or Limits(), scale)

    @contextlib.asynccontextmanager
    async def life(_: FastAPI) -> AsyncIterator[None]:
        yield
        await run_in_threadpool(doors.batcher.close)

    app = FastAPI(
        title="qsit", version=__version__, lifespan=life, docs_url=None, redoc_url=None,
        summary="Scores of photographs on 1..5, and answers about their quality.",
    )  # fmt: skip
    for path, door, words in (
        ("/score", doors.score, _SCORE), ("/compute", doors.compute, _COMPUTE), ("/ask", doors.ask, _ASK),
        ("/map", doors.map, _MAP), *([("/", doors.pickled, _PICKLE)] if pickles else []),
    ):  # fmt: skip
        app.add_api_route(path, doors.watched(path, door), methods=["POST"], openapi_extra=words, name=path)
    app.add_api_route("/health", doors.health, methods=["GET"], summary="Whether requests are taken.")
    app.add_api_route("/metrics", doors.metrics, methods=["GET"], summary="Numbers for Prometheus.")
    for path, name in {"/": "page.html", "/page.js": "page.js", "/page.css": "page.css"}.items():
        app.add_api_route(path, partial(_page, name), methods=["GET"], include_in_schema=False)
    app.add_middleware(Gate, token=token, limits=doors.limits)
    return app


async def _page(name: str) -> Response:
    return FileResponse(_PARTS / name, headers=_HEADERS)


class _Doors:
    """What each address does; the work is the batcher's."""

    def __init__(self, metric: QSiT, limits: Limits, scale: Scale) -> None:
        self.batcher, self.limits, self._scale = Batcher(metric, limits.queue), limits, scale
        self._made = metric.info
        self._registry = CollectorRegistry()
        self._requests = Counter("qsit_requests", "Requests.", ["path", "status"], registry=self._registry)
        self._pictures = Counter("qsit_pictures", "Pictures that were scored.", ["outcome"], registry=self._registry)
        self._seconds = Histogram("qsit_seconds", "Time of a request.", ["path"], registry=self._registry)
        queue = Gauge("qsit_queue", "Pictures and questions that are under way.", registry=self._registry)
        queue.set_function(lambda: self.batcher.waiting)

    # ---- what is asked

    async def score(self, request: Request) -> Response:
        """A result for each picture, in order; the status is 422 only if none could be scored."""
        pictures, names = await self._pictures_of(request, "images", "image")
        found = await self._scores(pictures)
        named = [{"name": name} if name else {} for name in names]
        rows = [{**name, **_row(one)} for name, one in zip(named, found, strict=True)]
        status = 200 if any(isinstance(one, Score) for one in found) else 422
        return JSONResponse({"results": rows, "made": self._made}, status)

    async def compute(self, request: Request) -> Response:
        """A reward for each picture; one that cannot be read fails the request, as a gap would be no reward."""
        fields = await _json(request)
        if all(fields.get(name) is None for name in ("image", "images")) and fields.get("video") is not None:
            raise InputError.about("video", "<a video>", "pictures", "Videos have no Q-SiT score.")
        pictures = await run_in_threadpool(_decoded, listed(fields, "images", "image"))
        prompts = fields.get("prompts", fields.get("prompt"))
        if isinstance(prompts, list) and len(prompts) != len(pictures):
            raise InputError.about("prompts", f"<{len(prompts)} prompts>", f"one for each of {len(pictures)} pictures")
        return JSONResponse({"rewards": await self._rewards(pictures, self._scale)})

    async def pickled(self, request: Request) -> Response:
        """The same for a pickle `{"images": [bytes]}`, answered by a pickle `{"outputs": [score / 5]}`."""
        fields = await run_in_threadpool(unpickled, await request.body())
        pictures = fields.get("images") if isinstance(fields, dict) else None
        if not (isinstance(pictures, list) and pictures and all(isinstance(one, bytes) for one in pictures)):
            raise InputError.about("pickle", f"<{type(fields).__name__}>", "a dict with a list of bytes, `images`")
        outputs = await self._rewards(pictures, "fifth")
        return Response(pickle.dumps({"outputs": outputs}), media_type="application/octet-stream")

    async def ask(self, request: Request) -> Response:
        """The answer to one question about one picture, or `answers` to a list of them."""
        fields = await _fields(request)
        (picture,) = _one(await self._pictures_of(request, "image", "images"))
        options = {
            name: fields[name] for name in ("choices", "method", "max_new_tokens") if fields.get(name) is not None
        }
        found = await self._called(lambda metric: answers(metric, picture, fields.get("question"), options))
        return JSONResponse(found)

    async def map(self, request: Request) -> Response:
        """The quality map of one picture: its values, and `overlay`, a PNG as a data URI."""
        (picture,) = _one(await self._pictures_of(request, "image", "images"))
        return JSONResponse(await self._called(lambda metric: _mapped(metric, picture)))

    async def health(self) -> Response:
        """Whether requests are taken."""
        alive = self.batcher.alive
        return JSONResponse({"status": "ok" if alive else "stopping", "version": __version__}, 200 if alive else 503)

    async def metrics(self) -> Response:
        """Numbers for Prometheus."""
        return Response(generate_latest(self._registry), media_type=CONTENT_TYPE_LATEST)

    # ---- how it is done

    def watched(self, path: str, door: Callable[[Request], Awaitable[Response]]) -> Callable[..., Awaitable[Response]]:
        """A door that is counted, and whose errors are answers."""

        async def counted(request: Request) -> Response:
            start = time.perf_counter()
            reply = await self._answered(door, request)
            self._requests.labels(path, str(reply.status_code)).inc()
            self._seconds.labels(path).observe(time.perf_counter() - start)
            return reply

        counted.__doc__ = door.__doc__
        return counted

    async def _answered(self, door: Callable[[Request], Awaitable[Response]], request: Request) -> Response:
        try:
            return await door(request)
        except (Refused, HTTPException, asyncio.TimeoutError, QSiTError) as error:
            status, reason = self._refusal(error)
            retry = {"Retry-After": str(self.limits.retry)} if status == 503 else None
            return JSONResponse({"error": reason}, status, retry)

    def _refusal(self, error: Exception) -> tuple[int, str]:
        """Status and reason."""
        if isinstance(error, Refused):
            return error.status, error.reason
        if isinstance(error, HTTPException):  # of a multipart body that is none
            return error.status_code, str(error.detail)
        if isinstance(error, asyncio.TimeoutError):
            return 504, f"There was no answer within {self.limits.seconds:g} seconds."
        return 503 if isinstance(error, Full) else 422 if isinstance(error, InputError) else 500, str(error)

    async def _scores(self, pictures: Sequence[bytes | QSiTError]) -> list[Score | QSiTError]:
        """Scores of what could be read so far; an error stays in its place."""
        readable = [one for one in pictures if isinstance(one, bytes)]
        if len(readable) > self.limits.queue:
            raise Refused(413, f"A request may have {self.limits.queue} pictures.")
        futures = self.batcher.score(readable)
        found = iter(await self._within(asyncio.gather(*map(asyncio.wrap_future, futures))))
        done = [next(found) if isinstance(one, bytes) else one for one in pictures]
        failed = sum(isinstance(one, QSiTError) for one in done)
        self._pictures.labels("scored").inc(len(done) - failed)
        self._pictures.labels("failed").inc(failed)
        return done

    async def _rewards(self, pictures: Sequence[bytes | QSiTError], scale: Scale) -> list[float]:
        found = await self._scores(pictures)
        for index, one in enumerate(found):
            if isinstance(one, QSiTError):
                raise one.retold(where=f"picture {index}")
        return [scaled(one, scale) for one in found if isinstance(one, Score)]

    async def _called(self, work: Callable[[QSiT], dict[str, Any]]) -> dict[str, Any]:
        return await self._within(asyncio.wrap_future(self.batcher.call(work)))

    async def _within(self, work: Awaitable[T]) -> T:
        return await asyncio.wait_for(work, self.limits.seconds)

    async def _pictures_of(self, request: Request, *names: str) -> tuple[list[bytes | QSiTError], list[str]]:
        """The pictures of a request in any form, and what they are called."""
        kind = _kind(request)
        if kind.startswith("image/") or kind == "application/octet-stream":
            return [await request.body()], [""]
        if kind == "multipart/form-data":
            form = await request.form(max_files=self.limits.queue)
            files = [one for _, one in form.multi_items() if isinstance(one, UploadFile)]
            if not files:
                raise InputError.about(names[0], None, "at least one file")
            return [await one.read() for one in files], [one.filename or "" for one in files]
        found = await run_in_threadpool(_decoded, listed(await _json(request), *names))
        return found, [""] * len(found)


def _row(found: Score | QSiTError) -> dict[str, Any]:
    return {"error": str(found)} if isinstance(found, QSiTError) else found.as_dict()


def _one(found: tuple[list[bytes | QSiTError], list[str]]) -> tuple[bytes]:
    pictures, _ = found
    if len(pictures) != 1:
        raise InputError.about("image", f"<{len(pictures)} pictures>", "one picture")
    if isinstance(pictures[0], QSiTError):
        raise pictures[0]
    return (pictures[0],)


def _decoded(texts: Sequence[Any]) -> list[bytes | QSiTError]:
    found: list[bytes | QSiTError] = []
    for text in texts:
        try:
            found.append(decoded(text))
        except QSiTError as error:  # noqa: PERF203
            found.append(error)
    return found


def _mapped(metric: QSiT, picture: bytes) -> dict[str, Any]:
    found = metric.map(picture)
    file = io.BytesIO()
    found.overlay().save(file, "PNG")
    return {**found.as_dict(), "overlay": f"data:image/png;base64,{base64.b64encode(file.getvalue()).decode('ascii')}"}


def _kind(request: Request) -> str:
    return request.headers.get("content-type", "").partition(";")[0].strip().lower()


async def _json(request: Request) -> dict[str, Any]:
    body = await request.body()
    try:
        found = await run_in_threadpool(json.loads, body)
    except (ValueError, RecursionError) as error:
        raise InputError.about("body", f"<{len(body)} bytes of {_kind(request) or 'no type'}>", "JSON") from error
    if not isinstance(found, dict):
        raise InputError.about("body", f"<{type(found).__name__}>", "a JSON object")
    return found


async def _fields(request: Request) -> Mapping[str, Any]:
    """What is said beside the picture: of JSON, or of a form."""
    if _kind(request) != "multipart/form-data":
        return await _json(request)
    form = await request.form()
    texts = {name: form[name] for name in ("question", "method") if isinstance(form.get(name), str)}
    choices = [str(one) for one in form.getlist("choices")]
    found: dict[str, Any] = {**texts, **({"choices": choices} if choices else {})}
    limit = form.get("max_new_tokens")
    if limit is not None:
        if not (isinstance(limit, str) and limit.isascii() and limit.isdigit() and len(limit) < 10):
            raise InputError.about("max_new_tokens", shorten(limit), "a whole number of 1 or more")
        found["max_new_tokens"] = int(limit)
    return found


# ---- the bodies in words, for OpenAPI


def _words(summary: str, kinds: Mapping[str, Any]) -> dict[str, Any]:
    content = {kind: {"schema": schema} for kind, schema in kinds.items()}
    return {"summary": summary, "requestBody": {"required": True, "content": content}}


def _object(required: Sequence[str], **properties: Any) -> dict[str, Any]:
    return {"type": "object", "required": list(required), "properties": properties}


_BINARY = {"type": "string", "format": "binary"}
_BASE64 = {"type": "string", "description": "Base64, or a data URI."}
_TEXT = {"type": "string"}
_TEXTS = {"type": "array", "items": _TEXT}
_MANY = {"type": "array", "items": _BASE64}
_ASKED = {
    "question": {"oneOf": [_TEXT, _TEXTS]}, "choices": _TEXTS,
    "method": {"type": "string", "enum": ["likelihood", "letters", "texts", "generate"]},
    "max_new_tokens": {"type": "integer", "minimum": 1},
}  # fmt: skip
_FILES = _object(["images"], images={"type": "array", "items": _BINARY})
_SCORE = _words(
    "Score pictures.",
    {"multipart/form-data": _FILES, "application/json": _object(["images"], images=_MANY), "image/*": _BINARY},
)
_COMPUTE = _words(
    "Rewards for a generator.",
    {
        "application/json": {
            "oneOf": [
                _object(["images"], images=_MANY, prompts=_TEXTS),
                _object(["image"], image=_MANY, prompt=_TEXTS),
            ]
        }
    },
)
_ASK = _words(
    "Ask about a picture.",
    {
        "multipart/form-data": _object(["image", "question"], image=_BINARY, **_ASKED),
        "application/json": _object(["image", "question"], image=_BASE64, **_ASKED),
    },
)
_MAP = _words(
    "Where a picture is bad.",
    {
        "multipart/form-data": _object(["image"], image=_BINARY),
        "application/json": _object(["image"], image=_BASE64),
        "image/*": _BINARY,
    },
)
_PICKLE = _words("Rewards for flow_grpo.", {"application/octet-stream": _BINARY})
