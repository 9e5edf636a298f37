"""`qsit doctor`: what is installed here, what is on the disk, and whether it works.

It uses no network, except for a model server that it is to look at.
"""

from __future__ import annotations

import dataclasses
import os
import platform
import re
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from rich.text import Text

from .. import console
from .._version import __version__
from ..errors import BackendError, CheckpointError, HubError
from ..files import to_json
from ..packages import installed
from .command import FAILED, options_of
from .models import facts, state
from .options import Json, ModelOptions

if TYPE_CHECKING:
    from PIL import Image

_PACKAGES = (
    "torch", "tokenizers", "transformers", "huggingface_hub", "pillow", "numpy", "safetensors", "accelerate", "httpx2"
)  # fmt: skip
_SETTINGS = re.compile(r"HF_|HUGGING_?FACE_|TRANSFORMERS_|QSIT_|CUDA_VISIBLE_DEVICES$")
_SECRET = re.compile(r"TOKEN|SECRET|PASSWORD|KEY", re.IGNORECASE)
# (width, height) -> (tiles, image tokens): what transformers 4.45, the release that the authors pin, makes of them.
_LAYOUTS = {
    (7, 5): (2, 1261),
    (384, 384): (2, 1485),
    (451, 300): (3, 1836),
    (512, 512): (5, 3699),
    (120, 900): (4, 1701),
    (1600, 200): (6, 3041),
    (1800, 1350): (21, 7309),
}
_SIZES = ((64, 80), (31, 50), (150, 61), (96, 97))  # (height, width); the picture is 61 by 97
# Sums are ordered differently in a batch. In half precision a score moves with that, in single precision hardly.
_TOLERANCE = {"float32": 1e-4}
_TOLERANCE_HALF = 2e-2

# Real weights have logits of 10 and more; half precision keeps three digits of them.
_APART = {"float32": 1e-3}
_APART_HALF = 0.25

# The server's floating-point type is not known here, and by chat it resizes pictures in its own way.
_SERVED: Mapping[Literal["exact", "chat"], float] = {"exact": 0.03, "chat": 0.05}
_NOT_OFFERED = "not possible: "

_VERDICTS = {True: ("ok", "green"), False: ("FAILED", "bold red"), None: ("skipped", "yellow")}


Against = Annotated[
    Literal["transformers"] | None,
    typer.Option("--against", help="Load the weights with transformers too, and compare the level logits of both."),
]
Asked = Annotated[
    str | None,
    typer.Option(
        "--server",
        metavar="URL",
        help="Say what a vLLM server can do, and compare a known picture with --model, if its weights are here.",
    ),
]


def doctor(ctx: typer.Context, against: Against = None, server: Asked = None, as_json: Json = False) -> int:
    """Show what is installed here and test it with --model, else with the model of the package; uses no network.

    With --server it asks that server, and no one else.
    """
    from .. import catalog
    from ..hub.cache import cache_folder, on_disk

    options = asked = options_of(ctx, ModelOptions)
    model = options.model or next(iter(catalog.embedded_names()), None)
    options = dataclasses.replace(options, offline=True, model=model)
    stored = on_disk(options.cache_dir)
    found = {
        "versions": versions(),
        "devices": devices(),
        "bfloat16": bfloat16(),
        "cache": str(cache_folder(options.cache_dir)),
        "settings": settings(os.environ),
        "models": [facts(one) for one in stored],
    }
    tried = checks(options) + ([_tried("against transformers", lambda: comparing(options))] if against else [])
    tried += serving(asked, server) if server else []
    failed = any(check.ok is False for check in tried)
    if as_json:
        results = [dataclasses.asdict(check) for check in tried]
        console.write(to_json({**found, "checks": results, "ok": not failed}, 2) + "\n")
    else:
        _show({**found, "models": {one.record.name: state(one) for one in stored}}, tried)
    return FAILED if failed else 0


def versions() -> dict[str, str | None]:
    """What is installed, without importing it; None for what is not."""
    own = {"python": platform.python_version(), "qsit_metric": __version__}
    return own | {name: installed(name) for name in _PACKAGES}


