"""Arrays and tensors: what becomes of the numbers, and which are refused."""

from __future__ import annotations

import io

import numpy as np
import pytest
import torch
from PIL import Image

from qsit_metric.errors import ImageError
from qsit_metric.pixels import Picture, load

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


GREY = np.repeat(NOISE[..., :1], 3, axis=2)
ARRAYS = {
    "(H, W)": (NOISE[..., 0], GREY),
    "(H, W, 1)": (NOISE[..., :1], GREY),
    "(H, W, 3)": (NOISE, NOISE),
    "(H, W, 4)": (np.dstack([NOISE, NOISE[..., 0]]), NOISE),
    "(H, W, 4), float": (np.dstack([NOISE / 255, np.full((20, 30), 7.0)]), NOISE),
    "(1, H, W, 3)": (NOISE[None], NOISE),
    "read-only": (np.frombuffer(NOISE.tobytes(), np.uint8).reshape(NOISE.shape), NOISE),
    "mirrored": (NOISE[:, ::-1], NOISE[:, ::-1]),
    "BGR view": (NOISE[..., ::-1], NOISE[..., ::-1]),
    "every other": (NOISE[::2, 1::2], NOISE[::2, 1::2]),
    "Fortran order": (np.asfortranarray(NOISE), NOISE),
    "one column": (NOISE[:, :1], NOISE[:, :1]),
    "three rows": (NOISE[:3], NOISE[:3]),
    "three by three": (NOISE[:3, :3], NOISE[:3, :3]),
    "matrix": (NOISE[..., 0].view(np.matrix), GREY),
    "float16": ((NOISE / 255).astype(np.float16), NOISE),
    "float32": ((NOISE / 255).astype(np.float32), NOISE),
    "float64": (NOISE / 255, NOISE),
    "big-endian float": ((NOISE / 255).astype(">f4"), NOISE),
}


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(("array", "expected"), ARRAYS.values(), ids=ARRAYS)
def test_arrays(array, expected):
    np.testing.assert_array_equal(numbers(load(array)), expected)


def test_the_result_does_not_share_memory_with_the_array():
    for array in (NOISE.copy(), NOISE[..., 0].copy()):
        picture = load(array)
        before = numbers(picture).copy()
        array[:] = 0
        np.testing.assert_array_equal(numbers(picture), before)


X = torch.from_numpy(NOISE.copy()).permute(2, 0, 1)
TENSORS = {
    "uint8": (X, NOISE),
    "grey": (X[:1], GREY),
    "alpha": (torch.cat([X, X[:1]]), NOISE),
    "alpha, float": (torch.cat([X / 255, torch.full((1, 20, 30), torch.nan)]), NOISE),
    "(1, C, H, W)": (X[None], NOISE),
    "channels last in memory": (X[None].to(memory_format=torch.channels_last), NOISE),
    "three rows": (X[:, :3], NOISE[:3]),
    "float16": ((X / 255).half(), NOISE),
    "bfloat16": (X.ge(128).to(torch.bfloat16), np.where(NOISE >= 128, 255, 0)),
    "float32": (X / 255, NOISE),
    "float64": (X.double() / 255, NOISE),
    "parameter": (torch.nn.Parameter(X / 255), NOISE),
    "parameter, grey": (torch.nn.Parameter(X[:1] / 255), GREY),
}


@pytest.mark.parametrize(("tensor", "expected"), TENSORS.values(), ids=TENSORS)
def test_tensors(tensor, expected):
    picture = load(tensor)
    assert isinstance(picture.pixels, torch.Tensor) == tensor.requires_grad
    np.testing.assert_array_equal(numbers(picture), expected)
    assert picture.size == expected.shape[1::-1]


@pytest.mark.parametrize("tensor", [X, X / 255, X[:1].expand(3, -1, -1), (X[:1] / 255).expand(3, -1, -1)])
def test_the_tensor_is_not_changed(tensor):
    before = tensor.clone()
    load(tensor)
    assert torch.equal(tensor, before)


