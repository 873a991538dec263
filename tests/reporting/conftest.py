"""Small real runs, their analysis, and the browser that looks at their pages."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ssmrec.analysis import Effort, Run, analyze, write_analysis
from ssmrec.config import merged
from ssmrec.training import Trained, resolve, save_run, train_run

SMALL = {
    "model": {"name": "lightgcn", "dim": 8},
    "train": {"epochs": 3, "batch_size": 256, "lr": 0.02, "metric": "ndcg@5", "threads": 1},
    "evaluation": {"metrics": ["recall", "ndcg"], "ks": [5, 10]},
}
BPR = {"model": {"name": "mf"}, "loss": {"name": "bpr"}}
HOSTILE = "<img src=x onerror=window.hacked=1>"
"""A folder's name, which a page must show as text."""


@pytest.fixture(scope="session")
def trained(tastes) -> dict[str, Trained]:
    """Sampled softmax (protocol refit), BPR (published) and EASE on the same data."""
    asked = {
        "ssm": {"train": {"protocol": "refit"}},
        "bpr": merged(BPR, {"train": {"protocol": "published"}}),
        "ease": {"model": {"name": "ease"}},
    }
    return {
        name: train_run(resolve(merged({} if name == "ease" else SMALL, each, EVALUATION)), tastes)
        for name, each in asked.items()
    }


EVALUATION = {"evaluation": SMALL["evaluation"]}


@pytest.fixture(scope="session")
def results(trained, tastes) -> dict:
    """The analysis of the softmax run, held against the BPR run."""
    effort = Effort(rows=64, users=20, theory_users=5, pairs=200, nodes=40)
    ours, theirs = (
        Run(trained[name], tastes.test, "test", f"runs/{name}") for name in ("ssm", "bpr")
    )
    return analyze(ours, theirs, groups=4, k=5, effort=effort, over_training=True, corrections=True)


@pytest.fixture(scope="session")
def folders(trained, tastes, results, tmp_path_factory) -> dict[str, Path]:
    """Run folders by name; the one of BPR has a hostile name, the one of softmax is analysed."""
    place = tmp_path_factory.mktemp("runs")
    found = {"ssm": place / "ssm", "bpr": place / HOSTILE, "ease": place / "ease"}
    for name, folder in found.items():
        save_run(folder, trained[name], "abc")
    write_analysis(results, found["ssm"] / "analysis.json")
    return found


@pytest.fixture
def metrics_of():
    """`metrics_of(folder)`: what metrics.json holds."""
    return lambda folder: json.loads((folder / "metrics.json").read_text())
