"""Small, fast settings for training tests."""

from __future__ import annotations

from typing import Any

import pytest

from ssmrec.config import merged
from ssmrec.training import RunConfig, resolve

SMALL = {
    "model": {"name": "lightgcn", "dim": 8},
    "train": {"epochs": 4, "batch_size": 128, "lr": 0.02, "metric": "ndcg@5", "threads": 1},
    "evaluation": {"metrics": ["recall", "ndcg"], "ks": [5]},
}


def small_run(**layers: Any) -> RunConfig:
    return resolve(merged(SMALL, layers))


@pytest.fixture
def small():
    """`small(train={...}, model={...})`: resolved settings of a quick run."""
    return small_run
