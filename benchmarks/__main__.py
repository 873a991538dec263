"""`python -m benchmarks [name ...]`: run them, all when none is named, and write their results."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

import torch

from benchmarks import harness

NAMES = (
    "step", "shares", "evaluation", "softmax", "sampling", "growth", "padding-yelp2018",
    "quality-yelp2018", "quality-gowalla", "kept-gowalla", "update-online-retail",
    "update-movietweetings-40k", "update-ml-1m-time", "processes", "gpu",
)  # fmt: skip
"""A module, and after a dash what it runs on."""


def main() -> None:
    """Parse, run, print where the results went."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="name", help=", ".join(NAMES))
    parser.add_argument("--small", action="store_true", help="quick setting on the bundled data")
    parser.add_argument("--data", type=Path, help="folder of the named data sets ($SSMREC_DATA)")
    parser.add_argument("--results", type=Path, help="where NAME.json go")
    parser.add_argument("--venvs", type=Path, help="where other libraries' environments lie")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    unknown = [name for name in options.names if name not in NAMES]
    if unknown:
        parser.error(f"no benchmark named {unknown[0]!r}; choose from: {', '.join(NAMES)}")
    if options.data:
        os.environ["SSMREC_DATA"] = str(options.data.resolve())
    build = harness.ROOT / "build" / "benchmarks"
    settings = harness.Settings(
        small=options.small,
        results=options.results
        or (build if options.small else harness.ROOT / "benchmarks/results"),
        venvs=options.venvs or build / "venvs",
        seed=options.seed,
    )
    all_here = [name for name in NAMES if name != "gpu" or torch.cuda.is_available()]
    for name in options.names or all_here:
        print(f"{name} ...", flush=True)
        try:
            print(f"{name}: {harness.record(name, settings)}", flush=True)
        except ModuleNotFoundError as error:
            parser.error(f"{name} needs {error.name}: pip install -e '.[bench]'")


if __name__ == "__main__":
    main()