def devices() -> dict[str, str]:
    """Where a model can run here."""
    try:
        import torch
    except Exception as error:  # noqa: BLE001  # a broken installation is a finding, not a crash
        return {"none": f"torch cannot be imported: {error}"}
    found = {"cpu": f"{torch.get_num_threads()} threads"}
    for index in range(torch.cuda.device_count()):
        properties = torch.cuda.get_device_properties(index)
        found[f"cuda:{index}"] = f"{properties.name}, {console.size(properties.total_memory)}"
    if torch.backends.mps.is_available():
        found["mps"] = "Apple GPU"
    return found


def bfloat16() -> dict[str, str]:
    """How much faster than float32 this processor multiplies bfloat16, measured in some milliseconds."""
    try:
        from ..model.products import GAIN, bfloat16_gain

        gain = bfloat16_gain()
    except Exception as error:  # noqa: BLE001  # a broken installation is a finding, not a crash
        return {"cpu": f"not measured: {error}"}
    advice = "; large models gain from dtype='bfloat16' (--dtype bfloat16)" if gain >= GAIN else ""
    return {"cpu": f"{gain:.1f} times the speed of float32{advice}"}


def settings(environment: Mapping[str, str]) -> dict[str, str]:
    """The environment variables that change what happens; secrets are named, not shown.

    Example:
        >>> settings({"HF_TOKEN": "hf_x", "HF_ENDPOINT": "https://me:pw@mirror/", "HOME": "/"})
        {'HF_ENDPOINT': 'https://***@mirror/', 'HF_TOKEN': '(set, not shown)'}
    """
    return {
        name: "(set, not shown)" if _SECRET.search(name) else re.sub(r"//[^/@]*@", "//***@", environment[name])
        for name in sorted(environment)
        if _SETTINGS.match(name)
    }


def _show(found: Mapping[str, Any], tried: Sequence[Check]) -> None:
    for title, part in found.items():
        rows = {"Hub": part} if isinstance(part, str) else part
        _lines(title, rows or {"none": ""})
    _line("checks", "bold")
    for check in tried:
        verdict, style = _VERDICTS[check.ok]
        _line(Text.assemble("  ", (f"{verdict:<9}", style), f"{check.name}: {console.printable(check.detail)}"))


def _lines(title: str, rows: Mapping[str, str | None]) -> None:
    _line(title, "bold")
    width = max(map(len, rows))
    for name, value in rows.items():
        _line(f"  {name:<{width}}  {console.printable(value or 'not installed') if value != '' else ''}".rstrip())


def _line(text: str | Text, style: str = "") -> None:
    console.out().print(Text(text, style=style) if isinstance(text, str) else text, soft_wrap=True)


# ---- the self-test


@dataclass(frozen=True)
class Check:
    """One thing that was tried.

    Attributes:
        name: What.
        ok: Whether it is as it should be; None if it could not be tried.
        detail: What was measured.
    """

    name: str
    ok: bool | None
    detail: str


def checks(options: ModelOptions) -> list[Check]:
    """The self-test: does this installation compute what it promises? No network, no shipped pictures."""
    found = [_tried("resizing", resizing), _tried("tiling", tiling)]
    if options.model is None:
        skipped = "no model given, none in the package; `qsit doctor --model NAME` loads one"
        return [*found, Check("scoring", None, skipped)]
    return [*found, _tried("scoring", lambda: scoring(options))]


def _tried(name: str, check: Callable[[], tuple[bool | None, str]]) -> Check:
    try:
        return Check(name, *check())
    except Exception as error:  # noqa: BLE001  # whatever breaks an installation is what this command is to report
        said = str(error) or type(error).__name__
        return Check(name, False, " ".join(said.split("\n")))


def picture(width: int, height: int, seed: int = 1) -> Image.Image:
    """Make the same colourful picture on every machine."""
    import numpy as np
    from PIL import Image

    rows, cols, channels = np.ogrid[:height, :width, :3]
    values = (rows * 7 * seed + cols * 5 + rows * cols * (channels + seed) + 80 * channels) % 256
    return Image.fromarray(values.astype(np.uint8))


def resizing() -> tuple[bool, str]:
    """Files and tensors must be resized to the same pixels, whatever Pillow is installed."""
    import numpy as np
    import torch

    from ..pixels.resize import resize_image, resize_tensor

    image = picture(61, 97)
    tensor = torch.from_numpy(np.array(image)).permute(2, 0, 1).float()
    worst = 0
    for size in _SIZES:
        of_image = torch.from_numpy(np.array(resize_image(image, size))).permute(2, 0, 1).float()
        worst = max(worst, int((resize_tensor(tensor, size) - of_image).abs().max()))
    return worst == 0, f"files and tensors differ by {worst} of 255 at most, in {len(_SIZES)} sizes"


