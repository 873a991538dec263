"""Tuning: a search for the settings that are best on validation, with Optuna (extra `tune`)."""

from ssmrec.tuning.api import Best, tune
from ssmrec.tuning.picture import search_page
from ssmrec.tuning.progress import SearchBars
from ssmrec.tuning.record import PICTURE, RECIPE, Done, best_of, counts
from ssmrec.tuning.runner import Watcher, search
from ssmrec.tuning.spaces import Choice, Range, labels, parse, shipped, space_of, spaces
from ssmrec.tuning.study import load_optuna
from ssmrec.tuning.task import PRUNERS, Task, make_task

__all__ = [
    "PICTURE", "PRUNERS", "RECIPE", "Best", "Choice", "Done", "Range", "SearchBars", "Task", "Watcher",
    "best_of", "counts", "labels", "load_optuna", "make_task", "parse", "search", "search_page",
    "shipped", "space_of", "spaces", "tune",
]  # fmt: skip
