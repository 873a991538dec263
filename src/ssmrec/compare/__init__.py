"""Experiments: a plan of data sets, backbones, losses, studies and seeds becomes one table."""

from ssmrec.compare.formats import FORMATS
from ssmrec.compare.methods import Job, Method, expand, run_of, trials
from ssmrec.compare.plan import Plan, make_plan, read_plan
from ssmrec.compare.runner import Failure, Watcher, chosen, run_plan, tuned_settings
from ssmrec.compare.store import Outcome, Store
from ssmrec.compare.table import Block, Row, aggregate

__all__ = [
    "FORMATS", "Block", "Failure", "Job", "Method", "Outcome", "Plan", "Row", "Store", "Watcher",
    "aggregate", "chosen", "expand", "make_plan", "read_plan", "run_of", "run_plan", "trials",
    "tuned_settings",
]  # fmt: skip
