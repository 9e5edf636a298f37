"""Miniatures of the benchmarks' data sets: a few tiny pictures in the layout and file formats of their publishers.

    built = build(tmp_path)                       # every set
    built = build(tmp_path, ["kadid", "csiq"])    # some of them
    built["csiq"].mos                             # {"1600.AWGN.1.png": 0.9, ...}: what a reader should find

Names are those of `benchmarks.sets.SETS`, "mine" for a csv of one's own, and "llvisionqa-dev-hf" and
"llvisionqa-test-hf" for the parquet files of Q-Bench-HF; these, and the sets of `MORE`, of which there is no benchmark,
are not built unless named. Sets that share a folder are built
together: "koniq" with "koniq-test", "kadid" with "kadid-test".
"""

from __future__ import annotations

import csv
import io
import json
import struct
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import openpyxl
import scipy.io
from PIL import Image

LIVE_FOLDERS = {"jp2k": 227, "jpeg": 233, "wn": 174, "gblur": 174, "fastfading": 174}
CSIQ_TYPES = {
    "noise": ("awgn", "AWGN"),
    "jpeg": ("jpeg", "JPEG"),
    "jpeg 2000": ("jpeg2000", "jpeg2000"),
    "fnoise": ("fnoise", "fnoise"),
    "blur": ("blur", "BLUR"),
    "contrast": ("contrast", "contrast"),
}


@dataclass(frozen=True)
class Miniature:
    """What was built of one set.

    `folder` is the set's own below the root, `images` the folder that image names are relative to, `mos` the scores
    that a reader should hand out (higher is better) by image name, `questions` the rows of the JSON.
    """

    name: str
    folder: Path
    images: Path
    mos: Mapping[str, float] = field(default_factory=dict)
    questions: tuple[dict[str, Any], ...] = ()
    golden: Mapping[str, str] = field(default_factory=dict)

    @property
    def names(self) -> list[str]:
        return list(self.mos or self.golden) or [row["img_path"] for row in self.questions]

    @property
    def n(self) -> int:
        return len(self.names)


def build(root: Path, names: Sequence[str] | None = None, pictures: int = 6) -> dict[str, Miniature]:
    """Write miniatures of `pictures` pictures below a root; default: every set, but not the parquet files."""
    wanted = [name for name in BUILDERS if not name.endswith("-hf")] if names is None else list(names)
    known = {**BUILDERS, **MORE}
    if unknown := [name for name in wanted if name not in known]:
        raise ValueError(f"no such set: {unknown}; there are {list(known)}")
    built: dict[str, Miniature] = {}
    for builder in dict.fromkeys(known[name] for name in wanted):
        built |= {one.name: one for one in builder(root, pictures)}
    return built


def picture(index: int, size: tuple[int, int] = (40, 32)) -> Image.Image:
    """A small picture, another for each index: a ramp with noise."""
    noise = np.random.default_rng(index).normal(0, 6 + 5 * (index % 7), (size[1], size[0], 3))
    ramp = np.linspace(40, 200, size[0])[None, :, None]
    return Image.fromarray(np.clip(ramp + noise, 0, 255).astype(np.uint8))


def paint(folder: Path, names: Sequence[str]) -> None:
    """Write a picture for each name; the suffix tells the format."""
    for index, name in enumerate(names):
        target = folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        picture(index).save(target)


def spread(names: Sequence[str], low: float, high: float, digits: int = 3) -> dict[str, float]:
    """Scores from low to high, all different."""
    return {name: round(low + (high - low) * (i + 0.5) / len(names), digits) for i, name in enumerate(names)}


