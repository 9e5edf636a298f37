"""Decode a picture file to RGB pixels: formats, size limit, modes, EXIF orientation, first frame.

Pillow does the decoding. When a file ends too early it looks at one process-wide switch of its own,
`PIL.ImageFile.LOAD_TRUNCATED_IMAGES`: False, the default, makes that an error here; True makes Pillow fill the rest
with grey or black and say nothing. The switch belongs to the program, so it is left alone: a program that sets it gets
scores of half pictures.
"""

from __future__ import annotations

import contextlib
import logging
import re
import struct
from collections.abc import Iterable
from pathlib import PurePath
from typing import BinaryIO

from PIL import ExifTags, Image, UnidentifiedImageError

from ..errors import ImageError
from .colour import hdr_of, say_gamma
from .convert import deep_to_rgb, pil_to_rgb
from .deep import TIFF_MARKS, Deep, all_bits, in_planes, is_misread, read_tiff
from .fetch import unusable
from .formats import claimed, is_raw, needed, prepare, read_raw
from .png import without_bad_metadata
from .reading import MAX_PIXELS, Reading

_HEAD = 2**18  # what is looked through for the marks of a format
_LOG = logging.getLogger("qsit_metric")

# Pages and containers, not pictures. Pillow starts Ghostscript to draw PostScript; nobody asked for that.
_NOT_PICTURES = frozenset({"EPS", "WMF", "MPEG", "BUFR", "GRIB", "HDF5"})
# The second "frame" of a phone's MPO is a depth map or a thumbnail, those of a PSD are its layers.
_NOT_SEQUENCES = frozenset({"MPO", "PSD"})

_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}

_SIGNATURES = (
    (re.compile(rb"version https://git-lfs"), "It is a Git LFS pointer: run `git lfs pull`."),
    (
        re.compile(rb"\s*<(!doctype html|html)", re.IGNORECASE),
        "It is a web page: pass the address of the picture in it.",
    ),
    (
        re.compile(
            rb"PK\x03\x04|PK\x05\x06|Rar!|7z\xbc\xaf|\x1f\x8b|BZh|\xfd7zXZ|\x28\xb5\x2f\xfd|.{257}ustar", re.DOTALL
        ),
        "It is an archive: unpack it and pass the pictures in it.",
    ),
    (
        re.compile(
            rb".{4}ftyp(?!crx |avi|hei|hev|mif1|msf1)|.{4}(moov|mdat|wide)|\x1a\x45\xdf\xa3|RIFF.{4}AVI |FLV\x01|OggS|"
            rb"\0\0\x01[\xb3\xba]|\x47.{187}\x47|.{4}\x47.{191}\x47|\x30\x26\xb2\x75",
            re.DOTALL,
        ),
        "It is a video or a sound: take frames out of it (ffmpeg -i FILE frames/%06d.png) and pass those.",
    ),
    (re.compile(rb"\x93NUMPY"), "It is a NumPy file: pass the array, np.load(FILE)."),
    (re.compile(rb"SQLite format|PAR1|\x89HDF"), "It holds data, not one picture: take the pictures out of it."),
    (re.compile(rb"%PDF|%!PS|\s*<(svg|\?xml)"), "It is a drawing or a document: export it as PNG."),
)
_MOVING = (".mp4", ".mov", ".mkv", ".avi", ".webm", ".m4v", ".mts", ".mpg", ".mpeg", ".wmv")
_NAMES = {".heic": "HEIF", ".heif": "HEIF", ".hif": "HEIF", ".avif": "HEIF", ".jxl": "JXL"}
_OTHERWISE = "Convert it to PNG, JPEG, WebP or TIFF; pixels without a file around them are passed as a NumPy array."


