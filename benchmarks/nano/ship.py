"""Put the exported q-sit-nano, its measured card and its figures where the package and the docs have them.

    python -m benchmarks.nano.ship RUN RESULTS

RUN is what `python -m train nano` wrote, RESULTS what `python -m benchmarks.nano` measured with RUN/q-sit-nano. The
card is made of both.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from benchmarks.nano.draw import draw
from benchmarks.nano.report import markdown
from benchmarks.nano.training import dump_yaml, metadata
from benchmarks.nano.training import photographs as shipped
from benchmarks.options import app_of
from benchmarks.output import FILES
from qsit_metric import console
from qsit_metric.evaluation import EvaluationError
from qsit_metric.files import new_folder
from qsit_metric.hub import fingerprint

_USE = """```python
from qsit_metric import QSiT  # pip install qsit-metric; no network needed

metric = QSiT("q-sit-nano")
metric.score("photo.jpg")  # 1 (bad) to 5 (excellent)
metric.ask("photo.jpg", "What problem affects this image?", choices=["Blur", "Noise", "Compression artifacts"])
metric.ask("photo.jpg", "Is this image noisy?", choices=["Yes", "No"])
```
"""

_LIMITS = """- **Synthetic degradations; not a replacement for q-sit-mini.** It was taught on photographs and
  drawings that a program degraded, in one way or two. It knows little of what cameras, editors and networks do.
- Its labels follow the scores that people gave a type and level of degradation (KADID-10k), whatever the picture.
  Nobody judged its training pictures. What a picture shows, and whether it is beautiful, does not count.
- Few photographs were at hand for training ({count}); the rest are scenes put together from them, and drawings.
  Unusual contents mislead it.
- It cannot point at an option by its letter: what is written to a question with lettered options (`written` above) is
  hardly better than a guess. Pass the options as `choices=`; whole texts are compared then.
- Its answers follow the templates that its training texts were written by. Questions about anything but image quality,
  and free texts, are hardly more than a demonstration; `describe` is composed from its answers. It knows the words that
  it was taught (`train/data/interpreting/vocabulary.py`): "noisy" and "free of noise", not "clear of noise".
- Light, contrast and colour are judged without knowing the original: a foggy or a colourful scene may be taken for a
  fault.
