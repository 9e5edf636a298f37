"""Q-SiT as a reward model of Flow-Factory.

In its configuration:

    rewards:
      - name: "quality"
        reward_model: "qsit_metric.integrations.flow_factory.QSiTReward"
        model: "q-sit-mini"
        scale: "unit"
        batch_size: 16

Host: github.com/X-GenGroup/Flow-Factory, `guidance/rewards.md` at 32860ab. Importing this module imports flow_factory.
"""

from __future__ import annotations

from typing import Any

import torch
from flow_factory.rewards import PointwiseRewardModel, RewardModelOutput

from ..errors import InputError
from ..rewards import Reward

__all__ = ["QSiTReward"]


class QSiTReward(PointwiseRewardModel):  # type: ignore[misc]
    """The quality of each picture, (N,) float32 on the reward's device; prompts are not read.

    Args:
        config: Flow-Factory's reward arguments; `model` and `scale` in them are those of `qsit_metric.rewards.Reward`.
        accelerator: The run's.

    Raises:
        QSiTError: The model or the scale, as for `Reward`.
    """

    required_fields = ("prompt", "image")
    use_tensor_inputs = False

    def __init__(self, config: Any, accelerator: Any) -> None:
        super().__init__(config, accelerator)
        given = {name: getattr(config, name) for name in ("model", "scale") if getattr(config, name, None) is not None}
        self._reward = Reward(**given, device=self.device, dtype=self.dtype)

    def __call__(self, prompt: list[str], image: list[Any] | None = None, **_: Any) -> Any:
        """Score the pictures of a batch.

        Raises:
            InputError: There are none: videos are not scored.
        """
        if image is None:
            raise InputError.about("image", None, "a list of pictures", "Videos have no Q-SiT score.")
        return RewardModelOutput(rewards=torch.tensor(self._reward(image), device=self.device))