def tiling() -> tuple[bool, str]:
    """Known sizes must give the known numbers of tiles and tokens."""
    from ..pixels.geometry import Geometry
    from ..pixels.tiles import plan

    wrong = []
    for (width, height), expected in _LAYOUTS.items():
        layout = plan(Geometry(), height, width)
        if (layout.tiles, layout.tokens) != expected:
            wrong.append(f"{width}x{height}: {layout.tiles} tiles, {layout.tokens} tokens, expected {expected}")
    return not wrong, "; ".join(wrong) or f"{len(_LAYOUTS)} known sizes have their tiles and tokens"


def comparing(options: ModelOptions) -> tuple[bool, str]:
    """Our network must say of the user's own weights what transformers' network says."""
    from ..backends.comparison import against_transformers
    from ..hub import resolve
    from ..pixels import load

    folder = resolve(
        options.model or "", revision=options.revision, cache_dir=options.cache_dir, local_files_only=True
    ).folder
    metric = options.load()
    found = against_transformers(metric.backend, folder, metric.recipe.scoring(), load(picture(500, 300, 2)))
    limit = _APART.get(str(metric.info["dtype"]), _APART_HALF)
    about = (
        f"{metric!r}: level logits {', '.join(f'{one:.4f}' for one in found.ours)}; the largest is "
        f"{found.difference:.1e} off transformers {found.release} (allowed: {limit:g})"
    )
    return found.difference <= limit, about


def scoring(options: ModelOptions) -> tuple[bool, str]:
    """A picture's score must not depend on the company it is scored in."""
    metric = options.load()
    images: list[Any] = [picture(320, 240), picture(500, 300, 2), picture(240, 320, 3)]
    alone, batch = metric.score(images[0]), metric.score(images)
    difference = abs(alone - batch[0])
    limit = _TOLERANCE.get(str(metric.info["dtype"]), _TOLERANCE_HALF)
    about = f"{metric!r} scores {alone:.4f} alone, {difference:.1e} off in a batch (allowed: {limit:g})"
    return difference <= limit, about


# ---- a model server


def serving(options: ModelOptions, url: str) -> list[Check]:
    """Try the ways to ask a server; one that it does not offer is no failure as long as another works."""
    ways = [way for way in _SERVED if options.way in (way, "auto")]
    found = [_tried(f"server, {way}", partial(_served, options, url, way)) for way in ways]
    works = any(check.ok is not False for check in found)
    idle = [works and check.detail.startswith(_NOT_OFFERED) for check in found]
    return [dataclasses.replace(one, ok=None) if skip else one for one, skip in zip(found, idle, strict=True)]


def _served(options: ModelOptions, url: str, way: Literal["exact", "chat"]) -> tuple[bool | None, str]:
    """A server must have what its way needs, our prompts, our tiles, and the probabilities of the same weights."""
    named = options.checkpoint or options.model
    plain = dataclasses.replace(options, device=None, dtype=None, backend=None)
    try:
        served = dataclasses.replace(plain, model=url, checkpoint=named, way=way).load()
    except (BackendError, CheckpointError) as error:
        return False, f"{_NOT_OFFERED if error.argument == 'server' else ''}{error}"
    image, started = picture(500, 300, 2), time.perf_counter()
    there, info = served.score(image), served.info
    about = (
        f"{info['served_model']} on vLLM {info['vllm']} as {info['model']}: prompts and tiles are ours; "
        f"it scores {there:.4f} in {time.perf_counter() - started:.1f} s"
    )
    try:
        here = dataclasses.replace(options.local(), model=info["model"], offline=True).load()
    except (CheckpointError, HubError):
        return None, f"{about}; nothing to compare with: no weights of {info['model']} here"
    ours = here.score(image)
    apart, limit = max(abs(value - ours.probs[level]) for level, value in there.probs.items()), _SERVED[way]
    compared = f"{here!r} scores {ours:.4f}, probabilities differ by {apart:.1e} (allowed: {limit:g})"
    return apart <= limit, f"{about}; {compared}"