def decode(handle: BinaryIO, source: str, reading: Reading) -> tuple[Image.Image, str | None]:
    r"""Decode the first picture of an open file.

    Args:
        handle: A seekable binary file at position 0; the caller closes it.
        source: Its name in messages.
        reading: How it is read.

    Returns:
        The picture in mode "RGB", and what the reader of a score should know, or None.

    Raises:
        ImageError: The file is empty, of no known format, too large or out of range.
        Exception: Whatever Pillow raises on damaged data; `load` translates it.

    Example:
        >>> import io
        >>> decode(io.BytesIO(b"P5 1 1 255 \xff"), "<example>", Reading())[0].getpixel((0, 0))
        (255, 255, 255)
    """
    head = handle.read(_HEAD)
    if not head:
        raise unusable(source, "a picture, not an empty file", "Fetch or export it again.")
    if is_raw(head, source):
        return _developed(handle, source, reading)
    prepare(head, source)
    try:
        rgb, note = _read(handle, source, reading)
    except ImageError:
        raise
    except Exception as error:
        sound = without_bad_metadata(handle)
        if sound is None:
            if isinstance(error, UnidentifiedImageError):
                raise unusable(source, "a picture format that Pillow reads", _unknown(head, source)) from error
            raise
        rgb, note = _read(sound[0], source, reading, sound[1])
    return rgb, joined([note, hdr_of(head)])


def _read(
    handle: BinaryIO, source: str, reading: Reading, profile: bytes | None = None
) -> tuple[Image.Image, str | None]:
    """Decode a file with all its bits, by whichever library reads it rightly."""
    try:
        image = _opened(handle, reading)
    except UnidentifiedImageError:
        handle.seek(0)
        if handle.read(4) not in TIFF_MARKS:
            raise
        return _tiff(handle, source, reading)
    _check_size(image.size, source, reading.max_pixels)
    if profile:
        image.info["icc_profile"] = profile
    if is_misread(image):
        return _tiff(handle, source, reading)
    if in_planes(image):  # Pillow reads these rightly, the upper bytes alone
        with contextlib.suppress(ImageError):
            return _tiff(handle, source, reading)
    return finish(image, source, reading, all_bits(image, lambda: _opened(handle, reading)))


def _tiff(handle: BinaryIO, source: str, reading: Reading) -> tuple[Image.Image, str | None]:
    deep, pages, orientation = read_tiff(handle, source)
    _check_size((deep.values.shape[1], deep.values.shape[0]), source, reading.max_pixels)
    notes: list[str] = []
    rgb = deep_to_rgb(deep, source, reading, notes)
    turn = _TURNS.get(orientation)  # whatever `exif` says, as in those that Pillow reads
    first = _first_of(pages, source) if pages > 1 else None
    return rgb if turn is None else rgb.transpose(turn), joined([first, *notes])


def _developed(handle: BinaryIO, source: str, reading: Reading) -> tuple[Image.Image, str | None]:
    image, said, orientation = read_raw(handle, source, reading.exif, reading.max_pixels)
    rgb, note = finish(image, source, reading.replaced(exif=False))
    turn = _TURNS.get(orientation)
    return rgb if turn is None else rgb.transpose(turn), joined([said, note])


def finish(
    image: Image.Image, source: str, reading: Reading, deep: Deep | None = None
) -> tuple[Image.Image, str | None]:
    """Decode a PIL image that may not have been read yet, and turn it into an upright RGB picture.

    Args:
        image: Any PIL image; it is not changed, apart from being loaded.
        source: Its name in messages.
        reading: How it is read.
        deep: Its numbers, where they have more bits than PIL keeps.

    Returns:
        The picture in mode "RGB", the image itself if that needs nothing, and what the reader of a score should know.

    Raises:
        ImageError: The image is empty, too large or out of range.
        Exception: Whatever Pillow raises on damaged data or a closed file; `load` translates it.

    Example:
        >>> finish(Image.new("L", (3, 2)), "<example>", Reading())[0].mode
        'RGB'
    """
    notes: list[str] = []
    _check_size(image.size, source, reading.max_pixels)
    image.load()
    rgb = deep_to_rgb(deep, source, reading, notes) if deep else pil_to_rgb(image, source, reading, notes)
    say_gamma(image, notes)
    if rgb is image and getattr(image, "is_animated", False):
        rgb = image.copy()  # counting the frames moves on in the file, and so may the caller
    # Not ImageOps.exif_transpose: it writes the EXIF block anew and fails on a broken one.
    turn = _orientation(image) if reading.exif else None
    rgb = rgb if turn is None else rgb.transpose(turn)
    # Icons and some animations know their size only once decoded.
    _check_size(rgb.size, source, reading.max_pixels)
    return rgb, joined([_note(image, source), *notes])


