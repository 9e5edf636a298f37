"""Whatever is handed to `pixels.load`, a valid picture or one of our errors comes back, and nothing else."""

from __future__ import annotations

import io

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from qsit_metric.errors import ImageError, InputError
from qsit_metric.pixels import Picture, fetch, items, load

# Headers of damaged files may promise anything; this bounds what a test decodes.
MAX_PIXELS = 200_000
bounded = settings(max_examples=60, deadline=None, database=None, suppress_health_check=list(HealthCheck))
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning", "ignore::DeprecationWarning")


def outcome(image: object) -> Picture | None:
    try:
        picture = load(image, max_pixels=MAX_PIXELS)
    except ImageError as error:
        assert str(error).startswith("`image`: got ")
        assert ", expected " in str(error)
        return None
    assert picture.width > 0
    assert picture.height > 0
    assert picture.source
    if isinstance(picture.pixels, Image.Image):
        assert picture.pixels.mode == "RGB"
        assert np.asarray(picture.pixels).shape == (picture.height, picture.width, 3)
        assert picture.width * picture.height <= MAX_PIXELS
    else:
        assert picture.pixels.shape == (3, picture.height, picture.width)
        assert 0 <= picture.pixels.min() <= picture.pixels.max() <= 255
    return picture


def _samples() -> dict[str, bytes]:
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (13, 17, 3), dtype=np.uint8))
    exif = Image.Exif()
    exif[0x0112], exif[0x010E] = 6, "a description"
    saved = {
        "png": (noise, "PNG", {"exif": exif}),
        "png, 16 bits": (Image.new("I;16", (9, 7), 40000), "PNG", {}),
        "png, palette": (noise.quantize(16), "PNG", {"transparency": bytes(range(16))}),
        "apng": (noise, "PNG", {"save_all": True, "append_images": [noise.rotate(180)]}),
        "jpeg": (noise, "JPEG", {"exif": exif, "progressive": True}),
        "jpeg, cmyk": (noise.convert("CMYK"), "JPEG", {}),
        "mpo": (noise, "MPO", {"save_all": True, "append_images": [noise.rotate(180)]}),
        "gif": (noise, "GIF", {"save_all": True, "append_images": [noise.rotate(180)]}),
        "webp": (noise, "WEBP", {"save_all": True, "append_images": [noise.rotate(180)], "exif": exif}),
        "tiff": (noise, "TIFF", {"save_all": True, "append_images": [noise.rotate(180)], "exif": exif}),
        "tiff, deflate": (noise, "TIFF", {"compression": "tiff_adobe_deflate"}),
        "tiff, float": (Image.new("F", (9, 7), 0.5), "TIFF", {}),
        "bmp": (noise, "BMP", {}),
        "ico": (noise.resize((16, 16)), "ICO", {}),
        "jpeg 2000": (noise, "JPEG2000", {}),
        "ppm": (noise, "PPM", {}),
        "tga": (noise, "TGA", {"compression": "tga_rle"}),
    }
    files = {}
    for name, (image, kind, options) in saved.items():
        stream = io.BytesIO()
        image.save(stream, kind, **options)
        files[name] = stream.getvalue()
    return files


FILES = _samples()


@pytest.mark.parametrize("name", FILES)
def test_whole_files_are_pictures(name):
    assert outcome(FILES[name]) is not None


@bounded
@given(
    st.sampled_from(
        [b"", b"P5 ", b"P6 3 3 255\n", b"BM", b"GIF89a", b"II*\0", b"MM\0*", b"\xff\xd8\xff", b"\x89PNG\r\n"]
    ),
    st.binary(max_size=300),
)
def test_random_bytes(start, rest):
    outcome(start + rest)


@bounded
@given(st.sampled_from(sorted(FILES)), st.floats(0, 1))
def test_files_cut_anywhere(name, share):
    outcome(FILES[name][: int(share * len(FILES[name]))])


@bounded
@given(st.sampled_from(sorted(FILES)), st.lists(st.tuples(st.floats(0, 1), st.integers(0, 255)), max_size=6))
def test_files_with_flipped_bytes(name, flips):
    data = bytearray(FILES[name])
    for place, value in flips:
        # Squared: most flips hit the headers, where the decisions are made.
        data[int(place**2 * (len(data) - 1))] ^= value
    outcome(io.BytesIO(data))


