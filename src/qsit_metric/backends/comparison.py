"""The same weights in our network and in transformers' own: how far their answers lie apart.

Published weights meet our network on the user's machine, not on ours; this is the check that everyone can run on them
(`qsit doctor -m MODEL --against transformers`). Both read the same tiles, put together in the same way.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from ..errors import BackendError
from ..packages import check_transformers, installed
from ..pixels.tiles import normalise, pack
from .base import LoadOptions
from .llava_onevision import LlavaOnevisionBackend
from .pretrained import load_model

if TYPE_CHECKING:
    from ..pixels import Picture
    from ..prompts import Prompt


@dataclass(frozen=True)
class Comparison:
    """Logits of the same words by both.

    Attributes:
        ours: By our network.
        theirs: By transformers.
        release: Of transformers.
    """

    ours: tuple[float, ...]
    theirs: tuple[float, ...]
    release: str | None

    @property
    def difference(self) -> float:
        """The largest difference of a logit."""
        return max(abs(a - b) for a, b in zip(self.ours, self.theirs, strict=True))


def against_transformers(backend: Any, folder: Path, prompt: Prompt, picture: Picture) -> Comparison:
    """Compare level logits of one picture.

    Args:
        backend: The loaded fast path, on one device and unquantised.
        folder: The folder that it was loaded from; its weights are loaded a second time.
        prompt: The scoring prompt.
        picture: Any picture.

    Raises:
        BackendError: Another backend, or a model that is spread over devices or quantised.
        DependencyError: transformers is not there, or not in a release that works.
        CheckpointError: transformers cannot load the folder.
    """
    if not isinstance(backend, LlavaOnevisionBackend):
        raise BackendError.about("backend", backend.name, "llava_onevision, whose network is our own")
    if getattr(backend.model, "hf_device_map", None) or getattr(backend.model, "is_quantized", False):
        raise BackendError.about("backend", "<a spread or quantised model>", "one device and a floating-point dtype")
    check_transformers()
    prepared = backend.prepare(picture)
    with torch.no_grad():
        ours = backend.logits([(backend.encode([prepared])[0], prompt)])[0].tolist()
        options = LoadOptions(str(backend.device), backend.dtype)
        theirs = _theirs(_load(folder, options), backend, prepared.data, prompt)
    return Comparison(tuple(ours), tuple(theirs), installed("transformers"))


def _load(folder: Path, options: LoadOptions) -> Any:
    """The model in transformers' class, its config freed of two traps.

    Files of 4.45 keep the tie of the 0.5B head in the text part only, where 4.57 overlooks it; and sliding windows were
    never applied by the release that the authors pin.
    """
    from transformers import LlavaOnevisionConfig, LlavaOnevisionForConditionalGeneration

    config = LlavaOnevisionConfig.from_pretrained(folder, local_files_only=True)
    config.tie_word_embeddings = bool(config.text_config.tie_word_embeddings or config.tie_word_embeddings)
    config.text_config.tie_word_embeddings = config.tie_word_embeddings
    config.text_config.use_sliding_window, config.text_config.sliding_window = False, None
    config.text_config.layer_types = ["full_attention"] * config.text_config.num_hidden_layers
    return load_model(LlavaOnevisionForConditionalGeneration, folder, config, options)


def _theirs(model: Any, backend: LlavaOnevisionBackend, cut: Any, prompt: Prompt) -> list[float]:
    """Level logits by transformers' tower, projector, decoder and head."""
    core, ids = model.model, backend._dialogue.ids(prompt)
    tiles = normalise(cut.tiles.to(backend.device), backend.geometry).to(backend.dtype)
    states = core.vision_tower(tiles, output_hidden_states=True).hidden_states[backend.model.config.feature_layer]
    image = pack(core.multi_modal_projector(states), cut.plan, core.image_newline)
    before, after = (model.get_input_embeddings()(torch.tensor(part, device=backend.device).long())
                     for part in (ids.before, ids.after))  # fmt: skip
    text = torch.cat([before, image, after])[None]
    mask = torch.ones(text.shape[:2], dtype=torch.long, device=text.device)
    hidden = core.language_model(inputs_embeds=text, attention_mask=mask, use_cache=False)[0][0, -1]
    found: list[float] = (model.get_output_embeddings().weight[list(ids.words)].float() @ hidden.float()).tolist()
    return found
