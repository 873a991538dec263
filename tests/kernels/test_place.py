"""Compiled code in an installation that nobody may write to, for a user without a home."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import ssmrec

TRAIN = """
import numba, polars, ssmrec
rows = polars.DataFrame({"user": [1, 1, 2, 2, 3, 3, 3], "item": [0, 1, 1, 2, 0, 1, 2]})
found = ssmrec.Recommender("ease").fit(ssmrec.load(rows), progress=False).recommend([1], 1)
print(found["item"].to_list())
print(numba.config.CACHE_DIR)
"""


def test_without_a_place_for_compiled_code_one_is_made_and_taken_away(tmp_path):
    """A file where a folder should be stops the superuser as well."""
    shutil.copytree(Path(ssmrec.__file__).parent, tmp_path / "ssmrec",
                    ignore=shutil.ignore_patterns("__pycache__"))  # fmt: skip
    (tmp_path / "ssmrec/kernels/__pycache__").write_text("no folder")
    env = {k: v for k, v in os.environ.items() if k not in ("NUMBA_CACHE_DIR", "XDG_CACHE_HOME")}
    env |= {"HOME": os.devnull, "PYTHONPATH": str(tmp_path), "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(
        [sys.executable, "-c", TRAIN], env=env, capture_output=True, text=True, cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr
    lists, place = done.stdout.splitlines()
    assert lists == "[2]"
    assert Path(place).parent == Path(tempfile.gettempdir()) and not Path(place).exists()
    assert done.stderr.count("set NUMBA_CACHE_DIR to a folder that can be written") == 1
