"""`qsit doctor`: what is installed here, what is on the disk, and whether it works. It never uses the network."""

from __future__ import annotations

import dataclasses
import os
import platform
import re
from collections.abc import Mapping, Sequence
from typing import Any

from rich.text import Text

from .. import console
from .._version import __version__
from ..files import to_json
from ..packages import installed
from . import checks
from .checks import Check
from .frame import FAILED
from .options import ModelOptions
from .shelf import facts, state

_PACKAGES = (
    "torch", "tokenizers", "transformers", "huggingface_hub", "pillow", "numpy", "safetensors", "accelerate"
)  # fmt: skip
_SETTINGS = re.compile(r"HF_|HUGGING_?FACE_|TRANSFORMERS_|QSIT_|CUDA_VISIBLE_DEVICES$")
_SECRET = re.compile(r"TOKEN|SECRET|PASSWORD|KEY", re.IGNORECASE)
_VERDICTS = {True: ("ok", "green"), False: ("FAILED", "bold red"), None: ("skipped", "yellow")}


def doctor(options: ModelOptions, as_json: bool) -> int:
    """Look around, run the self-test, and tell.

    Returns:
        The exit code: 1 if a check failed.
    """
    from .. import catalog
    from ..hub.store import cache_folder, on_disk

    options = dataclasses.replace(
        options, offline=True, model=options.model or next(iter(catalog.embedded_names()), None)
    )
    stored = on_disk(options.cache_dir)
    found = {
        "versions": versions(),
        "devices": devices(),
        "cache": str(cache_folder(options.cache_dir)),
        "settings": settings(os.environ),
        "models": [facts(one) for one in stored],
    }
    tried = checks.run(options, options.model)
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
