"""Loading of a model: from its name to a backend on a device, and what is then known of it.

`load_backend` resolves a name, chooses the engine and puts it on a device; `Loaded` is the part of `QSiT` that says
what was loaded and how it is asked.
"""

from __future__ import annotations

import dataclasses
import logging
import platform
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import torch

from ._version import __version__
from .backends.base import Backend, LoadOptions
from .backends.files import read_json
from .backends.placement import check_device, check_dtype, float_type, quantization
from .backends.registry import backend_class
from .backends.server import Link, Server, is_address
from .batching import Budget, computing, guarded
from .errors import DependencyError, InputError
from .hub import Checkpoint, fingerprint, resolve
from .model.products import GAIN, bfloat16_gain
from .packages import installed
from .prompts import Recipe, recipe_named

if TYPE_CHECKING:
    from typing_extensions import Self

Seconds: TypeAlias = float  # `Loaded` has a method of that name

_log = logging.getLogger("qsit_metric")
_LARGE = 100_000_000  # parameters from which a score on a processor takes seconds
_ADVISED: set[str] = set()


class Loaded:
    """A loaded model with the settings under which it is asked: what it is, and where it runs.

    Args:
        backend: The engine with its weights.
        origin: Where the weights came from, for result files; at least "model".
        recipe: How the model is asked for a score.

    Raises:
        CheckpointError: The backend cannot ask so.
    """

    def __init__(self, backend: Backend, origin: Mapping[str, str | None], recipe: Recipe) -> None:
        self.backend = backend
        self.recipe = recipe
        self._origin = dict(origin)
        self._budget: Budget | None = None

    @property
    def device(self) -> torch.device:
        """Where the model runs."""
        return self.backend.device

    @property
    def dtype(self) -> torch.dtype:
        """The model's floating-point type."""
        return self.backend.dtype

    @property
    def info(self) -> dict[str, str | None]:
        """What made the scores, as plain text fields."""
        import PIL

        return {
            "backend": self.backend.name,
            "recipe": self.recipe.name,
            "device": str(self.device),
            "dtype": str(self.dtype).removeprefix("torch."),
            **self._origin,
            "qsit_metric": __version__,
            "torch": torch.__version__,
            "transformers": installed("transformers"),
            "pillow": PIL.__version__,
            "python": platform.python_version(),
            **self.backend.facts(),
        }

    def __repr__(self) -> str:
        info = self.info
        return f"{type(self).__name__}({self._origin['model']!r}, device='{info['device']}', dtype='{info['dtype']}')"

    def to(self, device: Any = None, dtype: str | torch.dtype | None = None) -> Self:
        """Move the model to another device or floating-point type, in place; returns the metric.

        Views opened before belong to the old place: open them again. What a smaller type rounds off stays lost.

        Raises:
            InputError: No such device, or no floating-point type.
            BackendError: The model is spread over devices or quantised.
        """
        kind = None if dtype is None else float_type(dtype)
        if device is not None:
            check_device(device)
        with guarded():
            self.backend.to(device, kind)
        return self

    def compile(self) -> Seconds | None:
        """Compile the network for scores and answers, and try it; see `QSiT`.

        Returns:
            Seconds that it took; None if there is no compiler, which the log says.

        Raises:
            BackendError: The backend has nothing to compile, or the model is spread over devices or quantised.
        """
        start = time.perf_counter()
        try:
            with computing(self.device):
                self.backend.compile(self.recipe.scoring())
        except DependencyError as error:
            _log.error("Not compiled, and used as it is: %s", error)
            return None
        took = time.perf_counter() - start
        _log.info("Compiled %s for %s in %.0f s", self._origin["model"], self.device, took)
        return took

    def half(self) -> Self:
        """Compute in float16; the same as `to(dtype="float16")`."""
        return self.to(dtype="float16")

    def float(self) -> Self:
        """Compute in float32; the same as `to(dtype="float32")`."""
        return self.to(dtype="float32")

    def eval(self) -> Self:
        """Nothing to do: a metric always evaluates. For code that treats it as a module; returns the metric."""
        return self

    def parameters(self) -> Iterator[torch.nn.Parameter]:
        """None: a metric has nothing to train. For code that treats it as a module."""
        return iter(())

    @property
    def budget(self) -> Budget:
        """Tiles and tokens of one batch; the default for the device and the model's tiles until it is set."""
        return self._budget or Budget.for_device(self.device, self.backend.patches, self.backend.parallel)

    @budget.setter
    def budget(self, budget: Budget) -> None:
        if not isinstance(budget, Budget):
            raise InputError.about("budget", budget, "a Budget(tiles, tokens)")
        self._budget = budget

    @property
    def recipe(self) -> Recipe:
        """How the model is asked for a score."""
        return self._recipe

    @recipe.setter
    def recipe(self, recipe: str | Recipe) -> None:
        found = recipe_named(recipe) if isinstance(recipe, str) else recipe
        if not isinstance(found, Recipe):
            raise InputError.about("recipe", recipe, "a recipe's name or a Recipe")
        self.backend.check(found.scoring())
        self._recipe = found


