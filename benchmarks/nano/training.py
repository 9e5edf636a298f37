"""What measuring the embedded model takes from the program that made it; no other module here looks into train/.

The test pictures are degraded by the code that degrades the training pictures, the questions are in its words, and the
labels are its labels.
"""

from train.card import metadata
from train.data.interpreting.vocabulary import QUALITY
from train.data.synthetic import photographs
from train.data.synthetic.distortions import DISTORTIONS, LEVELS, distort, distortion
from train.data.synthetic.facts import Facts
from train.data.synthetic.labels import mean_mos
from train.data.synthetic.rows import questions
from train.data.synthetic.shots import Degradation, Shot, Tone, draw_degradations, tone_of
from train.data.synthetic.words import VOCABULARY
from train.processes import alone

__all__ = [
    "DISTORTIONS",
    "LEVELS",
    "QUALITY",
    "VOCABULARY",
    "Degradation",
    "Facts",
    "Shot",
    "Tone",
    "alone",
    "distort",
    "distortion",
    "draw_degradations",
    "mean_mos",
    "metadata",
    "photographs",
    "questions",
    "tone_of",
]
