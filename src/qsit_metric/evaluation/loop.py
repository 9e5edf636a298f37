"""Evaluation of a metric on a data set: scores, correlations with people, and every image that failed.

The authors' code ignores the EXIF orientation, so `exif` is False by default here, unlike in `QSiT.score`.
"""

from __future__ import annotations

import csv
import io
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from ..errors import EvaluationError, QSiTError, released
from ..files import PathLike, escaped
from .correlations import Correlations, correlate
from .manifest import FILES, Item, Manifest, number

if TYPE_CHECKING:
    from ..batching import Timing
    from ..metric import QSiT

Progress: TypeAlias = Callable[[int, int], object]

_LOG = logging.getLogger("qsit_metric")


@dataclass(frozen=True)
class Evaluation:
    """Scores of a metric on a data set, and their agreement with people.

    Attributes:
        name: Name of the data set.
        n: Images that were scored; the correlations are over these.
        correlations: Agreement of the scores with the mean opinion scores.
        scores: (item, score) of each image that worked, in the manifest's order. A `QSiT` gives `Score`s.
        failed: (item, error) of each image that did not.
        manifest: SHA-256 of the manifest.
        exif: Whether the EXIF orientation was applied; None if the metric reads the files itself.
        made: What made the scores (`QSiT.info`), or the name of the metric.
        labels: What people's scores are, such as "MOS_zscore, 3.91..88.39"; of KonIQ-10k there are two scales.
    """

    name: str
    n: int
    correlations: Correlations
    scores: tuple[tuple[Item, float], ...]
    failed: tuple[tuple[Item, Exception], ...]
    manifest: str
    exif: bool | None
    made: Mapping[str, str | None]
    labels: str = ""

    def as_dict(self) -> dict[str, Any]:
        """Plain fields for result files."""
        return {
            "name": self.name, "n": self.n, "n_failed": len(self.failed), "correlations": self.correlations.as_dict(),
            "manifest": self.manifest, "labels": self.labels, "exif": self.exif, "made": dict(self.made),
            "images": self._rows(),
        }  # fmt: skip

    def save(self, path: PathLike) -> None:
        """Write everything as .json, or the rows of the images as .csv; whole or not at all.

        Raises:
            EvaluationError: Another suffix, or the file cannot be written.
        """
        write_results(path, self.as_dict(), self._rows())

    def _rows(self) -> list[dict[str, Any]]:
        """Scored images first, then those that failed."""
        scored: list[tuple[Item, float | None, str]] = [(item, float(score), "") for item, score in self.scores]
        failed = [(item, None, f"{type(error).__name__}: {error}") for item, error in self.failed]
        return [
            {"id": item.id, "image": item.image, "split": item.split, "mos": item.mos, "score": score, "error": error}
            for item, score, error in [*scored, *failed]
        ]


def evaluate(
    metric: QSiT | Callable[[str], Any],
    manifest: Manifest,
    *,
    exif: bool = False,
    progress: Progress | None = None,
) -> Evaluation:
    """Score the images of a manifest and compare with people.

    Args:
        metric: A `QSiT`; or any function of a path that gives a number or a tensor of one element, as pyiqa's metrics
            do. Its direction is kept: a metric for which lower is better has negative correlations.
        manifest: The images, their scores and their folder.
        exif: Apply the EXIF orientation; for a `QSiT` only, a function reads files as it does.
        progress: Called with (done, total) after each image.

    Returns:
        The correlations over the images that worked, all scores, and all failures.

    Raises:
        EvaluationError: Something that is no metric.

    Example:
        >>> manifest = Manifest("mine", [Item(f"{i}.jpg", i, str(i)) for i in range(4)], "images")
        >>> evaluate(lambda path: float(path[-5]) ** 2, manifest).correlations.srcc
        1.0
    """
    scored: list[tuple[Item, float]] = []
    failed: list[tuple[Item, Exception]] = []
    results, made = outcomes(metric, manifest, exif)
    for done, (item, result) in enumerate(zip(manifest.items, results, strict=True), start=1):
        if isinstance(result, Exception):
            failed.append((item, result))
        else:
            scored.append((item, result))
        if progress:
            progress(done, len(manifest))
    if failed:
        first, error = failed[0]
        counts = f"{len(failed)} of {len(manifest)} images failed"
        _LOG.warning("%s: %s, first %s: %s", manifest.name, counts, first.image, error)
    found = correlate([float(score) for _, score in scored], [item.mos for item, _ in scored])
    applied = exif if is_qsit(metric) else None
    good, bad = tuple(scored), tuple(failed)
    return Evaluation(manifest.name, len(good), found, good, bad, manifest.sha256, applied, made, manifest.scale)


def write_results(path: PathLike, fields: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]) -> None:
    """Write results by the file's suffix: the whole record as .json, or its rows as .csv.

    Raises:
        EvaluationError: Another suffix, or the file cannot be written.
    """
    target = Path(path)
    if target.suffix.lower() == ".json":
        FILES.write_json(target, fields)
    elif target.suffix.lower() == ".csv":
        FILES.write(target, _csv(rows))
    else:
        raise EvaluationError.about("path", str(path), "a name that ends in .csv or .json")


def _csv(rows: Sequence[Mapping[str, Any]]) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, fieldnames=list(rows[0]) if rows else [], lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return escaped(text.getvalue())


def is_qsit(metric: object) -> bool:
    """Tell a `QSiT` from a mere function of a path."""
    return callable(getattr(metric, "score_iter", None))


def provenance(metric: Any) -> dict[str, str | None]:
    """Record of what makes a metric's scores: `QSiT.info`, or the name of a function.

    Raises:
        EvaluationError: Something that is no metric.
    """
    if is_qsit(metric):
        return dict(metric.info)
    if not callable(metric):
        raise EvaluationError.about("metric", metric, "a QSiT or a function of a path")
    name = getattr(metric, "metric_name", None) or getattr(metric, "__qualname__", type(metric).__qualname__)
    return {"model": str(name)}


def outcomes(
    metric: Any, manifest: Manifest, exif: bool, timing: Timing | None = None
) -> tuple[Iterator[float | Exception], dict[str, str | None]]:
    """Stream of scores or errors, one for each image, and the record of what makes them; `timing` is for a `QSiT`."""
    made = provenance(metric)
    paths = (str(manifest.path(item)) for item in manifest.items)
    if is_qsit(metric):
        watched = {"timing": timing} if timing else {}
        stream: Iterator[float | QSiTError] = metric.score_iter(paths, exif=exif, errors="return", **watched)
        return stream, made
    return (_called(metric, path) for path in paths), made


def _called(metric: Callable[[str], Any], path: str) -> float | Exception:
    try:
        value = metric(path)
        return number(value.item() if hasattr(value, "item") else value)
    except Exception as error:  # noqa: BLE001  # a foreign metric may raise anything; it is kept and reported
        return released(error)
