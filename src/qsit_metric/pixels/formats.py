"""Formats that Pillow alone does not read: HEIC, JPEG XL and camera raw, each told by its content and not by its name.

What is installed is registered with Pillow when a file needs it: pillow-heif, pillow-jxl-plugin; rawpy for raw files.
"""

from __future__ import annotations

import io
import re
import threading
from importlib import import_module
from pathlib import PurePath
from typing import Any, BinaryIO, NamedTuple

from PIL import Image

from .deep import TIFF_MARKS
from .fetch import unusable

RAW_SUFFIXES = frozenset(
    f".{name}"
    for name in (
        "3fr", "arw", "cr2", "cr3", "crw", "dng", "erf", "iiq", "kdc", "mef", "mos", "mrw", "nef", "nrw", "orf", "pef",
        "raf", "raw", "rw2", "rwl", "sr2", "srf", "srw", "x3f",
    )
)  # fmt: skip
"""Endings, in lower case, under which cameras write their sensors' data."""

_RAW = re.compile(
    rb"FUJIFILMCCD-RAW|.{4}ftypcrx |II(RO|RS|U\0)|MMOR|II\*\0.{4}CR|II\x1a\0\0\0HEAPCCDR|FOVb|\0MRM", re.DOTALL
)
_DNG_VERSION, _MAKE, _SUBFILES, _PHOTOMETRIC, _FILTERS = 50706, 271, 330, 262, (32803, 34892)
_LARGE = 2048  # pixels of a preview's longer side that serve as well as the whole: no model sees more


class _Plugin(NamedTuple):
    module: str
    register: str | None
    package: str
    extra: str


_HEIF = _Plugin("pillow_heif", "register_heif_opener", "pillow-heif", "heic")
_JXL = _Plugin("pillow_jxl", None, "pillow-jxl-plugin", "jxl")
_MARKS = (
    (re.compile(rb".{4}ftyp(hei|hev|mif1|msf1)", re.DOTALL), "HEIF", _HEIF),
    (re.compile(rb"\xff\x0a|\0\0\0\x0cJXL \r\n\x87\n", re.DOTALL), "JXL", _JXL),
    (re.compile(rb".{4}ftypavi[fs]", re.DOTALL), "AVIF", _HEIF),
)
_LOCK = threading.Lock()


def prepare(head: bytes, source: str) -> None:
    """Register what is installed for a file that Pillow alone does not read.

    Args:
        head: The first bytes of the file.
        source: Its name in messages.

    Raises:
        ImageError: Nothing is installed for it.
    """
    found = next(((name, plugin) for pattern, name, plugin in _MARKS if pattern.match(head)), None)
    if found and not (found[0] == "AVIF" and "AVIF" in Image.OPEN):
        _register(*found, source)


def _register(name: str, plugin: _Plugin, source: str) -> None:
    with _LOCK:
        Image.init()
        if name in Image.OPEN:
            return
        try:
            module = import_module(plugin.module)
        except Exception as error:  # a plugin's library may be missing in many ways
            raise unusable(source, f"a picture format that Pillow reads, not {name}", needed(name)) from error
        if plugin.register:
            getattr(module, plugin.register)()


def claimed(head: bytes) -> str | None:
    r"""The format whose mark a file bears, among those that need a plugin.

    Example:
        >>> claimed(b"\0\0\0\x18ftypheic")
        'HEIF'
    """
    return next((name for pattern, name, _ in _MARKS if pattern.match(head)), None)


def needed(name: str) -> str:
    """What to install for a format.

    Example:
        >>> needed("JXL")
        "JPEG XL needs a plugin, which is used as soon as it is there: `pip install 'qsit-metric[jxl]'` or \
`pip install pillow-jxl-plugin`."
    """
    plugin = _JXL if name == "JXL" else _HEIF
    title = "JPEG XL needs" if name == "JXL" else "HEIC and AVIF need"
    how = f"`pip install 'qsit-metric[{plugin.extra}]'` or `pip install {plugin.package}`"
    also = "" if name == "JXL" else "; AVIF is also in the wheels of Pillow 11.3 and later"
    return f"{title} a plugin, which is used as soon as it is there: {how}{also}."


