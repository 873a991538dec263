"""Small, fast searches."""

from __future__ import annotations

from typing import Any

import pytest

from ssmrec.config import merged
from ssmrec.tuning import Task, make_task

SMALL = {
    "model": {"name": "mf", "dim": 8},
    "loss": {"name": "ssm"},
    "train": {"epochs": 3, "batch_size": 128, "lr": 0.02, "metric": "ndcg@5", "threads": 1},
}
SPACE = {
    "loss.temperature": "0.05..0.5:log",
    "train.lr": "1e-3..1e-1:log",
    "train.l2": [1e-6, 1e-5],
}


def small_task(space: Any = None, pruner: str = "none", fixed: Any = (), **layers: Any) -> Task:
    return make_task(merged(SMALL, layers), space or SPACE, fixed, pruner)


@pytest.fixture
def small():
    """`small(space=None, pruner="none", fixed=(), train={...})`: a search of a quick model."""
    return small_task
