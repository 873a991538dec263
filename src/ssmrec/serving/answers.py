"""From checked questions to plain answers that JSON can hold."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import polars as pl

from ssmrec.errors import DataError
from ssmrec.ranking import Choice, TopK, as_ids
from ssmrec.serving.service import Loaded, Service

Id = int | str


async def recommend(
    service: Service,
    users: Sequence[Id],
    k: int,
    *,
    include_seen: bool = False,
    unknown: str = "popular",
    allow: Sequence[Id] | None = None,
    deny: Sequence[Id] | None = None,
    candidates: Sequence[Id] | None = None,
    details: bool = False,
) -> dict[str, Any]:
    """A list for each user, in the order asked; unknown users are marked `known: false`.

    Raises:
        DataError: an unknown user under `unknown="error"`, or filters of unknown items.
    """
    loaded = service.loaded
    ranker = loaded.live.ranker
    allowed = (
        allow if candidates is None else [c for c in candidates if allow is None or c in allow]
    )
    if allowed is None and not deny:
        choice = Choice(k, ranker.known_items, include_seen)
    else:
        choice = ranker.choice(k, include_seen=include_seen, allow=allowed, deny=deny)
    ids = as_ids(users)
    index = ranker.find_users(ids)
    known = index >= 0
    if unknown == "error" and not known.all():
        missing = [users[at] for at in np.flatnonzero(~known)[:3]]
        raise DataError(f"{(~known).sum()} user(s) were not trained on: {missing}")
    lists = await service.top(loaded, index[known], choice) if known.any() else None
    found = iter(_rows(loaded, lists, details) if lists is not None else [])
    fallback = _popular(loaded, choice, details) if unknown == "popular" and not known.all() else []
    return {
        "run": loaded.version,
        "lists": [
            {"user": user, "known": bool(is_known), "items": next(found) if is_known else fallback}
            for user, is_known in zip(users, known, strict=True)
        ],
    }


async def similar(
    service: Service, items: Sequence[Id], k: int, details: bool = False
) -> dict[str, Any]:
    """Neighbours of each item; an unknown item is marked and has none."""
    loaded = service.loaded
    ranker = loaded.live.ranker
    ids = as_ids(items, "items")
    known = ranker.find_items(ids) >= 0
    wanted = ids.filter(pl.Series(known)).unique(maintain_order=True)
    lists: dict[Any, list[dict[str, Any]]] = {}
    if len(wanted):
        frame = await service.run(ranker.similar, wanted, k)
        for item, other, score in frame.select("item", "similar", "score").iter_rows():
            lists.setdefault(item, []).append({"item": other, "score": score})
    for rows in lists.values():
        _describe(loaded, rows, details)
    return {
        "run": loaded.version,
        "lists": [
            {"item": item, "known": bool(is_known), "items": lists.get(key, []) if is_known else []}
            for item, key, is_known in zip(items, ids, known, strict=True)
        ],
    }


async def fold_in(
    service: Service,
    items: Sequence[Sequence[Id]],
    k: int,
    deny: Sequence[Id] | None = None,
    details: bool = False,
) -> dict[str, Any]:
    """Lists for new users from the items each liked; unknown items are named, and count for nothing."""
    loaded = service.loaded
    live = loaded.live
    choice = live.ranker.choice(k, deny=deny)
    liked = [as_ids(one, "items") for one in items]
    index = [live.ranker.find_items(ids) for ids in liked]
    missing = [
        [one for one, at in zip(ids, found, strict=True) if at < 0]
        for ids, found in zip(items, index, strict=True)
    ]
    some = [number for number, found in enumerate(index) if (found >= 0).any()]
    rows: list[list[dict[str, Any]]] = [[] for _ in items]
    if some:
        frame, _ = await service.run(live.fold_in, [liked[number] for number in some], choice)
        for user, item, score in frame.select("user", "item", "score").iter_rows():
            rows[some[user]].append({"item": item, "score": score})
    fallback = _popular(loaded, choice, details) if len(some) < len(items) else []
    answers = [
        {
            "known": number in set(some),
            "items": _describe(loaded, rows[number], details) if number in set(some) else fallback,
            "unknown_items": missing[number],
        }
        for number in range(len(items))
    ]
    return {"run": loaded.version, "how": live.folding.how, "lists": answers}


def history(service: Service, user: Id) -> dict[str, Any]:
    """The items a user has, most popular first; none for an unknown user."""
    loaded = service.loaded
    ranker = loaded.live.ranker
    index = int(ranker.find_users(as_ids([user]))[0])
    items = np.zeros(0, np.int32)
    if index >= 0:
        seen = ranker.seen
        items = seen.indices[seen.indptr[index] : seen.indptr[index + 1]]
        items = items[np.argsort(-ranker.train.item_degrees[items], kind="stable")]
    rows = [{"item": item} for item in ranker.train.items.decode(items)]
    return {
        "run": loaded.version,
        "user": user,
        "known": index >= 0,
        "items": _describe(loaded, rows, True),
    }


def users(service: Service, search: str, limit: int) -> dict[str, Any]:
    """Known users whose id begins with `search`."""
    ids = service.loaded.live.ranker.known_users
    found = ids.filter(ids.cast(pl.String).str.starts_with(search)) if search else ids
    return {
        "run": service.loaded.version,
        "users": found.head(limit).to_list(),
        "matches": len(found),
    }


def _rows(loaded: Loaded, lists: TopK, details: bool) -> list[list[dict[str, Any]]]:
    ids, scores = lists.ids.tolist(), lists.scores.tolist()
    names = loaded.item_ids
    rows = []
    for row, size in enumerate((lists.ids >= 0).sum(1).tolist()):
        pairs = zip(ids[row][:size], scores[row], strict=False)
        found = [{"item": names[item], "score": score} for item, score in pairs]
        rows.append(_describe(loaded, found, details))
    return rows


def _popular(loaded: Loaded, choice: Choice, details: bool) -> list[dict[str, Any]]:
    frame = loaded.live.ranker.popular(pl.Series([0]), choice)
    return _describe(loaded, frame.select("item", "score").to_dicts(), details)


def _describe(loaded: Loaded, rows: list[dict[str, Any]], details: bool) -> list[dict[str, Any]]:
    """With title and popularity (number of training users) where asked for."""
    if details and rows:
        train = loaded.live.ranker.train
        index = train.items.encode(pl.Series([row["item"] for row in rows]))
        for row, degree in zip(rows, train.item_degrees[index].tolist(), strict=True):
            row["title"] = loaded.titles.get(str(row["item"]))
            row["popularity"] = degree
    return rows
