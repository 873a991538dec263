"""`python -m benchmarks.leaderboard`: the tables of docs/leaderboard.md from what is finished.

There, and in docs/which-loss.md, between `<!-- NAME -->` and `<!-- end -->` stands what `parts` makes
under that name: `state`, `verdict`, `published`, and the tables of each data set of
experiments/leaderboard.yaml, of all runs that have a result in experiments/results/leaderboard. They are
made, and gone on with, by

    ssmrec compare experiments/leaderboard.yaml --out experiments/results/leaderboard

p needs the users' values, which are not committed: where they are gone it is that of the last test on
the same results (tests.json), or blank.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.experiments import BLOCK
from ssmrec.compare import Method, Plan, Row, Store, aggregate, expand, read_plan
from ssmrec.compare.methods import shown
from ssmrec.models import MODELS

ROOT = Path(__file__).parents[1]
PLAN = ROOT / "experiments" / "leaderboard.yaml"
RESULTS = ROOT / "experiments" / "results" / "leaderboard"
PAGES = (ROOT / "docs" / "leaderboard.md", ROOT / "docs" / "which-loss.md")

REFERENCE = "ssm"
"""The loss that the others are held against, on the same backbone."""

LEVEL = 0.05
"""Of significance, after Holm's correction."""

PUBLISHED: dict[tuple[str, str], dict[str, tuple[float, float]]] = {
    ("amazon-electronic", "mf"): {
        "bpr cosine": (0.0816, 0.0527), "sl": (0.0821, 0.0529), "advinfonce": (0.0829, 0.0527),
        "bsl": (0.0834, 0.0530), "psl": (0.0838, 0.0541),
    },
    ("amazon-electronic", "lightgcn"): {
        "bpr cosine": (0.0813, 0.0524), "sl": (0.0823, 0.0526), "advinfonce": (0.0823, 0.0528),
        "bsl": (0.0823, 0.0526), "psl": (0.0830, 0.0536),
    },
    ("amazon-movie", "mf"): {
        "bpr cosine": (0.0916, 0.0608), "sl": (0.1286, 0.0929), "advinfonce": (0.1293, 0.0934),
        "bsl": (0.1288, 0.0931), "psl": (0.1299, 0.0945),
    },
    ("amazon-movie", "lightgcn"): {
        "bpr cosine": (0.1006, 0.0681), "sl": (0.1304, 0.0941), "advinfonce": (0.1292, 0.0936),
        "bsl": (0.1306, 0.0943), "psl": (0.1300, 0.0953),
    },
}  # fmt: skip
"""Recall@20 and NDCG@20 of Table 1 of the PSL paper (Yang et al., NeurIPS 2024), psl with relu; all of its
losses, bpr too, had cosines and 1000 uniform negatives."""


@dataclass(frozen=True)
class Board:
    """The losses on one data set and backbone, with the closed forms beside them.

    Args:
        data, model: labels.
        rows: of all methods, finished or not, each held against `ssm` on this backbone.
        grids: label to the trials of its tuning.
        seeds: how many are planned.
    """

    data: str
    model: str
    rows: Sequence[Row]
    grids: Mapping[str, Sequence[Mapping[str, Any]]]
    seeds: int

    def name(self, row: Row) -> str:
        """The loss of a row; the model of a closed form."""
        return row.label.removeprefix(self._prefix)

    @property
    def losses(self) -> list[Row]:
        """Rows of losses, the reference among them."""
        return [row for row in self.rows if row.label.startswith(self._prefix)]

    @property
    def done(self) -> list[Row]:
        """Rows with a run, the best NDCG@20 first."""
        rows = [row for row in self.rows if row.seeds]
        return sorted(rows, key=lambda row: -(row.mean("ndcg@20") or 0.0))

    @property
    def finished(self) -> int:
        """Runs of losses that are done."""
        return sum(row.seeds for row in self.losses)

    @property
    def planned(self) -> int:
        """Runs of losses in the plan."""
        return len(self.losses) * self.seeds

    @property
    def _prefix(self) -> str:
        return f"{self.model} + "


