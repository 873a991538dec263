"""`python -m benchmarks.experiments`: the tables in docs/experiments.md from what is committed.

Between `<!-- NAME -->` and `<!-- end -->` stands the table of experiments/NAME.yaml, of all runs that
have a result in experiments/results/NAME. Its runs are made, and gone on with, by

    ssmrec compare experiments/NAME.yaml --out experiments/results/NAME
"""

from __future__ import annotations

import re
from pathlib import Path

from ssmrec.compare import FORMATS, Store, aggregate, expand, read_plan

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "experiments.md"
BLOCK = re.compile(r"(<!-- (?P<name>[\w-]+) -->\n).*?(<!-- end -->)", re.S)


def refreshed(page: str) -> str:
    """The text of a page with the table of every marked plan as it is now."""
    return BLOCK.sub(lambda m: f"{m[1]}\n{table(m['name'])}\n{m[3]}", page)


def table(name: str) -> str:
    """Markdown of a plan's finished runs, data sets without any left out."""
    plan = read_plan(ROOT / "experiments" / f"{name}.yaml")
    blocks = aggregate(plan, expand(plan), Store(ROOT / "experiments" / "results" / name))
    done = [block for block in blocks if any(row.seeds for row in block.rows)]
    return FORMATS["md"](plan, done) if done else "Not run yet.\n"


if __name__ == "__main__":
    PAGE.write_text(refreshed(PAGE.read_text()))
    print(f"written: {PAGE}")
