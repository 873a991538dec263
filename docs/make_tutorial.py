"""Run the tutorial and the how-to pages, put what they print into them, and make the notebook.

    python docs/make_tutorial.py                         # all pages; minutes
    python docs/make_tutorial.py docs/howto/sql.md       # these
    python docs/make_tutorial.py --notebook              # only the notebook, from the page as it is

In a page a block of `python` or `sh` is run, and a block of `text` right below, where there is one, holds
what it printed. A shell command that ends in `&` is left running until the end.
"""

from __future__ import annotations

import io
import json
import os
import re
import subprocess
import sys
import tempfile
from contextlib import chdir, redirect_stdout
from pathlib import Path
from typing import Any

TUTORIAL = Path(__file__).with_name("tutorial.md")
HOWTO = [TUTORIAL.parent / "howto" / f"{name}.md" for name in ("own-data", "sql", "serve")]
BLOCK = re.compile(r"^```(python|sh)\n(.*?)^```\n(?:\n```text\n(.*?)^```\n)?", re.M | re.S)
"""A block that is run, and what it printed (None where nothing is shown)."""
QUIET = 'import os\n\nos.environ["FORCE_COLOR"] = ""  # no progress bars in the cells'
"""First cell of the notebook: Jupyter asks for colours, which makes bars that no cell can redraw."""


class Session:
    """Runs the blocks of a page one after another, in one folder and one Python namespace.

    Args:
        folder: where the blocks run.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.names: dict[str, Any] = {}
        self.running: list[subprocess.Popen[bytes]] = []

    def run(self, kind: str, code: str) -> str:
        """What the block prints."""
        if kind == "sh":
            return self.bash(code)
        out = io.StringIO()
        with redirect_stdout(out), chdir(self.folder):
            exec(compile(code, "block", "exec"), self.names)
        return out.getvalue()

    def bash(self, code: str) -> str:
        """Standard output of a shell block; the log of a command goes to the terminal."""
        if code.rstrip().endswith("&"):
            self.start(["bash", "-c", "exec " + code.rstrip().rstrip("&")])
            return ""
        done = subprocess.run(
            ["bash", "-ec", code], cwd=self.folder, stdout=subprocess.PIPE, check=True, text=True,
            env={**os.environ, "COLUMNS": "88", "PATH": path()},
        )  # fmt: skip
        return done.stdout

    def start(self, words: list[str]) -> None:
        """Leave a command running until `close`."""
        self.running.append(
            subprocess.Popen(words, cwd=self.folder, env={**os.environ, "PATH": path()})
        )

    def close(self) -> None:
        """End what was left running."""
        for process in self.running:
            process.terminate()
            process.wait()


def path() -> str:
    """$PATH with the commands of this Python first."""
    return os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])


def refreshed(page: str, session: Session) -> str:
    """The page with the outputs that its blocks print now."""

    def again(block: re.Match[str]) -> str:
        kind, code, shown = block.groups()
        printed = session.run(kind, code)
        if shown is None:
            return block[0]
        lines = [line.rstrip() for line in printed.strip("\n").splitlines()]
        return f"```{kind}\n{code}```\n\n```text\n" + "\n".join(lines) + "\n```\n"

    return BLOCK.sub(again, page)


def notebook(page: str) -> dict[str, Any]:
    """The page as a notebook of format 4.5: prose, code, and the outputs that the page shows."""
    cells: list[dict[str, Any]] = []
    start = 0

    def add(kind: str, text: str, **more: Any) -> None:
        source = text.strip("\n").splitlines(keepends=True)
        if source:
            made = {"cell_type": kind, "id": f"cell-{len(cells)}", "metadata": {}, "source": source}
            cells.append({**made, **more})

    add("code", QUIET, execution_count=None, outputs=[])
    for block in BLOCK.finditer(page):
        add("markdown", page[start : block.start()])
        start = block.end()
        kind, code, printed = block.groups()
        text = printed.splitlines(keepends=True) if printed else []
        shown = [{"name": "stdout", "output_type": "stream", "text": text}] if text else []
        add("code", code if kind == "python" else _magic(code), execution_count=None, outputs=shown)
    add("markdown", page[start:])
    kernel = {"display_name": "Python 3", "language": "python", "name": "python3"}
    about = {"kernelspec": kernel, "language_info": {"name": "python"}}
    return {"cells": cells, "metadata": about, "nbformat": 4, "nbformat_minor": 5}


def _magic(code: str) -> str:
    """A shell block as a cell."""
    code = code.rstrip()
    return f"%%bash --bg\n{code.rstrip('& ')}" if code.endswith("&") else f"%%bash\n{code}"


def refresh(page: Path) -> None:
    """Run a page in a folder of its own and write it anew."""
    with tempfile.TemporaryDirectory() as folder:
        session = Session(Path(folder))
        try:
            text = refreshed(page.read_text(encoding="utf-8"), session)
        finally:
            session.close()
    page.write_text(text, encoding="utf-8")


def main() -> None:
    """Refresh the pages that are named, or all; write the notebook."""
    words = sys.argv[1:]
    if words != ["--notebook"]:
        for page in map(Path, words) if words else (TUTORIAL, *HOWTO):
            refresh(page)
    made = json.dumps(notebook(TUTORIAL.read_text(encoding="utf-8")), indent=1, ensure_ascii=False)
    TUTORIAL.with_suffix(".ipynb").write_text(made + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
