"""torchmetrics, the real package: what it does to a metric, alone, in collections, copies, pickles and two processes."""

from __future__ import annotations

import copy
import itertools
import json
import os
import pickle
import subprocess
import sys

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from conftest import GOLDEN, IMAGES
from qsit_metric import QSiT
from stand_in import Brightness, pictures

from .needed import HERE, host

torchmetrics = host("torchmetrics")
from qsit_metric.integrations.torchmetrics import QSiTScore, qsit_score

TIED = str(GOLDEN / "tied")


class Darkness(Brightness):
    """The opposite opinion: 6 less what the stand-in says."""

    def __call__(self, x):
        return 6 - super().__call__(x)


DARK, GREY, LIGHT = 0.0, 0.5, 1.0  # 1, 3 and 5 for the stand-in


@pytest.fixture
def x():
    picture = np.array(Image.open(IMAGES / "landscape_451x300.png").convert("RGB").resize((120, 90)))
    return torch.from_numpy(picture).permute(2, 0, 1)[None].float() / 255


def test_the_score_is_ours(tied, x):
    want = tied(x).item()
    assert QSiTScore(TIED)(x).item() == pytest.approx(want, abs=1e-4)
    assert qsit_score(x, tied).item() == pytest.approx(want, abs=1e-4)


def test_what_the_class_says():
    assert (QSiTScore.higher_is_better, QSiTScore.is_differentiable, QSiTScore.full_state_update) == (
        True,
        False,
        False,
    )
    assert (QSiTScore.plot_lower_bound, QSiTScore.plot_upper_bound) == QSiT.score_range
    with pytest.raises(RuntimeError, match="Can't change const `higher_is_better`"):
        QSiTScore(Brightness()).higher_is_better = False


@pytest.mark.parametrize(
    ("reduction", "shape", "want"), [("mean", (), 3.0), ("sum", (), 12.0), ("none", (4,), [1.0, 3.0, 3.0, 5.0])]
)
def test_reductions_over_uneven_batches(reduction, shape, want):
    metric = QSiTScore(Brightness(), reduction=reduction)
    for levels in ([DARK, GREY, GREY], [LIGHT]):
        metric.update(pictures(*levels))
    got = metric.compute()
    assert (got.shape, got.dtype, got.tolist()) == (shape, torch.float32, want)
    metric.reset()
    metric.update(pictures(LIGHT))
    assert metric.compute().reshape(-1).tolist() == [5.0]


def test_one_picture_keeps_its_dimension():
    """torchmetrics itself squeezes every result of one element."""
    metric = QSiTScore(Brightness(), reduction="none")
    assert metric(pictures(GREY)).shape == metric.compute().shape == metric.compute().shape == (1,)
    assert pickle.loads(pickle.dumps(metric)).compute().shape == metric.clone().compute().shape == (1,)
    assert torchmetrics.MetricCollection([metric]).compute()["QSiTScore"].shape == (1,)
    assert QSiTScore(Brightness())(pictures(GREY)).shape == ()
    assert qsit_score(pictures(GREY), Brightness(), "none").shape == (1,)


def test_one_pass_of_the_model_for_each_forward():
    scorer = Brightness()
    metric = QSiTScore(scorer)
    assert metric(pictures(DARK, GREY)).item() == 2.0  # of this batch
    assert metric(pictures(LIGHT)).item() == 5.0
    assert metric.compute().item() == 3.0
    assert scorer.calls == 2


@pytest.mark.parametrize("reduction", ["mean", "none"])
def test_states_hold_no_graph(reduction):
    metric = QSiTScore(Brightness(), reduction)
    value = metric(pictures(GREY).requires_grad_())  # with gradients on, unlike `update`
    assert not value.requires_grad
    assert metric.clone().compute().item() == 3.0


def test_the_twin_has_gradients_and_loads_once(loads):
    leaf = pictures(GREY, LIGHT).requires_grad_()
    qsit_score(leaf, TIED).backward()
    assert leaf.grad.ne(0).all()
    assert qsit_score(pictures(DARK), TIED, "sum").item() == 1.0
    assert loads == ["cpu"]


