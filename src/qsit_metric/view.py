"""An opened image: encoded once, scored and asked as often as one likes."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any

from .asking import Method, Questions
from .backends.base import Encoded, Prepared
from .errors import BackendError, QSiTError
from .pipeline import Timing, ahead, guarded
from .pixels import Picture, load
from .prompts import DESCRIBE
from .results import Answer, Score, level_names, scores

if TYPE_CHECKING:
    from typing_extensions import Self

    from .metric import QSiT


class View:
    """One image in front of the model; made by `QSiT.open`.

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

    def __init__(self, metric: QSiT, encoded: Encoded, picture: Picture) -> None:
        self._metric = metric
        self._encoded: Encoded | None = encoded
        self.size: tuple[int, int] = (picture.width, picture.height)
        self.source = picture.source
        self.note = picture.note
        self._lock = threading.Lock()  # the kept prefix grows with each question and is cut back after it

    @classmethod
    def of(cls, metric: QSiT, picture: Picture, prepared: Prepared) -> Self:
        """Encode a picture that is read and prepared.

        Raises:
            BackendError: The model failed.
        """
        with guarded(), metric.computing():
            encoded = metric.backend.encode([prepared])[0]
        encoded.keep = True
        return cls(metric, encoded, picture)

    def score(self) -> Score:
        """Score the image on 1..5, higher is better; equal to `QSiT.score` up to rounding.

        Raises:
            BackendError: The view is closed, or the model failed.
        """
        metric, image = self._metric, self._image()
        with self._lock, guarded(), metric.computing():
            rows = metric.backend.logits([(image, metric.recipe.scoring())])
            return scores(rows, level_names(metric.recipe.words), [self.note])[0]

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
        with self._lock, guarded(), metric.computing():
            return questions.answer([image])[0]

    def describe(self, *, max_new_tokens: int = 200) -> Answer:
        """Describe the image's quality in words."""
        answer: Answer = self.ask(DESCRIBE, max_new_tokens=max_new_tokens)
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
    metric: QSiT, images: Iterable[Any], *, exif: bool = True, timing: Timing | None = None
) -> Iterator[View | QSiTError]:
    """Open a stream of single images, in order; the next ones are read and prepared while one is asked.

    Args:
        metric: Whose views they are.
        images: Any iterable of images; it is read a few images ahead.
        exif: See `QSiT.score`.
        timing: Takes the time that the model waits for pictures.

    Yields:
        A `View`, to be closed by who takes it, or the error of an image that cannot be read or encoded.

    Example:
        >>> for view in opened(metric, ["a.jpg", "b.jpg"]):  # doctest: +SKIP
        ...     with view:
        ...         view.ask("Is it sharp?")
    """

    def prepare(image: Any) -> tuple[Picture, Prepared]:
        with guarded(), metric.computing():  # grad mode is local to a thread
            picture = load(image, exif=exif)
            return picture, metric.backend.prepare(picture)

    for found in (timing or Timing()).watch(ahead(images, prepare)):
        if isinstance(found, QSiTError):
            yield found
            continue
        try:
            view = View.of(metric, *found)
        except QSiTError as error:
            yield error
            continue
        yield view
