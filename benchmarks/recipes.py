"""`python -m benchmarks.recipes NAME ...`: train shipped recipes, keep their metrics as small JSON."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import yaml

from benchmarks import harness

PUBLISHED = {
    "gowalla-lightgcn-ssm": (0.1869, 0.1571),
    "gowalla-svdpp-ssm": (0.1669, 0.1376),
    "gowalla-svdpp-item-ssm": (0.1875, 0.1567),
    "gowalla-mf-ssm": (0.1231, 0.0878),
    "gowalla-lightgcn-bpr": (0.1824, 0.1554),
    "gowalla-mf-bpr": (0.1558, 0.1254),
    "yelp2018-lightgcn-ssm": (0.0737, 0.0609),
    "yelp2018-svdpp-ssm": (0.0693, 0.0569),
    "yelp2018-svdpp-item-ssm": (0.0737, 0.0611),
    "yelp2018-mf-ssm": (0.0509, 0.0404),
    "yelp2018-lightgcn-bpr": (0.0640, 0.0524),
    "yelp2018-mf-bpr": (0.0562, 0.0454),
}
"""Recall@20 and NDCG@20 of Wu et al. (TOIS 2024), Tables 2 and 5; its code chose the epoch on test."""


def main() -> None:
    """Train each recipe in a process of its own and write results/recipes/NAME.json."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.recipes", description=__doc__)
    parser.add_argument("names", nargs="+", metavar="recipe")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--label", help="name of the result, when settings differ from the recipe")
    parser.add_argument("--results", type=Path, default=harness.ROOT / "benchmarks/results/recipes")
    parser.add_argument(
        "--run", type=Path, help="a finished run of the recipe, instead of training"
    )
    options = parser.parse_args()
    for name in options.names:
        label = options.label or name
        command = [
            "train",
            "--recipe",
            name,
            *(part for pair in options.set for part in ("--set", pair)),
        ]
        folder = options.run or harness.ROOT / "build" / "runs" / label
        facts = {
            "started": datetime.now(UTC).isoformat(timespec="seconds"), "machine": harness.machine(),
        }  # fmt: skip
        if options.run is None:
            train(command, folder)
        facts = {
            "recipe": label,
            "command": " ".join(["ssmrec", *command]),
            **facts,
            **read(folder),
        }
        options.results.mkdir(parents=True, exist_ok=True)
        path = options.results / f"{label}.json"
        path.write_text(json.dumps(facts, indent=1) + "\n")
        print(path)


def train(command: list[str], folder: Path) -> None:
    """Run `ssmrec` with `command` into `folder`, going on where an earlier try stopped."""
    ssmrec = [sys.executable, "-m", "ssmrec"]
    where = ["--out", str(folder), "--overwrite", "--resume"]
    subprocess.run([*ssmrec, *command, *where], check=True)


def read(folder: Path) -> dict[str, Any]:
    """What a table needs of a run's metrics and settings."""
    metrics = json.loads((folder / "metrics.json").read_text())
    record = yaml.safe_load((folder / "config.yaml").read_text())
    settings = ("model", "loss", "negatives", "train", "seed")
    kept = (
        "test", "valid", "protocol", "selected_on", "best_epoch", "epochs", "stopped", "similarity",
        "seconds", "peak_memory_bytes", "metric_version",
    )  # fmt: skip
    return {
        "versions": record["versions"],
        "settings": {key: record["settings"][key] for key in settings},
        "metrics": {key: metrics[key] for key in kept},
    }


if __name__ == "__main__":
    main()