def boards(plan: Plan, store: Store) -> list[Board]:
    """All boards, by data set, then backbone.

    Raises:
        RunError: as `aggregate`.
    """
    closed = tuple(m for m in plan.models if MODELS[m.values["name"]].closed_form)
    found = []
    for model in (m for m in plan.models if m not in closed):
        baseline = f"{model.label} + {REFERENCE}"
        part = plan.model_copy(update={"models": (model, *closed), "baseline": baseline})
        methods = expand(part)
        for block in aggregate(part, methods, store):
            grids = _grids(methods, block.data)
            found.append(Board(block.data, model.label, block.rows, grids, len(plan.seeds)))
    order = [entry.label for entry in plan.data]
    return sorted(found, key=lambda board: order.index(board.data))


def _grids(methods: Sequence[Method], data: str) -> dict[str, Sequence[Mapping[str, Any]]]:
    return {method.label: method.grid for method in methods if method.data == data}


def refreshed(page: str, found: Sequence[Board]) -> str:
    """The text of a page with every marked part as it is now."""
    made = parts(found)
    return BLOCK.sub(lambda m: f"{m[1]}\n{made[m['name']]}\n{m[4]}", page)


def parts(found: Sequence[Board]) -> dict[str, str]:
    """What stands between marks, by name: see the module."""
    made = {"state": state(found), "verdict": verdict(found), "published": published(found)}
    for data in dict.fromkeys(board.data for board in found):
        tables = [table(board) for board in found if board.data == data]
        made[data] = "\n".join(tables)
    return made


def state(found: Sequence[Board]) -> str:
    """How far the whole is, a row for each data set and backbone."""
    lines = ["| data | backbone | losses with a run | runs |", "|---|---|---:|---:|"]
    for board in found:
        losses = sum(row.seeds > 0 for row in board.losses)
        lines.append(
            f"| {board.data} | {board.model} | {losses} of {len(board.losses)} "
            f"| {board.finished} of {board.planned} |"
        )
    done, planned = (sum(getattr(b, key) for b in found) for key in ("finished", "planned"))
    said = "" if done == planned else f"\nINCOMPLETE: {done} of {planned} runs.\n"
    return "\n".join(lines) + "\n" + said


def table(board: Board) -> str:
    """One board as Markdown, the best first; what has no run yet stands below."""
    lines = [f"### {board.data}, {board.model}", ""]
    if not board.done:
        return "\n".join([*lines, f"INCOMPLETE: 0 of {board.planned} runs.", ""])
    head = "loss|Recall@20|NDCG@20|change|p|s / epoch|tail share|chosen|seeds"
    lines += [f"| {head.replace('|', ' | ')} |", "|---|---:|---:|---:|---:|---:|---:|---|---:|"]
    for place, row in enumerate(board.done):
        cells = _cells(board, row)
        if place == 0:
            cells[2] = f"**{cells[2]}**"
        lines.append(f"| {' | '.join(cells)} |")
    lines += ["", *(f"- {note}" for note in _notes(board)), ""]
    return "\n".join(lines)


def _cells(board: Board, row: Row) -> list[str]:
    plain = board.name(row)
    return [
        f"`{plain}`" if row in board.losses else f"`{plain}`, closed form",
        _value(row, "recall@20"),
        _value(row, "ndcg@20"),
        "-" if row.change is None else f"{row.change:+.1%}".replace("%", " %"),
        _p(row.holm),
        f"{row.cost['epoch']:.2f}" if row in board.losses and row.device == "cpu" else "-",
        f"{row.lists['tail_share']:.3f}" if row.lists else "-",
        ", ".join(shown(row.tuned)) + (" †" if at_end(row.tuned, board.grids[row.label]) else ""),
        str(row.seeds),
    ]


def _notes(board: Board) -> list[str]:
    notes = []
    missing = [f"`{board.name(row)}`" for row in board.losses if not row.seeds]
    if board.finished < board.planned:
        without = f"; without any yet: {', '.join(missing)}" if missing else ""
        notes.append(f"INCOMPLETE: {board.finished} of {board.planned} runs{without}")
    notes += sorted({fact for row in board.done for fact in row.facts if "closed" not in fact})
    if any(at_end(row.tuned, board.grids[row.label]) for row in board.done):
        notes.append("† the end of its grid: a wider one might do better")
    return notes


