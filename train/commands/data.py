"""`python -m train data`: build D2 from feedback, freeze training data, and show what was frozen. Thin shell."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from rich.table import Table
from rich.text import Text

from qsit_metric import console
from qsit_metric.errors import counted
from qsit_metric.levels import LEVELS

from ..data.freeze import freeze_recipe
from ..data.frozen import Frozen
from ..data.interpreting.build import KINDS, build, summary
from ..data.interpreting.feedback import read_feedback
from ..data.interpreting.writer import TemplateWriter, Writer
from ..data.rows import Refusals
from ..errors import FILES, DataError
from ..mixture import SETS

Writers = Literal["templates", "endpoint"]

_SHORT = 12


def freeze_command(
    recipe: Annotated[Path, typer.Argument(metavar="RECIPE", help="Data recipe, for example data-own.yaml.")],
    output: Annotated[Path, typer.Option("--output", "-o", metavar="FOLDER", help="Folder to write.")],
    drop_refused: Annotated[
        bool, typer.Option("--drop-refused", help="Leave rows out that cannot be used, and list them in refused.jsonl.")
    ] = False,
    force: Annotated[bool, typer.Option("--force", help="Replace a frozen folder that is already there.")] = False,
    check_images: Annotated[
        bool, typer.Option("--check-images/--no-check-images", help="Refuse rows whose image file is missing.")
    ] = True,
    decode: Annotated[
        bool,
        typer.Option(
            "--decode/--no-decode", help="Decode every picture once, and refuse rows whose picture is broken."
        ),
    ] = True,
) -> None:
    """Read, clean and split training data, and freeze it to a folder with hashes."""
    frozen = freeze_recipe(
        recipe,
        output,
        drop_refused=drop_refused,
        force=force,
        check_images=check_images,
        decode=decode,
        say=console.say,
    )
    _show(frozen)


def show_command(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="A folder that `data freeze` wrote.")],
) -> None:
    """Verify a frozen folder and show its counts, levels, sources, hashes, and what was cleaned out."""
    _show(Frozen.load(folder))


def _show(frozen: Frozen) -> None:
    record = frozen.record
    console.out().print(_files(record))
    console.out().print(_levels(record["report"]))
    console.out().print(_cleaned(record["report"]))
    refused, removed = (counted(record[name]["rows"], "row") for name in ("refused", "removed"))
    console.out().print(Text(f"digest {frozen.digest}; {refused} refused; {removed} cleaned out"))


def _files(record: Mapping[str, Any]) -> Table:
    rows = []
    for name, entry in {**record["sets"], **record["validation"]}.items():
        counts = record["report"].get(name if name in SETS else "validation", {})
        sources = "" if name == "questions" else _listed(counts.get("sources", {}))
        rows.append((name, entry["rows"], sources, entry["sha256"][:_SHORT], entry["images"] or ""))
    return console.table(("set", ">rows", "sources", "sha256", "images"), rows)


def _levels(report: Mapping[str, Any]) -> Table:
    counts = [report.get(name, {}).get("levels", {}) for name in ("d1", "validation")]
    rows = [(level, *(count.get(level, 0) for count in counts)) for level in LEVELS]
    return console.table(("level", ">d1", ">validation"), rows)


def _cleaned(report: Mapping[str, Any]) -> Table:
    found = [(name, report.get(name, {})) for name in SETS]
    rows = [
        (name, one.get("removed", 0), _listed(one.get("reasons", {})), _listed(one.get("folders", {})))
        for name, one in found
    ]
    return console.table(("set", ">cleaned out", "why", "same folders"), rows)


def _listed(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{name or '(none)'} {count}" for name, count in counts.items())


def build_d2_command(
    feedback: Annotated[Path, typer.Argument(help="Feedback: a JSON list or JSON Lines.")],
    output: Annotated[Path, typer.Argument(help="The LLaVA list to write; the report is OUTPUT.report.json.")],
    writer: Annotated[Writers, typer.Option("--writer", help="Our templates, or a language model.")] = "templates",
    base_url: Annotated[str | None, typer.Option("--base-url", help="Of an OpenAI-compatible endpoint.")] = None,
    model: Annotated[str | None, typer.Option("--model", help="Name of the model there.")] = None,
    api_key_env: Annotated[
        str | None, typer.Option("--api-key-env", help="Environment variable that holds the key.")
    ] = None,
    cache: Annotated[Path | None, typer.Option("--cache", help="Folder of kept replies; OUTPUT.cache.")] = None,
    workers: Annotated[int, typer.Option("--workers", min=1, max=64, help="Requests at a time.")] = 4,
    timeout: Annotated[float, typer.Option("--timeout", help="Seconds to wait for a reply.")] = 120.0,
    seed: Annotated[int, typer.Option("--seed", help="Equal seeds give equal files.")] = 0,
    kinds: Annotated[list[str] | None, typer.Option("--kinds", help=f"Of {', '.join(KINDS)}; all.")] = None,
    limit: Annotated[
        list[str] | None, typer.Option("--limit", metavar="KIND=N", help="Most rows of a kind, drawn by seed.")
    ] = None,
    drop_refused: Annotated[bool, typer.Option("--drop-refused", help="Leave out rows that cannot be used.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Replace the output.")] = False,
) -> None:
    """Build D2 from human feedback: pathways, questions with and without options, conversations."""
    if output.exists() and not force:
        raise DataError.about("OUTPUT", str(output), "a file that does not exist yet", "Pass --force to replace it.")
    wanted = [kind.strip() for text in kinds or KINDS for kind in text.split(",")]
    refused, unusable, surplus = Refusals(), Refusals(), Refusals()
    feedbacks = read_feedback(feedback, refused)
    refused.check(feedback, drop_refused)
    chosen = _writer(writer, base_url, model, api_key_env, cache or Path(f"{output}.cache"), workers, timeout)
    limits = dict(_limit(text) for text in limit or ())
    rows = build(feedbacks, chosen, wanted, seed, limits=limits, refusals=unusable, surplus=surplus)
    unusable.check(f"replies of {chosen.name}", drop_refused)
    if not rows:
        raise DataError.about("feedback", str(feedback), "feedback that gives at least one row")
    text = json.dumps([row.as_llava() for row in rows], ensure_ascii=False, indent=1) + "\n"
    made: dict[str, Any] = {"feedbacks": len(feedbacks), "writer": chosen.name, "seed": seed, "kinds_asked": wanted}
    made |= summary(rows) | {"limits": limits, "left_out_for_balance": len(surplus)}
    made |= {"refused_feedback": refused.reasons, "refused_replies": unusable.reasons}
    made |= {"feedback_sha256": _digest(feedback.read_bytes()), "sha256": _digest(text.encode())}
    FILES.write(output, text)
    report = Path(f"{output}.report.json")
    FILES.write_json(report, made)
    _say(made, output, report)


def _say(made: Mapping[str, Any], output: Path, report: Path) -> None:
    kinds = ", ".join(f"{kind} {count}" for kind, count in made["kinds"].items())
    about = f"{counted(made['rows'], 'row')} about {counted(made['images'], 'image')}"
    console.say(console.printable(f"Wrote {about} to {output}: {kinds}."))
    refused = f"{counted(len(made['refused_feedback']), 'row')} of feedback"
    refused += f" and {len(made['refused_replies'])} of the writer's results"
    console.say(console.printable(f"Refused: {refused}. The report is {report}."))


def _writer(
    kind: Writers, base_url: str | None, model: str | None, key: str | None, cache: Path, workers: int, timeout: float
) -> Writer:
    if kind == "templates":
        if given := [name for name, value in (("--base-url", base_url), ("--model", model)) if value]:
            raise DataError.about("writer", "templates", f"endpoint with {given[0]}", "Pass --writer endpoint.")
        return TemplateWriter()
    if not base_url or not model:
        raise DataError.about("base_url, model", (base_url, model), "both, for --writer endpoint")
    from ..data.interpreting.endpoint import Endpoint, EndpointWriter

    return EndpointWriter(Endpoint(base_url, model, cache, key, timeout), workers)


def _limit(text: str) -> tuple[str, int]:
    name, _, size = text.partition("=")
    if not size.isdecimal():
        raise DataError.about("limit", text, "KIND=N, for example yes_no=57000")
    return name.strip(), int(size)


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
