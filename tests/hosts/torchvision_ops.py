"""The operators of torchvision, declared without an implementation, so that its Python part imports beside CPU-only torch.

torchvision's wheels on PyPI are linked against CUDA; on CPU-only torch their library does not load, and `import
torchvision` fails because it describes operators that are not there. Hosts import torchvision for its transforms, which
are pure Python. For tests only: an operator that is really called still fails.
"""

from __future__ import annotations

import sys
from importlib import import_module
from importlib.util import find_spec

import torch

# Only that an operator of this name exists matters: nothing calls it, so none has its real arguments.
OPERATORS = ("nms", "qnms", "roi_align", "qroi_align", "ps_roi_align", "roi_pool", "ps_roi_pool", "deform_conv2d",
             "_roi_align_backward", "_ps_roi_align_backward", "_roi_pool_backward", "_ps_roi_pool_backward",
             "_deform_conv2d_backward")  # fmt: skip
MOVED = "torchvision.transforms.functional_tensor"
_KEPT: list[torch.library.Library] = []  # a library that is collected takes its operators with it


def declare() -> None:
    """Declare what is missing where torchvision cannot be imported without; before anything imports torchvision."""
    if _KEPT or torch.version.cuda is not None or find_spec("torchvision") is None:
        return
    library = torch.library.Library("torchvision", "DEF")
    for name in OPERATORS:
        library.define(f"{name}(Tensor x) -> Tensor")
    _KEPT.append(library)


def put_back() -> None:
    """Put a module that torchvision moved where BasicSR 1.4.2 looks for it."""
    if find_spec("torchvision") is not None:
        declare()
        sys.modules.setdefault(MOVED, import_module("torchvision.transforms._functional_tensor"))
