"""Where in a picture something may be seen. Data."""

from __future__ import annotations

PLACES = {
    "the background": ("the foreground", "the main subject"),
    "the foreground": ("the background",),
    "the main subject": ("the background",),
    "the left part": ("the right part", "the centre"),
    "the right part": ("the left part", "the centre"),
    "the upper part": ("the lower part", "the centre"),
    "the lower part": ("the upper part", "the centre"),
    "the centre": ("the edges",),
    "the edges": ("the centre",),
    "the sky": ("the ground",),
    "the ground": ("the sky",),
}
"""Where something may be seen, and for each place those that are certainly other places."""

PLACE_WORDS = {
    "the background": "background",
    "the foreground": "foreground",
    "the main subject": "(?:main )?(?:subject|object)",
    "the left part": "(?:on|to|at|in) the left|left (?:part|side|half)",
    "the right part": "(?:on|to|at|in) the right|right (?:part|side|half)",
    "the upper part": "at the top|(?:upper|top) (?:part|half)",
    "the lower part": "at the bottom|(?:lower|bottom) (?:part|half)",
    "the centre": "(?:in|at) the (?:centre|center|middle)|central (?:part|area)",
    "the edges": "edges of the (?:image|picture|frame)|corners|borders",
    "the sky": "sky",
    "the ground": "ground",
}
"""How people name the places; patterns."""
