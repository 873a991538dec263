"""Progress on the terminal: what is told is text, whatever it holds."""

from __future__ import annotations

import io

from rich.console import Console

from ssmrec.reporting.bars import TwoBars
from ssmrec.reporting.progress import ProgressBars


def written(width=200):
    return Console(file=io.StringIO(), width=width, force_terminal=True, color_system=None)


def test_brackets_in_what_is_told_are_no_markup():
    """A path or an id such as [/b] is no closing tag, and [abc] no style."""
    bars = ProgressBars(console := written())
    bars.note("runs/[a]/[/b] goes on")
    bars.warning("ids such as [abc]")
    bars.epoch({"epoch": 1, "loss": 0.5, "ndcg@5": 0.25, "examples_per_second": 10.0,
                "train_seconds": 2.0}, True)  # fmt: skip
    assert console.file.getvalue().splitlines() == [
        "runs/[a]/[/b] goes on", "warning: ids such as [abc]",
        "epoch   1  loss 0.5000  ndcg@5 0.2500  10 examples/s  2.0 s  *",
    ]  # fmt: skip


def test_a_description_is_shown_as_it_is():
    bars = TwoBars("runs", console := written())
    bars.bars.update(bars.inner, description="shop: mf + ssm, metrics=[recall, ndcg], [/b]")
    with bars:
        bars.bars.refresh()
    assert "metrics=[recall, ndcg], [/b]" in console.file.getvalue()


def test_a_line_is_one_line_in_a_log_file_of_any_width():
    for bars in (ProgressBars(console := written(width=40)), TwoBars("runs", console)):
        bars.note("word " * 30)
    assert console.file.getvalue() == 2 * ("word " * 30 + "\n")
