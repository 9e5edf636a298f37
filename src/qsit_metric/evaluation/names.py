"""What the names of pictures tell: of which set they are, of which reference, and which way its scores go.

CSIQ, LIVE and LIVE's multiply distorted pictures are published with DMOS, the difference to the undistorted picture:
higher is worse. Lists that others make of them keep the numbers under names such as `gt_score`, `score` or `mos`
(Q-Align's `test_jsons/csiq.json` and `live.json` at 14dfdff; IQA-PyTorch's `meta_info_LIVEIQADataset.csv`, column
`mos`, by its `scripts/process_live.py` at 01ae427), others turn them round first. The list's own numbers tell which it
is: CSIQ's names hold the strength of a distortion, and of LIVE it is known which pictures are good and which are not,
in both of its publications (`dmos.mat` and `dmos_realigned.mat`).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from statistics import fmean

Scores = Mapping[str, float]

_ENOUGH = 0.9  # share of a list's names that must be a set's
# Undistorted copies and the mildest distortions; the strongest. More of those that lists begin with.
_LIVE_GOOD = {
    "jp2k": (1, 2, 9, 11, 19, 58, 195, 199, 212), "jpeg": (3, 5, 6, 7, 8, 10, 12, 13, 57, 70, 143, 151),
    "wn": (1, 5, 6, 8, 11, 19, 59, 98, 99, 101), "gblur": (4, 7, 8, 9, 12, 23, 63, 95, 137),
    "fastfading": (4, 5, 10, 30, 45, 80, 139),
}  # fmt: skip
_LIVE_BAD = {
    "jp2k": (4, 5, 6, 65, 71, 107, 121, 201), "jpeg": (1, 4, 9, 11, 23, 79, 91, 100),
    "wn": (4, 20, 23, 42, 58, 94), "gblur": (5, 10, 11, 17, 24, 104, 116),
    "fastfading": (1, 2, 3, 8, 11, 31, 52, 116, 131, 132),
}  # fmt: skip


@dataclass(frozen=True)
class Named:
    """Set whose pictures are told by their names.

    Attributes:
        title: How papers call it.
        pattern: Of the path's end; its group `ref`, if it has one, is the reference.
        best: The best of its scores if they fall with quality, from which they are subtracted; else None.
        falls: Whether the scores of a list fall with quality; None if its numbers do not tell.
    """

    title: str
    pattern: re.Pattern[str]
    best: float | None = None
    falls: Callable[[Scores], bool | None] = lambda _: None

    def match(self, image: str) -> re.Match[str] | None:
        """Whether a picture is of this set by its name."""
        return self.pattern.search(image)


def named(images: Iterable[str]) -> Named | None:
    """The set of which nearly all pictures are, by their names; None if there is none.

    Example:
        >>> named(["csiq/dst_imgs/awgn/1600.AWGN.1.png"]).title, named(["a.jpg"])
        ('CSIQ', None)
    """
    listed = list(images)
    for one in NAMED:
        if listed and one.match(listed[0]) and sum(bool(one.match(image)) for image in listed) >= _ENOUGH * len(listed):
            return one
    return None


def reference(image: str) -> str:
    """The undistorted picture of which this one is a version, by the ways in which sets name them; empty if untold.

    Example:
        >>> reference("images/I01_10_03.png"), reference("1600.AWGN.1.png"), reference("holiday.jpg")
        ('i01', '1600', '')
    """
    for one in NAMED:
        if "ref" in one.pattern.groupindex and (found := one.match(image)):
            return found["ref"].casefold()
    return ""


def _csiq_falls(scores: Scores) -> bool | None:
    """By the strengths of one distortion of one picture: more of it is worse."""
    found = ((_CSIQ.search(image), score) for image, score in scores.items())
    return _by_strength((f"{m['ref']}/{m[2].lower()}", int(m[3]), score) for m, score in found if m)


def _livemd_falls(scores: Scores) -> bool | None:
    """By the strengths of both distortions of one picture."""
    found = ((_LIVEMD.search(image), score) for image, score in scores.items())
    return _by_strength((m["ref"], sum(map(int, re.findall(r"\d", m[2]))), score) for m, score in found if m)


def _by_strength(rows: Iterable[tuple[str, int, float]]) -> bool | None:
    """Whether the strongest of each group scores above the weakest in most of the groups; None: in half of them."""
    groups: dict[str, list[tuple[int, float]]] = {}
    for group, strength, score in rows:
        groups.setdefault(group, []).append((strength, score))
    steps = [max(group)[1] - min(group)[1] for group in groups.values() if max(group)[0] > min(group)[0]]
    worse_is_more, worse_is_less = sum(step > 0 for step in steps), sum(step < 0 for step in steps)
    return None if worse_is_more == worse_is_less else worse_is_more > worse_is_less


def _live_falls(scores: Scores) -> bool | None:
    """By the pictures that are known to be good or bad."""
    good, bad = (_of(scores, known) for known in (_LIVE_GOOD, _LIVE_BAD))
    return fmean(bad) > fmean(good) if good and bad else None


def _of(scores: Scores, known: Mapping[str, tuple[int, ...]]) -> list[float]:
    wanted = {(folder, str(number)) for folder, numbers in known.items() for number in numbers}
    return [score for image, score in scores.items() if (m := _LIVE.search(image)) and (m[1].lower(), m[2]) in wanted]


def _part(*patterns: str) -> re.Pattern[str]:
    return re.compile(r"(?:^|/)" + "".join(patterns) + r"$", re.IGNORECASE)


_CSIQ = _part(r"(?P<ref>[^/]+)\.(awgn|blur|contrast|fnoise|jpeg|jpeg2000)\.([1-5])\.png")
_LIVE = _part(r"(jp2k|jpeg|wn|gblur|fastfading)/img(\d+)\.bmp")
_LIVEMD = _part(r"(?P<ref>[^/_]+)_((?:(?:blur|jpeg|noise)[1-3]_?)+)\.bmp")

NAMED = (
    Named("CSIQ", _CSIQ, 1.0, _csiq_falls),
    Named("LIVE", _LIVE, 100.0, _live_falls),
    Named("LIVE Multiply Distorted", _LIVEMD, 100.0, _livemd_falls),
    Named("KADID-10k", _part(r"(?P<ref>i\d\d)_\d\d_\d\d\.png")),
    Named("TID2013", _part(r"(?P<ref>i\d\d)_\d\d_\d\.(?:bmp|png)")),
    Named("PIPAL", _part(r"(?P<ref>a\d{4})_\d\d_\d\d\.(?:bmp|png)")),
    Named("MDID", _part(r"(?P<ref>img\d\d)_\d\d\.(?:bmp|png)")),
)
