"""A checkpoint's tokenizer, built from its files with the package `tokenizers` alone.

Files: `tokenizer.json`, or `vocab.json` and `merges.txt` of a Qwen2 tokenizer; `tokenizer_config.json` says which
tokens are special and adds tokens. Folders older than its `added_tokens_decoder` say that in special_tokens_map.json
and added_tokens.json. The result encodes and decodes as `AutoTokenizer` of transformers does.

Deviation: what tokenizer.json says of normalising, splitting and stripping holds, as in the authors' release (4.45) and
up to 4.57; transformers 5 replaces it by what it knows of Qwen2. For Qwen2's own file both are the same.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..errors import CheckpointError
from .files import read_json

_QWEN2 = ("Qwen2Tokenizer", "Qwen2TokenizerFast")
_FILE_ALONE = (None, "PreTrainedTokenizerFast", "TokenizersBackend")  # classes that add nothing to tokenizer.json
_QWEN2_TOKENS = dict.fromkeys(("unk_token", "eos_token", "pad_token"), "<|endoftext|>")
_ROLES = tuple(f"{role}_token" for role in ("bos", "eos", "unk", "sep", "pad", "cls", "mask"))
_FIELDS = ("content", "single_word", "lstrip", "rstrip", "normalized", "special")
_QWEN2_SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)


class Tokenizer:
    """Turns text into token ids and back.

    Args:
        core: A `tokenizers.Tokenizer`.
        named: Special tokens that have a role, by its name ("eos_token"); chat templates see them under that name.
        extra: Special tokens without a role.

    Example:
        >>> import qsit_metric
        >>> tokenizer = Tokenizer.load(Path(qsit_metric.__file__).parent / "weights" / "q-sit-nano")
        >>> tokenizer.decode(tokenizer.encode("Is it sharp?<|im_end|>"))
        'Is it sharp?'
    """

    def __init__(self, core: Any, named: Mapping[str, str], extra: Sequence[str] = ()) -> None:
        self.core = core
        self.named = dict(named)
        self.extra = tuple(extra)

    @classmethod
    def load(cls, folder: Path) -> Tokenizer:
        """The tokenizer of a checkpoint folder.

        Raises:
            CheckpointError: Files are missing, broken or contradict each other, or its class is none of those that can
                be built exactly (Qwen2's, or whatever one tokenizer.json holds).
        """
        try:
            settings = _settings(folder)
            core = _build(folder, settings)
            named, extra = _special(settings)
            _add(core, settings["added_tokens_decoder"], [*named.values(), *extra])
        except CheckpointError:
            raise
        except Exception as error:  # tokenizers raises bare exceptions
            raise CheckpointError.about("model", str(folder), "a tokenizer", f"tokenizers said: {error}") from error
        core.no_truncation()
        core.no_padding()
        core.encode_special_tokens = bool(settings.get("split_special_tokens"))
        contents = {role: _token(token).content for role, token in named.items()}
        return cls(core, contents, [_token(token).content for token in extra])

    @classmethod
    def of(cls, tokenizer: Any) -> Tokenizer:
        """The same interface around a tokenizer object of transformers; ours are returned as they are."""
        return tokenizer if isinstance(tokenizer, Tokenizer) else _Borrowed(tokenizer)

    def __len__(self) -> int:
        """Size of the vocabulary, added tokens included."""
        return int(self.core.get_vocab_size(with_added_tokens=True))

    def encode(self, text: str) -> list[int]:
        """Token ids of a text; added tokens in it are recognised, none is put around it."""
        ids: list[int] = self.core.encode(text, add_special_tokens=False).ids
        return ids

    def decode(self, ids: Sequence[int], *, skip_special_tokens: bool = True) -> str:
        """The text of token ids, spaces as they are."""
        return str(self.core.decode(list(ids), skip_special_tokens=skip_special_tokens))

    def id_of(self, token: str) -> int | None:
        """Id of a token; None if the vocabulary has no such token."""
        found: int | None = self.core.token_to_id(token)
        return found

    @property
    def added_vocab(self) -> dict[str, int]:
        """Tokens on top of the trained vocabulary, with their ids."""
        return {token.content: number for number, token in sorted(self.core.get_added_tokens_decoder().items())}

    @property
    def all_special_tokens(self) -> list[str]:
        """Every special token once, those with a role first."""
        return list(dict.fromkeys([*self.named.values(), *self.extra]))

    @property
    def eos_token_id(self) -> int | None:
        """Id of the token that ends an answer."""
        return self._id_of_role("eos_token")

    @property
    def pad_token_id(self) -> int | None:
        """Id of the token that fills up a batch."""
        return self._id_of_role("pad_token")

    def _id_of_role(self, role: str) -> int | None:
        return self.id_of(self.named[role]) if role in self.named else None


class _Borrowed(Tokenizer):
    """A tokenizer object of transformers, fast or slow, behind our interface."""

    def __init__(self, theirs: Any) -> None:
        named = {role: str(token) for role, token in theirs.special_tokens_map.items() if not isinstance(token, list)}
        super().__init__(theirs, named, [token for token in theirs.all_special_tokens if token not in named.values()])

    def __len__(self) -> int:
        return len(self.core)

    def encode(self, text: str) -> list[int]:
        return list(self.core(text, add_special_tokens=False)["input_ids"])

    def decode(self, ids: Sequence[int], *, skip_special_tokens: bool = True) -> str:
        settings = {"skip_special_tokens": skip_special_tokens, "clean_up_tokenization_spaces": False}
        return str(self.core.decode(list(ids), **settings))

    def id_of(self, token: str) -> int | None:
        found: int | None = self.core.get_vocab().get(token)
        return found

    @property
    def added_vocab(self) -> dict[str, int]:
        return dict(self.core.get_added_vocab())


def _settings(folder: Path) -> dict[str, Any]:
    """`tokenizer_config.json`, completed from the two older files where it does not list the added tokens itself."""
    settings = read_json(folder, "tokenizer_config.json")
    if "added_tokens_decoder" in settings:
        return settings
    older = read_json(folder, "special_tokens_map.json")
    for name in ("extra_special_tokens", "additional_special_tokens"):
        older[name] = settings.get(name) or older.get(name)
    settings |= {name: value for name, value in older.items() if value is not None}
    named, extra = _special(settings)
    special = {_token(token).content for token in (*named.values(), *extra)}
    settings["added_tokens_decoder"] = {
        number: {"content": token, "special": token in special, "normalized": token not in special}
        for token, number in read_json(folder, "added_tokens.json").items()
    }
    return settings


def _special(settings: Mapping[str, Any]) -> tuple[dict[str, Any], list[Any]]:
    """Special tokens as the settings write them, as text or as a record: by role, and those without one."""
    written = {role: token for role, token in settings.items() if role.endswith("_token")}
    written = {**(_QWEN2_TOKENS if settings.get("tokenizer_class") in _QWEN2 else {}), **written}
    extra, more = settings.get("extra_special_tokens"), settings.get("additional_special_tokens")
    if isinstance(extra, dict):
        written, extra = {**written, **extra}, None
    found = {role: written[role] for role in dict.fromkeys([*_ROLES, *written]) if role in written}
    return {
        role: token for role, token in found.items() if token and isinstance(token, (str, dict))
    }, extra or more or []


def _token(written: str | Mapping[str, Any], *, special: bool = True) -> Any:
    """A `tokenizers.AddedToken` from text or from a record, which may say itself whether it is special."""
    from tokenizers import AddedToken

    if isinstance(written, str):
        return AddedToken(written, special=special, normalized=not special)
    return AddedToken(**{"special": special} | {name: value for name, value in written.items() if name in _FIELDS})


def _build(folder: Path, settings: Mapping[str, Any]) -> Any:
    """The `tokenizers.Tokenizer` that the files hold."""
    from tokenizers import Tokenizer as Core
    from tokenizers.models import BPE

    name = settings.get("tokenizer_class")
    whole, vocab, merges = (folder / file for file in ("tokenizer.json", "vocab.json", "merges.txt"))
    if whole.is_file() and name in (*_QWEN2, *_FILE_ALONE):
        core = Core.from_file(str(whole))
    elif name in _QWEN2 and vocab.is_file() and merges.is_file():
        core = qwen2(BPE.from_file(str(vocab), str(merges), continuing_subword_prefix="", end_of_word_suffix=""))
    else:
        got = f"<{name} in {folder}>"
        expected = "a Qwen2Tokenizer (tokenizer.json, or vocab.json and merges.txt), or a tokenizer.json alone"
        raise CheckpointError.about("tokenizer_class", got, expected, "Try backend='transformers'.")
    if name in _QWEN2 and settings.get("add_prefix_space"):
        core.pre_tokenizer = qwen2(core.model, add_prefix_space=True).pre_tokenizer
    return core


def qwen2(model: Any, *, add_prefix_space: bool = False) -> Any:
    """A `tokenizers.Tokenizer` that normalises, splits and decodes as Qwen2's does, around a BPE model."""
    from tokenizers import Tokenizer as Core
    from tokenizers import decoders, normalizers
    from tokenizers.pre_tokenizers import ByteLevel, Sequence

    core = Core(model)
    core.normalizer, core.decoder = normalizers.NFC(), decoders.ByteLevel()
    core.pre_tokenizer = Sequence([qwen2_split(), ByteLevel(add_prefix_space=add_prefix_space, use_regex=False)])
    return core


def qwen2_split() -> Any:
    """The `tokenizers` pre-tokenizer that cuts text into Qwen2's pieces, before they become bytes."""
    from tokenizers import Regex
    from tokenizers.pre_tokenizers import Split

    return Split(Regex(_QWEN2_SPLIT), behavior="isolated", invert=False)


def _add(core: Any, listed: Mapping[Any, Any], special: Sequence[Any]) -> None:
    """Add the tokens that the settings list by id, then special tokens that are still unknown or not yet special."""
    wanted = {int(number): _token(token, special=False) for number, token in listed.items()}
    present = {repr(token) for token in core.get_added_tokens_decoder().values()}
    core.add_tokens([wanted[number] for number in sorted(wanted) if repr(wanted[number]) not in present])
    for number, token in wanted.items():
        if (found := core.token_to_id(token.content)) != number:
            raise CheckpointError.about(
                f"id of {token.content!r}", number, f"{found}, which follows from the vocabulary"
            )
    known = {token.content for token in core.get_added_tokens_decoder().values() if token.special}
    core.add_tokens([token for token in map(_token, special) if token.content not in known])
