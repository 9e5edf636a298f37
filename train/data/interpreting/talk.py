"""The five kinds of conversation, from templates (paper Sec. III-B5). Pure."""

from __future__ import annotations

import random
from collections.abc import Sequence

from .facts import Fact
from .feedback import Feedback
from .knowledge import CONSUMERS, KNOWLEDGE, Knowledge
from .vocabulary import QUALITY
from .writer import Draft

_FINE = Knowledge(
    ("careful handling of focus and exposure", "good light and a suitable lens"),
    ("keep the settings and try another angle or another light", "keep the settings and work on the composition"),
    ("light tonal adjustment in any raw converter", "a gentle crop and colour grading"),
)
_OPENINGS = {
    "causes": ("Why does the image look the way it does?", "What may have caused the look of this picture?"),
    "advice": (
        "How could the photographer do better next time?",
        "What would you change when taking this photo again?",
    ),
    "tools": ("Which tools could improve this image?", "How can I restore or edit this picture afterwards?"),
    "consumers": ("Who would be happy with this image?", "For whom is this picture suitable?"),
    "other": ("What strikes you most about the quality of this image?", "What do you notice first about this photo?"),
}
_FOLLOW_UPS = {
    "causes": ("Could there be another reason?", "Is there any other explanation?"),
    "advice": ("Anything else I should try?", "Do you have one more suggestion?"),
    "tools": ("Is there an alternative?", "What else could I use?"),
    "consumers": ("Who else might use it?", "Any other audience?"),
    "other": ("Which other attribute is worth a remark?", "What else do you see?"),
}
_CLOSINGS = ("So how good is the image overall?", "What is your overall verdict?", "To sum up, how do you rate it?")
_SAYING = {
    "causes": ("A likely cause is {text}.", "It probably comes from {text}."),
    "advice": ("I would {text}.", "My suggestion is to {text}."),
    "tools": ("I would use {text}.", "A good choice is {text}."),
}
_AGAIN = {
    "causes": ("Possibly also {text}.", "Another explanation is {text}."),
    "advice": ("You could also {text}.", "It would help to {text}, too."),
    "tools": ("You can also try {text}.", "An alternative is {text}."),
}


def conversation(feedback: Feedback, known: Sequence[Fact], topic: str, rng: random.Random) -> Draft:
    """Write one conversation of three turns that says nothing beyond the feedback and general knowledge.

    Args:
        feedback: What the person said.
        known: The facts in it.
        topic: One of `TOPICS`.
        rng: Decides the wording.
    """
    if topic == "consumers":
        first, second = _consumers(known, rng)
    elif topic == "other":
        first, second = _other(feedback, rng)
    else:
        first, second = _problem(known, topic, rng)
    said = (
        (rng.choice(_OPENINGS[topic]), first),
        (rng.choice(_FOLLOW_UPS[topic]), second),
        (rng.choice(_CLOSINGS), _closed(feedback.conclusion)),
    )
    return Draft("conversation", said)


def _problem(known: Sequence[Fact], topic: str, rng: random.Random) -> tuple[str, str]:
    """The problem that is seen, and what is known about it."""
    problems = [fact for fact in known if fact.step.problem in KNOWLEDGE]
    if not problems:
        texts, lead = getattr(_FINE, topic), "I see no clear technical distortion here."
    else:
        fact = rng.choice(problems)
        texts = getattr(KNOWLEDGE[fact.step.problem], topic)
        where = f"{fact.place} of the image" if fact.place else "the image"
        lead = f"{where[:1].upper()}{where[1:]} is {rng.choice(fact.step.asked)}."
    first, second = rng.sample(texts, 2)
    return f"{lead} {rng.choice(_SAYING[topic]).format(text=first)}", rng.choice(_AGAIN[topic]).format(text=second)


def _consumers(known: Sequence[Fact], rng: random.Random) -> tuple[str, str]:
    step = next((fact.index for fact in known if fact.attribute == QUALITY), None)
    if step is None:
        step = 0 if any(fact.step.problem for fact in known) else 1
    first, second = rng.sample(CONSUMERS[step], 2)
    return f"I would recommend it to {first}.", f"It may also suit {second}."


def _other(feedback: Feedback, rng: random.Random) -> tuple[str, str]:
    """What the person said first, then the rest."""
    said = [f"{name[:1].upper()}{name[1:]}: {text}" if name else text for name, text in feedback.attributes]
    first, *rest = (_closed(text) for text in said)
    return first, " ".join(rest) if rest else "Nothing else stands out."


def _closed(text: str) -> str:
    return text if text[-1] in ".!?" else f"{text}."
