"""Whether pictures are there and can be decoded: a run must not stop days later for one. Thin shell."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

from qsit_metric import console
from qsit_metric.errors import ImageError
from qsit_metric.evaluation.errors import counted
from qsit_metric.images import load

_AT_ONCE = 1024  # tasks that wait; hundreds of thousands would take memory


@dataclass(frozen=True)
class Bad:
    """Pictures of one list that cannot be used.

    Attributes:
        reasons: Why, by image.
        missing: Those that are not there; the others cannot be decoded.
    """

    reasons: dict[str, str] = field(default_factory=dict)
    missing: frozenset[str] = frozenset()


@dataclass
class Pictures:
    """Looks at each picture once, however many lists have it.

    Attributes:
        check: Look at all; if not, every picture is taken as good.
        decode: Decode them, too, the way training does.
        say: Told what is being done.
    """

    check: bool = True
    decode: bool = True
    say: Callable[[str], None] = lambda _: None
    _known: dict[Path, str] = field(default_factory=dict)

    def bad(self, images: Iterable[str], root: Path, title: str) -> Bad:
        """The pictures that cannot be used.

        Args:
            images: Paths below the root.
            root: Their folder.
            title: What the list is called.
        """
        if not self.check:
            return Bad()
        paths = {image: root / image for image in images}
        missing = {
            image: f"the image {image!r} is not in {root}" for image, path in paths.items() if not path.is_file()
        }
        broken: dict[str, str] = {}
        if self.decode:
            there = {image: path for image, path in paths.items() if image not in missing}
            self._decode(list(dict.fromkeys(path for path in there.values() if path not in self._known)), title)
            broken = {image: self._known[path] for image, path in there.items() if self._known[path]}
        return Bad(missing | broken, frozenset(missing))

    def _decode(self, paths: Sequence[Path], title: str) -> None:
        if paths:
            self.say(f"Decoding {counted(len(paths), 'picture')} of {title} ...")
        reasons = zip(paths, _in_threads(_problem, paths), strict=True)
        self._known |= dict(console.track(reasons, "Decoding", len(paths)))


def _problem(path: Path) -> str:
    """Why a picture cannot be decoded; empty if it can. Pillow decodes outside the interpreter's lock."""
    try:
        load(path, exif=False)
    except ImageError as error:
        return f"the picture cannot be decoded: {error}"
    return ""


def _in_threads(work: Callable[[Path], str], paths: Iterable[Path]) -> Iterator[str]:
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        left = iter(paths)
        while batch := list(islice(left, _AT_ONCE)):
            yield from pool.map(work, batch)
