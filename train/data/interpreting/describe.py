"""Pathway rows: the description of the attributes, then the conclusion (paper Sec. III-B2). Pure."""

from __future__ import annotations

import random

from qsit_metric.prompts import DESCRIBE

from .feedback import Feedback

QUESTIONS = (
    DESCRIBE,
    "Describe the quality of this image in detail and give your conclusion.",
    "Look at the low-level attributes of this image one by one, then judge its quality.",
    "What can you say about the visual quality of this picture? Describe it, then conclude.",
    "Please assess the quality of the photo: describe what you see, then sum up.",
    "Give a detailed evaluation of how good this image looks.",
    "Which low-level properties shape the quality of this image, and how good is it overall?",
    "Write an assessment of the image's quality that ends with an overall verdict.",
)
_LEADS = ("{Name}: {text}.", "As for {name}: {text}.", "Regarding {name}: {text}.")


def pathway(feedback: Feedback, seed: str) -> tuple[str, str]:
    """The description question and its answer.

    Sentences of the feedback stay as they are; a bare phrase is led in by its attribute's name.

    Args:
        feedback: What the person said.
        seed: Decides the wording.

    Example:
        >>> said = Feedback("a.jpg", (("", "The sky is noisy."),), "Thus, the quality of the image is poor.")
        >>> pathway(said, "0")[1]
        'The sky is noisy. Thus, the quality of the image is poor.'
    """
    rng = random.Random(f"pathway {seed}")
    sentences = [_sentence(name, text, rng) for name, text in feedback.attributes]
    return rng.choice(QUESTIONS), " ".join([*sentences, _closed(feedback.conclusion)])


def _sentence(name: str, text: str, rng: random.Random) -> str:
    if not name or text[-1] in ".!?":
        return _closed(text)
    return rng.choice(_LEADS).format(name=name, Name=name[:1].upper() + name[1:], text=text)


def _closed(text: str) -> str:
    return text if text[-1] in ".!?" else f"{text}."
