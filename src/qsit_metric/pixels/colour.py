"""What the numbers of a picture mean: transparency, colour profiles, gamma and HDR curves.

By default all of it is passed over, as the authors' code does, and said in a note; a `Reading` may ask for more.
"""

from __future__ import annotations

import io
import re
import struct
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from PIL import Image

if TYPE_CHECKING:
    from PIL import ImageCms

    from .reading import Reading

_ALPHA = frozenset({"RGBA", "LA", "PA", "RGBa", "La"})
_GREY = frozenset({"1", "L", "LA", "La", "I", "I;16", "I;16B", "I;16L", "I;16N", "F"})
_CURVES = {16: "PQ", 18: "HLG"}  # ITU-T H.273, transfer characteristics
_CURVE_NAMES = (re.compile(r"\bPQ\b|PeQ|2084", re.IGNORECASE), "PQ"), (re.compile(r"HLG", re.IGNORECASE), "HLG")
# Profiles that move no colour by more than this are sRGB under another name.
_SAME = 3


def alpha_of(image: Image.Image) -> Image.Image | None:
    """The opacity of a loaded PIL image as mode "L"; None where it has none.

    Example:
        >>> alpha_of(Image.new("RGBA", (1, 1), (9, 9, 9, 7))).getpixel((0, 0))
        7
    """
    if image.mode in _ALPHA:
        return image.getchannel(image.getbands()[-1])
    key = image.info.get("transparency")
    if key is None:
        return None
    if image.mode == "P":
        return _palette_alpha(image, key)
    values = np.asarray(image)
    try:
        hidden = values == np.asarray(key)  # one colour that stands for "nothing here"
    except (TypeError, ValueError):
        return None
    hidden = hidden.all(axis=-1) if hidden.ndim == 3 else hidden
    return Image.fromarray(np.where(hidden, 0, 255).astype(np.uint8)) if hidden.ndim == 2 else None


def _palette_alpha(image: Image.Image, key: Any) -> Image.Image:
    table = np.full(256, 255, np.uint8)
    if isinstance(key, int):
        table[key & 255] = 0
    else:
        opacity = np.frombuffer(bytes(key)[:256], np.uint8)
        table[: len(opacity)] = opacity
    return Image.fromarray(table[np.asarray(image)])


def on_background(rgb: Image.Image, alpha: Image.Image | None, reading: Reading, notes: list[str]) -> Image.Image:
    """Lay an RGB image on the background that was asked for, or say how much of it is transparent.

    Args:
        rgb: Its colours, mode "RGB".
        alpha: Its opacity, mode "L", or None.
        reading: Names the background.
        notes: Takes what the reader of a score should know.
    """
    if alpha is None:
        return rgb
    if reading.behind is None:
        say_transparent(1 - alpha.histogram()[255] / (alpha.width * alpha.height), notes)
        return rgb
    blended = blend(np.asarray(rgb, np.float32), np.asarray(alpha, np.float32)[..., None] / 255, reading)
    return Image.fromarray(np.rint(blended).astype(np.uint8))


def blend(numbers: Any, alpha: Any, reading: Reading) -> Any:
    """Lay numbers 0..255 with their opacity 0..1 on the background; arrays, channels last.

    Example:
        >>> from qsit_metric.pixels.reading import Reading
        >>> blend(np.zeros((1, 1, 3)), np.full((1, 1, 1), 0.5), Reading(background=(255, 255, 0))).tolist()
        [[[127.5, 127.5, 0.0]]]
    """
    return numbers * alpha + np.asarray(reading.behind, numbers.dtype) * (1 - alpha)


def say_transparent(share: float, notes: list[str]) -> None:
    """Note how much of a picture is transparent, wholly or in part, if anything is."""
    if share > 0:
        shown = f"{100 * share:.2g}" if share < 0.995 else f"{100 * share:.4g}"
        hint = "its hidden colours count (background='white' lays it on white)"
        notes.append(f"{shown} % of it is transparent, wholly or in part: {hint}")


