"""Quality maps: where a picture is bad. They need a function that scores pictures, not a model."""

from .quality_map import QualityMap, map_quality
from .windows import Box, MapMethod, MapRequest, Windows

__all__ = ["Box", "MapMethod", "MapRequest", "QualityMap", "Windows", "map_quality"]
