"""Where windows lie, and how their values become a map."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qsit_metric.errors import InputError
from qsit_metric.maps.windows import MAX_WINDOWS, Box, MapRequest, Windows, chosen, window_for

pure = settings(max_examples=150, deadline=None, database=None)


@st.composite
def layouts(draw):
    window = draw(st.integers(1, 60))
    height, width, stride = draw(st.integers(1, 130)), draw(st.integers(1, 130)), draw(st.integers(1, window))
    while -(-height // stride) * -(-width // stride) > MAX_WINDOWS:
        stride = min(window, 2 * stride)
    return window, stride, Windows.over(height, width, window, stride)


@pure
@given(layouts())
def test_every_window_lies_inside_and_every_pixel_in_a_window(layout):
    window, stride, windows = layout
    covered = np.zeros((windows.height, windows.width), dtype=int)
    for left, top, right, bottom in windows.boxes():
        assert 0 <= left < right <= windows.width
        assert 0 <= top < bottom <= windows.height
        assert (bottom - top, right - left) == windows.window
        covered[top:bottom, left:right] += 1
    assert covered.min() >= 1
    assert windows.window == (min(window, windows.height), min(window, windows.width))
    assert len(list(windows.boxes())) == len(windows) == np.prod(windows.shape)
    for edges, last in ((windows.tops, windows.box(-1, 0).bottom), (windows.lefts, windows.box(0, -1).right)):
        steps = np.diff(edges)
        assert edges[0] == 0
        assert last in (windows.height, windows.width)
        assert not len(steps) or (steps.min() >= 1 and steps.max() <= stride), "no window twice, no step too far"


@pure
@given(layouts(), st.integers(0, 2**32 - 1))
def test_a_merged_map_stays_between_its_values_and_keeps_a_constant(layout, seed):
    _, _, windows = layout
    values = np.random.default_rng(seed).uniform(1, 5, windows.shape)
    merged = windows.merge(values)
    assert merged.shape == (windows.height, windows.width)
    assert merged.dtype == np.float32
    assert merged.min() >= values.min() - 1e-5
    assert merged.max() <= values.max() + 1e-5
    assert np.allclose(windows.merge(np.full(windows.shape, 3.5), (17, 5)), 3.5)


@pure
@given(layouts(), st.integers(0, 2**32 - 1))
def test_sums_are_those_of_the_crops(layout, seed):
    _, _, windows = layout
    pixels = np.random.default_rng(seed).normal(size=(windows.height, windows.width))
    sums = windows.sums(pixels)
    for box, found in list(zip(windows.boxes(), sums.flat, strict=True))[:: max(1, len(windows) // 50)]:
        assert found == pytest.approx(pixels[box.top : box.bottom, box.left : box.right].sum(), abs=1e-9)


def test_half_overlapping_windows_are_interpolated_between_their_middles():
    windows = Windows.over(8, 200, 80, 40)
    assert windows.lefts == (0, 40, 80, 120)
    line = windows.merge(np.array([[1.0, 3.0, 2.0, 5.0]]))[0]
    for place, value in ((0, 1.0), (40, 1.0), (60, 2.0), (80, 3.0), (100, 2.5), (160, 5.0), (199, 5.0)):
        assert line[place] == pytest.approx(value, abs=0.06)  # half a pixel off the middle
    assert np.abs(np.diff(line)).max() < 0.1, "no jump"


def test_a_small_map_spans_the_same_picture():
    windows = Windows.over(300, 451, 128, 64)
    values = np.random.default_rng(0).uniform(1, 5, windows.shape)
    large, small = windows.merge(values, (600, 902)), windows.merge(values, (30, 41))
    assert np.abs(large[10::20, 11::22] - small).mean() < 0.03


def test_the_edge_window_is_flush_and_a_small_picture_is_one_window():
    windows = Windows.over(300, 451, 128, 128)
    assert windows.box(*(side - 1 for side in windows.shape)) == Box(323, 172, 451, 300)
    assert len(Windows.over(300, 451, 512, 1)) == 1
    assert list(Windows.over(5, 7, 128, 64).boxes()) == [(0, 0, 7, 5)]
    assert Windows.over(120, 900, 128, 64).window == (120, 128)


@pytest.mark.parametrize(
    ("side", "tile", "window"),
    [(100, 128, 128), (1500, 128, 128), (1600, 128, 256), (3000, 384, 384), (5000, 384, 768)],
)
def test_the_default_window_is_whole_tiles(side, tile, window):
    assert window_for(side, 2 * side, tile) == window_for(2 * side, side, tile) == window
    assert len(MapRequest().windows(side, side * 3 // 2, tile)) < 1000


def test_what_a_caller_may_ask():
    assert chosen(128, None, None, None) == (128, 64)
    assert chosen(128, 1, None, None) == (1, 1)
    assert chosen(128, None, 128, None) == (128, 128)
    assert chosen(128, 100, None, 0) == (100, 100)
    assert chosen(128, 100, None, 99) == (100, 1)
    assert MapRequest("saliency").windows(512, 512, 128).window == (32, 32)


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"window": 0}, "`window`: got 0, expected a whole number of pixels, 1 or more"),
        ({"window": 12.5}, "`window`: got 12.5, expected a whole number"),
        ({"window": True}, "`window`: got True, expected a whole number"),
        ({"window": 32, "stride": 33}, "`stride`: got 33, expected a whole number of pixels, 1 to 32. A larger one"),
        ({"window": 32, "overlap": 32}, "`overlap`: got 32, expected a whole number of pixels, 0 to 31"),
        ({"stride": 8, "overlap": 8}, "`overlap`: got 8, expected either a stride or an overlap, not both"),
        ({"stride": 129}, "`stride`: got 129, expected a whole number of pixels, 1 to 128"),
        ({"stride": 1}, "`stride`: got 1, expected at most 20000 windows, not 128856. A larger stride"),
        ({"method": "gradcam"}, "`method`: got 'gradcam', expected 'windows' or 'saliency'"),
    ],
)
def test_what_makes_no_sense_is_refused(asked, message):
    with pytest.raises(InputError) as error:
        MapRequest(**asked).windows(400, 599, 128)
    assert str(error.value).startswith(message)
