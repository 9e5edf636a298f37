"""What a `Reading` asks of a picture, and what is said of pictures when nothing was asked."""

from __future__ import annotations

import io
import struct
import zlib

import numpy as np
import pytest
import torch
from PIL import Image, ImageCms

from qsit_metric import QSiT
from qsit_metric.cli.scores import identity, provenance
from qsit_metric.errors import ImageError, InputError
from qsit_metric.pixels import MAX_PIXELS, Picture, Reading, load

NOISE = np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8)
ALPHA = np.random.default_rng(1).integers(0, 256, (20, 30), dtype=np.uint8)
ALPHA[:, :15] = 255
RGBA = np.dstack([NOISE, ALPHA])
SHARE = f"{100 * (ALPHA < 255).mean():.2g} % of it is transparent"


def encoded(image: Image.Image, kind: str = "PNG", **options) -> bytes:
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def numbers(picture: Picture) -> np.ndarray:
    """The picture as bytes (H, W, 3), whichever way it came out."""
    if isinstance(picture.pixels, Image.Image):
        return np.asarray(picture.pixels)
    return picture.pixels.detach().round().to(torch.uint8).permute(1, 2, 0).numpy()


def laid_on(colour: tuple[int, int, int], rgb: np.ndarray = NOISE, alpha: np.ndarray = ALPHA) -> np.ndarray:
    """The definition of "over", in whole numbers."""
    opacity = alpha[..., None].astype(int)
    return ((2 * (rgb * opacity + np.array(colour) * (255 - opacity)) + 255) // 510).astype(np.uint8)


@pytest.mark.parametrize(
    ("field", "value", "says"),
    [
        ("bits", 7, "a whole number from 8 to 16"),
        ("bits", 12.5, "a whole number from 8 to 16"),
        ("bits", True, "a whole number from 8 to 16"),
        ("max_pixels", 0, "at least 1"),
        ("background", "no colour", "a colour"),
        ("background", (1, 2), "three numbers"),
        ("background", (0, 0, 256), "three numbers"),
        ("background", "1,2,x", "a colour"),
        ("background", 7, "a colour"),
    ],
)
def test_a_reading_that_makes_no_sense(field, value, says):
    with pytest.raises(InputError, match=rf"^`{field}`: .*{says}"):
        Reading(**{field: value})


def test_what_is_no_field_is_named_with_the_fields(tied):
    for call in (load, tied.score, tied.open):
        with pytest.raises(
            TypeError, match=r"'colour'; pictures are read with exif, bits, background, icc, max_pixels"
        ):
            call(NOISE, colour="white")


@pytest.mark.parametrize("given", ["white", "#ffffff", "255,255,255", (255, 255, 255), [255, 255, 255], "#fff"])
def test_one_colour_has_many_names_and_one_record(given):
    assert Reading(background=given) == Reading(background="white")
    assert Reading(background=given).recorded() == {"background": "255,255,255"}


TRANSPARENT = {
    "RGBA": lambda: Image.fromarray(RGBA),
    "PNG": lambda: encoded(Image.fromarray(RGBA)),
    "TIFF": lambda: encoded(Image.fromarray(RGBA), "TIFF"),
    "WebP": lambda: encoded(Image.fromarray(RGBA), "WEBP", lossless=True, exact=True),
    "array": lambda: RGBA,
    "float array": lambda: RGBA / 255,
    "16-bit array": lambda: RGBA.astype(np.uint16) * 257,
    "tensor": lambda: torch.from_numpy(RGBA).permute(2, 0, 1),
    "float tensor": lambda: torch.from_numpy(RGBA).permute(2, 0, 1) / 255,
    "tensor with gradient": lambda: (torch.from_numpy(RGBA).permute(2, 0, 1) / 255).requires_grad_(),
}


@pytest.mark.parametrize("make", TRANSPARENT.values(), ids=TRANSPARENT)
def test_transparent_pictures_are_laid_on_what_was_asked_for(make):
    dropped = load(make())
    np.testing.assert_array_equal(numbers(dropped), NOISE)
    assert dropped.note.startswith(SHARE)
    for background, colour in (("white", (255, 255, 255)), ((10, 200, 30), (10, 200, 30))):
        laid = load(make(), background=background)
        np.testing.assert_array_equal(numbers(laid), laid_on(colour))
        assert laid.note is None


def test_grey_palette_and_single_colours_may_be_transparent_too():
    grey = np.dstack([NOISE[..., 0], ALPHA])
    expected = laid_on((0, 0, 0), np.repeat(NOISE[..., :1], 3, 2))
    np.testing.assert_array_equal(numbers(load(Image.fromarray(grey, "LA"), background="black")), expected)
    np.testing.assert_array_equal(numbers(load(encoded(Image.fromarray(grey, "LA")), background="black")), expected)
    palette = Image.fromarray(NOISE).quantize(16)
    table = bytes(range(0, 160, 10))
    data = encoded(palette, transparency=table)
    opacity = np.frombuffer(table, np.uint8)[np.asarray(palette)]
    want = laid_on((255, 255, 255), np.asarray(palette.convert("RGB")), opacity)
    np.testing.assert_array_equal(numbers(load(data, background="white")), want)
    assert load(data).note.startswith("100 % of it is transparent")
    flat = Image.new("RGB", (4, 2), (9, 8, 7))
    flat.putpixel((0, 0), (1, 1, 1))
    for one, key in ((flat, (9, 8, 7)), (flat.convert("L"), 8)):
        picture = load(encoded(one, transparency=key))
        assert picture.note.startswith("88 % of it is transparent")
        assert load(encoded(one, transparency=key), background="white").pixels.getpixel((1, 0)) == (255, 255, 255)


def test_an_opaque_alpha_channel_is_no_news():
    assert load(Image.new("RGBA", (3, 3))).note.startswith("100 %")
    assert load(Image.new("RGBA", (3, 3), (1, 2, 3, 255))).note is None


def test_the_gradient_passes_the_background():
    x = (torch.from_numpy(RGBA).permute(2, 0, 1) / 255).requires_grad_()
    load(x, background="white").pixels.sum().backward()
    np.testing.assert_allclose(x.grad[0].numpy(), ALPHA.astype(np.float32), rtol=1e-5, atol=1e-4)


def test_alpha_that_is_none_is_refused_only_where_it_counts():
    odd = np.dstack([NOISE / 255, np.full((20, 30), 7.0)])
    assert load(odd).note is None
    with pytest.raises(ImageError, match=r"alpha in \[0, 1\], not 7\.\.7"):
        load(odd, background="white")


@pytest.mark.parametrize("bits", [8, 10, 12, 14])
def test_few_bits_in_a_wide_container(bits):
    white = 2**bits - 1
    values = np.random.default_rng(2).integers(0, white + 1, (20, 30), dtype=np.uint16)
    values[0, 0] = white
    ways = {
        "array": values,
        "colour": np.dstack([values] * 3),
        "tensor": torch.from_numpy(values)[None],
        "I;16": Image.fromarray(values),
        "I": Image.fromarray(values.astype(np.int32)),
        "PNG": encoded(Image.fromarray(values)),
        "TIFF": encoded(Image.fromarray(values), "TIFF"),
    }
    expected = np.rint(values / white * 255).astype(np.uint8)
    for given in ways.values():
        assert load(given).note == f"values reach {white} of 65535 (bits={bits} if {white} is white)"
        picture = load(given, bits=bits)
        assert picture.note is None
        np.testing.assert_array_equal(numbers(picture)[..., 1], expected)


def test_more_than_the_bits_that_were_said_is_refused():
    with pytest.raises(ImageError, match=r"12-bit values 0\.\.4095, not 5000\.\.5000"):
        load(np.full((2, 2), 5000, np.uint16), bits=12)
    assert load(np.full((2, 2), 60000, np.uint16)).note is None
    assert load(np.zeros((2, 2), np.uint16)).note is None  # black is black
    np.testing.assert_array_equal(numbers(load(NOISE, bits=12)), NOISE)  # 8 bits do not mind


def _profile(name: str = "Wide", gamma: float = 1.0) -> bytes:
    """A profile with the primaries of ProPhoto, made here."""
    curve = struct.pack(">4s4xIH", b"curv", 1, round(gamma * 256)) + b"\0\0"
    points = {b"rXYZ": (0.7977, 0.288, 0.0), b"gXYZ": (0.1352, 0.7119, 0.0), b"bXYZ": (0.0313, 0.0001, 0.8249)}
    points[b"wtpt"] = (0.9642, 1.0, 0.8249)
    tags = {key: struct.pack(">4s4x3i", b"XYZ ", *(round(v * 65536) for v in xyz)) for key, xyz in points.items()}
    text = name.encode() + b"\0"
    said = struct.pack(">4s4xI", b"desc", len(text)) + text + b"\0" * 78
    tags |= {b"rTRC": curve, b"gTRC": curve, b"bTRC": curve, b"desc": said, b"cprt": b"text\0\0\0\0none\0"}
    table, body, place = b"", b"", 132 + 12 * len(tags)
    for key, content in tags.items():
        padded = content + b"\0" * (-len(content) % 4)
        table += struct.pack(">4sII", key, place + len(body), len(content))
        body += padded
    head = struct.pack(">4x4sI4s4s4s12x4s", b"lcms", 0x02400000, b"mntr", b"RGB ", b"XYZ ", b"acsp").ljust(68, b"\0")
    head = (head + struct.pack(">3i", *(round(v * 65536) for v in (0.9642, 1.0, 0.8249)))).ljust(128, b"\0")
    whole = head + struct.pack(">I", len(tags)) + table + body
    return struct.pack(">I", len(whole)) + whole[4:]


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "TIFF", "WEBP"])
def test_a_colour_profile_is_said_and_used_when_asked_for(kind):
    image = Image.fromarray(NOISE)
    data = encoded(image, kind, icc_profile=_profile())
    with Image.open(io.BytesIO(data)) as opened:
        stored = np.asarray(opened.convert("RGB"))
        profile = io.BytesIO(opened.info["icc_profile"])
        expected = ImageCms.profileToProfile(opened.convert("RGB"), profile, ImageCms.createProfile("sRGB"))
    plain, turned = load(data), load(data, icc=True)
    np.testing.assert_array_equal(numbers(plain), stored)
    assert plain.note == "its colour profile 'Wide' is ignored (icc=True converts it to sRGB)"
    np.testing.assert_array_equal(numbers(turned), np.asarray(expected))
    assert np.abs(numbers(turned).astype(int) - stored).mean() > 5
    assert turned.note is None


