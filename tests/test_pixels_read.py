"""What `pixels.load` and `pixels.items` take, what they refuse, and what they say then."""

from __future__ import annotations

import io
import os
import pickle
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageFile

from qsit_metric.errors import ImageError, QSiTError
from qsit_metric.pixels import Picture, load
from qsit_metric.pixels import read as reading

pytestmark = pytest.mark.compat

GOLDEN = sorted((Path(__file__).parent / "golden" / "images").iterdir())
NOISE = np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8)
RGB = Image.fromarray(NOISE)


def encoded(image: Image.Image = RGB, kind: str = "PNG", **options) -> bytes:
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def numbers(picture: Picture) -> np.ndarray:
    """The picture as bytes (H, W, 3), whichever way it came out."""
    if isinstance(picture.pixels, Image.Image):
        assert picture.pixels.mode == "RGB"
        return np.asarray(picture.pixels)
    return picture.pixels.detach().round().to(torch.uint8).permute(1, 2, 0).cpu().numpy()


@pytest.mark.parametrize("path", GOLDEN, ids=lambda path: path.name)
def test_golden_files_are_read_as_pil_reads_them(path):
    with Image.open(path) as image:
        expected = np.asarray(image.convert("RGB"))
    picture = load(path)
    np.testing.assert_array_equal(numbers(picture), expected)
    assert picture.source == str(path)
    assert bool(picture.note) == (path.name == "rgba_300.png")  # most of it is transparent
    assert picture.size == (picture.width, picture.height) == expected.shape[1::-1]


def test_every_way_to_hand_over_a_file_gives_the_same_picture(tmp_path, monkeypatch):
    data = encoded()
    path = tmp_path / "a.png"
    path.write_bytes(data)
    at_its_end = io.BytesIO()
    at_its_end.write(data)
    monkeypatch.setenv("HOME", str(tmp_path))
    with path.open("rb") as opened, Image.open(path) as lazy:
        given = [str(path), path, "~/a.png", data, bytearray(data), memoryview(data), at_its_end, opened, lazy, RGB]
        pictures = [load(one) for one in given]
    for picture in pictures:
        np.testing.assert_array_equal(numbers(picture), NOISE)
    sources = [picture.source for picture in pictures]
    size = f"<bytes, {len(data)}>"
    assert sources == [
        str(path),
        str(path),
        "~/a.png",
        size,
        size,
        size,
        "<BytesIO>",
        str(path),
        str(path),
        sources[-1],
    ]
    assert sources[-1] == "<PIL RGB 30x20>"


def test_a_stream_that_cannot_be_rewound_is_read():
    reading, writing = os.pipe()
    with open(writing, "wb") as sink:  # noqa: PTH123  # a descriptor, not a path
        sink.write(encoded())
    with open(reading, "rb", buffering=0) as pipe:  # noqa: PTH123
        np.testing.assert_array_equal(numbers(load(pipe)), NOISE)