def test_floats_are_rounded_half_to_even():
    halves = np.array([[0.5 / 255, 1.5 / 255, 2.5 / 255, 126.5 / 255, 0.5]])
    assert (halves * 255 % 1 == 0.5).all()
    assert numbers(load(halves))[0, :, 0].tolist() == [0, 2, 2, 126, 128]
    assert numbers(load(torch.from_numpy(halves)[None]))[0, :, 0].tolist() == [0, 2, 2, 126, 128]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_both_ways_of_a_tensor_agree_to_the_bit_and_with_arrays(dtype):
    tensor = torch.rand(3, 61, 67, generator=torch.Generator().manual_seed(0), dtype=torch.float64).to(dtype)
    tensor[0, 0, :3] = torch.tensor([0.0, 1.0, 0.5]).to(dtype)
    image, kept = load(tensor), load(tensor.clone().requires_grad_())
    assert isinstance(image.pixels, Image.Image)
    assert kept.pixels.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
    np.testing.assert_array_equal(numbers(image), numbers(kept))
    if dtype != torch.bfloat16:
        np.testing.assert_array_equal(numbers(image), numbers(load(tensor.permute(1, 2, 0).numpy())))


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_gradients_reach_the_tensor(channels):
    tensor = torch.full((channels, 4, 5), 0.25, requires_grad=True)
    picture = load(tensor)
    assert picture.pixels.shape == (3, 4, 5)
    assert picture.source == f"<tensor {channels}x4x5 float32>"
    picture.pixels.sum().backward()
    expected = {1: [765.0], 3: [255.0] * 3, 4: [255.0] * 3 + [0.0]}[channels]
    assert tensor.grad.amax(dim=(1, 2)).tolist() == tensor.grad.amin(dim=(1, 2)).tolist() == expected


class _Elsewhere(torch.Tensor):
    """A tensor that says it lives on another device: what can be tested without one."""

    @property
    def device(self):
        return torch.device("cuda", 0)


@pytest.mark.parametrize("tensor", [X, X / 255, X[:1], (X / 255).half()], ids=["uint8", "float", "grey", "half"])
def test_a_tensor_elsewhere_stays_a_tensor(tensor):
    picture = load(tensor.as_subclass(_Elsewhere))
    assert isinstance(picture.pixels, torch.Tensor)
    assert picture.pixels.dtype == torch.float32
    assert picture.source.endswith(" cuda:0>")
    np.testing.assert_array_equal(numbers(picture), numbers(load(tensor)))


@pytest.mark.gpu
@pytest.mark.parametrize("tensor", [X, X / 255, X[:1], (X / 255).half()], ids=["uint8", "float", "grey", "half"])
def test_a_tensor_on_the_gpu_stays_there(tensor):
    picture = load(tensor.cuda())
    assert picture.pixels.device.type == "cuda"
    np.testing.assert_array_equal(numbers(picture), numbers(load(tensor)))


def _floats(low, high):
    return np.linspace(low, high, 48, dtype=np.float32).reshape(4, 4, 3)


