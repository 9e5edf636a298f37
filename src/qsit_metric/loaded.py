"""A model that is loaded: what it is, where it runs, how it is asked, and how pictures are made ready for it."""

from __future__ import annotations

import contextlib
import dataclasses
import platform
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

import torch

from ._version import __version__
from .backends.base import Backend, Prepared
from .backends.placement import check_device, float_type
from .errors import InputError, QSiTError
from .packages import installed
from .pipeline import Budget, ahead, batches, computing, guarded
from .pixels import Picture, load
from .prompts import Recipe, recipe_named

if TYPE_CHECKING:
    from typing_extensions import Self


class Model:
    """A backend with the settings under which it is asked; `QSiT` adds the questions.

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
        return f"{type(self).__name__}({self._origin['model']!r}, device='{self.device}', dtype='{self.info['dtype']}')"

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

    @property
    def budget(self) -> Budget:
        """Tiles and tokens of one batch; the default for the device and the model's tiles until it is set."""
        return self._budget or Budget.for_device(self.device, self.backend.patches)

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

    def computing(self) -> contextlib.AbstractContextManager[None]:
        """No gradient and no ambient autocast: a score does not depend on the caller's context."""
        return computing(self.device)

    def _batches(self, images: Iterable[Any], exif: bool) -> Iterator[list[Prepared | QSiTError]]:
        return batches(ahead(images, lambda image: self._prepare(image, exif)), self.budget)

    def _prepare(self, image: Any, exif: bool) -> Prepared:
        with guarded(), self.computing():  # grad mode is local to a thread, and this runs in several
            picture = image if isinstance(image, Picture) else load(image, exif=exif)
            return dataclasses.replace(self.backend.prepare(picture), note=picture.note)
