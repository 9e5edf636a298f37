"""Q-Bench on low-level vision: multiple-choice questions (LLVisionQA, A1) and pictures to describe (LLDescribe, A2).

LLVisionQA: `llvisionqa_dev.json` and `llvisionqa_test.json` of the Hub's LLVisionQA-QBench (fields as in
github.com/Q-Future/Q-Bench at f19783e), parquet files of `q-future/Q-Bench-HF`. Numbers of `type` and `concern` as the
maintainer explains them in Q-Bench's issue 8; other harnesses have "what" and "how" swapped.

LLDescribe: only the pictures are published (`nanyangtu/LLDescribe-QBench`, 499 of them); the golden descriptions are
private, as the maintainer says in that issue. Their file format is therefore ours: a JSON list of
`{"img_path", "golden"}`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, Literal, TypeVar

from ..errors import EvaluationError, refuse, shorten
from ..files import PathLike
from ..prompts import LETTERS
from .manifest import FILES, check_image, missing_package, read_json_list

Type = Literal["yes-no", "what", "how"]
Concern = Literal["distortion", "other", "in-context distortion", "in-context other"]

TYPES: tuple[Type, ...] = ("yes-no", "what", "how")
CONCERNS: tuple[Concern, ...] = ("distortion", "other", "in-context distortion", "in-context other")
_EMPTY = (None, "", "N/A")  # how the parquet pads options and withholds answers
_OPTIONS = ("option0", "option1", "option2", "option3")
_JSON_NAMES = {"image": "img_path", "choices": "candidates"}  # what our fields are called there
_PARQUET_NAMES = {"choices": "option0 to option3", "type": "question_type", "concern": "question_concern"}
_SIGNATURES = {b"\xff\xd8\xff": ".jpg", b"\x89PNG": ".png", b"BM": ".bmp", b"RIFF": ".webp", b"GIF8": ".gif"}

# Three printed rows ("how" and "in-context distortion" of dev, "what" of test) are 0.006 to 0.015 from any value that
# questions with 2 to 4 options can have.
_PRINTED = 0.016

# Questions, and percent that a random guess answers; solved from the published accuracies of Q-Bench.
PUBLISHED: Mapping[str, Mapping[str, tuple[int, float]]] = {
    "dev": {
        "yes-no": (550, 50.00), "what": (452, 27.86), "how": (493, 33.31),
        "distortion": (514, 37.89), "other": (432, 38.48),
        "in-context distortion": (304, 38.28), "in-context other": (245, 35.82), "all": (1495, 37.80),
    },
    "test": {
        "yes-no": (548, 50.00), "what": (461, 28.48), "how": (486, 33.30),
        "distortion": (521, 37.24), "other": (419, 38.50),
        "in-context distortion": (292, 39.13), "in-context other": (263, 37.10), "all": (1495, 37.94),
    },
}  # fmt: skip

N_LLDESCRIBE = 499  # pictures
_GOLDEN_KEYS = (("img_path", "image"), ("golden", "description"))

_T = TypeVar("_T")


@dataclass(frozen=True)
class Question:
    """One multiple-choice question about one image.

    Attributes:
        id: Name of the question.
        image: Path below the image folder, with forward slashes.
        question: The question, without its options.
        choices: 2 to 26 options.
        answer: Index of the correct option; None if it is withheld, as in the published test split.
        type: "yes-no", "what" or "how".
        concern: "distortion", "other", "in-context distortion" or "in-context other".

    Raises:
        EvaluationError: A field that is not so.

    Example:
        >>> Question("0", "a.jpg", "Is it sharp?", ("Yes", "No"), 1, "yes-no", "distortion").choices[1]
        'No'
    """

    id: str
    image: str
    question: str
    choices: tuple[str, ...]
    answer: int | None
    type: Type
    concern: Concern

    def __post_init__(self) -> None:
        check_image(self.image)
        object.__setattr__(self, "choices", tuple(self.choices))
        if not isinstance(self.question, str) or not self.question.strip():
            raise EvaluationError.about("question", self.question, "a non-empty text")
        texts = all(isinstance(choice, str) and choice.strip() for choice in self.choices)
        if not texts or not 2 <= len(self.choices) <= len(LETTERS):
            raise EvaluationError.about("choices", self.choices, "2 to 26 non-empty texts")
        if self.answer is not None and self.answer not in range(len(self.choices)):
            raise EvaluationError.about("answer", self.answer, f"None or 0 to {len(self.choices) - 1}")
        if self.type not in TYPES or self.concern not in CONCERNS:
            expected = f"one of {', '.join(TYPES)} and one of {', '.join(CONCERNS)}"
            raise EvaluationError.about("type, concern", (self.type, self.concern), expected)


def read_llvisionqa(path: PathLike, *more: PathLike, refused: list[str] | None = None) -> list[Question]:
    """Read the questions of one split.

    Args:
        path: The JSON file or a parquet file.
        more: Further files of the same split, for parquet that comes in parts.
        refused: A list that takes the rows that cannot be used, a line of text each, which leaves them out; default:
            they are an error.

    Returns:
        The questions in order, none left out but those in `refused`. Those of a JSON without `id` are named by place.

    Raises:
        EvaluationError: No such file, or rows that cannot be used (with `refused`: all of a file); the message names
            them.
        DependencyError: A parquet file, and pyarrow is not installed.
    """
    found: list[Question] = []
    before = 0
    for one in map(Path, (path, *more)):
        questions, reasons = _file(one, before)
        total = len(questions) + len(reasons)
        refuse(one, reasons, total, "question", refused)
        found += questions
        before += total
    if not found:
        raise EvaluationError.about("path", str(path), "a file with at least one question")
    return found


def write_llvisionqa(path: PathLike, questions: Sequence[Question]) -> None:
    """Write questions as the JSON that the authors' script reads, with `id`; whole or not at all.

    Raises:
        EvaluationError: The file cannot be written.
    """
    rows = [_as_json(question) for question in questions]
    FILES.write(Path(path), json.dumps(rows, indent=1, ensure_ascii=False) + "\n")


def extract_images(path: PathLike, folder: PathLike) -> list[Path]:
    """Write the pictures inside a parquet file into a folder, byte by byte as they are.

    Args:
        path: The parquet file.
        folder: Where `Question.image` of this file is looked for then; made if it is not there.

    Returns:
        Where the pictures lie, in the order of the rows. Those that were there already are left as they are.

    Raises:
        EvaluationError: No parquet with pictures; or another file has the name of a picture.
        DependencyError: pyarrow is not installed.
    """
    source, written = Path(path), []
    for place, row in enumerate(_parquet(source, pixels=True)):
        name, content = _question(row, place).image, row["bytes"]
        if content is None:
            raise EvaluationError.about("path", str(source), f"the bytes of picture {name} in row {place}")
        target = Path(folder) / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if not target.exists():
            FILES.write(target, content)
        elif target.read_bytes() != content:
            hint = "Use an empty folder; if it is one, two rows have different pictures of one name."
            raise EvaluationError.about("folder", str(target), f"the picture of row {place}", hint)
        written.append(target)
    return written


def check_counts(questions: Sequence[Question], split: str) -> None:
    """Compare questions with the published numbers of a split: how many of each type and concern, how many options.

    Args:
        questions: All questions of the split.
        split: "dev" or "test".

    Raises:
        EvaluationError: They differ; the message names each difference. Or an unknown split.
    """
    if split not in PUBLISHED:
        raise EvaluationError.about("split", split, f"one of {', '.join(PUBLISHED)}")
    reasons = []
    for name, (count, guess) in PUBLISHED[split].items():
        picked = [one for one in questions if name in ("all", one.type, one.concern)]
        chance = 100 * sum(1 / len(one.choices) for one in picked) / max(1, len(picked))
        if len(picked) != count:
            reasons.append(f"{name}: {len(picked)}, published are {count}")
        elif abs(chance - guess) > _PRINTED:
            reasons.append(f"{name}: a random guess has {chance:.2f} %, published are {guess:.2f} %")
    if reasons:
        hint = f"What differs: {'; '.join(reasons)}."
        raise EvaluationError.about("questions", f"<{len(questions)}>", f"LLVisionQA-{split} as published", hint)


@dataclass(frozen=True)
class ToDescribe:
    """One picture of LLDescribe.

    Attributes:
        image: Path below the image folder, with forward slashes.
        golden: The description that people agreed on; None if it is not at hand.

    Raises:
        EvaluationError: A path that leaves the folder, or an empty text.

    Example:
        >>> ToDescribe("00001.jpg", "A little dark.").golden
        'A little dark.'
    """

    image: str
    golden: str | None = None

    def __post_init__(self) -> None:
        check_image(self.image)
        if self.golden is not None and (not isinstance(self.golden, str) or not self.golden.strip()):
            raise EvaluationError.about("golden", self.golden, "a non-empty text")


def read_lldescribe(
    folder: PathLike, golden: PathLike | None = None, *, refused: list[str] | None = None
) -> list[ToDescribe]:
    """Read the pictures of a folder, with their golden descriptions if there are any.

    Args:
        folder: The pictures, also in folders below it; hidden files are not read.
        golden: JSON list of `{"img_path", "golden"}`; `image` and `description` are read as well. A picture that it
            does not name has no golden text.
        refused: A list that takes the rows that cannot be used, which leaves them out; default: they are an error.

    Returns:
        One `ToDescribe` for each picture, in the order of their names.

    Raises:
        EvaluationError: No pictures, or rows that cannot be used; the message names them.

    Example:
        >>> read_lldescribe("LLDescribe-QBench/images")[0].image  # doctest: +SKIP
        '00001.jpg'
    """
    names = _pictures(Path(folder))
    texts = {} if golden is None else _golden(Path(golden), frozenset(names), refused)
    return [ToDescribe(name, texts.get(name)) for name in names]


def _file(path: Path, before: int) -> tuple[list[Question], list[str]]:
    """The questions of one file, and what is wrong with its other rows; `before` rows were in the files before it."""
    packed = _is_parquet(path)
    rows = _parquet(path) if packed else (_from_json(row) for row in read_json_list(path))
    questions, reasons = _usable(rows, lambda place, row: _question(row, before + place))
    names = _PARQUET_NAMES if packed else _JSON_NAMES
    return questions, [_in_words_of_the_file(reason, names) for reason in reasons]


def _usable(rows: Iterable[Any], read: Callable[[int, Any], _T]) -> tuple[list[_T], list[str]]:
    """Read each row; gives what was read, and the reasons of the rows that cannot be used."""
    found: list[_T] = []
    reasons: list[str] = []
    for place, row in enumerate(rows):
        try:
            found.append(read(place, row))
        except EvaluationError as error:  # noqa: PERF203
            reasons.append(f"row {place}: {str(error).rstrip('.')}")
    return found, reasons


def _in_words_of_the_file(reason: str, names: Mapping[str, str]) -> str:
    """A reason that begins with one of our field names, with the file's name for it."""
    where, _, said = reason.partition(": ")
    for ours, theirs in names.items():
        if said.startswith(f"`{ours}`: "):
            return f"{where}: {said.replace(ours, theirs, 1)}"
    return reason


