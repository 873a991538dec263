"""Whether the numba kernels are compiled already; they are kept on disk after the first use."""

from __future__ import annotations

from pathlib import Path

from ssmrec.kernels.topk import _select


def cold() -> bool:
    """True where no kernel is kept on disk yet, so that the first use compiles them."""
    return not any(Path(_select.stats.cache_path or ".").glob("*.nbi"))
