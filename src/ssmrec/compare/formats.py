"""A table as text, Markdown, LaTeX or CSV."""

from __future__ import annotations

import csv
import html
import io
import re
from collections.abc import Callable, Sequence

from ssmrec.compare.methods import shown
from ssmrec.compare.plan import Plan
from ssmrec.compare.table import Block, Row
from ssmrec.evaluation import parse_metric

LOUD = ("INCOMPLETE", "WARNING")
"""How notes begin that must be seen wherever the table is."""
_COST = {"epoch": "s/epoch", "epochs": "epoch", "train": "train s"}
_GROUPS = {
    "recall": "recall@{k} that each popularity group adds, tail to head",
    "ndcg": "ndcg@{k} that each popularity group adds, tail to head",
    "length": "mean length of the final item vectors of each popularity group, tail to head",
}


def text(plan: Plan, blocks: Sequence[Block]) -> str:
    """Aligned columns for a terminal."""
    parts = []
    for block in blocks:
        lines = _aligned(_grid(plan, block, "{} ± {}", lambda cell: cell))
        parts.append("\n".join([block.data, *lines, "", *notes(plan, block)]))
        for title, grid in _by_group(plan, block):
            parts.append("\n".join([f"{block.data}: {title}", *_aligned(grid)]))
    return "\n\n".join(parts) + "\n"


