"""BasicSR: its own registries, metrics, losses and `SRModel`, with the dictionaries that a yml file would give.

basicsr 1.4.2 imports `torchvision.transforms.functional_tensor`, which torchvision moved: the tests put it back, as the
page tells users to.
"""

from __future__ import annotations

import json
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from conftest import GOLDEN, IMAGES
from qsit_metric.errors import InputError

from .needed import fresh, host
from .torchvision_ops import MOVED, put_back

put_back()
host("basicsr")

from basicsr.losses import build_loss
from basicsr.metrics import calculate_metric
from basicsr.models import build_model
from basicsr.utils import img2tensor, tensor2img
from basicsr.utils.registry import LOSS_REGISTRY, METRIC_REGISTRY

from qsit_metric import QSiT
from qsit_metric.integrations import basicsr as ours

MODEL = str(GOLDEN / "tied")
PICTURE = IMAGES / "landscape_600x400.jpg"


@pytest.fixture(scope="module")
def metric() -> QSiT:
    """The model that metrics and losses of these tests share."""
    return ours._metric(MODEL, None, None)


@pytest.fixture
def bgr() -> np.ndarray:
    """A picture as BasicSR reads it: a side of 96 pixels, so that a network's step is quick."""
    return np.asarray(Image.open(PICTURE).convert("RGB"))[100:196, 200:296, ::-1].copy()


def alias(code: str) -> str:
    """Code for a new process in which BasicSR can be imported."""
    return f"import sys, torchvision.transforms._functional_tensor as moved; sys.modules[{MOVED!r}] = moved\n{code}"


# --- registration


def test_importing_registers_and_loads_no_model():
    code = """
import sys, json
import qsit_metric.integrations.basicsr as ours
from basicsr.utils.registry import LOSS_REGISTRY, METRIC_REGISTRY
names = ["calculate_qsit" in METRIC_REGISTRY, "QSiTLoss" in LOSS_REGISTRY, "QSiTPerceptual" in LOSS_REGISTRY]
print(json.dumps([names, ours._metric.cache_info().currsize, "safetensors.torch" in sys.modules]))
"""
    assert json.loads(fresh(alias(code)).splitlines()[-1]) == [[True] * 3, 0, False]


def test_registering_again_changes_nothing():
    before = METRIC_REGISTRY.get("calculate_qsit")
    ours.register()
    assert METRIC_REGISTRY.get("calculate_qsit") is before
    with pytest.raises(AssertionError):  # what BasicSR itself does with a name that is taken
        METRIC_REGISTRY.register(ours.calculate_qsit)


def test_a_name_that_somebody_else_took_is_an_error(monkeypatch):
    monkeypatch.setitem(LOSS_REGISTRY._obj_map, "QSiTLoss", torch.nn.L1Loss)
    with pytest.raises(InputError, match="`QSiTLoss`"):
        ours.register()


def test_a_basicsr_that_cannot_be_imported_is_named_with_the_cause():
    code = """
from qsit_metric.errors import DependencyError
try:
    import qsit_metric.integrations.basicsr
except DependencyError as error:
    print(error)
"""
    assert (
        fresh(code)
        == f"`basicsr` 1.4.2 is installed, but cannot be imported: ModuleNotFoundError: No module named {MOVED!r}"
    )


# --- the metric


def test_the_score_is_that_of_every_other_door(metric, tmp_path):
    """One picture: a file, an array of BasicSR's, and what its network would have put out."""
    rgb = np.asarray(Image.open(PICTURE).convert("RGB"))
    Image.fromarray(rgb).save(tmp_path / "same.png")
    tensor = img2tensor(rgb[..., ::-1].copy().astype(np.float32) / 255, bgr2rgb=True)
    data = {"img": tensor2img([tensor[None]])}
    score = calculate_metric(data, {"type": "calculate_qsit", "model": MODEL})
    assert type(score) is float
    assert score == pytest.approx(float(metric.score(tmp_path / "same.png")), abs=1e-4)
    assert score == pytest.approx(float(metric(tensor[None])), abs=1e-4)


def test_channels_come_as_bgr(metric, bgr):
    bgr[..., 0] = 255  # blue
    assert ours.calculate_qsit(bgr, model=MODEL) == float(metric.score(bgr[..., ::-1].copy()))
    assert ours.calculate_qsit(bgr, model=MODEL) != float(metric.score(bgr))


def test_every_key_of_the_yml_but_type_arrives(metric, bgr):
    opt = {"type": "calculate_qsit", "model": MODEL, "crop_border": 8, "better": "higher"}
    data = {"img": bgr, "img2": np.zeros_like(bgr)}
    assert calculate_metric(data, opt) == float(metric.score(bgr[8:-8, 8:-8, ::-1].copy()))
    assert opt["type"] == "calculate_qsit"


def test_there_need_be_no_ground_truth(metric, bgr):
    assert calculate_metric({"img": bgr}, {"type": "calculate_qsit", "model": MODEL}) == float(
        metric.score(bgr[..., ::-1])
    )


