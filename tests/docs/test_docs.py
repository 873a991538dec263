"""The blocks of the documentation run, top to bottom."""

from __future__ import annotations

import json
import re
import shlex
import socket
import sys
import time
from pathlib import Path
from urllib.error import URLError
from urllib.request import urlopen

import polars as pl
import pytest

from command_line import ssmrec
from make_tutorial import BLOCK, HOWTO, TUTORIAL, Session, notebook

ROOT = Path(__file__).parents[2]


class Quick(Session):
    """Commands in this process, one epoch and one seed where there are more, and a free port."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]

    def run(self, kind: str, code: str) -> str:
        code = re.sub(r"(epochs\W{1,3})\d+|(--seeds )\d+", lambda m: f"{m[1] or m[2]}1", code)
        code = re.sub(r"(:|--port )8000", rf"\g<1>{self.port}", code)
        printed = super().run(kind, code)
        if "purchases.csv" in code and kind == "python":
            self.thin(self.folder / "purchases.csv")
        return printed

    def thin(self, file: Path) -> None:
        """A quarter of the customers, and those who are named."""
        customer = pl.col("customer")
        rows = pl.read_csv(file)
        rows.filter((customer % 4 == 0) | customer.is_in([17850, 13047])).write_csv(file)

    def bash(self, code: str) -> str:
        return "".join(map(self.line, code.replace("\\\n", " ").splitlines()))

    def line(self, line: str) -> str:
        words = shlex.split(line, comments=True)
        if words[-1:] == ["&"]:
            self.start([sys.executable, "-m", *words[:-1]])
            return ""
        if words[:1] == ["curl"]:
            return self.answer(words[-1])
        if words[:1] != ["ssmrec"]:
            return super().bash(line)
        end = words.index(">") if ">" in words else None
        code, out, err = ssmrec(*words[1:end], cwd=self.folder, columns="88")
        assert code == 0, f"{line}\n{err}"
        return "" if end else out

    def answer(self, address: str) -> str:
        """What the service says, once it is up."""
        for _ in range(600):
            assert self.running[-1].poll() is None, "the service has ended"
            try:
                with urlopen(address, timeout=10) as found:
                    return found.read().decode()
            except URLError:
                time.sleep(0.1)
        raise AssertionError(f"no answer from {address}")


@pytest.mark.slow
@pytest.mark.realdata
@pytest.mark.parametrize("page", ["README.md", "docs/extending.md"])
def test_python_blocks_run(page, monkeypatch, tmp_path):
    import ssmrec

    for table in (ssmrec.LOSSES, ssmrec.MODELS, ssmrec.SAMPLERS):  # forget what a page registers
        for name, part in list(table.items()):
            monkeypatch.setitem(table, name, part)
    before = [set(table) for table in (ssmrec.LOSSES, ssmrec.MODELS, ssmrec.SAMPLERS)]
    blocks = re.findall(r"^```python\n(.*?)^```", (ROOT / page).read_text(), re.M | re.S)
    assert blocks
    session = Session(tmp_path)
    for block in blocks:
        session.run("python", block)
    for table, known in zip((ssmrec.LOSSES, ssmrec.MODELS, ssmrec.SAMPLERS), before, strict=True):
        for name in set(table) - known:
            del table[name]


@pytest.mark.slow
@pytest.mark.realdata
@pytest.mark.parametrize("page", [TUTORIAL, *HOWTO], ids=lambda page: page.stem)
def test_all_blocks_run_and_print_what_is_shown(page, tmp_path):
    """Figures and titles differ on less data; the heads of tables and the words around them do not."""
    for extra in ("uvicorn", "prometheus_client", "adbc_driver_sqlite"):
        pytest.importorskip(extra, reason="extra `serve` or `sql` is not installed")
    text = page.read_text(encoding="utf-8")
    blocks = BLOCK.findall(text)
    assert len(blocks) == len(re.findall(r"^```(?:python|sh)$", text, re.M)) > 2
    session = Quick(tmp_path)
    try:
        for kind, code, shown in blocks:
            printed = session.run(kind, code)
            if shown:
                assert heads(printed) == heads(shown), code
    finally:
        session.close()


def heads(text: str) -> list[str]:
    """The words of the first line that has any."""
    lines = (re.findall(r"\b[a-z_]{3,}\b", line) for line in text.splitlines())
    return next(filter(None, lines), [])


def test_the_notebook_is_the_tutorial():
    page = TUTORIAL.read_text(encoding="utf-8")
    made = json.loads(TUTORIAL.with_suffix(".ipynb").read_text(encoding="utf-8"))
    assert made == notebook(page), "run: python docs/make_tutorial.py --notebook"
    code = [cell for cell in made["cells"] if cell["cell_type"] == "code"]
    assert len(code) == 1 + len(BLOCK.findall(page)) > 10
    nbformat = pytest.importorskip("nbformat", reason="extra `docs` is not installed")
    nbformat.validate(nbformat.from_dict(made))
