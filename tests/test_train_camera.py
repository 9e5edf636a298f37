"""What a camera does to a pristine picture: little, repeatable, and different from picture to picture."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from train.data.synthetic.camera import photographed
from train.data.synthetic.contents import content
from train.data.synthetic.distortions import distort


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
    # The weakest noise and compression of KADID-10k, which people still call good, are farther from the original.
    noisy, coded = (_distance(pristine, distort(pristine, kind, 1, seed=0)) for kind in ("white_noise", "jpeg"))
    assert max(distances) < noisy
    assert np.median(distances) < coded
    assert len({round(one, 6) for one in distances}) > 30
    assert min(distances) < 1


def test_equal_generators_give_equal_pictures(pristine: Image.Image) -> None:
    for seed in range(5):
        first, second = (photographed(pristine, np.random.default_rng(seed)) for _ in range(2))
        assert first.tobytes() == second.tobytes()


@pytest.mark.parametrize("size", [(1, 1), (3, 200), (640, 427)])
def test_any_size(size: tuple[int, int]) -> None:
    image = Image.effect_noise(size, 60).convert("RGB")
    for seed in range(8):
        assert photographed(image, np.random.default_rng(seed)).size == size
