"""What a camera does to a pristine picture: little, repeatable, and different from picture to picture."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from train.nano.data.contents import content, photographed
from train.nano.data.kadid import distort


@pytest.fixture(scope="module")
def pristine() -> Image.Image:
    return content("chelsea", (448, 300), np.random.default_rng(0)).image


def _distance(a: Image.Image, b: Image.Image) -> float:
    """Root mean square difference, in steps of 1/255, of each channel without its mean and spread."""
    pair = [np.asarray(one, dtype=np.float64).reshape(-1, 3) for one in (a, b)]
    x, y = ((one - one.mean(axis=0)) / one.std(axis=0) for one in pair)
    return float(np.sqrt(np.mean((x - y) ** 2)) * pair[0].std())


def test_pictures_stay_what_they_were(pristine: Image.Image) -> None:
    made = [photographed(pristine, np.random.default_rng(seed)) for seed in range(40)]
    assert {one.size for one in made} == {pristine.size}
    assert {one.mode for one in made} == {"RGB"}
    distances = [_distance(pristine, one) for one in made]
    # The weakest compression and noise of KADID-10k, which people still call good, are farther from most originals; from
    # all of them its second sharpening, which they call poor.
    coded, noisy, sharpened = (
        _distance(pristine, distort(pristine, kind, level, seed=0))
        for kind, level in (("jpeg", 1), ("white_noise", 1), ("high_sharpen", 2))
    )
    assert np.median(distances) < coded
    assert np.percentile(distances, 80) < noisy
    assert max(distances) < sharpened
    assert len({round(one, 6) for one in distances}) > 30
    assert min(distances) < 2


def test_equal_generators_give_equal_pictures(pristine: Image.Image) -> None:
    for seed in range(5):
        first, second = (photographed(pristine, np.random.default_rng(seed)) for _ in range(2))
        assert first.tobytes() == second.tobytes()


@pytest.mark.parametrize("size", [(1, 1), (3, 200), (640, 427)])
def test_any_size(size: tuple[int, int]) -> None:
    image = Image.effect_noise(size, 60).convert("RGB")
    for seed in range(8):
        assert photographed(image, np.random.default_rng(seed)).size == size