def joined(notes: Iterable[str | None]) -> str | None:
    """Several notes as one, each said once.

    Example:
        >>> joined(["first of 2 frames", None, "its gamma of 1 is ignored"])
        'first of 2 frames; its gamma of 1 is ignored'
    """
    return "; ".join(dict.fromkeys(filter(None, notes))) or None


def _opened(handle: BinaryIO, reading: Reading) -> Image.Image:
    """Open a file, also one that is larger than Pillow's own limit where that was asked for."""
    try:
        handle.seek(0)
        return Image.open(handle, formats=_formats())
    except Image.DecompressionBombError:
        if reading.max_pixels <= MAX_PIXELS:
            raise
    # Pillow's limit is one for the whole process; whoever asks for a larger picture does not ask for that to change.
    for name in _formats():
        factory, accept = Image.OPEN[name]
        handle.seek(0)
        if accept is None or accept(handle.read(16)) is True:
            handle.seek(0)
            with contextlib.suppress(SyntaxError, IndexError, TypeError, struct.error):
                return factory(handle, "")
    raise UnidentifiedImageError("no plugin takes it")


def _formats() -> list[str]:
    # Left alone, Pillow registers the rarer formats when a file is none of the common ones, and a second thread that
    # comes in between calls a good file unknown. Here each thread waits for all of them, in Pillow's own order.
    Image.preinit()
    Image.init()
    return [name for name in Image.ID if name not in _NOT_PICTURES]


def _unknown(head: bytes, source: str) -> str:
    found = next((hint for pattern, hint in _SIGNATURES if pattern.match(head)), None)
    suffix = PurePath(source).suffix.lower()
    if name := claimed(head):
        return f"It bears the mark of {name}, but is damaged: fetch or export it again."
    if found is None and suffix in _MOVING:
        found = "Videos are not read: take frames out of it and pass those."
    if found is None and suffix in _NAMES:
        found = f"It is called {suffix}, but its content is something else or damaged. {needed(_NAMES[suffix])}"
    return found or _OTHERWISE


def _check_size(size: tuple[int, int], source: str, max_pixels: int) -> None:
    width, height = size
    if width * height == 0:
        raise unusable(source, f"at least one pixel, not {width}x{height}")
    if width * height > max_pixels:
        more = f"pass max_pixels={width * height} (--max-pixels)"
        hint = (
            f"It has {width}x{height}: shrink it, or decode it yourself if you trust it and pass the array, or {more}."
        )
        raise unusable(source, f"at most {max_pixels:,} pixels", hint)


def _orientation(image: Image.Image) -> Image.Transpose | None:
    # A broken EXIF block says nothing about which way is up, and its parser may raise nearly anything.
    with contextlib.suppress(Exception):
        return _TURNS.get(image.getexif().get(ExifTags.Base.Orientation, 1))
    return None


def _note(image: Image.Image, source: str) -> str | None:
    if image.format in _NOT_SEQUENCES:
        return None
    count, position = 1, 0
    # Damage behind the first frame does no harm to it.
    with contextlib.suppress(Exception):
        count, position = getattr(image, "n_frames", 1), image.tell()
    if count <= 1:
        return None
    if position:  # the caller has chosen it
        return f"frame {position + 1} of {count}"
    return _first_of(count, source)


def _first_of(count: int, source: str) -> str:
    _LOG.warning("%s: only the first of %d frames is used", source, count)
    return f"first of {count} frames"
