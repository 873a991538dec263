"""The Python blocks of the documentation run, top to bottom."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
@pytest.mark.realdata
@pytest.mark.parametrize("page", ["README.md", "docs/extending.md"])
def test_python_blocks_run(page, monkeypatch, tmp_path):
    import ssmrec

    for table in (ssmrec.LOSSES, ssmrec.MODELS, ssmrec.SAMPLERS):  # forget what a page registers
        for name, part in list(table.items()):
            monkeypatch.setitem(table, name, part)
    before = [set(table) for table in (ssmrec.LOSSES, ssmrec.MODELS, ssmrec.SAMPLERS)]
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"^```python\n(.*?)^```", (ROOT / page).read_text(), re.M | re.S)
    assert blocks
    names: dict = {}
    for block in blocks:
        exec(compile(block, page, "exec"), names)
    for table, known in zip((ssmrec.LOSSES, ssmrec.MODELS, ssmrec.SAMPLERS), before, strict=True):
        for name in set(table) - known:
            del table[name]
