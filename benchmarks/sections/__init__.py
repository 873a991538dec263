"""The sections of docs/benchmarks.md: a function for each benchmark, from its result to lines of Markdown."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from benchmarks.sections import metrics, size, speed
from benchmarks.sections.cells import Result

SECTIONS: dict[str, Callable[[Result], Iterable[str]]] = {
    "step": speed.step,
    "shares": speed.shares,
    "quality": metrics.quality,
    "kept": metrics.kept,
    "evaluation": speed.evaluation,
    "softmax": size.softmax,
    "sampling": speed.sampling,
    "growth": size.growth,
    "padding": size.padding,
    "update": metrics.update,
    "processes": size.processes,
    "gpu": speed.gpu,
}
"""In the order of the page, by the first word of a benchmark's name."""
