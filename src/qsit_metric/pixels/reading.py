"""How a picture is read: one record that travels from the caller and the command line to the pixels.

The defaults are the authors' reading, apart from the EXIF orientation, which is applied as viewers do: alpha is
dropped, colour profiles are ignored, 16 bits mean 0..65535. What is passed over so is said in the picture's note.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any, TypeAlias, TypedDict

from ..errors import InputError

if TYPE_CHECKING:
    from typing_extensions import Self, Unpack

MAX_PIXELS = 178_956_970
"""Largest encoded picture that is decoded, in pixels: the size that PIL, too, takes for a decompression bomb."""

Colour: TypeAlias = "str | Sequence[int]"
"""A colour as Pillow names it ("white", "#808080"), "R,G,B", or three numbers 0..255."""


class ReadOptions(TypedDict, total=False):
    """The fields of a `Reading`, as keywords."""

    exif: bool
    bits: int | None
    background: Colour | None
    icc: bool
    max_pixels: int


@dataclass(frozen=True)
class Reading:
    """How pictures are read.

    Attributes:
        exif: Turn a picture the way its EXIF orientation says. TIFF and HEIC files are always turned: their readers do.
        bits: Bits that are in use where a file or array holds more than 8, for example 12 when 4095 is white. None
            takes them all. Pictures of 8 bits do not mind.
        background: What transparent pictures are laid on: "white", "black", any colour that Pillow knows, or (r, g, b).
            None drops alpha, so that the hidden colours of transparent pixels count, as in the authors' code.
        icc: Convert colours from the picture's own profile to sRGB. False takes the numbers as they are stored.
        max_pixels: Most pixels of a file, stream or PIL image.

    Raises:
        InputError: A value that makes no sense.

    Example:
        >>> Reading(background="white").recorded()
        {'background': '255,255,255'}
        >>> Reading().replaced(bits=12, icc=True).recorded()
        {'bits': 12, 'icc': True}
    """

    exif: bool = True
    bits: int | None = None
    background: Colour | None = None
    icc: bool = False
    max_pixels: int = MAX_PIXELS

    def __post_init__(self) -> None:
        if self.bits is not None and not (_is_whole(self.bits) and 8 <= self.bits <= 16):
            raise InputError.about("bits", self.bits, "a whole number from 8 to 16, or None")
        if not _is_whole(self.max_pixels) or self.max_pixels < 1:
            raise InputError.about("max_pixels", self.max_pixels, "a whole number of pixels, at least 1")
        if self.background is not None:
            object.__setattr__(self, "background", _colour(self.background))

    @property
    def white(self) -> int:
        """The value of white where a picture holds more than 8 bits."""
        return int(2 ** (self.bits or 16)) - 1

    @property
    def behind(self) -> tuple[int, int, int] | None:
        """The background in red, green and blue, 0..255; None where alpha is dropped."""
        return None if self.background is None else tuple(self.background)  # type: ignore[return-value]

    def replaced(self, **changed: Unpack[ReadOptions]) -> Self:
        """The same reading with other values in some fields.

        Raises:
            TypeError: There is no such field.
        """
        known = [field.name for field in fields(self)]
        if unknown := next((name for name in changed if name not in known), None):
            raise TypeError(f"unexpected keyword argument {unknown!r}; pictures are read with {', '.join(known)}")
        return replace(self, **changed) if changed else self

    def recorded(self) -> dict[str, Any]:
        """What moves a score and is not the default; for result files, which hold `exif` by itself."""
        found: dict[str, Any] = {"bits": self.bits} if self.bits not in (None, 16) else {}
        if self.behind is not None:
            found["background"] = ",".join(map(str, self.behind))
        return {**found, "icc": True} if self.icc else found


def _is_whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _colour(given: Any) -> tuple[int, int, int]:
    numbers: Sequence[Any] | None = None if isinstance(given, str) else given
    if isinstance(given, str):
        from PIL import ImageColor

        try:
            bare = given.strip().strip("()")
            numbers = [int(part) for part in bare.split(",")] if "," in bare else ImageColor.getrgb(bare)
        except ValueError:
            numbers = None
    try:
        red, green, blue = (int(number) for number in numbers or ())
        if all(0 <= value <= 255 for value in (red, green, blue)) and list(numbers or ()) == [red, green, blue]:
            return red, green, blue
    except (TypeError, ValueError):
        pass
    raise InputError.about("background", given, "a colour: 'white', 'black', '#808080' or three numbers 0..255")