def test_one_model_for_all_copies(loads):
    metric = torchmetrics.MetricCollection({"mean": QSiTScore(TIED), "each": QSiTScore(TIED, "none")})
    train, val = metric.clone(prefix="train/"), metric.clone(prefix="val/")
    for each in (metric, train, val, copy.deepcopy(train), pickle.loads(pickle.dumps(val))):
        each.update(pictures(DARK, LIGHT))
        assert [value.mean().item() for value in each.compute().values()] == [3.0, 3.0]
    assert len(loads) == 4  # two metrics, and two again from the pickle


@pytest.mark.parametrize(("reduction", "value"), [("mean", [float("nan")]), ("sum", [0.0]), ("none", [])])
def test_a_metric_that_saw_nothing_warns_as_all_of_them_do(reduction, value):
    with pytest.warns(UserWarning, match="QSiTScore was called before the ``update``"):
        found = QSiTScore(Brightness(), reduction).compute()
    assert found.reshape(-1).tolist() == pytest.approx(value, nan_ok=True)


@pytest.mark.parametrize("first", [(), (GREY,)])
def test_two_models_stay_apart_in_a_collection(first):
    """torchmetrics merges metrics whose states are equal after the first batch, here of nothing or of a grey picture."""
    metric = torchmetrics.MetricCollection({"one": QSiTScore(Brightness()), "other": QSiTScore(Darkness())})
    metric.update(pictures(*first) if first else pictures(GREY)[:0])
    metric.update(pictures(DARK))
    metric.update(pictures(DARK))
    grey = [3.0] * len(first)
    want = {"one": np.mean([*grey, 1, 1]), "other": np.mean([*grey, 5, 5])}
    assert {name: value.item() for name, value in metric.compute().items()} == pytest.approx(want)


def test_reductions_of_one_model_are_right_in_a_collection():
    scorer = Brightness()
    metric = torchmetrics.MetricCollection({"mean": QSiTScore(scorer), "sum": QSiTScore(scorer, "sum")})
    for _ in range(2):
        metric.update(pictures(DARK, LIGHT))
    assert {name: value.item() for name, value in metric.compute().items()} == {"mean": 3.0, "sum": 12.0}


def test_no_weights_in_pickles_and_state_dicts(tied):
    metric = QSiTScore(TIED)
    metric.persistent(True)
    parent = nn.ModuleDict({"metric": metric}).train()
    assert set(parent.state_dict()) == {"metric.sum_scores", "metric.total"}
    assert list(parent.parameters()) == []
    assert len(pickle.dumps(metric)) < 4000
    assert set(QSiTScore(tied).state_dict()) == set()
    assert not any(part.training for part in tied.backend.model.modules())


def test_merging():
    one, two = QSiTScore(Brightness()), QSiTScore(Brightness())
    one.update(pictures(DARK, GREY))
    two.update(pictures(LIGHT))
    one.merge_state(two)
    assert one.compute().item() == 3.0
    each, more = QSiTScore(Brightness(), "none"), QSiTScore(Brightness(), "none")
    each.update(pictures(DARK, GREY))
    more.update(pictures(LIGHT))
    each.merge_state(more)
    assert sorted(each.compute().tolist()) == [1.0, 3.0, 5.0]


NARROW = {
    "set_dtype": lambda metric: metric.set_dtype(torch.float16),
    "set_dtype by name": lambda metric: metric.set_dtype("torch.BFloat16Tensor"),
    "half": lambda metric: metric.half(),
    "to": lambda metric: nn.ModuleList([metric]).to(torch.float16)[0],
    "parent.bfloat16": lambda metric: nn.ModuleList([metric]).bfloat16()[0],
}


@pytest.mark.parametrize("narrow", NARROW.values(), ids=NARROW)
def test_half_precision_does_no_harm(narrow):
    metric = QSiTScore(Brightness())
    metric.update(pictures(*[0.123] * 3))
    metric = narrow(metric)
    for _ in range(30):
        metric.update(pictures(*[0.123] * 100))  # 3003 pictures: in half precision the count would stop at 2048
    assert metric.compute().dtype == torch.float32
    assert metric.compute().item() == pytest.approx(1.492, abs=1e-4)
    metric.reset()
    assert (metric.sum_scores.dtype, metric.total.dtype) == (torch.float32, torch.int64)


def test_double_precision_can_be_had():
    metric = QSiTScore(Brightness()).set_dtype(torch.float64)
    metric.update(pictures(GREY))
    assert (metric.compute().dtype, metric.compute().item()) == (torch.float64, 3.0)