def test_a_profile_that_is_srgb_is_no_news_and_a_broken_one_is_said():
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    image = Image.fromarray(NOISE)
    assert load(encoded(image, icc_profile=srgb)).note is None
    np.testing.assert_array_equal(numbers(load(encoded(image, icc_profile=srgb), icc=True)), NOISE)
    broken = load(encoded(image, icc_profile=b"no profile at all"), icc=True)
    assert broken.note.startswith("its colour profile cannot be used")
    np.testing.assert_array_equal(numbers(broken), NOISE)


def _with_chunk(name: bytes, content: bytes) -> bytes:
    png = encoded(Image.fromarray(NOISE))
    chunk = struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))
    return png[:33] + chunk + png[33:]


def test_hdr_curves_and_odd_gammas_are_said():
    for code, curve in ((16, "PQ"), (18, "HLG")):
        assert (
            load(_with_chunk(b"cICP", bytes((9, code, 0, 1)))).note == f"HDR ({curve}) that is read as if it were SDR"
        )
    assert load(_with_chunk(b"cICP", bytes((1, 13, 0, 1)))).note is None
    assert load(_with_chunk(b"gAMA", struct.pack(">I", 100000))).note == "its gamma of 1 is ignored"
    assert load(_with_chunk(b"gAMA", struct.pack(">I", 45455))).note is None
    profile = load(encoded(Image.fromarray(NOISE), icc_profile=_profile("Rec. ITU-R BT.2100 PQ")))
    assert profile.note.startswith("HDR (PQ) that is read as if it were SDR; its colour profile")


