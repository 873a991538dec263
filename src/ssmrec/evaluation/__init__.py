"""Was it any good: metrics and the evaluation protocol."""

from ssmrec.evaluation.metrics import METRIC_VERSION, METRICS, Metric, find_hits, parse_metric
from ssmrec.evaluation.protocol import Result, best_possible, evaluate, most_popular

__all__ = [
    "METRICS",
    "METRIC_VERSION",
    "Metric",
    "Result",
    "best_possible",
    "evaluate",
    "find_hits",
    "most_popular",
    "parse_metric",
]
