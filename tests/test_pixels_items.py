"""How `images.items` tells one picture from many."""

from __future__ import annotations

import io
from collections import deque
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageSequence

from qsit_metric.errors import InputError
from qsit_metric.pixels import items, load

NOISE = np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8)
RGB = Image.fromarray(NOISE)


class _Sequence(deque):
    pass


@pytest.mark.parametrize(
    ("images", "many"),
    [
        ("a.jpg", None),
        (Path("a.jpg"), None),
        (b"abc", None),
        (bytearray(b"abc"), None),
        (memoryview(b"abc"), None),
        (io.BytesIO(b"abc"), None),
        (RGB, None),
        (NOISE, None),
        (torch.zeros(3, 4, 5), None),
        (None, None),
        (7, None),
        ({"a": 1}, None),
        (np.zeros((1, 1, 4, 4, 3)), None),
        ([], []),
        ((), []),
        (["a.jpg", b"x", 3], ["a.jpg", b"x", 3]),
        (("a.jpg",), ["a.jpg"]),
        (_Sequence(["a", "b"]), ["a", "b"]),
        ((name for name in "ab"), ["a", "b"]),
        (map(str, [1, 2]), ["1", "2"]),
    ],
)
def test_items_tells_one_from_many(images, many):
    found, single = items(images)
    assert single == (many is None)
    assert len(found) == 1 if many is None else found == many
    if many is None:
        assert found[0] is images


@pytest.mark.parametrize("batch", [torch.arange(2 * 3 * 4 * 5).reshape(2, 3, 4, 5), np.zeros((2, 4, 5, 3), np.uint8)])
def test_batches_become_their_pictures(batch):
    found, single = items(batch)
    assert not single
    assert len(found) == 2
    assert all((one == whole).all() for one, whole in zip(found, batch, strict=True))
    assert [len(items(batch[:count])[0]) for count in (0, 1)] == [0, 1]
    assert items(batch[:1])[1] is False
    mixed, _ = items(["a.jpg", batch, RGB])
    assert [type(one) for one in mixed] == [str, type(batch), type(batch), type(RGB)]


def test_pictures_of_a_batch_keep_the_gradient():
    batch = torch.rand(2, 3, 4, 5, requires_grad=True)
    load(items([batch])[0][1]).pixels.sum().backward()
    assert batch.grad.sum(dim=(1, 2, 3)).tolist() == [0, 255 * 60]


@pytest.mark.parametrize("nested", [["a", ["b"]], [("a",)], [[]], (x for x in ["a", iter("b")])])
def test_nested_lists_are_refused(nested):
    says = r"`images`: got <a \w+ at position \d>, expected a flat list of pictures\. Flatten"
    with pytest.raises(InputError, match=says):
        items(nested)


def test_the_frames_of_an_animation_can_be_scored_one_by_one():
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "lime", "blue")]
    stream = io.BytesIO()
    frames[0].save(stream, "TIFF", save_all=True, append_images=frames[1:])
    with Image.open(stream) as image:
        found, single = items(ImageSequence.Iterator(image))
    assert not single
    assert [load(frame).pixels.getpixel((0, 0)) for frame in found] == [(255, 0, 0), (0, 255, 0), (0, 0, 255)]