def _question(row: Mapping[str, Any], place: int) -> Question:
    """A question from the fields that both formats come down to."""
    if "reason" in row:
        raise EvaluationError(row["reason"])
    name = str(place if row["id"] is None else row["id"])
    kind, concern = _named(row["type"], TYPES, "type"), _named(row["concern"], CONCERNS, "concern")
    image = row["image"] or f"{name}{_suffix(row['bytes'])}"
    return Question(name, image, row["question"], tuple(row["choices"]), row["answer"], kind, concern)


def _from_json(fields: Any) -> dict[str, Any]:
    if not isinstance(fields, Mapping):
        return {"reason": f"it is {shorten(fields)}, expected an object"}
    if absent := [key for key in ("img_path", "question", "candidates", "type", "concern") if key not in fields]:
        return {"reason": f"no {' and no '.join(absent)}"}
    choices, said = fields["candidates"], fields.get("correct_ans")
    if not isinstance(choices, list):
        return {"reason": f"candidates are {shorten(choices)}, expected a list"}
    if said not in (None, "", *choices):
        return {"reason": f"correct_ans {shorten(said)} is none of {shorten(choices)}"}
    answer = choices.index(said) if said else None
    rest = {"id": fields.get("id"), "image": fields["img_path"], "question": fields["question"], "choices": choices}
    return {**rest, "answer": answer, "type": fields["type"], "concern": fields["concern"]}


