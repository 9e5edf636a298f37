"""Formats that need a plugin, bits that Pillow drops, TIFF files that it misreads, and metadata that must not matter."""

from __future__ import annotations

import base64
import importlib
import io
import itertools
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from qsit_metric.errors import ImageError
from qsit_metric.pixels import Picture, formats, items, load

tifffile = pytest.importorskip("tifffile")
RNG = np.random.default_rng(0)
NOISE = RNG.integers(0, 256, (20, 30, 3), dtype=np.uint8)
RGB = Image.fromarray(NOISE)


def encoded(image: Image.Image = RGB, kind: str = "PNG", **options) -> bytes:
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def numbers(picture: Picture) -> np.ndarray:
    return np.asarray(picture.pixels)


def chunk(name: bytes, content: bytes, wrong: int = 0) -> bytes:
    checksum = struct.pack(">I", zlib.crc32(name + content) ^ wrong)
    return struct.pack(">I", len(content)) + name + content + checksum


def png16(values: np.ndarray, extra: bytes = b"") -> bytes:
    """A PNG of 16 bits with 1 to 4 channels, in the simplest way that the standard allows."""
    height, width, channels = values.shape
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    colour = {1: 0, 2: 4, 3: 2, 4: 6}[channels]
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 16, colour, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + extra + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def tiff(values: np.ndarray, photometric: str, planar: str | None = None, order: str = "<", **options) -> bytes:
    stream = io.BytesIO()
    data = values[..., 0] if values.shape[-1] == 1 else values
    data = np.ascontiguousarray(np.moveaxis(data, -1, 0)) if planar == "separate" else data
    tifffile.imwrite(stream, data, photometric=photometric, planarconfig=planar, byteorder=order, **options)
    return stream.getvalue()


def rgb8(values: np.ndarray, white: float) -> np.ndarray:
    """Round to bytes and take the colours: 1 and 2 channels are grey, 3 and 4 RGB."""
    found = np.rint(values / white * 255).astype(np.uint8)
    return found[..., :3] if values.shape[-1] > 2 else np.repeat(found[..., :1], 3, axis=2)


@pytest.mark.compat
@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_sixteen_bit_colour_keeps_all_its_bits_in_files_as_in_arrays(channels):
    values = RNG.integers(0, 65536, (20, 30, channels), dtype=np.uint16)
    data = png16(values)
    np.testing.assert_array_equal(numbers(load(data)), rgb8(values, 65535))
    if channels != 2:
        np.testing.assert_array_equal(numbers(load(data)), numbers(load(values)))
        np.testing.assert_array_equal(
            numbers(load(data, background="white")), numbers(load(values, background="white"))
        )
    photometric, extra = ("rgb" if channels > 2 else "minisblack"), ["unassalpha"] if channels in (2, 4) else None
    for order, compression in itertools.product("<>", (None, "zlib")):
        found = tiff(values, photometric, None, order, compression=compression, extrasamples=extra)
        np.testing.assert_array_equal(numbers(load(found)), rgb8(values, 65535))


def test_few_bits_in_sixteen_bit_colour_files():
    values = RNG.integers(0, 4096, (20, 30, 3), dtype=np.uint16)
    for data in (png16(values), tiff(values, "rgb"), tiff(values, "rgb", "separate")):
        assert load(data).note.endswith("of 65535 (bits=12 if 4095 is white)")
        np.testing.assert_array_equal(numbers(load(data, bits=12)), rgb8(values, 4095))


def test_a_transparent_colour_of_sixteen_bits_is_told_by_all_of_them():
    values = np.full((2, 2, 3), 500, np.uint16)
    values[0, 0] = 501  # the same upper byte
    data = png16(values, chunk(b"tRNS", struct.pack(">3H", 501, 501, 501)))
    assert "; 25 % of it is transparent" in load(data).note
    assert load(data, background="white").pixels.getpixel((0, 0)) == (255, 255, 255)


