"""What there is to compile with, and whether the numba kernels are compiled already."""

from __future__ import annotations

from functools import cache
from importlib.util import find_spec
from pathlib import Path

from ssmrec.kernels.topk import _select


def cold() -> bool:
    """True where no numba kernel is kept on disk yet, so that the first use compiles them."""
    return not any(Path(_select.__wrapped__.stats.cache_path or ".").glob("*.nbi"))


@cache
def has_triton() -> bool:
    """Whether Triton is installed, which compiles the kernels for a GPU."""
    return find_spec("triton") is not None
