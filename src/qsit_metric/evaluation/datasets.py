"""The public IQA sets: where their files lie, what they hold, and one call to read them.

Higher is better in all that is handed out; KADID-10k calls its scores "dmos" all the same, those of CSIQ and LIVE are
turned round. Numbers are those of the published files; what could only be learnt second-hand is said to be so in
`notes`.
"""

from __future__ import annotations

import difflib
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from ..errors import EvaluationError, counted, refuse
from ..files import PathLike
from .formats import CSIQ_FOLDERS, FORMATS
from .manifest import Item, Manifest, renamed
from .readers import format_of, read_scores
from .tables import Source
from .unpacked import KONIQ_SETS, find, names_on_disk, with_split

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
        flawed: Rows of the published file that cannot be used; they are left out, and that is said.
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
    flawed: int = 0
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
            KONIQ_SETS,
            f"metadata/{KONIQ_SETS}",
        ),
        images=(
            "1024x768",
            "koniq10k_1024x768/1024x768",
            "koniq10k_1024x768",
            "512x384",
            "koniq10k_512x384/512x384",
            "koniq10k_512x384",
        ),
        scale=(0.0, 100.0),
        n=10073,
        level_scale=(6.68, 85.36),
        notes="The score is MOS_zscore (0..100), as in the authors' training labels; Q-Bench's JSON has the raw MOS on "
        "1..5. SRCC of the two: 0.9919. Splits train, val and test (7058, 1000, 2015) if the file of sets lies beside.",
        source="database.mmsp-kn.de/koniq-10k-database.html",
    ),
    IQASet(
        name="spaq",
        title="SPAQ",
        reader="spaq",
        labels=("Annotations/MOS and Image attribute scores.xlsx", "MOS and Image attribute scores.xlsx"),
        images=("TestImage", "Dataset/TestImage", "TestImage_512", "images"),
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
    IQASet(
        name="livemd",
        title="LIVE Multiply Distorted",
        reader="livemd",
        labels=(
            "Part 1/Scores.mat",
            "Part_1/Scores.mat",
            "To_Release/Part 1/Scores.mat",
            "To_Release/Part_1/Scores.mat",
        ),
        images=("To_Release", "."),
        scale=(0.0, 100.0),
        n=450,
        notes="The score is 100 - DMOS. Layout and count are second-hand, from its common readers.",
        source="live.ece.utexas.edu/research/quality/live_multidistortedimage.html",
    ),
    IQASet(
        name="mdid",
        title="MDID",
        reader="mdid",
        labels=("mos.txt",),
        images=("distortion_images",),
        scale=(0.0, 8.0),
        n=1600,
        notes="mos.txt has no names: 80 versions of each of 20 references, in order. Layout is second-hand, from its "
        "common readers.",
        source="the publishers of MDID (Sun, Zhou, Liao; Pattern Recognition 61, 2017)",
    ),
    IQASet(
        name="pipal",
        title="PIPAL",
        reader="pipal",
        labels=("Train_Label", "meta_info_PIPALDataset.csv"),
        images=("Train_Dist", "Dist_Imgs", "."),
        scale=(900.0, 1850.0),
        n=23200,
        subfolders=("Distortion_1", "Distortion_2", "Distortion_3", "Distortion_4"),
        notes="Elo scores of the training part, 917 to 1836: 116 versions of each of 200 references. Of the other "
        "parts no scores are published.",
        source="github.com/HaomingCai/PIPAL-dataset",
    ),
    IQASet(
        name="flive",
        title="FLIVE (PaQ-2-PiQ)",
        reader="flive",
        labels=("labels_image.csv", "database/labels_image.csv"),
        images=("database", "."),
        scale=(0.0, 100.0),
        n=39810,
        notes="Whole pictures, not patches. Splits train, val and test if labels640.csv and labels=640_padded.csv lie "
        "beside; papers use the 1825 of test.",
        source="github.com/niu-haoran/FLIVE_Database",
    ),
    IQASet(
        name="uhd-iqa",
        title="UHD-IQA",
        reader="uhd",
        labels=("uhd-iqa-metadata.csv", "uhd-iqa-training-metadata.csv"),
        images=("database", "challenge", "images", "."),
        scale=(0.0, 1.0),
        n=6073,
        subfolders=("training", "validation", "test"),
        notes="Splits train, val and test (4269, 904, 900), by the column `set` or the images' folder. Layout is "
        "second-hand, from its common readers.",
        source="database.mmsp-kn.de/uhd-iqa-benchmark-database.html",
    ),
    IQASet(
        name="agiqa1k",
        title="AGIQA-1K",
        reader="agiqa1k",
        labels=("AIGC_MOS_Zscore.xlsx",),
        images=("file", "AGIQA-1K", "images", "."),
        scale=(0.0, 5.0),
        n=1080,
        flawed=2,
        notes="The sheet AIGC_MOS_Zscore.xlsx is read, which its page describes, not AIGC_all.csv: their SRCC is "
        "0.805. The sheet has dreamStudio_8_9_1_1.jpg twice with different scores; both rows are left out. Image "
        "folders are second-hand.",
        source="github.com/lcysyzxdxc/AGIQA-1k-Database",
    ),
    IQASet(
        name="aigciqa2023",
        title="AIGCIQA2023",
        reader="aigciqa2023",
        labels=("DATA/MOS/mosz1.mat", "mosz1.mat"),
        images=("Image/allimg", "allimg", "Image/allimg/allimg"),
        scale=(0.0, 100.0),
        n=2400,
        notes="mosz1 is quality; mosz2 (authenticity) and mosz3 (correspondence) are not read. Layout, order and scale "
        "are second-hand, from its common readers.",
        source="github.com/wangjiarui153/AIGCIQA2023",
    ),
    IQASet(
        name="bid",
        title="BID",
        reader="bid",
        labels=("DatabaseGrades.xls",),
        images=("ImageDatabase", "BID", "images", "."),
        scale=(0.0, 5.0),
        n=586,
        notes="Pictures are numbers in the file, 1 to 590 with gaps. Image folders are second-hand.",
        source="github.com/zwx8981/UNIQUE",
    ),
    IQASet(
        name="ava",
        title="AVA",
        reader="ava",
        labels=("AVA.txt",),
        images=("ava_images", "images", "image"),
        scale=(1.0, 10.0),
        n=255530,
        notes="Aesthetics, the mean of the votes for 1 to 10. Splits train and test if generic_test.jpgl lies beside. "
        "Layout and count are second-hand; some of the images are no longer to be had.",
        source="the publishers of AVA (Murray, Marchesotti, Perronnin; CVPR 2012)",
    ),
    IQASet(
        name="cid2013",
        title="CID2013",
        reader="cid2013",
        labels=("CID2013 data - version 12112014.xlsx",),
        images=(".",),
        scale=(-10.0, 100.0),
        n=474,
        notes="The score is the realigned MOS, one scale for all six sets; some are negative. Layout is second-hand, "
        "from its common readers.",
        source="the publishers of CID2013 (Virtanen et al.; IEEE TIP 24, 2015)",
    ),
    IQASet(
        name="piq23",
        title="PIQ23 (overall)",
        reader="piq23",
        labels=("Scores_Overall.csv", "Scores/Scores_Overall.csv"),
        images=(".",),
        scale=(-7.5, 5.5),
        n=5116,
        notes="Just-objectionable differences, comparable within a scene (`Item.group`) only; higher is better. Splits "
        "train and test (3604, 1512), by devices, if Device Split.csv lies beside.",
        source="github.com/DXOMARK-Research/PIQ2023",
    ),
    IQASet(
        name="gfiqa",
        title="GFIQA-20k",
        reader="pyiqa",
        labels=("mos_val_rating.csv", "meta_info_GFIQADataset.csv"),
        images=("image", "images"),
        scale=(0.0, 1.0),
        n=20000,
        notes="Faces. Layout is second-hand, from its common readers; a list of 19,998 is passed on, too.",
        source="database.mmsp-kn.de/gfiqa-20k-database.html",
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
    labels = find(place, record.labels)
    if labels is None:
        hint = f"Get {record.title} from {record.source}."
        raise EvaluationError.about("folder", str(place), f"a folder with {' or '.join(record.labels)}", hint)
    root = find(place, record.images) or place / record.images[0]
    left_out: list[str] = []
    manifest = read_scores(labels, _format(record, labels), root=root, name=record.name, refused=left_out)
    if refused is not None:
        refused += left_out
    elif len(left_out) > record.flawed:
        refuse(labels, left_out, len(left_out) + len(manifest))
    manifest = with_split(renamed(manifest, names_on_disk(manifest, record.subfolders)), record.name, place)
    found = _differences(manifest, record)
    found += (
        [f"{counted(len(left_out), 'row')} left out: {'; '.join(left_out)}"] if left_out and refused is None else []
    )
    if differences is not None:
        differences += found
        return manifest
    for warning in found:
        _LOG.warning("%s in %s: %s", record.title, place, warning)
    return manifest


def _format(record: IQASet, labels: Path) -> str:
    """The set's own format, or that of another form in which it is passed on."""
    own = FORMATS[record.reader]
    if own.fits(Source(labels)) or labels.name == Path(record.labels[0]).name:
        return own.name
    found = format_of(labels)
    return own.name if found is None else found.name


def _set_named(name: str) -> IQASet:
    if name not in IQA_SETS:
        near = difflib.get_close_matches(str(name), IQA_SETS, n=1, cutoff=0.4)
        hint = f"Did you mean {near[0]!r}?" if near else "Other label files go to `read_scores`."
        raise EvaluationError.about("name", name, f"one of {', '.join(IQA_SETS)}", hint)
    return IQA_SETS[name]


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
