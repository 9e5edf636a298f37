"""Read a picture from whatever holds it: a path, a URL, bytes, a stream, a PIL image, an array or a tensor.

`load` turns one of them into a `Picture`, `items` tells one from many. Whatever goes wrong becomes an `ImageError` that
names the picture and the way out. EXIF orientation is applied (people see the rotated photo); of animations and
multi-page files the first frame is taken, and that is said. Safe to call from many threads, and torch is imported only
by who passes a tensor.
"""

from __future__ import annotations

import io
import os
import reprlib
import sys
import threading
from collections.abc import Callable, Iterable, Mapping, Set
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING, Any, BinaryIO, NamedTuple, TypeAlias, TypeGuard

import numpy as np
from PIL import Image, ImageSequence

from ..errors import InputError, QSiTError
from .convert import array_to_rgb, tensor_to_rgb
from .decode import decode, finish, joined
from .fetch import data_of, download, file_of, open_path, read_stream, scheme, unusable
from .formats import RAW_SUFFIXES
from .reading import Reading

if TYPE_CHECKING:
    import torch
    from typing_extensions import Unpack

    from .reading import ReadOptions

SUFFIXES = frozenset(
    f".{name}"
    for name in (
        "apng", "avif", "avifs", "bmp", "dds", "dib", "gif", "heic", "heics", "heif", "hif", "icns", "ico", "j2c",
        "j2k", "jfi", "jfif", "jif", "jp2", "jpc", "jpe", "jpeg", "jpf", "jpg", "jps", "jpx", "jxl", "mpo", "pbm",
        "pcx", "pfm", "pgm", "png", "pnm", "ppm", "psd", "qoi", "sgi", "tga", "tif", "tiff", "webp",
    )
) | RAW_SUFFIXES  # fmt: skip
"""Endings, in lower case, of the files in a folder that count as pictures. Some need a plugin: an error that says which
is better than a photo that is silently left out."""

_Encoded: TypeAlias = "str | os.PathLike[str] | Mapping[str, Any] | bytes | bytearray | memoryview | IO[bytes]"
ImageLike: TypeAlias = "_Encoded | Image.Image | np.ndarray[Any, Any] | torch.Tensor"
"""A path or URL (http, https, file, data), a dict {"bytes", "path"} as in `datasets`, an encoded picture in memory or
in a binary stream, a PIL image, an array with channels last, or a tensor with channels first."""


@dataclass(frozen=True, eq=False)
class Picture:
    """One RGB picture, ready to be tiled.

    Attributes:
        pixels: A decoded PIL image in mode "RGB"; or a floating tensor (3, H, W) with values 0..255, not yet rounded,
            on the device it came from and with its gradient.
        source: The path, the URL, or a description such as "<array 480x640x3 uint8>"; for messages and result files.
        note: What a reader of the score should know, for example "first of 12 frames".

    Example:
        >>> Picture(Image.new("RGB", (640, 480)), "photo.jpg").size
        (640, 480)
    """

    pixels: Image.Image | torch.Tensor
    source: str
    note: str | None = None

    @property
    def width(self) -> int:
        """Width in pixels."""
        return self.pixels.width if isinstance(self.pixels, Image.Image) else int(self.pixels.shape[-1])

    @property
    def height(self) -> int:
        """Height in pixels."""
        return self.pixels.height if isinstance(self.pixels, Image.Image) else int(self.pixels.shape[-2])

    @property
    def size(self) -> tuple[int, int]:
        """Width and height in pixels."""
        return self.width, self.height


def load(image: ImageLike, reading: Reading | None = None, **options: Unpack[ReadOptions]) -> Picture:
    """Read one picture.

    Arrays carry channels last, tensors first; 1 channel is grey, of 4 the last is alpha. uint8 is taken as it is,
    16 bits as the full 0..65535, floats must lie in [0, 1]. A tensor that needs a gradient or lives on another device
    stays a tensor there. Of an animation or multi-page file the first frame is taken, with a note and a logged warning.

    Args:
        image: A path, a URL (http, https, file or data), an encoded picture (bytes or binary stream), a dict of bytes
            and path as Hugging Face's `datasets` has them, a PIL image, an array (H, W),
            (H, W, 1), (H, W, 3) or (H, W, 4), or a tensor (C, H, W) or (1, C, H, W).
        reading: How it is read; the default is `Reading()`.
        options: Fields of the reading that are other than there: `exif`, `bits`, `background`, `icc`, `max_pixels`.

    Returns:
        The picture, in RGB.

    Raises:
        ImageError: The picture cannot be read or used. No other error leaves this function.

    Example:
        >>> load(np.zeros((480, 640, 3), dtype=np.uint8)).source
        '<array 480x640x3 uint8>'
    """
    rules = (reading or Reading()).replaced(**options)
    kind = next((kind for kind in _KINDS if kind.accepts(image)), None)
    if kind is None:
        raise unusable(f"<{type(image).__name__} {reprlib.repr(image)}>", _ACCEPTED)
    source = f"<{type(image).__name__}>"
    try:
        source = kind.describe(image)
        return kind.read(image, source, rules)
    except QSiTError:
        raise
    except Exception as error:
        # A damaged file makes PIL raise nearly anything: OSError, SyntaxError, struct.error, KeyError, MemoryError ...
        said = f"{type(error).__name__}: {error}".rstrip(" .:\n")
        reason = next((why for cause, why in _CAUSES if isinstance(error, cause)), said)
        raise unusable(source, kind.expected, f"{reason}. {kind.rescue}".rstrip()) from error


