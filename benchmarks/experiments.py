"""`python -m benchmarks.experiments`: the tables in docs/experiments.md from what is committed.

Between `<!-- NAME -->` and `<!-- end -->` stands the table of experiments/NAME.yaml, of all runs that
have a result in experiments/results/NAME, beside the published figures where experiments/results/
published.yaml has any. Its runs are made, and gone on with, by

    ssmrec compare experiments/NAME.yaml --out experiments/results/NAME

The values of each user, which p needs, are too large to be committed: where they are not, p is that of
the last test on the same results (tests.json), or of the page where its figures are the same, or blank.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import yaml

from ssmrec.compare import FORMATS, Block, Store, aggregate, expand, read_plan

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "experiments.md"
RESULTS = ROOT / "experiments" / "results"
BLOCK = re.compile(r"(<!-- (?P<name>[\w-]+) -->\n)(?P<old>.*?)(<!-- end -->)", re.S)
METRICS = ("recall@20", "ndcg@20")

Figures = Mapping[str, Mapping[str, Sequence[float]]]
"""Data set, then method, to the published values of `METRICS`."""


def refreshed(page: str) -> str:
    """The text of a page with the table of every marked plan as it is now."""
    return BLOCK.sub(lambda m: f"{m[1]}\n{kept(m['old'], table(m['name']))}\n{m[4]}", page)


def kept(old: str, new: str) -> str:
    """`new`, with the data sets of `old` that have the same figures and a p which is not to be had again."""
    before = {_untested(part): part for part in _by_data(old)}
    parts = [part if _P in part else before.get(_untested(part), part) for part in _by_data(new)]
    return "\n\n".join(parts) + "\n"


_P = " | p |"
"""In the head of a table that has p."""


def _by_data(block: str) -> list[str]:
    parts = re.split(r"^(?=### )", block, flags=re.M)
    return [part.strip() for part in parts if part.strip()]


def _untested(part: str) -> str:
    """A part without p and what is said of it."""
    lines, column = [], None
    for line in part.splitlines():
        cells = line.split("|")
        if line.startswith("| method"):
            column = cells.index(" p ") if " p " in cells else None
        if column is not None and line.startswith("|"):
            del cells[column]
        if not line.startswith("- change"):
            lines.append("|".join(cells))
    return "\n".join(lines)


def table(name: str) -> str:
    """Markdown of a plan's finished runs, data sets without any left out."""
    plan = read_plan(ROOT / "experiments" / f"{name}.yaml")
    store = Store(RESULTS / name)
    blocks = aggregate(plan, expand(plan), store)
    store.save_tests()
    done = [block for block in blocks if any(row.seeds for row in block.rows)]
    if not done:
        return "Not run yet.\n"
    figures = yaml.safe_load((RESULTS / "published.yaml").read_text()).get(name, {})
    return "\n".join(part for part in (beside(done, figures), FORMATS["md"](plan, done)) if part)


def beside(blocks: Sequence[Block], figures: Figures) -> str:
    """Markdown of published and measured values with the difference in percent; empty without any."""
    lines = []
    for block in blocks:
        for row in block.rows:
            values = figures.get(block.data, {}).get(row.label)
            if values and row.seeds:
                found = [row.mean(metric) for metric in METRICS]
                cells = [
                    f"{then:.4f} | {now:.4f} | {100 * (now / then - 1):+.1f} %"
                    for then, now in zip(values, found, strict=True)
                    if now is not None
                ]
                lines.append(f"| {block.data} | {row.label} | {' | '.join(cells)} |")
    if not lines:
        return ""
    titles = " | ".join(f"{metric}, published | ours | difference" for metric in METRICS)
    return "\n".join([f"| data | method | {titles} |", "|---|---|" + "---:|" * 6, *lines, ""])


if __name__ == "__main__":
    PAGE.write_text(refreshed(PAGE.read_text()))
    print(f"written: {PAGE}")
