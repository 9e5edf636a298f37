"""The resize: both engines agree to the bit, and its gradient is that of the linear resize."""

from __future__ import annotations

import PIL
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from qsit_metric.pixels.resize import resize_image, resize_tensor, taps

pytestmark = pytest.mark.compat

SIDE = st.integers(1, 400)


def noise(height, width, seed=0):
    return torch.randint(0, 256, (3, height, width), generator=torch.Generator().manual_seed(seed), dtype=torch.uint8)


def as_image(pixels):
    return Image.fromarray(pixels.permute(1, 2, 0).contiguous().numpy())


def as_tensor(image):
    return (
        torch.frombuffer(bytearray(image.tobytes()), dtype=torch.uint8)
        .view(image.height, image.width, 3)
        .permute(2, 0, 1)
    )


@settings(max_examples=60, deadline=None)
@given(SIDE, SIDE, SIDE, SIDE, st.integers(0, 9))
def test_tensor_equals_image(height, width, to_height, to_width, seed):
    pixels = noise(height, width, seed)
    by_image = as_tensor(resize_image(as_image(pixels), (to_height, to_width)))
    by_tensor = resize_tensor(pixels.float(), (to_height, to_width))
    assert torch.equal(by_tensor, by_image.float())


@pytest.mark.parametrize(("height", "width"), [(3000, 4000), (2, 5000), (5000, 2), (1, 1), (767, 1023)])
def test_tensor_equals_image_at_real_sizes(height, width):
    pixels = noise(height, width)
    by_image = as_tensor(resize_image(as_image(pixels), (384, 384)))
    assert torch.equal(resize_tensor(pixels.float(), (384, 384)), by_image.float())


@pytest.mark.skipif(int(PIL.__version__.split(".")[0]) > 11, reason="later Pillow chooses the order of the axes itself")
@settings(max_examples=40, deadline=None)
@given(SIDE, SIDE, SIDE, SIDE)
def test_equals_pillow_11(height, width, to_height, to_width):
    image = as_image(noise(height, width))
    whole = image.resize((to_width, to_height), Image.Resampling.BICUBIC)
    assert resize_image(image, (to_height, to_width)).tobytes() == whole.tobytes()


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 3000), st.integers(1, 2304))
def test_taps_are_few_and_sum_to_one(length, out):
    index, weight = taps(length, out)
    assert len(index) <= 4 * max(length / out, 1) + 2
    assert index.min() >= 0
    assert index.max() < length
    assert abs(weight.sum(axis=0) - 2**22).max() <= len(index)


def test_bytes_stay_bytes_and_equal_floats():
    pixels = noise(57, 91)
    resized = resize_tensor(pixels, (40, 133))
    assert resized.dtype == torch.uint8
    assert torch.equal(resized.float(), resize_tensor(pixels.float(), (40, 133)))


def dense(length, out):
    """The linear resize along one axis as a matrix, from Pillow's weights."""
    index, weight = taps(length, out)
    matrix = torch.zeros(out, length, dtype=torch.float64)
    for k in range(len(index)):
        matrix[torch.arange(out), torch.from_numpy(index[k])] += torch.from_numpy(weight[k]).double() / 2**22
    return matrix


@pytest.mark.parametrize("size", [(5, 9), (30, 22), (20, 20)])
@pytest.mark.parametrize("rounding", [True, False])
def test_jacobian_is_that_of_the_linear_resize(size, rounding):
    pixels = (noise(17, 13).double() + 0.2).requires_grad_()
    weights = torch.randn(3, *size, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    (resize_tensor(pixels, size, rounding=rounding) * weights).sum().backward()
    want = dense(17, size[0]).T @ weights @ dense(13, size[1])
    assert torch.allclose(pixels.grad, want, atol=1e-12)


def test_linear_resize_passes_gradcheck():
    pixels = noise(7, 9).double().requires_grad_()
    assert torch.autograd.gradcheck(lambda x: resize_tensor(x, (4, 12), rounding=False), pixels)


def test_linear_and_rounded_differ_by_rounding_only():
    pixels = noise(50, 70).float() * 0.5 + 64  # away from 0 and 255, where clipping would add to it
    linear = resize_tensor(pixels.round(), (31, 90), rounding=False)
    assert (
        linear - resize_tensor(pixels, (31, 90))
    ).abs().max() < 1.3  # half a level for each of two passes, and overshoot


@pytest.mark.gpu
def test_gpu_equals_cpu():
    pixels = noise(613, 411).float()
    assert torch.equal(resize_tensor(pixels.cuda(), (384, 500)).cpu(), resize_tensor(pixels, (384, 500)))
