"""From checked questions to plain answers that JSON can hold."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import polars as pl

from ssmrec.errors import DataError
from ssmrec.ranking import Choice, Ranker, TopK, as_ids
from ssmrec.serving.service import Loaded, Service

Array = np.ndarray
Id = int | str

ASIDE = 2000
"""Ids or rows from which work is done beside the event loop, which goes on with other questions."""


async def aside(size: int, work: Callable[..., Any], *arguments: Any) -> Any:
    """`work(*arguments)`, on a thread where there are `size` >= ASIDE things to go through."""
    if size < ASIDE:
        return work(*arguments)
    return await asyncio.to_thread(work, *arguments)


async def encoded(content: dict[str, Any]) -> bytes:
    """An answer that ends with `lists` as JSON, list by list: one call of the encoder stops all threads."""

    def text() -> bytes:
        head = _dumps({key: value for key, value in content.items() if key != "lists"})
        return f'{head[:-1]},"lists":[{",".join(map(_dumps, content["lists"]))}]}}'.encode()

    return await aside(sum(1 + len(part["items"]) for part in content["lists"]), text)


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

    Listed are items that are in `allow` and in `candidates`, where given, and not in `deny`; ids match
    by their text. Filters that leave nothing give empty lists.

    Raises:
        DataError: an unknown user under `unknown="error"`, or filters of unknown items.
    """
    loaded = service.loaded
    ranker = loaded.live.ranker
    filters = sum(len(ids or ()) for ids in (allow, deny, candidates))
    choice = await aside(filters, _choice, ranker, k, include_seen, allow, deny, candidates)
    ids = as_ids(users)
    index = ranker.find_users(ids)
    known = index >= 0
    if unknown == "error" and not known.all():
        missing = list(dict.fromkeys(users[at] for at in np.flatnonzero(~known).tolist()))
        raise DataError(f"{len(missing)} user(s) were not trained on: {missing[:3]}")
    lists = await service.top(loaded, index[known], choice) if known.any() else None

    def answer() -> dict[str, Any]:
        found = iter(_rows(loaded, lists, details) if lists is not None else [])
        others = ids.filter(pl.Series(~known))
        popular = unknown == "popular" and len(others)
        fallback = iter(
            _popular(loaded, others, choice, details) if popular else [[]] * len(others)
        )
        rows = [next(found if is_known else fallback) for is_known in known]
        parts = [
            {"user": user, "known": bool(is_known), "items": items}
            for user, is_known, items in zip(users, known, rows, strict=True)
        ]
        return {"run": loaded.version, "lists": parts}

    return await aside(len(users) * min(k, len(ranker.items)), answer)


async def similar(
    service: Service, items: Sequence[Id], k: int, details: bool = False
) -> dict[str, Any]:
    """Neighbours of each item; an unknown item is marked and has none."""
    loaded = service.loaded
    ranker = loaded.live.ranker
    ids = as_ids(items, "items")
    known = ranker.find_items(ids) >= 0
    wanted = ids.filter(pl.Series(known)).unique(maintain_order=True)
    frame = await service.run(ranker.similar, wanted, k) if len(wanted) else None

    def answer() -> dict[str, Any]:
        lists: dict[Any, list[dict[str, Any]]] = {}
        if frame is not None:
            for item, other, score in frame.select("item", "similar", "score").iter_rows():
                lists.setdefault(item, []).append({"item": other, "score": score})
        for rows in lists.values():
            _describe(loaded, rows, details)
        parts = [
            {"item": item, "known": bool(is_known), "items": lists.get(key, []) if is_known else []}
            for item, key, is_known in zip(items, ids, known, strict=True)
        ]
        return {"run": loaded.version, "lists": parts}

    return await aside(0 if frame is None else len(frame), answer)