def test_very_large_pictures_are_read_where_they_are_asked_for(monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)  # Pillow's own: an error above twice as many
    data = encoded(Image.fromarray(NOISE))
    with pytest.raises(ImageError, match=r"pass max_pixels=N \(--max-pixels N\)"):
        load(data)
    picture = load(data, max_pixels=MAX_PIXELS + 1)
    np.testing.assert_array_equal(numbers(picture), NOISE)
    assert Image.MAX_IMAGE_PIXELS == 100
    with pytest.raises(ImageError, match=r"It has 30x20: .* pass max_pixels=600 \(--max-pixels\)"):
        load(Image.fromarray(NOISE), max_pixels=599)


def test_the_metric_reads_as_it_was_told_and_records_it(tied, monkeypatch):
    image = Image.fromarray(np.kron(RGBA, np.ones((4, 4, 1), np.uint8)))
    white = tied.score(image, background="white")
    assert white != tied.score(image)
    assert tied.score(image).note.startswith(SHARE)
    own = QSiT(tied.backend, background="white")
    assert own.score(image) == white == pytest.approx(float(tied.open(image, background="white").score()), abs=1e-5)
    assert next(iter(own.score_iter([image]))) == white
    assert own.score(image, background=None).note.startswith(SHARE)
    assert own.info["background"] == "255,255,255"
    assert "background" not in tied.info
    theirs = identity(provenance(tied, exif=True))
    monkeypatch.setattr(tied, "reading", own.reading)
    ours = identity(provenance(tied, exif=True))
    assert theirs["exif"] == "True"
    assert ours == {**theirs, "exif": "True, background 255,255,255"}
