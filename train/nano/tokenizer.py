"""A byte-level BPE tokenizer in the format of Qwen2, trained on the data's own texts.

It normalises, splits and decodes as Qwen2's own (`backends.tokenizer`), and its files are laid out as Qwen2's are. The
words that the recipe reads or counts are single tokens whatever the texts are: the level words (with and without space,
small and capital), and all words of the D1 question and answer, so that LLaVA-NeXT's mask supervises 21 targets of a D1
row here as with Qwen2's own vocabulary.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tokenizers import AddedToken, models, trainers
from tokenizers.pre_tokenizers import ByteLevel

from qsit_metric.backends.training import qwen2, qwen2_split
from qsit_metric.levels import LEVELS
from qsit_metric.prompts import AUTHORS, TRAIN

from ..data.frozen import Frozen
from ..errors import RecipeError
from ..mixture import SETS

SPECIALS = ("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<image>", "<video>")
PAD, _, EOS, IMAGE, VIDEO = SPECIALS
_EMPHASIS = 2000  # times that a word which must be whole is shown to the trainer


@dataclass(frozen=True, eq=False)
class Vocabulary:
    """A trained tokenizer, still without a folder.

    Attributes:
        tokenizer: The `tokenizers.Tokenizer`.
    """

    tokenizer: Any

    def __len__(self) -> int:
        return int(self.tokenizer.get_vocab_size())

    @property
    def places(self) -> dict[str, int]:
        """Id of each special token."""
        return {token: int(self.tokenizer.token_to_id(token)) for token in SPECIALS}

    def ids(self, text: str) -> list[int]:
        """Token ids of a text."""
        found: list[int] = self.tokenizer.encode(text, add_special_tokens=False).ids
        return found

    def save(self, folder: Path, positions: int) -> None:
        """Write the six files that a Qwen2 tokenizer consists of.

        Args:
            folder: Made if it is not there.
            positions: Longest sequence of the model, noted as `model_max_length`.
        """
        folder.mkdir(parents=True, exist_ok=True)
        self.tokenizer.model.save(str(folder))  # vocab.json and merges.txt
        self.tokenizer.save(str(folder / "tokenizer.json"))
        places = self.places
        rest = [token for token in SPECIALS if token not in (PAD, EOS)]
        written = {
            "added_tokens.json": places,
            "special_tokens_map.json": {
                "additional_special_tokens": [_token(token) for token in rest],
                "eos_token": _token(EOS),
                "pad_token": _token(PAD),
            },
            "tokenizer_config.json": {
                "added_tokens_decoder": {str(i): {**_token(t), "special": True} for t, i in places.items()},
                "additional_special_tokens": rest,
                "bos_token": None,
                "clean_up_tokenization_spaces": False,
                "eos_token": EOS,
                "model_max_length": positions,
                "pad_token": PAD,
                "processor_class": "LlavaOnevisionProcessor",
                "tokenizer_class": "Qwen2Tokenizer",
                "unk_token": None,
            },
        }
        for name, fields in written.items():
            (folder / name).write_text(json.dumps(fields, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def whole_words() -> tuple[str, ...]:
    """Pieces that are single tokens in every tokenizer of `train_tokenizer`, as the pre-tokenizer cuts them."""
    spoken = [TRAIN.question, f"{TRAIN.answer_prefix} good.", str(TRAIN.system), AUTHORS.answer_prefix.strip()]
    words = [piece for text in spoken for piece in _pieces(text)]
    levels = [space + form for level in LEVELS for form in (level, level.capitalize()) for space in ("", " ")]
    return tuple(dict.fromkeys([*words, *levels, "system", "user", "assistant"]))


def train_tokenizer(texts: Iterable[str], size: int) -> Vocabulary:
    """Train a tokenizer; equal texts give equal vocabularies.

    Args:
        texts: Questions and answers. Line breaks are never joined with what stands before them.
        size: Tokens, the five special ones included.

    Returns:
        The tokenizer; it has fewer tokens than `size` if the texts give no more.

    Raises:
        RecipeError: `size` does not hold the bytes, the special tokens and the words that must be whole.

    Example:
        >>> vocabulary = train_tokenizer(["Is it sharp?", "It is sharp."], 512)
        >>> [len(vocabulary.ids(text)) for text in ("excellent", " excellent", "Is it good?")]
        [1, 1, 4]
    """
    tokenizer = qwen2(models.BPE())
    trainer = trainers.BpeTrainer(
        vocab_size=max(size - len(SPECIALS), 256), initial_alphabet=ByteLevel.alphabet(), show_progress=False
    )
    tokenizer.train_from_iterator(_lines(texts), trainer)
    tokenizer.add_special_tokens([AddedToken(token, normalized=False, special=True) for token in SPECIALS])
    vocabulary = Vocabulary(tokenizer)
    if broken := [word for word in whole_words() if len(vocabulary.ids(word)) != 1]:
        hint = f"{len(broken)} words would be cut, {broken[0]!r} for one. Use 512 or more."
        raise RecipeError.about("size", size, "room for the bytes and the words that must be whole", hint)
    return vocabulary


def _lines(texts: Iterable[str]) -> Iterable[str]:
    yield from (word for word in whole_words() for _ in range(_EMPHASIS))
    for text in texts:
        yield from text.splitlines()


def _pieces(text: str) -> list[str]:
    return [piece for piece, _ in qwen2_split().pre_tokenize_str(text)]


def _token(content: str) -> dict[str, Any]:
    return {"content": content, "lstrip": False, "normalized": False, "rstrip": False, "single_word": False}


def texts_of(*frozen: Frozen) -> list[str]:
    """Every question and answer in the rows of some data, for the tokenizer."""
    rows = [row for one in frozen for name in SETS for row in one.rows(name)]
    return [text for row in rows for turn in row.turns for text in turn]
