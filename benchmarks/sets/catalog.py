"""What is known of each benchmark's data set: names, folders, numbers and where it is to be had. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from qsit_metric.evaluation import IQA_SETS
from qsit_metric.evaluation.qbench import N_LLDESCRIBE

Kind = Literal["scores", "questions", "descriptions"]

_QALIGN_LISTS = "github.com/Q-Future/Q-Align (the list, in playground/data/test_jsons)"
_QALIGN_IMAGES = "huggingface.co/datasets/q-future/q-align-datasets (the images; those of {} will do)"
KONIQ_SPLITS = "koniq10k_distributions_sets.csv"
QALIGN_FOLDERS = ("q-align", "qalign", "q-align-datasets")


@dataclass(frozen=True)
class BenchmarkSet:
    """One data set as a benchmark uses it.

    Attributes:
        name: What commands take.
        title: How papers call it.
        kind: "scores" (images with a MOS), "questions" (LLVisionQA) or "descriptions" (LLDescribe).
        folders: Names that its folder may have below the data root, in any case; "a/b" is a folder in a folder.
        n: Images, or questions, as published.
        total: Sum of its scores as published, None if no published list was at hand; a changed label file shows in it.
        iqa: Its key in `IQA_SETS`, for `read_iqa`.
        split: Only this split is used; for questions: which split.
        listed: Q-Align's JSON with its images and scores.
        pictures: Folder of the images of `listed`, below that of Q-Align.
        official: The set (a key of `IQA_SETS`) whose own folder may hold the images of `listed`.
        get: Where to get it.
    """

    name: str
    title: str
    kind: Kind
    folders: tuple[str, ...]
    n: int
    total: float | None = None
    iqa: str = ""
    split: str = ""
    listed: str = ""
    pictures: str = ""
    official: str = ""
    get: str = ""


# How the folders of the public sets are called: the archives' names and the short ones.
FOLDERS: Mapping[str, tuple[str, ...]] = {
    "koniq": ("koniq10k", "koniq-10k", "koniq"),
    "spaq": ("spaq",),
    "livec": ("ChallengeDB_release", "livec", "live-challenge"),
    "agiqa": ("AGIQA-3K", "agiqa3k", "agiqa"),
    "kadid": ("kadid10k", "kadid-10k", "kadid"),
    "tid2013": ("tid2013",),
    "csiq": ("csiq", "q-align/csiq"),
    "live": ("databaserelease2", "LIVEIQA_release2", "live", "q-align/live"),
}
_QBENCH_FOLDERS = ("LLVisionQA-QBench", "LLVisionQA", "Q-Bench-HF", "qbench")


def _public(
    name: str, iqa: str, n: int = 0, total: float | None = None, split: str = "", listed: str = "", pictures: str = ""
) -> BenchmarkSet:
    record = IQA_SETS[iqa]
    title = f"{record.title} ({split})" if split and name != iqa else record.title
    return BenchmarkSet(
        name, title, "scores", FOLDERS[iqa], n or record.n, total, iqa, split, listed, pictures, get=record.source
    )


def _listed(name: str, title: str, iqa: str, n: int, total: float) -> BenchmarkSet:
    get = f"{_QALIGN_LISTS} and {_QALIGN_IMAGES.format(title)}"
    listed = f"test_{iqa}.json"
    title = f"{title} (Q-Align's test part)"
    return BenchmarkSet(name, title, "scores", (), n, total, listed=listed, pictures=iqa, official=iqa, get=get)


def _questions(split: str) -> BenchmarkSet:
    get = "huggingface.co/datasets/nanyangtu/LLVisionQA-QBench or .../q-future/Q-Bench-HF"
    return BenchmarkSet(
        f"llvisionqa-{split}", f"LLVisionQA ({split})", "questions", _QBENCH_FOLDERS, 1495, split=split, get=get
    )


# Sums are those of Q-Bench's `a3_iqa_databases/jsons/` at f19783e and of Q-Align's `test_jsons/` at 14dfdff; KonIQ's
# there is of another scale. LIVE without its references, and KonIQ's official split, count as their readers do.
_SETS = (
    _public("koniq", "koniq"),
    _public("koniq-test", "koniq", 2015, split="test"),
    _listed("koniq-qalign", "KonIQ-10k", "koniq", 2010, 118090.60841469429),
    _public("spaq", "spaq", total=559786.51),
    _listed("spaq-qalign", "SPAQ", "spaq", 2224, 110895.67),
    _public("livec", "livec", total=64749.43232868506, listed="livec.json", pictures="livec"),
    _public("agiqa", "agiqa", total=7456.24400172, listed="agi.json", pictures="agi-cgi"),
    _public("kadid", "kadid", total=30705.41),
    _public("kadid-test", "kadid", 2000, 6062.98, "test"),
    _public("tid2013", "tid2013"),
    _public("csiq", "csiq"),
    _public("live", "live", 779, split="test"),
    _questions("dev"),
    _questions("test"),
    BenchmarkSet(
        "lldescribe", "LLDescribe", "descriptions", ("LLDescribe-QBench", "lldescribe"), N_LLDESCRIBE,
        get="huggingface.co/datasets/nanyangtu/LLDescribe-QBench",
    ),
)  # fmt: skip

SETS: Mapping[str, BenchmarkSet] = {one.name: one for one in _SETS}
