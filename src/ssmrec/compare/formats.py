"""A table as text, Markdown, LaTeX or CSV."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Sequence

from ssmrec.compare.methods import shown
from ssmrec.compare.plan import Plan
from ssmrec.compare.table import Block, Row

_COST = {"epoch": "s/epoch", "epochs": "epoch", "train": "train s"}


def text(plan: Plan, blocks: Sequence[Block]) -> str:
    """Aligned columns for a terminal."""
    parts = []
    for block in blocks:
        grid = _grid(plan, block, "{} ± {}", lambda cell: cell)
        widths = [max(len(row[column]) for row in grid) for column in range(len(grid[0]))]
        lines = [
            "  ".join(
                cell.ljust(width) if column == 0 else cell.rjust(width)
                for column, (cell, width) in enumerate(zip(row, widths, strict=True))
            ).rstrip()
            for row in grid
        ]
        rule = "-" * max(map(len, lines))
        parts.append("\n".join([block.data, lines[0], rule, *lines[1:], "", *notes(plan, block)]))
    return "\n\n".join(parts) + "\n"


def markdown(plan: Plan, blocks: Sequence[Block]) -> str:
    """Pipe tables; the best mean of each column is bold."""
    parts = []
    for block in blocks:
        grid = _grid(plan, block, "{} ± {}", lambda cell: f"**{cell}**")
        lines = [
            f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in row)} |" for row in grid
        ]
        lines.insert(1, "|---|" + "---:|" * (len(grid[0]) - 1))
        said = "\n".join(f"- {note}" for note in notes(plan, block))
        parts.append("\n".join([f"### {block.data}", "", *lines, "", said]))
    return "\n\n".join(parts) + "\n"


def latex(plan: Plan, blocks: Sequence[Block]) -> str:
    """A tabular with booktabs rules for each data set; the best mean of each column is bold."""
    parts = []
    for block in blocks:
        grid = [
            [_escaped(cell) for cell in row]
            for row in _grid(plan, block, "{} @pm@ {}", lambda cell: f"@bf@{cell}@end@")
        ]
        lines = [" & ".join(row) + r" \\" for row in grid]
        head = rf"\begin{{tabular}}{{l{'r' * (len(grid[0]) - 1)}}}"
        said = [f"% {note}" for note in [block.data, *notes(plan, block)]]
        body = [head, r"\toprule", lines[0], r"\midrule", *lines[1:], r"\bottomrule"]
        parts.append("\n".join([*said, *body, r"\end{tabular}"]))
    return "\n\n".join(parts) + "\n"


def as_csv(plan: Plan, blocks: Sequence[Block]) -> str:
    """One line for each data set, method and metric, unrounded."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    cost = list(_COST) if plan.cost else []
    head = ["data", "method", "metric", "seeds", "mean", "sd", "baseline", "change", "p", "p_holm"]
    writer.writerow([*head, "tuned", *cost])
    for block in blocks:
        for row in block.rows:
            for metric in plan.metrics:
                tested = (row.change, row.p, row.holm) if metric == plan.metric else (None,) * 3
                writer.writerow(
                    [block.data, row.label, metric, row.seeds, row.mean(metric), row.sd(metric),
                     block.baseline, *tested, " ".join(shown(row.tuned)),
                     *(row.cost.get(name) for name in cost)]
                )  # fmt: skip
    return out.getvalue()


FORMATS: dict[str, Callable[[Plan, Sequence[Block]], str]] = {
    "text": text,
    "md": markdown,
    "latex": latex,
    "csv": as_csv,
}


def notes(plan: Plan, block: Block) -> list[str]:
    """What must stand with the numbers: seeds, who chose, the test, what is missing."""
    counts = {row.seeds for row in block.rows}
    total, done = len(block.rows) * len(plan.seeds), sum(row.seeds for row in block.rows)
    found = []
    if done < total:
        found.append(f"INCOMPLETE: {done} of {total} runs")
    spread = ", mean ± standard deviation" if max(counts) > 1 else ""
    found.append(f"seeds: {len(plan.seeds)}{spread}")
    found += sorted({fact for row in block.rows for fact in row.facts})
    if any("chosen on test" in fact for fact in found):
        found.append("WARNING: chosen on TEST, as papers did; no honest estimate")
    if any(row.p is not None for row in block.rows):
        found.append(
            f"change and p: {plan.metric} against {block.baseline}; paired {plan.test} test over "
            "users, each averaged over seeds; p by Holm for this table"
        )
    if any(row.tuned for row in block.rows):
        found.append(f"tuned on validation {plan.metric}, seed {plan.seeds[0]}:")
        found += [f"  {r.label}: {', '.join(shown(r.tuned))}" for r in block.rows if r.tuned]
    return found


def _grid(plan: Plan, block: Block, spread: str, best: Callable[[str], str]) -> list[list[str]]:
    """Header and rows as cells; `spread` joins mean and deviation, `best` marks the largest mean."""
    tested = any(row.p is not None for row in block.rows)
    uneven = any(row.seeds < len(plan.seeds) for row in block.rows)
    head = ["method", *plan.metrics, *(["change", "p"] if tested else [])]
    head += (["seeds"] if uneven else []) + (list(_COST.values()) if plan.cost else [])
    top = {
        name: max((m for row in block.rows if (m := row.mean(name)) is not None), default=None)
        for name in plan.metrics
    }
    grid = [head]
    for row in block.rows:
        cells = [row.label]
        for name in plan.metrics:
            cell = _value(row, name, spread)
            first = top[name] is not None and row.mean(name) == top[name]
            cells.append(best(cell) if first else cell)
        if tested:
            cells += ["-" if row.change is None else f"{row.change:+.1%}".replace("%", " %")]
            cells += [_p(row.holm)]
        cells += [str(row.seeds)] if uneven else []
        cells += [_number(row.cost.get(name)) for name in _COST] if plan.cost else []
        grid.append(cells)
    return grid


def _value(row: Row, metric: str, spread: str) -> str:
    mean, sd = row.mean(metric), row.sd(metric)
    if mean is None:
        return "-"
    return f"{mean:.4f}" if sd is None else spread.format(f"{mean:.4f}", f"{sd:.4f}")


def _p(value: float | None) -> str:
    if value is None:
        return "-"
    return "< 0.001" if value < 0.001 else f"{value:.3f}"


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3g}" if value < 100 else f"{value:,.0f}"


_LATEX = {"\\": r"\textbackslash{}", "<": "$<$", "~": r"\textasciitilde{}", "^": r"\^{}"}
_LATEX |= {character: "\\" + character for character in "&%$#_{}"}


def _escaped(cell: str) -> str:
    """LaTeX's own characters made harmless, then the marks of `latex` put in."""
    cell = cell.translate(str.maketrans(_LATEX))
    return cell.replace("@pm@", r"$\pm$").replace("@bf@", r"\textbf{").replace("@end@", "}")
