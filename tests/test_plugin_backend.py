"""A backend from somebody else's package: really installed, found by name, and unable to disturb the others."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace

import pytest
from PIL import Image

from checkpoints import write_whole

GROUP = "qsit_metric.backends"

# All that a third party needs: six methods, three attributes, and an entry point.
BRIGHTNESS = '''
import numpy as np
import torch
from qsit_metric.backends.base import Backend, Encoded, Prepared, Reply
from qsit_metric.errors import InputError


class BrightnessBackend(Backend):
    """Takes bright pictures for good ones."""

    name = "brightness"
    differentiable = True

    def __init__(self, device):
        self.device, self.dtype = torch.device(device), torch.float32

    @classmethod
    def load(cls, folder, options):
        return cls(options.device)

    def prepare(self, picture):
        pixels = picture.pixels
        if not isinstance(pixels, torch.Tensor):
            pixels = torch.from_numpy(np.array(pixels))
        return Prepared(pixels.float().mean() / 255, tiles=1, tokens=1)

    def encode(self, pictures):
        return [Encoded(picture.data, picture.tokens) for picture in pictures]

    def logits(self, requests):
        return [self._row(image.data, len(prompt.words)) for image, prompt in requests]

    def _row(self, brightness, count):
        return -20 * (torch.linspace(0, 1, count) - brightness) ** 2

    def generate(self, requests, max_new_tokens):
        return [Reply("bright" if image.data > 0.5 else "dark", (1,), True) for image, _ in requests]

    def check(self, prompt):
        if "secret" in prompt.question:
            raise InputError.about("question", prompt.question, "no secrets")
'''

PYPROJECT = f"""
[project]
name = "qsit-brightness"
version = "1.0"

[project.entry-points."{GROUP}"]
brightness = "qsit_brightness:BrightnessBackend"

[build-system]
requires = []
build-backend = "%s"
%s
"""

# What the other process does with the plugins; prints JSON.
USER = """
import json, sys
import torch

folder, last, dark, bright = sys.argv[1:]
sys.path.append(last)  # behind the place where qsit-metric itself is installed

from qsit_metric import QSiT, QSiTError
from qsit_metric.backends.registry import backend_class, backends


def error(make):
    try:
        make()
    except QSiTError as failure:
        return [type(failure).__name__, str(failure)]
    return None


metric = QSiT(folder, backend="brightness", device="cpu")
x = torch.full((2, 3, 4, 4), 0.3, requires_grad=True)
metric(x).sum().backward()
with metric.open(bright) as view:
    viewed = [view.score(), view.ask("How is it?"), view.ask("Which?", choices=["low", "mid", "high"]).choice]