def test_input_order(bgr):
    assert ours.calculate_qsit(bgr.transpose(2, 0, 1), input_order="CHW", model=MODEL) == ours.calculate_qsit(
        bgr, model=MODEL
    )
    with pytest.raises(InputError, match="`input_order`"):
        ours.calculate_qsit(bgr, input_order="WHC", model=MODEL)


@pytest.mark.parametrize("shape", ["HW", "HW1", "1HW"])
def test_grey_is_two_dimensional(metric, bgr, shape):
    grey = bgr[..., 1].copy()
    given = {"HW": grey, "HW1": grey[..., None], "1HW": grey[None]}[shape]
    expected = float(metric.score(Image.fromarray(grey[4:-4, 4:-4])))
    order = "CHW" if shape == "1HW" else "HWC"
    assert ours.calculate_qsit(given, crop_border=4, input_order=order, model=MODEL) == expected


def test_tensor2img_gives_a_grey_picture_so(bgr):
    assert tensor2img([torch.rand(1, 1, 8, 8)]).shape == (8, 8)


@pytest.mark.parametrize(
    ("change", "argument"),
    [
        ({"img": np.zeros((8, 8, 3), np.float32)}, "img"),
        ({"img": np.zeros((8, 8, 4), np.uint8)}, "img"),
        ({"img": np.zeros((3, 8, 8), np.uint8)}, "img"),
        ({"img": torch.zeros(3, 8, 8)}, "img"),
        ({"crop_border": 48}, "crop_border"),
        ({"crop_border": -1}, "crop_border"),
        ({"crop_border": 1.0}, "crop_border"),
        ({"modell": MODEL}, "modell"),
        ({"crop_boarder": 4}, "crop_boarder"),
    ],
)
def test_what_cannot_be_meant_is_refused(bgr, change, argument):
    with pytest.raises(InputError, match=f"`{argument}`"):
        ours.calculate_qsit(**{"img": bgr, "model": MODEL, **change})


def test_one_model_serves_all_calls(bgr, metric):
    before = ours._metric.cache_info().misses
    criterion = build_loss({"type": "QSiTLoss", "model": MODEL})
    ours.calculate_qsit(bgr, model=MODEL)
    assert criterion.metric is metric
    assert ours._metric.cache_info().misses == before


# --- the losses


def test_the_loss_follows_the_hosts_convention(metric, bgr):
    criterion = build_loss({"type": "QSiTLoss", "loss_weight": 0.01, "reduction": "mean", "model": MODEL})
    pred = torch.rand(2, 3, 48, 48, requires_grad=True)
    loss = criterion(pred, torch.rand(2, 3, 48, 48), weight=None, step=3)
    assert loss.item() == pytest.approx(0.01 * float((5 - metric(pred.detach())).mean() / 4), abs=1e-6)
    loss.backward()
    assert pred.grad.isfinite().all()
    assert pred.grad.abs().max() > 0
    assert loss.item() == criterion(pred).item()


def test_reductions(metric):
    pred = torch.rand(2, 3, 48, 48)
    each = build_loss({"type": "QSiTLoss", "reduction": "none", "model": MODEL})(pred)
    total = build_loss({"type": "QSiTLoss", "reduction": "sum", "model": MODEL})(pred)
    assert each.shape == (2,)
    assert total.item() == pytest.approx(each.sum().item(), abs=1e-6)
    with pytest.raises(ValueError, match="`reduction`"):
        build_loss({"type": "QSiTLoss", "reduction": "median", "model": MODEL})


def test_options_of_the_loss_go_through():
    criterion = build_loss({"type": "QSiTLoss", "model": MODEL, "target": 4.0, "objective": "cross_entropy"})
    assert (criterion.target, criterion.objective) == (4.0, "cross_entropy")
    assert criterion(torch.rand(1, 3, 48, 48)).item() > 0


def test_a_weight_for_each_pixel_is_refused():
    criterion = build_loss({"type": "QSiTLoss", "model": MODEL})
    with pytest.raises(InputError, match="`weight`"):
        criterion(torch.rand(1, 3, 48, 48), None, torch.ones(1, 1, 48, 48))


def test_grey_predictions_are_judged_as_grey_pictures():
    criterion = build_loss({"type": "QSiTLoss", "model": MODEL})
    grey = torch.rand(1, 1, 48, 48, requires_grad=True)
    loss = criterion(grey)
    assert loss.item() == pytest.approx(criterion(grey.detach().expand(-1, 3, -1, -1)).item(), abs=1e-6)
    loss.backward()
    assert grey.grad.shape == grey.shape


def test_the_perceptual_form_gives_a_pair():
    options = {"loss_weight": 0.5, "model": MODEL}
    pred = torch.rand(1, 3, 48, 48)
    loss, style = build_loss({"type": "QSiTPerceptual", **options})(pred, pred)
    assert style is None
    assert loss.item() == build_loss({"type": "QSiTLoss", **options})(pred).item()


