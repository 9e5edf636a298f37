"""The public IQA sets: where their files lie, what they hold, and one call to read them.

Higher is better in all that is handed out; KADID-10k calls its scores "dmos" all the same, those of CSIQ and LIVE are
turned round. Numbers are those of the published files; what could only be learnt second-hand is said to be so in
`notes`.
"""

from __future__ import annotations

import difflib
import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from ..errors import EvaluationError, counted
from ..files import PathLike
from .formats import CSIQ_FOLDERS, FORMATS
from .manifest import Item, Manifest, renamed
from .readers import read_scores

_LOG = logging.getLogger("qsit_metric")


@dataclass(frozen=True)
class IQASet:
    """Public data set: where its files lie, the scale of its scores, and what its publishers count.

    Attributes:
        name: What `read_iqa` takes.
        title: How papers call it.
        reader: Its format, a key of `FORMATS`.
        labels: Where its label file lies below its folder; the first that is there is read.
        images: Where its images lie, likewise.
        scale: Nominal range of its scores.
        n: Images that its publishers count.
        level_scale: The scale with which the published level labels are reproduced ("authors" convention), or None.
        subfolders: Folders below `images` in which some of the images lie.
        any_case: File names on the disk may differ from the label file's in case.
        notes: What a reader of a result should know.
        source: Where to get it.
    """

    name: str
    title: str
    reader: str
    labels: tuple[str, ...]
    images: tuple[str, ...]
    scale: tuple[float, float]
    n: int
    level_scale: tuple[float, float] | None = None
    subfolders: tuple[str, ...] = ()
    any_case: bool = False
    notes: str = ""
    source: str = ""


_SETS = (
    IQASet(
        name="koniq",
        title="KonIQ-10k",
        reader="koniq",
        labels=(
            "koniq10k_scores_and_distributions.csv",
            "koniq10k_scores_and_distributions/koniq10k_scores_and_distributions.csv",
        ),
        images=("1024x768",),
        scale=(0.0, 100.0),
        n=10073,
        level_scale=(6.68, 85.36),
        notes="The score is MOS_zscore, as in the authors' training labels; Q-Bench's JSON has the raw MOS on 1..5.",
        source="database.mmsp-kn.de/koniq-10k-database.html",
    ),
    IQASet(
        name="spaq",
        title="SPAQ",
        reader="spaq",
        labels=("Annotations/MOS and Image attribute scores.xlsx", "MOS and Image attribute scores.xlsx"),
        images=("TestImage",),
        scale=(0.0, 100.0),
        n=11125,
        level_scale=(0.0, 94.0),
        notes="The authors' lists leave out the 4 images with the highest scores.",
        source="github.com/h4nwei/SPAQ",
    ),
    IQASet(
        name="livec",
        title="LIVE Challenge",
        reader="livec",
        labels=("Data/AllMOS_release.mat",),
        images=("Images",),
        scale=(0.0, 100.0),
        n=1169,
        subfolders=("trainingImages",),
        notes="1169 images, t1 to t7 among them, which taught the raters (split 'training'); subset('test') has the "
        "usual 1162. Papers count 1168 or 1169.",
        source="live.ece.utexas.edu/research/ChallengeDB",
    ),
    IQASet(
        name="agiqa",
        title="AGIQA-3K",
        reader="agiqa",
        labels=("data.csv",),
        images=("AGIQA-3K", "images", "."),
        scale=(0.0, 5.0),
        n=2982,
        notes="The score is mos_quality, not mos_align. The image folder's name is second-hand.",
        source="github.com/lcysyzxdxc/AGIQA-3k-Database",
    ),
    IQASet(
        name="kadid",
        title="KADID-10k",
        reader="kadid",
        labels=("dmos.csv",),
        images=("images",),
        scale=(1.0, 5.0),
        n=10125,
        notes="Split 'test' is Q-Align's: references I66 to I81, 2000 images. Papers do not say which part they used.",
        source="database.mmsp-kn.de/kadid-10k-database.html",
    ),
    IQASet(
        name="tid2013",
        title="TID2013",
        reader="tid2013",
        labels=("mos_with_names.txt",),
        images=("distorted_images",),
        scale=(0.0, 9.0),
        n=3000,
        any_case=True,
        notes="The case of file names differs between the label file and the archive.",
        source="ponomarenko.info/tid2013.htm",
    ),
    IQASet(
        name="csiq",
        title="CSIQ",
        reader="csiq",
        labels=("csiq.DMOS.xlsx", "csiq.csv", "meta_info_CSIQDataset.csv"),
        images=("dst_imgs", "dst_imgs_all", "."),
        scale=(0.0, 1.0),
        n=866,
        subfolders=CSIQ_FOLDERS,
        notes="The score is 1 - DMOS. Layout and count are second-hand, from its common readers; so is the csv, which "
        "is IQA-PyTorch's (dist_name, dmos). Q-Align's csiq.json gives the contrast images the scores of the noisy.",
        source="s2.smu.edu/~eclarson/csiq.html",
    ),
    IQASet(
        name="live",
        title="LIVE (release 2)",
        reader="live",
        labels=("dmos_realigned.mat",),
        images=(".",),
        scale=(-12.0, 103.0),
        n=982,
        notes="The score is 100 - realigned DMOS; some lie outside 0..100. 982 images, undistorted copies of the "
        "references among them (split 'reference'); subset('test') has the usual 779. Layout, counts and range are "
        "second-hand, from its common readers.",
        source="live.ece.utexas.edu/research/quality/subjective.htm",
    ),
)

