"""Size limit, EXIF orientation, frames and modes of encoded pictures."""

from __future__ import annotations

import io
import logging

import numpy as np
import pytest
import torch
from PIL import Image, ImageFile, ImageOps

from qsit_metric.errors import ImageError
from qsit_metric.pixels import MAX_PIXELS, Picture, load

pytestmark = pytest.mark.compat

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


PNG, JPEG = encoded(), encoded(kind="JPEG")
GIF = encoded(kind="GIF", save_all=True, append_images=[RGB.rotate(90), RGB.rotate(180)])


@pytest.mark.parametrize("given", [PNG, RGB], ids=["bytes", "PIL"])
def test_the_size_limit_counts_pixels(given):
    assert load(given, max_pixels=600).size == (30, 20)
    with pytest.raises(
        ImageError, match=r"expected at most 599 pixels\. It has 30x20: shrink it, or decode it yourself"
    ):
        load(given, max_pixels=599)


def test_the_size_is_judged_by_the_header_before_anything_is_decoded(monkeypatch):
    monkeypatch.setattr(ImageFile.ImageFile, "load", lambda self: pytest.fail("it was decoded"))
    with pytest.raises(ImageError, match="at most 1,000 pixels"):
        load(b"P5 10000 8000 255\n", max_pixels=1000)