"""


def card(measured: Mapping[str, Any], summary: Mapping[str, Any], recipe: Mapping[str, Any]) -> str:
    """Write the card.

    Args:
        measured: `nano.json` of `benchmarks.nano`.
        summary: `summary.json` of `python -m train nano`.
        recipe: Recipe of the exported run.

    Returns:
        Markdown with the head that the Hub reads.
    """
    head = dump_yaml(metadata(recipe, "apache-2.0"))
    parts = (
        f"---\n{head}---\n",
        "# q-sit-nano\n\nA model of the architecture and file format of Q-SiT (arXiv 2503.09197) that is small enough "
        f"to ship with the package: {summary['parameters'] / 1e6:.1f} M parameters. It scores photographs and answers "
        "questions about their quality, with no network. Made for tests, air-gapped machines and a first try; weights "
        "and code under Apache-2.0.\n",
        f"## Use\n\n{_USE}",
        f"## Measured\n\n{_measured(measured)}",
        f"## Data\n\n{_data(summary)}",
        f"## Training\n\n{_training(summary)}",
        f"## Limits\n\n{_LIMITS.format(count=len(_photographs()))}",
    )
    return "\n".join(parts)


def _measured(measured: Mapping[str, Any]) -> str:
    """The report one heading deeper, under its own."""
    _, _, body = markdown(measured).partition("\n\n")
    return (
        "By `python -m benchmarks.nano` on photographs that were never trained on, degraded in KADID-10k's 25 ways by "
        f"the repository's own code.\n\n{body.replace('## ', '### ')}"
    )


def _data(summary: Mapping[str, Any]) -> str:
    rows = _rows(summary)
    listed = "\n".join(
        f"| {name} | {one.author} | {one.licence} | {shipped.PACKAGES[one.package][0]} |"
        for name, one in _photographs()
    )
    return (
        f"Made by the repository (`train/nano/data`): {rows['d1']:,} scoring rows (D1), {rows['d2']:,} "
        f"interpreting rows (D2), {rows['d3']:,} rows about contents (D3). Parts of the photographs below, scenes put "
        "together from them, and drawings (dead leaves, 1/f noise, gradients, shapes, writing, landscapes, patterns), "
        "with the clarity, softness, grain, sharpening and JPEG of a camera, under the 25 degradations of KADID-10k at "
        f"continuous levels; D2 also has 15 other corruptions and pairs. Label: {_labels(summary)} (H. Lin, V. Hosu, "
        "D. Saupe: KADID-10k, QoMEX 2019).\n\n"
        f"| photograph | by | licence | comes with |\n|---|---|---|---|\n{listed}\n"
    )


def _labels(summary: Mapping[str, Any]) -> str:
    mean = "the mean score that people gave the type and level"
    if summary.get("labels", "means") == "means":
        return mean
    before = summary.get("before")
    first = "; before it was taught on, that mean itself" if before and _labels(before) == mean else ""
    return f"a score drawn around {mean}, as far from it as the scores of single pictures lie{first}"


def _rows(summary: Mapping[str, Any]) -> Mapping[str, int]:
    """Rows of the run, and of those whose model it taught on."""
    before = _rows(summary["before"]) if "before" in summary else {}
    return {name: count + before.get(name, 0) for name, count in summary["rows"].items()}


def _photographs() -> list[tuple[str, Any]]:
    return [(name, one) for name, one in shipped.PHOTOGRAPHS.items() if one.split == "train"]


def _training(summary: Mapping[str, Any]) -> str:
    if before := summary.get("before"):
        first = _training(before).rstrip(".\n")
        return (
            f"{first}. At last the model was taught on with {sum(summary['rows'].values()):,} rows about pictures that "
            "were new to it, again with a frozen tower and without a new search for the balance: "
            f"{_epochs(summary['mixture']['model'])}.\n"
        )
    tower, mixture = summary["tower"], summary["mixture"]
    frozen, whole = mixture.get("frozen", mixture["model"]), mixture["model"] if "frozen" in mixture else []
    taken = (
        " This tower, and a language model that had read the general rows, were taken from another run of the same "
        f"program, with pictures of its own; what follows was trained on {summary['device']['name']}."
        if summary.get("begun")
        else ""
    )  # fmt: skip
    return (
        "By `python -m train nano`, from nothing. First the vision tower alone learned to name degradations and their "
        f"strength on {tower['tiles']:,} windows of {tower['pictures']:,} pictures; of held-out pictures it then named "
        f"{tower['accuracy']:.0%} rightly.{taken} {_searched(summary)} Rows of D1, D2 and D3 in each epoch, with a "
        f"frozen tower: {_epochs(frozen)}{f'; then all weights: {_epochs(whole)}' if whole else ''}.\n"
    )


def _searched(summary: Mapping[str, Any]) -> str:
    """What Algorithm 1 found, or that it was not run."""
    if "r" not in summary:
        return "The mix ratio was not searched for these weights: the sets were mixed as they are."
    where = " in an earlier run, on other pictures of the same kind," if summary.get("balance_taken") else ""
    return (
        f"Algorithm 1 of the paper,{where} with sweeps of {_runs(summary['r'])} and {_runs(summary['q'])}, gave "
        f"D2 : D3 = {_ratio(summary['r'])} and |D2 + D3| : D1 = {_ratio(summary['q'])}; the small model's loss ratio "
        f"was {summary['lambda']:.3g}."
    )


def _ratio(found: Mapping[str, Any]) -> str:
    low, high = found["interval"]
    return f"{found['best_ratio']:.2f} (90 % {low:.2f} to {high:.2f}{', at the edge' if found['edge'] else ''})"


def _runs(found: Mapping[str, Any]) -> str:
    return f"{found['runs']} small runs at {len(found['ratios'])} ratios"


def _epochs(sizes: Sequence[Sequence[int]]) -> str:
    return ", ".join(" : ".join(map(str, one)) for one in sizes)


_ROOT = Path(__file__).resolve().parents[2]
_WEIGHTS = _ROOT / "src" / "qsit_metric" / "weights"
_RESULTS = _ROOT / "benchmarks" / "results" / "nano"
_PICTURES = _ROOT / "docs" / "images"
_KEPT = ("nano.json", "nano.md", "nano-scores.csv", "nano-questions.csv", "ablation.json", "leave-one-out.json")


def main(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="The folder of `python -m train nano`.")],
    results: Annotated[Path, typer.Argument(metavar="RESULTS", help="The folder of `python -m benchmarks.nano`.")],
) -> None:
    """Put the model, its card, its results and figures into the checkout."""
    model = run / "q-sit-nano"
    measured, summary = FILES.json(results / "nano.json"), FILES.json(run / "summary.json")
    if measured["made"]["revision"] != fingerprint(model):
        hint = "Run `python -m benchmarks.nano` with the exported model."
        raise EvaluationError.about("RESULTS", str(results), f"measurements of {model}", hint)
    _RESULTS.mkdir(parents=True, exist_ok=True)
    for name in _KEPT:
        if results.resolve() == _RESULTS:
            continue
        (_RESULTS / name).unlink(missing_ok=True)  # else one of other weights would stay
        if (results / name).is_file():
            shutil.copyfile(results / name, _RESULTS / name)
    FILES.write_json(_RESULTS / "summary.json", summary)
    _place(model, card(measured, summary, FILES.json(model / "training.json")["recipe"]))
    _draw(run, results)
    console.say(f"the model is in {_WEIGHTS / 'q-sit-nano'}, figures in {_PICTURES}")


def _place(model: Path, text: str) -> None:
    """The folder as a whole, with the measured card in place of the run's."""
    with new_folder(_WEIGHTS / model.name) as work:
        shutil.copytree(model, work, dirs_exist_ok=True)
        (work / "README.md").write_text(text, encoding="utf-8")


def _draw(run: Path, results: Path) -> None:
    draw(results, _PICTURES)
    for step in (1, 2):
        if (curve := run / f"step{step}" / "fit.png").is_file():
            FILES.write(_PICTURES / f"nano-step{step}.png", curve.read_bytes())


if __name__ == "__main__":
    app_of(main)()
