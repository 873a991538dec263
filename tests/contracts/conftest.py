"""A small shop to train on."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest

from ssmrec.config import merged
from ssmrec.training import resolve


@pytest.fixture(scope="session")
def rows() -> pl.DataFrame:
    """40 users with 10 of 30 items each, in the order of time."""
    random = np.random.default_rng(0)
    items = np.concatenate([random.choice(30, 10, replace=False) for _ in range(40)])
    return pl.DataFrame({"user": np.repeat(np.arange(40), 10), "item": items, "ts": np.arange(400)})


@pytest.fixture
def shop(tmp_path, rows) -> Path:
    """The rows as shop.csv."""
    rows.write_csv(tmp_path / "shop.csv")
    return tmp_path / "shop.csv"


@pytest.fixture
def small_run():
    """`small_run(train={...}, model={...})`: resolved settings of a quick run."""
    base = {
        "model": {"name": "lightgcn", "dim": 8},
        "train": {"epochs": 3, "batch_size": 128, "lr": 0.02, "metric": "ndcg@5", "threads": 1},
        "evaluation": {"metrics": ["recall", "ndcg"], "ks": [5]},
    }
    return lambda **layers: resolve(merged(base, layers))
