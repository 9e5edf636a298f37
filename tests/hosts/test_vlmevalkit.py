"""VLMEvalKit: against a stand-in, as the package index has no release of it.

`vlmeval` is rebuilt here in miniature from the public sources: the names that an integration touches, the
checks that its `BaseModel.generate` makes, and how its `run.py` finds a model. With a real `vlmeval` installed (a clone),
the tests of registration run against that, too.
"""

from __future__ import annotations

import copy
import json
import sys
from functools import partial
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType

import pytest
from PIL import Image

from conftest import GOLDEN, IMAGES
from qsit_metric import QSiT, list_models
from qsit_metric.errors import DependencyError, InputError
from qsit_metric.integrations import vlmevalkit as ours

from .torchvision_ops import declare

declare()  # other hosts bring a torchvision, which transformers imports where it is installed

MODEL = str(GOLDEN / "tied")
PICTURE = str(IMAGES / "landscape_600x400.jpg")
TEXT = "Question: Is it sharp?\nOptions:\nA. Yes\nB. No\nPlease select the correct answer from the options above. \n"
PAGE = Path(__file__).parents[2] / "docs" / "integrations" / "vlmevalkit.md"


class BaseModel:
    """What `vlmeval.vlm.base.BaseModel` asks of a model and does for it."""

    INTERLEAVE = False
    allowed_types = ("text", "image", "video")

    def __init__(self):
        self.dump_image_func = None

    def use_custom_prompt(self, dataset):
        return False

    def build_prompt(self, line, dataset):
        raise NotImplementedError

    def set_dump_image(self, dump_image_func):
        self.dump_image_func = dump_image_func

    def generate_inner(self, message, dataset=None):
        raise NotImplementedError

    def generate(self, message, dataset=None):
        parts = [{"type": "text", "value": message}] if isinstance(message, str) else message
        assert all({"type", "value"} <= set(part) for part in parts)
        assert all(part["type"] in self.allowed_types for part in parts)
        assert all(Path(part["value"]).is_file() for part in parts if part["type"] == "image")
        return self.generate_inner(parts, dataset)


@pytest.fixture
def vlmeval(monkeypatch):
    """The modules of the host, with one model of its own."""
    names = ("vlmeval", "vlmeval.api", "vlmeval.vlm", "vlmeval.vlm.base", "vlmeval.config")
    modules = {name: ModuleType(name) for name in names}
    for name, module in modules.items():
        monkeypatch.setitem(sys.modules, name, module)
        if "." in name:
            setattr(modules[name.rpartition(".")[0]], name.rpartition(".")[2], module)
    modules["vlmeval.vlm.base"].BaseModel = BaseModel
    modules["vlmeval.config"].supported_VLM = {"theirs": partial(BaseModel)}
    ours._model_class.cache_clear()
    yield modules["vlmeval"]
    ours._model_class.cache_clear()


def from_config(host, config, name):
    """How `run.py --config` builds a model."""
    entry = copy.deepcopy(config[name])
    if "class" not in entry:
        return host.config.supported_VLM[name](**entry)
    kind = entry.pop("class")
    for place in (host.api, host.vlm):
        if hasattr(place, kind):
            return getattr(place, kind)(**entry)
    raise ValueError(kind)


def test_every_model_of_the_catalog_is_known_and_none_is_loaded(vlmeval, monkeypatch):
    monkeypatch.setattr(ours.metrics, "QSiT", lambda *_, **__: pytest.fail("loaded"))
    kind = ours.register()
    assert set(vlmeval.config.supported_VLM) == {"theirs", *list_models("q-sit*")}
    assert vlmeval.vlm.QSiT is kind
    assert issubclass(kind, BaseModel)
    for name in list_models("q-sit*"):  # `run.py` looks at the keywords of every entry
        assert vlmeval.config.supported_VLM[name].keywords == {"model": name}


def test_registering_again_changes_nothing(vlmeval):
    assert ours.register() is ours.register()
    assert len(vlmeval.config.supported_VLM) == 1 + len(list_models("q-sit*"))