async def fold_in(
    service: Service,
    items: Sequence[Sequence[Id]],
    k: int,
    *,
    allow: Sequence[Id] | None = None,
    deny: Sequence[Id] | None = None,
    details: bool = False,
) -> dict[str, Any]:
    """Lists for new users from the items each liked; unknown items are named, and count for nothing.

    Listed are items that are in `allow`, where given, and not in `deny`.

    Raises:
        DataError: no item of `allow` is known.
    """
    loaded = service.loaded
    live = loaded.live
    asked = sum(10 + len(ids) for ids in items)  # to look up a user's items has a cost of its own
    filters = len(allow or ()) + len(deny or ())
    choice = await aside(filters, _choice, live.ranker, k, False, allow, deny, None)
    liked, missing, some = await aside(asked, _liked, live.ranker, items)
    frame = await service.run(live.fold_in, [liked[at] for at in some], choice) if some else None

    def answer() -> dict[str, Any]:
        rows: dict[int, list[dict[str, Any]]] = {number: [] for number in some}
        if frame is not None:
            for user, item, score in frame[0].select("user", "item", "score").iter_rows():
                rows[some[user]].append({"item": item, "score": score})
        stranger = pl.Series([None])
        fallback = _popular(loaded, stranger, choice, details)[0] if len(some) < len(items) else []
        parts = [
            {
                "known": number in rows,
                "items": _describe(loaded, rows[number], details) if number in rows else fallback,
                "unknown_items": unknown,
            }
            for number, unknown in enumerate(missing)
        ]
        return {"run": loaded.version, "how": live.folding.how, "lists": parts}

    return await aside(len(items) * min(k, len(live.ranker.items)), answer)


async def explain(
    service: Service, user: Id, item: Id | None, k: int, reasons: int
) -> dict[str, Any]:
    """Which of a user's items speak most for each of the k items of the list, or for one item.

    Raises:
        DataError: the user or the item was not trained on.
    """
    loaded = service.loaded
    live = loaded.live
    items = None if item is None else [item]
    frame = await service.run_aside(live.explain, user, items, k, reasons)
    rows = _describe(loaded, frame.select("effect", item="reason").to_dicts(), True)
    parts: dict[Any, list[dict[str, Any]]] = {}
    for one, row in zip(frame["item"], rows, strict=True):
        parts.setdefault(one, []).append(row)
    lists = [{"item": one, "reasons": found} for one, found in parts.items()]
    return {"run": loaded.version, "user": user, "how": live.folding.how, "items": lists}


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


def _choice(
    ranker: Ranker,
    k: int,
    include_seen: bool,
    allow: Sequence[Id] | None,
    deny: Sequence[Id] | None,
    candidates: Sequence[Id] | None,
) -> Choice:
    choice = ranker.choice(k, include_seen=include_seen, allow=allow, deny=deny or None)
    if candidates is None:
        return choice
    both = choice.allowed & ranker.mask(candidates, "candidates", needed=True)
    return replace(choice, allowed=both)


def _liked(
    ranker: Ranker, items: Sequence[Sequence[Id]]
) -> tuple[list[pl.Series], list[list[Id]], list[int]]:
    """Items of each new user, those of them that are unknown, and who has any that is known."""
    liked = [as_ids(one, "items") for one in items]
    index = [ranker.find_items(ids) for ids in liked]
    missing = [
        [one for one, at in zip(ids, found, strict=True) if at < 0]
        for ids, found in zip(items, index, strict=True)
    ]
    return liked, missing, [at for at, found in enumerate(index) if (found >= 0).any()]


def _dumps(content: Any) -> str:
    return json.dumps(content, ensure_ascii=False, allow_nan=False, separators=(",", ":"))


def _rows(loaded: Loaded, lists: TopK, details: bool) -> list[list[dict[str, Any]]]:
    ids, scores = lists.ids.tolist(), lists.scores.tolist()
    names = loaded.item_ids
    rows = []
    for row, size in enumerate((lists.ids >= 0).sum(1).tolist()):
        pairs = zip(ids[row][:size], scores[row], strict=False)
        found = [{"item": names[item], "score": score} for item, score in pairs]
        rows.append(_describe(loaded, found, details))
    return rows


def _popular(
    loaded: Loaded, users: pl.Series, choice: Choice, details: bool
) -> list[list[dict[str, Any]]]:
    lists, at = loaded.live.ranker.popular_lists(users, choice)
    rows = _rows(loaded, lists, details)
    return [rows[number] for number in at]


def _describe(loaded: Loaded, rows: list[dict[str, Any]], details: bool) -> list[dict[str, Any]]:
    """With title and popularity (number of training users) where asked for."""
    if details and rows:
        train = loaded.live.ranker.train
        index = train.items.encode(pl.Series([row["item"] for row in rows]))
        for row, degree in zip(rows, train.item_degrees[index].tolist(), strict=True):
            row["title"] = loaded.titles.get(str(row["item"]))
            row["popularity"] = degree
    return rows
