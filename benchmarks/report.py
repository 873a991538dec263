"""`python -m benchmarks.report`: docs/benchmarks.md from the JSON files of the last runs."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from benchmarks.harness import ROOT
from benchmarks.sections import SECTIONS
from benchmarks.sections.cells import Result
from benchmarks.sections.metrics import recipes

NO_GPU = """ Nothing here was run on
a GPU; what was seen on one is in [howto/gpu.md](howto/gpu.md)."""

INTRODUCTION = f"""# Benchmarks

Written by `python -m benchmarks.report` from `benchmarks/results/*.json`; do not edit by hand.
`make bench` repeats all but the recipes (`python -m benchmarks.recipes NAME`).{NO_GPU} Seconds belong to the
machine named under each table; what carries over is the ratio of the sides measured in the same run.
Times are medians; "times faster" is the other side's median over ours, so below 1 means that ours is
slower."""


def main() -> None:
    """Read every NAME.json of a folder and write one page."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.report", description=__doc__)
    parser.add_argument("--results", type=Path, default=ROOT / "benchmarks" / "results")
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "benchmarks.md")
    options = parser.parse_args()
    found, trained = read(options.results)
    if not trained and not any(named(found, kind) for kind in SECTIONS):
        parser.error(f"no results in {options.results}: run `python -m benchmarks` first")
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(render(found, trained))
    print(options.out)


def read(folder: Path) -> tuple[dict[str, Result], list[Result]]:
    """Results of benchmarks by name, and of recipes in the order of their names."""
    found = {path.stem: json.loads(path.read_text()) for path in folder.glob("*.json")}
    files = sorted((folder / "recipes").glob("*.json"))
    return found, [json.loads(path.read_text()) for path in files]


def named(found: dict[str, Result], kind: str) -> list[str]:
    """Names of the results of one kind: `quality` has `quality-gowalla` and others."""
    return sorted(name for name in found if name.partition("-")[0] == kind)


def render(found: dict[str, Result], trained: list[Result]) -> str:
    """The page: trained recipes, then a section for each benchmark that has a result."""
    parts = [INTRODUCTION.replace(NO_GPU, "") if named(found, "gpu") else INTRODUCTION]
    if trained:
        parts.append("\n".join(recipes(trained)))
    for kind, section in SECTIONS.items():
        for name in named(found, kind):
            facts = found[name]
            parts.append("\n".join([*section(facts["result"]), "", provenance(facts)]))
    return "\n\n".join(parts) + "\n"


def provenance(facts: Result) -> str:
    """How a result was made: command, date, machine and versions."""
    machine, versions = facts["machine"], facts["versions"]
    small = " **Small setting: not a measurement.**" if facts["small"] else ""
    return (
        f"`{facts['command']}` on {facts['started'][:10]}, {facts['seconds'] / 60:.1f} minutes, seed "
        f"{facts['seed']}; {machine['processor']}, {machine['cores']} cores, "
        f"{machine['memory_gib']} GiB, load before {machine['load_before']}; "
        + ", ".join(f"{name} {number}" for name, number in versions.items())
        + f".{small}"
    )


if __name__ == "__main__":
    main()