CELLS = list(itertools.product(["separate", "contig"], "<>", [None, "zlib"]))


@pytest.mark.parametrize(("planar", "order", "compression"), CELLS)
def test_tiff_of_many_kinds(planar, order, compression):
    wide = RNG.integers(0, 65536, (20, 30, 4), dtype=np.uint16)
    unit = RNG.random((20, 30, 3)).astype(np.float32)

    def read(values, photometric, **options):
        kind = planar if values.shape[-1] > 1 else None
        return numbers(load(tiff(values, photometric, kind, order, compression=compression, **options)))

    np.testing.assert_array_equal(read(wide[..., :3].copy(), "rgb"), rgb8(wide[..., :3], 65535))
    np.testing.assert_array_equal(read(wide, "rgb", extrasamples=["unassalpha"]), rgb8(wide, 65535))
    ink = Image.fromarray(np.rint(wide / 257).astype(np.uint8), "CMYK").convert("RGB")
    np.testing.assert_array_equal(read(wide, "separated"), np.asarray(ink))
    np.testing.assert_array_equal(read(unit, "rgb"), np.rint(unit * 255))
    grey = wide[..., :1].copy()
    np.testing.assert_array_equal(read(grey, "miniswhite"), rgb8(65535 - grey, 65535))
    np.testing.assert_array_equal(read(unit[..., :1].copy(), "minisblack")[..., 0], np.rint(unit[..., 0] * 255))
    np.testing.assert_array_equal(
        read(1 - unit[..., :1], "miniswhite")[..., 0], np.rint((1 - (1 - unit[..., 0])) * 255)
    )
    signed = (wide[..., :1] // 2).astype(np.int16)
    np.testing.assert_array_equal(read(signed, "minisblack"), rgb8(signed, 65535))
    pair = np.concatenate([NOISE[..., :1], NOISE[..., 1:2]], axis=-1)
    np.testing.assert_array_equal(read(pair, "minisblack", extrasamples=["unassalpha"]), rgb8(pair, 255))


def test_a_tiff_that_nothing_reads_says_what_it_is():
    with pytest.raises(ImageError, match=r"not 20x30x3 uint32, RGB\. Save it as RGB with 8 or 16 bits"):
        load(tiff(np.zeros((20, 30, 3), np.uint32), "rgb"))


BIG = zlib.compress(b"x" * 3_000_000)
METADATA = {
    "compressed text": chunk(b"zTXt", b"workflow\0\0" + BIG),
    "international text": chunk(b"iTXt", b"workflow\0\1\0\0\0" + BIG),
    "long text": chunk(b"tEXt", b"prompt\0" + b"y" * 2_000_000),
    "profile": chunk(b"iCCP", b"p\0\0" + BIG),
    "checksum of a text": chunk(b"tEXt", b"a\0b", 1),
    "checksum of a profile": chunk(b"iCCP", b"p\0\0" + zlib.compress(b"abc"), 1),
    "checksum of EXIF": chunk(b"eXIf", b"MM\0*", 1),
    "checksum of a private chunk": chunk(b"prVt", b"x", 1),
    "no zlib": chunk(b"zTXt", b"a\0\0abc"),
}


@pytest.mark.compat
@pytest.mark.parametrize("name", METADATA)
def test_metadata_of_a_png_does_not_matter(name):
    data, extra = encoded(), METADATA[name]
    for place in (33, -12):
        np.testing.assert_array_equal(numbers(load(data[:place] + extra + data[place:])), NOISE)


def test_a_profile_that_is_large_is_used_all_the_same():
    from test_pixels_reading import _profile

    profile = _profile().ljust(2_000_000, b"\0")
    profile = struct.pack(">I", len(profile)) + profile[4:]
    data = encoded()
    large = data[:33] + chunk(b"iCCP", b"p\0\0" + zlib.compress(profile)) + data[33:]
    small = encoded(icc_profile=_profile())
    np.testing.assert_array_equal(numbers(load(large, icc=True)), numbers(load(small, icc=True)))


def test_damage_in_the_picture_itself_stays_an_error():
    data = encoded()
    broken = data[:33] + METADATA["checksum of a text"] + data[33:60] + b"\xff\0\xff" + data[63:]
    with pytest.raises(ImageError, match="expected a picture that can be decoded"):
        load(broken)


@pytest.fixture
def unregistered(monkeypatch):
    """Pillow as it is before a plugin was registered, and a way to take packages away."""
    Image.init()
    for name in ("HEIF", "JXL"):
        monkeypatch.delitem(Image.OPEN, name, raising=False)
        monkeypatch.setattr(Image, "ID", [one for one in Image.ID if one != name])

    def without(*missing):
        real = importlib.import_module

        def fail(name, package=None):
            if name in missing:
                raise ModuleNotFoundError(f"No module named {name!r}")
            return real(name, package)

        monkeypatch.setattr(formats, "import_module", fail)

    return without


def test_heic_is_read_where_its_plugin_is_installed(unregistered, tmp_path):
    heif = pytest.importorskip("pillow_heif")
    flat = Image.new("RGB", (64, 48), (200, 100, 50))
    stream = io.BytesIO()
    heif.from_pillow(flat).save(stream)
    path = tmp_path / "photo.jpg"  # its name does not matter
    path.write_bytes(stream.getvalue())
    picture = load(path)
    assert picture.size == (64, 48)
    np.testing.assert_allclose(numbers(picture).mean(axis=(0, 1)), (200, 100, 50), atol=4)


def test_what_to_install_is_said(unregistered):
    unregistered("pillow_heif", "pillow_jxl", "rawpy")
    heic = b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + b"\0" * 40
    with pytest.raises(ImageError, match=r"`pip install 'qsit-metric\[heic\]'` or `pip install pillow-heif`"):
        load(heic)
    for jxl in (b"\xff\x0a" + b"\0" * 40, b"\0\0\0\x0cJXL \r\n\x87\n" + b"\0" * 40):
        with pytest.raises(ImageError, match=r"`pip install 'qsit-metric\[jxl\]'` or `pip install pillow-jxl-plugin`"):
            load(jxl)
    with pytest.raises(ImageError, match=r"not a camera raw file\. Develop it .* `pip install 'qsit-metric\[raw\]'`"):
        load(dng())


def dng() -> bytes:
    """A raw file as a camera would write it, without a preview: a grey ramp behind a sensor's filters."""
    ramp = np.tile(np.linspace(200, 4000, 768).astype(np.uint16), (512, 1))
    tags = [
        (50706, "B", 4, (1, 4, 0, 0), True),
        (50708, "s", 0, "Test", True),
        (33421, "H", 2, (2, 2), True),
        (33422, "B", 4, (0, 1, 1, 2), True),
        (50721, "2i", 9, (1, 1, 0, 1, 0, 1, 0, 1, 1, 1, 0, 1, 0, 1, 0, 1, 1, 1), True),
        (50717, "I", 1, 4095, True),
        (50778, "H", 1, 21, True),
    ]
    stream = io.BytesIO()
    tifffile.imwrite(stream, ramp, photometric=32803, extratags=tags, metadata=None)
    return stream.getvalue()


def test_raw_files_are_developed_whatever_they_are_called(tmp_path):
    pytest.importorskip("rawpy")
    for name in ("a.dng", "a.tif"):
        (tmp_path / name).write_bytes(dng())
        picture = load(tmp_path / name)
        assert picture.size == (768, 512)
        assert picture.note == "camera raw: developed with the camera's white balance"
        grey = numbers(picture)[200:300].mean(axis=(0, 2))
        assert grey[700] > grey[384] > grey[64]  # the ramp
    np.testing.assert_array_equal(numbers(load(dng())), numbers(picture))


def test_the_preview_of_a_raw_file_is_taken_where_it_is_large(monkeypatch):
    rawpy = pytest.importorskip("rawpy")

    class Raw:
        sizes = type("Sizes", (), {"width": 4000, "height": 3000, "flip": 6})

        def __init__(self, size):
            self.size = size

        def __enter__(self):
            return self

        def __exit__(self, *_):
            pass

        def extract_thumb(self):
            data = encoded(Image.new("RGB", self.size, "green"), "JPEG")
            return type("Thumb", (), {"format": rawpy.ThumbFormat.JPEG, "data": data})

        def postprocess(self, **_):
            return np.zeros((30, 40, 3), np.uint8)

    monkeypatch.setattr(rawpy, "imread", lambda _: Raw((2048, 1536)))
    assert load(dng()).note == "camera raw: its embedded preview"
    assert load(dng()).size == (1536, 2048)  # the camera was turned
    assert load(dng(), exif=False).size == (2048, 1536)
    monkeypatch.setattr(rawpy, "imread", lambda _: Raw((160, 120)))
    assert load(dng()).note.startswith("camera raw: developed")


def test_a_jpeg_under_a_camera_suffix_is_a_jpeg(tmp_path):
    path = tmp_path / "DSC_0001.NEF"
    path.write_bytes(encoded(kind="JPEG"))
    np.testing.assert_array_equal(numbers(load(path)), numbers(load(encoded(kind="JPEG"))))


def test_dicts_of_datasets_and_uris_are_pictures(tmp_path):
    data, path = encoded(), tmp_path / "my cat.png"
    path.write_bytes(data)
    text = base64.b64encode(data).decode()
    ways = [
        {"bytes": data, "path": None},
        {"bytes": None, "path": str(path)},
        {"bytes": data, "path": "train/1.png"},
        f"data:image/png;base64,{text}",
        f"data:;base64,{text.rstrip('=')}",
        f"DATA:image/png;base64,{text}",
        path.as_uri(),
    ]
    for given in ways:
        np.testing.assert_array_equal(numbers(load(given)), NOISE)
        assert items(given) == ([given], True)
    assert load(ways[2]).source == "train/1.png"
    assert load(ways[3]).source == f"<data:image/png, {len(ways[3])} characters>"


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ("data:image/png;base64,!!", r"<data:image/png, 24 characters>, expected a data URI with base64"),
        ("data:image/png", r"expected a data URI with a comma"),
        ("data:,hello", r"expected a picture format that Pillow reads"),
        ("file://server/a.png", r"expected a file URI of this machine"),
        ("file:///no/such.png", r"expected an existing file"),
        ({"bytes": None, "path": None}, r"expected a path, an http"),
        (b"PK\x03\x04" + b"\0" * 60, "It is an archive: unpack it"),
        (b"\x1f\x8b" + b"\0" * 60, "It is an archive"),
        (b"\0" * 257 + b"ustar" + b"\0" * 60, "It is an archive"),
        (b"\0\0\0\x20ftypisom" + b"\0" * 60, "It is a video or a sound: take frames"),
        (b"\x1aE\xdf\xa3" + b"\0" * 60, "It is a video"),
        (b"\0\0\x01\xba" + b"\0" * 60, "It is a video"),
        (b"RIFF\0\0\0\0AVI LIST" + b"\0" * 60, "It is a video"),
        (b"\x93NUMPY\1\0" + b"\0" * 60, r"It is a NumPy file: pass the array"),
        (np.array([[-0.1234567, 1.1]]), r"not -0\.12346\.\.1\.1\. If that is overshoot, clamp it"),
        (np.array([[-1.02, 1.02]]), r"It looks like -1\.\.1"),
    ],
)
def test_each_message_says_what_it_is(given, says):
    with pytest.raises(ImageError, match=says):
        load(given)