@bounded
@given(
    st.sampled_from(sorted(Image.MODES)), st.integers(0, 5), st.integers(0, 5), st.binary(min_size=128, max_size=128)
)
def test_every_pil_mode(mode, width, height, noise):
    image = Image.new(mode, (width, height))
    image.frombytes(noise[: len(image.tobytes())])
    picture = outcome(image)
    if width * height == 0:
        assert picture is None
    elif mode not in {"I", "F"}:
        assert picture is not None


SHAPES = st.one_of(
    st.lists(st.integers(0, 5), max_size=5).map(tuple),
    st.tuples(st.integers(1, 9), st.integers(1, 9), st.sampled_from([1, 3, 4])),
    st.tuples(st.sampled_from([1, 3, 4]), st.integers(1, 9), st.integers(1, 9)),
)
SCALES = st.sampled_from([(0, 1), (0, 255), (-1, 1), (0, 65535), (0, float("nan")), (0, float("inf")), (-3e38, 3e38)])
DTYPES = "bool int8 uint8 int16 uint16 int32 uint32 int64 float16 float32 float64 longdouble complex64 O U1 S3 M8[s]"


@bounded
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@given(st.sampled_from(DTYPES.split()), st.sampled_from("=<>"), SHAPES, SCALES, st.integers(0, 2**32))
def test_arrays_of_any_shape_and_type(dtype, order, shape, scale, seed):
    low, high = scale
    values = np.random.default_rng(seed).random(shape) * (high - low) + low
    array = np.asarray(values).astype("int64").astype(dtype) if dtype in {"M8[s]"} else np.asarray(values).astype(dtype)
    array = array.astype(array.dtype.newbyteorder(order))
    array = array[::-1] if seed % 2 and array.ndim else array
    picture = outcome(array)
    if dtype in {"uint8", "uint16"} and array.size and array.ndim == 3 and shape[2] in {1, 3, 4}:
        assert picture.size == (shape[1], shape[0])


TORCH_DTYPES = [value for value in vars(torch).values() if isinstance(value, torch.dtype)]


@bounded
@given(st.sampled_from(sorted(set(TORCH_DTYPES), key=str)), SHAPES, SCALES, st.booleans(), st.integers(0, 2**32))
def test_tensors_of_any_shape_and_type(dtype, shape, scale, grad, seed):
    low, high = scale
    values = torch.rand(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) * (high - low) + low
    try:
        tensor = values.to(dtype)
    except (RuntimeError, TypeError, NotImplementedError):  # torch itself cannot make such a tensor
        tensor = torch.zeros(shape)
    if grad and (tensor.is_floating_point() or tensor.is_complex()):
        tensor.requires_grad_()
    picture = outcome(tensor)
    if dtype == torch.uint8 and tensor.numel() and tensor.ndim == 3 and shape[0] in {1, 3, 4}:
        assert picture.size == (shape[2], shape[1])


@bounded
@given(st.lists(st.floats(0, 1, width=32), min_size=3, max_size=30).map(lambda values: values[: len(values) // 3 * 3]))
def test_arrays_and_tensors_with_and_without_gradient_agree_to_the_bit(values):
    array = np.array(values, dtype=np.float32).reshape(1, -1, 3)
    tensor = torch.from_numpy(array.copy()).permute(2, 0, 1)
    found = [np.asarray(load(one).pixels) for one in (array, tensor)]
    kept = load(tensor.clone().requires_grad_()).pixels.detach().round().permute(1, 2, 0).numpy()
    np.testing.assert_array_equal(found[0], found[1])
    np.testing.assert_array_equal(found[0], kept)


@bounded
@given(st.text().filter(lambda text: fetch.scheme(text) is None))
def test_any_text(text):
    outcome(text)


ANYTHING = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(), st.binary(max_size=20)),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.tuples(inner),
        st.dictionaries(st.text(), inner, max_size=2),
        st.builds(iter, st.lists(inner)),
    ),
)


@bounded
@given(ANYTHING)
def test_anything_at_all(images):
    try:
        found, single = items(images)
    except InputError as error:
        assert "flat list" in str(error)
        return
    assert not single or found[0] is images
    for one in found:
        if not (isinstance(one, str) and fetch.scheme(one)):
            outcome(one)
