"""The pages of the integrations: their Python blocks run here, where the host packages are; see `test_docs`."""

from __future__ import annotations

import pytest

from doc_pages import PAGES, blocks
from test_docs import cache, reader, run_python  # noqa: F401  # fixtures

from .needed import host
from .torchvision_ops import put_back

ASKING = {page: {name for block in blocks(page, "python") for name in block.needs} for page in PAGES}


@pytest.mark.parametrize("page", [page for page, names in ASKING.items() if names], ids=lambda page: page.name)
def test_python_blocks_run(page, reader):  # noqa: F811
    put_back()  # what the page of BasicSR tells its reader to do
    for name in ASKING[page]:
        host(name)
    run_python(page)
