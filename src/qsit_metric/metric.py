"""The metric: `QSiT`, which scores images and answers questions about them, and `View`, one image that is kept encoded.

Paper: Teaching LMMs for Image Quality Scoring and Interpreting (Q-SiT), Z. Zhang et al., arXiv 2503.09197.
Official code: github.com/Q-Future/Q-SiT.
"""

from __future__ import annotations

import io
import threading
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from types import NoneType, TracebackType
from typing import TYPE_CHECKING, Any, Literal, overload

import torch

from . import levels
from .backends.base import Backend, Encoded, LoadOptions, Prepared, Reply
from .backends.server import Server
from .batching import Errors, Timing, ahead, check_errors, computing, gather, prepare, run_batches
from .descriptions import Composed, describer
from .errors import BackendError, InputError, QSiTError
from .gradients import eager, level_logits, score_gradient
from .loading import Loaded, load_backend
from .pixels import ImageLike, Picture, Reading, items, load_one, many
from .prompts import AUTHORS, Recipe, recipe_named
from .questions import Method, Questions
from .results import Answer, Score, level_names, scores

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from typing_extensions import Self, Unpack

    from .maps import MapMethod, QualityMap
    from .pixels import ReadOptions


class QSiT(Loaded):
    """A no-reference image-quality metric that also answers questions about quality.

    Args:
        model: A catalog name (`qsit models` lists them), a Hub repository `owner/repo[@revision]`, a local checkpoint
            folder, the address of a vLLM server (`http://host:8000`), or a loaded `Backend`.
        device: "cuda", "cuda:1", "cpu", "mps", "auto" (spread over all devices by accelerate) or a device map;
            default: cuda if there is one, else cpu.
        dtype: "float32", "bfloat16", "float16", "int8", "int4", a torch dtype or a transformers quantization config;
            default: float16 on cuda, float32 elsewhere.
        backend: Engine name; default: the catalog's, or the one that fits the checkpoint's config.
        recipe: A recipe's name ("authors", "train", "aesthetics" ...) or a `Recipe`; default: the one that the
            checkpoint was calibrated with.
        revision: Branch, tag or commit on the Hub.
        cache_dir: Where downloads are kept; default: the Hub client's cache.
        token: Hub token for private or gated checkpoints.
        local_files_only: Never use the network, except for a server that `model` names.
        server: How that server is asked: whose checkpoint it has, its key, the way, limits.
        compile: Compile the network with `torch.compile`, for all sizes, before the first score; for many pictures on a
            GPU. The log (`qsit_metric`, level INFO) says how long it took. Scores are the same to 1e-5 in float32;
            gradients take the ordinary way. Where torch finds no compiler, the log says so and nothing is compiled.
        reading: How pictures are read where a call does not say otherwise: `exif`, `bits`, `background`, `icc` and
            `max_pixels`, see `qsit_metric.pixels.Reading`.

    Attributes:
        info: What made the scores: model, revision, backend, recipe, device, dtype and versions; for result files.
        reading: How pictures are read, a `qsit_metric.pixels.Reading`.
        budget: Tiles and tokens of one batch; assign a `Budget` to change it.
        score_range: (1.0, 5.0).
        higher_is_better: True. `lower_better` (False) and `metric_mode` ("NR") say the same in pyiqa's words.

    Raises:
        UnknownNameError: No such model, backend or recipe.
        HubError: The weights are neither here nor to be had.
        CheckpointError: The checkpoint is incomplete, inconsistent or unsafe.
        InputError: An argument that makes no sense.
        DependencyError: No bitsandbytes for a quantised model, or, for the backend `transformers`, a release of it that
            is not known to work.

    Example:
        >>> metric = QSiT()  # doctest: +SKIP
        >>> metric.score("photo.jpg")  # doctest: +SKIP
        Score(3.8712, good)
        >>> metric.ask("photo.jpg", "Is the sky noisy?")  # doctest: +SKIP
        'Yes, there is visible noise in the sky.'
    """

    higher_is_better = levels.HIGHER_IS_BETTER
    lower_better = not levels.HIGHER_IS_BETTER
    score_range = levels.SCORE_RANGE
    metric_mode = "NR"
    reading = Reading()

    def __init__(
        self,
        model: str | Path | Backend = "q-sit-mini",
        *,
        device: Any = None,
        dtype: Any = None,
        backend: str | None = None,
        recipe: str | Recipe | None = None,
        revision: str | None = None,
        cache_dir: str | Path | None = None,
        token: str | bool | None = None,
        local_files_only: bool = False,
        server: Server | None = None,
        compile: bool = False,
        **reading: Unpack[ReadOptions],
    ) -> None:
        self.reading = Reading().replaced(**reading)
        asked = recipe_named(recipe) if isinstance(recipe, str) else recipe
        if not isinstance(asked, (Recipe, NoneType)):
            raise InputError.about("recipe", recipe, "a recipe's name or a Recipe")
        if isinstance(model, Backend):
            if (device, dtype, backend, revision, server) != (None,) * 5:
                raise InputError.about(
                    "model", f"<a {model.name} backend>", "no device, dtype, backend, revision or server with it"
                )
            origin: dict[str, str | None] = {"model": "<in memory>"}
            engine, default = model, model.recipe
        else:
            engine, origin, default = load_backend(
                model, LoadOptions(device, dtype), backend, revision, cache_dir, token, local_files_only, server
            )
        super().__init__(engine, origin, asked or default or AUTHORS)
        if compile:
            self.compile()

    @property
    def info(self) -> dict[str, str | None]:
        """What made the scores, as plain text fields; of the reading what is not the default."""
        return {**super().info, **{name: str(value) for name, value in self.reading.recorded().items()}}

    @overload
    def score(  # type: ignore[overload-overlap]
        self, images: ImageLike, *, errors: Errors = "raise", **reading: Unpack[ReadOptions]
    ) -> Score: ...
    @overload
    def score(
        self, images: Iterable[Any], *, errors: Literal["raise"] = "raise", **reading: Unpack[ReadOptions]
    ) -> list[Score]: ...
    @overload
    def score(
        self, images: Iterable[Any], *, errors: Errors, **reading: Unpack[ReadOptions]
    ) -> list[Score | QSiTError]: ...

    def score(self, images: Any, *, errors: Errors = "raise", **reading: Unpack[ReadOptions]) -> Any:
        """Score one image or many.

        Args:
            images: A path, URL, bytes, file object, PIL image, array (H, W[, 1|3|4]), tensor (C, H, W), or a list that
                mixes them; a tensor (N, C, H, W) counts as a list. Sizes may differ. See `qsit_metric.pixels.load`.
            errors: "raise" stops at the first image that fails (the error has `index`, and in `done` what was scored
                before); "return" puts the error in that image's place.
            reading: How images are read, for this call: `exif=False` leaves the EXIF orientation alone, as the authors'
                code does; `bits`, `background`, `icc` and `max_pixels` see `qsit_metric.pixels.Reading`.

        Returns:
            A `Score` on 1..5, higher is better, for one image; a list in the given order for many.

        Raises:
            ImageError: An image cannot be read or used.
            BackendError: The model failed, for example out of memory.
        """
        check_errors(errors)
        sequence, single = items(images)
        return gather(self._scored(sequence, self.reading.replaced(**reading)), errors, single)

    def score_iter(
        self,
        images: Iterable[Any],
        *,
        errors: Errors = "raise",
        timing: Timing | None = None,
        **reading: Unpack[ReadOptions],
    ) -> Iterator[Score | QSiTError]:
        """Score a stream of single images, in order, a batch at a time; for long lists and progress bars.

        Args:
            images: Any iterable of images, also an endless one; it is read a few images ahead.
            errors: See `score`.
            timing: Takes the time that the model waits for pictures.
            reading: See `score`.

        Yields:
            A `Score` for each image, or (with `errors="return"`) its error.
        """
        check_errors(errors)
        stream = images if isinstance(images, Iterator) and not isinstance(images, io.IOBase) else many(images)
        found = self._scored(stream, self.reading.replaced(**reading), timing)
        return found if errors == "return" else _raising(found)

    def _scored(
        self, images: Iterable[Any], reading: Reading, timing: Timing | None = None
    ) -> Iterator[Score | QSiTError]:
        def run(prepared: list[Prepared]) -> Sequence[Score | QSiTError]:
            return self._scores(self.backend.encode(prepared), [item.note for item in prepared])

        return run_batches(self.backend, images, run, self.budget, reading=reading, timing=timing)

    def _scores(self, images: Sequence[Encoded], notes: Sequence[str | None]) -> Sequence[Score | QSiTError]:
        prompt = self.recipe.scoring()
        if self.recipe.form != "levels":
            replies = self.backend.generate([(image, prompt) for image in images], self.recipe.max_new_tokens)
            return [self._written(reply, note) for reply, note in zip(replies, notes, strict=True)]
        rows = self.backend.logits([(image, prompt) for image in images])
        return scores(rows, level_names(self.recipe.words), notes)

    def _written(self, reply: Reply, note: str | None) -> Score | QSiTError:
        """The score that the model wrote; a reply without one is that image's error."""
        value = self.recipe.written(reply.text)
        if value is not None:
            return Score(value, {}, note=note)
        cut = "" if reply.finished else f"It was cut at {len(reply.tokens)} tokens: a recipe may allow more. "
        expected = f"a score from 1 to 5, as recipe {self.recipe.name!r} asks for it"
        return BackendError.about("answer", reply.text, expected, f"{cut}Is this the model for that recipe?")

    @eager
    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        """Score a batch of tensors; differentiable in `x` if `x` requires grad.

        Args:
            x: (N, 3, H, W) RGB, or (N, 1, H, W) grey, in [0, 1]; one picture may come as (3, H, W) or (1, H, W).
                Floating point (or uint8, not differentiable). Values are rounded to 8 bits,
                as a saved picture would be; the gradient passes the rounding.

        Returns:
            (N,) float32 on the device of `x`, in 1..5, higher is better.

        Raises:
            InputError: Wrong rank, channels, or values outside [0, 1], NaN or infinite.
            BackendError: A gradient was asked of a backend that has none.

        Example:
            >>> y = metric(x)  # doctest: +SKIP
            >>> (-y.sum()).backward()  # doctest: +SKIP
        """
        return levels.expect(level_logits(_batch(x), self.backend, self.recipe.scoring(), self.budget))[1]

    @overload
    def ask(
        self, image: ImageLike, question: str, *, choices: Sequence[str] | None = None, method: Method = "likelihood",
        max_new_tokens: int = 200, errors: Errors = "raise", **reading: Unpack[ReadOptions],
    ) -> Answer: ...  # fmt: skip
    @overload
    def ask(
        self, image: Any, question: str | Sequence[str], *, choices: Sequence[str] | None = None,
        method: Method = "likelihood", max_new_tokens: int = 200, errors: Errors = "raise",
        **reading: Unpack[ReadOptions],
    ) -> Any: ...  # fmt: skip

    def ask(
        self,
        image: Any,
        question: str | Sequence[str],
        *,
        choices: Sequence[str] | None = None,
        method: Method = "likelihood",
        max_new_tokens: int = 200,
        errors: Errors = "raise",
        **reading: Unpack[ReadOptions],
    ) -> Any:
        """Ask one or several questions about one or several images.

        Args:
            image: One image or many, as for `score`.
            question: One question or a list of them.
            choices: 2 to 26 options for every question; the answer is then one of them.
            method: With choices: "letters" compares the option letters' probabilities in one forward pass; "texts"
                compares how probable each option is as the whole answer to the question alone; "likelihood" is the one
                of both that the checkpoint was taught for, "letters" unless its recipe says otherwise;
                "generate" writes a reply and looks for the letter, which is the authors' protocol.
            max_new_tokens: Limit of a generated answer.
            errors: See `score`; with "return" a failed image's error stands in place of its answers.
            reading: See `score`.

        Returns:
            An `Answer` for one image and one question; a list for several questions or several images; for both, a
            list per image of answers per question. An image is encoded once for all its questions.

        Raises:
            InputError: An empty question, unusable choices, an unknown method.
            ImageError: An image cannot be read or used.
        """
        questions = Questions(self.backend, self.recipe, question, choices, method, max_new_tokens)
        return self._answered(image, questions, self.reading.replaced(**reading), errors)

    def describe(
        self, image: Any, *, max_new_tokens: int = 200, errors: Errors = "raise", **reading: Unpack[ReadOptions]
    ) -> Any:
        """Describe the quality of one image (`Answer`) or many (list) in words; see `ask`.

        Most models write the description. For one that is too small to write (q-sit-nano), it is composed from its
        answers by likelihood (`metric.recipe.describing`), agrees with the score, and `max_new_tokens` has no effect.
        """
        composed = describer(self.backend, self.recipe, max_new_tokens)
        return self._answered(image, composed, self.reading.replaced(**reading), errors)

    def _answered(self, image: Any, answering: Questions | Composed, reading: Reading, errors: Errors) -> Any:
        check_errors(errors)
        sequence, single = items(image)

        def run(prepared: list[Prepared]) -> Sequence[Answer | list[Answer]]:
            return answering.answer(self.backend.encode(prepared))

        return gather(run_batches(self.backend, sequence, run, self.budget, reading=reading), errors, single)

    def open(self, image: ImageLike, **reading: Unpack[ReadOptions]) -> View:
        """Encode an image once; scores and answers from the view pay only for their own words. `reading`: see `score`.

        Returns:
            A `View`; a context manager that frees its memory at the end.

        Example:
            >>> with metric.open("photo.jpg") as view:  # doctest: +SKIP
            ...     view.score(), view.ask("Is it sharp?")
        """
        return View.of(self, prepare(self.backend, load_one(image, self.reading.replaced(**reading))))

    def map(
        self,
        image: ImageLike,
        *,
        method: MapMethod = "windows",
        window: int | None = None,
        stride: int | None = None,
        overlap: int | None = None,
        **reading: Unpack[ReadOptions],
    ) -> QualityMap:
        """Map where an image is bad.

        Args:
            image: One image, as for `score`.
            method: "windows" scores windows of the image as images of their own, with any backend; "saliency" sums the
                size of the score's gradient over smaller windows: where a change of pixels would move the score.
            window: Side of a window in pixels; default: the model's tile, or more tiles for large images, and a
                quarter of that for "saliency". Multiples of the tile are seen at the image's own resolution.
            stride: Pixels from a window to the next at most; default: half a window.
            overlap: Pixels that neighbouring windows share, instead of a stride.
            reading: See `score`.

        Returns:
            A `QualityMap`; an image that is smaller than a window has one.

        Raises:
            InputError: Not one image, or a method, window, stride or overlap that makes no sense.
            ImageError: The image cannot be read or used.
            BackendError: The model failed, or has no gradient for "saliency".

        Example:
            >>> metric.map("photo.jpg").overlay().save("map.png")  # doctest: +SKIP
        """
        from .maps import MapRequest, map_quality

        def score(pictures: Iterable[Picture]) -> Iterator[Score | QSiTError]:
            return self._scored(pictures, self.reading)

        def gradient(picture: Picture) -> NDArray[np.float64]:
            return score_gradient(picture, self.backend, self.recipe.scoring(), self.budget)

        request = MapRequest(method, window, stride, overlap)
        picture = load_one(image, self.reading.replaced(**reading))
        return map_quality(picture, request, self.backend.tile, score, gradient)


