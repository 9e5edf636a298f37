"""PyTorch Lightning: the module of the documentation's page trains, logs the score, and keeps the model out of its file."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader

from conftest import GOLDEN
from stand_in import Brightness, pictures

from .needed import host

host("pytorch_lightning")

from pytorch_lightning import LightningModule, Trainer

from qsit_metric.integrations.torchmetrics import QSiTScore

TIED = str(GOLDEN / "tied")


class Restorer(LightningModule):
    def __init__(self):
        super().__init__()
        self.net = nn.Conv2d(3, 3, 1)
        self.quality = QSiTScore(TIED)

    def training_step(self, batch, index):
        return (self.net(batch["degraded"]) - batch["degraded"]).abs().mean()

    def validation_step(self, batch, index):
        self.quality.update(self.net(batch["degraded"]).clamp(0, 1))
        self.log("quality", self.quality, batch_size=len(batch["degraded"]))

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), 1e-3)


def test_the_pages_module_trains_and_logs(loads, tmp_path):
    batches = DataLoader([{"degraded": pictures(0.25, 0.5)}, {"degraded": pictures(0.75)}], batch_size=None)
    quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False}
    trainer = Trainer(max_epochs=2, accelerator="cpu", default_root_dir=tmp_path, enable_checkpointing=False, **quiet)
    module = Restorer()
    trainer.fit(module, batches, batches)
    with torch.no_grad():
        want = torch.cat([Brightness()(module.net(batch["degraded"]).clamp(0, 1)) for batch in batches]).mean()
    assert trainer.callback_metrics["quality"].item() == pytest.approx(want.item(), abs=1e-5)
    assert loads == ["cpu"]  # once, whatever the epochs
    trainer.save_checkpoint(tmp_path / "a.ckpt")
    saved = torch.load(tmp_path / "a.ckpt", weights_only=False)["state_dict"]
    assert set(saved) == {"net.weight", "net.bias"}
