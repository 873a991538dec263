"""Small seeded data that many tests share."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import polars as pl
import pytest

from command_line import ssmrec
from ssmrec.config import merged
from ssmrec.data import Interactions, Split, Vocabulary
from ssmrec.training import RunConfig, resolve

SMALL = {
    "model": {"name": "lightgcn", "dim": 8},
    "train": {"epochs": 4, "batch_size": 128, "lr": 0.02, "metric": "ndcg@5", "threads": 1},
    "evaluation": {"metrics": ["recall", "ndcg"], "ks": [5]},
}


def from_mask(mask: np.ndarray, text: bool = False) -> Interactions:
    """Interactions where `mask` (n_users, n_items) holds; ids are 100, 101 ... or u100, i100 ..."""
    sides = []
    for size, letter in zip(mask.shape, "ui", strict=True):
        numbers = range(100, 100 + size)
        ids = [f"{letter}{n}" for n in numbers] if text else list(numbers)
        sides.append(Vocabulary(pl.Series(ids, dtype=pl.String if text else pl.Int64)))
    return Interactions.from_pairs(*np.nonzero(mask), *sides)


def two_tastes(text: bool = False, seed: int = 0) -> Split:
    """60 users in two groups over 40 items; each group likes its half."""
    random = np.random.default_rng(seed)
    taste = np.arange(60)[:, None] % 2 == np.arange(40)[None, :] // 20
    likes = random.random((60, 40)) < np.where(taste, 0.6, 0.05)
    part = random.choice(3, size=likes.shape, p=[0.7, 0.1, 0.2])
    likes[:, 0] = part[:, 0] = 0
    likes[:, 0] = True  # one item everybody has, always in train
    train, valid, test = (from_mask(likes & (part == number), text) for number in range(3))
    return Split(
        train,
        Interactions(train.users, train.items, valid.indptr, valid.indices),
        Interactions(train.users, train.items, test.indptr, test.indices),
        "given",
    )


def small_run(**layers: Any) -> RunConfig:
    return resolve(merged(SMALL, layers))


@pytest.fixture
def small():
    """`small(train={...}, model={...})`: resolved settings of a quick run."""
    return small_run


@pytest.fixture
def make_interactions():
    """`make_interactions(mask, text=False)`: see `from_mask`."""
    return from_mask


@pytest.fixture(scope="session")
def tastes() -> Split:
    return two_tastes()


@pytest.fixture(scope="session")
def text_tastes() -> Split:
    return two_tastes(text=True)


@pytest.fixture
def command(tmp_path) -> Callable[..., tuple[int, str, str]]:
    """`command("train", ...)` in `tmp_path`: exit code, stdout, stderr."""

    return partial(ssmrec, cwd=tmp_path, columns="200")


@pytest.fixture(scope="module")
def browser():
    """Headless Chromium; tests that need it are skipped, with the reason, where there is none.

    One a module: while playwright runs, its thread has an event loop, and no test can start another.
    """
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    names = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
    path = os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, names)), None)
    if path is None:
        pytest.skip("no Chromium on the PATH, nor named by $CHROMIUM")
    with playwright.sync_playwright() as driver:
        found = driver.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield found
        found.close()
