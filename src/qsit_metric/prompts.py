"""What is said to the model: one frozen record per recipe, and the multiple-choice form of a question. Pure.

Sources: the authors' README and `eval_scripts/` (github.com/Q-Future/Q-SiT, commit 4e4d1df) for `authors`; their
`train_koniq_qsit.json` and LLaVA-NeXT's `preprocess_qwen` (commit df17966) for `train`; for each other recipe its
`source`.
"""

from __future__ import annotations

import dataclasses
import difflib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from .errors import CheckpointError, InputError, UnknownNameError
from .files import Files, write_atomic

LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
DESCRIBE = "Describe and evaluate the quality of the image."  # Q-Instruct's description prompt
RECIPE_FILE = "qsit_recipe.json"  # beside the weights, written by whoever trained them
DESCRIBING_FILE = "qsit_describing.json"  # apart, since no score depends on it and the recipe belongs to what made one

Form = Literal["levels", "answer", "rating"]
_FORMS = get_args(Form)
_LATER = ("form", "switches", "max_new_tokens")  # written where they say something: earlier releases refuse them
_TAGGED = re.compile(r"<answer>(.*?)</answer>", re.DOTALL)
_NUMBER = {"answer": re.compile(r"(\d+(?:\.\d+)?)"), "rating": re.compile(r'"rating"\s*:\s*"?(\d+(?:\.\d+)?)')}
_LOWEST, _HIGHEST = 1.0, 5.0  # the scale that the questions with a written answer name

# The chat format in which LLaVA-NeXT trains Qwen2: a newline after each role, the image first, a newline after it.
CHATML = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n"
    "{% for part in message['content'] if part['type'] == 'image' %}<image>\n{% endfor %}"
    "{% for part in message['content'] if part['type'] == 'text' %}{{ part['text'] }}{% endfor %}"
    "<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


@dataclass(frozen=True)
class Prompt:
    """One thing to say about one image; the image itself always comes first in the user's turn.

    Attributes:
        question: The user's text.
        answer_prefix: Text that the answer already begins with.
        system: System turn, or None for none.
        template: Chat template in Jinja, or None for the checkpoint's own.
        words: Words whose first tokens are read as the answer; empty when text is generated.
        switches: Variables of the chat template that are set to true.
    """

    question: str
    answer_prefix: str = ""
    system: str | None = None
    template: str | None = None
    words: tuple[str, ...] = ()
    switches: tuple[str, ...] = ()


@dataclass(frozen=True)
class Fault:
    """One fault that a composed description can name.

    Attributes:
        name: The fault as a noun, an option of `Describing.question`.
        question: Asks how strong it is.
        choices: The answers to that, one of them `strong` by another capital.
        strong: Completes "The image is ..." where the fault is clear.
        slight: The same where it is light.
    """

    name: str
    question: str
    choices: tuple[str, ...]
    strong: str
    slight: str


@dataclass(frozen=True)
class Describing:
    """How a description is put together from answers by likelihood, for checkpoints too small to write one.

    Attributes:
        question: Asks which fault affects the image.
        faults: The faults to choose from.
    """

    question: str
    faults: tuple[Fault, ...]

    @classmethod
    def from_dict(cls, fields: Any) -> Describing:
        """Rebuild the record from JSON.

        Raises:
            InputError: Not its fields, or a fault without the choice that says that it is there.
        """
        try:
            faults = tuple(Fault(**{**fault, "choices": tuple(fault["choices"])}) for fault in fields["faults"])
            found = cls(**{**fields, "faults": faults})
            check_choices([fault.name for fault in faults], limit=None)
            for fault in faults:
                check_choices(fault.choices)
        except (TypeError, KeyError) as error:
            raise InputError.about("recipe.describing", fields, "a question and faults to choose from") from error
        for fault in faults:
            if fault.strong.lower() not in (choice.lower() for choice in fault.choices):
                raise InputError.about("recipe.describing", fault.strong, f"one of {', '.join(fault.choices)}")
        return found