def _aligned(grid: Sequence[Sequence[str]]) -> list[str]:
    """Lines of columns as wide as their widest cell, with a rule under the first."""
    widths = [max(len(row[column]) for row in grid) for column in range(len(grid[0]))]
    lines = [
        "  ".join(
            cell.ljust(width) if column == 0 else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in grid
    ]
    return [lines[0], "-" * max(map(len, lines)), *lines[1:]]


def markdown(plan: Plan, blocks: Sequence[Block]) -> str:
    """Pipe tables; the best mean of each column is bold."""
    parts = []
    for block in blocks:
        lines = _piped(_grid(plan, block, "{} ± {}", lambda cell: f"**{cell}**"))
        said = "\n".join(f"- {_literal(note)}" for note in notes(plan, block))
        data = _literal(block.data)
        parts.append("\n".join([f"### {data}", "", *lines, "", said]))
        for title, grid in _by_group(plan, block):
            parts.append("\n".join([f"{data}, {title}:", "", *_piped(grid)]))
    return "\n\n".join(parts) + "\n"


def _piped(grid: Sequence[Sequence[str]]) -> list[str]:
    """Lines of a pipe table; only the first column is words of the user."""
    lines = [f"| {' | '.join([_literal(first), *cells])} |" for first, *cells in grid]
    return [lines[0], "|---|" + "---:|" * (len(grid[0]) - 1), *lines[1:]]


_MARKDOWN = re.compile(r"[\\`*|]|(?<=\])\(|(?<![^\W_])_|_(?![^\W_])")
"""What would be read as a mark; an underscore inside of a word, as in sl_at_k, is none."""


def _literal(words: str) -> str:
    """Words that Markdown shows as they are: no tag, link, emphasis, code or end of a cell."""
    return _MARKDOWN.sub(r"\\\g<0>", html.escape(words, quote=False))


def latex(plan: Plan, blocks: Sequence[Block]) -> str:
    """A tabular with booktabs rules for each data set; the best mean of each column is bold."""
    parts = []
    for block in blocks:
        grid = _grid(plan, block, "{} ± {}", lambda cell: f"{_BOLD}{cell}{_END}")
        told = notes(plan, block)
        said = [f"% {note}" for note in [block.data, *told]]
        # What no one may miss stands below the table, and not in a comment.
        seen = [rf"\par {_escaped(note)}" for note in told if note.startswith(LOUD)]
        parts.append("\n".join([*said, *_tabular(grid), *seen]))
        for title, grid in _by_group(plan, block):
            parts.append("\n".join([f"% {block.data}: {title}", *_tabular(grid)]))
    return "\n\n".join(parts) + "\n"


def _tabular(grid: Sequence[Sequence[str]]) -> list[str]:
    lines = [" & ".join(_escaped(cell) for cell in row) + r" \\" for row in grid]
    head = rf"\begin{{tabular}}{{l{'r' * (len(grid[0]) - 1)}}}"
    body = [head, r"\toprule", lines[0], r"\midrule", *lines[1:], r"\bottomrule"]
    return [*body, r"\end{tabular}"]


def as_csv(plan: Plan, blocks: Sequence[Block]) -> str:
    """One line for each data set, method and metric, unrounded."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    cost = [*_COST, "device"] if plan.cost else []
    head = ["data", "method", "metric", "seeds", "mean", "sd", "baseline", "change", "p", "p_holm"]
    writer.writerow([*head, "tuned", *cost, "chosen"])
    for block in blocks:
        for row in block.rows:
            for metric in plan.metrics:
                tested = (row.change, row.p, row.holm) if metric == plan.metric else (None,) * 3
                writer.writerow(
                    [block.data, row.label, metric, len(row.held(metric)), row.mean(metric), row.sd(metric),
                     block.baseline, *tested, " ".join(shown(row.tuned)),
                     *(row.device if name == "device" else row.cost.get(name) for name in cost),
                     "; ".join(sorted(row.facts))]
                )  # fmt: skip
            for name, values in row.groups.items() if plan.groups else ():
                for group, value in enumerate(values, 1):
                    line = [block.data, row.label, f"{name} of group {group}", row.seeds, value]
                    writer.writerow(line + [None] * (7 + len(cost)))
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
    for metric in plan.metrics:
        if lacking := done - sum(len(row.held(metric)) for row in block.rows):
            found.append(
                f"{metric}: {lacking} of {done} runs were finished without it; ssmrec compare without --no-run "
                "measures it from their run folders, and trains those again whose folder is gone"
            )
    found += sorted({fact for row in block.rows for fact in row.facts})
    if any("chosen on test" in fact for fact in found):
        found.append("WARNING: chosen on TEST, as papers did; no honest estimate")
    uneven = any(len(row.held(plan.metric)) < len(plan.seeds) for row in block.rows)
    against = f"{plan.metric} against {block.baseline}"
    against += ", over the seeds that both have" if uneven else ""
    if any(row.p is not None for row in block.rows):
        found.append(
            f"change and p: {against}; paired {plan.test} test over users, each averaged over seeds; "
            "p by Holm for this table"
        )
        found += [
            f"p of {row.label}: seeds {', '.join(map(str, row.p_seeds))}, whose users' values were kept"
            for row in block.rows
            if row.p_seeds
        ]
    elif any(row.change is not None for row in block.rows):
        found.append(f"change: {against}; no p, as the values of each user were not kept")
    if plan.groups and any(row.seeds and not row.groups for row in block.rows):
        found.append("groups: rows that an earlier version measured hold none")
    if any(row.tuned for row in block.rows):
        found.append(f"tuned on validation {plan.metric}, seed {plan.seeds[0]}:")
        found += [f"  {r.label}: {', '.join(shown(r.tuned))}" for r in block.rows if r.tuned]
    return found


def _grid(plan: Plan, block: Block, spread: str, best: Callable[[str], str]) -> list[list[str]]:
    """Header and rows as cells; `spread` joins mean and deviation, `best` marks the largest mean."""
    changed = any(row.change is not None for row in block.rows)
    tested = any(row.p is not None for row in block.rows)
    uneven = any(row.seeds < len(plan.seeds) for row in block.rows)
    head = ["method", *plan.metrics, *(["change"] if changed else []), *(["p"] if tested else [])]
    several = plan.cost and len({row.device for row in block.rows if row.device}) > 1
    head += (["seeds"] if uneven else []) + (list(_COST.values()) if plan.cost else [])
    head += ["on"] if several else []
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
        if changed:
            cells += ["-" if row.change is None else f"{row.change:+.1%}".replace("%", " %")]
        cells += [_p(row.holm)] if tested else []
        cells += [str(row.seeds)] if uneven else []
        cells += [_number(row.cost.get(name)) for name in _COST] if plan.cost else []
        cells += [row.device] if several else []
        grid.append(cells)
    return grid


def _by_group(plan: Plan, block: Block) -> list[tuple[str, list[list[str]]]]:
    """Title and cells of each table by popularity group; none unless the plan asks for them."""
    tables = []
    for name, title in _GROUPS.items() if plan.groups else ():
        rows = [(row.label, row.groups[name]) for row in block.rows if row.groups.get(name)]
        if rows:
            head = ["method", *(str(number + 1) for number in range(len(rows[0][1])))]
            cells = [
                [label, *("-" if x is None else f"{x:.4f}" for x in each)] for label, each in rows
            ]
            tables.append((title.format(k=parse_metric(plan.metric).k), [head, *cells]))
    return tables


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


_BOLD, _END = "\x02", "\x03"
"""Marks of `latex` in a cell; no label holds them."""

_LATEX = {_BOLD: r"\textbf{", _END: "}", "±": r"$\pm$", "\\": r"\textbackslash{}"}
_LATEX |= {"~": r"\textasciitilde{}", "^": r"\^{}"}
_LATEX |= {character: f"${character}$" for character in "<>|"}  # other signs in TeX's own fonts
_LATEX |= {character: "\\" + character for character in "&%$#_{}"}


def _escaped(cell: str) -> str:
    """LaTeX's own characters made harmless, and the marks of `latex` put in."""
    cell = cell.translate(str.maketrans(_LATEX))
    # After the end of a row a bracket would be taken for that row's spacing.
    return "{}" + cell if cell.startswith("[") else cell
