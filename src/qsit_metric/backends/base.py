"""The contract between the metric and an engine that runs a model.

A backend prepares and encodes images, gives next-token logits of a few chosen words for a prompt, and generates text.
Everything else (levels, scores, choices, batching, files, errors) is written once, above it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

if TYPE_CHECKING:
    import torch
    from typing_extensions import Self

    from ..pixels import Picture
    from ..prompts import Prompt, Recipe
    from .server import Link


@dataclass(frozen=True)
class Prepared:
    """A picture made ready for `encode`.

    Attributes:
        data: Whatever the backend needs; opaque to the metric.
        tiles: Vision-tower inputs that it costs.
        tokens: Image tokens that it costs in the language model.
        note: What a reader of the score should know about the picture ("first of 12 frames"). Like the following it is
            filled in by who calls `prepare`.
        source: Where the picture came from.
        size: (width, height) of the picture in pixels.
    """

    data: Any
    tiles: int
    tokens: int
    note: str | None = None
    source: str = ""
    size: tuple[int, int] = (0, 0)


@dataclass(eq=False)
class Encoded:
    """An image as the language model reads it; answers any number of prompts.

    Attributes:
        data: Whatever the backend needs; opaque to the metric.
        tokens: Image tokens.
        keep: Whether later prompts will follow, so that what they share is worth keeping.
        shared: What the backend keeps between prompts; emptied by `close`.
    """

    data: Any
    tokens: int
    keep: bool = False
    shared: dict[Any, Any] = field(default_factory=dict)

    def close(self) -> None:
        """Free the memory; the image cannot be asked any more."""
        self.data = None
        self.shared.clear()


@dataclass(frozen=True)
class Reply:
    """Generated text. `finished` is False if it was cut at the token limit."""

    text: str
    tokens: tuple[int, ...]
    finished: bool


@dataclass(frozen=True)
class LoadOptions:
    """How a checkpoint is put on a device.

    Attributes:
        device: A torch device; "auto", "balanced", "balanced_low_0" or "sequential" (spread by accelerate); or a map of
            module names to devices, "cpu" or "disk".
        dtype: A floating-point type by name or as a torch dtype; "int8" or "int4" (layers of bitsandbytes); or a
            quantization config of transformers, of which the fast path takes a `BitsAndBytesConfig`.
        template: Chat template that overrides the checkpoint's own.
        link: The way to a model server, for a backend that asks one; then device and dtype mean nothing.
    """

    device: Any = "cpu"
    dtype: Any = "float32"
    template: str | None = None
    link: Link | None = None


class Backend(ABC):
    """One engine with one loaded model. Parameters are frozen and the model stays in eval mode.

    A third party adds one through the entry-point group `qsit_metric.backends`, whose target is a subclass of this.

    Attributes:
        name: Registry name.
        differentiable: Whether `encode` and `logits` keep the autograd history of prepared tensors.
        device: Where inputs go and results come from.
        dtype: Floating-point type of the computation.
        recipe: The recipe that the checkpoint carries, or None.
        patches: Patches of one tile, by which the default size of a batch is scaled.
        tile: Side in pixels of a square picture that it sees at its own resolution, for windows and crops.
        parallel: Batches of the usual size that it works on at a time, by which the default size is multiplied.
    """

    name: ClassVar[str]
    differentiable: ClassVar[bool] = False
    device: torch.device
    dtype: torch.dtype
    recipe: Recipe | None = None
    patches: int = 27 * 27
    tile: int = 384
    parallel: int = 1

    @classmethod
    @abstractmethod
    def load(cls, folder: Path, options: LoadOptions) -> Self:
        """Load a verified checkpoint folder.

        Raises:
            CheckpointError: The checkpoint is not of this backend's family, or loading left a weight out.
            DependencyError: A package that this checkpoint needs is missing.
        """

    @abstractmethod
    def prepare(self, picture: Picture) -> Prepared:
        """Make one picture ready, on the CPU where possible; called from several threads at once."""

    @abstractmethod
    def encode(self, pictures: Sequence[Prepared]) -> list[Encoded]:
        """Encode pictures of any sizes as one batch; order is kept."""

    @abstractmethod
    def logits(self, requests: Sequence[tuple[Encoded, Prompt]]) -> list[torch.Tensor]:
        """Next-token logits of each prompt's words, float32 (len(words),), one tensor for each request, order kept.

        The requests are computed together; an image that occurs several times is read once.
        """

    @abstractmethod
    def generate(self, requests: Sequence[tuple[Encoded, Prompt]], max_new_tokens: int) -> list[Reply]:
        """Greedy text for each request, order kept."""

    def likelihoods(self, requests: Sequence[tuple[Encoded, Prompt]], answers: Sequence[str]) -> list[torch.Tensor]:
        """Log-probability of each text as the whole answer, its end included, float32 (len(answers),) per request.

        Raises:
            BackendError: This backend cannot tell.
        """
        from ..errors import BackendError

        hint = "Use method='letters' or 'generate'."
        raise BackendError.about("method", "texts", f"a backend that compares whole answers, not {self.name}", hint)

    @abstractmethod
    def check(self, prompt: Prompt) -> None:
        """Refuse a prompt that cannot be asked.

        Raises:
            CheckpointError: The words do not begin with distinct tokens, or the template does not place one image.
            InputError: The question contains a token that is reserved for the chat format.
        """

    def facts(self) -> dict[str, str]:
        """What else results depend on with this backend, for result files; nothing by default."""
        return {}

    def leaner(self, *, checkpointing: bool = False, max_tiles: int | None = None) -> Backend:
        """The same model at work with less memory for gradients; weights are shared, this object stays as it is.

        Args:
            checkpointing: Keep each layer's input only and compute the rest again in the backward pass.
            max_tiles: Cut a picture into so many tiles at most, the squeezed whole included.

        Raises:
            BackendError: This backend has no such choice.
            InputError: Not even the smallest grid has so few tiles.
        """
        from ..errors import BackendError

        if not checkpointing and max_tiles is None:
            return self
        shown = f"<checkpointing={checkpointing}, max_tiles={max_tiles}>"
        raise BackendError.about("memory options", shown, f"none with the {self.name} backend")

    def compile(self, prompt: Prompt) -> None:
        """Compile what scores and answers run through, and try it with a prompt.

        Raises:
            BackendError: This backend has nothing to compile, or what was compiled does not give the same.
            DependencyError: No compiler.
        """
        from ..errors import BackendError

        raise BackendError.about("compile", True, f"False: the {self.name} backend has nothing to compile")

    def to(self, device: Any = None, dtype: Any = None) -> None:
        """Move the model; backends that cannot say so."""
        from ..errors import BackendError

        raise BackendError.about("device", device, f"no move after loading with the {self.name} backend", "Load anew.")
