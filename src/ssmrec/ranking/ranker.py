"""Lists for external ids from the vectors of one model: who is known, what may be listed, in which order."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal, get_args

import numpy as np
import polars as pl
import torch
from torch import Tensor
from torch.nn import functional as F

from ssmrec.config import nearest
from ssmrec.data import Interactions, Vocabulary
from ssmrec.data.vocabulary import as_ids
from ssmrec.errors import ConfigError, DataError
from ssmrec.kernels.threads import refuse_lost
from ssmrec.models import HistoryRows, ScoringRows, SummedRows
from ssmrec.ranking.ids import as_pairs, distinct, find, none_known, some, untrained
from ssmrec.ranking.recommend import recommend_frame
from ssmrec.ranking.topk import ItemRows, Progress, TopK, top_k

Array = np.ndarray
Unknown = Literal["error", "skip", "popular"]
logger = logging.getLogger("ssmrec")


@dataclass(frozen=True, eq=False)
class Choice:
    """What a list may hold, in indices.

    Args:
        k: length of the lists.
        allowed: bool (n_items,).
        include_seen: whether items the user has may be listed.
        only: candidates of each user, one row for every user of the model; None for no limit.
    """

    k: int
    allowed: Array
    include_seen: bool = False
    only: ItemRows | None = None


@dataclass(frozen=True, eq=False)
class Ranker:
    """The vectors of a model with its ids and pairs.

    Args:
        users: (m, d) ranking vectors, or rows that score by themselves.
        items: (n, d).
        train: what the model learned from; users and items without a pair in it are unknown.
        seen: the pairs left out of the lists.
        alike: bool (d,), the columns of `items` that tell which items are alike; None: all.
    """

    users: Tensor | ScoringRows
    items: Tensor
    train: Interactions
    seen: Interactions
    alike: Tensor | None = None

    @cached_property
    def known_items(self) -> Array:
        """bool (n,): items with training pairs; the others have no meaningful vector."""
        return self.train.item_degrees > 0

    @cached_property
    def known_users(self) -> pl.Series:
        """External ids of the users with training pairs."""
        return self.train.users.ids.filter(pl.Series(self.train.user_degrees > 0))

    def find_users(self, ids: pl.Series) -> Array:
        """Index of each user, -1 for one without training pairs."""
        return find(self.train.users, ids, self.train.user_degrees > 0)

    def find_items(self, ids: pl.Series) -> Array:
        """Index of each item, -1 for one without training pairs."""
        return find(self.train.items, ids, self.known_items)

    def choice(
        self,
        k: int,
        *,
        include_seen: bool = False,
        allow: Iterable[Any] | None = None,
        deny: Iterable[Any] | None = None,
        candidates: Any = None,
    ) -> Choice:
        """Filters given by external ids; ids the model does not know are told in a warning.

        Args:
            k: length of the lists, at least 1.
            include_seen: also list items the user already has.
            allow: items that may be listed; None allows all.
            deny: items that may not.
            candidates: a polars or pandas frame with columns user and item: a user's list then holds his
                candidates only.

        Raises:
            ConfigError: `k` is below 1.
            DataError: the model knows no item of `allow`, or no item or no user of `candidates`, or
                those are no frame.
        """
        if not isinstance(k, (int, np.integer)) or isinstance(k, bool) or k < 1:
            raise ConfigError(f"k must be a whole number of at least 1, not {k!r}")
        allowed = self.known_items
        if allow is not None:
            allowed = allowed & self.mask(allow, "allow", needed=True)
        if deny is not None:
            allowed = allowed & ~self.mask(deny, "deny")
        only = None if candidates is None else self._candidates(candidates)
        return Choice(int(k), allowed, include_seen, only)

    def top(self, index: Array, choice: Choice, progress: Progress | None = None) -> TopK:
        """The lists of users by index (m,), by the one scoring path.

        Raises:
            RunError: as `refuse_lost`.
        """
        refuse_lost()
        vectors = self.users[torch.from_numpy(index.astype(np.int64)).to(self.users.device)]
        return top_k(
            vectors, self.items, choice.k, seen=[] if choice.include_seen else [self.seen],
            user_index=index, allowed=choice.allowed, only=choice.only, progress=progress,
        )  # fmt: skip

    def recommend(
        self,
        users: pl.Series | Iterable[Any] | None,
        choice: Choice,
        unknown: Unknown = "error",
        progress: Progress | None = None,
        told: bool = False,
    ) -> pl.DataFrame:
        """One row per recommendation: user, rank (from 1), item, score.

        Args:
            users: external ids; None for all known users.
            choice: the filters.
            unknown: what users without training pairs get: `error`, `skip` (told), or `popular`, the
                most popular items, after the lists of the others.
            progress: called after each block of users.
            told: whether `tell_left_out` has been called for these users before.

        Raises:
            DataError: unknown users under `error`.
            ConfigError: `unknown` is not one of the three.
        """
        _check_policy(unknown)
        wanted = self.known_users if users is None else as_ids(users)
        index = self.find_users(wanted)
        known = index >= 0
        missing = wanted.filter(pl.Series(~known))
        if not told:
            self.tell_left_out(wanted, choice, unknown)
        lists = self.top(index[known], choice, progress)
        frame = recommend_frame(lists, wanted.filter(pl.Series(known)), self.train.items)
        if unknown == "popular" and len(missing):
            frame = pl.concat([frame, self.popular(missing, choice)])
        return frame

    def tell_left_out(self, users: pl.Series, choice: Choice, policy: Unknown) -> None:
        """Warn of users without training pairs, or refuse them, and of those with nothing to list."""
        _check_policy(policy)
        index = self.find_users(users)
        missing = distinct(users, index < 0)
        if len(missing):
            text = untrained(missing, "user")
            if policy == "error":
                raise DataError(f"{text}; choose unknown=skip or unknown=popular")
            given = "left out" if policy == "skip" else "given the most popular items"
            logger.warning("%s; %s", text, given)
        listed = (index >= 0) | (policy == "popular")
        for why, none in self._nothing_left(index, listed, choice):
            if none.any():
                who = distinct(users, none)
                logger.warning("%d user(s) have %s: %s; left out", len(who), why, some(who))

    def _nothing_left(self, index: Array, listed: Array, choice: Choice) -> list[tuple[str, Array]]:
        """Why users by index (m,) who should have a list, bool (m,), have an empty one, and who they are."""
        if not choice.allowed.any():
            return [("no item that may be listed", listed)]
        if choice.only is None:
            return [("all items that may be listed", self._have_all(index, choice))]
        without = (index >= 0) & (choice.only.user_degrees[index] == 0)
        spent = self._candidates_spent(index, choice, choice.only)
        return [("no candidates", without), ("candidates of which none may be listed", spent)]

    def _candidates_spent(self, index: Array, choice: Choice, only: ItemRows) -> Array:
        """Which users by index (m,) have candidates, but each is forbidden or one of their items; bool (m,)."""
        found = index >= 0
        users, place = np.unique(index[found], return_inverse=True)
        offered = HistoryRows(only.indptr, only.indices, only.n_items)[users]
        free = choice.allowed[offered.indices]
        if not choice.include_seen:
            free &= ~np.isin(_keys(offered), _keys(HistoryRows.of(self.seen)[users]))
        left = np.diff(np.concatenate(([0], np.cumsum(free)))[offered.indptr])
        found[found] = ((left == 0) & (np.diff(offered.indptr) > 0))[place]
        return found

    def _have_all(self, index: Array, choice: Choice) -> Array:
        """Which users by index (m,) have every item that they may be listed, bool (m,)."""
        count = choice.allowed.sum()
        found = (index >= 0) & (self.seen.user_degrees[index] >= count)
        if choice.include_seen or not count or not found.any():  # so it is mostly, at no cost
            return np.zeros_like(found)
        own = HistoryRows.of(self.seen)[index[found]]
        held = np.concatenate(([0], np.cumsum(choice.allowed[own.indices])))
        found[found] = np.diff(held[own.indptr]) == count
        return found

    def popular(self, users: pl.Series, choice: Choice) -> pl.DataFrame:
        """The most popular items that each of `users` may get and has not; score is the number of users."""
        lists, at = self.popular_lists(users, choice)
        return recommend_frame(TopK(lists.ids[at], lists.scores[at]), users, self.train.items)

    def popular_lists(self, users: pl.Series, choice: Choice) -> tuple[TopK, Array]:
        """The different lists of `popular`, and which of them each of `users` (m,) gets.

        All get the first but those who have items that did not train, as in validation.
        """
        if choice.only is not None:
            raise ConfigError("unknown=popular cannot keep to candidates: choose unknown=skip")
        index = find(self.train.users, users, self.seen.user_degrees > 0)
        own = (index >= 0) & (not choice.include_seen)
        degrees = torch.from_numpy(self.train.item_degrees.astype(np.float32))[:, None]
        ones, k, allowed = torch.ones(1 + int(own.sum()), 1), choice.k, choice.allowed
        one = top_k(ones[:1], degrees, k, allowed=allowed)
        more = top_k(ones[1:], degrees, k, seen=[self.seen], user_index=index[own], allowed=allowed)
        ids, scores = (np.concatenate(x) for x in ((one.ids, more.ids), (one.scores, more.scores)))
        return TopK(ids, scores), np.where(own, np.cumsum(own), 0)

    def similar(self, items: Iterable[Any], k: int = 10) -> pl.DataFrame:
        """The k items most like each of `items`, by the cosine of their vectors.

        An item-item model gives the items that its weights recommend to a user of that one item; a blend
        with one goes by the vectors of its other parts.

        Returns:
            Columns item, rank (from 1), similar, score.

        Raises:
            DataError: an item has no training pairs, so nothing is known of it.
            ConfigError: the model knows no items that are alike.
        """
        wanted = as_ids(items, "items")
        choice = self.choice(k)
        index = self.find_items(wanted)
        if (index < 0).any():
            missing = distinct(wanted, index < 0)
            raise DataError(f"{untrained(missing, 'item')}; nothing is known of what is similar")
        own = ItemRows(np.arange(len(index) + 1), index, self.train.n_items)
        histories = HistoryRows(own.indptr, own.indices, own.n_items)
        if isinstance(self.users, HistoryRows):
            vectors, table = histories, self.items
        elif isinstance(self.users, SummedRows) and not self._unit_items.shape[1]:
            vectors, table = self.users.of_items(histories), self.items
        elif not self._unit_items.shape[1]:
            raise ConfigError(
                "popularity tells nothing of which items are alike: take another model"
            )
        else:
            table = self._unit_items
            vectors = table[torch.from_numpy(index.astype(np.int64)).to(table.device)]
        lists = top_k(vectors, table, k, seen=[own], allowed=choice.allowed)
        frame = recommend_frame(lists, wanted, self.train.items)
        return frame.rename({"item": "similar"}).rename({"user": "item"})

    @cached_property
    def _unit_items(self) -> Tensor:
        items = self.items if self.alike is None else self.items[:, self.alike]
        return F.normalize(items.float(), dim=1)

    def mask(self, ids: Iterable[Any], name: str, needed: bool = False) -> Array:
        """bool (n_items,): the items of `ids`; those the model does not know are told in a warning.

        Raises:
            DataError: `needed`, and it knows none of them; the message begins with `name`.
        """
        given = as_ids(ids, name)
        index = self.find_items(given)
        self.tell_unknown(given, index, name, self.train.items, needed)
        mask = np.zeros(self.train.n_items, dtype=bool)
        mask[index[index >= 0]] = True
        return mask

    def _candidates(self, frame: Any) -> ItemRows:
        users, items = as_pairs(frame, "candidates")
        user, item = self.find_users(users), self.find_items(items)
        self.tell_unknown(items, item, "candidates", self.train.items, needed=True)
        self.tell_unknown(users, user, "candidates", self.train.users, needed=True)
        keep = (user >= 0) & (item >= 0)
        pairs = np.unique(user[keep].astype(np.int64) * self.train.n_items + item[keep])
        rows, columns = np.divmod(pairs, self.train.n_items)
        counts = np.bincount(rows, minlength=self.train.n_users)
        indptr = np.concatenate(([0], np.cumsum(counts)))
        return ItemRows(indptr, columns.astype(np.int32), self.train.n_items)

    def tell_unknown(
        self, ids: pl.Series, index: Array, name: str, side: Vocabulary, needed: bool = False
    ) -> None:
        """Warn of ids that are unknown, each counted once; where one is needed, refuse to have none."""
        what = "users" if side is self.train.users else "items"
        missing, count = distinct(ids, index < 0), ids.n_unique()
        if needed and len(missing) == count:
            raise DataError(none_known(name, count, what, side.ids.head(2)))
        if len(missing):
            logger.warning("%s: %d of %d %s were not trained on: %s",
                           name, len(missing), count, what, some(missing))  # fmt: skip


def _keys(rows: HistoryRows) -> Array:
    """A number for each row and item, int64."""
    row = np.repeat(np.arange(len(rows), dtype=np.int64), np.diff(rows.indptr))
    return row * rows.n_items + rows.indices


def _check_policy(unknown: str) -> None:
    if unknown not in get_args(Unknown):
        raise ConfigError(f"unknown={unknown!r}{nearest(unknown, get_args(Unknown))}")