def test_half_precision_pictures():
    assert QSiTScore(Brightness(), "none")(pictures(GREY, LIGHT).half()).tolist() == [3.0, 5.0]


@pytest.mark.parametrize(
    ("img", "words"),
    [
        (torch.rand(3, 8, 8), r"shape \(3, 8, 8\)"),
        (torch.rand(1, 1, 8, 8), r"shape \(1, 1, 8, 8\)"),
        (np.zeros((1, 3, 8, 8)), "ndarray"),
        (torch.rand(1, 3, 8, 8) + 1, r"something else: .*expected values in \[0, 1\]"),
        (torch.full((1, 3, 8, 8), float("nan")), "NaN"),
    ],
)
def test_other_images_are_refused(tied, img, words):
    for call in (QSiTScore(tied), QSiTScore(tied).update, lambda img: qsit_score(img, tied)):
        with pytest.raises(
            ValueError, match=r"^Expected argument `img` to be a tensor of shape \(N, 3, H, W\).*" + words
        ):
            call(img)


def test_arguments_are_checked_before_a_model_is_looked_for():
    for call in (QSiTScore, lambda *arguments: qsit_score(pictures(GREY), *arguments)):
        with pytest.raises(ValueError, match=r"^Argument `reduction` must be one of .*'none'\), but got 'avg'"):
            call("no-such-model", "avg")
        with pytest.raises(ValueError, match="`model`: got 'no-such-model'"):
            call("no-such-model")
    with pytest.raises(ValueError, match="Unexpected keyword arguments: `normalize`"):
        QSiTScore("no-such-model", normalize=True)


def test_pictures_on_another_device():
    with pytest.raises(RuntimeError, match="Encountered different devices in metric calculation"):
        QSiTScore(Brightness()).update(pictures(GREY).to("meta"))


def test_nothing_was_seen():
    metric = QSiTScore(Brightness())
    with pytest.warns(UserWarning, match="before the ``update`` method"):
        assert metric.compute().isnan()
    metric.update(torch.zeros(0, 3, 8, 8))
    assert metric.total == 0


def test_lists_on_the_cpu_and_other_options():
    metric = QSiTScore(Brightness(), "none", compute_on_cpu=True, sync_on_compute=False)
    metric.update(pictures(GREY))
    assert metric.compute().tolist() == [3.0]


def test_plot():
    import matplotlib

    matplotlib.use("Agg")
    metric = QSiTScore(Brightness())
    values = [metric(pictures(GREY)), metric(pictures(LIGHT))]
    figure, axes = metric.plot(values)
    assert isinstance(figure, matplotlib.figure.Figure)
    low, high = axes.get_ylim()
    assert low <= 1
    assert high >= 5


def test_two_processes(tmp_path):
    from .two_processes import CASES

    env = {**os.environ, "PYTHONPATH": os.pathsep.join([str(HERE.parent), os.environ.get("PYTHONPATH", "")])}
    command = [sys.executable, "-W", "ignore", "-m", "hosts.two_processes"]
    ends = [subprocess.Popen([*command, str(rank), str(tmp_path / "meeting")], env=env, text=True,
                             stdout=subprocess.PIPE, stderr=subprocess.PIPE) for rank in (0, 1)]  # fmt: skip
    outputs = [end.communicate(timeout=300) for end in ends]
    assert [end.returncode for end in ends] == [0, 0], outputs
    first, second = (json.loads(out.splitlines()[-1]) for out, _ in outputs)
    assert first == second
    for name, batches in CASES.items():
        every = [1 + 4 * level for level in itertools.chain.from_iterable(itertools.chain.from_iterable(batches))]
        assert first[f"{name}, mean"] == pytest.approx(np.mean(every), abs=1e-5)
        assert first[f"{name}, sum"] == pytest.approx(np.sum(every), abs=1e-5)
        assert first[f"{name}, none"] == pytest.approx(every, abs=1e-5)


def test_feature_sharing_refuses_it():
    """Said on the page: it has no network that others could share; one `QSiT` for several metrics does the same."""
    from torchmetrics.wrappers import FeatureShare

    with pytest.raises(AttributeError, match="feature_network"):
        FeatureShare([QSiTScore(Brightness())])
