"""Small trained models that the tests of this room share."""

from __future__ import annotations

from pathlib import Path

import pytest

from ssmrec.recommender import Recommender
from ssmrec.serving import Live

SETTINGS = {
    "mf": {},
    "lightgcn": {"layers": 2},
    "lightgcnpp": {"layers": 2},
    "svdpp": {},
    "simplex": {},
    "ngcf": {"layers": 2},
    "ease": {"l2": 5.0},
}


def fitted(split, name: str, seed: int = 0, **ranking) -> Recommender:
    epochs = 12 if name == "mf" else 3
    return Recommender(
        {"name": name, **({} if name == "ease" else {"dim": 8}), **SETTINGS[name]},
        ranking=ranking or None, train={"epochs": epochs, "batch_size": 64, "lr": 0.02}, seed=seed,
    ).fit(split.train, progress=False)  # fmt: skip


@pytest.fixture(scope="session")
def models(tastes):
    """`models(name)`: a recommender trained once."""
    made: dict[str, Recommender] = {}

    def of(name: str) -> Recommender:
        if name not in made:
            made[name] = fitted(tastes, name)
        return made[name]

    return of


@pytest.fixture(scope="session")
def run(models, tmp_path_factory) -> Path:
    """The run folder of a LightGCN on the two tastes."""
    folder = tmp_path_factory.mktemp("runs") / "tastes"
    models("lightgcn").save(folder)
    return folder


@pytest.fixture(scope="session")
def live(run) -> Live:
    return Live.load(run)