def items(images: object) -> tuple[list[object], bool]:
    """Tell one picture from many.

    Args:
        images: One image-like, or a sequence or iterator of them. A tensor (N, C, H, W) and an array (N, H, W, C) are N
            pictures, also for N = 1 and inside a sequence.

    Returns:
        The single image-likes in order, and whether one single picture was passed.

    Raises:
        InputError: Sequences inside a sequence.

    Example:
        >>> items("a.jpg"), items(["a.jpg", "b.jpg"])
        ((['a.jpg'], True), (['a.jpg', 'b.jpg'], False))
    """
    if isinstance(images, ImageSequence.Iterator):
        return [frame.copy() for frame in images], False  # it hands out one object, again and again
    if not _is_many(images):
        return (list(images), False) if _is_batch(images) else ([images], True)
    flat: list[object] = []
    for index, item in enumerate(images):
        if _is_many(item):
            got = f"<a {type(item).__name__} at position {index}>"
            raise InputError.about("images", got, "a flat list of pictures", "Flatten the nested list.")
        flat.extend(item if _is_batch(item) else [item])
    return flat, False


def many(images: object) -> list[object]:
    """List many pictures, as `items` does, and refuse a single one.

    Raises:
        InputError: One single picture, or sequences inside a sequence.
    """
    flat, single = items(images)
    if single:
        raise InputError.about("images", images, "many images", "One image goes to `metric.score`.")
    return flat


def load_one(image: object, reading: Reading | None = None) -> Picture:
    """Read one picture, as `load` does, and refuse a list or a batch.

    Raises:
        InputError: A sequence or a batch, even of one picture.
        ImageError: As for `load`.
    """
    flat, single = items(image)
    if not single:
        raise InputError.about("image", f"<{len(flat)} images>", "one image", "Take them one by one.")
    return load(flat[0], reading)  # type: ignore[arg-type]  # what is no picture is refused there


class _Kind(NamedTuple):
    """How one sort of argument is recognised, named in messages and read."""

    accepts: Callable[[Any], bool]
    describe: Callable[[Any], str]
    read: Callable[[Any, str, Reading], Picture]
    expected: str
    rescue: str = ""


def _is_data(value: object) -> bool:
    return isinstance(value, str) and value[:5].lower() == "data:"


def _is_record(value: object) -> bool:
    """Whether it is a picture as Hugging Face's `datasets` hands it over undecoded."""
    if not isinstance(value, Mapping) or not {"bytes", "path"} & set(value) or set(value) - {"bytes", "path"}:
        return False
    return value.get("bytes") is not None or value.get("path") is not None


def _describe_record(value: Any) -> str:
    return os.fsdecode(value["path"]) if value.get("path") else f"<bytes, {memoryview(value['bytes']).nbytes}>"


def _read_record(value: Any, source: str, rules: Reading) -> Picture:
    content = value.get("bytes")
    return _read_place(value["path"], source, rules) if content is None else _read_bytes(content, source, rules)


def _is_tensor(value: object) -> bool:
    torch = sys.modules.get("torch")  # who passes a tensor has imported it
    return isinstance(value, getattr(torch, "Tensor", ()))


def _is_stream(value: object) -> bool:
    return callable(getattr(value, "read", None))


def _is_batch(value: object) -> TypeGuard[Iterable[object]]:
    return (isinstance(value, np.ndarray) or _is_tensor(value)) and getattr(value, "ndim", 0) == 4


def _is_many(value: object) -> TypeGuard[Iterable[object]]:
    # Open files are iterators (of lines), strings and bytes are sequences; each is one picture.
    single = isinstance(value, (str, bytes, bytearray, memoryview)) or _is_stream(value)
    # A set has no order in which its scores could come, a mapping no say which side is meant.
    other = isinstance(value, (Mapping, Set, np.ndarray, os.PathLike)) or _is_tensor(value)
    return isinstance(value, Iterable) and not single and not other