class View:
    """An opened image, encoded once and scored and asked as often as one likes; made by `QSiT.open`.

    It keeps the image's keys and values (for the 7B model and 7.4 k tokens 0.42 GB in float16), so a score or an
    answer costs only its own words. Use it as a context manager, or call `close`, to free them.

    Attributes:
        size: (width, height) of the picture in pixels, after EXIF orientation.
        source: Where the picture came from.
        note: What a reader of the score should know ("first of 12 frames"), or None.

    Example:
        >>> with metric.open("photo.jpg") as view:  # doctest: +SKIP
        ...     view.score()
        ...     view.ask(["Is it sharp?", "Is it noisy?"])
    """

    def __init__(self, metric: QSiT, encoded: Encoded, prepared: Prepared) -> None:
        self._metric = metric
        self._encoded: Encoded | None = encoded
        self.size, self.source, self.note = prepared.size, prepared.source, prepared.note
        self._lock = threading.Lock()  # the kept prefix grows with each question and is cut back after it

    @classmethod
    def of(cls, metric: QSiT, prepared: Prepared) -> Self:
        """Encode an image that is read and prepared.

        Raises:
            BackendError: The model failed.
        """
        with computing(metric.device):
            encoded = metric.backend.encode([prepared])[0]
        encoded.keep = True
        return cls(metric, encoded, prepared)

    def score(self) -> Score:
        """Score the image on 1..5, higher is better; equal to `QSiT.score` up to rounding.

        Raises:
            BackendError: The view is closed, or the model failed.
        """
        image = self._image()
        with self._lock, computing(self._metric.device):
            found = self._metric._scores([image], [self.note])[0]
        if isinstance(found, QSiTError):
            raise found
        return found

    def ask(
        self,
        question: str | Sequence[str],
        *,
        choices: Sequence[str] | None = None,
        method: Method = "likelihood",
        max_new_tokens: int = 200,
    ) -> Any:
        """Ask one question (returns an `Answer`) or several at once (a list); arguments as for `QSiT.ask`.

        Raises:
            InputError: Something that cannot be asked.
            BackendError: The view is closed, or the model failed.
        """
        metric, image = self._metric, self._image()
        questions = Questions(metric.backend, metric.recipe, question, choices, method, max_new_tokens)
        with self._lock, computing(metric.device):
            return questions.answer([image])[0]

    def describe(self, *, max_new_tokens: int = 200) -> Answer:
        """Describe the image's quality in words; see `QSiT.describe`."""
        metric, image = self._metric, self._image()
        answering = describer(metric.backend, metric.recipe, max_new_tokens)
        with self._lock, computing(metric.device):
            said: Sequence[Any] = answering.answer([image])
        answer: Answer = said[0]
        return answer

    def close(self) -> None:
        """Free the memory; the view cannot be asked any more. Closing twice is fine."""
        if self._encoded is not None:
            self._encoded.close()
        self._encoded = None

    def _image(self) -> Encoded:
        if self._encoded is None:
            raise BackendError.about("view", "<a closed view>", "an open one", "Open the image again: `metric.open`.")
        return self._encoded

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        state = "closed" if self._encoded is None else f"{self._encoded.tokens} image tokens"
        return f"View({self.source!r}, {self.size[0]}x{self.size[1]}, {state})"