found = {
    "names": sorted(backends()),
    "info": metric.info["backend"],
    "scores": metric.score([dark, bright, dark]),
    "one": metric.score(dark),
    "answers": [metric.ask([dark, bright], "How is it?"), metric.ask(dark, "Which?", choices=["low", "high"])],
    "viewed": viewed,
    "gradient": x.grad.min().item(),
    "refused": error(lambda: metric.ask(dark, "a secret?")),
    "near": error(lambda: QSiT(folder, backend="brightnes")),
    "far": error(lambda: QSiT(folder, backend="zzz")),
    "broken": error(lambda: QSiT(folder, backend="broken")),
    "absent": error(lambda: QSiT(folder, backend="absent")),
    "nothing": error(lambda: QSiT(folder, backend="nothing")),
    "ours": [backend_class(name).__module__ for name in ("llava_onevision", "transformers")],
}
print(json.dumps(found))
"""


def lay_out(site: Path, name: str, module: str, points: dict[str, str]) -> None:
    """What an installer leaves behind: the module, and a dist-info folder with its entry points."""
    (site / f"{name}.py").write_text(module)
    info = site / f"{name}-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    lines = [f"{point} = {target}" for point, target in points.items()]
    (info / "entry_points.txt").write_text("\n".join([f"[{GROUP}]", *lines, ""]))
    (info / "RECORD").write_text(f"{name}.py,,\n{info.name}/METADATA,,\n{info.name}/entry_points.txt,,\n")


def install(source: Path, site: Path) -> None:
    """Build and install a source tree with pip, without a network, by whichever build backend is here."""
    builders = {
        "setuptools": ("setuptools.build_meta", '[tool.setuptools]\npy-modules = ["qsit_brightness"]'),
        "hatchling": ("hatchling.build", '[tool.hatch.build.targets.wheel]\ninclude = ["qsit_brightness.py"]'),
    }
    here = [builders[name] for name in builders if find_spec(name)]
    if not here or not find_spec("pip"):
        pytest.skip("pip and a build backend (setuptools or hatchling) are needed to build a package")
    source.mkdir()
    (source / "pyproject.toml").write_text(PYPROJECT % here[0])
    (source / "qsit_brightness.py").write_text(BRIGHTNESS)
    options = [
        "--no-deps",
        "--no-build-isolation",
        "--no-index",
        "--no-input",
        "--disable-pip-version-check",
        "--no-compile",
    ]
    command = [sys.executable, "-m", "pip", "install", *options, "--target", str(site), str(source)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def use(site: Path, *arguments: Path) -> SimpleNamespace:
    """Run `USER` where the plugins are installed."""
    paths = [str(site), *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}
    command = [sys.executable, "-c", USER, *map(str, arguments)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return SimpleNamespace(**json.loads(done.stdout.splitlines()[-1]))


@pytest.fixture(scope="module", params=["installed by pip", "laid out by hand"])
def found(request, tmp_path_factory) -> SimpleNamespace:
    """What a process saw that has the plugin and several bad neighbours of it."""
    folder = tmp_path_factory.mktemp("plugins")
    site = folder / "site"
    site.mkdir()
    if request.param == "installed by pip":
        install(folder / "source", site)
    else:
        lay_out(site, "qsit_brightness", BRIGHTNESS, {"brightness": "qsit_brightness:BrightnessBackend"})
    lay_out(site, "broken_plugin", "raise RuntimeError('no licence')", {"broken": "broken_plugin:Engine"})
    lay_out(site, "absent_plugin", "", {"absent": "absent_plugin:Engine"})
    lay_out(site, "nothing_plugin", "class Engine: ...", {"nothing": "nothing_plugin:Engine"})
    thief = BRIGHTNESS.replace('name = "brightness"', 'name = "transformers"')
    stolen = ("llava_onevision", "transformers")
    last = folder / "last"
    last.mkdir()
    for place, name in ((site, "early_thief"), (last, "late_thief")):
        lay_out(place, name, thief, dict.fromkeys(stolen, f"{name}:BrightnessBackend"))
    pictures = []
    for name, grey in (("dark.png", 40), ("bright.png", 250)):
        Image.new("RGB", (9, 6), (grey, grey, grey)).save(folder / name)
        pictures.append(folder / name)
    return use(site, write_whole(folder / "weights"), last, *pictures)


def test_it_scores_like_any_backend(found):
    dark, bright, again = found.scores
    assert found.info == "brightness"
    assert found.one == dark == again
    assert 1 <= dark < 2.5
    assert 4 < bright <= 5
    assert found.gradient > 0


def test_it_answers_like_any_backend(found):
    assert found.answers == [["dark", "bright"], "low"]
    assert found.viewed == [found.scores[1], "bright", "high"]
    assert found.refused[0] == "InputError"


def test_it_is_listed_and_a_slip_of_the_pen_is_told(found):
    assert {"brightness", "llava_onevision", "transformers"} <= set(found.names)
    for kind, message in (found.near, found.far):
        assert kind == "UnknownNameError"
        assert "absent, brightness, broken, llava_onevision, nothing, served, transformers" in message
    assert "Did you mean 'brightness'?" in found.near[1]
    assert GROUP in found.far[1]


@pytest.mark.parametrize(
    ("plugin", "words"),
    [
        ("broken", ["broken_plugin:Engine", "importable", "no licence"]),
        ("absent", ["absent_plugin:Engine", "importable", "Engine"]),
        ("nothing", ["nothing_plugin:Engine", "subclass of Backend"]),
    ],
)
def test_a_bad_plugin_fails_alone_and_says_why(found, plugin, words):
    kind, message = getattr(found, plugin)
    assert kind == "DependencyError"
    assert all(word in message for word in [plugin, *words]), message


def test_nobody_takes_the_name_of_ours(found):
    assert found.ours == ["qsit_metric.backends.llava_onevision", "qsit_metric.backends.generic"]
