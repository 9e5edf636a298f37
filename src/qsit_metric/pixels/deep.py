"""Pictures of more than 8 bits per channel: all bits of 16-bit colour, and the TIFF files that Pillow reads wrongly.

Pillow keeps the upper byte of 16-bit colour. Its decoders take the order of the bytes as a setting, so a second pass
with the other order gives the lower byte. Of TIFF files it (13.0) turns planes of 16 bits without compression into
noise, leaves white-is-zero of 16 bits and of floats negative, swaps the bytes of compressed big-endian floats and
signed integers, and does not know floats in colour; those go through tifffile.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, BinaryIO, NamedTuple

import numpy as np
from PIL import Image, TiffImagePlugin

from .fetch import unusable

if TYPE_CHECKING:
    from numpy.typing import NDArray

_OTHER = "RGB", "RGBA", "RGBX", "CMYK"
_NATIVE = "L" if sys.byteorder == "little" else "B"
TIFF_MARKS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_UNCOMPRESSED, _PLANES, _WHITE_IS_ZERO = 1, 2, 0
_GREYS, _RGB, _INK = (0, 1), 2, 5  # photometric interpretations of TIFF 6.0
_TURN, _PROFILE = 274, 34675


class Deep(NamedTuple):
    """Numbers as they are stored, (H, W, C), what PIL would call their mode, and the metadata that goes with them."""

    values: NDArray[Any]
    mode: str
    info: dict[Any, Any]


def all_bits(image: Image.Image, again: Callable[[], Image.Image]) -> Deep | None:
    """All 16 bits of a PNG or TIFF in colour or with alpha; None for any other picture.

    Args:
        image: The file, opened and not yet loaded; it is loaded.
        again: Opens the same file once more.
    """
    raw = set() if in_planes(image) else {_raw(tile) for tile in getattr(image, "tile", None) or ()}
    if raw == {"LA;16B"}:
        halves = np.asarray(_loaded(again(), lambda name: "RGBA"), np.uint16)
        image.load()
        return Deep(halves[..., ::2] << 8 | halves[..., 1::2], "LA", image.info)
    if not raw or any(_swapped(name) is None for name in raw) or image.mode not in _OTHER:
        return None
    lower = np.asarray(_loaded(again(), _swapped), np.uint16)
    image.load()
    values = np.asarray(image).astype(np.uint16) << 8 | lower
    return _with_key(Deep(values, image.mode, image.info))


def _raw(tile: Any) -> str:
    args = tile[3]
    return str(args if isinstance(args, str) else args[0] if args else "")


def _swapped(raw: str) -> str | None:
    """The raw mode that reads the other byte of each number."""
    mode, _, order = raw.partition(";16")
    order = _NATIVE if order == "N" else order
    return f"{mode};16{'B' if order == 'L' else 'L'}" if mode in _OTHER and order in ("L", "B") else None


def _loaded(image: Image.Image, change: Callable[[str], str | None]) -> Image.Image:
    tiles: list[Any] = []
    for codec, extents, offset, args in image.tile:  # type: ignore[attr-defined]
        name = change(args if isinstance(args, str) else args[0])
        found = (codec, extents, offset, name if isinstance(args, str) else (name, *args[1:]))
        tiles.append(type(image.tile[0])(*found) if hasattr(image.tile[0], "_fields") else found)  # type: ignore[attr-defined]
    image.tile = tiles  # type: ignore[attr-defined]
    image.load()
    return image


def _with_key(deep: Deep) -> Deep:
    """Turn the one colour that a PNG declares as transparent into alpha: it is told by all bits."""
    key = deep.info.get("transparency")
    if key is None or deep.mode != "RGB":
        return deep
    opaque = (deep.values != np.asarray(key)).any(axis=-1, keepdims=True)
    alpha = np.where(opaque, 65535, 0).astype(np.uint16)
    info = {name: value for name, value in deep.info.items() if name != "transparency"}
    return Deep(np.concatenate([deep.values, alpha], axis=-1), "RGBA", info)


def in_planes(image: Image.Image) -> bool:
    """Whether it is a TIFF file that stores one channel of more than 8 bits after the other."""
    if not isinstance(image, TiffImagePlugin.TiffImageFile):
        return False
    return bool(image.tag_v2.get(284, 1) == _PLANES and max(image.tag_v2.get(258, (1,))) > 8)


def is_misread(image: Image.Image) -> bool:
    """Whether Pillow reads a TIFF file wrongly, or as the negative of what it shows."""
    if not isinstance(image, TiffImagePlugin.TiffImageFile):
        return False
    tags = image.tag_v2
    bits, sort = max(tags.get(258, (1,))), max(tags.get(339, (1,)))
    plain, planes = tags.get(259, 1) == _UNCOMPRESSED, tags.get(284, 1) == _PLANES
    if planes and (image.mode == "LA" or (plain and bits > 8)):
        return True
    if tags.get(262) == _WHITE_IS_ZERO and bits > 8:
        return True
    return bool(tags.prefix == b"MM" and not plain and sort > 1)


def read_tiff(handle: BinaryIO, source: str) -> tuple[Deep, int, int]:
    """Read the first page of a TIFF file with tifffile.

    Args:
        handle: The open file.
        source: Its name in messages.

    Returns:
        Its numbers with 0 as black, how many pages there are, and the EXIF orientation in which it is stored.

    Raises:
        ImageError: It cannot be read in this way, either.
    """
    import tifffile

    handle.seek(0)
    try:
        with tifffile.TiffFile(handle) as file:
            page, pages = file.pages.first, len(file.pages)
            values = _last(np.asarray(page.asarray()), page.planarconfig)
    except Exception as error:
        hint = f"tifffile says: {error}. " if str(error) else ""
        hint += "Save it with LZW, Deflate or no compression as RGB with 8 or 16 bits, or install `imagecodecs`."
        raise unusable(source, "a TIFF file of a kind that can be read", hint) from error
    mode = _mode(values, page, source)
    profile = page.tags.get(_PROFILE)
    info = {"icc_profile": bytes(profile.value)} if profile else {}
    turn = page.tags.get(_TURN)
    if page.photometric == _WHITE_IS_ZERO:
        top = 1 if values.dtype.kind == "f" else np.iinfo(values.dtype).max
        values[..., :1] = top - values[..., :1]
    return Deep(values, mode, info), pages, int(turn.value) if turn else 1


def _last(values: NDArray[Any], planes: int) -> NDArray[Any]:
    """Channels last, in the byte order of this machine, in memory of its own."""
    values = values if values.ndim > 2 else values[..., None]
    values = np.moveaxis(values, 0, -1) if planes == _PLANES and values.shape[-1] > 4 else values
    short = values.dtype.kind == "f" and values.dtype.itemsize < 4
    return np.array(values, np.float32 if short else values.dtype.newbyteorder("="))


def _mode(values: NDArray[Any], page: Any, source: str) -> str:
    count = values.shape[-1] if values.ndim == 3 else 0
    modes = {(1, g): "L" for g in _GREYS} | {(2, g): "LA" for g in _GREYS}
    modes |= {(3, _RGB): "RGB", (4, _RGB): "RGBA", (4, _INK): "CMYK"}
    mode = modes.get((count, int(page.photometric)))
    if mode is None or values.dtype.name not in {"uint8", "uint16", "int16", "float16", "float32", "float64"}:
        found = f"{'x'.join(map(str, values.shape))} {values.dtype}, {getattr(page.photometric, 'name', '?')}"
        hint = "Save it as RGB with 8 or 16 bits, or pass the array in the range that is white to you."
        raise unusable(source, f"a TIFF file in grey, RGB or CMYK, of 8 or 16 bits or floats, not {found}", hint)
    return mode
