"""Triton's interpreter: GPU kernels run on the CPU, in a process of their own."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from importlib.metadata import version

import pytest


def interpreted(code: str) -> str:
    """What `code` prints, with Triton's kernels interpreted.

    The interpreter is chosen when triton is imported, so it needs a process of its own. That of triton
    3.6, which comes with torch 2.11, fails with numpy 2.4.
    """
    if tuple(map(int, version("triton").split(".")[:2])) < (3, 7):
        pytest.skip("the interpreter of triton before 3.7 does not know numpy 2.4")
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)],
        env=os.environ | {"TRITON_INTERPRET": "1"}, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout.strip()