def write(path: Path, content: str | bytes | list[Any]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    return path


def table(header: Sequence[str], rows: Sequence[Sequence[Any]], quoting: int = csv.QUOTE_MINIMAL) -> str:
    text = io.StringIO()
    csv.writer(text, quoting=quoting, lineterminator="\n").writerows([header, *rows])
    return text.getvalue()


def koniq(root: Path, pictures: int) -> list[Miniature]:
    """With the official split beside it: about half to train, one to validate, the rest to test."""
    folder, names = root / "koniq10k", [f"{1000 + i}.jpg" for i in range(pictures)]
    mos = spread(names, 10, 85)
    header = ["image_name", "c1", "c2", "c3", "c4", "c5", "c_total", "MOS", "SD", "MOS_zscore"]
    rows = [[name, 0, 5, 25, 73, 7, 110, round(score / 20, 2), 0.5, score] for name, score in mos.items()]
    write(folder / "koniq10k_scores_and_distributions.csv", table(header, rows, csv.QUOTE_ALL))
    splits = ["training"] * (pictures // 2) + ["validation"] + ["test"] * (pictures - pictures // 2 - 1)
    rows = [[*row[:9], split] for row, split in zip(rows, splits, strict=False)]
    write(folder / "koniq10k_distributions_sets.csv", table([*header[:9], "set"], rows))
    paint(folder / "1024x768", names)
    test = {name: mos[name] for name, split in zip(names, splits, strict=False) if split == "test"}
    images = folder / "1024x768"
    return [Miniature("koniq", folder, images, mos), Miniature("koniq-test", folder, images, test)]


def spaq(root: Path, pictures: int) -> list[Miniature]:
    folder, names = root / "SPAQ", [f"{i + 1:05}.jpg" for i in range(pictures)]
    mos = spread(names, 5, 94)
    book = openpyxl.Workbook()
    book.active.append(["Image name", "MOS", "Brightness", "Colorfulness", "Contrast", "Noisiness", "Sharpness"])
    for name, score in mos.items():
        book.active.append([name, score, 50, 50, 50, 50, 50])
    (folder / "Annotations").mkdir(parents=True)
    book.save(folder / "Annotations" / "MOS and Image attribute scores.xlsx")
    paint(folder / "TestImage", names)
    return [Miniature("spaq", folder, folder / "TestImage", mos)]


def livec(root: Path, pictures: int) -> list[Miniature]:
    """The first seven taught the raters and lie apart; so there are `pictures` and seven more."""
    folder = root / "ChallengeDB_release"
    taught, rated = [f"t{i}.bmp" for i in range(1, 8)], [f"{i + 3}.bmp" for i in range(pictures)]
    cells = np.empty((7 + pictures, 1), dtype=object)
    cells[:, 0] = taught + rated
    images = [*(f"trainingImages/{name}" for name in taught), *rated]
    mos = spread(images, 4, 92)
    (folder / "Data").mkdir(parents=True)
    scipy.io.savemat(folder / "Data" / "AllImages_release.mat", {"AllImages_release": cells}, do_compression=True)
    scores = {"AllMOS_release": np.array([list(mos.values())])}
    scipy.io.savemat(folder / "Data" / "AllMOS_release.mat", scores, do_compression=True)
    paint(folder / "Images", images)
    return [Miniature("livec", folder, folder / "Images", mos)]


def agiqa(root: Path, pictures: int) -> list[Miniature]:
    folder, names = root / "AGIQA-3K", [f"AttnGAN_normal_{i:03}.jpg" for i in range(pictures)]
    mos = spread(names, 0.2, 4.4)
    header = ["name", "prompt", "adj1", "adj2", "style", "mos_quality", "std_quality", "mos_align", "std_align"]
    rows = [[name, "a cat, sitting", "", "", "", score, 0.1, 2.5, 0.2] for name, score in mos.items()]
    write(folder / "data.csv", table(header, rows))
    paint(folder / "images", names)
    return [Miniature("agiqa", folder, folder / "images", mos)]


def kadid(root: Path, pictures: int) -> list[Miniature]:
    """The first half is of a reference to train with, the second of one to test with."""
    folder, half = root / "kadid10k", pictures // 2
    names = [f"I01_01_{i + 1:02}.png" for i in range(half)] + [f"I66_01_{i + 1:02}.png" for i in range(pictures - half)]
    mos = spread(names, 1, 4.93)
    rows = [[name, f"{name[:3]}.png", score, 0.5] for name, score in mos.items()]
    write(folder / "dmos.csv", table(["dist_img", "ref_img", "dmos", "var"], rows))
    paint(folder / "images", [*names, "I01.png", "I66.png"])
    test = {name: score for name, score in mos.items() if name.startswith("I66")}
    images = folder / "images"
    return [Miniature("kadid", folder, images, mos), Miniature("kadid-test", folder, images, test)]


def tid2013(root: Path, pictures: int) -> list[Miniature]:
    """Names on the disk differ from the label file's in case, as in the archive."""
    folder, names = root / "tid2013", [f"i01_{i + 1:02}_1.bmp" for i in range(pictures)]
    mos = spread(names, 0.5, 7.2, 5)
    lines = [f"{score:.5f} {name.upper() if i % 2 else name}" for i, (name, score) in enumerate(mos.items())]
    write(folder / "mos_with_names.txt", "\r\n".join(lines) + "\r\n")
    paint(folder / "distorted_images", names)
    return [Miniature("tid2013", folder, folder / "distorted_images", mos)]


def csiq(root: Path, pictures: int) -> list[Miniature]:
    """The labels begin in the fourth row and column; the reference "1600" is a number there; lower DMOS is better."""
    folder, names = root / "CSIQ", []
    book = openpyxl.Workbook()
    book.active.title = "all_by_distortion"
    sheet = book.create_sheet("all_by_image")
    for row in ([], ["CSIQ"], [], [None] * 3 + ["image", "dst_idx", "dst_type", "dst_lev", "dmos_std", "dmos"]):
        sheet.append(row)
    for i in range(pictures):
        kind, level, reference = list(CSIQ_TYPES)[i % 6], i // 12 + 1, (1600, "aerial_city")[i // 6 % 2]
        below, token = CSIQ_TYPES[kind]
        names.append(f"{below}/{reference}.{token}.{level}.png")
        sheet.append([None] * 3 + [reference, i % 6 + 1, kind, level, 0.1, round((i + 0.5) / pictures, 3)])
    sheet.append([None] * 9)
    folder.mkdir(parents=True)
    book.save(folder / "csiq.DMOS.xlsx")
    paint(folder / "dst_imgs", names)
    mos = {name: 1 - round((i + 0.5) / pictures, 3) for i, name in enumerate(names)}
    return [Miniature("csiq", folder, folder / "dst_imgs", mos)]


def live(root: Path, pictures: int) -> list[Miniature]:
    """All 982 labels, since places in the list are the names; all but `pictures` are marked as undistorted."""
    folder = root / "databaserelease2"
    listed = [f"{below}/img{i + 1}.bmp" for below, count in LIVE_FOLDERS.items() for i in range(count)]
    names = sorted(listed, key=lambda name: (int(name.split("img")[1][:-4]), listed.index(name)))[:pictures]
    dmos = {name: round(110 * (i + 0.5) / pictures, 3) for i, name in enumerate(names)}
    scores = np.array([[dmos.get(name, 0.0) for name in listed]])
    orgs = np.array([[name not in dmos for name in listed]], dtype=np.uint8)
    references = np.empty((1, len(listed)), dtype=object)
    references[0, :] = "buildings.bmp"
    folder.mkdir(parents=True)
    realigned = {"dmos_new": scores, "dmos_std": scores / 10, "orgs": orgs}
    scipy.io.savemat(folder / "dmos_realigned.mat", realigned, do_compression=True)
    scipy.io.savemat(folder / "refnames_all.mat", {"refnames_all": references})
    paint(folder, [*names, "refimgs/buildings.bmp"])
    return [Miniature("live", folder, folder, {name: 100 - dmos[name] for name in listed if name in dmos})]


def qalign(name: str) -> Callable[[Path, int], list[Miniature]]:
    def built(root: Path, pictures: int) -> list[Miniature]:
        folder, levels = root / "q-align", ("bad", "poor", "fair", "good", "excellent")
        mos = spread([f"{name}/{5000 + i:05}.jpg" for i in range(pictures)], 10, 80)
        rows = [
            {
                "id": f"{Path(image).name}->{score}",
                "image": image,
                "conversations": [
                    {"from": "human", "value": "How would you rate the quality of this image?\n<|image|>"},
                    {"from": "gpt", "value": f"The quality of the image is {levels[int(score // 20)]}."},
                ],
                "gt_score": score,
            }
            for image, score in mos.items()
        ]
        write(folder / "test_jsons" / f"test_{name}.json", rows)
        paint(folder, list(mos))
        return [Miniature(f"{name}-qalign", folder, folder, mos)]

    return built


def questions(split: str, pictures: int) -> list[dict[str, Any]]:
    """Rows of the JSON; the answers of the test split are withheld, as they were published."""
    asked = (("Is this image sharp?", ["Yes", "No"]), ("What is the worst distortion?", ["Blur", "Noise", "Banding"]))
    asked += (("How is the lighting?", ["Bright", "Medium", "Dark", "Mixed"]),)
    rows = []
    for i in range(pictures):
        text, options = asked[i % 3]
        row = {"img_path": f"{split}_{i:05}.jpg", "question": text, "candidates": options}
        row |= {"correct_ans": options[i % len(options)]} if split == "dev" else {}
        rows.append(row | {"type": i % 3, "concern": i % 4})
    return rows


def llvisionqa(split: str) -> Callable[[Path, int], list[Miniature]]:
    def built(root: Path, pictures: int) -> list[Miniature]:
        folder, rows = root / "LLVisionQA-QBench", questions(split, pictures)
        write(folder / f"llvisionqa_{split}.json", rows)
        paint(folder / "images", [row["img_path"] for row in rows])
        return [Miniature(f"llvisionqa-{split}", folder, folder / "images", questions=tuple(rows))]

    return built


def parquet(split: str) -> Callable[[Path, int], list[Miniature]]:
    """The same questions as Q-Bench-HF has them, the pictures inside; skips the test where pyarrow is not installed."""

    def built(root: Path, pictures: int) -> list[Miniature]:
        import pytest

        pyarrow = pytest.importorskip("pyarrow")
        pytest.importorskip("pyarrow.parquet")
        folder, rows = root / "Q-Bench-HF", questions(split, pictures)
        table = []
        for i, row in enumerate(rows):
            stream, options = io.BytesIO(), [*row["candidates"], "N/A", "N/A"][:4]
            picture(i).save(stream, "JPEG")
            answer = row.get("correct_ans")
            table.append(
                {"id": i, "image": {"bytes": stream.getvalue(), "path": row["img_path"]}, "question": row["question"]}
                | {f"option{place}": option for place, option in enumerate(options)}
                | {"question_type": str(row["type"]), "question_concern": str(row["concern"])}
                | {"correct_choice": "ABCD"[options.index(answer)] if answer else "N/A"}
            )
        (folder / "data").mkdir(parents=True, exist_ok=True)
        path = folder / "data" / f"{split}-00000-of-00001.parquet"
        pyarrow.parquet.write_table(pyarrow.Table.from_pylist(table), path)
        return [Miniature(f"llvisionqa-{split}-hf", folder, folder / f"images-{split}", questions=tuple(rows))]

    return built


def lldescribe(root: Path, pictures: int) -> list[Miniature]:
    """With golden texts, which are not published: whoever has them puts them beside the pictures."""
    folder, names = root / "LLDescribe-QBench", [f"{i:05}.jpg" for i in range(pictures)]
    golden = {name: f"The picture {name} is a little noisy." for name in names}
    write(folder / "golden.json", [{"img_path": name, "golden": text} for name, text in golden.items()])
    paint(folder / "images", names)
    return [Miniature("lldescribe", folder, folder / "images", golden=golden)]


def mine(root: Path, pictures: int) -> list[Miniature]:
    """A csv of one's own, its pictures in a folder of the same name."""
    mos = spread([f"{i}.png" for i in range(pictures)], 1, 5)
    write(root / "mine.csv", table(["image", "mos"], list(mos.items())))
    paint(root / "mine", list(mos))
    return [Miniature("mine", root, root / "mine", mos)]


def livemd(root: Path, pictures: int) -> list[Miniature]:
    """Half of the pictures in each part; lower DMOS is better."""
    folder, mos = root / "LIVEmultidistortiondatabase", {}
    for part, kind, other in ((1, "blurjpeg", "jpeg"), (2, "blurnoise", "noise")):
        names = [f"lunch_blur{i % 3 + 1}_{other}{i // 3 + 1}.bmp" for i in range(pictures // 2)]
        cells, below = np.empty((len(names), 1), dtype=object), folder / f"Part {part}"
        cells[:, 0] = names
        dmos = np.linspace(10, 80, len(names))
        below.mkdir(parents=True)
        scipy.io.savemat(below / "Imagelists.mat", {"distimgs": cells, "refimgs": cells})
        scipy.io.savemat(below / "Scores.mat", {"DMOSscores": dmos[None], "DMOSstd": dmos[None]})
        mos |= {f"Part {part}/{kind}/{name}": 100 - score for name, score in zip(names, dmos, strict=True)}
    paint(folder, list(mos))
    return [Miniature("livemd", folder, folder, mos)]


def mdid(root: Path, pictures: int) -> list[Miniature]:
    """All 1600 scores, since places in the list are the names; as many pictures as asked for."""
    folder, names = root / "MDID", [f"img{ref:02}_{i:02}.bmp" for ref in range(1, 21) for i in range(1, 81)]
    mos = spread(names, 0, 8, 5)
    write(folder / "mos.txt", "\n".join(map(str, mos.values())) + "\n")
    paint(folder / "distortion_images", names[:pictures])
    return [Miniature("mdid", folder, folder / "distortion_images", mos)]


def pipal(root: Path, pictures: int) -> list[Miniature]:
    """One file for each reference, the pictures in folders that the files do not name."""
    folder, mos = root / "PIPAL", {}
    for ref in (1, 55):
        names = [f"A{ref:04}_0{i % 7}_{i:02}.bmp" for i in range(pictures // 2)]
        scores = spread(names, 920, 1830, 4)
        lines = "".join(f"{name},{score}\n" for name, score in scores.items())
        write(folder / "Train_Label" / f"A{ref:04}.txt", lines)
        mos |= {f"Distortion_{ref % 4 + 1}/{name}": score for name, score in scores.items()}
    paint(folder / "Train_Dist", list(mos))
    return [Miniature("pipal", folder, folder / "Train_Dist", mos)]


def flive(root: Path, pictures: int) -> list[Miniature]:
    """With the files that have its split: the last picture tests, the one before it validates."""
    folder, names = root / "FLIVE_Database", [f"voc_emotic_ava/JPEG{i}.jpg" for i in range(pictures)]
    mos = spread(names, 20, 90)
    write(folder / "database" / "labels_image.csv", table(["name", "mos"], list(mos.items())))
    header = ["name_image", "mos_image", "is_valid"]
    padded = [[name, score, name == names[-2]] for name, score in mos.items()]
    write(folder / "database" / "labels=640_padded.csv", table(header, padded[:-1]))
    write(folder / "database" / "labels640.csv", table(header, padded[-1:]))
    paint(folder / "database", names)
    return [Miniature("flive", folder, folder / "database", mos)]


def uhd_iqa(root: Path, pictures: int) -> list[Miniature]:
    folder, names = root / "UHD-IQA", [f"{i}.jpg" for i in range(pictures)]
    mos = spread(names, 0.3, 0.9)
    sets = [("training", "validation", "test")[i % 3] for i in range(pictures)]
    rows = [[name, 3840, score, one] for (name, score), one in zip(mos.items(), sets, strict=True)]
    write(folder / "uhd-iqa-metadata.csv", table(["image_name", "orig_width", "quality_mos", "set"], rows))
    lying = {f"{one}/{name}": score for (name, score), one in zip(mos.items(), sets, strict=True)}
    paint(folder / "challenge", list(lying))
    return [Miniature("uhd-iqa", folder, folder / "challenge", lying)]


def agiqa1k(root: Path, pictures: int) -> list[Miniature]:
    """The sheet, with a name that stands twice with two scores, and the csv that disagrees and is not read."""
    folder, names = root / "AGIQA-1K", [f"deepai_{i}_0_0_0.jpg" for i in range(pictures)]
    mos = spread(names, 0.2, 4.9)
    book = openpyxl.Workbook()
    book.active.append(["Image", "Prompt", "MOS"])
    for row in [*mos.items(), ("dreamStudio_8_9_1_1.jpg", 0.4), ("dreamStudio_8_9_1_1.jpg", 2.1)]:
        book.active.append([row[0], "bird, driving aircraft", row[1]])
    folder.mkdir(parents=True)
    book.save(folder / "AIGC_MOS_Zscore.xlsx")
    write(folder / "AIGC_all.csv", table(["Image", "Score"], [[name, 5 - score] for name, score in mos.items()]))
    paint(folder / "file", names)
    return [Miniature("agiqa1k", folder, folder / "file", mos)]


def aigciqa2023(root: Path, pictures: int) -> list[Miniature]:
    """All 2400 scores, since places in the list are the names."""
    folder, names = root / "AIGCIQA2023", [f"{i}.png" for i in range(2400)]
    mos = spread(names, 20, 75)
    (folder / "DATA" / "MOS").mkdir(parents=True)
    scipy.io.savemat(folder / "DATA" / "MOS" / "mosz1.mat", {"MOSz": np.array([list(mos.values())]).T})
    paint(folder / "Image" / "allimg", names[:pictures])
    return [Miniature("aigciqa2023", folder, folder / "Image" / "allimg", mos)]


def old_excel(rows: Sequence[Sequence[Any]]) -> bytes:
    """A sheet as Excel 2 wrote it, records of a code, a length and cells: the oldest form that readers of .xls take."""
    records = [struct.pack("<HHHH", 0x09, 4, 2, 0x10)]
    for row, cells in enumerate(rows):
        for column, cell in enumerate(cells):
            place = struct.pack("<HH3x", row, column)
            text = cell.encode() if isinstance(cell, str) else b""
            body = place + (struct.pack("<B", len(text)) + text if text else struct.pack("<d", cell))
            records.append(struct.pack("<HH", 0x04 if text else 0x03, len(body)) + body)
    return b"".join([*records, struct.pack("<HH", 0x0A, 0)])


def bid(root: Path, pictures: int) -> list[Miniature]:
    """An old Excel file with numbers as names."""
    folder, names = root / "BID", [f"DatabaseImage{i + 1:04}.JPG" for i in range(pictures)]
    mos = spread(names, 0.2, 4.9)
    header = ("Image Number", "Average Subjective Grade", "Number of Grades")
    rows = [(float(i), score, 11.0) for i, score in enumerate(mos.values(), start=1)]
    write(folder / "DatabaseGrades.xls", old_excel([header, *rows]))
    paint(folder / "ImageDatabase", names)
    return [Miniature("bid", folder, folder / "ImageDatabase", mos)]


def ava(root: Path, pictures: int) -> list[Miniature]:
    """Votes, not scores; the official list of pictures to test with beside."""
    folder, votes = root / "AVA_dataset", [[0, 1, 5, 17, 38, 36, 15, 6, 5, 1 + 9 * i] for i in range(pictures)]
    names = [f"{953619 + i}.jpg" for i in range(pictures)]
    means = [sum(v * n for v, n in enumerate(one, 1)) / sum(one) for one in votes]
    lines = [f"{i + 1} {name[:-4]} {' '.join(map(str, votes[i]))} 1 22 1396" for i, name in enumerate(names)]
    write(folder / "AVA.txt", "\n".join(lines) + "\n")
    write(folder / "aesthetics_image_lists" / "generic_test.jpgl", f"{names[0][:-4]}\n")
    paint(folder / "images", names)
    return [Miniature("ava", folder, folder / "images", dict(zip(names, means, strict=True)))]


def cid2013(root: Path, pictures: int) -> list[Miniature]:
    folder, roman = root / "CID2013", ("I", "II", "III", "IV", "V", "VI")
    ids = [f"IS_{roman[i % 6]}_C{i % 8 + 1:02}_D{i + 1:02}" for i in range(pictures)]
    mos = spread([f"IS{i % 6 + 1}/co{i % 8 + 1}/{ids[i]}.jpg" for i in range(pictures)], -9, 88)
    book = openpyxl.Workbook()
    sheet = book.create_sheet("CID2013 MOS")
    sheet.append(["Source_ID", "Image set specific  MOS", "Realigned MOS"])
    for name, score in zip(ids, mos.values(), strict=True):
        sheet.append([name, 50, score])
    folder.mkdir(parents=True)
    book.save(folder / "CID2013 data - version 12112014.xlsx")
    paint(folder, list(mos))
    return [Miniature("cid2013", folder, folder, mos)]


def piq23(root: Path, pictures: int) -> list[Miniature]:
    """Paths with backslashes; the official split by devices is a file of its own."""
    folder, names = root / "PIQ23", [f"{i}_Indoor_Scene_{i % 2}.jpg" for i in range(pictures)]
    mos = spread([f"Overall/{name}" for name in names], -7, 4.9)
    rows = [[name.replace("/", "\\"), score, f"Indoor_Scene_{i % 2}"] for i, (name, score) in enumerate(mos.items())]
    write(folder / "Scores_Overall.csv", table(["IMAGE PATH", "JOD", "SCENE"], rows))
    split = [[name, "Test" if i == 0 else "Train"] for i, name in enumerate(names)]
    write(folder / "Test split" / "Device Split.csv", table(["IMAGE", "SPLIT"], split))
    paint(folder, list(mos))
    return [Miniature("piq23", folder, folder, mos)]


def gfiqa(root: Path, pictures: int) -> list[Miniature]:
    folder, names = root / "GFIQA-20k", [f"{831481558 + i}_0.png" for i in range(pictures)]
    mos = spread(names, 0.01, 0.95)
    rows = [[name, score, "[0.46 0.40\n 0.43]"] for name, score in mos.items()]
    write(folder / "mos_val_rating.csv", table(["img_name", "mos", "ratings"], rows))
    paint(folder / "image", names)
    return [Miniature("gfiqa", folder, folder / "image", mos)]


MORE: Mapping[str, Callable[[Path, int], list[Miniature]]] = {
    "livemd": livemd, "mdid": mdid, "pipal": pipal, "flive": flive, "uhd-iqa": uhd_iqa, "agiqa1k": agiqa1k,
    "aigciqa2023": aigciqa2023, "bid": bid, "ava": ava, "cid2013": cid2013, "piq23": piq23, "gfiqa": gfiqa,
}  # fmt: skip

BUILDERS: Mapping[str, Callable[[Path, int], list[Miniature]]] = {
    "koniq": koniq,
    "koniq-test": koniq,
    "koniq-qalign": qalign("koniq"),
    "spaq": spaq,
    "spaq-qalign": qalign("spaq"),
    "livec": livec,
    "agiqa": agiqa,
    "kadid": kadid,
    "kadid-test": kadid,
    "tid2013": tid2013,
    "csiq": csiq,
    "live": live,
    "llvisionqa-dev": llvisionqa("dev"),
    "llvisionqa-test": llvisionqa("test"),
    "lldescribe": lldescribe,
    "mine": mine,
    "llvisionqa-dev-hf": parquet("dev"),
    "llvisionqa-test-hf": parquet("test"),
}