@dataclass(frozen=True)
class Recipe:
    """How a checkpoint is asked for a score; saved beside the weights that were calibrated with it.

    Attributes:
        name: Short name, shown in result files.
        question: The scoring question.
        answer_prefix: What stands before the level word.
        words: The level words from worst to best, spelled (space and case included) as they follow the prefix; none
            where the score is written as a number.
        system: System turn, or None.
        template: Chat template in Jinja, or None for the checkpoint's own.
        source: Where the strings come from.
        choices: How the checkpoint compares options: by the "letters" that it was taught to answer with, or by their
            whole "texts", for models too small to point at an option.
        describing: How a description is composed from answers, for models too small to write one; None: it is written.
        form: Where the score stands: in the probabilities of the level words ("levels"); or in a text that the model
            writes, as a number from 1 to 5 between `<answer>` tags ("answer") or as the value of "rating" in JSON
            between them ("rating").
        switches: Variables of the chat template that are set to true ("add_vision_id").
        max_new_tokens: Limit of a written score.

    Raises:
        InputError: Fewer than two words, words that cannot be told apart in results, words beside a written number, or
            a field of another type.
    """

    name: str
    question: str
    answer_prefix: str
    words: tuple[str, ...]
    system: str | None = None
    template: str | None = None
    source: str = ""
    choices: str = "letters"
    describing: Describing | None = None
    form: Form = "levels"
    switches: tuple[str, ...] = ()
    max_new_tokens: int = 512

    def __post_init__(self) -> None:
        if self.choices not in ("letters", "texts"):
            raise InputError.about("recipe.choices", self.choices, "'letters' or 'texts'")
        if self.form not in _FORMS:
            raise InputError.about("recipe.form", self.form, f"one of {', '.join(_FORMS)}")
        limit = self.max_new_tokens
        if isinstance(limit, bool) or not isinstance(limit, int) or limit < 1:
            raise InputError.about("recipe.max_new_tokens", limit, "a whole number of 1 or more")
        if not isinstance(self.switches, (list, tuple)) or not all(isinstance(s, str) and s for s in self.switches):
            raise InputError.about("recipe.switches", self.switches, "names of variables of the chat template")
        object.__setattr__(self, "switches", tuple(self.switches))
        self._check_words()
        for name in ("name", "question", "answer_prefix", "source", "system", "template"):
            value = getattr(self, name)
            if not (isinstance(value, str) or (value is None and name in ("system", "template"))):
                raise InputError.about(f"recipe.{name}", value, "text")

    def _check_words(self) -> None:
        words: Any = self.words  # a list where they come from JSON
        if self.form != "levels":
            if words not in ((), []):
                raise InputError.about("recipe.words", words, f"none with form={self.form!r}: the score is written")
            object.__setattr__(self, "words", ())
            return
        if not isinstance(words, (list, tuple)) or len(words) < 2 or not all(isinstance(w, str) and w for w in words):
            raise InputError.about("recipe.words", words, "two or more non-empty words, worst first")
        if len({word.strip().lower() for word in words}) < len(words):
            raise InputError.about("recipe.words", words, "words that differ by more than case and spaces")
        object.__setattr__(self, "words", tuple(words))

    def scoring(self) -> Prompt:
        """The prompt whose next token is a level word, or whose answer is a written score."""
        return Prompt(self.question, self.answer_prefix, self.system, self.template, self.words, self.switches)

    def written(self, reply: str) -> float | None:
        """Read a written score.

        The last `<answer>` counts, as in the authors' scripts; without one, the whole reply. Where they draw a number
        at random, nothing is read.

        Args:
            reply: What the model wrote.

        Returns:
            The score on 1..5, or None if no number of that range stands where the recipe's form expects it.

        Example:
            >>> VISUALQUALITY_R1.written("<answer> 3.25 </answer>"), Q_INSIGHT.written("It is fine.")
            (3.25, None)
        """
        if self.form == "levels":
            return None
        tagged = _TAGGED.findall(reply)
        found = _NUMBER[self.form].search(tagged[-1] if tagged else reply)
        value = None if found is None else float(found[1])
        return value if value is not None and _LOWEST <= value <= _HIGHEST else None

    def asking(self, question: str, words: Sequence[str] = ()) -> Prompt:
        """A free question in the same chat format, so that it shares the image's prefix with the score."""
        return Prompt(question, "", self.system, self.template, tuple(words), self.switches)

    def save(self, folder: Path) -> None:
        """Write the recipe beside a checkpoint, and how descriptions are composed, if they are."""
        fields = dataclasses.asdict(self)
        for name in _LATER:
            if fields[name] == getattr(type(self), name):
                del fields[name]
        files = {DESCRIBING_FILE: fields.pop("describing"), RECIPE_FILE: fields}
        for name, content in files.items():
            if content:
                write_atomic(folder / name, json.dumps(content, indent=2, ensure_ascii=False) + "\n")
            else:
                (folder / name).unlink(missing_ok=True)

    @classmethod
    def from_dict(cls, fields: Mapping[str, Any]) -> Recipe:
        """Rebuild a recipe; unknown, missing or ill-typed fields are refused.

        Raises:
            CheckpointError: The fields are not those of a recipe.
        """
        known = {field.name: field for field in dataclasses.fields(cls)}
        required = {name for name, field in known.items() if field.default is dataclasses.MISSING}
        if unknown := sorted(set(fields) - set(known)):
            raise CheckpointError.about("recipe", unknown, f"only the fields {', '.join(known)}")
        if missing := sorted(required - set(fields)):
            raise CheckpointError.about(
                "recipe", f"<no {', '.join(missing)}>", f"the fields {', '.join(sorted(required))}"
            )
        composed = fields.get("describing")
        try:
            return cls(**{**fields, "describing": composed and Describing.from_dict(composed)})
        except InputError as error:
            raise error.turned(CheckpointError) from error

    @classmethod
    def load(cls, folder: Path) -> Recipe | None:
        """The recipe that a checkpoint folder carries, or None.

        Raises:
            CheckpointError: The file is there but is no recipe.
        """
        files = Files(CheckpointError, "recipe", rescue="Remove or repair it.")
        path, describing = folder / RECIPE_FILE, folder / DESCRIBING_FILE
        if not path.is_file():
            return None
        extra = {"describing": files.json(describing)} if describing.is_file() else {}
        return cls.from_dict({**files.json(path), **extra})


