"""D2, the interpreting set, from human feedback on image quality (paper Sec. III-B2 to B5).

`read_feedback` -> `build` with a writer (`TemplateWriter`, or `EndpointWriter` for a language model) -> rows;
`balanced_sample` chooses the pictures beforehand (Table III).
"""

from .build import KINDS, build
from .feedback import Feedback, read_feedback
from .sampling import balanced_sample
from .writer import TOPICS, Draft, Task, TemplateWriter, Writer

__all__ = [
    "KINDS",
    "TOPICS",
    "Draft",
    "Feedback",
    "Task",
    "TemplateWriter",
    "Writer",
    "balanced_sample",
    "build",
    "read_feedback",
]