def test_a_file_whose_name_starts_with_a_tilde(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("~a.png").write_bytes(encoded())
    assert load("~a.png").size == (30, 20)


@pytest.mark.parametrize("kind", ["PNG", "BMP", "PPM", "TIFF", "TGA", "SGI"])
def test_lossless_formats_keep_every_bit(kind):
    np.testing.assert_array_equal(numbers(load(encoded(kind=kind))), NOISE)


def test_the_result_outlives_the_file_it_came_from(tmp_path):
    path = tmp_path / "a.bmp"  # Pillow would map the memory of a BMP given by name
    path.write_bytes(encoded(kind="BMP"))
    picture = load(path)
    path.write_bytes(b"\0" * path.stat().st_size)
    path.unlink()
    np.testing.assert_array_equal(numbers(picture), NOISE)
    np.testing.assert_array_equal(numbers(pickle.loads(pickle.dumps(picture))), NOISE)


def _file(name, content=b"\0\x01\x02\x03" * 20):
    return lambda folder: _written(folder / name, content)


def _written(path, content):
    path.write_bytes(content)
    return path


def _closed(folder):
    stream = io.BytesIO(encoded())
    stream.close()
    return stream


def _lazy_and_closed(folder):
    with Image.open(_written(folder / "a.png", encoded())) as image:
        return image


def _closed_image(folder):
    image = Image.open(_written(folder / "a.png", encoded()))
    image.load()
    image.close()
    return image


def _pipe(folder):
    os.mkfifo(folder / "fifo")
    return folder / "fifo"


class _Hostile:
    def __fspath__(self):
        raise RuntimeError("no path for you")

    def __repr__(self):
        raise RuntimeError("no name either")


class _OddStream:
    def __init__(self, result):
        self.result = result

    def read(self):
        if isinstance(self.result, Exception):
            raise self.result
        return self.result


HEIC = b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + b"\0" * 40
PNG, JPEG = encoded(), encoded(kind="JPEG")
GIF = encoded(kind="GIF", save_all=True, append_images=[RGB.rotate(90), RGB.rotate(180)])
ZERO_WIDTH = b"P5 0 5 255\n"

UNREADABLE = {
    "missing, relative": (lambda _: "no/photo.jpg", r"'no/photo\.jpg', expected an existing file.*looked for in"),
    "missing, absolute": (lambda folder: folder / "x.jpg", r"x\.jpg.*expected an existing file\. Check the spelling\."),
    "missing, long": (lambda _: "a/" * 90 + "photo.jpg", r"<\.\.\..*a/photo\.jpg>, expected an existing file"),
    "unknown home": (lambda _: "~nobody-here/x.jpg", r"'~nobody-here/x\.jpg', expected an existing file"),
    "no name": (lambda _: "", r"'', expected a path\.$"),
    "NUL in the name": (lambda _: "a\0b.png", r"a\\x00b\.png.*expected"),
    "name too long": (lambda _: "x" * 5000, r"xxx>, expected .*(too long|existing)"),
    "directory": (lambda folder: folder, r"expected a file, not a directory.*glob"),
    "pipe": (_pipe, r"fifo.*expected a regular file.*pass the bytes"),
    "empty file": (_file("a.jpg", b""), r"a\.jpg.*expected a picture, not an empty file"),
    "unknown format": (_file("a.jpg"), r"a\.jpg.*expected a picture format that Pillow reads\. Convert it"),
    "HEIC": (_file("a.jpg", HEIC), r"a\.jpg.*(`pip install pillow-heif`|mark of HEIF, but is damaged)"),
    "called .heic": (_file("a.HEIC"), r"a\.HEIC.*`pip install pillow-heif`"),
    "called .avif": (_file("a.avif"), r"a\.avif.*`pip install pillow-heif`"),
    "camera raw": (_file("a.NEF", encoded(kind="TIFF")), r"a\.NEF.*not a camera raw file.*Develop"),
    "PostScript": (_file("a.eps", encoded(kind="EPS")), r"a\.eps.*drawing or a document: export it as PNG"),
    "PDF": (_file("a.pdf", b"%PDF-1.7\n" + b" " * 60), r"drawing or a document"),
    "SVG": (_file("a.svg", b"<?xml version='1.0'?><svg/>"), r"drawing or a document"),
    "web page": (_file("a.jpg", b"\n<!DOCTYPE html><html></html>"), r"web page"),
    "LFS pointer": (_file("a.jpg", b"version https://git-lfs.github.com/spec/v1\noid"), r"`git lfs pull`"),
    "truncated JPEG": (_file("a.jpg", JPEG[:-400]), r"a\.jpg.*can be decoded\. OSError: .*truncated.*fetch or export"),
    "truncated PNG": (_file("a.png", PNG[:-400]), r"a\.png.*can be decoded\. OSError: .*truncated.*fetch or export"),
    "damaged PNG": (_file("a.png", PNG[:60] + b"\xff\0\xff" + PNG[63:]), r"a\.png.*expected a picture that can be"),
    "zero pixels": (lambda _: ZERO_WIDTH, r"<bytes, 11>, expected"),
    "too many pixels": (lambda _: b"P5 20000 20000 255\n", r"<bytes, 19>, expected a picture.*more pixels than PIL"),
    "empty bytes": (lambda _: b"", r"<bytes, 0>, expected a picture, not an empty file"),
    "raw bytes": (lambda _: NOISE.tobytes(), r"<bytes, 1800>, .*passed as a NumPy array"),
    "empty stream": (lambda _: io.BytesIO(), r"<BytesIO>, expected a picture, not an empty file"),
    "text stream": (lambda _: io.StringIO("x"), r"<StringIO>, expected a stream of bytes, not of str.*\"rb\""),
    "stream not ready": (lambda _: _OddStream(None), r"<_OddStream>, expected a stream of bytes, not of NoneType"),
    "broken stream": (
        lambda _: _OddStream(KeyError("k")),
        r"<_OddStream>, expected a readable binary stream\. KeyError",
    ),
    "closed stream": (_closed, r"<BytesIO>, expected a readable binary stream\. ValueError: .*closed file"),
    "lazy, closed": (_lazy_and_closed, r"a\.png.*expected a PIL image with its pixels at hand.*If its file is closed"),
    "closed image": (_closed_image, r"a\.png.*ValueError: Operation on closed image\. If its file is closed"),
    "released memory": (lambda _: _released(), r"<memoryview>, expected .*ValueError: .*released"),
    "broken path": (lambda _: _Hostile(), r"<_Hostile>, expected .*RuntimeError: no path for you"),
    "0 x 4": (lambda _: Image.new("RGB", (0, 4)), r"<PIL RGB 0x4>, expected at least one pixel, not 0x4"),
    "int32 > 16 bits": (lambda _: Image.new("I", (2, 2), 65536), r"16-bit values 0\.\.65535, not 65536\.\.65536"),
    "int32 < 0": (lambda _: Image.new("I", (2, 2), -1), r"16-bit values 0\.\.65535, not -1\.\.-1"),
    "F > 1": (lambda _: Image.new("F", (2, 2), 7.0), r"<PIL F 2x2>, expected values in \[0, 1\], not 7\.0\.\.7\.0"),
    "F, NaN": (lambda _: Image.new("F", (2, 2), float("nan")), r"values in \[0, 1\], not nan\.\.nan.*NaN or infinite"),
    "data URL": (lambda _: "data:image/png;base64,AAAA", r"<data:image/png, 26 characters>, expected a picture format"),
    "ftp": (lambda _: "ftp://example.org/a.jpg", r"'ftp://example.org/a\.jpg', expected an http or https address"),
    "file URL": (lambda _: "file:///etc/passwd", r"'file:///etc/passwd', expected a picture format"),
    "None": (lambda _: None, r"<NoneType None>, expected a path, an http\(s\) URL, bytes, .* or a torch tensor"),
    "int": (lambda _: 42, r"<int 42>, expected a path"),
    "dict": (lambda _: {"a": 1}, r"<dict \{'a': 1\}>, expected a path"),
    "list": (lambda _: ["a.jpg"], r"<list \['a\.jpg'\]>, expected a path"),
    "object": (lambda _: object(), r"<object <object"),
    "class": (lambda _: io.BytesIO, r"<type>, expected a readable binary stream"),
}


def _released():
    view = memoryview(b"abc")
    view.release()
    return view


@pytest.mark.parametrize(("make", "says"), UNREADABLE.values(), ids=UNREADABLE)
def test_what_cannot_be_read_is_one_clear_error(make, says, tmp_path):
    given = make(tmp_path)
    with pytest.raises(ImageError, match=f"(?s)^`image`: got .*{says}"):
        load(given)


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may read everything")
def test_a_file_without_permission(tmp_path):
    path = _written(tmp_path / "a.png", PNG)
    path.chmod(0)
    with pytest.raises(ImageError, match=r"expected a readable file\. The system says: Permission denied"):
        load(path)


def test_an_unreadable_file_whoever_runs_this(tmp_path, monkeypatch):
    def refuse(self, *args):
        raise PermissionError(13, "Permission denied")

    path = _written(tmp_path / "a.png", PNG)
    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(ImageError, match=r"expected a readable file\. The system says: Permission denied"):
        load(path)


@pytest.mark.parametrize(
    ("error", "says"),
    [
        (MemoryError(), r"not enough memory for it: shrink it"),
        (OverflowError("too big"), r"OverflowError: too big"),
        (SyntaxError("broken PNG"), r"SyntaxError: broken PNG"),
        (Image.DecompressionBombError("boo"), r"more pixels than PIL\.Image\.MAX_IMAGE_PIXELS"),
        (Image.DecompressionBombWarning("boo"), r"DecompressionBombWarning: boo"),
    ],
)
def test_whatever_the_decoder_raises_is_translated_and_kept_as_the_cause(error, says, monkeypatch):
    def fail(self):
        raise error

    monkeypatch.setattr(ImageFile.ImageFile, "load", fail)
    with pytest.raises(ImageError, match=says) as caught:
        load(encoded(kind="BMP"))
    assert caught.value.__cause__ is error


def test_ctrl_c_is_not_an_image_error(monkeypatch):
    def interrupt(self):
        raise KeyboardInterrupt

    monkeypatch.setattr(ImageFile.ImageFile, "load", interrupt)
    with pytest.raises(KeyboardInterrupt):
        load(encoded(kind="BMP"))


def test_the_errors_are_what_a_caller_would_catch():
    with pytest.raises(QSiTError):
        load("no.jpg")
    with pytest.raises(ValueError, match="expected an existing file"):
        load("no.jpg")


def test_a_picture_is_frozen():
    picture = load(RGB)
    with pytest.raises(AttributeError):
        picture.note = "changed"


def test_torch_is_not_imported_for_files_and_arrays(tmp_path):
    path = _written(tmp_path / "a.png", PNG)
    code = (
        "import sys, numpy, qsit_metric.pixels as images; images.load(sys.argv[1]); images.items([sys.argv[1]]);"
        "images.load(numpy.zeros((4, 4), 'uint8')); sys.exit('torch' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code, str(path)], check=True, timeout=60)


def test_the_first_pictures_may_come_from_many_threads(tmp_path):
    # Pillow registers its formats on first use; left alone, some of these threads may not know WebP yet.
    path = _written(tmp_path / "a.webp", encoded(kind="WEBP"))
    code = (
        "import sys, threading, concurrent.futures as futures; from qsit_metric.pixels import load\n"
        "sys.setswitchinterval(1e-6); gate = threading.Barrier(16)\n"
        "def one(_): gate.wait(); return load(sys.argv[1]).size\n"
        "with futures.ThreadPoolExecutor(16) as pool: sys.exit(set(pool.map(one, range(16))) != {(30, 20)})"
    )
    subprocess.run([sys.executable, "-c", code, str(path)], check=True, timeout=60)


def test_different_images_seldom_wait_for_each_other():
    things = [object() for _ in range(200)]
    assert len({id(reading._lock(thing)) for thing in things}) > 8


def test_many_threads_may_share_one_lazy_image_and_one_stream():
    large = Image.fromarray(np.random.default_rng(3).integers(0, 256, (400, 600, 3), dtype=np.uint8))
    data = encoded(large)
    expected = np.asarray(large)
    with ThreadPoolExecutor(8) as pool:
        for _ in range(5):
            lazy, stream = Image.open(io.BytesIO(data)), _Slow(data)
            for picture in pool.map(load, [lazy, stream, data] * 6):
                np.testing.assert_array_equal(numbers(picture), expected)


class _Slow(io.BytesIO):
    """A stream whose read can be interrupted half way, as that of a real file."""

    def read(self, size=-1):
        first = super().read(1000)
        time.sleep(0.001)
        return first + super().read()