# --- a training and a validation of its own


class Pictures(torch.utils.data.Dataset):
    """A validation set of two pictures; BasicSR asks it for its name."""

    opt = {"name": "two"}

    def __init__(self, with_gt):
        self.with_gt = with_gt

    def __len__(self):
        return 2

    def __getitem__(self, index):
        generator = torch.Generator().manual_seed(index)
        item = {"lq": torch.rand(3, 24, 24, generator=generator), "lq_path": f"{index}.png"}
        return {**item, "gt": torch.rand(3, 48, 48, generator=generator)} if self.with_gt else item


def options(train, metrics=None):
    """What `parse_options` would make of a yml file, as far as `SRModel` reads it."""
    network = {"type": "MSRResNet", "num_feat": 4, "num_block": 1, "upscale": 2}
    defaults = {"optim_g": {"type": "Adam", "lr": 1e-3}, "scheduler": {"type": "MultiStepLR", "milestones": [9]}}
    return {
        "model_type": "SRModel", "name": "small", "num_gpu": 0, "dist": False, "rank": 0, "is_train": True, "path": {},
        "network_g": network, "train": {**defaults, **train}, "val": {"metrics": metrics, "suffix": None},
    }  # fmt: skip


@pytest.mark.parametrize(
    ("train", "names"),
    [
        ({"pixel_opt": {"type": "QSiTLoss", "loss_weight": 0.01, "model": MODEL}}, {"l_pix"}),
        (
            {
                "pixel_opt": {"type": "L1Loss", "loss_weight": 1.0, "reduction": "mean"},
                "perceptual_opt": {"type": "QSiTPerceptual", "loss_weight": 0.01, "model": MODEL},
            },
            {"l_pix", "l_percep"},
        ),
    ],
    ids=["pixel_opt", "perceptual_opt"],
)
def test_a_step_of_training(train, names):
    torch.manual_seed(0)
    model = build_model(options(train))
    before = [weights.detach().clone() for weights in model.net_g.parameters()]
    model.feed_data({"lq": torch.rand(2, 3, 24, 24), "gt": torch.rand(2, 3, 48, 48)})
    model.optimize_parameters(1)
    assert set(model.log_dict) == names
    changed = [(new - old).abs().max().item() for old, new in zip(before, model.net_g.parameters(), strict=True)]
    assert min(changed) > 0


def test_a_step_lowers_the_loss():
    """On one picture, of which the network may make what the metric likes."""
    torch.manual_seed(0)
    model = build_model(options({"pixel_opt": {"type": "QSiTLoss", "model": MODEL}}))
    model.feed_data({"lq": torch.rand(1, 3, 24, 24), "gt": torch.rand(1, 3, 48, 48)})
    losses = []
    for step in range(3):
        model.optimize_parameters(step)
        losses.append(model.log_dict["l_pix"])
    assert losses[-1] < losses[0]


@pytest.mark.parametrize("with_gt", [True, False])
def test_a_validation(metric, with_gt):
    torch.manual_seed(0)
    metrics = {
        "qsit": {"type": "calculate_qsit", "model": MODEL, "crop_border": 2, "better": "higher"},
        **({"psnr": {"type": "calculate_psnr", "crop_border": 2, "better": "higher"}} if with_gt else {}),
    }
    model = build_model(options({"pixel_opt": {"type": "L1Loss"}}, metrics))
    loader = torch.utils.data.DataLoader(Pictures(with_gt))
    model.validation(loader, 1, None)
    best = model.best_metric_results["two"]
    assert set(best) == set(metrics)
    outputs = [model.net_g(item["lq"]).detach() for item in loader]
    scores = [float(metric.score(tensor2img([out])[2:-2, 2:-2, ::-1].copy())) for out in outputs]
    assert best["qsit"] == {"better": "higher", "val": pytest.approx(np.mean(scores), abs=1e-6), "iter": 1}


def test_the_snippets_of_the_page_are_what_basicsr_reads():
    yaml = import_module("yaml")
    page = (Path(__file__).parents[2] / "docs" / "integrations" / "basicsr.md").read_text(encoding="utf-8")
    snippets = [yaml.safe_load(block.split("```")[0]) for block in page.split("```yaml\n")[1:]]
    assert snippets
    for snippet in snippets:
        for entry in snippet.get("val", {}).get("metrics", {}).values():
            known = METRIC_REGISTRY.get(entry["type"])
            assert known is ours.calculate_qsit
            assert 1 <= calculate_metric({"img": np.zeros((32, 32, 3), np.uint8)}, {**entry, "model": MODEL}) <= 5
        for name, entry in snippet.get("train", {}).items():
            built = build_loss({**entry, **({"model": MODEL} if "QSiT" in entry["type"] else {})})
            result = built(torch.rand(1, 3, 32, 32), torch.rand(1, 3, 32, 32))
            assert isinstance(result, tuple) == (name == "perceptual_opt")