def is_raw(head: bytes, source: str) -> bool:
    """Whether a file holds a sensor's data.

    Most raw formats are TIFF files whose first picture is a stamp-sized preview. Under a camera's ending such a file is
    taken for what it says; under another by its content.
    """
    if _RAW.match(head):
        return True
    if head[:4] not in TIFF_MARKS:
        return False
    return PurePath(source).suffix.lower() in RAW_SUFFIXES or _says_raw(head)


def _says_raw(head: bytes) -> bool:
    """Whether the first directory of a TIFF file is that of a raw file: DNG, or a camera's with a sensor's pattern."""
    order: Any = "little" if head[:2] == b"II" else "big"
    start = int.from_bytes(head[4:8], order)
    count = int.from_bytes(head[start : start + 2], order)
    tags = {}
    for place in range(start + 2, min(start + 2 + 12 * count, len(head) - 11), 12):
        short = head[place + 2 : place + 4] in (b"\x03\0", b"\0\x03")
        value = head[place + 8 : place + (10 if short else 12)]
        tags[int.from_bytes(head[place : place + 2], order)] = int.from_bytes(value, order)
    return _DNG_VERSION in tags or tags.get(_PHOTOMETRIC) in _FILTERS or (_MAKE in tags and _SUBFILES in tags)


def read_raw(handle: BinaryIO, source: str, exif: bool, max_pixels: int) -> tuple[Image.Image, str, int]:
    """Read a camera's raw file: the preview that the camera made if it is large, else a developed picture.

    Args:
        handle: The open file.
        source: Its name in messages.
        exif: Turn the picture as the camera was held.
        max_pixels: Most pixels that are developed.

    Returns:
        The picture; what it is; and how far it still has to be turned, as an EXIF orientation.

    Raises:
        ImageError: rawpy is not installed, or cannot read it.
    """
    expected = "a developed picture, not a camera raw file"
    develop = "Develop it (rawpy, darktable ...) and pass the array or an export as TIFF, PNG or JPEG."
    try:
        rawpy = import_module("rawpy")
    except ImportError as error:
        hint = f"{develop} With `pip install 'qsit-metric[raw]'` raw files are read here."
        raise unusable(source, expected, hint) from error
    handle.seek(0)
    try:
        with rawpy.imread(io.BytesIO(handle.read())) as raw:
            width, height = raw.sizes.width, raw.sizes.height
            preview = _preview(raw, rawpy)
            if preview is not None and max(preview.size) >= min(_LARGE, 0.9 * max(width, height)):
                return preview, "camera raw: its embedded preview", _turn(preview, raw.sizes.flip) if exif else 1
            if width * height > max_pixels:
                raise unusable(source, f"at most {max_pixels:,} pixels", f"It has {width}x{height}: pass max_pixels.")
            turned = {} if exif else {"user_flip": 0}
            developed = Image.fromarray(raw.postprocess(use_camera_wb=True, **turned))
            return developed, "camera raw: developed with the camera's white balance", 1
    except rawpy.LibRawError as error:
        raise unusable(source, expected, f"LibRaw says: {_said(error)}. {develop}") from error


def _preview(raw: Any, rawpy: Any) -> Image.Image | None:
    try:
        thumb = raw.extract_thumb()
        if thumb.format == rawpy.ThumbFormat.JPEG:
            image: Image.Image = Image.open(io.BytesIO(thumb.data), formats=["JPEG", "MPO"])
            image.load()
            return image
        return Image.fromarray(thumb.data)
    except (rawpy.LibRawError, OSError, SyntaxError, ValueError):
        return None


def _turn(preview: Image.Image, flip: int) -> int:
    """EXIF orientation of a preview: its own, else what the raw file says of the sensor (LibRaw's `flip`)."""
    own = int(preview.getexif().get(274, 0) or 0)
    return own if own > 1 else {3: 3, 5: 8, 6: 6}.get(flip, 1)


def _said(error: Exception) -> str:
    said = error.args[0] if error.args else type(error).__name__
    return said.decode(errors="replace") if isinstance(said, bytes) else str(said)
