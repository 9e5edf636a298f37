"""The tower's first stage: it learns, goes on where it was cut, refuses another plan and a loss that is not finite."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from train.errors import RunError
from train.nano.scratch import Scratch, _model, initialise
from train.nano.tokenizer import SPECIALS
from train.nano.tower import Lessons, Tiles, _error, _judge, _rate, _turned, teach

SPEC = Scratch(tile=16, vision_width=24, vision_layers=1, vision_heads=2, vision_intermediate=32, text_layers=1)


class Stripes:
    """Kind 0 is flat, kind 1 striped; the value is the brightness."""

    kinds = 2
    values = 2

    def __init__(self) -> None:
        self.spoiled_at = -1
        self.drawn = 0

    def draw(self, count: int, rng: np.random.Generator) -> Tiles:
        kinds, light = torch.from_numpy(rng.integers(0, 2, count)), torch.from_numpy(rng.uniform(0, 1, count)).float()
        waves = torch.tensor([0.0, 60.0] * 8).expand(count, 3, 16, 16) * kinds.view(-1, 1, 1, 1)
        pixels = (light.view(-1, 1, 1, 1) * 190 + waves).to(torch.uint8)
        values = torch.stack([light, torch.full((count,), torch.nan)], dim=1)
        if self.drawn == self.spoiled_at:
            values[0, 0] = 1e30  # its square is beyond float32
        self.drawn += 1
        return Tiles(pixels, kinds, values, torch.arange(count) // 2)

    def held_out(self) -> Tiles:
        found = self.draw(64, np.random.default_rng(99))
        self.drawn -= 1
        # Two tiles of a picture are alike in what is told of them.
        even = torch.arange(64) // 2 * 2
        return Tiles(found.pixels[even], found.kinds[even], found.values[even], found.pictures)


@pytest.fixture
def model() -> Any:
    made = _model(SPEC, {token: place for place, token in enumerate(SPECIALS)})
    initialise(made, SPEC, 0)
    return made


def weights(model: Any) -> dict[str, torch.Tensor]:
    return {name: weight.clone() for name, weight in model.named_parameters()}


def test_a_tower_learns_and_nothing_else_does(model: Any) -> None:
    before, said = weights(model), list[str]()
    seen = teach(model, Stripes(), Lessons(120, lr=5e-3, check_every=40), say=said.append)
    assert seen.accuracy > 0.9
    assert seen.srcc > 0.8
    changed = {name.split(".")[1] for name, weight in model.named_parameters() if not torch.equal(weight, before[name])}
    assert changed == {"vision_tower"}
    assert [line.split(":")[0] for line in said] == [f"tower, step {step} of 120" for step in (40, 80, 120)]


def test_a_tower_that_was_cut_ends_with_the_same_weights(model: Any, tmp_path: Path) -> None:
    lessons, start = Lessons(12, batch=8, check_every=4), weights(model)
    teach(model, Stripes(), lessons)
    whole = weights(model)

    class Cut(Stripes):
        def draw(self, count: int, rng: np.random.Generator) -> Tiles:
            if self.drawn == 10:
                raise KeyboardInterrupt
            return super().draw(count, rng)

    model.load_state_dict(start, strict=False)
    state = tmp_path / "tower.state"
    with pytest.raises(KeyboardInterrupt):
        teach(model, Cut(), lessons, state)
    model.load_state_dict(start, strict=False)  # another process begins with the untrained weights
    teach(model, Stripes(), lessons, state)
    assert all(torch.equal(weight, whole[name]) for name, weight in model.named_parameters())
    with pytest.raises(
        RunError, match=r"`state`: .*made as now \(lessons Lessons\(steps=13.*has lessons Lessons\(steps=12.*Remove it"
    ):
        teach(model, Stripes(), replace(lessons, steps=13), state)


def test_a_loss_that_is_not_finite_is_said_and_leaves_the_weights(model: Any) -> None:
    source = Stripes()
    source.spoiled_at = 0
    before = weights(model)
    with pytest.raises(RunError, match="`loss of the tower at step 1`: got inf, expected a finite number"):
        teach(model, source, Lessons(3))
    assert all(torch.equal(weight, before[name]) for name, weight in model.named_parameters())


def test_values_that_are_nan_are_not_told() -> None:
    found, told = torch.tensor([[0.5, 9.0], [0.0, 1.0]]), torch.tensor([[0.0, torch.nan], [0.0, 0.0]])
    assert float(_error(found, told)) == pytest.approx((0.25 + 1.0) / 2)


def test_pictures_are_judged_by_the_mean_over_their_tiles() -> None:
    known = torch.tensor([[0.9], [0.9], [0.1], [0.1], [0.5]])
    tiles = Tiles(torch.zeros(5, 3, 1, 1), torch.tensor([1, 1, 0, 0, 0]), known, torch.tensor([5, 5, 2, 2, 3]))
    # The first tile alone is wrong about its picture; with the second it is right.
    found = torch.tensor([[1.0, 0.0, 0.0], [0.0, 3.0, 1.6], [2.0, 0.0, 0.2], [2.0, 0.0, 0.2], [1.0, 0.0, 0.4]])
    seen = _judge(found, tiles, kinds=2)
    assert (seen.accuracy, seen.srcc) == (1.0, 1.0)
    assert _judge(-found, tiles, kinds=2).srcc == -1.0


def test_tiles_are_turned_without_being_changed() -> None:
    pixels = torch.arange(16 * 3 * 4 * 4).reshape(16, 3, 4, 4)
    turned = [_turned(pixels, np.random.default_rng(seed)) for seed in range(60)]
    assert (
        len({tuple((one - one[:, :1, :1, :1]).flatten().tolist()) for whole in turned for one in whole[:, None]}) == 8
    )
    assert all(torch.equal(one.flatten(1).sort().values, pixels.flatten(1)) for one in turned)


def test_the_rate_rises_and_falls_to_nothing() -> None:
    rates = [_rate(step, Lessons(200, lr=1.0)) for step in range(201)]
    assert rates[0] == pytest.approx(1 / 30)
    assert max(rates) == pytest.approx(rates[29])
    assert rates[200] == pytest.approx(0)
