"""Tables in Markdown, and how numbers stand in them."""

from __future__ import annotations

from typing import Any

Result = dict[str, Any]
"""What `run` of a benchmark returned, read back from JSON."""


def table(head: list[str], rows: list[list[Any]]) -> str:
    """The first column to the left, all others to the right."""
    lines = [head, ["---"] + ["---:"] * (len(head) - 1), *rows]
    return "\n".join("| " + " | ".join(str(cell) for cell in line) + " |" for line in lines)


def ms(seconds: float) -> str:
    return f"{seconds * 1e3:.1f} ms"


def times(ratio: float) -> str:
    return f"{ratio:.2f}x"
