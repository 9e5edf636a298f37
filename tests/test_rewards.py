"""Rewards: the score on three scales, for every form in which training code brings its pictures."""

from __future__ import annotations

import dataclasses
import math
import pickle
import sys
import types
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from brightness import Brightness
from qsit_metric import QSiT
from qsit_metric.errors import InputError, QSiTError
from qsit_metric.rewards import Reward, ddpo, flow_grpo, trl

LANDSCAPE = Path(__file__).parent / "golden" / "images" / "landscape_451x300.png"


@pytest.fixture(scope="module")
def metric() -> QSiT:
    return QSiT(Brightness())


@pytest.fixture(scope="module")
def batch() -> torch.Tensor:
    """(3, 3, 8, 12) in 0..1, of rising brightness and not even."""
    ramp = torch.linspace(0, 0.5, 8 * 12).reshape(8, 12).expand(3, 3, 8, 12)
    return ramp + torch.tensor([0.0, 0.2, 0.45]).reshape(3, 1, 1, 1)


def test_scales(metric: QSiT) -> None:
    white = Image.new("RGB", (8, 8), "white")
    score = metric.score(white)
    values = [Reward(metric, scale=scale)([white])[0] for scale in ("mos", "unit", "fifth")]
    assert values == [float(score), score.unit, float(score) / 5]
    assert Reward(metric)([white]) == [score.unit]


def test_every_form_of_a_batch_gives_the_rewards_of_the_saved_pictures(metric: QSiT, batch: torch.Tensor) -> None:
    bytes_ = (batch * 255).round().to(torch.uint8)
    saved = [Image.fromarray(one.permute(1, 2, 0).numpy()) for one in bytes_]
    want = Reward(metric)(saved)
    assert want == sorted(want)
    forms = {
        "floats": batch,
        "half": bytes_.div(255).to(torch.float32),
        "with a graph": batch.clone().requires_grad_(),
        "bytes": bytes_,
        "channels last": bytes_.permute(0, 2, 3, 1).numpy(),
        "floats, channels last": batch.permute(0, 2, 3, 1).numpy(),
        "list of tensors": list(batch),
        "tuple": tuple(bytes_),
        "arrays": [np.asarray(one) for one in saved],
    }
    for name, form in forms.items():
        assert Reward(metric)(form) == want, name
    assert Reward(metric)([]) == []


def test_what_a_generator_overshoots_is_cut_off(metric: QSiT, batch: torch.Tensor) -> None:
    wild = torch.cat([batch * 1.4 - 0.1, -torch.ones(1, 3, 8, 12), 2 * torch.ones(1, 3, 8, 12)])
    assert Reward(metric)(wild) == Reward(metric)(wild.clamp(0, 1))


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (torch.zeros(3, 8, 8), r"got <shape \(3, 8, 8\)>"),
        (torch.zeros(2, 4, 8, 8), r"got <shape \(2, 4, 8, 8\)>"),
        (torch.full((1, 3, 8, 8), math.nan), r"NaN or infinite.*diverged"),
        (Image.new("RGB", (8, 8)), r"expected many images"),
    ],
)
def test_what_is_no_batch_is_refused(metric: QSiT, images: object, message: str) -> None:
    with pytest.raises(InputError, match=message):
        Reward(metric)(images)


def test_arguments(metric: QSiT) -> None:
    with pytest.raises(InputError, match=r"`scale`: got 'percent', expected one of mos, unit, fifth"):
        Reward(metric, scale="percent")
    with pytest.raises(InputError, match=r"`options`.*none with a QSiT"):
        Reward(metric, device="cpu")
    with pytest.raises(QSiTError, match="q-sit-nano"):
        Reward("q-sit-nanoo")([Image.new("RGB", (8, 8))])


def test_a_name_travels_as_a_name() -> None:
    reward = Reward("q-sit-nano", device="cpu")
    before = reward([LANDSCAPE])
    sent = pickle.dumps(reward)
    assert len(sent) < 1000
    assert pickle.loads(sent)([LANDSCAPE]) == before


def test_flow_grpo_takes_it_as_its_own_table_does(metric: QSiT, batch: torch.Tensor) -> None:
    """Its `multi_score` gives a factory the device if the factory has a variable of that name, else nothing."""
    factory = flow_grpo(metric)
    fn = factory("cpu") if "device" in factory.__code__.co_varnames else factory()
    scores, details = fn(batch, ["a", "b", "c"], [{}] * 3)
    assert (scores, details) == (Reward(metric)(batch), {})
    assert [0.5 * score for score in scores]  # weighted one by one there
    assert flow_grpo("q-sit-nano", scale="mos")("cpu")(batch[:1], ["a"], [{}])[0][0] >= 1


def test_ddpo(metric: QSiT, batch: torch.Tensor) -> None:
    rewards, details = ddpo(metric)()(batch, ("a", "b", "c"), ({}, {}, {}))
    assert (rewards.dtype, details) == (np.float32, {})
    assert rewards.tolist() == pytest.approx(Reward(metric)(batch))


def test_trl(metric: QSiT) -> None:
    """Called by name with every column of the data set and more; None is a row that it leaves out."""
    reward, picture = trl(metric), Image.new("RGB", (8, 8), "white")
    rows = {"prompts": ["p"] * 3, "completions": ["c"] * 3, "completion_ids": [[1]] * 3}
    (white,) = Reward(metric)([picture])
    more = {"trainer_state": None, "log_extra": print, "log_metric": print}
    assert reward(**rows, image=[picture, None, picture], **more) == [white, None, white]
    assert reward.__name__ == "qsit"  # how its logs call it
    assert trl(metric, column="shot")(**rows, shot=[None] * 3, **more) == [None] * 3
    with pytest.raises(
        InputError, match=r"`column`: got 'image', expected a column of the data set: completion_ids, shot"
    ):
        reward(**rows, shot=[picture] * 3)


def test_flow_factory(monkeypatch: pytest.MonkeyPatch, batch: torch.Tensor) -> None:
    """Against its base class as it was read; the package itself is on no index."""

    @dataclasses.dataclass
    class RewardModelOutput:
        rewards: torch.Tensor

    class PointwiseRewardModel:
        def __init__(self, config: object, accelerator: object) -> None:
            self.config, self.accelerator = config, accelerator
            self.device, self.dtype = torch.device("cpu"), torch.float32

    host = types.ModuleType("flow_factory.rewards")
    host.PointwiseRewardModel, host.RewardModelOutput = PointwiseRewardModel, RewardModelOutput
    monkeypatch.setitem(sys.modules, "flow_factory", types.ModuleType("flow_factory"))
    monkeypatch.setitem(sys.modules, "flow_factory.rewards", host)
    monkeypatch.delitem(sys.modules, "qsit_metric.integrations.flow_factory", raising=False)
    from qsit_metric.integrations.flow_factory import QSiTReward

    model = QSiTReward(types.SimpleNamespace(model="q-sit-nano", scale="mos"), None)
    assert model.required_fields == ("prompt", "image")
    pictures = [Image.fromarray((one.permute(1, 2, 0) * 255).byte().numpy()) for one in batch[:2]]
    rewards = model(["a", "b"], image=pictures, video=None, condition_images=None, condition_videos=None).rewards
    assert (rewards.shape, rewards.dtype) == ((2,), torch.float32)
    with pytest.raises(InputError, match="Videos have no"):
        model(["a"], video=[[pictures[0]]])
    monkeypatch.delitem(sys.modules, "qsit_metric.integrations.flow_factory")