def load_backend(
    model: str | Path,
    options: LoadOptions,
    backend: str | None,
    revision: str | None,
    cache_dir: str | Path | None,
    token: str | bool | None,
    local_files_only: bool,
    server: Server | None = None,
) -> tuple[Backend, dict[str, str | None], Recipe | None]:
    """Load a model by name; arguments as for `QSiT`.

    Whatever can be wrong with the arguments alone is found before a weight is downloaded or read.

    Returns:
        The backend, where it came from (for result files), and the recipe that it was calibrated with.
    """
    chosen = backend_class(backend) if backend else None
    if isinstance(model, str) and is_address(model):
        link = _linked(model, server or Server(), options, backend)
        found = _checkpoint_of(link, revision, cache_dir, token, local_files_only)
        return _served(link, found)
    if server is not None:
        raise InputError.about(
            "server", server, "no server for a model that is loaded here", "Pass its address as the model."
        )
    placed = _defaults(options)
    checkpoint = resolve(model, revision=revision, cache_dir=cache_dir, token=token, local_files_only=local_files_only)
    engine = chosen or backend_class(_fitting(checkpoint))
    loaded = engine.load(checkpoint.folder, placed)
    if loaded.device.type == "meta" and str(placed.device) != "meta":
        hint = "Build it before, or outside: `QSiT(...)`. It loads its weights straight to their device by itself."
        shown = "<a model without numbers: accelerate's init_empty_weights(), or the like, took its weights away>"
        raise InputError.about("model", shown, "to be loaded where weights are kept", hint)
    if options.dtype is None:
        _advise(loaded, checkpoint.name)
    revision = checkpoint.revision or fingerprint(checkpoint.folder)
    origin = {"model": checkpoint.name, "repo": checkpoint.repo, "revision": revision}
    if quantized := quantization(placed.dtype):
        origin["dtype"] = quantized
    return loaded, origin, loaded.recipe or checkpoint.recipe()


def _linked(address: str, server: Server, options: LoadOptions, backend: str | None) -> Link:
    """The way to a server, once it is clear that nothing was asked for that only a model on this machine has."""
    for name, value, least in (("dtype", options.dtype, None), ("device", options.device, "cpu")):
        if value is not None and str(value) != least:
            raise InputError.about(name, value, f"no {name} with a server, which has its own")
    if backend not in (None, "served"):
        raise InputError.about("backend", backend, "'served', as the model is an address")
    return Link(address, server)


def _checkpoint_of(
    link: Link, revision: str | None, cache_dir: str | Path | None, token: str | bool | None, local_files_only: bool
) -> Checkpoint:
    """The small files of the checkpoint that the caller named, or that the server says it serves."""
    from .backends.served import Served

    name = link.server.checkpoint
    if name is None:
        served = Served.ask(link)
        name = served.checkpoint()
        if name is None:
            shown = f"<{served.model!r}, loaded from {served.root!r}>"
            hint = "Name it: Server(checkpoint='q-sit-mini'), --checkpoint q-sit-mini."
            raise InputError.about("served model", shown, "a checkpoint that is known here", hint)
    return resolve(
        name,
        revision=revision,
        cache_dir=cache_dir,
        token=token,
        local_files_only=local_files_only,
        weights=False,
    )


def _served(link: Link, checkpoint: Checkpoint) -> tuple[Backend, dict[str, str | None], Recipe | None]:
    """The backend `served` and where its answers come from; the way stands where a type does, as it moves scores."""
    loaded = backend_class("served").load(checkpoint.folder, LoadOptions(link=link))
    revision = checkpoint.revision or fingerprint(checkpoint.folder)
    made = {"device": link.url, "dtype": f"served, {loaded.facts()['way']}"}
    origin = {"model": checkpoint.name, "repo": checkpoint.repo, "revision": revision, **made}
    return loaded, origin, loaded.recipe or checkpoint.recipe()


def _advise(backend: Backend, name: str) -> None:
    """Say once that bfloat16 would be faster, where it is and where a score takes seconds."""
    model = getattr(backend, "model", None)
    if backend.device.type != "cpu" or not isinstance(model, torch.nn.Module) or name in _ADVISED:
        return
    if sum(weight.numel() for weight in model.parameters()) < _LARGE or (gain := bfloat16_gain()) < GAIN:
        return
    _ADVISED.add(name)
    _log.warning(
        "On this processor bfloat16 is %.1f times as fast as float32: QSiT(%r, dtype='bfloat16'), --dtype bfloat16. "
        "Scores move by some hundredths.",
        gain,
        name,
    )


def default_device() -> str:
    """Name the device that is taken if none is asked for."""
    return "cuda" if torch.cuda.is_available() else "cpu"


def _fitting(checkpoint: Checkpoint) -> str:
    """Name of the backend: the catalog's, else the one that the config's family asks for."""
    if checkpoint.record:
        return checkpoint.record.backend
    family = read_json(checkpoint.folder, "config.json").get("model_type")
    return "llava_onevision" if family == "llava_onevision" else "transformers"


def _defaults(options: LoadOptions) -> LoadOptions:
    device = options.device if options.device is not None else default_device()
    kind = check_device(device)
    dtype = options.dtype if options.dtype is not None else "float16" if kind == "cuda" else "float32"
    check_dtype(dtype)
    return dataclasses.replace(options, device=device, dtype=dtype)
