"""The writer that asks a language model, as the paper asks GPT (Sec. III-B4 and B5); the prompts are ours."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from qsit_metric.errors import shorten

from ...errors import DataError
from ..rows import Refusals
from .endpoint import BadReply, Endpoint
from .feedback import Feedback
from .writer import Draft, Task

_SYSTEM = (
    "You turn human feedback on the low-level visual quality of one image into training data. Rely on the feedback "
    "only and invent nothing about the image. Speak of the image, never of the feedback. "
    "Reply with one JSON object and nothing else."
)
_YES_NO = (
    "Write an even number of yes-or-no questions about the image, 2 to 6. Half of them are true by the feedback and "
    "are answered Yes, half of them contradict it and are answered No. Use the same style for both, so that the "
    'wording does not show the answer. Form: {"questions": [{"question": "...", "answer": "Yes"}]}'
)
_WHAT_HOW = (
    "Write 1 to 4 questions about the image. A question of type how asks for a degree and is answered with an "
    "adjective (good/poor, high/low); one of type what is answered with a noun, an attribute (blur, noise, focus) or "
    "a part of the image (left, the background). Answer in as few words as possible. Add 1 to 3 distractors: wrong "
    "answers about the same attribute that the feedback rules out. "
    'Form: {"questions": [{"type": "how", "question": "...", "answer": "...", "distractors": ["..."]}]}'
)
_TALK = (
    "Write a conversation of 2 to 4 turns between a person and an assistant who sees the image. {topic} "
    'Form: {{"turns": [{{"question": "...", "answer": "..."}}]}}'
)
_TOPICS = {
    "causes": "They discuss what caused the low-level appearance of the image.",
    "advice": "They discuss how to take a better photograph of this scene.",
    "tools": "They discuss which tools restore, enhance or edit the image, and for what.",
    "consumers": "They discuss to which people or for which uses the image can be recommended.",
    "other": "They discuss any other low-level aspect of the image that the feedback mentions.",
}
_FENCE = re.compile(r"\A```(?:json)?\s*\n(.*)\n```\Z", re.DOTALL)
_LONGEST_ANSWER = 8  # words of a what/how answer


class EndpointWriter:
    """Writes through an OpenAI-compatible endpoint.

    A reply that is not of the asked form is refused and named. It stays in the cache, since asking again would cost
    again and most models would say the same; change the endpoint's options to ask anew.

    Args:
        endpoint: Where to ask.
        workers: Requests at a time.
    """

    def __init__(self, endpoint: Endpoint, workers: int = 4) -> None:
        if not 1 <= workers <= 64:
            raise DataError.about("workers", workers, "1 to 64")
        self._endpoint = endpoint
        self._workers = workers

    @property
    def name(self) -> str:
        """For reports."""
        return f"{self._endpoint.model} at {self._endpoint.base_url}"

    def write(self, tasks: Sequence[Task], refusals: Refusals) -> Iterator[list[Draft]]:
        """See `Writer.write`.

        Raises:
            RunError: The endpoint refuses or cannot be reached; see `Endpoint.ask`.
        """
        step = 4 * self._workers
        with ThreadPoolExecutor(self._workers) as pool:
            for start in range(0, len(tasks), step):
                part = tasks[start : start + step]
                requests = {self._endpoint.key(asked): asked for asked in map(messages, part)}
                replies = dict(zip(requests, pool.map(self._reply, requests.values()), strict=True))
                for task in part:
                    yield _drafts(task, replies[self._endpoint.key(messages(task))], refusals)

    def _reply(self, asked: Sequence[Mapping[str, str]]) -> str | BadReply:
        try:
            return self._endpoint.ask(asked)
        except BadReply as error:
            return error


def messages(task: Task) -> list[dict[str, str]]:
    """What is sent for a task; equal feedback gives equal messages."""
    wanted = {"yes_no": _YES_NO, "what_how": _WHAT_HOW}.get(task.kind) or _TALK.format(topic=_TOPICS[task.topic])
    user = f"Feedback: {json.dumps(_shown(task.feedback), ensure_ascii=False)}\n\n{wanted}"
    return [{"role": "system", "content": _SYSTEM}, {"role": "user", "content": user}]


def parse(kind: str, text: str) -> list[Draft]:
    """Read a reply strictly: one JSON object with exactly the asked fields, in a code fence or not.

    Raises:
        DataError: It is anything else.

    Example:
        >>> [draft] = parse("yes_no", '{"questions": [{"question": "Is it sharp?", "answer": "No"}]}')
        >>> draft.answer
        'No'
    """
    fenced = _FENCE.match(text.strip())
    try:
        found = json.loads(fenced[1] if fenced else text)
    except ValueError as error:
        raise DataError(f"no JSON: {shorten(text)}") from error
    if kind == "conversation":
        turns = [(one["question"], one["answer"]) for one in _objects(found, "turns", ("question", "answer"))]
        return [Draft("conversation", tuple(turns))]
    if kind == "yes_no":
        asked = _objects(found, "questions", ("question", "answer"))
        return [Draft("yes_no", ((one["question"], one["answer"]),)) for one in asked]
    return [_short(one) for one in _objects(found, "questions", ("type", "question", "answer", "distractors"))]


def _drafts(task: Task, reply: str | BadReply, refusals: Refusals) -> list[Draft]:
    try:
        if isinstance(reply, BadReply):
            raise reply
        return parse(task.kind, reply)
    except DataError as error:
        refusals.add(f"{task}: {error}")
        return []


def _short(one: Mapping[str, Any]) -> Draft:
    wrong = one["distractors"]
    if one["type"] not in ("what", "how") or not 1 <= len(wrong) <= 3:
        raise DataError(f"type {shorten(one['type'])} with {len(wrong)} distractors, expected what or how with 1 to 3")
    if len(one["answer"].split()) > _LONGEST_ANSWER:
        raise DataError(f"answer {shorten(one['answer'])}, expected {_LONGEST_ANSWER} words at most")
    return Draft(one["type"], ((one["question"], one["answer"]),), tuple(wrong))


def _objects(found: object, name: str, fields: tuple[str, ...]) -> list[dict[str, Any]]:
    """The list `name` of objects that have exactly these fields, texts all but `distractors`."""
    if not isinstance(found, dict) or set(found) != {name} or not isinstance(found[name], list) or not found[name]:
        raise DataError(f"got {shorten(found)}, expected an object with one list {name!r}")
    for one in found[name]:
        if not isinstance(one, dict) or set(one) != set(fields):
            raise DataError(f"got {shorten(one)}, expected an object with {', '.join(fields)}")
        wrong = one.get("distractors", [])
        texts = [one[field] for field in fields if field != "distractors"]
        if not isinstance(wrong, list) or not all(isinstance(text, str) for text in [*texts, *wrong]):
            raise DataError(f"got {shorten(one)}, expected texts")
    return list(found[name])


def _shown(feedback: Feedback) -> dict[str, Any]:
    said: Any = [text for _, text in feedback.attributes]
    if any(name for name, _ in feedback.attributes):
        said = dict(feedback.attributes)
    return {"attributes": said, "conclusion": feedback.conclusion}
