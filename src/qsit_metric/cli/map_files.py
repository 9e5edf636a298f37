"""Files of quality maps: what they are called, what is in them, and whether one is there already.

Each holds the whole record of its map, so a later run can tell whether it would make the same one: a .png as the
compressed text chunk "qsit", a .npz as the array `record`, a .json as it is.
"""

from __future__ import annotations

import io
import json
import os
import re
import zipfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

from ..errors import OutputError
from ..files import Files
from ..journal import check_same
from .inputs import is_url, key
from .scores import identity

if TYPE_CHECKING:
    from ..maps import QualityMap

FORMATS = ("png", "npz", "json")
ASKED = "asked"
_MARK = ".map"
_TEXT = "qsit"
_FILES = Files(OutputError, "--output", parents=True)


def targets(paths: Sequence[str], given: Sequence[str], output: Path | None, shown: str | None) -> dict[str, Path]:
    """Which file each picture's map goes to.

    Args:
        paths: The pictures.
        given: What was written on the command line: pictures from a folder keep their place below it.
        output: A file for one picture, or a folder.
        shown: The format that was asked for, or None.

    Returns:
        Path -> file; empty without an output.

    Raises:
        OutputError: A name that does not say what is wanted, or a file that would be written twice or over a picture.
    """
    if output is None:
        if shown:
            raise OutputError.about("--format", shown, "a place to write to", "Add --output.")
        return {}
    if _is_file(output, len(paths)):
        kind = output.suffix.lower().removeprefix(".")
        if shown not in (None, kind):
            raise OutputError.about("--format", shown, f"the format of {output.name!r}, {kind}")
        found = dict.fromkeys(paths, output)
    else:
        found = {path: output / f"{_name(path, given)}{_MARK}.{shown or FORMATS[0]}" for path in paths}
    _check(found)
    return found


def is_map(path: str) -> bool:
    """Whether a picture is by its name a map that an earlier run left in a folder of pictures."""
    return path.endswith(f"{_MARK}.{FORMATS[0]}")


def write(found: QualityMap, record: Mapping[str, Any], target: Path) -> None:
    """Write a map in the format of its file's name, whole or not at all; folders are made.

    Raises:
        OutputError: It cannot be written.
    """
    _FILES.write(target, _WRITERS[target.suffix.lower()](found, record))


def known(target: Path, record: Mapping[str, Any]) -> dict[str, Any] | None:
    """The record of a map that is there and was made as now; None if nothing is there.

    Args:
        target: The file.
        record: What this run would write, as far as it is known before: path, what was asked, and provenance.

    Raises:
        OutputError: Something else is there.
    """
    if not target.exists():
        return None
    hint = "--overwrite replaces it."
    try:
        held = dict(json.loads(_READERS[target.suffix.lower()](target)))
    except (OSError, ValueError, KeyError, TypeError, SyntaxError, EOFError, zipfile.BadZipFile) as error:
        raise OutputError.about("--output", str(target), "a new file, or a map", hint) from error
    theirs, mine = ({"path": one.get("path"), **(one.get(ASKED) or {}), **identity(one)} for one in (held, record))
    check_same(target, theirs, mine, _FILES, what="a map", hint=hint)
    return held


def _is_file(output: Path, count: int) -> bool:
    if output.is_dir():
        return False
    if output.suffix.lower().removeprefix(".") in FORMATS:
        if count > 1:
            raise OutputError.about("--output", str(output), f"a folder for {count} pictures")
        return True
    if output.exists() or (output.suffix and count == 1):
        hint = "A folder with such a name must be there already."
        raise OutputError.about("--output", str(output), f"a name that ends in .{', .'.join(FORMATS)}", hint)
    return False


def _name(path: str, given: Sequence[str]) -> str:
    """Its place below the folder that was given, else its own name."""
    if is_url(path):
        parts = urlsplit(path)
        return re.sub(r"[^\w.-]+", "_", Path(unquote(parts.path)).name or parts.netloc)
    whole = Path(key(path))
    for entry in given:
        folder = Path(key(os.path.expanduser(entry)))  # noqa: PTH111  # as `inputs.expand`
        if folder.is_dir() and whole.is_relative_to(folder):
            return str(whole.relative_to(folder))
    return whole.name


def _check(found: Mapping[str, Path]) -> None:
    pictures = {key(path): path for path in found}
    taken: dict[str, str] = {}
    for path, target in found.items():
        place = key(str(target))
        if place in pictures:
            raise OutputError.about("--output", str(target), "another file than a picture that is read")
        if place in taken:
            shown = f"<{taken[place]} and {path}, both to {target}>"
            raise OutputError.about("--output", shown, "a file for each", "Take them in two runs, into two folders.")
        taken[place] = path


def _png(found: QualityMap, record: Mapping[str, Any]) -> bytes:
    from PIL.PngImagePlugin import PngInfo

    text, file = PngInfo(), io.BytesIO()
    text.add_text(_TEXT, json.dumps(record), zip=True)
    found.overlay().save(file, "PNG", pnginfo=text)
    return file.getvalue()


def _npz(found: QualityMap, record: Mapping[str, Any]) -> bytes:
    import numpy as np

    file, windows = io.BytesIO(), found.windows
    boxes = np.array(list(windows.boxes()), dtype=np.int32).reshape(*windows.shape, 4)
    np.savez_compressed(file, values=found.values, boxes=boxes, record=np.array(json.dumps(record)))
    return file.getvalue()


def _json(found: QualityMap, record: Mapping[str, Any]) -> bytes:
    return (json.dumps(record) + "\n").encode()


def _png_record(path: Path) -> str:
    from PIL import Image

    with Image.open(path) as image:
        image.load()  # a chunk behind the pixels is read then
        return str(image.info[_TEXT])


def _npz_record(path: Path) -> str:
    import numpy as np

    with np.load(path, allow_pickle=False) as arrays:
        return str(arrays["record"][()])


_WRITERS: Mapping[str, Callable[[QualityMap, Mapping[str, Any]], bytes]] = {".png": _png, ".npz": _npz, ".json": _json}
_READERS: Mapping[str, Callable[[Path], str]] = {
    ".png": _png_record, ".npz": _npz_record, ".json": lambda path: path.read_text(encoding="utf-8"),
}  # fmt: skip