NUMBERS = {
    "NaN": (np.full((4, 4), np.nan), r"<array 4x4 float64>, expected values in \[0, 1\], not nan\.\.nan.*NaN or inf"),
    "NaN, half": (np.full((4, 4), np.nan, np.float16), r"not nan\.\.nan.*NaN or infinite"),
    "infinite": (np.full((4, 4), np.inf), r"not inf\.\.inf.*NaN or infinite"),
    "0..255": (
        _floats(0, 255),
        r"4x4x3 float32>.*\[0, 1\], not 0\.0\.\.255\.0\. .*0\.\.255: divide by 255 or pass uint8",
    ),
    "0..65535": (_floats(0, 65535), r"divide by 65535 or pass uint16"),
    "-1..1": (_floats(-1, 1), r"not -1\.0\.\.1\.0\. It looks like -1\.\.1: pass \(x \+ 1\) / 2"),
    "normalised": (_floats(-2.1, 2.6), r"mean and a standard deviation"),
    "overshoot": (_floats(0, 1.01), r"overshoot, clamp"),
    "bool": (np.zeros((4, 4), bool), r"<array 4x4 bool>, expected uint8, .*astype\(np\.uint8\) \* 255"),
    "int64": (np.zeros((4, 4), np.int64), r"<array 4x4 int64>, expected uint8, .*astype\(np\.uint8\)` if the values"),
    "uint32": (np.zeros((4, 4), np.uint32), r"astype\(np\.uint8\)` if the values"),
    "long double": (np.zeros((4, 4), np.longdouble), r"astype\(np\.float64\)"),
    "complex": (np.zeros((4, 4), complex), r"complex128>, expected uint8, uint16"),
    "objects": (np.full((4, 4), None), r"object>, expected uint8, uint16"),
    "text": (np.array([["a.jpg"]]), r"expected uint8, uint16"),
    "channels first": (np.zeros((3, 40, 50), np.uint8), r"3x40x50.*Channels stand last in arrays \(first in tensors\)"),
    "two channels": (np.zeros((40, 50, 2), np.uint8), r"<array 40x50x2 uint8>, expected an array \(H, W\), .*4\)\.$"),
    "vector": (np.zeros(9, np.uint8), r"<array 9 uint8>, expected an array"),
    "scalar": (np.zeros((), np.uint8), r"<array scalar uint8>, expected an array"),
    "batch": (np.zeros((2, 4, 4, 3), np.uint8), r"Pass several pictures as a list"),
    "no rows": (np.zeros((0, 4, 3), np.uint8), r"<array 0x4x3 uint8>, expected at least one pixel"),
    "no columns": (np.zeros((4, 0), np.float32), r"<array 4x0 float32>, expected at least one pixel"),
    "t: (H, W)": (torch.zeros(4, 5), r"<tensor 4x5 float32>, expected a tensor \(C, H, W\).*unsqueeze\(0\)"),
    "t: channels last": (
        torch.zeros(40, 50, 3),
        r"Channels stand first in tensors \(last in arrays\).*permute\(2, 0, 1\)",
    ),
    "t: two channels": (torch.zeros(2, 40, 50), r"<tensor 2x40x50 float32>, expected a tensor \(C, H, W\)"),
    "t: batch": (torch.zeros(2, 3, 4, 5), r"Pass several pictures as a list"),
    "t: five dimensions": (torch.zeros(1, 1, 3, 4, 5), r"<tensor 1x1x3x4x5 float32>, expected a tensor"),
    "t: scalar": (torch.zeros(()), r"<tensor scalar float32>, expected a tensor"),
    "t: no pixels": (torch.zeros(3, 0, 5), r"<tensor 3x0x5 float32>, expected at least one pixel"),
    "t: NaN": (torch.full((3, 4, 5), torch.nan), r"not nan\.\.nan.*NaN or infinite"),
    "t: infinite": (torch.full((3, 4, 5), torch.inf, dtype=torch.bfloat16), r"not inf\.\.inf.*NaN or infinite"),
    "t: 0..255": (torch.full((3, 4, 5), 255.0), r"not 255\.0\.\.255\.0.*divide by 255"),
    "t: a hair above": (
        torch.full((3, 4, 5), 1 + 1e-6),
        r"not 1\.000001\.\.1\.000001\. If that is overshoot",
    ),
    "t: gradient, too large": (torch.full((3, 4, 5), 2.0, requires_grad=True), r"not 2\.0\.\.2\.0"),
    "t: int64": (torch.zeros(3, 4, 5, dtype=torch.int64), r"int64>, expected uint8, float16.*\.to\(torch\.uint8\)"),
    "t: bool": (torch.zeros(3, 4, 5, dtype=torch.bool), r"bool>, expected uint8, float16"),
    "t: complex": (torch.zeros(3, 4, 5, dtype=torch.cfloat), r"complex64>, expected uint8, float16"),
    "t: float8": (torch.zeros(3, 4, 5).to(torch.float8_e4m3fn), r"float8_e4m3fn>, expected uint8, float16"),
    "t: sparse": (torch.zeros(3, 4, 5).to_sparse(), r"expected a dense tensor with data.*to_dense"),
    "t: meta": (torch.zeros(3, 4, 5, device="meta"), r"float32 meta>, expected a dense tensor with data"),
}


@pytest.mark.parametrize(("given", "says"), NUMBERS.values(), ids=NUMBERS)
def test_numbers_that_are_no_picture(given, says):
    with pytest.raises(ImageError, match=f"(?s)^`image`: got .*{says}"):
        load(given)


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_quantised_tensors_are_refused():
    try:
        quantised = torch.quantize_per_tensor(torch.zeros(3, 4, 5), 0.1, 0, torch.quint8)
    except (AttributeError, RuntimeError):
        pytest.skip("this torch has no quantised tensors any more")
    with pytest.raises(ImageError, match=r"expected a dense tensor with data"):
        load(quantised)
