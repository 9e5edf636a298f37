"""examples/reward.py: the policy moves towards the reward, and the figure and the rows come out."""

from __future__ import annotations

import dataclasses
import sys

import numpy as np
import pytest
import torch
from PIL import Image

from brightness import Brightness
from conftest import HERE
from qsit_metric import QSiT
from qsit_metric.rewards import Reward

sys.path.insert(0, str(HERE.parent / "examples"))
import reward as example

sys.path.pop(0)


class Calm(Brightness):
    """The opinion of the tests' stand-in about how little neighbours differ: less noise and more blur are better."""

    def prepare(self, picture):
        prepared = super().prepare(picture)
        x = np.asarray(picture.pixels, dtype=np.float32)
        rough = np.abs(x[:, 1:] - x[:, :-1]).mean() / 255
        return dataclasses.replace(prepared, data=torch.tensor(0.5 - rough))


def test_the_policy_follows_the_reward(tmp_path):
    history = example.run(Reward(QSiT(Calm())), steps=12)
    assert history[-1][0] > history[0][0]
    pytest.importorskip("matplotlib")
    example.draw(history, tmp_path / "run.png")
    assert Image.open(tmp_path / "run.png").width > 500