def test_the_limit_holds_when_pil_has_none(monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", None)
    with pytest.raises(ImageError, match=rf"at most {MAX_PIXELS:,} pixels\. It has 20000x20000"):
        load(b"P5 20000 20000 255\n")


def test_a_size_that_shows_only_after_decoding_is_judged_too(monkeypatch):
    def grow(self):
        self.__dict__.update(_im=Image.new("RGB", (90, 90)).im, _size=(90, 90), tile=[])

    monkeypatch.setattr(ImageFile.ImageFile, "load", grow)
    with pytest.raises(ImageError, match=r"at most 600 pixels\. It has 90x90"):
        load(encoded(kind="BMP"), max_pixels=600)


def _turned(orientation: int, kind: str = "PNG") -> bytes:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return encoded(kind=kind, exif=exif)


@pytest.mark.parametrize("orientation", range(10))
def test_exif_orientation_is_applied_as_pil_does(orientation):
    data = _turned(orientation)
    with Image.open(io.BytesIO(data)) as image:
        expected = np.asarray(ImageOps.exif_transpose(image))
    np.testing.assert_array_equal(numbers(load(data)), expected)
    np.testing.assert_array_equal(numbers(load(data, exif=False)), NOISE)


@pytest.mark.parametrize("kind", ["JPEG", "WEBP", "MPO"])
def test_exif_orientation_in_other_formats(kind):
    data = _turned(6, kind)
    assert load(data).size == (20, 30)
    assert load(data, exif=False).size == (30, 20)


def test_tiff_is_turned_once_and_by_pillow():
    expected = np.rot90(NOISE, -1)
    np.testing.assert_array_equal(numbers(load(_turned(6, "TIFF"))), expected)
    np.testing.assert_array_equal(numbers(load(_turned(6, "TIFF"), exif=False)), expected)


def test_exif_of_pil_images_counts_until_it_has_been_applied():
    with Image.open(io.BytesIO(_turned(6))) as image:
        assert load(image).size == (20, 30)
        assert load(image, exif=False).size == (30, 20)
        assert load(ImageOps.exif_transpose(image)).size == (20, 30)
        assert image.size == (30, 20)  # the caller's image is not changed


@pytest.mark.filterwarnings("ignore:Corrupt EXIF")
@pytest.mark.parametrize(
    "block",
    [
        b"Exif\0\0garbage",
        b"Exif\0\0II*\0\xff\xff\xff\xff",
        b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x02\0\0\0\x04abc\0\0\0\0\0",
        b"Exif\0\0",
    ],
)
def test_a_broken_exif_block_does_not_sink_the_picture(block):
    with Image.open(io.BytesIO(JPEG)) as image:
        expected = np.asarray(image)
    np.testing.assert_array_equal(numbers(load(encoded(kind="JPEG", exif=block))), expected)


def test_an_exif_parser_that_fails_does_not_sink_the_picture(monkeypatch):
    def fail(self):
        raise SyntaxError("not a TIFF file")

    monkeypatch.setattr(Image.Image, "getexif", fail)
    np.testing.assert_array_equal(numbers(load(PNG)), NOISE)


@pytest.mark.parametrize("kind", ["GIF", "PNG", "WEBP", "TIFF"])
def test_of_several_frames_the_first_is_taken_and_said(kind, caplog):
    lossless = {"lossless": True} if kind == "WEBP" else {}
    second, third = Image.new("RGB", (30, 20), "red"), Image.new("RGB", (30, 20), "blue")
    data = encoded(kind=kind, save_all=True, append_images=[second, third], **lossless)
    with Image.open(io.BytesIO(data)) as image:
        expected = np.asarray(image.convert("RGB"))
    with caplog.at_level(logging.WARNING, logger="qsit_metric"):
        picture = load(data)
    np.testing.assert_array_equal(numbers(picture), expected)
    assert picture.note == "first of 3 frames"
    assert [record.getMessage() for record in caplog.records] == [
        f"<bytes, {len(data)}>: only the first of 3 frames is used"
    ]


def test_frames_that_the_caller_has_chosen_stay_as_they_are(caplog):
    first, second = Image.new("RGB", (8, 8), "red"), Image.new("RGB", (8, 8), "blue")
    with Image.open(io.BytesIO(encoded(first, "TIFF", save_all=True, append_images=[second]))) as image:
        before = load(image)
        image.seek(1)
        caplog.clear()
        after = load(image)
        assert (before.note, after.note) == ("first of 2 frames", "frame 2 of 2")
        assert not caplog.records
        assert image.tell() == 1
        image.seek(0)
    assert before.pixels.getpixel((0, 0)) == (255, 0, 0)  # moving on in the file does not change what was loaded
    assert after.pixels.getpixel((0, 0)) == (0, 0, 255)


def test_mpo_of_a_phone_is_an_ordinary_photo(caplog):
    data = encoded(kind="MPO", save_all=True, append_images=[RGB.resize((8, 8))])
    with Image.open(io.BytesIO(data)) as image:
        assert image.format == "MPO"
        assert image.n_frames == 2
    assert load(data).note is None
    assert not caplog.records


def test_damage_behind_the_first_frame_does_no_harm(monkeypatch):
    first = numbers(load(GIF))
    np.testing.assert_array_equal(numbers(load(GIF[:-700])), first)

    def fail(self):
        raise KeyError("frame")

    from PIL import GifImagePlugin

    monkeypatch.setattr(GifImagePlugin.GifImageFile, "n_frames", property(fail))
    picture = load(GIF)
    np.testing.assert_array_equal(numbers(picture), first)
    assert picture.note is None


MODES = ["1", "L", "LA", "P", "PA", "RGBA", "RGBX", "RGBa", "CMYK", "YCbCr", "LAB", "HSV"]


@pytest.mark.parametrize("mode", MODES)
def test_eight_bit_modes_are_converted_as_pil_converts(mode):
    bands = {"1": 1, "L": 1, "P": 1, "LA": 2, "PA": 2}.get(mode, 4 if mode in {"RGBA", "RGBX", "RGBa", "CMYK"} else 3)
    raw = np.random.default_rng(1).integers(0, 256, 6 * 5 * bands, dtype=np.uint8).tobytes()
    image = Image.frombytes(mode, (5, 6), raw if mode != "1" else raw[:6])
    if mode in {"P", "PA"}:
        image.putpalette(np.random.default_rng(2).integers(0, 256, 768, dtype=np.uint8).tobytes())
    np.testing.assert_array_equal(numbers(load(image)), np.asarray(image.convert("RGB")))


def test_premultiplied_grey_is_converted_although_pil_knows_no_direct_way():
    assert load(Image.new("La", (1, 1), (60, 120))).pixels.getpixel((0, 0)) == (127, 127, 127)


def test_alpha_is_dropped_not_blended():
    assert load(Image.new("RGBA", (1, 1), (10, 20, 30, 0))).pixels.getpixel((0, 0)) == (10, 20, 30)


@pytest.mark.filterwarnings("error")
def test_transparency_of_a_palette_neither_warns_nor_fails():
    image = RGB.quantize(256)
    expected = np.asarray(image.convert("RGB"))
    for transparency in (bytes(range(256)), (1, 2, 3), 0):
        image.info["transparency"] = transparency
        np.testing.assert_array_equal(numbers(load(image)), expected)
        assert image.info["transparency"] == transparency  # the caller's image is not changed


@pytest.mark.parametrize("mode", ["I;16", "I;16B", "I;16L", "I;16N", "I"])
def test_sixteen_bits_are_scaled_and_rounded(mode):
    values = np.array([[0, 1, 128, 129, 257, 32767, 32768, 65406, 65407, 65535]], dtype=np.uint16)
    order = {"I;16B": ">u2", "I;16L": "<u2", "I;16": "<u2", "I": "i4"}.get(mode, "=u2")
    image = Image.frombytes(mode, (values.shape[1], 1), values.astype(order).tobytes())
    expected = [[round(int(value) / 257) for value in values[0]]]
    np.testing.assert_array_equal(numbers(load(image))[..., 0], expected)
    np.testing.assert_array_equal(numbers(load(values))[..., 2], expected)


def test_every_sixteen_bit_value():
    values = np.arange(65536, dtype=np.uint16).reshape(256, 256)
    expected = np.rint(values / 257).astype(np.uint8)
    np.testing.assert_array_equal(numbers(load(encoded(Image.fromarray(values))))[..., 1], expected)
    np.testing.assert_array_equal(numbers(load(values.astype(">u2")))[..., 1], expected)


def test_float_images_are_scaled_and_rounded():
    values = np.array([[0, 0.5, 1, 0.25]], dtype=np.float32)
    assert numbers(load(Image.fromarray(values)))[0, :, 0].tolist() == [0, 128, 255, 64]
    assert numbers(load(encoded(Image.fromarray(values), "TIFF")))[0, :, 0].tolist() == [0, 128, 255, 64]
