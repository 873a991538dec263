"""The lists of another recommender, judged on the users, pairs and metrics of `evaluate`."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from glob import escape
from pathlib import Path, PurePath
from typing import Any

import numpy as np
import polars as pl

from ssmrec.data import DataConfig, Interactions, Vocabulary
from ssmrec.data.aliases import find_alias, plain
from ssmrec.data.folder import open_source
from ssmrec.data.frames import is_table, read_table
from ssmrec.data.ids import ids_or_text
from ssmrec.data.place import Place
from ssmrec.data.table import Table
from ssmrec.errors import DataError
from ssmrec.evaluation.metrics import contains, find_hits, measure
from ssmrec.evaluation.protocol import Result, in_parts, means, parsed, prepared
from ssmrec.ranking.ids import distinct, find, none_known, some

Array = np.ndarray
logger = logging.getLogger("ssmrec")

RANKS = ("rank", "position", "place")
"""Usual names of a column that orders a list, the best first; else it is a score, the highest first."""


@dataclass(frozen=True, eq=False)
class Lists:
    """Ranked lists of all users of some data.

    Args:
        ids: int32 (n_users, K) item indices, best first; -1 behind the end of a list, and for an item
            that the data do not know, which keeps its place.
        lengths: int64 (n_users,), of the lists before they were cut at K.
        counts: `list_rows` read, `repeated_rows` left out, `unknown_users` left out, and
            `unknown_items`, the distinct ones.
    """

    ids: Array
    lengths: Array
    counts: dict[str, int]


def read_lists(source: str | Path | Any, like: Interactions, k: int) -> Lists:
    """The lists of a table with columns of users and items, and of ranks or scores.

    Args:
        source: a polars, pandas or pyarrow table, such as `Recommender.recommend` gives; or a file: Parquet,
            CSV or JSON Lines. A row an item. Without ranks (`RANKS`) and scores the rows of a user are in
            order. In `.jsonl` and `.parquet` also a row a user, with a list of items.
        like: pairs with the ids that the lists are matched to.
        k: places to keep, at least 1.

    Raises:
        DataError: it cannot be read, lacks a column or a value, or has no known user or item.
    """
    rows, order, text, where = _rows(source)
    _assert_filled(rows, where)
    ids = {
        side: ids_or_text(
            rows[side], "str" if known.ids.dtype == pl.String else "auto", text, where
        )
        for side, known in (("user", like.users), ("item", like.items))
    }
    rows = rows.with_columns(
        (one if one.dtype.is_integer() else one.cast(pl.String)).alias(side)
        for side, one in ids.items()
    )
    if order is not None:
        rows = rows.sort(order, descending=order == "rating", maintain_order=True)
    return _lists(rows, like, k, str(where))


def _rows(source: Any) -> tuple[pl.DataFrame, str | None, bool, Place]:
    """The rows with an item each, the column that orders them, whether ids are of a text, and the place."""
    if is_table(source):
        where, text = Place("lists"), False
        rows = read_table(source, where, partial(_roles, where=where))
    elif isinstance(source, (str, PurePath)):
        if (whole := _whole(Path(source))) is not None:
            return whole
        table = open_source(Path(source), DataConfig())
        where, text = table.where, table.text
        rows = table.collect(_roles(table.names, where))
    else:
        raise DataError(
            f"lists must be a file, or a polars, pandas or pyarrow table with columns user, item and rank or "
            f"score, not a {type(source).__name__}"
        )
    order = next((role for role in ("rank", "rating") if role in rows.columns), None)
    if order is None:
        logger.warning("%s: no column of ranks or scores, so that its rows are in order", where)
    else:
        rows = rows.with_columns(pl.col(order).cast(pl.Float64, strict=False))
    return rows, order, text, where


def _roles(names: list[str], where: Place, table: Table | None = None) -> dict[str, str]:
    """The columns of users, items and, where there are any, of scores and ranks."""
    found = {role: find_alias(role, names) for role in ("user", "item", "rating")}
    found["rank"] = next((name for name in names if plain(name) in RANKS), None)
    if found["user"] is None or found["item"] is None:
        raise DataError(
            f"{where}: needs columns of users and items, named user and item or the like, and one of ranks "
            f"or scores; it has {', '.join(names[:20])}"
        )
    return {role: name for role, name in found.items() if name is not None}


def _whole(path: Path) -> tuple[pl.DataFrame, None, bool, Place] | None:
    """As `_rows`, of a file with a user's list in each row, as `recommend` writes; None for any other."""
    scan = {".jsonl": pl.scan_ndjson, ".parquet": pl.scan_parquet}.get(path.suffix)
    if scan is None:
        return None
    try:
        table = scan(escape(str(path)))
        lists = [name for name, kind in table.collect_schema().items() if kind == pl.List]
        user = find_alias("user", table.collect_schema().names())
        item = next((x for x in lists if plain(x) == "items" or find_alias("item", [x])), None)
        if user is None or item is None:
            return None
        rows = table.select(user=user, item=item).filter(pl.col("item").list.len() > 0).collect()
    except (OSError, pl.exceptions.PolarsError):  # the usual reader tells what is wrong
        return None
    return rows.explode("item"), None, False, Place(str(path))