AUTHORS = Recipe(
    name="authors",
    question=(
        "Assume you are an image quality evaluator. \n"
        "Your rating should be chosen from the following five categories: "
        "Excellent, Good, Fair, Poor, and Bad (from high to low). \n"
        "How would you rate the quality of this image?"
    ),
    answer_prefix="The quality of this image is ",
    words=("Bad", "Poor", "Fair", "Good", "Excellent"),
    source="Q-Future/Q-SiT README and eval_scripts/qsit_transformers_test_iqa.py at 4e4d1df",
)

TRAIN = Recipe(
    name="train",
    question="Assume you are an image quality evaluator. How would you rate the quality of this image?",
    answer_prefix="The quality of the image is",
    words=(" bad", " poor", " fair", " good", " excellent"),
    system="You are a helpful assistant.",
    template=CHATML,
    source="Q-Future/Q-SiT training_jsons/train_koniq_qsit.json at 4e4d1df, LLaVA-NeXT preprocess_qwen at df17966",
)

_FIVE = (" bad", " poor", " fair", " good", " excellent")

Q_REALIGN = Recipe(
    name="q-realign",
    question="How would you rate the quality of this image?",
    answer_prefix="The quality of the image is",
    words=_FIVE,
    source="Q-Future/Q-ReAlign README (Quick Run) at f5fd748",
)

AESTHETICS = Recipe(
    name="aesthetics",
    question="How would you rate the aesthetics of this image?",
    answer_prefix="The aesthetics of the image is",
    words=_FIVE,
    source="Q-Future/Q-ReAlign qalign/prompts.py at f5fd748",
)

_RATING = (
    "What is your overall rating on the quality of this picture? The rating should be a float between 1 and 5, "
    "rounded to two decimal places, with 1 representing very poor quality and 5 representing excellent quality."
)
_ASSESSING = f"You are doing the image quality assessment task. Here is the question: {_RATING}"

VISUALQUALITY_R1 = Recipe(
    name="visualquality-r1",
    question=f"{_ASSESSING} Please only output the final answer with only one score in <answer> </answer> tags.",
    answer_prefix="",
    words=(),
    source="TianheWu/VisualQuality-R1 README (non-thinking inference) at a16dcdb",
    form="answer",
    switches=("add_vision_id",),
    max_new_tokens=2048,
)

