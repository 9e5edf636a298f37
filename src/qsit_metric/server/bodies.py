"""What clients send, as bytes of pictures: base64, data URIs and pickles. Never a path or an address to be opened."""

from __future__ import annotations

import base64
import binascii
import io
import pickle
import pickletools
from collections.abc import Mapping
from typing import Any

from ..errors import ImageError, InputError
from ..pixels.fetch import data_of

# Opcodes of None, booleans, numbers, text, bytes, lists, tuples and dicts; the memo of protocols 2 to 5. None of them
# names a class or a function. PUT and GET of protocol 0 are lines of text and are left out with the rest of it.
_PLAIN = {
    "PROTO", "FRAME", "STOP", "MARK", "POP", "POP_MARK", "NONE", "NEWTRUE", "NEWFALSE", "BININT", "BININT1",
    "BININT2", "LONG1", "BINFLOAT", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8", "BINBYTES", "SHORT_BINBYTES",
    "BINBYTES8", "EMPTY_LIST", "APPEND", "APPENDS", "EMPTY_TUPLE", "TUPLE", "TUPLE1", "TUPLE2", "TUPLE3",
    "EMPTY_DICT", "SETITEM", "SETITEMS", "MEMOIZE", "BINPUT", "LONG_BINPUT", "BINGET", "LONG_BINGET",
}  # fmt: skip
_MOST = 100_000  # opcodes, and the highest number in the memo: a client's 64 pictures take some hundreds


def decoded(text: object, name: str = "image") -> bytes:
    """The bytes of a picture that was sent as text.

    Args:
        text: Base64, with or without line breaks and padding, or a data URI.
        name: What it is called in messages.

    Raises:
        ImageError: It is neither.

    Example:
        >>> decoded("YWJj"), decoded("data:image/png;base64,YWJj")
        (b'abc', b'abc')
    """
    if not isinstance(text, str) or not text:
        raise ImageError.about(name, f"<{type(text).__name__}>", "base64 or a data URI, as text")
    if text[:5].lower() == "data:":
        return data_of(text, "<data URI>")
    bare = "".join(text.split()).rstrip("=")
    try:
        url_safe = b"-_" if "-" in bare or "_" in bare else None
        return base64.b64decode(bare + "=" * (-len(bare) % 4), altchars=url_safe, validate=True)
    except (binascii.Error, ValueError) as error:
        hint = "A path or an address is not opened for a client: send the picture itself."
        raise ImageError.about(name, text[:60], "base64 or a data URI", hint) from error


def listed(fields: Mapping[str, Any], *names: str) -> list[Any]:
    """The pictures of a JSON body, under the first of these names that is there: one or a list.

    Raises:
        InputError: None of them is there, or it holds no picture.

    Example:
        >>> listed({"images": ["YWJj"]}, "images", "image"), listed({"image": "YWJj"}, "images", "image")
        (['YWJj'], ['YWJj'])
    """
    found = next((fields[name] for name in names if fields.get(name) is not None), None)
    many = found if isinstance(found, list) else [] if found is None else [found]
    if not many:
        raise InputError.about(names[0], found, "a picture or a list of pictures, in base64")
    return many


def unpickled(content: bytes) -> Any:
    """Read a pickle of plain values; nothing in it can name a class or a function, so nothing in it can run.

    Args:
        content: A pickle of protocol 3 to 5 that holds None, booleans, numbers, text, bytes, lists, tuples and dicts.

    Raises:
        InputError: It holds anything else, or is no pickle.

    Example:
        >>> unpickled(pickle.dumps({"images": [b"abc"]}))
        {'images': [b'abc']}
    """
    try:
        for count, (opcode, argument, _) in enumerate(pickletools.genops(content)):
            far = opcode.name in ("LONG_BINPUT", "LONG_BINGET") and int(argument or 0) > _MOST
            if opcode.name not in _PLAIN or far or count > _MOST:
                raise InputError.about("pickle", f"<{opcode.name}>", "plain lists, dicts, bytes, text and numbers")
        return _Plain(io.BytesIO(content)).load()
    except InputError:
        raise
    except Exception as error:  # a broken pickle fails in many ways
        raise InputError.about("pickle", f"<{type(error).__name__}>", "a whole pickle of plain values") from error


class _Plain(pickle.Unpickler):
    """A second lock behind the list of opcodes."""

    def find_class(self, module: str, name: str) -> Any:
        raise InputError.about("pickle", f"<{module}.{name}>", "no class and no function")

    def persistent_load(self, pid: Any) -> Any:
        raise InputError.about("pickle", "<a persistent id>", "plain values")
