"""A run ready to answer: all that does not depend on the question is computed once."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from ssmrec.data.vocabulary import refuse_table
from ssmrec.errors import ConfigError, DataError
from ssmrec.models.blend import alike_columns
from ssmrec.ranking import Choice, ItemRows, Ranker, as_ids, recommend_frame, top_k
from ssmrec.ranking.ids import distinct, untrained
from ssmrec.ranking.vectors import ranking_vectors
from ssmrec.serving.explain import effects
from ssmrec.serving.foldin import FoldIn
from ssmrec.training import Trained, load_run


@dataclass(frozen=True, eq=False)
class Live:
    """One trained model behind every kind of answer.

    Args:
        trained: model, pairs and settings.
        ranker: its vectors, ready to rank.
        fingerprint: that of the data it was trained on.
    """

    trained: Trained
    ranker: Ranker
    fingerprint: str = ""

    @classmethod
    def load(cls, folder: str | Path) -> Live:
        """Read a run folder.

        Raises:
            RunError: not a finished run, or damaged.
        """
        return cls.of(*load_run(Path(folder)))

    @classmethod
    def of(cls, trained: Trained, fingerprint: str = "") -> Live:
        """From a training in memory; its model is moved to the CPU, where answers are made."""
        trained.model.cpu()
        vectors = ranking_vectors(trained.model, trained.config.ranking.similarity)  # type: ignore[arg-type]
        return cls(
            trained,
            Ranker(*vectors, trained.train, trained.seen, alike_columns(trained.model)),
            fingerprint,
        )

    @cached_property
    def folding(self) -> FoldIn:
        """Vectors of new users."""
        return FoldIn(self.trained)

    def fold_in(
        self, liked: Iterable[Iterable[Any]], choice: Choice
    ) -> tuple[pl.DataFrame, list[list[int | str]]]:
        """Lists for new users, from the items each of them liked; those are left out of the lists.

        Args:
            liked: external item ids of each user, as a list or a column.
            choice: the filters; `only` does not apply, as new users have no candidates.

        Returns:
            Columns user (0, 1, ... in the order given), rank (from 1), item, score; and for each user
            the items the model does not know, which count for nothing.

        Raises:
            DataError: a user without any known item: nothing tells his taste; or no list of ids.
        """
        refuse_table(liked, "the items of each new user")
        liked = [as_ids(ids, "items") for ids in liked]
        found = [self.ranker.find_items(ids) for ids in liked]
        missing = [
            ids.filter(pl.Series(at < 0)).to_list() for ids, at in zip(liked, found, strict=True)
        ]
        for number, (ids, at) in enumerate(zip(liked, found, strict=True)):
            if not (at >= 0).any():
                some = self.ranker.train.items.ids.filter(pl.Series(self.ranker.known_items))[:2]
                raise DataError(
                    f"new user {number}: none of the {ids.n_unique()} items was trained on, so nothing tells "
                    f"the taste; name items the model knows, such as {', '.join(map(str, some))}"
                )
        rows = ItemRows.of([np.unique(at[at >= 0]) for at in found], self.ranker.train.n_items)
        lists = top_k(
            self.folding.vectors(rows), self.ranker.items, choice.k,
            seen=[] if choice.include_seen else [rows], allowed=choice.allowed,
        )  # fmt: skip
        users = pl.Series(np.arange(len(liked)))
        return recommend_frame(lists, users, self.ranker.train.items), missing

    def explain(
        self, user: Any, items: Iterable[Any] | None = None, k: int = 10, reasons: int = 3
    ) -> pl.DataFrame:
        """Why a user is recommended items: which of the items he has raise their scores most.

        An effect is by how much the score would fall if he had not had that item, both by fold-in
        (`explain.effects`); what lowers a score is no reason.

        Args:
            user: external id.
            items: external ids of the items to explain; None means the `k` best ones of his list.
            k: how many of his list.
            reasons: most reasons for each item, at least 1.

        Returns:
            Columns item, rank (of the reason, from 1), reason (an item he has) and effect; the items in
            the order of his list or as given. An item that nothing he has speaks for has no row.

        Raises:
            DataError: the user, or an item, was not trained on.
            ConfigError: `k` or `reasons` is below 1.
        """
        if reasons < 1:
            raise ConfigError(f"reasons must be at least 1, not {reasons}")
        ranker, choice = self.ranker, self.ranker.choice(k)
        at = self._found(as_ids([user]), "user")
        if items is None:
            listed = ranker.top(at, choice).ids[0]
            wanted = listed[listed >= 0]
        else:
            wanted = self._found(as_ids(items, "items"), "item")
        train = ranker.train
        history = train.indices[train.indptr[at[0]] : train.indptr[at[0] + 1]]
        _, found = effects(self.folding, ranker.items, history, wanted)
        found[wanted[:, None] == history] = 0  # that he has it is no reason
        order = np.argsort(-found, axis=1, kind="stable")[:, :reasons]
        best = np.take_along_axis(found, order, axis=1)
        row, column = np.nonzero(best > 0)
        return pl.DataFrame(
            {
                "item": train.items.decode(wanted[row]),
                "rank": (column + 1).astype(np.int32),
                "reason": train.items.decode(history[order[row, column]]),
                "effect": best[row, column],
            }
        )

    def _found(self, ids: pl.Series, what: str) -> np.ndarray:
        """Index of each user or item.

        Raises:
            DataError: one was not trained on.
        """
        find = self.ranker.find_users if what == "user" else self.ranker.find_items
        index = find(ids)
        if (index < 0).any():
            raise DataError(untrained(distinct(ids, index < 0), what))
        return index
