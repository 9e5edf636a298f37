"""A vLLM server on 127.0.0.1 as the client sees it, with faults that can be switched on.

    with VllmServer(GOLDEN / "tied") as server:
        QSiT(server.url).score("photo.jpg")
        server.faults.statuses = [500]           # the next request for an answer gets this first

Answers are computed with the checkpoint's own network. How they look is taken from `served/recorded.json`, which a real
server (vLLM 0.32.0) gave; `test_served_real` holds that file against one.
"""

from __future__ import annotations

import base64
import copy
import io
import json
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from qsit_metric import QSiT
from qsit_metric.backends.base import Encoded
from qsit_metric.backends.dialogue import Ids
from qsit_metric.backends.features import image_features
from qsit_metric.backends.template import for_server, load_template
from qsit_metric.pixels import Picture
from qsit_metric.pixels.geometry import Geometry
from qsit_metric.pixels.tiles import cut, plan
from served.replies import expanded

msgpack = pytest.importorskip("msgpack")  # of the extra `served`

RECORDED: Mapping[str, Any] = expanded(
    json.loads((Path(__file__).parent / "served" / "recorded.json").read_text("utf-8"))
)
EXACT, CHAT = "/inference/v1/generate", "/v1/chat/completions"
MOST_IDS = 20


@dataclass
class Faults:
    """Everything that can go wrong; all off."""

    statuses: list[int] = field(default_factory=list)  # what the next requests for an answer get, one after the other
    retry_after: str = ""  # sent with those
    cuts: int = 0  # so many connections are closed without a reply
    silence: float = 0.0  # seconds before an answer
    page: str = ""  # everything is answered by this page (a proxy, a login)
    location: str = ""  # everything is sent on to there
    lost_id: int | None = None  # a reply lacks this id
    not_a_number: bool = False  # an overflow, as vLLM writes it
    bare: bool = False  # a reply without log-probabilities, as of a release that does not know what was asked
    miscounted: int = 0  # so many tokens more in a prompt
    reworded: bool = False  # the prompt that was read is another of the same length
    only_v1: bool = False  # a gateway that knows nothing outside of /v1
    refused: frozenset[tuple[int, int]] = frozenset()  # pictures of these sizes (width, height) are refused with 400


@dataclass
class Seen:
    """One request as the server saw it."""

    method: str
    path: str
    key: str | None
    body: Any
    size: tuple[int, int] | None = None  # (width, height) of its picture


