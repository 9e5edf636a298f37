"""What the training program takes of the engine: the network, its files, and how its answers are read; nothing else."""

from __future__ import annotations

from ..model.config import Config, Text, Vision
from ..model.network import LlavaOnevision
from ..model.reading import Whole
from ..model.weights import empty, published
from ..model.weights import load as load_weights
from .base import Encoded
from .checkpoint import load_geometry
from .decoding import Generation
from .dialogue import IMAGE
from .features import projected
from .llava_onevision import LlavaOnevisionBackend
from .tokenizer import Tokenizer, qwen2, qwen2_split

__all__ = [
    "IMAGE",
    "Config",
    "Encoded",
    "Generation",
    "LlavaOnevision",
    "LlavaOnevisionBackend",
    "Text",
    "Tokenizer",
    "Vision",
    "Whole",
    "empty",
    "load_geometry",
    "load_weights",
    "projected",
    "published",
    "qwen2",
    "qwen2_split",
]