def _as_json(one: Question) -> dict[str, Any]:
    fields = {"id": one.id, "img_path": one.image, "question": one.question, "candidates": list(one.choices)}
    fields |= {} if one.answer is None else {"correct_ans": one.choices[one.answer]}
    return fields | {"type": TYPES.index(one.type), "concern": CONCERNS.index(one.concern)}


def _is_parquet(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            return file.read(4) == b"PAR1"
    except OSError as error:
        hint = f"The system says: {error.strerror or error}."
        raise EvaluationError.about("path", str(path), "a readable JSON or parquet file", hint) from error


def _parquet(path: Path, pixels: bool = False) -> Iterator[dict[str, Any]]:
    """Rows of a parquet file, a few at a time: the pictures in it are large."""
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise missing_package("pyarrow", path) from error
    needed = ["question", *_OPTIONS, "question_type", "question_concern", "image"]
    try:
        file = pyarrow.parquet.ParquetFile(path)
        names = file.schema_arrow.names
        if absent := [name for name in needed if name not in names]:
            raise EvaluationError.about("path", str(path), f"a table with the columns {', '.join(absent)}")
        columns = [*needed, *(name for name in ("id", "correct_choice") if name in names)]
        for batch in file.iter_batches(batch_size=16, columns=columns):
            yield from (_from_parquet(row, pixels) for row in batch.to_pylist())
    except (pyarrow.ArrowException, OSError) as error:
        raise EvaluationError.about("path", str(path), "a parquet file", f"{error}.") from error


def _from_parquet(fields: Mapping[str, Any], pixels: bool) -> dict[str, Any]:
    choices = [fields[name] for name in _OPTIONS]
    while choices and choices[-1] in _EMPTY:
        choices.pop()
    if any(choice in _EMPTY for choice in choices):
        return {"reason": f"an option is missing in {shorten(choices)}"}
    said = None if fields.get("correct_choice") in _EMPTY else fields["correct_choice"]
    image = fields["image"]
    image = image if isinstance(image, dict) else {"bytes": image}
    if said is not None and said not in (letters := list(LETTERS[: len(choices)])):
        return {"reason": f"correct_choice {shorten(said)} is none of {', '.join(letters)}"}
    content = image.get("bytes")
    return {
        "id": fields.get("id"), "image": PurePosixPath(image.get("path") or "").name, "question": fields["question"],
        "choices": choices, "answer": None if said is None else LETTERS.index(said),
        "type": fields["question_type"], "concern": fields["question_concern"],
        "bytes": content if pixels or content is None else content[:16],
    }  # fmt: skip


def _suffix(content: bytes | None) -> str:
    for signature, suffix in _SIGNATURES.items():
        if content is not None and content.startswith(signature):
            return suffix
    raise EvaluationError.about("image", content and content[:8], "a picture in JPEG, PNG, BMP, WebP or GIF, or a path")


def _named(value: Any, names: Sequence[Any], field: str) -> Any:
    """The name that a number stands for; both formats count from 0, as numbers or as text."""
    if str(value) not in map(str, range(len(names))):
        raise EvaluationError.about(field, value, f"a number from 0 to {len(names) - 1}")
    return names[int(value)]


def _pictures(folder: Path) -> list[str]:
    from ..pixels.read import SUFFIXES

    files = (path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES and path.is_file())
    names = sorted(path.relative_to(folder).as_posix() for path in files if not path.name.startswith("."))
    if not names:
        hint = "Get LLDescribe from huggingface.co/datasets/nanyangtu/LLDescribe-QBench."
        raise EvaluationError.about("folder", str(folder), "a folder with pictures", hint)
    return names


def _golden(path: Path, names: frozenset[str], refused: list[str] | None) -> dict[str, str]:
    texts: dict[str, str] = {}

    def read(_: int, fields: Any) -> None:
        image, text = _golden_row(fields, names)
        if texts.setdefault(image, text) != text:
            raise EvaluationError(f"{image!r} has two golden texts")

    rows = read_json_list(path)
    _, reasons = _usable(rows, read)
    refuse(path, reasons, len(rows), refused=refused)
    return texts


def _golden_row(fields: Any, names: frozenset[str]) -> tuple[str, str]:
    if not isinstance(fields, Mapping):
        raise EvaluationError(f"it is {shorten(fields)}, expected an object")
    image, text = (next((fields[key] for key in keys if key in fields), None) for keys in _GOLDEN_KEYS)
    one = ToDescribe(image if isinstance(image, str) else "", "" if text is None else text)
    if one.image not in names:
        raise EvaluationError(f"{one.image!r} is none of the pictures")
    return one.image, one.golden or ""
