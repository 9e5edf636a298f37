"""What measuring the embedded model takes from the program that made it; no other module here looks into train/.

The test pictures are degraded by the code that degrades the training pictures, the questions are in its words, and the
labels are its labels.
"""

from train.card import metadata
from train.data.interpreting.vocabulary import overall_quality
from train.nano.data import photographs
from train.nano.data.kadid import DISTORTIONS, LEVELS, distort, distortion, mean_mos
from train.nano.data.pictures import Degradation, Facts, MadePicture, Tone, draw_degradations, tone_of, wordings
from train.nano.data.texts import questions
from train.processes import alone, in_order
from train.recipe import dump_yaml

__all__ = [
    "DISTORTIONS",
    "LEVELS",
    "Degradation",
    "Facts",
    "MadePicture",
    "Tone",
    "alone",
    "distort",
    "distortion",
    "draw_degradations",
    "dump_yaml",
    "in_order",
    "mean_mos",
    "metadata",
    "overall_quality",
    "photographs",
    "questions",
    "tone_of",
    "wordings",
]