def at_end(tuned: Mapping[str, Any], grid: Sequence[Mapping[str, Any]]) -> bool:
    """Whether validation chose the first or the last trial of a grid of one setting."""
    return bool(tuned) and tuned in (grid[0], grid[-1])


def verdict(found: Sequence[Board]) -> str:
    """In words: which losses are better than `ssm`, which are not told apart from it, which are worse."""
    lines, better, judged = [], set(), set()
    for board in found:
        groups = compared(board)
        if not any(groups.values()):
            continue
        better |= set(groups["better"])
        judged |= {name for names in groups.values() for name in names}
        said = "; ".join(f"{word}: {_names(names)}" for word, names in groups.items() if names)
        seeds = sorted({row.seeds for row in board.losses if row.seeds})
        of = f"{seeds[0]} to {seeds[-1]} seeds" if len(seeds) > 1 else _counted(seeds[0], "seed")
        lines.append(f"- {board.data}, {board.model} ({of}): {said}.")
    if not lines:
        return "Nothing is finished yet.\n"
    never = sorted(judged - better)
    closing = (
        f"**In no table significantly better than well-tuned `{REFERENCE}`** are {_names(never)}."
        if never
        else f"Every loss is significantly better than `{REFERENCE}` on at least one of these tables."
    )
    return "\n".join([*lines, "", closing, ""])


def compared(board: Board) -> dict[str, list[str]]:
    """Losses by what the test against the reference says."""
    groups: dict[str, list[str]] = {
        "better": [], "not told apart": [], "worse": [], "without a test": [],
    }  # fmt: skip
    for row in (row for row in board.done if row in board.losses and row.change is not None):
        assert row.change is not None
        if row.holm is None:
            group = "without a test"
        elif row.holm >= LEVEL:
            group = "not told apart"
        else:
            group = "better" if row.change > 0 else "worse"
        groups[group].append(board.name(row))
    return groups


def published(found: Sequence[Board]) -> str:
    """The published comparison beside ours."""
    lines = [
        "| data | backbone | loss | Recall@20, published | ours | NDCG@20, published | ours | change |",
        "|---|---|---|---:|---:|---:|---:|---:|",
    ]
    missing = 0
    for board in found:
        rows = {board.name(row): row for row in board.losses}
        for loss, (recall, ndcg) in PUBLISHED.get((board.data, board.model), {}).items():
            mean = rows[loss].mean("ndcg@20")
            missing += mean is None
            change = "-" if mean is None else f"{mean / ndcg - 1:+.1%}".replace("%", " %")
            lines.append(
                f"| {board.data} | {board.model} | `{loss}` | {recall:.4f} "
                f"| {_value(rows[loss], 'recall@20')} | {ndcg:.4f} "
                f"| {_value(rows[loss], 'ndcg@20')} | {change} |"
            )
    total = len(lines) - 2
    said = f"\nINCOMPLETE: {total - missing} of {total} rows.\n" if missing else ""
    return "\n".join(lines) + "\n" + said


def _value(row: Row, metric: str) -> str:
    mean, sd = row.mean(metric), row.sd(metric)
    if mean is None:
        return "-"
    return f"{mean:.4f}" if sd is None else f"{mean:.4f} ± {sd:.4f}"


def _p(value: float | None) -> str:
    if value is None:
        return "-"
    return "< 0.001" if value < 0.001 else f"{value:.3f}"


def _names(names: Sequence[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)


def _counted(n: int, thing: str) -> str:
    return f"{n} {thing}" if n == 1 else f"{n} {thing}s"


if __name__ == "__main__":
    store = Store(RESULTS)
    now = boards(read_plan(PLAN), store)
    store.save_tests()
    for path in PAGES:
        path.write_text(refreshed(path.read_text(), now))
        print(f"written: {path}")