def _assert_filled(rows: pl.DataFrame, where: Place) -> None:
    """Refuse rows without an id, or whose rank or score is no number."""
    for name in rows.columns:
        bad = rows[name].is_null()
        if rows[name].dtype == pl.Float64:
            bad |= rows[name].is_nan()
        if bad.any():
            what = {"rank": "rank that is a number", "rating": "score that is a number"}.get(
                name, name
            )
            raise DataError(
                f"{where}: {bad.sum():,} of {len(rows):,} rows have no {what}, first in "
                f"{where.row(int(bad.arg_max() or 0))}"
            )


def _lists(rows: pl.DataFrame, like: Interactions, k: int, where: str) -> Lists:
    """The lists of rows that are in order within each user."""
    once = rows.unique(["user", "item"], keep="first", maintain_order=True)
    user, item = (
        _found(side, once[name], where, f"{name}s")
        for name, side in (("user", like.users), ("item", like.items))
    )
    place = once.select(pl.int_range(pl.len()).over("user")).to_series().to_numpy()
    lengths = np.bincount(user[user >= 0], minlength=like.n_users)
    ids = np.full((like.n_users, min(k, int(lengths.max(initial=0)))), -1, dtype=np.int32)
    kept = (user >= 0) & (place < ids.shape[1])
    ids[user[kept], place[kept]] = item[kept]
    counts = {
        "list_rows": len(rows),
        "repeated_rows": len(rows) - len(once),
        "unknown_users": len(distinct(once["user"], user < 0)),
        "unknown_items": len(distinct(once["item"], item < 0)),
    }
    return Lists(ids, lengths, counts)


def _found(side: Vocabulary, ids: pl.Series, where: str, what: str) -> Array:
    """Index of each id, -1 where it is unknown, which is told.

    Raises:
        DataError: none is known.
    """
    index = find(side, ids, np.ones(len(side), dtype=bool))
    missing = distinct(ids, index < 0)
    count = ids.n_unique()
    if len(missing) == count:
        raise DataError(none_known(where, count, what, side.ids.head(2)))
    if len(missing):
        logger.warning("%s: %d of %d %s are not in the data: %s",
                       where, len(missing), count, what, some(missing))  # fmt: skip
    return index


def evaluate_lists(
    lists: Lists | Any,
    held_out: Interactions,
    seen: Sequence[Interactions],
    metrics: Sequence[str],
) -> Result:
    """What `evaluate` measures, of lists that are given: the same users, pairs and definitions.

    A place with an item that the user already has, or that the data do not know, is a miss; a user without a
    list counts as 0. Lists that are shorter than a metric's K count as if filled with misses.

    Args:
        lists: over the users of `held_out`, of at least as many places as the longest metric where they
            have them; or what `read_lists` takes.
        held_out: pairs to be found. seen: pairs the user has; the first is train.
        metrics: names such as `ndcg@20`.

    Returns:
        As `evaluate`; its counts are also those of the lists, and `seen_places`, those with an item the
        user has.

    Raises:
        ConfigError: unknown metric, or none.
        DataError: lists of other users, or no user to average over; or as `read_lists`.
    """
    start = time.perf_counter()
    asked = parsed(metrics)
    if not isinstance(lists, Lists):
        lists = read_lists(lists, held_out, max(metric.k for metric in asked))
    if len(lists.ids) != held_out.n_users:
        raise DataError(f"lists of {len(lists.ids)} users, held-out pairs of {held_out.n_users}")
    task = prepared(held_out, seen)
    repeated = 0

    def judge(part: slice) -> dict[str, Array]:
        nonlocal repeated
        index = task.user_index[part]
        ids = lists.ids[index]
        repeated += sum(int(contains(known, index[:, None], ids).sum()) for known in task.seen)
        return measure(find_hits(ids, task.held_out, index), task.relevant[part], asked)

    per_user = in_parts(judge, len(task.user_index), max(1, lists.ids.shape[1]))
    without = {"users_without_list": int((lists.lengths[task.user_index] == 0).sum())}
    counts = {**task.counts, **without, **lists.counts, "seen_places": repeated}
    return Result(means(per_user), per_user, task.user_index, counts, time.perf_counter() - start)
