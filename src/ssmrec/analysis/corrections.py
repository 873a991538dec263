"""Corrections of popularity after training: what each strength costs in accuracy and brings in exposure."""

from __future__ import annotations

import logging
from dataclasses import asdict
from typing import Any

import numpy as np

from ssmrec.analysis.popularity import check_lists, exposure_of_lists
from ssmrec.analysis.subject import Lists, Subject
from ssmrec.errors import ConfigError
from ssmrec.evaluation.metrics import measure, parse_metric
from ssmrec.ranking.corrections import CORRECTIONS, corrected_vectors, correction

Array = np.ndarray
logger = logging.getLogger("ssmrec")


def trade(ids: Array, hits: Array, relevant: Array, degrees: Array) -> dict[str, float]:
    """Accuracy and exposure of the same ranked lists.

    Over users u with held-out items T_u, lists of K, degrees d, and I the items with d > 0:

        recall           mean_u  hits of u / |T_u|
        ndcg             mean_u  sum over hits of u of 1/log2(rank + 1)  /  the same of min(K, |T_u|) hits
        mean_popularity  mean_u  mean of d over the items listed for u
        coverage         items listed for anybody / |I|
        tail_share       share of the places with one of the 80 % of I of least degree
        gini             inequality of the items' numbers of places

    Args:
        ids: int (m, K) listed items, -1 for padding; hits: bool (m, K), held out or not.
        relevant: int (m,), number of held-out items of each user, at least 1.
        degrees: int (n_items,), training users of each item.

    Raises:
        DataError: no list holds an item, or as `check_lists`.
    """
    check_lists(ids, hits, relevant, len(degrees))
    k = ids.shape[1]
    metrics = [parse_metric(f"{name}@{k}") for name in ("recall", "ndcg")]
    recall, ndcg = (float(values.mean()) for values in measure(hits, relevant, metrics).values())
    return {"recall": recall, "ndcg": ndcg, **asdict(exposure_of_lists(ids, degrees))}


def corrections_section(subject: Subject, lists: Lists, k: int) -> dict[str, Any]:
    """The trade of the run and of every correction at some strengths, as `run` documents it.

    Args:
        lists: those of the run; k: their length, which the corrected ones get too.
    """
    logger.info("ranking with %s, at some strengths each", ", ".join(CORRECTIONS))
    return {
        "uncorrected": traded(subject, lists),
        "lines": [_line(subject, name, k) for name in CORRECTIONS],
    }


def _line(subject: Subject, name: str, k: int) -> dict[str, Any]:
    model, points = subject.trained.model, []
    rank: Any = subject.config.ranking.similarity
    made = correction(name)
    line = {"name": name, "rank": made.ranked_by(rank), "reason": None, "points": points}
    try:
        strengths = made.strengths(model)
    except ConfigError as error:
        return {**line, "reason": str(error)}
    for strength in strengths:
        asked = {"name": name, "strength": strength}
        vectors = corrected_vectors(model, subject.train, rank, asked)
        found = traded(subject, subject.ranked(*vectors, k))
        points.append({"strength": strength, "asked": f"{name}:strength={strength:g}", **found})
    return line


def traded(subject: Subject, lists: Lists) -> dict[str, float]:
    """`trade` of lists over a run's items."""
    return trade(lists.ids, lists.hits, lists.relevant, subject.train.item_degrees)