def to_srgb(image: Image.Image, rgb: Image.Image, reading: Reading, notes: list[str]) -> Image.Image:
    """Convert colours with the picture's own profile if that was asked for, or say that it has one.

    Args:
        image: The picture as it was read, with its mode and profile.
        rgb: Its colours without regard to the profile.
        reading: Asks for the conversion.
        notes: Takes what the reader of a score should know.
    """
    profile = image.info.get("icc_profile")
    if not profile:
        return rgb
    space = "CMYK" if image.mode == "CMYK" else "L" if image.mode in _GREY else "RGB"
    found = _profile(bytes(profile), space)
    if found.transform is None:
        notes.append(f"its colour profile cannot be used ({found.name})")
        return rgb
    if found.curve:
        notes.append(_hdr(found.curve))
    if not found.moves:
        return rgb
    if not reading.icc:
        notes.append(f"its colour profile {found.name!r} is ignored (icc=True converts it to sRGB)")
        return rgb
    given = image if space == "CMYK" else rgb.getchannel(0) if space == "L" else rgb
    turned = found.transform.apply(given)
    return turned if turned.mode == "RGB" else turned.convert("RGB")


class _Profile(NamedTuple):
    """A profile's name or what is wrong with it, its way to sRGB, whether that changes colours, and its HDR curve."""

    name: str
    transform: ImageCms.ImageCmsTransform | None = None
    moves: bool = False
    curve: str | None = None


@lru_cache(maxsize=16)
def _profile(content: bytes, space: str) -> _Profile:
    try:
        from PIL import ImageCms
    except ImportError:
        return _Profile("this Pillow was built without LittleCMS")
    try:
        profile = ImageCms.ImageCmsProfile(io.BytesIO(content))
        name = " ".join(ImageCms.getProfileDescription(profile).split()) or "without a name"
        transform = ImageCms.buildTransform(profile, ImageCms.createProfile("sRGB"), space, "RGB")
        return _Profile(name, transform, _moves(transform, space), _profile_curve(content, name))
    except Exception as error:  # noqa: BLE001  # a profile is any bytes: PyCMSError, OSError, UnicodeDecodeError ...
        return _Profile(" ".join(str(error).split()) or type(error).__name__)


def _moves(transform: ImageCms.ImageCmsTransform, space: str) -> bool:
    """Whether a transform changes colours that one can see, tried on a cube of them."""
    steps = np.linspace(0, 255, 9).astype(np.uint8)
    if space == "CMYK":
        return True  # what Pillow makes of ink without a profile is not what anybody prints
    colours = np.stack(np.meshgrid(steps, steps, steps), axis=-1).reshape(27, 27, 3) if space == "RGB" else steps[None]
    probe = Image.fromarray(np.ascontiguousarray(colours))
    before, after = (np.asarray(one.convert("RGB"), np.int16) for one in (probe, transform.apply(probe)))
    return bool(np.abs(before - after).max() > _SAME)


def _profile_curve(content: bytes, name: str) -> str | None:
    """The HDR curve of a profile: its `cicp` tag (ICC.1:2022, 9.2.17), else its name."""
    count = int.from_bytes(content[128:132], "big")
    for place in range(132, 132 + 12 * min(count, 100), 12):
        if content[place : place + 4] == b"cicp" and len(content) >= place + 12:
            start = int.from_bytes(content[place + 4 : place + 8], "big")
            return _CURVES.get(content[start + 9]) if len(content) > start + 9 else None
    return next((curve for pattern, curve in _CURVE_NAMES if pattern.search(name)), None)


def say_gamma(image: Image.Image, notes: list[str]) -> None:
    """Note a gamma that is far from that of sRGB, where nothing else says what the numbers mean (PNG's gAMA)."""
    gamma = image.info.get("gamma")
    if gamma and not image.info.get("icc_profile") and "srgb" not in image.info and abs(gamma - 1 / 2.2) > 0.02:
        notes.append(f"its gamma of {gamma:.3g} is ignored")


def hdr_of(head: bytes) -> str | None:
    r"""Note the HDR curve that a file declares: PNG's cICP chunk, the nclx box of AVIF, HEIC and JPEG XL containers.

    Args:
        head: The first bytes of the file.

    Example:
        >>> hdr_of(b"\x89PNG\r\n\x1a\n" + b"\0\0\0\x04cICP\x09\x10\0\x01")
        'HDR (PQ) that is read as if it were SDR'
    """
    if head.startswith(b"\x89PNG"):
        place = head.find(b"cICP", 0, head.find(b"IDAT") if b"IDAT" in head else len(head))
        known = place >= 0 and head[place - 4 : place] == b"\0\0\0\x04" and len(head) > place + 5
        code = head[place + 5] if known else 0
    else:
        place = head.find(b"colrnclx") if head[4:8] in (b"ftyp", b"JXL ") else -1
        code = struct.unpack_from(">H", head, place + 10)[0] if place >= 0 and len(head) >= place + 12 else 0
    return _hdr(_CURVES[code]) if code in _CURVES else None


def _hdr(curve: str) -> str:
    return f"HDR ({curve}) that is read as if it were SDR"
