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
from typing import BinaryIO

from PIL import ExifTags, Image, UnidentifiedImageError

from .colour import hdr_of, say_gamma
from .convert import pil_to_rgb
from .fetch import unusable
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

_HEIF = (
    "HEIC and AVIF need a plugin: `pip install pillow-heif`, then `pillow_heif.register_heif_opener()`; "
    "AVIF is also in the wheels of Pillow 11.3 and later."
)
_SIGNATURES = (
    (re.compile(rb".{4}ftyp(hei|hev|mif1|msf1|avi[fs])", re.DOTALL), _HEIF),
    (re.compile(rb"version https://git-lfs"), "It is a Git LFS pointer: run `git lfs pull`."),
    (
        re.compile(rb"\s*<(!doctype html|html)", re.IGNORECASE),
        "It is a web page: pass the address of the picture in it.",
    ),
    (re.compile(rb"%PDF|%!PS|\s*<(svg|\?xml)"), "It is a drawing or a document: export it as PNG."),
)
_HEIF_NAMES = (".heic", ".heif", ".avif")
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
    try:
        image = _opened(handle, reading)
    except UnidentifiedImageError as error:
        raise unusable(source, "a picture format that Pillow reads", _unknown(head, source)) from error
    rgb, note = finish(image, source, reading)
    return rgb, joined([note, hdr_of(head)])


def finish(image: Image.Image, source: str, reading: Reading) -> tuple[Image.Image, str | None]:
    """Decode a PIL image that may not have been read yet, and turn it into an upright RGB picture.

    Args:
        image: Any PIL image; it is not changed, apart from being loaded.
        source: Its name in messages.
        reading: How it is read.

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
    rgb = pil_to_rgb(image, source, reading, notes)
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
    return found or (_HEIF if source.lower().endswith(_HEIF_NAMES) else _OTHERWISE)


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
    _LOG.warning("%s: only the first of %d frames is used", source, count)
    return f"first of {count} frames"
