"""The page of benchmarks: made of what is committed, with a section for a GPU where there is a result."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parents[2]

GPU = {
    "command": "python -m benchmarks gpu", "started": "2026-01-02T03:04:05+00:00", "seconds": 90.0,
    "seed": 3, "small": False, "versions": {"python": "3.11.7", "torch": "2.9.0"},
    "machine": {"processor": "EPYC", "cores": 16, "memory_gib": 128.0, "load_before": 0.5},
    "result": {
        "device": "One card", "torch": "2.9.0",
        "tables": [
            {"title": "A step", "note": "Batch 8.", "columns": ["model", "ours"],
             "rows": [["mf", "1.0 ms"], ["lightgcn", "2.0 ms"]]},
            {"title": "Memory", "note": "", "columns": ["loss", "peak", "times"],
             "rows": [["softmax", "3.00 GiB", 2]]},
        ],
    },
}  # fmt: skip

SECTION = """

## On a GPU

One card, torch 2.9.0.

**A step**

Batch 8.

| model | ours |
| --- | ---: |
| mf | 1.0 ms |
| lightgcn | 2.0 ms |

**Memory**

| loss | peak | times |
| --- | ---: | ---: |
| softmax | 3.00 GiB | 2 |

`python -m benchmarks gpu` on 2026-01-02, 1.5 minutes, seed 3; EPYC, 16 cores, 128.0 GiB, \
load before 0.5; python 3.11.7, torch 2.9.0.
"""


@pytest.fixture
def report(monkeypatch) -> ModuleType:
    """`benchmarks.report`; the folder beside `src` is not installed."""
    monkeypatch.syspath_prepend(ROOT)
    from benchmarks import report

    return report


def test_the_page_is_what_the_results_say(report):
    """If not: python -m benchmarks.report."""
    page = report.render(*report.read(ROOT / "benchmarks" / "results"))
    assert (ROOT / "docs" / "benchmarks.md").read_text() == page


def test_a_result_of_a_gpu_has_its_section_and_the_introduction_no_longer_says_there_is_none(
    report,
):
    words = (
        " Nothing here was run on\na GPU; what was seen on one is in [howto/gpu.md](howto/gpu.md)."
    )
    without = report.render({}, [])
    assert without.count(words) == 1
    introduction = without.replace(words, "").rstrip("\n")
    assert report.render({"gpu": GPU}, []) == introduction + SECTION