def _describe_numbers(value: Any) -> str:
    sort = "array" if isinstance(value, np.ndarray) else "tensor"
    shape = "x".join(map(str, value.shape)) or "scalar"
    device = getattr(value, "device", "cpu")
    place = "" if str(device) == "cpu" else f" {device}"
    return f"<{sort} {shape} {str(value.dtype).removeprefix('torch.')}{place}>"


def _describe_stream(value: Any) -> str:
    name = getattr(value, "name", None)
    return name if isinstance(name, str) and name else f"<{type(value).__name__}>"


def _describe_pil(value: Image.Image) -> str:
    name = getattr(value, "filename", "")
    return str(name) if name else f"<PIL {value.mode} {value.width}x{value.height}>"


def _read_place(given: Any, source: str, rules: Reading) -> Picture:
    # Only a str can be a URL: pathlib folds the two slashes into one.
    kind = scheme(given) if isinstance(given, str) else None
    local = file_of(source) if kind == "file" else source
    return _decoded(download(source) if kind and kind != "file" else open_path(local), source, rules)


def _read_bytes(content: Any, source: str, rules: Reading) -> Picture:
    return _decoded(io.BytesIO(content), source, rules)


def _read_stream(stream: Any, source: str, rules: Reading) -> Picture:
    with _lock(stream):
        handle = read_stream(stream, source)
    return _decoded(handle, source, rules)


def _decoded(handle: BinaryIO, source: str, rules: Reading) -> Picture:
    with handle:
        pixels, note = decode(handle, source, rules)
    return Picture(pixels, source, note)


def _read_pil(image: Image.Image, source: str, rules: Reading) -> Picture:
    with _lock(image):
        pixels, note = finish(image, source, rules)
    return Picture(pixels, source, note)


def _numbers(convert: Callable[..., Any], values: Any, source: str, rules: Reading) -> Picture:
    notes: list[str] = []
    return Picture(convert(values, source, rules, notes), source, joined(notes))


# One stream or lazily opened image may stand twice in a list that several threads work through. A few locks shared by
# address serve, as the work under them is short or rare.
_LOCKS = tuple(threading.RLock() for _ in range(16))


def _lock(value: object) -> threading.RLock:
    return _LOCKS[hash((id(value),)) % len(_LOCKS)]  # a bare address is always a multiple of 16


_ACCEPTED = (
    "a path, an http(s) URL, bytes, a binary file object, a dict of bytes and path, a PIL image, a NumPy array "
    "or a torch tensor"
)
_CAUSES = (
    (
        Image.DecompressionBombError,
        "It has more pixels than PIL.Image.MAX_IMAGE_PIXELS allows: shrink it, or pass max_pixels=N (--max-pixels N)",
    ),
    (MemoryError, "There is not enough memory for it: shrink it"),
)
_DECODABLE = "a picture that can be decoded"
_AGAIN = "If it is damaged or cut off, fetch or export it again."
_OPEN = "If its file is closed or damaged, load it earlier or pass the path."
_KINDS = (
    _Kind(
        _is_data,
        lambda x: f"<{x[:64].partition(',')[0].partition(';')[0]}, {len(x)} characters>",
        lambda uri, source, rules: _decoded(io.BytesIO(data_of(uri, source)), source, rules),
        _DECODABLE,
        _AGAIN,
    ),
    _Kind(_is_record, _describe_record, _read_record, _DECODABLE, _AGAIN),
    _Kind(lambda x: isinstance(x, (str, os.PathLike)), os.fsdecode, _read_place, _DECODABLE, _AGAIN),
    _Kind(
        lambda x: isinstance(x, (bytes, bytearray, memoryview)),
        lambda x: f"<bytes, {memoryview(x).nbytes}>",
        _read_bytes,
        _DECODABLE,
        _AGAIN,
    ),
    _Kind(lambda x: isinstance(x, Image.Image), _describe_pil, _read_pil, "a PIL image with its pixels at hand", _OPEN),
    _Kind(
        lambda x: isinstance(x, np.ndarray),
        _describe_numbers,
        lambda array, source, rules: _numbers(array_to_rgb, array, source, rules),
        "a plain array of numbers",
    ),
    _Kind(
        _is_tensor,
        _describe_numbers,
        lambda tensor, source, rules: _numbers(tensor_to_rgb, tensor, source, rules),
        "a plain tensor of numbers",
    ),
    _Kind(_is_stream, _describe_stream, _read_stream, "a readable binary stream", _AGAIN),
)