class VllmServer:
    """A server of one checkpoint.

    Args:
        folder: The checkpoint.
        scale_out: Whether it was started with `--enable-scale-out`.
        template: Its chat template; default: ours, as `qsit serve-template` writes it.
        key: Its API key.
        name: The name under which it serves.
        geometry: Another one than the checkpoint's.
        positions: `max_model_len`.
    """

    def __init__(
        self,
        folder: Path,
        *,
        scale_out: bool = True,
        template: str | None = None,
        key: str | None = None,
        name: str | None = None,
        geometry: Geometry | None = None,
        positions: int = 8192,
    ) -> None:
        self.faults, self.seen, self.most = Faults(), [], 0
        self.backend = QSiT(folder, device="cpu", dtype="float32").backend
        self.geometry = geometry or self.backend.geometry
        self.scale_out, self.key, self.positions = scale_out, key, positions
        self.root, self.name = str(folder), name or str(folder)
        self.template = template or for_server(load_template(folder))
        self.alive = True
        self._poisoned: set[bytes] = set()
        self._kept: dict[int, torch.Tensor] = {}
        self._under_way = 0
        self._lock = threading.Lock()
        self._http = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"vllm": self}))
        self._http.daemon_threads = True
        self._thread = threading.Thread(target=self._http.serve_forever, args=(0.02,), daemon=True)

    def __enter__(self) -> VllmServer:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._http.shutdown()
        self._http.server_close()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._http.server_address[1]}"

    def asked(self, path: str) -> list[Seen]:
        """The requests for a path, in order."""
        return [seen for seen in self.seen if seen.path == path]

    def reset(self) -> None:
        """No faults, and nothing seen."""
        self.faults, self.seen, self.most, self.alive = Faults(), [], 0, True

    # ---- replies: (status, document)

    def answer(self, seen: Seen) -> tuple[int, Any]:
        """What the server says to a request."""
        guarded = seen.path.startswith(("/v1", "/inference"))
        if self.key and guarded and seen.key != f"Bearer {self.key}":
            return 401, {"error": "Unauthorized"}
        if self.faults.only_v1 and not seen.path.startswith("/v1"):
            return _recorded("no such route")
        known = {("GET", "/v1/models"): self._models, ("GET", "/version"): self._version}
        known |= {("POST", "/tokenize"): self._tokenize, ("POST", CHAT): self._chat}
        known[("POST", EXACT)] = self._exact if self.scale_out else self._disabled
        if (seen.method, seen.path) in known:
            return known[(seen.method, seen.path)](seen)
        return _recorded("no such method" if seen.path in (EXACT, CHAT) else "no such route")

    def _disabled(self, seen: Seen) -> tuple[int, Any]:
        """Seen at a real server without `--enable-scale-out`, too."""
        said = "Scale-out endpoints are disabled. Restart vllm serve with --enable-scale-out to enable them."
        return 403, {"error": {"message": said, "type": "PermissionDeniedError", "param": None, "code": 403}}

    def _models(self, seen: Seen) -> tuple[int, Any]:
        status, reply = _recorded("models")
        reply["data"][0] |= {"id": self.name, "root": self.root, "max_model_len": self.positions}
        return status, reply

    def _version(self, seen: Seen) -> tuple[int, Any]:
        return _recorded("version")

    def _tokenize(self, seen: Seen) -> tuple[int, Any]:
        body = seen.body
        tokens = self._encode(body["prompt"]) if "prompt" in body else self._prompt(body, self._picture(seen))
        status, reply = _recorded("tokens of a text")
        return status, reply | {"count": len(tokens), "tokens": tokens}

    def _exact(self, seen: Seen) -> tuple[int, Any]:
        body = seen.body
        if "token_ids" not in body:
            return _recorded("exact, empty")
        if body.get("model") not in (None, self.name):
            return _recorded("exact, another model")
        sampling = body["sampling_params"]
        wanted = sampling.get("logprob_token_ids")
        if wanted is not None and sampling.get("logprobs") != len(wanted):
            return _recorded("exact, six places for five ids")
        if len(wanted or ()) > MOST_IDS:
            return _recorded("exact, too many ids")
        if len(body["token_ids"]) >= self.positions:
            return _recorded("exact, too long")
        item = msgpack.unpackb(
            base64.b64decode(body["features"]["kwargs_data"]["image"][0]), ext_hook=lambda _, raw: raw
        )
        pixels, (height, width) = (_array(item[name]["data"]) for name in ("pixel_values", "image_sizes"))
        layout = plan(self.geometry, int(height), int(width))
        seen.size = (int(width), int(height))
        if len(pixels) != layout.tiles:
            self.alive = False  # the engine ends, and the server with it
            return 500, {"error": {"message": "EngineCore encountered an issue.", "code": 500}}
        span = body["features"]["mm_placeholders"]["image"][0]
        ids = body["token_ids"]
        before, after = ids[: span["offset"]], ids[span["offset"] + span["length"] :]
        mean, std = (torch.tensor(values)[:, None, None] for values in (self.geometry.mean, self.geometry.std))
        tiles = ((torch.from_numpy(pixels) * std + mean) * 255).round()
        chosen, chances = self._write(tiles, layout, before, after, sampling)
        status, reply = _recorded("exact" if wanted else "exact, text")
        choice = reply["choices"][0]
        choice |= {"token_ids": chosen, "finish_reason": "stop" if len(chosen) < sampling["max_tokens"] else "length"}
        if wanted:
            top = self._top(wanted, chosen[0], chances)[: sampling["logprobs"]]
            first = choice["logprobs"]["content"][0]
            first |= {"token_id": chosen[0], "logprob": top[0][1]}
            first["top_logprobs"] = [{"token_id": token, "logprob": value, "rank": 1} for token, value in top]
        return status, self._finished(reply, len(ids), None)

    def _chat(self, seen: Seen) -> tuple[int, Any]:
        body = seen.body
        if body.get("temperature", 0) < 0:
            self._poisoned.add(self._png(body))
            return _recorded("chat, a new picture refused")
        if self._png(body) in self._poisoned:
            self._poisoned.discard(self._png(body))
            return _recorded("chat, the same picture then")
        picture = self._picture(seen)
        if seen.size in self.faults.refused:
            return _recorded("chat, no picture")
        layout = plan(self.geometry, picture.height, picture.width)
        tokens = self._prompt(body, picture)
        place = tokens.index(self.backend.model.config.image_token)
        before, after = tokens[:place], tokens[place + layout.tokens :]
        wanted = body.get("logprob_token_ids")
        chosen, chances = self._write(cut(picture, self.geometry), layout, before, after, body)
        status, reply = _recorded("chat" if wanted else "chat, text")
        choice = reply["choices"][0]
        text = self.backend._dialogue.tokenizer.decode(chosen)
        finish = "stop" if len(chosen) < body["max_tokens"] else "length"
        choice |= {"token_ids": chosen, "finish_reason": finish, "message": choice["message"] | {"content": text}}
        if wanted:
            top = self._top(wanted, chosen[0], chances)
            first = choice["logprobs"]["content"][0]
            first |= {"token": f"token_id:{chosen[0]}", "logprob": top[0][1]}
            first["top_logprobs"] = [{"token": f"token_id:{t}", "logprob": v, "bytes": []} for t, v in top]
        return status, self._finished(reply, len(tokens), tokens if body.get("return_token_ids") else None)

    # ---- what stands behind them

    def _encode(self, text: str) -> list[int]:
        return self.backend._dialogue.tokenizer.encode(text)

    @staticmethod
    def _png(body: Mapping[str, Any]) -> bytes:
        parts = next(turn["content"] for turn in body["messages"] if turn["role"] == "user")
        address = next(part["image_url"]["url"] for part in parts if part["type"] == "image_url")
        return base64.b64decode(address.partition("base64,")[2])

    def _picture(self, seen: Seen) -> Picture:
        image = Image.open(io.BytesIO(self._png(seen.body)))
        seen.size = image.size
        if image.mode == "RGBA":  # as vLLM does
            white = Image.new("RGB", image.size, "white")
            white.paste(image, mask=image.getchannel("A"))
            image = white
        return Picture(image.convert("RGB"), "sent")

    def _prompt(self, body: Mapping[str, Any], picture: Picture) -> list[int]:
        """Token ids of a chat, written as `apply_chat_template` of transformers does."""
        from qsit_metric.backends import template

        turns = []
        for turn in body["messages"]:
            parts = [{"type": "text", "text": turn["content"]}] if isinstance(turn["content"], str) else turn["content"]
            parts = [{"type": "image"} if part["type"] == "image_url" else part for part in parts]
            turns.append({"role": turn["role"], "content": parts})
        begun = body.get("continue_final_message")
        asking = "" if body.get("add_generation_prompt", True) else "{% set add_generation_prompt = false %}"
        text = template.render(asking + self.template, turns, self.backend._dialogue.tokenizer.named)
        if begun:
            final = turns[-1]["content"][0]["text"]
            end = text.rindex(final.strip()) + len(final.strip())
            text = text[: end + (len(final) - len(final.rstrip()) if text[end:].startswith(" ") else 0)]
        before, after = (self._encode(part) if part else [] for part in text.split("<image>"))
        image = [self.backend.model.config.image_token]
        return [*before, *image * plan(self.geometry, picture.height, picture.width).tokens, *after]

    @torch.no_grad()
    def _write(
        self, tiles: torch.Tensor, layout: Any, before: Sequence[int], after: Sequence[int], sampling: Mapping[str, Any]
    ) -> tuple[list[int], torch.Tensor]:
        """The greedy tokens, and the log-probabilities of the first one."""
        backend, chosen, first = self.backend, [], None
        features = self._features(tiles, layout)
        while len(chosen) < sampling["max_tokens"]:
            ids = Ids(tuple(before), (*after, *chosen), ())
            row = backend.model.lm_head(backend._read_whole([(Encoded(features, len(features)), ids)]))[0]
            first = row.float().log_softmax(-1) if first is None else first
            chosen.append(int(row.argmax()))
            if chosen[-1] in sampling.get("stop_token_ids", ()):
                break
        return chosen, first

    def _features(self, tiles: torch.Tensor, layout: Any) -> torch.Tensor:
        """Of a picture; kept, as many questions are about the same."""
        name = hash(tiles.numpy().tobytes())
        if name not in self._kept:
            self._kept[name] = image_features(self.backend.model, [tiles], [layout], self.geometry, 16)[0]
        return self._kept[name]

    def _top(self, wanted: Sequence[int], chosen: int, chances: torch.Tensor) -> list[tuple[int, float]]:
        ids = [token for token in dict.fromkeys([chosen, *wanted]) if token != self.faults.lost_id]
        return [(token, -9999.0 if self.faults.not_a_number else float(chances[token])) for token in ids]

    def _finished(self, reply: dict[str, Any], count: int, tokens: list[int] | None) -> dict[str, Any]:
        count += self.faults.miscounted
        if tokens and self.faults.reworded:
            tokens = [*tokens[:-1], tokens[-1] - 1]
        if self.faults.bare:
            reply["choices"][0]["logprobs"] = None
        return reply | {"usage": reply["usage"] | {"prompt_tokens": count}, "prompt_token_ids": tokens}

    def entered(self, change: int) -> None:
        with self._lock:
            self._under_way += change
            self.most = max(self.most, self._under_way)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    vllm: VllmServer

    def do_GET(self) -> None:
        self._reply(None)

    def do_POST(self) -> None:
        self._reply(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))

    def log_message(self, *args: object) -> None:
        """Stay silent; the requests are recorded."""

    def _reply(self, body: Any) -> None:
        server, faults = self.vllm, self.vllm.faults
        seen = Seen(self.command, self.path, self.headers.get("Authorization"), body)
        server.seen.append(seen)
        real = self.path in (EXACT, CHAT) and body
        if not server.alive or (real and faults.cuts > 0):
            faults.cuts -= 1
            self.close_connection = True
            return
        if real:
            server.entered(+1)
        try:
            time.sleep(faults.silence if real else 0)
            if faults.page or faults.location:
                kind = {"Content-Type": "text/html"} if faults.page else {"Location": faults.location}
                self._send(307 if faults.location else 200, faults.page.encode(), kind)
            elif real and faults.statuses:
                after = {"Retry-After": faults.retry_after} if faults.retry_after else {}
                status = faults.statuses.pop(0)
                self._send(status, json.dumps(_recorded("chat, the same picture then")[1]).encode(), after)
            else:
                status, reply = server.answer(seen)
                self._send(status, json.dumps(reply).encode(), {"Content-Type": "application/json"})
        finally:
            if real:
                server.entered(-1)

    def _send(self, status: int, body: bytes, headers: Mapping[str, str]) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)


def _recorded(name: str) -> tuple[int, Any]:
    found = RECORDED[name]
    return found["status"], copy.deepcopy(found["reply"])


def _array(data: Sequence[Any]) -> np.ndarray:
    kind, shape, raw = data
    return np.frombuffer(raw, dtype=kind).reshape(shape).copy()