IQA_SETS: Mapping[str, IQASet] = {one.name: one for one in _SETS}


def read_iqa(
    name: str, folder: PathLike, *, refused: list[str] | None = None, differences: list[str] | None = None
) -> Manifest:
    """Read a public data set from the folder into which its archives were unpacked.

    What differs from the published set (the count, scores outside the scale, absent images) is logged as a warning.

    Args:
        name: A key of `IQA_SETS`.
        folder: The set's own folder.
        refused: A list that takes the rows that cannot be used, which leaves them out; default: they are an error.
        differences: A list that takes what would be logged.

    Returns:
        All items, with the image folder as root; ids are the label file's names.

    Raises:
        EvaluationError: An unknown set, no label file, or rows that cannot be used.
        DependencyError: A package is missing that reads the label file.

    Example:
        >>> read_iqa("koniq", "data/koniq10k").root.as_posix()  # doctest: +SKIP
        'data/koniq10k/1024x768'
    """
    record = _set_named(name)
    place = Path(folder)
    labels = _first(place, record.labels)
    if labels is None:
        hint = f"Get {record.title} from {record.source}."
        raise EvaluationError.about("folder", str(place), f"a folder with {' or '.join(record.labels)}", hint)
    root = _first(place, record.images) or place / record.images[0]
    manifest = read_scores(labels, FORMATS[record.reader].name, root=root, name=record.name, refused=refused)
    manifest = renamed(manifest, _names_on_disk(manifest, record))
    found = _differences(manifest, record)
    if differences is not None:
        differences += found
        return manifest
    for warning in found:
        _LOG.warning("%s in %s: %s", record.title, place, warning)
    return manifest


def _set_named(name: str) -> IQASet:
    if name not in IQA_SETS:
        near = difflib.get_close_matches(str(name), IQA_SETS, n=1, cutoff=0.4)
        hint = f"Did you mean {near[0]!r}?" if near else "Other label files go to `read_scores`."
        raise EvaluationError.about("name", name, f"one of {', '.join(IQA_SETS)}", hint)
    return IQA_SETS[name]


def _first(folder: Path, candidates: Iterable[str]) -> Path | None:
    return next((folder / candidate for candidate in candidates if (folder / candidate).exists()), None)


def _names_on_disk(manifest: Manifest, record: IQASet) -> dict[str, str]:
    """Images of the label file that lie in a subfolder, or under a name that differs in case."""
    names: dict[str, str] = {}
    if not (record.subfolders or record.any_case):
        return names
    lower: dict[str, list[str]] = {}
    for found in manifest.root.iterdir() if record.any_case and manifest.root.is_dir() else ():
        lower.setdefault(found.name.lower(), []).append(found.name)
    for image in manifest.missing():
        below = [f"{folder}/{image}" for folder in record.subfolders if (manifest.root / folder / image).is_file()]
        candidates = below or lower.get(image.lower(), [])
        if len(candidates) > 1:
            raise EvaluationError.about("image", image, f"one file, not {', '.join(sorted(candidates))}")
        names |= dict.fromkeys([image], candidates[0]) if candidates else {}
    return names


def _differences(manifest: Manifest, record: IQASet) -> list[str]:
    low, high = record.scale
    outside: list[Item] = [item for item in manifest.items if not low <= item.mos <= high]
    absent = manifest.missing()
    said = []
    if len(manifest) != record.n:
        said.append(f"{counted(len(manifest), 'image')}, published are {record.n}")
    if outside:
        said.append(
            f"{counted(len(outside), 'score')} outside {low:g}..{high:g}, first {outside[0].image} {outside[0].mos:g}"
        )
    if absent:
        are = "is" if len(absent) == 1 else "are"
        said.append(f"{counted(len(absent), 'image')} {are} not in {manifest.root}, first {absent[0]}")
    return said