def opened(
    metric: QSiT, images: Iterable[Any], *, timing: Timing | None = None, **reading: Unpack[ReadOptions]
) -> Iterator[View | QSiTError]:
    """Open a stream of single images, in order; the next ones are read and prepared while one is asked.

    Args:
        metric: Whose views they are.
        images: Any iterable of images; it is read a few images ahead.
        timing: Takes the time that the model waits for pictures.
        reading: See `QSiT.score`.

    Yields:
        A `View`, to be closed by who takes it, or the error of an image that cannot be read or encoded.

    Example:
        >>> for view in opened(metric, ["a.jpg", "b.jpg"]):  # doctest: +SKIP
        ...     with view:
        ...         view.ask("Is it sharp?")
    """
    how = metric.reading.replaced(**reading)
    prepared = ahead(images, lambda image: prepare(metric.backend, image, how))
    for found in (timing or Timing()).watch(prepared):
        if isinstance(found, QSiTError):
            yield found
            continue
        try:
            view = View.of(metric, found)
        except QSiTError as error:
            yield error
            continue
        yield view


def _batch(x: Any) -> Any:
    """One picture as a batch of one, grey ones as RGB; what is neither is left to who checks it."""
    if isinstance(x, torch.Tensor) and x.ndim == 3 and x.shape[0] in (1, 3):
        x = x[None]
    grey = isinstance(x, torch.Tensor) and x.ndim == 4 and x.shape[1] == 1
    return x.expand(-1, 3, -1, -1) if grey else x


def _raising(stream: Iterable[Score | QSiTError]) -> Iterator[Score]:
    """Scores up to the first error, which is raised with its place."""
    for index, found in enumerate(stream):
        if isinstance(found, QSiTError):
            found.index = index
            raise found
        yield found
