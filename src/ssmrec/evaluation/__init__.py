"""Was it any good: metrics and the evaluation protocol."""

from ssmrec.evaluation.lists import Lists, evaluate_lists, read_lists
from ssmrec.evaluation.metrics import METRIC_VERSION, METRICS, Metric, find_hits, parse_metric
from ssmrec.evaluation.protocol import Result, best_possible, evaluate, most_popular

__all__ = [
    "METRICS",
    "METRIC_VERSION",
    "Lists",
    "Metric",
    "Result",
    "best_possible",
    "evaluate",
    "evaluate_lists",
    "find_hits",
    "most_popular",
    "parse_metric",
    "read_lists",
]