def test_by_name(vlmeval, monkeypatch):
    ours.register()
    asked = []
    monkeypatch.setattr(ours.metrics, "QSiT", lambda *names, **options: asked.append((names, options)))
    vlmeval.config.supported_VLM["q-sit"]()
    assert asked == [(("q-sit",), {})]


def test_by_class_in_a_config_file(vlmeval):
    kind = ours.register()
    config = {"mine": {"class": "QSiT", "model": MODEL, "device": "cpu", "dtype": "bfloat16", "max_new_tokens": 3}}
    model = from_config(vlmeval, config, "mine")
    assert isinstance(model, kind)
    assert (model.metric.info["dtype"], model.max_new_tokens) == ("bfloat16", 3)


@pytest.mark.skipif(find_spec("vlmeval") is None, reason="vlmeval is on no package index: the stand-in above is tested")
def test_with_the_real_package():
    kind = ours.register()
    assert import_module("vlmeval.vlm").QSiT is kind
    assert issubclass(kind, import_module("vlmeval.vlm.base").BaseModel)
    assert set(list_models("q-sit*")) <= set(import_module("vlmeval.config").supported_VLM)


@pytest.mark.skipif(find_spec("vlmeval") is not None, reason="vlmeval is installed")
def test_without_the_package_the_error_says_where_it_is():
    ours._model_class.cache_clear()
    with pytest.raises(DependencyError, match="on no package index. Clone github.com/open-compass/VLMEvalKit"):
        ours.register()


@pytest.fixture
def model(vlmeval):
    return ours.register()(MODEL, max_new_tokens=4)


def message(*pictures, text=TEXT):
    return [*({"type": "image", "value": picture} for picture in pictures), {"type": "text", "value": text}]


def test_an_answer_is_that_of_ask(model):
    model.set_dump_image(None)
    answer = model.generate(message(PICTURE), dataset="Q-Bench1_VAL")
    assert type(answer) is str
    assert answer == str(QSiT(MODEL).ask(PICTURE, TEXT, max_new_tokens=4, exif=False))


def test_texts_are_joined_as_the_host_joins_them(model):
    parts = message(PICTURE, text="One?")
    assert ours._parts([*parts, {"type": "text", "value": "Two?"}]) == (PICTURE, "One?\nTwo?")


def test_the_exif_orientation_is_not_applied(model, tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    picture = Image.open(IMAGES / "tile_384.png").convert("RGB").crop((0, 0, 300, 200))
    picture.save(tmp_path / "turned.png", exif=exif)
    picture.save(tmp_path / "plain.png")
    turned, plain = (model.generate(message(str(tmp_path / name))) for name in ("turned.png", "plain.png"))
    assert turned == plain


def test_the_hosts_prompt_is_used(model):
    assert model.use_custom_prompt("Q-Bench1_VAL") is False


@pytest.mark.parametrize(
    "given",
    [message(PICTURE, PICTURE), message(), [*message(PICTURE), {"type": "video", "value": "clip.mp4"}], "Only text?"],
    ids=["two", "none", "video", "text"],
)
def test_anything_but_one_picture_is_refused(model, given):
    """Other models without interleaving keep the first picture and say so in a warning."""
    with pytest.raises(InputError, match="one picture and text"):
        model.generate(given)


def test_the_configs_of_the_page_can_be_read(vlmeval):
    ours.register()
    vlmeval.vlm.LLaVA_OneVision_HF = lambda model_path: model_path
    configs = [json.loads(block.split("```")[0]) for block in PAGE.read_text(encoding="utf-8").split("```json\n")[1:]]
    assert len(configs) == 2
    for config in configs:
        assert set(config) == {"model", "data"}
        for name, entry in config["model"].items():
            if entry["class"] == "QSiT":
                config["model"][name] = {**entry, "model": MODEL}
            assert from_config(vlmeval, config["model"], name)
        assert config["data"]["Q-Bench1_VAL"] == {"class": "ImageMCQDataset", "dataset": "Q-Bench1_VAL"}
