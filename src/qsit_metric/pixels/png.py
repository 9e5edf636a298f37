"""PNG files whose metadata is damaged or larger than Pillow allows: the same picture without it.

Pillow refuses a file whose compressed text or profile inflates past 1 MiB, which those of picture generators do that
carry their workflow, and one with a wrong checksum in a text. Neither is part of the picture.
"""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Iterator
from typing import BinaryIO

MARK = b"\x89PNG\r\n\x1a\n"
_TEXT = 64 * 1024  # a text that is kept: orientation may stand in one
_PROFILE = 64 * 2**20  # inflated; large ink profiles have some MiB


def without_bad_metadata(handle: BinaryIO) -> tuple[BinaryIO, bytes | None] | None:
    """Copy a PNG without those of its optional chunks that are damaged or too large.

    Args:
        handle: The open file.

    Returns:
        The copy, and the colour profile if that is among what was left out and sound; None if there is nothing to leave
        out, or if it is no PNG.
    """
    handle.seek(0)
    if handle.read(len(MARK)) != MARK:
        return None
    kept, profile, changed = [MARK], None, False
    for name, content, whole in _chunks(handle):
        if _is_good(name, content, whole):
            kept.append(whole)
        else:
            changed = True
            profile = _profile(content) if name == b"iCCP" else profile
    return (io.BytesIO(b"".join(kept)), profile) if changed else None


def _chunks(handle: BinaryIO) -> Iterator[tuple[bytes, bytes, bytes]]:
    """Each chunk: its name, its content, and all of it. What is cut off at the end comes as it is."""
    while len(head := handle.read(8)) == 8:
        length, name = struct.unpack(">I4s", head)
        rest = handle.read(length + 4)
        yield name, rest[:-4], head + rest
    if head:
        yield b"", b"", head


def _is_good(name: bytes, content: bytes, whole: bytes) -> bool:
    if not name[:1].islower():
        return True  # part of the picture: damage there is an error
    if int.from_bytes(whole[-4:], "big") != zlib.crc32(name + content):
        return False
    if name == b"iCCP":
        return len(_inflated(content.partition(b"\0")[2][1:], _TEXT * 8) or b"") < _TEXT * 8
    if name in (b"tEXt", b"zTXt", b"iTXt"):
        packed = content.partition(b"\0")[2]
        packed = packed[1:] if name == b"zTXt" else packed[2:].partition(b"\0")[2].partition(b"\0")[2]
        return len(content) < _TEXT and (name == b"tEXt" or len(_inflated(packed, _TEXT) or b"") < _TEXT)
    return True


def _profile(content: bytes) -> bytes | None:
    return _inflated(content.partition(b"\0")[2][1:], _PROFILE)


def _inflated(packed: bytes, most: int) -> bytes | None:
    try:
        return zlib.decompressobj().decompress(packed, most)
    except zlib.error:
        return None
