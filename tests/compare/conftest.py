"""A small data set with files for train and test, and a plan on it."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest


def write_tastes(folder, seed=0, test=True):
    """60 users in two groups over 40 items; each group likes its half."""
    random = np.random.default_rng(seed)
    taste = np.arange(60)[:, None] % 2 == np.arange(40)[None, :] // 20
    likes = random.random((60, 40)) < np.where(taste, 0.6, 0.05)
    held = random.random(likes.shape) < 0.25
    folder.mkdir(parents=True, exist_ok=True)
    parts = {"train": likes & ~held, "test": likes & held}
    for name in ("train", "test") if test else ("train",):
        user, item = np.nonzero(parts[name])
        pl.DataFrame({"user": user, "item": item}).write_csv(folder / f"{name}.csv")
    return folder


@pytest.fixture
def shop(tmp_path):
    return write_tastes(tmp_path / "shop")


@pytest.fixture
def small(shop):
    """Values of a plan that takes a second or so: 2 backbones, 2 losses, 2 seeds."""
    return {
        "base": {
            "train": {"epochs": 3, "batch_size": 128, "lr": 0.02, "threads": 1},
            "model": {"dim": 8},
            "negatives": {"name": "uniform", "n": 8},
        },
        "data": [{"source": str(shop), "label": "shop"}],
        "models": ["mf", {"name": "lightgcn", "layers": 1}],
        "losses": [{"name": "bpr", "set": {"negatives.n": 2}}, {"name": "ssm", "temperature": 0.2}],
        "seeds": 2,
        "metrics": ["recall@5", "ndcg@5"],
        "metric": "ndcg@5",
    }
