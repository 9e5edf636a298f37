"""What a vLLM server says to each kind of request, as this package sends it and as it should not.

    PYTHONPATH=tests python -m served.replies http://127.0.0.1:8000 FOLDER > tests/served/recorded.json

FOLDER is the checkpoint that it serves: `served_checkpoint.wide_checkpoint`, with our chat template and
`--enable-scale-out`. The contract server (`vllm_server`) fills in these replies, and `test_served_real` holds them
against the real server.
"""

from __future__ import annotations

import itertools
import json
import sys
from pathlib import Path
from typing import Any

import httpx2
import numpy as np

from conftest import IMAGES
from qsit_metric import QSiT, Server, pixels
from qsit_metric.backends.vllm import Ask, Chat, Exact, messages
from qsit_metric.pixels.tiles import plan

PICTURE = "tiny_7x5.png"


def record(url: str, folder: str | Path) -> dict[str, Any]:
    """Ask everything once: {name: {"status", "type", "reply"}}."""
    backend = QSiT(url, server=Server(checkpoint=folder, way="exact")).backend
    geometry, model = backend.geometry, backend.served.model
    exact, chat, picture = Exact(geometry, model), Chat(geometry, model), pixels.load(IMAGES / PICTURE)
    prompt = QSiT(folder).recipe.scoring()
    layout = plan(geometry, picture.height, picture.width)
    ask = Ask(prompt, backend._dialogue.ids(prompt), backend._image, layout)
    other = pixels.load(np.random.default_rng().integers(0, 255, (60, 80, 3), dtype=np.uint8))  # not seen before
    other = Ask(prompt, ask.ids, ask.image, plan(geometry, other.height, other.width)), chat.keep(other)
    tiles, png = exact.keep(picture), chat.keep(picture)

    def exact_body(**sampling: Any) -> dict[str, Any]:
        body = json.loads(exact.next_token(ask, tiles, ask.ids.words, 0))
        body["sampling_params"] |= sampling
        return body

    def chat_body(**fields: Any) -> dict[str, Any]:
        return json.loads(chat.next_token(ask, png, ask.ids.words, 0)) | fields

    def new_body(**fields: Any) -> dict[str, Any]:
        return json.loads(chat.next_token(*other, ask.ids.words, 0)) | fields

    turns = {"model": model, **messages(prompt, png)}
    text = {"model": model, "prompt": "The quality of this image is ", "add_special_tokens": False}
    return {
        "models": _asked(url, "GET", "/v1/models"),
        "version": _asked(url, "GET", "/version"),
        "exact": _asked(url, "POST", exact.path, exact_body()),
        "exact, text": _asked(url, "POST", exact.path, json.loads(exact.text(ask, tiles, backend.generation, 3, 0))),
        "exact, empty": _asked(url, "POST", exact.path, {}),
        "exact, another model": _asked(url, "POST", exact.path, exact_body() | {"model": "other"}),
        "exact, six places for five ids": _asked(
            url, "POST", exact.path, exact_body(logprob_token_ids=[1, 2, 3, 4, 5])
        ),
        "exact, too many ids": _asked(
            url, "POST", exact.path, exact_body(logprobs=21, logprob_token_ids=list(range(21)))
        ),
        "exact, too long": _asked(url, "POST", exact.path, exact_body() | {"token_ids": ask.tokens + [64] * 9000}),
        "chat": _asked(url, "POST", chat.path, chat_body()),
        "chat, text": _asked(url, "POST", chat.path, json.loads(chat.text(ask, png, backend.generation, 3, 0))),
        "chat, another turn": _asked(url, "POST", chat.path, chat_body(continue_final_message=False)),
        "chat, top_logprobs": _asked(url, "POST", chat.path, chat_body(top_logprobs=2)),
        "chat, no picture": _asked(url, "POST", chat.path, {"model": model, **messages(prompt, b"no picture")}),
        "chat, a new picture refused": _asked(url, "POST", chat.path, new_body(temperature=-1)),
        "chat, the same picture then": _asked(url, "POST", chat.path, new_body()),
        "chat, and again": _asked(url, "POST", chat.path, new_body()),
        "tokens of a chat": _asked(url, "POST", "/tokenize", turns),
        "tokens of a text": _asked(url, "POST", "/tokenize", text),
        "no such route": _asked(url, "POST", "/inference/v2/generate", {}),
        "no such method": _asked(url, "GET", exact.path),
    }


def squeezed(value: Any) -> Any:
    """Long lists of ids as (id, how often): a picture is one id many hundred times."""
    if isinstance(value, dict):
        return {name: squeezed(inner) for name, inner in value.items()}
    if isinstance(value, list) and len(value) > 200:
        return {"runs": [[token, len(list(run))] for token, run in itertools.groupby(value)]}
    return [squeezed(inner) for inner in value] if isinstance(value, list) else value


def expanded(value: Any) -> Any:
    """The reverse of `squeezed`."""
    if isinstance(value, dict) and set(value) == {"runs"}:
        return [token for token, count in value["runs"] for _ in range(count)]
    if isinstance(value, dict):
        return {name: expanded(inner) for name, inner in value.items()}
    return [expanded(inner) for inner in value] if isinstance(value, list) else value


def shape(value: Any) -> Any:
    """Names and types, without the values."""
    if isinstance(value, dict):
        return {name: shape(inner) for name, inner in sorted(value.items())}
    if isinstance(value, list):
        return [shape(value[0])] if value else []
    return type(value).__name__


def _asked(url: str, method: str, path: str, body: Any = None) -> dict[str, Any]:
    reply = httpx2.request(method, url + path, json=body, timeout=600)
    return {"status": reply.status_code, "type": reply.headers.get("content-type"), "reply": reply.json()}


if __name__ == "__main__":
    lines = ",\n".join(f"{json.dumps(k)}: {json.dumps(squeezed(v))}" for k, v in record(*sys.argv[1:]).items())
    sys.stdout.write(f"{{\n{lines}\n}}\n")