VISUALQUALITY_R1_THINKING = dataclasses.replace(
    VISUALQUALITY_R1,
    name="visualquality-r1-thinking",
    question=(
        f"{_ASSESSING} First output the thinking process in <think> </think> tags and then output the final answer "
        "with only one score in <answer> </answer> tags."
    ),
    source="TianheWu/VisualQuality-R1 README (thinking mode) at a16dcdb",
)

Q_INSIGHT = Recipe(
    name="q-insight",
    question=f'{_RATING} Return the final answer in JSON format with the following keys: "rating": The score.',
    answer_prefix="",
    words=(),
    system=(
        "A conversation between User and Assistant. The user asks a question, and the Assistant solves it. The "
        "assistant first thinks about the reasoning process in the mind and then provides the user with the answer. "
        "The reasoning process and answer are enclosed within <think> </think> and <answer> </answer> tags, "
        "respectively, i.e., <think> reasoning process here </think><answer> answer here </answer>"
    ),
    source="bytedance/Q-Insight src/open-r1-multimodal/src/open_r1/qinsight_multi_task.py at 08308fd",
    form="rating",
    max_new_tokens=1024,
)

RECIPES: Mapping[str, Recipe] = {
    recipe.name: recipe
    for recipe in (AUTHORS, TRAIN, Q_REALIGN, AESTHETICS, VISUALQUALITY_R1, VISUALQUALITY_R1_THINKING, Q_INSIGHT)
}


def recipe_named(name: str) -> Recipe:
    """Look a built-in recipe up.

    Raises:
        UnknownNameError: No such recipe; the message lists the known ones.
    """
    if name not in RECIPES:
        near = difflib.get_close_matches(name, RECIPES, n=1, cutoff=0.4)
        hint = f"Did you mean {near[0]!r}?" if near else "A Recipe object is accepted too."
        raise UnknownNameError.about("recipe", name, f"one of {', '.join(RECIPES)}", hint)
    return RECIPES[name]


def multiple_choice(question: str, choices: Sequence[str]) -> str:
    r"""Write a question with lettered options, as the authors' LLVisionQA script does.

    Example:
        >>> multiple_choice("How sharp is it?", ["Sharp", "Blurry"])
        'How sharp is it?\nA. Sharp\nB. Blurry\n'
    """
    return question + "\n" + "".join(f"{letter}. {choice}\n" for letter, choice in zip(LETTERS, choices, strict=False))


def check_choices(choices: Sequence[str], limit: int | None = len(LETTERS)) -> tuple[str, ...]:
    """Validate the options of a question.

    Args:
        choices: The options.
        limit: How many there may be; None where no letters stand before them.

    Raises:
        InputError: Fewer than 2 or more than 26 options, an empty or repeated one, or something that is not text.
    """
    if isinstance(choices, str) or not isinstance(choices, Sequence):
        raise InputError.about("choices", choices, "a list of 2 to 26 texts")
    if len(choices) < 2 or (limit is not None and len(choices) > limit):
        raise InputError.about("choices", f"<{len(choices)} choices>", "2 to 26 of them, one letter each")
    for choice in choices:
        if not isinstance(choice, str) or not choice.strip():
            raise InputError.about("choices", choice, "non-empty text for each choice")
    if len(set(choices)) < len(choices):
        raise InputError.about("choices", list(choices), "choices that differ from each other")
    return tuple(choices)


def choice_in(reply: str, choices: Sequence[str]) -> int | None:
    """Which option a generated reply names, by the rule of the authors' LLVisionQA script.

    An option is named if the reply is its letter or its text, contains the letter with a full stop, or has a line that
    is the letter. The script asks this for the correct option only; here the reply must name exactly one.

    Returns:
        The option's index, or None if the reply names none or several.

    Example:
        >>> choice_in("B. Blurry", ["Sharp", "Blurry"]), choice_in("A. or B.", ["Sharp", "Blurry"])
        (1, None)

    Reference:
        eval_scripts/qsit_transformers_test_q_bench.py at 4e4d1df.
    """
    lines = reply.split("\n")
    named = [
        index
        for index, (letter, choice) in enumerate(zip(LETTERS, choices, strict=False))
        if reply == choice or letter + "." in reply or letter in lines
    ]
    return named[0] if len(named) == 1 else None
